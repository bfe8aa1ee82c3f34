# SPDX-License-Identifier: GPL-2.0-only
"""The memory map on paper: device → section → compound page → struct page → bits, and before | after.

Both figures draw a Dataset of :func:`workbench.lab.device_layout.device_layout` and nothing else::

    ds = device_layout("5.17", "1G", vmemmap_shift=9)
    memory_map(ds, page=1, word=1)
    before_after(device_layout("5.16+3", "1G", 9), device_layout("5.16+4", "1G", 9))

* Memory is read top-down and left to right; bits run from 63 to 0.
* Hue is the role of a page, text is the meaning of a word, a black outline a word that differs.
* Widths are to scale but for two things, which the figure says: heads and first tails get at least 2 px, and
  the struct pages after the eighth are folded into one column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from workbench.abi import STRUCT_PAGE_BYTES, WORDS, Abi, Role
from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE, PAGES_PER_SECTION
from workbench.errors import WorkbenchError
from workbench.lab.device_layout import ROLES, WIDE
from workbench.series import kernel
from workbench.text import count, pfn_range, size
from workbench.text import pfn as pfn_text
from workbench.text import word as word_text
from workbench.view import palette, words
from workbench.view.export import describe
from workbench.view.panels import FAINT, INK, Panel, Panels, tint
from workbench.view.summary import mark

FEWEST_PX = 2
"""Width that a head, a first and a second tail get where the scale would give them less."""

_FOLD = 1.1
"""Width of the folded column, in struct pages."""

_CELL_PX, _CELL_WIDTH = 24, 0.96
_CELL_CHARS = 13
"""Characters of 10 px that fit a cell; longer texts are set smaller."""

_CHAR_PX = 6.7
_LABELS_PX = 38
"""Room above the bits for two lines of labels."""

_MONO = {"family": palette.MONO_FAMILY}
_OFFSETS = [f"+{8 * word}" for word in range(WORDS)]


def memory_map(ds: xr.Dataset, page: int = 1, word: int = 1) -> go.Figure:
    """A device on five scales, down to the bits of one word.

    Parameters
    ----------
    ds : xarray.Dataset
        From :func:`workbench.lab.device_layout.device_layout`.
    page : int
        Which of the shown struct pages is taken apart, 0 to 7.
    word : int
        Which of its words is shown as bits, 0 to 7.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption and alt text.

    Raises
    ------
    WorkbenchError
        ``page`` or ``word`` is not shown.
    """
    if not 0 <= page < ds.sizes["page"] or not 0 <= word < WORDS:
        raise WorkbenchError(
            f"the figure shows struct pages 0 to {ds.sizes['page'] - 1} of 8 words; got page {page}, word {word}."
        )
    nbytes = size((ds.attrs["end_pfn"] - ds.attrs["start_pfn"]) << PAGE_SHIFT)
    map_ = Panels(
        [(HEAD_GAP, 28), (48, 28), (48, 9 * _CELL_PX), (64, WORDS * 19), (68, 24)],
        f"A {nbytes} device down to a bit: {_shape(ds)}, kernel {ds.attrs['kernel']}",
        origin_line(ds),
        bottom_px=78,
    )
    device, section, compound, inspector, bits = map_.panels
    abi = kernel(ds.attrs["kernel"]).abi
    shown = _page_roles(abi, ds)
    _device(map_, device, ds)
    _section(map_, section, ds)
    _pages(map_, compound, ds, selected=page)
    _inspector(map_, inspector, abi, ds, page, word)
    _bits(map_, bits, abi, ds, page, word)
    map_.zoom(device, *_section_place(ds), section)
    map_.zoom(section, *_compound_place(ds), compound)
    map_.wedge(compound, *_page_place(page), inspector)
    map_.wedge(inspector, 0, 1, bits)
    map_.legend({*shown, *_part_roles(ds)})
    tails = ds.attrs["pages_per_compound"] > 1
    map_.figure.layout.meta = {"origin": "derived"}
    return describe(
        map_.figure,
        caption=(
            f"A device of {nbytes}, {_shape(ds)}, on kernel {ds.attrs['kernel']} ({ds.attrs['origin']}). From the top: "
            f"the device, one section, {'one compound page' if tails else 'a run of base pages'} with the first struct "
            "pages wide, one struct page as eight words, one word as bits."
            + (f" Heads and first tails are drawn at least {FEWEST_PX} px wide." if tails else "")
        ),
        alt=(
            f"Five panels from top to bottom. A {nbytes} device of {count(int(ds.role_pages.sum()))} struct pages; one "
            f"section of it; the first {ds.sizes['page']} struct pages from pfn {pfn_text(ds.attrs['compound_pfn'])}, "
            f"{count(int(ds.alike))} alike folded; struct page {page}, a {palette.ROLES[shown[page]].label}, word by "
            f"word; and the 64 bits of its word at +{8 * word}, {word_text(int(ds.words[page, word]))}."
        ),
    )


def before_after(before: xr.Dataset, after: xr.Dataset) -> go.Figure:
    """The same struct pages on two kernels, one above the other, words that differ outlined.

    Parameters
    ----------
    before, after : xarray.Dataset
        From :func:`workbench.lab.device_layout.device_layout`, of the same pages.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption and alt text.

    Raises
    ------
    WorkbenchError
        The two show different pages.
    """
    if before.page.values.tolist() != after.page.values.tolist():
        raise WorkbenchError(
            "the two layouts show different struct pages. Give both the same size, order and compound."
        )
    differs = before.words.values != after.words.values
    nbytes = (after.attrs["run_pages"]) << PAGE_SHIFT
    map_ = Panels(
        [(HEAD_GAP, 9 * _CELL_PX), (62, 9 * _CELL_PX)],
        f"{size(nbytes)} of a device: {_shape(before)} before, {_shape(after)} after",
        origin_line(after),
        bottom_px=44,
    )
    for which, panel, ds in (("before", map_.panels[0], before), ("after", map_.panels[1], after)):
        _pages(map_, panel, ds, outlined=differs if which == "after" else None)
        map_.heading(panel, f"{which}: {_kernel_name(ds)}", _shape(ds))
    shown = {role for ds in (before, after) for role in _page_roles(kernel(ds.attrs["kernel"]).abi, ds)}
    map_.legend(shown, changed=True)
    by_page = differs.sum(axis=1)
    map_.figure.layout.meta = {"origin": "derived"}
    return describe(
        map_.figure,
        caption=(
            f"The same struct pages before ({before.attrs['kernel']}, {before.attrs['origin']}) and after "
            f"({after.attrs['kernel']}, {after.attrs['origin']}). A black outline marks a word whose value differs: "
            f"{int(by_page.sum())} of the {differs.size} words shown. Colour is the role of a page."
        ),
        alt=(
            f"Two grids, one above the other, of {before.sizes['page']} struct pages by eight words. Words that "
            "differ, page by page: " + ", ".join(f"page {k} {n}" for k, n in enumerate(by_page)) + "."
        ),
    )


HEAD_GAP = 24
"""Pixels for the heading of a first panel that has one."""


# the panels


def _device(map_: Panels, panel: Panel, ds: xr.Dataset) -> None:
    """Parts of the device to scale, and its sections."""
    start, end = ds.attrs["start_pfn"], ds.attrs["end_pfn"]
    at, total = 0.0, end - start
    fewest = FEWEST_PX * total / map_.plot_width_px
    for part, pages in zip(ds.part.values.tolist(), ds.part_pages.values.tolist(), strict=True):
        role = _role_of_part(part, ds)
        if pages:
            what = f"{part}: {count(pages)} struct pages, {size(pages << PAGE_SHIFT)}"
            drawn = max(pages, fewest)
            map_.figure.add_bar(
                x=[at + drawn / 2],
                y=[1],
                width=[drawn],
                marker=palette.role_marker(role),
                hovertext=[what],
                hoverinfo="text",
                showlegend=False,
                **panel.axes,
            )
            if pages / total * map_.plot_width_px > _CHAR_PX * len(what):
                ground = palette.ROLES[role].fill
                map_.figure.add_annotation(
                    text=what, x=at + drawn / 2, y=0.5, bgcolor=ground, font={"color": INK}, **panel.ref
                )
            at += drawn
    sections = -(-end // PAGES_PER_SECTION) - start // PAGES_PER_SECTION
    if sections <= map_.plot_width_px / 8:
        for edge in range(start // PAGES_PER_SECTION + 1, start // PAGES_PER_SECTION + sections):
            x = edge * PAGES_PER_SECTION - start
            map_.figure.add_shape(
                type="line", x0=x, x1=x, y0=0, y1=1, line={"color": "#FFFFFF", "width": 1}, **panel.ref
            )
    map_.axes(panel, {"range": [0, total]}, {"range": [0, 1]})
    per = ds.attrs["pages_per_compound"]
    thin = f"; a head is one struct page in {count(per)}, too thin to be seen" if per > 1 else ""
    map_.heading(panel, f"1  the device: {count(sections)} section{'s' * (sections > 1)} of 128 MiB", f"to scale{thin}")


def _section(map_: Panels, panel: Panel, ds: xr.Dataset) -> None:
    """Every page of one section by its role; heads and first tails at least two pixels wide."""
    codes = ds.section_role.values
    total = len(codes)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1, [total]])
    fewest = FEWEST_PX * total / map_.plot_width_px
    starts, ends = edges[:-1].astype(float), edges[1:].astype(float)
    for k in range(len(starts)):
        starts[k] = max(starts[k], ends[k - 1]) if k else starts[k]
        ends[k] = max(ends[k], starts[k] + fewest)
    run_roles = [ROLES[codes[edge]] for edge in edges[:-1]]
    for role in dict.fromkeys(run_roles):
        mine = np.array([r == role for r in run_roles])
        drawn = palette.ALTMAP if role is Role.BASE else role
        marker = palette.role_marker(drawn)
        marker["line"] = {"width": 0 if len(starts) > 1 else 1, "color": palette.OUTLINE}
        map_.figure.add_bar(
            x=(starts[mine] + ends[mine]) / 2,
            y=np.ones(mine.sum()),
            width=ends[mine] - starts[mine],
            marker=marker,
            hovertext=[
                f"{palette.ROLES[drawn].label}: {pfn_range(ds.attrs['section_pfn'] + int(lo), int(hi - lo))}"
                for lo, hi in zip(edges[:-1][mine], edges[1:][mine], strict=True)
            ],
            hoverinfo="text",
            showlegend=False,
            **panel.axes,
        )
    map_.axes(panel, {"range": [0, total]}, {"range": [0, 1]})
    heads = int((codes == ROLES.index(Role.HEAD)).sum())
    map_.heading(panel, f"2  one section: {_section_text(ds, total, heads)}", _section_aside(heads, ds))


def _section_text(ds: xr.Dataset, total: int, heads: int) -> str:
    if ds.attrs["pages_per_compound"] == 1:
        return f"{count(total - _metadata(ds))} base pages, each with a reference of its own"
    if heads > 1:
        return f"{count(heads)} compound pages of {count(ds.attrs['pages_per_compound'])} struct pages"
    part = ds.attrs["pages_per_compound"] / total
    return f"{count(total)} struct pages, one {part:g}th of a compound page" if heads else f"{count(total)} tails"


def _section_aside(heads: int, ds: xr.Dataset) -> str:
    metadata = f"{count(_metadata(ds))} pages of metadata first; " if _metadata(ds) else ""
    thin = f", heads and first tails at least {FEWEST_PX} px" if heads else ""
    return f"{metadata}to scale{thin}"


def _metadata(ds: xr.Dataset) -> int:
    """Pages of the shown section that are not the device's data."""
    return int(np.isin(ds.section_role, [ROLES.index(Role.BASE), ROLES.index(Role.UNINITIALISED)]).sum())


