# SPDX-License-Identifier: GPL-2.0-only
"""A huge page's life against the specification: who is written, how often, and what stands there afterwards."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from workbench.errors import WorkbenchError
from workbench.lab.operations import FAILING, KEPT, LOGGED, OPERATIONS, Life, operations, pin_path
from workbench.lab.pin_events import PATHS, pin_events
from workbench.lab.trace import PGMAP, START_PFN
from workbench.mm.events import Site

KERNELS = ("5.16+11", "5.16+0", "6.1")
REFERENCED, HWPOISON = 1 << 1, 1 << 23
"""Bits of the flags word in all of :data:`KERNELS`."""


@pytest.fixture(scope="module")
def lives() -> dict[str, Life]:
    return {name: operations(name) for name in KERNELS}


def refcounts(words: np.ndarray) -> list[int]:
    return [int.from_bytes(row.tobytes()[52:56], "little", signed=True) for row in words]


@pytest.mark.parametrize("name", KERNELS)
def test_stores_lead_from_before_to_after(lives, name):
    """Store by store, each old value is the word that is there, and the last words are the real ones."""
    for trace in lives[name].traces.values():
        now = trace.before.values.copy()
        for pfn, word, old, new in zip(*(trace[n].values for n in ("pfn", "word", "old", "new")), strict=True):
            page = int(pfn) - START_PFN
            assert now[page, word] == old
            now[page, word] = new
        np.testing.assert_array_equal(now, trace.after.values)


@pytest.mark.parametrize("name", KERNELS)
def test_operations_follow_each_other_and_end_at_the_real_struct_pages(lives, name):
    life = lives[name]
    traces = list(life.traces.values())
    for one, next_one in pairwise(traces):
        np.testing.assert_array_equal(one.after.values, next_one.before.values)
    np.testing.assert_array_equal(traces[-1].after.values, life.machine.array.view(START_PFN, KEPT))


def test_releases_without_a_walk_have_no_teardown_to_play(lives):
    assert tuple(lives["5.16+11"].traces) == tuple(lives["5.16+0"].traces) == OPERATIONS
    assert tuple(lives["6.1"].traces) == OPERATIONS[:-1]


def test_a_fault_names_the_file_in_the_head_alone_or_in_each_page(lives):
    """Patch 10: page->mapping and page->index of the head; before it, of all 512 pages."""
    for name, pages in (("5.16+11", 1), ("5.16+0", KEPT)):
        fault = lives[name].traces["fault"]
        assert fault.sizes["store"] == 2 * pages and set(fault.site.values) == {"dax_set_mapping"}
        mapping = lives[name].device.mapping_address
        assert fault.after.values[:pages, 3].tolist() == [mapping] * pages
        assert fault.after.values[:pages, 4].tolist() == list(range(pages))


def test_pins_are_counted_in_the_head_or_in_each_page(lives):
    """512 pins of a compound page: 512 references of its head, 512 at offset 16 of the second tail (6.1: 24, first)."""
    head, each = (lives[name].traces["pin"].after.values for name in ("5.16+11", "5.16+0"))
    assert refcounts(head)[:4] == [1 + KEPT, 0, 0, 0]
    assert int.from_bytes(head[2].tobytes()[16:20], "little") == KEPT
    assert int.from_bytes(lives["6.1"].traces["pin"].after.values[1].tobytes()[24:28], "little") == KEPT
    assert refcounts(each) == [1 + 1024] * KEPT
    assert head[0, 0] & np.uint64(REFERENCED) and (each[:, 0] & np.uint64(REFERENCED)).all()


def test_a_release_is_one_batch_or_two_operations_a_page(lives):
    assert [lives[name].traces["unpin"].sizes["store"] for name in KERNELS] == [3, 2 * KEPT, 2]
    for name in KERNELS:
        trace = lives[name].traces["unpin"]
        assert trace.locked.values.all()
        assert refcounts(trace.after.values) == refcounts(lives[name].traces["fault"].after.values)


def test_poison_marks_the_head_or_the_page_itself(lives):
    for name, marked in (("5.16+11", 0), ("5.16+0", FAILING), ("6.1", 0)):
        words = lives[name].traces["poison"].after.values[:, 0]
        assert np.flatnonzero(words & np.uint64(HWPOISON)).tolist() == [marked]


def test_teardown_takes_the_last_reference(lives):
    for name in ("5.16+11", "5.16+0"):
        assert refcounts(lives[name].traces["teardown"].after.values) == [0] * KEPT


def test_the_kernel_that_dies_of_a_tails_mapping_plays_nothing_after():
    """Patch 11 without patch 1: memory failure follows TAIL_MAPPING."""
    life = operations("5.16+=2,3,4,5,6,7,8,9,10,11")
    assert tuple(life.traces) == OPERATIONS[:4] and "general protection fault" in life.died
    np.testing.assert_array_equal(life.traces["poison"].after.values, life.machine.array.view(START_PFN, KEPT))


def test_the_device_lies_where_it_is_asked_for():
    start = START_PFN + 512 * 7
    life = operations("5.17", "4K", start)
    assert life.device.ranges[0].start_pfn == start
    assert life.traces["fault"].before.values[:, 1].tolist() == [PGMAP] * KEPT
    with pytest.raises(WorkbenchError, match="no multiple of 512 pages"):
        operations("5.17", "2M", start + 1)


def test_of_a_huge_page_of_1_GiB_the_first_stores_are_kept():
    fault = operations("5.16+0", "1G").traces["fault"]
    assert (fault.sizes["store"], fault.attrs["not_logged"]) == (LOGGED, 2 * (1 << 18) - LOGGED)


def test_what_marks_is_named_as_in_the_kernel():
    assert Site.SetPageHWPoison.c_name == "SetPageHWPoison"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("name", "align", "release"), [("5.16+0", "2M", "5.16"), ("5.16+11", "2M", "5.17")])
def test_a_path_stores_and_touches_as_often_as_its_closed_form_says(path, name, align, release):
    trace = pin_path(name, align, path).traces[path]
    told = pin_events(path, 2 << 20, 2 << 20, name == "5.16+11", release)
    assert (trace.locked_operations, trace.lines_written) == (told.locked, told.lines_written)
    assert trace.sizes["store"] == told.locked


def test_a_path_that_is_not_known_is_refused():
    with pytest.raises(WorkbenchError, match="no calls for the path"):
        pin_path("5.17", "2M", "pin_everything")
