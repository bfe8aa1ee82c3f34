# SPDX-License-Identifier: GPL-2.0-only
"""A figure with controls: pick a value, see the figure anew.

::

    Choices(draw, kernel=["5.16+3", "5.16+4"], page=range(8))

* ``draw`` is called with one value of each choice and returns a figure that went through ``describe``.
* A sequence becomes a drop-down list, a mapping one that shows its keys and gives its values, a ``range`` a
  slider that the arrow keys move.
* Where no kernel runs (an exported page, a saved notebook) the figure of the first values stands in its place.
* What ``draw`` refuses is said where the figure would be.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import ipywidgets as widgets
import plotly.graph_objects as go

from workbench.errors import WorkbenchError
from workbench.view import palette
from workbench.view.export import description

MARGIN = "2px 20px 2px 2px"
"""Around a control."""

PLOTLY = "application/vnd.plotly.v1+json"


class Choices(widgets.VBox):
    """A figure and the controls that choose what it shows.

    Parameters
    ----------
    draw : callable
        Takes the choices by name, returns a described figure.
    first : mapping, optional
        The values to begin with; by default the first of each choice.
    **choices : sequence, mapping or range
        The values of each; a name is shown with blanks for underscores.

    Raises
    ------
    WorkbenchError
        There is no choice, or ``draw`` refuses the first values.
    """

    def __init__(
        self,
        draw: Callable[..., go.Figure],
        first: Mapping[str, Any] | None = None,
        **choices: Sequence[Any] | Mapping[str, Any] | range,
    ) -> None:
        if not choices or not all(len(values) for values in choices.values()):
            raise WorkbenchError("give at least one choice with at least one value, such as page=range(8).")
        self._draw = draw
        begin = dict(first or {})
        self.controls = {
            name: _control(name, values, begin.get(name, _first(values))) for name, values in choices.items()
        }
        self.shown = draw(**self.chosen)
        self.figure = widgets.Output()
        self.said = widgets.HTML()
        super().__init__(
            [widgets.HBox(list(self.controls.values()), layout={"flex_flow": "row wrap"}), self.figure, self.said]
        )
        self._show()
        for control in self.controls.values():
            control.observe(self._update, names="value")

    @property
    def chosen(self) -> dict[str, Any]:
        """The value of each choice."""
        return {name: control.value for name, control in self.controls.items()}

    def _update(self, _: object) -> None:
        try:
            self.shown = self._draw(**self.chosen)
        except WorkbenchError as error:
            self.figure.outputs = ()
            self.said.value = f'<p role="status">{escape(str(error))}</p>'
            return
        self._show()

    def _show(self) -> None:
        caption, _ = description(self.shown)
        self.figure.outputs = ({"output_type": "display_data", "data": self._bundle(), "metadata": {}},)
        self.said.value = f'<p role="status" style="max-width:60em;opacity:.85;line-height:1.4;">{escape(caption)}</p>'

    def _bundle(self) -> dict[str, Any]:
        return {
            PLOTLY: json.loads(self.shown.to_json()) | {"config": dict(palette.CONFIG)},
            "text/plain": self._plain(),
        }

    def _plain(self) -> str:
        return description(self.shown)[1]

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs) or {}
        return bundle | self._bundle()


def _first(values: Sequence[Any] | Mapping[str, Any] | range) -> Any:
    return next(iter(values.values() if isinstance(values, Mapping) else values))


def _control(name: str, values: Sequence[Any] | Mapping[str, Any] | range, value: Any) -> widgets.Widget:
    label = name.replace("_", " ")
    style = {"description_width": "initial"}
    if isinstance(values, range):
        return widgets.IntSlider(
            value=value,
            min=values[0],
            max=values[-1],
            step=values.step,
            description=label,
            style=style,
            continuous_update=False,
            layout={"width": "400px", "margin": MARGIN},
        )
    options = list(values.items() if isinstance(values, Mapping) else values)
    return widgets.Dropdown(
        options=options, value=value, description=label, style=style, layout={"width": "auto", "margin": MARGIN}
    )
