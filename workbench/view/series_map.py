# SPDX-License-Identifier: GPL-2.0-only
"""The map of the series: eleven patches, the files they touch, what they build on, what they change.

Drawn from :data:`workbench.series.PATCHES`; only the words for what changes stand here.
"""

from __future__ import annotations

import re
from html import escape

import plotly.graph_objects as go

from workbench.series import PATCHES, Patch
from workbench.view import palette
from workbench.view.canvas import Canvas
from workbench.view.export import describe
from workbench.view.summary import Html, Table

EFFECTS = {
    1: "nothing by itself; with patch 11 the poison flag goes to the head",
    4: "struct pages of a pgmap with vmemmap_shift; nobody sets it before patch 11",
    5: "page->index after a fault: one huge page too high, unless the access hits its first 4 KiB",
    9: "mapping and index are set also when the insertion of the entry fails",
    11: "every struct page of a device with an align above 4 KiB",
}
"""What changes in struct pages; a patch that is not here changes nothing at all in them."""

LANES = ("memory-failure", "page_alloc", "memremap", "dax/device", "dax/bus")
"""Where the series works: files, a source and its header being one."""

_COMMIT_URL = "https://git.kernel.org/torvalds/c/"
_MAIL_URL = "https://lore.kernel.org/r/20211202204422.26777-{}-joao.m.martins@oracle.com"
_PREFIX = re.compile(r"^[\w/-]+: ")

_WIDTH, _ROW, _TOP = 1000, 33, 44
_NUMBER_X, _TITLE_X, _LANE_X, _LANE_STEP = 76, 96, 592, 94


def mail_url(number: int) -> str:
    """Where patch ``number`` of v7 was posted.

    Examples
    --------
    >>> mail_url(3)
    'https://lore.kernel.org/r/20211202204422.26777-4-joao.m.martins@oracle.com'
    """
    return _MAIL_URL.format(number + 1)


def lanes(patch: Patch) -> tuple[int, ...]:
    """Indices into :data:`LANES` of the files that ``patch`` touches, ascending.

    Examples
    --------
    >>> lanes(PATCHES[3])
    (1, 2)
    """
    return tuple(at for at, lane in enumerate(LANES) if any(lane in file for file in patch.files))


def series_figure(width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """The eleven patches as rows, files as columns; filled where struct pages may change.

    Parameters
    ----------
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption, alt text and origin.
    """
    canvas = Canvas(
        _WIDTH,
        _TOP + _ROW * len(PATCHES) + 4,
        "Eleven patches, four of them change struct pages",
        "The others move code, or change what lies outside the page array",
        width_px,
        top_px=112,
    )
    for at, lane in enumerate(LANES):
        canvas.text(_lane_x(at), 20, lane.replace("-", "-<br>").replace("_", "_<br>"), "center", size=12)
        canvas.line([(_lane_x(at), 36), (_lane_x(at), _y(len(PATCHES)))], color="#DDDDDD", width=1)
    canvas.text(_TITLE_X, 20, "patch", size=12)
    canvas.text(16, 20, "builds on", size=12)
    for patch in PATCHES:
        _needs(canvas, patch)
        _patch(canvas, patch)
    for same in (False, True):
        words = "leaves every struct page as it was" if same else "changes struct pages"
        rows = [(at, patch) for patch in PATCHES if patch.same_bytes is same for at in lanes(patch)]
        canvas.figure.add_scatter(
            x=[_lane_x(at) for at, _ in rows],
            y=[_y(patch.number) for _, patch in rows],
            mode="markers",
            marker={
                "symbol": "square",
                "size": 15,
                "color": "#FFFFFF" if same else palette.BLACK,
                "line": {"color": palette.BLACK, "width": 1.5},
            },
            name=words,
        )
    changing = [patch.number for patch in PATCHES if not patch.same_bytes]
    canvas.figure.layout.meta = {"origin": "published, derived"}
    needs = "; ".join(f"patch {p.number} builds on {_listed(list(p.needs))}" for p in PATCHES if p.needs)
    return describe(
        canvas.figure,
        caption=(
            "The series in its order. A square stands where a patch touches a file, filled if the patch may change "
            "struct pages; a curve leads from a patch to one that needs its behaviour. ◆ Published: titles and "
            "files are those of the mainline commits. ▲ Derived: what changes."
        ),
        alt=(
            f"A table of the {len(PATCHES)} patches against five places in the kernel: {', '.join(LANES)}. Patches "
            f"{_listed(changing)} change struct pages, the other {len(PATCHES) - len(changing)} leave them "
            f"alone. {needs}."
        ),
    )


def series_table() -> Table:
    """The eleven patches with one sentence each.

    Returns
    -------
    Table
        Number (with a link to the mail), title (with a link to the mainline commit) and claim, files,
        needs, and what changes in struct pages.
    """
    rows = []
    for patch in PATCHES:
        title = f'<a href="{_COMMIT_URL}{patch.commit[:12]}">{escape(patch.title)}</a>'
        rows.append(
            [
                Html(f'<a href="{mail_url(patch.number)}">{patch.number}</a>'),
                Html(f"{title}<br>{escape(patch.claim)}"),
                ", ".join(LANES[at] for at in lanes(patch)),
                _listed(list(patch.needs)) if patch.needs else "",
                EFFECTS.get(patch.number, "nothing"),
            ]
        )
    return Table(
        "◆ Published: titles, files and order of the series; a number leads to the mail of v7, a title to the commit "
        "in mainline (5.17). ▲ Derived: what changes in struct pages.",
        ["", "patch and what it does", "where", "builds on", "changes in struct pages"],
        rows,
        "lllll",
    )


def _patch(canvas: Canvas, patch: Patch) -> None:
    """One row: number, title without its subsystem, and the line through its files."""
    y = _y(patch.number)
    canvas.text(_NUMBER_X, y, f"<b>{patch.number}</b>", "center")
    title = _PREFIX.sub("", patch.title)
    canvas.text(_TITLE_X, y, title if patch.same_bytes else f"<b>{title}</b>")
    touched = lanes(patch)
    if len(touched) > 1:
        canvas.line([(_lane_x(touched[0]), y), (_lane_x(touched[-1]), y)], color=palette.BLACK, width=1.5)


def _needs(canvas: Canvas, patch: Patch) -> None:
    """A curve from each patch that this one builds on."""
    for needed in patch.needs:
        start, end, x = _y(needed) + 4, _y(patch.number), _NUMBER_X - 14
        bulge = x - 14 * (patch.number - needed) ** 0.5 - 8
        path = f"M{x},{start}C{bulge},{start + 4},{bulge},{end},{x},{end}"
        canvas.figure.add_shape(type="path", path=path, line={"color": palette.GREY, "width": 1.5})
        canvas.text(x + 1, end, "▸", "right", size=12)


def _lane_x(at: int) -> float:
    return _LANE_X + at * _LANE_STEP


def _y(number: int) -> float:
    return _TOP + (number - 0.5) * _ROW


def _listed(numbers: list[int]) -> str:
    """``4, 5, 9 and 11``."""
    *rest, last = map(str, numbers)
    return f"{', '.join(rest)} and {last}" if rest else last
