# SPDX-License-Identifier: GPL-2.0-only
"""The cover letter's table, the cost model and RDMA rounds, as figures and tables.

Grey is before the series, blue after it; a diamond is a published number, a cross a modelled one, a circle a
measured one::

    fit = seed_fit()
    seed_figure(seed_table(fit))     # the letter's table
    shares_figure(fit)               # what a page costs, price by price
    residual_figure(fit)             # how far the model is off, and foretold from the rest
    rounds_figure(published_rounds())
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from workbench import text
from workbench.lab.cost import MAX_RESIDUAL, TERMS, Fit, Sample, fit, held_out, leave_out
from workbench.lab.media import Medium
from workbench.lab.pin_events import PATHS, pin_events
from workbench.lab.registration import Registration, Rounds
from workbench.lab.seed_table import ALIGN, KINDS, PHASES, STATES, UNMEASURED, Key, Time, as_rows, keys, phase_events
from workbench.view import palette
from workbench.view.summary import Table, mark, origin

COLORS = {state: palette.STATES[state] for state in STATES}
STATE_NAMES = {"before": "before (5.16)", "after": "with the series (5.17)"}
PRICE_LOOKS = {
    "read": ("reading the lines", palette.SKY),
    "write": ("writing changed lines back", palette.VERMILION),
    "locked": ("locked operations", palette.YELLOW),
}
"""A price, whatever the medium, to its name in a legend and its colour."""

_OFFSETS = {"published": 0.26, "modelled": 0.0, "measured": -0.26}
_MARKER_PX = {"before": 11, "after": 7}  # so that the later one shows where both are alike
_LABEL_PX = 12
_LEAST_MS, _GREATEST_MS = 11, 9000
SEED_PX = 760
"""Height of the figure of the letter's table."""


