# SPDX-License-Identifier: GPL-2.0-only
"""mm/swap.c: what a use of a page leaves on it."""

from __future__ import annotations

import numpy as np

from workbench.mm._jit import borrowing
from workbench.mm.atomics import cmpxchg_u64
from workbench.mm.events import Access, Site, note_store
from workbench.mm.memmap import FLAGS, load
from workbench.mm.page_ref import RefSwitch, clear_flag, set_flag

_NONE = np.uint64(0)


@borrowing
def mark_page_accessed(vm, refs, head, ev):
    """The page was used: not referenced becomes referenced; what comes after that depends on the release.

    Kernel: mm/swap.c, ``mark_page_accessed()``: of a page in no LRU list the second use takes the mark away
    (up to 6.1); ``folio_inc_refs()``: workingset, then a count of two bits (6.12).
    """
    word = load(vm, head, FLAGS, ev)
    if not refs.switches & RefSwitch.LRU_GEN:
        if (word & refs.referenced) == _NONE:
            set_flag(vm, refs, head, refs.referenced, Site.mark_page_accessed, ev)
        elif (word & (refs.unevictable | refs.active)) == _NONE:
            clear_flag(vm, refs, head, refs.referenced, Site.mark_page_accessed, ev)
        return
    if (word & refs.unevictable) != _NONE:
        return
    if (word & refs.referenced) == _NONE:
        set_flag(vm, refs, head, refs.referenced, Site.mark_page_accessed, ev)
        return
    if (word & refs.workingset) == _NONE:
        set_flag(vm, refs, head, refs.workingset, Site.mark_page_accessed, ev)
        return
    while (word & refs.lru_refs) != refs.lru_refs:
        new = word + refs.lru_refs_one
        if ev is not None:
            note_store(ev, head, FLAGS, word, new, Site.mark_page_accessed, Access.LOCKED)
        was = cmpxchg_u64(np.int64(vm.pages.ctypes.data) + np.int64(head) * 64, word, new)
        if was == word:
            return
        word = was
