# SPDX-License-Identifier: GPL-2.0-only
"""Machines driven at random, step by step beside the naive model of ``tests/naive_dax.py``."""

from __future__ import annotations

from itertools import count, pairwise

import numpy as np
import pytest
from hypothesis import seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.naive_dax import (
    GIB,
    MIB2,
    PAGE,
    RULES,
    Device,
    NaiveProcess,
    NaiveRegion,
    Refused,
    Signal,
    down,
    struct_pages,
)
from workbench.errors import Signalled, WorkbenchError
from workbench.machine import Machine
from workbench.mm.madvise import Madv
from workbench.mm.mmap import Map, Prot

START = 4 * GIB
SMALL, LARGE = 24 << 20, 3 * GIB
_SEED = 14606001
ANY = st.integers(0, 1 << 20)
FEW = st.integers(0, 4)
YES = st.booleans()


def outcome(call):
    """What a call of the engine or of the model comes to, in the same words."""
    try:
        return call()
    except Refused as no:
        return "errno", no.number
    except Signal as signal:
        return signal.name, signal.code, signal.addr
    except Signalled as no:
        return no.signal.name, no.signal.code, no.signal.addr
    except WorkbenchError as no:
        return "errno", no.errno


def _tables(pt) -> int:
    """Page tables in use: those ever taken, less those in the chain of freed ones."""
    never_used, freed, _ = (int(each) for each in pt.state)
    chain = 0
    while freed:
        chain, freed = chain + 1, int(pt.entries[freed, 0])
    return never_used - chain


