# SPDX-License-Identifier: GPL-2.0-only
"""mm/page_alloc.c (mm/mm_init.c in 6.12): how struct pages of ZONE_DEVICE come to be.

Each kernel does the assignments of the C function it is named after, in the C order.  A patch is
asked for where the patch changed the code.  Rows, not pfns, address struct pages; ``zone`` and
``nid`` are uint64, ``order`` and ``vmemmap_shift`` int64.

``lo`` and ``hi`` bound the rows an init call may write: a section can be filled on its own, by the
call that describes it, without touching its neighbours.  An unbounded call is the kernel's.
"""

from __future__ import annotations

import numpy as np

from workbench.abi import constants
from workbench.mm._jit import jit
from workbench.mm.atomics import cmpxchg_u64
from workbench.mm.events import Counter, Site, count
from workbench.mm.memmap import (
    COMPOUND_HEAD,
    COUNTS,
    FLAGS,
    HIGH_HALF,
    INDEX,
    LOW_HALF,
    LRU_NEXT,
    LRU_PREV,
    MAPPING,
    PGMAP,
    PRIVATE,
    REFCOUNT_SHIFT,
    TAIL_DATA,
    ZONE_DEVICE_DATA,
    Memmap,
    load,
    store,
    store_bits,
    struct_page,
)
from workbench.mm.nontemporal import sfence, stream
from workbench.series import Switch

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_TAIL_MAPPING = np.uint64(constants.TAIL_MAPPING)
_DTOR = np.uint64(constants.COMPOUND_PAGE_DTOR)
_MINUS_1_HIGH = HIGH_HALF
_BYTE_0, _BYTE_1 = np.uint64(0xFF), np.uint64(0xFF00)
_MIGRATETYPE = np.uint64(7)
_MIGRATE_MOVABLE = np.uint64(constants.MIGRATE_MOVABLE)
_PAGEBLOCK = constants.PAGEBLOCK_NR_PAGES
_BLOCK_BITS = constants.NR_PAGEBLOCK_BITS
_BLOCKS_PER_WORD = 64 // _BLOCK_BITS
_SECTION = constants.PAGES_PER_SECTION
_ROW_0 = np.int64(0)  # no literal, see memmap
_UNIQUE_TAIL_PAGES = 2 * constants.PAGE_SIZE // constants.MAX_STRUCT_PAGE_SIZE


@jit
def __init_single_page(vm, i, zone, nid, ev):
    """A struct page of its own: cleared, linked to zone and node, one reference, no mapping.

    Kernel: mm/page_alloc.c, ``__init_single_page()``, 5.10 to 6.1; mm/mm_init.c, 6.12.
    Cost: 14 stores to one cache line.
    """
    for word in range(7, -1, -1):
        store(vm, i, word, _ZERO, Site.mm_zero_struct_page, ev)
    store(vm, i, FLAGS, (zone << vm.zone_shift) | (nid << vm.node_shift), Site.set_page_links, ev)
    store_bits(vm, i, COUNTS, HIGH_HALF, _ONE << REFCOUNT_SHIFT, Site.init_page_count, ev)
    store_bits(vm, i, COUNTS, LOW_HALF, LOW_HALF, Site.page_mapcount_reset, ev)
    if vm.last_cpupid:
        store(vm, i, FLAGS, load(vm, i, FLAGS, ev) | vm.last_cpupid, Site.page_cpupid_reset_last, ev)
    lru = struct_page(vm, i) + np.uint64(8)
    store(vm, i, LRU_NEXT, lru, Site.INIT_LIST_HEAD, ev)
    store(vm, i, LRU_PREV, lru, Site.INIT_LIST_HEAD, ev)


@jit
def __SetPageReserved(vm, i, ev):
    """PG_reserved, not atomic: nobody else can see the page yet."""
    store(vm, i, FLAGS, load(vm, i, FLAGS, ev) | vm.reserved, Site.SetPageReserved, ev)


