# SPDX-License-Identifier: GPL-2.0-only
"""Which memory a device gets: the recorded allocations, and the scenarios of daxctl-create.sh."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.dax.support import START, START_PFN, G, M, boot, create, ranges, refused
from workbench.dax.resize import adjust_dev_dax_range, adjust_ok, alloc_dev_dax_range
from workbench.errors import WorkbenchError
from workbench.mm._jit import JIT


def test_the_recorded_allocations_of_6_1():
    """k6.1-dynamic: holes from below, a device of two ranges around another, growth at its end, shrinking to one."""
    bus = boot("6.1")
    bus.unbind("dax0.0")
    bus.size_store("dax0.0", 0)
    assert [create(bus, G), create(bus, G, 1 << 30), create(bus, 64 * M, 4096)] == ["dax0.1", "dax0.2", "dax0.3"]
    assert ranges(bus, "dax0.1") == [(0x100000, 262144, 0)]
    assert ranges(bus, "dax0.2") == [(0x140000, 262144, 0)]
    assert ranges(bus, "dax0.3") == [(0x180000, 16384, 0)]
    with refused("EINVAL"):
        create(bus, 512 * M, 1 << 30)
    with refused("EINVAL"):
        create(bus, 3 * M)
    with refused("ENOSPC"):
        create(bus, 16 * G)
    assert [d.name for d in bus.devices() if not d.size] == ["dax0.0", "dax0.4", "dax0.5", "dax0.6"]
    assert bus.seed() == "dax0.4"
    bus.unbind("dax0.1")
    bus.size_store("dax0.1", 0)
    bus.delete_store("dax0.1")
    assert bus.create_store().name == "dax0.1"
    bus.align_store("dax0.4", 2 * M)
    bus.size_store("dax0.4", 3 * G)
    bus.bind("dax0.4")
    assert ranges(bus, "dax0.4") == [(0x100000, 262144, 0), (0x184000, 524288, 262144)]
    with refused("EBUSY"):
        bus.size_store("dax0.4", 4 * G)
    bus.unbind("dax0.4")
    bus.size_store("dax0.4", 4 * G)
    assert ranges(bus, "dax0.4") == [(0x100000, 262144, 0), (0x184000, 786432, 262144)]
    bus.bind("dax0.4")
    bus.unbind("dax0.4")
    bus.size_store("dax0.4", 512 * M)
    bus.bind("dax0.4")
    assert ranges(bus, "dax0.4") == [(0x100000, 131072, 0)]
    assert bus.zone_device.initialised == [
        *(2097152, 262144, 262144, 16384),
        *(262144, 524288),
        *(262144, 786432),
        131072,
    ]


A = 8 * G


def test_daxctl_create_1_whole():
    bus = boot(size=0)
    name = create(bus, A)
    assert len(ranges(bus, name)) == 1 and bus.available_size() == 0
    empty(bus)


def test_daxctl_create_2_a_hole_and_the_end():
    bus = boot(size=A // 4)
    one, two = create(bus, A // 4), create(bus, A // 4)
    destroy(bus, one)
    name = create(bus, A // 2)
    quarter = A // 4 >> 12
    assert (name, two) == ("dax0.1", "dax0.2")
    assert ranges(bus, name) == [(START_PFN + quarter, quarter, 0), (START_PFN + 3 * quarter, quarter, quarter)]
    assert bus.available_size() == 0
    empty(bus)


def test_daxctl_create_3_the_beginning_and_the_end():
    bus = boot(size=0)
    names = [create(bus, A // 4) for _ in range(3)]
    destroy(bus, names[0])
    name = create(bus, A // 2)
    quarter = A // 4 >> 12
    assert ranges(bus, name) == [(START_PFN, quarter, 0), (START_PFN + 3 * quarter, quarter, quarter)]
    assert bus.available_size() == 0
    empty(bus)


def test_daxctl_create_4_two_devices_that_grow_in_turn():
    bus = boot(size=A // 8)
    one = create(bus, A // 8)
    for eighths in (2, 3, 4):
        for name in ("dax0.0", one):
            if bus.device(name).bound:
                bus.unbind(name)
            bus.size_store(name, eighths * A // 8)
    eighth = A // 8 >> 12
    for name, first in (("dax0.0", 0), (one, 1)):
        expected = [(START_PFN + (first + 2 * i) * eighth, eighth, i * eighth) for i in range(4)]
        assert ranges(bus, name) == expected
        assert [each.mapping_id for each in bus.device(name).ranges] == [0, 1, 2, 3]
    assert bus.available_size() == 0
    written = [f"{each.start:x}-{each.end:x}" for each in bus.device(one).ranges]
    destroy(bus, one)
    # 7: the same device again, from the ranges that were noted
    bus.create_store()
    for mapping in written:
        bus.mapping_store(one, mapping)
    bus.bind(one)
    assert len(ranges(bus, one)) == 4 and bus.available_size() == 0
    empty(bus)


def test_daxctl_create_5_space_before_is_a_new_range_space_behind_is_not():
    bus = boot(size=0)
    names = [create(bus, A // 4) for _ in range(4)]
    for name in (names[0], names[3]):
        destroy(bus, name)
    for name in names[1:3]:
        bus.unbind(name)
        bus.size_store(name, A // 2)
    quarter = A // 4 >> 12
    assert ranges(bus, names[1]) == [(START_PFN + quarter, quarter, 0), (START_PFN, quarter, quarter)]
    assert ranges(bus, names[2]) == [(START_PFN + 2 * quarter, 2 * quarter, 0)]
    assert bus.available_size() == 0
    empty(bus)


@pytest.mark.parametrize("align", [2 * M, 1 << 30])
def test_daxctl_create_6_aligns(align):
    bus = boot(size=0)
    name = create(bus, 1 << 30, align)
    assert bus.device(name).align == align and bus.device(name).alive
    empty(bus)


def test_ranges_shorter_than_the_align_are_given_out():
    """1 GiB of align 1G around a device: two ranges of 512 MiB, as on the 5.17 that then died of it."""
    bus = boot("6.1", size=0)
    create(bus, 512 * M)
    create(bus, G)
    destroy(bus, "dax0.1")
    name = create(bus, G, 1 << 30, bind=False)
    assert ranges(bus, name) == [(0x100000, 131072, 0), (0x160000, 131072, 131072)]
    with refused("EINVAL"):
        bus.align_store(name, 1 << 30)


def test_what_the_allocator_refuses_by_itself():
    bus = boot(size=2 * M)
    device = bus.device("dax0.0")
    with refused("EBUSY"):
        alloc_dev_dax_range(device, START, 0)
    with refused("ENOMEM"):
        alloc_dev_dax_range(device, START, 2 * M)
    with refused("EINVAL"):
        adjust_dev_dax_range(device, bus.region(0).res.children[0], 0)
    with refused("EBUSY"):
        adjust_dev_dax_range(device, bus.region(0).res.children[0], 9 * G)
    bus.unbind("dax0.0")
    bus.region(0).res.children[0].name = "another"
    bus.size_store("dax0.0", 4 * M)
    assert len(device.ranges) == 2  # not known as its own: no growth in place
    bus.size_store("dax0.0", 2 * M)
    device.ranges[0].end += 2 * M
    with refused("ENXIO"):
        bus.size_store("dax0.0", 2 * M)


def test_only_the_end_of_the_file_grows_in_place():
    """A range that comes last in the list and not last in the file would push its pages into the next one's."""
    bus = boot(size=0)
    for start in (0, 4 * M):
        bus.mapping_store("dax0.0", f"{START + start:x}-{START + start + 2 * M - 1:x}")
    device, last = bus.device("dax0.0"), bus.region(0).res.children[1]
    assert adjust_ok(device, last) and not adjust_ok(device, bus.region(0).res.children[0])
    device.ranges[0].pgoff, device.ranges[1].pgoff = 512, 0
    assert not adjust_ok(device, last)


