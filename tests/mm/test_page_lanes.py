# SPDX-License-Identifier: GPL-2.0-only
"""Counts by lane against a slow, obvious look at each struct page: device pages, and pages full of odd words."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mm.support import START
from workbench.abi import Abi, Role
from workbench.errors import WorkbenchError
from workbench.mm import InitCall, PageArray, page_counts
from workbench.mm._jit import JIT
from workbench.mm.page_counts import PageCounts
from workbench.mm.page_lanes import SHOWN_FLAGS, Layer, lane_keys
from workbench.series import kernel

SECTION, SUBSECTION = 32768, 512
PGMAP = 0xFFFF_8881_00A0_1000
NAMES = ("5.10", "5.16+0", "5.17", "6.1", "6.12")


def device(name: str, nr_pages: int, shift: int = 9, altmap_pages: int = 0) -> PageArray:
    """Struct pages of a device; the first ones, if asked, those of an altmap."""
    array = PageArray(kernel(name), START, nr_pages)
    array.add_pages(START, nr_pages)
    data = START + altmap_pages
    if altmap_pages:
        array.init(InitCall(START, data))
    array.init(InitCall(data, START + nr_pages, pgmap=PGMAP, vmemmap_shift=shift))
    return array


# one struct page, as the release's members tell it


def lanes_of(abi: Abi, words: list[int], pfn: int, altmap_end: int) -> dict[Layer, set[str]]:
    role = abi.role(words, pfn)
    if role is Role.BUDDY:  # a device has none: they are not told from base pages
        role = Role.BASE
    members = {field.name: field.get(words) for field in abi.fields(role)}
    refcount = int.from_bytes(words[6].to_bytes(8, "little")[4:], "little", signed=True)
    return {
        Layer.roles: {"altmap" if role is Role.BASE and pfn < altmap_end else str(role)},
        Layer.refcount: {refcount_lane(refcount)},
        Layer.pincount: {pincount_lane(role, members, refcount)},
        Layer.flags: flags_of(abi, words[0] & ~0xFF if abi.release == "6.12" and role is Role.FIRST_TAIL else words[0]),
        Layer.mapping: {mapping_lane(words[3], "mapping" in members or not role.is_tail)},
        Layer.poison: {"hwpoison" if "hwpoison" in abi.flag_names(words[0]) else "well"},
    }


def refcount_lane(refcount: int) -> str:
    if refcount < 0:
        return "negative"
    return {0: "0", 1: "1"}.get(refcount, "some" if refcount < 1024 else "many")


def pincount_lane(role: Role, members: dict[str, int], refcount: int) -> str:
    for name in ("hpage_pinned_refcount", "compound_pincount", "_pincount"):
        if name in members:
            return "pinned" if members[name] else "zero"
    return "bias" if role in (Role.BASE, Role.ZONE_DEVICE) and refcount >= 1024 else "none"


def flags_of(abi: Abi, flags: int) -> set[str]:
    return {name if name in SHOWN_FLAGS else "other" for name in abi.flag_names(flags)}


def mapping_lane(word: int, has_mapping: bool) -> str:
    known = {0: "null", 0xDEAD_0000_0000_0400: "tail", 0xDEAD_0000_0000_0100: "list", 0xDEAD_0000_0000_0122: "list"}
    return known.get(word, "set" if has_mapping else "counts")


def looked_at(array: PageArray, edges: list[int], altmap_end: int = 0) -> dict[Layer, list[dict[str, int]]]:
    """Pages by lane of each layer between ``edges``, each struct page looked at."""
    exists = array.exists(edges[0], edges[-1] - edges[0])
    pfns = edges[0] + np.flatnonzero(exists)
    words = dict(zip(pfns.tolist(), array.rows(pfns).tolist(), strict=True)) if len(pfns) else {}
    seen = {pfn: lanes_of(array.kernel.abi, row, pfn, altmap_end) for pfn, row in words.items()}
    missing = {layer: {"missing"} for layer in Layer}

    def between(layer: Layer, lo: int, hi: int) -> dict[str, int]:
        return dict(Counter(lane for pfn in range(lo, hi) for lane in seen.get(pfn, missing)[layer]))

    return {layer: [between(layer, lo, hi) for lo, hi in pairwise(edges)] for layer in Layer}


def all_counted(counts: PageCounts, edges: list[int]) -> dict[Layer, list[dict[str, int]]]:
    return {layer: counted(counts, layer, edges) for layer in Layer}


def counted(counts: PageCounts, layer: Layer, edges: list[int]) -> list[dict[str, int]]:
    keys = lane_keys(counts.array.kernel.abi, layer)
    rows = counts.counts(layer, np.array(edges)).tolist()
    return [{key: pages for key, pages in zip(keys, row, strict=True) if pages} for row in rows]


# words that a page may have, and some that none should


def odd_words(abi: Abi, draw, pfn: int) -> dict[int, int]:
    """Word number to value, for some of the words of a page."""
    address = st.integers(-3, 3).map(lambda away: abi.struct_page(pfn + away))
    flags = st.integers(0, 2 ** len(abi.page_flags) - 1) | st.sampled_from([abi.flag("head"), abi.flag("hwpoison")])
    zone = st.sampled_from([abi.flags_word(zone=abi.zone_device), abi.flags_word(zone=abi.zone("NORMAL"))])
    count = st.sampled_from([0, 1, 2, 1023, 1024, 1025, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
    any_word = st.sampled_from([0, 1, 0xDEAD_0000_0000_0100, 0xDEAD_0000_0000_0122, 0xDEAD_0000_0000_0400]) | (
        st.integers(0, 2**64 - 1)
    )
    return draw(
        st.fixed_dictionaries(
            {},
            optional={
                0: st.builds(lambda flags, zone: flags | zone, flags, zone) | st.just(0),
                1: address | address.map(lambda at: at + 1) | address.map(lambda at: at + 8) | st.just(0),
                2: any_word,
                3: any_word,
                6: count.map(lambda count: count << 32 | 0xFFFF_FFFF) | st.just(0),
            },
        )
    )


def scribble(array: PageArray, data, start: int, end: int, most: int) -> list[int]:
    """Write odd words to some pages; their pfns."""
    pfns = data.draw(st.lists(st.integers(start, end - 1), max_size=most, unique=True))
    for pfn in pfns:
        row = array.writable(pfn, 1).pages[pfn - array.start_pfn]
        if data.draw(st.integers(0, 4)) == 0:
            row[:] = np.uint64(0)
        for word, value in odd_words(array.kernel.abi, data.draw, pfn).items():
            row[word] = np.uint64(value)
    return pfns


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=20)
def test_each_layer_counts_what_a_look_at_each_page_counts(name, data):
    array = device(name, 2 * SUBSECTION, data.draw(st.sampled_from([0, 2, 9])), SUBSECTION)
    altmap_end = START + SUBSECTION
    scribble(array, data, START + SUBSECTION - 12, START + SUBSECTION + 12, 12)
    cuts = data.draw(st.lists(st.integers(START, START + 3 * SUBSECTION), max_size=5))
    edges = sorted([START + SUBSECTION - 20, *cuts])
    counts = PageCounts(array, altmap_end)
    assert all_counted(counts, edges) == looked_at(array, edges, altmap_end)


@pytest.mark.parametrize("name", ["5.16+0", "6.12"])
@given(data=st.data())
@settings(max_examples=15)
def test_after_a_write_the_pages_written_to_are_enough(name, data):
    array = device(name, 2 * SUBSECTION)
    counts, edges = PageCounts(array), [START, START + 5, START + SUBSECTION - 1, START + 2 * SUBSECTION + 7]
    early = data.draw(st.sets(st.sampled_from(Layer)))
    for layer in early:
        counts.counts(layer, np.array(edges))
    counts.refresh(scribble(array, data, START, START + 2 * SUBSECTION, 6))
    assert all_counted(counts, edges) == looked_at(array, edges)


def test_only_what_was_written_to_is_counted_anew():
    array = device("5.17", 2 * SUBSECTION)
    counts, edges = PageCounts(array), [START, START + SUBSECTION, START + 2 * SUBSECTION]
    vm = array.writable(START, 2 * SUBSECTION)
    counts.refresh()
    assert counted(counts, Layer.poison, edges) == [{"well": SUBSECTION}] * 2
    for row in (7, SUBSECTION + 7):
        vm.pages[row, 0] |= np.uint64(array.kernel.abi.flag("hwpoison"))
    counts.refresh([START + 9])
    assert counted(counts, Layer.poison, edges) == [{"hwpoison": 1, "well": SUBSECTION - 1}, {"well": SUBSECTION}]
    counts.refresh([START + SUBSECTION])
    assert counted(counts, Layer.poison, edges) == [{"hwpoison": 1, "well": SUBSECTION - 1}] * 2
    counts.refresh([])
    assert counted(counts, Layer.poison, edges) == [{"hwpoison": 1, "well": SUBSECTION - 1}] * 2


# devices of which little has memory


def poison(array: PageArray, pfn: int) -> None:
    array.writable(pfn, 1).pages[pfn - array.start_pfn, 0] |= np.uint64(array.kernel.abi.flag("hwpoison"))


def poisoned_at(counts: PageCounts, edges: list[int]) -> list[int]:
    return [bin.get("hwpoison", 0) for bin in counted(counts, Layer.poison, edges)]


@pytest.mark.parametrize("section", [0, 3, 4000, 8191])
def test_a_poisoned_page_of_one_tebibyte_shows_at_once(section):
    """Section 0 is the one that stood for most of the others: they stay as they are."""
    nr_pages = 1 << 28
    array = device("5.17", nr_pages)
    counts, end = PageCounts(array), START + nr_pages
    pfn = START + section * SECTION + 1234
    edges = sorted({START, pfn, pfn + 1, end})
    assert poisoned_at(counts, edges) == [0, 0, 0]
    poison(array, pfn)
    counts.refresh([pfn])
    assert poisoned_at(counts, edges) == [0, 1, 0]
    assert counted(counts, Layer.poison, [START, end]) == [{"hwpoison": 1, "well": nr_pages - 1}]
    assert counted(counts, Layer.flags, [START, end]) == [
        {"reserved": nr_pages, "head": nr_pages // 512, "hwpoison": 1}
    ], "a layer that is counted only now"
    assert array.resident_bytes <= 4 * 2 << 20


def test_a_page_without_memory_was_not_written_to():
    array = device("5.17", 4 * SECTION)
    counts = PageCounts(array)
    before = array.resident_bytes
    counts.refresh([START + SECTION])
    assert counted(counts, Layer.roles, [START, START + 4 * SECTION])[0]["head"] == 4 * SECTION // 512
    assert array.resident_bytes == before


@pytest.mark.skipif(not JIT, reason="takes minutes in plain Python")
def test_an_array_with_all_its_memory_is_counted_section_by_section():
    """More sections than one call into compiled code counts, each with as many poisoned pages as its number."""
    nr_sections = 67
    array = device("5.16+11", nr_sections * SECTION)
    array.materialise()
    for section in range(nr_sections):
        for page in range(section):
            poison(array, START + section * SECTION + page * 401)
    counts = PageCounts(array)
    edges = [START + section * SECTION for section in range(nr_sections + 1)]
    assert poisoned_at(counts, edges) == list(range(nr_sections))
    assert counted(counts, Layer.roles, [START, array.end_pfn]) == [
        {"head": nr_sections * 64, "first_tail": nr_sections * 64, "second_tail": nr_sections * 64, "tail": 2182592}
    ]


def test_pages_that_come_and_go_are_seen_after_a_refresh():
    array = PageArray(kernel("5.17"), START, 2 * SECTION)
    array.add_pages(START, SUBSECTION)
    counts, edges = PageCounts(array), [START, START + SUBSECTION, START + 2 * SECTION]
    rest = 2 * SECTION - SUBSECTION
    assert counted(counts, Layer.roles, edges) == [{"uninitialised": SUBSECTION}, {"missing": rest}]
    array.add_pages(START + SECTION, SUBSECTION)
    array.remove_pages(START, SUBSECTION)
    counts.refresh()
    assert counted(counts, Layer.roles, edges) == [
        {"missing": SUBSECTION},
        {"uninitialised": SUBSECTION, "missing": rest - SUBSECTION},
    ]


def test_what_an_interrupt_left_half_counted_is_counted_again(monkeypatch):
    array = device("5.17", SUBSECTION)
    counts, edges = PageCounts(array), [START, START + SUBSECTION]

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(page_counts, "count_subsections", interrupted)
        counts.counts(Layer.roles, np.array(edges))
    assert counted(counts, Layer.roles, edges) == [{"head": 1, "first_tail": 1, "second_tail": 1, "tail": 509}]


def test_what_an_interrupt_left_from_before_a_write_is_counted_again(monkeypatch):
    array = device("5.17", SUBSECTION)
    counts, edges = PageCounts(array), [START, START + SUBSECTION]
    assert poisoned_at(counts, edges) == [0]
    poison(array, START + 7)

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(page_counts, "count_subsections", interrupted)
        counts.refresh([START + 7])
    assert poisoned_at(counts, edges) == [1]


def test_lanes_name_the_flags_that_the_configuration_has():
    assert lane_keys(kernel("5.17").abi, Layer.flags) == (*SHOWN_FLAGS, "other", "missing")
    for name in NAMES:
        for layer in Layer:
            keys = lane_keys(kernel(name).abi, layer)
            assert len(set(keys)) == len(keys) and keys[-1] == "missing"


@pytest.mark.parametrize(
    ("ask", "refusal"),
    [
        (lambda counts: counts.refresh([START - 1]), "outside the array"),
        (lambda counts: counts.refresh([START, START + SECTION]), "outside the array"),
        (lambda counts: counts.counts(Layer.roles, np.array([START - 1, START + 1])), "edges ascend inside"),
        (lambda counts: counts.counts(Layer.roles, np.array([START, START + SECTION + 1])), "edges ascend inside"),
        (lambda counts: counts.counts(Layer.roles, np.array([START, START + 9, START + 8])), "edges ascend inside"),
    ],
)
def test_refusals(ask, refusal):
    with pytest.raises(WorkbenchError, match=refusal):
        ask(PageCounts(device("5.17", SUBSECTION)))
