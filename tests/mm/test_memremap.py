# SPDX-License-Identifier: GPL-2.0-only
"""A device's memory gets its struct pages and gives them back: patch 4's references, puts and yields."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import naive
from tests.mm.support import KERNELS, LARGEST, PGMAP, START, few, memory, needs_jit, over, refcounts, same, struct_pages
from workbench.abi import Role
from workbench.errors import WorkbenchError
from workbench.mm import Altmap, DevPagemap, InitCall, PageArray, page_alloc
from workbench.mm._jit import JIT
from workbench.mm.events import Access, Counter, Site, events
from workbench.mm.memremap import drop_references, init_call, pagemap_range, pfn_end, pfn_first, pfn_len, put_pages
from workbench.series import kernel

SECTION, SUBSECTION = 32768, 512
WALKS = [name for name, (k, _) in KERNELS.items() if k.tree.puts_pages_at_teardown]


def bound(name, pgmap, span=None):
    """A device's ranges in a page array, bound; the array and what the log reports for each range."""
    first = min(start for start, _ in pgmap.ranges)
    last = max(start + nr for start, nr in pgmap.ranges)
    array = PageArray(kernel(name), first, span or last - first)
    return array, [pagemap_range(array, pgmap, i) for i in range(len(pgmap.ranges))]


# -- the range and its first page --------------------------------------------------------------------------


def test_first_page_end_and_references_of_a_range():
    plain = DevPagemap(PGMAP, ((START, 4 * SECTION), (START + 8 * SECTION, SECTION)), 9)
    assert [pfn_first(plain, i) for i in (0, 1)] == [START, START + 8 * SECTION]
    assert [pfn_end(plain, i) for i in (0, 1)] == [START + 4 * SECTION, START + 9 * SECTION]
    # 1 GiB namespace at 4 GiB, align 2M, map=dev: 18 MiB in front of the data, 1006 MiB of data.
    altmap = DevPagemap(PGMAP, ((START, 262_144),), 9, Altmap(START, 2, 4606))
    assert pfn_first(altmap, 0) == START + 4608
    assert (pfn_end(altmap, 0) - pfn_first(altmap, 0)) * 4096 == 1006 << 20
    assert init_call(altmap, 0, 1) == InitCall(START + 4608, START + 262_144, 1, PGMAP, 9, altmap=True)
    assert init_call(plain, 1) == InitCall(START + 8 * SECTION, START + 9 * SECTION, 0, PGMAP, 9, altmap=False)


@pytest.mark.parametrize(
    "name, shift, references",
    [("5.16+3", 18, 262_144), ("5.17", 0, 262_144), ("5.17", 9, 512), ("5.17", 18, 1), ("6.1", 9, 512), ("6.1", 18, 1)],
)
def test_references_per_gib(name, shift, references):
    array = PageArray(kernel(name), START, 262_144)
    assert pfn_len(array, DevPagemap(PGMAP, ((START, 262_144),), shift), 0) == references


@given(nr=st.integers(1, 1 << 20), shift=st.integers(0, 18), reserve=st.integers(0, 3), free=st.integers(0, 9), new=...)
def test_references_equal_the_model(nr, shift, reserve, free, new: bool):
    nr += reserve + free
    array = PageArray(kernel("5.17" if new else "5.16+3"), START, SECTION)
    pgmap = DevPagemap(PGMAP, ((START, nr),), shift, Altmap(START, reserve, free))
    expected = naive.expected_counts(nr, shift, START, (START, reserve, free), compound=new)
    assert pfn_len(array, pgmap, 0) == expected["percpu_refs"]


# -- bringing a device up ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, reserve, free",
    [(name, 2, free) for name in ("5.15", "5.16+3", "5.17", "6.1-nodedup", "6.12") for free in (510, 1534)]
    + [("5.15", 1, 300), ("5.16+3", 0, 77)],
)
def test_a_device_with_its_struct_pages_in_itself(name, reserve, free):
    """reserve: not initialised; free: reserved, in no pgmap; then the device's pages."""
    k, L = KERNELS[name]
    nr, altmap = 4 * SUBSECTION, (START, reserve, free)
    array, reported = bound(name, DevPagemap(PGMAP, ((START, nr),), 9, Altmap(*altmap)))
    mem = naive.populate({}, START, nr)
    naive.memmap_init_range_altmap(mem, L, altmap, 0)
    assert reported == [naive.memmap_init_zone_device(mem, L, START, nr, 0, PGMAP, 9, altmap, compound=k.tree.has(4))]
    same(array.view(START, nr), mem)
    assert not array.view(START, nr)[:reserve].any()
    assert array.role(START + reserve) is Role.BASE


