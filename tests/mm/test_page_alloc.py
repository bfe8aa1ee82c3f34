# SPDX-License-Identifier: GPL-2.0-only
"""Each kernel of mm/page_alloc.c: naive against fast, store by store, then the scenarios of patches 2 and 3.

Run with NUMBA_DISABLE_JIT=1 or NUMBA_BOUNDSCHECK=1 the same tests judge the plain and the checked form.
"""

from collections import Counter as Tally
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import naive
from tests.mm.support import (
    COMPOUND,
    EVERY_KERNEL,
    KERNELS,
    LARGEST,
    PGMAP,
    START,
    few,
    memory,
    needs_jit,
    over,
    pageblock_words,
    refcounts,
    same,
    stores,
    struct_pages,
)
from workbench.mm import page_alloc
from workbench.mm._jit import JIT
from workbench.mm.events import Access, Counter, Site, events
from workbench.series import Kernel, kernel

WORD = st.integers(0, 2**64 - 1)
NODE = st.integers(0, 1023)
LARGEST_ORDER = 10 if JIT else 5


def u64(*numbers):
    return [np.uint64(n) for n in numbers]


def node_for(L, nid):
    return nid if L.node_bits else 0


# -- one page ----------------------------------------------------------------------------------------------


@EVERY_KERNEL
@given(i=st.integers(0, 3), zone=st.integers(0, 3), nid=NODE, words=st.lists(WORD, min_size=32, max_size=32))
@few
def test_init_single_page(name, i, zone, nid, words):
    k, L = KERNELS[name]
    nid = node_for(L, nid)
    pages = struct_pages(4)
    pages[:] = np.array(words, np.uint64).reshape(4, 8)
    mem, writes = memory(pages), []
    naive.init_single_page(mem, L, START + i, zone, nid, writes)
    ev = events(4, len(writes))
    vm = over(k, pages)
    page_alloc.__init_single_page(vm, i, *u64(zone, nid), ev)
    same(pages, mem)
    assert stores(ev) == writes

    pages[:] = np.array(words, np.uint64).reshape(4, 8)
    page_alloc.__init_single_page(vm, i, *u64(zone, nid), None)
    same(pages, mem)


@EVERY_KERNEL
@given(i=st.sampled_from([0, 1, 511, 512, 513, 1023]), nid=NODE, pgmap=WORD, fill=WORD, block=WORD)
@few
def test_init_zone_device_page(name, i, nid, pgmap, fill, block):
    k, L = KERNELS[name]
    nid = node_for(L, nid)
    pages = struct_pages(1024, fill)
    mem, writes, pageblocks = memory(pages), [], []
    naive.init_zone_device_page(mem, L, START + i, L.zone_device, nid, pgmap, writes, pageblocks)
    assert bool(pageblocks) == (i % 512 == 0)
    for log_capacity in (0, len(writes)):
        pages[:] = np.uint64(fill)
        vm = over(k, pages, pageblock_word=block)
        ev = events(len(pages), log_capacity) if log_capacity else None
        page_alloc.__init_zone_device_page(vm, i, *u64(L.zone_device, nid, pgmap), ev)
        same(pages, mem)
        assert vm.pageblock_flags.tolist() == pageblock_words(pageblocks, vm.pageblock_flags, block)
        if ev is not None:
            assert stores(ev) == writes
            assert ev.counts[Counter.MIGRATETYPE_WRITES] == ev.counts[Counter.LOCKED] == len(pageblocks)


def test_sites_of_a_device_pages_stores():
    """Who makes each of the 17 stores, in the C order."""
    k, L = KERNELS["5.17"]
    ev = events(1, 17)
    page_alloc.__init_zone_device_page(over(k, struct_pages(1)), 0, *u64(L.zone_device, 0, PGMAP), ev)
    assert [Site(site).c_name for site in ev.log[:, 4].tolist()] == [
        *["mm_zero_struct_page"] * 8,
        "set_page_links",
        "init_page_count",
        "page_mapcount_reset",
        "page_cpupid_reset_last",
        "INIT_LIST_HEAD",
        "INIT_LIST_HEAD",
        "__SetPageReserved",
        "__init_zone_device_page",
        "__init_zone_device_page",
    ]
    assert set(ev.log[:, 5].tolist()) == {Access.PLAIN}


