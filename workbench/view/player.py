# SPDX-License-Identifier: GPL-2.0-only
"""A trace store by store: the first struct pages as they stand after any one of them.

With a slider around it this is the trace player::

    trace = trace_compound("5.17")
    Choices(partial(after_store, trace), store=stores_shown(trace))
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from workbench.abi import WORDS, Role
from workbench.errors import WorkbenchError
from workbench.lab.head_order import HEAD_PART
from workbench.series import kernel
from workbench.text import count
from workbench.text import word as word_text
from workbench.view import cells, palette
from workbench.view.export import describe
from workbench.view.panels import Panels
from workbench.view.summary import origin

PAGES = 4
"""Struct pages shown: the head, both tails that describe the compound page, and one like all the others."""


def stores_shown(trace: xr.Dataset, pages: int = PAGES) -> range:
    """The stores that come before the first one behind the shown pages.

    Parameters
    ----------
    trace : xarray.Dataset
        From :func:`workbench.lab.head_order.trace_compound` or :mod:`workbench.lab.trace`.
    pages : int
        Struct pages shown.
    """
    behind = np.flatnonzero(trace.pfn.values >= int(trace.page[0]) + pages)
    return range(int(behind[0]) if len(behind) else trace.sizes["store"])


def head_store(trace: xr.Dataset) -> int:
    """The last store of prep_compound_head() that changes a bit: where to begin to look."""
    changes = trace.old.values != trace.new.values
    return int(np.flatnonzero((trace.site.values == HEAD_PART) & changes)[-1])


def after_store(trace: xr.Dataset, store: int, pages: int = PAGES) -> go.Figure:
    """The struct pages right after one store.

    Parameters
    ----------
    trace : xarray.Dataset
        As :func:`stores_shown`.
    store : int
        Its number, from 0.
    pages : int
        Struct pages shown, from the head on.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption and alt text.

    Raises
    ------
    WorkbenchError
        There is no such store among those to the shown pages.
    """
    if store not in stores_shown(trace, pages):
        raise WorkbenchError(
            f"the stores to the first {pages} struct pages are 0 to {len(stores_shown(trace, pages)) - 1}; got {store}."
        )
    which = kernel(trace.attrs["kernel"])
    page, word = trace.pfn.values[: store + 1] - int(trace.page[0]), trace.word.values[: store + 1]
    now = trace.before.values[:pages].copy()
    now[page, word] = trace.new.values[: store + 1]  # of several stores to a word the last one holds
    stored = np.zeros((pages, WORDS), bool)
    stored[page[-1], word[-1]] = True
    rows = list(zip(now.tolist(), trace.page.values[:pages].tolist(), strict=True))
    roles = [which.abi.role(row, pfn) for row, pfn in rows]
    by, where = f"{trace.site.values[store]}()", f"page {page[-1]} +{8 * int(word[-1])}"
    change = f"{word_text(int(trace.old[store]))} → {word_text(int(trace.new[store]))}"
    fig = Panels(
        [(34, 9 * cells.ROW_PX)],
        f"Store {store}: {by}",
        f"{origin('derived')} {where}: {change} · kernel {which.name}, {count(int(trace.stores))} stores in all",
        bottom_px=52,
        legend_rows=2,
    )
    cells.draw_cells(fig, fig.panels[0], which.abi, rows, stored)
    fig.heading(
        fig.panels[0], f"the first {pages} of {count(trace.sizes['page'])} struct pages at this moment", _said(roles)
    )
    fig.legend([role for role in palette.ROLES if role in _EVER])
    fig.figure.layout.meta = {"origin": "derived"}
    return describe(
        fig.figure,
        caption=(
            f"The first {pages} struct pages right after store {store}, made by {by}: the outlined word, {where}, went "
            f"{change}. Colour is what a struct page is at that moment."
        ),
        alt=(
            f"A grid of {pages} struct pages by eight words. {by} has just stored to {where}: {change}. The pages are "
            "now " + ", ".join(palette.ROLES[role].label for role in roles) + "."
        ),
    )


_EVER = (Role.UNINITIALISED, Role.BASE, Role.ZONE_DEVICE, Role.HEAD, Role.FIRST_TAIL, Role.SECOND_TAIL, Role.TAIL)
"""Roles that a struct page of a device passes through: one legend for every step."""


def _said(roles: list[Role]) -> str:
    ready = sum(role is not Role.UNINITIALISED for role in roles)
    return f"{ready} of {len(roles)} begun; the outline is the word just stored"
