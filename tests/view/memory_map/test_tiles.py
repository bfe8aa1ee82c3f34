# SPDX-License-Identifier: GPL-2.0-only
"""Tiles against counts made page by page, over arrays that were filled whole."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from tests.view.memory_map.support import SECTION, START, filled, refcount_of, roles_one_by_one
from workbench.abi import Role
from workbench.errors import WorkbenchError
from workbench.mm import Altmap, PageArray
from workbench.mm.sparse_vmemmap import populate
from workbench.series import kernel
from workbench.view.memory_map.tiles import Tiles, bin_edges, difference_sums, lane_totals

SUBSECTION = 512


def counted(tiles: Tiles, layer: str, edges: list[int]) -> list[dict[str, int]]:
    lanes = [lane.key for lane in tiles.lanes[layer]]
    rows = tiles.counts(layer, np.array(edges)).tolist()
    return [{key: pages for key, pages in zip(lanes, row, strict=True) if pages} for row in rows]


# sections that are alike


def without_addresses(array: PageArray, first: int, last: int) -> np.ndarray:
    """The struct pages of a range, where a tail has its distance from its head (3: further) for the head's address."""
    rows, pfn = array.view(first, last - first).copy(), np.arange(first, last, dtype=np.int64)
    tail = rows[:, 1] & np.uint64(1) != 0
    head = ((rows[:, 1] - np.uint64(array.kernel.abi.vmemmap_base)) // np.uint64(64)).astype(np.int64)
    distance = np.where(np.isin(pfn - head, [1, 2]), pfn - head, 3)
    rows[tail, 1] = distance[tail].astype(np.uint64)
    return rows


@pytest.mark.parametrize(
    ("name", "shift", "start", "nr_pages"),
    [
        ("5.17", 9, START, 6 * SECTION),
        ("5.16+0", 9, START + SUBSECTION, 5 * SECTION),
        ("5.17", 18, START, 24 * SECTION),
        ("6.1", 18, START, 20 * SECTION),
        ("6.1", 18, START + SUBSECTION, 20 * SECTION),  # later heads lie in shared vmemmap pages
        ("6.1", 9, START + 3 * SUBSECTION, 4 * SECTION),
    ],
)
def test_sections_of_one_kind_hold_the_same_pages_but_for_addresses(name, shift, start, nr_pages):
    kinds = filled(name, nr_pages, shift, start).alike()
    whole = filled(name, nr_pages, shift, start)
    whole.materialise()
    described: dict[int, list[tuple]] = {}
    for section, kind in enumerate(kinds.tolist()):
        first = max(whole.start_pfn + section * SECTION, start)
        last = min(whole.start_pfn + (section + 1) * SECTION, start + nr_pages)
        described.setdefault(kind, []).append(without_addresses(whole, first, last).tobytes())
    assert all(one == kind[0] for kind in described.values() for one in kind)
    assert len(described) < len(kinds), "at least two sections are alike"


def test_a_section_with_memory_is_like_no_other():
    array = filled("5.17", 6 * SECTION)
    assert len(set(array.alike().tolist())) == 2  # the last compound is never taken for another
    array.view(START + 2 * SECTION, 1)
    kinds = array.alike().tolist()
    assert kinds.count(kinds[2]) == 1 and kinds[0] == kinds[1] == kinds[3]


def test_where_no_struct_page_exists_there_is_no_kind():
    array = PageArray(kernel("5.17"), START, 3 * SECTION)
    array.add_pages(START + SECTION, SUBSECTION)
    assert array.alike().tolist()[0] == -1 and array.alike().tolist()[1] >= 0


def test_the_kinds_of_one_tebibyte_are_few():
    array = filled("5.17", 1 << 28)
    assert len(array.alike()) == 8192 and len(set(array.alike().tolist())) == 2
    assert array.resident_bytes == 0


# counts


@pytest.mark.parametrize(
    ("name", "shift", "start"),
    [("5.17", 9, START), ("5.16+0", 0, START), ("6.1", 9, START + 3 * SUBSECTION)],
)
def test_roles_between_odd_edges(name, shift, start):
    nr_pages = 2 * SECTION
    tiles = Tiles(filled(name, nr_pages, shift, start), start, start + nr_pages)
    whole = filled(name, nr_pages, shift, start)
    edges = [start, start + 1, start + 3, start + 700, start + SECTION + 5, start + nr_pages - 1, start + nr_pages]
    roles = roles_one_by_one(whole, start, start + nr_pages)
    expected = [dict(Counter(roles[lo - start : hi - start])) for lo, hi in pairwise(edges)]
    assert counted(tiles, "roles", edges) == expected


def test_one_tebibyte_is_counted_without_being_made():
    array = filled("5.17", 1 << 28)
    tiles = Tiles(array, START, START + (1 << 28))
    compounds = (1 << 28) // 512
    assert lane_totals(tiles, "roles") == {
        "head": compounds,
        "first_tail": compounds,
        "second_tail": compounds,
        "tail": 509 * compounds,
    }
    assert array.resident_bytes <= 8 << 20


@pytest.mark.parametrize("which", [None, [START + 512, START + 515]])
def test_what_was_written_is_seen_after_a_refresh(which):
    array = filled("5.17", 2 * SECTION)
    tiles = Tiles(array, START, START + 2 * SECTION)
    assert lane_totals(tiles, "refcount") == {"0": 2 * 511 * 64, "1": 128}
    vm = array.writable(START + 512, 1)
    vm.pages[512, 6] = np.uint64(7 << 32 | 0xFFFF_FFFF)  # the second head: refcount 7
    vm.pages[515, 0] |= np.uint64(array.kernel.abi.flag("hwpoison"))
    assert lane_totals(tiles, "refcount")["1"] == 128, "kept from before"
    tiles.refresh(which)
    assert lane_totals(tiles, "poison") == {"hwpoison": 1, "well": 2 * SECTION - 1}
    assert lane_totals(tiles, "refcount") == {"0": 2 * 511 * 64, "1": 127, "some": 1}
    assert counted(tiles, "refcount", [START + 511, START + 513])[0] == {"0": 1, "some": 1}


def test_refcounts_fall_into_their_lanes():
    array = filled("5.16+0", SECTION, 0)
    vm = array.writable(START, 6)
    for row, count in enumerate((0, 1, 2, 1023, 1024, -1)):
        vm.pages[row, 6] = np.uint64((count & 0xFFFF_FFFF) << 32)
        assert refcount_of(array.view(START + row, 1)[0]) == count
    tiles = Tiles(array, START, START + SECTION)
    lanes = [counted(tiles, "refcount", [START + k, START + k + 1])[0] for k in range(6)]
    assert lanes == [{"0": 1}, {"1": 1}, {"some": 1}, {"some": 1}, {"many": 1}, {"negative": 1}]
    assert counted(tiles, "pincount", [START, START + 6])[0] == {"bias": 1, "none": 5}


def test_pin_counts_are_where_the_release_keeps_them():
    for name, tail, word, bits in (("5.17", 2, 2, 1), ("6.1", 1, 3, 1)):
        array = filled(name, SECTION)
        tiles = Tiles(array, START, START + SECTION)
        assert counted(tiles, "pincount", [START + tail, START + tail + 1]) == [{"zero": 1}]
        array.writable(START, 8).pages[tail, word] |= np.uint64(bits)
        tiles.refresh()
        assert counted(tiles, "pincount", [START, START + 512])[0] == {"pinned": 1, "none": 511}


def test_flags_may_be_several_at_once():
    tiles = Tiles(filled("5.17", SECTION), START, START + SECTION)
    assert lane_totals(tiles, "flags") == {"reserved": SECTION, "head": 64}


def test_the_order_in_a_first_tail_of_6_12_is_no_flag():
    tiles = Tiles(filled("6.12", SECTION), START, START + SECTION)
    assert counted(tiles, "flags", [START + 1, START + 2]) == [{"reserved": 1}]


def test_mapping_of_a_compound():
    tiles = Tiles(filled("5.17", SECTION), START, START + SECTION)
    assert counted(tiles, "mapping", [START, START + 1, START + 2, START + 512]) == [
        {"null": 1},
        {"counts": 1},  # compound_nr lies there
        {"tail": 510},
    ]


def test_altmap_pages_are_told_from_ram_and_data():
    altmap = Altmap(START, reserve=2, free=510)
    array = filled("5.17", SECTION, altmap=altmap)
    tiles = Tiles(array, START, START + SECTION, altmap)
    assert counted(tiles, "altmap", [START, START + 512, START + SECTION]) == [
        {"reserve": 2, "free": 510},
        {"data": SECTION - 512},
    ]
    assert counted(tiles, "roles", [START, START + 512])[0] == {Role.UNINITIALISED: 2, "altmap": 510}


def test_holes_have_a_lane_of_their_own():
    array = PageArray(kernel("5.17"), START, 3 * SECTION)
    array.add_pages(START, SUBSECTION)
    array.add_pages(START + 2 * SECTION, SECTION)
    tiles = Tiles(array, START, START + 3 * SECTION)
    missing = 2 * SECTION - SUBSECTION
    assert lane_totals(tiles, "roles") == {"uninitialised": SECTION + SUBSECTION, "missing": missing}


@pytest.mark.parametrize(("shift", "dedup"), [(9, True), (18, True), (9, False), (0, True)])
def test_backing_is_what_the_page_tables_share(shift, dedup):
    nr_pages, start = 16 * SECTION + 1024, START
    populated = populate([(start, nr_pages)], vmemmap_shift=shift, dedup=dedup)
    tiles = Tiles(filled("6.1", nr_pages, shift), start, start + nr_pages, backing=populated)
    sharing = populated.sharing()
    shared = np.isin(sharing.first, [first for first, n in Counter(sharing.first.tolist()).items() if n > 1])
    names = np.where(shared, "shared", np.where(sharing.leaf_bytes == 4096, "own", "block"))
    by_page = np.repeat(names, 64)
    edges = [start, start + 1, start + 64, start + 100, start + 700, start + SECTION + 3, start + nr_pages]
    expected = [dict(Counter(by_page[lo - start : hi - start].tolist())) for lo, hi in pairwise(edges)]
    assert counted(tiles, "backing", edges) == expected


# differences


def test_pages_that_differ_are_those_whose_words_do():
    before, after = filled("5.16+3", 3 * SECTION), filled("5.16+4", 3 * SECTION)
    span = START, START + 3 * SECTION
    sums = difference_sums(Tiles(before, *span), Tiles(after, *span))
    edges = np.array([START, START + 1, START + 600, START + 3 * SECTION])
    whole = (filled("5.16+3", 3 * SECTION).view(START, 3 * SECTION) != after.view(START, 3 * SECTION)).any(axis=1)
    expected = [int(whole[lo - START : hi - START].sum()) for lo, hi in pairwise(edges)]
    assert np.diff(sums(edges), axis=0)[:, 0].tolist() == expected
    assert sum(expected) == 3 * SECTION, "patch 4 changes every struct page of a device"


def test_one_changed_word_is_one_page_that_differs():
    before, after = filled("5.17", 2 * SECTION), filled("5.17", 2 * SECTION)
    after.writable(START, 1).pages[SECTION + 77, 5] = np.uint64(1)
    span = START, START + 2 * SECTION
    after.view(START + SECTION, 1)
    after.writable(START + SECTION, 1).pages[SECTION + 77, 5] = np.uint64(1)
    sums = difference_sums(Tiles(before, *span), Tiles(after, *span))
    pfn = START + SECTION + 77
    assert np.diff(sums(np.array([START, pfn, pfn + 1, span[1]])), axis=0)[:, 0].tolist() == [0, 1, 0]


def test_arrays_without_common_words_are_not_compared():
    one, other = filled("5.17", SECTION), filled("6.1", SECTION)
    with pytest.raises(WorkbenchError, match="no common words"):
        difference_sums(Tiles(one, START, START + SECTION), Tiles(other, START, START + SECTION))


# bins and refusals


@pytest.mark.parametrize("nr_pages", [1, 7, 800, 1000, 32768, 1 << 28])
def test_bins_cover_a_range_without_gaps(nr_pages):
    edges = bin_edges(START + 3, START + 3 + nr_pages, 800)
    assert edges[0] == START + 3 and edges[-1] == START + 3 + nr_pages
    assert len(edges) == min(800, nr_pages) + 1 and (np.diff(edges) > 0).all()
    if nr_pages == 1 << 28:
        assert (edges[1:-1] % SECTION == 0).all()


def test_refusals():
    tiles = Tiles(filled("5.17", SECTION), START, START + SECTION)
    with pytest.raises(WorkbenchError, match="no layer 'colour'"):
        tiles.counts("colour", np.array([START, START + 1]))
    with pytest.raises(WorkbenchError, match="not inside the device"):
        tiles.counts("roles", np.array([START - 1, START + 1]))
