# SPDX-License-Identifier: GPL-2.0-only
"""A sweep of pins and releases: measured beside modelled beside published, never mixed.

::

    sweep_figure(run)                          # all points: nanoseconds a page by size
    explore_point(run, 1 << 30, 2 << 20, "pmem")   # one point, price by price, and why
    gains_table(run)

Grey is before the series, blue with it; a circle is measured, with the spread of its samples, a cross modelled, a
diamond published.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from workbench import text
from workbench.errors import WorkbenchError
from workbench.lab.cost import KERNELS, seed_fit
from workbench.lab.media import MODELLED, Medium, medium
from workbench.lab.pin_events import PAGES_PER_CALL, PinEvents, pin_events
from workbench.lab.seed_table import ALIGN, PHASES
from workbench.lab.sweep import MEASURED, STATES, gains, medians
from workbench.lab.sweep import MODELLED as MODELLED_NS
from workbench.view import palette
from workbench.view.cost_model import COLORS, PRICE_LOOKS, STATE_NAMES
from workbench.view.export import describe
from workbench.view.summary import Table, mark

_PANEL_PX = 168
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_SIDE = 0.05
"""How far before and after stand apart, in decades of the size."""

PRICES_IN_WORDS = {
    "read": "reading lines in sequence",
    "write": "writing changed lines back",
    "locked": "locked operations",
}


def sweep_figure(run: xr.Dataset, place: str = "dram", width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """Nanoseconds a page by size: a row for each align, a column for pin and release.

    Parameters
    ----------
    run : xarray.Dataset
        From :func:`workbench.lab.sweep.sweep`.
    place : str
        Medium of the sweep whose modelled times are drawn; measured ones are always this machine's DRAM.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption, alt text and origin.

    Raises
    ------
    WorkbenchError
        The sweep has no such medium.
    """
    _require_medium(run, place)
    aligns, sizes = run.align.values.tolist(), run["size"].values.tolist()
    fig = make_subplots(
        rows=len(aligns),
        cols=len(PHASES),
        shared_xaxes=True,
        shared_yaxes=True,
        vertical_spacing=0.05,
        horizontal_spacing=0.03,
    )
    spread = medians(run)
    for row, align in enumerate(aligns, 1):
        for column, phase in enumerate(PHASES, 1):
            for state in STATES:
                at = {"align": align, "phase": phase, "state": state}
                shift = 10 ** (_SIDE if state == "after" else -_SIDE)
                xs = [size * shift for size in sizes]
                first = row == column == 1
                one = spread.sel(at)
                fig.add_scatter(
                    x=xs,
                    y=one["median"].values,
                    error_y={
                        "type": "data",
                        "symmetric": False,
                        "array": one["greatest"].values - one["median"].values,
                        "arrayminus": one["median"].values - one["least"].values,
                        "thickness": 1.2,
                        "width": 4,
                    },
                    mode="markers",
                    name=f"measured, {STATE_NAMES[state]}",
                    marker=palette.provenance_style("measured", COLORS[state])["marker"],
                    showlegend=first,
                    hoverinfo="y",
                    row=row,
                    col=column,
                )
                fig.add_scatter(
                    x=xs,
                    y=run[MODELLED_NS].sel(at).sel(medium=place).values,
                    mode="markers",
                    name=f"modelled ({place}), {STATE_NAMES[state]}",
                    marker=palette.provenance_style("modelled", COLORS[state])["marker"],
                    showlegend=first,
                    hoverinfo="y",
                    row=row,
                    col=column,
                )
    values = [value for name in (MEASURED, MODELLED_NS) for value in run[name].values.ravel() if value > 0]
    low, high = math.log10(min(values) / 1.3), math.log10(max(values) * 1.3)
    fig.update_yaxes(type="log", range=[low, high], tickvals=_TICKS, automargin=False)
    fig.update_xaxes(
        type="log",
        range=[math.log10(sizes[0] / 2), math.log10(sizes[-1] * 2)],
        tickvals=sizes,
        ticktext=[text.size(size) for size in sizes],
    )
    fig.update_xaxes(title_text="memory pinned", row=len(aligns))
    for row, align in enumerate(aligns, 1):
        fig.update_yaxes(title_text=f"<b>align {text.size(align)}</b><br>ns a page", col=1, row=row)
    for column, (phase, path) in enumerate(PHASES.items()):
        fig.add_annotation(
            text=f"<b>{phase}</b>: {path}()",
            x=0.01 + 0.515 * column,
            y=1,
            xref="paper",
            yref="paper",
            xanchor="left",
            yanchor="bottom",
            yshift=2,
            showarrow=False,
        )
    fig.update_layout(
        template="devmap",
        width=width_px,
        height=_PANEL_PX * len(aligns) + 200,
        margin={"t": 142, "l": 84},
        title={
            "text": "Time to pin and to release a page, by size, align and state of the series",
            "subtitle": {
                "text": f"circle: median of {run.sizes['sample']}, bars to least and greatest · both axes log"
            },
        },
        legend={"y": 1.0, "yref": "paper", "yanchor": "bottom", "xref": "paper"},
        meta={"origin": "measured, modelled"},
    )
    fig.update_layout(legend_y=1 + 26 / (_PANEL_PX * len(aligns)))
    label = run.label.sel(medium=place).item()
    return describe(
        fig,
        caption=(
            f"{mark('measured')} Measured: the engine's pins and releases on {run.attrs['cpu']}, processor time of one "
            f"thread, struct pages in DRAM; {run.sizes['sample']} samples a point. {mark('modelled')} {label}. "
            "The two are of different machines: compare ratios and shapes, not heights."
        ),
        alt="Nanoseconds a page. " + " ".join(_in_words(run, place)),
    )


def _in_words(run: xr.Dataset, place: str) -> list[str]:
    """Each align's largest size in a sentence."""
    said = []
    spread = medians(run)["median"]
    for align in run.align.values.tolist():
        size = run["size"].values.tolist()[-1]
        at = {"align": align, "size": size}
        parts = []
        for phase in PHASES:
            measured = [float(spread.sel(at).sel(phase=phase, state=state)) for state in STATES]
            modelled = [float(run[MODELLED_NS].sel(at).sel(phase=phase, state=state, medium=place)) for state in STATES]
            parts.append(
                f"{phase} measured {measured[0]:.1f} before and {measured[1]:.1f} after, "
                f"modelled {modelled[0]:.1f} and {modelled[1]:.1f}"
            )
        said.append(f"Align {text.size(align)}, {text.size(size)}: {'; '.join(parts)}.")
    return said


