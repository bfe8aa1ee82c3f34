# SPDX-License-Identifier: GPL-2.0-only
"""What this workbench is about, at a glance."""

from __future__ import annotations

import plotly.graph_objects as go

from workbench.lab.checkout import Checkout
from workbench.lab.device_cost import device_cost
from workbench.lab.huge_page import huge_page
from workbench.lab.overhead import STAGES
from workbench.view.figures import paper_figure
from workbench.view.overview import overview_figure
from workbench.view.provenance import Inputs, Series

DEVICE, ALIGN = "1T", "2M"


@paper_figure(
    id="overview",
    title="One page-table entry, 512 struct pages",
    caption=(
        "The struct pages of 2 MiB of a device, before the series, with it and with the follow-up that it makes "
        "possible. Every small cell is a struct page of 64 bytes, coloured by the role that its bytes give it; a row "
        "of 64 cells is 4 KiB of memory. Derived: the engine initialised these struct pages as the kernels do."
    ),
    alt=(
        "Three grids of 512 cells, the struct pages of one 2 MiB page. Before the series (5.16) all are base pages. "
        "With it (5.17) one is the head, the others are tails. With the follow-up (6.1) the grid is the same, but six "
        "of its eight rows share the memory of row 2. Below, numbers: references held on the device 512, 1 and 1; "
        "struct pages initialised 512, 512 and 128; memory 32 KiB, 32 KiB and 8 KiB; for a device of 1 TiB 16 GiB, "
        "16 GiB and 4 GiB."
    ),
    width_px=1200,
    height_px=586,
)
def overview(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """Three kernels side by side."""
    fig = overview_figure([huge_page(kernel) for kernel in STAGES.values()], device_cost(DEVICE, ALIGN), 1200)
    return fig, Inputs(
        series=[
            Series("struct pages", "derived", "workbench.mm: memmap_init_zone_device() of each tree", "1"),
            Series("memory", "derived", "workbench.lab.overhead: the kernels' rules for mapping struct pages", "B"),
        ],
        parameters={"kernels": list(STAGES.values()), "device": DEVICE, "align": ALIGN},
    )
