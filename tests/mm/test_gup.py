# SPDX-License-Identifier: GPL-2.0-only
"""Pins and references of user pages: counts by release, the two walks, failures in the middle, overflow, threads."""

import errno
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mm.pinning import BASE, READ_WRITE, Memory, Pinning
from tests.mm.support import needs_jit, refcounts
from workbench.errors import KernelCrash, WorkbenchError
from workbench.mm import pgtable
from workbench.mm.gup import Backing, Pinned
from workbench.mm.mmap import Vm, Vma, VmFault
from workbench.mm.page_ref import Foll
from workbench.mm.pgtable import Level, Pg

BASES = ["5.10", "5.15", "5.16", "5.17", "6.1", "6.1-nodedup", "6.12"]
COMPOUND = ["5.17", "6.1", "6.1-nodedup", "6.12"]
W, L = Foll.WRITE, Foll.LONGTERM
# Where the spec says that a release keeps the pin counter: tail, word, bit of it.
PINCOUNT = {"5.17": (2, 2, 0), "6.1": (1, 3, 0), "6.1-nodedup": (1, 3, 0), "6.12": (1, 3, 32)}
REFERENCED = {"6.12": 1 << 2}
DIRTY = {"6.12": 1 << 4}


def pincount(pages, name):
    tail, word, shift = PINCOUNT[name]
    return int(pages[tail, word]) >> shift & 0xFFFF_FFFF


def flag(name, table, otherwise):
    return table.get(name, otherwise)


def refused(call, *args, **kwargs):
    with pytest.raises(WorkbenchError) as refusal:
        call(*args, **kwargs)
    return refusal.value.errno_name


def without_marks(pages, name):
    """Struct pages without PG_referenced and PG_dirty, which outlive a pin."""
    out = pages.copy()
    out[:, 0] &= ~np.uint64(flag(name, REFERENCED, 1 << 1) | flag(name, DIRTY, 1 << 3))
    return out


# -- what a pin and a reference are --------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMPOUND)
def test_a_full_pin_of_a_compound_page(name):
    p = Pinning(name, "2M", 4)
    before = p.pages
    held = p.gup.pin_user_pages_fast(p.mm, BASE, 512, W)
    assert held.pfns.tolist() == list(range(p.first, p.first + 512)) and held.whole and held.pins
    after = p.pages
    assert refcounts(after)[0] == 513 and pincount(after, name) == 512
    assert int(after[0, 0] ^ before[0, 0]) == flag(name, REFERENCED, 1 << 1)
    changed = {0, PINCOUNT[name][0]}
    assert set(np.flatnonzero((after != before).any(axis=1)).tolist()) == changed
    assert p.mm.has_pinned
    assert len(p.gup.release(held)) == 0
    np.testing.assert_array_equal(without_marks(p.pages, name), without_marks(before, name))


@pytest.mark.parametrize("name", ["5.10", "5.15", "5.16"])
def test_a_pin_of_base_pages(name):
    p = Pinning(name, "2M", 4)
    held = p.gup.pin_user_pages_fast(p.mm, BASE + 4096, 512, W)
    counts = refcounts(p.pages)
    assert counts[0] == 1 and (counts[1:513] == 1025).all() and (counts[513:] == 1).all()
    p.gup.release(held)
    assert (refcounts(p.pages) == 1).all()


@pytest.mark.parametrize("align", ["4K", "2M"])
@pytest.mark.parametrize("name", BASES)
def test_references_count_one_each(name, align):
    p = Pinning(name, align, 4)
    before = p.pages
    held = p.gup.get_user_pages_fast(p.mm, BASE + 8192, 16, 0)
    compound = align == "2M" and name in COMPOUND
    grown = refcounts(p.pages) - refcounts(before)
    expected = np.zeros(p.nr_pages, np.int32)
    expected[slice(0, 1) if compound else slice(2, 18)] = 16 if compound else 1
    np.testing.assert_array_equal(grown, expected)
    marked = (p.pages[:, 0] ^ before[:, 0]) == np.uint64(flag(name, REFERENCED, 1 << 1))
    np.testing.assert_array_equal(marked, expected != 0)
    assert not held.pins and not p.mm.has_pinned
    p.gup.release(held)
    np.testing.assert_array_equal(without_marks(p.pages, name), before)


