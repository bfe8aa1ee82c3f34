# SPDX-License-Identifier: GPL-2.0-only
"""What the main job makes anew, what it leaves, and how it compares with the committed figures.

The browser and the kernel are replaced by fakes that count; test_main_job.py runs the real ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import nbformat
import plotly.graph_objects as go
import pytest

from workbench.errors import WorkbenchError
from workbench.lab import notebooks
from workbench.lab.checkout import Checkout
from workbench.view import build, figures
from workbench.view.build import build_figures
from workbench.view.provenance import Inputs

from .fixtures import DERIVED, FakeExporter, paper


class Bench:
    """A small checkout, and what the last run made anew in it."""

    def __init__(self, root: Path) -> None:
        self.checkout = Checkout(root)
        self.executed: list[str] = []
        self.lines: list[str] = []

    def write(self, name: str, content: str) -> None:
        path = self.checkout.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def notebook(self, name: str, heading: str, code: str = "1") -> None:
        cells = [nbformat.v4.new_markdown_cell(f"# {heading}", id="a"), nbformat.v4.new_code_cell(code, id="b")]
        self.write(f"notebooks/{name}.ipynb", nbformat.writes(nbformat.v4.new_notebook(cells=cells)))

    def rebuilt(self, **options: object) -> set[str]:
        """What a run makes anew, by the closing table and by what was really drawn and executed."""
        FakeExporter.drawn, self.executed, self.lines = [], [], []
        assert build_figures(checkout=self.checkout, echo=self._say, progress=False, **options) == 0
        rows = [line.split() for line in "\n".join(self.lines).splitlines() if " rebuilt " in line]
        told = {f"{row[0]} {row[1]}" for row in rows}
        assert {name.split()[1] for name in told if name.startswith("notebook")} == set(self.executed)
        assert {name.split()[1] for name in told if name.startswith("figure")} == set(FakeExporter.drawn)
        return told

    def check(self, **options: object) -> int:
        self.lines = []
        return build_figures(checkout=self.checkout, echo=self._say, check=True, **options)

    def update(self, **options: object) -> None:
        self.lines = []
        assert build_figures(checkout=self.checkout, echo=self._say, update=True, progress=False, **options) == 0

    def _say(self, line: str) -> None:
        self.lines.append(line)

    @property
    def said(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Two notebooks, a figure of data and a figure of none; a browser and a kernel that only count."""
    it = Bench(tmp_path)
    it.notebook("00_a", "A")
    it.notebook("01_b", "B")
    it.write("workbench/code.py", "x = 1")
    it.write("data/bench/time.json", "[1]")
    it.write("data/captures/pages.json", "[2]")
    it.write("requirements.lock", "numpy==1")

    def of_data(checkout: Checkout) -> tuple[go.Figure, Inputs]:
        path = checkout.data / "bench" / "time.json"
        return go.Figure(go.Bar(y=json.loads(path.read_text()))), Inputs([DERIVED], files=[path])

    registered = {"of-data": paper(id="of-data", data=("data/bench/*.json",), build=of_data), "one-bar": paper()}

    def execute(path: Path, **_: object) -> nbformat.NotebookNode:
        it.executed.append(path.stem)
        return nbformat.read(path, as_version=4)

    monkeypatch.setattr(build, "find_browser", lambda: Path("/bin/true"))
    monkeypatch.setattr(build, "_browser_identity", lambda path: f"Chromium {FakeExporter.major}")
    monkeypatch.setattr(build, "Exporter", FakeExporter)
    monkeypatch.setattr(figures, "load", lambda: dict(registered))
    monkeypatch.setattr(notebooks, "execute", execute)
    for name in ("major", "fonts", "noise"):
        monkeypatch.setattr(FakeExporter, name, getattr(FakeExporter, name))
    return it


FIGURES = {"figure of-data", "figure one-bar"}
NOTEBOOKS = {"notebook 00_a", "notebook 01_b"}
PAGES = {"page 00_a", "page 01_b"}
ALL = FIGURES | NOTEBOOKS | PAGES


def test_first_run_makes_all_second_nothing(bench: Bench) -> None:
    assert bench.rebuilt() == ALL
    assert bench.rebuilt() == set()
    assert bench.said.count(" fresh") == len(ALL)


def test_the_table_names_files_and_bytes(bench: Bench) -> None:
    bench.rebuilt()
    out = bench.checkout.out
    *lines, last = bench.said.splitlines()
    assert last == "Open out/html/00_a.html"
    table = {" ".join(line.split()[:2]): line.split() for line in lines[1:]}
    assert table.keys() == ALL
    row = table["figure one-bar"]
    assert row[2] == "out/figures/one-bar.{svg,pdf,png,json}"
    nbytes = sum((out / "figures" / f"one-bar.{form}").stat().st_size for form in ("svg", "pdf", "png", "json"))
    assert int(row[3].replace(",", "")) == nbytes
    assert table["page 01_b"][2] == "out/html/01_b.html" and (out / "html" / "01_b.html").is_file()


