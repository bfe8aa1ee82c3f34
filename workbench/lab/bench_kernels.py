# SPDX-License-Identifier: GPL-2.0-only
"""Measure the kernels that make struct pages, and the put_page() walk: engine, C twin and limits side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from workbench import text
from workbench.abi import STRUCT_PAGE_BYTES
from workbench.abi.constants import PMD_ORDER
from workbench.errors import WorkbenchError
from workbench.lab.bench_samples import Pace, Samples, rotated, timed
from workbench.lab.twins import Twins
from workbench.mm import InitCall, PageArray
from workbench.mm._jit import jit
from workbench.mm.events import Events
from workbench.mm.memmap import Memmap, memmap
from workbench.mm.memremap import put_pages
from workbench.mm.page_alloc import (
    memmap_init_range,
    memmap_init_zone_device,
    memmap_init_zone_device_nt,
    prep_compound_page,
)
from workbench.series import kernel

START_PFN = 0x140000
PGMAP = 0xFFFF_8881_0000_0000
TREES = ("5.16+0", "5.17")
NODE, ZONE = np.uint64(0), np.uint64(kernel("5.17").abi.zone_device)


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
def _prep_compound_pages(vm, start, end, order, ev):
    for head in range(start, end, 1 << order):
        prep_compound_page(vm, head, order, ev)


def run_engine(case: Case, vm: Memmap, start: int, end: int, ev: Events | None = None) -> int:
    """Run a case's kernel over rows ``start`` to ``end``, ``ev`` told; its result, 0 where it has none."""
    nr_pages, pgmap = len(vm.pages), np.uint64(PGMAP)
    if case.kernel == "memmap_init_zone_device":
        return memmap_init_zone_device(vm, start, end, ZONE, NODE, pgmap, case.order, False, 0, nr_pages, ev)
    if case.kernel == _NT:
        return memmap_init_zone_device_nt(vm, start, end, ZONE, NODE, pgmap, case.order, False, 0, nr_pages)
    if case.kernel == "put_pages":
        return put_pages(vm, start, end, case.order, ev)
    if case.kernel == "prep_compound_page":
        _prep_compound_pages(vm, start, end, case.order, ev)
    else:
        memmap_init_range(vm, start, end, ZONE, NODE, 0, nr_pages, ev)
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


def in_memory(nr_pages: int) -> PageArray:
    """Struct pages of a device of 5.17 with compound pages of 2 MiB, every section with its memory.

    Parameters
    ----------
    nr_pages : int
        A multiple of 32,768 (a section).
    """
    array = PageArray(kernel("5.17"), START_PFN, nr_pages)
    array.add_pages(START_PFN, nr_pages)
    array.init(InitCall(START_PFN, START_PFN + nr_pages, pgmap=PGMAP, vmemmap_shift=PMD_ORDER))
    array.materialise(threads=2)
    return array


def window_pages(array: PageArray, windows: int) -> int:
    """Pages of each of ``windows`` equal parts of an array.

    Raises
    ------
    WorkbenchError
        The array cannot be cut into that many.
    """
    size = array.nr_pages // windows
    if size % max(1 << case.order for case in CASES):
        raise WorkbenchError(
            f"a window of {text.count(size)} pages holds no whole number of the largest compounds. "
            "Use an array of a multiple of 1 GiB of device for each window."
        )
    return size


def measure_kernels(
    array: PageArray,
    windows: int,
    twins: Twins,
    samples: Samples,
    pace: Pace,
) -> Iterator[None]:
    """Time every case on engine, twin and limits; see :data:`CASES`.  Yields after each repetition.

    Parameters
    ----------
    array : PageArray
        Overwritten.
    windows : int
        Parts of the array; each sample works on the next one.
    twins : Twins
    samples : Samples
        ``samples.kernels`` grows.
    pace : Pace
        A step is a case.

    Raises
    ------
    WorkbenchError
        The array cannot be cut into that many windows.
    """
    size = window_pages(array, windows)
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

    for repetition, kept in pace.turns(samples):
        for case in CASES:
            if pace.over:
                return
            order = rotated(("engine", "gcc", *case.limits), repetition, case.rounds if repetition else 1)
            run(case, order[-1], next(starts))
            for side in order:
                start = next(starts)
                if side in ("engine", "gcc"):
                    prepare(case, over[case.tree], start, start + size)
                with timed(kept.kernels[case.name, side]):
                    run(case, side, start)
            pace.done()
        yield