@needs_jit
def test_a_compound_page_of_1_gib_is_found_from_its_last_section():
    p = Pinning("5.17", "1G", 1024)
    held = p.gup.pin_user_pages_fast(p.mm, p.addr(p.nr_pages - 3), 3, W)
    head = p.array.words(p.first)
    assert head[6] >> 32 == 4 and p.array.words(p.first + 2)[2] == 3
    p.gup.release(held)
    assert p.array.words(p.first)[6] >> 32 == 1


# -- which walk, and which marks ------------------------------------------------------------------------------


@pytest.mark.parametrize("align", ["4K", "2M"])
@pytest.mark.parametrize("name", BASES)
def test_long_term_pins_of_device_memory_take_the_slow_walk(name, align):
    p = Pinning(name, align, 4)
    before = p.pages
    held = p.gup.pin_user_pages_fast(p.mm, BASE, 8, W | L)
    changed = (p.pages[:, 0] ^ before[:, 0]).tolist()
    # Only 6.12 touches on this way, and a touch marks pages that PTEs map.
    touched = name == "6.12" and align == "4K"
    assert changed == [1 << 2 if touched and i < 8 else 0 for i in range(p.nr_pages)]
    p.gup.release(held)


@pytest.mark.parametrize(
    "name, sequence",
    [(n, [1 << 1, 0, 1 << 1]) for n in ("5.10", "5.15", "5.17", "6.1")]
    + [("6.12", [1 << 2, 1 << 2 | 1 << 9, *(1 << 2 | 1 << 9 | n << 25 for n in (1, 2, 3, 3))])],
)
def test_each_slow_use_of_a_pte_marks_the_page_accessed(name, sequence):
    p = Pinning(name, "4K", 2)
    before = int(p.pages[5, 0])
    for marks in sequence:
        p.gup.release(p.gup.pin_user_pages_remote(p.mm, p.addr(5), 1, 0))
        assert int(p.pages[5, 0]) ^ before == marks


def test_a_slow_use_of_a_huge_entry_marks_the_entry_alone():
    p = Pinning("6.1", "2M", 2, mapped=False)
    p.file.enter(p.mm, p.vma, BASE, write=False)
    clean = np.uint64(Pg.DIRTY | Pg.ACCESSED)
    p.mm.pt.entries[p.mm.pt.entries & np.uint64(Pg.PSE) != 0] &= ~clean
    before = p.pages
    p.gup.release(p.gup.get_user_pages(p.mm, BASE, 1, 0))
    assert p.mm.walk(BASE)[1] & int(clean) == Pg.ACCESSED
    p.gup.release(p.gup.get_user_pages(p.mm, BASE, 1, W))
    assert p.mm.walk(BASE)[1] & int(clean) == clean
    np.testing.assert_array_equal(p.pages, before)


@pytest.mark.parametrize("name", BASES)
def test_a_slow_write_through_a_clean_pte_dirties_the_page_but_on_5_10(name):
    p = Pinning(name, "4K", 2, mapped=False)
    p.file.enter(p.mm, p.vma, BASE, write=False)
    p.array.writable(p.first, 1).pages[p.first - p.array.start_pfn, 3] = p.file.mapping.address
    p.gup.release(p.gup.pin_user_pages_remote(p.mm, BASE, 1, W))
    assert bool(p.pages[0, 0] & np.uint64(flag(name, DIRTY, 1 << 3))) == (name != "5.10")


@pytest.mark.parametrize("align, marked", [("2M", 1), ("4K", 4)])
@pytest.mark.parametrize("name", BASES)
def test_a_dirtying_release(name, align, marked):
    p = Pinning(name, align, 2)
    p.array.writable(p.first, p.nr_pages).pages[: p.nr_pages : 1 if align == "4K" else 512, 3] = p.file.mapping.address
    if align == "2M" and name not in COMPOUND:
        p.array.writable(p.first, p.nr_pages).pages[: p.nr_pages, 3] = p.file.mapping.address
        marked = 4
    before = p.pages
    held = p.gup.pin_user_pages(p.mm, BASE, 4, W | L)
    p.gup.release(held, make_dirty=True)
    dirty = (p.pages[:, 0] ^ before[:, 0]) == np.uint64(flag(name, DIRTY, 1 << 3))
    assert np.flatnonzero(dirty).tolist() == ([] if name == "5.10" else list(range(marked)))
    assert (refcounts(p.pages) == refcounts(before)).all()


