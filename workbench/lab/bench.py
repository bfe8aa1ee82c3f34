# SPDX-License-Identifier: GPL-2.0-only
"""Measure the engine: each kernel against its C twin and the machine's limits, in one process.

* One array, filled once and used again and again: first touch of memory is the system's, not ours.
* Interleaved: in every repetition each case runs on the engine, on the twin and as the limit it is
  held against, one right after the other, in an order that rotates.  Only their ratios are judged.
* Each sample takes the next window of the array, so that no sample finds its lines in a cache, and
  follows a run of its own kind: lines that regular stores left in the cache are written back while the
  next one runs.
* Seconds are those of the calling thread on a core (``CLOCK_THREAD_CPUTIME_ID``), so that what other
  programs take does not count; wall seconds stand beside them.  Two threads and fresh processes are
  judged by the wall clock, and where the cores are busy not at all.
* Every sample is kept; the first repetition warms up and is not.

Each topic is a module ``bench_*``.  The result is a Dataset; :mod:`workbench.lab.bars` judges it.
"""

from __future__ import annotations

import os
import platform
import re
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from threading import current_thread, main_thread
from time import monotonic

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

import workbench
from workbench import text
from workbench.abi import STRUCT_PAGE_BYTES
from workbench.errors import WorkbenchError
from workbench.lab.bench_counting import COUNTED, FORMS, measure_counting
from workbench.lab.bench_devices import PROBES, RANDOM_WRITES, THREADS, Booted, boot, measure_devices
from workbench.lab.bench_images import IMAGES, measure_images
from workbench.lab.bench_kernels import CASES, SIDES, Case, in_memory, measure_kernels
from workbench.lab.bench_pins import PHASES, PIN_CASES, PIN_SIDES, measure_pins
from workbench.lab.bench_samples import CLOCKS, Pace, Samples, Times, interleave, table
from workbench.lab.bench_starts import STARTS, measure_starts
from workbench.lab.checkout import Checkout
from workbench.lab.cost import seed_fit
from workbench.lab.files import files_below, tree_hash
from workbench.lab.twins import Twins
from workbench.mm import arena
from workbench.mm._jit import JIT

__all__ = ["CASES", "GIB", "LARGE", "SMALL", "TIB", "Case", "dataset", "engine_hash", "machine_and_versions", "measure"]

GIB = 1 << 30
TIB = 1 << 40
SMALL = 64 * GIB
"""A device whose page array is 1 GiB: what a quick run measures, and what 1 TiB is compared with."""
WINDOWS_OF_SMALL = 4
LARGE = 128 * GIB
SECONDS_OF_QUICK = 40.0
"""When a quick run begins nothing further; with building and finishing it ends within 45 s."""
SECONDS_OF_QUICK_STARTS = 10.0
"""What it keeps of that for fresh processes."""
LEFT_TO_OTHERS = 3 * GIB
"""Memory that other programs may come to want in the minute that an array of 1 TiB takes."""


def measure(
    checkout: Checkout, quick: bool = False, repetitions: int | None = None, started: float | None = None
) -> xr.Dataset:
    """Measure everything, and keep what was measured if Ctrl-C ends it.

    Parameters
    ----------
    checkout : Checkout
        Holds the C twins and the package.
    quick : bool
        End within 45 seconds: 64 GiB of device (an array of 1 GiB), fewer fresh processes, no 1 TiB.
    repetitions : int, optional
        Of every case, after a warm-up; default 7, quick 5.
    started : float, optional
        ``time.monotonic()`` when the command began, for the limit of a quick run; default now.

    Returns
    -------
    xarray.Dataset
        See :func:`dataset`; attribute ``interrupted`` is 1 where Ctrl-C ended it.

    Raises
    ------
    WorkbenchError
        No gcc, the JIT is off, or not enough memory for the array.
    """
    deadline = (monotonic() if started is None else started) + SECONDS_OF_QUICK if quick else None
    if not JIT:
        raise WorkbenchError("the JIT is off, so there is nothing to measure. Unset NUMBA_DISABLE_JIT.")
    samples = Samples()
    about = _about(quick)
    twins = Twins(checkout)
    about["gcc"] = twins.compiler
    interrupted = False
    try:
        _measure_all(checkout, twins, samples, quick, Pace(repetitions or (5 if quick else 7), deadline))
    except KeyboardInterrupt:
        interrupted = True
    return dataset(samples, about | {"interrupted": int(interrupted), "engine_sha256": engine_hash(checkout)})


