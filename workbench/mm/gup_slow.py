# SPDX-License-Identifier: GPL-2.0-only
"""The slow half of get_user_pages(): page by page through one area, with the page-table lock: compiled code.

Kernel: mm/gup.c, 5.10 to 6.12; mm/huge_memory.c.
"""

from __future__ import annotations

import errno

import numpy as np

from workbench.mm._jit import jit
from workbench.mm.gup_fast import access_permitted
from workbench.mm.memremap import get_dev_pagemap
from workbench.mm.page_ref import Foll, compound_head, page_count, set_page_dirty, try_grab_page
from workbench.mm.pgtable import Pg, entry_pfn, is_leaf, walk
from workbench.mm.swap import mark_page_accessed

_NONE = np.uint64(0)
_DEVMAP, _ACCESSED, _DIRTY = np.uint64(Pg.DEVMAP), np.uint64(Pg.ACCESSED), np.uint64(Pg.DIRTY)
_WRITE, _PIN, _TOUCH, _GRABS = int(Foll.WRITE), int(Foll.PIN), int(Foll.TOUCH), int(Foll.GET | Foll.PIN)
DONE, FAULT = np.int64(0), np.int64(1)
_EFAULT, _EEXIST, _ENOMEM = (np.int64(-number) for number in (errno.EFAULT, errno.EEXIST, errno.ENOMEM))


@jit
def follow_pages(vm, refs, pgmaps, pt, addr, nr_pages, flags, pages, nr, slot, ev):
    """Grab the pages of one area from ``addr`` on, until one is not mapped as it has to be.

    FOLL_TOUCH marks a huge entry accessed (for writing: dirty); of a PTE it marks the page.

    Kernel: mm/gup.c, ``follow_page_mask()``, ``follow_page_pte()``; mm/huge_memory.c, ``follow_devmap_pmd()``,
    ``follow_devmap_pud()``, ``follow_trans_huge_pmd()``.

    Parameters
    ----------
    vm, refs, pgmaps, pt, addr, nr_pages, flags, pages, nr, ev
        As of :func:`workbench.mm.gup_fast.gup_pgd_range`.
    slot : int64
        The pgmap found last, with a reference; -1 for none.

    Returns
    -------
    (nr, slot, code) : int64
        ``code`` is DONE, FAULT where the page after those counted has to be faulted in, or a negative errno.
    """
    write, pin = flags & _WRITE != 0, flags & _PIN != 0
    for _ in range(nr_pages):
        level, table, index = walk(pt, addr)
        entry = pt.entries[table, index]
        if not is_leaf(entry, level) or not access_permitted(entry, write):
            return nr, slot, FAULT
        device = (entry & _DEVMAP) != _NONE
        if level > 0 and flags & _TOUCH:
            pt.entries[table, index] = entry | (_ACCESSED | _DIRTY if write else _ACCESSED)
        if device and not flags & _GRABS:
            return nr, slot, _EEXIST
        pfn = entry_pfn(entry) + ((addr & ((np.int64(1) << (12 + 9 * level)) - 1)) >> 12)
        i = pfn - vm.start_pfn
        if device:
            slot = get_dev_pagemap(pgmaps, pfn, slot)
        if (device and slot < 0) or i < 0 or i >= len(vm.pages):
            return nr, slot, _EFAULT
        head = compound_head(vm, i, ev)
        if flags & _GRABS and not try_grab_page(vm, refs, head, pin, page_count(vm, head, ev), ev):
            return nr, slot, _ENOMEM
        if level == 0 and flags & _TOUCH:
            if write and (entry & _DIRTY) == _NONE:
                set_page_dirty(vm, refs, head, ev)
            mark_page_accessed(vm, refs, head, ev)
        pages[nr] = pfn
        nr += 1
        addr += 4096
    return nr, slot, DONE


@jit
def sections_mapped(vm, pt, addr, nr_pages, seen, found, pages_per_section):
    """Find the sections whose struct pages are behind ``nr_pages`` user pages from ``addr`` on.

    Parameters
    ----------
    seen : bool[nr_sections]
        Set for each section found.
    found : int64[nr_sections]
        Takes the numbers of those that were not set.

    Returns
    -------
    int64
        How many were stored to ``found``.
    """
    end, nr_found = addr + (nr_pages << 12), np.int64(0)
    while addr < end:
        level, table, index = walk(pt, addr)
        entry = pt.entries[table, index]
        size = np.int64(1) << (12 + 9 * level)
        upto = min((addr & ~(size - 1)) + size, end)
        if is_leaf(entry, level):
            first = entry_pfn(entry) + ((addr & (size - 1)) >> 12) - vm.start_pfn
            last = first + ((upto - addr) >> 12) - 1
            if first >= 0 and last < len(vm.pages):
                for section in range(first // pages_per_section, last // pages_per_section + 1):
                    if not seen[section]:
                        seen[section] = True
                        found[nr_found] = section
                        nr_found += 1
        addr = upto
    return nr_found
