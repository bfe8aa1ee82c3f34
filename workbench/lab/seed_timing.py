# SPDX-License-Identifier: GPL-2.0-only
"""The cover letter's runs on this machine: what stands as measured in its table.

::

    run = measure(Checkout.find())        # a Dataset: seconds of every repetition
    seed_table(measured=times(run))       # the table, with measured numbers

As ``gup_test -S -a -n 512 -w -r 10`` does, all of the memory is pinned by calls of 512 pages and released at once,
ten times after a first time that is not counted.  Before and after the series take turns on one array, and struct
pages are made anew before each turn, so that none of their lines is in a cache.

The engine's struct pages lie in DRAM: the letter's runs with an altmap, whose struct pages lay in persistent memory,
have no measured number.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from tqdm import tqdm

from workbench import text
from workbench.abi import STRUCT_PAGE_BYTES
from workbench.abi.constants import PMD_ORDER
from workbench.errors import WorkbenchError
from workbench.lab import bench_results
from workbench.lab.bench import engine_hash, machine_and_versions
from workbench.lab.bench_kernels import in_memory
from workbench.lab.bench_pins import PHASES, PinCase, Pinner
from workbench.lab.bench_samples import CLOCKS, Times, rotated, timed
from workbench.lab.checkout import Checkout
from workbench.lab.cost import KERNELS
from workbench.lab.pin_events import PAGES_PER_CALL
from workbench.lab.seed_table import SIZES_MIB, STATES, Key
from workbench.mm import arena
from workbench.mm._jit import JIT

COMMITTED = "data/bench/seed_table.nc"
LAST = "out/bench/seed_table.nc"
REPETITIONS = 10

_CASES = {
    "before": PinCase(KERNELS["before"], 0, once=False),
    "after": PinCase(KERNELS["after"], PMD_ORDER, once=False),
}
_PAGES_OF_MIB = (1 << 20) // text.PAGE_SIZE
_PAGES_OF_TABLE = 1 << 18  # a page table of 2 MiB entries maps 1 GiB


def measure(
    checkout: Checkout,
    sizes_mib: tuple[int, ...] = SIZES_MIB[False],
    repetitions: int = REPETITIONS,
    progress: bool = True,
) -> xr.Dataset:
    """Pin and release each size, before and with the series, ``repetitions`` times.

    Parameters
    ----------
    checkout : Checkout
    sizes_mib : tuple of int
        Memory pinned, MiB.
    repetitions : int
        After a warm-up, which is not kept.
    progress : bool
        Show a bar on stderr.

    Returns
    -------
    xarray.Dataset
        ``seconds`` (size_mib, state, phase, repetition, clock); clocks are ``cpu``, the thread's processor time, and
        ``wall``.  Attributes: date, machine, versions, SHA-256 of the engine's sources, the kernels that stand for a
        state, pages of a call, where the struct pages lie.

    Raises
    ------
    WorkbenchError
        The JIT is off, there is too little memory, or not all pages were pinned.
    """
    if not JIT:
        raise WorkbenchError("the JIT is off, so there is nothing to measure. Unset NUMBA_DISABLE_JIT.")
    about = machine_and_versions()
    largest = max(sizes_mib) * _PAGES_OF_MIB
    nbytes = largest * (STRUCT_PAGE_BYTES + np.dtype(np.int64).itemsize)
    arena.require(nbytes, f"{max(sizes_mib)} MiB of device ({text.size(nbytes)} of struct pages and pfns)")
    array = in_memory(-(-largest // _PAGES_OF_TABLE) * _PAGES_OF_TABLE)  # whole page tables
    vm = array.writable(array.start_pfn, array.nr_pages)
    pages = np.zeros(largest, np.int64)
    pinners = {state: Pinner(case, vm, pages) for state, case in _CASES.items()}
    samples: dict[tuple[int, str, str], Times] = {
        (size, state, phase): [] for size in sizes_mib for state in STATES for phase in PHASES
    }
    with tqdm(total=(1 + repetitions) * len(sizes_mib), desc="measuring", unit="turn", disable=not progress) as bar:
        for repetition in range(1 + repetitions):
            for size in sizes_mib:
                for state in rotated(STATES, repetition):
                    _turn(pinners[state], size * _PAGES_OF_MIB, [samples[size, state, phase] for phase in PHASES])
                bar.update()
    shape = (len(sizes_mib), len(STATES), len(PHASES), 1 + repetitions, len(CLOCKS))
    seconds = np.array(list(samples.values())).reshape(shape)[:, :, :, 1:]
    return xr.Dataset(
        {"seconds": (("size_mib", "state", "phase", "repetition", "clock"), seconds, {"units": "s"})},
        {
            "size_mib": ("size_mib", list(sizes_mib), {"units": "MiB"}),
            "state": list(STATES),
            "kernel": ("state", [_CASES[state].tree for state in STATES]),
            "phase": list(PHASES),
            "clock": list(CLOCKS),
        },
        {
            "title": "The cover letter's runs on this machine",
            "provenance": "measured",
            "struct_pages_in": "DRAM",
            "pages_per_call": PAGES_PER_CALL,
            "repetitions": repetitions,
            **about,
            "engine_sha256": engine_hash(checkout),
        },
    )


def _turn(pinner: Pinner, nr_pages: int, kept: list[Times]) -> None:
    """One repetition of one state: get, then put, the samples at the end of ``kept``."""
    pinner.prepare(0, nr_pages)
    with timed(kept[0]):
        pinned = pinner.get(0, nr_pages)
    if pinned != nr_pages:
        raise WorkbenchError(f"{text.count(pinned)} of {text.count(nr_pages)} pages were pinned.")
    with timed(kept[1]):
        pinner.put(0, nr_pages)


def times(run: xr.Dataset) -> dict[Key, list[float]]:
    """Milliseconds of every repetition, processor time, by row of the letter's table.

    Parameters
    ----------
    run : xarray.Dataset
        From :func:`measure`.
    """
    ms = run.seconds.sel(clock="cpu") * 1e3
    return {
        Key(size, altmap=False, phase=phase, state=state): ms.sel(
            size_mib=size, phase=phase, state=state
        ).values.tolist()
        for size in run.size_mib.values.tolist()
        for phase in run.phase.values.tolist()
        for state in run.state.values.tolist()
    }


def where(run: xr.Dataset) -> str:
    """What the numbers are of: the processor, the day, the memory of struct pages, repetitions."""
    about = run.attrs
    cpu = str(about["cpu"]).split(" (")[0]
    return (
        f"{cpu}, {about['date'][:10]}, struct pages in {about['struct_pages_in']}, {about['repetitions']} repetitions"
    )


def committed(checkout: Checkout) -> xr.Dataset:
    """The run that is committed.

    Raises
    ------
    WorkbenchError
        There is none.
    """
    return bench_results.read(checkout.root / COMMITTED)


def keep(checkout: Checkout, run: xr.Dataset, update: bool = False) -> Path:
    """Write a run below ``out/``, or, with ``update``, as the committed one.

    Returns
    -------
    pathlib.Path
        Where it lies.

    Raises
    ------
    WorkbenchError
        A run that does not have the letter's sizes is to be the committed one; nothing changes.
    """
    if update and tuple(run.size_mib.values.tolist()) != SIZES_MIB[False]:
        raise WorkbenchError(f"{COMMITTED} has {SIZES_MIB[False]} MiB. Measure both sizes.")
    path = checkout.root / (COMMITTED if update else LAST)
    bench_results.write(path, run)
    return path
