# SPDX-License-Identifier: GPL-2.0-only
"""The naive model itself, against the specification's examples and against recorded struct pages.

The recorded runs are taken from ``data/captures``, or from the folder that the environment variable
``WORKBENCH_CAPTURES`` names.
"""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import naive
from tests.naive import LAYOUTS

PFN = 0x100000
PGMAP = 0xFFFF888100A01000
HEAD_ADDRESS = 0xFFFFEA0004000000
COMPOUND_LAYOUTS = ("5.15", "5.16", "5.17", "6.1", "6.12", "6.1-nodedup")


def compound(L, shift, count, **more):
    """One compound at PFN, its first `count` pages initialised as the kernel does it for a device."""
    mem = naive.populate({}, PFN, 1 << shift, word=0x5A5A5A5A5A5A5A5A)
    naive.init_zone_device_page(mem, L, PFN, L.zone_device, 0, PGMAP)
    naive.memmap_init_compound(mem, L, PFN, L.zone_device, 0, PGMAP, shift, count, **more)
    return mem


def refcount(page):
    return page[6] >> 32


# -- the example words of the specification ----------------------------------------------------------------

HEAD_REST = (PGMAP, 0, 0, 0, 0, 0x1FFFFFFFF, 0)
LATER_TAIL_REST = (HEAD_ADDRESS + 1, 0, 0xDEAD000000000400, 0, 0, 0xFFFFFFFF, 0)


def rows(head, tail1_flags, tail1_2, tail1_3, tail1_4, tail2_flags):
    return (
        (head, *HEAD_REST),
        (tail1_flags, HEAD_ADDRESS + 1, tail1_2, tail1_3, tail1_4, 0, 0xFFFFFFFF, 0),
        (tail2_flags, *LATER_TAIL_REST),
    )


OLD_HEAD, OLD_BASE = 0x0027FFFFC0011000, 0x0027FFFFC0001000
EXAMPLES = {
    ("5.17", 9): rows(OLD_HEAD, OLD_BASE, 0xFFFFFFFF00000901, 0xDEAD000000000200, 0, OLD_BASE),
    ("5.17", 18): rows(OLD_HEAD, OLD_BASE, 0xFFFFFFFF00001201, 0xDEAD000000040000, 0, OLD_BASE),
    ("6.1", 9): rows(OLD_HEAD, OLD_BASE, 0xFFFFFFFF00000901, 0x0000020000000000, 0, OLD_BASE),
    ("6.1", 18): rows(OLD_HEAD, OLD_BASE, 0xFFFFFFFF00001201, 0x0004000000000000, 0, OLD_BASE),
    ("6.12", 9): rows(0x0027FFFFC0002040, 0x0027FFFFC0002009, 0xFFFFFFFFFFFFFFFF, 0, 0x200, 0x0027FFFFC0002000),
    ("6.12", 18): rows(0x0027FFFFC0002040, 0x0027FFFFC0002012, 0xFFFFFFFFFFFFFFFF, 0, 0x40000, 0x0027FFFFC0002000),
    ("6.1-nodedup", 9): rows(
        0x0020000000011000,
        0x0020000000001000,
        0xFFFFFFFF00000901,
        0x0000020000000000,
        0,
        0x0020000000001000,
    ),
}
EXAMPLES |= {(same, order): EXAMPLES["5.17", order] for same in ("5.15", "5.16") for order in (9, 18)}


@pytest.mark.parametrize("name, order", EXAMPLES)
def test_compound_pages_of_the_specification(name, order):
    head, tail1, later = EXAMPLES[name, order]
    mem = compound(LAYOUTS[name], order, 128)
    assert tuple(mem[PFN]) == head
    assert tuple(mem[PFN + 1]) == tail1
    for i in range(2, 128):
        assert tuple(mem[PFN + i]) == later, i
    assert mem[PFN + 128] == [0x5A5A5A5A5A5A5A5A] * 8


@pytest.mark.parametrize(
    "name, flags",
    [(name, OLD_BASE) for name in ("5.10", "5.15", "5.16", "5.17", "6.1")]
    + [("6.12", 0x0027FFFFC0002000), ("6.1-nodedup", 0x0020000000001000)],
)
def test_base_page_of_the_specification(name, flags):
    L = LAYOUTS[name]
    mem = naive.populate({}, PFN, 1)
    assert naive.memmap_init_zone_device(mem, L, PFN, 1, 0, PGMAP, 0) == 1
    assert tuple(mem[PFN]) == (flags, *HEAD_REST)
    naive.memmap_init_zone_device(mem, L, PFN, 1, 5, PGMAP, 0)
    assert tuple(mem[PFN]) == (flags + (5 << 54), *HEAD_REST)


def test_flag_numbers_of_the_specification():
    old, new = LAYOUTS["5.17"], LAYOUTS["6.12"]
    assert OLD_HEAD | old.bit("referenced") == 0x0027FFFFC0011002
    assert OLD_HEAD | old.bit("hwpoison") == 0x0027FFFFC0811000
    assert [old.flags[flag] for flag in ("dirty", "workingset", "reserved", "head", "arch_2")] == [
        3,
        6,
        12,
        16,
        24,
    ]
    assert [new.flags[flag] for flag in ("referenced", "dirty", "head", "workingset", "reserved")] == [
        2,
        4,
        6,
        9,
        13,
    ]
    assert [new.flags[flag] for flag in ("hwpoison", "young", "idle", "arch_2")] == [20, 21, 22, 23]
    assert len(old.flags) == 25
    assert len(new.flags) == 24


