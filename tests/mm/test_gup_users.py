# SPDX-License-Identifier: GPL-2.0-only
"""What system calls do to the pages of device memory: flags, batches, and the clean-up after a failure."""

import numpy as np
import pytest

from tests.mm.pinning import BASE, READ_WRITE, Pinning
from tests.mm.support import refcounts
from workbench.errors import WorkbenchError
from workbench.mm import gup_users as users
from workbench.mm.gup import Backing
from workbench.mm.mmap import Vm

BASES = ["5.10", "5.15", "5.17", "6.1", "6.12"]


def flag(p, name):
    return np.uint64(p.array.kernel.abi.flag(name))


def marked(p, name):
    return np.flatnonzero(p.pages[:, 0] & flag(p, name)).tolist()


def refused(call, *args):
    with pytest.raises(WorkbenchError) as refusal:
        call(*args)
    return refusal.value.errno_name


@pytest.mark.parametrize("name", BASES)
def test_a_umem_that_reaches_past_the_device_is_refused_with_what_it_pinned_dirty(name):
    """Recorded: ENOMEM for two pages of which the second has no memory."""
    p = Pinning(name, "4K", 2, mapped=False)
    p.file.fails_from = p.addr(511)
    p.array.writable(p.first, 512).pages[:512, 3] = p.file.mapping.address
    before = refcounts(p.pages)
    assert refused(users.af_xdp_umem_pin, p.gup, p.mm, p.addr(510), 2) == "ENOMEM"
    np.testing.assert_array_equal(refcounts(p.pages), before)
    assert marked(p, "dirty") == ([] if name == "5.10" else [510]) and marked(p, "referenced") == []
    assert refused(users.af_xdp_umem_pin, p.gup, p.mm, p.addr(511), 1) == "EFAULT"


def test_a_umem_of_a_read_only_area_is_refused():
    p = Pinning("6.1", "2M", 2, flags=READ_WRITE & ~Vm.WRITE)
    assert refused(users.af_xdp_umem_pin, p.gup, p.mm, BASE, 512) == "EFAULT"
    assert len(users.vmsplice(p.gup, p.mm, BASE, 4096)) == 1


@pytest.mark.parametrize("name", BASES)
def test_vmsplice_takes_a_pipe_full_and_marks_what_it_took(name):
    p = Pinning(name, "4K", 2)
    held = users.vmsplice(p.gup, p.mm, p.addr(3) + 10, 40 << 12)
    assert held.pfns.tolist() == list(range(p.first + 3, p.first + 19)) and not held.pins
    # The batch for which there was no room was taken and dropped again: it is marked, and not held.
    assert marked(p, "referenced") == list(range(3, 35))
    assert np.flatnonzero(refcounts(p.pages) == 2).tolist() == list(range(3, 19))
    p.gup.release(held)
    assert (refcounts(p.pages) == 1).all()


@pytest.mark.parametrize("name", ["5.10", "5.15", "5.17", "6.1"])
def test_fixed_buffers_of_a_file_are_refused_up_to_6_1(name):
    p = Pinning(name, "2M", 2)
    before = p.pages
    assert refused(users.io_uring_fixed_buffer, p.gup, p.mm, BASE, 2 << 20) == "EOPNOTSUPP"
    np.testing.assert_array_equal(p.pages, before)
    p.file.backing = Backing.HUGETLB
    assert len(users.io_uring_fixed_buffer(p.gup, p.mm, BASE, 2 << 20)) == 512


@pytest.mark.parametrize(
    "align, first, nr_pages, kept",
    [
        ("2M", 0, 512, [0]),  # as recorded: one pin a compound page
        ("2M", 100, 1000, [100, 512, 1024]),
        ("2M", 7, 5, [7]),
        ("2M", 3, 1, [3]),
        ("4K", 0, 5, [0, 1, 2, 3, 4]),
    ],
)
def test_6_12_keeps_one_pin_a_compound_page(align, first, nr_pages, kept):
    p = Pinning("6.12", align, 6)
    held = users.io_uring_fixed_buffer(p.gup, p.mm, p.addr(first), nr_pages << 12)
    assert (held.pfns - p.first).tolist() == kept
    grown = refcounts(p.pages).astype(np.int64)
    assert grown.sum() == (3 + len(kept) if align == "2M" else p.nr_pages + 1024 * len(kept))
    p.gup.release(held)
    assert refcounts(p.pages).sum() == (3 if align == "2M" else p.nr_pages)


def test_a_fixed_buffer_that_cannot_be_pinned_whole():
    p = Pinning("6.1", "2M", 4, mapped=False)
    p.file.fails_from = p.addr(512)
    assert refused(users.io_uring_fixed_buffer, p.gup, p.mm, p.addr(511), 8192) == "EFAULT"
    assert refused(users.io_uring_fixed_buffer, p.gup, p.mm, BASE, (1 << 30) + 1) == "EFAULT"
    assert refcounts(p.pages).sum() == 2


def test_process_vm_readv_stops_where_nothing_is_mapped():
    p = Pinning("6.1", "4K", 2)
    assert users.process_vm_readv(p.gup, p.mm, p.addr(510) + 96, 1 << 20) == 8192 - 96
    assert marked(p, "referenced") == [510, 511] and (refcounts(p.pages) == 1).all()
    assert refused(users.process_vm_readv, p.gup, p.mm, BASE - 4096, 4096) == "EFAULT"


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("align", ["4K", "2M"])
def test_direct_reads_dirty_base_pages_and_since_6_5_compound_ones(name, align):
    p = Pinning(name, align, 2)
    p.array.writable(p.first, 512).pages[:512, 3][p.pages[:, 1] & np.uint64(1) == 0] = p.file.mapping.address
    before = refcounts(p.pages)
    assert users.write_from(p.gup, p.mm, p.addr(4), 3 << 12) == 3 << 12 and marked(p, "dirty") == []
    assert users.read_into(p.gup, p.mm, p.addr(4), 300 << 12) == 300 << 12
    compound = align == "2M" and name in ("5.17", "6.1", "6.12")
    none = name == "5.10" or (compound and name != "6.12")
    # Without dirty tracking in device-dax (5.10) nothing is marked.
    assert marked(p, "dirty") == ([] if none else [0] if compound else list(range(4, 304)))
    np.testing.assert_array_equal(refcounts(p.pages), before)