def test_pages_that_are_missing_are_faulted_in_by_the_slow_walk():
    p = Pinning("5.17", "2M", 6, mapped=False)
    p.file.enter(p.mm, p.vma, BASE)
    held = p.gup.pin_user_pages_fast(p.mm, p.addr(510), 1000, W)
    assert held.pfns.tolist() == list(range(p.first + 510, p.first + 1510)) and p.file.faults == 2
    counts = refcounts(p.pages)
    assert counts[[0, 512, 1024]].tolist() == [3, 513, 487]
    # The lockless walk marked what it took; what the slow one took it did not.
    assert (p.pages[[0, 512, 1024], 0] & np.uint64(1 << 1) != 0).tolist() == [True, False, False]
    p.gup.release(held)
    assert p.gup.pin_user_pages_fast(p.mm, p.addr(1530), 6, W | Foll.FAST_ONLY).asked == 6


def test_fast_only_does_not_fault():
    p = Pinning("6.1", "2M", 4, mapped=False)
    p.file.enter(p.mm, p.vma, BASE)
    held = p.gup.get_user_pages_fast(p.mm, p.addr(500), 100, W | Foll.FAST_ONLY)
    assert len(held) == 12 and p.file.faults == 0


def test_the_second_range_of_a_device_is_found_for_every_page():
    p = Pinning("5.17", "2M", 4)
    other = p.pgmap.ranges[0][0] + 1024  # a second device right behind
    room = Pinning("5.17", "2M", 4, room=2048)
    room.zone.memremap_pages(type(p.pgmap)(0xFFFF888100B00000, ((other, 512), (other + 512, 512)), vmemmap_shift=9))
    vma = Vma(BASE + (4 << 20), BASE + (8 << 20), READ_WRITE, Memory(other, Level.PMD), 0)
    room.mm.insert(vma)
    for at in (0, 2 << 20):
        vma.file.enter(room.mm, vma, vma.start + at)
    held = room.gup.pin_user_pages_fast(room.mm, room.addr(1000), 1048, W)
    assert held.pfns.tolist() == list(range(room.first + 1000, room.first + 2048))
    room.gup.release(held)
    table = room.zone.pgmap_array
    assert (room.zone.refs(room.pgmap), table.refs[:3].tolist()) == (2, [2, 2, 0])


# -- a fork in between ----------------------------------------------------------------------------------------


def test_a_pin_that_meets_a_fork_leaves_the_lockless_walk():
    p = Pinning("6.1", "4K", 2)
    p.mm.write_protect_seq[0] = 1
    assert len(p.gup.pin_user_pages_fast(p.mm, BASE, 4, W | Foll.FAST_ONLY)) == 0
    assert len(p.gup.get_user_pages_fast(p.mm, BASE, 4, W | Foll.FAST_ONLY)) == 4
    p.mm.write_protect_seq[0] = 2
    assert len(p.gup.pin_user_pages_fast(p.mm, BASE, 4, W | Foll.FAST_ONLY)) == 4


# -- refusals and failures in the middle -----------------------------------------------------------------------


def test_flags_that_are_not_for_a_call():
    p = Pinning("6.1", "2M", 2)
    assert refused(p.gup.pin_user_pages_fast, p.mm, BASE, 1, W | Foll.GET) == "EINVAL"
    assert refused(p.gup.pin_user_pages_fast, p.mm, BASE, 1, W | Foll.TOUCH) == "EINVAL"
    assert refused(p.gup.pin_user_pages, p.mm, BASE, 1, W | Foll.GET) == "EINVAL"
    assert refused(p.gup.get_user_pages, p.mm, BASE, 1, W | L) == "EINVAL"
    assert refused(p.gup.get_user_pages_fast, p.mm, BASE, 1, W | Foll.PIN) == "EINVAL"
    assert refused(p.gup.pin_user_pages_fast, p.mm, pgtable.USER_END - 4096, 2, W) == "EFAULT"
    assert (refcounts(p.pages)[:1] == 1).all()


