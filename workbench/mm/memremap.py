# SPDX-License-Identifier: GPL-2.0-only
"""mm/memremap.c: a device's memory gets its struct pages, and gives them back.

* A driver describes its memory by a :class:`DevPagemap` and hands it to memremap_pages(), which adds
  and initialises the struct pages of each range and takes one reference of the pgmap a head.
* Up to 5.17 memunmap_pages() drops one reference of each head and waits until the last is gone: a page
  that somebody holds blocks it.  6.1 and later return the references in bulk and do not wait.
* Who meets a pfn finds its pgmap in a table of ranges; a caller that remembers the last one is served
  without it, for pages of the *first* range only.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from html import escape
from typing import NamedTuple

import numpy as np

from workbench.abi.constants import PAGE_SHIFT, PAGES_PER_SECTION
from workbench.errors import KernelCrash, WorkbenchError
from workbench.mm._jit import jit
from workbench.mm.events import Counter, Events, Site, count
from workbench.mm.memmap import COMPOUND_HEAD, COUNTS, REFCOUNT_SHIFT, load, page_ref_sub_return
from workbench.mm.page_alloc import pfns_per_compound
from workbench.mm.page_array import InitCall, PageArray
from workbench.mm.resource import Intersection, Resource, region_intersects
from workbench.mm.sparse_vmemmap import Altmap, populate, vmem_altmap_offset
from workbench.series import Switch
from workbench.text import count as number
from workbench.text import pfn_range

_HEAD_BIT = np.uint64(1)
_LINE_SHIFT = np.uint64(6)
_RESCHED_PFNS = 1024
_MAX_SHIFT = 30
_DRIVERS_REF = ("5.10", "5.15", "5.16")
"""Releases whose driver may bring the pgmap's reference count; from 5.17 on the pgmap has its own."""
_STEP_1 = "memunmap_pages() goes page by page over compound pages, as version 3 of the series did"


class MemoryType(Enum):
    """enum memory_type (include/linux/memremap.h): what kind of memory a pgmap stands for."""

    PRIVATE = "MEMORY_DEVICE_PRIVATE"
    FS_DAX = "MEMORY_DEVICE_FS_DAX"
    GENERIC = "MEMORY_DEVICE_GENERIC"
    PCI_P2PDMA = "MEMORY_DEVICE_PCI_P2PDMA"


@dataclass(eq=False)
class DevPagemap:
    """struct dev_pagemap.

    Attributes
    ----------
    address : int
        Kernel address of the structure, what page->pgmap holds.
    ranges : tuple of (int, int)
        First pfn and number of pages of each range.
    vmemmap_shift : int
        Order of the compound pages, see :meth:`workbench.series.Tree.vmemmap_shift`.
    altmap : Altmap, optional
    type : MemoryType
    ops : frozenset of str
        Which of ``page_free``, ``migrate_to_ram``, ``kill`` and ``cleanup`` the driver brought; only
        whether they are there is looked at.
    owner : int, optional
        Address that says whose private memory it is.
    has_ref : bool
        The driver brought its own reference count (5.10 to 5.16).
    nr_range : int
        Ranges in use; memremap_pages() counts them up one by one.
    """

    address: int
    ranges: tuple[tuple[int, int], ...]
    vmemmap_shift: int = 0
    altmap: Altmap | None = None
    type: MemoryType = MemoryType.GENERIC
    ops: frozenset[str] = frozenset()
    owner: int | None = None
    has_ref: bool = False
    nr_range: int = -1

    def __post_init__(self) -> None:
        if self.nr_range < 0:
            self.nr_range = len(self.ranges)

    def _facts(self) -> dict[str, str]:
        return {
            "address": f"{self.address:#x}",
            "type": self.type.value,
            "ranges": ", ".join(pfn_range(*each) for each in self.ranges[: self.nr_range]) or "none",
            "vmemmap_shift": str(self.vmemmap_shift),
            "altmap": f"{self.altmap.reserve} + {number(self.altmap.free)} pages" if self.altmap else "none",
        }

    def __repr__(self) -> str:
        return "DevPagemap " + ", ".join(f"{name} {value}" for name, value in self._facts().items())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(n)}</th><td>{escape(v)}</td></tr>" for n, v in self._facts().items())
        return f"<table><caption>DevPagemap</caption>{rows}</table>"


