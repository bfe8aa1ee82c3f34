# SPDX-License-Identifier: GPL-2.0-only
"""Stores in order: which C function stores to which word of which struct page, and what a later store wipes.

::

    init_trace(trace_compound("5.17"), trace_head_first("5.17"))    # why the head is prepared so late
    who_stores(before, after)                                       # the same stores by other functions

Time runs to the right, one column a store; memory runs down, one row a word, eight rows a struct page.  The
bar on the left of a page is its role; the fill of a store is the C function that made it (:data:`FUNCTIONS`),
in hues that no role in these figures has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from workbench.abi import WORDS, Role
from workbench.lab.head_order import HEAD_PART, Wiped, wiped, words_lost
from workbench.mm.events import Site
from workbench.series import Kernel, kernel
from workbench.text import count
from workbench.text import pfn as pfn_text
from workbench.text import word as word_text
from workbench.view import palette, words
from workbench.view.export import describe
from workbench.view.panels import FAINT, INK, Panel, Panels
from workbench.view.summary import mark, origin


@dataclass(frozen=True, slots=True)
class Look:
    """How the stores of one C function are drawn: legend text, fill and outline."""

    label: str
    fill: str
    outline: str


_INIT = Look("__init_zone_device_page()", "#C4C4C4", "#9A9A9A")
FUNCTIONS: dict[str, Look] = {
    Site.mm_zero_struct_page.c_name: Look("mm_zero_struct_page()", "#FFFFFF", "#777777"),
    **{
        site.c_name: _INIT
        for site in (
            Site.set_page_links,
            Site.init_page_count,
            Site.page_mapcount_reset,
            Site.page_cpupid_reset_last,
            Site.INIT_LIST_HEAD,
            Site.SetPageReserved,
            Site.init_zone_device_page,
            Site.memmap_init_zone_device,
        )
    },
    Site.SetPageHead.c_name: Look("__SetPageHead()", palette.GREEN, palette.GREEN),
    Site.prep_compound_tail.c_name: Look("prep_compound_tail()", palette.BLUE, palette.BLUE),
    Site.set_page_count.c_name: Look("set_page_count()", palette.PURPLE, palette.PURPLE),
    Site.prep_compound_head.c_name: Look("prep_compound_head()", palette.BLACK, palette.BLACK),
    Site.prep_compound_page.c_name: Look("prep_compound_page()", "#6B6B6B", "#6B6B6B"),
}
"""C function to how its stores are drawn, in the order of the legend."""

_ROW_PX, _SMALL_ROW_PX = 8, 5
_PITCH = WORDS + 1
"""Rows from one struct page to the next: eight words and a gap."""

_STRIP_PX, _STRIP_GAP_PX = 16, 10
"""The role bar on the left of the stores, and the space between."""

_LEFT_PX = 96


def init_trace(right: xr.Dataset, wrong: xr.Dataset, pages: int = 4, width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """Why the head of a compound page is prepared when its third struct page exists.

    Parameters
    ----------
    right : xarray.Dataset
        From :func:`workbench.lab.head_order.trace_compound`: the kernel's order.
    wrong : xarray.Dataset
        From :func:`workbench.lab.head_order.trace_head_first`: the head first.
    pages : int
        Struct pages shown, from the head on.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        Two panels with caption and alt text.
    """
    which = kernel(right.attrs["kernel"])
    height = (pages * _PITCH - 1) * _ROW_PX
    after = _prepared_after(right)
    tails = "tail 1 is" if after == 1 else "tails 1 and 2 are"
    fig = Panels(
        [(32, height), (64, height)],
        f"Why the head waits for the {_ordinal(after + 1)} struct page, kernel {which.name}",
        f"{origin('derived')} every store to the first {pages} of {count(right.sizes['page'])} struct pages, in order "
        f"· lower half {mark('modelled')} an order that no kernel uses",
        width_px,
        left_px=_LEFT_PX,
        bottom_px=48,
        legend_rows=2,
    )
    top, bottom = fig.panels
    _stores(fig, top, which, right, pages)
    _stores(fig, bottom, which, wrong, pages)
    fig.heading(top, f"as the kernel does it: prep_compound_head() once {tails} initialised", _verdict(right))
    fig.heading(bottom, "head first: the tails are cleared afterwards", _verdict(wrong))
    _wipes(fig, top, right)
    _wipes(fig, bottom, wrong)
    gone = {(one.page, one.word) for one in wiped(right)}
    kept = [(one.page, one.word) for one in _head_words(right) if (one.page, one.word) not in gone]
    _note(fig, top, right, f"<b>{HEAD_PART}()<br>leaves behind</b><br>{_cells(which, right, kept)}")
    lost = words_lost(right, wrong)
    left = _cells(which, wrong, [(page, word) for page, word, _, _ in lost])
    _note(fig, bottom, wrong, f"<b>would be left behind</b><br>{left}")
    _legend(fig, [right, wrong], pages)
    fig.figure.layout.meta = {"origin": "derived"}
    texts = "; ".join(_lost_text(which, right, *one) for one in lost)
    return describe(
        fig.figure,
        caption=(
            f"Each mark is one store of memmap_init_zone_device() on kernel {which.name}: time runs to the right, "
            "memory down, eight words a struct page. Grey and white: __init_zone_device_page() and what it calls. "
            "Black stores describe the compound page and lie in its first tails. Below, the same functions with the "
            "head prepared first: a cross marks the store that wipes a black one. "
            f"{len(lost)} words would be wrong: {texts}."
        ),
        alt=(
            f"Two charts of the stores to the first {pages} struct pages: store number against struct page and word. "
            f"Above, {_head_stores(right)} stores of prep_compound_head come after those that initialise the tails; "
            f"{len(wiped(right))} of them are wiped. Below they come right after the head's own; "
            f"{len(wiped(wrong))} of them are wiped when mm_zero_struct_page clears the tails."
        ),
    )


def who_stores(before: xr.Dataset, after: xr.Dataset) -> go.Figure:
    """The same stores in the same order, made by other functions.

    Parameters
    ----------
    before, after : xarray.Dataset
        From :func:`workbench.lab.trace.trace_prep_compound_page`, of few pages: all are shown.

    Returns
    -------
    plotly.graph_objects.Figure
        Two panels with caption and alt text.
    """
    pages = before.sizes["page"]
    height = (pages * _PITCH - 1) * _SMALL_ROW_PX
    columns = ("pfn", "word", "old", "new")
    same = all(np.array_equal(before[name].values, after[name].values) for name in columns)
    fig = Panels(
        [(32, height), (64, height)],
        f"{count(int(before.stores))} stores before, {count(int(after.stores))} after: "
        + ("the same words, the same values, the same order" if same else "not the same"),
        f"{origin('derived')} prep_compound_page() on {pages} struct pages; only the function that stores is another",
        left_px=_LEFT_PX,
        bottom_px=48,
    )
    for panel, ds, name in zip(fig.panels, (before, after), ("before", "after"), strict=True):
        _stores(fig, panel, kernel(ds.attrs["kernel"]), ds, pages)
        fig.heading(panel, f"{name}: kernel {ds.attrs['kernel']}", _functions(ds))
    _legend(fig, [before, after], pages)
    fig.figure.layout.meta = {"origin": "derived"}
    return describe(
        fig.figure,
        caption=(
            f"prep_compound_page() on {pages} struct pages before and after the split. A mark's height inside a struct "
            "page is the word that is stored, +0 at the top and +56 at the bottom. The marks lie at the same "
            "places because the same words are stored in the same order; only the C function that stores differs, and "
            "with it the time at which it can be called."
        ),
        alt=(
            "Two charts, one above the other, of store number against struct page and word. The marks are at "
            f"{'the same' if same else 'different'} places; above they belong to {_functions(before)}, below to "
            f"{_functions(after)}."
        ),
    )


# marks


def _stores(fig: Panels, panel: Panel, which: Kernel, trace: xr.Dataset, pages: int) -> None:
    """The stores to the first ``pages`` struct pages, and the role of each page."""
    last = _last_store(trace, pages)
    cell = 0.92
    unit = (last + 0.5) / (fig.plot_width_px - _STRIP_PX - _STRIP_GAP_PX)
    at = np.arange(last)
    page, word = trace.pfn.values[:last] - int(trace.page[0]), trace.word.values[:last].astype(int)
    sites = trace.site.values[:last]
    for label in dict.fromkeys(look.label for look in FUNCTIONS.values()):
        mine = np.array([FUNCTIONS[site].label == label for site in sites], bool)
        if not mine.any():
            continue
        look = next(one for one in FUNCTIONS.values() if one.label == label)
        fig.figure.add_bar(
            x=at[mine],
            y=np.ones(mine.sum()),
            base=page[mine] * _PITCH + word[mine],
            width=np.full(mine.sum(), cell),
            marker={"color": look.fill, "line": {"color": look.outline, "width": 0.7}},
            hovertext=[_hover(trace, int(k)) for k in at[mine]],
            hoverinfo="text",
            showlegend=False,
            name=label,
            **panel.axes,
        )
    for k, role in enumerate(_roles(which, trace, pages)):
        fig.figure.add_bar(
            x=[-0.5 - (_STRIP_GAP_PX + _STRIP_PX / 2) * unit],
            y=[WORDS],
            base=[k * _PITCH],
            width=[_STRIP_PX * unit],
            marker=palette.role_marker(role),
            hoverinfo="skip",
            showlegend=False,
            **panel.axes,
        )
        if k:
            y = k * _PITCH - 0.5
            line = {"color": "#DDDDDD", "width": 1}
            fig.figure.add_shape(
                type="line", x0=0, x1=1, xref="paper", y0=y, y1=y, yref=panel.y, line=line, layer="below"
            )
    names = [f"{k} {palette.ROLES[role].label}" for k, role in enumerate(_roles(which, trace, pages))]
    fig.axes(
        panel,
        {
            "range": [-0.5 - (_STRIP_PX + _STRIP_GAP_PX) * unit, last],
            "showticklabels": True,
            "tickvals": list(range(0, last, 10 if last > 20 else 1)),
            "tickfont": {"size": 11},
            "title": {
                "text": f"stores, in order; {count(int(trace.stores))} in all",
                "standoff": 2,
                "font": {"size": 11, "color": FAINT},
            },
        },
        {
            "range": [pages * _PITCH - 0.5, -0.5],
            "showticklabels": True,
            "tickvals": [k * _PITCH + WORDS / 2 for k in range(pages)],
            "ticktext": [name.replace(" ", "<br>", 1).replace("further ", "") for name in names],
            "tickfont": {"size": 11},
        },
    )


def _wipes(fig: Panels, panel: Panel, trace: xr.Dataset) -> None:
    """A cross on each store that wipes one of prep_compound_head(), tied to what it wipes."""
    for one in wiped(trace):
        y = one.page * _PITCH + one.word + 0.5
        line = {"color": palette.BLACK, "width": 1, "dash": "dot"}
        fig.figure.add_shape(type="line", x0=one.store, x1=one.by, y0=y, y1=y, line=line, **panel.ref)
    undone = wiped(trace)
    if undone:
        fig.figure.add_scatter(
            x=[one.by for one in undone],
            y=[one.page * _PITCH + one.word + 0.5 for one in undone],
            mode="markers",
            marker={"symbol": "x-thin", "size": 10, "line": {"width": 2.5, "color": palette.BLACK}},
            hovertext=[f"store {one.by} wipes store {one.store}" for one in undone],
            hoverinfo="text",
            name="wipes",
            showlegend=False,
            **panel.axes,
        )


def _note(fig: Panels, panel: Panel, trace: xr.Dataset, text: str) -> None:
    """A note in the free space on the right of the first two pages' stores."""
    page = trace.pfn.values - int(trace.page[0])
    last = int(np.flatnonzero(page <= 1)[-1])
    ink = {"size": 12, "color": INK}
    place = {"x": last + 2, "y": WORDS, "xanchor": "left", "yanchor": "middle", "align": "left"}
    fig.figure.add_annotation(text=text, bgcolor="#FFFFFF", font=ink, **place, **panel.ref)


