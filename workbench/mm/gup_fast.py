# SPDX-License-Identifier: GPL-2.0-only
"""The lockless half of get_user_pages_fast(), and the release of what was pinned: compiled code.

Device memory mapped by a PMD or PUD is grabbed 4 KiB by 4 KiB, each with its pgmap looked up; THP and
hugetlb memory by one grab for all pages of an entry that are asked for.

The two loops that go over every page are compiled a second time for 5.15 to 5.17: where the compiler knows that
no :class:`~workbench.mm.page_ref.RefSwitch` is set it leaves out what other releases do, on every page.

Kernel: mm/gup.c, 5.10 to 6.12.
"""

from __future__ import annotations

import numpy as np

from workbench.mm._jit import borrowing, inline
from workbench.mm.events import Site
from workbench.mm.memmap import COMPOUND_HEAD, FLAGS, read_once
from workbench.mm.memremap import get_dev_pagemap, put_dev_pagemap
from workbench.mm.page_ref import (
    Foll,
    RefSwitch,
    clear_flag,
    compound_head,
    compound_order,
    head_of,
    look_at,
    put_compound_head,
    set_flag,
    set_page_dirty_lock,
    tail_word,
    try_grab_compound_head,
    try_grab_page,
)
from workbench.mm.pgtable import Pg, entry_pfn, is_devmap, is_leaf, walk

_NONE = np.uint64(0)
_PRESENT_USER = np.uint64(Pg.PRESENT | Pg.USER)
_RW, _SPECIAL = np.uint64(Pg.RW), np.uint64(Pg.SPECIAL)
_WRITE, _PIN, _LONGTERM = int(Foll.WRITE), int(Foll.PIN), int(Foll.LONGTERM)


@inline
def access_permitted(entry, write):
    """pte_access_permitted() and its kind: present, a user's, and writable where it is to be written."""
    return (entry & _PRESENT_USER) == _PRESENT_USER and (not write or (entry & _RW) != _NONE)


@borrowing
def _undo_dev_pagemap(vm, refs, pages, nr, nr_start, pin, ev):
    """Give back what was recorded from ``nr_start`` on, last first, with its PG_referenced; ``nr_start``.

    Kernel: mm/gup.c, ``undo_dev_pagemap()``.
    """
    while nr > nr_start:
        nr -= 1
        head = compound_head(vm, pages[nr] - vm.start_pfn, ev)
        clear_flag(vm, refs, head, refs.referenced, Site.ClearPageReferenced, ev)
        put_compound_head(vm, refs, head, 1, pin, ev)
    return nr


@inline
def _pages_of_compound(vm, refs, i, head, at_most, ev):
    """How many of the ``at_most`` pages from row ``i`` on belong to its compound page; 1 for a base page."""
    order = compound_order(vm, refs, head, ev)
    return np.int64(1) if order == 0 else min(head + (np.int64(1) << order) - i, at_most)


@inline
def _store_pfns(pages, nr, pfn, nr_pages):
    """Store ``nr_pages`` pfns from ``pfn`` on to ``pages``, from index ``nr`` on."""
    first = np.uint64(nr)
    for k in range(nr_pages):
        pages[first + np.uint64(k)] = pfn + k


@inline
def _grab_device_pages(vm, refs, pgmaps, pfn, nr_pages, pin, pages, nr, ev):
    """What :func:`_gup_device_huge` does."""
    nr_start, slot, done = nr, np.int64(-1), np.int64(0)
    cached_first, cached_last = np.int64(0), np.int64(-1)
    marks_first = not refs.switches & RefSwitch.FOLIO_FAST
    while done < nr_pages:
        if not cached_first <= pfn + done <= cached_last:  # get_dev_pagemap() asks the same: spares the call
            slot = get_dev_pagemap(pgmaps, pfn + done, slot)
            if slot < 0:
                return _undo_dev_pagemap(vm, refs, pages, nr, nr_start, pin, ev), False
            cached_first, cached_last = pgmaps.range0_first[slot], pgmaps.range0_last[slot]
        i = pfn + done - vm.start_pfn
        head = compound_head(vm, i, ev)
        seen = look_at(vm, refs, head, pin, ev)
        together = np.int64(1)
        if refs.switches & RefSwitch.HEAD_ONCE:
            together = _pages_of_compound(vm, refs, i, head, nr_pages - done, ev)
        if marks_first:
            set_flag(vm, refs, head, refs.referenced, Site.SetPageReferenced, ev)
        if together == 1 and marks_first:
            grabbed = try_grab_page(vm, refs, head, pin, seen, ev)
        else:
            grabbed = try_grab_compound_head(vm, refs, head, together, pin, seen, ev)
        if not grabbed:
            nr = _undo_dev_pagemap(vm, refs, pages, nr, nr_start, pin, ev)
            put_dev_pagemap(pgmaps, slot)
            return nr, False
        if not marks_first:
            set_flag(vm, refs, head, refs.referenced, Site.SetPageReferenced, ev)
        _store_pfns(pages, nr, pfn + done, together)
        nr += together
        done += together
    put_dev_pagemap(pgmaps, slot)
    return nr, True