@jit
def set_pageblock_migratetype(vm, i, ev):
    """Mark the pageblock of row ``i`` MIGRATE_MOVABLE and offer to reschedule, at its first page only.

    Kernel: mm/page_alloc.c, ``set_pfnblock_flags_mask()``: a compare-and-exchange loop on the word
    that holds the four bits of sixteen pageblocks.
    """
    if (vm.start_pfn + i) % _PAGEBLOCK == 0:
        block = i // _PAGEBLOCK
        at = block // _BLOCKS_PER_WORD
        shift = np.uint64(block % _BLOCKS_PER_WORD * _BLOCK_BITS)
        address = np.int64(vm.pageblock_flags.ctypes.data + at * 8)
        word = vm.pageblock_flags[at]
        while True:
            count(ev, Counter.LOCKED)
            was = cmpxchg_u64(address, word, (word & ~(_MIGRATETYPE << shift)) | (_MIGRATE_MOVABLE << shift))
            if was == word:
                break
            word = was
        count(ev, Counter.MIGRATETYPE_WRITES)
        count(ev, Counter.COND_RESCHED)


@jit
def _set_pageblocks(vm, first, last):
    """The pageblock writes of rows ``first`` to ``last`` alone."""
    behind = (vm.start_pfn + first) % _PAGEBLOCK
    for i in range(first + (_PAGEBLOCK - behind if behind else 0), last, _PAGEBLOCK):
        set_pageblock_migratetype(vm, i, None)


@jit
def __init_zone_device_page(vm, i, zone_idx, nid, pgmap, ev):
    """A ZONE_DEVICE page: reserved, tied to its pgmap, not on any list.

    Kernel: mm/page_alloc.c, ``__init_zone_device_page()``, from patch 3 (5.17) on; mm/mm_init.c, 6.12.
    Cost: 17 stores to one cache line; one locked operation in 512 pages.
    """
    __init_single_page(vm, i, zone_idx, nid, ev)
    __SetPageReserved(vm, i, ev)
    store(vm, i, PGMAP, pgmap, Site.init_zone_device_page, ev)
    store(vm, i, ZONE_DEVICE_DATA, _ZERO, Site.init_zone_device_page, ev)
    set_pageblock_migratetype(vm, i, ev)


@jit
def __SetPageHead(vm, i, ev):
    """PG_head, not atomic."""
    store(vm, i, FLAGS, load(vm, i, FLAGS, ev) | vm.head, Site.SetPageHead, ev)


@jit
def prep_compound_tail(vm, head, tail_idx, ev):
    """Make row ``head + tail_idx`` a tail of ``head``.

    Kernel: mm/page_alloc.c, ``prep_compound_tail()``, patch 2; mm/internal.h, 6.12.  It clears private from
    6.1 on.
    """
    tail = head + tail_idx
    store(vm, tail, MAPPING, _TAIL_MAPPING, Site.prep_compound_tail, ev)
    store(vm, tail, COMPOUND_HEAD, struct_page(vm, head) | _ONE, Site.prep_compound_tail, ev)
    if vm.switches & Switch.TAIL_CLEARS_PRIVATE:
        store(vm, tail, PRIVATE, _ZERO, Site.prep_compound_tail, ev)


@jit
def _set_compound_order_and_counts(vm, head, order, site, ev):
    """What describes a compound page, kept in its first tails.

    The head has no room for it: tail 1 carries destructor, order, number of pages and mapcount, and
    the pin count lies in tail 2 up to 5.17, in tail 1 since.
    """
    tail = head + 1
    nr_pages = _ONE << np.uint64(order)
    if vm.order_in_flags:
        store(vm, tail, FLAGS, (load(vm, tail, FLAGS, ev) & ~_BYTE_0) | np.uint64(order), site, ev)
        store_bits(vm, tail, INDEX, LOW_HALF, nr_pages, site, ev)
        store_bits(vm, tail, TAIL_DATA, LOW_HALF, LOW_HALF, site, ev)
        store_bits(vm, tail, TAIL_DATA, HIGH_HALF, _MINUS_1_HIGH, site, ev)
        store_bits(vm, tail, MAPPING, LOW_HALF, _ZERO, site, ev)
        store_bits(vm, tail, MAPPING, HIGH_HALF, _ZERO, site, ev)
        if order > 1:
            deferred_list = struct_page(vm, head + 2) + np.uint64(16)
            store(vm, head + 2, TAIL_DATA, deferred_list, site, ev)
            store(vm, head + 2, MAPPING, deferred_list, site, ev)
        return
    store_bits(vm, tail, TAIL_DATA, _BYTE_0, _DTOR, site, ev)
    store_bits(vm, tail, TAIL_DATA, _BYTE_1, np.uint64(order) << np.uint64(8), site, ev)
    if vm.pincount_in_first_tail:
        store_bits(vm, tail, MAPPING, HIGH_HALF, nr_pages << np.uint64(32), site, ev)
        store_bits(vm, tail, TAIL_DATA, HIGH_HALF, _MINUS_1_HIGH, site, ev)
        store_bits(vm, tail, MAPPING, LOW_HALF, _ZERO, site, ev)
    else:
        store_bits(vm, tail, MAPPING, LOW_HALF, nr_pages, site, ev)
        store_bits(vm, tail, TAIL_DATA, HIGH_HALF, _MINUS_1_HIGH, site, ev)
        if order > 1:
            store_bits(vm, head + 2, TAIL_DATA, LOW_HALF, _ZERO, site, ev)


