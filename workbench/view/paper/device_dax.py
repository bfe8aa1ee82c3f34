# SPDX-License-Identifier: GPL-2.0-only
"""Patches 4, 5 and 7 on paper: the walk of the teardown, the rounding of the index, the life of a dynamic pgmap."""

from __future__ import annotations

import plotly.graph_objects as go

from workbench.lab.checkout import Checkout
from workbench.lab.dynamic_pgmap import dynamic_life
from workbench.lab.pgoff import first_touch
from workbench.lab.teardown import teardown
from workbench.view.dynamic_pgmap import pgmap_lanes
from workbench.view.figures import paper_figure
from workbench.view.pgoff import KERNELS, rounding
from workbench.view.provenance import Inputs, Series
from workbench.view.teardown import teardown_walk

WIDTH_PX = 820
ALIGN, TOUCH = "2M", "20K"
BEFORE_4, AFTER_4 = "5.16+3", "5.16+4"
LANES = {"before patch 7": "5.16+6", "with patch 7": "5.16+7"}

_MACHINE = "workbench.machine: a device mapped and touched on each kernel"


@paper_figure(
    id="teardown-walk",
    title="Unbinding a device: which struct pages lose a reference?",
    caption=(
        "A device of 4 MiB whose pgmap asks for compound pages of 2 MiB is unbound on 5.16 with patches 1 to 3 (top) "
        "and 1 to 4 (bottom). Each struct page shows its reference count; a triangle marks a reference that "
        "memunmap_pages() drops. Version 3 of the series made the compound pages and kept the walk over every page "
        "(middle): at the first tail the head has no reference left, and a kernel with VM debugging stops there. "
        "Derived by the engine."
    ),
    alt=(
        "Three rows of ten struct pages out of 1,024. Top: base pages, each count goes from 1 to 0. Middle: only the "
        "first head goes from 1 to 0, a cross marks the first tail beside it. Bottom: the two heads, pages 0 and 512, "
        "go from 1 to 0, and tails stay at 0."
    ),
    width_px=WIDTH_PX,
    height_px=679,
)
def teardown_figure(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """4 MiB torn down before patch 4, by version 3, and with patch 4."""
    walks = [teardown(BEFORE_4), teardown(AFTER_4, by_one=True), teardown(AFTER_4)]
    return teardown_walk(walks, WIDTH_PX), Inputs(
        series=[Series("reference counts", "derived", "workbench.mm.memremap: memunmap_pages()", "1")],
        parameters={"before": BEFORE_4, "after": AFTER_4, "size": "4M", "order": 9},
    )


@paper_figure(
    id="pgoff-rounding",
    title="Huge page 1 is touched. Which one does page->index name?",
    caption=(
        "A process maps a device with an align of 2 MiB and first touches huge page 1 at its byte 20,480. Each row is "
        "one kernel: an arrow is the rounding of the address, a frame the huge page that page->index names "
        "afterwards. Patch 5 rounds up; the fix of October 2024 rounds down again. The place of the byte is not to "
        "scale. Derived by the engine; 5.15 and 5.17, as captured, have the indexes of the first and third row."
    ),
    alt=(
        "Four rows of four boxes. Before patch 5: index 512, huge page 1, on 512 pages. With patch 5: index 1,024, "
        "huge page 2, wrong. With all 11 patches: index 1,024, huge page 2, wrong, on the head alone. With the fix: "
        "index 512, huge page 1, on the head alone."
    ),
    width_px=WIDTH_PX,
    height_px=381,
)
def pgoff_figure(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """The index that the first touch of a huge page leaves, on four kernels."""
    fig = rounding([first_touch(name, ALIGN, TOUCH) for name in KERNELS], WIDTH_PX)
    return fig, Inputs(
        series=[Series("page->index", "derived", _MACHINE, "pages")],
        parameters={"kernels": list(KERNELS), "align": ALIGN, "first_touch": TOUCH},
    )


@paper_figure(
    id="dynamic-pgmap",
    title="Patch 7: a dynamic device knows its pgmap, also one that a failed bind has freed",
    caption=(
        "What dev_dax->pgmap of a dynamic device points to while it is bound, let go, given a second range, refused "
        "because another driver has a page of it (memory taken), bound again, deleted and made anew; 5.16 with "
        "patches 1 to 6 and 1 to 7. A probe that fails leaves the pointer to memory that was freed, and every further "
        "bind is refused with EINVAL until the device is deleted. Derived by the engine."
    ),
    alt=(
        "Two lanes of eleven steps. Before patch 7 the pointer is NULL after every step, and only the bind that meets "
        "taken memory is refused, with EBUSY. With patch 7 it points to the pgmap while the device is bound; after "
        "EBUSY it points to freed memory, and the next two binds are refused with EINVAL, until the device is deleted."
    ),
    width_px=WIDTH_PX,
    height_px=311,
)
def dynamic_pgmap_figure(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """A dynamic device's life before and with patch 7."""
    lanes = {name: dynamic_life(kernel) for name, kernel in LANES.items()}
    return pgmap_lanes(lanes, "", WIDTH_PX), Inputs(
        series=[Series("pointer", "derived", "workbench.lab.dynamic_pgmap: a device's life on a machine", "1")],
        parameters=dict(LANES),
    )