def _measure_all(checkout: Checkout, twins: Twins, samples: Samples, quick: bool, pace: Pace) -> None:
    fit = seed_fit()
    samples.residuals, samples.prices = fit.residuals.tolist(), len(fit.parameters)
    device, windows = _kernel_device(quick)
    cold, warm = (1, 3) if quick else (5, pace.repetitions)
    steps = cold + warm + (1 + pace.repetitions) * (len(CASES) + len(PIN_CASES) + 3)
    with tqdm(total=steps, desc="measuring", unit="step", delay=2, leave=False) as bar:
        pace = replace(pace, done=bar.update)
        in_time = pace
        if pace.deadline is not None:
            in_time = replace(pace, deadline=pace.deadline - SECONDS_OF_QUICK_STARTS)
        with _until(in_time.deadline):
            devices = _devices(quick, samples)
            measure_devices(devices, twins, samples, in_time)
            measure_images(devices[-1], twins, samples, in_time)
            devices.clear()
            array = in_memory(device // text.PAGE_SIZE)
            interleave(
                measure_kernels(array, windows, twins, samples, in_time),
                measure_pins(array, windows, twins, samples, in_time),
                measure_counting(array, WINDOWS_OF_SMALL, samples, in_time),
            )
            del array
        measure_starts(checkout, samples, cold, replace(pace, repetitions=warm))


class _TimeUp(BaseException):
    """No Exception: nothing on the way may take it for an error of its own."""


@contextmanager
def _until(deadline: float | None) -> Iterator[None]:
    """End the block at ``deadline``, even while something compiles; without one, or in another thread, never."""
    if deadline is None or current_thread() is not main_thread():
        yield
        return

    def ring(signum: int, frame: object) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(deadline - monotonic(), 1e-6))
        yield
    except _TimeUp:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _kernel_device(quick: bool) -> tuple[int, int]:
    """Bytes of device that the kernels are measured on, and windows of its array."""
    return (SMALL, WINDOWS_OF_SMALL) if quick else (LARGE, 2)


def _devices(quick: bool, samples: Samples) -> list[Booted]:
    """Machines with a small device and, where memory allows, with one of 1 TiB."""
    devices = [boot(SMALL)]
    if quick:
        samples.reasons["scale"] = "left out by --quick: 1 TiB takes 16 GiB of memory and a minute to touch it"
        return devices
    try:
        nbytes = TIB // text.PAGE_SIZE * STRUCT_PAGE_BYTES
        arena.require(nbytes + LEFT_TO_OTHERS, f"1 TiB ({text.size(nbytes)} and {text.size(LEFT_TO_OTHERS)})")
        devices.append(boot(TIB))
    except WorkbenchError as refused:
        samples.reasons["scale"] = str(refused)
    return devices


def engine_hash(checkout: Checkout) -> str:
    """SHA-256 of what is measured: the sources of ``abi``, ``series``, ``mm`` and ``dax``."""
    parts = ("abi", "dax", "mm", "series")
    return tree_hash(checkout.root, [f for part in parts for f in files_below(checkout.root / "workbench" / part)])


