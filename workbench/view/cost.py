# SPDX-License-Identifier: GPL-2.0-only
"""What the struct pages of a device cost: a figure, a table, a calculator, and the cost by release.

Everything here draws Datasets of :mod:`workbench.lab.device_cost`::

    cost = device_cost("1T", align="2M")
    cost_figure(cost)                # three bars: before, the series, the follow-up
    cost_table(cost)                 # the same and more as numbers
    Calculator("1T", align="2M")     # the table for any device; static pages show it for this one
    release_figure(derived_per_gib(...), captured_per_gib(...))
"""

from __future__ import annotations

from html import escape
from typing import Any

import ipywidgets as widgets
import plotly.graph_objects as go
import xarray as xr

from workbench import text
from workbench.errors import WorkbenchError
from workbench.lab.device_cost import device_cost
from workbench.lab.overhead import kernel_of, stage_of
from workbench.nvdimm import SUPPORTED_ALIGNS
from workbench.view import palette
from workbench.view.export import describe
from workbench.view.summary import Html, Table, mark

STAGE_NAMES = {"before": "before", "after": "with the series", "dedup": "with the follow-up"}
"""Row of a cost Dataset to what people call it; the follow-up shares vmemmap pages (v5.19)."""

_PLACES = {"mem": "DRAM", "dev": "the device"}
_BAR_PX = 200


def headline(cost: xr.Dataset) -> str:
    """What the cost of a device says, in one sentence.

    Parameters
    ----------
    cost : xarray.Dataset
        From :func:`workbench.lab.device_cost.device_cost`.

    Examples
    --------
    >>> headline(device_cost("1T", "2M"))
    'the series leaves it at 16 GiB, the follow-up brings it to 4 GiB'
    >>> headline(device_cost("1T", "4K"))
    'it stays at 16 GiB: with an align of 4 KiB there are no compound pages'
    """
    before, after, dedup = (int(nbytes) for nbytes in cost.distinct_physical_bytes.values)
    if dedup < after:
        kept = "leaves it at" if after == before else "makes it"
        return f"the series {kept} {text.size(after)}, the follow-up brings it to {text.size(dedup)}"
    if cost["map"].values[0] == "dev":
        return f"it stays at {text.size(before)}: struct pages kept in the device (altmap) are never shared"
    if not cost.compounds.values[-1]:
        return f"it stays at {text.size(before)}: with an align of {_align(cost)} there are no compound pages"
    return f"it stays at {text.size(before)}: nothing is left to share"


