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

The result is a Dataset; :mod:`workbench.lab.bars` judges it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter, thread_time

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

import workbench
from workbench import text
from workbench.abi import STRUCT_PAGE_BYTES
from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout
from workbench.lab.files import files_below, tree_hash
from workbench.lab.twins import Twins
from workbench.mm import InitCall, PageArray, arena
from workbench.mm._jit import JIT, jit
from workbench.mm.memmap import Memmap, memmap
from workbench.mm.memremap import put_pages
from workbench.mm.page_alloc import (
    memmap_init_range,
    memmap_init_zone_device,
    memmap_init_zone_device_nt,
    prep_compound_page,
)
from workbench.series import kernel

GIB = 1 << 30
TIB = 1 << 40
START_PFN = 0x140000
PGMAP = 0xFFFF_8881_0000_0000
SMALL = 64 * GIB
"""A device whose page array is 1 GiB: what a quick run measures, and what 1 TiB is compared with."""
LARGE = 128 * GIB
SECONDS_OF_QUICK = 40.0
"""When a quick run begins nothing further; with building and finishing it ends within 45 s."""
SECONDS_OF_QUICK_STARTS = 10.0
"""What it keeps of that for fresh processes."""

TREES = ("5.16+0", "5.17")
NODE, ZONE = np.uint64(0), np.uint64(kernel("5.17").abi.zone_device)
LEFT_TO_OTHERS = 3 * GIB
"""Memory that other programs may come to want in the minute that an array of 1 TiB takes."""
SPIN_ROUNDS = 60_000_000
THREADS = (1, 2)
STARTS = ("cold", "warm")


@dataclass(frozen=True)
class Case:
    """One kernel on one tree.

    Attributes
    ----------
    kernel : str
        The engine's function; ``prep_compound_page`` runs over every compound of the array.
    tree : str
    order : int
        log2 of the pages of a compound; 0 for base pages.
    limits : tuple of str
        The machine's limits measured beside it, of :data:`workbench.lab.twins.LIMITS`.
    before : int or None
        Order of the fresh initialisation that precedes each sample, untimed; None where the kernel
        initialises by itself.
    rounds : int
        Samples in each repetition: the shorter a sample, the more it takes.
    """

    kernel: str
    tree: str
    order: int
    limits: tuple[str, ...] = ()
    before: int | None = None
    rounds: int = 1

    @property
    def name(self) -> str:
        """``memmap_init_zone_device_nt 5.17 order 9``."""
        return f"{self.kernel} {self.tree} {'order ' + str(self.order) if self.order else 'base'}"


_NT = "memmap_init_zone_device_nt"
CASES = (
    Case("memmap_init_zone_device", "5.16+0", 0),
    Case("memmap_init_zone_device", "5.17", 0, ("memset",), rounds=3),
    Case("memmap_init_zone_device", "5.17", 9),
    Case("memmap_init_zone_device", "5.17", 18),
    Case(_NT, "5.16+0", 0, ("nt_fill",), rounds=3),
    Case(_NT, "5.17", 0, ("nt_fill",), rounds=3),
    Case(_NT, "5.17", 9, ("nt_fill",), rounds=3),
    Case(_NT, "5.17", 18, ("nt_fill",), rounds=3),
    Case("prep_compound_page", "5.16+0", 9, before=0),
    Case("prep_compound_page", "5.17", 9, before=0),
    Case("memmap_init_range", "5.17", 0),
    Case("put_pages", "5.16+0", 0, ("read", "locked_1", "locked_2"), before=0),
    Case("put_pages", "5.17", 9, before=9, rounds=5),
)
SIDES = ("engine", "gcc", "memset", "nt_fill", "read", "locked_1", "locked_2")


@jit
def _prep_compound_pages(vm, start, end, order):
    for head in range(start, end, 1 << order):
        prep_compound_page(vm, head, order, None)


def run_engine(case: Case, vm: Memmap, start: int, end: int) -> int:
    """Run a case's kernel over rows ``start`` to ``end``; its result, 0 where it has none."""
    nr_pages, pgmap = len(vm.pages), np.uint64(PGMAP)
    if case.kernel == "memmap_init_zone_device":
        return memmap_init_zone_device(vm, start, end, ZONE, NODE, pgmap, case.order, False, 0, nr_pages, None)
    if case.kernel == _NT:
        return memmap_init_zone_device_nt(vm, start, end, ZONE, NODE, pgmap, case.order, False, 0, nr_pages)
    if case.kernel == "put_pages":
        return put_pages(vm, start, end, case.order, None)
    if case.kernel == "prep_compound_page":
        _prep_compound_pages(vm, start, end, case.order)
    else:
        memmap_init_range(vm, start, end, ZONE, NODE, 0, nr_pages, None)
    return 0