@borrowing
def _gup_device_huge(vm, refs, pgmaps, pfn, nr_pages, pin, pages, nr, ev):
    """Grab ``nr_pages`` pages of device memory that one huge entry maps, one by one; all of them or none.

    Kernel: mm/gup.c, ``__gup_device_huge()``; ``gup_fast_devmap_leaf()``, 6.12.

    Returns
    -------
    (nr, ok) : int64, bool
    """
    if pin and refs.switches == 0:
        return _grab_device_pages(vm, refs, pgmaps, pfn, nr_pages, True, pages, nr, ev)
    return _grab_device_pages(vm, refs, pgmaps, pfn, nr_pages, pin, pages, nr, ev)


@borrowing
def _gup_huge(vm, refs, first, pfn, nr_pages, pin, pages, nr, ev):
    """Grab ``nr_pages`` pages from ``pfn`` on of ordinary memory, which one huge entry maps from ``first`` on, at once.

    Kernel: mm/gup.c, ``gup_huge_pmd()``, ``gup_huge_pud()``; ``gup_fast_pmd_leaf()``, 6.12.
    """
    i = (pfn if refs.switches & RefSwitch.GRAB_PAGE_ASKED else first) - vm.start_pfn
    if i < 0 or i >= len(vm.pages):
        return nr, False
    head = compound_head(vm, i, ev)
    seen = look_at(vm, refs, head, pin, ev)
    if not try_grab_compound_head(vm, refs, head, nr_pages, pin, seen, ev):
        return nr, False
    _store_pfns(pages, nr, pfn, nr_pages)
    set_flag(vm, refs, head, refs.referenced, Site.SetPageReferenced, ev)
    return nr + nr_pages, True


@borrowing
def _gup_pte_range(vm, refs, pgmaps, pt, table, index, nr_pages, flags, pages, nr, ev):
    """Grab the pages of up to ``nr_pages`` neighbouring entries of one table of PTEs.

    A page that cannot be grabbed ends the walk and leaves those before it grabbed; a pfn without a pgmap
    undoes those of this table.

    Kernel: mm/gup.c, ``gup_pte_range()``; ``gup_fast_pte_range()``, 6.12.
    """
    nr_start, slot, pin = nr, np.int64(-1), flags & _PIN != 0
    for k in range(nr_pages):
        entry = pt.entries[table, index + k]
        device = is_devmap(entry)
        refused = not access_permitted(entry, flags & _WRITE != 0)
        refused = refused or (flags & _LONGTERM != 0 if device else (entry & _SPECIAL) != _NONE)
        if refused:
            put_dev_pagemap(pgmaps, slot)
            return nr, False
        pfn = entry_pfn(entry)
        i = pfn - vm.start_pfn
        if device:
            slot = get_dev_pagemap(pgmaps, pfn, slot)
            if slot < 0:
                return _undo_dev_pagemap(vm, refs, pages, nr, nr_start, pin, ev), False
        elif i < 0 or i >= len(vm.pages):
            put_dev_pagemap(pgmaps, slot)
            return nr, False
        head = compound_head(vm, i, ev)
        seen = look_at(vm, refs, head, pin, ev)
        if not try_grab_compound_head(vm, refs, head, 1, pin, seen, ev):
            put_dev_pagemap(pgmaps, slot)
            return nr, False
        if pt.entries[table, index + k] != entry:
            put_compound_head(vm, refs, head, 1, pin, ev)
            put_dev_pagemap(pgmaps, slot)
            return nr, False
        set_flag(vm, refs, head, refs.referenced, Site.SetPageReferenced, ev)
        pages[nr] = pfn
        nr += 1
    put_dev_pagemap(pgmaps, slot)
    return nr, True