# -- compound pages (patch 2) ------------------------------------------------------------------------------


def zero_refcount(mem, pfn, writes):
    naive._store(mem, pfn, 6, 0, writes, low_bit=32, bits=32)


def prep_compound_page(mem, L, head, order, writes):
    """The naive one; 5.10 also stores refcount 0 to each tail, before it becomes one."""
    if L.release != "5.10":
        naive.prep_compound_page(mem, L, head, order, writes)
        return
    naive._set_page_head(mem, L, head, writes)
    for i in range(1, 1 << order):
        zero_refcount(mem, head + i, writes)
        naive.prep_compound_tail(mem, L, head, i, writes)
    naive.prep_compound_head(mem, L, head, order, writes)


@st.composite
def dirty_pages(draw, order):
    """A block of 2**order pages inside others, all with arbitrary words: (pages, row of the head)."""
    head = draw(st.sampled_from([0, 1, 7]))
    seed = draw(st.integers(0, 2**32 - 1))
    pages = struct_pages(head + (1 << order) + 1)
    pages[:] = np.random.default_rng(seed).integers(0, 2**64, pages.shape, np.uint64, endpoint=False)
    return pages, head


@EVERY_KERNEL
@given(data=st.data(), order=st.integers(1, LARGEST_ORDER))
@few
def test_prep_compound_page(name, data, order):
    k, L = KERNELS[name]
    pages, head = data.draw(dirty_pages(order))
    mem, writes, again = memory(pages), [], pages.copy()
    prep_compound_page(mem, L, START + head, order, writes)
    ev = events(len(pages), len(writes))
    vm = over(k, pages)
    page_alloc.prep_compound_page(vm, head, order, ev)
    same(pages, mem)
    assert stores(ev) == writes
    pages[:] = again
    page_alloc.prep_compound_page(vm, head, order, None)
    same(pages, mem)


@pytest.mark.parametrize("base", ["5.10", "5.15", "5.16", "5.17", "6.1", "6.12"])
@given(data=st.data(), order=st.integers(1, LARGEST_ORDER))
def test_patch_2_changes_no_byte_on_any_base(base, data, order):
    pages, head = data.draw(dirty_pages(order))
    results = []
    for patches in ("=", "=2"):
        k = kernel(f"{base}+{patches}")
        copy = struct_pages(len(pages))
        copy[:] = pages
        page_alloc.prep_compound_page(over(k, copy), head, order, None)
        results.append(copy)
    assert (results[0] == results[1]).all()


@EVERY_KERNEL
@given(data=st.data(), order=st.integers(1, 18), tail=st.integers(1, 7))
@few
def test_prep_compound_tail_and_head(name, data, order, tail):
    k, L = KERNELS[name]
    pages, head = data.draw(dirty_pages(3))
    vm, mem, writes = over(k, pages), memory(pages), []
    naive.prep_compound_tail(mem, L, START + head, tail, writes)
    naive.prep_compound_head(mem, L, START + head, order, writes)
    ev = events(len(pages), len(writes))
    page_alloc.prep_compound_tail(vm, head, tail, ev)
    page_alloc.prep_compound_head(vm, head, order, ev)
    same(pages, mem)
    assert stores(ev) == writes


@pytest.mark.parametrize("name", ["5.16+1", "5.16+2", "5.15", "5.17"])
def test_patch_2_scenario(name):
    """An order-9 block of 512 zeroed struct pages with refcount 1: 32,768 bytes compare equal."""
    before = kernel("5.16+1")
    copies = []
    for k in (before, KERNELS[name][0]):
        pages = struct_pages(512)
        pages[:, 6] = np.uint64(1 << 32)
        page_alloc.prep_compound_page(over(k, pages), 0, 9, None)
        copies.append(pages)
    assert copies[0].nbytes == 32768
    assert copies[0].tobytes() == copies[1].tobytes()
    assert copies[1][1, 3] == 0xDEAD000000000200
    assert (copies[1][2:, 3] == 0xDEAD000000000400).all()
    assert (copies[1][1:, 1] == 0xFFFFEA0004000001).all()
    assert copies[1][0, 0] == 1 << 16
    assert (refcounts(copies[1]) == 1).all()


