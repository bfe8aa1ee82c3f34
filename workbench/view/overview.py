# SPDX-License-Identifier: GPL-2.0-only
"""The problem in one picture: a 2 MiB page of a device and its 512 struct pages, on three kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from workbench import text
from workbench.abi import STRUCT_PAGE_BYTES, Role
from workbench.mm.sparse_vmemmap import STRUCT_PAGES_PER_PAGE
from workbench.view import palette
from workbench.view.canvas import Canvas
from workbench.view.cost import STAGE_NAMES
from workbench.view.export import describe

_WIDTH, _HEIGHT = 1200, 446
_INSET, _LEFT, _COLUMN, _GAP = 16, 316, 280, 14
_GRID_TOP, _ROW = 114, 17
_SHOWN = (Role.ZONE_DEVICE, Role.HEAD, Role.FIRST_TAIL, Role.SECOND_TAIL, Role.TAIL)


def overview_figure(pages: Sequence[xr.Dataset], cost: xr.Dataset, width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """Three kernels side by side: the same mapping, the same struct pages, what differs in them.

    Parameters
    ----------
    pages : sequence of xarray.Dataset
        From :func:`workbench.lab.huge_page.huge_page`, one a kernel: before, after, with the follow-up.
    cost : xarray.Dataset
        Of a device with an align of 2 MiB, from :func:`workbench.lab.device_cost.device_cost`.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption, alt text and origin.
    """
    nr_pages = pages[0].sizes["page"]
    canvas = Canvas(
        _WIDTH,
        _HEIGHT,
        f"One page-table entry, {nr_pages} struct pages",
        "A device mapped by entries of 2 MiB has a struct page for each 4 KiB all the same.<br>"
        "The series makes them one compound page; only the follow-up makes them take less memory.",
        width_px,
        top_px=132,
    )
    boxes: dict[str, list[tuple[float, float, float, float]]] = {role: [] for role in _SHOWN}
    for column, page in enumerate(pages):
        left = _LEFT + column * (_COLUMN + _GAP)
        _header(canvas, left, page)
        _collect(boxes, left, page)
    for role in _SHOWN:
        swatch = palette.ROLES[role]
        canvas.cells(boxes[role], swatch.fill, {"color": "#FFFFFF", "width": 0.6}, swatch.label)
    canvas.figure.add_scatter(
        x=[None],
        y=[None],
        mode="markers",
        name="all numbers derived",
        **palette.provenance_style("derived", palette.BLACK),
    )
    for column, page in enumerate(pages):
        _shared_rows(canvas, _LEFT + column * (_COLUMN + _GAP), page)
    _left_labels(canvas)
    _facts(canvas, pages, cost)
    size = text.size(int(cost.size[0]))
    canvas.figure.layout.meta = {"origin": "derived"}
    memory = [text.size(int(nbytes)) for nbytes in cost.distinct_physical_bytes.values]
    return describe(
        canvas.figure,
        caption=(
            "Every small cell is a struct page of 64 bytes, coloured by the role that its bytes give it; a row of 64 "
            f"cells is 4 KiB of memory. ▲ Derived: the engine initialised these struct pages as kernels 5.16, 5.17 and "
            f"6.1 do; the last row counts a whole device of {size}."
        ),
        alt=(
            f"Three grids of {nr_pages} cells, the struct pages of one 2 MiB page. Before the series all are base "
            "pages. With it one is the head, the others are tails. With the follow-up the grid is the same, but six "
            f"of its eight rows share the memory of row 2. A device of {size} has {memory[0]} of struct pages before, "
            f"{memory[1]} with the series and {memory[2]} with the follow-up."
        ),
    )


def _header(canvas: Canvas, left: float, page: xr.Dataset) -> None:
    """Kernel, and the device memory with the one entry that maps it."""
    canvas.text(left, 14, f"<b>{STAGE_NAMES[page.attrs['stage']]}</b>, {page.attrs['kernel']}", size=15)
    canvas.cells([(left, 40, left + _COLUMN, 72)], "#FFFFFF", {"color": palette.OUTLINE, "width": 1.5})
    canvas.text(left + _COLUMN / 2, 56, "2 MiB, one page-table entry", "center")
    for x in (left, left + _COLUMN):
        canvas.line([(x, 74), (x, _GRID_TOP - 3)], color=palette.OUTLINE, width=1, dash="dot")
    tails = int(np.isin(page.role.values, (Role.FIRST_TAIL, Role.SECOND_TAIL, Role.TAIL)).sum())
    heads = int((page.role.values == Role.HEAD).sum())
    pages = f"{heads} head and {tails} tails" if tails else f"{page.sizes['page']} base pages"
    canvas.text(left + _COLUMN / 2, 94, pages, "center")


def _collect(boxes: dict[str, list[tuple[float, float, float, float]]], left: float, page: xr.Dataset) -> None:
    """The cell of each struct page into the list of its role."""
    width = _COLUMN / STRUCT_PAGES_PER_PAGE
    for at, role in enumerate(page.role.values):
        row, column = divmod(at, STRUCT_PAGES_PER_PAGE)
        x, y = left + column * width, _GRID_TOP + row * _ROW
        boxes[role].append((x, y, x + width, y + _ROW - 2))


def _shared_rows(canvas: Canvas, left: float, page: xr.Dataset) -> None:
    """Rows that use another row's memory are paled."""
    first = page["first"].values
    shared = np.flatnonzero(first != np.arange(len(first)))
    if not shared.size:
        return
    top, bottom = _GRID_TOP + int(shared[0]) * _ROW, _GRID_TOP + (int(shared[-1]) + 1) * _ROW - 2
    box = (left, top, left + _COLUMN, bottom)
    canvas.cells([box], "rgba(255,255,255,0.8)", {"color": palette.OUTLINE, "width": 1, "dash": "dash"})
    canvas.text(
        left + _COLUMN / 2,
        (top + bottom) / 2,
        f"<b>{len(shared)} rows take no memory:</b><br>they show row {int(first[shared[0]]) + 1} again",
        "center",
    )