# one point


def explore_point(
    run: xr.Dataset, size: int, align: int, struct_pages_in: str, width_px: int = palette.NOTEBOOK_PX
) -> go.Figure:
    """One point of a sweep: the modelled time by price, measured and published beside it, and what dominates.

    Parameters
    ----------
    run : xarray.Dataset
        From :func:`workbench.lab.sweep.sweep`.
    size, align : int
        Bytes, of the sweep.
    struct_pages_in : str
        A medium, see :func:`workbench.lab.media.medium`.
    width_px : int
        CSS pixels.

    Raises
    ------
    WorkbenchError
        A device of that align cannot have that size.
    """
    if size % align:
        raise WorkbenchError(
            f"a device with an align of {text.size(align)} cannot be {text.size(size)} large. Choose more."
        )
    prices = medium(struct_pages_in, seed_fit().media)
    rows = [(phase, state) for phase in PHASES for state in STATES]
    fig = go.Figure()
    costs = [costs_of(prices, _events(size, align, *row)) for row in rows]
    for price, (label, color) in PRICE_LOOKS.items():
        fig.add_bar(
            orientation="h",
            y=list(range(len(rows))),
            x=[cost[price] for cost in costs],
            name=f"{label} (modelled)",
            marker={"color": color, "line": {"color": palette.OUTLINE, "width": 1}},
            hoverinfo="skip",
        )
    origins = ["modelled"]
    if struct_pages_in == "dram":
        _add_measured(fig, run, size, align, rows)
        origins.insert(0, "measured")
    printed = _published(align, struct_pages_in)
    if printed:
        origins.insert(0, "published")
        fig.add_scatter(
            x=[ns for _, ns in printed],
            y=[rows.index(row) - 0.22 for row, _ in printed],
            mode="markers",
            name="published, either size",
            marker={"symbol": "diamond-open", "size": 10, "color": palette.BLACK, "line": {"width": 2}},
            hoverinfo="x",
        )
    names = [f"<b>{phase}</b> {state} ({KERNELS[state]})" for phase, state in rows]
    fig.update_yaxes(tickvals=list(range(len(rows))), ticktext=names, range=[len(rows) - 0.5, -0.5], showgrid=False)
    fig.update_yaxes(ticks="", showline=False)
    fig.update_xaxes(title_text="nanoseconds for each page of 4 KiB", rangemode="tozero")
    reason = why(prices, size, align)
    fig.update_layout(
        template="devmap",
        width=width_px,
        height=420,
        barmode="stack",
        bargap=0.3,
        margin={"t": 148, "l": 150},
        legend_traceorder="normal",
        title={
            "text": f"{text.size(size)}, align {text.size(align)}, struct pages in {struct_pages_in}",
            "subtitle": {"text": f"why: {reason}"},
        },
        meta={"origin": ", ".join(origins)},
    )
    counts = "; ".join(f"{phase} {state}: {_per_call(_events(size, align, phase, state))}" for phase, state in rows)
    return describe(
        fig,
        caption=f"{prices.label}. Events for {PAGES_PER_CALL} pages, derived: {counts}.",
        alt="Four stacked bars, nanoseconds a page. "
        + " ".join(
            f"{phase} {state}: {sum(cost.values()):.1f}, most of it {PRICES_IN_WORDS[dearest(cost)]}."
            for (phase, state), cost in zip(rows, costs, strict=True)
        )
        + f" {reason}",
    )


