# SPDX-License-Identifier: GPL-2.0-only
"""The fault of a device mapping: dispatch by align, what is stored, when, and by which patch."""

import errno

import numpy as np
import pytest

from workbench.abi import Role
from workbench.errors import Signalled, WorkbenchError
from workbench.machine import Machine
from workbench.mm.events import Counter, events
from workbench.mm.madvise import Madv
from workbench.mm.memremap import DevPagemap, MemoryType
from workbench.mm.mmap import Map, VmFault
from workbench.mm.pgtable import Level

KIB4, MIB2, GIB1 = 1 << 12, 1 << 21, 1 << 30
ALIGNS = {"4K": KIB4, "2M": MIB2, "1G": GIB1}
START = 4 << 30
MAPPING, INDEX = 3, 4


class Device:
    """A machine with one dynamic device of 4 GiB from 4 GiB on, and a process that has it open."""

    def __init__(self, kernel="5.17", align="2M"):
        self.machine = Machine(kernel, soft_reserved=[(START, START + (4 << 30))])
        self.align = ALIGNS[align]
        if not self.machine.bus.device("dax0.0").bound:
            self.machine.bind("dax0.0")
        self.machine.unbind("dax0.0")
        self.machine.set_align("dax0.0", self.align)
        self.machine.bind("dax0.0")
        self.inode = self.machine.inode("dax0.0")
        self.process = self.machine.process()
        self.file = self.process.open("dax0.0")

    def map(self, units=3, offset=0, **named):
        return self.process.mmap(self.file, units * self.align, offset, **named)

    def words(self, pfn, word):
        """A word of a struct page, without the pointer's value."""
        return int(self.machine.array.view((START >> 12) + pfn, 1)[0, word])

    def marked(self, pages):
        """Which of the first ``pages`` have a mapping."""
        return np.flatnonzero(self.machine.array.view(START >> 12, pages)[:, MAPPING] == self.mapping).tolist()

    @property
    def mapping(self):
        return self.inode.mapping.address


def sigbus(device, addr, **named):
    with pytest.raises(Signalled) as signalled:
        device.process.touch(addr, **named)
    signal = signalled.value.signal
    assert (signal.name, signal.code, signal.addr, signal.lsb) == ("SIGBUS", "BUS_ADRERR", addr, 0)


@pytest.mark.parametrize(("align", "level"), [("4K", Level.PTE), ("2M", Level.PMD), ("1G", Level.PUD)])
@pytest.mark.parametrize("write", [False, True])
def test_one_entry_of_the_aligns_size(align, level, write):
    device = Device("6.1", align)
    addr = device.map()
    device.process.touch(addr + device.align + KIB4 - 1, write=write)
    found, entry = device.process.mm.walk(addr + device.align)
    assert found == level
    assert entry >> 12 & 0xFF_FFFF_FFFF == (START + device.align) >> 12
    # recorded on 6.1: 0x...227 and 267 (4K), 0a7 and 8e7 (2M, 1G)
    low = {"4K": (0x227, 0x267)}.get(align, (0x0A7, 0x8E7))[write]
    assert entry & 0xFFF == low
    assert device.process.mm.walk(addr)[1] == 0


@pytest.mark.parametrize("kernel", ["5.15", "5.17"])
def test_a_build_without_soft_dirty(kernel):
    machine = Machine(kernel, soft_reserved=[(START, START + GIB1)], options={"MEM_SOFT_DIRTY": False})
    process = machine.process()
    addr = process.mmap(process.open("dax0.0"), MIB2)
    process.touch(addr, write=True)
    assert process.mm.walk(addr)[1] & 0xFFF == 0x0E7


@pytest.mark.parametrize("align", ["2M", "1G"])
def test_no_huge_pages_allowed_is_a_bus_error_that_stays(align):
    """The 4 KiB handler refuses; the tables it was reached through stay, and keep huge faults away."""
    device = Device("6.1", align)
    addr = device.map()
    device.process.madvise(addr, 3 * device.align, Madv.NOHUGEPAGE)
    sigbus(device, addr)
    device.process.madvise(addr, 3 * device.align, Madv.HUGEPAGE)
    if align == "2M":
        device.process.touch(addr)
    else:
        sigbus(device, addr)
        device.process.touch(addr + device.align)