def pfn_first(pgmap: DevPagemap, range_id: int) -> int:
    """The first pfn of a range that the device can use.

    Kernel: mm/memremap.c, ``pfn_first()``.
    """
    offset = vmem_altmap_offset(pgmap.altmap) if range_id == 0 else 0
    return pgmap.ranges[range_id][0] + offset


def pfn_end(pgmap: DevPagemap, range_id: int) -> int:
    """The pfn after a range's last one.

    Kernel: mm/memremap.c, ``pfn_end()``.
    """
    start, nr_pages = pgmap.ranges[range_id]
    return start + nr_pages


def pfn_len(array: PageArray, pgmap: DevPagemap, range_id: int) -> int:
    """References a range takes on its pgmap: its compound pages; before patch 4 its pages.

    Kernel: mm/memremap.c, ``pfn_len()``, patch 4.
    """
    pfns = pfn_end(pgmap, range_id) - pfn_first(pgmap, range_id)
    return pfns >> pgmap.vmemmap_shift if array.kernel.tree.has(4) else pfns


def pagemap_range(array: PageArray, pgmap: DevPagemap, range_id: int, nid: int = 0) -> int:
    """Add and initialise the struct pages of one range.

    Kernel: mm/memremap.c, ``pagemap_range()``: add_pages, move_pfn_range_to_zone() (an altmap's
    storage), memmap_init_zone_device().

    Returns
    -------
    int
        Pages reported by the kernel's log line "memmap_init_zone_device initialised N pages".

    Raises
    ------
    WorkbenchError
        EINVAL: an altmap with a second range, one that does not begin with the range or is larger, or a
        range of no whole subsections; ENOMEM: another pgmap has the range's first or last page.  Nothing
        changes.  Without errno: what the workbench refuses (a shift, a node, a range without a usable
        page), changing nothing, or the page fault of :meth:`PageArray.init`.
    """
    start, nr_pages = pgmap.ranges[range_id]
    _require_valid(pgmap, range_id)
    array.require_node(nid)
    if array.exists(start)[0] or array.exists(start + nr_pages - 1)[0]:
        raise WorkbenchError(
            f"another pgmap has the first or last page of {pfn_range(start, nr_pages)}. Unbind that device first.",
            errno=errno.ENOMEM,
        )
    array.add_pages(start, nr_pages)
    if pgmap.altmap:
        storage = pgmap.altmap.base_pfn + pgmap.altmap.reserve
        array.init(InitCall(storage, storage + pgmap.altmap.free, nid))
    return array.init(init_call(pgmap, range_id, nid))


def _require_valid(pgmap: DevPagemap, range_id: int) -> None:
    """What pagemap_range() and __add_pages() check before they change anything, and what we do."""
    start, nr_pages = pgmap.ranges[range_id]
    where, altmap = pfn_range(start, nr_pages), pgmap.altmap
    if altmap and range_id > 0:
        raise WorkbenchError("a pgmap with an altmap has one range. Use map=mem for several ranges.", errno.EINVAL)
    if altmap and (altmap.base_pfn != start or vmem_altmap_offset(altmap) > nr_pages):
        raise WorkbenchError(
            f"an altmap from pfn {altmap.base_pfn:#x} of {vmem_altmap_offset(altmap)} pages does not lie at the start "
            f"of {where}. Begin it at pfn {start:#x} and make it no larger than the range.",
            errno.EINVAL,
        )
    if not 0 <= pgmap.vmemmap_shift <= _MAX_SHIFT:
        raise WorkbenchError(
            f"vmemmap_shift={pgmap.vmemmap_shift}: the kernel shifts an int, so it is 0 to {_MAX_SHIFT}. "
            "Use 9 for 2 MiB or 18 for 1 GiB."
        )
    if pfn_first(pgmap, range_id) >= pfn_end(pgmap, range_id):
        raise WorkbenchError(f"the altmap leaves no page of {where} to the device. Make the range larger.")


def init_call(pgmap: DevPagemap, range_id: int = 0, nid: int = 0) -> InitCall:
    """The memmap_init_zone_device() call of one range."""
    return InitCall(
        pfn_first(pgmap, range_id),
        pfn_end(pgmap, range_id),
        nid,
        pgmap.address,
        pgmap.vmemmap_shift,
        pgmap.altmap is not None,
    )


