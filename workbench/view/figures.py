# SPDX-License-Identifier: GPL-2.0-only
"""The registry of paper figures, and how one is drawn into files.

A paper figure is a function that returns a plotly figure and what it was drawn from.  It lives in a
module of ``workbench.view.paper`` (every module there is imported by :func:`load`) and registers itself::

    @paper_figure(
        id="struct-page-cost",
        title="What struct pages cost",
        caption="...",                # one or two sentences; provenance in words
        alt="...",                    # for people who do not see it
        width_px=900,
        height_px=520,
        data=("data/bench/*.nc",),    # the files it may read, as globs of the checkout; () for none
    )
    def struct_page_cost(checkout: Checkout) -> tuple[go.Figure, Inputs]:
        ...
        return fig, Inputs(series=[Series("name", "derived", "source", "GiB")], parameters={...}, files=[...])

Rules that :func:`draw` enforces:

* every file that was read is declared in ``data``: what is not declared does not make a figure stale;
* a series that is ``measured`` names a Dataset below ``data/bench/`` as its source, and that file is among
  the inputs: a figure never times anything, so it is the same on every machine;
* the title in the registry is the figure's title (a subtitle may follow), so that file, sidecar and
  picture agree.  :func:`draw` sets title, size and template; the function sets everything else.

Let numbers come from the engine (``workbench.mm``), from ``workbench.nvdimm`` or from a Dataset; a figure
module only draws.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout
from workbench.view import palette, paper
from workbench.view.export import Exporter, describe, figure_json
from workbench.view.provenance import Inputs, file_records, inputs_hash, sidecar

Build = Callable[[Checkout], tuple[go.Figure, Inputs]]
BENCH = "data/bench/"

_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_registry: dict[str, PaperFigure] = {}


@dataclass(frozen=True, slots=True)
class PaperFigure:
    """A figure for a paper.

    Parameters
    ----------
    id : str
        Stem of its file names: lower case, digits and single dashes.
    title : str
        Above the figure, and in SVG and PDF.
    caption : str
        Below it, in text.
    alt : str
        For people who do not see it.
    width_px, height_px : int
        Size in CSS pixels.
    data : tuple of str
        Globs, relative to the checkout, of the files it may read.
    build : callable
        Takes the checkout, returns the figure and its inputs.

    Raises
    ------
    WorkbenchError
        The id is malformed, a text is empty or a size is not positive.
    """

    id: str
    title: str
    caption: str
    alt: str
    width_px: int
    height_px: int
    data: tuple[str, ...]
    build: Build

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise WorkbenchError(
                f"figure id {self.id!r}: write lower case, digits and single dashes, like struct-page-cost."
            )
        for name in ("title", "caption", "alt"):
            if not getattr(self, name).strip():
                raise WorkbenchError(f"figure {self.id} has no {name}. Write one.")
        if self.width_px <= 0 or self.height_px <= 0:
            raise WorkbenchError(f"figure {self.id} is {self.width_px} x {self.height_px} px. Give it a size.")

    def data_files(self, checkout: Checkout) -> list[Path]:
        """The declared files that exist, sorted."""
        return sorted({path for glob in self.data for path in checkout.root.glob(glob) if path.is_file()})


def paper_figure(
    *, id: str, title: str, caption: str, alt: str, width_px: int, height_px: int, data: Sequence[str] = ()
) -> Callable[[Build], Build]:
    """Register the decorated function as a paper figure.

    Parameters
    ----------
    id, title, caption, alt, width_px, height_px, data
        As in :class:`PaperFigure`.

    Raises
    ------
    WorkbenchError
        Another figure has this id, or a part is malformed.
    """

    def register(build: Build) -> Build:
        known = _registry.get(id)
        if known is not None and known.build.__module__ != build.__module__:
            raise WorkbenchError(f"two figures are called {id}: in {known.build.__module__} and {build.__module__}.")
        _registry[id] = PaperFigure(id, title, caption, alt, width_px, height_px, tuple(data), build)
        return build

    return register


def load() -> dict[str, PaperFigure]:
    """Every paper figure by its id, sorted; imports the modules of ``workbench.view.paper``."""
    for module in pkgutil.iter_modules(paper.__path__):
        importlib.import_module(f"{paper.__name__}.{module.name}")
    return dict(sorted(_registry.items()))


def draw(figure: PaperFigure, checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """Run the figure's function and see that the rules above hold.

    Parameters
    ----------
    figure : PaperFigure
        What to draw.
    checkout : Checkout
        Where its data lie.

    Returns
    -------
    tuple of (plotly.graph_objects.Figure, Inputs)
        With title, size, template, caption and alt text set.

    Raises
    ------
    WorkbenchError
        A rule is broken.
    """
    fig, inputs = figure.build(checkout)
    declared = {path.resolve() for path in figure.data_files(checkout)}
    read = {path.resolve() for path in inputs.files}
    if undeclared := sorted(checkout.relative(path) for path in read - declared):
        raise WorkbenchError(f"figure {figure.id} read {', '.join(undeclared)}; declare it in data=(...).")
    if not inputs.series:
        raise WorkbenchError(f"figure {figure.id} has no series. Say for each series of numbers where it comes from.")
    names = {checkout.relative(path) for path in read}
    for series in inputs.series:
        if series.kind == "measured" and not (series.source.startswith(BENCH) and series.source in names):
            raise WorkbenchError(
                f"figure {figure.id}: the measured series {series.name!r} comes from {series.source!r}. "
                f"Measured values are drawn only from a Dataset below {BENCH} that is among its files: run make bench."
            )
    fig.update_layout(
        template="devmap", width=figure.width_px, height=figure.height_px, title={"text": figure.title}, autosize=False
    )
    return describe(fig, caption=figure.caption, alt=figure.alt), inputs


def in_notebook(id: str) -> go.Figure:
    """The paper figure ``id`` of this checkout, no wider than a notebook's output.

    Only for a figure whose layout follows its width.
    """
    figure = load()[id]
    fig, _ = draw(figure, Checkout.find())
    return fig.update_layout(width=min(figure.width_px, palette.NOTEBOOK_PX))


def render(figure: PaperFigure, checkout: Checkout, exporter: Exporter) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Draw ``figure`` and export it.

    Returns
    -------
    tuple of (dict of str to bytes, dict)
        File name to content for SVG, PDF and PNG, and the sidecar.

    Raises
    ------
    WorkbenchError
        As :func:`draw`, or the browser fails.
    """
    fig, inputs = draw(figure, checkout)
    records = file_records(checkout, list(inputs.files))
    digest = inputs_hash(figure, figure_json(fig), records, inputs)
    files = exporter.files(figure.id, fig, figure.width_px, figure.height_px, figure.title, figure.alt, digest)
    return files, sidecar(figure, inputs, records, digest, checkout, exporter.browser, files)
