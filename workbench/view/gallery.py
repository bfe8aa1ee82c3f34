# SPDX-License-Identifier: GPL-2.0-only
"""The paper figures of the registry one after the other, each with what it was drawn from.

::

    show(["pin-lines", "seed-table"])      # these, in this order
    show(others(FIRST))                    # all that are not among them

In a notebook every figure is drawn anew; nothing is read from ``docs/figures``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cache

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
    for fig, table in pictures(ids):
        display(fig, table)


def pictures(ids: Sequence[str]) -> Iterator[tuple[go.Figure, Table]]:
    """Each figure as drawn, no wider than a notebook's output, with its :func:`provenance_table`."""
    known, checkout = load(), Checkout.find()
    if unknown := [id for id in ids if id not in known]:
        raise WorkbenchError(f"no paper figure is called {', '.join(unknown)}. There are {', '.join(known)}.")
    for id in ids:
        fig, inputs = _drawn(known[id], checkout)
        narrow = go.Figure(fig).update_layout(width=min(known[id].width_px, palette.NOTEBOOK_PX))
        yield narrow, provenance_table(known[id], inputs, checkout)


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
    rows = [[f"{mark(one.kind)} {one.kind}", one.name, one.unit, one.source] for one in inputs.series]
    rows += [
        ["data", record["path"], f"{record['bytes']:,} B", f"sha256 {record['sha256'][:16]}"]
        for record in file_records(checkout, list(inputs.files))
    ]
    return Table(
        f"{figure.id}: its files are docs/figures/{figure.id}.svg, .pdf and .png; hashes, versions and commit stand in "
        f"{figure.id}.json beside them.",
        ["kind", "series or file", "unit, size", "source"],
        rows,
        "llll",
    )


def list_of_figures() -> Table:
    """Every registered figure: id, title, kinds of numbers, size."""
    checkout = Checkout.find()
    rows = []
    for figure in load().values():
        _, inputs = _drawn(figure, checkout)
        kinds = dict.fromkeys(series.kind for series in inputs.series)
        rows.append([figure.id, figure.title, ", ".join(f"{mark(kind)} {kind}" for kind in kinds)])
    return Table(f"{len(rows)} figures in the registry.", ["id", "title", "numbers are"], rows, "lll")
