# SPDX-License-Identifier: GPL-2.0-only
"""What struct pages cost: the problem the series starts from."""

from __future__ import annotations

from math import log10

import plotly.graph_objects as go

from workbench.abi import STRUCT_PAGE_BYTES
from workbench.lab.checkout import Checkout
from workbench.text import PAGE_SIZE, count, size
from workbench.view import palette
from workbench.view.figures import paper_figure
from workbench.view.provenance import Inputs, Series
from workbench.view.summary import origin

GIB = 1 << 30
DEVICE_GIB = tuple(16 << k for k in range(0, 11, 2))
"""16 GiB (one DIMM) to 16 TiB (a machine full of them), in steps of four."""


@paper_figure(
    id="struct-page-cost",
    title="What struct pages cost: one byte for every 64 bytes of memory",
    caption=(
        "Memory for the page array of a device-dax region, against the size of the region. Each 4 KiB page has a "
        "struct page of 64 bytes, so the share is 64 / 4096 = 1.5625 % at every size. Derived by arithmetic from those "
        "two sizes; sections are whole, and nothing is shared (that is, before vmemmap deduplication)."
    ),
    alt=(
        "Line chart on two logarithmic axes with six points. Regions of 16 GiB, 64 GiB, 256 GiB, 1 TiB, 4 TiB and "
        "16 TiB need 256 MiB, 1 GiB, 4 GiB, 16 GiB, 64 GiB and 256 GiB of struct pages: always one sixty-fourth, "
        "1.5625 percent."
    ),
    width_px=900,
    height_px=520,
)
def struct_page_cost(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """GiB of struct pages against the size of the region."""
    cost = [gib * GIB // PAGE_SIZE * STRUCT_PAGE_BYTES for gib in DEVICE_GIB]
    fig = go.Figure(
        go.Scatter(
            x=list(DEVICE_GIB),
            y=[nbytes / GIB for nbytes in cost],
            text=[f"<b>{size(nbytes)}</b>" for nbytes in cost],
            mode="lines+markers+text",
            textposition="top left",
            name=palette.PROVENANCE["derived"].label,
            showlegend=False,
            cliponaxis=False,
            **palette.provenance_style("derived", palette.BLUE),
        )
    )
    terabyte = DEVICE_GIB.index(1024)
    fig.add_annotation(
        x=log10(DEVICE_GIB[terabyte]),
        y=log10(cost[terabyte] / GIB),
        ax=16,
        ay=64,
        standoff=6,
        text=(
            f"1 TiB has {count(1024 * GIB // PAGE_SIZE)} struct pages:<br>"
            f"{size(cost[terabyte])} taken before any data is stored"
        ),
        showarrow=True,
        xanchor="left",
        align="left",
    )
    share = STRUCT_PAGE_BYTES / PAGE_SIZE
    fig.update_layout(
        title_subtitle_text=(
            f"{origin('derived')} {STRUCT_PAGE_BYTES} B for each page of {PAGE_SIZE} B, {share:.2%} at every size"
        ),
        margin_t=88,
    )
    fig.update_xaxes(
        type="log",
        title_text="size of the region (logarithmic)",
        tickvals=DEVICE_GIB,
        ticktext=[size(gib * GIB) for gib in DEVICE_GIB],
        range=[log10(DEVICE_GIB[0] / 2.5), log10(DEVICE_GIB[-1] * 1.6)],
    )
    fig.update_yaxes(
        type="log",
        title_text="struct pages (logarithmic)",
        tickvals=[1, 16, 256],
        ticktext=[size(gib * GIB) for gib in (1, 16, 256)],
        range=[log10(0.12), log10(640)],
    )
    derived = Series("struct pages", "derived", f"{STRUCT_PAGE_BYTES} B / {PAGE_SIZE} B, by arithmetic", "GiB")
    return fig, Inputs(
        series=[derived],
        parameters={"struct_page_bytes": STRUCT_PAGE_BYTES, "page_bytes": PAGE_SIZE, "device_gib": list(DEVICE_GIB)},
    )
