# SPDX-License-Identifier: GPL-2.0-only
"""Colours, patterns, marker shapes and the two plotly templates of every figure.

One meaning for each channel, everywhere:

* **hue is the role of a page** (:data:`ROLES`): what a struct page is used as;
* **pattern** marks what is not a page of the device: altmap (hatched) and unpopulated (crossed);
* **marker shape is the provenance of a number** (:data:`PROVENANCE`): published, captured, derived,
  measured or modelled.  Where there are no markers the line's dash says it;
* **a changed word is outlined** (:data:`CHANGED`); words are told apart by text, never by hue;
* **a state of the series** (before, after, deduplicated) has a line colour of its own
  (:data:`STATES`), used in charts that draw costs and no pages.

The hues are those of Okabe and Ito, which people with any common colour vision can tell apart; the
light ones carry a dark outline.  The templates ``devmap`` and ``devmap-dark`` are registered with
plotly when this module is imported, and :data:`CONFIG` with its renderers; ``install()`` makes a template the
default.  Their top margin holds a
title and one row of legend; a figure with a subtitle as well sets ``margin_t=104``, and 20 more for each
further row::

    from workbench.view import palette
    palette.install()                      # notebooks: first cell
    fig.add_bar(..., marker=palette.role_marker(Role.HEAD))
    fig.add_scatter(..., **palette.provenance_style("published"))
    fig.add_heatmap(z=..., **palette.role_heatmap([Role.HEAD, Role.FIRST_TAIL, Role.TAIL]))

Source of the hues: M. Okabe and K. Ito, "Color Universal Design", 2008.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio

from workbench.abi import Role
from workbench.errors import WorkbenchError
from workbench.view.provenance import KINDS

FONT_FAMILY = "DejaVu Sans, Verdana, sans-serif"
MONO_FAMILY = "DejaVu Sans Mono, monospace"
FONTS = ("DejaVu Sans", "DejaVu Sans Mono")
"""The families a figure may ask for; the sidecar says which faces the browser really used."""

BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#999999"
OUTLINE = "#333333"

ALTMAP = "altmap"
UNPOPULATED = "unpopulated"


@dataclass(frozen=True, slots=True)
class Swatch:
    """How one role is drawn: legend text, fill, outline and plotly pattern shape ("" for none)."""

    label: str
    fill: str
    outline: str
    pattern: str = ""


ROLES: dict[str, Swatch] = {
    Role.BASE: Swatch("base page (RAM)", "#D9D9D9", OUTLINE),
    Role.ZONE_DEVICE: Swatch("base page", GREY, OUTLINE),
    Role.HEAD: Swatch("head", VERMILION, VERMILION),
    Role.FIRST_TAIL: Swatch("first tail", ORANGE, OUTLINE),
    Role.SECOND_TAIL: Swatch("second tail", YELLOW, OUTLINE),
    Role.TAIL: Swatch("further tail", SKY, OUTLINE),
    Role.BUDDY: Swatch("free (buddy)", GREEN, GREEN),
    ALTMAP: Swatch("altmap (metadata and padding)", PURPLE, OUTLINE, "/"),
    UNPOPULATED: Swatch("reserved or unpopulated", "#FFFFFF", "#777777", "x"),
    Role.UNINITIALISED: Swatch("not initialised", "#FFFFFF", "#777777", "."),
}
"""Role (``workbench.abi.Role`` or :data:`ALTMAP`, :data:`UNPOPULATED`) to how it is drawn."""

CHANGED = {"color": BLACK, "width": 2}
"""Outline of a word that differs between before and after, as a plotly line."""

STATES: dict[str, str] = {"before": "#666666", "after": BLUE, "dedup": VERMILION}
"""Line colour of a state of the series, for charts without pages."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How one provenance is drawn: legend text, plotly marker symbol, plotly line dash."""

    label: str
    symbol: str
    dash: str


PROVENANCE: dict[str, Mark] = dict(
    zip(
        KINDS,
        (
            Mark("published", "diamond", "solid"),
            Mark("captured", "square", "solid"),
            Mark("derived", "triangle-up", "solid"),
            Mark("measured", "circle", "solid"),
            Mark("modelled", "x", "dot"),
        ),
        strict=True,
    )
)
"""Provenance kind to how it is drawn."""

CONFIG: dict[str, Any] = {
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "displaylogo": False,
    "responsive": True,
}
"""plotly config of every interactive figure: nothing leaves the reader's machine."""

NOTEBOOK_PX = 820
"""Widest figure of a notebook: JupyterLab leaves it some 848 px on a screen of 1280; wider ones are cut off."""


def role_marker(role: str) -> dict[str, Any]:
    """The ``marker`` of a bar that shows pages of ``role``.

    Parameters
    ----------
    role : str
        A key of :data:`ROLES`.

    Returns
    -------
    dict
        Fill, outline and pattern.

    Raises
    ------
    WorkbenchError
        ``role`` has no colour.

    Examples
    --------
    >>> role_marker(Role.HEAD)["color"]
    '#D55E00'
    """
    swatch = _swatch(role)
    marker: dict[str, Any] = {"color": swatch.fill, "line": {"color": swatch.outline, "width": 1}}
    if swatch.pattern:
        marker["pattern"] = {
            "shape": swatch.pattern,
            "fgcolor": swatch.outline,
            "bgcolor": swatch.fill,
            "fillmode": "overlay",
            "size": 6,
            "solidity": 0.25,
        }
    return marker


