# SPDX-License-Identifier: GPL-2.0-only
"""Device-dax beside THP and hugetlb: one table of numbers, and one figure of ratios.

::

    found = comparators("256M")
    comparators_table(found)
    comparators_figure(found)
"""

from __future__ import annotations

import math

import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from workbench import text
from workbench.lab.comparators import AFTER, BEFORE, PHASES
from workbench.lab.pinning import WINDOW
from workbench.view import palette
from workbench.view.export import describe
from workbench.view.summary import Table, mark

_LOOKS = {
    "locked": ("derived", "locked operations", 0.24),
    "instructions": ("captured", "instructions", 0.0),
    "ns": ("measured", "time", -0.24),
}
"""A number of the Dataset to its provenance, its name and how far above the row's middle it is drawn."""
_ROW_PX = 54


def comparators_table(found: xr.Dataset) -> Table:
    """Counts for each 512 pages, measured and recorded cost of a page, and the ratio to device-dax before.

    Parameters
    ----------
    found : xarray.Dataset
        From :func:`workbench.lab.comparators.comparators`.
    """
    parts = (found.attrs["size"] >> text.PAGE_SHIFT) / WINDOW
    ratio = _ratios(found)["ns"]
    rows = []
    for memory in found.memory.values.tolist():
        for phase in PHASES:
            one = found.sel(memory=memory, phase=phase)
            ns, recorded = one.ns.values, float(one.instructions)
            rows.append(
                [
                    f"{memory} ({one.kernel.item()})",
                    phase,
                    *(f"{float(one[name]) / parts:,.4g}" for name in ("locked", "lines_touched", "lines_written")),
                    f"{float(one.ns.median()):.1f}",
                    f"{ns.min():.1f} – {ns.max():.1f}",
                    _times(float(ratio.sel(memory=memory, phase=phase))),
                    "–" if recorded != recorded else f"{recorded:.1f}",
                ]
            )
    size, attrs = text.size(found.attrs["size"]), found.attrs
    return Table(
        f"{size} pinned by calls of {attrs['pages_per_call']} pages, then released; huge pages of {attrs['align']}, "
        f"struct pages in DRAM. {mark('derived')} Derived: the engine's counts for each {WINDOW} pages, struct pages "
        f"alone. {mark('measured')} Measured: nanoseconds a page of the engine on {attrs['cpu']}, "
        f"{found.sizes['sample']} samples; ratio to device-dax before. {mark('captured')} Captured: instructions "
        "a page of real kernels; the recorded THP began off a huge page, with 512 base pages at its ends.",
        [
            "memory (kernel)",
            "",
            *(f"{mark('derived')} {what}" for what in ("locked", "lines touched", "written")),
            *(f"{mark('measured')} {what}" for what in ("ns", "least – greatest", "ratio")),
            f"{mark('captured')} instructions",
        ],
        rows,
        "ll" + "r" * 7,
    )


def comparators_figure(found: xr.Dataset, width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """Each memory's cost as a multiple of device-dax before the series: get on the left, put on the right.

    Parameters
    ----------
    found : xarray.Dataset
        From :func:`workbench.lab.comparators.comparators`.
    width_px : int
        CSS pixels.
    """
    memories, ratios = found.memory.values.tolist(), _ratios(found)
    fig = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.04)
    for column, phase in enumerate(PHASES, 1):
        for name, (provenance, what, above) in _LOOKS.items():
            values = ratios[name].sel(phase=phase)
            known = [row for row, value in enumerate(values.values.tolist()) if value == value]
            fig.add_scatter(
                x=[float(values[row]) for row in known],
                y=[row - above for row in known],
                text=[_times(float(values[row])) for row in known],
                textposition=["middle left" if float(values[row]) > 0.3 else "middle right" for row in known],
                textfont={"size": 11},
                mode="markers+text",
                name=f"{what} ({provenance})",
                marker=palette.provenance_style(provenance, palette.STATES["after"])["marker"],
                showlegend=column == 1,
                cliponaxis=False,
                hoverinfo="skip",
                row=1,
                col=column,
            )
        fig.add_annotation(
            text=f"<b>{phase}</b>",
            x=0.52 * (column - 1),
            y=1,
            xref="paper",
            yref="paper",
            xanchor="left",
            yanchor="bottom",
            showarrow=False,
        )
    lowest = math.floor(math.log10(min(float(ratios[name].min()) for name in _LOOKS)))
    powers = range(0, lowest - 1, -1 if lowest > -4 else -2)
    fig.update_xaxes(
        type="log",
        range=[lowest - 0.3, 0.35],
        tickvals=[10.0**power for power in powers],
        ticktext=["1", *(f"1/{10**-power:,}" for power in powers[1:])],
        title_text="of device-dax before (log)",
    )
    fig.update_yaxes(range=[len(memories) - 0.5, -0.5], tickvals=list(range(len(memories))), ticktext=memories)
    put, get = (_times(float(ratios["ns"].sel(memory=AFTER, phase=phase))) for phase in ("put", "get"))
    fig.update_layout(
        template="devmap",
        width=width_px,
        height=_ROW_PX * len(memories) + 210,
        margin={"t": 142, "l": 190, "r": 24},
        title={
            "text": "What pinning and releasing a page costs, beside THP and hugetlb",
            "subtitle": {"text": "as a part of what device-dax cost before the series"},
        },
        legend={"y": 1 + 24 / (_ROW_PX * len(memories)), "yref": "paper", "yanchor": "bottom", "xref": "paper"},
        meta={"origin": "derived, captured, measured"},
    )
    size, cpu, before = text.size(found.attrs["size"]), found.attrs["cpu"], found.kernel.values[0]
    return describe(
        fig,
        caption=(
            f"Pinning (get) and releasing (put) {size} by the same engine, all divided by device-dax without compound "
            f"pages ({before}). {mark('derived')} Derived: locked operations on struct pages. {mark('captured')} "
            f"Captured: instructions of real kernels. {mark('measured')} Measured: the engine's time on {cpu}. A put "
            "of a device's compound page is one release, as elsewhere. A get is one grab a base page in device-dax, "
            "one a compound page and call in THP and hugetlb."
        ),
        alt=(
            f"Ratios to device-dax before the series. With the series a put takes {put} of the time measured, a get "
            f"{get}. {' '.join(_in_words(ratios, memory) for memory in memories if memory != BEFORE)}"
        ),
    )


def _ratios(found: xr.Dataset) -> xr.Dataset:
    """Every number of a page as a multiple of that of device-dax before; times by their medians."""
    numbers = found[["locked", "instructions"]].assign(ns=found.ns.median("sample"))
    return numbers / numbers.sel(memory=BEFORE, drop=True)


def _in_words(ratios: xr.Dataset, memory: str) -> str:
    put, get = (_times(float(ratios.locked.sel(memory=memory, phase=phase))) for phase in ("put", "get"))
    return f"{memory}: {get} of the locked operations of a get, {put} of those of a put."


def _times(ratio: float) -> str:
    """A ratio in a few letters."""
    return f"{ratio:.2f}" if ratio >= 0.095 else f"1/{1 / ratio:,.0f}"
