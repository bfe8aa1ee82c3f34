# SPDX-License-Identifier: GPL-2.0-only
"""The timing part of the explorer: choose size, align, medium, kernel and path; see the time, why, what is touched.

::

    TimingExplorer()                            # modelled and published
    TimingExplorer(measured_of(run))            # and what a sweep measured
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

import ipywidgets as widgets
import plotly.graph_objects as go

from workbench import text
from workbench.errors import WorkbenchError
from workbench.lab.glossary import TERMS_CSS, explained
from workbench.lab.pin_events import PATHS, UNPIN
from workbench.view import palette
from workbench.view.choices import MARGIN, PLOTLY
from workbench.view.explorer.clicks import Clicks
from workbench.view.export import description
from workbench.view.timing import (
    ALIGNS,
    HEIGHT_PX,
    MEDIA,
    SIZES,
    STATES,
    Measured,
    Timing,
    measure,
    published_sizes,
    timing_figure,
    touched,
)

CHART_PX = palette.NOTEBOOK_PX + 10
"""Width that the chart takes, in CSS pixels."""

_CLICK = "Click a mark to choose its point and to see what its path touches; the lists above choose the same."


class TimingExplorer(widgets.VBox):
    """Times of pins and releases by choice, and the struct pages that the chosen path touches.

    A point is chosen by the lists, or by a click on its mark, which also shows what its path touches; that then
    follows the choices.  The figure is drawn anew at every choice.  Where no kernel runs it stands still in its place.

    Parameters
    ----------
    measured : mapping, optional
        Times measured before, see :func:`workbench.view.timing.measured_of`; the button adds to them.
    size, align, place, kernel, path
        Of the point to begin with, see :class:`workbench.view.timing.Timing`.
    """

    def __init__(
        self,
        measured: Measured | None = None,
        size: int = 16 << 30,
        align: int = 2 << 20,
        place: str = "pmem",
        kernel: str = "5.16+11",
        path: str = UNPIN,
    ) -> None:
        style = {"description_width": "initial"}

        def one_of(label: str, options: dict[str, object], value: object) -> widgets.Dropdown:
            return widgets.Dropdown(
                options=list(options.items()),
                value=value,
                description=label,
                style=style,
                layout={"width": "auto", "margin": MARGIN},
            )

        self.measured = dict(measured or {})
        sizes = sorted({*SIZES, *published_sizes(), *(point.size for point in self.measured), size})
        self.path = one_of("path", {f"{path}()": path for path in PATHS}, path)
        self.size = one_of("memory held", {text.size(size, exact=True): size for size in sizes}, size)
        self.align = one_of("align of the mapping", {text.size(align): align for align in ALIGNS}, align)
        self.place = one_of("medium of the struct pages", {name: name for name in MEDIA}, place)
        self.kernel = one_of("state of the series", {state.label: name for name, state in STATES.items()}, kernel)
        self.show = widgets.Checkbox(value=False, description="show what this path touches", indent=False, style=style)
        self.measure = widgets.Button(
            description="Measure here", tooltip="time the engine's pins and releases at this size and align, in DRAM"
        )
        self.shown: go.Figure | None = None
        self.figure = widgets.Output(
            layout={"min_height": f"{HEIGHT_PX}px"}
        )  # the page stands still when it is redrawn
        self.said = widgets.HTML()
        self.touched = widgets.VBox(layout={"flex": f"1 1 {CHART_PX}px"})  # beside the chart where there is room
        self._played: tuple[object, ...] = ()  # kernel, align and path shown
        self._begin = self._touches = ""  # the state of their memory map, and what it shows in a sentence
        self._waiting = False
        choices = [self.path, self.size, self.align, self.place, self.kernel]
        row = {"flex_flow": "row wrap", "align_items": "center"}
        super().__init__(
            [
                widgets.HTML(f"{TERMS_CSS}<h3>What pinning and releasing take, and why</h3>"),
                widgets.HBox(choices, layout=row),
                widgets.HBox([self.show, self.measure], layout=row),
                widgets.HBox(
                    [widgets.VBox([self.figure, self.said], layout={"width": f"{CHART_PX}px"}), self.touched],
                    layout={"flex_flow": "row wrap", "align_items": "flex-start"},
                ),
                Clicks(self.figure, self._clicked),
            ]
        )
        for choice in (*choices, self.show):
            choice.observe(self._update, names="value")
        self.measure.on_click(self._measure)
        self._update(None)

    @property
    def point(self) -> Timing:
        """The point chosen.

        Raises
        ------
        WorkbenchError
            There is no such device.
        """
        return Timing(self.size.value, self.align.value, self.place.value, self.kernel.value, self.path.value)

    def _clicked(self, mark: list[Any]) -> None:
        """Choose the point of a mark, ``[kernel, size]``, and show what its path touches."""
        kernel, size = mark
        self._choose({self.kernel: kernel, self.size: size, self.show: True})

    def _choose(self, values: dict[widgets.ValueWidget, object]) -> None:
        """Set several controls, and draw once."""
        self._waiting = True
        try:
            for control, value in values.items():
                control.value = value
        finally:
            self._waiting = False
        self._update(None)

    def _update(self, _: object) -> None:
        """Draw the point anew, and what its path touches where that is asked for."""
        if self._waiting:
            return
        try:
            at = self.point
            self.shown = timing_figure(at, self.measured)
            self._touch(at if self.show.value else None)
        except WorkbenchError as error:
            self.shown, self.figure.outputs = None, ()
            self._touch(None)
            self._say(f"<strong>No such point:</strong> {escape(str(error))}")
            return
        caption, _ = description(self.shown)
        self.figure.outputs = ({"output_type": "display_data", "data": self._bundle(self.shown), "metadata": {}},)
        touches = f"<strong>It touches:</strong> {escape(self._touches)}<br>" if self._touches else ""
        self._say(f"{touches}{_CLICK} {explained(caption)}")

    def _touch(self, at: Timing | None) -> None:
        """Play the path of a point, or show none; a map that shows it already goes back to the end of the path."""
        played = (at.kernel, at.align, at.path) if at else ()
        if played == self._played:
            for one in self.touched.children:
                one.state = self._begin
            return
        gone, self.touched.children, self._played, self._touches = self.touched.children, (), (), ""
        for one in gone:
            one.close()
        if at is not None:
            shown, self._touches = touched(at)
            self._played, self._begin = played, shown.state
            self.touched.children = (shown,)

    def _measure(self, _: object) -> None:
        try:
            self.measured |= measure(self.size.value, self.align.value)
        except WorkbenchError as error:
            self._say(f"<strong>Not measured:</strong> {escape(str(error))}")
            return
        self._choose({self.place: "dram"})  # which is what was measured

    def _say(self, html: str) -> None:
        self.said.value = f'<p role="status" style="max-width:60em;line-height:1.4;">{html}</p>'

    def _bundle(self, figure: go.Figure) -> dict[str, Any]:
        return {
            PLOTLY: json.loads(figure.to_json()) | {"config": dict(palette.CONFIG)},
            "text/plain": description(figure)[1],
        }

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs) or {}
        return bundle | (self._bundle(self.shown) if self.shown is not None else {})
