# SPDX-License-Identifier: GPL-2.0-only
"""Panels stacked top-down in one plotly figure, laid out in pixels.

Each panel has a heading on the left, its own pair of axes over the full width, and may be tied to a part of
the panel above it by a grey wedge: the reader zooms in from panel to panel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from workbench.view import palette

HEADING_PX = 20
INK, FAINT = "#222222", "#6B6B6B"
"""Text in a panel, and text that only explains: both keep 4.5 to 1 on white."""

WEDGE = "rgba(0,0,0,0.06)"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: its axes as traces name them, and its place in pixels below the top of the plot area."""

    number: int
    top_px: float
    height_px: float

    @property
    def axes(self) -> dict[str, str]:
        """``xaxis`` and ``yaxis`` of a trace in this panel."""
        return {"xaxis": f"x{self.number}", "yaxis": f"y{self.number}"}

    @property
    def ref(self) -> dict[str, str]:
        """``xref`` and ``yref`` of a shape or annotation in this panel."""
        return {"xref": f"x{self.number}", "yref": f"y{self.number}"}


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
    left_px, right_px, top_px, bottom_px : float
        Margins.
    """

    def __init__(
        self,
        heights_px: Sequence[tuple[float, float]],
        title: str,
        subtitle: str,
        width_px: float = 900,
        left_px: float = 64,
        right_px: float = 24,
        top_px: float = 104,
        bottom_px: float = 24,
    ) -> None:
        self.plot_height_px = sum(gap + height for gap, height in heights_px)
        self.plot_width_px = width_px - left_px - right_px
        self.figure = go.Figure(
            layout={
                "template": "devmap",
                "width": width_px,
                "height": self.plot_height_px + top_px + bottom_px,
                "margin": {"l": left_px, "r": right_px, "t": top_px, "b": bottom_px, "autoexpand": False},
                "title": {"text": title, "subtitle": {"text": subtitle}},
                "barmode": "overlay",
                "legend": {
                    "yref": "container",
                    "y": 1 - 56 / (self.plot_height_px + top_px + bottom_px),
                    "yanchor": "top",
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
        bare = {"showgrid": False, "showline": False, "ticks": "", "automargin": False, "fixedrange": True}
        bottom, top = self.y_paper(panel.top_px + panel.height_px), self.y_paper(panel.top_px)
        self.figure.update_layout(
            {
                f"xaxis{panel.number}": bare
                | {"domain": [0, 1], "anchor": f"y{panel.number}", "showticklabels": False}
                | x,
                f"yaxis{panel.number}": bare
                | {"domain": [bottom, top], "anchor": f"x{panel.number}", "showticklabels": False}
                | y,
            }
        )

    def heading(self, panel: Panel, text: str, aside: str = "") -> None:
        """Write ``text`` in bold above ``panel``, and ``aside`` faintly at the right end of the same line."""
        place = {"yref": "paper", "xref": "paper", "y": self.y_paper(panel.top_px - 4), "yanchor": "bottom"}
        left = {"x": 0, "xanchor": "left", "xshift": -48, "align": "left"}
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

    def legend(self, roles: Sequence[str], kind: str, changed: bool = False) -> None:
        """One legend on top: the roles shown, the outline of a changed word, and where the numbers come from."""
        panel = self.panels[0]
        entries = [(palette.ROLES[role].label, palette.role_marker(role)) for role in palette.ROLES if role in roles]
        if changed:
            entries.append(("word that differs", {"color": "#FFFFFF", "line": palette.CHANGED}))
        for name, marker in entries:
            self.figure.add_bar(x=[None], y=[None], name=name, marker=marker, showlegend=True, **panel.axes)
        mark = palette.PROVENANCE.get(kind)
        self.figure.add_scatter(
            x=[None],
            y=[None],
            name=mark.label if mark else kind,
            mode="markers",
            marker={"symbol": mark.symbol if mark else "x-thin-open", "size": 9, "color": INK},
            showlegend=True,
            **panel.axes,
        )


def tint(color: str, strength: float = 0.3) -> str:
    """``color`` (``#RRGGBB``) mixed with white, so that dark text on it can be read.

    Examples
    --------
    >>> tint("#000000", 0.2)
    '#CCCCCC'
    """
    parts = (int(color[k : k + 2], 16) for k in (1, 3, 5))
    return "#" + "".join(f"{round(255 - (255 - part) * strength):02X}" for part in parts)
