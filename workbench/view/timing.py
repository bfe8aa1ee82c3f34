# SPDX-License-Identifier: GPL-2.0-only
"""What holding device memory costs: size × align × medium × state of the series × path, and why.

::

    at = Timing(16 << 30, 2 << 20, "pmem", "5.16+11", UNPIN)
    timing_figure(at)      # time and gain over size, both axes logarithmic; the marks of the point chosen are ringed
    why(at)                # one line: the event that dominates
    touched(at)            # a memory map of what that path does to the struct pages of one huge page, and a sentence

Grey is before the series, blue with it, green 6.1.  A cross is modelled, a diamond published, a circle measured here.
Every mark carries ``[kernel, size]`` as its ``customdata``, so that a click on it chooses its point.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from workbench import text
from workbench.errors import WorkbenchError
from workbench.lab.cost import Sample, held_out, sample_of, seed_fit
from workbench.lab.gup_timing import time_point
from workbench.lab.media import ASSUMPTIONS, FITTED, Medium, medium
from workbench.lab.operations import pin_path
from workbench.lab.pin_events import PIN_FAST, UNPIN, PinEvents, pin_events
from workbench.lab.published import Number, published
from workbench.lab.seed_table import PHASES
from workbench.lab.sweep import MEASURED, Point
from workbench.lab.sweep import STATES as MEASURED_STATES
from workbench.view import palette
from workbench.view.export import describe
from workbench.view.memory_map import Device, MemoryMap, State
from workbench.view.summary import mark
from workbench.view.sweep import PRICES_IN_WORDS, costs_of, dearest


@dataclass(frozen=True, slots=True)
class Patched:
    """A state of the series: its name, colour, and what decides the counts."""

    label: str
    color: str
    compound: bool
    release: str
    state: str | None
    """What a sweep calls it, of :data:`workbench.lab.sweep.STATES`; None: it measures no such kernel."""


STATES = {
    "5.16+0": Patched("without the series", palette.STATES["before"], False, "5.16", MEASURED_STATES[0]),
    "5.16+11": Patched("with the series", palette.STATES["after"], True, "5.17", MEASURED_STATES[1]),
    "6.1": Patched("6.1, folios", palette.GREEN, True, "6.1", None),
}
"""Kernels compared, by name; the first is what the others are compared with."""

MEDIA = (*FITTED, *ASSUMPTIONS)
ALIGNS = (4 << 10, 2 << 20, 1 << 30)
SIZES = tuple(1 << shift for shift in range(21, 41))
"""Bytes: 2 MiB to 1 TiB."""

MEASURABLE = 1 << 30
"""Most bytes that are measured here at once."""

SAMPLES = 5
HEIGHT_PX = 660
"""CSS pixels of :func:`timing_figure`."""

_BEFORE = next(iter(STATES))
_MS_TICKS = [10.0**k for k in range(-6, 7)]
_GAIN_TICKS = [digit * 10**k for k in range(7) for digit in (1, 2, 5)]
_FEW_TICKS = 50
"""Gain from which on only powers of ten are named."""
_PUBLISHED_PX = 15
"""Of a diamond, so that it stands out around the cross that lies on it."""

_BESIDE = 0.1
"""Sizes that differ by less than this are drawn as one, the published one."""

_LETTER = "mm, device-dax: Introduce compound pages in devmap, version 7: cover letter"

_SIDES = dict(zip(STATES, (10**-0.07, 1.0, 10**0.07), strict=True))
"""How far kernels stand apart: a factor of the size, so that what is alike can be seen side by side."""

Measured = Mapping[Point, Mapping[str, Sequence[float]]]
"""Milliseconds of all calls, by point and phase (``get``, ``put``), one each sample."""


@dataclass(frozen=True, slots=True)
class Timing:
    """A point: bytes held, align in bytes, where the struct pages lie, kernel, and path.

    Raises
    ------
    WorkbenchError
        There is no such align, kernel or path, or no device of that align has that size.
    """

    size: int
    align: int
    place: str
    kernel: str
    path: str

    def __post_init__(self) -> None:
        if self.kernel not in STATES:
            raise WorkbenchError(f"no counts for kernel {self.kernel!r}. Use one of {', '.join(STATES)}.")
        self.events()  # which refuses what cannot be

    @property
    def prices(self) -> Medium:
        """Of the medium that holds the struct pages."""
        return medium(self.place, seed_fit().media)

    def events(self) -> PinEvents:
        """Counts of all calls together."""
        state = STATES[self.kernel]
        return pin_events(self.path, self.size, self.align, state.compound, state.release)

    def ms(self) -> float:
        """Modelled milliseconds of all calls."""
        return self.prices.ms(self.events())


def measure(size: int, align: int, samples: int = SAMPLES) -> dict[Point, dict[str, list[float]]]:
    """Time the engine's pins and releases at one size, without and with the series, in this machine's DRAM.

    Parameters
    ----------
    size, align : int
        Bytes; at most :data:`MEASURABLE`.
    samples : int

    Returns
    -------
    dict
        As :data:`Measured`.

    Raises
    ------
    WorkbenchError
        Too large, or no device of that align has that size.
    """
    if size > MEASURABLE or size % align:
        raise WorkbenchError(
            f"multiples of the align up to {text.size(MEASURABLE)} are measured here; got "
            f"{text.size(size, exact=True)} with an align of {text.size(align)}. Choose another size."
        )
    found = {}
    for state in MEASURED_STATES:
        point = Point(size, align, state)
        found[point] = {phase: [1e3 * s for s in seconds] for phase, seconds in time_point(point, samples).items()}
    return found


def measured_of(run: xr.Dataset) -> dict[Point, dict[str, list[float]]]:
    """What a sweep measured, see :func:`workbench.lab.sweep.sweep`, as :data:`Measured`."""
    found: dict[Point, dict[str, list[float]]] = {}
    for size in run["size"].values.tolist():
        for align in run.align.values.tolist():
            for state in MEASURED_STATES:
                ns = run[MEASURED].sel(size=size, align=align, state=state)
                if bool(ns.notnull().all()):
                    ms = ns * (size >> text.PAGE_SHIFT) / 1e6
                    found[Point(size, align, state)] = {phase: ms.sel(phase=phase).values.tolist() for phase in PHASES}
    return found


def why(at: Timing) -> str:
    """One line: what a page costs, the event that dominates it, and what the series took away.

    Examples
    --------
    >>> why(Timing(1 << 30, 2 << 20, "pmem", "5.16+11", UNPIN))
    '16.7 ns a page, 98 % of it reading lines in sequence; 7.4× faster than without the series: saves writing \
changed lines back'
    """
    now, before = (costs_of(one.prices, one.events()) for one in (at, replace(at, kernel=_BEFORE)))
    most = dearest(now)
    total = sum(now.values())
    said = f"{total:.3g} ns a page, {now[most] / total:.0%} of it {PRICES_IN_WORDS[most]}".replace("%", " %")
    if at.kernel == _BEFORE:
        return said
    gain = sum(before.values()) / total
    saved = {price: before[price] - now[price] for price in before}
    if gain < 1.05:
        return f"{said}; as long as without the series"
    times = f"{gain:.1f}" if gain < 100 else text.count(int(round(gain, -2)))
    return f"{said}; {times}× faster than without the series: saves {PRICES_IN_WORDS[dearest(saved)]}"


def published_sizes() -> list[int]:
    """Bytes of the published pins and releases that have a mark here, ascending."""
    return sorted({sample.size_mib << 20 for _, _, sample in _printed()})


def timing_figure(at: Timing, measured: Measured | None = None, width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """Time of all calls, and how many times less than without the series, by size.

    Parameters
    ----------
    at : Timing
        The point chosen; its align, medium and path are shown for all sizes and states.
    measured : mapping, optional
        Of :func:`measure` or :func:`measured_of`; shown where struct pages are in DRAM.
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        With caption, alt text and origin.
    """
    fig = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.07, row_heights=[0.62, 0.38])
    series = [*_modelled(at), *_published(at), *_measured(at, measured or {})]
    kinds = list(dict.fromkeys(one.kind for one in series))
    ringed: dict[int, list[float]] = {1: [], 2: []}  # panel to heights
    greatest = 2.0
    for one in series:
        style = _style(one)
        mine = one.kernel == at.kernel
        times = {size: _median(samples) for size, samples in one.ms.items()}
        said = ["<br>".join(filter(None, (f"{one.kind} {_ms(ms)}", one.mail))) for ms in times.values()]
        name = f"{one.called}, {STATES[one.kernel].label}"
        fig.add_scatter(**_marks(one.kernel, times, said, style), **_bars(one), name=name, row=1, col=1)
        if mine and at.size in times:
            ringed[1].append(times[at.size])
        base = next((b for b in series if (b.kind, b.mail, b.kernel) == (one.kind, one.mail, _BEFORE)), None)
        if base is not None and one is not base:
            gains = {size: _median(base.ms[size]) / ms for size, ms in times.items() if size in base.ms}
            greatest = max(greatest, *gains.values())
            said = [f"{one.kind}: {gain:.1f}× faster" for gain in gains.values()]
            fig.add_scatter(**_marks(one.kernel, gains, said, style), showlegend=False, row=2, col=1)
            if mine and at.size in gains:
                ringed[2].append(gains[at.size])
    for row, heights in ringed.items():
        fig.add_scatter(
            x=[at.size * _SIDES[at.kernel]] * len(heights),
            y=heights,
            mode="markers",
            marker={"symbol": "circle-open", "size": 24, "color": palette.VERMILION, "line": {"width": 2.5}},
            name="the point chosen",
            showlegend=row == 1,
            hoverinfo="skip",
            row=row,
            col=1,
        )
    sizes = [math.log10(SIZES[0] / 1.5), math.log10(SIZES[-1] * 1.5)]
    ticks = SIZES[::3]
    fig.update_xaxes(type="log", range=sizes, tickvals=ticks, ticktext=[text.size(size) for size in ticks])
    fig.update_xaxes(title_text="memory held", row=2)
    every = [ms for one in series for samples in one.ms.values() for ms in samples]
    log = [math.log10(min(every) / 2), math.log10(max(every) * 2)]
    fig.update_yaxes(
        type="log", range=log, tickvals=_MS_TICKS, ticktext=[_ms(ms) for ms in _MS_TICKS], title_text="time", row=1
    )
    step = 1 if greatest < _FEW_TICKS else 3
    fig.update_yaxes(
        type="log",
        range=[math.log10(0.7), math.log10(1.6 * greatest)],
        tickvals=_GAIN_TICKS[::step],
        ticktext=[f"{gain:,}×" for gain in _GAIN_TICKS[::step]],
        title_text="times faster",
        row=2,
    )
    found = f"{_name(at)}: {values(at, measured)}"
    reason = why(at)
    fig.update_layout(
        template="devmap",
        width=width_px,
        height=HEIGHT_PX,
        margin={"t": 168, "l": 92},
        title={
            "text": f"How long {at.path}() takes: align {text.size(at.align)}, struct pages in {at.place}",
            "subtitle": {"text": f"<b>{found}</b><br>why: {reason}".replace("; ", "<br>")},
        },
        modebar={"remove": ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"]},  # room for the title
        meta={"origin": ", ".join(kinds)},
    )
    notes = [
        f"{mark('modelled')} {at.prices.label}.",
        f"{mark('published')} Published: gup_test in mails of the series." if "published" in kinds else "",
        f"{mark('measured')} Measured: the engine here, struct pages in DRAM." if "measured" in kinds else "",
        "Times faster: than without the series, of the same kind of mark. Other machines take other times: compare "
        "ratios. Kernels stand a little apart to be seen side by side.",
    ]
    return describe(
        fig,
        caption=" ".join(filter(None, notes)),
        alt=f"Time of {at.path}() by size, both axes logarithmic, for an align of {text.size(at.align)} with struct "
        f"pages in {at.place}. " + " ".join(_sentence(one) for one in series) + f" Chosen: {found}. {reason}.",
    )


def values(at: Timing, measured: Measured | None = None) -> str:
    """What is known of a point: its modelled, published and measured times.

    Examples
    --------
    >>> values(Timing(16 << 30, 2 << 20, "pmem", "5.16+11", UNPIN))
    'modelled 70.1 ms, published 71 ms'
    """
    said = [f"modelled {_ms(at.ms())}"]
    for one in (*_published(at), *_measured(at, measured or {})):
        if one.kernel == at.kernel and at.size in one.ms:
            ms = one.ms[at.size]
            spread = f" ({_ms(min(ms))} to {_ms(max(ms))})" if len(ms) > 1 else ""
            said.append(f"{one.called} {_ms(_median(ms))}{spread}")
    return ", ".join(said)


def touched(at: Timing) -> tuple[MemoryMap, str]:
    """A memory map that has played what ``at.path`` does to the struct pages of one huge page, and a sentence of it.

    Parameters
    ----------
    at : Timing
        Of it kernel, align and path; every further huge page is treated as the first, wherever its struct pages lie.

    Returns
    -------
    MemoryMap
        Of a device of one huge page, after the last store of the path; every store before can be stepped to.
    str
        What the path read, wrote and locked.
    """
    life = pin_path(at.kernel, at.align, at.path)
    shown = Device(life.machine.array, name=life.device.name, operations=life.traces)
    first, trace = life.device.ranges[0].start_pfn, life.traces[at.path]
    op = 1 + list(life.traces).index(at.path)  # the initialisation comes first
    said = (
        f"{trace.attrs['what']}, kernel {at.kernel}, align {text.size(at.align)}: "
        f"{text.count(int(trace.lines_read))} struct pages read, {text.count(int(trace.lines_written))} written, "
        f"{text.count(int(trace.locked_operations))} locked operations."
    )
    state = State(at.kernel, 0, first, 6, layer="refcount", op=op, step=trace.sizes["store"])
    return MemoryMap(shown, state), said


# what is drawn


@dataclass(frozen=True, slots=True)
class _Series:
    """Milliseconds by size, one a sample, of a kernel and a provenance; published ones of one mail."""

    kind: str
    kernel: str
    ms: dict[int, list[float]]
    mail: str = ""
    """Title of the mail."""

    @property
    def called(self) -> str:
        """The kind; published ones of another mail than the merged cover letter say which."""
        return self.kind if self.mail in ("", _LETTER) else f"{self.kind} in {self.mail.partition(',')[0]}"


def _modelled(at: Timing) -> Iterator[_Series]:
    printed = {size for one in _published(at) for size in one.ms}
    # a mark beside a published one would lie on it, and take its clicks
    apart = {size for size in SIZES if all(size == other or abs(size / other - 1) > _BESIDE for other in printed)}
    sizes = [size for size in sorted(apart | printed | {at.size}) if size % at.align == 0]
    for kernel in STATES:
        yield _Series("modelled", kernel, {n: [replace(at, size=n, kernel=kernel).ms()] for n in sizes})


@cache
def _printed() -> tuple[tuple[str, Number, Sample], ...]:
    """Published times that the model was fitted to or tried on: kernel, number, and the time."""
    fitted = {sample.name for sample in (*seed_fit().samples, *held_out())}
    return tuple(
        (kernel, number, sample_of(number, state.state))
        for kernel, state in STATES.items()
        for number in published().numbers.values()
        if state.state is not None and f"{number.id}-{state.state}" in fitted
    )


def _published(at: Timing) -> Iterator[_Series]:
    """Published times of the same path, align and medium, by kernel and mail."""
    if at.place not in FITTED:
        return
    found: dict[tuple[str, str], dict[int, list[float]]] = {}
    for kernel, number, sample in _printed():
        same = (number.config["align_mib"] << 20, sample.events.path, sample.altmap)
        if same == (at.align, at.path, at.place == "pmem"):
            found.setdefault((kernel, number.source), {})[sample.size_mib << 20] = [sample.published_ms]
    for (kernel, source), ms in found.items():
        yield _Series("published", kernel, ms, published().sources[source].title)


def _measured(at: Timing, measured: Measured) -> Iterator[_Series]:
    phase = {PIN_FAST: "get", UNPIN: "put"}.get(at.path)
    if phase is None or at.place != "dram":
        return
    for kernel, state in STATES.items():
        here = {
            point.size: list(by_phase[phase])
            for point, by_phase in measured.items()
            if (point.align, point.state) == (at.align, state.state)
        }
        if here:
            yield _Series("measured", kernel, here)


def _style(one: _Series) -> dict[str, Any]:
    style = palette.provenance_style(one.kind, STATES[one.kernel].color)
    if one.kind == "published":
        style["marker"] |= {"symbol": "diamond-open", "size": _PUBLISHED_PX, "line": {"width": 2}}
    return style


def _marks(kernel: str, heights: Mapping[int, float], said: Sequence[str], style: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a scatter trace: a mark a size, which knows its point and says its value."""
    label = STATES[kernel].label
    return {
        "mode": "markers",
        "marker": style["marker"],
        "x": [size * _SIDES[kernel] for size in heights],
        "y": list(heights.values()),
        "customdata": [[kernel, size] for size in heights],
        "hovertext": [f"{_size(size)}, {label}<br>{one}" for size, one in zip(heights, said, strict=True)],
        "hoverinfo": "text",
    }