def _legend(fig: Panels, traces: Sequence[xr.Dataset], pages: int) -> None:
    """One legend on top: the functions that store in what is shown, and the cross."""
    shown = {FUNCTIONS[site].label for trace in traces for site in trace.site.values[: _last_store(trace, pages)]}
    for look in {look.label: look for look in FUNCTIONS.values() if look.label in shown}.values():
        marker = {"color": look.fill, "line": {"color": look.outline, "width": 1}}
        fig.figure.add_bar(x=[None], y=[None], name=look.label, marker=marker, showlegend=True, **fig.panels[0].axes)


# reading a trace


def _last_store(trace: xr.Dataset, pages: int) -> int:
    """How many stores come before the first one behind the shown pages."""
    behind = np.flatnonzero(trace.pfn.values >= int(trace.page[0]) + pages)
    return int(behind[0]) if len(behind) else trace.sizes["store"]


def _prepared_after(trace: xr.Dataset) -> int:
    """The struct page whose initialisation comes right before prep_compound_head()."""
    first = int(np.flatnonzero(trace.site.values == HEAD_PART)[0])
    return int(trace.pfn.values[first - 1] - trace.page.values[0])


def _head_stores(trace: xr.Dataset) -> int:
    return int((trace.site.values == HEAD_PART).sum())