def _pages(
    map_: Panels, panel: Panel, ds: xr.Dataset, outlined: np.ndarray | None = None, selected: int | None = None
) -> None:
    """The first struct pages word by word, the others folded."""
    abi = kernel(ds.attrs["kernel"]).abi
    pages, roles = ds.sizes["page"], _page_roles(abi, ds)
    rows = _rows(ds)
    cells = [words.short(abi, row, pfn) for row, pfn in rows]
    lines = [words.long(abi, row, pfn) for row, pfn in rows]
    for role in dict.fromkeys(roles):
        at = [k for k, r in enumerate(roles) if r is role]
        map_.figure.add_bar(
            x=at,
            y=[0.5] * len(at),
            base=[-0.72] * len(at),
            width=[_CELL_WIDTH] * len(at),
            marker=palette.role_marker(role),
            hoverinfo="skip",
            showlegend=False,
            **panel.axes,
        )
    x, y = np.repeat(np.arange(pages), WORDS), np.tile(np.arange(WORDS), pages)
    texts = [text for cell in cells for text in cell]
    changed = np.zeros(len(x), bool) if outlined is None else outlined.ravel()
    order = np.argsort(changed, kind="stable")  # outlines on top of their neighbours
    map_.figure.add_bar(
        x=x[order],
        y=np.full(len(x), 0.86),
        base=y[order] + 0.07,
        width=np.full(len(x), _CELL_WIDTH),
        marker={
            "color": [tint(palette.ROLES[roles[k]].fill) for k in x[order]],
            "line": {
                "color": [palette.CHANGED["color"] if c else "#BBBBBB" for c in changed[order]],
                "width": [palette.CHANGED["width"] if c else 0.5 for c in changed[order]],
            },
        },
        text=[texts[k] for k in order],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        constraintext="none",
        textfont={
            **_MONO,
            "size": [min(10, 10 * _CELL_CHARS / max(1, len(texts[k]))) for k in order],
            "color": [INK if texts[k] != "0" else FAINT for k in order],
        },
        hovertext=[
            f"pfn {pfn_text(pfn)} +{8 * y[k]}  {word_text(row[y[k]])}<br>{lines[x[k]][y[k]]}"
            for k in order
            for row, pfn in [rows[x[k]]]
        ],
        hoverinfo="text",
        showlegend=False,
        name="words",
        **panel.axes,
    )
    _folded(map_, panel, ds, roles[-1])
    names = [f"{k}<br>{_label(role)}" for k, role in enumerate(roles)]
    map_.axes(
        panel,
        {
            "range": [-0.5, pages + _FOLD - 0.5],
            "showticklabels": True,
            "tickvals": list(range(pages)),
            "ticktext": names,
            "tickfont": {"size": 11},
        },
        {
            "range": [WORDS, -0.8],
            "showticklabels": True,
            "tickvals": [k + 0.5 for k in range(WORDS)],
            "ticktext": _OFFSETS,
            "tickfont": {**_MONO, "size": 11},
        },
    )
    if selected is not None:
        per = ds.attrs["pages_per_compound"]
        what = f"a compound page of {count(per)}" if per > 1 else f"{count(ds.attrs['run_pages'])} base pages"
        map_.heading(
            panel,
            f"3  {what} struct pages, from pfn {pfn_text(ds.attrs['compound_pfn'])}"
            if per > 1
            else f"3  {what}, from pfn {pfn_text(ds.attrs['compound_pfn'])}",
            f"the first {pages} wide, not to scale; a cell is a word of 8 bytes",
        )
        map_.figure.add_shape(
            type="rect",
            x0=selected - 0.5,
            x1=selected + 0.5,
            y0=-0.8,
            y1=WORDS,
            line={"color": palette.BLUE, "width": 2},
            **panel.ref,
        )