def run_twin(case: Case, vm: Memmap, start: int, end: int, twins: Twins) -> int:
    """Run the C twin of a case's kernel over rows ``start`` to ``end``; its result, 0 where it has none."""
    if case.kernel == "memmap_init_zone_device":
        return twins.memmap_init_zone_device(vm, start, end, ZONE, NODE, PGMAP, case.order)
    if case.kernel == _NT:
        return twins.memmap_init_zone_device_nt(vm, start, end, ZONE, NODE, PGMAP, case.order)
    if case.kernel == "put_pages":
        return twins.put_pages(vm, start, end, case.order)
    if case.kernel == "prep_compound_page":
        twins.prep_compound_pages(vm, start, end, case.order)
    else:
        twins.memmap_init_range(vm, start, end, ZONE, NODE)
    return 0


def prepare(case: Case, vm: Memmap, start: int, end: int) -> None:
    """Bring rows ``start`` to ``end`` into the state that the case's kernel starts from."""
    if case.before is not None:
        run_engine(Case(_NT, case.tree, case.before), vm, start, end)


@dataclass
class Samples:
    """What was measured so far, each sample a pair of CPU seconds and wall seconds.

    Attributes
    ----------
    kernels : dict of (case name, side) to list
    reinit : dict of (device bytes, threads) to list
        Initialising a whole array anew through :meth:`PageArray.init`.
    spin : dict of (device bytes, threads) to list
        One thread, then two at a time, each counting in registers; taken beside ``reinit``.
    starts : dict of "cold" or "warm" to list
        Import to first result in a fresh process, without and with compiled kernels at hand.
    reasons : dict of str to str
        Why a part was not measured: ``scale``, the array of 1 TiB.
    """

    kernels: defaultdict[tuple[str, str], list]
    reinit: defaultdict[tuple[int, int], list]
    spin: defaultdict[tuple[int, int], list]
    starts: defaultdict[str, list]
    reasons: dict[str, str]

    @classmethod
    def empty(cls) -> Samples:
        """Nothing yet."""
        return cls(defaultdict(list), defaultdict(list), defaultdict(list), defaultdict(list), {})


@contextmanager
def _timed(into: list) -> Iterator[None]:
    wall, cpu = perf_counter(), thread_time()
    yield
    into.append((thread_time() - cpu, perf_counter() - wall))


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
    repetitions = repetitions or (5 if quick else 7)
    samples = Samples.empty()
    about = _about(quick)
    twins = Twins(checkout)
    about["gcc"] = twins.compiler
    interrupted = False
    try:
        _measure_all(checkout, twins, samples, quick, repetitions, deadline)
    except KeyboardInterrupt:
        interrupted = True
    return dataset(samples, about | {"interrupted": int(interrupted), "engine_sha256": engine_hash(checkout)})


def _measure_all(
    checkout: Checkout, twins: Twins, samples: Samples, quick: bool, repetitions: int, deadline: float | None
) -> None:
    device, windows = _kernel_device(quick)
    cold, warm = (1, 3) if quick else (5, repetitions)
    steps = cold + warm + (1 + repetitions) * len(CASES) + repetitions
    with tqdm(total=steps, desc="measuring", unit="step", delay=2, leave=False) as bar:
        in_time = None if deadline is None else deadline - SECONDS_OF_QUICK_STARTS
        measure_kernels(_array(device), windows, twins, samples, repetitions, bar.update, in_time)
        arrays = [_array(SMALL)]
        if quick:
            samples.reasons["scale"] = "left out by --quick: 1 TiB takes 16 GiB of memory and a minute to touch it"
        else:
            try:
                nbytes = TIB // text.PAGE_SIZE * STRUCT_PAGE_BYTES
                arena.require(nbytes + LEFT_TO_OTHERS, f"1 TiB ({text.size(nbytes)} and {text.size(LEFT_TO_OTHERS)})")
                arrays.append(_array(TIB))
            except WorkbenchError as refused:
                samples.reasons["scale"] = str(refused)
        measure_reinit(arrays, twins, samples, repetitions, bar.update, in_time)
        arrays.clear()
        measure_starts(checkout, samples, cold, warm, bar.update, deadline)


def _kernel_device(quick: bool) -> tuple[int, int]:
    """Bytes of device that the kernels are measured on, and windows of its array."""
    return (SMALL, 4) if quick else (LARGE, 2)