STALE: dict[str, tuple[Callable[[Bench], object], set[str]]] = {
    "a time": (lambda b: os.utime(b.checkout.root / "workbench/code.py", (1, 1)), set()),
    "a cache": (lambda b: b.write("workbench/__pycache__/code.pyc", "x"), set()),
    "a source": (lambda b: b.write("workbench/code.py", "x = 2"), ALL - PAGES),
    "a new source": (lambda b: b.write("workbench/more.js", ""), ALL - PAGES),
    "the lock": (lambda b: b.write("requirements.lock", "numpy==2"), ALL - PAGES),
    "declared data": (lambda b: b.write("data/bench/time.json", "[3]"), NOTEBOOKS | {"figure of-data"}),
    "new declared data": (lambda b: b.write("data/bench/more.json", "[3]"), NOTEBOOKS | {"figure of-data"}),
    "other data": (lambda b: b.write("data/captures/pages.json", "[3]"), NOTEBOOKS),
    "a cell": (lambda b: b.notebook("00_a", "A", "2"), {"notebook 00_a", "page 00_a"}),
    "a title": (lambda b: b.notebook("00_a", "Z"), {"notebook 00_a"} | PAGES),
    "a picture beside": (lambda b: b.write("notebooks/a.png", "x"), NOTEBOOKS),
    "a third notebook": (lambda b: b.notebook("02_c", "C"), {"notebook 02_c", "page 02_c"} | PAGES),
    "a deleted image": (lambda b: (b.checkout.out / "figures/one-bar.png").unlink(), {"figure one-bar"}),
    "a deleted sidecar": (lambda b: (b.checkout.out / "figures/one-bar.json").unlink(), {"figure one-bar"}),
    "an edited image": (lambda b: b.write("out/figures/one-bar.svg", "x"), {"figure one-bar"}),
    "a deleted page": (lambda b: (b.checkout.out / "html/01_b.html").unlink(), {"page 01_b"}),
    "a deleted run": (lambda b: (b.checkout.out / "notebooks/01_b.ipynb").unlink(), {"notebook 01_b"}),
    "the browser": (lambda b: setattr(FakeExporter, "major", 157), ALL - PAGES),
    "no record": (lambda b: (b.checkout.out / ".state.json").unlink(), ALL),
    "a damaged record": (lambda b: b.write("out/.state.json", '{"schema": 1, "products": [1]'), ALL),
    "an older record": (lambda b: b.write("out/.state.json", '{"schema": 0, "products": {}}'), ALL),
    "a strange record": (lambda b: b.write("out/.state.json", '{"schema": 1, "products": {"figure one-bar": 3}}'), ALL),
}


@pytest.mark.parametrize("change", STALE)
def test_what_a_change_makes_stale(bench: Bench, change: str) -> None:
    make, expected = STALE[change]
    bench.rebuilt()
    make(bench)
    assert bench.rebuilt() - PAGES == expected - PAGES
    # a page follows its notebook, unless the run left the same bytes
    assert bench.rebuilt() == set()


def test_pages_follow_titles_and_runs(bench: Bench) -> None:
    for change in ("a cell", "a title", "a third notebook", "a deleted page"):
        bench.rebuilt()
        make, expected = STALE[change]
        make(bench)
        assert bench.rebuilt() & (PAGES | {"page 02_c"}) == expected & (PAGES | {"page 02_c"}), change


def test_only_makes_only(bench: Bench) -> None:
    assert bench.rebuilt(only=["one-bar"]) == {"figure one-bar"}
    assert bench.rebuilt(only=["01_b"]) == {"notebook 01_b", "page 01_b"}
    assert bench.rebuilt() == ALL - {"figure one-bar", "notebook 01_b", "page 01_b"}
    with pytest.raises(WorkbenchError, match="no figure or notebook is called nothing; there are 00_a, 01_b, of-data"):
        bench.rebuilt(only=["nothing"])


def test_what_a_gone_notebook_wrote_is_removed(bench: Bench) -> None:
    bench.rebuilt()
    bench.write("out/html/mine.html", "kept: the job did not write it")
    (bench.checkout.notebooks / "01_b.ipynb").unlink()
    bench.rebuilt(only=["00_a"])
    assert (bench.checkout.out / "html/01_b.html").is_file(), "a run of one thing removes nothing"
    bench.rebuilt()
    assert not (bench.checkout.out / "html/01_b.html").exists()
    assert not (bench.checkout.out / "notebooks/01_b.ipynb").exists()
    assert (bench.checkout.out / "html/mine.html").is_file()
    assert "removed out/html/01_b.html" in bench.said


