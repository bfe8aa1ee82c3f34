# SPDX-License-Identifier: GPL-2.0-only
"""prep_compound_page() in one piece and split: one cell for each order and layout of struct page."""

from __future__ import annotations

import plotly.graph_objects as go
import xarray as xr

from workbench.text import count
from workbench.view import palette
from workbench.view.export import describe
from workbench.view.same_bytes import equality_matrix
from workbench.view.summary import mark, origin


def split_figure(same: xr.Dataset, width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """How many bytes differ, order by order and layout by layout; a cell with a difference is black.

    Parameters
    ----------
    same : xarray.Dataset
        From :func:`workbench.lab.split.compare_split`.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption, alt text and origin.
    """
    different = same.bytes_different.transpose("layout", "order").values
    orders, layouts = same.order.values.tolist(), same.layout.values.tolist()
    total, bad = int(same.bytes_compared.sum()), int(different.sum())
    cells = [[count(int(cell)) for cell in row] for row in different]
    fig = equality_matrix([str(order) for order in orders], layouts, different, cells).update_traces(textfont_size=12)
    fig.update_layout(
        title_text=f"{count(bad)} of {count(total)} bytes differ, in one piece or split",
        title_subtitle_text=(
            f"{origin('derived')} bytes that differ after prep_compound_page(), by order and layout of struct page"
        ),
        width=width_px,
        height=150 + 25 * len(layouts),
        margin={"l": 72, "r": 16, "t": 112, "b": 16},
    )
    fig.update_yaxes(ticklabelstandoff=4)
    fig.update_xaxes(
        ticklabelstandoff=4, title={"text": "order: 1 is two pages, 9 is 2 MiB, 18 is 1 GiB", "font": {"size": 12}}
    )
    return describe(
        fig,
        caption=(
            f"Bytes that differ after both forms of prep_compound_page() ran on the same pages: {different.size} pairs "
            "of runs over struct pages just initialised, and as many over words of ones. A black cell would hold a "
            f"difference. {mark('derived')} Derived: both code paths of the engine, regular stores. The layouts are "
            "those of each release; 6.1* is the recorded small build."
        ),
        alt=(
            f"A matrix of {len(layouts)} layouts of struct page against {len(orders)} orders. "
            f"{int((different == 0).sum())} of {different.size} cells are equal; {count(bad)} bytes differ."
        ),
    )
