# SPDX-License-Identifier: GPL-2.0-only
"""The bytes of a pgmap by its number of ranges, to scale: the multiplication beside struct_size()."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from workbench.lab.struct_size import RANGE_BYTES, Bound, PgmapSize, bytes_different
from workbench.text import count
from workbench.view import palette
from workbench.view.canvas import Canvas
from workbench.view.export import describe
from workbench.view.panels import FAINT, tint
from workbench.view.summary import Table, mark, origin

_LEFT, _TOP, _BAR, _ROW = 150, 8, 20, 66
_BYTE_PX = 2.1
_WIDTH = 820
_STRUCT, _RANGE = tint(palette.BLUE, 0.25), tint(palette.BLUE, 0.65)
_LINE = {"color": palette.OUTLINE, "width": 1}
_MISSING = {"color": palette.BLACK, "width": 2, "dash": "dot"}


def sizes_figure(pairs: Sequence[tuple[PgmapSize, PgmapSize]], width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """The allocation before and after patch 6, two bars for each number of ranges.

    Parameters
    ----------
    pairs : sequence of (PgmapSize, PgmapSize)
        Before and after, from :func:`workbench.lab.struct_size.pgmap_size`.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption, alt text and origin.
    """
    canvas = Canvas(
        _WIDTH,
        _TOP + _ROW * len(pairs),
        "From one range on, both ask for the same bytes",
        f"{origin('derived')} bytes of a dynamic device's pgmap, by the number of its ranges; to scale",
        width_px,
        top_px=104,
    )
    for row, pair in enumerate(pairs):
        top = _TOP + row * _ROW
        number = pair[0].nr_range
        canvas.text(_LEFT - 66, top + 22, f"<b>{number}</b> range{'s' * (number != 1)}", anchor="right", size=13)
        for at, one in enumerate(pair):
            _bar(canvas, one, ("before", "after")[at], top + at * (_BAR + 4))
    canvas.cells([], _STRUCT, _LINE, "struct dev_pagemap without its range")
    canvas.cells([], _RANGE, _LINE, f"a range, {RANGE_BYTES} bytes")
    canvas.cells([], "#FFFFFF", _MISSING, "not allocated")
    canvas.figure.layout.meta = {"origin": "derived"}
    before, after = pairs[0][0].kernel, pairs[0][1].kernel
    said = "; ".join(f"{one.nr_range} ranges: {_asked(one)} before, {_asked(two)} after" for one, two in pairs)
    return describe(
        canvas.figure,
        caption=(
            f"struct dev_pagemap has {pairs[0][0].structure} bytes and has room for one range in it; each further one "
            f"takes {RANGE_BYTES} bytes behind it. Before: multiplied by hand (kernel {before}); after: struct_size() "
            f"(kernel {after}). {mark('derived')} Derived: the engine's dev_dax_probe(); the size of the structure "
            "is that recorded for 5.15, and 8 bytes for the vmemmap_shift of patch 4."
        ),
        alt=f"Two bars for each number of ranges. {said}.",
    )


def bound_table(pairs: Sequence[tuple[Bound, Bound]], kernels: tuple[str, str]) -> Table:
    """Devices of some ranges bound on two kernels: a row for each number of ranges.

    Parameters
    ----------
    pairs : sequence of (Bound, Bound)
        Before and after, from :func:`workbench.lab.struct_size.bind_ranges`.
    kernels : (str, str)
        Their names.
    """
    rows = []
    for before, after in pairs:
        pages = count(len(before.pages))
        differ = "–" if before.errno else count(bytes_different(before, after))
        rows.append([count(before.nr_range), before.errno or "bound", after.errno or "bound", pages, differ])
    return Table(
        f"{mark('derived')} Derived: devices of ranges of 2 MiB with gaps between them, bound by the engine.",
        ["ranges", *kernels, "struct pages", "bytes that differ"],
        rows,
        "rllrr",
    )


def _asked(one: PgmapSize) -> str:
    return "SIZE_MAX, refused" if one.saturated else f"{count(one.asked)} bytes"


def _bar(canvas: Canvas, one: PgmapSize, when: str, top: float) -> None:
    canvas.text(_LEFT - 8, top + _BAR / 2, when, anchor="right", size=12, font_color=FAINT)
    bottom, fixed = top + _BAR, one.structure - RANGE_BYTES
    if one.saturated:
        canvas.text(_LEFT, top + _BAR / 2, f"<b>SIZE_MAX = {count(one.asked)}</b>: ENOMEM", size=12)
        return
    end = _LEFT + fixed * _BYTE_PX
    canvas.cells([(_LEFT, top, end, bottom)], _STRUCT, _LINE)
    step = RANGE_BYTES * _BYTE_PX
    ranges = (one.asked - fixed) // RANGE_BYTES
    canvas.cells([(end + k * step, top, end + (k + 1) * step, bottom) for k in range(ranges)], _RANGE, _LINE)
    words = f"<b>{count(one.asked)}</b> bytes"
    x = end + ranges * step
    if one.missing:
        x += one.missing * _BYTE_PX
        canvas.cells([(end, top, x, bottom)], "#FFFFFF", _MISSING)
        words += f": {count(one.missing)} too few for the structure itself"
    canvas.text(x + 8, top + _BAR / 2, words, size=12)
