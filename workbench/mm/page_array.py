# SPDX-License-Identifier: GPL-2.0-only
"""The page array: the struct pages of a span of physical memory, byte for byte the kernel's vmemmap.

* One owner: :class:`PageArray` holds the mapping; users get read-only views that keep it alive.
* A section (128 MiB of memory, 32,768 struct pages, 2 MiB of array) has no memory until it is first
  read or written.  Until then the init calls that would fill it describe it; the first use runs those
  very calls on that section alone.
* Which struct pages exist at all is known by subsection (2 MiB of memory), as in the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html import escape
from threading import Lock
from typing import NamedTuple

import numpy as np

from workbench.abi import STRUCT_PAGE_BYTES, WORDS, Role
from workbench.abi.constants import (
    PAGEBLOCK_NR_PAGES,
    PAGES_PER_SECTION,
    PAGES_PER_SUBSECTION,
    SUBSECTIONS_PER_SECTION,
)
from workbench.errors import WorkbenchError
from workbench.mm import arena, page_alloc
from workbench.mm._jit import plain
from workbench.mm.events import Events
from workbench.mm.memmap import COUNTS, REFCOUNT_SHIFT, Memmap, memmap
from workbench.series import Kernel
from workbench.text import count, pfn_range, size

_SECTION_BYTES = PAGES_PER_SECTION * STRUCT_PAGE_BYTES
_BLOCKS_PER_WORD = 16
_BLOCK_WORDS_PER_SECTION = PAGES_PER_SECTION // PAGEBLOCK_NR_PAGES // _BLOCKS_PER_WORD
_MAX_PFN = {4: 1 << 34, 5: 1 << 40}
"""MAXMEM in pages by page-table levels: 64 TiB and 4 PiB (arch/x86/include/asm/pgtable_64_types.h)."""
_CHUNK_SECTIONS = 64
"""Sections filled by one call into compiled code: some 10 ms, so that Ctrl-C is heard."""


@dataclass(frozen=True)
class InitCall:
    """One call that initialises struct pages: what a described section is made of.

    Attributes
    ----------
    start_pfn, end_pfn : int
        First pfn, and the pfn after the last, of the call's range.
    nid : int
        Node.
    pgmap : int or None
        Kernel address of the dev_pagemap for ``memmap_init_zone_device()``; None for
        ``memmap_init_range()``, which initialises an altmap's storage.
    vmemmap_shift : int
        Order of the compound pages asked for; trees without patch 4 ignore it.
    altmap : bool
        Whether the range has an altmap (then vmemmap pages are not shared).
    """

    start_pfn: int
    end_pfn: int
    nid: int = 0
    pgmap: int | None = None
    vmemmap_shift: int = 0
    altmap: bool = False


class Sections(NamedTuple):
    """The state of a page array's sections.

    Attributes
    ----------
    exist : uint64[nr_sections]
        One bit a subsection: its struct pages exist.
    present : bool[nr_sections]
        The section has its memory.
    """

    exist: np.ndarray
    present: np.ndarray


class PageArray:
    """The struct pages of ``nr_pages`` page frames from ``start_pfn`` on.

    Parameters
    ----------
    kernel : Kernel
        Layout and tree, see :func:`workbench.series.kernel`.
    start_pfn, nr_pages : int
        The span; rounded outwards to sections.  The span costs address space only.

    Raises
    ------
    WorkbenchError
        An empty or negative span, one beyond physical addresses, a configuration without ZONE_DEVICE, or
        more address space than the system grants.

    Notes
    -----
    Row ``i`` is pfn ``start_pfn + i``; columns are the eight 64-bit words.  Nothing exists until
    :meth:`add_pages`; what exists and was never initialised reads as zeroes.
    """

    def __init__(self, kernel: Kernel, start_pfn: int, nr_pages: int) -> None:
        if nr_pages < 1 or start_pfn < 0:
            raise WorkbenchError(
                f"a page array has at least one page, from pfn 0 on; got {nr_pages} from {start_pfn:#x}."
            )
        max_pfn = _MAX_PFN[kernel.abi.config.pgtable_levels]
        if start_pfn + nr_pages > max_pfn:
            raise WorkbenchError(
                f"{pfn_range(start_pfn, nr_pages)} lies beyond pfn {max_pfn - 1:#x}, the last that "
                f"{kernel.abi.config.pgtable_levels} page-table levels reach. Begin lower or make it smaller."
            )
        self.kernel = kernel
        self._zone = np.uint64(kernel.abi.zone_device)
        self.start_pfn = start_pfn // PAGES_PER_SECTION * PAGES_PER_SECTION
        self.nr_sections = -(-(start_pfn + nr_pages - self.start_pfn) // PAGES_PER_SECTION)
        self.nr_pages = self.nr_sections * PAGES_PER_SECTION
        root = arena.take(self.nr_sections * _SECTION_BYTES)
        blocks = np.zeros(self.nr_pages // PAGEBLOCK_NR_PAGES // _BLOCKS_PER_WORD, np.uint64)
        self._vm = memmap(kernel, root.reshape(self.nr_pages, WORDS), blocks, self.start_pfn)
        self._subsections = np.zeros(self.nr_sections, np.uint64)
        self._shared = np.zeros(self.nr_sections, np.uint64)
        self._present = np.zeros(self.nr_sections, np.bool_)
        self._touched = np.zeros(self.nr_sections, np.bool_)
        self._filling = Lock()
        self._calls: list[InitCall] = []
        self._first_call = np.zeros(self.nr_sections, np.int64)

    # which struct pages exist

    @property
    def end_pfn(self) -> int:
        """The pfn after the last one of the span."""
        return self.start_pfn + self.nr_pages

    def add_pages(self, start_pfn: int, nr_pages: int) -> None:
        """Let the struct pages of a range exist (zero until initialised).

        Kernel: mm/memory_hotplug.c ``__add_pages()``, mm/sparse.c ``section_activate()``.

        Raises
        ------
        WorkbenchError
            EINVAL: not whole subsections; EEXIST: some exist already.  Nothing changes.
        """
        self._whole_subsections(start_pfn, nr_pages)
        for section, bits in self._subsection_bits(start_pfn, nr_pages):
            if int(self._subsections[section]) & bits:
                raise WorkbenchError(
                    f"struct pages exist already in {pfn_range(start_pfn, nr_pages)}. Remove them first.", errno=17
                )
        for section, bits in self._subsection_bits(start_pfn, nr_pages):
            if self._subsections[section] == 0:
                self._present[section] = False
                self._first_call[section] = len(self._calls)
                blocks = section * _BLOCK_WORDS_PER_SECTION
                self._vm.pageblock_flags[blocks : blocks + _BLOCK_WORDS_PER_SECTION] = 0
            self._subsections[section] |= np.uint64(bits)
            self._shared[section] &= ~np.uint64(bits)
        for lo, hi in self._present_rows(start_pfn, nr_pages):
            self._vm.pages[lo:hi] = 0

    def remove_pages(self, start_pfn: int, nr_pages: int) -> None:
        """Take the struct pages of a range away.  Views of them are stale: their memory is used again.

        Kernel: mm/memory_hotplug.c ``__remove_pages()``, mm/sparse.c ``section_deactivate()``.

        Raises
        ------
        WorkbenchError
            EINVAL: not whole subsections, or some do not exist; or not enough memory.  Nothing changes.
        """
        self._whole_subsections(start_pfn, nr_pages)
        self._require_existing(start_pfn, nr_pages, errno=22)
        rests = {s: int(self._subsections[s]) & ~bits for s, bits in self._subsection_bits(start_pfn, nr_pages)}
        # What stays must not be described by a call that also describes what goes.
        self._fill([section for section, rest in rests.items() if rest and not self._present[section]])
        for section, rest in rests.items():
            self._subsections[section] = np.uint64(rest)
            self._present[section] &= rest != 0
        self._forget_calls()

    def _forget_calls(self) -> None:
        """Drop the calls that describe no section any more."""
        described = self._first_call[(self._subsections != 0) & ~self._present]
        gone = int(described.min()) if len(described) else len(self._calls)
        del self._calls[:gone]
        np.maximum(self._first_call - gone, 0, out=self._first_call)

    def exists(self, start_pfn: int, nr_pages: int = 1) -> np.ndarray:
        """Whether each struct page of a range exists.

        Returns
        -------
        bool[nr_pages]
            False also outside the span.
        """
        return self.exist(np.arange(start_pfn, start_pfn + nr_pages))

    def exist(self, pfns: np.ndarray) -> np.ndarray:
        """Whether the struct page of each of ``pfns`` (int64[n]) exists; see :meth:`exists`."""
        row = pfns - self.start_pfn
        inside = (row >= 0) & (row < self.nr_pages)
        return inside & self._subsection_exists()[np.where(inside, row, 0) // PAGES_PER_SUBSECTION]

    def _subsection_exists(self) -> np.ndarray:
        """bool[nr_sections * 64]: which subsections have struct pages."""
        return np.unpackbits(self._subsections.view(np.uint8), bitorder="little").view(np.bool_)

    # initialisation

    def init(self, call: InitCall, threads: int = 1) -> int:
        """Initialise struct pages as the kernel would; sections without memory are only described.

        On kernels that initialise whole compounds the last one may run over the range's end (see
        :func:`workbench.mm.page_alloc.memmap_init_zone_device`): pages of a neighbour are overwritten.
        Where struct pages do not exist the kernel takes a page fault there and the process dies.

        Parameters
        ----------
        call : InitCall
            Range, node, pgmap and order.
        threads : int
            Python threads that share the sections which have their memory.

        Returns
        -------
        int
            Pages the kernel's log line reports.

        Raises
        ------
        WorkbenchError
            The pages of the range or its node do not exist; the last compound would run into pages that share
            their memory with others; or the kernel would fault: ``changed`` then says what was initialised
            before that.
        """
        self._require_valid(call)
        end = self.written_end(call)
        self._note_sharing(call, end)
        fault = self._first_missing(call.start_pfn, end)
        if fault is None:
            self._calls.append(call)
            self._run_on_present(call, end, threads)
        else:
            # A call that stopped half way describes nothing: every section it reached gets its memory first.
            self.materialise(call.start_pfn, fault - call.start_pfn)
            self._run_on_present(call, fault, threads)
            raise WorkbenchError(
                f"kernel page fault: the last compound page of pfn {call.start_pfn:#x}-{call.end_pfn - 1:#x} runs to "
                f"pfn {end - 1:#x}, and no struct page exists at pfn {fault:#x}; the process that binds the device "
                f"dies. Use a range of whole compounds of {count(1 << call.vmemmap_shift)} pages.",
                changed=(f"struct pages initialised up to pfn {fault - 1:#x}",),
            )
        return call.end_pfn - call.start_pfn

    def untouched(self, call: InitCall) -> np.ndarray:
        """Which sections of a call's range hold exactly what that call describes, none of it read or written yet.

        Returns
        -------
        bool[n]
            One a section that the range has a part of, in order.
        """
        first, last = self._section(call.start_pfn), self._section(call.end_pfn - 1)
        alone = (self._subsections[first : last + 1] != 0) & ~self._present[first : last + 1]
        for at, other in enumerate(self._calls):
            if other != call and alone.any():
                low, high = self._section(other.start_pfn), self._section(self.written_end(other) - 1)
                reached = slice(max(low - first, 0), max(high - first + 1, 0))
                alone[reached] &= self._first_call[first : last + 1][reached] > at
        return alone

    def _note_sharing(self, call: InitCall, end: int) -> None:
        """Remember which subsections share vmemmap pages; refuse stores into those of a neighbour.

        Pages that a deduplicating kernel maps to one memory are rows of their own here, each stored to by its own
        initialisation.  A neighbour whose last compound runs over would change all rows of one memory at once.
        """
        over = -(-(min(end, self.end_pfn) - call.end_pfn) // PAGES_PER_SUBSECTION) * PAGES_PER_SUBSECTION
        if any(int(self._shared[at]) & bits for at, bits in self._subsection_bits(call.end_pfn, over)):
            raise WorkbenchError(
                f"the last compound page of pfn {call.start_pfn:#x}-{call.end_pfn - 1:#x} runs to pfn {end - 1:#x}, "
                "into pages that share their struct pages' memory with others; that is not computed here. "
                f"Use a range of whole compounds of {count(1 << call.vmemmap_shift)} pages."
            )
        step = plain(page_alloc.pfns_per_compound)(self._vm, call.vmemmap_shift)
        if call.pgmap is not None and plain(page_alloc.compound_nr_pages)(self._vm, step, call.altmap) < step:
            for at, bits in self._subsection_bits(call.start_pfn, call.end_pfn - call.start_pfn):
                self._shared[at] |= np.uint64(bits)

    def written_end(self, call: InitCall) -> int:
        """The pfn after the last struct page ``call`` stores to."""
        if call.pgmap is None:
            return call.end_pfn
        step = plain(page_alloc.pfns_per_compound)(self._vm, call.vmemmap_shift)
        unique = plain(page_alloc.compound_nr_pages)(self._vm, step, call.altmap)
        last_head = call.start_pfn + (call.end_pfn - 1 - call.start_pfn) // step * step
        return max(call.end_pfn, last_head + unique)

    def _require_valid(self, call: InitCall) -> None:
        self._require_existing(call.start_pfn, call.end_pfn - call.start_pfn)
        self.require_node(call.nid)

    def require_node(self, nid: int) -> None:
        """Refuse a node that the flags word has no room for.

        Raises
        ------
        WorkbenchError
            With the nodes there are.
        """
        node = self.kernel.abi.bits("NODE")
        if not 0 <= nid < 1 << node.width:
            raise WorkbenchError(
                f"node {nid} does not exist: this configuration keeps {node.width} bits for the node. "
                f"Use a node from 0 to {(1 << node.width) - 1}."
            )

    def require_events(self, events: Events) -> None:
        """Refuse events made for another number of pages: kernels index them by row.

        Raises
        ------
        WorkbenchError
            With both numbers.
        """
        if len(events.seen) != self.nr_pages:
            raise WorkbenchError(
                f"these events are for {count(len(events.seen))} pages, the array has {count(self.nr_pages)} (it is "
                "rounded to sections). Make them with events(array.nr_pages)."
            )

    def traced(self, call: InitCall, events: Events) -> int:
        """Run ``call`` now, with regular stores, telling ``events`` of each; for small ranges.

        Returns
        -------
        int
            Pages the kernel's log line reports.
        """
        self._require_valid(call)
        self.require_events(events)
        nr_pages = self.written_end(call) - call.start_pfn
        self._require_existing(call.start_pfn, nr_pages)
        self.materialise(call.start_pfn, nr_pages)
        return self._run(call, 0, self.nr_pages, events)

    def materialise(self, start_pfn: int | None = None, nr_pages: int | None = None, threads: int = 1) -> None:
        """Give the sections of a range their memory, by running the calls that describe them.

        Parameters
        ----------
        start_pfn, nr_pages : int, optional
            The range; default the whole span.  Sections in which no struct page exists are passed over.
        threads : int
            Python threads that share the work; compiled code runs side by side.

        Raises
        ------
        WorkbenchError
            Not enough memory; nothing changes, unless others take it meanwhile: then some sections are filled.
        """
        start_pfn = self.start_pfn if start_pfn is None else start_pfn
        nr_pages = self.end_pfn - start_pfn if nr_pages is None else nr_pages
        first, last = self._section(start_pfn), self._section(start_pfn + nr_pages - 1)
        sections = slice(max(first, 0), last + 1)
        lacking = (self._subsections[sections] != 0) & ~self._present[sections]
        if lacking.any():
            self._fill((np.flatnonzero(lacking) + sections.start).tolist(), threads)

    def _fill(self, sections: list[int], threads: int = 1) -> None:
        """Fill sections; a section that another thread has filled meanwhile is left alone."""
        with self._filling:
            sections = [section for section in sections if not self._present[section]]
            if sections:
                self._fill_locked(sections, threads)

    def _fill_locked(self, sections: list[int], threads: int) -> None:
        new = len(sections) - int(self._touched[sections].sum())
        arena.require(new * _SECTION_BYTES, f"filling {count(len(sections))} sections of struct pages")
        chunks = list(_runs(sections, self._first_call))

        def fill(chunk: range) -> None:
            if new:  # again: what others take while this goes on would let the system end the process
                arena.require(len(chunk) * _SECTION_BYTES, f"filling {count(len(chunk))} more sections of struct pages")
            self._touched[chunk.start : chunk.stop] = True
            calls = self._calls[self._first_call[chunk.start] :]
            self._zero_uninitialised(chunk, calls)
            for call in calls:
                self._run(call, chunk.start * PAGES_PER_SECTION, chunk.stop * PAGES_PER_SECTION, None)
            self._present[chunk.start : chunk.stop] = True

        if len(chunks) == 1:
            fill(chunks[0])
            return
        from tqdm.auto import tqdm  # only here: it is a tenth of the time to a first result

        with tqdm(total=len(sections), unit="section", desc="filling struct pages", delay=2, leave=False) as bar:
            for chunk in _each(chunks, fill, threads):
                bar.update(len(chunk))

    def _zero_uninitialised(self, chunk: range, calls: list[InitCall]) -> None:
        """Zero the rows of ``chunk`` that none of ``calls`` writes: the memory may be recycled."""
        lo, hi = chunk.start * PAGES_PER_SECTION, chunk.stop * PAGES_PER_SECTION
        for call in sorted(calls, key=lambda call: call.start_pfn):
            start, end = call.start_pfn - self.start_pfn, call.end_pfn - self.start_pfn
            if start > lo:
                self._vm.pages[lo : min(start, hi)] = 0
            lo = max(lo, min(end, hi))
        self._vm.pages[lo:hi] = 0

    @property
    def calls(self) -> tuple[InitCall, ...]:
        """The init calls so far, oldest first; those that describe no section any more may be left out."""
        return tuple(self._calls)

    def alike(self) -> np.ndarray:
        """Which sections hold the same struct pages, but for addresses: read one of them to know all.

        Returns
        -------
        int64[nr_sections]
            A number for each kind of section, -1 where no struct page exists.  A section that has its memory may
            have been written to, and has a number of its own.
        """
        at = np.arange(self.nr_sections)
        first = self.start_pfn + at * PAGES_PER_SECTION
        keys = [self._subsections.view(np.int64), np.where(self._present, at, -1)]
        for number, call in enumerate(self._calls):
            step = 1 if call.pgmap is None else plain(page_alloc.pfns_per_compound)(self._vm, call.vmemmap_shift)
            last_head = call.start_pfn + (call.end_pfn - 1 - call.start_pfn) // step * step
            touched = (first + PAGES_PER_SECTION > call.start_pfn) & (first < self.written_end(call))
            # What lies between the ends repeats every compound page; the sections at the ends are like no other.
            between = (first >= call.start_pfn) & (first + PAGES_PER_SECTION <= last_head)
            key = np.where(between, (first - call.start_pfn) % step, step + at)
            keys.append(np.where(touched & (self._first_call <= number), key, -1))
        _, kinds = np.unique(np.stack(keys, axis=1), axis=0, return_inverse=True)
        return np.where(self._subsections != 0, kinds.reshape(-1), -1)

    def _run_on_present(self, call: InitCall, end_pfn: int, threads: int) -> None:
        """Run ``call`` up to ``end_pfn`` on those of its sections that have their memory."""
        end = end_pfn - self.start_pfn
        first = self._section(call.start_pfn)
        present = np.flatnonzero(self._present[first : self._section(end_pfn - 1) + 1]) + first

        def run(chunk: range) -> None:
            self._run(call, chunk.start * PAGES_PER_SECTION, min(chunk.stop * PAGES_PER_SECTION, end), None)

        for _ in _each(_runs(present.tolist(), self._first_call), run, threads):
            pass

    def _run(self, call: InitCall, lo: int, hi: int, events: Events | None) -> int:
        zone, nid = self._zone, np.uint64(call.nid)
        start, end = call.start_pfn - self.start_pfn, call.end_pfn - self.start_pfn
        if call.pgmap is None:
            page_alloc.memmap_init_range(self._vm, start, end, zone, nid, lo, hi, events)
            return 0
        args = (self._vm, start, end, zone, nid, np.uint64(call.pgmap), call.vmemmap_shift, call.altmap, lo, hi)
        if events is None:
            return page_alloc.memmap_init_zone_device_nt(*args)
        return page_alloc.memmap_init_zone_device(*args, events)

    # reading

    def view(self, start_pfn: int, nr_pages: int) -> np.ndarray:
        """The struct pages of a range.

        Returns
        -------
        uint64[nr_pages, 8]
            Read-only, no copy; valid as long as it is referred to.

        Raises
        ------
        WorkbenchError
            Some do not exist, or there is not enough memory.
        """
        self._require_existing(start_pfn, nr_pages)
        self.materialise(start_pfn, nr_pages)
        rows = self._vm.pages[start_pfn - self.start_pfn : start_pfn - self.start_pfn + nr_pages]
        rows.flags.writeable = False
        return rows

    def count_flag(self, start_pfn: int, nr_pages: int, flag: str) -> int:
        """How many struct pages of a range have a flag that initialisation does not set.

        Sections that are only described need not be looked at.
        """
        bit = np.uint64(self.kernel.abi.flag(flag))
        rows = self._present_rows(start_pfn, nr_pages)
        return sum(int(np.count_nonzero(self._vm.pages[lo:hi, 0] & bit)) for lo, hi in rows)

    def count_held(self, start_pfn: int, nr_pages: int) -> int:
        """How many struct pages of a range have more references than initialisation gives; see :meth:`count_flag`."""
        rows = self._present_rows(start_pfn, nr_pages)
        return sum(int(np.count_nonzero(self._vm.pages[lo:hi, COUNTS] >> REFCOUNT_SHIFT > 1)) for lo, hi in rows)

    def rows(self, pfns: np.ndarray) -> np.ndarray:
        """A copy of the struct pages of ascending ``pfns`` (int64[n]), as uint64[n, 8]; see :meth:`view`."""
        breaks = np.flatnonzero(np.diff(pfns) != 1) + 1
        runs = [self.view(int(run[0]), len(run)) for run in np.split(pfns, breaks)]
        return np.concatenate(runs)

    def writable(self, start_pfn: int, nr_pages: int) -> Memmap:
        """The array for a kernel that stores to a range: its sections have their memory.

        For the functions of :mod:`workbench.mm`; everything else reads :meth:`view`.
        """
        self._require_existing(start_pfn, nr_pages)
        self.materialise(start_pfn, nr_pages)
        return self._vm

    @property
    def sections(self) -> Sections:
        """Which struct pages exist and which sections have their memory, for compiled code to read."""
        return Sections(self._subsections, self._present)

    @property
    def memmap(self) -> Memmap:
        """The array for a kernel whose caller has seen to it that the sections it stores to have their memory."""
        return self._vm

    def words(self, pfn: int) -> list[int]:
        """The eight words of one struct page."""
        return self.view(pfn, 1)[0].tolist()

    def role(self, pfn: int) -> Role:
        """What the struct page of ``pfn`` is used as."""
        return self.kernel.abi.role(self.words(pfn), pfn)

    def decode(self, pfn: int) -> dict[str, int]:
        """The members of one struct page by name."""
        return self.kernel.abi.decode(self.words(pfn), pfn)

    def explain(self, pfn: int) -> str:
        """One struct page as text for people."""
        return self.kernel.abi.explain(self.words(pfn), pfn)

    def migratetype(self, pfn: int) -> int:
        """The migratetype of the pageblock that holds ``pfn`` (1: MIGRATE_MOVABLE)."""
        self.view(pfn, 1)
        block = (pfn - self.start_pfn) // PAGEBLOCK_NR_PAGES
        return int(self._vm.pageblock_flags[block // _BLOCKS_PER_WORD]) >> block % _BLOCKS_PER_WORD * 4 & 7

    @property
    def resident_bytes(self) -> int:
        """Bytes of the sections that have their memory."""
        return int(self._present.sum()) * _SECTION_BYTES

    @property
    def existing_pages(self) -> int:
        """How many struct pages exist."""
        return int(np.bitwise_count(self._subsections).sum()) * PAGES_PER_SUBSECTION

    def _facts(self) -> dict[str, str]:
        return {
            "kernel": repr(self.kernel),
            "span": pfn_range(self.start_pfn, self.nr_pages),
            "struct pages": f"{count(self.existing_pages)} ({size(self.existing_pages * STRUCT_PAGE_BYTES)})",
            "held in memory": f"{size(self.resident_bytes)}; the rest is described",
            "init calls": count(len(self._calls)),
        }

    def __repr__(self) -> str:
        return "PageArray\n" + "\n".join(f"  {name}: {value}" for name, value in self._facts().items())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(n)}</th><td>{escape(v)}</td></tr>" for n, v in self._facts().items())
        return f"<table><caption>PageArray</caption>{rows}</table>"

    # sections and subsections

    def _section(self, pfn: int) -> int:
        return (pfn - self.start_pfn) // PAGES_PER_SECTION

    def _whole_subsections(self, start_pfn: int, nr_pages: int) -> None:
        if nr_pages < 1 or start_pfn % PAGES_PER_SUBSECTION or nr_pages % PAGES_PER_SUBSECTION:
            raise WorkbenchError(
                f"struct pages come and go by subsections of {PAGES_PER_SUBSECTION} pages; got {nr_pages} pages, "
                f"{pfn_range(start_pfn, nr_pages)}. Round the range to multiples of 2 MiB.",
                errno=22,
            )
        if start_pfn < self.start_pfn or start_pfn + nr_pages > self.end_pfn:
            raise WorkbenchError(
                f"{pfn_range(start_pfn, nr_pages)} is not in this array of {pfn_range(self.start_pfn, self.nr_pages)}; "
                "make that larger."
            )

    def _subsection_bits(self, start_pfn: int, nr_pages: int) -> Iterator[tuple[int, int]]:
        """Section number and bits of its subsections, for each section of a range."""
        first = (start_pfn - self.start_pfn) // PAGES_PER_SUBSECTION
        last = first + nr_pages // PAGES_PER_SUBSECTION
        while first < last:
            section, low = divmod(first, SUBSECTIONS_PER_SECTION)
            high = min(last - section * SUBSECTIONS_PER_SECTION, SUBSECTIONS_PER_SECTION)
            yield section, (1 << high) - (1 << low)
            first = (section + 1) * SUBSECTIONS_PER_SECTION

    def _present_rows(self, start_pfn: int, nr_pages: int) -> Iterator[tuple[int, int]]:
        """Row bounds of the parts of a range whose section has its memory."""
        end = start_pfn + nr_pages
        for section in range(self._section(start_pfn), self._section(end - 1) + 1):
            if self._present[section]:
                row = section * PAGES_PER_SECTION
                yield max(row, start_pfn - self.start_pfn), min(row + PAGES_PER_SECTION, end - self.start_pfn)

    def _first_missing(self, start_pfn: int, end_pfn: int) -> int | None:
        """The first pfn of a range without a struct page, or None."""
        if start_pfn < self.start_pfn:
            return start_pfn
        first = (start_pfn - self.start_pfn) // PAGES_PER_SUBSECTION
        last = -(-(min(end_pfn, self.end_pfn) - self.start_pfn) // PAGES_PER_SUBSECTION)
        missing = np.flatnonzero(~self._subsection_exists()[first:last])
        if len(missing):
            return max(start_pfn, self.start_pfn + (first + int(missing[0])) * PAGES_PER_SUBSECTION)
        return self.end_pfn if end_pfn > self.end_pfn else None

    def _require_existing(self, start_pfn: int, nr_pages: int, errno: int | None = None) -> None:
        missing = self._first_missing(start_pfn, start_pfn + nr_pages)
        if nr_pages < 1 or missing is not None:
            at = start_pfn if missing is None else missing
            raise WorkbenchError(
                f"no struct page exists at pfn {at:#x}; asked for: {pfn_range(start_pfn, nr_pages)}. "
                "Read inside a device, or add its pages.",
                errno,
            )


def _runs(sections: list[int], first_call: np.ndarray) -> Iterator[range]:
    """Ascending section numbers as ranges of neighbours described by the same calls, none too long."""
    start = 0
    for at in range(1, len(sections) + 1):
        if (
            at == len(sections)
            or sections[at] != sections[at - 1] + 1
            or first_call[sections[at]] != first_call[sections[start]]
            or at - start == _CHUNK_SECTIONS
        ):
            yield range(sections[start], sections[at - 1] + 1)
            start = at


def _each(chunks: Iterable[range], do: Callable[[range], None], threads: int) -> Iterator[range]:
    """Each chunk when it is done, in order; an interrupt leaves out those not begun."""
    if threads == 1:
        for chunk in chunks:
            do(chunk)
            yield chunk
        return
    pool = ThreadPoolExecutor(threads)
    try:
        listed = list(chunks)
        for chunk, _ in zip(listed, pool.map(do, listed), strict=True):
            yield chunk
    finally:
        pool.shutdown(cancel_futures=True)
