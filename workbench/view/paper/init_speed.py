# SPDX-License-Identifier: GPL-2.0-only
"""How fast the engine initialises struct pages, beside C and what the machine can do."""

from __future__ import annotations

import plotly.graph_objects as go

from workbench.lab import bench_results
from workbench.lab.bench import CASES, Case
from workbench.lab.checkout import Checkout
from workbench.text import size
from workbench.view import palette
from workbench.view.figures import paper_figure
from workbench.view.provenance import Inputs, Series
from workbench.view.summary import origin

_ROWS = tuple(case for case in reversed(CASES) if case.kernel.startswith("memmap_init_zone_device"))
_SIDES = {
    "engine": ("engine (numba)", palette.BLUE, 0.17),
    "gcc": ("C twin (gcc -O3)", palette.VERMILION, -0.17),
}
_LIMITS = {"memset": ("glibc memset", palette.OUTLINE), "nt_fill": ("C non-temporal fill", palette.GREEN)}
_LIMITS_BESIDE = {"memset": "memmap_init_zone_device 5.17 base", "nt_fill": "memmap_init_zone_device_nt 5.17 base"}


def _label(case: Case) -> str:
    stores = "non-temporal" if case.kernel.endswith("_nt") else "regular"
    compounds = {0: "base pages", 9: "2 MiB compounds", 18: "1 GiB compounds"}[case.order]
    return f"{stores} stores, {case.tree.removesuffix('+0')}, {compounds}"


@paper_figure(
    id="init-speed",
    title="Initialising a struct page: the engine, C, and what the machine can do",
    caption=(
        "Time for each struct page (one cache line) of memmap_init_zone_device() over an array larger than the caches: "
        "every sample as a dot, the median as a bar. Regular stores read each line from memory first; non-temporal "
        "stores do not. Only ratios carry over to another machine."
    ),
    alt=(
        "Horizontal dot plot with eight rows, time in nanoseconds on a linear axis from zero. In each row the samples "
        "of the engine and of the C twin overlap. The four rows with regular stores lie a little to the right of the "
        "vertical line of glibc memset; the four rows with non-temporal stores lie at that of a C non-temporal fill, "
        "at less than half the time. Kernels 5.16 and 5.17, base pages and compounds of 2 MiB and 1 GiB differ little."
    ),
    width_px=900,
    height_px=588,
    data=(bench_results.COMMITTED,),
)
def init_speed(checkout: Checkout) -> tuple[go.Figure, Inputs]:
    """Nanoseconds a struct page, by form, tree and compound size."""
    path = checkout.root / bench_results.COMMITTED
    run = bench_results.read(path)
    ns = run.kernel_seconds.sel(clock="cpu") * 1e9 / run.attrs["kernel_sample_pages"]
    fig = go.Figure()
    for side, (name, color, offset) in _SIDES.items():
        samples, medians = [], []
        for row, case in enumerate(_ROWS):
            values = ns.sel(case=case.name, side=side).dropna("sample").values
            samples += [(float(value), row + offset) for value in values]
            medians.append((float(ns.sel(case=case.name, side=side).median()), row + offset))
        style = palette.provenance_style("measured", color)["marker"]
        fig.add_scatter(
            x=[x for x, _ in samples],
            y=[y for _, y in samples],
            mode="markers",
            name=name,
            marker={**style, "size": 6, "opacity": 0.45},
        )
        fig.add_scatter(
            x=[x for x, _ in medians],
            y=[y for _, y in medians],
            mode="markers",
            showlegend=False,
            marker={"symbol": "line-ns", "size": 16, "line": {"width": 2.5, "color": color}},
        )
    for limit, (name, color) in _LIMITS.items():
        median = float(ns.sel(case=_LIMITS_BESIDE[limit], side=limit).median())
        fig.add_scatter(
            x=[median, median],
            y=[-0.6, len(_ROWS) - 0.4],
            mode="lines",
            showlegend=False,
            line={"color": color, "width": 1.5, "dash": "dot" if limit == "memset" else "dash"},
        )
        fig.add_annotation(x=median, y=1, yref="paper", yanchor="bottom", text=name, font={"color": color})
    device, cpu = size(int(run.attrs["kernel_device_bytes"])), run.attrs["cpu"].split(" (")[0]
    fig.update_layout(
        title_subtitle_text=f"{origin('measured')} {cpu}, {device} of device, {run.attrs['date'][:10]}",
        margin={"t": 132, "l": 16},
        legend={"y": 1.06},
    )
    fig.update_xaxes(title_text="nanoseconds for each struct page", rangemode="tozero")
    fig.update_yaxes(
        tickvals=list(range(len(_ROWS))),
        ticktext=[_label(case) for case in _ROWS],
        range=[-0.6, len(_ROWS) - 0.4],
        showgrid=False,
    )
    series = [
        Series(name, "measured", bench_results.COMMITTED, "ns")
        for name in (*(name for name, *_ in _SIDES.values()), *(name for name, _ in _LIMITS.values()))
    ]
    parameters = {"cases": [case.name for case in _ROWS], "limits_beside": _LIMITS_BESIDE, "clock": "cpu"}
    return fig, Inputs(series=series, parameters=parameters, files=[path])
