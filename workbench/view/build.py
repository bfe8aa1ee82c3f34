# SPDX-License-Identifier: GPL-2.0-only
"""The main job: notebooks are run, paper figures drawn, pages written, and nothing is done twice.

=========================  ==================================  ===========================================
product                    files                               stale when one of these changes
=========================  ==================================  ===========================================
``notebook NAME``          ``out/notebooks/NAME.ipynb``        the notebook, a file beside it, ``data/``
``page NAME``              ``out/html/NAME.html``              the executed notebook, the list of pages
``figure ID``              ``out/figures/ID.{svg,pdf,png}``,   its declared data files
                           ``out/figures/ID.json``
every one of them                                              the package's sources, the locked
                                                               environment, Python, the browser; or its
                                                               files were deleted or edited
=========================  ==================================  ===========================================

:func:`build_figures` is the command ``workbench figures``; :func:`check_figures` is ``--check`` and
:func:`update_figures` is ``--update``.  Exit codes:

====  =================================================================================================
0     done; with ``--check``: every compared figure is the committed one, byte for byte
1     with ``--check``: a figure differs from the committed one, or one of the two is missing
3     with ``--check``: nothing differs, but some bytes could not be compared, since the browser's major
      version or the fonts are not those of the sidecar
====  =================================================================================================

Everything else that goes wrong is a :class:`workbench.errors.WorkbenchError`.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nbformat

from workbench import text
from workbench.errors import WorkbenchError
from workbench.lab import notebooks, pages
from workbench.lab.checkout import Checkout
from workbench.lab.files import file_hash, files_below, tree_hash, write_atomically
from workbench.lab.state import State, digest
from workbench.view import figures
from workbench.view.export import FORMATS, Exporter, find_browser
from workbench.view.figures import PaperFigure
from workbench.view.provenance import problems

Echo = Callable[[str], object]

SAME, DIFFERENT, NOT_COMPARABLE = 0, 1, 3


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the closing table."""

    product: str
    where: str
    nbytes: int
    rebuilt: bool
    seconds: float


def build_figures(
    *,
    check: bool = False,
    update: bool = False,
    only: Collection[str] = (),
    checkout: Checkout | None = None,
    echo: Echo | None = None,
    progress: bool = True,
    timeout_s: int = notebooks.TIMEOUT_S,
) -> int:
    """The command ``workbench figures``.

    Parameters
    ----------
    check : bool
        Compare with the committed figures instead; runs no notebook.
    update : bool
        Draw what is stale of the paper figures and copy them to ``docs/figures/``; runs no notebook.
    only : collection of str
        Figure ids and notebook names; everything if empty.
    checkout : Checkout, optional
        The one this package runs from if not given.
    echo : callable, optional
        Takes each line of output; standard output if not given.
    progress : bool
        Progress bars on standard error.
    timeout_s : int
        Seconds a notebook cell may take.

    Returns
    -------
    int
        Exit code, as in the table above.

    Raises
    ------
    WorkbenchError
        There is no browser, a notebook stops, a figure breaks a rule, or ``only`` names nothing.
    """
    say = echo or _stdout
    if check and update:
        raise WorkbenchError("--check compares and --update replaces the committed figures; ask for one of them.")
    job = _Job(checkout or Checkout.find(), set(only), say, progress, timeout_s)
    if check:
        return check_figures(job.checkout, job.figures, say)
    with job:
        if not update:
            job.run_notebooks()
        job.draw_figures()
        if not only and not update:
            job.remove_leftovers()
    say(job.table())
    if job.start_page is not None:
        say(f"Open {job.start_page}")
    if update:
        update_figures(job.checkout, job.figures, say, everything=not only)
    return SAME