def test_refusals():
    array = PageArray(kernel("5.17"), START, 4 * SECTION)
    two = DevPagemap(PGMAP, ((START, SECTION), (START + 2 * SECTION, SECTION)), 9, Altmap(START, 2, 510))
    with pytest.raises(WorkbenchError, match="one range") as refused:
        pagemap_range(array, two, 1)
    assert refused.value.errno_name == "EINVAL"
    assert array.existing_pages == 0
    with pytest.raises(WorkbenchError) as refused:
        pagemap_range(array, DevPagemap(PGMAP, ((START, 1000),)), 0)
    assert refused.value.errno_name == "EINVAL"
    pagemap_range(array, DevPagemap(PGMAP, ((START, SECTION),)), 0)
    with pytest.raises(WorkbenchError) as refused:
        pagemap_range(array, DevPagemap(PGMAP, ((START, 2 * SECTION),)), 0)
    assert refused.value.errno_name == "ENOMEM"
    assert array.existing_pages == SECTION


# -- patch 4's scenario ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, shift, heads", [("5.17", 9, 2), ("5.16+4", 9, 2), ("5.17", 0, 1024), ("5.16+3", 9, 1024)]
)
def test_four_mib_at_4_gib(name, shift, heads):
    """4 MiB, order 9: two heads, 2 references of 1 and 1,022 of 0; taken 2, put 2; order 0: 1,024 of each."""
    pgmap = DevPagemap(PGMAP, ((START, 1024),), shift)
    array, reported = bound(name, pgmap)
    assert reported == [1024]
    counts = refcounts(array.view(START, 1024))
    assert np.bincount(counts).tolist() == ([1022, 2] if heads == 2 else [0, 1024])
    if heads == 2:
        assert [array.role(START + i) for i in (0, 512)] == [Role.HEAD] * 2
        assert array.role(START + 511) is array.role(START + 1023) is Role.TAIL
        assert (array.view(START, 1024)[:, 1] & np.uint64(1)).sum() == 1022
    references = pfn_len(array, pgmap, 0)
    assert references == heads
    ev = events(array.nr_pages, 4096)
    assert drop_references(array, pgmap, 0, ev) == references
    assert ev.counts[Counter.LOCKED] == ev.counts[Counter.STORES] == heads
    assert ev.counts[Counter.LINES_WRITTEN] == heads
    assert not refcounts(array.view(START, 1024)).any(), "a reference survived the teardown"
    log = ev.log[: ev.counts[Counter.LOGGED]]
    assert set(log[:, 4].tolist()) == {Site.put_page_testzero}
    assert set(log[:, 5].tolist()) == {Access.LOCKED}
    assert set(log[:, 2].tolist()) == {0x1FFFFFFFF}
    assert set(log[:, 3].tolist()) == {0x0FFFFFFFF}


@pytest.mark.parametrize("name", ["5.10", "5.15", "5.16+3", "5.16+4", "5.16+11", "5.17"])
@pytest.mark.parametrize("shift", [0, 9, 10, 12])
def test_no_reference_survives_the_teardown(name, shift):
    """References taken at init are the ones put at teardown; a tail that kept its 1 would stay behind."""
    nr = 8 * SUBSECTION
    pgmap = DevPagemap(PGMAP, ((START, nr), (START + 2 * SECTION, nr)), shift)
    array, _ = bound(name, pgmap)
    for i in range(2):
        freed = drop_references(array, pgmap, i)
        assert freed == pfn_len(array, pgmap, i)
        assert not refcounts(array.view(pgmap.ranges[i][0], nr)).any()


def test_a_page_that_someone_holds_is_not_freed():
    pgmap = DevPagemap(PGMAP, ((START, 4 * SUBSECTION),), 9)
    array, _ = bound("5.17", pgmap)
    vm = array.writable(START, 1)
    vm.pages[SUBSECTION, 6] += np.uint64(1 << 32)
    assert drop_references(array, pgmap) == 3
    assert refcounts(array.view(START, 4 * SUBSECTION))[[0, SUBSECTION, 2 * SUBSECTION]].tolist() == [0, 1, 0]