def _left_labels(canvas: Canvas) -> None:
    canvas.text(_INSET, 14, "kernel")
    canvas.text(_INSET, 56, "memory of the device")
    row = f"one row: {STRUCT_PAGES_PER_PAGE} × {STRUCT_PAGE_BYTES} B = 4 KiB"
    canvas.text(_INSET, _GRID_TOP + 4 * _ROW, f"its struct pages<br><span style='font-size:11px'>{row}</span>")


def _facts(canvas: Canvas, pages: Sequence[xr.Dataset], cost: xr.Dataset) -> None:
    """Rows of numbers under the grids; what differs from the kernel to the left is bold."""
    rows = [
        ("with a refcount above 0", [text.count(int((page.refcount > 0).sum())) for page in pages]),
        ("references held on the device", [text.count(int(page.pgmap_refs)) for page in pages]),
        ("struct pages initialised", [text.count(int(page.struct_pages_initialised)) for page in pages]),
        ("memory of these struct pages", [text.size(_memory(page)) for page in pages]),
        (
            f"the same for a device of {text.size(int(cost.size[0]))}",
            [text.size(int(nbytes)) for nbytes in cost.distinct_physical_bytes.values],
        ),
    ]
    top = _GRID_TOP + 8 * _ROW + 34
    for row, (label, values) in enumerate(rows):
        y = top + row * 34
        canvas.line([(_INSET, y - 17), (_WIDTH - _INSET, y - 17)], color="#CCCCCC", width=1)
        canvas.text(_INSET, y, label, size=12)
        for column, value in enumerate(values):
            changed = column and value != values[column - 1]
            shown = f"<b>{value}</b>" if changed else value
            canvas.text(_LEFT + column * (_COLUMN + _GAP), y, shown, size=19 if changed else 15)


def _memory(page: xr.Dataset) -> int:
    return int(np.unique(page["first"].values).size) * text.PAGE_SIZE