@pytest.mark.parametrize("flags, wanted", [(W, "EFAULT"), (0, None), (W | Foll.FORCE, "EFAULT")])
def test_a_read_only_area(flags, wanted):
    p = Pinning("6.1", "2M", 2, flags=READ_WRITE & ~Vm.WRITE)
    if wanted:
        assert refused(p.gup.pin_user_pages_fast, p.mm, BASE, 4, flags | L) == wanted
    else:
        assert len(p.gup.get_user_pages_fast(p.mm, BASE, 4, flags)) == 4


def test_nothing_mapped_and_no_access():
    p = Pinning("6.1", "2M", 2)
    assert refused(p.gup.pin_user_pages, p.mm, BASE - 4096, 2, W) == "EFAULT"
    held = p.gup.pin_user_pages(p.mm, p.addr(510), 4, W)
    assert (len(held), held.error, held.whole) == (2, errno.EFAULT, False)
    p.gup.release(held)
    closed = Pinning("6.1", "2M", 2, mapped=False, flags=READ_WRITE & ~(Vm.READ | Vm.WRITE))
    assert refused(closed.gup.pin_user_pages, closed.mm, BASE, 1, 0) == "EFAULT"


def test_fsdax_refuses_long_term_pins():
    p = Pinning("6.1", "2M", 2)
    p.file.backing = Backing.FSDAX
    assert refused(p.gup.pin_user_pages_fast, p.mm, BASE, 4, W | L) == "EOPNOTSUPP"
    assert len(p.gup.pin_user_pages_fast(p.mm, BASE, 4, W)) == 4


@pytest.mark.parametrize("fault, number", [(VmFault.SIGBUS, errno.EFAULT), (VmFault.OOM, errno.ENOMEM)])
def test_a_fault_that_fails(fault, number):
    p = Pinning("5.17", "2M", 4, mapped=False)
    p.file.fails, p.file.fails_from = fault, p.addr(512)
    held = p.gup.pin_user_pages(p.mm, p.addr(500), 100, W)
    assert (len(held), held.error) == (12, number)
    assert refused(p.gup.pin_user_pages, p.mm, p.addr(512), 1, W) == errno.errorcode[number]


@pytest.mark.parametrize("name", BASES)
def test_a_huge_entry_without_pgmap_is_undone(name):
    """A device at its end: the entry maps more than the pgmap has; the pages before that are given back."""
    p = Pinning(name, "2M", 2, room=1024)
    p.file.enter(p.mm, p.vma, BASE)
    word = p.mm.walk(BASE)[1]
    _, table, index = pgtable.walk(p.mm.pt, BASE)
    p.mm.pt.entries[table, index] = np.uint64(word + (256 << 12))  # the second half lies behind the device
    before = p.pages
    held = p.gup.pin_user_pages_fast(p.mm, BASE, 300, W | Foll.FAST_ONLY)
    assert len(held) == 0
    np.testing.assert_array_equal(p.pages, before)
    assert p.zone.refs(p.pgmap) == (1 if name in COMPOUND else 512)


# -- counts near their end ------------------------------------------------------------------------------------


def set_refcount(p, page, count):
    p.array.writable(p.first, p.nr_pages).pages.view(np.int32)[p.first - p.array.start_pfn + page, 13] = count


@pytest.mark.parametrize("name", ["5.15", "5.16", "5.17", "6.1", "6.12"])
def test_a_negative_count_is_refused_and_undone(name):
    """Page 3 has overflowed: a walk over base pages undoes 0 to 2, a compound page is refused at once."""
    p = Pinning(name, "2M", 2)
    compound = name in COMPOUND
    set_refcount(p, 0 if compound else 3, -5)
    before = p.pages
    assert len(p.gup.pin_user_pages_fast(p.mm, BASE, 8, W | Foll.FAST_ONLY)) == 0
    np.testing.assert_array_equal(without_marks(p.pages, name), without_marks(before, name))
    # What had been marked before the refusal: up to 6.1 the page itself, which nothing takes back.
    marked = np.flatnonzero(p.pages[:, 0] != before[:, 0]).tolist()
    assert marked == ([] if name == "6.12" else [0 if compound else 3])
    assert refused(p.gup.pin_user_pages, p.mm, p.addr(0 if compound else 3), 1, W) == "ENOMEM"


