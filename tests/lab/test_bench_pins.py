# SPDX-License-Identifier: GPL-2.0-only
"""The benchmark of pins, counting and devices: twins that do what the engine does, counts that are checked."""

import shutil
import signal
import time
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.lab import bench, bench_counting, bench_devices, bench_pins, twins
from workbench.lab.bench_counting import COUNTED
from workbench.lab.bench_kernels import START_PFN
from workbench.lab.bench_pins import BASE, BASE_PAGES, COMPOUND, ONCE, PIN_CASES, PinCase, Pinner
from workbench.lab.bench_samples import Pace, Samples, interleave
from workbench.lab.checkout import Checkout
from workbench.mm import PageArray, pgtable
from workbench.mm._jit import JIT
from workbench.mm.events import Counter, events
from workbench.mm.memmap import memmap
from workbench.mm.page_ref import page_refs
from workbench.mm.pgtable import Level, Pg
from workbench.series import kernel

GIB = 1 << 30
ROWS = GIB >> 12
needs_jit = pytest.mark.skipif(not JIT, reason="nothing is compiled")
HAS_GCC = shutil.which("gcc") is not None


def needs_compiler(test):
    return pytest.mark.compiler(pytest.mark.skipif(not HAS_GCC, reason="no gcc")(test))


@pytest.fixture(scope="module")
def checkout():
    return Checkout.find()


@pytest.fixture(scope="module")
def built(checkout):
    return twins.Twins(checkout)


