# SPDX-License-Identifier: GPL-2.0-only
"""What the align of a device decides, three aligns side by side; and where the pieces of a device lie.

::

    three_aligns({align: (aligned_device("5.16+10", align), aligned_device("5.16+11", align)) for align in ALIGNS})
    pieces_map(grown_in_turns("5.16+11", "2M"))            # file above, physical memory below
    explore_pieces("1G", "512M", "5.16+11")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from workbench.abi.constants import PAGE_SHIFT
from workbench.lab.device_align import WHOLE, AlignedDevice, Piece, Region, grown_in_turns
from workbench.lab.fault_writes import FaultWrites
from workbench.mm.pgtable import Level
from workbench.text import count, size
from workbench.view import palette
from workbench.view.canvas import Canvas
from workbench.view.export import describe
from workbench.view.panels import FAINT, tint
from workbench.view.summary import Table, mark, origin

_LEFT_PX, _COLUMN_PX, _GAP_PX = 16, 246, 22
_LEVELS = (Level.PGD, Level.PUD, Level.PMD, Level.PTE)
_BOX_PX, _BOX_GAP_PX, _PAGE_PX, _PAGE_GAP_PX = 54, 8, 36, 4
_PASSED, _UNUSED = tint(palette.BLUE, 0.35), {"color": "#BBBBBB", "width": 1, "dash": "dot"}
_LINE = {"color": palette.OUTLINE, "width": 1}
_LEAF = {"color": palette.BLUE, "width": 3}
_WRITTEN = {"color": palette.BLACK, "width": 4}
_RULE = {"color": "#BBBBBB", "width": 1}

_BAR_PX, _MAP_PX = 34, 750
_DEVICES = (tint(palette.BLUE, 0.35), tint(palette.GREEN, 0.35))


def three_aligns(
    devices: Mapping[str, tuple[AlignedDevice, AlignedDevice]], width_px: int = palette.NOTEBOOK_PX
) -> go.Figure:
    """The first access to a device, a column for each align.

    Parameters
    ----------
    devices : mapping of str to (AlignedDevice, AlignedDevice)
        By align: without and with patch 11, from :func:`workbench.lab.device_align.aligned_device`.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption, alt text and origin.
    """
    canvas = Canvas(
        _LEFT_PX * 2 + len(devices) * (_COLUMN_PX + _GAP_PX) - _GAP_PX,
        470,
        "Three aligns of a device: one access, and what it leaves behind",
        f"{origin('derived')} page table and struct pages after the first access; sums for touching {size(WHOLE)}",
        width_px,
        top_px=124,
    )
    for number, (before, after) in enumerate(devices.values()):
        _column(canvas, _LEFT_PX + number * (_COLUMN_PX + _GAP_PX), before, after)
    words = "struct pages: those written to; references: what the pgmap takes on itself when the device is bound"
    canvas.text(_LEFT_PX, 456, words, size=11, font_color=FAINT)
    _roles(canvas, [one.first for pair in devices.values() for one in pair])
    canvas.figure.layout.meta = {"origin": "derived"}
    return describe(
        canvas.figure,
        caption=(
            f"Devices of {size(WHOLE)}, each with another align. A program reads one byte: the page table "
            "gets one entry, of the size of the align and no other. A thick frame is a struct page that the fault "
            "stores mapping and index to. Below: what it takes to touch every 4 KiB once. "
            f"{mark('derived')} Derived: the engine's probe and fault handler on kernels "
            f"{next(iter(devices.values()))[0].kernel} and {next(iter(devices.values()))[1].kernel}."
        ),
        alt=" ".join(_in_words(before, after) for before, after in devices.values()),
    )


def _column(canvas: Canvas, x: float, before: AlignedDevice, after: AlignedDevice) -> None:
    right = x + _COLUMN_PX
    canvas.text(x, 10, f"<b>align {size(after.align)}</b>", size=15)
    canvas.line([(x, 26), (right, 26)], **_RULE)
    canvas.text(x, 42, "page table", size=12, font_color=FAINT)
    for number, level in enumerate(_LEVELS):
        left = x + number * (_BOX_PX + _BOX_GAP_PX)
        leaf = level == after.path[-1]
        box = (left, 54, left + _BOX_PX, 80)
        if level in after.path:
            canvas.cells([box], _PASSED if leaf else "#FFFFFF", _LEAF if leaf else _LINE)
            words = f"<b>{level.name}</b>" if leaf else level.name
            canvas.text(left + _BOX_PX / 2, 67, words, "center", 12)
            if not leaf:
                canvas.line([(left + _BOX_PX, 67), (left + _BOX_PX + _BOX_GAP_PX, 67)], **_LINE)
        else:
            canvas.cells([box], "#FFFFFF", _UNUSED)
    canvas.text(x, 95, f"one {after.path[-1].name} entry maps {size(after.align)}", size=12)
    for top, one, name in ((122, before, "patches 1 to 10"), (216, after, "with patch 11")):
        canvas.text(x, top, f"struct pages, {name}", size=12, font_color=FAINT)
        _struct_pages(canvas, x, top + 12, one.first)
        canvas.text(x, top + 64, f"vmemmap_shift <b>{one.vmemmap_shift}</b>, {_stored(one.first)}", size=12)
    canvas.line([(x, 300), (right, 300)], **_RULE)
    canvas.text(x, 316, f"to touch every 4 KiB of {size(WHOLE)}", size=12, font_color=FAINT)
    canvas.text(right - 82, 336, "1 to 10", "right", 12, font_color=FAINT)
    canvas.text(right, 336, "with 11", "right", 12, font_color=FAINT)
    for row, (name, values) in enumerate(
        {
            "faults": (before.faults, after.faults),
            "stores": (before.stores, after.stores),
            "struct pages": (before.struct_pages, after.struct_pages),
            "references": (before.references, after.references),
        }.items()
    ):
        y = 358 + 22 * row
        canvas.text(x, y, name, size=12)
        old, new = map(count, values)
        canvas.text(right - 82, y, old, "right", 12)
        canvas.text(right, y, f"<b>{new}</b>" if new != old else new, "right", 12)


def _struct_pages(canvas: Canvas, x: float, top: float, fault: FaultWrites) -> None:
    written = set(fault.written.tolist())
    places = [(offset, role) for offset, role in enumerate(fault.roles)]
    last = fault.nr_pages - 1
    if last >= len(places):
        places.append((last, fault.roles[-1]))
    previous = -1
    for offset, role in places:
        if offset > previous + 1:
            canvas.text(x + 8, top + 15, "⋯", "center", 14)
            x += 20
        swatch = palette.ROLES[role]
        line = _WRITTEN if offset in written else {"color": swatch.outline, "width": 1}
        canvas.cells([(x + 2, top + 2, x + _PAGE_PX - 2, top + 28)], swatch.fill, line)
        canvas.text(x + _PAGE_PX / 2, top + 38, count(offset), "center", 10, font_color=FAINT)
        x, previous = x + _PAGE_PX + _PAGE_GAP_PX, offset


def _stored(fault: FaultWrites) -> str:
    return f"{count(len(fault.stores))} stores"


def _roles(canvas: Canvas, faults: Sequence[FaultWrites]) -> None:
    roles = {role for fault in faults for role in fault.roles}
    for role in palette.ROLES:
        if role in roles:
            swatch = palette.ROLES[role]
            canvas.cells([], swatch.fill, {"color": swatch.outline, "width": 1}, swatch.label)
    canvas.cells([], "#FFFFFF", _WRITTEN, "written by the fault")
    canvas.cells([], _PASSED, _LEAF, "entry made")


def _in_words(before: AlignedDevice, after: AlignedDevice) -> str:
    return (
        f"Align {size(after.align)}: one {after.path[-1].name} entry; without patch 11 {_stored(before.first)} to "
        f"{count(len(before.first.written))} struct pages, with it {_stored(after.first)} to "
        f"{count(len(after.first.written))}; touching {size(WHOLE)} takes {count(after.faults)} faults and "
        f"{count(before.stores)} stores without and {count(after.stores)} with patch 11."
    )


# -- pieces of a device ----------------------------------------------------------------------------------------


def pieces_map(region: Region, width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """The files of a region's devices above, its physical memory below, and which part lies where.

    Parameters
    ----------
    region : Region
        From :func:`workbench.lab.device_align.grown_in_turns`.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption, alt text and origin.
    """
    astray = [piece for piece in region.pieces if piece.mapped_start != piece.start]
    names = list(region.references)
    canvas = Canvas(
        _LEFT_PX * 2 + _MAP_PX,
        240 + (72 if astray else 0),
        f"{len(names)} devices of {size(region.size // len(names))} in {len(region.pieces)} pieces, "
        f"align {size(region.align)}",
        f"{origin('derived')} the devices' files above, physical memory below; to scale",
        width_px,
        top_px=76,
    )
    low, high = _span(region)
    fills = dict(zip(names, _DEVICES, strict=True))
    for number, name in enumerate(names):
        left = _LEFT_PX + number * (_MAP_PX + 20) / 2
        _file(canvas, region.of(name), left, (_MAP_PX - 20) / 2, fills[name], low, high)
    _memory(canvas, region, fills, low, high)
    if astray:
        _astray(canvas, region, astray, fills)
    canvas.figure.layout.meta = {"origin": "derived"}
    lost = "; the first page of the file reaches memory below its piece" if astray else ""
    return describe(
        canvas.figure,
        caption=(
            f"Two devices grew in turns until a region of {size(region.size)} was full, so that each got a new range "
            "every time. A file has no holes: its ranges stand in it one behind the other. A huge page lies in a "
            f"single range. {mark('derived')} Derived: a machine on kernel {region.kernel}, size and align set through "
            "sysfs; where the first byte of a range leads is read from a page table."
        ),
        alt=" ".join(
            f"{name} has {len(region.of(name))} pieces, the first at {region.of(name)[0].start:#x}; its pgmap takes "
            f"{count(references)} references{lost}."
            for name, references in region.references.items()
        ),
    )


def explore_pieces(align: str, behind_a_GiB: str, kernel: str) -> go.Figure:
    """:func:`pieces_map` for a notebook's controls; each device grows by whole pages.

    Parameters
    ----------
    align : str
    behind_a_GiB : str
        How far behind a multiple of 1 GiB the region begins.
    kernel : str
    """
    step = "1G" if align == "1G" else "512M"
    return pieces_map(grown_in_turns(kernel, align, "4G", step, behind_a_GiB))


def pieces_table(region: Region) -> Table:
    """The ranges of a region's devices, a row each.

    Parameters
    ----------
    region : Region
    """
    rows = [
        [
            piece.device,
            size(piece.pgoff << PAGE_SHIFT, exact=True),
            size(piece.size),
            f"{piece.start:#x}",
            f"{piece.mapped_start:#x}",
            "" if piece.start == piece.mapped_start else f"{size(piece.start - piece.mapped_start)} too low",
        ]
        for piece in region.pieces
    ]
    return Table(
        f"{mark('derived')} Derived: ranges as the kernel gave them, and the memory that a program reaches at the "
        "first byte of each.",
        ["device", "from byte of the file", "length", "physical address", "a program reaches", ""],
        rows,
        "lrrrrl",
    )


def hazards_table(region: Region) -> Table:
    """What the kernel does not check in a region, a row for each range.

    Parameters
    ----------
    region : Region
    """
    rows = [hazard.split(": ", 1) for hazard in region.hazards] or [["none", ""]]
    return Table(
        f"{mark('derived')} Derived: the hazards that the machine names on kernel {region.kernel}, align "
        f"{size(region.align)}.",
        ["where", "what the kernel lets pass"],
        rows,
        "ll",
    )


def _span(region: Region) -> tuple[int, int]:
    """First and last byte of the memory shown: whole pages of the align around the region."""
    low = min(region.start, *(piece.mapped_start for piece in region.pieces))
    return low, region.start + region.size


def _file(canvas: Canvas, pieces: Sequence[Piece], left: float, width: float, fill: str, low: int, high: int) -> None:
    total = sum(piece.size for piece in pieces)
    canvas.text(left, 10, f"<b>/dev/{pieces[0].device}</b>, {size(total)}", size=13)
    for piece in pieces:
        x0 = left + (piece.pgoff << PAGE_SHIFT) / total * width
        x1 = x0 + piece.size / total * width
        canvas.cells([(x0, 24, x1, 24 + _BAR_PX)], fill, _LINE)
        canvas.text((x0 + x1) / 2, 24 + _BAR_PX / 2, size(piece.size), "center", 11)
        y0, y1 = _memory_x(piece.start, low, high), _memory_x(piece.end + 1, low, high)
        canvas.figure.add_scatter(
            x=[x0, x1, y1, y0, x0],
            y=[24 + _BAR_PX, 24 + _BAR_PX, 150, 150, 24 + _BAR_PX],
            mode="lines",
            fill="toself",
            fillcolor=fill,
            opacity=0.45,
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )


def _memory_x(address: int, low: int, high: int) -> float:
    return _LEFT_PX + (address - low) / (high - low) * _MAP_PX


def _memory(canvas: Canvas, region: Region, fills: Mapping[str, str], low: int, high: int) -> None:
    if low < region.start:
        box = (_memory_x(low, low, high), 150, _memory_x(region.start, low, high), 150 + _BAR_PX)
        canvas.cells([box], "#FFFFFF", {"color": FAINT, "width": 1, "dash": "dot"})
        canvas.text((box[0] + box[2]) / 2, 150 + _BAR_PX / 2, "not its own", "center", 11)
    for piece in region.pieces:
        box = (_memory_x(piece.start, low, high), 150, _memory_x(piece.end + 1, low, high), 150 + _BAR_PX)
        canvas.cells([box], fills[piece.device], _LINE)
        canvas.text((box[0] + box[2]) / 2, 150 + _BAR_PX / 2, piece.device, "center", 11)
    step = 1 << 30
    for address in range(-(-low // step) * step, high + 1, step):
        x = _memory_x(address, low, high)
        canvas.line([(x, 150 + _BAR_PX), (x, 150 + _BAR_PX + 8)], **_LINE)
        anchor = "left" if address == low else "right" if address == high else "center"
        canvas.text(x, 150 + _BAR_PX + 17, size(address), anchor, 11, font_color=FAINT)
    canvas.text(_LEFT_PX, 226, "physical memory", size=12, font_color=FAINT)


def _astray(canvas: Canvas, region: Region, pieces: Sequence[Piece], fills: Mapping[str, str]) -> None:
    """Under the memory: where the first huge page of each piece really leads."""
    low, high = _span(region)
    canvas.text(_LEFT_PX, 254, f"<b>✗ what the first {size(region.align)} of each piece reaches</b>", size=13)
    for piece in pieces:
        left = _memory_x(piece.mapped_start, low, high)
        right = _memory_x(piece.mapped_start + region.align, low, high)
        canvas.cells([(left + 2, 270, right - 2, 270 + _BAR_PX)], fills[piece.device], _WRITTEN)
        canvas.text((left + right) / 2, 270 + _BAR_PX / 2, piece.device, "center", 11)