@pytest.mark.parametrize("name", ["5.17", "6.1", "6.12"])
def test_a_struct_page_that_was_never_initialised_is_its_own_head(name):
    """Eight words of zero; the first struct page of the array is another page's."""
    p = Pinning(name, "2M", 4)
    p.array.writable(p.first + 700, 1).pages[p.first + 700 - p.array.start_pfn] = 0
    before = p.pages
    # The walk fails on its count, 0, and leaves PG_referenced there at most; the slow path says why.
    assert refused(p.gup.pin_user_pages_fast, p.mm, BASE + (700 << 12), 4, W) == "ENOMEM"
    assert (p.pages[:700] == before[:700]).all() and (p.pages[701:] == before[701:]).all()
    assert not p.pages[700, 1:].any()


def test_a_base_page_overflows_after_2097151_pins():
    """algorithms E6: 2^31 / 1024; the last pin that fits leaves 1023 below the end, the next wraps."""
    p = Pinning("5.16", "2M", 2)
    set_refcount(p, 0, 1 + 1024 * 2_097_150)
    p.gup.pin_user_pages_fast(p.mm, BASE, 1, W)
    assert refcounts(p.pages)[0] == 1 + 1024 * 2_097_151 > 0
    p.gup.pin_user_pages_fast(p.mm, BASE, 1, W)
    assert refcounts(p.pages)[0] < 0
    assert len(p.gup.pin_user_pages_fast(p.mm, BASE, 1, W | Foll.FAST_ONLY)) == 0


@needs_jit
def test_a_compound_page_of_1_gib_has_room_for_8191_full_pins():
    p = Pinning("5.17", "1G", 1024)
    p.array.materialise()
    set_refcount(p, 0, 1 + 8190 * 262_144)
    held = p.gup.pin_user_pages_fast(p.mm, BASE, 262_144, W)
    assert len(held) == 262_144 and p.array.words(p.first)[6] >> 32 == 1 + 8191 * 262_144
    # The next one fits up to its last page but one; that one wraps, and the last is refused: all are undone.
    assert len(p.gup.pin_user_pages_fast(p.mm, BASE, 262_144, W | Foll.FAST_ONLY)) == 0
    assert p.array.words(p.first)[6] >> 32 == 1 + 8191 * 262_144
    assert p.array.words(p.first + 2)[2] == 262_144


# -- a page held over its device ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["5.15", "5.17"])
def test_the_last_reference_after_a_waiting_teardown_is_told(name):
    p = Pinning(name, "2M", 2)
    held = p.gup.get_user_pages_fast(p.mm, p.addr(7), 1, 0)
    assert not p.zone.memunmap_pages(p.pgmap)
    freed = p.gup.release(held)
    assert freed.tolist() == [p.first if name == "5.17" else p.first + 7]
    assert p.zone.teardown_continue(p.pgmap) and p.array.existing_pages == 0


@pytest.mark.parametrize("name", ["6.1", "6.12"])
def test_a_page_put_after_its_device_is_gone_kills_the_kernel(name):
    p = Pinning(name, "2M", 2)
    held = p.gup.get_user_pages_fast(p.mm, p.addr(7), 1, 0)
    assert p.zone.memunmap_pages(p.pgmap)
    with pytest.raises(KernelCrash, match=f"{p.array.kernel.abi.struct_page(p.first + 7) + 8:016x}"):
        p.gup.release(held)


# -- properties -----------------------------------------------------------------------------------------------

OPERATION = st.tuples(
    st.sampled_from(["pin", "get", "pin slow", "get slow", "long"]), st.integers(0, 1020), st.integers(1, 600)
)


