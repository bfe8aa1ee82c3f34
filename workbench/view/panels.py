# SPDX-License-Identifier: GPL-2.0-only
"""Panels stacked top-down in one plotly figure, laid out in pixels.

Each panel has a heading on the left, its own pair of axes over the full width, and may be tied to a part of
the panel above it by a grey wedge: the reader zooms in from panel to panel.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from workbench.view import palette

HEADING_PX = 20
CHAR_PX = 6.7
"""Width of a character of 12 px, about: to see whether a label fits."""

INK, FAINT = "#222222", "#6B6B6B"
"""Text in a panel, and text that only explains: both keep 4.5 to 1 on white."""

_LEGEND_PX, _LEGEND_ROW_PX = 70, 22
"""Where the legend begins below the top of the figure, and the height of a row of it."""

WEDGE = "rgba(0,0,0,0.06)"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: its axes as traces name them, and its place in pixels below the top of the plot area."""

    number: int
    top_px: float
    height_px: float

    @property
    def x(self) -> str:
        """The name of its x axis: ``x``, ``x2``, ..."""
        return f"x{self.number}" if self.number > 1 else "x"

    @property
    def y(self) -> str:
        """The name of its y axis."""
        return f"y{self.number}" if self.number > 1 else "y"

    @property
    def axes(self) -> dict[str, str]:
        """``xaxis`` and ``yaxis`` of a trace in this panel."""
        return {"xaxis": self.x, "yaxis": self.y}

    @property
    def ref(self) -> dict[str, str]:
        """``xref`` and ``yref`` of a shape or annotation in this panel."""
        return {"xref": self.x, "yref": self.y}


class Panels:
    """A figure made of panels.

    Parameters
    ----------
    heights_px : sequence of (float, float)
        For each panel from the top: pixels of space above it (its heading included) and of the panel itself.
    width_px : float
        Of the figure.
    title, subtitle : str
        Above everything, on the left.
    left_px, right_px, bottom_px : float
        Margins; the one on top holds title, subtitle and legend.
    legend_rows : int
        Rows the legend takes: plotly starts a new one where the entries, all as wide as the widest, fill a row.
    """

    def __init__(
        self,
        heights_px: Sequence[tuple[float, float]],
        title: str,
        subtitle: str,
        width_px: float = palette.NOTEBOOK_PX,
        left_px: float = 64,
        right_px: float = 24,
        bottom_px: float = 24,
        legend_rows: int = 1,
    ) -> None:
        top_px = _LEGEND_PX + _LEGEND_ROW_PX * legend_rows
        self.plot_height_px = sum(gap + height for gap, height in heights_px)
        self.plot_width_px = width_px - left_px - right_px
        self.left_px = left_px
        self.figure = go.Figure(
            layout={
                "template": "devmap",
                "width": width_px,
                "height": self.plot_height_px + top_px + bottom_px,
                "margin": {"l": left_px, "r": right_px, "t": top_px, "b": bottom_px, "autoexpand": False},
                "title": {"text": title, "subtitle": {"text": subtitle}},
                "barmode": "overlay",
                "legend": {
                    "xref": "container",
                    "x": 8 / width_px,
                    "yref": "container",
                    "y": 1 - _LEGEND_PX / (self.plot_height_px + top_px + bottom_px),
                    "yanchor": "top",
                    "font": {"size": 12},
                },
                "hovermode": "closest",
            }
        )
        self.panels: list[Panel] = []
        top = 0.0
        for gap, height in heights_px:
            self.panels.append(Panel(len(self.panels) + 1, top + gap, height))
            top += gap + height

    def y_paper(self, px: float) -> float:
        """Pixels below the top of the plot area as plotly's paper coordinate."""
        return 1 - px / self.plot_height_px

    def axes(self, panel: Panel, x: dict, y: dict) -> None:
        """Set the axes of ``panel``: bare unless ``x`` or ``y`` say otherwise."""
        bare = {
            "showgrid": False,
            "showline": False,
            "ticks": "",
            "automargin": False,
            "fixedrange": True,
            "ticklabelstandoff": 3,
        }
        bottom, top = self.y_paper(panel.top_px + panel.height_px), self.y_paper(panel.top_px)
        self.figure.update_layout(
            {
                f"xaxis{panel.x[1:]}": bare | {"domain": [0, 1], "anchor": panel.y, "showticklabels": False} | x,
                f"yaxis{panel.y[1:]}": bare | {"domain": [bottom, top], "anchor": panel.x, "showticklabels": False} | y,
            }
        )

    def heading(self, panel: Panel, text: str, aside: str = "", above_px: float = 4) -> None:
        """Write ``text`` in bold above ``panel``, and ``aside`` faintly at the right end of the same line."""
        place = {"yref": "paper", "xref": "paper", "y": self.y_paper(panel.top_px - above_px), "yanchor": "bottom"}
        left = {"x": 0, "xanchor": "left", "xshift": 16 - self.left_px, "align": "left"}
        self.figure.add_annotation(text=f"<b>{text}</b>", font={"size": 13}, **left, **place)
        if aside:
            self.figure.add_annotation(text=aside, x=1, xanchor="right", font={"size": 11, "color": FAINT}, **place)

    def wedge(self, upper: Panel, low: float, high: float, lower: Panel) -> None:
        """Tie the part ``low`` to ``high`` (fractions of the width) of ``upper`` to the whole of ``lower``."""
        top = self.y_paper(upper.top_px + upper.height_px)
        middle = self.y_paper(lower.top_px - HEADING_PX - 4)
        bottom = self.y_paper(lower.top_px)
        path = f"M{low},{top} L{high},{top} L1,{middle} L1,{bottom} L0,{bottom} L0,{middle} Z"
        self.figure.add_shape(
            type="path", path=path, xref="paper", yref="paper", fillcolor=WEDGE, line={"width": 0}, layer="below"
        )

    def zoom(self, upper: Panel, low: float, high: float, lower: Panel) -> None:
        """A wedge, and a frame around the part of ``upper``, whose y axis runs from 0 to 1, that it starts from."""
        self.wedge(upper, low, high, lower)
        wide = max(high, low + 2 / self.plot_width_px)
        line = {"color": palette.BLUE, "width": 2}
        self.figure.add_shape(type="rect", x0=low, x1=wide, y0=-0.06, y1=1.06, xref="paper", yref=upper.y, line=line)

    def legend(self, roles: Collection[str], changed: bool = False) -> None:
        """One legend on top: the roles shown and, if there are any, the outline of changed words."""
        entries = [(palette.ROLES[role].label, palette.role_marker(role)) for role in palette.ROLES if role in roles]
        if changed:
            entries.append(("word that differs", {"color": "#FFFFFF", "line": palette.CHANGED}))
        for name, marker in entries:
            self.figure.add_bar(x=[None], y=[None], name=name, marker=marker, showlegend=True, **self.panels[0].axes)


def tint(color: str, strength: float = 0.3) -> str:
    """``color`` (``#RRGGBB``) mixed with white, so that dark text on it can be read.

    Examples
    --------
    >>> tint("#000000", 0.2)
    '#CCCCCC'
    """
    parts = (int(color[k : k + 2], 16) for k in (1, 3, 5))
    return "#" + "".join(f"{round(255 - (255 - part) * strength):02X}" for part in parts)