def seed_figure(times: Sequence[Time], width_px: int = palette.NOTEBOOK_PX, where: str = "") -> go.Figure:
    """The letter's table: a row for each memory, place and phase, times on a logarithmic axis.

    Parameters
    ----------
    times : sequence of Time
        From :func:`workbench.lab.seed_table.seed_table`; measured ones are drawn with their spread.
    width_px : int
        CSS pixels.
    where : str
        What measured times are of; stands in the subtitle.
    """
    rows = [key for key in keys() if key.state == STATES[0]]
    kinds = [kind for kind in KINDS if any(time.kind == kind and time.ms is not None for time in times)]
    fig = go.Figure()
    for kind in kinds:
        found = {time.key: time for time in times if time.kind == kind and time.ms is not None}
        for state in STATES:
            here = [found[key] for row in rows if (key := row._replace(state=state)) in found]
            style = palette.provenance_style(kind, COLORS[state])
            fig.add_scatter(
                x=[time.ms for time in here],
                y=[rows.index(time.key._replace(state=STATES[0])) - _OFFSETS[kind] for time in here],
                text=[_ms(time.ms) for time in here if time.ms is not None],
                textposition=[f"middle {_side(time, found)}" for time in here],
                textfont={"size": _LABEL_PX, "color": COLORS[state]},
                mode="markers" if kind == "measured" else "markers+text",
                name=f"{kind}, {STATE_NAMES[state]}",
                marker=style["marker"] | {"size": _MARKER_PX[state]},
                error_x=_spread(here) if kind == "measured" else None,
                cliponaxis=False,
                hoverinfo="skip",
            )
            if kind == "measured":
                _label_beside_the_spread(fig, here, found, rows)
    ticks = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000]
    fig.update_xaxes(
        type="log",
        title_text="time of all calls (logarithmic)",
        tickvals=ticks,
        ticktext=[_ms(tick) for tick in ticks],
        range=[math.log10(_LEAST_MS), math.log10(_GREATEST_MS)],
    )
    fig.update_yaxes(
        tickvals=list(range(len(rows))),
        ticktext=[_row_name(key) for key in rows],
        range=[len(rows) - 0.5, -0.5],
        showgrid=False,
        ticks="",
        ticklabelstandoff=4,
    )
    for row, key in enumerate(rows):
        if "measured" in kinds and key.altmap:
            fig.add_annotation(
                x=math.log10(_LEAST_MS),
                y=row - _OFFSETS["measured"],
                text="not measured: the engine is in DRAM",
                font={"size": _LABEL_PX, "color": palette.OUTLINE},
                showarrow=False,
                xanchor="left",
                xshift=6,
            )
    for border in range(1, len(rows)):
        fig.add_hline(y=border - 0.5, line={"color": "#E3E3E3", "width": 2 if border == len(rows) // 2 else 1})
    subtitle = _run_text() + (f"<br>measured: {where}" if where else "")
    return fig.update_layout(
        template="devmap",
        width=width_px,
        height=SEED_PX,
        margin_t=172 if where else 132,
        title_subtitle_text=subtitle,
        meta={"origin": ", ".join(kinds)},
    )


def _side(time: Time, found: Mapping[Key, Time]) -> str:
    """Where a label does not meet that of the other state: right of the longer time, left of the shorter one."""
    state = STATES[1 - STATES.index(time.key.state)]
    other = found.get(time.key._replace(state=state))
    if other is None or other.ms == time.ms:
        return "right" if time.key.state == STATES[0] else "left"
    assert time.ms is not None and other.ms is not None  # found has what has a number
    return "right" if time.ms > other.ms else "left"


def _spread(times: Sequence[Time]) -> dict[str, Any]:
    """Bars from the least to the greatest repetition."""
    ends = [(time.ms, time.spread) for time in times if time.ms is not None and time.spread is not None]
    return {
        "type": "data",
        "symmetric": False,
        "array": [greatest - ms for ms, (_, greatest) in ends],
        "arrayminus": [ms - least for ms, (least, _) in ends],
        "thickness": 1.2,
        "width": 4,
    }


def _label_beside_the_spread(
    fig: go.Figure, times: Sequence[Time], found: Mapping[Key, Time], rows: Sequence[Key]
) -> None:
    """Times as text beyond the end of their bars, and beyond that of the other state's."""
    for time in times:
        states = (found.get(time.key._replace(state=state)) for state in STATES)
        spreads = [state.spread for state in states if state is not None and state.spread is not None]
        assert time.ms is not None
        right = _side(time, found) == "right"
        end = max(greatest for _, greatest in spreads) if right else min(least for least, _ in spreads)
        fig.add_annotation(
            x=math.log10(end),
            y=rows.index(time.key._replace(state=STATES[0])) - _OFFSETS["measured"],
            text=_ms(time.ms),
            font={"size": _LABEL_PX, "color": COLORS[time.key.state]},
            showarrow=False,
            xanchor="left" if right else "right",
            xshift=6 if right else -6,
        )


def shares_figure(model: Fit, width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """What pinning and unpinning one 4 KiB page costs, price by price, beside the published costs.

    Parameters
    ----------
    model : Fit
    width_px : int
        CSS pixels.
    """
    cases = [key for key in keys() if key.size_mib == 16384]
    names = [f"{_place(key)}, {key.phase}, {key.state}" for key in cases]
    lines = range(len(cases))
    fig = go.Figure()
    for price, (label, color) in PRICE_LOOKS.items():
        fig.add_bar(
            orientation="h",
            y=list(lines),
            x=[_shares(model.media["pmem" if key.altmap else "dram"], key)[price] for key in cases],
            name=f"{label} (modelled)",
            marker={"color": color, "line": {"color": palette.OUTLINE, "width": 1}},
            hoverinfo="skip",
        )
    style = palette.provenance_style("published", palette.BLACK)
    points = [
        (line, sample.ns_per_page)
        for line, key in zip(lines, cases, strict=True)
        for sample in model.samples
        if (sample.altmap, *sample.family.split("-")[1:]) == (key.altmap, key.phase, key.state)
    ]
    fig.add_scatter(
        x=[ns for _, ns in points],
        y=[line for line, _ in points],
        mode="markers",
        name="published, either size",
        marker={**style["marker"], "symbol": "diamond-open", "line": {"width": 2}},
        hoverinfo="skip",
    )
    fig.update_yaxes(
        tickvals=list(lines),
        ticktext=names,
        range=[len(cases) - 0.5, -0.5],
        showgrid=False,
        ticks="",
        ticklabelstandoff=4,
        showline=False,
    )
    fig.update_xaxes(title_text="nanoseconds for each page of 4 KiB", rangemode="tozero")
    fig.update_layout(
        template="devmap",
        width=width_px,
        height=486,
        barmode="stack",
        bargap=0.3,
        margin_t=132,
        title_subtitle_text=f"{origin('modelled')} what it costs to pin (get) and to unpin (put) one page",
        legend_traceorder="normal",
    )
    return fig.update_layout(meta={"origin": "published, modelled"})


def residual_figure(model: Fit, width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """How far the model lies off each published time: fitted, and foretold by a fit that did not see it.

    Parameters
    ----------
    model : Fit
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        A grey bar is the interval of what rounds to the published number, a band what a good fit keeps.
    """
    samples = model.samples
    foretold = leave_out(lambda sample: sample.name, samples)
    fig = go.Figure()
    fig.add_vrect(x0=-100 * MAX_RESIDUAL, x1=100 * MAX_RESIDUAL, fillcolor="#E8F1F8", line_width=0, layer="below")
    fig.add_vline(x=0, line={"color": palette.OUTLINE, "width": 1})
    rounding = [[100 * (end / sample.published_ms - 1) for end in sample.interval_ms] for sample in samples]
    fig.add_scatter(
        x=[end for pair in rounding for end in (*pair, None)],
        y=[line for row in range(len(samples)) for line in (row, row, None)],
        mode="lines",
        line={"color": "#BBBBBB", "width": 9},
        name="rounding as published",
        hoverinfo="skip",
    )
    style = palette.provenance_style("modelled", palette.BLUE)["marker"]
    for name, values, symbol, color in (
        ("modelled", model.residuals, style["symbol"], palette.BLUE),
        (
            "modelled without that time",
            [out.fit.residual(out.samples[0]) for out in foretold],
            "x-thin-open",
            palette.VERMILION,
        ),
    ):
        fig.add_scatter(
            x=[100 * value for value in values],
            y=list(range(len(samples))),
            mode="markers",
            name=name,
            marker={"symbol": symbol, "size": 10, "color": color, "line": {"width": 2, "color": color}},
            hoverinfo="skip",
        )
    fig.update_yaxes(
        tickvals=list(range(len(samples))),
        ticktext=[f"{_sample_name(sample)}  <b>{_ms(sample.published_ms)}</b>" for sample in samples],
        range=[len(samples) - 0.4, -0.6],
        ticks="",
        ticklabelstandoff=4,
    )
    fig.update_xaxes(title_text="modelled / published − 1", ticksuffix=" %", range=[-14, 14])
    subtitle = f"greatest {model.max_residual:.1%}, root mean square {model.rms:.1%}; band: ±{MAX_RESIDUAL:.0%}"
    return fig.update_layout(
        template="devmap",
        width=width_px,
        height=540,
        margin_t=132,
        title_subtitle_text=subtitle,
        meta={"origin": "published, modelled"},
    )


def rounds_figure(rounds: Sequence[Rounds], width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """Rounds of registering and deregistering, a second: device-dax beside hugetlbfs.

    Parameters
    ----------
    rounds : sequence of Rounds
        From :func:`workbench.lab.registration.published_rounds`.
    width_px : int
        CSS pixels.
    """
    memories = list(dict.fromkeys(one.memory for one in rounds))
    fig = go.Figure()
    for state in STATES:
        here = [one for one in rounds if one.state == state]
        fig.add_bar(
            orientation="h",
            y=[one.memory for one in here],
            x=[one.per_second for one in here],
            name=f"{state} the RFC (published)",
            marker_color=COLORS[state],
            text=[f" <b>{one.per_second:.1f}</b> a second, {one.us_per_round / 1e3:.2f} ms each" for one in here],
            textposition="outside",
            cliponaxis=False,
            hoverinfo="skip",
        )
    fig.update_yaxes(
        categoryorder="array",
        categoryarray=memories,
        autorange="reversed",
        ticks="",
        ticklabelstandoff=4,
        showgrid=False,
    )
    most = max(one.per_second for one in rounds)
    fig.update_xaxes(title_text="rounds a second", range=[0, 1.45 * most])
    subtitle = (
        f"{origin('published')} the whole RFC of December 2020, not this series; the size of the region is not known"
    )
    fig.update_layout(
        template="devmap",
        width=width_px,
        height=344,
        bargap=0.35,
        bargroupgap=0.1,
        title_subtitle_text=subtitle,
        margin_t=102,
    )
    return fig.update_layout(meta={"origin": "published"})


def seed_view(times: Sequence[Time], where: str = "") -> Table:
    """The letter's table with every kind of number there is.

    Parameters
    ----------
    times, where
        As of :func:`workbench.lab.seed_table.as_text`.
    """
    kinds = [kind for kind in KINDS if any(time.kind == kind and time.ms is not None for time in times)]
    rows = [
        [f"{int(row[0]):,} MiB, {row[1]}", row[2], *(cell or "–" for cell in row[3 : 3 + 3 * len(kinds)])]
        for row in as_rows(times)
    ]
    heads = [f"{mark(kind)} {kind}, {what}" for kind in kinds for what in ("before", "after", "ratio")]
    measured = f" {mark('measured')} Measured: {where}; median [least-greatest]. {UNMEASURED}" if where else ""
    return Table(
        f"Milliseconds for all calls; {_run_text()}. The letter prints no get with struct pages in DRAM.{measured}",
        ["memory, struct pages in", "phase", *heads],
        rows,
        "ll" + "r" * len(heads),
    )


def counts_table(paths: Sequence[str] = PATHS, release: tuple[str, str] = ("5.16", "5.17")) -> Table:
    """What each path does to the struct pages of 2 MiB: base pages, a compound page, one that is grabbed once.

    Parameters
    ----------
    paths : sequence of str
        Of :data:`workbench.lab.pin_events.PATHS`.
    release : tuple of str
        Without the series and with it.
    """
    rows = []
    for path in paths:
        states = (
            pin_events(path, ALIGN, release=release[0]),
            pin_events(path, ALIGN, compound=True, release=release[1]),
            pin_events(path, ALIGN, compound=True, release=release[1], grab_once=True),
        )
        counts = [(one.locked, one.lines_written, one.lines_read) for one in states]
        rows.append([path, *(" / ".join(map(text.count, one)) for one in counts)])
    return Table(
        f"{mark('derived')} Derived: locked operations / lines written / lines touched, for 512 struct pages. Those of "
        f"pin_user_pages_fast and unpin_user_pages are {mark('captured')} captured as well: 5.15 and 5.17 stored and "
        "touched as often. The last column is what THP and hugetlb do, and device-dax with patch 8 of version 4, which "
        "was not merged.",
        ["", f"base pages ({release[0]})", f"compound page ({release[1]})", "grabbed once"],
        rows,
    )


def prices_table(model: Fit) -> Table:
    """The fitted prices with their standard errors, and the bandwidth that a line of 64 bytes at that price is."""
    rows = []
    for price in model.parameters:
        rate = "" if price.name == "locked" else f"{64 / price.value:.2f}\xa0GB/s"
        told = f"{price.value:.2f}\xa0ns", f"±\xa0{price.stderr:.2f}\xa0ns"
        rows.append([price.name, *told, rate, TERMS[price.name].meaning])
    return Table(
        f"{mark('modelled')} Modelled: prices fitted to {len(model.samples)} published times, one standard error, and "
        "64 bytes over the price.",
        ["price", "value", "standard error", "as a rate", "of"],
        rows,
        "lrrrl",
    )


def limits_table(model: Fit) -> Table:
    """What the fit foretells of times it did not see."""
    groups = (
        ("each of the twelve times", lambda sample: sample.name),
        ("each cost, at both sizes", lambda sample: sample.family),
        ("all times of one size", lambda sample: sample.size_mib > 16384),
    )
    rows = []
    for what, by in groups:
        found = leave_out(by, model.samples)
        worst = max(found, key=lambda out: abs(out.worst))
        typical = np.median([abs(out.worst) for out in found])
        which = _sample_name(max(worst.samples, key=lambda sample: abs(worst.fit.residual(sample))))
        rows.append([what, f"{typical:.1%}", _signed(worst.worst), which])
    held = held_out()
    errors = {sample.name: model.residual(sample) for sample in held}
    worst_held = max(held, key=lambda sample: abs(errors[sample.name]))
    typical = np.median(np.abs(list(errors.values())))
    path = worst_held.events.path
    of = f"{path}, {_sample_name(worst_held)}, published {_ms(worst_held.published_ms)}"
    rows.append(["version 4's base pages, never fitted", f"{typical:.1%}", _signed(errors[worst_held.name]), of])
    return Table(
        f"{mark('modelled')} Modelled: residuals of times that the fit did not see.",
        ["left out", "median", "greatest", "of"],
        rows,
        "lrrl",
    )


def models_table(models: Sequence[tuple[str, ...]]) -> Table:
    """Fits with other sets of prices, side by side."""
    rows = []
    for terms in models:
        model = fit(terms=terms)
        prices = model.prices
        cells = [f"{prices[name]:.2f}" if name in prices else "–" for name in TERMS]
        rows.append([str(len(terms)), *cells, f"{model.max_residual:.1%}", f"{model.rms:.1%}"])
    return Table(
        f"{mark('modelled')} Modelled: prices in ns for each set, all fitted to the same twelve times.",
        ["prices", *TERMS, "greatest residual", "root mean square"],
        rows,
        "r" * (len(TERMS) + 3),
    )


def media_table(media: Sequence[Medium]) -> Table:
    """The letter's smaller run on each medium: what 16 GiB would take, before and after."""
    rows = []
    for medium in media:
        cells = []
        for phase in PHASES:
            before, after = (medium.ms(phase_events(Key(16384, False, phase, state))) for state in STATES)
            cells += [_ms(before), _ms(after), f"{before / after:.1f}"]
        rows.append([medium.name, *cells, medium.label])
    heads = [f"{phase} {what}" for phase in PHASES for what in ("before", "after", "ratio")]
    return Table(
        f"{mark('modelled')} Modelled, 16 GiB in compound pages of {text.size(ALIGN)}. What is called extrapolated was "
        "never measured: its prices are assumptions, on the processor of the fit.",
        ["struct pages in", *heads, "what it is"],
        rows,
        "l" + "r" * len(heads) + "l",
    )


def registration_table(cases: Sequence[tuple[str, Registration]]) -> Table:
    """What registering and releasing a memory region does to struct pages.

    Parameters
    ----------
    cases : sequence of (str, Registration)
        With a name each.
    """
    rows = [
        [
            name,
            text.count(one.calls),
            *(text.count(n) for n in (one.pin.locked, one.pin.lines_written)),
            *(text.count(n) for n in (one.release.locked, one.release.lines_read, one.release.lines_written)),
            f"≥\xa0{_ms(one.pin_ms)}",
            _ms(one.release_ms),
        ]
        for name, one in cases
    ]
    return Table(
        f"{mark('derived')} Derived: counts. {mark('modelled')} Modelled: times of the struct pages' part; registering "
        "takes longer, since every page is walked to under a lock.",
        [
            "",
            f"{mark('derived')} calls",
            "pin: locked",
            "pin: lines written",
            "release: locked",
            "release: lines read",
            "release: lines written",
            f"{mark('modelled')} pin",
            f"{mark('modelled')} release",
        ],
        rows,
    )


def _shares(medium: Medium, key: Key) -> dict[str, float]:
    """Nanoseconds a page by price."""
    events = phase_events(key)
    return {
        "read": medium.read_ns * events.lines_read / events.pages,
        "write": medium.write_ns * events.lines_written / events.pages,
        "locked": medium.locked_ns * events.locked / events.pages,
    }


def _signed(share: float) -> str:
    """Percent with a sign, minus as printed."""
    return f"{share:+.1%}".replace("-", "−")


def _place(key: Key) -> str:
    return "altmap" if key.altmap else "DRAM"


def _row_name(key: Key) -> str:
    return f"{key.size_mib:,} MiB, {_place(key)}, <b>{key.phase}</b>"


def _sample_name(sample: Sample) -> str:
    place, phase, state = sample.family.split("-")
    return f"{sample.size_mib:,} MiB, {'DRAM' if place == 'dram' else place}, {phase} {state}"


def _run_text() -> str:
    return "gup_test -S -a -n 512 -w, compound pages of 2 MiB"


def _ms(value: float) -> str:
    """``71 ms``, ``4.12 s``, ``0.26 ms``; number and unit stay on one line."""
    if value >= 1000:
        return f"{value / 1000:.3g}\xa0s"
    return f"{value:.0f}\xa0ms" if value >= 100 else f"{value:.3g}\xa0ms"
