# SPDX-License-Identifier: GPL-2.0-only
"""Recorded runs with something changed on purpose: the change is found, counted exactly and named."""

import os
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.lab.captures.recorder import GIB, KIB4, MIB, Run, load, only, write
from workbench.lab import captures

CAPTURES = Path(os.environ.get("WORKBENCH_CAPTURES", Path(__file__).parents[3] / "data" / "captures"))
RUN = "k6.1-static-2M-mem"
DATA = 0x140200
"""The first head of the data."""
VMEMMAP = 0xFFFFEA0000000000


@cache
def loaded(name):
    capture, arrays = load(CAPTURES / name)
    return only(capture, "online", "mmapped_untouched"), arrays


class Copy:
    """The first two states of a recorded run, the first of them to be changed."""

    def __init__(self, name=RUN):
        capture, arrays = loaded(name)
        self.capture = only(capture, "online", "mmapped_untouched")
        named = {span.get("array") for state in self.capture["states"] for span in state["spans"]}
        self.arrays = {key: words.copy() for key, words in arrays.items() if key in named}

    @property
    def spans(self):
        return self.capture["states"][0]["spans"]

    def span(self, label):
        return next(span for span in self.spans if span["label"] == label)

    def pages(self, pfn):
        """The page in every span of the first state that holds it: eight words each."""
        for span in self.spans:
            at = pfn - int(span["pfn"], 16)
            if span["mapped"] and 0 <= at < span["nr_pages"]:
                yield self.arrays[span["array"]][at]

    def set(self, pfn, word, value):
        for words in self.pages(pfn):
            words[word] = value

    def get(self, pfn, word):
        return int(next(self.pages(pfn))[word])

    def verify(self, folder):
        return captures.verify(captures.read(write(folder / self.capture["name"], self.capture, self.arrays)))


def changed_state(report):
    """The report of the changed state; the other one is untouched and equal."""
    first, second = report.states
    assert (second.status, second.pages.bytes_different) == ("equal", 0)
    return first


# one bit


PAGES = {
    "head": DATA,
    "first tail": DATA + 1,
    "second tail": DATA + 2,
    "tail": DATA + 300,
    "last tail": DATA + 511,
    "head before the data": 0x140000,
    "last page": 0x17FFFF,
}


FIRST_SIGHTING = (0x140000, 1)
"""The page and word that teach the pgmap: a change there makes every other page differ."""


@pytest.mark.parametrize(("pfn", "word"), sorted(set(product(PAGES.values(), range(8))) - {FIRST_SIGHTING}))
def test_one_bit_is_one_byte_of_difference(pfn, word, tmp_path):
    copy = Copy()
    value = copy.get(pfn, word) ^ 32  # a bit that leaves a pgmap a pgmap and a head a head
    copy.set(pfn, word, value)
    state = changed_state(copy.verify(tmp_path))
    assert (state.status, state.pages.bytes_different) == ("different", 1)
    assert state.first.startswith(f"pfn {pfn:#x} word {word}: recorded {value:016x} (")
    assert f"engine {value ^ 32:016x} (" in state.first


@given(st.data())
def test_one_bit_anywhere_is_found(tmp_path_factory, data):
    name = data.draw(st.sampled_from(["k5.10-static-2M-dev", "k5.17-static-1G-dev", "k6.12-static-2M-mem"]))
    copy = Copy(name)
    span = data.draw(st.sampled_from([s for s in copy.spans if s["mapped"] and s["label"] != "before_namespace"]))
    pfn = int(span["pfn"], 16) + data.draw(st.integers(0, span["nr_pages"] - 1))
    word, bit = data.draw(st.integers(0, 7)), data.draw(st.integers(0, 63))
    first_sighting = {"k5.10-static-2M-dev": 0x141200, "k5.17-static-1G-dev": 0x180000}.get(name, 0x140000)
    assume((pfn, word) != (first_sighting, 1))
    copy.set(pfn, word, copy.get(pfn, word) ^ 1 << bit)
    state = changed_state(copy.verify(tmp_path_factory.mktemp("run")))
    assert (state.status, state.pages.bytes_different) == ("different", 1)
    assert state.first.startswith(f"pfn {pfn:#x} word {word}: ")