def _folded(map_: Panels, panel: Panel, ds: xr.Dataset, role: Role) -> None:
    """One column for the struct pages after the shown ones."""
    pages, rest = ds.sizes["page"], ds.attrs["run_pages"] - ds.sizes["page"]
    if not rest:
        return
    alike = int(ds.alike) == rest
    text = f"<b>× {count(rest)}</b><br>{'alike' if alike else 'more, not all alike'}"
    map_.figure.add_bar(
        x=[pages - 0.5 + _FOLD / 2],
        y=[WORDS + 0.72],
        base=[-0.72],
        width=[_FOLD - 0.1],
        marker={"color": tint(palette.ROLES[role].fill, 0.15), "line": {"color": "#BBBBBB", "width": 1}},
        text=[text],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        constraintext="none",
        textfont={"size": 13, "color": INK},
        hovertext=[
            f"pages {pages} to {ds.attrs['run_pages'] - 1}, each with the words of page {pages - 1}" if alike else ""
        ],
        hoverinfo="text",
        showlegend=False,
        name="folded",
        **panel.axes,
    )


def _inspector(map_: Panels, panel: Panel, abi: Abi, ds: xr.Dataset, page: int, word: int) -> None:
    """One struct page: offset, raw word, members and their values."""
    row, pfn = _rows(ds)[page]
    role = abi.role(row, pfn)
    y = [k + 0.5 for k in range(WORDS)]
    for x, texts, font in (
        (0.005, [word_text(w) for w in row], _MONO),
        (0.19, words.long(abi, row, pfn), {}),
    ):
        map_.figure.add_scatter(
            x=[x] * WORDS,
            y=y,
            text=texts,
            mode="text",
            textposition="middle right",
            textfont={"size": 12, "color": [FAINT if not w and k != word else INK for k, w in enumerate(row)], **font},
            hoverinfo="skip",
            showlegend=False,
            **panel.axes,
        )
    map_.figure.add_shape(
        type="rect", x0=0, x1=1, y0=word, y1=word + 1, line={"color": palette.BLUE, "width": 2}, **panel.ref
    )
    map_.axes(
        panel,
        {"range": [0, 1]},
        {
            "range": [WORDS, 0],
            "showticklabels": True,
            "tickvals": y,
            "ticktext": _OFFSETS,
            "tickfont": {**_MONO, "size": 11},
        },
    )
    label = palette.ROLES[role].label
    map_.heading(
        panel,
        f"4  struct page {page}: {label}, pfn {pfn_text(pfn)}",
        f"{STRUCT_PAGE_BYTES} bytes for a page of {PAGE_SIZE}; members as in {ds.attrs['release']}",
    )