def role_heatmap(roles: Sequence[str]) -> dict[str, Any]:
    """Arguments of a heatmap whose cells are indices into ``roles``.

    Parameters
    ----------
    roles : sequence of str
        Keys of :data:`ROLES`; cell value ``k`` is drawn as ``roles[k]``.

    Returns
    -------
    dict
        ``colorscale``, ``zmin``, ``zmax`` and ``showscale``.

    Examples
    --------
    >>> role_heatmap([Role.HEAD, Role.TAIL])["colorscale"]
    [[0.0, '#D55E00'], [0.5, '#D55E00'], [0.5, '#56B4E9'], [1.0, '#56B4E9']]
    """
    steps = len(roles)
    fills = [_swatch(role).fill for role in roles]
    scale = [[(k + end) / steps, fill] for k, fill in enumerate(fills) for end in (0, 1)]
    return {"colorscale": scale, "zmin": -0.5, "zmax": steps - 0.5, "showscale": False}


def provenance_style(kind: str, color: str | None = None) -> dict[str, Any]:
    """``marker`` and ``line`` of a scatter trace whose numbers are of provenance ``kind``.

    Parameters
    ----------
    kind : str
        One of ``workbench.view.provenance.KINDS``.
    color : str, optional
        CSS colour of both; the template's next colour if not given.

    Raises
    ------
    WorkbenchError
        ``kind`` is not a provenance.

    Examples
    --------
    >>> provenance_style("modelled")
    {'marker': {'symbol': 'x', 'size': 9}, 'line': {'dash': 'dot', 'width': 2}}
    """
    if kind not in PROVENANCE:
        raise WorkbenchError(f"provenance {kind!r} is not known; write one of {', '.join(PROVENANCE)}.")
    mark = PROVENANCE[kind]
    style: dict[str, Any] = {
        "marker": {"symbol": mark.symbol, "size": 9},
        "line": {"dash": mark.dash, "width": 2},
    }
    if color is not None:
        style["marker"]["color"] = style["line"]["color"] = color
    return style


def install(dark: bool = False) -> None:
    """Make the template the default of every figure in this process, and :data:`CONFIG` that of its renderers.

    Parameters
    ----------
    dark : bool
        Use ``devmap-dark`` instead of ``devmap``.
    """
    pio.templates.default = "devmap-dark" if dark else "devmap"
    _keep_at_home()


def _keep_at_home() -> None:
    """:data:`CONFIG` for every renderer of plotly's that shows a figure to somebody."""
    for name in ("plotly_mimetype", "notebook", "notebook_connected", "browser"):
        pio.renderers[name].config = dict(CONFIG)


def _swatch(role: str) -> Swatch:
    if role not in ROLES:
        raise WorkbenchError(f"page role {str(role)!r} has no colour; write one of {', '.join(ROLES)}.")
    return ROLES[role]


def _template(ink: str, paper: str, plot: str, grid: str, colorway: list[str]) -> go.layout.Template:
    axis = {
        "automargin": True,
        "gridcolor": grid,
        "linecolor": ink,
        "showline": True,
        "tickcolor": ink,
        "ticks": "outside",
        "ticklen": 4,
        "title": {"standoff": 8},
        "zeroline": False,
        "zerolinecolor": grid,
    }
    return go.layout.Template(
        layout={
            "colorway": colorway,
            "font": {"family": FONT_FAMILY, "size": 13, "color": ink},
            "title": {
                "x": 0,
                "xref": "container",
                "xanchor": "left",
                "y": 1,
                "yref": "container",
                "yanchor": "top",
                "pad": {"l": 16, "t": 14},
                "font": {"size": 17},
                "subtitle": {"font": {"size": 13}},
            },
            "legend": {
                "orientation": "h",
                "x": 0,
                "xanchor": "left",
                "y": 1.02,
                "yanchor": "bottom",
                "title": {"text": ""},
            },
            "margin": {"l": 72, "r": 24, "t": 88, "b": 56},
            "paper_bgcolor": paper,
            "plot_bgcolor": plot,
            "xaxis": axis,
            "yaxis": axis,
            "annotationdefaults": {"font": {"size": 12}, "arrowwidth": 1, "arrowcolor": ink, "showarrow": False},
            "hoverlabel": {"font": {"family": MONO_FAMILY, "size": 12}, "align": "left"},
            "barcornerradius": 0,
        }
    )


pio.templates["devmap"] = _template(
    ink="#222222",
    paper="#FFFFFF",
    plot="#FFFFFF",
    grid="#E3E3E3",
    colorway=[BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK],
)
pio.templates["devmap-dark"] = _template(
    ink="#E8E8E8",
    paper="#16191D",
    plot="#16191D",
    grid="#3A3F45",
    colorway=[SKY, ORANGE, GREEN, PURPLE, YELLOW, VERMILION, "#FFFFFF"],
)

_keep_at_home()
