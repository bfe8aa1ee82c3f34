# SPDX-License-Identifier: GPL-2.0-only
"""Small tables that read the same as HTML and as text, and the legend of the provenance marks.

A table takes its colours from the page around it, so that it is right in a light and in a dark theme.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape, unescape

from workbench.errors import WorkbenchError
from workbench.view.palette import PROVENANCE

MARKS = {"diamond": "◆", "square": "■", "triangle-up": "▲", "circle": "●", "x": "✕"}
"""plotly marker symbol to the character that stands for it in tables and running text."""

_MEANING = {
    "published": "printed in the series, a mail or a paper; the source is named beside it",
    "captured": "read out of the memory, the log or the page tables of a real kernel",
    "derived": "follows from the kernel's rules or from arithmetic; the engine computed it",
    "measured": "timed by this workbench on a machine that is named beside it",
    "modelled": "output of a cost model, with its parameters",
}

_RULE = "border:0;border-bottom:1px solid rgba(128,128,128,.35);"
_CELL = _RULE + "padding:4px 12px 4px 0;vertical-align:top;text-align:{align};"
_TAG = re.compile(r"<[^>]+>")
_TEXT_WIDTH = 60


class Html(str):
    """Cell text that is HTML already."""

    __slots__ = ()


@dataclass(frozen=True)
class Table:
    """A table for people.

    Parameters
    ----------
    caption : str
        What the table says, and where its numbers come from.
    header : sequence of str
        One entry a column.
    rows : sequence of sequence of str
        Cells; a plain str is escaped, an :class:`Html` is not.
    align : str
        One letter a column, ``l`` or ``r``; default the first column ``l`` and the others ``r``.

    Raises
    ------
    WorkbenchError
        A row has not one cell a column.

    Examples
    --------
    >>> Table("Sizes (derived).", ["page", "size"], [["head", "64 B"]])
    Sizes (derived).
      page  size
      head  64 B
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: str = ""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.header) for row in self.rows) or len(self.align) not in (0, len(self.header)):
            raise WorkbenchError(
                f"table {self.caption!r}: every row and the alignment have one entry for each of its "
                f"{len(self.header)} columns. Fill the missing cells with an empty text."
            )

    def _aligned(self) -> str:
        return self.align or "l" + "r" * (len(self.header) - 1)

    def _repr_html_(self) -> str:
        styles = [_CELL.format(align="left" if side == "l" else "right") for side in self._aligned()]
        head = "".join(f'<th scope="col" style="{s}">{_html(h)}</th>' for h, s in zip(self.header, styles, strict=True))
        body = "".join(
            "<tr>"
            + f'<th scope="row" style="{styles[0]}font-weight:normal;white-space:nowrap;">{_html(row[0])}</th>'
            + "".join(f'<td style="{s}">{_html(cell)}</td>' for cell, s in zip(row[1:], styles[1:], strict=True))
            + "</tr>"
            for row in self.rows
        )
        caption = '<caption style="caption-side:bottom;text-align:left;max-width:60em;padding-top:6px;opacity:.8;">'
        return (
            '<table style="border-collapse:collapse;margin:4px 0 12px 0;font-size:14px;">'
            f"{caption}{_html(self.caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

    def __repr__(self) -> str:
        lines = [[_plain(cell) for cell in row] for row in (self.header, *self.rows)]
        wrapped = [[textwrap.wrap(cell, _TEXT_WIDTH) or [""] for cell in row] for row in lines]
        widths = [max(len(line) for row in wrapped for line in row[k]) for k in range(len(self.header))]
        out = [_plain(self.caption)]
        for row in wrapped:
            for at in range(max(map(len, row))):
                cells = [cell[at] if at < len(cell) else "" for cell in row]
                padded = [
                    cell.ljust(width) if side == "l" else cell.rjust(width)
                    for cell, width, side in zip(cells, widths, self._aligned(), strict=True)
                ]
                out.append(("  " + "  ".join(padded)).rstrip())
        return "\n".join(out)


@dataclass(frozen=True)
class Beside:
    """Tables side by side where the page is wide enough, else below each other.

    Parameters
    ----------
    tables : tuple of Table
        From left to right.

    Examples
    --------
    >>> table = Table("Sizes (derived).", ["page", "size"], [["head", "64 B"]])
    >>> Beside((table, table))._repr_html_().count("<table")
    2
    """

    tables: tuple[Table, ...]

    def _repr_html_(self) -> str:
        inside = "".join(f"<div>{table._repr_html_()}</div>" for table in self.tables)
        return f'<div style="display:flex;flex-wrap:wrap;gap:0 40px;">{inside}</div>'

    def __repr__(self) -> str:
        return "\n\n".join(map(repr, self.tables))


def provenance_legend() -> Table:
    """What each provenance mark means, as figures and tables use it.

    Returns
    -------
    Table
        One row a kind, in the order of ``workbench.view.provenance.KINDS``.
    """
    rows = [[MARKS[mark.symbol], kind, mark.dash, _MEANING[kind]] for kind, mark in PROVENANCE.items()]
    return Table(
        "Every number of this workbench carries one of these marks or words.",
        ["mark", "word", "line", "the number was"],
        rows,
        "llll",
    )


def mark(kind: str) -> str:
    """The character of a provenance.

    Parameters
    ----------
    kind : str
        One of ``workbench.view.provenance.KINDS``.

    Examples
    --------
    >>> mark("captured"), mark("derived")
    ('■', '▲')
    """
    if kind not in PROVENANCE:
        raise WorkbenchError(f"provenance {kind!r} is not known; write one of {', '.join(PROVENANCE)}.")
    return MARKS[PROVENANCE[kind].symbol]


def origin(kind: str) -> str:
    """How a subtitle begins: the mark of a provenance and its word, since a figure has no legend of marks.

    Parameters
    ----------
    kind : str
        One of ``workbench.view.provenance.KINDS``.

    Examples
    --------
    >>> origin("derived")
    '▲ derived:'
    """
    return f"{mark(kind)} {kind}:"


def _html(cell: str) -> str:
    return cell if isinstance(cell, Html) else escape(cell)


def _plain(cell: str) -> str:
    return unescape(_TAG.sub("", cell.replace("<br>", ": "))).strip() if isinstance(cell, Html) else cell
