# SPDX-License-Identifier: GPL-2.0-only
"""Memory registered for RDMA: checks in the kernel's order, batches, merged entries, release by range."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mm.pinning import BASE, READ_WRITE, Pinning
from tests.mm.support import refcounts
from workbench.errors import WorkbenchError
from workbench.mm.events import Counter, events
from workbench.mm.mmap import Vm
from workbench.rdma.umem import PAGES_PER_CALL, Limits, ib_umem_get, ib_umem_release, merge


def refused(*args, **kwargs):
    with pytest.raises(WorkbenchError) as refusal:
        ib_umem_get(*args, **kwargs)
    return refusal.value.errno_name


@pytest.mark.parametrize("name", ["5.10", "5.15", "5.17", "6.1", "6.12"])
def test_register_and_deregister(name):
    p = Pinning(name, "2M", 4)
    before = refcounts(p.pages)
    umem = ib_umem_get(p.gup, p.mm, BASE + 100, 3 << 20)
    assert umem.npages == 769 and (umem.pfns.tolist(), umem.nr_pages.tolist()) == ([p.first], [769])
    assert umem.limits.pinned_vm == 769
    ib_umem_release(p.gup, umem)
    assert umem.limits.pinned_vm == 0
    np.testing.assert_array_equal(refcounts(p.pages), before)


def test_what_is_checked_in_which_order():
    p = Pinning("6.1", "2M", 2)
    none = Limits(memlock=0)
    assert refused(p.gup, p.mm, (1 << 64) - 4096, 8192, limits=none) == "EINVAL"
    assert refused(p.gup, p.mm, BASE, 4096, on_demand=True, limits=none) == "EPERM"
    assert refused(p.gup, p.mm, BASE, 0, on_demand=True) == "EOPNOTSUPP"
    assert refused(p.gup, p.mm, BASE, 0) == "EINVAL"
    some = Limits(memlock=16 << 12)
    held = ib_umem_get(p.gup, p.mm, BASE, 10 << 12, limits=some)
    assert refused(p.gup, p.mm, BASE, 7 << 12, limits=some) == "ENOMEM" and some.pinned_vm == 10
    ib_umem_get(p.gup, p.mm, BASE, 7 << 12, limits=Limits(memlock=0, ipc_lock=True))
    ib_umem_release(p.gup, held)
    assert some.pinned_vm == 0


def test_a_failure_in_a_later_batch_gives_back_the_earlier_ones():
    p = Pinning("5.17", "2M", 4, mapped=False)
    p.file.fails_from = p.addr(1024)
    p.vma.end += 2 << 20
    limits = Limits()
    assert refused(p.gup, p.mm, BASE, 5 << 20, limits=limits) == "EFAULT"
    assert limits.pinned_vm == 0 and refcounts(p.pages).sum() == 2 and p.pages[2, 2] == 0


@pytest.mark.parametrize("name, wanted", [("5.17", "EFAULT"), ("6.1", "EFAULT"), ("6.12", None)])
def test_a_read_only_region_is_pinned_for_writing_before_6_2(name, wanted):
    """FOLL_WRITE with FOLL_FORCE is refused for a shared area that cannot be written."""
    p = Pinning(name, "2M", 2, flags=READ_WRITE & ~Vm.WRITE)
    if wanted:
        assert refused(p.gup, p.mm, BASE, 4096, writable=False) == wanted
    else:
        assert ib_umem_get(p.gup, p.mm, BASE, 4096, writable=False).npages == 1


def test_compound_pages_make_the_release_cheap_and_not_the_registration():
    """algorithms E3: 1024 locked operations a 2 MiB of base pages, 3 a compound page; pins are counted page by page."""
    counts = {}
    for name in ("5.16", "5.17"):
        p = Pinning(name, "2M", 4)
        get, put = events(p.array.nr_pages), events(p.array.nr_pages)
        umem = ib_umem_get(p.gup, p.mm, BASE, 4 << 20, events=get)
        clean = type(umem)(umem.addr, umem.length, False, umem.pfns, umem.nr_pages, umem.limits)
        ib_umem_release(p.gup, clean, events=put)
        counts[name] = int(get.counts[Counter.LOCKED]), int(put.counts[Counter.LOCKED])
    assert counts == {"5.16": (2048, 2048), "5.17": (2048, 6)}


@given(
    runs=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 40)), max_size=8),
    most=st.integers(1, 30),
    batch=st.integers(1, 40),
)
def test_merging_keeps_the_pages_in_order_and_entries_short(runs, most, batch):
    pages = np.array([1000 * i + first + k for i, (first, n) in enumerate(runs) for k in range(n)], np.int64)
    batches = [pages[at : at + batch] for at in range(0, len(pages), batch)]
    pfns, nr_pages = merge(batches, most << 12)
    spread = [pfn + k for pfn, nr in zip(pfns.tolist(), nr_pages.tolist(), strict=True) for k in range(nr)]
    assert spread == pages.tolist()
    assert all(nr <= most for nr in nr_pages)
    # No two neighbours could have been one.
    joins = [
        a + n == b and n < most for a, n, b in zip(pfns.tolist(), nr_pages.tolist(), pfns[1:].tolist(), strict=False)
    ]
    assert not any(joins)
    assert PAGES_PER_CALL == 512
