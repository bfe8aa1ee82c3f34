# SPDX-License-Identifier: GPL-2.0-only
"""The timing part of the explorer: choose size, align, medium, kernel and path; see the time, why, what is touched."""

from __future__ import annotations

import json
from html import escape

import ipywidgets as widgets

from workbench import text
from workbench.errors import WorkbenchError
from workbench.lab.pin_events import PATHS, UNPIN
from workbench.lab.sweep import Point
from workbench.view import palette
from workbench.view.choices import PLOTLY
from workbench.view.export import description
from workbench.view.timing import ALIGNS, MEDIA, SIZES, STATES, Timing, measure, timing_figure, touched


class TimingExplorer(widgets.VBox):
    """Times of pins and releases by choice, and the struct pages that the chosen path touches.

    The figure is drawn anew at every choice.  What a path touches is shown when asked for, and then follows the
    choices; so is what this machine measures.
    """

    def __init__(self) -> None:
        style = {"description_width": "initial"}

        def one_of(label: str, options: dict[str, object], value: object) -> widgets.Dropdown:
            return widgets.Dropdown(
                options=list(options.items()), value=value, description=label, style=style, layout={"width": "auto"}
            )

        self.path = one_of("path", {f"{path}()": path for path in PATHS}, UNPIN)
        self.size = one_of("memory held", {text.size(size): size for size in SIZES}, 16 << 30)
        self.align = one_of("align of the mapping", {text.size(align): align for align in ALIGNS}, 2 << 20)
        self.place = one_of("medium of the struct pages", {name: name for name in MEDIA}, "pmem")
        self.kernel = one_of("state of the series", {state.label: name for name, state in STATES.items()}, "5.16+11")
        self.show = widgets.Checkbox(value=False, description="show what this path touches", indent=False, style=style)
        self.measure = widgets.Button(
            description="Measure here", tooltip="time the engine's pins and releases at this size and align, in DRAM"
        )
        self.measured: dict[Point, dict[str, list[float]]] = {}
        self.figure, self.said, self.touched = widgets.Output(), widgets.HTML(), widgets.VBox()
        choices = [self.path, self.size, self.align, self.place, self.kernel]
        row = {"flex_flow": "row wrap", "align_items": "center"}
        super().__init__(
            [
                widgets.HTML("<h3>What pinning and releasing take, and why</h3>"),
                widgets.HBox(choices, layout=row),
                widgets.HBox([self.show, self.measure], layout=row),
                self.figure,
                self.said,
                self.touched,
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

    def _update(self, _: object) -> None:
        """Draw the point anew, and what its path touches where that is asked for."""
        try:
            at = self.point
            figure = timing_figure(at, self.measured)
            shown, sentence = touched(at) if self.show.value else (None, "")
        except WorkbenchError as error:
            self.figure.outputs, self.touched.children = (), ()
            self._say(f"<strong>No such point:</strong> {escape(str(error))}")
            return
        caption, alt = description(figure)
        drawn = json.loads(figure.to_json()) | {"config": dict(palette.CONFIG)}
        data = {PLOTLY: drawn, "text/plain": alt}
        self.figure.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)
        self._say(escape(caption))
        told = widgets.HTML(f'<p role="status">{escape(sentence)}</p>')
        self.touched.children = () if shown is None else (told, shown)

    def _measure(self, _: object) -> None:
        try:
            self.measured |= measure(self.size.value, self.align.value)
        except WorkbenchError as error:
            self._say(f"<strong>Not measured:</strong> {escape(str(error))}")
            return
        self.place.value = "dram"  # which is what was measured
        self._update(None)

    def _say(self, html: str) -> None:
        self.said.value = f'<p role="status" style="max-width:60em;">{html}</p>'
