# SPDX-License-Identifier: GPL-2.0-only
"""The speed bars: what a run of :mod:`workbench.lab.bench` must show, as ratios of its own samples.

A ratio is taken within each repetition, from samples that lie next to each other in time; its value
is the median, its spread the least and the greatest.  A bar holds, fails, or has no verdict where the
machine did not allow the measurement, and then says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from workbench import text
from workbench.lab.bench import CASES, TIB
from workbench.lab.bench_images import ANALYTIC_PAGES, DIRTY, IMAGES
from workbench.lab.bench_pins import BASE_PAGES, COMPOUND, ONCE, PIN_CASES, PinCase
from workbench.lab.cost import MAX_RESIDUAL, MAX_RMS

LEAST_SAMPLES = 5
COUNTING = 1.6
"""How much longer a kernel may take while it counts."""
IDLE_SPIN = 1.15
"""Two threads that count in registers take at most this much longer than one where two cores are idle."""


@dataclass(frozen=True)
class Bar:
    """One bar and how it came out.

    Attributes
    ----------
    id : str
        Number in the list of bars; a letter where a bar has several parts.
    text : str
        What is compared.
    limit : float
    at_least : bool
        Whether the limit is the least or the greatest value that holds.
    value : float or None
        Median; None where there is none.
    spread : tuple of float or None
        Least and greatest.
    samples : int
    holds : bool or None
        None without a verdict.
    reason : str
        Why there is no verdict; else empty.
    """

    id: str
    text: str
    limit: float
    at_least: bool
    value: float | None
    spread: tuple[float, float] | None
    samples: int
    holds: bool | None
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """The bar as plain JSON values; ``reason`` only where there is no verdict."""
        plain = {
            "id": self.id,
            "text": self.text,
            "limit": self.limit,
            "sense": ">=" if self.at_least else "<=",
            "value": self.value,
            "holds": self.holds,
            "spread": None if self.spread is None else list(self.spread),
            "samples": self.samples,
        }
        return plain | ({"reason": self.reason} if self.holds is None else {})


def _bar(
    id: str,
    what: str,
    limit: float,
    values: np.ndarray,
    at_least: bool = False,
    least_samples: int = LEAST_SAMPLES,
    reason: str = "",
) -> Bar:
    """Judge ``values`` (float64[samples], NaN for none); ``reason`` withholds the verdict."""
    values = values[~np.isnan(values)]
    if not len(values):
        return Bar(id, what, limit, at_least, None, None, 0, None, reason or "not in this run")
    value = float(np.median(values))
    spread = (float(values.min()), float(values.max()))
    if not reason and len(values) < least_samples:
        reason = (
            f"{len(values)} samples; a verdict needs {least_samples}. Run again without --quick, or when it is quiet"
        )
    holds = None if reason else bool(value >= limit if at_least else value <= limit)
    return Bar(id, what, limit, at_least, value, spread, len(values), holds, reason)


def ratio(run: xr.Dataset, case: str, side: str, other: str, other_case: str | None = None) -> np.ndarray:
    """CPU seconds of ``side`` over those of ``other``, sample by sample of a case (or of two with equal rounds).

    Returns
    -------
    float64[sample]
    """
    seconds = run.kernel_seconds.sel(clock="cpu")
    return (seconds.sel(case=case, side=side) / seconds.sel(case=other_case or case, side=other)).values


def _cpu(run: xr.Dataset, variable: str, **where: str | int) -> np.ndarray:
    """CPU seconds of a variable, sample by sample; none where the run is older than the variable."""
    return run[variable].sel({"clock": "cpu", **where}).values if variable in run else np.array([])


def _pin(run: xr.Dataset, case: PinCase, phase: str, side: str) -> np.ndarray:
    """CPU seconds of one phase of pinning: float64[repetition]."""
    return _cpu(run, "pin_seconds", pin_case=case.name, phase=phase, pin_side=side)


def kernel_ratios(run: xr.Dataset) -> dict[str, np.ndarray]:
    """Engine over gcc by case, the samples of each: float64[repetition]; pinning only where it was measured."""
    kernels = {case: ratio(run, case, "engine", "gcc") for case in run.case.values.tolist()}
    if "pin_seconds" not in run:
        return kernels
    return kernels | {
        f"{kernel} {case.name}": _pin(run, case, phase, "engine") / _pin(run, case, phase, "gcc")
        for case in PIN_CASES
        for kernel, phase in zip(case.kernels(), run.phase.values.tolist(), strict=True)
    }


def _init(order: int, non_temporal: bool = False) -> str:
    kernel = "memmap_init_zone_device_nt" if non_temporal else "memmap_init_zone_device"
    return next(case.name for case in CASES if (case.kernel, case.tree, case.order) == (kernel, "5.17", order))


def _worst(bars: list[Bar]) -> Bar:
    """The bar that decides: the worst that fails, else one that is not judged, else the worst."""
    unjudged = [bar for bar in bars if bar.holds is None]
    failed = [bar for bar in bars if bar.holds is False]
    return max(failed or unjudged or bars, key=lambda bar: bar.value if bar.value is not None else np.inf)


def _every_kernel(run: xr.Dataset) -> Bar:
    """Bar 3: the worst kernel decides."""
    what = "time of each kernel over that of gcc -O3 -march=native; slowest"
    return _worst([_bar("3", f"{what}: {case}", 1.10, values) for case, values in kernel_ratios(run).items()])


def _pins(run: xr.Dataset) -> list[Bar]:
    """Bars 4 to 6: pinning and releasing against as many lines and locked operations, and before against after."""

    def over_limit(id: str, what: str, limit: float, case: PinCase, phase: str) -> Bar:
        return _bar(id, what, limit, _pin(run, case, phase, "engine") / _pin(run, case, phase, "limit"))

    def over(id: str, what: str, limit: float, phase: str, slow: PinCase, fast: PinCase) -> Bar:
        values = _pin(run, slow, phase, "engine") / _pin(run, fast, phase, "engine")
        return _bar(id, what, limit, values, at_least=True)

    return [
        over_limit("4a", "put of compound pages over one load of 8 bytes a line", 1.30, COMPOUND, "put"),
        over_limit("4b", "put of base pages over two locked operations a line", 1.15, BASE_PAGES, "put"),
        over_limit("5a", "get of base pages over three locked operations a line", 1.25, BASE_PAGES, "get"),
        over_limit(
            "5b",
            "get of compound pages over one load a line, then three locked operations on lines in use",
            1.15,
            COMPOUND,
            "get",
        ),
        over("6a", "put of base pages over put of compound pages", 2.0, "put", BASE_PAGES, COMPOUND),
        over("6b", "get of compound pages, one by one over one grab for each", 10.0, "get", COMPOUND, ONCE),
        over("6c", "put of compound pages, by list over by range", 10.0, "put", COMPOUND, ONCE),
    ]


def _figure(id: str, what: str, limit: float, values: np.ndarray, value: float) -> Bar:
    """A bar of a number that is computed from ``values``, with no samples to take a median of."""
    if not len(values):
        return _bar(id, what, limit, values)
    return Bar(id, what, limit, False, value, None, len(values), value <= limit)


def _cost_model(run: xr.Dataset) -> list[Bar]:
    """Bar 9: how well few prices explain the published times."""
    residuals = run.cost_residual.values if "cost_residual" in run else np.array([])
    worst = float(np.abs(residuals).max(initial=0.0))
    rms = float(np.sqrt(np.mean(residuals**2))) if len(residuals) else 0.0
    model = "cost model of the published times"
    return [
        _figure("9a", f"{model}: prices", 4, residuals, float(run.attrs.get("cost_prices", 0))),
        _figure("9b", f"{model}: largest residual", MAX_RESIDUAL, residuals, worst),
        _figure("9c", f"{model}: root mean square of the residuals", MAX_RMS, residuals, rms),
    ]


def _counting(run: xr.Dataset) -> list[Bar]:
    """Bar 10: what is counted is right, and counting does not cost much."""
    what = "time of a kernel that counts over that of the plain one"
    bars, miscounts = [_bar("10b", what, COUNTING, np.array([]))], np.array([])
    if "counting_seconds" in run:
        bars = [
            _bar(
                "10b",
                f"{what}; slowest: {name}",
                COUNTING,
                _counted(run, name, "counted") / _counted(run, name, "plain"),
            )
            for name in run.counted.values.tolist()
        ]
        miscounts = run.miscounts.values[~np.isnan(run.miscounts.values)]
    worst = float(miscounts.max(initial=0))
    return [_figure("10a", "counted events off their closed form, at worst", 0, miscounts, worst), _worst(bars)]


def _counted(run: xr.Dataset, name: str, form: str) -> np.ndarray:
    return _cpu(run, "counting_seconds", counted=name, form=form)


def _devices(run: xr.Dataset) -> list[Bar]:
    """Bars 13 and 14: faults of a device of 1 TiB, and the bind of a small one."""
    devices = run.device_bytes.values.tolist()
    device = devices[-1]
    faults = device >> 21
    seconds, writes = (_cpu(run, name, device_bytes=device) for name in ("fault_seconds", "write_seconds"))
    by_write = seconds / faults / (writes / run.attrs["random_writes"]) if len(writes) else writes
    took = f", {np.nanmedian(seconds):.2f} s" if np.isfinite(seconds).any() else ""
    what = f"a fault of 2 MiB over a write to a random line, {text.count(faults)} faults of {text.size(device)}{took}"
    no_scale = "" if device == TIB else run.attrs.get("reason_scale", "") or "judged at 1 TiB only"
    probe, init = (_cpu(run, "probe_seconds", probe=kind) for kind in ("probe", "init"))
    return [
        _bar("13", what, 40.0, by_write, reason=no_scale),
        _bar(
            "14", f"bind of {text.size(devices[0])}, every struct page made, over its kernel alone", 1.1, probe / init
        ),
    ]


def _images(run: xr.Dataset) -> list[Bar]:
    """Bar 11: images of struct pages, of which some were written to, none was looked at, or all are read."""
    scan, read, dirty, analytic = (_cpu(run, "image_seconds", image=kind) for kind in IMAGES)
    device = text.size(run.device_bytes.values.tolist()[-1])
    image = "milliseconds to an image of"
    return [
        _bar("11a", f"{image} {device} after {DIRTY} of its struct pages were written to", 2.0, dirty * 1e3),
        _bar("11b", f"{image} {text.count(ANALYTIC_PAGES)} struct pages that are only described", 40.0, analytic * 1e3),
        _bar("11c", f"image of {device}, every struct page read, over one load of 8 bytes a line", 1.3, scan / read),
    ]


def _seconds(run: xr.Dataset, device: int, threads: int, clock: str) -> np.ndarray:
    return run.reinit_seconds.sel(device_bytes=device, threads=threads, clock=clock).values


def _scale(run: xr.Dataset) -> list[Bar]:
    """Bar 7: as fast by the page at 1 TiB, and twice as fast with two threads."""
    devices = run.device_bytes.values.tolist()
    small, large = devices[0], devices[-1]
    no_scale = run.attrs.get("reason_scale", "") if large != TIB else ""
    by_page = np.array([])
    if large == TIB:
        by_page = _seconds(run, large, 1, "cpu") / _seconds(run, small, 1, "cpu") * small / large
    first = _bar(
        "7a",
        f"re-initialising 1 TiB (268,435,456 struct pages) over {text.size(small)}, per page",
        1.1,
        by_page,
        reason=no_scale,
    )
    spin = run.spin_seconds.sel(device_bytes=large, clock="wall")
    idle = (spin.sel(threads=2) / spin.sel(threads=1)).values <= IDLE_SPIN
    wall = _seconds(run, large, 2, "wall") / _seconds(run, large, 1, "wall")
    scaled = "" if large == TIB else " instead of 1 TiB"
    what = f"two threads over one, re-initialising {text.size(large)}{scaled}"
    second = _bar("7b", what, 0.6, np.where(idle, wall, np.nan))
    if large != TIB:  # some thirty milliseconds: what starting a thread costs would show
        second = _bar("7b", what, 0.6, wall, reason=no_scale or "judged at 1 TiB only")
    elif second.holds is None and np.isfinite(wall).sum() >= LEAST_SAMPLES:
        busy = f"a spin test found two idle cores in {second.samples} of {int(np.isfinite(wall).sum())} repetitions"
        second = _bar("7b", what, 0.6, wall, reason=f"{busy}. Run again when nothing else runs")
    return [first, second]


def _start(run: xr.Dataset, id: str, start: str, what: str, limit: float) -> Bar:
    """Bar 12: by the wall clock, unless the fresh process did not get a core to itself."""
    wall, cpu = (run.start_seconds.sel(start=start, clock=clock).values for clock in ("wall", "cpu"))
    bar = _bar(id, what, limit, wall, least_samples=1 if run.attrs["quick"] else LEAST_SAMPLES)
    if bar.holds is False and np.nanmedian(cpu) <= limit:
        share = float(np.nanmedian(cpu / wall))
        reason = f"the fresh process got {share:.0%} of a core, so its wall clock says little. Run when it is quiet"
        bar = _bar(id, what, limit, wall, reason=reason)
    return bar


def bars(run: xr.Dataset) -> list[Bar]:
    """Every bar that a run of the benchmark can judge.

    Parameters
    ----------
    run : xarray.Dataset
        From :func:`workbench.lab.bench.measure`.
    """
    fill = "C non-temporal fill over non-temporal init"

    def streams(id: str, what: str, limit: float, order: int) -> Bar:
        return _bar(id, what, limit, ratio(run, _init(order, True), "nt_fill", "engine"), at_least=True)

    memset = ratio(run, _init(0), "memset", "engine", _init(0, True))
    return [
        _bar("1", "glibc memset over non-temporal init, base pages", 2.2, memset, at_least=True),
        streams("2a", f"{fill}, base pages", 0.92, 0),
        streams("2b", f"{fill}, order 9", 0.88, 9),
        streams("2c", f"{fill}, order 18", 0.92, 18),
        _every_kernel(run),
        *_pins(run),
        *_scale(run),
        *_cost_model(run),
        *_counting(run),
        *_images(run),
        _start(run, "12a", "warm", "seconds from import to first result, compiled kernels at hand", 1.5),
        _start(run, "12b", "cold", "seconds from import to first result, nothing compiled yet", 5.0),
        *_devices(run),
    ]


def as_json(run: xr.Dataset) -> dict[str, Any]:
    """The bars, each kernel's ratio, and where and when they were measured, as plain JSON values."""
    kernels = [
        {
            "case": case,
            "engine_over_gcc": float(np.nanmedian(values)),
            "spread": [float(np.nanmin(values)), float(np.nanmax(values))],
            "samples": int(np.isfinite(values).sum()),
        }
        for case, values in kernel_ratios(run).items()
        if np.isfinite(values).any()
    ]
    return {
        "quick": bool(run.attrs["quick"]),
        "interrupted": bool(run.attrs["interrupted"]),
        "device_bytes": int(run.attrs["kernel_device_bytes"]),
        "machine": {name: run.attrs[name] for name in ("cpu", "cores", "memory_bytes", "load_average", "linux")},
        "date": run.attrs["date"],
        "versions": {name: run.attrs[name] for name in ("workbench", "python", "numba", "numpy", "gcc")},
        "engine_sha256": run.attrs["engine_sha256"],
        "bars": [bar.as_json() for bar in bars(run)],
        "kernels": kernels,
    }