def why(prices: Medium, size: int, align: int) -> str:
    """One line: what dominates pin and release, and what the series takes away.

    Examples
    --------
    >>> why(seed_fit().media["pmem"], 1 << 30, 2 << 20)
    'get 4.0×: saves writing changed lines back; put 7.4×: saves writing changed lines back'
    """
    said = []
    for phase in PHASES:
        before, after = (costs_of(prices, _events(size, align, phase, state)) for state in STATES)
        gain = sum(before.values()) / sum(after.values())
        saved = {price: before[price] - after[price] for price in before}
        if gain < 1.05:
            said.append(f"{phase} {gain:.1f}×: {PRICES_IN_WORDS[dearest(after)]} stay")
        else:
            said.append(f"{phase} {gain:.1f}×: saves {PRICES_IN_WORDS[dearest(saved)]}")
    return "; ".join(said)


def _add_measured(fig: go.Figure, run: xr.Dataset, size: int, align: int, rows: Sequence[tuple[str, str]]) -> None:
    samples = [run[MEASURED].sel(size=size, align=align, phase=phase, state=state).values for phase, state in rows]
    middle = [float(np.median(one)) for one in samples]
    fig.add_scatter(
        x=middle,
        y=[row + 0.22 for row in range(len(rows))],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [float(one.max()) - at for one, at in zip(samples, middle, strict=True)],
            "arrayminus": [at - float(one.min()) for one, at in zip(samples, middle, strict=True)],
            "thickness": 1.2,
        },
        mode="markers",
        name="measured here, the engine",
        marker={"symbol": "circle", "size": 9, "color": palette.BLACK},
        hoverinfo="x",
    )


