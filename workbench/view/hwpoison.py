# SPDX-License-Identifier: GPL-2.0-only
"""A byte of a huge page fails: which struct page is marked, who is told which address, what is unmapped.

::

    poisoned_byte(poisoned("5.16+0"), poisoned("5.16+11"))     # two kernels, after the failure
    order_of_steps(poisoned("5.16+0"), poisoned("5.16+11"))    # locks held and steps done, top down
    explore_poison("2M", 20480, 4096, "5.16+11", False)       # any of it beside the kernel before the series

Huge pages of the device are columns: memory, and under it each process's entries for it.  Whatever lies
outside the shaded column has nothing to do with the byte that fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from workbench.lab.hwpoison import FAILS, UNITS, Poisoned, Recorded, Told, poisoned
from workbench.text import count, size
from workbench.view import palette
from workbench.view.canvas import Canvas
from workbench.view.export import describe
from workbench.view.panels import FAINT, INK, tint
from workbench.view.summary import Table, mark, origin

BEFORE = "5.16+0"
"""What every other kernel is shown beside."""

_COLUMN_PX, _GAP_PX, _LEFT_PX = 384, 20, 16
_UNIT_PX, _UNIT_GAP_PX = 122, 9
_PAGE_PX, _PAGE_GAP_PX, _FOLD_PX = 34, 3, 22
_ROW_PX = 74
_BAND, _MEMORY = "#EDEDED", "#C9C9C9"
_MARKED_LINE = {"color": palette.BLACK, "width": 4}
_LINE = {"color": palette.OUTLINE, "width": 1}
_KEPT, _KEPT_LINE = tint(palette.BLUE, 0.35), {"color": palette.BLUE, "width": 1.5}
_CLEARED_LINE = {"color": palette.BLUE, "width": 1.5, "dash": "dot"}
_WHO = {"p0": "p0 reads the byte", "p1": f"p1 maps from huge page {FAILS} on", "p2": "p2 asked to be told early"}
_CODES = {"BUS_MCEERR_AR": "action required", "BUS_MCEERR_AO": "action optional"}


@dataclass(frozen=True)
class _Column:
    """One kernel's half of the drawing."""

    canvas: Canvas
    left: float
    shown: Poisoned

    def unit(self, number: int) -> tuple[float, float]:
        """Left and right of a huge page."""
        left = self.left + number * (_UNIT_PX + _UNIT_GAP_PX)
        return left, left + _UNIT_PX


