# SPDX-License-Identifier: GPL-2.0-only
"""Where page->index says that a huge page lies in the file, by the rounding of each kernel.

::

    rounding([first_touch(name, "2M", "20K") for name in ("5.16+4", "5.16+5", "5.16+11-pgofffix")])
    explore_rounding("1G", 4096)                 # the same, for a notebook's controls
"""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from workbench.abi.constants import PMD_ORDER, PMD_SIZE
from workbench.lab.pgoff import TOUCHED, UNITS, FirstTouch, RecordedFailure, first_touch
from workbench.text import count, size
from workbench.view import palette
from workbench.view.canvas import Canvas
from workbench.view.export import describe
from workbench.view.panels import FAINT, tint
from workbench.view.summary import Html, Table, mark, origin

KERNELS = ("5.16+4", "5.16+5", "5.16+11", "5.16+11-pgofffix")
"""Before patch 5, with it, with the whole series, and with the fix of 2024."""

_NAMES = {
    "5.16+4": "before patch 5",
    "5.16+5": "patch 5: ALIGN()",
    "5.16+11": "all 11 patches",
    "5.16+11-pgofffix": "fixed in 2024: ALIGN_DOWN()",
}
_LEFT, _UNIT, _GAP, _TOP, _ROW, _RIGHT = 256, 84, 8, 40, 58, 204
_WIDTH = _LEFT + UNITS * (_UNIT + _GAP) + _RIGHT
_LINE = {"color": palette.OUTLINE, "width": 1}
_PLAIN = {"color": "#BBBBBB", "width": 1}
_RIGHT_COLOR, _WRONG_COLOR = palette.BLUE, palette.VERMILION


def rounding(touches: Sequence[FirstTouch], width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """One row a kernel: the byte that was touched, and the huge page that page->index names.

    Parameters
    ----------
    touches : sequence of FirstTouch
        From :func:`workbench.lab.pgoff.first_touch`, all of one align and byte.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption, alt text and origin.
    """
    one = touches[0]
    canvas = Canvas(
        _WIDTH,
        _TOP + _ROW * len(touches),
        f"Huge page {TOUCHED} is touched. Which one does page->index name?",
        f"{origin('derived')} first access at byte {count(one.offset)} of the huge page, device with align "
        f"{size(one.align)}",
        width_px,
        top_px=104,
    )
    touch_x = _edge(TOUCHED) + _UNIT * max(one.offset / one.unit, 0.45 if one.offset else 0)
    canvas.text(_LEFT - 12, 12, "file, huge page", anchor="right", size=12, font_color=FAINT)
    for unit in range(UNITS):
        canvas.text(_edge(unit) + _UNIT / 2, 12, str(unit), anchor="center", size=13)
    for row, touch in enumerate(touches):
        _draw(canvas, touch, touch_x, _TOP + row * _ROW)
    canvas.cells([], tint(_RIGHT_COLOR), {"color": _RIGHT_COLOR, "width": 2}, "huge page that the index names")
    canvas.cells([], tint(_WRONG_COLOR), {"color": _WRONG_COLOR, "width": 2}, "named wrongly")
    marker = {"symbol": "triangle-down", "size": 11, "color": palette.BLACK}
    canvas.figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name="byte touched first")
    canvas.figure.layout.meta = {"origin": "derived"}
    where = f"Huge page {TOUCHED} was touched first at its byte {count(one.offset)}."
    said = "; ".join(f"{touch.kernel}: index {count(touch.index)}, huge page {touch.says}" for touch in touches)
    return describe(
        canvas.figure,
        caption=(
            f"A process maps a device of {UNITS} huge pages ({size(one.unit)} each, align {size(one.align)}). {where} "
            "Each row is one kernel: the arrow is the rounding of that address, the frame the huge page that "
            f"page->index names afterwards. {mark('derived')} Derived: read from the struct pages after the engine's "
            "fault. The place of the byte inside its huge page is not to scale."
        ),
        alt=f"{len(touches)} rows of {UNITS} boxes. {where} Names: {said}.",
    )


def explore_rounding(align: str, first_touched_at: int) -> go.Figure:
    """:func:`rounding` of all kernels of :data:`KERNELS`, for a notebook's controls.

    Parameters
    ----------
    align : str
        ``"4K"``, ``"2M"`` or ``"1G"``.
    first_touched_at : int
        Bytes into the huge page.
    """
    return rounding([first_touch(name, align, first_touched_at) for name in KERNELS])


