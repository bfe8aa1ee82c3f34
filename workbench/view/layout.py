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

from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from workbench.abi import STRUCT_PAGE_BYTES, WORDS, Abi, Role
from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE, PAGES_PER_SECTION
from workbench.errors import WorkbenchError
from workbench.lab.device_layout import ROLES, device_layout
from workbench.mm.sparse_vmemmap import STRUCT_PAGES_PER_PAGE, VMEMMAP_RESERVE_NR
from workbench.series import kernel as kernel_of
from workbench.text import count, pfn_range, size
from workbench.text import pfn as pfn_text
from workbench.text import word as word_text
from workbench.view import cells, palette, words
from workbench.view.bits import draw_bits
from workbench.view.export import describe
from workbench.view.panels import CHAR_PX, FAINT, INK, Panel, Panels
from workbench.view.summary import mark

FEWEST_PX = 2
"""Width that a head, a first and a second tail get where the scale would give them less."""

_FOLD = 1.1
"""Width of the folded column, in struct pages."""

_UNIQUE = VMEMMAP_RESERVE_NR * STRUCT_PAGES_PER_PAGE
"""Struct pages of a deduplicated compound that have memory of their own."""


def memory_map(ds: xr.Dataset, page: int = 1, word: int = 1, width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """A device on five scales, down to the bits of one word.

    Parameters
    ----------
    ds : xarray.Dataset
        From :func:`workbench.lab.device_layout.device_layout`.
    page : int
        Which of the shown struct pages is taken apart, 0 to 7.
    word : int
        Which of its words is shown as bits, 0 to 7.
    width_px : int
        CSS pixels.

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
        [(HEAD_GAP, 28), (48, 28), (48, 9 * cells.ROW_PX), (64, WORDS * 19), (68, 24)],
        f"A {nbytes} device down to a bit: {_shape(ds)}, kernel {ds.attrs['kernel']}",
        origin_line(ds),
        width_px,
        bottom_px=78,
        legend_rows=2 if ds.part_pages.sel(part="altmap") else 1,
    )
    device, section, compound, inspector, bits = map_.panels
    abi = kernel_of(ds.attrs["kernel"]).abi
    shown, tails = _page_roles(abi, ds), ds.attrs["pages_per_compound"] > 1
    _device(map_, device, ds)
    _section(map_, section, ds)
    _pages(map_, compound, ds, selected=page)
    run = count(ds.attrs["run_pages"])
    what = f"a compound page of {run} struct pages" if tails else f"{run} base pages"
    map_.heading(
        compound,
        f"3  {what}, from pfn {pfn_text(ds.attrs['compound_pfn'])}",
        f"the first {ds.sizes['page']} wide, not to scale; a cell is 8 bytes",
    )
    _inspector(map_, inspector, abi, ds, page, word)
    draw_bits(map_, bits, abi, *_rows(ds)[page], word)
    map_.zoom(device, *_section_place(ds), section)
    map_.zoom(section, *_compound_place(ds), compound)
    map_.wedge(compound, *_page_place(page, ds), inspector)
    map_.wedge(inspector, 0, 1, bits)
    map_.legend({*shown, *_part_roles(ds)})
    map_.figure.layout.meta = {"origin": "derived"}
    return describe(
        map_.figure,
        caption=(
            f"A device of {nbytes}, {_shape(ds)}, on kernel {ds.attrs['kernel']}, derived by the engine. From the top: "
            f"the device, one section, {'one compound page' if tails else 'a run of base pages'} with the first struct "
            "pages wide, one struct page as eight words, one word as bits."
            + (
                f" Not to scale in the section: heads and first tails are drawn at least {FEWEST_PX} px wide."
                if tails
                else ""
            )
        ),
        alt=(
            f"Five panels from top to bottom. A {nbytes} device of {count(int(ds.role_pages.sum()))} struct pages; one "
            f"section of it; the first {ds.sizes['page']} struct pages from pfn {pfn_text(ds.attrs['compound_pfn'])}, "
            f"{count(int(ds.alike))} alike folded; struct page {page}, a {palette.ROLES[shown[page]].label}, word by "
            f"word; and the 64 bits of its word at +{8 * word}, {word_text(int(ds.words[page, word]))}."
        ),
    )


def explore(
    kernel: str, order: int = 9, altmap: bool = False, page: int = 1, word: int = 1, size: str = "4G"
) -> go.Figure:
    """:func:`memory_map` of a device that is made on the spot: for a figure with controls.

    Parameters
    ----------
    kernel, order, altmap, size
        As :func:`workbench.lab.device_layout.device_layout`.
    page, word
        As :func:`memory_map`.
    """
    return memory_map(_made(kernel, size, order, altmap), page, word)


@lru_cache(maxsize=32)
def _made(kernel: str, size: str, order: int, altmap: bool) -> xr.Dataset:
    """A device's layout, kept: another page or word of it is then drawn at once."""
    return device_layout(kernel, size, order, altmap)


def before_after(
    before: xr.Dataset,
    after: xr.Dataset,
    names: tuple[str, str] = ("before", "after"),
    title: str = "",
    width_px: int = palette.NOTEBOOK_PX,
) -> go.Figure:
    """The same struct pages of two devices, one above the other, words that differ outlined.

    Parameters
    ----------
    before, after : xarray.Dataset
        From :func:`workbench.lab.device_layout.device_layout`, of the same pages.
    names : (str, str)
        What the two are called.
    title : str
        Default: what the two are.
    width_px : int
        CSS pixels.

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
        [(HEAD_GAP, 9 * cells.ROW_PX), (62, 9 * cells.ROW_PX)],
        title or f"{size(nbytes)} of a device: {_shape(before)} {names[0]}, {_shape(after)} {names[1]}",
        _origin_of_both(before, after, names),
        width_px,
        bottom_px=44,
    )
    for name, panel, ds, outlined in zip(names, map_.panels, (before, after), (None, differs), strict=True):
        _pages(map_, panel, ds, outlined)
        map_.heading(panel, f"{name}: {_kernel_name(ds)}", _shape(ds))
    shown = {role for ds in (before, after) for role in _page_roles(kernel_of(ds.attrs["kernel"]).abi, ds)}
    map_.legend(shown, changed=True)
    by_page = differs.sum(axis=1)
    moved = int((differs & (_short(before) == _short(after))).sum())
    reads_alike = (
        f" {moved} of them read alike: the two releases keep the same thing in other bits, flags above all."
        if moved
        else ""
    )
    map_.figure.layout.meta = {"origin": "derived"}
    return describe(
        map_.figure,
        caption=(
            f"The same struct pages: {names[0]} (kernel {before.attrs['kernel']}, {_shape(before)}) and {names[1]} "
            f"(kernel {after.attrs['kernel']}, {_shape(after)}). A black outline marks a word whose value differs: "
            f"{int(by_page.sum())} of the {differs.size} words shown.{reads_alike} Colour is the role of a page."
        ),
        alt=(
            f"Two grids, one above the other, of {before.sizes['page']} struct pages by eight words. Words that "
            "differ, page by page: " + ", ".join(f"page {k} {n}" for k, n in enumerate(by_page)) + "."
        ),
    )


def _short(ds: xr.Dataset) -> np.ndarray:
    """What stands in the cells of :func:`_pages`: str[page, word]."""
    abi = kernel_of(ds.attrs["kernel"]).abi
    return np.array([words.short(abi, row, pfn) for row, pfn in _rows(ds)])


def _origin_of_both(before: xr.Dataset, after: xr.Dataset, names: tuple[str, str]) -> str:
    """:func:`origin_line` of two layouts, of each where they differ in it."""
    if before.attrs["note"] == after.attrs["note"]:
        return origin_line(after)
    told = (
        f"{name}: {_WHENCE.get(ds.attrs['kernel_origin'], ds.attrs['kernel_origin'])}"
        for name, ds in zip(names, (before, after), strict=True)
    )
    return f"{mark('derived')} derived by the engine · {' · '.join(told)}"


HEAD_GAP = 32
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
            if pages / total * map_.plot_width_px > CHAR_PX * len(what):
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
    map_.heading(panel, f"2  one section: {_section_text(ds, total, heads)}", _section_aside(heads))


def _section_text(ds: xr.Dataset, total: int, heads: int) -> str:
    if ds.attrs["pages_per_compound"] == 1:
        return f"{count(total - _metadata(ds))} base pages, each with a reference of its own"
    if heads > 1:
        return f"{count(heads)} compound pages of {count(ds.attrs['pages_per_compound'])} struct pages"
    return f"part of a compound page of {count(ds.attrs['pages_per_compound'])} struct pages"


def _section_aside(heads: int) -> str:
    if not heads:
        return "to scale"
    drawn = "heads and first tails are drawn" if heads > 1 else "head and first tail"
    return f"not to scale: {drawn} at least {FEWEST_PX} px wide"


def _metadata(ds: xr.Dataset) -> int:
    """Pages of the shown section that are not the device's data."""
    return int(np.isin(ds.section_role, [ROLES.index(Role.BASE), ROLES.index(Role.UNINITIALISED)]).sum())


def _pages(
    map_: Panels, panel: Panel, ds: xr.Dataset, outlined: np.ndarray | None = None, selected: int | None = None
) -> None:
    """The first struct pages word by word, the others folded."""
    abi = kernel_of(ds.attrs["kernel"]).abi
    rows = _rows(ds)
    cells.draw_cells(map_, panel, abi, rows, outlined, _FOLD)
    rest = ds.attrs["run_pages"] - len(rows)
    if rest:
        folded = _folded(ds, len(rows), rest, _page_roles(abi, ds)[-1])
        map_.figure.add_trace(folded.update(panel.axes))
    if selected is not None:
        frame = {"x0": selected - 0.5, "x1": selected + 0.5, "y0": cells.TOP, "y1": WORDS}
        map_.figure.add_shape(type="rect", line={"color": palette.BLUE, "width": 2}, **frame, **panel.ref)


def _folded(ds: xr.Dataset, pages: int, rest: int, role: Role) -> go.Bar:
    alike = int(ds.alike) == rest
    text = f"<b>× {count(rest)}</b><br>{'alike' if alike else 'more, not all alike'}"
    if _shares(ds):
        text += f"<br><br>from {_UNIQUE} on<br>in shared<br>memory"
    hover = f"pages {pages} to {pages + rest - 1}" + (f": each with the words of page {pages - 1}" if alike else "")
    return cells.folded_bar(pages, _FOLD, role, text, hover)


def _inspector(map_: Panels, panel: Panel, abi: Abi, ds: xr.Dataset, page: int, word: int) -> None:
    """One struct page: offset, raw word, members and their values."""
    row, pfn = _rows(ds)[page]
    role = abi.role(row, pfn)
    y = [k + 0.5 for k in range(WORDS)]
    for x, texts, font in (
        (0.005, [word_text(w) for w in row], cells.MONO),
        (0.19, words.long(abi, row, pfn), {}),
    ):
        sizes = [min(12, 12 * (1 - x) * map_.plot_width_px / CHAR_PX / len(line)) for line in texts]
        map_.figure.add_scatter(
            x=[x] * WORDS,
            y=y,
            text=texts,
            mode="text",
            textposition="middle right",
            textfont={
                "size": sizes,
                "color": [FAINT if not w and k != word else INK for k, w in enumerate(row)],
                **font,
            },
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
            "ticktext": cells.OFFSETS,
            "tickfont": {**cells.MONO, "size": 11},
        },
    )
    label = palette.ROLES[role].label
    map_.heading(
        panel,
        f"4  struct page {page}: {label}, pfn {pfn_text(pfn)}",
        f"{STRUCT_PAGE_BYTES} bytes for a page of {PAGE_SIZE}; members as in {ds.attrs['release']}",
    )