def poisoned_byte(left: Poisoned, right: Poisoned, width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """Two kernels after the same failure, side by side.

    Parameters
    ----------
    left, right : Poisoned
        From :func:`workbench.lab.hwpoison.poisoned`.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption, alt text and origin.
    """
    height = 222 + _ROW_PX * len(left.told) + 34
    at = left.pfn - left.fails_pfn
    canvas = Canvas(
        _LEFT_PX * 2 + _COLUMN_PX * 2 + _GAP_PX,
        height,
        f"A byte fails in 4 KiB page {count(at)} of a huge page of {size(left.align)}",
        f"{origin('derived')} after memory_failure(): struct pages, memory, and who is told what",
        width_px,
        top_px=152,
    )
    for number, shown in enumerate((left, right)):
        _draw(_Column(canvas, _LEFT_PX + number * (_COLUMN_PX + _GAP_PX), shown))
    _legend(canvas, left, right)
    canvas.figure.layout.meta = {"origin": "derived"}
    return describe(
        canvas.figure,
        caption=(
            f"Three processes map a device of {UNITS} huge pages; p0 reads a byte of huge page {FAILS} (shaded) that "
            f"fails; the huge page was first touched at its byte {count(left.first_touch)}. Top: some of its struct "
            "pages; a cross is the page of the byte, the thick frame is the one that gets PG_hwpoison. Below: entries "
            "of each process for each huge page; a black triangle is the address in the signal. "
            f"{mark('derived')} Derived: the engine's memory_failure() on kernels {left.kernel} and {right.kernel}. "
            "Heads and pages are not to scale."
        ),
        alt=" ".join(f"Kernel {shown.kernel}: {_told_in_words(shown)} {verdict(shown)[1]}." for shown in (left, right)),
    )


def explore_poison(
    align: str, poisoned_at: int, first_touched_at: int, kernel: str, next_page_touched: bool
) -> go.Figure:
    """:func:`poisoned_byte` of any kernel beside the one before the series, for a notebook's controls.

    Parameters
    ----------
    align : str
        Of the device, ``"2M"`` or ``"1G"``.
    poisoned_at, first_touched_at : int
        Bytes into the huge page.
    kernel : str
        See :func:`workbench.series.kernel`.
    next_page_touched : bool
        Whether p0 and p2 have an entry for the next huge page.
    """
    left, right = (poisoned(name, align, poisoned_at, first_touched_at, next_page_touched) for name in (BEFORE, kernel))
    return poisoned_byte(left, right)


def verdict(shown: Poisoned) -> tuple[bool, str]:
    """Whether all went well, and what happened, in a few words."""
    cleared = sum(len(each.before - each.after) for each in shown.told)
    if shown.crash:
        return False, "the kernel dies: nothing marked, nobody told"
    if not shown.outcome.signals:
        return False, f"nobody told, page still mapped: “{shown.outcome.result}”"
    if not shown.right:
        hit = next(each.hit(shown.align) for each in shown.told if each.signal)
        return False, f"huge page {hit} is told of and unmapped instead"
    return True, f"{cleared} entries cleared, p0 told: “{shown.outcome.result}”"


def _draw(column: _Column) -> None:
    canvas, shown = column.canvas, column.shown
    canvas.text(column.left, 8, f"<b>{_title(shown.kernel)}</b>", size=14)
    _struct_pages(column, 34)
    band_left, band_right = column.unit(FAILS)
    rows_end = 222 + _ROW_PX * len(shown.told)
    canvas.cells([(band_left - 4, 139, band_right + 4, rows_end - 4)], _BAND, {"width": 0})
    canvas.text(column.left, 147, "memory of the device", size=12, font_color=FAINT)
    _memory(column, 156)
    canvas.text(column.left, 208, "entries of each process", size=12, font_color=FAINT)
    for number, told in enumerate(shown.told):
        _process(column, told, 222 + number * _ROW_PX)
    good, words = verdict(shown)
    canvas.text(column.left, rows_end + 14, f"<b>{'✓' if good else '✗'} {words}</b>", size=13)


def _title(kernel: str) -> str:
    """A kernel's name as a reader of the series would say it."""
    if kernel == BEFORE:
        return "5.16, before the series"
    if kernel == "5.16+11":
        return "5.16 with all 11 patches"
    if kernel == "5.16+11-pgofffix":
        return "5.16 with all 11 patches, 5 repaired"
    return "5.16 with 2 to 11, without patch 1" if kernel == "5.16+=2,3,4,5,6,7,8,9,10,11" else f"kernel {kernel}"


def _struct_pages(column: _Column, top: float) -> None:
    canvas, shown = column.canvas, column.shown
    canvas.text(column.left, top, f"struct pages of huge page {FAILS}", size=12, font_color=FAINT)
    top, x, previous = top + 12, column.left, -1
    bottom = top + 26
    for offset, role in shown.pages:
        if offset > previous + 1:
            canvas.text(x + _FOLD_PX / 2 - 1, top + 13, "⋯", anchor="center", size=14)
            x += _FOLD_PX
        box = (x, top, x + _PAGE_PX, bottom)
        pfn = shown.fails_pfn + offset
        swatch = palette.ROLES[role]
        marked = pfn in shown.outcome.marked
        canvas.cells([box], swatch.fill, _MARKED_LINE if marked else _LINE)
        if pfn == shown.pfn:
            canvas.text(x + _PAGE_PX / 2, top + 13, "<b>✕</b>", anchor="center", size=17, font_color=palette.BLACK)
        if pfn == shown.pfn or len(count(offset)) < 5 or offset == shown.unit_pages - 1:
            canvas.text(x + _PAGE_PX / 2, bottom + 9, count(offset), anchor="center", size=10, font_color=FAINT)
        x, previous = x + _PAGE_PX + _PAGE_GAP_PX, offset
    for line, words in enumerate(_said_of_pages(shown)):
        canvas.text(column.left, bottom + 26 + 16 * line, words, size=12)
    low, high = column.unit(FAILS)
    canvas.line([(column.left, bottom + 52), (low - 4, 139)], color="#BBBBBB", width=1, dash="dot")
    canvas.line([(x, bottom + 52), (high + 4, 139)], color="#BBBBBB", width=1, dash="dot")


def _said_of_pages(shown: Poisoned) -> tuple[str, str]:
    offset = shown.looked_at - shown.fails_pfn
    which = f"page {count(offset)}"
    if shown.crash:
        return f"{which}, a tail, is looked at: mapping", f"<b>{shown.mapping:#x}</b> is no pointer"
    unit, page = divmod(shown.index, shown.unit_pages)
    place = f"huge page {unit}" + (f", page {count(page)}" if page else "")
    wrong = "" if unit == FAILS else " <b>(wrong)</b>"
    return (
        f"<b>{which}</b> is looked at and gets <b>PG_hwpoison</b>",
        f"index {shown.index:#x}: {place} of the file{wrong}",
    )


def _memory(column: _Column, top: float) -> None:
    canvas = column.canvas
    for number in range(UNITS):
        left, right = column.unit(number)
        canvas.cells([(left, top, right, top + 36)], _MEMORY, _LINE)
        failing = number == FAILS
        middle = (left + right) / 2
        canvas.text(middle, top + (25 if failing else 18), f"huge page {number}", anchor="center", size=12)
        if failing:
            x = left + 9 + (column.shown.pfn - column.shown.fails_pfn) / column.shown.unit_pages * (_UNIT_PX - 18)
            canvas.text(x, top + 10, "<b>✕</b>", anchor="center", size=16, font_color=palette.BLACK)


def _process(column: _Column, told: Told, top: float) -> None:
    canvas, align = column.canvas, column.shown.align
    canvas.text(column.left, top + 8, _WHO[told.name], size=12)
    for number in range(told.first, UNITS):
        left, right = column.unit(number)
        box = (left, top + 18, right, top + 38)
        if number in told.after:
            canvas.cells([box], _KEPT, _KEPT_LINE)
            words = "mapped"
        elif number in told.before:
            canvas.cells([box], "#FFFFFF", _CLEARED_LINE)
            words = "cleared"
        else:
            canvas.cells([box], "rgba(0,0,0,0)", {"color": "#BBBBBB", "width": 1})
            words = ""
        canvas.text((left + right) / 2, top + 28, words, anchor="center", size=11)
    hit = told.hit(align)
    if told.signal is None or hit is None:
        canvas.text(column.left, top + 50, "no signal", size=12, font_color=FAINT)
        return
    left, _ = column.unit(hit)
    offset = (told.signal.addr - told.start) % align
    x = left + 9 + offset / align * (_UNIT_PX - 18)
    canvas.text(x, top + 43, "▲", anchor="center", size=12, font_color=palette.BLACK)
    where = f"huge page {hit}" + (f" + {size(offset)}" if offset else ", start")
    canvas.text(
        column.left,
        top + 58,
        f"{told.signal.name}: {where}, {size(1 << told.signal.lsb)} lost, {_CODES[told.signal.code]}",
        size=12,
    )


def _told_in_words(shown: Poisoned) -> str:
    parts = []
    for told in shown.told:
        hit = told.hit(shown.align)
        parts.append(f"{told.name} is told nothing" if hit is None else f"{told.name} is told of huge page {hit}")
    marked = ", ".join(f"page {count(pfn - shown.fails_pfn)}" for pfn in shown.outcome.marked) or "no struct page"
    return f"{marked} marked; {', '.join(parts)};"


def _legend(canvas: Canvas, left: Poisoned, right: Poisoned) -> None:
    roles = {role for shown in (left, right) for _, role in shown.pages}
    for role in palette.ROLES:
        if role in roles:
            swatch = palette.ROLES[role]
            canvas.cells([], swatch.fill, {"color": swatch.outline, "width": 1}, swatch.label)
    canvas.cells([], _KEPT, _KEPT_LINE, "entry")
    canvas.cells([], "#FFFFFF", _CLEARED_LINE, "entry cleared")
    canvas.cells([], "#FFFFFF", _MARKED_LINE, "PG_hwpoison")
    for symbol, name in (("x-thin", "byte that fails"), ("triangle-up", "address in the signal")):
        marker = {"symbol": symbol, "size": 10, "color": palette.BLACK, "line": {"color": palette.BLACK, "width": 2}}
        canvas.figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=name)


