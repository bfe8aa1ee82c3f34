# SPDX-License-Identifier: GPL-2.0-only
"""Where a run of the benchmark is kept, and how it is told: a Dataset, tables, a page of the docs.

Every run is kept below ``out/bench/``.  ``data/bench/`` holds the one that is committed; only a
complete run of the whole benchmark replaces it, and rewrites the tables of ``docs/benchmarks.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from workbench import text
from workbench.errors import WorkbenchError
from workbench.lab import bars
from workbench.lab.bench import CASES, TIB
from workbench.lab.bench_pins import PIN_CASES
from workbench.lab.checkout import Checkout
from workbench.lab.files import write_atomically

COMMITTED = "data/bench/engine_speed.nc"
LAST = "out/bench/last.nc"
PAGE = "docs/benchmarks.md"

_PART = "<!-- {edge}: {name} -->"
_VERDICT = {True: "holds", False: "**misses**", None: "no verdict"}
_LIMIT_NAMES = {
    "memset": "glibc memset",
    "nt_fill": "C non-temporal fill",
    "read": "one load of 8 bytes a line",
    "locked_1": "one locked operation a line",
    "locked_2": "two locked operations a line",
    "locked_3": "three locked operations a line",
    "read_hot_3": "one load of 8 bytes a line, then three locked operations on lines in use",
}


def write(path: Path, run: xr.Dataset) -> None:
    """Write a run as netCDF; an interrupt leaves what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, bytes(run.to_netcdf(engine="h5netcdf")))


def read(path: Path) -> xr.Dataset:
    """Read a run.

    Raises
    ------
    WorkbenchError
        There is none.
    """
    if not path.is_file():
        raise WorkbenchError(f"no benchmark at {path}. Run make bench.")
    return xr.load_dataset(path, engine="h5netcdf")


def publish(checkout: Checkout, run: xr.Dataset) -> list[Path]:
    """Make ``run`` the committed one, and its tables those of the docs.

    Returns
    -------
    list of pathlib.Path
        What was written.

    Raises
    ------
    WorkbenchError
        The run was quick or interrupted; nothing changes.
    """
    if run.attrs["quick"] or run.attrs["interrupted"]:
        what = "a quick run" if run.attrs["quick"] else "an interrupted run"
        raise WorkbenchError(f"{what} does not replace {COMMITTED}. It is kept in {LAST}; run make bench to its end.")
    dataset, page = checkout.root / COMMITTED, checkout.root / PAGE
    told = refresh(page.read_text(encoding="utf-8"), run)
    write(dataset, run)
    write_atomically(page, told)
    return [dataset, page]


def refresh(page: str, run: xr.Dataset) -> str:
    """Put the tables of ``run`` between their marks in the text of a page.

    Raises
    ------
    WorkbenchError
        The page lacks the marks of a table.
    """
    return fill(page, tables(run))


def fill(page: str, tables: Mapping[str, str]) -> str:
    """Put tables, by name, between their marks in the text of a page.

    Raises
    ------
    WorkbenchError
        The page lacks the marks of a table.
    """
    for name, table in tables.items():
        begin, end = (_PART.format(edge=edge, name=name) for edge in ("begin", "end"))
        before, found_begin, rest = page.partition(begin)
        _, found_end, after = rest.partition(end)
        if not (found_begin and found_end):
            raise WorkbenchError(f"{PAGE} has no place for the table {name!r}. Write {begin} and {end} there.")
        page = f"{before}{begin}\n{table}\n{end}{after}"
    return page


def tables(run: xr.Dataset) -> dict[str, str]:
    """Every table of the docs by name, as Markdown."""
    return {
        "about": markdown(("", ""), _about(run)),
        "bars": markdown(("bar", "what is compared", "limit", "measured", "spread", "samples", ""), _bars(run)),
        "kernels": markdown(("kernel", "tree", "compounds", "ns a struct page", "over gcc", "spread"), _kernels(run)),
        "pins": markdown(
            ("function", "tree", "compounds", "ns a page", "over gcc", "limit", "over the limit", "gcc over the limit"),
            _pins(run),
        ),
        "limits": markdown(("limit", "ns a line"), _limits(run)),
        "reinit": markdown(("device", "threads", "seconds", "ns a struct page"), _reinit(run)),
    }


def as_text(run: xr.Dataset) -> list[str]:
    """The run for a terminal: a line a bar, then a line a kernel."""
    lines = []
    if run.attrs["quick"]:
        lines += [f"quick: {text.size(int(run.attrs['kernel_device_bytes']))} of device instead of 128 GiB and 1 TiB"]
    for bar in bars.bars(run):
        mark = {True: "holds", False: "MISSES", None: "-"}[bar.holds]
        value = "" if bar.value is None else f"{bar.value:.2f}"
        value += "" if bar.spread is None else f" [{bar.spread[0]:.2f}-{bar.spread[1]:.2f}]"
        sense = ">=" if bar.at_least else "<="
        lines += [f"{bar.id:>3}  {mark:<7} {value:<19} {sense} {bar.limit:<5} {bar.text}"]
        lines += [f"{'':12} no verdict: {bar.reason}"] if bar.holds is None else []
    for case, values in bars.kernel_ratios(run).items():
        if np.isfinite(values).any():
            lines += [f"     engine over gcc {np.nanmedian(values):.2f}  {case}"]
    return lines


