# SPDX-License-Identifier: GPL-2.0-only
"""The map of the series."""

from __future__ import annotations

import plotly.graph_objects as go

from workbench.lab.checkout import Checkout
from workbench.series import SERIES_URL
from workbench.view.figures import paper_figure
from workbench.view.provenance import Inputs, Series
from workbench.view.series_map import series_figure


@paper_figure(
    id="series-map",
    title="Eleven patches, four of them change struct pages",
    caption=(
        "The series in its order. A square stands where a patch touches a file, filled if the patch may change struct "
        "pages; a curve leads from a patch to one that needs its behaviour. Titles and files as published; what "
        "changes is derived."
    ),
    alt=(
        "A table of eleven patches against five places in the kernel: memory-failure, page_alloc, memremap, dax/device "
        "and dax/bus. Patch 1 touches memory-failure, 2 and 3 page_alloc, 4 page_alloc and memremap, 5 to 11 "
        "dax/device, 7 also dax/bus. Patches 4, 5, 9 and 11 change struct pages. 9 and 10 build on 8, 11 builds on 4."
    ),
    width_px=960,
    height_px=512,
)
def series_map(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """Patches against files."""
    return series_figure(960), Inputs(
        series=[
            Series("patches and files", "published", SERIES_URL, "1"),
            Series("what changes", "derived", "the specification of each patch", "1"),
        ]
    )