def _bars(one: _Series) -> dict[str, Any]:
    """Bars from the least to the greatest sample, where there are several."""
    if one.kind != "measured":
        return {}
    middle = [_median(samples) for samples in one.ms.values()]
    return {
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [max(samples) - at for samples, at in zip(one.ms.values(), middle, strict=True)],
            "arrayminus": [at - min(samples) for samples, at in zip(one.ms.values(), middle, strict=True)],
            "thickness": 1.2,
            "width": 4,
        }
    }


def _median(samples: Sequence[float]) -> float:
    ordered = sorted(samples)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _sentence(one: _Series) -> str:
    size = max(one.ms)
    return f"{one.called}, {STATES[one.kernel].label}, {_size(size)}: {_ms(_median(one.ms[size]))}."


def _name(at: Timing) -> str:
    return f"{_size(at.size)}, {STATES[at.kernel].label}"


def _size(size: int) -> str:
    return text.size(size, exact=True)


def _ms(ms: float) -> str:
    for unit, factor in (("s", 1e-3), ("ms", 1.0), ("µs", 1e3)):
        if ms * factor >= 1:
            return f"{ms * factor:.3g} {unit}" if ms * factor < 1000 else f"{ms * factor:.0f} {unit}"
    return f"{ms * 1e6:.3g} ns"