def marks_table(recorded: Sequence[Recorded]) -> Table:
    """Which struct page real kernels marked, a row for each kind of memory.

    Parameters
    ----------
    recorded : sequence of Recorded
        From :func:`workbench.lab.hwpoison.recorded_marks`.
    """
    rows = []
    for each in recorded:
        told = "no signal" if each.told is None else f"byte {count(each.told)}"
        role = palette.ROLES[each.role].label
        rows.append([each.memory, each.kernel, count(each.page), role, ", ".join(map(count, each.marked)), told])
    return Table(
        f"{mark('captured')} Captured: one 4 KiB page of a huge page of 2 MiB poisoned by MADV_HWPOISON, its struct "
        "pages read afterwards. Pages and bytes count from the start of the huge page.",
        ["memory", "kernel", "page that failed", "which is now a", "page marked", "address told"],
        rows,
        "lrrlrr",
    )


# -- the order of locks and checks ---------------------------------------------------------------------------

_STEP_PX, _BAR_PX, _BARS = 36, 13, 3
_LOCK_FILLS = (palette.BLUE, palette.GREEN, palette.PURPLE, palette.BLACK)


def order_of_steps(left: Poisoned, right: Poisoned, width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """What memory_failure() did on two kernels, top down, with the locks it held as bars.

    Parameters
    ----------
    left, right : Poisoned
        From :func:`workbench.lab.hwpoison.poisoned`.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption, alt text and origin.
    """
    most = max(len(shown.outcome.steps) for shown in (left, right))
    canvas = Canvas(
        _LEFT_PX * 2 + _COLUMN_PX * 2 + _GAP_PX,
        30 + _STEP_PX * most,
        "What memory_failure() does, in order",
        f"{origin('derived')} time runs down; a bar lasts as long as a lock or a reference is held",
        width_px,
        top_px=80,
    )
    for number, shown in enumerate((left, right)):
        x = _LEFT_PX + number * (_COLUMN_PX + _GAP_PX)
        canvas.text(x, 8, f"<b>{_title(shown.kernel)}</b>", size=14)
        _steps(canvas, x, shown)
    canvas.figure.layout.meta = {"origin": "derived"}
    last = [f"kernel {shown.kernel}: {', '.join(step.what for step in shown.outcome.steps)}" for shown in (left, right)]
    return describe(
        canvas.figure,
        caption=(
            f"The steps of memory_failure() for one page of a device, as the engine did them on kernels {left.kernel} "
            f"and {right.kernel}; a bar begins where a lock or reference is taken. {mark('derived')} Derived. "
            "The process is told while the pgmap's reference is held; what was unmapped can be faulted again at once."
        ),
        alt="Two lists of steps from top to bottom. " + "; ".join(last) + ".",
    )


def _steps(canvas: Canvas, x: float, shown: Poisoned) -> None:
    held: list[int] = []
    steps = shown.outcome.steps
    for row, step in enumerate(steps):
        y = 30 + row * _STEP_PX
        if step.kind == "unlock":
            _bar(canvas, x, held.pop(), row, len(held))
        elif step.kind == "lock":
            held.append(row)
        words = f"<b>{step.what}</b>" if step.kind in ("store", "signal") else step.what
        canvas.text(x + _BARS * _BAR_PX + 8, y + 10, words, size=13, font_color=INK)
        if step.found:
            canvas.text(x + _BARS * _BAR_PX + 8, y + 25, step.found, size=11, font_color=FAINT)
    while held:  # the kernel died holding these
        _bar(canvas, x, held.pop(), len(steps) - 1, len(held))


def _bar(canvas: Canvas, x: float, first: int, last: int, depth: int) -> None:
    left = x + depth * _BAR_PX
    box = (left, 30 + first * _STEP_PX + 4, left + _BAR_PX - 4, 30 + last * _STEP_PX + 16)
    canvas.cells([box], _LOCK_FILLS[depth], {"width": 0})
