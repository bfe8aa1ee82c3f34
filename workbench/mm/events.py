# SPDX-License-Identifier: GPL-2.0-only
"""What an operation did to the struct pages, told by the operation itself.

Every kernel takes ``ev`` last.  With ``None`` numba drops each test of it while compiling, and
nothing is left of the counting.  With :class:`Events` the same source is compiled a second time and
notes each store, load and locked operation on the page array:

* one store is one assignment of the C source, however small, recorded as the 8-byte word before and
  after; clearing a struct page is eight.  One exception: set_page_links() clears and sets zone and node
  in four assignments, which every compiler makes one, and which are one here;
* a compiled kernel stores less often than its source assigns, since the compiler merges neighbours;
* a locked operation is a load and a store too;
* a struct page is one cache line, so distinct lines are distinct pages;
* pageblock bits lie outside the struct pages: their locked operations count, their lines do not.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from workbench.mm._jit import inline


class Counter(IntEnum):
    """Index into ``Events.counts``."""

    LOADS = 0
    STORES = 1
    LOCKED = 2
    LINES_READ = 3
    LINES_WRITTEN = 4
    COND_RESCHED = 5
    MIGRATETYPE_WRITES = 6
    LOGGED = 7
    NOT_LOGGED = 8


class Site(IntEnum):
    """The C function whose assignment made a store, in the order they run."""

    mm_zero_struct_page = 0
    set_page_links = 1
    init_page_count = 2
    page_mapcount_reset = 3
    page_cpupid_reset_last = 4
    INIT_LIST_HEAD = 5
    SetPageReserved = 6
    init_zone_device_page = 7
    memmap_init_zone_device = 8
    SetPageHead = 9
    prep_compound_page = 10
    prep_compound_tail = 11
    set_page_count = 12
    prep_compound_head = 13
    put_page_testzero = 14
    dax_set_mapping = 15
    SetPageReferenced = 16
    ClearPageReferenced = 17
    page_ref_add_unless = 18
    page_ref_add = 19
    page_ref_sub = 20
    pincount_add = 21
    pincount_sub = 22
    mark_page_accessed = 23
    lock_page = 24
    set_page_dirty = 25
    unlock_page = 26
    SetPageHWPoison = 27

    @property
    def c_name(self) -> str:
        """The function's name in the kernel; an enum member cannot begin with two underscores."""
        underscored = (Site.SetPageReserved, Site.init_zone_device_page, Site.SetPageHead)
        return f"__{self.name}" if self in underscored else self.name


class Access(IntEnum):
    """How a logged store was made."""

    PLAIN = 0
    LOCKED = 1


LOG_COLUMNS = ("page", "word", "old", "new", "site", "access")
_READ, _WRITTEN = 1, 2


class Events(NamedTuple):
    """Where a kernel notes what it does.

    Attributes
    ----------
    counts : int64[len(Counter)]
    seen : uint8[nr_pages]
        Bit 0: the page was read, bit 1: written.
    log : uint64[capacity, 6] or None
        One row a store, columns :data:`LOG_COLUMNS`; ``page`` is the row of the page array.  Stores
        past the capacity are counted in ``NOT_LOGGED``.
    """

    counts: np.ndarray
    seen: np.ndarray
    log: np.ndarray | None


def events(nr_pages: int, log_capacity: int = 0) -> Events:
    """An empty :class:`Events` for an array of ``nr_pages``; ``log_capacity`` 0 counts only."""
    log = np.zeros((log_capacity, len(LOG_COLUMNS)), np.uint64) if log_capacity else None
    return Events(np.zeros(len(Counter), np.int64), np.zeros(nr_pages, np.uint8), log)


@inline
def count(ev, counter):
    """Add one to a counter."""
    if ev is not None:
        ev.counts[counter] += 1


@inline
def _append(log, counts, page, word, old, new, site, access):
    if log is not None:
        at = counts[Counter.LOGGED]
        if at < len(log):
            log[at, 0] = np.uint64(page)
            log[at, 1] = np.uint64(word)
            log[at, 2] = old
            log[at, 3] = new
            log[at, 4] = np.uint64(site)
            log[at, 5] = np.uint64(access)
            counts[Counter.LOGGED] += 1
        else:
            counts[Counter.NOT_LOGGED] += 1


@inline
def note_load(ev, page):
    """Count a load from a struct page."""
    if ev is not None:
        ev.counts[Counter.LOADS] += 1
        if not ev.seen[page] & _READ:
            ev.seen[page] |= _READ
            ev.counts[Counter.LINES_READ] += 1


@inline
def note_store(ev, page, word, old, new, site, access):
    """Count and log a store of ``new`` over ``old`` to a word of a struct page."""
    if ev is not None:
        ev.counts[Counter.STORES] += 1
        if access == Access.LOCKED:
            ev.counts[Counter.LOCKED] += 1
        if not ev.seen[page] & _WRITTEN:
            ev.seen[page] |= _WRITTEN
            ev.counts[Counter.LINES_WRITTEN] += 1
        _append(ev.log, ev.counts, page, word, old, new, site, access)