def test_five_level_vmemmap_base():
    L = dataclasses.replace(LAYOUTS["6.1"], vmemmap_base=0xFFD4000000000000)
    mem = compound(L, 3, 8)
    assert mem[PFN + 5][1] == 0xFFD4000004000001


# -- stores in order ---------------------------------------------------------------------------------------

#: Words of the stores of init_single_page with a last_cpupid field, then of init_zone_device_page.
SINGLE = [7, 6, 5, 4, 3, 2, 1, 0, 0, 6, 6, 0, 1, 2]
DEVICE = [*SINGLE, 0, 1, 2]


def words_of(writes):
    return [(pfn - PFN, word) for pfn, word, _, _ in writes]


def test_stores_of_a_single_page():
    L = LAYOUTS["5.17"]
    writes = []
    mem = naive.populate({}, PFN, 1, word=0xFFFFFFFFFFFFFFFF)
    naive.init_single_page(mem, L, PFN, 2, 1, writes)
    ones = 0xFFFFFFFFFFFFFFFF
    own = HEAD_ADDRESS + 8
    node_and_zone = 1 << 54 | 2 << 51
    assert writes == [
        *((PFN, word, ones, 0) for word in reversed(range(8))),
        (PFN, 0, 0, node_and_zone),
        (PFN, 6, 0, 0x100000000),
        (PFN, 6, 0x100000000, 0x1FFFFFFFF),
        (PFN, 0, node_and_zone, node_and_zone | 0x1FFFFF << 30),
        (PFN, 1, 0, own),
        (PFN, 2, 0, own),
    ]


def test_stores_of_a_device_page():
    writes, pageblocks = [], []
    mem = naive.populate({}, PFN, 2)
    for pfn in (PFN, PFN + 1):
        naive.init_zone_device_page(mem, LAYOUTS["5.17"], pfn, 4, 0, PGMAP, writes, pageblocks)
    assert words_of(writes) == [(i, word) for i in (0, 1) for word in DEVICE]
    assert writes[14:17] == [
        (PFN, 0, 0x0027FFFFC0000000, OLD_BASE),
        (PFN, 1, HEAD_ADDRESS + 8, PGMAP),
        (PFN, 2, HEAD_ADDRESS + 8, 0),
    ]
    assert pageblocks == [PFN]


def test_no_last_cpupid_no_store():
    writes = []
    naive.init_single_page(naive.populate({}, PFN, 1), LAYOUTS["6.1-nodedup"], PFN, 2, 0, writes)
    assert [word for _, word, _, _ in writes] == [7, 6, 5, 4, 3, 2, 1, 0, 0, 6, 6, 1, 2]


@pytest.mark.parametrize(
    "name, tail, after_tail, head_part",
    [
        ("5.17", [3, 1], 2, [(1, 2), (1, 2), (1, 3), (1, 2), (2, 2)]),
        ("6.1", [3, 1, 5], 2, [(1, 2), (1, 2), (1, 3), (1, 2), (1, 3)]),
        ("6.12", [3, 1, 5], 1, [(1, 0), (1, 4), (1, 2), (1, 2), (1, 3), (1, 3), (2, 2), (2, 3)]),
    ],
)
def test_stores_of_a_compound(name, tail, after_tail, head_part):
    """Head page, then each tail whole; the head part follows the tail that it needs.

    head | tail 1 | tail 2 | head part | tail 3        up to 6.1
    head | tail 1 | head part | tail 2 | tail 3        6.12
    """
    L = LAYOUTS[name]
    writes = []
    naive.memmap_init_zone_device(naive.populate({}, PFN, 4), L, PFN, 4, 0, PGMAP, 2, writes=writes)
    expected = [(0, word) for word in DEVICE] + [(0, 0)]
    for i in (1, 2, 3):
        expected += [(i, word) for word in [*DEVICE, *tail, 6]]
        if i == after_tail:
            expected += head_part
    assert words_of(writes) == expected