@pytest.mark.parametrize("align", ["4K", "2M"])
@pytest.mark.parametrize("name", BASES)
@given(operations=st.lists(OPERATION, min_size=1, max_size=5), order=st.randoms(use_true_random=False))
def test_whatever_is_taken_and_given_back_leaves_the_bytes(name, align, operations, order):
    p = Pinning(name, align, 4)
    before, held = p.pages, []
    for what, page, nr_pages in operations:
        call, flags = {
            "pin": (p.gup.pin_user_pages_fast, W),
            "get": (p.gup.get_user_pages_fast, 0),
            "pin slow": (p.gup.pin_user_pages, W),
            "get slow": (p.gup.get_user_pages, W),
            "long": (p.gup.pin_user_pages_fast, W | L),
        }[what]
        held.append(call(p.mm, p.addr(page), min(nr_pages, 1024 - page), flags))
        assert held[-1].whole
    compound = align == "2M" and name in COMPOUND
    expected = np.ones(p.nr_pages, np.int64)
    if compound:
        expected[np.arange(p.nr_pages) % 512 != 0] = 0
    for each in held:
        pages = each.pfns - p.first
        np.add.at(expected, pages // 512 * 512 if compound else pages, 1024 if each.pins and not compound else 1)
    np.testing.assert_array_equal(refcounts(p.pages), expected)
    order.shuffle(held)
    for each in held:
        p.gup.release(each)
    marks = np.uint64(0b11 << 25 | 1 << 9) if name == "6.12" else np.uint64(0)
    after = without_marks(p.pages, name)
    after[:, 0] &= ~marks
    np.testing.assert_array_equal(after, without_marks(before, name))


@given(broken=st.integers(0, 511), first=st.integers(0, 511), nr_pages=st.integers(1, 400))
@pytest.mark.parametrize("name", ["5.15", "5.17", "6.12"])
def test_a_failure_in_the_middle_of_an_entry_undoes_exactly(name, broken, first, nr_pages):
    p = Pinning(name, "2M", 2)
    compound = name in COMPOUND
    set_refcount(p, 0 if compound else broken, -7)
    nr_pages = min(nr_pages, 512 - first)
    before = p.pages
    held = p.gup.pin_user_pages_fast(p.mm, p.addr(first), nr_pages, W | Foll.FAST_ONLY)
    meets = compound or first <= broken < first + nr_pages
    assert len(held) == (0 if meets else nr_pages)
    p.gup.release(held)
    np.testing.assert_array_equal(without_marks(p.pages, name), without_marks(before, name))


@given(nr_pages=st.integers(1, 900), page=st.integers(0, 100), cuts=st.lists(st.integers(1, 900), max_size=4))
@pytest.mark.parametrize("name", ["5.15", "5.17", "6.1", "6.12"])
def test_a_release_by_range_leaves_what_a_release_by_pages_leaves(name, nr_pages, page, cuts):
    one, other = Pinning(name, "2M", 4), Pinning(name, "2M", 4)
    for p in (one, other):
        p.gup.pin_user_pages_fast(p.mm, p.addr(page), nr_pages, W)
    edges = sorted({0, nr_pages, *(cut for cut in cuts if cut < nr_pages)})
    for low, high in itertools.pairwise(edges):
        one.gup.unpin_user_page_range(one.first + page + low, high - low, make_dirty=True)
        other.gup.unpin_user_pages(np.arange(other.first + page + low, other.first + page + high), make_dirty=True)
    np.testing.assert_array_equal(one.pages, other.pages)
    assert refused(Pinning("5.10").gup.unpin_user_page_range, one.first, 1) is None


# -- the ablation and the comparator --------------------------------------------------------------------------


@needs_jit
def test_plain_stores_do_what_locked_ones_do_where_nobody_else_is():
    p, plain = Pinning("5.17", "2M", 4), Pinning("5.17", "2M", 4, plain=True)
    for each in (p, plain):
        held = each.gup.pin_user_pages_fast(each.mm, BASE, 700, W)
        each.gup.unpin_user_pages(held.pfns[100:], make_dirty=True)
    np.testing.assert_array_equal(p.pages, plain.pages)


@pytest.mark.parametrize("align", ["2M"])
def test_huge_pages_of_ordinary_memory_are_grabbed_at_once(align):
    """The comparator: an entry without the device bit; no pgmap is looked up, one grab for all its pages."""
    p = Pinning("6.1", align, 4, mapped=False)
    p.file.bits = Pg(0)
    for page in (0, 512):
        p.file.enter(p.mm, p.vma, p.addr(page))
    before = p.pages
    held = p.gup.pin_user_pages_fast(p.mm, p.addr(500), 100, W | L)
    assert held.pfns.tolist() == list(range(p.first + 500, p.first + 600)) and held.pins
    assert refcounts(p.pages)[[0, 512]].tolist() == [13, 89] and pincount(p.pages, "6.1") == 12
    p.gup.release(Pinned(held.pfns, 100, pins=True))
    np.testing.assert_array_equal(without_marks(p.pages, "6.1"), without_marks(before, "6.1"))