# placing


def _section_place(ds: xr.Dataset) -> tuple[float, float]:
    start, total = ds.attrs["start_pfn"], ds.attrs["end_pfn"] - ds.attrs["start_pfn"]
    low = (ds.attrs["section_pfn"] - start) / total
    return low, low + ds.sizes["section_page"] / total


def _compound_place(ds: xr.Dataset) -> tuple[float, float]:
    total = ds.sizes["section_page"]
    low = (ds.attrs["compound_pfn"] - ds.attrs["section_pfn"]) / total
    return low, min(1.0, low + ds.attrs["run_pages"] / total)


def _page_place(page: int, ds: xr.Dataset) -> tuple[float, float]:
    columns = ds.sizes["page"] + _FOLD
    return page / columns, (page + 1) / columns


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


def _shares(ds: xr.Dataset) -> bool:
    """Whether most of the compound's struct pages are a vmemmap page mapped again and again."""
    dedup = kernel_of(ds.attrs["kernel"]).tree.dedup and not ds.part_pages.sel(part="altmap")
    return bool(dedup) and ds.attrs["pages_per_compound"] > _UNIQUE


def _shape(ds: xr.Dataset) -> str:
    per = ds.attrs["pages_per_compound"]
    return f"compound pages of {size(per << PAGE_SHIFT)}" if per > 1 else "base pages"


def _kernel_name(ds: xr.Dataset) -> str:
    """The kernel in words: ``5.16+4`` is 5.16 with patches 1 to 4."""
    tree = kernel_of(ds.attrs["kernel"]).tree
    last = max(tree.patches, default=0)
    if tree.base == "5.16" and not last:
        return f"{ds.attrs['kernel']} (5.16 without the series)"
    if tree.base == "5.16" and len(tree.patches) == last < 11:
        return f"{ds.attrs['kernel']} (5.16 with patch{f'es 1 to {last}' if last > 1 else ' 1'})"
    return ds.attrs["kernel"]


_WHENCE = {"captured": "such a kernel is captured", "derived": "no capture"}
"""Origin of a kernel to what is said of it."""


def origin_line(ds: xr.Dataset) -> str:
    """Where the struct pages of a layout come from, in one line.

    They are always the engine's, so ``derived``; the line says whether such a kernel was captured.
    """
    note = f": {ds.attrs['note']}" if ds.attrs["note"] else ""
    whence = _WHENCE.get(ds.attrs["kernel_origin"], ds.attrs["kernel_origin"])
    return f"{mark('derived')} derived by the engine · {whence}{note}"
