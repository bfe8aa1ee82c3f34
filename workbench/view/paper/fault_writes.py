# SPDX-License-Identifier: GPL-2.0-only
"""Patches 8 to 11 on paper: what one page fault stores, and whether before or after its entry."""

from __future__ import annotations

import plotly.graph_objects as go

from workbench.lab.checkout import Checkout
from workbench.lab.fault_writes import fault_writes
from workbench.view.fault_writes import fault_timeline
from workbench.view.figures import paper_figure
from workbench.view.provenance import Inputs, Series

KERNELS, ALIGN = ("5.16+8", "5.16+9", "5.16+11"), "2M"
WIDTH_PX = 900


@paper_figure(
    id="fault-writes",
    title="What a page fault stores, and when: patches 9 and 11",
    caption=(
        "The first access to a page of 2 MiB of a device-dax mapping, on 5.16 with patches 1 to 8, 1 to 9 and 1 to 11. "
        "Time runs to the right in stores to struct pages, its 512 struct pages run down, and the blue line "
        "is the entry in the page table. Black: struct pages that can be reached although mapping and index are "
        "missing. Patch 9 stores first, patch 11 stores to the head alone; patches 8 and 10 change nothing here. "
        "Derived by the engine's fault handler; the place of the entry by a second run in which no entry can be made."
    ),
    alt=(
        "Three lanes of equal length, one above the other. With patches 1 to 8 the entry stands at the start, and a "
        "black triangle of struct pages without mapping shrinks over 1,024 stores. With 1 to 9 the same stores come "
        "first and the entry after them; nothing is black. With 1 to 11 there are two stores, then the entry; the lane "
        "is blue almost from the start."
    ),
    width_px=WIDTH_PX,
    height_px=721,
)
def fault_writes_figure(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """The first fault of 2 MiB on three states of the series."""
    fig = fault_timeline([fault_writes(kernel, ALIGN) for kernel in KERNELS], width_px=WIDTH_PX)
    source = "workbench.dax.fault: dev_dax_huge_fault(), dax_set_mapping()"
    return fig, Inputs(
        series=[Series(f"stores, {kernel}", "derived", source, "stores") for kernel in KERNELS],
        parameters={"kernels": list(KERNELS), "align": ALIGN, "first_touch": 0},
    )