@pytest.mark.parametrize("name", COMPOUND_LAYOUTS)
@given(shift=st.integers(0, 6), nr=st.integers(1, 200), fill=st.integers(0, 2**64 - 1))
@settings(max_examples=25, deadline=None)
def test_stores_tell_the_memory(name, shift, nr, fill):
    """Each store starts from what the one before left, and the last one of a word is what memory holds."""
    step = 1 << shift
    total = -(-nr // step) * step
    mem = naive.populate({}, PFN, total, word=fill)
    writes = []
    naive.memmap_init_zone_device(mem, LAYOUTS[name], PFN, nr, 0, PGMAP, shift, writes=writes)
    replayed = naive.populate({}, PFN, total, word=fill)
    for pfn, word, old, new in writes:
        assert replayed[pfn][word] == old
        replayed[pfn][word] = new
    assert replayed == mem
    assert {pfn for pfn, _, _, _ in writes} == set(mem)


def test_deferred_list_of_6_12_is_wiped_for_a_device():
    L = LAYOUTS["6.12"]
    writes = []
    mem = compound(L, 9, 512, writes=writes)
    tail2 = PFN + 2
    own = L.address(tail2) + 16
    assert [(word, new) for pfn, word, _, new in writes if pfn == tail2 and new == own] == [
        (2, own),
        (3, own),
    ]
    assert mem[tail2] == mem[PFN + 3]


# -- patch 2 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["5.15", "5.16", "5.17"])
def test_prep_compound_page_of_zeroed_pages(name):
    mem = naive.populate({}, PFN, 512)
    for page in mem.values():
        page[6] = 1 << 32
    naive.prep_compound_page(mem, LAYOUTS[name], PFN, 9)
    assert mem[PFN] == [1 << 16, 0, 0, 0, 0, 0, 1 << 32, 0]
    assert mem[PFN + 1] == [0, HEAD_ADDRESS + 1, 0xFFFFFFFF00000901, 0xDEAD000000000200, 0, 0, 1 << 32, 0]
    for i in range(2, 512):
        assert mem[PFN + i] == [0, HEAD_ADDRESS + 1, 0, 0xDEAD000000000400, 0, 0, 1 << 32, 0], i


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("order", [1, 2, 9])
def test_prep_compound_page_leaves_refcounts_and_the_page_behind(name, order):
    L = LAYOUTS[name]
    mem = naive.populate({}, PFN, (1 << order) + 1, word=0x1111111111111111)
    naive.prep_compound_page(mem, L, PFN, order)
    assert {page[6] for page in mem.values()} == {0x1111111111111111}
    assert mem[PFN + (1 << order)] == [0x1111111111111111] * 8
    assert mem[PFN] == [0x1111111111111111 | L.bit("head"), *[0x1111111111111111] * 7]


def test_order_1_has_no_third_page_to_write():
    for name, pages in (("5.17", {1}), ("6.1", {1}), ("6.12", {1})):
        writes = []
        naive.prep_compound_head(naive.populate({}, PFN, 2), LAYOUTS[name], PFN, 1, writes)
        assert {pfn - PFN for pfn, _, _, _ in writes} == pages
    with pytest.raises(naive.VmemmapFault):
        naive.prep_compound_head(naive.populate({}, PFN, 2), LAYOUTS["5.17"], PFN, 2)


def test_private_of_tails_is_cleared_since_6_1():
    for name, private in (("5.15", 7), ("5.17", 7), ("6.1", 0), ("6.12", 0)):
        mem = naive.populate({}, PFN, 8, word=7)
        naive.prep_compound_page(mem, LAYOUTS[name], PFN, 3)
        assert {mem[PFN + i][5] for i in range(1, 8)} == {private}
        assert mem[PFN][5] == 7


def test_deferred_list_of_6_12_stays_for_an_ordinary_compound():
    L = LAYOUTS["6.12"]
    mem = naive.populate({}, PFN, 8)
    naive.prep_compound_page(mem, L, PFN, 3)
    own = L.address(PFN + 2) + 16
    assert mem[PFN + 2][2:4] == [own, own]
    assert mem[PFN + 3][2:4] == [0, naive.TAIL_MAPPING]


def test_head_part_too_early_is_overwritten():
    """Why the head part waits for tail 2: what it writes into tail 1 and 2 would not survive."""
    L = LAYOUTS["5.17"]
    mem = naive.populate({}, PFN, 4)
    naive.prep_compound_head(mem, L, PFN, 2)
    for i in (1, 2, 3):
        naive.init_zone_device_page(mem, L, PFN + i, 4, 0, PGMAP)
        naive.prep_compound_tail(mem, L, PFN, i)
    assert mem[PFN + 1][2:4] == [0, naive.TAIL_MAPPING]


# -- patch 3 and 4 -----------------------------------------------------------------------------------------


def test_one_gib_of_base_pages():
    pageblocks = []
    mem = naive.populate({}, PFN, 262144)
    reported = naive.memmap_init_zone_device(
        mem, LAYOUTS["5.15"], PFN, 262144, 0, PGMAP, 0, compound=False, pageblocks=pageblocks
    )
    assert reported == 262144
    assert pageblocks == list(range(PFN, PFN + 262144, 512))
    assert all(tuple(page) == (OLD_BASE, *HEAD_REST) for page in mem.values())


def test_four_mib_in_two_compounds():
    """PFN + 0 [head, 511 tails], PFN + 0x200 [head, 511 tails]."""
    L = LAYOUTS["5.17"]
    mem = naive.populate({}, PFN, 1024)
    naive.memmap_init_zone_device(mem, L, PFN, 1024, 0, PGMAP, 9)
    assert [pfn for pfn, page in mem.items() if page[0] & L.bit("head")] == [PFN, PFN + 0x200]
    assert [refcount(page) for page in mem.values()].count(1) == 2
    assert [refcount(page) for page in mem.values()].count(0) == 1022
    assert sum(page[1] & 1 for page in mem.values()) == 1022
    assert naive.expected_counts(1024, 9, PFN)["percpu_refs"] == 2


@pytest.mark.parametrize("unset", [{"shift": 0}, {"shift": 9, "compound": False}])
def test_without_compound_each_page_has_its_reference(unset):
    mem = naive.populate({}, PFN, 1024)
    naive.memmap_init_zone_device(mem, LAYOUTS["5.17"], PFN, 1024, 0, PGMAP, **unset)
    assert {tuple(page) for page in mem.values()} == {(OLD_BASE, *HEAD_REST)}
    assert naive.expected_counts(1024, start_pfn=PFN, **unset)["percpu_refs"] == 1024


def test_a_pair_gets_no_head_part_before_6_12():
    assert compound(LAYOUTS["5.17"], 1, 2)[PFN + 1][2:4] == [0, naive.TAIL_MAPPING]
    assert compound(LAYOUTS["6.1"], 1, 2)[PFN + 1][2:4] == [0, naive.TAIL_MAPPING]
    assert compound(LAYOUTS["6.12"], 1, 2)[PFN + 1][2:5] == [0xFFFFFFFFFFFFFFFF, 0, 2]


def test_the_last_compound_overruns_the_range():
    """[head tail tail tail][head tail | tail tail], range end at |."""
    L = LAYOUTS["5.17"]
    mem = naive.populate({}, PFN, 8)
    assert naive.memmap_init_zone_device(mem, L, PFN, 6, 0, PGMAP, 2) == 6
    assert mem[PFN + 7][1] == L.address(PFN + 4) + 1
    with pytest.raises(naive.VmemmapFault) as caught:
        naive.memmap_init_zone_device(naive.populate({}, PFN, 6), L, PFN, 6, 0, PGMAP, 2)
    assert (caught.value.pfn, caught.value.word) == (PFN + 6, 7)


def test_heads_follow_the_start_of_the_range_not_the_physical_boundary():
    L = LAYOUTS["5.17"]
    mem = naive.populate({}, PFN + 3, 8)
    naive.memmap_init_zone_device(mem, L, PFN + 3, 8, 0, PGMAP, 2)
    assert [pfn for pfn, page in mem.items() if page[0] & L.bit("head")] == [PFN + 3, PFN + 7]


@pytest.mark.parametrize(
    "nr, shift, inverted, yields",
    [
        (262144, 0, False, 256),
        (262144, 0, True, 261888),
        (262144, 9, True, 511),
        (262144, 9, False, 256),
        (262144, 18, True, 1),
    ],
)
def test_resched_offers_of_the_teardown_walk(nr, shift, inverted, yields):
    assert naive.pfn_next_yields(PFN, nr, shift, inverted) == yields


def test_resched_offer_looks_at_the_pfn_it_leaves():
    assert naive.pfn_next_yields(1024, 1, 0, False) == 1
    assert naive.pfn_next_yields(1023, 1, 0, False) == 0
    assert naive.pfn_next_yields(1024 << 9, 512, 9, True) == 0
    assert naive.pfn_next_yields(0x100000, 0x40000, 18, True) == 1


# -- altmap ------------------------------------------------------------------------------------------------


def test_altmap_pages():
    """Two reserve pages untouched | pages that store the vmemmap | compounds behind them."""
    L = LAYOUTS["6.1"]
    altmap = (PFN, 2, 14)
    mem = naive.populate({}, PFN, 32, word=0xABCD)
    naive.memmap_init_range_altmap(mem, L, altmap, 0)
    assert naive.memmap_init_zone_device(mem, L, PFN, 32, 0, PGMAP, 3, altmap=altmap) == 16
    for i in (0, 1):
        assert mem[PFN + i] == [0xABCD] * 8
    for i in range(2, 16):
        own = HEAD_ADDRESS + 64 * i + 8
        assert mem[PFN + i] == [OLD_BASE, own, own, 0, 0, 0, 0x1FFFFFFFF, 0]
    assert [pfn for pfn, page in mem.items() if page[0] & L.bit("head")] == [PFN + 16, PFN + 24]
    assert naive.expected_counts(32, 3, PFN, altmap)["page_inits"] == 16


def test_no_altmap_nothing_written():
    writes = []
    naive.memmap_init_range_altmap({}, LAYOUTS["6.1"], None, 0, writes)
    assert writes == []


# -- deduplication -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shift, altmap, early, count",
    [
        (7, None, False, 128),
        (6, None, False, 64),
        (8, None, False, 128),
        (9, None, False, 128),
        (18, None, False, 128),
        (9, (PFN, 2, 510), False, 512),
        (9, None, True, 512),
    ],
)
def test_pages_initialised_with_deduplication(shift, altmap, early, count):
    assert naive.compound_nr_pages(shift, altmap, True, early) == count
    assert naive.compound_nr_pages(shift, altmap, False, early) == 1 << shift