def _array(device: int) -> PageArray:
    """A page array for ``device`` bytes, every section with its memory."""
    nr_pages = device // text.PAGE_SIZE
    array = PageArray(kernel("5.17"), START_PFN, nr_pages)
    array.add_pages(START_PFN, nr_pages)
    array.init(_init_call(nr_pages))
    array.materialise(threads=2)
    return array


def _init_call(nr_pages: int) -> InitCall:
    return InitCall(START_PFN, START_PFN + nr_pages, pgmap=PGMAP, vmemmap_shift=9)


def measure_kernels(
    array: PageArray,
    windows: int,
    twins: Twins,
    samples: Samples,
    repetitions: int,
    done: Callable[[], object] = lambda: None,
    deadline: float | None = None,
) -> None:
    """Time every case on engine, twin and limits; see :data:`CASES`.

    Parameters
    ----------
    array : PageArray
        Overwritten.
    windows : int
        Parts of the array; each sample works on the next one.
    twins : Twins
    samples : Samples
        ``samples.kernels`` grows.
    repetitions : int
        How often each case's rounds are run, after a warm-up.
    done : callable
        Called after every case.
    deadline : float, optional
        ``time.monotonic()`` after which no further case begins.

    Raises
    ------
    WorkbenchError
        The array cannot be cut into that many windows.
    """
    size = array.nr_pages // windows
    if size % max(1 << case.order for case in CASES):
        raise WorkbenchError(
            f"a window of {text.count(size)} pages holds no whole number of the largest compounds. "
            "Use an array of a multiple of 1 GiB of device for each window."
        )
    vm = array.writable(array.start_pfn, array.nr_pages)
    over = {tree: memmap(kernel(tree), vm.pages, vm.pageblock_flags, array.start_pfn) for tree in TREES}
    starts = cycle(range(0, array.nr_pages, size))

    def run(case: Case, side: str, start: int) -> None:
        if side == "engine":
            run_engine(case, over[case.tree], start, start + size)
        elif side == "gcc":
            run_twin(case, over[case.tree], start, start + size, twins)
        else:
            twins.limit(side, vm.pages[start:].ctypes.data, size * STRUCT_PAGE_BYTES)

    for repetition in range(1 + repetitions):
        kept = samples if repetition else Samples.empty()
        for case in CASES:
            if deadline is not None and monotonic() > deadline:
                return
            order = _order(("engine", "gcc", *case.limits), repetition, case.rounds if repetition else 1)
            run(case, order[-1], next(starts))
            for side in order:
                start = next(starts)
                if side in ("engine", "gcc"):
                    prepare(case, over[case.tree], start, start + size)
                with _timed(kept.kernels[case.name, side]):
                    run(case, side, start)
            done()


def _order(sides: tuple[str, ...], repetition: int, rounds: int) -> list[str]:
    """The sides of a case, ``rounds`` times each: begun by another one every time, backwards every other time."""
    order: list[str] = []
    for turn in range(repetition, repetition + rounds):
        at = turn % len(sides)
        order += sides[at:] + sides[:at]
    return order[::-1] if repetition % 2 else order


def measure_reinit(
    arrays: list[PageArray],
    twins: Twins,
    samples: Samples,
    repetitions: int,
    done: Callable[[], object] = lambda: None,
    deadline: float | None = None,
) -> None:
    """Time initialising whole arrays anew, by one thread and by two, with a spin test beside each.

    Parameters
    ----------
    arrays : list of PageArray
        Every section with its memory; overwritten.
    twins, samples, repetitions, done, deadline
        As in :func:`measure_kernels`.
    """
    for repetition in range(1 + repetitions):
        if deadline is not None and monotonic() > deadline:
            return
        kept = samples if repetition else Samples.empty()
        for array in arrays:
            call, device = _init_call(array.nr_pages), array.nr_pages * text.PAGE_SIZE
            for threads in THREADS:
                with _timed(kept.spin[device, threads]):
                    _spin(twins, threads)
                with _timed(kept.reinit[device, threads]):
                    array.init(call, threads=threads)
        done()


def _spin(twins: Twins, threads: int) -> None:
    if threads == 1:
        twins.spin(SPIN_ROUNDS)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(twins.spin, [SPIN_ROUNDS] * threads))


