# SPDX-License-Identifier: GPL-2.0-only
"""The slow half of get_user_pages(): page by page through one area, with the page-table lock: compiled code.

Kernel: mm/gup.c, 5.10 to 6.12; mm/huge_memory.c.
"""

from __future__ import annotations

import errno

import numpy as np

from workbench.abi.constants import PAGES_PER_SECTION
from workbench.mm._jit import borrowing
from workbench.mm.gup_fast import access_permitted
from workbench.mm.memmap import COMPOUND_HEAD
from workbench.mm.memremap import get_dev_pagemap
from workbench.mm.page_ref import Foll, compound_head, head_of, look_at, set_page_dirty, try_grab_page
from workbench.mm.pgtable import Pg, entry_pfn, is_devmap, is_leaf, walk
from workbench.mm.swap import mark_page_accessed

_NONE = np.uint64(0)
_ACCESSED, _DIRTY = np.uint64(Pg.ACCESSED), np.uint64(Pg.DIRTY)
_WRITE, _PIN, _TOUCH, _GRABS = int(Foll.WRITE), int(Foll.PIN), int(Foll.TOUCH), int(Foll.GET | Foll.PIN)

DONE, FAULT = np.int64(0), np.int64(1)
_EFAULT, _EEXIST, _ENOMEM = (np.int64(-number) for number in (errno.EFAULT, errno.EEXIST, errno.ENOMEM))


@borrowing
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
        device = is_devmap(entry)
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
        if flags & _GRABS and not try_grab_page(vm, refs, head, pin, look_at(vm, refs, head, pin, ev), ev):
            return nr, slot, _ENOMEM
        if level == 0 and flags & _TOUCH:
            if write and (entry & _DIRTY) == _NONE:
                set_page_dirty(vm, refs, head, ev)
            mark_page_accessed(vm, refs, head, ev)
        pages[nr] = pfn
        nr += 1
        addr += 4096
    return nr, slot, DONE


@borrowing
def _lacks(vm, present, section, found, nr_found):
    """Note a section without memory; of one that has it, the section where its first page's compound begins."""
    lacks = np.int64(section)
    if present[section]:
        first = section * PAGES_PER_SECTION
        lacks = np.int64(head_of(vm, first, vm.pages[first, COMPOUND_HEAD]) // PAGES_PER_SECTION)
    if not present[lacks] and (nr_found == 0 or found[nr_found - 1] != lacks) and nr_found < len(found):
        found[nr_found] = lacks
        nr_found += 1
    return nr_found


@borrowing
def lacking_mapped(vm, present, pt, addr, nr_pages, found):
    """Find sections without memory behind ``nr_pages`` user pages from ``addr`` on, or behind their heads.

    Parameters
    ----------
    vm : Memmap
    present : bool[nr_sections]
    pt : PageTables
    addr, nr_pages : int64
    found : int64[n]
        Takes section numbers, some perhaps more than once.

    Returns
    -------
    int64
        How many were stored to ``found``.  Ask again when they have their memory: 0 means that all have.
    """
    end, nr_found, before = addr + (nr_pages << 12), np.int64(0), np.int64(-1)
    while addr < end:
        level, table, index = walk(pt, addr)
        entry = pt.entries[table, index]
        size = np.int64(1) << (12 + 9 * level)
        upto = min((addr & ~(size - 1)) + size, end)
        if is_leaf(entry, level):
            first = entry_pfn(entry) + ((addr & (size - 1)) >> 12) - vm.start_pfn
            last = first + ((upto - addr) >> 12) - 1
            if first >= 0 and last < len(vm.pages):
                for section in range(first // PAGES_PER_SECTION, last // PAGES_PER_SECTION + 1):
                    if section != before:
                        nr_found = _lacks(vm, present, section, found, nr_found)
                        before = np.int64(section)
        addr = upto
    return nr_found


@borrowing
def lacking_held(vm, sections, pfns, found):
    """Find sections without memory behind ``pfns`` (int64[n]), or behind their heads.

    Returns
    -------
    (nr_found, missing) : int64
        As of :func:`lacking_mapped`; ``missing`` is the index of the first pfn without a struct page, -1: none.
    """
    nr_found, before = np.int64(0), np.int64(-1)
    for at in range(len(pfns)):
        subsection = (pfns[at] - vm.start_pfn) >> 9
        if subsection == before:
            continue
        before = subsection
        section = subsection >> 6
        if section < 0 or section >= len(sections.exist):
            return nr_found, at
        if not (sections.exist[section] >> np.uint64(subsection & 63)) & np.uint64(1):
            return nr_found, at
        nr_found = _lacks(vm, sections.present, section, found, nr_found)
    return nr_found, np.int64(-1)