@jit
def prep_compound_head(vm, head, order, ev):
    """Write what describes the compound page into its first tails; PG_head is the caller's.

    Kernel: mm/page_alloc.c, ``prep_compound_head()``, patch 2; 6.12: mm/internal.h.
    """
    _set_compound_order_and_counts(vm, head, order, Site.prep_compound_head, ev)


@jit
def prep_compound_page(vm, head, order, ev):
    """Make 2**order rows from ``head`` one compound page, as the page allocator does.

    Kernel: mm/page_alloc.c, ``prep_compound_page()``.  Patch 2 splits it into the two helpers above
    and must not change a byte.  What makes a tail stands here twice, as it does before and after the patch.
    """
    __SetPageHead(vm, head, ev)
    for tail_idx in range(1, 1 << order):
        if vm.switches & Switch.ZEROES_TAIL_REFCOUNT:
            store_bits(vm, head + tail_idx, COUNTS, HIGH_HALF, _ZERO, Site.prep_compound_page, ev)
        if vm.switches & Switch.P2:
            prep_compound_tail(vm, head, tail_idx, ev)
        else:
            tail = head + tail_idx
            store(vm, tail, MAPPING, _TAIL_MAPPING, Site.prep_compound_page, ev)
            store(vm, tail, COMPOUND_HEAD, struct_page(vm, head) | _ONE, Site.prep_compound_page, ev)
            if vm.switches & Switch.TAIL_CLEARS_PRIVATE:
                store(vm, tail, PRIVATE, _ZERO, Site.prep_compound_page, ev)
    if vm.switches & Switch.P2:
        prep_compound_head(vm, head, order, ev)
    else:
        _set_compound_order_and_counts(vm, head, order, Site.prep_compound_page, ev)


@jit
def _init_tail(vm, head, i, zone_idx, nid, pgmap, ev):
    __init_zone_device_page(vm, i, zone_idx, nid, pgmap, ev)
    prep_compound_tail(vm, head, i - head, ev)
    store_bits(vm, i, COUNTS, HIGH_HALF, _ZERO, Site.set_page_count, ev)


@jit
def memmap_init_compound(vm, head, zone_idx, nid, pgmap, vmemmap_shift, nr_pages, lo, hi, ev):
    """Initialise the tails of the compound page at ``head``, then describe it in its first tails.

    The describing stores fall into tails 1 and 2, which initialising those tails would wipe: so it
    happens right after tail 2 (6.12: after tail 1), while both lines are in the cache.

    Kernel: mm/page_alloc.c, ``memmap_init_compound()``, patch 4; mm/mm_init.c, 6.12.
    """
    if lo <= head < hi:
        __SetPageHead(vm, head, ev)
    prepared_after = head + (1 if vm.switches & Switch.HEAD_AFTER_FIRST_TAIL else 2)
    for i in range(max(head + 1, lo), min(head + nr_pages, hi)):
        _init_tail(vm, head, i, zone_idx, nid, pgmap, ev)
        if i == prepared_after:
            prep_compound_head(vm, head, vmemmap_shift, ev)


@jit
def _at(vm, scratch, i):
    """A Memmap over a few scratch rows that stand for the rows from ``i`` on; none begins a pageblock."""
    return Memmap(
        scratch,
        vm.pageblock_flags,
        1,
        struct_page(vm, i),
        vm.zone_shift,
        vm.node_shift,
        vm.last_cpupid,
        vm.reserved,
        vm.head,
        vm.pincount_in_first_tail,
        vm.order_in_flags,
        vm.switches,
    )