@pytest.mark.parametrize("name", ["6.1", "6.12"])
@pytest.mark.parametrize("shift", [8, 9])
@pytest.mark.parametrize("shared_before", [True, False])
def test_shared_tails_read_like_tails_of_their_own(name, shift, shared_before):
    L = LAYOUTS[name]
    n = 1 << shift
    whole = naive.populate({}, PFN, 2 * n)
    naive.memmap_init_zone_device(whole, L, PFN, 2 * n, 0, PGMAP, shift)

    mem = {}
    for head in (PFN, PFN + n):
        naive.populate(mem, head, 128)
        if shared_before:
            naive.share_tails(mem, L, head, shift)
    writes = []
    naive.memmap_init_zone_device(mem, L, PFN, 2 * n, 0, PGMAP, shift, dedup=True, writes=writes)
    if not shared_before:
        for head in (PFN, PFN + n):
            naive.share_tails(mem, L, head, shift)
    assert mem == whole
    assert len({id(page) for page in mem.values()}) == 256
    assert {pfn for pfn, _, _, _ in writes} == {head + i for head in (PFN, PFN + n) for i in range(128)}

    mem[PFN + 64][4] = 77
    assert {i for i in range(2 * n) if mem[PFN + i][4] == 77} == set(range(64, n, 64))


def test_shared_tails_end_with_the_range():
    mem = naive.populate({}, PFN, 128)
    naive.share_tails(mem, LAYOUTS["6.1"], PFN, 18, end_pfn=PFN + 1024)
    assert max(mem) == PFN + 1023
    with pytest.raises(naive.VmemmapFault):
        naive.share_tails(naive.populate({}, PFN, 64), LAYOUTS["6.1"], PFN, 9)