@jit
def put_each(vm, first, end, step, debug_vm, ev):
    """Drop one reference of the head of every ``step``-th row; see :func:`put_pages`.

    Returns
    -------
    int64
        Pages whose count reached zero; with ``debug_vm`` (CONFIG_DEBUG_VM) -1 - i where the count that row i
        leads to is zero already.
    """
    after_patch_4 = (vm.switches & Switch.P4) != 0
    freed = 0
    for i in range(first, end, step):
        head = load(vm, i, COMPOUND_HEAD, ev)
        page = np.int64((head - _HEAD_BIT - vm.address) >> _LINE_SHIFT) if head & _HEAD_BIT else np.int64(i)
        if debug_vm and load(vm, page, COUNTS, ev) >> REFCOUNT_SHIFT == 0:
            return -1 - i
        if page_ref_sub_return(vm, page, Site.put_page_testzero, ev) == 0:
            freed += 1
        pfn = vm.start_pfn + i
        if (pfn % (_RESCHED_PFNS * step) != 0) if after_patch_4 else (pfn % _RESCHED_PFNS == 0):
            count(ev, Counter.COND_RESCHED)
    return freed


@jit
def put_pages(vm, first, end, vmemmap_shift, ev):
    """Drop one reference of each page (of each head, after patch 4) of rows ``first`` to ``end``.

    The walk offers to reschedule at each pfn that is a multiple of 1024; patch 4 turned the test
    round, so that it offers at nearly every step.

    Kernel: mm/memremap.c, ``memunmap_pages()``, ``for_each_device_pfn()`` and ``pfn_next()``, 5.10 to
    5.17; include/linux/mm.h, ``put_page()``.

    Returns
    -------
    int64
        Pages whose count reached zero: each gives a reference of the pgmap back.
    """
    return put_each(vm, first, end, pfns_per_compound(vm, vmemmap_shift), False, ev)


def drop_references(array: PageArray, pgmap: DevPagemap, range_id: int = 0, events: Events | None = None) -> int:
    """The put_page() walk of memunmap_pages() over one range; see :func:`put_pages`.

    Raises
    ------
    WorkbenchError
        The tree's memunmap_pages() has no such walk (6.1 and later return the references in bulk), a page
        of the range became a tail of a head that is gone, or ``events`` are for another number of pages.
    """
    if not array.kernel.tree.puts_pages_at_teardown:
        raise WorkbenchError(
            f"memunmap_pages() of {array.kernel.tree.base} drops the pgmap's references in bulk and puts no page. "
            "Use a tree of 5.17 or before."
        )
    if events is not None:
        array.require_events(events)
    start, end = pfn_first(pgmap, range_id), pfn_end(pgmap, range_id)
    return _drop(array, pgmap, start, end, events)


def _drop(array: PageArray, pgmap: DevPagemap, start: int, end: int, events: Events | None = None) -> int:
    """The put_page() walk over pfns ``start`` to ``end`` of one range, ``start`` a step of the walk."""
    vm = array.writable(start, end - start)
    rows = slice(start - array.start_pfn, end - array.start_pfn, pfns_per_compound(vm, pgmap.vmemmap_shift))
    if array.kernel.tree.has(4):
        # A compound that ran over its range may have made tails of these pages: their head's count is put.
        words = vm.pages[rows, COMPOUND_HEAD]
        for word in np.unique(words[words & _HEAD_BIT != 0]):
            array.writable(array.kernel.abi.pfn_of(int(word) - 1), 1)
    return put_pages(vm, rows.start, rows.stop, pgmap.vmemmap_shift, events)


class PgmapArray(NamedTuple):
    """pgmap_array, the table that leads from a pfn to its pgmap, for jitted kernels.

    Slots number the pgmaps.  The table is made anew when a pgmap comes or goes; ``refs`` and ``live`` are
    shared by all tables that name the slot.

    Attributes
    ----------
    first_pfn, last_pfn : int64[n]
        Ranges in ascending order, the last pfn included.
    slot : int64[n]
        The pgmap of each range.
    range0_first, range0_last : int64[slots]
        First range of each pgmap: all that the cache of get_dev_pagemap() looks at.
    refs : int64[slots]
        References of each pgmap: one a head, one a lookup that was not given back.
    live : uint8[slots]
        0 from the moment a teardown has begun: no lookup gets a reference any more.
    """

    first_pfn: np.ndarray
    last_pfn: np.ndarray
    slot: np.ndarray
    range0_first: np.ndarray
    range0_last: np.ndarray
    refs: np.ndarray
    live: np.ndarray


