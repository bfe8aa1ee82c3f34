# SPDX-License-Identifier: GPL-2.0-only
"""Who is told, and what is unmapped, when a byte of a huge page fails."""

from __future__ import annotations

import plotly.graph_objects as go

from workbench.lab.checkout import Checkout
from workbench.lab.hwpoison import poisoned
from workbench.view.figures import paper_figure
from workbench.view.hwpoison import poisoned_byte
from workbench.view.provenance import Inputs, Series

WIDTH_PX = 900

_AT = "20K"
_KERNELS = ("5.16+0", "5.16+11")


@paper_figure(
    id="hwpoison-victims",
    title="A byte of a huge page fails: who is told, and what is unmapped",
    caption=(
        "Three processes map a device of three huge pages of 1 GiB; p0 reads a byte of huge page 1 that fails. Before "
        "the series the struct page of the byte is marked and the signal has its address; with it both are the "
        "head's, so the signal has the start of the huge page. In either case the signal says that 1 GiB is lost, "
        "every process loses its entry, and p1, which did not ask, is not told. Derived: the engine's "
        "memory_failure()."
    ),
    alt=(
        "Two drawings side by side, before and with all eleven patches. Struct pages on top: before, that of the "
        "failing byte is marked, after, the head. Below, entries of three processes for three huge pages: those of "
        "huge page 1 are cleared in all three; p0 is told to act, p2 is told early, p1 is told nothing."
    ),
    width_px=WIDTH_PX,
    height_px=685,
)
def hwpoison_victims(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """Before and after, side by side."""
    before, after = (poisoned(name, "1G", _AT) for name in _KERNELS)
    fig = poisoned_byte(before, after, WIDTH_PX)
    return fig, Inputs(
        series=[Series("signals and entries", "derived", "workbench.mm.memory_failure on a booted machine", "1")],
        parameters={"kernels": list(_KERNELS), "align": "1G", "fails_at": _AT},
    )
