# SPDX-License-Identifier: GPL-2.0-only
"""Patch 4 on paper: the memory map, the same struct pages before and after, and the order of the stores."""

from __future__ import annotations

import plotly.graph_objects as go

from workbench.lab.checkout import Checkout
from workbench.lab.device_layout import device_layout
from workbench.lab.head_order import trace_compound, trace_head_first
from workbench.view.figures import paper_figure
from workbench.view.layout import before_after, memory_map
from workbench.view.provenance import Inputs, Series
from workbench.view.trace import init_trace

BEFORE, AFTER, SERIES = "5.16+3", "5.16+4", "5.17"
SIZE, SHIFT = "1G", 9
PAGE, WORD = 1, 1
"""The struct page and word that the memory map takes apart: the first tail, and its compound_head."""

WIDTH_PX = 900

_ENGINE = "workbench.mm: memmap_init_zone_device(), as the specification of the series has it"


@paper_figure(
    id="memory-map",
    title="From a device to a bit: 1 GiB in compound pages of 2 MiB",
    caption=(
        "A device of 1 GiB on Linux 5.17 with an align of 2 MiB, on five scales: its sections, the 64 compound pages "
        "of one section, the first struct pages of one compound page, the eight words of its first tail, and the 64 "
        "bits of compound_head, whose lowest bit makes it a tail. Colour is the role of a struct page. Heads and "
        "first tails are drawn at least 2 px wide. Derived by the engine; equal to the struct pages captured from "
        "such a kernel."
    ),
    alt=(
        "Five panels from top to bottom, each a part of the one above. A bar for 1 GiB in 8 sections; one section as "
        "64 alike stripes of head, first tail, second tail and further tails; a grid of the first 8 struct pages by 8"
        " words with 504 alike folded; the first tail word by word: flags, compound_head, destructor 1 and order 9, "
        "512 pages; and the 64 bits of compound_head with bit 0 set."
    ),
    width_px=WIDTH_PX,
    height_px=878,
)
def memory_map_figure(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """The device of 1 GiB on 5.17, down to bit 0 of the first tail's compound_head."""
    fig = memory_map(device_layout(SERIES, SIZE, SHIFT), PAGE, WORD, width_px=WIDTH_PX)
    return fig, Inputs(
        series=[Series("struct pages", "derived", _ENGINE, "1")],
        parameters={"kernel": SERIES, "size": SIZE, "vmemmap_shift": SHIFT, "page": PAGE, "word": WORD},
    )


@paper_figure(
    id="before-after",
    title="Two MiB of a device before and after patch 4",
    caption=(
        "The first eight of 512 struct pages of a device that asks for compound pages of 2 MiB, on 5.16 with patches "
        "1 to 3 (above: base pages) and 1 to 4 (below: one compound page). A black outline marks a word whose value "
        "differs; the other 504 columns are like the last. The head changes in one bit, each tail in three or four "
        "words. Derived by the engine; 5.15 and 5.17, as captured, agree with either half on every word."
    ),
    alt=(
        "Two grids, one above the other, of eight struct pages by eight words. Above, eight equal base pages with a "
        "reference of 1 each. Below, a head with PG_head set, a first tail with destructor, order 9 and 512 pages, a "
        "second tail with the pin count, and tails that hold the head's address with bit 0 set, TAIL_MAPPING and "
        "reference 0. Outlined: one word of the head, four of the first tail, three of every other tail."
    ),
    width_px=WIDTH_PX,
    height_px=662,
)
def before_after_figure(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """The first compound page with 5.16+3 and with 5.16+4."""
    before, after = (device_layout(kernel, SIZE, SHIFT) for kernel in (BEFORE, AFTER))
    fig = before_after(before, after, width_px=WIDTH_PX)
    return fig, Inputs(
        series=[
            Series("before", "derived", f"{_ENGINE}; captured on 5.15 alike", "1"),
            Series("after", "derived", f"{_ENGINE}; captured on 5.17 alike", "1"),
        ],
        parameters={"before": BEFORE, "after": AFTER, "size": SIZE, "vmemmap_shift": SHIFT},
    )


@paper_figure(
    id="init-trace",
    title="Why the head is prepared at the third struct page",
    caption=(
        "Every store to the first four struct pages of a compound page of 2 MiB, 5.16 with patches 1 to 4: time runs "
        "to the right, memory down, eight words a struct page. prep_compound_head() (black) describes the compound "
        "page in tails 1 and 2, so it waits until both are initialised. Below, an order that no kernel uses: with the"
        " head first, clearing tail 1 wipes four of its five stores (crosses), and the compound page would claim "
        "order 0 and 1024 pages. Derived by the engine; the lower half is modelled with the kernel's own functions."
    ),
    alt=(
        "Two charts of store number against struct page and word. Above, the stores to head, first tail and second "
        "tail follow one another; then five stores of prep_compound_head go back to the first and second tail; then "
        "the third tail begins. Below, those five stores come right after the head's, and crosses mark where clearing"
        " the first tail wipes four of them."
    ),
    width_px=WIDTH_PX,
    height_px=818,
)
def init_trace_figure(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """The stores of one compound page in the kernel's order, and with the head first."""
    fig = init_trace(trace_compound(AFTER, SHIFT), trace_head_first(AFTER, SHIFT), width_px=WIDTH_PX)
    return fig, Inputs(
        series=[
            Series("stores, in the kernel's order", "derived", _ENGINE, "stores"),
            Series(
                "stores, head first", "modelled", "workbench.lab.head_order: the same functions, reordered", "stores"
            ),
        ],
        parameters={"kernel": AFTER, "vmemmap_shift": SHIFT},
    )