def test_a_process_without_transparent_huge_pages():
    device = Device()
    device.process.mm.thp_disabled = True
    sigbus(device, device.map())
    small = Device(align="4K")
    small.process.mm.thp_disabled = True
    small.process.touch(small.map())


@pytest.mark.parametrize("align", list(ALIGNS))
def test_beyond_the_end_and_after_unbind(align):
    device = Device("6.1", align)
    last = (4 << 30) - device.align
    addr = device.process.mmap(device.file, 2 * device.align, last)
    device.process.touch(addr)
    sigbus(device, addr + device.align)
    assert device.machine.unbind("dax0.0")
    sigbus(device, addr)
    assert device.process.mm.translate(addr) is None


def test_a_huge_page_across_two_ranges_cannot_be_mapped():
    """A device of two ranges whose lengths are no multiple of its align: the page that would span them is none."""
    machine = Machine("6.1", soft_reserved=[(START, START + (4 << 30))])
    machine.unbind("dax0.0")
    machine.set_size("dax0.0", 0)
    names = [machine.create_device(size, MIB2).name for size in (GIB1, 1 << 29, GIB1)]
    for name in (names[0], names[2]):
        machine.unbind(name)
        machine.destroy_device(name)
    device = machine.create_device(3 << 29, KIB4)
    assert [each.size for each in device.ranges] == [GIB1, 1 << 29]
    machine.unbind(device.name)
    device.align = GIB1  # the check of align_store() asks for ranges of whole GiB; the fault asks again
    machine.bind(device.name)
    process = machine.process()
    addr = process.mmap(process.open(device.name), 2 * GIB1)
    process.touch(addr)
    with pytest.raises(Signalled):
        process.touch(addr + GIB1)


# -- what is stored ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "align", "pages"),
    [
        ("5.10", "2M", 512),
        ("5.15", "2M", 512),
        ("5.16+10", "2M", 512),
        ("5.17", "2M", 1),
        ("6.1", "2M", 1),
        ("6.12", "2M", 1),
        ("5.17", "4K", 1),
        ("5.16+10", "1G", 262144),
        ("5.17", "1G", 1),
    ],
)
def test_struct_pages_written_by_a_fault(kernel, align, pages):
    """series.md, patch 11: one mapping and index a huge fault, instead of one for each page."""
    device = Device(kernel, align)
    device.inode.events = events(device.machine.array.nr_pages)
    addr = device.map()
    device.process.touch(addr + device.align)
    counts = device.inode.events.counts
    assert counts[Counter.LINES_WRITTEN] == pages
    assert counts[Counter.STORES] == 2 * pages
    first = device.align >> 12
    assert device.marked(2 * first) == list(range(first, first + pages))
    assert device.words(first, INDEX) == first
    if pages > 1:
        assert device.words(first + pages - 1, INDEX) == first + pages - 1
    device.process.touch(addr + device.align)
    device.process.touch(addr + device.align, write=True)
    assert counts[Counter.STORES] == 2 * pages


@pytest.mark.parametrize(
    ("kernel", "align", "offset", "index"),
    [
        ("5.16+4", "2M", 0x5000, 0),
        ("5.16+5", "2M", 0x5000, 512),
        ("5.16+5", "2M", 0, 0),
        ("5.15", "2M", 0x5000, 0),
        ("5.17", "2M", 0x5000, 512),
        ("5.17-pgofffix", "2M", 0x5000, 0),
        ("6.1", "2M", 0x5000, 0),
        ("6.12", "2M", 0x5000, 0),
        ("6.1-nopgofffix", "2M", 0x5000, 512),
        ("5.17", "1G", 0x1000, 262144),
        ("5.17-pgofffix", "1G", 0x1000, 0),
        ("5.17", "4K", 0, 0),
    ],
)
def test_the_index_of_a_first_touch_off_the_huge_pages_start(kernel, align, offset, index):
    """series.md, patch 5: ALIGN() rounds up.  Recorded on 5.15, 5.17 and 6.1."""
    device = Device(kernel, align)
    device.process.touch(device.map() + offset)
    assert device.words(0, INDEX) == index


