# SPDX-License-Identifier: GPL-2.0-only
"""A plotly figure used as a drawing: coordinates are CSS pixels, y runs down, nothing is an axis.

Cells are one trace a colour, however many there are, and stay vectors in SVG and PDF.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go


class Canvas:
    """A drawing of ``width`` by ``height`` pixels below a title.

    Parameters
    ----------
    width, height : int
        Of the drawing area, in its own pixels.
    title, subtitle : str
        Above the drawing, on the left.
    width_px : int
        Of the figure, in CSS pixels; the drawing is scaled to it.
    top_px, bottom_px : int
        CSS pixels above (title, legend) and below the drawing area.
    """

    def __init__(
        self, width: int, height: int, title: str, subtitle: str, width_px: int, top_px: int, bottom_px: int = 8
    ) -> None:
        self.scale = width_px / width
        self.figure = go.Figure()
        self.figure.update_layout(
            template="devmap",
            title_text=title,
            title_subtitle_text=subtitle,
            width=width_px,
            height=round(height * self.scale) + top_px + bottom_px,
            margin={"l": 0, "r": 0, "t": top_px, "b": bottom_px},
            legend={"itemclick": False, "itemdoubleclick": False},
            hovermode=False,
            dragmode=False,
        )
        hidden: dict[str, Any] = {"visible": False, "fixedrange": True}
        self.figure.update_xaxes(range=[0, width], **hidden)
        self.figure.update_yaxes(range=[height, 0], **hidden)

    def cells(
        self, boxes: Sequence[tuple[float, float, float, float]], fill: str, line: dict[str, Any], name: str = ""
    ) -> None:
        """Rectangles ``(left, top, right, bottom)`` of one look; with a ``name`` they stand in the legend."""
        xs: list[float | None] = []
        ys: list[float | None] = []
        for left, top, right, bottom in boxes:
            xs += [left, right, right, left, left, None]
            ys += [top, top, bottom, bottom, top, None]
        look = {"mode": "lines", "fill": "toself", "fillcolor": fill, "line": line, "hoverinfo": "skip"}
        self.figure.add_scatter(x=xs, y=ys, showlegend=False, **look)
        if name:
            marker = {"symbol": "square", "size": 12, "color": fill, "line": line}
            self.figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=name)

    def line(self, points: Sequence[tuple[float, float]], **line: Any) -> None:
        """A line through ``points``, under all cells; ``line`` as in a plotly shape."""
        path = "M" + "L".join(f"{x},{y}" for x, y in points)
        self.figure.add_shape(type="path", path=path, line=line, layer="below")

    def text(self, x: float, y: float, words: str, anchor: str = "left", size: float = 13, **more: Any) -> None:
        """``words`` at ``x``, vertically centred on ``y``; ``anchor`` is left, center or right."""
        self.figure.add_annotation(
            x=x,
            y=y,
            text=words,
            xanchor=anchor,
            yanchor="middle",
            align=anchor,
            font_size=size,
            showarrow=False,
            **more,
        )
