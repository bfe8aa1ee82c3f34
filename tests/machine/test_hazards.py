# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel does not check: done as real kernels did it, and said where it happened."""

from __future__ import annotations

import pytest

from tests.naive_dax import GIB, MIB2, PAGE, VMEMMAP
from workbench.errors import KernelCrash, Signal, Signalled
from workbench.machine import Machine
from workbench.mm.madvise import Madv
from workbench.mm.mmap import Map, Prot
from workbench.mm.pgtable import Level

START = 4 * GIB
FIRST = START // PAGE
RW = Prot.READ | Prot.WRITE


def empty(kernel: str, size: int) -> Machine:
    """A machine whose region is free."""
    machine = Machine(kernel, soft_reserved=[(START, START + size)])
    if machine.bus.device("dax0.0").bound:
        machine.unbind("dax0.0")
    machine.set_size("dax0.0", 0)
    return machine


def said(machine: Machine) -> str:
    return "\n".join(map(str, machine.hazards()))


@pytest.mark.parametrize("kernel", ["5.10", "6.1"])
def test_a_1_gib_device_off_its_boundary_maps_its_neighbour(kernel):
    """Recorded as k5.10-frag-1G and k6.1-frag-1G."""
    machine = empty(kernel, 4 * GIB)
    neighbour = machine.create_device(GIB // 2)
    device = machine.create_device(GIB, align=GIB)
    assert device.ranges[0].start == 0x1_2000_0000
    assert device.name in said(machine)
    p0 = machine.process()
    at = p0.mmap(p0.open(device.name), GIB)
    p0.touch(at, write=True)
    level, entry = p0.mm.walk(at)
    assert (level, entry & 0x000F_FFFF_FFFF_F000) == (Level.PUD, START)
    assert machine.array.words(0x12_0000)[3] == device.mapping_address, "the head marked is the device's"
    assert machine.array.words(FIRST)[3] == 0
    assert p0.touch(p0.mmap(p0.open(neighbour.name), MIB2)) == 1, "what was written lies in the neighbour"


@pytest.mark.parametrize(("kernel", "marked"), [("5.10", 512), ("5.17", 1), ("6.1", 1)])
def test_a_misaligned_file_offset_at_an_aligned_address(kernel, marked):
    """Recorded in the lifecycle runs: offset_plus_4096."""
    machine = empty(kernel, 128 << 20)
    device = machine.create_device(64 << 20)
    assert not machine.hazards()
    p0 = machine.process()
    at = p0.mmap(p0.open(device.name), MIB2, 30 * MIB2 + PAGE, RW, Map.SHARED | Map.FIXED_NOREPLACE, 0x7F60_2DC0_0000)
    p0.touch(at, write=True)
    assert p0.pagemap(at, 1) == [(at, 0x10_3C00)], "rounded down"
    words = machine.array.view(0x10_3C00, 1024)
    assert (words[:, 3] == device.mapping_address).sum() == marked
    row = 1 if marked == 512 else 0
    assert words[row, 4] == 0x3C01
    assert "p0" in said(machine)


@pytest.mark.parametrize("kernel", ["5.10", "5.17", "6.12"])
def test_reading_pagemap_of_1_gib_clears_its_entry(kernel):
    machine = empty(kernel, 2 * GIB)
    device = machine.create_device(GIB, align=GIB)
    p0 = machine.process()
    at = p0.mmap(p0.open(device.name), GIB)
    p0.touch(at, write=True)
    assert p0.mm.walk(at)[0] == Level.PUD
    p0.pagemap(at, 1)
    assert p0.mm.translate(at) is None
    assert p0.touch(at) == 1, "the next access faults again"
    p0.smaps()
    assert p0.mm.translate(at) is None


@pytest.mark.parametrize("align", [PAGE, MIB2, GIB])
def test_without_huge_pages_a_huge_device_gives_sigbus(align):
    machine = empty("6.1", 2 * GIB)
    device = machine.create_device(GIB, align=align)
    p0 = machine.process()
    at = p0.mmap(p0.open(device.name), align)
    p0.touch(at)
    p0.madvise(at, align, Madv.NOHUGEPAGE)
    p0.touch(at)  # the entry is there
    p0.madvise(at, align, Madv.DONTNEED)
    if align == PAGE:
        p0.touch(at)
        return
    with pytest.raises(Signalled) as got:
        p0.touch(at)
    assert got.value.signal == Signal("SIGBUS", "BUS_ADRERR", at)


def held_page(kernel: str):
    machine = empty(kernel, 128 << 20)
    device = machine.create_device(64 << 20)
    p0 = machine.process()
    at = p0.mmap(p0.open(device.name), MIB2)
    p0.touch(at, write=True)
    return machine, device, p0, p0.vmsplice(at, PAGE)


@pytest.mark.parametrize("kernel", ["5.10", "5.15", "5.17"])
def test_unbind_waits_for_a_held_page(kernel):
    machine, device, p0, held = held_page(kernel)
    assert not machine.unbind(device.name)
    assert not machine.unbind_finished(device.name)
    counts = machine.array.view(FIRST, 1024)[:, 6] >> 32
    assert counts[0] == 1
    assert counts[512] == 0
    p0.release(held)
    assert machine.unbind_finished(device.name)
    assert not machine.array.exists(FIRST, 1024).any()


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_unbind_returns_and_the_held_page_is_gone(kernel):
    machine, device, p0, held = held_page(kernel)
    assert machine.unbind(device.name)
    assert not machine.array.exists(FIRST, 1024).any()
    with pytest.raises(KernelCrash):
        p0.release(held)


def overrun(kernel: str) -> tuple[Machine, str]:
    """A free 512 MiB, a bound device of 1 GiB, a free 512 MiB; and a device of align 1 GiB that takes both."""
    machine = empty(kernel, 2 * GIB)
    hole = machine.create_device(GIB // 2)
    between = machine.create_device(GIB)
    p0 = machine.process()
    p0.touch(p0.mmap(p0.open(between.name), MIB2), write=True)
    machine.unbind(hole.name)
    machine.destroy_device(hole.name)
    victim = machine.region_create().name
    machine.set_align(victim, GIB)
    machine.set_size(victim, GIB)
    starts = [r.start_pfn for r in machine.bus.device(victim).ranges]
    assert starts == [0x10_0000, 0x16_0000]
    return machine, victim


def test_a_range_that_is_no_whole_gib_overwrites_its_neighbour():
    """Recorded as k5.17-overrun-1G."""
    machine, victim = overrun("5.17")
    faulted = machine.array.words(0x12_0000)
    assert faulted[3] == machine.bus.device("dax0.2").mapping_address
    with pytest.raises(KernelCrash):
        machine.bind(victim)
    assert machine.array.words(0x12_0000)[1] == VMEMMAP + 64 * 0x10_0000 + 1, "a tail of the other's head"
    assert machine.array.words(0x13_FFFF)[1] == VMEMMAP + 64 * 0x10_0000 + 1
    assert machine.array.words(0x14_0000)[1] != VMEMMAP + 64 * 0x10_0000 + 1, "from there on untouched"
    assert "overwritten" in said(machine)


def test_with_deduplication_it_is_survived():
    """Recorded as k6.1-dynamic."""
    machine, victim = overrun("6.1")
    machine.bind(victim)
    assert machine.array.words(0x12_0000)[3] == machine.bus.device("dax0.2").mapping_address


def test_version_3_of_the_series_dies_at_unbind():
    """Teardown put each page of a compound: the report that made version 4."""
    machine = Machine("5.17", soft_reserved=[(START, START + 4 * MIB2)], pfn_next_by_one=True)
    with pytest.raises(KernelCrash):
        machine.unbind("dax0.0")
    assert Machine("5.17", soft_reserved=[(START, START + 4 * MIB2)]).unbind("dax0.0")
