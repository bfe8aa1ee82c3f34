# SPDX-License-Identifier: GPL-2.0-only
"""What a machine is to its user: boots, names, files, processes, and what it shows of itself."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from tests.naive_dax import GIB, MIB2, PAGE
from workbench.errors import Signalled, WorkbenchError
from workbench.firmware.efi import EfiMemoryDescriptor, EfiMemoryType
from workbench.firmware.setup import Firmware
from workbench.machine import CreateRefused, Machine, PlainFile
from workbench.mm.mmap import Prot

START = 4 * GIB
SPECIAL_PURPOSE, WRITE_BACK = 0x40000, 0x8
RAM = [(0x10_0000, 2 * GIB), (START, 11 * GIB)]
RECORDED = Path(__file__).parents[2] / "data" / "captures" / "efi_fake_mem-stock" / "capture.json"


def small(kernel: str = "5.17", **options) -> Machine:
    return Machine(kernel, soft_reserved=[(START, START + 8 * MIB2)], **options)


def iomem(machine: Machine) -> list[tuple[int, int, str, int]]:
    """Start, end (exclusive), name and depth of what lies above 4 GiB."""
    lines = [(r.start, r.end + 1, r.name, depth) for depth, r in machine.iomem.walk()]
    least = min(depth for *_, depth in lines)
    return [(start, end, name, depth - least) for start, end, name, depth in lines if START <= start < 11 * GIB]


def test_efi_fake_mem_makes_the_recorded_device():
    machine = Machine("6.1", firmware=Firmware.plain(RAM, efi=True), cmdline="quiet efi_fake_mem=4G@4G:0x40000")
    recorded = json.loads(RECORDED.read_text())["machine"]["memory_map"]
    wanted = [(int(r["start"], 16), int(r["end"], 16), r["name"], r["depth"]) for r in recorded]
    wanted = [(*r[:1], min(r[1], 11 * GIB), *r[2:]) for r in wanted if START <= r[0] < 11 * GIB]
    assert [r[2] for r in wanted] == ["hmem.0", "Soft Reserved", "dax0.0", "System RAM"]
    assert iomem(machine) == wanted
    device = machine.bus.device("dax0.0")
    assert (device.size, device.align, device.bound) == (4 * GIB, MIB2, True)
    assert "memmap_init_zone_device initialised 1048576 pages in 0ms" in machine.log


def test_efi_fake_mem_and_the_commit_that_broke_it():
    firmware, cmdline = Firmware.plain(RAM, efi=True), "efi_fake_mem=4G@4G:0x40000"
    with pytest.raises(WorkbenchError, match="no memory that devices can be made of"):
        Machine("5.15", firmware=firmware, cmdline=cmdline, early_reserve_memory_first=True)
    with_pmem = Firmware.plain(RAM, [(16 * GIB, 17 * GIB)], efi=True)
    machine = Machine("5.15", firmware=with_pmem, cmdline=cmdline, early_reserve_memory_first=True)
    assert not list(machine.bus.devices())
    assert (START, 11 * GIB, "System RAM", 0) in iomem(machine)
    assert [d.name for d in Machine("5.15", firmware=with_pmem, cmdline=cmdline).bus.devices()] == ["dax1.0"]


def test_6_12_has_no_efi_fake_mem():
    with pytest.raises(WorkbenchError, match="no memory that devices can be made of"):
        Machine("6.12", firmware=Firmware.plain(RAM, efi=True), cmdline="efi_fake_mem=4G@4G:0x40000")


def test_descriptors_with_efi_memory_sp():
    descriptors = [
        EfiMemoryDescriptor(EfiMemoryType.CONVENTIONAL_MEMORY, 0x10_0000, 0x3FF00, WRITE_BACK),
        EfiMemoryDescriptor(EfiMemoryType.CONVENTIONAL_MEMORY, START, GIB // PAGE, WRITE_BACK | SPECIAL_PURPOSE),
    ]
    machine = Machine("6.1", firmware=Firmware.from_efi(descriptors))
    assert [(d.name, d.size) for d in machine.bus.devices()] == [("dax0.0", GIB)]
    with pytest.raises(WorkbenchError, match="no memory that devices can be made of"):
        Machine("6.1", firmware=Firmware.from_efi(descriptors), cmdline="efi=nosoftreserve")


def test_memmap_changes_the_type_of_memory():
    machine = Machine("6.1", firmware=Firmware.plain(RAM), cmdline="memmap=1G%5G-1+0xefffffff")
    [device] = machine.bus.devices()
    assert [(r.start, r.size) for r in device.ranges] == [(5 * GIB, GIB)]


def test_a_machine_without_device_memory_is_refused():
    with pytest.raises(WorkbenchError, match="soft_reserved="):
        Machine("6.1")


def test_6_12_leaves_the_first_device_alone():
    machine = small("6.12")
    assert not machine.bus.device("dax0.0").bound
    assert not machine.array.exists(START // PAGE, 4096).any()
    machine.set_size("dax0.0", MIB2)
    machine.bind("dax0.0")
    assert machine.array.exists(START // PAGE, 512).all()


@pytest.mark.parametrize("call", [Machine.unbind, Machine.inode, lambda m, d: m.set_size(d, 0)])
def test_no_such_device(call):
    with pytest.raises(WorkbenchError) as refused:
        call(small(), "dax7.7")
    assert refused.value.errno in (errno.ENOENT, errno.ENODEV)


def test_a_refused_creation_leaves_an_empty_device_that_the_next_one_uses():
    """Recorded in the dynamic runs."""
    machine = Machine("6.1", soft_reserved=[(START, START + 2 * GIB)])
    machine.unbind("dax0.0")
    machine.set_size("dax0.0", 0)
    with pytest.raises(CreateRefused) as refused:
        machine.create_device(GIB // 2, align=GIB)
    assert (refused.value.failed.step, refused.value.failed.device) == ("set_size", "dax0.1")
    assert refused.value.errno == errno.EINVAL
    assert refused.value.changed
    assert machine.create_device(GIB // 2).name == "dax0.1"
    assert [(d.name, d.size) for d in machine.bus.devices()] == [("dax0.0", 0), ("dax0.1", GIB // 2), ("dax0.2", 0)]


def test_memory_keeps_what_was_written():
    machine = small()
    p0, p1 = machine.process(), machine.process("p1")
    at = p0.mmap(p0.open("dax0.0"), 2 * MIB2)
    assert p0.touch(at + 5, count=3, stride=MIB2 // 2, write=True) == 3
    other = p1.mmap(p1.open("dax0.0", "r"), MIB2, MIB2, Prot.READ)
    assert p1.touch(other + 5) == 3
    machine.unbind("dax0.0")
    with pytest.raises(Signalled):
        p0.touch(at)
    machine.bind("dax0.0")
    again = machine.process("p2")
    assert again.touch(again.mmap(again.open("dax0.0"), MIB2) + 5) == 1, "the memory is the same"


def test_what_a_file_was_read_into_is_not_known():
    p0 = small().process()
    at = p0.mmap(p0.open("dax0.0"), MIB2)
    assert p0.read_file(PlainFile(10), 100, at) == 10
    assert p0.touch(at + 9) is None
    assert p0.touch(at + 10) == 0
    with pytest.raises(WorkbenchError) as refused:
        p0.read_file(PlainFile(10), 10, at + MIB2)
    assert refused.value.errno == errno.EFAULT


def test_a_process_that_ends_is_gone():
    machine = small()
    child = machine.process().fork("child")
    assert set(machine.processes) == {"p0", "child"}
    child.exit()
    assert not child.alive
    assert set(machine.processes) == {"p0"}


def test_device_memory_is_no_page_to_kpageflags():
    assert small().kpageflags(START // PAGE) == (1 << 20, 0)


def test_it_shows_itself():
    machine = small()
    machine.process("<b>")
    for text in (repr(machine), machine._repr_html_()):
        for word in ("5.17", "dax0.0", "0x100000000-0x100ffffff", "p0", "none seen"):
            assert word in text
    assert "&lt;b&gt;" in machine._repr_html_()
    assert "<b>" not in machine._repr_html_()


def test_a_new_device_takes_the_lowest_number_that_is_free():
    machine = small()
    machine.unbind("dax0.0")
    machine.set_size("dax0.0", 0)
    assert [machine.create_device(MIB2).name for _ in range(2)] == ["dax0.1", "dax0.2"]
    machine.unbind("dax0.1")
    machine.destroy_device("dax0.1")
    assert machine.create_device(MIB2).name == "dax0.1"
