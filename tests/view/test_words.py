# SPDX-License-Identifier: GPL-2.0-only
"""Words as text, held against the tables of the specification (words at 0, 8, ... 56; node 0; pfn 0x100000)."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.abi import DISTRIBUTION_6_12, RELEASES, Abi, Role
from workbench.view import words

HEAD, PFN = 0xFFFF_EA00_0400_0000, 0x100000
PGMAP = 0xFFFF_8881_00A0_1000


def row(text):
    return [int(word, 16) for word in text.split()]


BASE = row("0027ffffc0001000 ffff888100a01000 0 0 0 0 00000001ffffffff 0")
TAIL_1 = {
    "5.17": row("0027ffffc0001000 ffffea0004000001 ffffffff00000901 dead000000000200 0 0 00000000ffffffff 0"),
    "6.1": row("0027ffffc0001000 ffffea0004000001 ffffffff00000901 0000020000000000 0 0 00000000ffffffff 0"),
    "6.12": row("0027ffffc0002009 ffffea0004000001 ffffffffffffffff 0 0000000000000200 0 00000000ffffffff 0"),
}
TAIL_2 = row("0027ffffc0001000 ffffea0004000001 0 dead000000000400 0 0 00000000ffffffff 0")
ABI = {"5.17": Abi("5.17"), "6.1": Abi("6.1"), "6.12": Abi("6.12", DISTRIBUTION_6_12)}


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        # where destructor, order, number of pages and pin count lie, release by release
        ("5.17", {0: "reserved", 1: "head | 1", 2: "dtor 1 order 9", 3: "nr 512", 6: "map −1 ref 0"}),
        ("6.1", {0: "reserved", 1: "head | 1", 2: "dtor 1 order 9", 3: "pins 0 nr 512", 6: "map −1 ref 0"}),
        ("6.12", {0: "reserved order 9", 1: "head | 1", 2: "map −1", 3: "pins 0", 4: "nr 512", 6: "map −1 ref 0"}),
    ],
)
def test_a_first_tail_in_a_few_letters(release, expected):
    cells = words.short(ABI[release], TAIL_1[release], PFN + 1)
    assert {at: cells[at] for at in expected} == expected
    assert all(cell == "0" for at, cell in enumerate(cells) if at not in expected)


def test_a_second_tail_keeps_the_pin_count_up_to_5_17_only():
    assert words.short(ABI["5.17"], TAIL_2, PFN + 2)[2:4] == ["pins 0", "TAIL_MAPPING"]
    assert words.short(ABI["6.1"], TAIL_2, PFN + 2)[2:4] == ["0", "TAIL_MAPPING"]
    pinned = [*TAIL_2[:2], 512, *TAIL_2[3:]]
    assert words.short(ABI["5.17"], pinned, PFN + 2)[2] == "pins 512"


def test_a_base_page_and_pages_that_hold_an_altmaps_memmap():
    assert words.short(ABI["5.17"], BASE, PFN) == ["reserved", "pgmap", "0", "0", "0", "0", "map −1 ref 1", "0"]
    assert words.short(ABI["5.17"], [0] * 8, PFN) == ["0"] * 8
    own = HEAD + 8  # an empty list points to itself
    assert words.short(ABI["5.17"], [BASE[0], own, own, *BASE[3:]], PFN)[1:3] == ["itself", "itself"]


def test_lines_name_members_and_values():
    lines = words.long(ABI["5.17"], TAIL_1["5.17"], PFN + 1)
    assert lines[0] == "flags reserved · NODE 0 · ZONE 4 (DEVICE) · LAST_CPUPID all ones"
    assert "ffffea0004000001" in lines[1] and "pfn 0x100000" in lines[1]
    assert "compound_order 9" in lines[2] and "compound_mapcount −1" in lines[2]
    assert lines[3].startswith("compound_nr 512") and "dead0000" in lines[3]
    assert words.long(ABI["6.1"], TAIL_1["6.1"], PFN + 1)[3] == "compound_pincount 0 · compound_nr 512"
    assert "order 9" in words.long(ABI["6.12"], TAIL_1["6.12"], PFN + 1)[0]
    assert words.long(ABI["6.12"], TAIL_1["6.12"], PFN + 1)[4] == "_folio_nr_pages 512"


def test_bits_of_flags_are_where_the_configuration_puts_them():
    # NODE width 10 at 54, ZONE width 3 at 51, LAST_CPUPID width 21 at 30; 6.1: LRU_GEN 3 at 27, LRU_REFS 2 at 25
    def places(release, page):
        return {s.name: (s.high, s.low) for s in words.spans(ABI[release], page, PFN + 1, 0)}

    common = {"NODE": (63, 54), "ZONE": (53, 51), "LAST_CPUPID": (50, 30)}
    lru = {"LRU_GEN": (29, 27), "LRU_REFS": (26, 25)}
    assert places("5.17", TAIL_1["5.17"]) == {**common, "page flags": (24, 0)}
    assert places("6.1", TAIL_1["6.1"]) == {**common, **lru, "page flags": (24, 0)}
    assert places("6.12", TAIL_1["6.12"]) == {**common, **lru, "page flags": (23, 8), "order": (7, 0)}


def test_set_flags_take_no_order_for_a_flag():
    # bits 0 and 3 of 0x2009 are the order 9, not locked and uptodate
    assert words.set_flags(ABI["6.12"], Role.FIRST_TAIL, 0x2009) == [(13, "reserved")]
    assert words.set_flags(ABI["6.12"], Role.HEAD, 0x2009) == [(0, "locked"), (3, "uptodate"), (13, "reserved")]
    assert words.set_flags(ABI["5.17"], Role.HEAD, 0x811000) == [(12, "reserved"), (16, "head"), (23, "hwpoison")]


def test_bits_of_other_words():
    def spans(release, page, pfn, word):
        return [(s.name, s.high, s.low, s.text) for s in words.spans(ABI[release], page, pfn, word)]

    assert spans("5.17", BASE, PFN, 6) == [("_refcount", 63, 32, "1"), ("_mapcount", 31, 0, "−1")]
    tail = spans("5.17", TAIL_1["5.17"], PFN + 1, 1)
    assert [part[:3] for part in tail] == [("compound_head", 63, 1), ("tail", 0, 0)]
    assert spans("5.17", TAIL_1["5.17"], PFN + 1, 2) == [
        ("compound_mapcount", 63, 32, "−1"),
        ("unused", 31, 16, "0"),
        ("compound_order", 15, 8, "9"),
        ("compound_dtor", 7, 0, "1 (COMPOUND_PAGE_DTOR)"),
    ]


@given(
    release=st.sampled_from(RELEASES),
    page=st.lists(st.integers(0, 2**64 - 1), min_size=8, max_size=8),
    tail=st.integers(0, 3),
    word=st.integers(0, 7),
)
def test_whatever_a_page_holds_spans_are_ordered_and_every_word_has_a_text(release, page, tail, word):
    abi = Abi(release, DISTRIBUTION_6_12 if release == "6.12" else Abi("5.17").config)
    if tail:
        page[1] = HEAD + 1
    pfn = PFN + tail
    spans = words.spans(abi, page, pfn, word)
    edges = [edge for span in spans for edge in (span.high, span.low)]
    assert edges == sorted(edges, reverse=True) and edges[-1] >= 0 and edges[0] <= 63
    assert all(one.low > other.high for one, other in pairwise(spans))
    assert all(words.short(abi, page, pfn)) and all(words.long(abi, page, pfn))
