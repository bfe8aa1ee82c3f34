# SPDX-License-Identifier: GPL-2.0-only
"""How a pgmap lets go of its struct pages: the walk of memunmap_pages(), and a page that is held meanwhile.

::

    teardown_walk([teardown("5.16+3"), teardown("5.16+4", by_one=True), teardown("5.16+4")])
    held_table([unbind_while_held(name) for name in ("5.15", "5.17", "6.1")])
"""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from workbench.lab.teardown import Held, Page, Teardown
from workbench.text import count
from workbench.view import palette
from workbench.view.canvas import Canvas
from workbench.view.export import describe
from workbench.view.panels import FAINT
from workbench.view.summary import Table, mark, origin

_LEFT, _CELL, _GAP, _FOLD, _BETWEEN, _RIGHT = 16, 44, 3, 22, 18, 16
_TOP, _ROW = 4, 128
_LINE = {"color": palette.OUTLINE, "width": 1}
_PUT = {"color": palette.BLACK, "width": 2.5}
_INK_ON = {palette.VERMILION: "#FFFFFF"}


def teardown_walk(walks: Sequence[Teardown], width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """The struct pages of two compound pages, the walk over them a row for each kernel.

    Parameters
    ----------
    walks : sequence of Teardown
        From :func:`workbench.lab.teardown.teardown`, all of one size and order.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption, alt text and origin.
    """
    places = _places(walks[0].pages, walks[0].order)
    width = max(places.values()) + _CELL + _RIGHT
    canvas = Canvas(
        round(width),
        _TOP + _ROW * len(walks),
        "Unbinding a device: which struct pages lose a reference?",
        f"{origin('derived')} the walk drops a reference at each ▼; in each struct page its count, before → after",
        width_px,
        top_px=104,
    )
    for row, walk in enumerate(walks):
        _walk(canvas, walk, places, _TOP + row * _ROW)
    roles = {page.role for walk in walks for page in walk.pages}
    for role, swatch in palette.ROLES.items():
        if role in roles:
            canvas.cells([], swatch.fill, {"color": swatch.outline, "width": 1}, swatch.label)
    canvas.figure.layout.meta = {"origin": "derived"}
    return describe(
        canvas.figure,
        caption=(
            f"A device of {count(walks[0].nr_pages)} pages whose pgmap asks for compound pages of order "
            f"{walks[0].order} is unbound; nobody uses it. Some of its struct pages, the walk of memunmap_pages() "
            f"marked by triangles, and what it comes to. {mark('derived')} Derived: the engine's teardown on kernels "
            f"{', '.join(dict.fromkeys(walk.kernel for walk in walks))}; the mistake of version 3 is a switch."
        ),
        alt=" ".join(f"{_title(walk)}: {_verdict(walk)[1]}." for walk in walks),
    )


def teardown_table(walks: Sequence[Teardown]) -> Table:
    """What the walk counts, a row for each kernel and order.

    Parameters
    ----------
    walks : sequence of Teardown
        Of one size.
    """
    rows = []
    for walk in walks:
        offers = "–" if walk.offers is None else count(walk.offers)
        rows.append([walk.kernel, str(walk.order), count(walk.references), count(walk.puts), offers])
    return Table(
        f"{mark('derived')} Derived: a device of {count(walks[0].nr_pages)} pages is unbound. References: that the "
        "pgmap holds on itself; puts: of struct pages; offers to reschedule: calls of cond_resched() on the way.",
        ["kernel", "order asked for", "references", "puts", "offers to reschedule"],
        rows,
    )


def held_table(held: Sequence[Held]) -> Table:
    """A device is unbound while a pipe holds one of its pages: step by step, a column for each kernel.

    Parameters
    ----------
    held : sequence of Held
        From :func:`workbench.lab.teardown.unbind_while_held`.
    """
    rows = [
        ["count of the head before", *(count(each.held) for each in held)],
        ["unbind", *("returns" if each.finished else f"waits in {each.blocked_in}()" for each in held)],
        ["entry of the process", *("still there" if each.mapped else "gone" for each in held)],
        ["struct pages", *(f"{count(each.struct_pages)} stay" if each.struct_pages else "gone" for each in held)],
        [
            "the pipe is closed",
            *(each.released.partition(":")[0] + ": page fault" if each.released else "fine" for each in held),
        ],
        ["the unbind", *("is over" if each.finished_after else "still waits" for each in held)],
    ]
    return Table(
        f"{mark('derived')} Derived: a device is unbound while a pipe (vmsplice) holds a reference of its first page; "
        "then the pipe is closed. Time runs down.",
        ["", *(each.kernel for each in held)],
        rows,
        "l" * (1 + len(held)),
    )


def _places(pages: Sequence[Page], order: int) -> dict[int, float]:
    """Left edge of each struct page that is shown."""
    places, x, last = {}, float(_LEFT), -1
    for page in pages:
        if page.offset > last + 1:
            x += _FOLD
        elif page.offset and page.offset % (1 << order) == 0:
            x += _BETWEEN
        places[page.offset] = x
        x, last = x + _CELL + _GAP, page.offset
    return places


def _walk(canvas: Canvas, walk: Teardown, places: dict[int, float], top: float) -> None:
    good, words = _verdict(walk)
    canvas.text(_LEFT, top + 8, f"<b>{_title(walk)}</b>", size=14)
    cells_top = top + 38
    previous = -1
    for page in walk.pages:
        x = places[page.offset]
        if page.offset > previous + 1:
            canvas.text(x - _FOLD / 2 - 1, cells_top + 17, "⋯", anchor="center", size=15)
        previous = page.offset
        _page(canvas, page, x, cells_top)
    canvas.text(_LEFT, cells_top + 62, f"<b>{'✓' if good else '✗'} {words}</b>", size=13)


def _page(canvas: Canvas, page: Page, x: float, top: float) -> None:
    swatch = palette.ROLES[page.role]
    canvas.cells([(x, top, x + _CELL, top + 34)], swatch.fill, _PUT if page.put or page.died else _LINE)
    middle = x + _CELL / 2
    if page.put or page.died:
        canvas.text(middle, top - 8, "▼" if page.put else "<b>✕</b>", anchor="center", size=13 if page.put else 18)
    words = f"{page.before} → {page.after}" if page.put else str(page.after)
    ink = _INK_ON.get(swatch.fill, palette.BLACK)
    canvas.text(middle, top + 17, f"<b>{words}</b>", anchor="center", size=12, font_color=ink)
    canvas.text(middle, top + 43, count(page.offset), anchor="center", size=10, font_color=FAINT)


def _title(walk: Teardown) -> str:
    if walk.by_one:
        return "Version 3 of the series: compound pages made, teardown still page by page"
    compound = any(page.role == "head" for page in walk.pages)
    return f"Kernel {walk.kernel}: " + ("compound pages, head by head" if compound else "base pages, page by page")


def _verdict(walk: Teardown) -> tuple[bool, str]:
    """Whether all went well, and what happened."""
    if walk.crash:
        return False, f"after {count(walk.puts)} put it comes to a tail, whose head has no reference left: kernel BUG"
    return True, f"{count(walk.puts)} puts give back the pgmap's {count(walk.references)} references"
