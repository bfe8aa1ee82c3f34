# SPDX-License-Identifier: GPL-2.0-only
"""Where the struct pages of a namespace lie, to scale.

::

    altmap_figure(altmap_layout(size="1G", map="mem"), altmap_layout(size="1G", map="dev"))
    explore_altmap("4G", "1G", "5.17")
    space_table([...]), recorded_table(recorded_places(...))

Bars are memory, all to one scale; the part in front of the data is enlarged, and each 2 MiB of struct pages
is tied to the section that it describes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from workbench.lab.altmap_layout import (
    DATA,
    INFO,
    PADDING,
    SECTION_BYTES,
    STRUCT_PAGES,
    UNUSED,
    AltmapLayout,
    Part,
    RecordedPlace,
    altmap_layout,
)
from workbench.text import count, size
from workbench.view import palette
from workbench.view.canvas import Canvas
from workbench.view.export import describe
from workbench.view.panels import FAINT, WEDGE, tint
from workbench.view.summary import Table, mark, origin

_LEFT_PX, _WIDTH_PX, _BAR_PX = 16, 788, 34
_MEM, _DRAM, _DEV, _ZOOM, _SECTIONS = 26, 84, 172, 280, 400
"""Top of each bar, in pixels."""
_FEWEST_PX = 3
"""Narrowest part that is drawn; wider than to scale where a part is smaller."""
_HATCH_PX = 8
_FEWEST_BLOCK_PX = 8
"""Narrowest block of struct pages that is drawn by itself."""
_DATA = "#C9C9C9"
_LINE = {"color": palette.OUTLINE, "width": 1}
_ALTMAP, _RESERVED = palette.ROLES[palette.ALTMAP], palette.ROLES[palette.UNPOPULATED]
_LOOKS = {
    INFO: (palette.BLACK, "", "info block, 8 KiB"),
    PADDING: ("#FFFFFF", "x", "padding"),
    STRUCT_PAGES: (_ALTMAP.fill, "/", "struct pages"),
    UNUSED: ("#FFFFFF", "\\", "unused"),
    DATA: (_DATA, "", "data"),
}
_PLACES = {"mem": "in DRAM", "dev": "in the namespace itself, an altmap"}


def altmap_figure(mem: AltmapLayout, dev: AltmapLayout, width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """One namespace with its struct pages in DRAM, and with an altmap.

    Parameters
    ----------
    mem, dev : AltmapLayout
        Of one size and align, from :func:`workbench.lab.altmap_layout.altmap_layout`.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption, alt text and origin.
    """
    canvas = Canvas(
        _LEFT_PX * 2 + _WIDTH_PX,
        470,
        f"Where the struct pages of {size(dev.size)} of device memory lie",
        f"{origin('derived')} a namespace of {size(dev.size)}, align {size(dev.align)}, kernel {dev.kernel}; to scale",
        width_px,
        top_px=104,
    )
    shown = {part.what for layout in (mem, dev) for part in layout.parts}
    for what, (fill, pattern, label) in _LOOKS.items():
        if what in shown:
            _legend(canvas, fill, pattern, label)
    _namespace(canvas, mem, _MEM)
    _dram(canvas, mem)
    _namespace(canvas, dev, _DEV)
    _enlarged(canvas, dev)
    canvas.figure.layout.meta = {"origin": "derived"}
    return describe(
        canvas.figure,
        caption=(
            f"A namespace of {size(dev.size)} with map=mem and with map=dev. Every 4 KiB of it has a struct page of 64 "
            "bytes, a sixty-fourth; with an altmap these take memory of the device. What lies before the data is "
            "enlarged: each block of 2 MiB holds the struct pages of a section of 128 MiB, and one entry maps it. "
            f"{mark('derived')} Derived: a namespace made on a machine with kernel {dev.kernel}. The info block, and "
            "what else is too narrow, is drawn 3 px wide."
        ),
        alt=(
            f"map=mem: {size(mem.total(DATA))} of data, {size(mem.dram_bytes)} of DRAM for struct pages. map=dev: "
            f"{size(dev.total(STRUCT_PAGES))} of struct pages in front of {size(dev.total(DATA))} of data, "
            f"{size(dev.dram_bytes)} of DRAM. Enlarged: {_in_words(dev.parts)}; lines lead from "
            f"{count(sum(chunk.block is not None for chunk in dev.chunks))} blocks of 2 MiB to as many sections."
        ),
    )


def explore_altmap(of_namespace: str, align: str, kernel: str) -> go.Figure:
    """:func:`altmap_figure` for a notebook's controls.

    Parameters
    ----------
    of_namespace : str
        Its size.
    align, kernel : str
    """
    mem, dev = (altmap_layout(kernel, of_namespace, align, map) for map in ("mem", "dev"))
    return altmap_figure(mem, dev)


def space_table(layouts: Sequence[AltmapLayout]) -> Table:
    """What is left for data and what DRAM is spent, a row for each namespace.

    Parameters
    ----------
    layouts : sequence of AltmapLayout
    """
    rows = [
        [
            size(each.size),
            size(each.align),
            each.map,
            *(size(each.total(what)) if each.total(what) else "–" for what in (STRUCT_PAGES, UNUSED)),
            f"{count(each.total(DATA) >> 20)} MiB",
            f"{10000 * each.total(DATA) // each.size / 100:.2f} %",
            size(each.dram_bytes) if each.dram_bytes else "–",
        ]
        for each in layouts
    ]
    return Table(
        f"{mark('derived')} Derived: namespaces made on kernel {layouts[0].kernel}. In front of the data also lie an "
        "info block of 8 KiB and padding. The share is rounded down. DRAM: struct pages, and tables of their 4 KiB "
        "entries where there are any.",
        ["namespace", "align", "map", "struct pages in it", "unused", "data", "share", "DRAM"],
        rows,
        "lllrrrrr",
    )


def recorded_table(places: Sequence[RecordedPlace]) -> Table:
    """Where real kernels had their struct pages, a row for each run.

    Parameters
    ----------
    places : sequence of RecordedPlace
        From :func:`workbench.lab.altmap_layout.recorded_places`.
    """
    rows = [
        [
            each.run,
            each.kernel,
            size(each.namespace),
            size(each.in_namespace) if each.in_namespace else "–",
            "–" if each.first is None else f"{size(each.first)} after its start",
            size(each.in_dram) if each.in_dram else "–",
            "equal" if not each.differences else f"{count(each.differences)} differ",
        ]
        for each in places
    ]
    return Table(
        f"{mark('captured')} Captured: physical addresses of struct pages, read from the page tables of real kernels. "
        "Last column: size of every entry, and every physical address in a namespace, held against the engine's.",
        ["run", "kernel", "namespace", "struct pages in it", "the first one", "in DRAM", "against the engine"],
        rows,
        "lllrrrl",
    )


def _namespace(canvas: Canvas, layout: AltmapLayout, top: float) -> None:
    words = f"<b>map={layout.map}</b>: struct pages {_PLACES[layout.map]}"
    canvas.text(_LEFT_PX, top - 14, words, size=13)
    _bar(canvas, layout.parts, top, layout.size)
    (data,) = (part for part in layout.parts if part.what == DATA)
    middle = _x((data.start + data.end) / 2, layout.size)
    canvas.text(middle, top + _BAR_PX / 2, f"{size(layout.total(DATA))} of data", "center", 12)


def _dram(canvas: Canvas, layout: AltmapLayout) -> None:
    top = _DRAM
    right = max(_x(layout.dram_bytes, layout.size), _LEFT_PX + _FEWEST_PX)
    fill, pattern, _ = _LOOKS[STRUCT_PAGES]
    canvas.text(_LEFT_PX, top - 12, "DRAM", size=12, font_color=FAINT)
    _box(canvas, (_LEFT_PX, top, right, top + _BAR_PX), fill, pattern)
    canvas.text(right + 8, top + _BAR_PX / 2, f"{size(layout.dram_bytes)} of struct pages", size=12)


def _enlarged(canvas: Canvas, layout: AltmapLayout) -> None:
    (data,) = (part for part in layout.parts if part.what == DATA)
    window = data.start + max(data.start // 10, 1)
    before = [part for part in layout.parts if part.start < data.start] + [Part(DATA, data.start, window)]
    high = _x(window, layout.size)
    path = (
        f"M{_LEFT_PX},{_DEV + _BAR_PX} L{high},{_DEV + _BAR_PX} L{_LEFT_PX + _WIDTH_PX},{_ZOOM - 26} "
        f"L{_LEFT_PX + _WIDTH_PX},{_ZOOM} L{_LEFT_PX},{_ZOOM} L{_LEFT_PX},{_ZOOM - 26} Z"
    )
    canvas.figure.add_shape(type="path", path=path, fillcolor=WEDGE, line={"width": 0}, layer="below")
    canvas.text(_LEFT_PX, _ZOOM - 44, f"the first {size(data.start)}, enlarged", size=12, font_color=FAINT)
    _bar(canvas, before, _ZOOM, window)
    for part in before:
        left, right = _x(part.start, window), _x(part.end, window)
        label = size(part.size) if part.what != DATA else DATA
        if right - left > 8 * len(label) and part.what != STRUCT_PAGES:
            _label(canvas, (left + right) / 2, _ZOOM + _BAR_PX / 2, label)
    struct_pages = [part for part in layout.parts if part.what == STRUCT_PAGES]
    for part in struct_pages:
        canvas.text(_x(part.start, window), _ZOOM - 11, f"{size(part.size)} of struct pages", size=12)
    _blocks(canvas, layout, window)


def _blocks(canvas: Canvas, layout: AltmapLayout, window: int) -> None:
    """Blocks of struct pages, the sections they describe, and what leads from one to the other."""
    ties = [
        (chunk.block, chunk.start, chunk.end, chunk.struct_page_bytes)
        for chunk in layout.chunks
        if chunk.block is not None
    ]
    in_dram = layout.chunks[len(ties) :]
    if ties and _x(ties[0][3], window) - _LEFT_PX < _FEWEST_BLOCK_PX:  # too narrow to tell apart: as one
        ties = [(ties[0][0], ties[0][1], ties[-1][2], sum(each[3] for each in ties))]
    fill, pattern, _ = _LOOKS[STRUCT_PAGES]
    for block, start, end, nbytes in ties:
        tops = (_x(block, window), _x(block + nbytes, window))
        bottoms = (_x(start, layout.size), _x(end, layout.size))
        _box(canvas, (tops[0], _ZOOM, tops[1], _ZOOM + _BAR_PX), fill, pattern)
        _box(canvas, (bottoms[0], _SECTIONS, bottoms[1], _SECTIONS + _BAR_PX), tint(fill, 0.35), "")
        path = (
            f"M{tops[0]},{_ZOOM + _BAR_PX} L{tops[1]},{_ZOOM + _BAR_PX} "
            f"L{bottoms[1]},{_SECTIONS} L{bottoms[0]},{_SECTIONS} Z"
        )
        line = {"color": fill, "width": 1}
        canvas.figure.add_shape(type="path", path=path, fillcolor=tint(fill, 0.18), line=line, layer="below")
        sections = -(-(end - start) // SECTION_BYTES)
        words = size(end - start) if sections == 1 else f"{count(sections)} sections"
        if bottoms[1] - bottoms[0] > 8 * len(words):
            canvas.text(sum(bottoms) / 2, _SECTIONS + _BAR_PX / 2, words, "center", 11)
    for chunk in in_dram:
        box = (_x(chunk.start, layout.size), _SECTIONS, _x(chunk.end, layout.size), _SECTIONS + _BAR_PX)
        _box(canvas, box, "#FFFFFF", "")
        words = f"the last {size(chunk.end - chunk.start)}: struct pages in DRAM"
        canvas.text(box[2], _SECTIONS + _BAR_PX + 16, words, "right", 12)
    words = f"the whole namespace in sections of {size(SECTION_BYTES)}: a block of 2 MiB describes one"
    canvas.text(_LEFT_PX, _SECTIONS + _BAR_PX + 16, words, size=12, font_color=FAINT)


def _bar(canvas: Canvas, parts: Sequence[Part], top: float, whole: int) -> None:
    for part in parts[::-1]:  # a part widened to be seen lies over the next one
        left = _x(part.start, whole)
        right = max(_x(part.end, whole), left + _FEWEST_PX)
        fill, pattern, _ = _LOOKS[part.what]
        _box(canvas, (left, top, right, top + _BAR_PX), fill, pattern)


def _box(canvas: Canvas, box: tuple[float, float, float, float], fill: str, pattern: str) -> None:
    left, top, right, bottom = box
    canvas.figure.add_scatter(
        x=[left, right, right, left, left],
        y=[top, top, bottom, bottom, top],
        mode="lines",
        fill="toself",
        line=_LINE,
        hoverinfo="skip",
        showlegend=False,
        fillcolor=fill,
    )
    if pattern:
        _hatch(canvas, box, pattern)


def _hatch(canvas: Canvas, box: tuple[float, float, float, float], pattern: str) -> None:
    """Lines in place of plotly's patterns, which are large pictures in a PDF."""
    left, top, right, bottom = box
    height = bottom - top
    xs: list[float | None] = []
    ys: list[float | None] = []
    for start in np.arange(left - height, right, _HATCH_PX).tolist():
        low, high = max(start, left), min(start + height, right)
        for rises in (True, False):
            if pattern == "x" or rises == (pattern == "/"):
                xs += [low, high, None]
                down = [low - start, high - start]
                ys += [*((bottom - each if rises else top + each) for each in down), None]
    line = {"color": "#777777", "width": 1}
    canvas.figure.add_scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _legend(canvas: Canvas, fill: str, pattern: str, label: str) -> None:
    canvas.figure.add_bar(
        x=[None],
        y=[None],
        name=label,
        marker={
            "color": fill,
            "line": _LINE,
            "pattern": {"shape": pattern, "bgcolor": fill, "fgcolor": "#777777", "size": 6, "solidity": 0.2},
        },
    )


def _label(canvas: Canvas, x: float, y: float, words: str) -> None:
    canvas.text(x, y, words, "center", 11, bgcolor="#FFFFFF" if words != DATA else _DATA)


def _x(nbytes: float, whole: int) -> float:
    return _LEFT_PX + nbytes / whole * _WIDTH_PX


def _in_words(parts: Sequence[Part]) -> str:
    return ", ".join(f"{size(part.size)} {part.what}" for part in parts)
