# SPDX-License-Identifier: GPL-2.0-only
"""The paper figures of the registry one after the other, each with what it was drawn from.

::

    show(["pin-lines", "seed-table"])      # these, in this order
    show(others(FIRST))                    # all that are not among them

In a notebook every figure is drawn anew; nothing is read from ``docs/figures``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

import plotly.graph_objects as go
from IPython.display import display

from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout
from workbench.view import palette
from workbench.view.figures import PaperFigure, draw, load
from workbench.view.provenance import Inputs, file_records
from workbench.view.summary import Table, mark


def show(ids: Sequence[str]) -> None:
    """Display figures and their provenance, in order.

    Parameters
    ----------
    ids : sequence of str
        Of registered figures.

    Raises
    ------
    WorkbenchError
        One is not registered, or breaks a rule of :func:`workbench.view.figures.draw`.
    """
    known = load()
    for id, (fig, table) in zip(ids, pictures(ids), strict=True):
        display(fig, Caption(known[id].caption), table)


def pictures(ids: Sequence[str]) -> Iterator[tuple[go.Figure, Table]]:
    """Each figure as drawn, no wider than a notebook's output, with its :func:`provenance_table`."""
    known, checkout = load(), Checkout.find()
    if unknown := [id for id in ids if id not in known]:
        raise WorkbenchError(f"no paper figure is called {', '.join(unknown)}. There are {', '.join(known)}.")
    for id in ids:
        fig, inputs = _drawn(known[id], checkout)
        narrow = go.Figure(fig).update_layout(width=min(known[id].width_px, palette.NOTEBOOK_PX))
        yield narrow, provenance_table(known[id], inputs, checkout)


@dataclass(frozen=True, slots=True)
class Caption:
    """A figure's caption where JupyterLab shows the figure; a page has it below the static picture already."""

    text: str

    def _repr_html_(self) -> str:
        return f'<p class="lab-caption" style="max-width:60em;opacity:.8;line-height:1.4;">{escape(self.text)}</p>'

    def __repr__(self) -> str:
        return self.text


@cache
def _drawn(figure: PaperFigure, checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """What :func:`workbench.view.figures.draw` gives: once, however often it is asked for."""
    return draw(figure, checkout)


def others(ids: Collection[str]) -> list[str]:
    """The registered figures that are not among ``ids``, sorted."""
    return [id for id in load() if id not in ids]


def provenance_table(figure: PaperFigure, inputs: Inputs, checkout: Checkout) -> Table:
    """Where each series of a figure comes from, and the files that were read.

    Parameters
    ----------
    figure : PaperFigure
    inputs : Inputs
        As its function returned them.
    checkout : Checkout
        Where the files lie.
    """
    units = [{"1": "count"}.get(one.unit, one.unit) for one in inputs.series]
    rows = [
        [f"{mark(one.kind)} {one.kind}", one.name, unit, one.source]
        for one, unit in zip(inputs.series, units, strict=True)
    ]
    records = sorted(file_records(checkout, list(inputs.files)), key=_alike)
    for _, alike in groupby(records, _alike):
        rows.append(_data_row(figure, list(alike)))
    return Table(
        f"{figure.id}: its files are docs/figures/{figure.id}.svg, .pdf and .png; hashes, versions and commit stand in "
        f"{figure.id}.json beside them.",
        ["kind", "series or file", "unit or size", "source"],
        rows,
        "llll",
    )


def _alike(record: Mapping[str, Any]) -> str:
    """Where a file lies; files of one name in neighbouring folders are alike."""
    path = PurePosixPath(record["path"])
    return str(path.parent.parent / "*" / path.name)


def _data_row(figure: PaperFigure, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """One file with its hash, or several alike."""
    nbytes = f"{sum(record['bytes'] for record in records):,} B"
    if len(records) == 1:
        return ["data", records[0]["path"], nbytes, f"sha256 {records[0]['sha256'][:16]}"]
    return ["data", f"{_alike(records[0])}: {len(records)} files", nbytes, f"their hashes stand in {figure.id}.json"]


def list_of_figures() -> Table:
    """Every registered figure: id, title, kinds of numbers, size."""
    checkout = Checkout.find()
    rows = []
    for figure in load().values():
        _, inputs = _drawn(figure, checkout)
        kinds = dict.fromkeys(series.kind for series in inputs.series)
        rows.append([figure.id, figure.title, ", ".join(f"{mark(kind)} {kind}" for kind in kinds)])
    return Table(f"{len(rows)} figures in the registry.", ["id", "title", "numbers are"], rows, "lll")