def machine_and_versions() -> dict[str, str | int]:
    """Date, machine and versions; nothing that names the machine or where it keeps things."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    facts = dict(re.findall(r"^([\w ]+?)\s*: (.+)$", cpuinfo.split("\n\n")[0], re.MULTILINE))
    memory = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    assert memory
    model = facts.get("model name", platform.machine())
    numbers = [facts[name] for name in ("cpu family", "model", "stepping") if name in facts]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": f"{model} (family/model/stepping {'/'.join(numbers)})",
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": int(memory[1]) << 10,
        "load_average": f"{os.getloadavg()[0]:.2f}",
        "linux": ".".join(platform.release().split(".")[:2]),
        "workbench": workbench.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("numba", "numpy")},
    }


def _about(quick: bool) -> dict[str, str | int]:
    """What was measured, when, on what, by which versions."""
    device, windows = _kernel_device(quick)
    return {
        "title": "The engine against C and the machine's limits",
        "provenance": "measured",
        "quick": int(quick),
        "kernel_device_bytes": device,
        "kernel_sample_pages": device // text.PAGE_SIZE // windows,
        "random_writes": RANDOM_WRITES,
        **machine_and_versions(),
    }


def dataset(samples: Samples, about: dict[str, str | int]) -> xr.Dataset:
    """What was measured as a Dataset.

    Parameters
    ----------
    samples : Samples
    about : dict
        Becomes the attributes.

    Returns
    -------
    xarray.Dataset
        Seconds, their last dimension ``clock`` (``cpu`` or ``wall``), what was not measured NaN:

        * ``kernel_seconds`` (case, side, sample) over CASES and SIDES, and ``pin_seconds`` (pin_case, phase,
          pin_side, pin_sample) over PIN_CASES, for ``kernel_sample_pages`` (an attribute) struct pages each;
        * ``counting_seconds`` (counted, form, counting_sample);
        * ``reinit_seconds`` and ``spin_seconds`` (device_bytes, threads, reinit_sample);
        * ``fault_seconds`` and ``write_seconds`` (device_bytes, fault_sample): a fault of every 2 MiB of a
          device, and ``random_writes`` (an attribute) writes;
        * ``probe_seconds`` (probe, probe_sample), ``start_seconds`` (start, start_sample);
        * ``image_seconds`` (image, image_sample): those of the last ``device_bytes``, ``analytic`` of 1 TiB.

        Without a clock: ``miscounts`` (counted, counting_sample), events off their closed form, and
        ``cost_residual`` (published), which ``cost_prices`` (an attribute) parameters leave.  Further attributes:
        machine, date, versions, and why a part is missing (``reason_*``).
    """
    devices = sorted({device for device, _ in samples.reinit}) or [SMALL]
    cases, pin_cases = [case.name for case in CASES], [case.name for case in PIN_CASES]
    by_array = [(device, threads) for device in devices for threads in THREADS]
    by_pin = [(case, phase, side) for case in pin_cases for phase in PHASES for side in PIN_SIDES]
    # What shares a dimension: an interrupt may come between the two.
    arrays = max((len(samples.spin[key]) for key in by_array), default=0)
    faults = max((len(samples.faults[device]) for device in devices), default=0)
    data = {
        "kernel_seconds": _seconds(
            ("case", "side", "sample"),
            (len(cases), len(SIDES)),
            (samples.kernels[case, side] for case in cases for side in SIDES),
        ),
        "pin_seconds": _seconds(
            ("pin_case", "phase", "pin_side", "pin_sample"),
            (len(pin_cases), len(PHASES), len(PIN_SIDES)),
            (samples.pins[key] for key in by_pin),
        ),
        "counting_seconds": _seconds(
            ("counted", "form", "counting_sample"),
            (len(COUNTED), len(FORMS)),
            (samples.counting[name, form] for name in COUNTED for form in FORMS),
        ),
        "reinit_seconds": _seconds(
            ("device_bytes", "threads", "reinit_sample"),
            (len(devices), len(THREADS)),
            (samples.reinit[key] for key in by_array),
            arrays,
        ),
        "spin_seconds": _seconds(
            ("device_bytes", "threads", "reinit_sample"),
            (len(devices), len(THREADS)),
            (samples.spin[key] for key in by_array),
            arrays,
        ),
        "fault_seconds": _seconds(
            ("device_bytes", "fault_sample"), (len(devices),), (samples.faults[device] for device in devices), faults
        ),
        "write_seconds": _seconds(
            ("device_bytes", "fault_sample"), (len(devices),), (samples.writes[device] for device in devices), faults
        ),
        "probe_seconds": _seconds(("probe", "probe_sample"), (len(PROBES),), (samples.probes[kind] for kind in PROBES)),
        "image_seconds": _seconds(("image", "image_sample"), (len(IMAGES),), (samples.images[kind] for kind in IMAGES)),
        "start_seconds": _seconds(
            ("start", "start_sample"), (len(STARTS),), (samples.starts[start] for start in STARTS)
        ),
        "miscounts": (("counted", "counting_sample"), _miscounts(samples)),
        "cost_residual": ("published", np.array(samples.residuals, float)),
    }
    coords = {
        "case": cases,
        "kernel": ("case", [case.kernel for case in CASES]),
        "tree": ("case", [case.tree for case in CASES]),
        "order": ("case", [case.order for case in CASES]),
        "side": list(SIDES),
        "pin_case": pin_cases,
        "phase": list(PHASES),
        "pin_side": list(PIN_SIDES),
        "counted": list(COUNTED),
        "form": list(FORMS),
        "clock": list(CLOCKS),
        "device_bytes": ("device_bytes", devices, {"units": "B"}),
        "threads": list(THREADS),
        "probe": list(PROBES),
        "image": list(IMAGES),
        "start": list(STARTS),
    }
    reasons = {f"reason_{part}": reason for part, reason in samples.reasons.items()}
    return xr.Dataset(data, coords, {**about, "cost_prices": samples.prices, **reasons})


def _seconds(
    dims: tuple[str, ...], outer: tuple[int, ...], lists: Iterable[Times], longest: int = 0
) -> tuple[tuple[str, ...], np.ndarray, dict[str, str]]:
    return (*dims, "clock"), table(list(lists), outer, longest), {"units": "s"}


def _miscounts(samples: Samples) -> np.ndarray:
    """float64[counted, counting_sample], as many as there are seconds; NaN for none."""
    longest = max(len(samples.counting[name, form]) for name in COUNTED for form in FORMS)
    rows = [samples.miscounts[name] for name in COUNTED]
    return np.array([row + [np.nan] * (longest - len(row)) for row in rows], float).reshape(len(COUNTED), longest)