@pytest.mark.parametrize(
    ("pfn", "word", "flip", "recorded", "engine"),
    [
        (DATA, 6, 2 << 32, "_refcount 3", "_refcount 1"),
        (DATA, 6, 1, "_mapcount -2", "_mapcount -1"),
        (DATA, 4, 0x200, "index 512", "index 0"),
        (DATA, 0, 1 << 23, "flags reserved|head|hwpoison", "flags reserved|head"),
        (DATA, 0, 1 << 52, "zone 6", "zone 4"),
        (DATA, 0, 1 << 54, "node 1", "node 0"),
        (DATA + 1, 3, 5, "compound_pincount 5", "compound_pincount 0"),
        (DATA + 1, 2, 1 << 8, "compound_order 8", "compound_order 9"),
        (DATA + 1, 0, 1 << 23, "flags reserved|hwpoison", "flags reserved,"),
        (DATA + 300, 1, 64, f"compound_head {VMEMMAP + 64 * (DATA ^ 1) + 1:016x}", "compound_head"),
    ],
)
def test_the_difference_is_decoded_on_both_sides(pfn, word, flip, recorded, engine, tmp_path):
    copy = Copy()
    copy.set(pfn, word, copy.get(pfn, word) ^ flip)
    first = changed_state(copy.verify(tmp_path)).first
    sides = first.split("recorded ")[1].split(", engine ")
    assert recorded in sides[0]
    assert engine in sides[1]


def test_the_order_in_the_flags_of_a_first_tail_is_no_page_flag(tmp_path):
    """6.12: the low byte is 9, the order; as flags it would be locked and uptodate."""
    copy = Copy("k6.12-static-2M-mem")
    copy.set(DATA + 1, 0, copy.get(DATA + 1, 0) ^ 1)
    first = changed_state(copy.verify(tmp_path)).first
    sides = first.split("recorded ")[1].split(", engine ")
    for side, order in zip(sides, (8, 9), strict=True):
        assert f"order {order}" in side
        assert "flags reserved," in side


def test_the_first_of_several_differences_is_the_one_named(tmp_path):
    copy = Copy()
    for pfn in (0x17FE05, DATA + 7, DATA + 6):
        copy.set(pfn, 5, 0xAABB)
        copy.set(pfn, 7, 0xCC)
    state = changed_state(copy.verify(tmp_path))
    assert state.pages.bytes_different == 3 * 3
    assert state.first.startswith(f"pfn {DATA + 6:#x} word 5: recorded {0xAABB:016x}")


# pgmap


BAD_POINTERS = {
    "none": 0,
    "odd": 0xFFFF888101234561,
    "not at 8 bytes": 0xFFFF888101234564,
    "user": 0x00007F1234567890,
    "poison": 0xDEAD000000000100,
}


def heads(copy):
    """pfns of the recorded heads: no tail bit, a pgmap."""
    return sorted(
        {
            int(span["pfn"], 16) + at
            for span in copy.spans
            if span["mapped"] and span["label"] != "before_namespace"
            for at in np.flatnonzero(copy.arrays[span["array"]][:, 1] & 1 == 0).tolist()
        }
    )


def test_a_page_with_the_pgmap_of_another_binding_differs(tmp_path):
    copy = Copy()
    other = copy.get(DATA, 1) ^ 0x00111000
    copy.set(DATA, 1, other)
    state = changed_state(copy.verify(tmp_path))
    assert (state.status, state.pages.bytes_different) == ("different", 2)
    assert f"pgmap {other:016x}" in state.first


@pytest.mark.parametrize("bad", BAD_POINTERS)
def test_a_single_page_without_a_real_pgmap_differs(bad, tmp_path):
    """Even where it is the first page seen, the next one teaches the address."""
    copy = Copy()
    pgmap = copy.get(DATA, 1)
    assert heads(copy)[0] == 0x140000
    copy.set(0x140000, 1, BAD_POINTERS[bad])
    state = changed_state(copy.verify(tmp_path))
    different = sum((pgmap ^ BAD_POINTERS[bad]).to_bytes(8)[at] != 0 for at in range(8))
    assert (state.status, state.pages.bytes_different) == ("different", different)
    assert state.first.startswith("pfn 0x140000 word 1")


@pytest.mark.parametrize("bad", BAD_POINTERS)
def test_a_pgmap_that_is_no_kernel_address_is_never_learnt(bad, tmp_path):
    copy = Copy()
    for pfn in heads(copy):
        copy.set(pfn, 1, BAD_POINTERS[bad])
    state = changed_state(copy.verify(tmp_path))
    assert state.status == "different"
    assert state.pages.bytes_different >= len(heads(copy))


def test_what_was_learnt_holds_in_later_states(tmp_path):
    copy = Copy()
    for pfn in heads(copy):
        copy.set(pfn, 1, copy.get(pfn, 1) ^ 0x1000)
    first, second = copy.verify(tmp_path).states
    assert first.status == "equal"
    assert (second.status, second.pages.bytes_different) == ("different", len(heads(copy)))


