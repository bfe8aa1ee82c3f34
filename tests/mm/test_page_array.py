# SPDX-License-Identifier: GPL-2.0-only
"""The page array: sections that are only described are the ones that would be there; memory comes and goes."""

import gc
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import naive
from tests.mm.support import KERNELS, PGMAP, START, needs_jit
from workbench.abi import Abi, Config, Role
from workbench.errors import WorkbenchError
from workbench.mm import DevPagemap, InitCall, PageArray, arena
from workbench.mm.events import events
from workbench.mm.memremap import pagemap_range
from workbench.series import ALL, Tree, kernel, pair

SECTION = 32768
SUBSECTION = 512
DIRT = 0xA5A5A5A5A5A5A5A5
CAPTURES = Path(__file__).parents[2] / "data" / "captures"


def leave_dirt(nr_sections):
    """Memory with old content in the arena: the next array of that size gets it."""
    dirty = arena.take(nr_sections * SECTION * 64)
    dirty[:] = DIRT
    return dirty.ctypes.data


def array_of(name, nr_pages, start_pfn=START):
    return PageArray(kernel(name), start_pfn, nr_pages)


def device(array, start, nr_pages, shift=9, nid=0, pgmap=PGMAP):
    array.add_pages(start, nr_pages)
    return array.init(InitCall(start, start + nr_pages, nid, pgmap, shift))


# -- described and materialised ----------------------------------------------------------------------------