@jit
def _compound_model(vm, head, zone_idx, nid, pgmap, vmemmap_shift):
    """Head and tails 1 to 3 of the compound page at row ``head``, made on scratch rows by the regular code.

    Every further tail has the bytes of tail 3; rows past the end of a smaller compound are zero.  Nothing else,
    pageblocks included, is touched.
    """
    scratch = np.empty((4, 8), np.uint64)  # np.zeros compiles twice as long
    for row in range(4):
        for word in range(8):
            scratch[row, word] = _ZERO
    rows = min(4, pfns_per_compound(vm, vmemmap_shift))
    model = _at(vm, scratch, head)
    __init_zone_device_page(model, _ROW_0, zone_idx, nid, pgmap, None)
    if rows > 1:
        memmap_init_compound(model, _ROW_0, zone_idx, nid, pgmap, vmemmap_shift, rows, _ROW_0, rows, None)
    return scratch


@jit
def alias_tails(vm, head, start, end, zone_idx, nid, pgmap, vmemmap_shift, lo, hi):
    """Let rows ``start`` to ``end`` read as the shared vmemmap page of their compound does.

    With vmemmap deduplication these struct pages have no memory of their own: their addresses are
    mapped to the page that holds tails 64 to 127, already initialised.  Nothing is stored in the
    kernel, so no event is noted.  Nothing is mapped behind the range, even where a compound would go on.

    Kernel: mm/sparse-vmemmap.c, ``vmemmap_populate_compound_pages()``, 5.19 and later.
    """
    if max(start, lo) < min(end, hi):
        model = _compound_model(vm, head, zone_idx, nid, pgmap, vmemmap_shift)
        for i in range(max(start, lo), min(end, hi)):
            for word in range(8):  # a row at once would compile three seconds of numba's own, for its error message
                vm.pages[i, word] = model[3, word]


@jit
def alias_sections(vm, start, end, step, zone_idx, nid, pgmap, vmemmap_shift, lo, hi):
    """Let sections that go on with a shared vmemmap page read as it does, even where a head lies in them.

    A section whose start is no multiple of the compound size from the range's start is mapped whole to the
    shared page before it.  With a range that starts off a section boundary this holds for all later sections:
    later heads and tails are stored to one physical page, and what is left there are tails of the last
    compound.  The kernel does not check for it.

    Kernel: mm/sparse-vmemmap.c, ``reuse_compound_section()`` and ``compound_section_tail_page()``, 5.19 and later.
    """
    first_chunk = -start % _SECTION
    if first_chunk % step and start + first_chunk < end:
        last_head = start + (end - 1 - start) // step * step
        shared = start + (first_chunk - 1) // step * step + _UNIQUE_TAIL_PAGES // 2
        alias_tails(vm, last_head, shared, end, zone_idx, nid, pgmap, vmemmap_shift, lo, hi)


@jit
def compound_nr_pages(vm, pfns_per_compound, altmap):
    """How many struct pages of a compound are initialised.

    All of them up to 5.18, with an altmap, and where no vmemmap page would be saved; else those of
    the two unique vmemmap pages.

    Kernel: mm/page_alloc.c, ``compound_nr_pages()``, 5.19 and later; mm/mm_init.c, 6.12 (6.1.192 also initialises
    all in an early section, where the boot memmap is used: the bytes are the same).
    """
    if vm.switches & Switch.COMPOUND_NR_PAGES and not altmap and pfns_per_compound > _UNIQUE_TAIL_PAGES:
        return _UNIQUE_TAIL_PAGES
    return pfns_per_compound


@jit
def pfns_per_compound(vm, vmemmap_shift):
    """pgmap_vmemmap_nr(): pages of a compound; 1 before patch 4, whatever the shift."""
    return 1 << vmemmap_shift if vm.switches & Switch.P4 else 1


@jit
def _init_head(vm, i, zone_idx, nid, pgmap, ev):
    if vm.switches & Switch.P3:
        __init_zone_device_page(vm, i, zone_idx, nid, pgmap, ev)
    else:
        __init_single_page(vm, i, zone_idx, nid, ev)
        __SetPageReserved(vm, i, ev)
        store(vm, i, PGMAP, pgmap, Site.memmap_init_zone_device, ev)
        store(vm, i, ZONE_DEVICE_DATA, _ZERO, Site.memmap_init_zone_device, ev)
        set_pageblock_migratetype(vm, i, ev)