@inline
def _gup_leaf(vm, refs, pgmaps, pt, table, index, pfn, nr_pages, flags, pages, nr, ev):
    """Grab ``nr_pages`` pages from ``pfn`` on, which a huge entry maps."""
    pin, nr_start = flags & _PIN != 0, nr
    entry = pt.entries[table, index]
    if not access_permitted(entry, flags & _WRITE != 0):
        return nr, False
    device = is_devmap(entry)
    if device:
        if flags & _LONGTERM:
            return nr, False
        nr, ok = _gup_device_huge(vm, refs, pgmaps, pfn, nr_pages, pin, pages, nr, ev)
    else:
        nr, ok = _gup_huge(vm, refs, entry_pfn(entry), pfn, nr_pages, pin, pages, nr, ev)
    if ok and pt.entries[table, index] != entry:
        if device:
            nr = _undo_dev_pagemap(vm, refs, pages, nr, nr_start, pin, ev)
        else:
            put_compound_head(vm, refs, compound_head(vm, pfn - vm.start_pfn, ev), nr_pages, pin, ev)
            nr = nr_start
        ok = False
    return nr, ok


@inline
def gup_pgd_range(vm, refs, pgmaps, pt, addr, nr_pages, flags, pages, nr, ev):
    """Walk the page tables without a lock and grab what they map, as far as that goes.

    Kernel: mm/gup.c, ``gup_pgd_range()`` and the functions below it.

    Parameters
    ----------
    vm : Memmap
    refs : PageRefs
    pgmaps : PgmapArray
    pt : PageTables
    addr : int64
        User address of the first page.
    nr_pages, flags : int64
        Pages, and :class:`Foll` bits.
    pages : int64[...]
        The pfns grabbed are stored from index ``nr`` on.
    nr : int64
    ev : Events or None

    Returns
    -------
    int64
        ``nr`` and the pages grabbed.
    """
    end = addr + (nr_pages << 12)
    ok = True
    while ok and addr < end:
        level, table, index = walk(pt, addr)
        entry = pt.entries[table, index]
        if not is_leaf(entry, level):
            return nr
        if level == 0:
            count = min(512 - index, (end - addr) >> 12)
            nr, ok = _gup_pte_range(vm, refs, pgmaps, pt, table, index, count, flags, pages, nr, ev)
        else:
            size = np.int64(1) << (12 + 9 * level)
            skip = (addr & (size - 1)) >> 12
            count = min((size >> 12) - skip, (end - addr) >> 12)
            pfn = entry_pfn(entry) + skip
            nr, ok = _gup_leaf(vm, refs, pgmaps, pt, table, index, pfn, count, flags, pages, nr, ev)
        addr += count << 12
    return nr


@inline
def lockless_pages_from_mm(vm, refs, pgmaps, pt, seq, addr, nr_pages, flags, pages, nr, ev):
    """gup_pgd_range() with interrupts off, and for pins with an eye on fork().

    A fork() that is copying the page tables makes ``seq[0]`` odd; one that came in between changes it.  Then
    nothing is pinned.

    Kernel: mm/gup.c, ``lockless_pages_from_mm()``, 5.11 and later (5.10 by a stable update).

    Returns
    -------
    int64
        As :func:`gup_pgd_range`.
    """
    before = seq[0]
    if flags & _PIN and before & 1:
        return nr
    grabbed = gup_pgd_range(vm, refs, pgmaps, pt, addr, nr_pages, flags, pages, nr, ev)
    if flags & _PIN and seq[0] != before:
        unpin_user_pages(vm, refs, pages[nr:grabbed], False, pages[:0], ev)
        return nr
    return grabbed


@borrowing
def gup_fast_calls(vm, refs, pgmaps, pt, seq, addr, nr_pages, per_call, flags, pages, ev):
    """get_user_pages_fast() again and again, ``per_call`` pages each, until one call gives fewer.

    Returns
    -------
    (nr, asked) : int64
        Pages grabbed, and pages asked for up to the call that gave fewer, that call included.
    """
    nr = asked = np.int64(0)
    while asked < nr_pages and nr == asked and per_call > 0:
        now = min(per_call, nr_pages - asked)
        nr = lockless_pages_from_mm(vm, refs, pgmaps, pt, seq, addr + (asked << 12), now, flags, pages, nr, ev)
        asked += now
    return nr, asked


# releasing


@inline
def _release(vm, refs, head, nr, pin, freed, nr_freed, ev):
    """put_compound_head(); a page whose count reached zero is stored to ``freed``, as far as that reaches."""
    if put_compound_head(vm, refs, head, nr, pin, ev):
        if nr_freed < len(freed):
            freed[nr_freed] = vm.start_pfn + head
        nr_freed += 1
    return nr_freed


