# SPDX-License-Identifier: GPL-2.0-only
"""The counts of a registration, against the engine that registers and releases."""

import numpy as np
import pytest

from tests.mm.pinning import BASE, Pinning
from tests.mm.support import needs_jit
from workbench.lab.cost import seed_fit
from workbench.lab.pin_events import PIN_SLOW, UNPIN_RANGE, pin_events
from workbench.lab.registration import registration
from workbench.mm.events import Counter, events
from workbench.mm.page_ref import Foll
from workbench.rdma import umem
from workbench.text import parse_size


def counted(ev):
    """Locked operations, lines written, lines touched."""
    counts = ev.counts
    return int(counts[Counter.LOCKED]), int(counts[Counter.LINES_WRITTEN]), int(np.count_nonzero(ev.seen))


def forms(path, p, align):
    tree = p.array.kernel.tree
    one = pin_events(path, p.nr_pages << 12, parse_size(align), tree.has(11), tree.base)
    return one.locked, one.lines_written, one.lines_read


@pytest.mark.parametrize("align", ["4K", "2M"])
@pytest.mark.parametrize("name", ["5.15", "5.16", "5.17", "6.1-nodedup"])
def test_a_region_that_is_not_written_to_is_registered_and_released_as_counted(name, align):
    p = Pinning(name, align, 4)
    get, put = events(p.array.nr_pages), events(p.array.nr_pages)
    region = umem.ib_umem_get(p.gup, p.mm, BASE, p.nr_pages << 12, writable=False, events=get)
    assert counted(get) == forms(PIN_SLOW, p, align)
    umem.ib_umem_release(p.gup, region, put)
    assert counted(put) == forms(UNPIN_RANGE, p, align)


@needs_jit
def test_a_release_of_one_gib_touches_three_struct_pages():
    p = Pinning("5.17", "1G", 1024)
    region = umem.ib_umem_get(p.gup, p.mm, BASE, 1 << 30, writable=False)
    put = events(p.array.nr_pages)
    umem.ib_umem_release(p.gup, region, put)
    assert counted(put) == (3, 2, 3) == forms(UNPIN_RANGE, p, "1G")


def test_calls_are_those_of_the_engine(monkeypatch):
    p = Pinning("5.17", "2M", 6)
    asked = []
    pin = p.gup.pin_user_pages_fast

    def noted(mm, addr, nr_pages, flags, ev=None):
        asked.append((nr_pages, bool(flags & Foll.LONGTERM)))
        return pin(mm, addr, nr_pages, flags, ev)

    monkeypatch.setattr(p.gup, "pin_user_pages_fast", noted)
    umem.ib_umem_get(p.gup, p.mm, BASE, 6 << 20)
    assert asked == [(512, True)] * 3
    assert registration(6 << 20, 2 << 20, True, False, seed_fit()).calls == 3
