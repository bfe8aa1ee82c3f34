# SPDX-License-Identifier: GPL-2.0-only
"""Measure pinning and releasing user pages: engine, C twin, and as much memory and as many locked operations without.

A turn pins every page of a window by calls of 512 pages, as gup_test does, and releases them; both are timed.
Before it the window's struct pages are made anew, so that none of their lines is in a cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from workbench.abi import STRUCT_PAGE_BYTES
from workbench.lab.bench_kernels import Case, run_engine, window_pages
from workbench.lab.bench_samples import Pace, Samples, rotated, timed
from workbench.lab.pin_events import PAGES_PER_CALL
from workbench.lab.twins import Twins
from workbench.mm import PageArray, gup_fast, pgtable
from workbench.mm.events import Events
from workbench.mm.memmap import Memmap, memmap
from workbench.mm.memremap import PgmapArray
from workbench.mm.page_ref import Foll, PageRefs, page_refs
from workbench.mm.pgtable import Level, PageTables, Pg
from workbench.series import kernel

BASE = 1 << 40
"""User address of the array's first page."""
PHASES = ("get", "put")
PIN_SIDES = ("engine", "gcc", "limit")

_FLAGS = int(Foll.PIN | Foll.WRITE)
_ENTRY = np.uint64(Pg.PRESENT | Pg.RW | Pg.USER | Pg.ACCESSED | Pg.DIRTY | Pg.PSE | Pg.DEVMAP)


@dataclass(frozen=True)
class PinCase:
    """One way to pin and release.

    Attributes
    ----------
    tree : str
    order : int
        log2 of the pages of a compound; 0 for base pages.
    once : bool
        One grab for the pages of a compound in a call (version 4's patch 8), and released as a range.
    limits : tuple of str
        The machine's limits for getting and for putting, of :data:`workbench.lab.twins.LIMITS`; may be empty.
    """

    tree: str
    order: int
    once: bool
    limits: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``5.17 order 9 once``."""
        return f"{self.tree} {'order ' + str(self.order) if self.order else 'base'}{' once' if self.once else ''}"

    def kernels(self) -> tuple[str, str]:
        """Names of what gets and what puts."""
        return ("pin_user_pages_fast", "unpin_user_page_range" if self.once else "unpin_user_pages")


BASE_PAGES = PinCase("5.16+0", 0, once=False, limits=("locked_3", "locked_2"))
COMPOUND = PinCase("5.17", 9, once=False, limits=("read_hot_3", "read"))
ONCE = PinCase("5.17", 9, once=True)
PIN_CASES = (BASE_PAGES, COMPOUND, ONCE)


class Pinner:
    """Struct pages that one process has mapped whole by 2 MiB entries, and one way to pin them.

    Parameters
    ----------
    case : PinCase
    vm : Memmap
        Every struct page has its memory.
    pages : int64[n]
        Room for the pfns of as many pages as are pinned at a time.
    """

    def __init__(self, case: PinCase, vm: Memmap, pages: np.ndarray) -> None:
        self.case, self.pages = case, pages
        self.vm = memmap(kernel(case.tree), vm.pages, vm.pageblock_flags, vm.start_pfn)
        self.refs: PageRefs = page_refs(kernel(case.tree), head_once=case.once)
        self.pgmaps = one_pgmap(vm.start_pfn, len(vm.pages))
        self.pt = mapped_whole(vm.start_pfn, len(vm.pages))
        self.seq = np.zeros(1, np.int64)

    def prepare(self, start: int, end: int) -> None:
        """Make the struct pages of rows ``start`` to ``end`` anew."""
        run_engine(Case("memmap_init_zone_device_nt", self.case.tree, self.case.order), self.vm, start, end)

    def get(self, start: int, end: int, twins: Twins | None = None, ev: Events | None = None) -> int:
        """Pin rows ``start`` to ``end`` by the engine, or by its twin; pages pinned."""
        where = (BASE + (start << 12), end - start, PAGES_PER_CALL, _FLAGS, self.pages)
        what = (self.vm, self.refs, self.pgmaps, self.pt, self.seq)
        if twins is not None:
            return twins.pin_fast_calls(*what, *where)
        return gup_fast.gup_fast_calls(*what, *where, ev)[0]

    def put(self, start: int, end: int, twins: Twins | None = None, ev: Events | None = None) -> int:
        """Release what :meth:`get` pinned; how many counts reached zero."""
        first, held, none = self.vm.start_pfn + start, self.pages[: end - start], self.pages[:0]
        if twins is not None and self.case.once:
            return twins.unpin_user_page_range(self.vm, self.refs, first, len(held))
        if twins is not None:
            return twins.unpin_user_pages(self.vm, self.refs, held)
        if self.case.once:
            return gup_fast.unpin_user_page_range(self.vm, self.refs, first, len(held), False, none, ev)
        return gup_fast.unpin_user_pages(self.vm, self.refs, held, False, none, ev)


def one_pgmap(start_pfn: int, nr_pages: int) -> PgmapArray:
    """A table with one pgmap that has all pages."""
    first, last = np.array([start_pfn]), np.array([start_pfn + nr_pages - 1])
    none = np.zeros(1, np.int64)
    return PgmapArray(first, last, none, first, last, none.copy(), np.ones(1, np.uint8))


def mapped_whole(start_pfn: int, nr_pages: int) -> PageTables:
    """Page tables that map ``nr_pages`` pages (a multiple of 1 GiB) from ``start_pfn`` on, at :data:`BASE`."""
    step, pages_of_table = 1 << (Level.PMD.shift - 12), 1 << (Level.PUD.shift - 12)
    end = BASE + (nr_pages << 12)
    pt = pgtable.reserve(pgtable.page_tables(), pgtable.tables_for(BASE, end, Level.PMD))
    for first in range(0, nr_pages, pages_of_table):
        pfns = np.arange(start_pfn + first, start_pfn + first + pages_of_table, step, dtype=np.uint64)
        table = pgtable.table_for(pt, BASE + (first << 12), Level.PMD)
        pt.entries[table] = pfns << np.uint64(12) | _ENTRY
    return pt


def measure_pins(array: PageArray, windows: int, twins: Twins, samples: Samples, pace: Pace) -> Iterator[None]:
    """Time every case's two phases on engine, twin and limits; see :data:`PIN_CASES`.  Yields after each.

    Parameters
    ----------
    array, windows, twins
        As of :func:`workbench.lab.bench_kernels.measure_kernels`.
    samples : Samples
        ``samples.pins`` grows.
    pace : Pace
        A step is a case.
    """
    size = window_pages(array, windows)
    vm = array.writable(array.start_pfn, array.nr_pages)
    pages = np.zeros(size, np.int64)
    starts = cycle(range(0, array.nr_pages, size))
    pinners = [Pinner(case, vm, pages) for case in PIN_CASES]

    def turn(pinner: Pinner, side: str, start: int, kept: Samples) -> None:
        by_twin = twins if side == "gcc" else None
        pinner.prepare(start, start + size)
        for at, phase in enumerate(PHASES):
            with timed(kept.pins[pinner.case.name, phase, side]):
                if side == "limit":
                    twins.limit(pinner.case.limits[at], vm.pages[start:].ctypes.data, size * STRUCT_PAGE_BYTES)
                else:
                    (pinner.get if phase == "get" else pinner.put)(start, start + size, by_twin)

    for repetition, kept in pace.turns(samples):
        for pinner in pinners:
            if pace.over:
                return
            for side in rotated(PIN_SIDES if pinner.case.limits else PIN_SIDES[:2], repetition):
                turn(pinner, side, next(starts), kept)
            pace.done()
        yield
