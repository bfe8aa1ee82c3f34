# SPDX-License-Identifier: GPL-2.0-only
"""Several threads pin and release overlapping ranges of one device: whether a count gets lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from workbench.mm._jit import jit
from workbench.mm.gup import PageRefcounts
from workbench.mm.gup_fast import lockless_pages_from_mm, unpin_user_pages
from workbench.mm.memmap import COUNTS, REFCOUNT_SHIFT
from workbench.mm.mmap import Mm
from workbench.mm.page_ref import Foll


@jit
def _pin_and_release(vm, refs, pgmaps, pt, seq, addr, nr_pages, rounds, flags, pages):
    """``rounds`` times: pin and release ``nr_pages`` pages; pages pinned in all."""
    pinned = np.int64(0)
    for _ in range(rounds):
        nr = lockless_pages_from_mm(vm, refs, pgmaps, pt, seq, addr, nr_pages, flags, pages, 0, None)
        unpin_user_pages(vm, refs, pages[:nr], False, pages[:0], None)
        pinned += nr
    return pinned


@dataclass(frozen=True)
class Storm:
    """What several threads did.

    Attributes
    ----------
    operations : int
        Pages pinned, and released, by all.
    lost : int
        Sum over the struct pages of how far a reference count is off afterwards.
    """

    operations: int
    lost: int


def storm(gup: PageRefcounts, mm: Mm, addr: int, nr_pages: int, threads: int = 8, rounds: int = 100) -> Storm:
    """Let threads pin and release overlapping parts of a range.

    Parameters
    ----------
    gup : PageRefcounts
        With ``plain=True`` counts get lost where threads meet.
    mm : Mm
    addr, nr_pages : int
        The range, mapped and writable.  Each thread takes three quarters of it, beginning where it likes.
    threads, rounds : int

    Returns
    -------
    Storm
    """
    gup.need_mapped(mm, addr, nr_pages)
    before = gup.vm.pages[:, COUNTS].copy()
    span = nr_pages * 3 // 4

    def work(number: int) -> int:
        first = number * (nr_pages - span) // threads
        pages = np.empty(span, np.int64)
        where = addr + (first << 12)
        flags = int(Foll.PIN | Foll.WRITE)
        return int(
            _pin_and_release(
                *(gup.vm, gup.refs, gup.own_pgmaps(), mm.pt, mm.write_protect_seq),
                *(where, span, rounds, flags, pages),
            )
        )

    with ThreadPoolExecutor(threads) as pool:
        operations = sum(pool.map(work, range(threads)))
    after = gup.vm.pages[:, COUNTS]
    difference = (after >> REFCOUNT_SHIFT).astype(np.int64) - (before >> REFCOUNT_SHIFT).astype(np.int64)
    return Storm(operations, int(np.abs(difference.astype(np.int32)).sum()))