@jit
def memmap_init_zone_device(vm, start, end, zone_idx, nid, pgmap, vmemmap_shift, altmap, lo, hi, ev):
    """Initialise rows ``start`` to ``end`` of a pgmap's range, those inside ``[lo, hi)``.

    ``start`` lies behind the altmap's storage (A3 initialised that).  As in the kernel nothing checks
    that the range is a whole number of compounds: the last one is initialised to its end.

    Kernel: mm/page_alloc.c, ``memmap_init_zone_device()``, before and after patches 3 and 4;
    mm/mm_init.c, 6.12.

    Returns
    -------
    int64
        Pages the kernel's log line reports: ``end - start``, whatever the compounds.
    """
    step = pfns_per_compound(vm, vmemmap_shift)
    if step == 1:
        for i in range(max(start, lo), min(end, hi)):
            _init_head(vm, i, zone_idx, nid, pgmap, ev)
        return end - start
    nr_pages = compound_nr_pages(vm, step, altmap)
    for head in range(start + max(lo - start, 0) // step * step, min(end, hi), step):
        if lo <= head < hi:
            _init_head(vm, head, zone_idx, nid, pgmap, ev)
        memmap_init_compound(vm, head, zone_idx, nid, pgmap, vmemmap_shift, nr_pages, lo, hi, ev)
        shared_end = min(head + step, end)
        alias_tails(vm, head, head + nr_pages, shared_end, zone_idx, nid, pgmap, vmemmap_shift, lo, hi)
    if nr_pages < step:
        alias_sections(vm, start, end, step, zone_idx, nid, pgmap, vmemmap_shift, lo, hi)
    return end - start


@jit
def memmap_init_range(vm, start, end, zone, nid, lo, hi, ev):
    """Initialise the rows that describe an altmap's storage: reserved, in the zone, in no pgmap.

    Kernel: mm/page_alloc.c, ``memmap_init_range()`` in the hotplug context for ZONE_DEVICE (5.10:
    ``memmap_init_zone()``; mm/mm_init.c, 6.12); pages of the altmap's ``reserve`` are not initialised at all.
    """
    for i in range(max(start, lo), min(end, hi)):
        __init_single_page(vm, i, zone, nid, ev)
        __SetPageReserved(vm, i, ev)
        set_pageblock_migratetype(vm, i, ev)


@jit
def _stream_row(vm, i, lines, scratch, row):
    stream(
        np.int64(vm.pages.ctypes.data + i * 64),
        np.int64(lines),
        scratch[row, 0],
        scratch[row, 1],
        scratch[row, 2],
        scratch[row, 3],
        scratch[row, 4],
        scratch[row, 5],
        scratch[row, 6],
        scratch[row, 7],
    )


@jit
def memmap_init_zone_device_nt(vm, start, end, zone_idx, nid, pgmap, vmemmap_shift, altmap, lo, hi):
    """:func:`memmap_init_zone_device` with non-temporal stores: the same bytes, several times the speed.

    The regular code makes four model rows (head, tails 1 to 3) that stay in the first-level cache;
    each row is then streamed to where it belongs, the third tail to all the others.  From one compound
    to the next nothing but addresses changes, so each word of the model grows by the same amount every
    time.  Locked operations, which wait for all streaming stores, come last.
    """
    step = pfns_per_compound(vm, vmemmap_shift)
    first_head = max(start, lo) if step == 1 else start + max(lo - start, 0) // step * step
    if first_head >= min(end, hi):
        return end - start
    model = _compound_model(vm, first_head, zone_idx, nid, pgmap, vmemmap_shift)
    if step == 1:
        _stream_row(vm, first_head, min(end, hi) - first_head, model, 0)
        sfence()
        _set_pageblocks(vm, first_head, min(end, hi))
        return end - start
    growth = _compound_model(vm, first_head + step, zone_idx, nid, pgmap, vmemmap_shift)
    for row in range(4):
        for word in range(8):
            growth[row, word] -= model[row, word]
    nr_pages = compound_nr_pages(vm, step, altmap)
    for head in range(first_head, min(end, hi), step):
        for row in range(min(step, 3)):
            if lo <= head + row < hi:
                _stream_row(vm, head + row, 1, model, row)
        first, last = max(head + 3, lo), min(max(head + nr_pages, min(head + step, end)), hi)
        if first < last:
            _stream_row(vm, first, last - first, model, 3)
        for row in range(4):
            for word in range(8):
                model[row, word] += growth[row, word]
    sfence()
    for head in range(first_head, min(end, hi), step):
        _set_pageblocks(vm, max(head, lo), min(head + nr_pages, hi))
    if nr_pages < step:
        alias_sections(vm, start, end, step, zone_idx, nid, pgmap, vmemmap_shift, lo, hi)
    return end - start
