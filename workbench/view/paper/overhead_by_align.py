# SPDX-License-Identifier: GPL-2.0-only
"""The cost of struct pages by align and release."""

from __future__ import annotations

import plotly.graph_objects as go

from workbench.lab.checkout import Checkout
from workbench.lab.device_cost import captured_per_gib, derived_per_gib
from workbench.view.cost import release_figure
from workbench.view.figures import paper_figure
from workbench.view.provenance import Inputs, Series

RELEASES = ("5.10", "5.15", "5.16", "5.17", "6.1", "6.12")

_COSTS = "data/captures/overhead.json"
_WALKS = "data/captures/*/vmemmap.json"


@paper_figure(
    id="overhead-by-align",
    title="Memory for struct pages, per GiB of device",
    caption=(
        "Physical memory behind the struct pages of one GiB of a device-dax region whose struct pages lie in DRAM, by "
        "release and align; bars are linear and start at 0. The series (5.17) changes nothing; the follow-up (5.19 and "
        "later) shares vmemmap pages, so that 2 MiB compounds keep a quarter and 1 GiB compounds 8 KiB, plus 32 KiB "
        "of page tables a GiB that are not drawn. Struct pages kept in the device (altmap) stay at 16 MiB on every "
        "release. Squares: captured by a page-table walk on a real kernel, equal to what is derived; triangles: "
        "derived only."
    ),
    alt=(
        "Three panels of horizontal bars, one row a release. Align 4 KiB: 16 MiB per GiB on all of 5.10, 5.15, 5.16, "
        "5.17, 6.1 and 6.12. Align 2 MiB: 16 MiB up to 5.17, 4 MiB on 6.1 and 6.12. Align 1 GiB: 16 MiB up to 5.17, "
        "8 KiB on 6.1 and 6.12, too little to be seen as a bar."
    ),
    width_px=980,
    height_px=430,
    data=(_COSTS, _WALKS),
)
def overhead_by_align(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """Three panels of bars, a mark of provenance at the end of each bar."""
    costs, walks = checkout.root / _COSTS, sorted(checkout.root.glob(_WALKS))
    fig = release_figure(derived_per_gib(RELEASES), captured_per_gib(costs, walks), 980)
    fig.update_layout(title_subtitle_text="16 MiB per GiB is 16 GiB per TiB, or 1.56 % of the device")
    return fig, Inputs(
        series=[
            Series(
                "derived", "derived", "workbench.lab.overhead: the kernels' rules for mapping struct pages", "B/GiB"
            ),
            Series("captured", "captured", f"{_COSTS} and {_WALKS}: page-table walks of real kernels", "B/GiB"),
        ],
        parameters={"releases": list(RELEASES), "map": "mem"},
        files=[costs, *walks],
    )