@jit
def put_dev_pagemap(pgmaps, slot):
    """Give a reference of a pgmap back; slot -1 (no pgmap) is allowed, as NULL is.

    Kernel: include/linux/memremap.h, ``put_dev_pagemap()``.
    """
    if slot >= 0:
        pgmaps.refs[slot] -= 1


@jit
def range_with(pgmaps, pfn):
    """Row of the table whose range holds ``pfn``, -1 where none does."""
    low, high = 0, len(pgmaps.first_pfn)
    while low < high:
        middle = (low + high) // 2
        if pgmaps.first_pfn[middle] <= pfn:
            low = middle + 1
        else:
            high = middle
    return low - 1 if low and pfn <= pgmaps.last_pfn[low - 1] else -1


@jit
def get_dev_pagemap(pgmaps, pfn, cached):
    """The pgmap of ``pfn``, with a reference.

    A caller passes the slot it got last, and with it the reference it holds: where ``pfn`` lies in that
    pgmap's first range nothing is counted.  Otherwise that reference is given back, the table searched and
    a new one taken, in the second range of a pgmap each time.

    Kernel: mm/memremap.c, ``get_dev_pagemap()``, 5.10 to 6.12.

    Parameters
    ----------
    pgmaps : PgmapArray
    pfn : int64
    cached : int64
        A slot, or -1.

    Returns
    -------
    int64
        The slot; -1 where no pgmap has the pfn, or the one that has it is being torn down.
    """
    if cached >= 0:
        if pgmaps.range0_first[cached] <= pfn <= pgmaps.range0_last[cached]:
            return cached
        put_dev_pagemap(pgmaps, cached)
    at = range_with(pgmaps, pfn)
    if at < 0:
        return -1
    slot = pgmaps.slot[at]
    if pgmaps.live[slot] == 0:
        return -1
    pgmaps.refs[slot] += 1
    return slot


def pgmap_pfn_valid(pgmap: DevPagemap, pfn: int) -> bool:
    """Whether ``pfn`` is one that the device can use: in a range, and not in an altmap.

    Kernel: mm/memremap.c, ``pgmap_pfn_valid()``, 5.10 to 6.12.
    """
    for range_id, (start, nr_pages) in enumerate(pgmap.ranges[: pgmap.nr_range]):
        if start <= pfn < start + nr_pages:
            return pfn >= pfn_first(pgmap, range_id)
    return False


@dataclass(eq=False)
class _Mapped:
    """What the kernel keeps of a pgmap that has its pages."""

    pgmap: DevPagemap
    slot: int
    ranges: int = 0
    altmap_blocks: int = 0
    held: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))


