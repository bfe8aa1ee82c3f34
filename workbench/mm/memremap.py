# SPDX-License-Identifier: GPL-2.0-only
"""mm/memremap.c: a device's memory gets its struct pages, and gives them back.

Only the path to the page array stands here: adding the pages, initialising them, taking one
reference a head, and the walk that drops those references at teardown.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

import numpy as np

from workbench.errors import WorkbenchError
from workbench.mm._jit import jit
from workbench.mm.events import Counter, Events, Site, count
from workbench.mm.memmap import COMPOUND_HEAD, load, page_ref_sub_return
from workbench.mm.page_alloc import pfns_per_compound
from workbench.mm.page_array import InitCall, PageArray
from workbench.mm.sparse_vmemmap import Altmap, vmem_altmap_offset
from workbench.series import Switch
from workbench.text import pfn_range

_HEAD_BIT = np.uint64(1)
_LINE_SHIFT = np.uint64(6)
_RESCHED_PFNS = 1024
_MAX_SHIFT = 30


@dataclass(frozen=True)
class DevPagemap:
    """struct dev_pagemap, as far as the page array depends on it.

    Attributes
    ----------
    address : int
        Kernel address of the structure, what page->pgmap holds.
    ranges : tuple of (int, int)
        First pfn and number of pages of each range.
    vmemmap_shift : int
        Order of the compound pages, see :meth:`workbench.series.Tree.vmemmap_shift`.
    altmap : Altmap, optional
    """

    address: int
    ranges: tuple[tuple[int, int], ...]
    vmemmap_shift: int = 0
    altmap: Altmap | None = None


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
    after_patch_4 = (vm.switches & Switch.P4) != 0
    step = pfns_per_compound(vm, vmemmap_shift)
    freed = 0
    for i in range(first, end, step):
        head = load(vm, i, COMPOUND_HEAD, ev)
        page = np.int64((head - _HEAD_BIT - vm.address) >> _LINE_SHIFT) if head & _HEAD_BIT else np.int64(i)
        if page_ref_sub_return(vm, page, Site.put_page_testzero, ev) == 0:
            freed += 1
        pfn = vm.start_pfn + i
        if (pfn % (_RESCHED_PFNS * step) != 0) if after_patch_4 else (pfn % _RESCHED_PFNS == 0):
            count(ev, Counter.COND_RESCHED)
    return freed


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
    vm = array.writable(start, end - start)
    rows = slice(start - array.start_pfn, end - array.start_pfn, pfns_per_compound(vm, pgmap.vmemmap_shift))
    if array.kernel.tree.has(4):
        # A compound that ran over its range may have made tails of these pages: their head's count is put.
        words = vm.pages[rows, COMPOUND_HEAD]
        for word in np.unique(words[words & _HEAD_BIT != 0]):
            array.writable(array.kernel.abi.pfn_of(int(word) - 1), 1)
    return put_pages(vm, rows.start, rows.stop, pgmap.vmemmap_shift, events)
