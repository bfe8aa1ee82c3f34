# SPDX-License-Identifier: GPL-2.0-only
"""What an operation tells of itself: stores in order, counts, and nothing at all when nobody listens."""

import numpy as np
import pytest

from tests.mm.support import KERNELS, PGMAP, over, struct_pages
from workbench.mm import page_alloc
from workbench.mm.events import LOG_COLUMNS, Access, Counter, Site, count, events, note_load, note_store


def one_device_page(ev, pages=None, i=0):
    k, L = KERNELS["5.17"]
    pages = struct_pages(4) if pages is None else pages
    page_alloc.__init_zone_device_page(over(k, pages), i, np.uint64(L.zone_device), np.uint64(0), np.uint64(PGMAP), ev)
    return pages


def test_names_of_sites_are_the_kernels():
    assert Site.SetPageHead.c_name == "__SetPageHead"
    assert Site.SetPageReserved.c_name == "__SetPageReserved"
    assert Site.init_zone_device_page.c_name == "__init_zone_device_page"
    assert Site.prep_compound_tail.c_name == "prep_compound_tail"
    assert len({site.c_name for site in Site}) == len(Site)


def test_columns_of_the_log():
    ev = events(4, 32)
    one_device_page(ev, i=2)
    log = ev.log[: ev.counts[Counter.LOGGED]]
    assert LOG_COLUMNS == ("page", "word", "old", "new", "site", "access")
    assert log.shape == (17, len(LOG_COLUMNS))
    assert set(log[:, 0].tolist()) == {2}
    assert log[:8, 1].tolist() == [7, 6, 5, 4, 3, 2, 1, 0], "cleared from the last word to the first"
    assert log[-1].tolist() == [2, 2, 0xFFFFEA0004000088, 0, Site.init_zone_device_page, Access.PLAIN]


def test_the_log_replayed_gives_the_memory():
    """Each old word is the one the store before it left, the last ones are what the array holds."""
    k, L = KERNELS["6.12"]
    pages = struct_pages(64, 0x1234)
    words = {(i, word): 0x1234 for i in range(64) for word in range(8)}
    ev = events(64, 64 * 24)
    vm = over(k, pages)
    zone, nid, pgmap = np.uint64(L.zone_device), np.uint64(1), np.uint64(PGMAP)
    page_alloc.memmap_init_zone_device(vm, 0, 64, zone, nid, pgmap, 6, False, 0, 64, ev)
    for page, word, old, new, _, _ in ev.log[: ev.counts[Counter.LOGGED]].tolist():
        assert words[page, word] == old
        words[page, word] = new
    assert pages.tolist() == [[words[i, word] for word in range(8)] for i in range(64)]


@pytest.mark.parametrize("capacity", [1, 16, 17, 18])
def test_stores_past_the_capacity_are_counted(capacity):
    ev = events(4, capacity)
    one_device_page(ev)
    assert ev.counts[Counter.STORES] == 17
    assert ev.counts[Counter.LOGGED] == min(capacity, 17)
    assert ev.counts[Counter.NOT_LOGGED] == 17 - min(capacity, 17)


def test_counting_alone_keeps_no_log():
    ev, logged = events(4), events(4, 64)
    assert ev.log is None
    one_device_page(ev)
    one_device_page(logged)
    same = [c for c in Counter if c not in (Counter.LOGGED, Counter.NOT_LOGGED)]
    assert [ev.counts[c] for c in same] == [logged.counts[c] for c in same]
    assert ev.counts[Counter.LOGGED] == ev.counts[Counter.NOT_LOGGED] == 0


def test_a_line_is_counted_once_and_remembered():
    """Bit 0 of ``seen``: read; bit 1: written."""
    ev = events(4)
    for page in (1, 1, 3):
        note_load(ev, page)
    note_store(ev, 3, 0, np.uint64(0), np.uint64(1), Site.SetPageHead, Access.LOCKED)
    note_store(ev, 3, 0, np.uint64(1), np.uint64(1), Site.SetPageHead, Access.PLAIN)
    assert ev.seen.tolist() == [0, 1, 0, 3]
    assert {c.name: int(ev.counts[c]) for c in Counter if ev.counts[c]} == {
        "LOADS": 3,
        "STORES": 2,
        "LOCKED": 1,
        "LINES_READ": 2,
        "LINES_WRITTEN": 1,
    }
    count(ev, Counter.COND_RESCHED)
    assert ev.counts[Counter.COND_RESCHED] == 1


def test_counts_go_on_over_several_operations():
    ev, pages = events(4, 64), struct_pages(4)
    for i in (0, 1, 1):
        one_device_page(ev, pages, i)
    assert ev.counts[Counter.STORES] == 51
    assert ev.counts[Counter.LINES_WRITTEN] == 2
    assert ev.counts[Counter.MIGRATETYPE_WRITES] == 1


def test_nobody_listening_nothing_noted():
    for call in (lambda: count(None, Counter.LOCKED), lambda: note_load(None, 0)):
        assert call() is None
    assert note_store(None, 0, 0, np.uint64(0), np.uint64(0), Site.SetPageHead, Access.PLAIN) is None
    assert (one_device_page(None) == one_device_page(events(4, 32))).all()