class ZoneDevice:
    """ZONE_DEVICE of a machine: the pgmaps it has, and their struct pages.

    Parameters
    ----------
    array : PageArray
        All struct pages of the machine.
    iomem : Resource
        What lies where; memory that the page allocator has is refused.
    new_address : callable
        Gives a kernel address for a new pgmap.
    max_pfn : int, optional
        The pfn after the last that memory can be added at; default the end of ``array``.
    pfn_next_by_one : bool
        The mistake of version 3 of the series: compound pages are initialised, and teardown still puts each
        page.  Ends in the kernel's BUG.

    Attributes
    ----------
    warnings : list of str
        What WARN_ONCE said.
    hazards : list of str
        What the kernel does not check and what it cost: pages of one device overwritten by another's compound.
    num_poisoned_pages : int
        Pages that memory failure counted; those whose struct pages go are not counted any more.
    initialised : list of int
        The pages of each "memmap_init_zone_device initialised N pages" of the log.
    """

    def __init__(
        self,
        array: PageArray,
        iomem: Resource,
        new_address: Callable[[], int],
        *,
        max_pfn: int | None = None,
        pfn_next_by_one: bool = False,
    ) -> None:
        self.array, self.iomem, self.new_address = array, iomem, new_address
        self.max_pfn = array.end_pfn if max_pfn is None else max_pfn
        self.pfn_next_by_one = pfn_next_by_one
        self.warnings: list[str] = []
        self.hazards: list[str] = []
        self.initialised: list[int] = []
        self.num_poisoned_pages = 0
        self._mapped: dict[int, _Mapped] = {}
        self._free_slots: list[int] = []
        self._refs = np.zeros(0, np.int64)
        self._live = np.zeros(0, np.uint8)
        self._index()

    # lookups

    @property
    def pgmap_array(self) -> PgmapArray:
        """The table of the pgmaps; take it anew for each operation."""
        return self._table

    @property
    def pgmaps(self) -> tuple[DevPagemap, ...]:
        """The pgmaps that have pages, in the order they came."""
        return tuple(mapped.pgmap for mapped in self._mapped.values())

    def at_slot(self, slot: int) -> DevPagemap:
        """The pgmap with that number in :attr:`pgmap_array`."""
        return next(mapped.pgmap for mapped in self._mapped.values() if mapped.slot == slot)

    def slot(self, pgmap: DevPagemap) -> int:
        """The number of ``pgmap`` in :attr:`pgmap_array`, -1 where it has no pages."""
        mapped = self._mapped.get(pgmap.address)
        return -1 if mapped is None else mapped.slot

    def refs(self, pgmap: DevPagemap) -> int:
        """References of ``pgmap``: one a head while it is in use, one a lookup; 0 where it has no pages."""
        slot = self.slot(pgmap)
        return 0 if slot < 0 else int(self._refs[slot])

    def pgmap_of(self, pfn: int) -> DevPagemap | None:
        """The pgmap that has ``pfn``, also one that is being torn down; takes no reference."""
        for mapped in self._mapped.values():
            if any(start <= pfn < start + nr_pages for start, nr_pages in mapped.pgmap.ranges[: mapped.ranges]):
                return mapped.pgmap
        return None

    def require_vmemmap(self, pfn: int) -> None:
        """Die as a kernel that touches a struct page which is gone: a page held over the end of its device.

        Raises
        ------
        KernelCrash
            No struct page exists at ``pfn``; names the address, of the word that tells the compound's head.
        """
        if not self.array.exists(pfn)[0]:
            address = self.array.kernel.abi.struct_page(pfn) + 8 * int(COMPOUND_HEAD)
            raise KernelCrash(
                f"BUG: unable to handle page fault for address: {address:016x}: the struct page of pfn {pfn:#x} went "
                "with its device while the page was held. Drop what holds pages before the device is unbound."
            )

    # bringing up

    def memremap_pages(self, pgmap: DevPagemap, nid: int = 0) -> int:
        """Give the ranges of ``pgmap`` their struct pages.

        Kernel: mm/memremap.c, ``memremap_pages()`` and ``pagemap_range()``, 5.10 to 6.12.

        Returns
        -------
        int
            Physical address in bytes of the first range.

        Raises
        ------
        WorkbenchError
            EINVAL: no range, a driver without what its type needs, an altmap out of place or with a second
            range, addresses beyond those memory can be added at, no whole subsections.  ENOMEM: another pgmap
            has the first or last page of a range.  ENXIO: the page allocator has a part of it.  EEXIST: struct
            pages exist in the middle.  Ranges done before are undone.
        KernelCrash
            The last compound of a range runs over the end of the vmemmap; ``changed`` says how far it came,
            what it wrote over on the way, and that the pages stay.
        """
        self._check_type(pgmap)
        if pgmap.address in self._mapped:
            raise WorkbenchError(f"the pgmap at {pgmap.address:#x} has its pages already. Unmap it first.")
        nr_range, altmap = pgmap.nr_range, pgmap.altmap
        mapped = self._mapped[pgmap.address] = _Mapped(pgmap, self._new_slot())
        pgmap.nr_range = 0
        try:
            for range_id in range(nr_range):
                self._pagemap_range(mapped, range_id, nid)
                pgmap.nr_range += 1
        except KernelCrash:
            pgmap.nr_range = nr_range
            raise
        except WorkbenchError:
            self.memunmap_pages(pgmap)
            pgmap.nr_range, pgmap.altmap = nr_range, altmap
            raise
        return pgmap.ranges[0][0] << PAGE_SHIFT

    def _check_type(self, pgmap: DevPagemap) -> None:
        """What memremap_pages() checks before it does anything."""
        lacks: str | None = None
        base = self.array.kernel.tree.base
        teardown = {"kill", "cleanup"}
        if not pgmap.nr_range:
            lacks = "nr_range is 0: a pgmap has at least one range"
        elif pgmap.type is MemoryType.PRIVATE and not {"migrate_to_ram", "page_free"} <= pgmap.ops:
            lacks = "private memory needs ops migrate_to_ram and page_free"
        elif pgmap.type is MemoryType.PRIVATE and pgmap.owner is None:
            lacks = "private memory needs an owner"
        elif base in _DRIVERS_REF and pgmap.has_ref and not teardown <= pgmap.ops:
            lacks = "a driver that brings its reference count brings ops kill and cleanup too"
        elif base in _DRIVERS_REF and not pgmap.has_ref and teardown & pgmap.ops:
            lacks = "ops kill and cleanup need the driver's own reference count"
        elif base not in _DRIVERS_REF and (pgmap.has_ref or teardown & pgmap.ops):
            raise WorkbenchError(f"a pgmap of {base} has its own reference count and no ops kill and cleanup.")
        if lacks:
            raise WorkbenchError(f"memremap_pages(): {lacks}. Complete the pgmap.", errno.EINVAL)

    def _pagemap_range(self, mapped: _Mapped, range_id: int, nid: int) -> None:
        pgmap = mapped.pgmap
        start, nr_pages = pgmap.ranges[range_id]
        where = pfn_range(start, nr_pages)
        if pgmap.altmap and range_id > 0:
            raise WorkbenchError("a pgmap with an altmap has one range. Use map=mem for several ranges.", errno.EINVAL)
        for pfn in (start, start + nr_pages - 1):
            other = self.pgmap_of(pfn)
            if other is not None:
                raise WorkbenchError(
                    f"conflicting mapping: the pgmap at {other.address:#x} has pfn {pfn:#x} of {where}. "
                    "Unbind that device first.",
                    errno.ENOMEM,
                )
        ram = region_intersects(self.iomem, start << PAGE_SHIFT, nr_pages << PAGE_SHIFT)
        if ram is not Intersection.DISJOINT:
            raise WorkbenchError(
                f"memremap_pages() attempted on {'mixed' if ram is Intersection.MIXED else 'ram'} region: the page "
                f"allocator has memory of {where}. Use a range of device memory alone.",
                errno.ENXIO,
            )
        if start + nr_pages > self.max_pfn:
            raise WorkbenchError(
                f"{where} ends beyond pfn {self.max_pfn - 1:#x}, the last at which memory can be added.", errno.EINVAL
            )
        altmap = self._altmap_after(pgmap)
        try:
            self.initialised.append(pagemap_range(self.array, pgmap, range_id, nid))
        except WorkbenchError as error:
            if error.errno is None and error.changed:  # the page fault of a compound that ran over its range
                mapped.ranges += 1
                self._index()
                overwritten = [each for done in range(range_id + 1) for each in self._overwritten(pgmap, done)]
                raise KernelCrash(str(error), changed=(*error.changed, *overwritten)) from error
            raise
        if altmap and pgmap.altmap:
            pgmap.altmap, mapped.altmap_blocks = altmap, altmap.alloc
        self.hazards += self._overwritten(pgmap, range_id)
        self._refs[mapped.slot] += pfn_len(self.array, pgmap, range_id)
        mapped.ranges += 1
        self._index()

    def _overwritten(self, pgmap: DevPagemap, range_id: int) -> list[str]:
        """Which pages of other pgmaps became tails of the last compound of a range."""
        end = pfn_end(pgmap, range_id)
        ran_to, found = self.array.written_end(init_call(pgmap, range_id)), []
        for other in self.pgmaps:
            for start, nr_pages in other.ranges if other is not pgmap else ():
                low, high = max(start, end), min(start + nr_pages, ran_to)
                if low < high:
                    found.append(
                        f"{pfn_range(low, high - low)} of the pgmap at {other.address:#x} overwritten by the compound "
                        f"that begins in {pfn_range(*pgmap.ranges[range_id])}"
                    )
        return found

    def _altmap_after(self, pgmap: DevPagemap) -> Altmap | None:
        """The altmap once the vmemmap of its range is taken from it; each time it begins with nothing taken."""
        if pgmap.altmap is None:
            return None
        return populate(pgmap.ranges, altmap=replace(pgmap.altmap, alloc=0)).altmap

    # tearing down

    def memunmap_pages(self, pgmap: DevPagemap, events: Events | None = None) -> bool:
        """Take the struct pages of ``pgmap`` away, as far as nothing holds them.

        Up to 5.17 each head loses the reference that its initialisation gave it, and the teardown waits for
        those that are held.  6.1 and later drop the pgmap's references in bulk; a page that is held does not
        count, and whoever drops it later finds no struct page (:meth:`require_vmemmap`).

        Kernel: mm/memremap.c, ``memunmap_pages()``, 5.10 to 6.12.

        Parameters
        ----------
        pgmap : DevPagemap
        events : Events, optional
            Told of each put; then every head is visited, also those of struct pages nobody has read or
            written yet.

        Returns
        -------
        bool
            True when it is over; False where it waits: see :meth:`teardown_continue`.

        Raises
        ------
        WorkbenchError
            The pgmap has no pages, or its teardown has begun.
        KernelCrash
            With ``pfn_next_by_one``: the second put of the first compound.
        """
        mapped = self._mapped.get(pgmap.address)
        if mapped is None or not self._live[mapped.slot]:
            raise WorkbenchError(f"the pgmap at {pgmap.address:#x} has no pages, or is being unmapped already.")
        self._live[mapped.slot] = 0
        walks = self.array.kernel.tree.puts_pages_at_teardown
        unread: list[tuple[int, int]] = []
        for range_id in range(mapped.ranges):
            self._refs[mapped.slot] -= pfn_len(self.array, pgmap, range_id)
            if walks:
                self._refs[mapped.slot] += self._put_range(mapped, range_id, unread, events)
        if self._refs[mapped.slot]:  # the struct pages stay to be seen: those nobody has read yet are put too
            for low, high in unread:
                _drop(self.array, pgmap, low, high)
        return self.teardown_continue(pgmap)

    def _put_range(self, mapped: _Mapped, range_id: int, unread: list[tuple[int, int]], events: Events | None) -> int:
        """Put the heads of a range but those in struct pages nobody has read, which are added to ``unread``.

        Returns
        -------
        int
            References of the pgmap that were not given back.
        """
        pgmap = mapped.pgmap
        first, end = pfn_first(pgmap, range_id), pfn_end(pgmap, range_id)
        step = 1 << pgmap.vmemmap_shift if self.array.kernel.tree.has(4) else 1
        if self.pfn_next_by_one and step > 1:
            self._put_each_page(first, end)
        left = 0
        for low, high, touched in self._pieces(init_call(pgmap, range_id), first, end, step):
            if not touched and events is None:
                unread.append((low, high))
                continue
            self._require_heads(low, high, step)
            _drop(self.array, pgmap, low, high, events)
            words = self.array.view(low, high - low)[::step]
            still = (words[:, COUNTS] >> REFCOUNT_SHIFT).astype(np.int32) > 0
            mapped.held = np.concatenate((mapped.held, low + np.flatnonzero(still) * step))
            # What another's compound made a tail never gives its reference back.
            left += int(still.sum()) + int(np.count_nonzero(words[:, COMPOUND_HEAD] & _HEAD_BIT))
        return left

    def _require_heads(self, first: int, end: int, step: int) -> None:
        """Die where a page of a walk is a tail, by another's overrun, and the head has gone with that one."""
        words = self.array.view(first, end - first)[::step, COMPOUND_HEAD]
        for word in np.unique(words[words & _HEAD_BIT != 0]):
            self.require_vmemmap(self.array.kernel.abi.pfn_of(int(word) - 1))

    def _pieces(self, call: InitCall, first: int, end: int, step: int) -> Iterator[tuple[int, int, bool]]:
        """A range cut where sections that were touched meet untouched ones: first head, end, whether touched."""
        untouched = self.array.untouched(call)
        section = first // PAGES_PER_SECTION
        low = first
        while low < end:
            alone = bool(untouched[low // PAGES_PER_SECTION - section])
            high = low
            while high < end and bool(untouched[high // PAGES_PER_SECTION - section]) == alone:
                next_section = (high // PAGES_PER_SECTION + 1) * PAGES_PER_SECTION
                high = min(first + -(-(next_section - first) // step) * step, end)
            yield low, high, not alone
            low = high

    def _put_each_page(self, first: int, end: int) -> None:
        """Put each page of a range, heads and tails alike."""
        vm = self.array.writable(first, end - first)
        row = put_each(vm, first - self.array.start_pfn, end - self.array.start_pfn, 1, True, None)
        if row < 0:
            pfn = self.array.start_pfn - 1 - int(row)
            raise KernelCrash(
                f"kernel BUG: VM_BUG_ON_PAGE(page_ref_count(page) == 0) in put_page_testzero(), at pfn {pfn:#x}: "
                f"{_STEP_1}, and the head's count is zero. Let pfn_next() step over whole compounds.",
                changed=(f"{pfn_range(first, pfn - first)}: references dropped",),
            )

    def teardown_continue(self, pgmap: DevPagemap) -> bool:
        """Let a teardown that waits go on: it ends once nothing refers to the pgmap any more.

        Returns
        -------
        bool
            True when it is over: the struct pages are gone.  False where pages are still held.

        Raises
        ------
        WorkbenchError
            No teardown of the pgmap has begun.
        """
        mapped = self._mapped.get(pgmap.address)
        if mapped is None or self._live[mapped.slot]:
            raise WorkbenchError(f"nothing waits for the pgmap at {pgmap.address:#x}. Unmap it first.")
        if len(mapped.held):
            words = np.array([int(self.array.view(int(pfn), 1)[0, COUNTS]) for pfn in mapped.held], np.uint64)
            still = (words >> REFCOUNT_SHIFT).astype(np.int32) > 0
            self._refs[mapped.slot] -= len(still) - int(still.sum())
            mapped.held = mapped.held[still]
        if self._refs[mapped.slot]:
            return False
        for start, nr_pages in pgmap.ranges[: mapped.ranges]:
            if self.num_poisoned_pages and self.array.kernel.tree.base != "6.12":  # clear_hwpoisoned_pages()
                self.num_poisoned_pages -= self.array.count_flag(start, nr_pages, "hwpoison")
            self.array.remove_pages(start, nr_pages)
        del self._mapped[pgmap.address]
        self._free_slots.append(mapped.slot)
        if pgmap.altmap:
            pgmap.altmap = replace(pgmap.altmap, alloc=pgmap.altmap.alloc - mapped.altmap_blocks)
            if pgmap.altmap.alloc:
                self.warnings.append("failed to free all reserved pages")
        self._index()
        return True

    def held_pages(self, pgmap: DevPagemap) -> list[int]:
        """Pfns of the heads that a waiting teardown waits for; empty where none waits."""
        mapped = self._mapped.get(pgmap.address)
        return [] if mapped is None else mapped.held.tolist()

    # the table

    def _new_slot(self) -> int:
        if not self._free_slots:
            grown = max(8, 2 * len(self._refs))
            self._free_slots = list(range(grown - 1, len(self._refs) - 1, -1))
            self._refs = np.concatenate((self._refs, np.zeros(grown - len(self._refs), np.int64)))
            self._live = np.concatenate((self._live, np.zeros(grown - len(self._live), np.uint8)))
        slot = self._free_slots.pop()
        self._refs[slot], self._live[slot] = 0, 1
        return slot

    def _index(self) -> None:
        rows = sorted(
            (start, start + nr_pages - 1, mapped.slot)
            for mapped in self._mapped.values()
            for start, nr_pages in mapped.pgmap.ranges[: mapped.ranges]
        )
        table = np.array(rows, np.int64).reshape(len(rows), 3)
        range0 = np.full((2, len(self._refs)), -1, np.int64)
        for mapped in self._mapped.values():
            start, nr_pages = mapped.pgmap.ranges[0] if mapped.pgmap.ranges else (0, 0)
            range0[:, mapped.slot] = start, start + nr_pages - 1
        first, last, slot = (np.ascontiguousarray(table[:, column]) for column in range(3))
        self._table = PgmapArray(first, last, slot, range0[0].copy(), range0[1].copy(), self._refs, self._live)

    def __repr__(self) -> str:
        lines = [f"ZoneDevice: {len(self._mapped)} pgmaps"]
        for mapped in self._mapped.values():
            state = "in use" if self._live[mapped.slot] else "waits to go"
            lines.append(f"  {mapped.pgmap!r}; {number(int(self._refs[mapped.slot]))} references, {state}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"
