# SPDX-License-Identifier: GPL-2.0-only
"""Two trees that must leave the same bytes: the matrix of comparisons, the counts, and who stores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from workbench import text
from workbench.view import palette
from workbench.view.export import describe
from workbench.view.summary import Table, mark

_EQUAL, _DIFFERENT = "#EFEFEF", palette.BLACK

_COUNT_NAMES = {
    "struct_pages_initialised": "struct pages initialised",
    "stores": "stores to struct pages",
    "loads": "loads from struct pages",
    "locked_operations": "locked operations",
    "migratetype_writes": "migratetypes of pageblocks set",
    "cond_resched": "offers to reschedule (cond_resched)",
    "pages_logged": "pages in the log line",
}


def differences(same: xr.Dataset) -> int:
    """How many bytes, pageblock words and counts differ in a comparison, added up.

    Parameters
    ----------
    same : xarray.Dataset
        From :func:`workbench.lab.same_bytes.compare`.
    """
    counts = sum(int((same[name].sel(tree="before") != same[name].sel(tree="after")).sum()) for name in _COUNT_NAMES)
    return int(same.bytes_different.sum()) + int(same.pageblocks_different.sum()) + counts


def equality_matrix(
    columns: Sequence[str], rows: Sequence[str], different: np.ndarray, cells: Sequence[Sequence[str]]
) -> go.Figure:
    """One cell a comparison, filled black where a byte differs; titles and sizes are the caller's.

    Parameters
    ----------
    columns, rows : sequence of str
        Names, from left to right above the matrix and from top to bottom beside it.
    different : int[len(rows), len(columns)]
        Bytes that differ.
    cells : sequence of sequence of str
        The text of each cell, row by row.

    Returns
    -------
    plotly.graph_objects.Figure
        With origin: both sides of a comparison are the engine's.
    """
    fig = go.Figure(
        go.Heatmap(
            x=columns,
            y=rows,
            z=(different > 0).astype(int),
            zmin=0,
            zmax=1,
            colorscale=[[0, _EQUAL], [1, _DIFFERENT]],
            showscale=False,
            xgap=3,
            ygap=3,
            text=cells,
            texttemplate="%{text}",
            hoverinfo="skip",
        )
    )
    look = {"type": "category", "showline": False, "showgrid": False, "ticks": ""}
    fig.update_yaxes(autorange="reversed", **look)
    fig.update_xaxes(side="top", **look)
    return fig.update_layout(template="devmap", meta={"origin": "derived"})


def equality_figure(same: xr.Dataset, width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """One cell for each shape and layout, filled black where a byte differs.

    Parameters
    ----------
    same : xarray.Dataset
        From :func:`workbench.lab.same_bytes.compare`.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption, alt text and origin.
    """
    different, compared = same.bytes_different.values, same.bytes_compared.values
    shapes, layouts = same["shape"].values.tolist(), same.layout.values.tolist()
    before, after = same.attrs["before"], same.attrs["after"]
    cells = [
        [f"{text.count(int(bad))} of {text.size(int(all_))}" for bad, all_ in zip(*rows, strict=True)]
        for rows in zip(different, compared, strict=True)
    ]
    fig = equality_matrix(layouts, shapes, different, cells).update_traces(textfont_size=11)
    total = text.size(int(compared.sum()))
    fig.update_layout(
        title_text=f"{text.count(int(different.sum()))} bytes differ between {before} and {after}",
        title_subtitle_text=(
            f"{compared.size} runs of each tree: ranges of pages by layouts of struct page, {total} compared "
            f"({mark('derived')} derived)"
        ),
        width=width_px,
        height=112 + 27 * len(shapes),
        margin={"l": 16, "r": 16, "t": 102, "b": 10},
    )
    fig.update_yaxes(ticklabelstandoff=6)
    return describe(
        fig,
        caption=(
            f"Bytes that differ, of the bytes compared, after memmap_init_zone_device() of {before} and of {after} ran "
            "on the same pages, which were filled with ones before. A black cell would hold a difference. "
            f"{mark('derived')} Derived: both code paths of the engine, with regular stores. The layouts are those of "
            "each release; 6.1* is the recorded small build."
        ),
        alt=(
            f"A matrix of {len(shapes)} ranges of pages against {len(layouts)} layouts of struct page. "
            f"{int((different == 0).sum())} of {different.size} cells are equal; {text.count(int(different.sum()))} "
            f"bytes of {total} differ."
        ),
    )


def counts_table(same: xr.Dataset, shape: str, layout: str) -> Table:
    """What both trees did on one shape, count by count.

    Parameters
    ----------
    same : xarray.Dataset
        From :func:`workbench.lab.same_bytes.compare`.
    shape, layout : str
        A label of either dimension.

    Returns
    -------
    Table
        One row a count.
    """
    one = same.sel(shape=shape, layout=layout)
    rows = []
    for name, words in _COUNT_NAMES.items():
        before, after = (int(one[name].sel(tree=tree)) for tree in ("before", "after"))
        rows.append([words, text.count(before), text.count(after), "equal" if before == after else "different"])
    return Table(
        f"{mark('derived')} Derived: {shape}, layout of {layout}, as the engine counted it.",
        ["", same.attrs["before"], same.attrs["after"], ""],
        rows,
        "lrrl",
    )


def stores_table(stores: xr.Dataset) -> Table:
    """Who stores, function by function.

    Parameters
    ----------
    stores : xarray.Dataset
        From :func:`workbench.lab.same_bytes.stores_by_function`.

    Returns
    -------
    Table
        One row a C function, what differs marked, and one for the sum.
    """
    rows = []
    for at, function in enumerate(stores.function.values.tolist()):
        before, after = int(stores.before[at]), int(stores.after[at])
        rows.append([f"{function}()", text.count(before), text.count(after), "equal" if before == after else "◀ moved"])
    rows.append(["all", text.count(int(stores.before.sum())), text.count(int(stores.after.sum())), ""])
    return Table(
        f"{mark('derived')} Derived: stores to {text.count(stores.attrs['pages'])} struct pages, by the C function "
        "whose assignment it is.",
        ["C function", stores.attrs["kernel_before"], stores.attrs["kernel_after"], ""],
        rows,
        "lrrl",
    )