def test_sites_before_and_after_patch_2():
    """The same stores in the same order; after the split two helpers make them."""
    told = {}
    for name in ("5.16+1", "5.16+2"):
        ev = events(8, 64)
        page_alloc.prep_compound_page(over(kernel(name), struct_pages(8)), 0, 3, ev)
        told[name] = ev.log[: ev.counts[Counter.LOGGED]]
    assert (told["5.16+1"][:, :4] == told["5.16+2"][:, :4]).all()
    assert Tally(told["5.16+1"][:, 4].tolist()) == {Site.SetPageHead: 1, Site.prep_compound_page: 7 * 2 + 5}
    assert Tally(told["5.16+2"][:, 4].tolist()) == {
        Site.SetPageHead: 1,
        Site.prep_compound_tail: 7 * 2,
        Site.prep_compound_head: 5,
    }


# -- a device's range (patches 3 and 4) --------------------------------------------------------------------


@dataclass
class Shape:
    """One call of memmap_init_zone_device() on a piece of dirty memory."""

    k: Kernel
    L: naive.Layout
    row: int
    nr_pages: int
    shift: int
    altmap: tuple[int, int, int] | None
    nid: int
    pgmap: int
    fill: int
    block: int

    @property
    def first(self):
        """Row of the first page behind the altmap."""
        return self.row if self.altmap is None else self.row + self.altmap[1] + self.altmap[2]

    @property
    def end(self):
        return self.row + self.nr_pages

    @property
    def step(self):
        return 1 << self.shift if self.k.tree.has(4) else 1

    @property
    def counts(self):
        return naive.expected_counts(
            self.nr_pages, self.shift, START + self.row, self.altmap, self.k.tree.has(4), self.k.tree.dedup
        )

    def empty(self):
        """Dirty struct pages up to one behind the last that is written."""
        steps = -(-(self.end - self.first) // self.step)
        return struct_pages(self.first + steps * self.step + 1, self.fill)

    def memmap(self, pages):
        return over(self.k, pages, pageblock_word=self.block)

    def model(self):
        """What the naive model makes of it: memory, stores, pageblocks."""
        mem, writes, pageblocks = memory(self.empty()), [], []
        tree = self.k.tree
        if naive.compound_nr_pages(self.shift, self.altmap, tree.dedup and self.step > 1, False) < self.step:
            for head in range(START + self.first, START + self.end, self.step):
                naive.share_tails(mem, self.L, head, self.shift, START + self.end)
        reported = naive.memmap_init_zone_device(
            mem,
            self.L,
            START + self.row,
            self.nr_pages,
            self.nid,
            self.pgmap,
            self.shift,
            self.altmap,
            compound=tree.has(4),
            dedup=tree.dedup,
            writes=writes,
            pageblocks=pageblocks,
        )
        assert reported == self.end - self.first
        return mem, writes, pageblocks

    def arguments(self, vm, lo=0, hi=None):
        hi = len(vm.pages) if hi is None else hi
        words = u64(self.L.zone_device, self.nid, self.pgmap)
        return (vm, self.first, self.end, *words, self.shift, self.altmap is not None, lo, hi)

    def regular(self, vm, ev=None):
        return page_alloc.memmap_init_zone_device(*self.arguments(vm), ev)

    def non_temporal(self, vm, lo=0, hi=None):
        return page_alloc.memmap_init_zone_device_nt(*self.arguments(vm, lo, hi))


@st.composite
def shapes(draw, name):
    """Sizes, shifts, starts and altmaps; shared tails only at starts where a device can begin."""
    k, L = KERNELS[name]
    shift = draw(st.integers(0, LARGEST_ORDER))
    with_altmap = draw(st.booleans())
    reserve, free = (draw(st.integers(0, 3)), draw(st.integers(0, 700))) if with_altmap else (0, 0)
    pages = draw(st.integers(1, LARGEST))
    shared = k.tree.dedup and shift > 7 and not with_altmap
    row = 512 * draw(st.integers(0, 2)) if shared or draw(st.booleans()) else draw(st.integers(0, 1100))
    row = row if JIT else row % 600
    return Shape(
        k,
        L,
        row,
        reserve + free + pages,
        shift,
        (START + row, reserve, free) if with_altmap else None,
        node_for(L, draw(NODE)),
        draw(WORD) & ~7,
        draw(WORD),
        draw(WORD),
    )


@EVERY_KERNEL
@given(data=st.data())
@few
def test_memmap_init_zone_device(name, data):
    """Bytes, pageblocks, every store in order, and the numbers that the log line and a counter would say."""
    shape = data.draw(shapes(name))
    mem, writes, pageblocks = shape.model()
    reported = shape.end - shape.first

    pages = shape.empty()
    vm = shape.memmap(pages)
    ev = events(len(pages), len(writes))
    assert shape.regular(vm, ev) == reported
    same(pages, mem)
    assert vm.pageblock_flags.tolist() == pageblock_words(pageblocks, vm.pageblock_flags, shape.block)
    assert stores(ev) == writes
    assert len(pageblocks) == shape.counts["migratetype_writes"]

    silent = shape.empty()
    quiet = shape.memmap(silent)
    assert shape.regular(quiet) == reported
    assert silent.tobytes() == pages.tobytes()
    assert (quiet.pageblock_flags == vm.pageblock_flags).all()


@EVERY_KERNEL
@given(data=st.data())
@few
def test_non_temporal_form_leaves_the_same_bytes(name, data):
    shape = data.draw(shapes(name))
    regular, streamed = shape.empty(), shape.empty()
    a, b = shape.memmap(regular), shape.memmap(streamed)
    assert shape.regular(a) == shape.non_temporal(b)
    assert streamed.tobytes() == regular.tobytes()
    assert (a.pageblock_flags == b.pageblock_flags).all()


@EVERY_KERNEL
@given(data=st.data())
@few
def test_parts_in_any_order_make_the_whole(name, data):
    """A section is filled on its own: bounds cut the work anywhere, through compounds and pageblocks too.

    |  part 2  | part 1 |   part 3   |      each bounded call stores to its own rows only
    """
    shape = data.draw(shapes(name))
    whole, parts = shape.empty(), shape.empty()
    a, b = shape.memmap(whole), shape.memmap(parts)
    shape.non_temporal(a)
    cuts = sorted({0, len(parts), *data.draw(st.lists(st.integers(0, len(parts)), max_size=5))})
    windows = data.draw(st.permutations(list(pairwise(cuts))))
    for lo, hi in windows:
        others = np.delete(parts, np.s_[lo:hi], axis=0)
        shape.non_temporal(b, lo, hi)
        assert (np.delete(parts, np.s_[lo:hi], axis=0) == others).all()
    assert parts.tobytes() == whole.tobytes()
    assert (a.pageblock_flags == b.pageblock_flags).all()


def closed_form(shape):
    """What the operation costs, from sizes alone."""
    L, numbers = shape.L, shape.counts
    inits, heads, tails = numbers["page_inits"], numbers["heads"], numbers["tails"]
    cpupid = L.last_cpupid_shift is not None
    described = heads if shape.step > (1 if L.release == "6.12" else 2) else 0
    over_1 = shape.shift > 1
    head_part = {"6.1": 5, "6.12": 6 + 2 * over_1}.get(L.release, 4 + over_1)
    return {
        Counter.STORES: (
            inits * (16 + cpupid) + heads + tails * (3 + (L.release in ("6.1", "6.12"))) + described * head_part
        ),
        Counter.LOADS: inits * (1 + cpupid) + heads + described * (L.release == "6.12"),
        Counter.LINES_WRITTEN: inits,
        Counter.LINES_READ: inits,
        Counter.MIGRATETYPE_WRITES: numbers["migratetype_writes"],
        Counter.COND_RESCHED: numbers["migratetype_writes"],
        Counter.LOCKED: numbers["migratetype_writes"],
        Counter.LOGGED: 0,
        Counter.NOT_LOGGED: 0,
    }


def counted(ev):
    return {counter: int(ev.counts[counter]) for counter in Counter}


@EVERY_KERNEL
@given(data=st.data())
@few
def test_counts_equal_the_closed_form(name, data):
    shape = data.draw(shapes(name))
    pages = shape.empty()
    ev = events(len(pages))
    shape.regular(shape.memmap(pages), ev)
    assert counted(ev) == closed_form(shape)


@EVERY_KERNEL
@given(data=st.data(), shift=st.integers(0, LARGEST_ORDER))
@few
def test_memmap_init_compound(name, data, shift):
    """The part of patch 4 on its own: tails of a compound whose head page stands already."""
    k, L = KERNELS[name]
    nr = data.draw(st.integers(1, 1 << shift))
    pages, head = data.draw(dirty_pages(shift))
    nid, pgmap = node_for(L, data.draw(NODE)), data.draw(WORD)
    vm, mem, writes, pageblocks = over(k, pages), memory(pages), [], []
    naive.memmap_init_compound(mem, L, START + head, L.zone_device, nid, pgmap, shift, nr, writes, pageblocks)
    ev = events(len(pages), len(writes))
    words = u64(L.zone_device, nid, pgmap)
    page_alloc.memmap_init_compound(vm, head, *words, shift, nr, 0, len(pages), ev)
    same(pages, mem)
    assert stores(ev) == writes
    assert ev.counts[Counter.MIGRATETYPE_WRITES] == len(pageblocks)


@EVERY_KERNEL
@given(data=st.data())
@few
def test_memmap_init_range(name, data):
    """The pages that hold an altmap's struct pages: reserved, no pgmap, the reserve in front left as it was."""
    k, L = KERNELS[name]
    row, reserve, free = (data.draw(st.integers(0, most)) for most in (600, 3, LARGEST))
    nid, fill, block = node_for(L, data.draw(NODE)), data.draw(WORD), data.draw(WORD)
    pages = struct_pages(row + reserve + free + 1, fill)
    vm, mem, writes, pageblocks = over(k, pages, pageblock_word=block), memory(pages), [], []
    naive.memmap_init_range_altmap(mem, L, (START + row, reserve, free), nid, writes, pageblocks)
    start = row + reserve
    for log in (True, False):
        pages[:] = np.uint64(fill)
        vm.pageblock_flags[:] = np.uint64(block)
        ev = events(len(pages), len(writes)) if log else None
        cut = data.draw(st.integers(0, len(pages)))
        for lo, hi in ((0, cut), (cut, len(pages))):
            page_alloc.memmap_init_range(vm, start, start + free, *u64(L.zone_device, nid), lo, hi, ev)
        same(pages, mem)
        assert vm.pageblock_flags.tolist() == pageblock_words(pageblocks, vm.pageblock_flags, block)
        if ev is not None and writes:
            assert stores(ev) == writes
            assert ev.counts[Counter.MIGRATETYPE_WRITES] == ev.counts[Counter.COND_RESCHED] == len(pageblocks)


@EVERY_KERNEL
@pytest.mark.parametrize("shift", [0, 1, 2, 7, 8, 9, 18])
@pytest.mark.parametrize("altmap", [False, True])
def test_pages_of_a_compound_that_are_initialised(name, shift, altmap):
    k, _ = KERNELS[name]
    vm = over(k, struct_pages(1))
    step = page_alloc.pfns_per_compound(vm, shift)
    assert step == (1 << shift if k.tree.has(4) else 1)
    expected = naive.compound_nr_pages(shift, (0, 0, 0) if altmap else None, k.tree.dedup, False)
    if step > 1:
        assert page_alloc.compound_nr_pages(vm, step, altmap) == expected


@pytest.mark.parametrize("name", COMPOUND)
@pytest.mark.parametrize("shift", range(11, 19))
def test_the_first_pages_of_large_compounds(name, shift):
    """Order 11 to 18: the first 300 pages of a compound, from a call that is bounded there."""
    k, L = KERNELS[name]
    nr = 300
    shape = Shape(k, L, 0, 1 << shift, shift, None, 0, PGMAP, 0x5A5A5A5A5A5A5A5A, 0)
    mem = memory(struct_pages(nr))
    naive.init_zone_device_page(mem, L, START, L.zone_device, 0, PGMAP)
    naive.memmap_init_compound(mem, L, START, L.zone_device, 0, PGMAP, shift, nr)
    for form in ("regular", "non_temporal"):
        pages = struct_pages(nr, shape.fill)
        if form == "regular":
            page_alloc.memmap_init_zone_device(*shape.arguments(shape.memmap(pages)), None)
        else:
            shape.non_temporal(shape.memmap(pages))
        same(pages, mem)


@needs_jit
@pytest.mark.slow
@pytest.mark.parametrize("name", ["5.17", "6.1", "6.12"])
def test_one_gib_compound_page_by_page(name):
    """262,144 struct pages of one compound, all of them against the naive model."""
    k, L = KERNELS[name]
    shape = Shape(k, L, 0, 1 << 18, 18, None, 0, PGMAP, 0x5A5A5A5A5A5A5A5A, 0)
    mem, writes, _ = shape.model()
    pages = shape.empty()
    ev = events(len(pages))
    shape.regular(shape.memmap(pages), ev)
    same(pages, mem)
    assert ev.counts[Counter.STORES] == len(writes)
    streamed = shape.empty()
    shape.non_temporal(shape.memmap(streamed))
    assert (streamed == pages).all()


# -- patch 3: a move of code -------------------------------------------------------------------------------


@given(data=st.data())
def test_patch_3_changes_no_byte_and_no_store(data):
    name = data.draw(st.sampled_from(["5.16+2", "5.16+=2,4"]))
    shape = data.draw(shapes(name))
    told = []
    for k in (shape.k, kernel({"5.16+2": "5.16+3", "5.16+=2,4": "5.16+4"}[name])):
        pages = shape.empty()
        vm = over(k, pages, pageblock_word=shape.block)
        ev = events(len(pages), 24 * len(pages))
        assert shape.regular(vm, ev) == shape.end - shape.first
        told.append((pages.tobytes(), vm.pageblock_flags.tobytes(), stores(ev), ev.counts.tolist()))
    assert told[0] == told[1]


@needs_jit
def test_patch_3_scenario():
    """1 GiB at pfn 0x100000: 262,144 inits, 512 migratetype writes, before = after."""
    seen = []
    for name in ("5.16+2", "5.16+3"):
        k, L = KERNELS[name]
        shape = Shape(k, L, 0, 262_144, 0, None, 0, PGMAP, 0, 0)
        pages = struct_pages(262_144)
        vm = shape.memmap(pages)
        ev = events(len(pages))
        assert shape.regular(vm, ev) == 262_144
        assert ev.counts[Counter.LINES_WRITTEN] == 262_144
        assert ev.counts[Counter.STORES] == 17 * 262_144
        assert ev.counts[Counter.MIGRATETYPE_WRITES] == ev.counts[Counter.COND_RESCHED] == 512
        seen.append((pages.tobytes(), vm.pageblock_flags.tobytes()))
    assert seen[0] == seen[1]


def test_sites_before_and_after_patch_3():
    told = {}
    for name in ("5.16+2", "5.16+3"):
        k, L = KERNELS[name]
        shape = Shape(k, L, 0, 2, 0, None, 0, PGMAP, 0, 0)
        ev = events(4, 64)
        shape.regular(shape.memmap(shape.empty()), ev)
        told[name] = {Site(site).c_name for site in ev.log[: ev.counts[Counter.LOGGED], 4].tolist()}
    assert told["5.16+2"] ^ told["5.16+3"] == {"memmap_init_zone_device", "__init_zone_device_page"}


# -- patch 4: compounds ------------------------------------------------------------------------------------

HEAD_REST = (PGMAP, 0, 0, 0, 0, 0x1FFFFFFFF, 0)
LATER_TAIL = (0xFFFFEA0004000001, 0, 0xDEAD000000000400, 0, 0, 0xFFFFFFFF, 0)
SPECIFIED = {  # release: flags of head, tail 1, further tails; then words 2, 3, 4 of tail 1, all for order 9
    "5.17": (0x0027FFFFC0011000, 0x0027FFFFC0001000, 0x0027FFFFC0001000, 0xFFFFFFFF00000901, 0xDEAD000000000200, 0),
    "6.1-nodedup": (0x0020000000011000, 0x0020000000001000, 0x0020000000001000, 0xFFFFFFFF00000901, 0x20000000000, 0),
    "6.1": (0x0027FFFFC0011000, 0x0027FFFFC0001000, 0x0027FFFFC0001000, 0xFFFFFFFF00000901, 0x20000000000, 0),
    "6.12": (0x0027FFFFC0002040, 0x0027FFFFC0002009, 0x0027FFFFC0002000, 0xFFFFFFFFFFFFFFFF, 0, 0x200),
}


@pytest.mark.parametrize("form", ["regular", "non_temporal"])
@pytest.mark.parametrize("name", SPECIFIED)
def test_words_of_the_specification(name, form):
    k, L = KERNELS[name]
    shape = Shape(k, L, 0, 512, 9, None, 0, PGMAP, 0x5A5A5A5A5A5A5A5A, 0)
    pages = shape.empty()
    getattr(shape, form)(shape.memmap(pages))
    head, first, later, word_2, word_3, word_4 = SPECIFIED[name]
    assert pages[0].tolist() == [head, *HEAD_REST]
    assert pages[1].tolist() == [first, LATER_TAIL[0], word_2, word_3, word_4, 0, 0xFFFFFFFF, 0]
    assert (pages[2:512] == np.array([later, *LATER_TAIL], np.uint64)).all()
    assert (pages[512] == shape.fill).all()


@pytest.mark.parametrize("name", ["5.16+4", "5.16+=4", "5.16+11", "5.17"])
@given(data=st.data())
def test_shift_0_after_patch_4_is_what_was_before(name, data):
    shape = data.draw(shapes(name))
    shape.shift = 0
    before, after = shape.empty(), shape.empty()
    shape.regular(shape.memmap(after))
    shape.regular(over(kernel("5.16+3"), before, pageblock_word=shape.block))
    assert before.tobytes() == after.tobytes()


def test_a_shift_means_nothing_before_patch_4():
    k, L = KERNELS["5.16+3"]
    pages = struct_pages(513)
    Shape(k, L, 0, 512, 9, None, 0, PGMAP, 0, 0).regular(over(k, pages))
    assert (refcounts(pages[:512]) == 1).all()
    assert (pages[:512, 1] == PGMAP).all()


def test_the_head_is_described_at_the_third_page():
    """Stores of prep_compound_head() come right after tail 2 is made (6.12: tail 1), not before, not at the end."""
    for name, last_tail in (("5.17", 2), ("6.1-nodedup", 2), ("6.12-nodedup", 1)):
        k, L = KERNELS[name]
        ev = events(16, 16 * 24)
        Shape(k, L, 0, 16, 4, None, 0, PGMAP, 0, 0).regular(over(k, struct_pages(16)), ev)
        log = ev.log[: ev.counts[Counter.LOGGED]]
        describing = np.flatnonzero(log[:, 4] == Site.prep_compound_head)
        assert (np.diff(describing) == 1).all()
        before, after = log[describing[0] - 1], log[describing[-1] + 1]
        assert (before[0], before[4]) == (last_tail, Site.set_page_count)
        assert (after[0], after[4]) == (last_tail + 1, Site.mm_zero_struct_page)
        assert set(log[describing, 0].tolist()) <= {1, 2}


@needs_jit
@pytest.mark.parametrize(
    "name, shift, inits, heads, tails",
    [
        ("5.16+3", 0, 262_144, 0, 0),
        ("5.17", 0, 262_144, 0, 0),
        ("5.17", 9, 262_144, 512, 261_632),
        ("5.17", 18, 262_144, 1, 262_143),
        ("6.1", 9, 65_536, 512, 512 * 127),
        ("6.1", 18, 128, 1, 127),
    ],
)
def test_work_per_gib(name, shift, inits, heads, tails):
    """The table of the specification: struct pages initialised, heads, tails, bytes written per GiB."""
    k, L = KERNELS[name]
    ev = events(262_144)
    pages = struct_pages(262_144)
    Shape(k, L, 0, 262_144, shift, None, 0, PGMAP, 0, 0).regular(over(k, pages), ev)
    assert ev.counts[Counter.LINES_WRITTEN] == inits
    assert int((pages[:, 0] >> np.uint64(16) & np.uint64(1)).sum()) == heads
    written = ev.seen & 2 != 0
    assert int((pages[written, 1] & np.uint64(1)).sum()) == tails
    assert int(refcounts(pages).sum()) == (heads or 262_144)


@needs_jit
def test_shared_tails_stop_where_the_range_stops():
    """6.1: a 1 GiB compound over 512 MiB maps nothing behind its range: a neighbour's pages are its own.

    0           131072                    262144
    |-- range --|------ neighbour ---------|        one compound of 262,144 pages asked for
    """
    k, L = KERNELS["6.1"]
    shape = Shape(k, L, 0, 131_072, 18, None, 0, PGMAP, 0x5A5A5A5A5A5A5A5A, 0)
    for form in ("regular", "non_temporal"):
        pages = struct_pages(131_072 + 64, shape.fill)
        getattr(shape, form)(shape.memmap(pages))
        assert (pages[131_072:] == shape.fill).all(), form
        assert (pages[2:131_072, 3] == 0xDEAD000000000400).all()