class Eager:
    """The same span without any laziness: every call is done at once, words from the naive model.

    Struct pages stand in vmemmap pages of 64; ``behind`` says which page of ``memory`` each is mapped to, so a store
    through one address is seen through every other that shares its memory, as with deduplication.
    """

    def __init__(self, name, start_pfn, nr_pages):
        self.kernel, self.L = KERNELS[name]
        self.start_pfn = start_pfn
        self.memory = np.zeros((nr_pages, 8), np.uint64)
        self.behind = np.arange(nr_pages // 64)
        self.exists = np.zeros(nr_pages, bool)
        self.shared = np.zeros(nr_pages // SUBSECTION, bool)

    def physical(self, start, nr_pages):
        row = np.arange(start - self.start_pfn, start - self.start_pfn + nr_pages)
        return self.behind[row // 64] * 64 + row % 64

    def read(self, start, nr_pages):
        return self.memory[self.physical(start, nr_pages)]

    def rows(self, start, nr_pages):
        return slice(start - self.start_pfn, start - self.start_pfn + nr_pages)

    def map_alone(self, start, nr_pages):
        """Every vmemmap page of the range to memory of its own, with what it reads as now."""
        content = self.read(start, nr_pages)
        pages = self.rows(start, nr_pages)
        self.behind[pages.start // 64 : pages.stop // 64] = np.arange(pages.start // 64, pages.stop // 64)
        self.memory[pages] = content

    def map_shared(self, start, end, shift):
        """Deduplication, chunk by chunk up to section boundaries: two pages a compound, the second repeated.

        A chunk that does not begin a compound goes on with the page before it, all of it.
        """
        step, chunk = 1 << shift, start
        while chunk < end:
            stop = min(chunk // SECTION * SECTION + SECTION, end)
            at = (chunk - self.start_pfn) // 64
            if (chunk - start) % step and step > SUBSECTION:
                self.behind[at : (stop - self.start_pfn) // 64] = self.behind[at - 1]
            else:
                for head in range(chunk, stop, step):
                    at = (head - self.start_pfn) // 64
                    self.behind[at + 2 : (min(head + step, stop) - self.start_pfn) // 64] = self.behind[at + 1]
            chunk = stop

    def add(self, start, nr_pages):
        self.exists[self.rows(start, nr_pages)] = True
        pages = self.rows(start, nr_pages)
        self.shared[pages.start // SUBSECTION : pages.stop // SUBSECTION] = False
        self.map_alone(start, nr_pages)
        self.memory[self.rows(start, nr_pages)] = 0

    def remove(self, start, nr_pages):
        self.exists[self.rows(start, nr_pages)] = False

    def init_storage(self, start, nr_pages, nid):
        """Pages that hold an altmap's struct pages: all alike but for the list head that points to itself."""
        if nr_pages:
            mem = {start: [0] * 8}
            naive.memmap_init_range_altmap(mem, self.L, (start, 0, 1), nid)
            self.memory[self.rows(start, nr_pages)] = np.array(mem[start], np.uint64)
            lists = np.array([self.L.address(start + i) + 8 for i in range(nr_pages)], np.uint64)
            self.memory[self.rows(start, nr_pages), 1:3] = lists[:, None]

    def compound(self, shift, altmap):
        """Pages from head to head, and how many of them are initialised."""
        step = 1 << shift if self.kernel.tree.has(4) else 1
        nr = naive.compound_nr_pages(shift, (0, 0, 0) if altmap else None, self.kernel.tree.dedup, False)
        return step, min(nr, step)

    def runs_into_shared(self, start, end, shift, altmap):
        """Whether the last compound's stores reach pages of a neighbour that share their memory."""
        step, nr = self.compound(shift, altmap)
        last = max(start + (end - 1 - start) // step * step + nr, end)
        first, beyond = (end - self.start_pfn) // SUBSECTION, -(-(last - self.start_pfn) // SUBSECTION)
        return bool(self.shared[first:beyond].any())

    def init_device(self, start, end, nid, pgmap, shift, altmap):
        """memmap_init_zone_device(); the pfn of the page fault, or None."""
        step, nr = self.compound(shift, altmap)
        if nr < step:
            self.shared[(start - self.start_pfn) // SUBSECTION : (end - self.start_pfn) // SUBSECTION] = True
            self.map_shared(start, end, shift)
        for head in range(start, end, step):
            mem = {head + i: [0] * 8 for i in range(min(step, 4))}
            naive.init_zone_device_page(mem, self.L, head, self.L.zone_device, nid, pgmap)
            if step == 1:
                self._store(start, end - start, mem[head])
                return None
            naive.memmap_init_compound(mem, self.L, head, self.L.zone_device, nid, pgmap, shift, min(step, 4))
            for pfn in range(head, head + min(nr, 3)):
                if not self._store(pfn, 1, mem[pfn]):
                    return pfn
            if nr > 3:
                missing = np.flatnonzero(~self._existing(head + 3, nr - 3))
                stop = head + 3 + int(missing[0]) if len(missing) else head + nr
                self._store(head + 3, stop - head - 3, mem[head + 3])
                if stop < head + nr:
                    return stop
        return None

    def _existing(self, start, nr_pages):
        inside = self.exists[self.rows(start, nr_pages)]
        return np.concatenate([inside, np.zeros(nr_pages - len(inside), bool)])

    def _store(self, start, nr_pages, words):
        if not self._existing(start, nr_pages).all():
            return False
        self.memory[self.physical(start, nr_pages)] = np.array(words, np.uint64)
        return True


NR_SECTIONS = 5
SPAN = NR_SECTIONS * SECTION

ADD = st.tuples(
    st.just("add"),
    st.integers(0, 99),  # which gap
    st.sampled_from([0, 1, 60, 0]),  # subsections from its start
    st.sampled_from([100, 64, 130, 65, 63, 1, 2, 3]),  # subsections
)
INIT = st.tuples(
    st.just("init"),
    st.integers(0, 99),  # which range
    st.sampled_from([9, 18, 12, 16, 0, 10, 15, 17, 5, 1]),
    st.sampled_from([None, None, None, (2, 0), (2, 510), (0, 77), (2, 300)]),
    st.integers(0, 1023),
)
BIND = st.tuples(st.just("bind"), ADD, INIT)
READ = st.tuples(st.just("read"), st.integers(0, 99), st.integers(0, 2**20), st.integers(1, 70_000))
REMOVE = st.tuples(st.just("remove"), st.integers(0, 99), st.integers(0, 999), st.sampled_from([1, 2, 64, 999]))
FILL = st.tuples(st.just("fill"), st.integers(0, NR_SECTIONS - 1), st.integers(1, NR_SECTIONS), st.sampled_from([1, 2]))
STEPS = st.lists(st.one_of(BIND, BIND, BIND, ADD, INIT, READ, READ, REMOVE, FILL), min_size=5, max_size=14)


class Comparison:
    """Any sequence of adding, initialising, reading, removing: the lazy array reads as the eager one does.

    |sec 0  |sec 1  |sec 2  |sec 3  |sec 4  |      devices of subsections and sections, altmaps, overruns,
    |--dev a----|dev b|  |--dev c------|           neighbours overwritten, parts taken away
    """

    def __init__(self, name):
        leave_dirt(NR_SECTIONS)
        self.array = PageArray(KERNELS[name][0], START, SPAN)
        self.eager = Eager(name, START, SPAN)
        self.ranges = []
        self.bound = 0

    def gaps(self):
        """(first pfn, pages) of each stretch without struct pages."""
        edges = np.flatnonzero(np.diff(np.concatenate([[True], self.eager.exists, [True]]))).reshape(-1, 2)
        return [(START + int(lo), int(hi - lo)) for lo, hi in edges]

    def add(self, which, offset, length):
        gaps = self.gaps()
        if gaps:
            start, nr_pages = gaps[which % len(gaps)]
            offset = offset * SUBSECTION % nr_pages
            nr_pages = min(length * SUBSECTION, nr_pages - offset)
            self.array.add_pages(start + offset, nr_pages)
            self.eager.add(start + offset, nr_pages)
            self.ranges.append((start + offset, nr_pages))
        return bool(gaps)

    def bind(self, add, init):
        if self.add(*add[1:]):
            self.init(len(self.ranges) - 1, *init[2:])

    def init(self, which, shift, altmap, nid):
        start, nr_pages = self.ranges[which % len(self.ranges)]
        if shift < 9 and nr_pages > 3 * SUBSECTION:
            shift = 0  # the model is slow with many small compounds
        nid = nid if self.array.kernel.abi.config.numa else 0
        self.eager.map_alone(start, nr_pages)
        self.bound += 1
        pgmap = PGMAP + 0x1000 * self.bound
        end = start + nr_pages
        if altmap is not None and sum(altmap) < nr_pages:
            reserve, free = altmap
            if free:
                self.array.init(InitCall(start + reserve, start + reserve + free, nid))
                self.eager.init_storage(start + reserve, free, nid)
            start += reserve + free
        call = InitCall(start, end, nid, pgmap, shift, altmap is not None)
        if self.eager.runs_into_shared(start, end, shift, call.altmap):
            with pytest.raises(WorkbenchError, match="share their struct pages' memory"):
                self.array.init(call)
            return
        fault = self.eager.init_device(start, end, nid, pgmap, shift, call.altmap)
        if fault is None:
            assert self.array.init(call) == end - start
        else:
            with pytest.raises(WorkbenchError, match=f"no struct page exists at pfn {fault:#x};") as refused:
                self.array.init(call)
            assert refused.value.changed == (f"struct pages initialised up to pfn {fault - 1:#x}",)

    def read(self, which, first, length):
        start, nr_pages = self.ranges[which % len(self.ranges)]
        first %= nr_pages
        self.compare(start + first, min(length, nr_pages - first))

    def remove(self, which, first, length):
        start, nr_pages = self.ranges.pop(which % len(self.ranges))
        first = first % (nr_pages // SUBSECTION) * SUBSECTION
        length = min(length * SUBSECTION, nr_pages - first)
        self.array.remove_pages(start + first, length)
        self.eager.remove(start + first, length)
        rest = [(start, first), (start + first + length, nr_pages - first - length)]
        self.ranges += [(pfn, nr) for pfn, nr in rest if nr]

    def fill(self, section, nr, threads):
        self.array.materialise(START + section * SECTION, min(nr, NR_SECTIONS - section) * SECTION, threads)

    def compare(self, start, nr_pages):
        got, want = self.array.view(start, nr_pages), self.eager.read(start, nr_pages)
        if not np.array_equal(got, want):
            i = int(np.flatnonzero((got != want).any(axis=1))[0])
            words = [[f"{int(word):016x}" for word in pages[i]] for pages in (got, want)]
            raise AssertionError(f"pfn {start + i:#x}:\n  {words[0]}\n  {words[1]}")

    def step(self, what, *arguments):
        if what in ("add", "bind", "fill") or self.ranges:
            getattr(self, what)(*arguments)
        assert (self.array.exists(START, SPAN) == self.eager.exists).all()
        assert self.array.existing_pages == int(self.eager.exists.sum())


@pytest.mark.parametrize("name", ["5.10", "5.17", "6.1", "6.1-nodedup", "6.12", "no NUMA"])
@given(steps=STEPS)
def test_described_and_materialised_sections_are_the_same(name, steps):
    comparison = Comparison(name)
    for step in steps:
        comparison.step(*step)
    for start, nr_pages in comparison.ranges:
        comparison.compare(start, nr_pages)


@pytest.mark.parametrize("name", ["6.1", "6.12"])
def test_a_compound_that_runs_into_shared_pages_is_refused(name):
    """One memory would change in many places at once; the refusal changes nothing.

    |sec 0
    |b|===device a, deduplicated===|          b: one subsection with an altmap, its compound runs 77 pages into a
    """
    comparison = Comparison(name)
    comparison.step("bind", ("add", 0, 1, 100), ("init", 0, 9, None, 0))
    before = comparison.array.view(START + SUBSECTION, 99 * SUBSECTION).copy()
    comparison.step("bind", ("add", 0, 0, 100), ("init", 0, 9, (0, 77), 0))
    assert (comparison.array.view(START + SUBSECTION, 99 * SUBSECTION) == before).all()


@pytest.mark.parametrize("name", ["5.17", "6.1", "6.12"])
@pytest.mark.parametrize("shift", [9, 10, 12, 16])
def test_a_range_that_begins_off_a_section(name, shift):
    """With deduplication sections that begin inside a compound are mapped to the page before them, heads and all.

    |sec 0  |sec 1      |sec 2      |sec 3
        |===range=======================|        4 subsections of section 0, then two sections and a half
    """
    comparison = Comparison(name)
    comparison.step("bind", ("add", 0, 60, 4 + 160), ("init", 0, shift, None, 1))
    comparison.compare(*comparison.ranges[0])


@pytest.mark.parametrize("name", ["5.10", "5.17", "6.1", "6.12"])
@pytest.mark.parametrize("shift", [0, 9, 18])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_order_of_materialisation_does_not_matter(name, shift, threads):
    leave_dirt(8)
    straight, lazy = array_of(name, 8 * SECTION), array_of(name, 8 * SECTION)
    for array in (straight, lazy):
        array.add_pages(START, 8 * SECTION)
        if array is straight:
            array.materialise()
        array.init(InitCall(START, START + 8 * SECTION, 1, PGMAP, shift))
    assert lazy.resident_bytes == 0
    for section in (5, 0, 7, 2):
        lazy.words(START + section * SECTION + 3)
    assert lazy.resident_bytes == 4 * SECTION * 64
    lazy.materialise(threads=threads)
    assert lazy.resident_bytes == 8 * SECTION * 64
    assert lazy.view(START, 8 * SECTION).tobytes() == straight.view(START, 8 * SECTION).tobytes()
    for block in range(0, 8 * SECTION, SUBSECTION):
        assert lazy.migratetype(START + block) == straight.migratetype(START + block)


@needs_jit
def test_a_described_tebibyte_costs_no_memory():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    nr_pages = 1 << 28
    array_of("5.17", SECTION).view  # noqa: B018 - what is imported late is imported now
    before = resident()
    array = array_of("5.17", nr_pages)
    assert device(array, START, nr_pages, shift=18) == nr_pages
    assert array.resident_bytes == 0
    assert array.existing_pages == nr_pages
    assert resident() - before < 8 << 20
    last_head = START + nr_pages - (1 << 18)
    assert array.role(last_head) is Role.HEAD
    assert array.role(START + nr_pages - 1) is Role.TAIL
    assert array.decode(START + nr_pages - 1)["compound_head"] == array.kernel.abi.struct_page(last_head) + 1
    assert array.resident_bytes == 2 * SECTION * 64
    assert resident() - before < 24 << 20


# -- recorded: a compound that runs over its range ---------------------------------------------------------


@needs_jit
def test_recorded_overrun():
    """5.17, align 1G over two ranges of 512M, a device of 2M pages between them.

    0x100000     0x120000     0x140000     0x160000     0x180000
    |new range 0 |-------- neighbour ------|new range 1 |  nothing exists
    |====== first compound ===|            |=== second compound ==X  page fault in the initialisation
    """
    run = CAPTURES / "k5.17-overrun-1G"
    after = json.loads((run / "capture.json").read_text())["states"][1]
    assert after["actions"][-1]["result"]["kernel_log"] == [
        "BUG: unable to handle page fault for address: ffffea0006000034",
        "in __init_zone_device_page",
    ]
    recorded = {}
    with np.load(run / "pages.npz", allow_pickle=False) as arrays:
        for span in after["spans"]:
            recorded[int(span["pfn"], 16)] = arrays[span["array"]] if span["mapped"] else None
    neighbour, new = int(recorded[0x140000][0, 1]), int(recorded[0x100000][0, 1])

    leave_dirt(24)
    array = array_of("5.17", 0x80000 + SECTION)
    pagemap_range(array, DevPagemap(neighbour, ((0x120000, 0x40000),), 9), 0)
    both = DevPagemap(new, ((0x100000, 0x20000), (0x160000, 0x20000)), 18)
    assert pagemap_range(array, both, 0) == 0x20000
    with pytest.raises(WorkbenchError, match="kernel page fault: .* no struct page exists at pfn 0x180000;") as fault:
        pagemap_range(array, both, 1)
    assert fault.value.changed == ("struct pages initialised up to pfn 0x17ffff",)
    assert array.kernel.abi.struct_page(0x180000) + 0x34 == 0xFFFFEA0006000034  # its _refcount

    for pfn, words in recorded.items():
        if words is None:
            assert not array.exists(pfn, 64).any()
        else:
            assert (array.view(pfn, len(words)) == words).all(), hex(pfn)
    # All of the neighbour, not only what was recorded: tails of 0x100000 up to 0x13ffff, untouched from 0x140000 on.
    head = array.kernel.abi.struct_page(0x100000) + 1
    assert (array.view(0x120000, 0x20000)[:, 1] == head).all()
    untouched = array.view(0x140000, 0x20000)
    assert (untouched[::512, 1] == neighbour).all()
    assert (untouched[1::512, 2] == 0xFFFFFFFF00000901).all()


def test_deduplication_leaves_the_neighbour_alone():
    """6.1 initialises 128 pages of a compound and maps the rest inside the range only.

    |range, 1 section|neighbour, 1 section| ...      one compound of 8 sections asked for
    """
    for materialised in (False, True):
        leave_dirt(2)
        array = array_of("6.1", 2 * SECTION)
        device(array, START + SECTION, SECTION, pgmap=PGMAP + 0x1000)
        if materialised:
            array.materialise()
        before = array_of("6.1", 2 * SECTION)
        device(before, START + SECTION, SECTION, pgmap=PGMAP + 0x1000)
        device(array, START, SECTION, shift=18)
        assert (array.view(START + SECTION, SECTION) == before.view(START + SECTION, SECTION)).all()
        assert array.role(START + SECTION - 1) is Role.TAIL


def test_a_fault_leaves_described_pages_behind_it_as_they_were():
    """|a: 2 subsections|hole, 2 subsections|b| all in one section; a's compound of 4,096 pages faults in the hole."""
    leave_dirt(1)
    array = array_of("5.17", SECTION)
    device(array, START + 4 * SUBSECTION, SUBSECTION, pgmap=PGMAP + 0x1000)
    array.add_pages(START, 2 * SUBSECTION)
    with pytest.raises(WorkbenchError, match="no struct page exists at pfn 0x100400;"):
        array.init(InitCall(START, START + 2 * SUBSECTION, 0, PGMAP, 12))
    assert array.role(START) is Role.HEAD
    assert array.role(START + 2 * SUBSECTION - 1) is Role.TAIL
    assert array.role(START + 4 * SUBSECTION) is Role.HEAD
    assert array.decode(START + 4 * SUBSECTION)["pgmap"] == PGMAP + 0x1000
    assert array.decode(START + 4 * SUBSECTION + 1)["compound_order"] == 9


# -- memory ------------------------------------------------------------------------------------------------


def test_shape_alignment_and_rights_of_a_view():
    array = array_of("5.17", SECTION)
    device(array, START, SECTION)
    view = array.view(START + 512, 1024)
    assert view.shape == (1024, 8)
    assert view.dtype == np.uint64
    assert view.flags.c_contiguous
    assert view.ctypes.data % 64 == 0
    assert view.ctypes.data == array.view(START, 1).ctypes.data + 512 * 64
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        view.reshape(-1)[:] = 0
    assert array.view(START, SECTION).ctypes.data % (2 << 20) == 0


def test_views_outlive_their_owner():
    """The memory goes back to the arena with the last view, not with the owner."""
    gc.collect()
    arena._free.clear()
    array = array_of("5.17", 2 * SECTION)
    device(array, START, 2 * SECTION)
    view = array.view(START, SECTION)[512:1024]
    content, address = view.tobytes(), view.ctypes.data
    del array
    gc.collect()
    kept = [array_of("5.17", 2 * SECTION) for _ in range(3)]
    for other in kept:
        device(other, START, 2 * SECTION, shift=0)
        assert other.view(START + 512, 1).ctypes.data != address
    assert view.tobytes() == content
    del kept, other, view
    gc.collect()
    again = [array_of("5.17", 2 * SECTION) for _ in range(4)]
    assert address in [a._vm.pages.ctypes.data + 512 * 64 for a in again]


def test_recycled_memory_shows_nothing_of_its_past():
    gc.collect()
    arena._free.clear()
    address = leave_dirt(3)
    array = array_of("5.17", 3 * SECTION)
    assert array._vm.pages.ctypes.data == address, "the test needs the recycled mapping"
    array.add_pages(START, 3 * SECTION)
    assert not array.view(START, SECTION).any()
    array.init(InitCall(START + 7, START + 9, 0, PGMAP, 0))
    assert np.flatnonzero(array.view(START, 3 * SECTION).any(axis=1)).tolist() == [7, 8]
    array.remove_pages(START, 3 * SECTION)
    array.add_pages(START, 3 * SECTION)
    assert not array.view(START, 3 * SECTION).any()


def test_no_more_memory_than_there_is(monkeypatch):
    array = array_of("5.17", 1024 * SECTION)
    device(array, START, 1024 * SECTION)
    monkeypatch.setattr(arena, "available", lambda: (512 << 20) + (5 << 20))
    with pytest.raises(WorkbenchError) as refused:
        array.view(START, 3 * SECTION)
    message = str(refused.value)
    for part in (
        "filling 3 sections of struct pages needs 6 MiB",
        "517 MiB are available",
        "512 MiB of them stay free",
    ):
        assert part in message
    assert refused.value.changed == ()
    assert array.resident_bytes == 0
    with pytest.raises(WorkbenchError, match=r"1,024 sections of struct pages needs 2 GiB"):
        array.materialise(threads=2)
    assert array.resident_bytes == 0
    assert array.role(START + 5 * SECTION) is Role.HEAD  # two sections fit: 4 MiB
    monkeypatch.setattr(arena, "available", lambda: 512 << 20)
    with pytest.raises(WorkbenchError, match="2 MiB"):
        array.remove_pages(START + 8 * SECTION, SUBSECTION)
    assert array.exists(START + 8 * SECTION, SUBSECTION).all()
    array.remove_pages(START + 8 * SECTION, SECTION)  # a whole section needs none


@needs_jit
def test_memory_that_others_take_meanwhile_ends_the_filling_not_the_process(monkeypatch):
    array = array_of("5.17", 66 * SECTION)
    device(array, START, 66 * SECTION)
    had = iter([8 << 30, 8 << 30, 513 << 20])  # for all 66 sections, for the first 64, for the last two
    with monkeypatch.context() as patch:
        patch.setattr(arena, "available", lambda: next(had))
        with pytest.raises(WorkbenchError, match="filling 2 more sections"):
            array.materialise()
    assert array.resident_bytes == 64 * SECTION * 64
    assert array.role(START + 65 * SECTION) is Role.HEAD


def test_sections_without_struct_pages_take_no_memory():
    array = array_of("5.17", 1024 * SECTION)
    device(array, START + 3 * SECTION, SUBSECTION)
    array.materialise()
    assert array.resident_bytes == SECTION * 64
    array.materialise(START + 4 * SECTION, 5 * SECTION)
    assert array.resident_bytes == SECTION * 64


# -- which struct pages exist ------------------------------------------------------------------------------


def test_the_span_is_rounded_to_sections():
    array = PageArray(kernel("5.17"), START + 1000, SECTION)
    assert (array.start_pfn, array.end_pfn, array.nr_sections) == (START, START + 2 * SECTION, 2)
    for start, nr_pages in ((START, 0), (START, -1), (-1, 5)):
        with pytest.raises(WorkbenchError, match="at least one page"):
            PageArray(kernel("5.17"), start, nr_pages)


def test_struct_pages_come_and_go_by_subsections():
    array = array_of("5.17", 2 * SECTION)
    array.add_pages(START + 63 * SUBSECTION, 3 * SUBSECTION)  # over the section boundary
    existing = np.flatnonzero(array.exists(START, 2 * SECTION))
    assert (existing[0], len(existing)) == (63 * SUBSECTION, 3 * SUBSECTION)
    assert not array.exists(START - 5, 5).any()
    assert not array.exists(array.end_pfn - 1, 10)[1:].any()
    array.remove_pages(START + 64 * SUBSECTION, SUBSECTION)
    assert array.existing_pages == 2 * SUBSECTION
    with pytest.raises(WorkbenchError, match="no struct page exists at pfn 0x108000; .* pfn 0x107e00-0x1083ff"):
        array.view(START + 63 * SUBSECTION, 3 * SUBSECTION)


@pytest.mark.parametrize("nr_pages", [0, 511, 513, 1000])
@pytest.mark.parametrize("operation", ["add_pages", "remove_pages"])
def test_einval_changes_nothing(operation, nr_pages):
    array = array_of("5.17", SECTION)
    device(array, START, 2 * SUBSECTION)
    before = array.view(START, 2 * SUBSECTION).tobytes()
    for start in (START, START + 256, START + 4 * SUBSECTION):
        with pytest.raises(WorkbenchError) as refused:
            getattr(array, operation)(start, nr_pages)
        assert refused.value.errno_name == "EINVAL"
    assert array.existing_pages == 2 * SUBSECTION
    assert array.view(START, 2 * SUBSECTION).tobytes() == before


def test_eexist_changes_nothing():
    array = array_of("5.17", 2 * SECTION)
    device(array, START + 2 * SUBSECTION, 2 * SUBSECTION)
    before = array.view(START + 2 * SUBSECTION, 2 * SUBSECTION).tobytes()
    for start, nr in ((2, 1), (0, 3), (3, 80), (0, 128)):
        with pytest.raises(WorkbenchError, match="exist already") as refused:
            array.add_pages(START + start * SUBSECTION, nr * SUBSECTION)
        assert refused.value.errno_name == "EEXIST"
        assert refused.value.changed == ()
    assert array.existing_pages == 2 * SUBSECTION
    assert array.view(START + 2 * SUBSECTION, 2 * SUBSECTION).tobytes() == before


def test_what_does_not_exist_is_neither_removed_nor_initialised_nor_read():
    array = array_of("5.17", SECTION)
    array.add_pages(START, 2 * SUBSECTION)
    with pytest.raises(WorkbenchError, match="no struct page exists at pfn 0x100400") as refused:
        array.remove_pages(START, 4 * SUBSECTION)
    assert refused.value.errno_name == "EINVAL"
    assert array.exists(START, 2 * SUBSECTION).all()
    refusals = [
        lambda: array.init(InitCall(START, START + 4 * SUBSECTION, 0, PGMAP)),
        lambda: array.traced(InitCall(START, START + 4 * SUBSECTION, 0, PGMAP), events(array.nr_pages)),
        lambda: array.view(START + 2 * SUBSECTION, 1),
        lambda: array.view(START, 0),
        lambda: array.words(START - 1),
        lambda: array.writable(array.end_pfn, 1),
        lambda: array.migratetype(START + 3 * SUBSECTION),
    ]
    for refusal in refusals:
        with pytest.raises(WorkbenchError, match="no struct page exists at pfn"):
            refusal()
    assert not array.view(START, 2 * SUBSECTION).any(), "nothing was initialised"
    with pytest.raises(WorkbenchError, match="is not in this array"):
        array.add_pages(array.end_pfn, SUBSECTION)


def test_a_node_that_the_flags_word_cannot_hold_is_refused():
    without = PageArray(pair(Abi("5.17", Config(numa=False, numa_balancing=False)), Tree("5.17", ALL)), START, SECTION)
    for array, nid, known in ((array_of("5.17", SECTION), 1024, 1023), (without, 1, 0), (without, -1, 0)):
        array.add_pages(START, SUBSECTION)
        with pytest.raises(WorkbenchError, match=rf"node {nid} does not exist: .* from 0 to {known}\."):
            array.init(InitCall(START, START + SUBSECTION, nid, PGMAP, 9))
        assert not array.view(START, SUBSECTION).any()
        array.remove_pages(START, SUBSECTION)


def test_rebinding_describes_anew():
    """Remove and add again: nothing of the first device is left, the second is there."""
    leave_dirt(2)
    array = array_of("5.17", 2 * SECTION)
    for round_, shift in enumerate((9, 0, 15)):
        device(array, START, 2 * SECTION, shift=shift, pgmap=PGMAP + 0x1000 * round_)
        fresh = array_of("5.17", 2 * SECTION)
        device(fresh, START, 2 * SECTION, shift=shift, pgmap=PGMAP + 0x1000 * round_)
        assert (array.view(START, 2 * SECTION) == fresh.view(START, 2 * SECTION)).all()
        array.remove_pages(START, 2 * SECTION)


# -- reading -----------------------------------------------------------------------------------------------


def test_traced_does_what_init_does():
    for name in ("5.16+3", "5.17", "6.1", "6.12"):
        plain, traced = array_of(name, SECTION), array_of(name, SECTION)
        call = InitCall(START, START + 4 * SUBSECTION, 3, PGMAP, 10)
        for array in (plain, traced):
            array.add_pages(START, 4 * SUBSECTION)
        ev = events(traced.nr_pages)
        assert plain.init(call) == traced.traced(call, ev) == 4 * SUBSECTION
        assert (plain.view(START, 4 * SUBSECTION) == traced.view(START, 4 * SUBSECTION)).all()


def test_one_page_by_name():
    array = array_of("5.17", SECTION)
    device(array, START, SECTION)
    assert array.role(START) is Role.HEAD
    assert array.words(START) == [0x0027FFFFC0011000, PGMAP, 0, 0, 0, 0, 0x1FFFFFFFF, 0]
    assert array.decode(START + 1)["compound_order"] == 9
    assert array.explain(START + 2).startswith("pfn 0x100002: second_tail")
    assert array.migratetype(START + 513) == 1


def test_rows_of_scattered_pfns():
    array = array_of("5.17", 2 * SECTION)
    device(array, START, 2 * SECTION)
    pfns = np.array([0, 1, 511, 512, SECTION - 1, SECTION, 2 * SECTION - 1]) + START
    rows = array.rows(pfns)
    assert rows.tolist() == [array.words(int(pfn)) for pfn in pfns]


def test_text_and_table_say_the_same():
    array = array_of("5.16+4", 8 * SECTION)
    device(array, START, 4 * SECTION)
    array.words(START)
    text, table = repr(array), array._repr_html_()
    for fact in ("pfn 0x100000-0x13ffff", "131,072 (8 MiB)", "2 MiB; the rest is described", "init calls: 1"):
        assert fact in text
    assert table.count("<tr>") == 5
    assert "Kernel 5.16+4 (derived" in table
    assert "pfn 0x100000-0x13ffff" in table