def _head_words(trace: xr.Dataset) -> list[Wiped]:
    """Where prep_compound_head() stores: one entry a store; its ``by`` is not used."""
    page = trace.pfn.values - int(trace.page[0])
    at = np.flatnonzero(trace.site.values == HEAD_PART)
    return [Wiped(int(k), int(k), int(page[k]), int(trace.word.values[k])) for k in at]


def _cells(which: Kernel, trace: xr.Dataset, places: Sequence[tuple[int, int]]) -> str:
    """The final value of some words, one line each."""
    rows, pfns = trace.after.values.tolist(), trace.page.values.tolist()
    lines = [
        f"page {page} +{8 * word}: {words.short(which.abi, rows[page], pfns[page])[word]}"
        for page, word in dict.fromkeys(places)
    ]
    return "<br>".join(lines)


def _verdict(trace: xr.Dataset) -> str:
    undone = len(wiped(trace))
    return f"{'✕ ' if undone else ''}{undone} of {_head_stores(trace)} black stores wiped"


def _roles(which: Kernel, trace: xr.Dataset, pages: int) -> list[Role]:
    rows = zip(trace.after.values[:pages].tolist(), trace.page.values[:pages].tolist(), strict=True)
    return [which.abi.role(row, pfn) for row, pfn in rows]


def _hover(trace: xr.Dataset, at: int) -> str:
    old, new = word_text(int(trace.old[at])), word_text(int(trace.new[at]))
    where = f"pfn {pfn_text(int(trace.pfn[at]))} +{8 * int(trace.word[at])}"
    return f"store {at}: {trace.site.values[at]}()<br>{where}<br>{old} → {new}"


def _lost_text(which: Kernel, trace: xr.Dataset, page: int, word: int, right: int, wrong: int) -> str:
    row, pfn = trace.after.values[page].tolist(), int(trace.page[page])
    return (
        f"page {page} +{8 * word} {word_text(wrong)} instead of {word_text(right)} "
        f"({words.long(which.abi, row, pfn)[word]})"
    )


def _functions(trace: xr.Dataset) -> str:
    return ", ".join(f"{name}()" for name in dict.fromkeys(trace.site.values.tolist()))


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