def cost_figure(cost: xr.Dataset, width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """Memory taken by the struct pages of one device, as three bars.

    Parameters
    ----------
    cost : xarray.Dataset
        From :func:`workbench.lab.device_cost.device_cost`.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption, alt text and origin; bars are linear from zero.
    """
    stages, kernels = cost.stage.values.tolist(), cost.kernel.values.tolist()
    names = [f"<b>{STAGE_NAMES[stage]}</b><br>kernel {kernel}" for stage, kernel in zip(stages, kernels, strict=True)]
    physical = cost.distinct_physical_bytes.values
    in_device = cost["map"].values[0] == "dev"
    looks = (
        dict.fromkeys(stages, palette.role_marker(palette.ALTMAP))
        if in_device
        else {stage: {"color": palette.STATES[stage]} for stage in stages}
    )
    fig = go.Figure()
    for row, stage in enumerate(stages):
        fig.add_bar(
            orientation="h",
            y=[names[row]],
            x=[int(physical[row])],
            marker=looks[stage],
            text=f"  {_label(cost, row)}",
            textposition="outside",
            textfont_size=15,
            cliponaxis=False,
            width=0.62,
            hoverinfo="skip",
        )
    size, align = text.size(int(cost.size[0])), _align(cost)
    fig.update_layout(
        template="devmap",
        title_text=f"Struct pages of a device of {size}, align {align}",
        title_subtitle_text=f"{_first_upper(headline(cost))} ({mark('derived')} derived)",
        showlegend=False,
        width=width_px,
        height=310,
        margin_r=230,
        margin_b=24,
        margin_t=84,
    )
    fig.update_yaxes(autorange="reversed", showline=False, ticks="", ticklabelstandoff=6)
    fig.update_xaxes(range=[0, int(physical.max())], showticklabels=False, ticks="", showgrid=False, showline=False)
    fig.layout.meta = {"origin": cost.attrs["provenance"]}
    place = "inside the device itself" if in_device else "in DRAM"
    told = "; ".join(
        f"{STAGE_NAMES[stage]} (kernel {kernel}): {_label(cost, row)}"
        for row, (stage, kernel) in enumerate(zip(stages, kernels, strict=True))
    )
    return describe(
        fig,
        caption=(
            f"Memory taken {place} by the struct pages of a device-dax namespace of {size} with an align of {align}; "
            f"bars are linear and start at 0. {mark('derived')} Derived: the kernels' rules for laying out and mapping "
            "struct pages, computed by the engine."
        ),
        alt=f"Three horizontal bars, the memory behind the struct pages of a {size} device with align {align}. {told}.",
    )


def cost_table(cost: xr.Dataset) -> Table:
    """The cost of one device as numbers, with a bar for the memory taken.

    Parameters
    ----------
    cost : xarray.Dataset
        From :func:`workbench.lab.device_cost.device_cost`.

    Returns
    -------
    Table
        A row a stage.
    """
    most = int(cost.distinct_physical_bytes.max())
    rows = []
    for row, stage in enumerate(cost.stage.values.tolist()):
        physical = int(cost.distinct_physical_bytes[row])
        rows.append(
            [
                Html(f"<b>{STAGE_NAMES[stage]}</b>, {cost.kernel.values[row]}"),
                _bar(physical / most, palette.STATES[stage]),
                text.size(physical),
                _percent(physical / int(cost.size[row])),
                text.size(int(cost.pte_tables[row]) * text.PAGE_SIZE),
                text.size(int(cost.dram_bytes[row])),
                text.count(int(cost.struct_pages_written[row])),
                text.count(int(cost.pgmap_refs[row])),
            ]
        )
    where = "inside the device (altmap)" if cost["map"].values[0] == "dev" else "in DRAM"
    return Table(
        f"{mark('derived')} Derived. A device of {text.size(int(cost.size[0]))}, align {_align(cost)}, struct pages "
        f"{where}: {headline(cost)}. {text.size(int(cost.lost_to_metadata_in_namespace[0]))} of it holds no data "
        "(info block, struct pages kept inside, alignment).",
        [
            "kernel",
            "",
            "struct pages take",
            "of the device",
            "their page tables",
            "DRAM in all",
            "struct pages initialised",
            "references it holds",
        ],
        rows,
        "llrrrrrr",
    )


class Calculator(widgets.VBox):
    """The cost of any device: size, align and place of the struct pages in, :func:`cost_table` out.

    Where no kernel runs (an exported page) the table stands alone.  A device that the kernel refuses is
    answered with the reason.

    Parameters
    ----------
    size : str
        Such as ``"1T"``.
    align : str
        ``"4K"``, ``"2M"`` or ``"1G"``.
    map : str
        ``"mem"`` or ``"dev"``.

    Raises
    ------
    WorkbenchError
        The first device is none that the kernel takes.
    """

    def __init__(self, size: str = "1T", align: str = "2M", map: str = "mem") -> None:
        self._shown = cost_table(device_cost(size, align, map))
        self.size = widgets.Text(
            value=size, placeholder="16G, 1.5T, 512M", continuous_update=False, layout={"width": "186px"}
        )
        self.align = widgets.ToggleButtons(
            options=[(text.size(nbytes), nbytes) for nbytes in SUPPORTED_ALIGNS],
            value=text.parse_size(align),
            style={"button_width": "90px"},
        )
        self.map = widgets.ToggleButtons(
            options=[(place, name) for name, place in _PLACES.items()], value=map, style={"button_width": "90px"}
        )
        self.result = widgets.HTML(self._shown._repr_html_())
        named = (("size of the device", self.size), ("align", self.align), ("struct pages kept in", self.map))
        rows = [widgets.HBox([widgets.Label(name, layout={"width": "160px"}), control]) for name, control in named]
        super().__init__([*rows, self.result])
        for control in (self.size, self.align, self.map):
            control.observe(self._update, names="value")

    def _update(self, _: object) -> None:
        try:
            self._shown = cost_table(device_cost(self.size.value, self.align.value, self.map.value))
        except WorkbenchError as error:
            self.result.value = f'<p role="alert"><b>Refused.</b> {escape(str(error))}</p>'
        else:
            self.result.value = self._shown._repr_html_()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs) or {}
        return bundle | {"text/html": self._shown._repr_html_(), "text/plain": repr(self._shown)}