def pinner(case, nr_pages=ROWS):
    """A Pinner over ``nr_pages`` fresh struct pages of its own."""
    room = np.zeros(nr_pages * 8 + 8, np.uint64)
    pages = room[-(room.ctypes.data // 8) % 8 :][: nr_pages * 8].reshape(nr_pages, 8)
    vm = memmap(kernel(case.tree), pages, np.zeros(-(-nr_pages // 8192), np.uint64), START_PFN)
    found = Pinner(case, vm, np.full(nr_pages, -1, np.int64))
    found.prepare(0, nr_pages)
    return found


def state(found):
    return sha256(found.vm.pages).hexdigest(), found.pages.tolist(), found.pgmaps.refs.tolist()


def both(case, built, change, start, end):
    """Engine and twin on equal memory: what getting and putting return, and what each leaves."""
    left = []
    for by in (None, built):
        found = pinner(case)
        change(found)
        got = found.get(start, end, by)
        after_get = state(found)
        freed = found.put(start, end, by) if got == end - start else None
        left.append((got, after_get, freed, state(found)))
    return left


def nothing(_):
    """No change."""


# -- twins ---------------------------------------------------------------------------------------------------


@needs_compiler
@needs_jit
@pytest.mark.parametrize("case", PIN_CASES, ids=lambda case: case.name)
def test_twin_and_engine_leave_the_same_bytes(case, built):
    engine, twin = both(case, built, nothing, 0, ROWS)
    assert engine == twin
    assert engine[0] == ROWS and engine[2] == 0
    fresh = pinner(case)
    marked = np.uint64(fresh.refs.referenced)
    heads = fresh.vm.pages[:: 1 << case.order]
    heads[:, 0] |= marked
    assert sha256(fresh.vm.pages).hexdigest() == engine[3][0]  # released, PG_referenced is all that is left
    assert engine[1][0] != engine[3][0]


def no_pgmap_behind(found, page):
    found.pgmaps.last_pfn[0] = START_PFN + page


def gone(found, page):
    found.vm.pages[page, 6] &= np.uint64(0xFFFF_FFFF)  # a count of zero


def overflown(found, page):
    found.vm.pages[page, 6] |= np.uint64(1 << 63)


def entry(found, page):
    """Where the entry that maps a page lies: (table, index)."""
    return pgtable.table_for(found.pt, BASE + (page << 12), Level.PMD), page >> 9


def not_mapped(found, page):
    found.pt.entries[entry(found, page)] = 0


def read_only(found, page):
    found.pt.entries[entry(found, page)] &= np.uint64(~int(Pg.RW) & (1 << 64) - 1)


def forking(found, page):
    found.seq[0] = 1


CHANGES = (no_pgmap_behind, gone, overflown, not_mapped, read_only, forking)


@needs_compiler
@needs_jit
@given(data=st.data())
@settings(max_examples=15)
def test_twin_and_engine_agree_on_any_range_and_failure(built, data):
    """Orders with and without a pin counter, ranges that cut compounds, and whatever ends a call."""
    order = data.draw(st.sampled_from([0, 1, 2, 9]))
    case = PinCase("5.17" if order else "5.16+0", order, once=data.draw(st.booleans()))
    start = data.draw(st.integers(0, 1500))
    end = start + data.draw(st.integers(1, 2500))
    change, page = data.draw(st.sampled_from([None, *CHANGES])), data.draw(st.integers(0, 4500))
    engine, twin = both(case, built, lambda found: change and change(found, page), start, end)
    assert engine == twin


@needs_compiler
@needs_jit
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_ends_a_call_ends_the_twins_too(change, built):
    """The change lies behind page 700: the second call of 512 pages does not come to its end."""
    engine, twin = both(BASE_PAGES, built, lambda found: change(found, 700), 0, 1536)
    assert engine == twin
    assert engine[0] == (0 if change is forking else 512)


@needs_compiler
@needs_jit
@pytest.mark.parametrize(
    ("before", "after", "case"),
    [
        ("PIN_BIAS - 1)", "PIN_BIAS)", BASE_PAGES),
        ("(int32_t)nr, __ATOMIC_SEQ_CST);\n\telse\n\t\tnr *=", "1, __ATOMIC_SEQ_CST);\n\telse\n\t\tnr *=", COMPOUND),
        ("__atomic_fetch_or(&head->flags, refs->referenced", "__atomic_fetch_or(&head->flags, 0", COMPOUND),
        ("switches & HEAD_ONCE)", "switches & 0)", None),
        ("page != head)", "page != head && !n)", COMPOUND),
        ("(nr - 1)", "nr", ONCE),
    ],
)
def test_a_twin_that_does_something_else_is_found(checkout, tmp_path, before, after, case):
    shutil.copytree(checkout.root / "benchmarks", tmp_path / "benchmarks")
    source = tmp_path / "benchmarks" / "pin.c"
    text = source.read_text()
    assert text.count(before) == 1
    source.write_text(text.replace(before, after))
    changed = twins.Twins(Checkout(tmp_path))
    if case is None:  # one grab or many leave the same counts: only an overflow in the middle tells them apart

        def nearly_full(found):
            found.vm.pages[0, 6] = found.vm.pages[0, 6] & np.uint64(0xFFFF_FFFF) | np.uint64((1 << 31) - 100 << 32)

        engine, twin = both(ONCE, changed, nearly_full, 0, 512)
        assert engine[0] == 512
        assert twin[0] < 512
        return
    engine, twin = both(case, changed, nothing, 0, 4096)
    assert engine != twin


@needs_compiler
@pytest.mark.parametrize("name", ["5.10", "6.1", "6.12"])
def test_twins_refuse_other_ways_to_count(built, name):
    found = pinner(BASE_PAGES)
    with pytest.raises(WorkbenchError, match="count references as 5.15 to 5.17"):
        built.unpin_user_pages(found.vm, page_refs(kernel(name)), found.pages[:1])
    with pytest.raises(WorkbenchError, match="count references as 5.15 to 5.17"):
        built.unpin_user_pages(found.vm, page_refs(kernel("5.17"), plain=True), found.pages[:1])


# -- counting -------------------------------------------------------------------------------------------------


@needs_jit
def test_every_kernel_counts_its_closed_form():
    array = PageArray(kernel("5.17"), START_PFN, ROWS)
    array.add_pages(START_PFN, ROWS)
    found = Samples()
    interleave(bench_counting.measure_counting(array, 1, found, Pace(1)))
    assert found.miscounts == {name: [0] for name in COUNTED}
    assert {name for name, _ in found.counting} == set(COUNTED)


@pytest.mark.parametrize("name", COUNTED)
def test_one_event_too_many_is_a_miscount(name):
    ev = events(512)
    told = bench_counting.closed_form(name, 512)
    for counter, number in told.items():
        ev.counts[counter] = number
    assert bench_counting.miscount(name, ev, 512) == 0
    for counter in told:
        ev.counts[counter] += 1
        assert bench_counting.miscount(name, ev, 512) == 1
        ev.counts[counter] -= 1


def test_closed_forms_of_two_mib():
    pin, unpin = (f"{function} 5.16+0 base" for function in ("pin_user_pages_fast", "unpin_user_pages"))
    assert bench_counting.closed_form(pin, 512)[Counter.LOCKED] == 3 * 512
    assert bench_counting.closed_form(unpin, 512)[Counter.LOCKED] == 2 * 512
    pin, unpin = (f"{function} 5.17 order 9" for function in ("pin_user_pages_fast", "unpin_user_pages"))
    assert bench_counting.closed_form(pin, 512)[Counter.LOCKED] == 3 * 512
    assert bench_counting.closed_form(unpin, 512)[Counter.LOCKED] == 3
    assert bench_counting.closed_form(unpin, 512)[Counter.LINES_WRITTEN] == 2


# -- devices --------------------------------------------------------------------------------------------------


@needs_compiler
@needs_jit
def test_a_device_is_faulted_whole_and_bound_again(built):
    device = bench_devices.boot(GIB)
    found = Samples()
    seen = []
    random_writes = twins.Twins.random_writes

    class Looking(twins.Twins):
        def __init__(self):
            pass

        spin = built.spin

        def random_writes(self, *args):
            seen.append(int((device.array.memmap.pages[::512, 3] != 0).sum()))
            random_writes(built, *args)

    bench_devices.measure_devices([device], Looking(), found, Pace(2))
    assert seen == [512] * 3  # page->mapping of each head: every 2 MiB was faulted, in the warm-up too
    assert {key: len(value) for key, value in found.reinit.items()} == {(GIB, 1): 2, (GIB, 2): 2}
    assert {key: len(value) for key, value in found.probes.items()} == {"probe": 2, "init": 2}
    assert len(found.faults[GIB]) == len(found.writes[GIB]) == 2
    assert device.device.alive


def test_pages_are_mapped_where_they_are_looked_for():
    pt = bench_pins.mapped_whole(START_PFN, 2 * ROWS)
    for page in (0, 511, 512, ROWS, 2 * ROWS - 1):
        level, table, index = pgtable.walk(pt, BASE + (page << 12))
        assert level == Level.PMD
        assert pgtable.entry_pfn(pt.entries[table, index]) == START_PFN + page // 512 * 512
    level, table, index = pgtable.walk(pt, BASE + (2 * ROWS << 12))
    assert pt.entries[table, index] == 0


# -- the time a quick run has ---------------------------------------------------------------------------------


def test_time_ends_what_is_under_way():
    began, before = time.monotonic(), signal.getsignal(signal.SIGALRM)
    with bench._until(began + 0.2):
        time.sleep(30)
        raise AssertionError("went on")
    assert 0.2 <= time.monotonic() - began < 10
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_what_ends_in_time_is_left_alone():
    with bench._until(time.monotonic() + 0.2):
        pass
    with bench._until(None):
        time.sleep(0.3)