def _bits(map_: Panels, panel: Panel, abi: Abi, ds: xr.Dataset, page: int, word: int) -> None:
    """The 64 bits of a word, 63 on the left, with what they belong to above and what stands out below."""
    row, pfn = _rows(ds)[page]
    value = row[word]
    bits = [value >> bit & 1 for bit in range(63, -1, -1)]
    map_.figure.add_bar(
        x=list(range(64)),
        y=[1] * 64,
        width=[0.9] * 64,
        marker={"color": ["#222222" if b else "#FFFFFF" for b in bits], "line": {"color": "#999999", "width": 1}},
        text=[str(b) for b in bits],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        constraintext="none",
        textfont={**_MONO, "size": 10, "color": ["#FFFFFF" if b else "#8A8A8A" for b in bits]},
        hovertext=[f"bit {63 - k}" for k in range(64)],
        hoverinfo="text",
        showlegend=False,
        name="bits",
        **panel.axes,
    )
    ticks = [63, *range(56, -1, -8)]
    map_.axes(
        panel,
        {
            "range": [-0.5, 63.5],
            "showticklabels": True,
            "tickvals": [63 - bit for bit in ticks],
            "ticktext": [str(bit) for bit in ticks],
            "tickfont": {"size": 11},
        },
        {"range": [0, 1]},
    )
    map_.heading(panel, f"5  word +{8 * word} as bits, 63 to 0", above_px=_LABELS_PX)
    per_bit = map_.plot_width_px / 64
    place = {"xref": panel.x, "yref": "paper", "font": {"size": 12, "color": INK}}
    spans = words.spans(abi, row, pfn, word)
    texts = [f"{span.name} {span.text}".strip() for span in spans]
    centres = [63 - (span.high + span.low) / 2 for span in spans]
    y = map_.y_paper(panel.top_px - 4)
    for span, text, x, level in zip(spans, texts, centres, _levels(centres, texts, per_bit), strict=True):
        path = f"M{63 - span.high - 0.45},{y} L{63 - span.low + 0.45},{y}"
        line = {"color": INK, "width": 2}
        map_.figure.add_shape(type="path", path=path, xref=panel.x, yref="paper", line=line)
        above = map_.y_paper(panel.top_px - 6 - 15 * level)
        map_.figure.add_annotation(text=text, y=above, yanchor="bottom", **_within(x, text, per_bit), **place)
    marks = _marks(abi, row, pfn, word)
    xs = [63 - bit for bit, _ in marks]
    tip = map_.y_paper(panel.top_px + panel.height_px + 19)
    for (_, text), x, level in zip(marks, xs, _levels(xs, [text for _, text in marks], per_bit), strict=True):
        map_.figure.add_annotation(
            text=text,
            x=x,
            y=tip,
            ax=0,
            ay=20 + 15 * level,
            xanchor=_within(x, text, per_bit)["xanchor"],
            showarrow=True,
            arrowhead=2,
            arrowcolor=INK,
            **place,
        )


