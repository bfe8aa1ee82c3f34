# SPDX-License-Identifier: GPL-2.0-only
"""What pinning does to struct pages, counted by the engine, against real kernels and against the closed forms."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.mm.pinning import BASE, Pinning
from tests.mm.support import needs_jit
from workbench.lab import pin_events
from workbench.mm.events import Counter, events
from workbench.mm.gup import Pinned
from workbench.mm.page_alloc import prep_compound_page
from workbench.mm.page_ref import Foll
from workbench.mm.pgtable import Pg

CAPTURES = Path(__file__).parents[2] / "data" / "captures"
# "before" is the 6.1 code with the assignment of vmemmap_shift left out: patch 11's effect is missing.
KERNELS = {
    "before": "6.1+=1,2,3,4,5,6,7,8,9,10",
    "nodedup": "6.1-nodedup",
    "stock": "6.1",
    "5.15": "5.15",
    "5.17": "5.17",
}
ROWS = [
    row
    for name in ("gup_test.json", "gup_test_5.15_5.17.json")
    for row in json.loads((CAPTURES / name).read_text())["struct_page_traffic"]["rows"]
]
FIELDS = ("stores", "va_lines", "va_lines_written")


def counted(ev):
    """The engine's counts under the recorder's names; ``va_lines`` are lines read or written."""
    return {
        "stores": int(ev.counts[Counter.STORES]),
        "va_lines": int(np.count_nonzero(ev.seen)),
        "va_lines_written": int(ev.counts[Counter.LINES_WRITTEN]),
    }


def pinned_by_calls(p, nr_pages, per_call, take, flags, ev):
    """gup_test's loop: calls of ``per_call`` pages."""
    got = [
        take(p.mm, BASE + (at << 12), min(per_call, nr_pages - at), flags, ev).pfns
        for at in range(0, nr_pages, per_call)
    ]
    return np.concatenate(got)


@needs_jit
def test_every_recorded_row_is_there():
    assert len(ROWS) == 26
    assert {(row["variant"], row["align"]) for row in ROWS} == {(v, a) for v in KERNELS for a in ("2M", "1G", "4K")}
    assert all(row["options"] == ["-S", "-a", "-n 512", "-w"] for row in ROWS)


@needs_jit
@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join((row["variant"], row["align"], row["map"])))
def test_counts_equal_the_recorded_ones(row):
    p = Pinning(KERNELS[row["variant"]], row["align"], row["MiB"], altmap=row["map"] == "dev")
    get, put = events(p.array.nr_pages), events(p.array.nr_pages)
    pfns = pinned_by_calls(p, row["base_pages"], 512, p.gup.pin_user_pages_fast, Foll.WRITE, get)
    assert len(pfns) == row["base_pages"]
    p.gup.unpin_user_pages(pfns, events=put)
    for repeat in row["repeats"]:
        assert counted(get) == {field: repeat["get"][field] for field in FIELDS}
        assert counted(put) == {field: repeat["put"][field] for field in FIELDS}


PHASES = {
    pin_events.PIN_FAST: lambda p, n, ev: pinned_by_calls(p, n, 512, p.gup.pin_user_pages_fast, Foll.WRITE, ev),
    pin_events.GET_FAST: lambda p, n, ev: pinned_by_calls(p, n, 512, p.gup.get_user_pages_fast, Foll.WRITE, ev),
    pin_events.UNPIN: lambda p, n, ev: p.gup.unpin_user_pages(held(p, n, pins=True), events=ev),
    pin_events.UNPIN_RANGE: lambda p, n, ev: p.gup.unpin_user_page_range(int(held(p, n, pins=True)[0]), n, events=ev),
    pin_events.PUT_PAGE: lambda p, n, ev: p.gup.put_pages(held(p, n, pins=False), events=ev),
}


def held(p, nr_pages, pins):
    take = p.gup.pin_user_pages_fast if pins else p.gup.get_user_pages_fast
    return take(p.mm, BASE, nr_pages, Foll.WRITE).pfns