def _bars(run: xr.Dataset) -> list[list[str]]:
    rows = []
    for bar in bars.bars(run):
        value = "–" if bar.value is None else f"{bar.value:.2f}"
        spread = "–" if bar.spread is None else f"{bar.spread[0]:.2f}–{bar.spread[1]:.2f}"
        verdict = _VERDICT[bar.holds] + (f": {bar.reason}" if bar.reason else "")
        limit = f"{'≥' if bar.at_least else '≤'} {bar.limit}"
        rows.append([bar.id, bar.text, limit, value, spread, str(bar.samples), verdict])
    return rows


def _kernels(run: xr.Dataset) -> list[list[str]]:
    rows = []
    ratios = bars.kernel_ratios(run)
    for case in CASES:
        values = ratios[case.name]
        ns = _ns(run, case.name, "engine")
        compounds = f"order {case.order}" if case.order else "none"
        spread = f"{np.nanmin(values):.2f}–{np.nanmax(values):.2f}"
        rows.append([f"`{case.kernel}`", case.tree, compounds, f"{ns:.2f}", f"{np.nanmedian(values):.2f}", spread])
    return rows


def _pins(run: xr.Dataset) -> list[list[str]]:
    rows = []
    for case in PIN_CASES if "pin_seconds" in run else ():
        for at, phase in enumerate(run.phase.values.tolist()):
            seconds = run.pin_seconds.sel(pin_case=case.name, phase=phase, clock="cpu")
            ns = float(seconds.sel(pin_side="engine").median()) * 1e9 / run.attrs["kernel_sample_pages"]
            over = {
                side: float((seconds.sel(pin_side="engine") / seconds.sel(pin_side=side)).median())
                for side in ("gcc", "limit")
            }
            limit = ("–", "–", "–")
            if case.limits:
                gcc = float((seconds.sel(pin_side="gcc") / seconds.sel(pin_side="limit")).median())
                limit = (_LIMIT_NAMES[case.limits[at]], f"{over['limit']:.2f}", f"{gcc:.2f}")
            compounds = (f"order {case.order}" if case.order else "none") + (", one grab for each" if case.once else "")
            rows.append([f"`{case.kernels()[at]}`", case.tree, compounds, f"{ns:.2f}", f"{over['gcc']:.2f}", *limit])
    return rows


def _limits(run: xr.Dataset) -> list[list[str]]:
    rows = []
    for side, name in _LIMIT_NAMES.items():
        ns = _ns_of_limit(run, side)
        rows += [[name, f"{ns:.2f}"]] if ns is not None else []
    return rows


def _ns_of_limit(run: xr.Dataset, side: str) -> float | None:
    """Median nanoseconds a line of one of the machine's limits; None where the run is older than it."""
    for case in reversed(CASES):
        if side in case.limits:
            return _ns(run, case.name, side)
    for pin in PIN_CASES if "pin_seconds" in run else ():
        if side in pin.limits:
            phase = run.phase.values[pin.limits.index(side)]
            seconds = run.pin_seconds.sel(pin_case=pin.name, phase=phase, pin_side="limit", clock="cpu")
            return float(seconds.median()) * 1e9 / run.attrs["kernel_sample_pages"]
    return None


def _reinit(run: xr.Dataset) -> list[list[str]]:
    rows = []
    for device in run.device_bytes.values.tolist():
        for threads in run.threads.values.tolist():
            seconds = float(run.reinit_seconds.sel(device_bytes=device, threads=threads, clock="wall").median())
            name = text.size(device)
            rows.append([name, str(threads), f"{seconds:.3f}", f"{seconds * 1e9 * text.PAGE_SIZE / device:.2f}"])
    return rows


def _ns(run: xr.Dataset, case: str, side: str) -> float:
    """Median nanoseconds a struct page (a line) of one side of a case."""
    seconds = run.kernel_seconds.sel(case=case, side=side, clock="cpu").median()
    return float(seconds) * 1e9 / run.attrs["kernel_sample_pages"]


def _about(run: xr.Dataset) -> list[list[str]]:
    about = run.attrs
    device = int(about["kernel_device_bytes"])
    scale = text.size(TIB) if TIB in run.device_bytes.values else f"without 1 TiB: {about.get('reason_scale', '')}"
    return [
        ["date", str(about["date"])],
        ["processor", f"{about['cpu']}, {about['cores']} cores"],
        ["memory", text.size(int(about["memory_bytes"]))],
        ["load average before the run", str(about["load_average"])],
        ["device", f"{text.size(device)} for kernels; {scale}"],
        ["Linux", str(about["linux"])],
        ["versions", ", ".join(f"{name} {about[name]}" for name in ("workbench", "python", "numba", "numpy", "gcc"))],
        ["engine sources", f"SHA-256 {str(about['engine_sha256'])[:16]}…"],
    ]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