def test_two_bindings_with_one_pgmap_differ(tmp_path):
    run = Run("6.1")
    run.boot_soft_reserved((4 * GIB, 12 * GIB))
    run.empty_the_first()
    run.create_device("dax0.1", [(0x100000, 0x4000)], 2 * MIB)
    run.create_device("dax0.2", [(0x104000, 0x4000)], KIB4)
    run.state("online", [(0x100000, 8), (0x104000, 8)])
    words = run.arrays["00.online.span1"]
    assert words[0, 1] != run.arrays["00.online.span0"][0, 1]
    words[:, 1] = run.arrays["00.online.span0"][0, 1]
    (state,) = captures.verify(captures.read(run.write(tmp_path))).states
    assert state.status == "different"
    assert state.first.startswith("pfn 0x104000 word 1")


def test_ranges_of_one_binding_share_a_pgmap(tmp_path):
    run = Run("6.1")
    run.boot_soft_reserved((4 * GIB, 12 * GIB))
    run.empty_the_first()
    run.create_device("dax0.1", [(0x100000, 0x4000)], KIB4)
    run.create_device("dax0.2", [(0x104000, 0x3C000)], KIB4)
    run.unbind("dax0.1")
    run.resize("dax0.1", [(0x100000, 0x4000), (0x140000, 0x4000)])
    run.bind("dax0.1")
    run.state("online", [(0x100000, 8), (0x140000, 8)])
    run.arrays["00.online.span1"][:, 1] += 0x40
    (state,) = captures.verify(captures.read(run.write(tmp_path))).states
    assert (state.status, state.pages.bytes_different) == ("different", 8)


# struct pages that exist on one side only


def test_a_struct_page_recorded_where_none_can_be_differs(tmp_path):
    copy = Copy()
    span = copy.span("after_end")
    assert not span["mapped"]
    span |= {"mapped": True, "array": "00.online.after_end"}
    copy.arrays[span["array"]] = np.zeros((span["nr_pages"], 8), np.uint64)
    state = changed_state(copy.verify(tmp_path))
    assert (state.status, state.pages.bytes_different) == ("different", 64 * span["nr_pages"])
    assert state.first == f"pfn {span['pfn']}: recorded a struct page, engine none"


def test_no_struct_page_recorded_where_one_must_be_differs(tmp_path):
    copy = Copy()
    span = copy.span("last_compound")
    span["mapped"] = False
    del copy.arrays[span.pop("array")]
    state = changed_state(copy.verify(tmp_path))
    assert (state.status, state.pages.bytes_different) == ("different", 64 * 512)
    assert state.first == f"pfn {span['pfn']}: recorded no struct page, engine one"


def test_a_page_on_one_side_only_is_not_lost_among_different_words(tmp_path):
    copy = Copy()
    span = copy.span("last_compound")
    span["mapped"] = False
    del copy.arrays[span.pop("array")]
    copy.set(DATA, 5, 1)
    assert changed_state(copy.verify(tmp_path)).pages.bytes_different == 64 * 512 + 1


# ordinary memory


def test_ordinary_memory_is_left_out_and_counted(tmp_path):
    copy = Copy()
    copy.arrays[copy.span("before_namespace")["array"]][:] = 0x5A
    state = changed_state(copy.verify(tmp_path))
    assert (state.status, state.pages.pages_left_out) == ("equal", 64)


def test_a_span_across_the_border_of_device_memory_is_cut_there(tmp_path):
    copy = Copy()
    words = np.concatenate([np.full((8, 8), 0x5A, np.uint64), copy.arrays[copy.span("namespace_start")["array"]][:8]])
    copy.spans.append({"label": "border", "pfn": "0x13fff8", "nr_pages": 16, "mapped": True, "array": "border"})
    copy.arrays["border"] = words
    before = copy.arrays[copy.span("before_namespace")["array"]]
    before[-8:] = 0x5A
    state = changed_state(copy.verify(tmp_path))
    assert (state.status, state.pages.pages, state.pages.pages_left_out) == ("equal", 2688, 64)
    copy.arrays["border"][8, 5] = 1
    copy.arrays[copy.span("namespace_start")["array"]][0, 5] = 1
    assert changed_state(copy.verify(tmp_path)).pages.bytes_different == 1


def test_a_state_of_ordinary_memory_alone_compares_nothing_and_says_so(tmp_path):
    copy = Copy()
    del copy.spans[1:]
    state = changed_state(copy.verify(tmp_path))
    assert (state.status, state.pages.pages, state.pages.pages_left_out) == ("equal", 0, 64)
