# SPDX-License-Identifier: GPL-2.0-only
"""The explorer: the memory map and the costs of any device, for people who want no code.

``make explorer`` opens it in a browser, ``Explorer()`` shows it in a notebook.  ``voila/`` holds the page it stands
in: Voilà's own, but that it fetches nothing from another machine.
"""

from __future__ import annotations

import base64
import json
from html import escape

import ipywidgets as widgets

from workbench.errors import WorkbenchError
from workbench.lab.device_cost import device_cost
from workbench.lab.glossary import TERMS_CSS, explained, glossary
from workbench.series import PATCHES
from workbench.view.choices import MARGIN
from workbench.view.cost import cost_table
from workbench.view.explorer.timing import TimingExplorer
from workbench.view.export import Exporter
from workbench.view.memory_map import MemoryMap, device

ALIGNS = {"4 KiB": "4K", "2 MiB": "2M", "1 GiB": "1G"}
MAPS = {"DRAM (map mem)": "mem", "the device, an altmap (map dev)": "dev"}
SIZES = ("1T", "128G", "16G", "4G", "1G", "64M")

_NUMBERS = range(len(PATCHES) + 1)
PREFIXES = {f"5.16 with patches 1 to {n}" if n else "5.16 without the series": f"5.16+{n}" for n in reversed(_NUMBERS)}
RELEASES = {
    "5.17, the series merged": "5.17",
    "6.1, with shared vmemmap pages": "6.1",
    "6.12, with shared vmemmap pages": "6.12",
    "5.15, before": "5.15",
    "5.10, before": "5.10",
}
NOTHING = "nothing"

ABOUT = (
    "A namespace of persistent memory in device-dax mode, and its struct pages: before the series they are base pages, "
    "with it compound pages, each a head and its tails. The map below leads from the whole device down to one bit. "
    "Under it stand what the struct pages cost, in DRAM or as an altmap on the device, and how long it takes to pin "
    "the memory. A word with dots beneath it is explained on hover."
)


class Explorer(widgets.VBox):
    """Choose a device and a patch state; see its struct pages, what they cost, and what a kernel would refuse.

    Parameters
    ----------
    size, align, map, kernel : str
        What to begin with, as :func:`workbench.view.memory_map.device` takes them.
    before : str or None
        The kernel compared with.
    """

    def __init__(
        self,
        size: str = "1T",
        align: str = "2M",
        map: str = "mem",
        kernel: str = "5.16+11",
        before: str | None = "5.16+0",
    ) -> None:
        style = {"description_width": "initial"}

        def one_of(label: str, options: dict[str, str], value: str, tooltip: str = "") -> widgets.Dropdown:
            return widgets.Dropdown(
                options=list(options.items()),
                value=value,
                description=label,
                style=style,
                tooltip=tooltip,
                layout={"width": "auto", "margin": MARGIN},
            )

        self.size = widgets.Combobox(
            value=size,
            options=SIZES,
            description="device of",
            continuous_update=False,
            style=style,
            layout={"width": "150px", "margin": MARGIN},
        )
        self.align = one_of("align", ALIGNS, align, glossary()["align"].means)
        self.map = one_of("struct pages in", MAPS, map, glossary()["altmap"].means)
        self.kernel = one_of("kernel", PREFIXES | RELEASES, kernel)
        self.before = one_of("compared with", {NOTHING: NOTHING} | PREFIXES, before or NOTHING)
        self.play = widgets.Checkbox(
            value=False,
            description="play fault, pin, unpin, poison, teardown too",
            indent=False,
            style=style,
            layout={"width": "auto", "margin": MARGIN},
        )
        self.save = widgets.Button(description="Save this view", tooltip="as a figure for a paper, SVG")
        self.said, self.cost, self.saved = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.map_box, self.timing = widgets.VBox(), TimingExplorer()
        self.shown: MemoryMap | None = None
        self._gone: tuple[widgets.Widget, ...] = ()  # shown before, and not closed yet
        controls = [self.size, self.align, self.map, self.kernel, self.before, self.play]
        row = {"flex_flow": "row wrap", "align_items": "center"}
        super().__init__(
            [
                widgets.HTML(f'{TERMS_CSS}<p style="max-width:60em;line-height:1.5;">{explained(ABOUT)}</p>'),
                widgets.HBox(controls, layout=row),
                self.said,
                self.map_box,
                widgets.HBox([self.save, self.saved], layout=row),
                self.cost,
                self.timing,
            ]
        )
        self.save.on_click(self._save)
        for control in controls:
            control.observe(self._update, names="value")
        self._update(None)

    def _update(self, _: object) -> None:
        """Make the device anew; what is refused is said, and nothing else is shown."""
        self.saved.value = ""
        gone, self._gone = self._gone, self.map_box.children
        before = None if self.before.value == NOTHING else self.before.value
        where = self.size.value, self.align.value, self.map.value
        try:
            self.shown = MemoryMap(device(self.kernel.value, *where, before=before, examples=self.play.value))
            self.cost.value = f"<h3>What its struct pages cost</h3>{cost_table(device_cost(*where))._repr_html_()}"
            self.said.value = ""
            self.map_box.children = (self.shown,)
        except WorkbenchError as error:
            self.shown = None
            code = f" ({error.errno_name})" if error.errno_name else ""
            self.said.value = f'<p role="alert"><strong>Refused{code}:</strong> {escape(str(error))}</p>'
            self.map_box.children, self.cost.value = (), ""
        for one in gone:
            one.close()  # which frees its struct pages; the page may still be setting up the one after it
        self.save.disabled = self.shown is None

    def _save(self, _: object) -> None:
        """Draw the view as SVG and offer it."""
        if self.shown is None:
            return
        try:
            with Exporter() as exporter:
                svg, caption, _alt = exporter.static_image(json.loads(self.shown.figure().to_json()))
        except WorkbenchError as error:
            self.saved.value = f'<p role="alert">{escape(str(error))}</p>'
            return
        data = base64.b64encode(svg.encode()).decode()
        self.saved.value = (
            f'<a download="memory-map.svg" href="data:image/svg+xml;base64,{data}">memory-map.svg</a> '
            f"<span>{escape(caption)}</span>"
        )