def test_an_interrupt_keeps_what_was_finished(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FakeExporter, "files", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bench.rebuilt()
    assert not list(bench.checkout.out.rglob("*.part"))
    assert bench.rebuilt() == FIGURES


def test_a_notebook_that_stops_names_itself(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_alt(*_: object) -> None:
        raise WorkbenchError("the figure has no alt text")

    monkeypatch.setattr(build.pages, "attach_static", without_alt)
    with pytest.raises(WorkbenchError, match=r"00_a\.ipynb, the figure has no alt text"):
        bench.rebuilt()


# --check and --update


@pytest.fixture
def committed(bench: Bench) -> Bench:
    bench.update()
    assert bench.executed == [], "update runs no notebook"
    return bench


def test_committed_figures_are_the_same(committed: Bench) -> None:
    names = {path.name for path in committed.checkout.committed_figures.iterdir()}
    assert names == {f"{id}.{form}" for id in ("of-data", "one-bar") for form in ("svg", "pdf", "png", "json")}
    assert committed.check() == 0
    assert committed.said.splitlines() == ["of-data: same, byte for byte", "one-bar: same, byte for byte"]
    assert committed.executed == []


def edit_image(bench: Bench) -> None:
    bench.write("docs/figures/one-bar.png", "painted over")


def edit_sidecar(bench: Bench) -> None:
    path = bench.checkout.committed_figures / "one-bar.json"
    path.write_text(path.read_text().replace('"caption": "A caption."', '"caption": ""'))


DIFFERENT: dict[str, tuple[Callable[[Bench], object], str]] = {
    "an edited image": (edit_image, "one-bar: different: one-bar.png in docs/figures is not what its sidecar names"),
    "a broken sidecar": (edit_sidecar, "one-bar: different: no whole committed sidecar"),
    "no sidecar": (
        lambda b: (b.checkout.committed_figures / "one-bar.json").unlink(),
        "one-bar: different: no whole committed sidecar",
    ),
    "no image": (
        lambda b: (b.checkout.committed_figures / "one-bar.pdf").unlink(),
        "one-bar.pdf in docs/figures is not",
    ),
    "other data": (lambda b: b.write("data/bench/time.json", "[3]"), "what it shows has changed (data/bench/time.json"),
    "other bytes": (lambda b: setattr(FakeExporter, "noise", "!"), "different: of-data.pdf, of-data.png, of-data.svg"),
    "a stranger": (
        lambda b: b.write("docs/figures/old.svg", "x"),
        "docs/figures/old.svg: no registered figure draws it",
    ),
}


@pytest.mark.parametrize("change", DIFFERENT)
@pytest.mark.parametrize("major", [156, 157])
def test_check_finds_a_difference(committed: Bench, change: str, major: int, monkeypatch: pytest.MonkeyPatch) -> None:
    make, reason = DIFFERENT[change]
    make(committed)
    monkeypatch.setattr(FakeExporter, "major", major)
    if change == "other bytes" and major == 157:
        assert committed.check() == 3, "bytes of another browser say nothing"
    else:
        assert committed.check() == 1
        assert reason in committed.said


def test_check_does_not_compare_under_another_browser_or_font(
    committed: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(FakeExporter, "major", 157)
        assert committed.check() == 3
        assert (
            "one-bar: not comparable: drawn from the same inputs by browser version 156, here is 157" in committed.said
        )
    other = {**FakeExporter.fonts[0], "used": ["LiberationSans"]}
    monkeypatch.setattr(FakeExporter, "fonts", (other,))
    assert committed.check() == 3
    assert "other fonts (DejaVu Sans 400: DejaVuSans -> LiberationSans)" in committed.said
    monkeypatch.setattr(FakeExporter, "fonts", ({**FakeExporter.fonts[0], "used": ["DejaVuSans"], "widths": "bb"},))
    assert committed.check() == 3
    assert "DejaVu Sans 400: other widths" in committed.said


def test_check_of_one_figure_ignores_the_others(committed: Bench) -> None:
    edit_image(committed)
    committed.write("docs/figures/old.svg", "x")
    assert committed.check(only=["of-data"]) == 0
    assert committed.check(only=["one-bar"]) == 1


def test_check_leaves_what_it_drew_for_looking(committed: Bench) -> None:
    committed.write("data/bench/time.json", "[3]")
    committed.check()
    assert b"3" in (committed.checkout.out / "check" / "of-data.svg").read_bytes()
    assert "drawn anew in out/check/" in committed.said


def test_nothing_committed_is_a_difference(bench: Bench) -> None:
    assert bench.check() == 1
    assert "workbench figures --update" in bench.said


def test_update_leaves_equal_figures_and_their_sidecars_alone(committed: Bench) -> None:
    path = committed.checkout.committed_figures / "one-bar.json"
    before = path.read_bytes()
    committed.write("data/bench/time.json", "[3]")
    committed.write("workbench/code.py", "x = 3")
    committed.write("docs/figures/old.svg", "x")
    committed.update(only=["one-bar"])
    assert path.read_bytes() == before and "one-bar: unchanged" in committed.said
    assert (committed.checkout.committed_figures / "old.svg").exists()
    committed.update()
    assert "of-data: copied to docs/figures/" in committed.said
    assert "docs/figures/old.svg: removed" in committed.said
    assert committed.check() == 0


def test_check_and_update_exclude_each_other(bench: Bench) -> None:
    with pytest.raises(WorkbenchError, match="ask for one of them"):
        build_figures(check=True, update=True, checkout=bench.checkout)
