# SPDX-License-Identifier: GPL-2.0-only
"""Where dev_dax->pgmap points while a device is bound, let go, resized and refused: one lane a kernel."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from workbench.lab.dynamic_pgmap import Moment, Pgmap, dynamic_life, static_life
from workbench.view import palette
from workbench.view.canvas import Canvas
from workbench.view.export import describe
from workbench.view.panels import FAINT, tint
from workbench.view.summary import mark, origin

_LEFT, _CELL, _GAP, _RIGHT = 132, 60, 3, 8
_HEAD, _ROW, _BOX = 54, 74, 56
_LOOKS = {
    Pgmap.NULL: ("#FFFFFF", {"color": "#777777", "width": 1}, "NULL", palette.BLACK),
    Pgmap.OWN: (tint(palette.BLUE, 0.2), {"color": palette.BLUE, "width": 1}, "its own", palette.BLACK),
    Pgmap.IN_USE: (tint(palette.BLUE, 0.6), {"color": palette.BLUE, "width": 1}, "in use", palette.BLACK),
    Pgmap.STALE: (palette.BLACK, {"color": palette.BLACK, "width": 1}, "freed", "#FFFFFF"),
}


def pgmap_lanes(lanes: Mapping[str, Sequence[Moment]], title: str, width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """What the pointer is after each step; time runs to the right.

    Parameters
    ----------
    lanes : mapping of str to sequence of Moment
        Name of a lane to a life from :mod:`workbench.lab.dynamic_pgmap`, all of the same steps.
    title : str
        Above the figure.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption, alt text and origin.
    """
    steps = [moment.step for moment in next(iter(lanes.values()))]
    canvas = Canvas(
        max(_LEFT + len(steps) * (_CELL + _GAP) + _RIGHT, 700),
        _HEAD + _ROW * len(lanes),
        title,
        f"{origin('derived')} where dev_dax->pgmap points after each step; time runs to the right",
        width_px,
        top_px=104,
    )
    for column, step in enumerate(steps):
        canvas.text(_edge(column) + _CELL / 2, 22, _broken(step), anchor="center", size=12)
    for row, (name, moments) in enumerate(lanes.items()):
        top = _HEAD + row * _ROW
        canvas.text(_LEFT - 10, top + _BOX / 2, f"<b>{name}</b>", anchor="right", size=13)
        for column, moment in enumerate(moments):
            _cell(canvas, moment, _edge(column), top)
    seen = {moment.pgmap for moments in lanes.values() for moment in moments}
    for each in Pgmap:
        if each in seen:
            canvas.cells([], *_LOOKS[each][:2], each.value)
    canvas.figure.layout.meta = {"origin": "derived"}
    said = " ".join(
        f"{name}: {', '.join(f'{m.step} {m.errno or m.pgmap.value}' for m in moments)}."
        for name, moments in lanes.items()
    )
    return describe(
        canvas.figure,
        caption=(
            "Fill: what dev_dax->pgmap points to after the step. Text below it: the errno where the step was refused, "
            "else whether the device has its driver, and how many ranges its pgmap has. Memory taken: another driver "
            "has a page of the device during that one step. "
            f"{mark('derived')} Derived: the engine's bus and probe."
        ),
        alt=f"A lane for each of {', '.join(lanes)}. {said}",
    )


def explore_life(kernel: str, device: bool) -> go.Figure:
    """:func:`pgmap_lanes` of one kernel, for a notebook's controls.

    Parameters
    ----------
    kernel : str
        See :func:`workbench.series.kernel`.
    device : bool
        True for a dynamic device, False for a static one.
    """
    life = dynamic_life(kernel) if device else static_life(kernel)
    return pgmap_lanes({kernel: life}, f"A {'dynamic' if device else 'static'} device on kernel {kernel}")


def _broken(step: str) -> str:
    """The words of a step in as few lines as fit over a cell."""
    return "<br>".join(textwrap.wrap(step, 8))


def _edge(column: int) -> float:
    return _LEFT + column * (_CELL + _GAP)


def _cell(canvas: Canvas, moment: Moment, x: float, top: float) -> None:
    fill, line, words, ink = _LOOKS[moment.pgmap]
    canvas.cells([(x, top, x + _CELL, top + _BOX)], fill, line)
    middle = x + _CELL / 2
    canvas.text(middle, top + 15, f"<b>{words}</b>", anchor="center", size=12, font_color=ink)
    if moment.errno:
        canvas.text(middle, top + 38, f"<b>✗ {moment.errno}</b>", anchor="center", size=11, font_color=ink)
        return
    ranges = f"{moment.mapped_ranges} range{'s' * (moment.mapped_ranges != 1)}"
    state = f"bound,<br>{ranges}" if moment.bound else "unbound"
    canvas.text(middle, top + 38, state, anchor="center", size=11, font_color=ink if moment.bound else FAINT)