@inline
def _unpin_user_pages(vm, refs, pages, make_dirty, freed, ev):
    """What :func:`unpin_user_pages` does."""
    nr_freed, at, n = np.int64(0), np.int64(0), len(pages)
    each = refs.switches & RefSwitch.UNPIN_EACH != 0
    i = pages[0] - vm.start_pfn if n else np.int64(0)
    word = read_once(vm, i, COMPOUND_HEAD, ev) if n else _NONE
    while at < n:
        head, run = head_of(vm, i, word), np.int64(1)
        of_tails = tail_word(vm, head)
        while at + run < n:
            i = pages[np.uint64(at + run)] - vm.start_pfn
            word = read_once(vm, i, COMPOUND_HEAD, ev)
            if each or (word != of_tails and i != head):
                break
            run += 1
        if make_dirty:
            set_page_dirty_lock(vm, refs, head, ev)
        nr_freed = _release(vm, refs, head, run, True, freed, nr_freed, ev)
        at += run
    return nr_freed


@borrowing
def unpin_user_pages(vm, refs, pages, make_dirty, freed, ev):
    """Release pins: neighbours in ``pages`` with the same head by one release (5.10: one by one).

    Kernel: mm/gup.c, ``unpin_user_pages()``, ``unpin_user_pages_dirty_lock()``, 5.10 to 6.12.

    Parameters
    ----------
    vm : Memmap
    refs : PageRefs
    pages : int64[n]
        Pfns.
    make_dirty : bool
        Mark each head dirty first.
    freed : int64[m]
        Takes the pfns of heads whose count reached zero.
    ev : Events or None

    Returns
    -------
    int64
        How many counts reached zero.
    """
    if refs.switches == 0 and not make_dirty:
        return _unpin_user_pages(vm, refs, pages, False, freed, ev)
    return _unpin_user_pages(vm, refs, pages, make_dirty, freed, ev)


@borrowing
def unpin_user_page_range(vm, refs, pfn, nr_pages, make_dirty, freed, ev):
    """Release one pin of each page of a physical range: one release a compound page, by arithmetic.

    Kernel: mm/gup.c, ``unpin_user_page_range_dirty_lock()``, 5.13 and later.

    Returns
    -------
    int64
        How many counts reached zero; see :func:`unpin_user_pages`.
    """
    nr_freed, at = np.int64(0), np.int64(0)
    while at < nr_pages:
        i = pfn + at - vm.start_pfn
        head = compound_head(vm, i, ev)
        run = _pages_of_compound(vm, refs, i, head, nr_pages - at, ev)
        if make_dirty:
            set_page_dirty_lock(vm, refs, head, ev)
        nr_freed = _release(vm, refs, head, run, True, freed, nr_freed, ev)
        at += run
    return nr_freed


@borrowing
def put_user_pages(vm, refs, pages, freed, ev):
    """put_page() of each page.

    Returns
    -------
    int64
        How many counts reached zero; see :func:`unpin_user_pages`.
    """
    nr_freed = np.int64(0)
    for at in range(len(pages)):
        head = compound_head(vm, pages[at] - vm.start_pfn, ev)
        nr_freed = _release(vm, refs, head, 1, False, freed, nr_freed, ev)
    return nr_freed


@borrowing
def set_pages_dirty(vm, refs, pages, base_only, ev):
    """set_page_dirty_lock() of the head of each page; with ``base_only`` not of compound pages."""
    for at in range(len(pages)):
        head = compound_head(vm, pages[at] - vm.start_pfn, ev)
        if not base_only or compound_order(vm, refs, head, ev) == 0:
            set_page_dirty_lock(vm, refs, head, ev)


@borrowing
def first_not_pinned(vm, refs, pages):
    """Index of the first of ``pages`` that page_maybe_dma_pinned() does not call pinned; -1: all are.

    Kernel: include/linux/mm.h, ``page_maybe_dma_pinned()``.
    """
    for at in range(len(pages)):
        head = head_of(vm, pages[at] - vm.start_pfn, vm.pages[pages[at] - vm.start_pfn, COMPOUND_HEAD])
        apart = (vm.pages[head, FLAGS] & refs.head) != _NONE and (
            refs.switches & RefSwitch.PINCOUNT_ANY_ORDER or compound_order(vm, refs, head, None) > 1
        )
        if apart:
            word = vm.pages[head + refs.pincount_tail, refs.pincount_byte >> 3]
            if np.int32(word >> np.uint64((refs.pincount_byte & 7) * 8)) <= 0:
                return at
        elif np.int32(vm.pages[head, 6] >> np.uint64(32)) < 1024:
            return at
    return -1
