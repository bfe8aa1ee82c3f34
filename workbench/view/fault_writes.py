# SPDX-License-Identifier: GPL-2.0-only
"""What one page fault stores into struct pages, and when: before or after its entry is in the page table.

::

    fault_timeline([fault_writes(kernel) for kernel in ("5.16+8", "5.16+9", "5.16+11")])
    explore_fault("2M", 0, "5.16+9", VmFault.OOM)          # one kernel beside the one before patch 9
    writes_table([...]), failures_table([...]), later_table({...})

A lane a kernel.  Time runs to the right, one store a unit, the same in every lane; the struct pages of the
huge page run down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from workbench.lab.fault_writes import FaultWrites, LaterFault, fault_writes
from workbench.mm.mmap import VmFault
from workbench.text import count, size
from workbench.view import palette
from workbench.view.canvas import Canvas
from workbench.view.export import describe
from workbench.view.panels import FAINT, INK, tint
from workbench.view.summary import Table, mark, origin

BEFORE = "5.16+8"
"""The last kernel that stores after the entry."""

_LEFT_PX, _TIME_PX, _AFTER_PX, _ASIDE_PX = 16, 630, 66, 92
_FIRST_PX, _LANE_PX, _LANE_GAP_PX = 44, 96, 72
_STEPS = 512
"""Struct pages that the edge of an area is drawn through at most."""
_WAITS, _MAPPED = palette.BLACK, tint(palette.BLUE, 0.35)
_EDGE = {"color": palette.OUTLINE, "width": 1}
_LATE, _ENTRY = {"color": palette.OUTLINE, "width": 2}, {"color": palette.BLUE, "width": 3}
_NAMES = {f"5.16+{n}": f"5.16 with patches 1 to {n}" for n in range(2, 12)}


def fault_timeline(faults: Sequence[FaultWrites], width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """Lanes of stores and the moment of the entry, one for each kernel.

    Parameters
    ----------
    faults : sequence of FaultWrites
        Of one align, from :func:`workbench.lab.fault_writes.fault_writes`.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption, alt text and origin.
    """
    most = max(max(len(fault.stores) for fault in faults), 1)
    unit = size(faults[0].align)
    canvas = Canvas(
        _LEFT_PX + _TIME_PX + _AFTER_PX + _ASIDE_PX,
        _FIRST_PX + (_LANE_GAP_PX + _LANE_PX) * len(faults),
        f"The first fault of a page of {unit}: what is stored, and when",
        f"{origin('derived')} time runs right, in stores; the page's {_pages(faults[0].nr_pages)} from top to bottom",
        width_px,
        top_px=100,
    )
    canvas.cells([], _WAITS, {"width": 0}, "in the page table, mapping and index not yet set")
    canvas.cells([], _MAPPED, _EDGE, "in the page table, both set")
    canvas.cells([], "#FFFFFF", _EDGE, "not in the page table")
    for number, fault in enumerate(faults):
        _lane(canvas, fault, _FIRST_PX + number * (_LANE_PX + _LANE_GAP_PX), most)
    _axis(canvas, _FIRST_PX + (_LANE_PX + _LANE_GAP_PX) * len(faults) - 24, most)
    canvas.figure.layout.meta = {"origin": "derived"}
    return describe(
        canvas.figure,
        caption=(
            f"One access to a page of {unit} of a device that nobody touched before. The handler finds the pfn at 0 on "
            "the time axis, stores page->mapping and page->index, and puts the entry into the page table (blue line). "
            "Black: struct pages that every processor can reach through the entry although their words are missing. "
            f"{mark('derived')} Derived: the stores of the engine's fault handler in their order; the place of the "
            "entry among them from a second run in which no entry can be made."
        ),
        alt=" ".join(f"{_name(fault)}: {_said(fault)}." for fault in faults),
    )


def explore_fault(align: str, first_touched_at: int, kernel: str, insertion: VmFault) -> go.Figure:
    """:func:`fault_timeline` of a kernel under the one before patch 9, for a notebook's controls.

    Parameters
    ----------
    align : str
    first_touched_at : int
        Bytes into the page.
    kernel : str
    insertion : VmFault
        What it answers; 0: it succeeds.
    """
    kernels = [BEFORE] if kernel == BEFORE else [BEFORE, kernel]
    return fault_timeline([fault_writes(each, align, first_touched_at, insertion) for each in kernels])


def writes_table(faults: Sequence[FaultWrites]) -> Table:
    """Stores of one fault, a row for each kernel.

    Parameters
    ----------
    faults : sequence of FaultWrites
        In the order of the series: each row is held against the one above it.
    """
    rows = []
    for number, fault in enumerate(faults):
        above = faults[number - 1] if number else None
        same = "" if above is None else "same" if _same(above, fault) else "differs"
        rows.append(
            [
                size(fault.align),
                _name(fault),
                count(len(fault.stores)),
                count(len(fault.written)),
                count(fault.before_entry),
                count(fault.exposed),
                same,
            ]
        )
    return Table(
        f"{mark('derived')} Derived: stores to struct pages by the first fault of a page. Exposed: struct pages that "
        "the entry leads to before their words are set. Last column: pages, words, order and place of the entry, held "
        "against the row above.",
        ["align", "kernel", "stores", "struct pages written", "before the entry", "exposed", "stores of the row above"],
        rows,
        "llrrrrl",
    )


def failures_table(faults: Sequence[FaultWrites]) -> Table:
    """What stays where the entry cannot be made, a row for each kernel.

    Parameters
    ----------
    faults : sequence of FaultWrites
        With an injected failure.
    """
    rows = [
        [
            _name(fault),
            fault.result,
            "none" if fault.entry is None else fault.entry.name,
            f"{fault.mapping:#x}" if fault.mapping else "0",
            count(len(fault.written)),
        ]
        for fault in faults
    ]
    return Table(
        f"{mark('derived')} Derived: every insertion of an entry fails, by injection. Mapping: of the first struct "
        "page, afterwards. It is cleared only when the device's struct pages are made anew.",
        ["kernel", "the process gets", "entry", "page->mapping", "struct pages written"],
        rows,
        "lllrr",
    )


def later_table(faults: Mapping[str, Sequence[LaterFault]]) -> Table:
    """Later faults of the same page, a row for each fault and kernel.

    Parameters
    ----------
    faults : mapping of str to sequence of LaterFault
        By kernel, from :func:`workbench.lab.fault_writes.later_faults`.
    """
    rows = [
        [_NAMES.get(kernel, kernel), each.what, count(each.stores), count(each.index)]
        for kernel, several in faults.items()
        for each in several
    ]
    return Table(
        f"{mark('derived')} Derived: stores to struct pages by one fault after another of the same page. Index: of its "
        "first struct page, afterwards.",
        ["kernel", "fault", "stores", "page->index"],
        rows,
        "llrr",
    )


def _name(fault: FaultWrites) -> str:
    return _NAMES.get(fault.kernel, fault.kernel)


def _same(one: FaultWrites, other: FaultWrites) -> bool:
    return one.before_entry == other.before_entry and np.array_equal(one.stores, other.stores)


def _said(fault: FaultWrites) -> str:
    """What happened, in one line."""
    stores = f"{count(len(fault.stores))} stores to {_pages(len(fault.written))}"
    if fault.compound and len(fault.written) == 1:
        stores = f"{count(len(fault.stores))} stores, to the head alone"
    if fault.entry is None:
        kept = f"{stores} stay" if len(fault.stores) else "nothing is stored"
        return f"no entry ({fault.result}); {kept}"
    if fault.exposed:
        waits = f"for up to {count(fault.longest_exposed)} stores"
        return f"the entry, then {stores}: {_pages(fault.exposed)} exposed, {waits}"
    return f"{stores}, then the entry: none exposed"


def _pages(number: int) -> str:
    return f"{count(number)} struct page{'s' if number != 1 else ''}"


def _lane(canvas: Canvas, fault: FaultWrites, top: float, most: int) -> None:
    bottom = top + _LANE_PX
    verdict = "✗ " if fault.exposed else "✓ " if fault.entry is not None else ""
    canvas.text(_LEFT_PX, top - 34, f"<b>{_name(fault)}</b>", size=14)
    canvas.text(_LEFT_PX, top - 14, verdict + _said(fault), size=12)
    right = _LEFT_PX + _TIME_PX + _AFTER_PX
    entry = _x(fault.before_entry, most)
    canvas.cells([(_LEFT_PX, top, right, bottom)], "#FFFFFF", _EDGE)
    if fault.entry is not None:
        canvas.cells([(entry, top, right, bottom)], _MAPPED, {"width": 0})
    line = _described(fault, top, most)
    if line and fault.exposed:
        _area(canvas, [*line, (entry, bottom), (entry, top)])
    elif line:
        xs, ys = zip(*line, strict=True)
        canvas.figure.add_scatter(x=xs, y=ys, mode="lines", line=_LATE, hoverinfo="skip", showlegend=False)
    if fault.entry is not None:
        canvas.cells([(entry - 1.5, top - 4, entry + 1.5, bottom + 4)], palette.BLUE, {"width": 0})
        canvas.text(entry + 4, bottom + 11, f"{fault.entry.name} entry", size=11, font_color=palette.BLUE)
    _remark(canvas, fault, bottom)
    canvas.text(right + 6, top + 7, "page 0", size=11, font_color=FAINT)
    if fault.nr_pages > 1:
        canvas.text(right + 6, bottom - 7, f"page {count(fault.nr_pages - 1)}", size=11, font_color=FAINT)


def _remark(canvas: Canvas, fault: FaultWrites, bottom: float) -> None:
    """What the largest area of a lane means."""
    if fault.exposed:
        words, colour = "any processor can find a page here that has no mapping", "#FFFFFF"
    elif fault.entry is None:
        words, colour = "no entry comes; what was stored stays" if len(fault.stores) else "no entry comes", INK
    elif fault.compound:
        words, colour = f"the {count(fault.nr_pages - 1)} tails are asked through their head", INK
    else:
        words, colour = "nobody can reach the page yet", INK
    canvas.text(_LEFT_PX + 14, bottom - 16, words, size=12, font_color=colour)


def _x(stores: float, most: int) -> float:
    return _LEFT_PX + stores / most * _TIME_PX


def _described(fault: FaultWrites, top: float, most: int) -> list[tuple[float, float]]:
    """The edge between struct pages that have their words and those that do not, as a line down the lane."""
    if not len(fault.stores):
        return []
    pages, when = fault.written, fault.described_at
    chosen = np.unique(np.linspace(0, len(pages) - 1, min(len(pages), _STEPS)).astype(int))
    high = _LANE_PX / fault.nr_pages
    line = []
    for at in chosen.tolist():
        x, y = _x(int(when[at]), most), top + int(pages[at]) * high
        line += [(x, y), (x, y + high)]
    return line


def _area(canvas: Canvas, points: Sequence[tuple[float, float]]) -> None:
    xs, ys = zip(*[*points, points[0]], strict=True)
    canvas.figure.add_scatter(
        x=xs, y=ys, mode="lines", fill="toself", fillcolor=_WAITS, line={"width": 0}, hoverinfo="skip", showlegend=False
    )


def _axis(canvas: Canvas, top: float, most: int) -> None:
    ticks = sorted({round(most * part / 4) for part in range(5)})
    for tick in ticks:
        canvas.text(_x(tick, most), top, count(tick), "center", 11, font_color=FAINT)
    canvas.text(_LEFT_PX + _TIME_PX + _AFTER_PX + 6, top, "stores", size=11, font_color=FAINT)