def _marks(abi: Abi, row: Sequence[int], pfn: int, word: int) -> list[tuple[int, str]]:
    """What to say about single bits: the page flags that are set, or what bit 0 of word 1 tells."""
    role = abi.role(row, pfn)
    if word == 0:
        return [(bit, name) for bit, name in reversed(words.set_flags(abi, role, row[0]))]
    if word == 1:
        if role.is_tail:
            return [(0, "<b>bit 0 is set: this is a tail; clear it for the address of its head </b>")]
        return [(0, "<b>bit 0 is clear: this is no tail </b>")]
    return []


# placing


def _levels(centres: Sequence[float], texts: Sequence[str], px_per_unit: float) -> list[int]:
    """For each label, left to right, the lowest line on which it touches no label placed before."""
    ends: list[float] = []
    levels = []
    for x, text in zip(centres, texts, strict=True):
        half = len(text) * _CHAR_PX / 2 / px_per_unit
        level = next((k for k, end in enumerate(ends) if end < x - half), len(ends))
        ends[level : level + 1] = [x + half]
        levels.append(level)
    return levels


def _within(x: float, text: str, px_per_unit: float) -> dict[str, Any]:
    """``x`` and ``xanchor`` of a label that must not leave the panel of 64 bits."""
    half = len(text) * _CHAR_PX / 2 / px_per_unit
    if x + half > 63.5:
        return {"x": 63.5, "xanchor": "right"}
    return {"x": -0.5, "xanchor": "left"} if x - half < -0.5 else {"x": x, "xanchor": "center"}