def failures_table(runs: Sequence[Sequence[RecordedFailure]]) -> Table:
    """Pages poisoned on recorded kernels, a row for each, the kernels side by side.

    Parameters
    ----------
    runs : sequence of sequence of RecordedFailure
        From :func:`workbench.lab.pgoff.recorded_failures`, the same pages in each.
    """
    rows = []
    for cases in zip(*runs, strict=True):
        rows.append([_page(cases[0].page), *(cell for case in cases for cell in (_index(case), _told(case)))])
    kernels = [cases[0].kernel for cases in runs]
    return Table(
        f"{mark('captured')} Captured: one 4 KiB page of a device with align 2 MiB poisoned by MADV_HWPOISON on real "
        f"kernels {' and '.join(kernels)}. Index: page->index of the struct page that counts, read out of memory, as "
        "huge page and page in it. Told: the address in the SIGBUS, by the huge page of the file it lies in.",
        ["failed", *(head for name in kernels for head in (f"{name}: index", f"{name}: told"))],
        rows,
        "l" * (1 + 2 * len(kernels)),
    )


def reads_table(reads: Sequence[tuple[str, int, Sequence[str]]]) -> Table:
    """How often a failing byte is read until a signal comes.

    Parameters
    ----------
    reads : sequence of (str, int, sequence of str)
        A kernel and what :func:`workbench.lab.pgoff.reads_until_told` returned for it.
    """
    rows = []
    for kernel, number, log in reads:
        recovered = sum("Recovered" in line for line in log)
        rows.append([f"{kernel}, {_NAMES[kernel]}", f"read {number}" if number else "never", count(recovered)])
    return Table(
        f"{mark('derived')} Derived: a process reads a byte that fails, until it is told; given up after "
        f"{max(sum('Recovered' in line for line in log) for _, _, log in reads)} reads.",
        ["kernel", "told at", "lines with Recovered"],
        rows,
        "lrr",
    )


def _edge(unit: int) -> float:
    return _LEFT + unit * (_UNIT + _GAP)


def _draw(canvas: Canvas, touch: FirstTouch, touch_x: float, top: float) -> None:
    good = touch.index == touch.right
    color = _RIGHT_COLOR if good else _WRONG_COLOR
    middle = top + 26
    canvas.text(_LEFT - 12, middle - 8, f"<b>{_NAMES[touch.kernel]}</b>", anchor="right", size=13)
    canvas.text(_LEFT - 12, middle + 9, f"kernel {touch.kernel}", anchor="right", size=11, font_color=FAINT)
    boxes = [(_edge(unit), top + 14, _edge(unit) + _UNIT, top + 38) for unit in range(UNITS)]
    canvas.cells([box for unit, box in enumerate(boxes) if unit != touch.says], "#F4F4F4", _PLAIN)
    canvas.cells([boxes[touch.says]], tint(color), {"color": color, "width": 3})
    canvas.text(touch_x, top + 6, "▼", anchor="center", size=13, font_color=palette.BLACK)
    target = _edge(touch.says)
    if touch.offset and touch.align == touch.unit:  # something is rounded
        _arrow(canvas, touch_x, target, top + 6, color)
    x = _edge(UNITS) + 8
    canvas.text(x, middle - 8, f"<b>{'✓' if good else '✗'} index {count(touch.index)}</b>", size=13, font_color=color)
    canvas.text(x, middle + 9, _where(touch), size=11, font_color=FAINT)


def _where(touch: FirstTouch) -> str:
    """Which struct pages have that index."""
    if touch.align < touch.unit:
        return "one page of 4 KiB"
    return "on the head alone" if touch.marked == 1 else f"and so on, on {count(touch.marked)} pages"


def _arrow(canvas: Canvas, start: float, end: float, y: float, color: str) -> None:
    sign = 1 if end > start else -1
    canvas.figure.add_annotation(
        x=end, y=y, ax=start + 9 * sign, ay=y, axref="x", ayref="y", text="", showarrow=True,
        arrowhead=2, arrowwidth=2.5, arrowcolor=color, standoff=0,
    )  # fmt: skip


def _page(page: int) -> str:
    unit, at = divmod(page, 1 << PMD_ORDER)
    return f"huge page {unit}, page {at}"


def _index(case: RecordedFailure) -> str:
    if case.index == case.expected:
        return _page(case.index)
    return Html(f"<b>{_page(case.index)}</b> ✗")


def _told(case: RecordedFailure) -> str:
    if case.told is None:
        return Html("<b>nobody</b> ✗")
    unit = case.told // PMD_SIZE
    return f"huge page {unit}" if case.right else Html(f"<b>huge page {unit}</b> ✗")