def test_base_pages_count_on_from_the_wrong_index():
    """series.md, patch 5: with base pages page[i].index is 512 + i."""
    device = Device("5.16+5")
    device.process.touch(device.map() + 0x5000)
    assert [device.words(i, INDEX) for i in (0, 7, 511)] == [512, 519, 1023]


def test_the_first_fault_decides():
    """A second process, another offset in the unit, after munmap: nothing is written again."""
    device = Device("5.17")
    addr = device.map()
    device.process.touch(addr + 0x5000)
    device.process.munmap(addr, 3 * MIB2)
    child = device.process.fork("child")
    again = child.mmap(device.file, MIB2)
    child.touch(again, write=True)
    assert device.words(0, INDEX) == 512


def test_an_offset_that_is_no_multiple_of_the_align():
    """Recorded: 5.10 stamps pages from the offset on, 5.17 and 6.1 the head with the offset's page."""
    for kernel, marked, index in (("5.10", range(1, 513), 1), ("5.17", [0], 1), ("6.1", [0], 1)):
        device = Device(kernel)
        addr = device.map(1, KIB4, flags=Map.SHARED | Map.FIXED_NOREPLACE, addr=0x7000_0000_0000)
        device.process.touch(addr)
        assert device.marked(1024) == list(marked)
        assert device.words(marked[0], INDEX) == index
        assert device.process.mm.walk(addr)[1] >> 12 & 0xFF_FFFF_FFFF == START >> 12
        assert any("no multiple" in str(hazard) for hazard in device.machine.hazards())


@pytest.mark.parametrize("result", [VmFault.OOM, VmFault.SIGBUS])
@pytest.mark.parametrize(("kernel", "marked"), [("5.16+8", []), ("5.16+9", [0]), ("5.17", [0])])
def test_an_insertion_that_fails(kernel, marked, result):
    """series.md, patch 9: mapping and index are set before, and stay."""
    device = Device(kernel)
    device.inode.insert_fails = result
    addr = device.map()
    if result is VmFault.SIGBUS:
        sigbus(device, addr)
    else:
        with pytest.raises(WorkbenchError) as refused:
            device.process.touch(addr)
        assert refused.value.errno == errno.ENOMEM
    assert device.process.mm.translate(addr) is None
    found = device.marked(512)
    assert found[:1] == marked
    assert len(found) in (0, 1, 512)


def test_many_faults_are_as_many_single_ones():
    one, other = Device("5.17"), Device("5.17")
    addresses = [device.map(64) for device in (one, other)]
    one.process.touch(addresses[0] + 0x3000, 64, MIB2, True)
    for unit in range(64):
        other.process.touch(addresses[1] + 0x3000 + unit * MIB2, write=True)
    pages = [device.machine.array.view(START >> 12, 64 * 512) for device in (one, other)]
    assert (pages[0] == pages[1]).all()
    assert (one.process.mm.pt.entries[:8] == other.process.mm.pt.entries[:8]).all()


def test_the_head_of_an_offset_may_lie_in_another_section():
    """1 GiB align, file offset 512 MiB at an aligned address: the head is four sections before the page asked for."""
    device = Device("6.1", "1G")
    half = GIB1 // 2
    addr = device.map(1, half, flags=Map.SHARED | Map.FIXED_NOREPLACE, addr=0x7000_0000_0000)
    device.process.touch(addr)
    assert device.words(0, MAPPING) == device.mapping
    assert device.words(0, INDEX) == half >> 12
    assert device.words(half >> 12, INDEX) == 0


@pytest.mark.parametrize("kind", [MemoryType.FS_DAX, MemoryType.PCI_P2PDMA])
@pytest.mark.parametrize("kernel", ["5.17", "6.1"])
def test_other_memory_of_devices_stays_base_pages(kernel, kind):
    """series.md, patch 11: device-dax alone asks for compound pages."""
    machine = Machine(kernel, persistent_memory=[(START, START + GIB1)])
    pgmap = DevPagemap(machine.new_address(), ((START >> 12, GIB1 >> 12),), type=kind)
    machine.zone_device.memremap_pages(pgmap)
    assert pgmap.vmemmap_shift == 0
    assert machine.zone_device.refs(pgmap) == GIB1 >> 12
    assert {machine.array.role((START >> 12) + page) for page in range(1024)} == {Role.ZONE_DEVICE}