def _section_place(ds: xr.Dataset) -> tuple[float, float]:
    start, total = ds.attrs["start_pfn"], ds.attrs["end_pfn"] - ds.attrs["start_pfn"]
    low = (ds.attrs["section_pfn"] - start) / total
    return low, low + ds.sizes["section_page"] / total


def _compound_place(ds: xr.Dataset) -> tuple[float, float]:
    total = ds.sizes["section_page"]
    low = (ds.attrs["compound_pfn"] - ds.attrs["section_pfn"]) / total
    return low, min(1.0, low + ds.attrs["run_pages"] / total)


def _page_place(page: int) -> tuple[float, float]:
    return page / (WIDE + _FOLD), (page + 1) / (WIDE + _FOLD)


# naming


def _rows(ds: xr.Dataset) -> list[tuple[list[int], int]]:
    """Each shown struct page as eight ints, with its pfn."""
    return [(row, pfn) for row, pfn in zip(ds.words.values.tolist(), ds.page.values.tolist(), strict=True)]


def _page_roles(abi: Abi, ds: xr.Dataset) -> list[Role]:
    return [abi.role(row, pfn) for row, pfn in _rows(ds)]


def _role_of_part(part: str, ds: xr.Dataset) -> str:
    if part == "data":
        return Role.TAIL if ds.attrs["pages_per_compound"] > 1 else Role.ZONE_DEVICE
    return palette.ALTMAP if part == "altmap" else palette.UNPOPULATED


def _part_roles(ds: xr.Dataset) -> list[str]:
    parts = zip(ds.part.values.tolist(), ds.part_pages.values.tolist(), strict=True)
    return [_role_of_part(part, ds) for part, pages in parts if pages]


def _label(role: Role) -> str:
    return palette.ROLES[role].label.replace("further ", "")


def _shape(ds: xr.Dataset) -> str:
    per = ds.attrs["pages_per_compound"]
    return f"compound pages of {size(per << PAGE_SHIFT)}" if per > 1 else "base pages"


def _kernel_name(ds: xr.Dataset) -> str:
    """The kernel in words: ``5.16+4`` is 5.16 with patches 1 to 4."""
    tree = kernel(ds.attrs["kernel"]).tree
    last = max(tree.patches, default=0)
    if tree.base == "5.16" and not last:
        return f"{ds.attrs['kernel']} (5.16 without the series)"
    if tree.base == "5.16" and len(tree.patches) == last < 11:
        return f"{ds.attrs['kernel']} (5.16 with patch{f'es 1 to {last}' if last > 1 else ' 1'})"
    return ds.attrs["kernel"]


def origin_line(ds: xr.Dataset) -> str:
    """Where the struct pages of a layout come from, in one line.

    They are always the engine's, so ``derived``; the line says whether such a kernel was captured.
    """
    note = f": {ds.attrs['note']}" if ds.attrs["note"] else ""
    whence = {"captured": "such a kernel is captured", "derived": "no capture"}.get(
        ds.attrs["origin"], ds.attrs["origin"]
    )
    return f"{mark('derived')} derived by the engine · {whence}{note}"