def measure_starts(
    checkout: Checkout,
    samples: Samples,
    cold: int,
    warm: int,
    done: Callable[[], object] = lambda: None,
    deadline: float | None = None,
) -> None:
    """Time :mod:`workbench.lab.first_result` in fresh processes.

    Parameters
    ----------
    checkout : Checkout
        Where they start.
    samples : Samples
        ``samples.starts`` grows.
    cold, warm : int
        How many without any compiled kernel, and how many that find them.
    done : callable
        Called after every process.
    deadline : float, optional
        ``time.monotonic()`` at which the last process is ended, its sample lost.
    """
    with TemporaryDirectory(prefix="workbench-starts-") as folder:
        plan = [("cold", f"{folder}/{number}") for number in range(cold)] + [("warm", f"{folder}/0")] * warm
        for start, cache in plan:
            try:
                samples.starts[start].append(_first_result(checkout, cache, deadline))
            except subprocess.TimeoutExpired:
                return
            done()


def _first_result(checkout: Checkout, cache: str, deadline: float | None) -> tuple[float, float]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-m", "workbench.lab.first_result"]
    left = None if deadline is None else max(0.0, deadline - monotonic())
    ran = subprocess.run(command, cwd=checkout.root, env=environment, capture_output=True, text=True, timeout=left)
    if ran.returncode:
        raise WorkbenchError(f"a fresh process gave no first result:\n{ran.stderr.strip()}\nRun make setup.")
    said = json.loads(ran.stdout)
    return said["cpu_seconds"], said["seconds"]


def engine_hash(checkout: Checkout) -> str:
    """SHA-256 of what is measured: the sources of ``abi``, ``series`` and ``mm``."""
    parts = ("abi", "mm", "series")
    return tree_hash(checkout.root, [f for part in parts for f in files_below(checkout.root / "workbench" / part)])


def _about(quick: bool) -> dict[str, str | int]:
    """Machine, date and versions; nothing that names the machine or where it keeps things."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    facts = dict(re.findall(r"^([\w ]+?)\s*: (.+)$", cpuinfo.split("\n\n")[0], re.MULTILINE))
    memory = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    assert memory
    model = facts.get("model name", platform.machine())
    numbers = [facts[name] for name in ("cpu family", "model", "stepping") if name in facts]
    device, windows = _kernel_device(quick)
    return {
        "title": "The engine against C and the machine's limits",
        "provenance": "measured",
        "quick": int(quick),
        "kernel_device_bytes": device,
        "kernel_sample_pages": device // text.PAGE_SIZE // windows,
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
        ``kernel_seconds`` (case, side, sample, clock) over :data:`CASES` and :data:`SIDES`, for
        ``kernel_sample_pages`` (an attribute) struct pages each; ``reinit_seconds`` and ``spin_seconds``
        (device_bytes, threads, reinit_sample, clock); ``start_seconds`` (start, start_sample, clock).
        ``clock`` is ``cpu`` or ``wall``; what was not measured is NaN.  Attributes: machine, date,
        versions, and why a part is missing (``reason_*``).
    """
    devices = sorted({device for device, _ in samples.reinit}) or [SMALL]
    cases = [case.name for case in CASES]
    kernels = [samples.kernels[case, side] for case in cases for side in SIDES]
    reinit = [samples.reinit[device, threads] for device in devices for threads in THREADS]
    spin = [samples.spin[device, threads] for device in devices for threads in THREADS]
    starts = [samples.starts[start] for start in STARTS]
    by_array, seconds = ("device_bytes", "threads", "reinit_sample", "clock"), {"units": "s"}
    return xr.Dataset(
        {
            "kernel_seconds": (
                ("case", "side", "sample", "clock"),
                _table(kernels, (len(cases), len(SIDES))),
                seconds,
            ),
            "reinit_seconds": (by_array, _table(reinit, (len(devices), len(THREADS))), seconds),
            "spin_seconds": (by_array, _table(spin, (len(devices), len(THREADS))), seconds),
            "start_seconds": (("start", "start_sample", "clock"), _table(starts, (len(STARTS),)), seconds),
        },
        coords={
            "case": cases,
            "kernel": ("case", [case.kernel for case in CASES]),
            "tree": ("case", [case.tree for case in CASES]),
            "order": ("case", [case.order for case in CASES]),
            "side": list(SIDES),
            "clock": ["cpu", "wall"],
            "device_bytes": ("device_bytes", devices, {"units": "B"}),
            "threads": list(THREADS),
            "start": list(STARTS),
        },
        attrs={
            **about,
            **{f"reason_{part}": reason for part, reason in samples.reasons.items()},
        },
    )


def _table(lists: list[list[tuple[float, float]]], outer: tuple[int, ...]) -> np.ndarray:
    """Samples as an array of shape ``outer`` + (longest list, 2); shorter lists end in NaN."""
    longest = max(map(len, lists))
    rows = [samples + [(np.nan, np.nan)] * (longest - len(samples)) for samples in lists]
    return np.array(rows, float).reshape(*outer, longest, 2)
