# SPDX-License-Identifier: GPL-2.0-only
"""What one pin touches, cache line by cache line.

::

    lines_figure(three_kernels())                             # pin and release on three kernels, a cell a cache line
    explore_pin("5.17", "2M", "pin", 512, 0, False)        # any call, beside the kernel before the series
    pin_step(pin_and_release(device, 4), 11)               # the struct pages after one store
    traffic_table(recorded_traffic())                      # the same counts of real kernels

A struct page is one cache line.  Colours are those of the cost model: what is read, what has to be written back.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from workbench.abi import WORDS
from workbench.errors import WorkbenchError
from workbench.lab.pinning import (
    CALLS,
    PHASES,
    WINDOW,
    Mapped,
    Traffic,
    counts_while_held,
    mapped_device,
    pin_and_release,
    place,
)
from workbench.series import kernel
from workbench.text import count
from workbench.text import word as word_text
from workbench.view import cells, palette
from workbench.view.canvas import Canvas
from workbench.view.cost_model import PRICE_LOOKS
from workbench.view.export import describe
from workbench.view.panels import FAINT, INK, Panels
from workbench.view.summary import Table, mark, origin

BEFORE = "5.16"
"""What every other kernel is shown beside."""

SHOWN = 4
"""Struct pages taken apart: head, the two tails that describe the whole, and one like all the others."""

_COLUMNS, _ROWS = 32, 16
_CELL_PX = 8
_GRID_PX = _COLUMNS * _CELL_PX
_LEFT_PX, _BETWEEN_PX = 16, 34
_ROW_PX = 218
_VERBS = {"pin": "pin", "get": "get", "pin for long": "pin"}
_LOOKS = {
    "written": ("written (and so read)", PRICE_LOOKS["write"][1]),
    "read": ("read only", PRICE_LOOKS["read"][1]),
    "untouched": ("not touched", "#E8E8E8"),
}
"""What happened to a line, to its text in the legend and its colour."""


def three_kernels(call: str = "pin", nr_pages: int = WINDOW) -> list[xr.Dataset]:
    """The same call before the series, with it, and with one grab a compound page (never merged)."""
    made = [("5.16", False), ("5.17", False), ("5.17", True)]
    return [pin_and_release(mapped_device(name, head_once=once), nr_pages, call=call) for name, once in made]


def lines_figure(
    cases: Sequence[xr.Dataset],
    recorded: dict[tuple[str, str, bool], tuple[Traffic, Traffic]] | None = None,
    width_px: int = palette.NOTEBOOK_PX,
) -> go.Figure:
    """A grid of 512 cache lines for each case (columns) and phase (rows).

    Parameters
    ----------
    cases : sequence of xarray.Dataset
        Two or three, from :func:`workbench.lab.pinning.pin_and_release`; the same call of as many pages.
    recorded : mapping, optional
        From :func:`workbench.lab.pinning.recorded_traffic`: counts that a real kernel shares get its mark.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption, alt text and origin.

    Raises
    ------
    WorkbenchError
        The cases are not of one call.
    """
    asked = {(case.attrs["call"], case.attrs["nr_pages"], case.attrs["first"]) for case in cases}
    if len(asked) != 1:
        raise WorkbenchError(f"these are {len(asked)} different calls. Compare the same call on different kernels.")
    ((name, nr_pages, first),) = asked
    call = CALLS[name]
    width = 2 * _LEFT_PX + len(cases) * _GRID_PX + (len(cases) - 1) * _BETWEEN_PX
    pages = "1 page" if nr_pages == 1 else f"{count(nr_pages)} pages"
    long = " with FOLL_LONGTERM" if name == "pin for long" else ""
    canvas = Canvas(
        width,
        44 + 2 * _ROW_PX - 20,
        f"The cache lines of struct pages that one call for {pages} touches",
        f"a cell is a struct page, 64 bytes; {WINDOW} of them describe 2 MiB · {mark('derived')} counted by the engine"
        + (f" · {mark('captured')} as on a real kernel" if recorded else ""),
        width_px,
        top_px=104,
    )
    for column, case in enumerate(cases):
        left = _LEFT_PX + column * (_GRID_PX + _BETWEEN_PX)
        canvas.text(left, 10, f"<b>{_title(case)}</b>", size=13)
        canvas.text(left, 27, _subtitle(case), size=11, font_color=FAINT)
        for row, phase in enumerate(PHASES):
            top = 44 + row * _ROW_PX
            if column == 0:
                function = f"{call.name}(){long}" if row == 0 else f"{call.back}()"
                canvas.text(left, top + 8, f"<b>{_VERBS[name] if row == 0 else 'release'}</b>  {function}", size=12)
            _grid(canvas, case.sel(phase=phase), left, top + 20)
            _verdict(canvas, case, row, left, top + 20 + _ROWS * _CELL_PX + 12, recorded)
    phases = [_masks(case.sel(phase=phase)) for case in cases for phase in PHASES]
    for how, (label, fill) in _LOOKS.items():
        if any(masks[how].any() for masks in phases):
            marker = {"symbol": "square", "size": 12, "color": fill, "line": {"width": 0}}
            canvas.figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=label)
    origin = "derived, captured" if recorded else "derived"
    canvas.figure.layout.meta = {"origin": origin}
    return describe(
        canvas.figure,
        caption=(
            f"{call.name}(){long} of {pages} from page {count(first)} of a huge page on (top), and {call.back}() of "
            "the same pages (bottom), on a device of "
            + "; ".join(dict.fromkeys(place(case) for case in cases))
            + f". Shown are the first {WINDOW} struct pages of the mapping, in rows of {_COLUMNS}. {mark('derived')} "
            "Derived: every access counted by the engine."
            + (
                f" {mark('captured')} Captured: a real kernel of that release stored and touched as often."
                if recorded
                else ""
            )
        ),
        alt=" ".join(
            f"{_title(case)}, {_subtitle(case)}: {_VERBS[name] if phase == PHASES[0] else 'release'}: "
            f"{_said(case.sel(phase=phase))}."
            for case in cases
            for phase in PHASES
        ),
    )


def explore_pin(
    kernel: str, align: str, call: str, pages: int, from_page: int, one_grab: bool, struct_pages_in_device: bool
) -> go.Figure:
    """:func:`lines_figure` of a kernel beside the one before the series, for a notebook's controls.

    Parameters
    ----------
    kernel : str
        See :func:`workbench.series.kernel`.
    align, call : str
        See :func:`workbench.lab.pinning.mapped_device` and :data:`workbench.lab.pinning.CALLS`.
    pages, from_page : int
        Of the call.
    one_grab : bool
        With version 4's patch 8.
    struct_pages_in_device : bool
        Whether they lie in the device.
    """
    return lines_figure(
        [
            pin_and_release(_device(name, align, struct_pages_in_device, once), pages, from_page, call)
            for name, once in ((BEFORE, False), (kernel, one_grab))
        ]
    )


@lru_cache(maxsize=8)
def _device(name: str, align: str, altmap: bool, head_once: bool) -> Mapped:
    """A device to ask again: a pin and its release leave nothing behind but PG_referenced."""
    return mapped_device(name, align, altmap=altmap, head_once=head_once)


def _title(case: xr.Dataset) -> str:
    name = case.attrs["kernel"].removesuffix("+0")
    return f"{name}, one grab" if case.attrs["head_once"] else name


def _subtitle(case: xr.Dataset) -> str:
    if case.attrs["head_once"]:
        return "patch 8 of version 4, never merged"
    which = kernel(case.attrs["kernel"])
    pages = "a compound page" if which.tree.vmemmap_shift(case.attrs["align"]) else "base pages"
    return f"the series: {pages}" if which.name == "5.17" and pages != "base pages" else pages


def _masks(one: xr.Dataset) -> dict[str, np.ndarray]:
    """What happened in a phase, a key of ``_LOOKS``, to bool[page]."""
    written, read = one.written.values, one.read.values
    return {"written": written, "read": read & ~written, "untouched": ~(read | written)}


def _grid(canvas: Canvas, one: xr.Dataset, left: float, top: float) -> None:
    """The cells of one grid: a box for each run of equal cells in a row, and white lines between the cells."""
    for how, mask in _masks(one).items():
        boxes = [
            (left + begin * _CELL_PX, top + row * _CELL_PX, left + end * _CELL_PX, top + (row + 1) * _CELL_PX)
            for row, cells_of_row in enumerate(mask.reshape(_ROWS, _COLUMNS))
            for begin, end in _runs(cells_of_row)
        ]
        if boxes:
            canvas.cells(boxes, _LOOKS[how][1], {"width": 0})
    right, bottom = left + _GRID_PX, top + _ROWS * _CELL_PX
    xs, ys = np.arange(left, right + 1, _CELL_PX), np.arange(top, bottom + 1, _CELL_PX)
    upright = [(x, y) for at in xs.tolist() for x, y in ((at, top), (at, bottom), (None, None))]
    level = [(x, y) for at in ys.tolist() for x, y in ((left, at), (right, at), (None, None))]
    x, y = zip(*upright, *level, strict=True)
    line = {"color": "#FFFFFF", "width": 1}
    canvas.figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Begin and end of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _verdict(
    canvas: Canvas,
    case: xr.Dataset,
    row: int,
    left: float,
    top: float,
    recorded: dict[tuple[str, str, bool], tuple[Traffic, Traffic]] | None,
) -> None:
    one = case.isel(phase=row)
    lines = f"<b>{count(int(one.lines_written))}</b> written, {count(int(one.lines_touched))} touched"
    locked = f"<b>{count(int(one.locked))}</b> locked operation{'s' if int(one.locked) != 1 else ''}"
    captured = f"  {mark('captured')}" if recorded and as_recorded(case, row, recorded) else ""
    canvas.text(left, top, f"{mark('derived')} {lines}{captured}", size=12, font_color=INK)
    canvas.text(left, top + 18, locked, size=12, font_color=INK)


def as_recorded(case: xr.Dataset, row: int, recorded: dict[tuple[str, str, bool], tuple[Traffic, Traffic]]) -> bool:
    """Whether a real kernel of this release, or of the one before with the same code, counted the same.

    Parameters
    ----------
    case : xarray.Dataset
        A pin of :data:`workbench.lab.pinning.WINDOW` pages.
    row : int
        Of its phase.
    recorded : mapping
        From :func:`workbench.lab.pinning.recorded_traffic`.
    """
    if case.attrs["head_once"] or case.attrs["call"] != "pin" or case.attrs["nr_pages"] != WINDOW:
        return False
    align = {4096: "4K", 2 << 20: "2M", 1 << 30: "1G"}[case.attrs["align"]]
    name = _SAME_CODE.get(case.attrs["kernel"], case.attrs["kernel"])
    found = recorded.get((name, align, bool(case.attrs["altmap"])))
    one = case.isel(phase=row)
    counted = (int(one.locked), int(one.lines_touched), int(one.lines_written))
    return found is not None and counted == (found[row].stores, found[row].lines_touched, found[row].lines_written)


_SAME_CODE = {"5.16+0": "5.15"}
"""Release to the recorded one whose pinning code and layout it shares."""


def _said(one: xr.Dataset) -> str:
    return (
        f"{count(int(one.lines_written))} lines written, {count(int(one.lines_touched))} touched, "
        f"{count(int(one.locked))} locked operations"
    )


# store by store


def pin_step(pinned: xr.Dataset, store: int) -> go.Figure:
    """The first struct pages right after one store of a pin.

    Parameters
    ----------
    pinned : xarray.Dataset
        From :func:`workbench.lab.pinning.pin_and_release`.
    store : int
        Its number, from 0.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption and alt text.

    Raises
    ------
    WorkbenchError
        There is no such store.
    """
    stores = pinned.sizes["take_store"]
    if not 0 <= store < stores:
        raise WorkbenchError(f"this call makes stores 0 to {stores - 1}; got {store}.")
    which = kernel(pinned.attrs["kernel"])
    page, word = pinned.take_page.values[: store + 1], pinned.take_word.values[: store + 1]
    now = pinned.before.values.copy()
    now[page, word] = pinned.take_new.values[: store + 1]  # of several stores to a word the last one holds
    outlined = np.zeros((SHOWN, WORDS), bool)
    if page[-1] < SHOWN:
        outlined[page[-1], word[-1]] = True
    rows = list(zip(now[:SHOWN].tolist(), pinned.pfn.values[:SHOWN].tolist(), strict=True))
    roles = [which.abi.role(row, pfn) for row, pfn in rows]
    by, where = f"{pinned.take_site.values[store]}()", f"page {page[-1]} +{8 * int(word[-1])}"
    change = f"{word_text(int(pinned.take_old[store]))} → {word_text(int(pinned.take_new[store]))}"
    fig = Panels(
        [(34, (WORDS + 1) * cells.ROW_PX)],
        f"Kernel {which.name}, store {store} of {stores}: {by}",
        f"{origin('derived')} {where}: {change}",
        bottom_px=52,
    )
    cells.draw_cells(fig, fig.panels[0], which.abi, rows, outlined)
    held = f"{CALLS[pinned.attrs['call']].name}() of {pinned.attrs['nr_pages']} pages"
    fig.heading(fig.panels[0], f"{held}: the first {SHOWN} struct pages", "the outline is the word just stored")
    fig.legend(dict.fromkeys(roles))
    fig.figure.layout.meta = {"origin": "derived"}
    return describe(
        fig.figure,
        caption=(
            f"The first {SHOWN} struct pages right after store {store} of {held}, made by {by}: {where} went {change}. "
            "Each store is one locked operation. ref is the reference count, pins the pin counter of the compound page."
        ),
        alt=(
            f"A grid of {SHOWN} struct pages by eight words. {by} has just stored to {where}: {change}. The pages are "
            + ", ".join(palette.ROLES[role].label for role in roles)
            + "."
        ),
    )


def last_stores(*cases: xr.Dataset) -> go.Figure:
    """Struct pages of two kernels while the same pages are held, one above the other; stored words are outlined.

    Parameters
    ----------
    *cases : xarray.Dataset
        From :func:`workbench.lab.pinning.pin_and_release`.
    """
    fig = Panels(
        [(34, (WORDS + 1) * cells.ROW_PX)] + [(74, (WORDS + 1) * cells.ROW_PX)] * (len(cases) - 1),
        f"While {count(cases[0].attrs['nr_pages'])} pages are held: where the counts stand",
        f"{origin('derived')} the first {SHOWN} struct pages; outlined: words that the pin stored to",
        bottom_px=52,
    )
    said: list[str] = []
    seen: dict[str, None] = {}
    for panel, case in zip(fig.panels, cases, strict=True):
        which = kernel(case.attrs["kernel"])
        rows = list(zip(case.held.values[:SHOWN].tolist(), case.pfn.values[:SHOWN].tolist(), strict=True))
        outlined = np.zeros((SHOWN, WORDS), bool)
        near = case.take_page.values < SHOWN
        outlined[case.take_page.values[near], case.take_word.values[near]] = True
        cells.draw_cells(fig, panel, which.abi, rows, outlined)
        words = len(set(zip(case.take_page.values.tolist(), case.take_word.values.tolist(), strict=True)))
        told = f"{count(words)} words of {count(int(case.lines_written.values[0]))} struct pages stored to"
        fig.heading(panel, f"kernel {_title(case)}, {_subtitle(case)}", told)
        seen |= dict.fromkeys(which.abi.role(row, pfn) for row, pfn in rows)
        said.append(f"Kernel {_title(case)}: {told}")
    fig.legend(seen, changed=False)
    fig.figure.layout.meta = {"origin": "derived"}
    name, nr_pages = cases[0].attrs["call"], cases[0].attrs["nr_pages"]
    return describe(
        fig.figure,
        caption=(
            f"The first {SHOWN} struct pages while {CALLS[name].name}() holds {count(nr_pages)} pages. A base page "
            "counts a pin as 1,024 references. A compound page counts pins in a word of its own, beside references; "
            "both lie in the head's and a tail's struct page, whichever page is pinned."
        ),
        alt=". ".join(said) + ".",
    )


# tables


def traffic_table(recorded: dict[tuple[str, str, bool], tuple[Traffic, Traffic]], names: Sequence[str]) -> Table:
    """The engine's counts beside recorded ones, for 2 MiB pinned by ``gup_test -a -n 512``.

    Parameters
    ----------
    recorded : mapping
        From :func:`workbench.lab.pinning.recorded_traffic`.
    names : sequence of str
        Kernels among its keys.
    """
    rows = []
    for name in names:
        for align in ("4K", "2M"):
            case = pin_and_release(mapped_device(name, align))
            for row, phase in enumerate(("get", "put")):
                real, one = recorded[name, align, False][row], case.isel(phase=row)
                engine = [int(one.locked), int(one.lines_touched), int(one.lines_written)]
                seen = [round(value) for value in (real.stores, real.lines_touched, real.lines_written)]
                pairs = [f"{count(a)} | {count(b)}" for a, b in zip(engine, seen, strict=True)]
                rows.append([name, align, phase, *pairs, "equal" if as_recorded(case, row, recorded) else "differs"])
    return Table(
        f"{mark('derived')} Derived by the engine | {mark('captured')} captured from a real kernel, for 512 struct "
        "pages. All stores to struct pages are locked operations here.",
        ["kernel", "align", "phase", "stores", "lines touched", "lines written", ""],
        rows,
        "lllrrrl",
    )


def counts_table(names: Sequence[str], aligns: Sequence[str] = ("4K", "2M", "1G")) -> Table:
    """What the counts of a huge page become while all of it is pinned once, and how often that can be done."""
    rows = []
    for align in aligns:
        for name in names:
            one = counts_while_held(name, align)
            pins = "–" if one.pincount is None else count(one.pincount)
            cells = [count(one.idle), count(one.held), pins, count(one.room)]
            rows.append([align, name, count(one.pages), *cells])
    return Table(
        f"{mark('derived')} Derived: the engine pins a whole huge page once; counts are those of its first struct page "
        "and its compound page. The last column: how often it can be held at once before a count would turn negative.",
        ["align", "kernel", "struct pages", "refcount idle", "refcount held", "pin counter", "times at once"],
        rows,
        "llrrrrr",
    )