class _Job:
    """One run of the main job: what is wanted, what was done."""

    def __init__(self, checkout: Checkout, only: set[str], say: Echo, progress: bool, timeout_s: int) -> None:
        self.checkout = checkout
        self._browser = find_browser()
        self._say = say
        self._progress = progress
        self._timeout_s = timeout_s
        self._state = State(checkout.out)
        self._rows: list[Row] = []
        self._all_figures = figures.load()
        self._all_notebooks = sorted(checkout.notebooks.glob("*.ipynb"))
        known = self._all_figures.keys() | {path.stem for path in self._all_notebooks}
        if unknown := sorted(only - known):
            raise WorkbenchError(
                f"no figure or notebook is called {', '.join(unknown)}; there are {', '.join(sorted(known))}."
            )
        self.figures = [figure for figure in self._all_figures.values() if not only or figure.id in only]
        self._notebooks = [path for path in self._all_notebooks if not only or path.stem in only]
        self._common = {
            "sources": checkout.source_hash(),
            "lock": file_hash(checkout.lock) if checkout.lock.is_file() else None,
            "python": platform.python_version(),
            "browser": _browser_identity(self._browser),
        }

    def __enter__(self) -> None:
        self._stack = ExitStack().__enter__()
        self._running: Exporter | None = None

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)

    def _exporter(self) -> Exporter:
        """The browser, started when it is first needed."""
        if self._running is None:
            self._running = self._stack.enter_context(Exporter(self._browser))
        return self._running

    @property
    def start_page(self) -> str | None:
        """The page to read first, if this run was to write it."""
        return next((row.where for row in self._rows if row.product.startswith("page ")), None)

    def run_notebooks(self) -> None:
        """Run the wanted notebooks that are stale and write the pages that are."""
        if not self._all_notebooks:
            return
        folder = self.checkout.notebooks
        beside = [path for path in files_below(folder) if path.suffix != ".ipynb"]
        data = {"data": self.checkout.data_hash(), "beside": tree_hash(folder, beside)}
        titles = [
            (f"{path.stem}.html", notebooks.title(notebooks.read(path), path.stem)) for path in self._all_notebooks
        ]
        for number, path in enumerate(self._notebooks, 1):
            prefix = f"{number}/{len(self._notebooks)} "
            executed = self.checkout.out / "notebooks" / path.name
            inputs = digest(**self._common, **data, notebook=file_hash(path))
            self._make(f"notebook {path.stem}", inputs, [executed], partial(self._execute, path, prefix))
            html = self.checkout.out / "html" / f"{path.stem}.html"
            inputs = digest(**self._common, executed=file_hash(executed), titles=titles)
            self._make(f"page {path.stem}", inputs, [html], partial(_page, executed, titles))

    def draw_figures(self) -> None:
        """Draw the wanted paper figures that are stale."""
        folder = self.checkout.out / "figures"
        for figure in self.figures:
            data = tree_hash(self.checkout.root, figure.data_files(self.checkout))
            outputs = [folder / f"{figure.id}.{form}" for form in (*FORMATS, "json")]
            self._make(
                f"figure {figure.id}",
                digest(**self._common, data=data),
                outputs,
                partial(self._draw, figure),
            )

    def _draw(self, figure: PaperFigure) -> dict[str, bytes]:
        return _rendered(figure, self.checkout, self._exporter())

    def remove_leftovers(self) -> None:
        """Remove what notebooks and figures that no longer exist have left in ``out/``."""
        for path in self._state.forget_all_but([row.product for row in self._rows]):
            self._say(f"removed {self.checkout.relative(path)}: what made it is gone")

    def table(self) -> str:
        """What was written, where, how large, and whether it was made now."""
        head = ("what", "where", "bytes", "", "seconds")
        rows = [
            (
                row.product,
                row.where,
                text.count(row.nbytes),
                *(("rebuilt", f"{row.seconds:.1f}") if row.rebuilt else ("fresh", "")),
            )
            for row in self._rows
        ]
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
        right = (2, 4)
        lines = [
            "  ".join(
                cell.rjust(width) if column in right else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in (head, *rows)
        ]
        return "\n".join(lines)

    def _execute(self, path: Path, prefix: str) -> dict[str, bytes]:
        notebook = notebooks.execute(path, timeout_s=self._timeout_s, progress=self._progress, prefix=prefix)
        try:
            pages.attach_static(notebook, self._exporter().static_image)
        except WorkbenchError as error:
            raise WorkbenchError(f"{path.name}, {error}") from error
        return {path.name: nbformat.writes(notebook).encode()}

    def _make(self, product: str, inputs: str, outputs: Sequence[Path], make: Callable[[], dict[str, bytes]]) -> None:
        """Make ``product`` unless it is fresh; ``make`` returns name and content of each output."""
        rebuilt, start = not self._state.is_fresh(product, inputs), time.perf_counter()
        if rebuilt:
            content = make()
            for path in outputs:
                write_atomically(path, content[path.name])
            self._state.record(product, inputs, outputs)
        folder = self.checkout.relative(outputs[0].parent)
        stem, suffixes = outputs[0].stem, [path.suffix[1:] for path in outputs]
        kinds = f"{{{','.join(suffixes)}}}" if len(suffixes) > 1 else suffixes[0]
        nbytes = sum(path.stat().st_size for path in outputs)
        self._rows.append(Row(product, f"{folder}/{stem}.{kinds}", nbytes, rebuilt, time.perf_counter() - start))


def check_figures(checkout: Checkout, wanted: Sequence[PaperFigure], say: Echo) -> int:
    """Draw ``wanted`` anew into ``out/check/`` and compare with ``docs/figures/``, byte by byte.

    A committed figure must be whole (its files are those of its sidecar) and of the present inputs; both are
    compared on every machine.  Bytes are compared only under the sidecar's browser major version and fonts.

    Parameters
    ----------
    checkout : Checkout
        Where.
    wanted : sequence of PaperFigure
        Which; when these are all that are registered, files of unknown figures count as different.
    say : callable
        Takes one line a figure.

    Returns
    -------
    int
        0, 1 or 3, as in the table of the module.
    """
    folder = checkout.out / "check"
    shutil.rmtree(folder, ignore_errors=True)
    codes = [SAME]
    with Exporter(find_browser()) as exporter:
        for figure in wanted:
            files = _rendered(figure, checkout, exporter)
            for name, content in files.items():
                write_atomically(folder / name, content)
            code, why = _compare(figure, files, checkout.committed_figures)
            codes.append(code)
            say(f"{figure.id}: {why}" + (f"; drawn anew in {checkout.relative(folder)}/" if code == DIFFERENT else ""))
    if len(wanted) == len(figures.load()):
        for path in _strangers(checkout, wanted):
            codes.append(DIFFERENT)
            say(f"{checkout.relative(path)}: no registered figure draws it")
    return DIFFERENT if DIFFERENT in codes else max(codes)


def update_figures(checkout: Checkout, wanted: Sequence[PaperFigure], say: Echo, everything: bool) -> None:
    """Copy the drawn figures to ``docs/figures/``; one whose images are already there is left alone.

    Parameters
    ----------
    checkout : Checkout
        Where.
    wanted : sequence of PaperFigure
        Which; they lie in ``out/figures/``.
    say : callable
        Takes one line a figure.
    everything : bool
        ``wanted`` are all that are registered: remove the files of others.
    """
    source, target = checkout.out / "figures", checkout.committed_figures
    for figure in wanted:
        names = [f"{figure.id}.{form}" for form in FORMATS]
        record = f"{figure.id}.json"
        whole = _sidecar(target / record) is not None
        if whole and all(_same_file(source / name, target / name) for name in names):
            say(f"{figure.id}: unchanged")
            continue
        for name in (*names, record):
            write_atomically(target / name, (source / name).read_bytes())
        say(f"{figure.id}: copied to {checkout.relative(target)}/")
    if everything:
        for path in _strangers(checkout, wanted):
            path.unlink()
            say(f"{checkout.relative(path)}: removed, no registered figure draws it")


def _page(executed: Path, titles: Sequence[tuple[str, str]]) -> dict[str, bytes]:
    """Name and content of an executed notebook's page."""
    html = pages.page(nbformat.read(executed, as_version=4), executed.stem, titles)
    return {f"{executed.stem}.html": html.encode()}


def _rendered(figure: PaperFigure, checkout: Checkout, exporter: Exporter) -> dict[str, bytes]:
    """Name and content of a figure's images and sidecar."""
    files, record = figures.render(figure, checkout, exporter)
    if missing := problems(record):
        raise WorkbenchError(f"the sidecar of figure {figure.id} is not complete: {'; '.join(missing)}.")
    return {**files, f"{figure.id}.json": (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()}


def _compare(figure: PaperFigure, files: dict[str, bytes], committed: Path) -> tuple[int, str]:
    """Compare a figure drawn now with the committed one: exit code and the reason."""
    now = json.loads(files[f"{figure.id}.json"])
    record = _sidecar(committed / f"{figure.id}.json")
    if record is None:
        return DIFFERENT, "different: no whole committed sidecar; make one:   workbench figures --update"
    names = sorted(now["outputs"])
    edited = [
        name
        for name in names
        if not (committed / name).is_file() or file_hash(committed / name) != record["outputs"][name]["sha256"]
    ]
    if edited:
        return DIFFERENT, f"different: {', '.join(edited)} in docs/figures is not what its sidecar names"
    if record["inputs"]["hash"] != now["inputs"]["hash"]:
        return DIFFERENT, f"different: what it shows has changed ({_changes(record, now)})"
    here, there = now["versions"], record["versions"]
    if here["browser_major"] != there["browser_major"]:
        return NOT_COMPARABLE, (
            f"not comparable: drawn from the same inputs by browser version {there['browser_major']}, "
            f"here is {here['browser_major']}"
        )
    if now["fonts"] != record["fonts"]:
        return (
            NOT_COMPARABLE,
            f"not comparable: same inputs, other fonts ({_font_changes(record['fonts'], now['fonts'])})",
        )
    if unlike := [name for name in names if files[name] != (committed / name).read_bytes()]:
        return DIFFERENT, f"different: {', '.join(unlike)} ({_changes(record, now)})"
    return SAME, "same, byte for byte"


def _changes(record: dict[str, Any], now: dict[str, Any]) -> str:
    """What the two sidecars disagree about, as a hint."""
    before, after = ({row["path"]: row["sha256"] for row in side["inputs"]["files"]} for side in (record, now))
    told = [path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
    told += [
        f"its {name}"
        for name in ("title", "caption", "alt", "width_px", "height_px", "series")
        if record[name] != now[name]
    ]
    if record["inputs"]["parameters"] != now["inputs"]["parameters"]:
        told.append("its parameters")
    told += [
        f"{name} {record['versions'][name]} -> {now['versions'][name]}"
        for name in ("python", "numpy", "plotly", "kaleido", "browser")
        if record["versions"][name] != now["versions"][name]
    ]
    if not told and record["inputs"]["sources"] != now["inputs"]["sources"]:
        told.append("the sources of the package")
    return ", ".join(told) or "nothing that a sidecar names"


def _font_changes(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> str:
    """Which faces are not the same, as a hint."""
    told = []
    for old, new in zip(before, after, strict=False):
        if old != new:
            which = f"{old['asked']} {old['weight']}"
            faces = f"{'+'.join(old['used'])} -> {'+'.join(new['used'])}"
            told.append(f"{which}: {faces if old['used'] != new['used'] else 'other widths'}")
    return ", ".join(told) or "another set of faces"


def _sidecar(path: Path) -> dict[str, Any] | None:
    """A complete sidecar from disk, else None."""
    try:
        record = json.loads(path.read_bytes())
        return record if not problems(record) else None
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _same_file(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()


def _strangers(checkout: Checkout, wanted: Sequence[PaperFigure]) -> list[Path]:
    """Files in ``docs/figures/`` that look like a figure's and belong to none of ``wanted``."""
    ids, kinds = {figure.id for figure in wanted}, {f".{form}" for form in (*FORMATS, "json")}
    return [
        path for path in sorted(checkout.committed_figures.glob("*")) if path.suffix in kinds and path.stem not in ids
    ]


def _browser_identity(path: Path) -> str:
    """What the browser says it is, so that another one makes every picture stale."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorkbenchError(
            f"the browser {path} does not tell its version: {error}. Try it:   {path} --version"
        ) from error
    return done.stdout.strip()


def _stdout(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
