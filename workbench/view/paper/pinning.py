# SPDX-License-Identifier: GPL-2.0-only
"""The cache lines that a pin touches."""

from __future__ import annotations

import plotly.graph_objects as go

from workbench.lab.checkout import Checkout
from workbench.lab.pinning import FILES, recorded_traffic
from workbench.view.figures import paper_figure
from workbench.view.pinning import lines_figure, three_kernels
from workbench.view.provenance import Inputs, Series

WIDTH_PX = 900


@paper_figure(
    id="pin-lines",
    title="The cache lines of struct pages that one pin of 2 MiB touches",
    caption=(
        "pin_user_pages_fast() of 512 pages and unpin_user_pages() of the same, on a device with an align of 2 MiB; a "
        "cell is the cache line of one struct page. Before the series each page counts for itself, so every line is "
        "written. With it all counts lie in the head and a tail, but each page is still read and takes its own "
        "locked operations, on the head. Version 4's patch 8, never merged, would have taken one reference for all. "
        "Triangles: counted by the engine; squares: recorded kernels 5.15 (the code of 5.16) and 5.17 "
        "stored and touched as often."
    ),
    alt=(
        "Six grids of 512 cells. Pin: on 5.16 all 512 lines are written, with 1,536 locked operations; on 5.17 2 are "
        "written and 510 only read, with 1,536 locked operations; with one grab 2 are written, 1 read and 509 not "
        "touched, with 3 locked operations. Release: on 5.16 all 512 are written with 1,024 locked operations; on "
        "5.17, with one grab or not, 2 are written and 510 read, with 3."
    ),
    width_px=WIDTH_PX,
    height_px=578,
    data=FILES,
)
def pin_lines(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """Three kernels side by side, pin above release."""
    return lines_figure(three_kernels(), recorded_traffic(checkout), WIDTH_PX), Inputs(
        series=[
            Series("lines and locked operations", "derived", "workbench.mm.gup: counted by the engine", "1"),
            Series("as recorded", "captured", f"{' and '.join(FILES)}: gup_test on real kernels", "1"),
        ],
        parameters={"kernels": ["5.16", "5.17"], "pages": 512, "align": "2M"},
        files=[checkout.root / name for name in FILES],
    )