@pytest.mark.parametrize("path", PHASES)
@pytest.mark.parametrize("align", ["4K", "2M"])
@pytest.mark.parametrize("name", ["5.15", "5.16", "5.17", "6.1-nodedup"])
def test_counts_equal_the_closed_form(name, align, path):
    p = Pinning(name, align, 4)
    ev = events(p.array.nr_pages)
    PHASES[path](p, p.nr_pages, ev)
    size = {"4K": 4096, "2M": 2 << 20}[align]
    compound = p.array.kernel.tree.has(11)
    expected = pin_events.pin_events(path, p.nr_pages << 12, size, compound, p.array.kernel.tree.base)
    assert int(ev.counts[Counter.LOCKED]) == int(ev.counts[Counter.STORES]) == expected.locked
    assert int(ev.counts[Counter.LINES_WRITTEN]) == expected.lines_written
    assert int(np.count_nonzero(ev.seen)) == expected.lines_read


@pytest.mark.parametrize(
    "name, touched", [("5.10", {0, 1, 2}), ("5.15", {0, 1, 2}), ("5.17", {0, 1, 2}), ("6.1", {0, 1, 100})]
)
def test_an_entry_of_ordinary_memory_is_grabbed_through_its_first_page_before_6_1(name, touched):
    """Pages 100 to 109 of a compound page: its head, order and pin counter; 6.1 asks page 100 for the head."""
    p = Pinning(name, "2M", 2, mapped=False)
    vm = p.array.writable(p.first, 512)
    prep_compound_page(vm, p.first - vm.start_pfn, 9, None)
    p.file.bits = Pg(0)
    p.file.enter(p.mm, p.vma, BASE)
    ev = events(p.array.nr_pages)
    pinned = p.gup.pin_user_pages_fast(p.mm, p.addr(100), 10, Foll.WRITE, ev)
    assert pinned.pfns.tolist() == list(range(p.first + 100, p.first + 110))
    assert set(np.flatnonzero(ev.seen).tolist()) == touched


@pytest.mark.parametrize("name, pinned", [("5.17", {0, 1, 2, 100}), ("6.1-nodedup", {0, 1, 100})])
def test_only_a_pin_asks_how_pins_are_counted(name, pinned):
    """Of a compound page a plain reference touches the tail that is meant and the head; a pin its counter too."""
    p = Pinning(name, "2M", 2)
    for take, touched in ((p.gup.get_user_pages_fast, {0, 100}), (p.gup.pin_user_pages_fast, pinned)):
        ev = events(p.array.nr_pages)
        take(p.mm, p.addr(100), 1, Foll.WRITE, ev)
        assert set(np.flatnonzero(ev.seen).tolist()) == touched


@pytest.mark.parametrize("per_call", [100, 512, 1024])
def test_one_grab_a_compound_page(per_call):
    p = Pinning("5.17", "2M", 4, head_once=True)
    ev = events(p.array.nr_pages)
    pfns = pinned_by_calls(p, p.nr_pages, per_call, p.gup.pin_user_pages_fast, Foll.WRITE, ev)
    expected = pin_events.pin_events(
        pin_events.PIN_FAST, p.nr_pages << 12, compound=True, pages_per_call=per_call, grab_once=True
    )
    assert int(ev.counts[Counter.LOCKED]) == expected.locked
    assert int(ev.counts[Counter.LINES_WRITTEN]) == expected.lines_written
    assert pfns.tolist() == list(range(p.first, p.first + p.nr_pages))
    # What it leaves is what the loop over single pages leaves.
    other = Pinning("5.17", "2M", 4)
    pinned_by_calls(other, other.nr_pages, per_call, other.gup.pin_user_pages_fast, Foll.WRITE, None)
    np.testing.assert_array_equal(p.pages, other.pages)
    p.gup.release(Pinned(pfns, len(pfns), pins=True))