def test_growth_by_no_whole_unit():
    """A device of 1 GiB and 2 MiB that goes back to 1 GiB units: sizes are checked, so is what is added."""
    bus = boot(size=0)
    bus.size_store("dax0.0", G + 2 * M)
    bus.device("dax0.0").align = 1 << 30  # the attribute would refuse
    with refused("ENXIO"):
        bus.size_store("dax0.0", 2 * G)


def destroy(bus, name):
    if bus.device(name).bound:
        bus.unbind(name)
    bus.size_store(name, 0)
    bus.delete_store(name)


def empty(bus):
    """Everything back: the available size is the region's, and no struct page is left."""
    for device in list(bus.devices()):
        if device.bound:
            bus.unbind(device.name)
        bus.size_store(device.name, 0)
    assert bus.available_size() == A
    assert bus.zone_device.array.existing_pages == 0 and bus.zone_device.pgmaps == ()
    assert bus.zone_device.iomem.text().count("\n") == 1


class Bus(RuleBasedStateMachine):
    """The bus against a map of owners: one letter for each 512 MiB of the region, and each device's file in order."""

    UNITS = 16
    UNIT = A // UNITS

    @initialize(name=st.sampled_from(["5.10", "5.15", "5.16+4", "5.17", "6.1"]))
    def boot(self, name):
        self.bus = boot(name, size=0)
        self.owner: list[str | None] = [None] * self.UNITS
        self.file: dict[str, list[int]] = {"dax0.0": []}
        self.bound: set[str] = set()

    def pick(self, index):
        return sorted(self.file)[index % len(self.file)]

    def expect(self, ok, action, *args):
        try:
            action(*args)
        except WorkbenchError as refusal:
            assert not ok and refusal.errno is not None, refusal
            return
        assert ok

    @rule()
    def create(self):
        ok = None in self.owner
        taken = {int(name.split(".")[1]) for name in self.file}
        self.expect(ok, self.bus.create_store)
        if ok:
            self.file[f"dax0.{min(set(range(99)) - taken)}"] = []

    @rule(index=st.integers(0, 9), units=st.integers(0, 6))
    def resize(self, index, units):
        name = self.pick(index)
        file, free = self.file[name], [u for u, o in enumerate(self.owner) if o is None]
        more = units - len(file)
        whole = self.bus.device(name).align < 1 << 30 or units % 2 == 0
        ok = name not in self.bound and more <= len(free) and whole
        self.expect(ok, self.bus.size_store, name, units * self.UNIT)
        if ok:
            for unit in free[: max(more, 0)]:
                self.owner[unit] = name
                file.append(unit)
            while len(file) > units:
                self.owner[file.pop()] = None

    @rule(index=st.integers(0, 9), align=st.sampled_from([4096, 2 * M, 1 << 30]))
    def align(self, index, align):
        name = self.pick(index)
        device = self.bus.device(name)
        whole = align < 1 << 30 or all(length % 2 == 0 for _, length in self.runs(name))
        self.expect(name not in self.bound and whole, self.bus.align_store, name, align)
        assert device.align == align or name in self.bound or not whole

    @rule(index=st.integers(0, 9))
    def bind(self, index):
        name = self.pick(index)
        if self.bus.device(name).align == 1 << 30 and any(length % 2 for _, length in self.runs(name)):
            return  # what 5.17 dies of, tested elsewhere
        self.expect(bool(self.file[name]) and name not in self.bound, self.bus.bind, name)
        if self.file[name]:
            self.bound.add(name)

    @rule(index=st.integers(0, 9))
    def unbind(self, index):
        name = self.pick(index)
        self.expect(name in self.bound, self.bus.unbind, name)
        self.bound.discard(name)

    @rule(index=st.integers(0, 9))
    def delete(self, index):
        name = self.pick(index)
        ok = not self.file[name] and name not in self.bound and name != "dax0.0"
        self.expect(ok, self.bus.delete_store, name)
        if ok:
            del self.file[name]

    def runs(self, name):
        """The device's ranges as (first unit, units)."""
        found: list[tuple[int, int]] = []
        for unit in self.file[name]:
            if found and sum(found[-1]) == unit:
                found[-1] = (found[-1][0], found[-1][1] + 1)
            else:
                found.append((unit, 1))
        return found

    @invariant()
    def same(self):
        pages = self.UNIT >> 12
        assert {device.name for device in self.bus.devices()} == set(self.file)
        assert self.bus.available_size() == self.owner.count(None) * self.UNIT
        references = 0
        for name in self.file:
            offset, expected = 0, []
            for unit, length in self.runs(name):
                expected.append((START_PFN + unit * pages, length * pages, offset))
                offset += length * pages
            assert ranges(self.bus, name) == expected
            device = self.bus.device(name)
            assert (device.bound, device.alive) == (name in self.bound, name in self.bound)
            if name in self.bound:
                compound = self.bus.tree.has(11) and device.align >> 12
                references = self.bus.zone_device.refs(device.bound_pgmap)
                assert references == offset // (compound or 1)
                assert list(device.bound_pgmap.ranges) == [row[:2] for row in expected]
            assert (device.pgmap is not None) == (name in self.bound and self.bus.tree.has(7))
        bound = sum(len(self.file[name]) for name in self.bound)
        assert self.bus.zone_device.array.existing_pages == bound * pages


TestBus = Bus.TestCase
TestBus.settings = settings(max_examples=30 if JIT else 4, stateful_step_count=40)