def test_6_1_returns_its_references_in_bulk():
    pgmap = DevPagemap(PGMAP, ((START, SECTION),), 9)
    array, _ = bound("6.1", pgmap)
    before = array.view(START, SECTION).tobytes()
    with pytest.raises(WorkbenchError, match="in bulk"):
        drop_references(array, pgmap)
    assert array.view(START, SECTION).tobytes() == before


@pytest.mark.parametrize("gone", [False, True])
def test_a_neighbour_that_became_tails_puts_the_foreign_head(gone):
    """5.17: after an overrun each put of the neighbour's former heads drops a reference of the overrunning head.

    |range 0: 1 section|neighbour: 1 section|     one compound of 2 sections from range 0 on
    """
    array = PageArray(kernel("5.17"), START, 2 * SECTION)
    neighbour = DevPagemap(PGMAP + 0x1000, ((START + SECTION, SECTION),), 9)
    overrunning = DevPagemap(PGMAP, ((START, SECTION),), 16)
    pagemap_range(array, neighbour, 0)
    pagemap_range(array, overrunning, 0)
    if gone:
        array.remove_pages(START, SECTION)
        with pytest.raises(WorkbenchError, match="no struct page exists at pfn 0x100000"):
            drop_references(array, neighbour)
        return
    drop_references(array, neighbour)
    assert refcounts(array.view(START, 1)).tolist() == [1 - SECTION // SUBSECTION]
    assert not refcounts(array.view(START + SECTION, SECTION)).any()


# -- the walk ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WALKS)
@given(data=st.data(), shift=st.integers(0, 10 if JIT else 6))
@few
def test_put_pages(name, data, shift):
    """Over any counts: a page (a compound's head) loses one, and those that reach zero are told."""
    k, L = KERNELS[name]
    first, nr = data.draw(st.integers(0, 1100 if JIT else 100)), data.draw(st.integers(1, LARGEST))
    step = 1 << shift if k.tree.has(4) else 1
    end = first + nr
    pages = struct_pages(first + -(-nr // step) * step, 0)
    vm = over(k, pages)
    words = (np.uint64(L.zone_device), np.uint64(0), np.uint64(PGMAP))
    page_alloc.memmap_init_zone_device(vm, first, end, *words, shift, False, 0, len(pages), None)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    heads = range(first, end, step)
    held = rng.integers(0, 3, len(heads))
    pages[first:end:step, 6] += held.astype(np.uint64) << np.uint64(32)

    mem, expected = memory(pages), []
    for row in heads:
        old = mem[START + row][6]
        mem[START + row][6] = old - (1 << 32)
        expected.append((row, 6, old, old - (1 << 32)))
    before = pages.copy()
    ev = events(len(pages), len(heads))
    assert put_pages(vm, first, end, shift, ev) == int((held == 0).sum())
    same(pages, mem)
    assert [tuple(row[:4]) for row in ev.log.tolist()] == expected
    new = k.tree.has(4)
    yields = naive.pfn_next_yields(START + first, nr, shift if new else 0, inverted=new)
    assert ev.counts[Counter.COND_RESCHED] == yields
    assert ev.counts[Counter.LOADS] == 2 * len(heads)
    assert ev.counts[Counter.LINES_READ] == ev.counts[Counter.LINES_WRITTEN] == len(heads)

    pages[:] = before
    assert put_pages(vm, first, end, shift, None) == int((held == 0).sum())
    same(pages, mem)


@needs_jit
@pytest.mark.parametrize(
    "name, shift, yields, steps",
    [("5.16+3", 0, 256, 262_144), ("5.17", 0, 261_888, 262_144), ("5.17", 9, 511, 512), ("5.17", 18, 1, 1)],
)
def test_yields_of_a_gib(name, shift, yields, steps):
    """pfn_next() turned its test round: 256 offers before, 261,888 after; 511 of the 512 steps with order 9.

    Only pfns that are a multiple of 1,024 compounds' pages do not yield; 0x100000 is one up to order 10.
    """
    pgmap = DevPagemap(PGMAP, ((START, 262_144),), shift)
    array, _ = bound(name, pgmap)
    ev = events(array.nr_pages)
    assert drop_references(array, pgmap, 0, ev) == steps
    assert ev.counts[Counter.COND_RESCHED] == yields
    assert ev.counts[Counter.LOCKED] == steps
