# SPDX-License-Identifier: GPL-2.0-only
"""The altmap on paper: where the struct pages of a namespace lie, to scale."""

from __future__ import annotations

import plotly.graph_objects as go

from workbench.lab.altmap_layout import altmap_layout
from workbench.lab.checkout import Checkout
from workbench.view.altmap import altmap_figure
from workbench.view.figures import paper_figure
from workbench.view.provenance import Inputs, Series

KERNEL, SIZE, ALIGN = "5.17", "1G", "2M"
WIDTH_PX = 900


@paper_figure(
    id="altmap-layout",
    title="Where the struct pages of 1 GiB of device memory lie",
    caption=(
        "A namespace of 1 GiB with an align of 2 MiB, to scale. With map=mem its struct pages, a sixty-fourth of it, "
        "take 16 MiB of DRAM. With map=dev (an altmap) they take 16 MiB of the namespace. Enlarged: after the info "
        "block and padding to 2 MiB lie eight blocks of 2 MiB; each describes a section of 128 MiB, and one entry maps "
        "it. Derived by the engine; equal to the physical addresses captured on 5.10, 5.15 and 6.1. The info block is "
        "drawn 3 px wide."
    ),
    alt=(
        "Five bars from top to bottom. map=mem: 1022 MiB of data, and 16 MiB of DRAM below. map=dev: a narrow stretch "
        "of struct pages in front of 1006 MiB of data. Enlarged, that stretch is an info block, padding and eight "
        "blocks of 2 MiB, which fan out to eight sections of 128 MiB, the whole namespace."
    ),
    width_px=WIDTH_PX,
    height_px=628,
)
def altmap_layout_figure(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """A namespace of 1 GiB with both maps."""
    mem, dev = (altmap_layout(KERNEL, SIZE, ALIGN, map) for map in ("mem", "dev"))
    fig = altmap_figure(mem, dev, width_px=WIDTH_PX)
    source = "workbench.mm.sparse_vmemmap: populate(); workbench.nvdimm: nd_pfn_init()"
    return fig, Inputs(
        series=[Series("parts of the namespace", "derived", source, "bytes")],
        parameters={"kernel": KERNEL, "size": SIZE, "align": ALIGN},
    )
