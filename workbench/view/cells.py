# SPDX-License-Identifier: GPL-2.0-only
"""A grid of struct pages: a column a page, a row a word, a bar of the page's role on top.

Text tells what a word is, the tint of a cell is the role of its page, a black outline a word that matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from workbench.abi import WORDS, Abi, Role
from workbench.text import pfn as pfn_text
from workbench.text import word as word_text
from workbench.view import palette, words
from workbench.view.panels import FAINT, INK, Panel, Panels, tint

ROW_PX = 24
TOP = -0.8
"""Upper edge of the role bars on the y axis; words take 0 to 8, downwards."""

MONO = {"family": palette.MONO_FAMILY}
OFFSETS = [f"+{8 * word}" for word in range(WORDS)]

_WIDTH = 0.96
_PLAIN = {"color": "#BBBBBB", "width": 0.5}
_TEXT_PX, _TEXT_CHAR_PX = 10, 6.4
"""Size of a cell's text, and the width of a character of it, about; texts too long for a cell are set smaller."""

Rows = Sequence[tuple[Sequence[int], int]]
"""Struct pages as eight ints each, with their pfn."""


def label(role: Role) -> str:
    """A role in the few letters below a column.

    Examples
    --------
    >>> label(Role.FIRST_TAIL), label(Role.TAIL)
    ('first tail', 'tail')
    """
    return palette.ROLES[role].label.replace("further ", "")


def draw_cells(
    panels: Panels, panel: Panel, abi: Abi, rows: Rows, outlined: np.ndarray | None = None, folded: float = 0.0
) -> None:
    """Fill ``panel`` with the grid: role bars, words and axes.

    Parameters
    ----------
    panels : Panels
        The figure that ``panel`` is part of.
    panel : Panel
    abi, rows, outlined
        As :func:`word_bar`.
    folded : float
        Room left on the right for :func:`folded_bar`, in columns.
    """
    roles = [abi.role(row, pfn) for row, pfn in rows]
    wider = max(0, panels.figure.layout.width - palette.NOTEBOOK_PX)  # the texts fit at a notebook's width, too
    column_px = (panels.plot_width_px - wider) / (len(rows) + folded)
    for bar in (*role_bars(roles), word_bar(abi, rows, column_px, outlined)):
        panels.figure.add_trace(bar.update(panel.axes))
    panels.axes(panel, *axes(roles, folded))


def role_bars(roles: Sequence[Role]) -> list[go.Bar]:
    """The bars on top of the columns, one trace a role."""
    return [
        go.Bar(
            x=at,
            y=[0.5] * len(at),
            base=[TOP + 0.08] * len(at),
            width=[_WIDTH] * len(at),
            marker=palette.role_marker(role),
            hoverinfo="skip",
            showlegend=False,
        )
        for role in dict.fromkeys(roles)
        for at in [[k for k, one in enumerate(roles) if one is role]]
    ]


def word_bar(abi: Abi, rows: Rows, column_px: float, outlined: np.ndarray | None = None) -> go.Bar:
    """The cells of all words, one trace called ``words``.

    Parameters
    ----------
    abi : Abi
    rows : Rows
        The struct pages, from left to right.
    column_px : float
        Width of a struct page, in CSS pixels.
    outlined : bool[len(rows), 8], optional
        Which words get the outline.
    """
    pages, fit = len(rows), int(_WIDTH * column_px / _TEXT_CHAR_PX)
    roles = [abi.role(row, pfn) for row, pfn in rows]
    x, y = np.repeat(np.arange(pages), WORDS), np.tile(np.arange(WORDS), pages)
    marked = np.zeros(len(x), bool) if outlined is None else outlined.ravel()
    order = np.argsort(marked, kind="stable")  # outlines come last, over their neighbours
    cells = [text for row, pfn in rows for text in words.short(abi, row, pfn)]
    lines = [text for row, pfn in rows for text in words.long(abi, row, pfn)]
    heads = [f"pfn {pfn_text(pfn)} +{8 * word}  {word_text(row[word])}" for row, pfn in rows for word in range(WORDS)]
    looks = [palette.CHANGED if mark else _PLAIN for mark in marked[order]]
    return go.Bar(
        x=x[order],
        y=np.full(len(x), 0.86),
        base=y[order] + 0.07,
        width=np.full(len(x), _WIDTH),
        marker={
            "color": [tint(palette.ROLES[roles[k]].fill) for k in x[order]],
            "line": {"color": [look["color"] for look in looks], "width": [look["width"] for look in looks]},
        },
        text=[cells[k] for k in order],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        constraintext="none",
        textfont={
            **MONO,
            "size": [min(_TEXT_PX, _TEXT_PX * fit / len(cells[k])) for k in order],
            "color": [FAINT if cells[k] == "0" else INK for k in order],
        },
        hovertext=[f"{heads[k]}<br>{lines[k]}" for k in order],
        hoverinfo="text",
        showlegend=False,
        name="words",
    )


def folded_bar(pages: int, width: float, role: Role, text: str, hover: str) -> go.Bar:
    """One column, ``width`` pages wide, that stands for the struct pages after the first ``pages``."""
    return go.Bar(
        x=[pages - 0.5 + width / 2],
        y=[WORDS - TOP - 0.08],
        base=[TOP + 0.08],
        width=[width - 0.1],
        marker={"color": tint(palette.ROLES[role].fill, 0.15), "line": {"color": "#BBBBBB", "width": 1}},
        text=[text],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        constraintext="none",
        textfont={"size": 13, "color": INK},
        hovertext=[hover],
        hoverinfo="text",
        showlegend=False,
        name="folded",
    )


def axes(roles: Sequence[Role], folded: float = 0.0) -> tuple[dict[str, Any], dict[str, Any]]:
    """The x axis (number and role of each page) and the y axis (offset of each word), top-down."""
    pages = len(roles)
    x = {
        "range": [-0.5, pages + folded - 0.5],
        "showticklabels": True,
        "tickvals": list(range(pages)),
        "ticktext": [f"{k}<br>{label(role)}" for k, role in enumerate(roles)],
        "tickfont": {"size": 11},
    }
    y = {
        "range": [WORDS, TOP],
        "showticklabels": True,
        "tickvals": [k + 0.5 for k in range(WORDS)],
        "ticktext": OFFSETS,
        "tickfont": {**MONO, "size": 11},
    }
    return x, y