class Dax(RuleBasedStateMachine):
    """One dynamic region of a machine, its devices, and the processes that map them."""

    def __init__(self, tree: str) -> None:
        super().__init__()
        self.tree = tree
        self.rules_ = RULES[tree]

    @initialize(
        large=st.sampled_from([False, False, True]),
        first=st.sampled_from([MIB2, PAGE, GIB]),
        second=st.sampled_from([MIB2, PAGE]),
        bare=st.sampled_from([False] * 7 + [True]),
    )
    def boot(self, large: bool, first: int, second: int, bare: bool) -> None:
        """Boot; most machines then get two devices that a process maps and half of the region free."""
        self.size = LARGE if large else SMALL
        self.machine = Machine(self.tree, soft_reserved=[(START, START + self.size)])
        self.model = NaiveRegion(START, self.size, self.rules_)
        self.processes = {"p0": NaiveProcess()}
        self.files: dict[tuple[Device, bool], object] = {}
        self.holds: list[tuple[Device, list, object, bool]] = []
        self.names = count(1)
        self.fixed = count(0x5000_0000_0000, 8 * GIB)
        if bare:
            return
        if self.rules_.bound_at_boot:
            self.unbind(pick=0)
        self.resize(pick=0, units=0 if large else 2, off=0)
        first = first if large and self.rules_.compound else min(first, MIB2)
        for pick, align in ((1, first), (2, second)):
            self.create("1")
            self.align(pick=pick, align=align)
            self.resize(pick=pick, units=4 if large else 2 + pick, off=0)
            self.bind(pick=pick)
            units = 1 if align == GIB else 4 if align == PAGE else 2
            self.mmap(pick, 0, units, 0, 0, 0, False, 0, False, True, True)

    # choices

    def device(self, pick: int) -> Device:
        return self.model.devices[pick % len(self.model.devices)]

    def free(self, pick: int) -> Device | None:
        """A device whose lock no waiting unbind holds: a store to another would wait too."""
        device = self.device(pick)
        return None if device.teardown_waits else device

    def process(self, pick: int) -> str:
        return sorted(self.processes)[pick % len(self.processes)]

    def mapping(self, pick: int):
        """A process and one of its mappings."""
        found = [(name, m) for name in sorted(self.processes) for m in self.processes[name].mappings]
        return found[pick % len(found)]

    def mapped(self) -> bool:
        return any(p.mappings for p in self.processes.values())

    def can_bind(self, device: Device) -> bool:
        """Whether the model follows what binding this device brings, which a huge align off its place does not allow.

        Without compound pages a fault of 1 GiB writes to each of its pages, too many for a model that is slow.
        """
        return all(
            self.model.whole_units(d) and (self.rules_.compound or d.align < GIB) for d in self.model.told_with(device)
        )

    def usable(self, device: Device) -> bool:
        return not device.teardown_waits

    # attributes

    @rule(value=st.sampled_from(["1", "1", "1", "2", "0"]))
    def create(self, value):
        if len(self.model.devices) > 5:
            return
        assert outcome(lambda: self.machine.region_create(value).name) == outcome(lambda: self.model.create(value).name)

    @rule(pick=ANY)
    def delete(self, pick):
        device = self.free(pick)
        if device is None:
            return
        assert outcome(lambda: self.machine.delete_device(device.name)) == outcome(lambda: self.model.delete(device))

    @rule(pick=ANY, align=st.sampled_from([PAGE, PAGE, MIB2, MIB2, GIB, 8192, 0, "abc"]))
    def align(self, pick, align):
        device = self.free(pick)
        if device is None:
            return
        if any(m.device is device for p in self.processes.values() for m in p.mappings):
            return  # what a mapping made under another align does is not the model's matter
        mine = outcome(lambda: self.model.set_align(device, align))
        assert outcome(lambda: self.machine.set_align(device.name, align)) == mine

    @rule(pick=ANY, units=st.integers(0, 12), off=st.sampled_from([0, 0, 0, 0, PAGE, MIB2]))
    def resize(self, pick, units, off):
        device = self.free(pick)
        if device is None:
            return
        size = units * self.size // 12 + off
        mine = outcome(lambda: self.model.set_size(device, size))
        assert outcome(lambda: self.machine.set_size(device.name, size)) == mine

    @rule(pick=ANY, first=st.integers(-1, 12), units=st.integers(1, 5), off=st.sampled_from([0, 0, 0, PAGE]))
    def add_range(self, pick, first, units, off):
        device = self.free(pick)
        if device is None:
            return
        unit = self.size // 12
        start = START + first * unit
        last = start + units * unit + off - 1
        if device.bound:
            return  # the kernel lets a bound device grow beyond its pgmap
        mine = outcome(lambda: self.model.add_range(device, start, last))
        assert outcome(lambda: self.machine.add_range(device.name, start, last)) == mine

    # the driver

    @rule(pick=ANY)
    def bind(self, pick):
        device = self.device(pick)
        if device.bound or not self.can_bind(device):
            return
        mine = outcome(lambda: self.model.bind(device))
        assert outcome(lambda: self.machine.bind(device.name)) == mine

    @rule(pick=ANY)
    def fill_and_bind(self, pick):
        """An empty device gets memory and the driver, as daxctl does it."""
        device = self.device(pick)
        if device.bound or device.size:
            return
        size = max(self.size // 6, device.align)
        for mine, real in (
            (lambda: self.model.set_size(device, size), lambda: self.machine.set_size(device.name, size)),
            (lambda: self.model.bind(device), lambda: self.machine.bind(device.name)),
        ):
            if not self.can_bind(device):
                return
            assert outcome(mine) == outcome(real)

    @rule(pick=ANY)
    def unbind(self, pick):
        device = self.device(pick)
        if not device.bound or not self.usable(device) or (device.held and not self.rules_.teardown_waits):
            return
        mine = self.model.unbind(device, list(self.processes.values()))
        assert self.machine.unbind(device.name) == mine

    @precondition(lambda self: self.holds and self.rules_.teardown_waits)
    @rule(pick=ANY)
    def unbind_held(self, pick):
        device = self.holds[pick % len(self.holds)][0]
        if device in self.model.devices:
            self.unbind(self.model.devices.index(device))

    @rule(pick=ANY)
    def destroy(self, pick):
        """As daxctl does: empty it, delete it."""
        if not self.device(pick).bound:
            device = self.device(pick)
            self.resize(pick, 0, 0)
            assert outcome(lambda: self.machine.delete_device(device.name)) == outcome(
                lambda: self.model.delete(device)
            )

    # mappings

    def file(self, device: Device, write: bool):
        if (device, write) not in self.files:
            mode = "rw" if write else "r"
            self.files[device, write] = self.machine.processes[self.process(0)].open(device.name, mode)
        return self.files[device, write]

    @rule(
        pick=ANY,
        who=FEW,
        units=st.integers(0, 4),
        at=st.integers(0, 6),
        length_off=st.sampled_from([0] * 4 + [PAGE, 1]),
        offset_off=st.sampled_from([0] * 5 + [PAGE, 1]),
        fixed=YES,
        fixed_off=st.sampled_from([0, 0, 0, PAGE]),
        private=st.sampled_from([False] * 6 + [True]),
        write=YES,
        writable=st.sampled_from([True, True, True, False]),
    )
    def mmap(self, pick, who, units, at, length_off, offset_off, fixed, fixed_off, private, write, writable):
        device = self.device(pick)
        if not device.bound and (device, writable) not in self.files:
            return  # there is no file to open
        name = self.process(who)
        mine, real = self.processes[name], self.machine.processes[name]
        length, offset = units * device.align + length_off, at * device.align + offset_off
        addr = next(self.fixed) + fixed_off if fixed else None
        flags = (Map.PRIVATE if private else Map.SHARED) | (Map.FIXED_NOREPLACE if fixed else 0)
        prot = Prot.READ | Prot.WRITE if write else Prot.READ
        file = self.file(device, writable)
        expected = outcome(
            lambda: mine.check_mmap(
                device, length, offset, addr=addr, private=private, write=write, file_writes=writable
            )
        )
        got = outcome(lambda: real.mmap(file, length, offset, prot, flags, addr or 0))
        by_chance = mine.is_chance(device, length, offset, addr) and isinstance(got, int) and got % device.align == 0
        if expected is not None and not (by_chance and length % device.align == 0):
            assert got == expected
            return
        assert isinstance(got, int), f"mmap is not refused by the model, but: {got}"
        assert addr is None or got == addr
        assert got % device.align == (0 if fixed or by_chance else offset % device.align)
        length = -(-length // PAGE) * PAGE
        assert not any(got <= u < got + length for m in mine.mappings for u in m.writable)
        mine.mmap(device, got, length, offset, write=write, file_writes=writable)

    @precondition(mapped)
    @rule(pick=ANY, unit=FEW, off=st.one_of(st.just(0), st.integers(0, GIB - 1)), write=YES)
    def touch(self, pick, unit, off, write):
        name, m = self.mapping(pick)
        present = sorted(m.writable)
        start = max(present) + m.unit if unit == 4 else present[unit % len(present)]
        addr = start + off % m.unit
        mine, real = self.processes[name], self.machine.processes[name]
        assert outcome(lambda: real.touch(addr, write=write)) == outcome(lambda: mine.touch(addr, write=write))

    @precondition(mapped)
    @rule(pick=ANY, unit=FEW, page=st.sampled_from([0, 1, 5, 511]), write=YES)
    def touch_pages(self, pick, unit, page, write):
        self.touch(pick, unit, page * PAGE, write)

    @precondition(mapped)
    @rule(pick=ANY, first=FEW, units=st.integers(1, 3), off=st.sampled_from([0, 0, 0, 0, PAGE, 1]))
    def munmap(self, pick, first, units, off):
        name, m = self.mapping(pick)
        addr, length = min(m.writable) + first * m.unit + off, units * m.unit - (off if units % 2 else 0)
        mine = outcome(lambda: self.processes[name].munmap(addr, length))
        assert outcome(lambda: self.machine.processes[name].munmap(addr, length)) == mine

    @precondition(mapped)
    @rule(pick=ANY, first=FEW, units=st.integers(1, 3), partial=st.sampled_from([False, False, True]), write=YES)
    def mprotect(self, pick, first, units, partial, write):
        name, m = self.mapping(pick)
        present = sorted(m.writable)
        start = present[first % len(present)]
        addr, length = (start + PAGE, PAGE) if partial else (start, m.unit * units)
        if not all(u in m.writable for u in range(down(addr, m.unit), addr + length, m.unit)):
            return
        mine = outcome(lambda: self.processes[name].mprotect(addr, length, write=write))
        prot = Prot.READ | Prot.WRITE if write else Prot.READ
        assert outcome(lambda: self.machine.processes[name].mprotect(addr, length, prot)) == mine

    @precondition(mapped)
    @rule(pick=ANY)
    def dontneed(self, pick):
        name, m = self.mapping(pick)
        for unit in m.writable:
            self.machine.processes[name].madvise(unit, m.unit, Madv.DONTNEED)
        self.processes[name].dontneed(m)

    # processes

    @precondition(lambda self: len(self.processes) < 3)
    @rule(who=FEW)
    def fork(self, who):
        parent = self.process(who)
        child = f"p{next(self.names)}"
        self.machine.processes[parent].fork(child)
        self.processes[child] = self.processes[parent].fork()

    @precondition(lambda self: len(self.processes) > 1)
    @rule(who=FEW)
    def exit(self, who):
        name = self.process(who)
        self.machine.processes[name].exit()
        del self.processes[name]

    # holders of pages

    def _span(self, pick: int, at: int, nr: int):
        """Pages of one mapping that a holder could take: their addresses, or None."""
        name, m = self.mapping(pick)
        if not self.usable(m.device):
            return None
        addr = min(m.writable) + at % m.unit // PAGE * PAGE
        units = range(down(addr, m.unit), addr + nr * PAGE, m.unit)
        return (name, m, addr, units) if all(u in m.writable for u in units) else None

    @precondition(mapped)
    @rule(pick=ANY, at=st.sampled_from([0, PAGE, MIB2 - 2 * PAGE, GIB - PAGE]), nr=st.integers(1, 16))
    def get(self, pick, at, nr):
        span = self._span(pick, at, nr)
        if span is None or not all(u in span[1].entries for u in span[3]):
            return
        name, m, addr, _ = span
        held = self.machine.processes[name].vmsplice(addr, nr * PAGE)
        assert len(held) == nr
        self.holds.append((m.device, self.processes[name].get(addr, nr), held, False))

    @precondition(mapped)
    @rule(pick=ANY, at=st.sampled_from([0, PAGE, MIB2 - 2 * PAGE, GIB - PAGE]), nr=st.integers(1, 5))
    def pin(self, pick, at, nr):
        span = self._span(pick, at, nr)
        if span is None or not all(span[1].writable[u] for u in span[3]):
            return
        name, m, addr, units = span
        if not m.device.bound or any(
            m.device.pgoff_to_phys(m.pgoff + (u - m.start) // PAGE, m.unit) is None for u in units
        ):
            return
        held = self.machine.processes[name].af_xdp_umem(addr, nr)
        self.holds.append((m.device, self.processes[name].pin(addr, nr), held, True))

    @precondition(lambda self: self.holds)
    @rule(pick=ANY)
    def release(self, pick):
        device, pages, held, pinned = self.holds.pop(pick % len(self.holds))
        self.machine.processes[self.process(0)].release(held, dirty=pinned)
        for page in pages:
            if pinned:
                page.pins -= 1
                page.dirty |= self.rules_.unpin_dirties
            else:
                page.gets -= 1
        if device.teardown_waits:
            assert self.machine.unbind_finished(device.name) == (not device.held)
            if not device.held:
                self.model.unbound(device)

    # what must be so after every step

    @invariant()
    def devices_equal(self):
        real = {d.name: d for d in self.machine.bus.devices()}
        assert set(real) == {d.name for d in self.model.devices}
        for mine in self.model.devices:
            theirs = real[mine.name]
            assert (theirs.size, theirs.align, theirs.bound) == (mine.size, mine.align, mine.bound), mine.name
            assert [(r.start, r.size, r.pgoff) for r in theirs.ranges] == [
                (r.start, r.size, r.pgoff) for r in mine.ranges
            ]
        assert self.machine.bus.available_size(0) == self.model.available
        if self.model.seed is not None:
            assert self.machine.read_seed() == self.model.seed.name

    @invariant()
    def ranges_are_disjoint_and_counted(self):
        spans = sorted((r.start, r.end, d) for d in self.machine.bus.devices() for r in d.ranges)  # end inclusive
        assert all(a[1] < b[0] for a, b in pairwise(spans))
        for device in self.machine.bus.devices():
            pgoff = 0
            for r in device.ranges:
                assert r.pgoff == pgoff
                pgoff += r.size // PAGE

    @invariant()
    def references_are_heads(self):
        bound = [d for d in self.machine.bus.devices() if d.bound and self.usable(self._mine(d.name))]
        for device in bound:
            heads = device.size // PAGE // self._mine(device.name).unit_pages
            assert self.machine.zone_device.refs(device.bound_pgmap) == heads

    def _mine(self, name: str) -> Device:
        [device] = [d for d in self.model.devices if d.name == name]
        return device

    @invariant()
    def resources_are_those_of_bound_devices(self):
        busy = sorted((r.start, r.end + 1) for _, r in self.machine.iomem.walk() if r.name.startswith("dax"))
        assert busy == sorted((r.start, r.end) for d in self.model.devices if d.bound for r in d.ranges)
        exists = self.machine.array.exist(np.arange(START // PAGE, (START + self.size) // PAGE, 512))
        assert int(exists.sum()) * MIB2 == sum(d.size for d in self.model.devices if d.bound)

    @invariant()
    def entries_equal(self):
        assert set(self.machine.processes) == set(self.processes)
        for name, mine in self.processes.items():
            mm = self.machine.processes[name].mm
            assert sum(vma.length for vma in mm.vmas) == sum(len(m.writable) * m.unit for m in mine.mappings)
            assert sum(int(mm.leaves(vma).sum()) for vma in mm.vmas) == sum(len(m.entries) for m in mine.mappings)
            for m in mine.mappings:
                for unit, phys in m.entries.items():
                    assert mm.translate(unit) == phys // PAGE

    @invariant()
    def struct_pages_equal(self):
        for mine in self.model.devices:
            if mine.bound:
                touched = (
                    set(mine.pages) | {r.start // PAGE for r in mine.ranges} | {r.end // PAGE - 1 for r in mine.ranges}
                )
                heads = {mine.head(pfn) for pfn in touched}
                self._compare(mine, sorted(h + i for h in heads for i in range(min(4, mine.unit_pages))))

    def _compare(self, mine: Device, pfns: list[int]) -> None:
        theirs = self.machine.bus.device(mine.name)
        expected = struct_pages(mine, theirs.bound_pgmap.address, theirs.mapping_address, pfns)
        got = self.machine.array.rows(np.array(pfns, np.int64)).tolist()
        for pfn, a, b in zip(pfns, got, expected, strict=True):
            assert a == b, f"{mine.name}: struct page of pfn {pfn:#x} is {list(map(hex, a))}, not {list(map(hex, b))}"

    def teardown(self) -> None:
        """Whole struct pages of what was touched; then all is given back, and nothing stays."""
        if not hasattr(self, "model"):
            return
        for device in self.model.devices:
            for head in list(device.pages)[:40] if device.bound else ():
                self._compare(device, list(range(head, head + min(device.unit_pages, 512))))
        while self.holds:
            self.release(pick=0)
        for name, process in list(self.machine.processes.items()):
            for vma in list(process.mm.vmas):
                process.munmap(vma.start, vma.length)
            assert not process.mm.vmas
            assert _tables(process.mm.pt) == 1, "only the top table stays"
            process.exit()
            assert name not in self.machine.processes
        for device in list(self.machine.bus.devices()):
            assert not device.bound or self.machine.unbind(device.name)
            self.machine.set_size(device.name, 0)
            if device.id:
                self.machine.delete_device(device.name)
        assert [d.name for d in self.machine.bus.devices()] == ["dax0.0"]
        assert self.machine.bus.available_size(0) == self.size
        assert not self.machine.zone_device.pgmaps
        assert not self.machine.array.exists(START // PAGE, self.size // PAGE).any()
        assert not [r for _, r in self.machine.iomem.walk() if r.name.startswith("dax")]


@pytest.mark.parametrize("tree", RULES)
def test_a_machine_and_the_model_agree_at_every_step(tree):
    def machine():
        return Dax(tree)

    if settings().derandomize:  # which does not reach a machine made by a function
        machine = seed(_SEED)(machine)
    run_state_machine_as_test(machine, settings=settings(stateful_step_count=30))