def release_figure(derived: xr.Dataset, captured: xr.Dataset, width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """Struct-page memory per GiB of device by release, one panel an align.

    Parameters
    ----------
    derived : xarray.Dataset
        From :func:`workbench.lab.device_cost.derived_per_gib`.
    captured : xarray.Dataset
        From :func:`workbench.lab.device_cost.captured_per_gib`; rows of releases, aligns and maps that
        ``derived`` lacks are left out.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        Bars from the derived numbers; the mark above a bar says whether a real kernel was seen to agree.
        Without caption: the registry of paper figures or the caller gives it one.

    Raises
    ------
    WorkbenchError
        A captured number differs from the derived one.
    """
    aligns = sorted(set(derived.align.values.tolist()))
    place = derived["map"].values[0]
    seen = {
        (kernel, align): nbytes
        for kernel, align, map, nbytes in zip(
            *(captured[name].values.tolist() for name in ("kernel", "align", "map", "bytes_per_gib")), strict=True
        )
        if map == place
    }
    fig = go.Figure()
    gap = 0.02
    width = (1 - gap * (len(aligns) - 1)) / len(aligns)
    for panel, align in enumerate(aligns, 1):
        rows = derived.isel(row=derived.align.values == align)
        kernels, nbytes = rows.kernel.values.tolist(), rows.bytes_per_gib.values.tolist()
        for kernel, derived_bytes in zip(kernels, nbytes, strict=True):
            if seen.get((kernel, align), derived_bytes) != derived_bytes:
                raise WorkbenchError(
                    f"kernel {kernel}, align {text.size(align)}: {seen[kernel, align]} bytes of struct pages per GiB "
                    f"were captured and {derived_bytes} are derived. Compare the rows with workbench overhead."
                )
        _release_panel(fig, panel, kernels, nbytes, [(kernel, align) in seen for kernel in kernels])
        left = (panel - 1) * (width + gap)
        most = int(derived.bytes_per_gib.max())
        fig.update_layout(
            {
                f"xaxis{panel}": {
                    "domain": [left, left + width],
                    "anchor": "y",
                    "side": "top",
                    "range": [0, 1.5 * most],
                    "showticklabels": False,
                    "ticks": "",
                    "showgrid": False,
                    "showline": False,
                }
            }
        )
        fig.add_annotation(
            text=f"<b>align {text.size(align)}</b>",
            font_size=15,
            x=0,
            xref=f"x{panel if panel > 1 else ''} domain",
            xanchor="left",
            y=1,
            yref="paper",
            yanchor="bottom",
            showarrow=False,
        )
    fig.update_yaxes(autorange="reversed", ticks="", showgrid=False, type="category", ticklabelstandoff=6)
    fig.update_layout(
        template="devmap",
        width=width_px,
        height=430,
        bargap=0.3,
        margin={"l": 24, "b": 56, "t": 110},
        legend={"y": 0, "yref": "container", "yanchor": "bottom"},
    )
    fig.layout.meta = {"origin": "derived, captured"}
    return fig


def _release_panel(fig: go.Figure, panel: int, kernels: list[str], nbytes: list[int], seen: list[bool]) -> None:
    """Bars of one align, and at the end of each the mark of its provenance."""
    axes = {"xaxis": f"x{panel}", "yaxis": "y"}
    most = max(nbytes)
    stages = [stage_of(kernel_of(kernel).tree) for kernel in kernels]
    names = [f"{kernel}, {STAGE_NAMES[stage]}" for kernel, stage in zip(kernels, stages, strict=True)]
    colors = [palette.STATES[stage] for stage in stages]
    fig.add_bar(orientation="h", y=names, x=nbytes, marker_color=colors, hoverinfo="skip", showlegend=False, **axes)
    for kind, rows in (("captured", seen), ("derived", [not was for was in seen])):
        here = [at for at, is_here in enumerate(rows) if is_here]
        style = palette.provenance_style(kind, palette.BLACK)
        fig.add_scatter(
            y=[names[at] for at in here],
            x=[nbytes[at] + 0.06 * most for at in here],
            text=[f" <b>{text.size(nbytes[at])}</b>" for at in here],
            textposition="middle right",
            mode="markers+text",
            marker=style["marker"],
            name=palette.PROVENANCE[kind].label + (" (the derived number is equal)" if kind == "captured" else " only"),
            legendgroup=kind,
            showlegend=panel == 1,
            cliponaxis=False,
            hoverinfo="skip",
            **axes,
        )


def _align(cost: xr.Dataset) -> str:
    return text.size(int(cost.align[0]))


def _first_upper(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _label(cost: xr.Dataset, row: int) -> str:
    """``4 GiB, 0.391 % + 32 MiB of page tables``."""
    physical, tables = int(cost.distinct_physical_bytes[row]), int(cost.pte_tables[row]) * text.PAGE_SIZE
    share = f"<b>{text.size(physical)}</b>, {_percent(physical / int(cost.size[row]))}"
    return share + (f" + {text.size(tables)} of page tables" if tables else "")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _bar(share: float, color: str) -> Html:
    width = max(1, round(share * _BAR_PX))
    return Html(
        f'<div style="width:{_BAR_PX}px;" aria-hidden="true">'
        f'<div style="width:{width}px;height:14px;margin-top:3px;background:{color};"></div></div>'
    )