def _published(align: int, place: str) -> list[tuple[tuple[str, str], float]]:
    """The cover letter's times a page: phase and state to nanoseconds; it has 2 MiB only."""
    if align != ALIGN or place not in ("dram", "pmem"):
        return []
    samples = [sample for sample in seed_fit().samples if sample.altmap == (place == "pmem")]
    return [((sample.family.split("-")[1], sample.family.split("-")[2]), sample.ns_per_page) for sample in samples]


def _events(size: int, align: int, phase: str, state: str) -> PinEvents:
    return pin_events(PHASES[phase], size, align, state == "after", KERNELS[state])


def costs_of(prices: Medium, events: PinEvents) -> dict[str, float]:
    """Nanoseconds a page by price."""
    counted = {
        "read": (events.lines_read, prices.read_ns),
        "write": (events.lines_written, prices.write_ns),
        "locked": (events.locked, prices.locked_ns),
    }
    return {name: number * ns / events.pages for name, (number, ns) in counted.items()}


def dearest(costs: dict[str, float]) -> str:
    """The price that most of ``costs`` goes to."""
    return max(costs, key=lambda price: costs[price])


def _per_call(events: PinEvents) -> str:
    """Events of a call in a few words."""
    parts = (events.lines_read, events.lines_written, events.locked)
    read, written, locked = (f"{PAGES_PER_CALL * number / events.pages:,.4g}" for number in parts)
    return f"{read} lines read, {written} written, {locked} locked operations"


def gains_table(run: xr.Dataset) -> Table:
    """How many times faster the series makes each point: measured here, and modelled for each medium."""
    found = gains(run)
    media = run.medium.values.tolist()
    rows = []
    for align in run.align.values.tolist():
        for size in run["size"].values.tolist():
            for phase in PHASES:
                at = {"size": size, "align": align, "phase": phase}
                measured = float(found.measured.sel(at))
                if not math.isnan(measured):
                    modelled = [float(found.modelled.sel(at).sel(medium=name)) for name in media]
                    rows.append(
                        [text.size(align), text.size(size), phase, *(f"{x:.1f}" for x in (measured, *modelled))]
                    )
    extrapolated = [name for name in media if not run.label.sel(medium=name).item().startswith(MODELLED)]
    warned = f" Extrapolated, nobody measured them: {', '.join(extrapolated)}." if extrapolated else ""
    return Table(
        f"{mark('measured')} Measured: medians before over after, the engine in this machine's DRAM. "
        f"{mark('modelled')} Modelled: the same counts at the prices of each medium.{warned} 1.0 is no gain.",
        [
            "align",
            "memory",
            "phase",
            f"{mark('measured')} here, DRAM",
            *(f"{mark('modelled')} {name}" for name in media),
        ],
        rows,
        "llr" + "r" * (len(media) + 1),
    )


def progress_table(run: xr.Dataset) -> Table:
    """What a sweep's Dataset has by now."""
    measured = run[MEASURED].notnull().all(["phase", "sample"])
    there = run[MODELLED_NS].notnull().all(["phase", "medium"])
    rows = []
    for align in run.align.values.tolist():
        for size in run["size"].values.tolist():
            cells = [
                ("done" if bool(measured.sel(at)) else "to do") if bool(there.sel(at)) else "–"
                for at in ({"size": size, "align": align, "state": state} for state in STATES)
            ]
            rows.append([text.size(align), text.size(size), *cells])
    return Table(
        f"{int(measured.sum())} of {int(there.sum())} points measured. A dash: no device of that align has that size.",
        ["align", "memory", *STATES],
        rows,
        "llll",
    )


def _require_medium(run: xr.Dataset, name: str) -> None:
    if name not in run.medium.values.tolist():
        raise WorkbenchError(f"the sweep has no medium {name!r}. It has {', '.join(run.medium.values.tolist())}.")