def test_early_sections_are_initialised_whole():
    """First compound in a section that was there at boot, second one not."""
    L = LAYOUTS["6.1"]
    mem = naive.populate({}, PFN, 1024)
    naive.memmap_init_zone_device(mem, L, PFN, 1024, 0, PGMAP, 9, dedup=True, early_section=lambda pfn: pfn < PFN + 512)
    assert mem[PFN + 511][1] == HEAD_ADDRESS + 1
    assert mem[PFN + 512 + 127][1] == L.address(PFN + 512) + 1
    assert mem[PFN + 512 + 128] == [0] * 8


# -- counts ------------------------------------------------------------------------------------------------


@given(
    name=st.sampled_from(COMPOUND_LAYOUTS),
    start=st.integers(0, 40).map(lambda k: k * 64),
    nr=st.integers(1, 1500),
    shift=st.integers(0, 9),
    reserve_and_free=st.none() | st.tuples(st.integers(0, 4), st.integers(0, 300)),
    with_compound=st.booleans(),
    dedup=st.booleans(),
    early=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_counts_equal_what_happens(name, start, nr, shift, reserve_and_free, with_compound, dedup, early):
    L = LAYOUTS[name]
    altmap = None if reserve_and_free is None else (start, *reserve_and_free)
    if altmap is not None:
        nr += sum(reserve_and_free)
    counts = naive.expected_counts(nr, shift, start, altmap, with_compound, dedup, early)
    mem = naive.populate({}, start, nr + (1 << shift))
    pageblocks = []
    reported = naive.memmap_init_zone_device(
        mem,
        L,
        start,
        nr,
        0,
        PGMAP,
        shift,
        altmap,
        with_compound,
        dedup,
        lambda pfn: early,
        pageblocks=pageblocks,
    )
    written = [page for page in mem.values() if page[6]]
    tails = [page for page in written if page[1] & 1]
    assert counts == {
        "heads": sum(1 for page in written if page[0] & L.bit("head")),
        "tails": len(tails),
        "percpu_refs": reported >> (shift if with_compound else 0),
        "migratetype_writes": len(pageblocks),
        "page_inits": len(written),
    }
    assert all(refcount(page) == 0 for page in tails)
    assert all(refcount(page) == 1 and page[1] == PGMAP for page in written if not page[1] & 1)


@pytest.mark.parametrize("start", [0, 64, 256, 384, 448])
@pytest.mark.parametrize("shift", [8, 9])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_pageblocks_of_deduplicated_compounds(start, shift, steps):
    """A pageblock that begins in the part of a compound that is not initialised gets no migratetype."""
    pageblocks = []
    nr = steps << shift
    mem = naive.populate({}, start, nr)
    naive.memmap_init_zone_device(mem, LAYOUTS["6.1"], start, nr, 0, PGMAP, shift, dedup=True, pageblocks=pageblocks)
    assert pageblocks == [pfn for pfn in range(start, start + nr) if pfn % 512 == 0 and mem[pfn][6]]
    counts = naive.expected_counts(nr, shift, start, dedup=True)
    assert counts["migratetype_writes"] == len(pageblocks)


@given(
    shift=st.integers(0, 8),
    steps=st.integers(1, 6),
    cut=st.integers(0, 255),
    name=st.sampled_from(COMPOUND_LAYOUTS),
)
@settings(max_examples=40, deadline=None)
def test_compounds_do_not_depend_on_each_other(shift, steps, cut, name):
    """A range at once is the same as its compounds one by one: used below to look at parts of a device."""
    L, step = LAYOUTS[name], 1 << shift
    nr = steps * step - cut % step
    at_once = naive.populate({}, PFN, steps * step)
    naive.memmap_init_zone_device(at_once, L, PFN, nr, 0, PGMAP, shift)
    one_by_one = naive.populate({}, PFN, steps * step)
    for head in reversed(range(PFN, PFN + nr, step)):
        naive.memmap_init_zone_device(one_by_one, L, head, step, 0, PGMAP, shift)
    assert at_once == one_by_one


@pytest.mark.parametrize(
    "shift, dedup, expected",
    [
        (0, False, {"page_inits": 262144, "heads": 0, "tails": 0, "percpu_refs": 262144}),
        (9, False, {"page_inits": 262144, "heads": 512, "tails": 261632, "percpu_refs": 512}),
        (18, False, {"page_inits": 262144, "heads": 1, "tails": 262143, "percpu_refs": 1}),
        (9, True, {"page_inits": 65536, "heads": 512, "percpu_refs": 512}),
        (18, True, {"page_inits": 128, "heads": 1, "percpu_refs": 1}),
    ],
)
def test_work_per_gib(shift, dedup, expected):
    counts = naive.expected_counts(262144, shift, PFN, dedup=dedup)
    assert {key: counts[key] for key in expected} == expected
    if not dedup:
        assert counts["migratetype_writes"] == 512


#: Recorded while small builds of 6.1 brought a device up (emulated machine): pages of the device, align, then
#: loads, stores and lines written in its struct pages.  "before" never sets the shift, "nodedup" is without
#: vmemmap deduplication, "stock" is as released; "dev" keeps the vmemmap in the device.
BRING_UP = [
    ("before", "mem", 524288, 0, 524288, 6291456, 524288),
    ("nodedup", "mem", 524288, 9, 525312, 8390656, 524288),
    ("stock", "mem", 524288, 9, 132096, 2099200, 131072),
    ("stock", "dev", 515584, 9, 516591, 8251358, 515584),
    ("before", "dev", 515584, 0, 515584, 6187008, 515584),
    ("nodedup", "mem", 1048576, 18, 1048580, 16777224, 1048576),
    ("stock", "mem", 1048576, 18, 516, 8200, 512),
    ("stock", "mem", 524288, 0, 524288, 6291456, 524288),
]


@pytest.mark.parametrize("variant, where, pages, shift, loads, stores, lines", BRING_UP)
def test_recorded_memory_traffic_of_bring_up(variant, where, pages, shift, loads, stores, lines):
    """Compiled code merges some stores of a base page (12 of them remain); all that compounds add is seen.

    The page flags are loaded once per page; PG_head loads the head's flags once more.
    """
    L = LAYOUTS["6.1-nodedup"]

    def stores_of(nr_pages, order):
        writes = []
        naive.memmap_init_zone_device(naive.populate({}, PFN, 8), L, PFN, nr_pages, 0, PGMAP, order, writes=writes)
        return len(writes)

    base = stores_of(1, 0)
    eight, four = stores_of(8, 3) - 8 * base, stores_of(4, 2) - 4 * base
    per_tail = (eight - four) // 4
    per_compound = four - 3 * per_tail

    altmap = (PFN, 2, 510) if where == "dev" else None
    nr = pages + (512 if altmap else 0)
    counts = naive.expected_counts(nr, shift, PFN, altmap, dedup=variant == "stock")
    assert counts["page_inits"] == lines
    assert counts["page_inits"] + counts["heads"] == loads
    assert 12 * counts["page_inits"] + per_tail * counts["tails"] + per_compound * counts["heads"] == stores


# -- recorded struct pages ---------------------------------------------------------------------------------

CAPTURES = Path(os.environ.get("WORKBENCH_CAPTURES", Path(__file__).parents[1] / "data" / "captures"))
RUNS = sorted(path.parent for path in CAPTURES.glob("*/capture.json"))
KINDS = {run.name: json.loads((run / "capture.json").read_text()) for run in RUNS}
PAGE_RUNS = [run for run in RUNS if KINDS[run.name]["kind"] == "pages"]
nothing_recorded = pytest.mark.skipif(not RUNS, reason=f"no recorded run in {CAPTURES}")

#: Actions that leave a freshly initialised device's struct pages as they are.
INERT = {
    "boot", "init_labels", "create_namespace", "create_device", "delete_device", "destroy_device",
    "region_create", "read_seed", "set_size", "set_align", "add_range", "resize_device", "bind", "unbind",
    "open", "mmap", "observe", "wait", "refused_in_user_space",
}  # fmt: skip


def is_fresh(state):
    name = state["state"]
    return name in ("online", "mmapped_untouched", "boot_default_2M") or name.startswith("dyn_")


def layout_of(capture):
    return LAYOUTS["6.1-nodedup" if capture["kernel"]["family"] == "6.1nodedup" else capture["kernel"]["family"]]


def has_dedup(L):
    return L.name in ("6.1", "6.12")


@dataclasses.dataclass(eq=False)
class Binding:
    """One device bound to its driver: what the struct pages of its ranges depend on."""

    device: str
    ranges: list
    shift: int
    altmap: tuple | None
    pgmap: int | None = None

    def pieces(self):
        """(first, end) of the parts made of base or compound pages."""
        return [naive.device_pages(start, nr, self.altmap) for start, nr in self.ranges]

    def covers(self, pfn):
        return any(start <= pfn < start + nr for start, nr in self.ranges)


class Devices:
    """The devices of a run, followed through the results of its actions."""

    def __init__(self, L):
        self.L = L
        self.bound = {}
        self.known = {}
        self.soft_reserved = []

    def _bind(self, device):
        record = self.known[device]
        ranges = [(int(r["first_pfn"], 16), r["nr_pages"]) for r in record["ranges"]]
        self.bound[device] = Binding(device, ranges, self._shift(record["align"]), None)

    def _shift(self, align):
        return (align // 4096).bit_length() - 1 if self.L.since("5.17") else 0

    def follow(self, action):
        op, result = action["op"], action.get("result", {})
        for device, record in action.get("devices", {}).items():
            if "ranges" in record:
                self.known[device] = {"align": record["align"], "ranges": record["ranges"]}
        if op == "boot":
            self.soft_reserved = [
                (int(r["start"], 16) >> 12, int(r["end"], 16) >> 12) for r in action.get("soft_reserved", [])
            ]
            if "device" in result:
                self.known[result["device"]] = {"align": result["align"], "ranges": result["ranges"]}
                if result["bound"]:
                    self._bind(result["device"])
            return
        if not result.get("ok"):
            return
        device = action.get("device", result.get("device"))
        if op == "create_namespace":
            start, data, end = (int(result[key], 16) for key in ("namespace_start_pfn", "data_start_pfn", "end_pfn"))
            altmap = (start, 2, data - start - 2) if action["map"] == "dev" else None
            shift = self._shift(action["align"])
            self.bound[device] = Binding(device, [(start, end - start)], shift, altmap)
        elif op == "create_device":
            self.known[device] = {"align": action["align"], "ranges": result["ranges"]}
            self._bind(device)
        elif op == "set_align":
            self.known[device]["align"] = action["align"]
        elif op == "resize_device":
            self.known[device]["ranges"] = result["ranges"]
        elif op == "set_size" and action["size"] == 0:
            self.known[device]["ranges"] = []
        elif op == "bind":
            self._bind(device)
        elif op == "unbind":
            del self.bound[device]
        elif op == "destroy_device":
            self.bound.pop(device, None)


def model_of(L, binding, wanted):
    """{pfn: words} of the wanted pages of a bound device; compounds nobody asks for are not computed."""
    found = {}
    dedup = has_dedup(L)
    if binding.altmap is not None:
        ((start, _nr),) = binding.ranges
        mem = naive.populate({}, start, sum(binding.altmap[1:]))
        naive.memmap_init_range_altmap(mem, L, binding.altmap, 0)
        found |= {pfn: mem[pfn] for pfn in wanted if pfn in mem}
    step = 1 << binding.shift
    for first, end in binding.pieces():
        inside = [pfn for pfn in wanted if first <= pfn < end]
        for head in sorted({first + (pfn - first) // step * step for pfn in inside}):
            count = naive.compound_nr_pages(binding.shift, binding.altmap, dedup, False)
            assert count < step or head + step <= end, "the compound runs over the range: needs its own test"
            mem = naive.populate({}, head, count)
            if count < step:
                naive.share_tails(mem, L, head, binding.shift, end)
            altmap = None if binding.altmap is None else (head, 0, 0)
            naive.memmap_init_zone_device(
                mem, L, head, min(step, end - head), 0, binding.pgmap, binding.shift, altmap, dedup=dedup
            )
            found |= {pfn: mem[pfn] for pfn in inside if pfn in mem}
    return found


def learn_pgmap(L, binding, recorded):
    """The pagemap's address from the first head that is seen; it cannot be computed."""
    step = 1 << binding.shift
    for first, end in binding.pieces():
        for pfn in sorted(recorded):
            if first <= pfn < end and (pfn - first) % step == 0:
                pointer = int(recorded[pfn][1])
                assert 0xFFFF888000000000 <= pointer < 0xFFFFC88000000000, f"pgmap {pointer:#x} is no address"
                assert pointer % 8 == 0
                return pointer
    raise AssertionError(f"{binding.device}: no head among the recorded pages, nothing to learn from")


def test_there_are_recorded_pages_where_there_are_runs():
    if not RUNS:
        pytest.skip(f"no recorded run in {CAPTURES}")
    assert PAGE_RUNS


@nothing_recorded
@pytest.mark.parametrize("run", PAGE_RUNS, ids=lambda run: run.name)
def test_layout_is_that_of_the_recorded_kernel(run):
    capture = KINDS[run.name]
    L, fields = layout_of(capture), capture["page_flag_layout"]
    assert fields["struct_page_bytes"] == naive.STRUCT_PAGE_SIZE
    assert int(fields["vmemmap_base"], 16) == L.vmemmap_base
    for field in ("node_shift", "node_bits", "zone_shift", "zone_bits", "last_cpupid_shift"):
        assert fields[field] == getattr(L, field), field
    assert capture["page_flags"] == L.flags


@nothing_recorded
@pytest.mark.parametrize(
    "run",
    [
        # Without deduplication a quarter of a million struct pages are modelled for each 1 GiB compound.
        pytest.param(run, id=run.name, marks=[pytest.mark.slow] if "static-1G" in run.name else [])
        for run in PAGE_RUNS
        if any(is_fresh(state) for state in KINDS[run.name]["states"])
    ],
)
def test_recorded_pages_of_fresh_devices(run):
    """Every word of every recorded struct page of a device that nobody used yet."""
    capture = KINDS[run.name]
    L = layout_of(capture)
    devices = Devices(L)
    models = {}
    states = []
    compared = 0
    with np.load(run / "pages.npz", allow_pickle=False) as arrays:
        for state in capture["states"]:
            if not all(action["op"] in INERT for action in state["actions"]):
                break
            for action in state["actions"]:
                devices.follow(action)
            if not is_fresh(state):
                continue
            assert state["replayable"]
            states.append(state)
            recorded = {}
            for span in state["spans"]:
                pfns = range(int(span["pfn"], 16), int(span["pfn"], 16) + span["nr_pages"])
                of_device = [any(b.covers(pfn) for b in devices.bound.values()) for pfn in pfns]
                if not span["mapped"]:
                    assert not any(of_device), f"{state['state']} {span['label']}: a device without vmemmap"
                    continue
                free = [pfn for pfn, taken in zip(pfns, of_device, strict=True) if not taken]
                assert not any(a <= pfn < b for a, b in devices.soft_reserved for pfn in free), (
                    f"{state['state']} {span['label']}: vmemmap of memory that no bound device has"
                )
                array = arrays[span["array"]]
                assert array.shape == (len(pfns), 8)
                assert array.dtype == np.uint64
                for pfn, taken, words in zip(pfns, of_device, array.tolist(), strict=True):
                    if taken:
                        assert recorded.setdefault(pfn, words) == words, "overlapping spans disagree"

            for binding in devices.bound.values():
                mine = {pfn: words for pfn, words in recorded.items() if binding.covers(pfn)}
                if not mine:
                    continue
                if binding.pgmap is None:
                    binding.pgmap = learn_pgmap(L, binding, mine)
                known = models.setdefault(binding, {})
                known |= model_of(L, binding, set(mine) - set(known))
                assert set(mine) <= set(known)
                for pfn in sorted(mine):
                    assert [hex(word) for word in mine[pfn]] == [hex(word) for word in known[pfn]], (
                        f"{state['state']}: struct page of pfn {pfn:#x}"
                    )
                compared += len(mine)
            pointers = [b.pgmap for b in devices.bound.values() if b.pgmap is not None]
            assert len(set(pointers)) == len(pointers), "two devices with one pagemap"
    assert states == [state for state in capture["states"] if is_fresh(state)], "some state was not reached"
    assert compared or not devices.bound, "nothing compared"


@nothing_recorded
@pytest.mark.parametrize(
    "run",
    [run for run in PAGE_RUNS if KINDS[run.name].get("namespace")],
    ids=lambda run: run.name,
)
def test_recorded_sharing_of_the_vmemmap(run):
    """How many physical bytes stand behind the struct pages, and which of them are the same."""
    capture = KINDS[run.name]
    L = layout_of(capture)
    create = next(a for s in capture["states"] for a in s["actions"] if a["op"] == "create_namespace")
    devices = Devices(L)
    devices.follow(create)
    (binding,) = devices.bound.values()
    ((start, nr),) = binding.ranges
    step = 1 << binding.shift
    count = naive.compound_nr_pages(binding.shift, binding.altmap, has_dedup(L), False)
    shared = count < step
    backing = capture["vmemmap_backing"]
    assert backing["va_bytes"] == 64 * nr
    if not shared:
        assert backing["distinct_physical_bytes"] == 64 * nr
        assert backing["max_share"] == 1
        return

    mem = {}
    for head in range(start, start + nr, step):
        naive.populate(mem, head, count)
        naive.share_tails(mem, L, head, binding.shift)
    page_of = [id(mem[pfn]) for pfn in range(start, start + nr, 64)]
    assert backing["distinct_physical_bytes"] == 4096 * len(set(page_of))
    assert backing["max_share"] == max(page_of.count(page) for page in set(page_of[: step // 64]))

    table = run / "vmemmap.json"
    if table.exists():
        physical = {}
        for entry in json.loads(table.read_text())["runs"]:
            assert entry["page_bytes"] == 4096
            for j in range(entry["count"]):
                va = int(entry["va"], 16) + j * 4096
                physical[(va - L.vmemmap_base) // 64] = int(entry["pa"], 16) + j * entry["pa_step"]
        assert sorted(physical) == list(range(start, start + nr, 64))
        frames = [physical[pfn] for pfn in sorted(physical)]
        pairs = set(zip(page_of, frames, strict=True))
        assert len(pairs) == len(set(page_of)) == len(set(frames))


def initialised_messages():
    """(run, N) of each recorded log line about initialised pages whose device is a namespace."""
    for run in PAGE_RUNS:
        capture = KINDS[run.name]
        for state in capture["states"] if capture.get("namespace") else []:
            for action in state["actions"]:
                for line in action.get("lines") or []:
                    if line.startswith("memmap_init_zone_device initialised"):
                        yield pytest.param(run, int(line.split()[2]), id=run.name)


@nothing_recorded
@pytest.mark.parametrize("run, pages", list(initialised_messages()))
def test_recorded_number_of_initialised_pages(run, pages):
    capture = KINDS[run.name]
    create = next(a for s in capture["states"] for a in s["actions"] if a["op"] == "create_namespace")
    devices = Devices(layout_of(capture))
    devices.follow(create)
    (binding,) = devices.bound.values()
    ((first, end),) = binding.pieces()
    assert pages == end - first


OVERRUN = [run for run in PAGE_RUNS if "overrun" in run.name]


@nothing_recorded
@pytest.mark.slow
@pytest.mark.parametrize("run", OVERRUN, ids=lambda run: run.name)
def test_recorded_overrun_of_a_compound(run):
    """A 1 GiB compound over 512 MiB: the neighbour's struct pages become tails, then the vmemmap ends.

    0x100000     0x120000     0x140000     0x160000     0x180000
    |new range 0 |-------- neighbour ------|new range 1 |  nothing mapped
    |====== first compound ===|            |=== second compound ==X
    """
    capture = KINDS[run.name]
    L = layout_of(capture)
    before, after = capture["states"]
    assert after["actions"][-1]["result"]["killed"]
    with np.load(run / "pages.npz", allow_pickle=False) as arrays:

        def pages(state):
            return {
                int(span["pfn"], 16) + k: words
                for span in state["spans"] if span["mapped"]
                for k, words in enumerate(arrays[span["array"]].tolist())
            }  # fmt: skip

        recorded, old = pages(after), pages(before)

    neighbour_pgmap = old[0x140000][1]
    new_pgmap = recorded[0x100000][1]
    assert neighbour_pgmap != new_pgmap
    mem = {}
    for first, end in ((0x100000, 0x120000), (0x160000, 0x180000)):
        naive.populate(mem, first, end - first)
    naive.populate(mem, 0x120000, 0x40000)
    naive.memmap_init_zone_device(mem, L, 0x120000, 0x40000, 0, neighbour_pgmap, 9)
    naive.memmap_init_zone_device(mem, L, 0x100000, 0x20000, 0, new_pgmap, 18)
    with pytest.raises(naive.VmemmapFault) as caught:
        naive.memmap_init_zone_device(mem, L, 0x160000, 0x20000, 0, new_pgmap, 18)
    assert "ffffea0006000034" in after["actions"][-1]["result"]["kernel_log"][0]
    assert L.address(caught.value.pfn) == 0xFFFFEA0006000000
    assert recorded == {pfn: mem[pfn] for pfn in recorded}
