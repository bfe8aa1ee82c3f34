# SPDX-License-Identifier: GPL-2.0-only
"""Address spaces: what mmap(2) and its relatives check, in the kernel's order, and what they change."""

import errno
from dataclasses import dataclass, field

import pytest

from workbench.errors import Signalled, WorkbenchError
from workbench.mm import madvise as advice
from workbench.mm import pgtable
from workbench.mm.madvise import Madv
from workbench.mm.mmap import MMAP_BASE, AddressSpace, Map, Mm, Prot, Vm, VmFault, unmap_mapping_range
from workbench.mm.pgtable import Level, Pg

KIB4, MIB2, GIB1 = 1 << 12, 1 << 21, 1 << 30
RW = Prot.READ | Prot.WRITE


@dataclass(eq=False)
class Memory:
    """A file whose page N is frame N, mapped by entries of ``unit`` bytes, cut only there."""

    unit: int = MIB2
    readable: bool = True
    writable: bool = True
    mmap_supported_flags: Map = Map.SYNC
    size: int = 1 << 40
    mapping: AddressSpace = field(default_factory=lambda: AddressSpace(0xFFFF888100000000))

    def mmap(self, vma):
        if not vma.flags & Vm.MAYSHARE:
            raise WorkbenchError("private", errno.EINVAL)

    def get_unmapped_area(self, mm, length, pgoff):
        return -(-mm.get_unmapped_area(length + self.unit) // self.unit) * self.unit

    def may_split(self, vma, addr):
        if addr % self.unit:
            raise WorkbenchError("split", errno.EINVAL)

    def pagesize(self, vma):
        return self.unit

    def touch(self, mm, vma, addr, count, stride, write):
        level = {level.size: level for level in Level}[self.unit]
        for done in range(count):
            at = addr + done * stride
            if pgtable.access(mm.pt, at, write) >= 0:
                continue
            base = at // self.unit * self.unit
            pfn = vma.pgoff + (base - vma.start) // KIB4
            if pfn * KIB4 >= self.size:
                return done, VmFault.SIGBUS
            table = pgtable.table_for(mm.pt, base, int(level))
            word = pfn << 12 | vma.page_prot | (Pg.PSE if level else 0)
            mm.pt.entries[table, pgtable.entry_index(base, int(level))] = word
            pgtable.access(mm.pt, at, write)
        return count, VmFault.NOPAGE


def refused(number, call, *arguments, **named):
    """The call gives that errno, and the areas are what they were."""
    mm = getattr(call, "__self__", None) or arguments[0]
    before = [(vma.start, vma.end, vma.flags) for vma in mm.vmas]
    with pytest.raises(WorkbenchError) as refusal:
        call(*arguments, **named)
    assert refusal.value.errno == number, refusal.value
    assert [(vma.start, vma.end, vma.flags) for vma in mm.vmas] == before


# -- mmap ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "arguments"),
    [
        (errno.EINVAL, {"length": 0}),
        (errno.EINVAL, {"offset": 1}),
        (errno.EOVERFLOW, {"offset": -4096}),
        (errno.EINVAL, {"flags": Map.SHARED | Map.HUGETLB}),
        (errno.EINVAL, {"flags": Map.PRIVATE}),
        (errno.EINVAL, {"flags": 0}),
        (errno.EOPNOTSUPP, {"flags": Map.SHARED_VALIDATE | 0x1000000}),
        (errno.EINVAL, {"flags": Map.SHARED | Map.FIXED, "addr": 0x7000_0000_0001}),
        (errno.ENOMEM, {"flags": Map.SHARED | Map.FIXED, "addr": 1 << 47}),
        (errno.ENOMEM, {"length": 1 << 47}),
    ],
)
def test_refused_mappings(number, arguments):
    refused(number, Mm("6.1").mmap, **({"file": Memory(), "length": MIB2} | arguments))


@pytest.mark.parametrize(
    ("file", "prot", "number"),
    [
        (Memory(writable=False), RW, errno.EACCES),
        (Memory(writable=False), Prot.READ, None),
        (Memory(readable=False), Prot.READ, errno.EACCES),
        (Memory(readable=False), Prot.WRITE, errno.EACCES),
    ],
)
def test_a_mapping_may_do_what_its_file_was_opened_for(file, prot, number):
    mm = Mm("6.1")
    if number:
        refused(number, mm.mmap, file=file, length=MIB2, prot=prot)
    else:
        addr = mm.mmap(file, MIB2, prot=prot)
        refused(errno.EACCES, mm.mprotect, addr, MIB2, RW)


def test_flags_a_file_knows_pass():
    mm = Mm("6.1")
    for flags in (Map.SHARED | Map.SYNC, Map.SHARED_VALIDATE | Map.SYNC, Map.SHARED | 0x1000000):
        mm.mmap(Memory(), MIB2, flags=flags)
    assert len(mm.vmas) == 3


def test_fixed_replaces_and_noreplace_does_not():
    mm, file = Mm("6.1"), Memory()
    addr = mm.mmap(file, 2 * MIB2)
    mm.touch(addr, 2, MIB2)
    refused(errno.EEXIST, mm.mmap, file=file, length=MIB2, flags=Map.SHARED | Map.FIXED_NOREPLACE, addr=addr)
    assert mm.mmap(file, MIB2, MIB2, flags=Map.SHARED | Map.FIXED, addr=addr) == addr
    assert [(vma.start - addr, vma.pgoff) for vma in mm.vmas] == [(0, 512), (MIB2, 512)]
    assert mm.translate(addr) is None
    assert mm.translate(addr + MIB2) == 512


def test_the_highest_free_place_is_taken():
    mm, file = Mm("6.1"), Memory(unit=KIB4)
    first = mm.mmap(file, KIB4)
    assert MMAP_BASE - 3 * KIB4 <= first < MMAP_BASE
    second = mm.mmap(file, KIB4)
    mm.munmap(first, KIB4)
    assert second < first
    assert mm.mmap(file, KIB4) == first


# -- cutting and joining -------------------------------------------------------------------------------------


def test_a_hole_in_the_middle():
    mm, file = Mm("6.1"), Memory()
    addr = mm.mmap(file, 4 * MIB2)
    mm.touch(addr, 4, MIB2, True)
    refused(errno.EINVAL, mm.munmap, addr + MIB2 + KIB4, KIB4)
    refused(errno.EINVAL, mm.munmap, addr, 0)
    mm.munmap(addr + MIB2, MIB2)
    assert [(vma.start - addr, vma.end - addr, vma.pgoff) for vma in mm.vmas] == [
        (0, MIB2, 0),
        (2 * MIB2, 4 * MIB2, 1024),
    ]
    assert [mm.translate(addr + at * MIB2) for at in range(4)] == [0, None, 1024, 1536]
    assert len(file.mapping.areas) == 2
    mm.munmap(addr, 4 * MIB2)  # holes are passed over
    assert not mm.vmas
    assert not file.mapping.areas
    assert not mm.pt.entries[0].any()  # no table is left


def test_protection_cuts_and_joins_again():
    mm, file = Mm("6.1"), Memory()
    addr = mm.mmap(file, 4 * MIB2)
    mm.touch(addr, 4, MIB2, True)
    refused(errno.EINVAL, mm.mprotect, addr + MIB2 + KIB4, KIB4, Prot.READ)
    mm.mprotect(addr + MIB2, MIB2, Prot.READ)
    assert [vma.end - vma.start for vma in mm.vmas] == [MIB2, MIB2, 2 * MIB2]
    with pytest.raises(Signalled) as signalled:
        mm.touch(addr, 4, MIB2, True)
    assert (signalled.value.signal.code, signalled.value.at_index) == ("SEGV_ACCERR", 1)
    mm.touch(addr, 4, MIB2)
    mm.mprotect(addr + MIB2, MIB2, RW)
    assert [vma.end - vma.start for vma in mm.vmas] == [4 * MIB2]
    mm.touch(addr, 4, MIB2, True)
    with pytest.raises(WorkbenchError) as refusal:  # what lies before the hole has changed by then
        mm.mprotect(addr, 5 * MIB2, Prot.READ)
    assert refusal.value.errno == errno.ENOMEM
    assert refusal.value.changed
    assert [bool(vma.flags & Vm.WRITE) for vma in mm.vmas] == [False]


@pytest.mark.parametrize(("base", "number"), [("5.15", None), ("5.16", errno.EFAULT), ("6.1", errno.EFAULT)])
def test_shrinking_what_is_not_mapped(base, number):
    mm = Mm(base)
    if number:
        refused(number, mm.mremap, 0x7000_0000_0000, 2 * MIB2, MIB2, True)
    else:
        assert mm.mremap(0x7000_0000_0000, 2 * MIB2, MIB2, True) == 0x7000_0000_0000


@pytest.mark.parametrize(("base", "left"), [("5.10", 0), ("6.1", 0), ("6.12", 1)])
def test_protection_of_1_gib_entries(base, left):
    mm, file = Mm(base), Memory(unit=GIB1)
    addr = mm.mmap(file, GIB1)
    mm.touch(addr)
    mm.mprotect(addr, GIB1, Prot.READ)
    assert mm.leaves(mm.vmas[0])[Level.PUD] == left


def test_no_access_at_all():
    mm = Mm("6.1")
    addr = mm.mmap(Memory(), MIB2, prot=Prot(0))
    with pytest.raises(Signalled) as signalled:
        mm.touch(addr)
    assert (signalled.value.signal.name, signalled.value.signal.code) == ("SIGSEGV", "SEGV_ACCERR")
    with pytest.raises(Signalled) as signalled:
        mm.touch(addr - 1)
    assert signalled.value.signal.code == "SEGV_MAPERR"


def test_a_fault_beyond_the_file_is_a_bus_error():
    mm = Mm("6.1")
    addr = mm.mmap(Memory(size=2 * MIB2), 4 * MIB2)
    with pytest.raises(Signalled) as signalled:
        mm.touch(addr, 4, MIB2)
    signal = signalled.value.signal
    assert (signal.name, signal.code, signal.addr, signal.lsb) == ("SIGBUS", "BUS_ADRERR", addr + 2 * MIB2, 0)
    assert signalled.value.at_index == 2


# -- mremap --------------------------------------------------------------------------------------------------


def test_growing_in_place_where_there_is_room():
    mm, file = Mm("6.1"), Memory()
    mm.mmap(file, MIB2)
    addr = mm.mmap(file, 2 * MIB2)
    room = mm.vmas[1].start - mm.vmas[0].end
    refused(errno.ENOMEM, mm.mremap, addr, 2 * MIB2, 2 * MIB2 + room + MIB2, False)
    mm.touch(addr, 2, MIB2)
    moved = mm.mremap(addr, 2 * MIB2, 2 * MIB2 + room + MIB2, True)
    assert moved != addr
    assert [mm.translate(moved + at * MIB2) for at in range(2)] == [0, 512]
    assert mm.find_vma(addr) is None
    grown = mm.mremap(moved, mm.find_vma(moved).length, MIB2, True)
    assert (grown, mm.find_vma(moved).length) == (moved, MIB2)
    assert mm.mremap(moved, MIB2, 2 * MIB2, False) == moved
    refused(errno.EINVAL, mm.mremap, moved, 2 * MIB2, 2 * MIB2 - KIB4, True)
    refused(errno.EFAULT, mm.mremap, moved, 3 * MIB2, 4 * MIB2, True)


@pytest.mark.parametrize("base", ["5.10", "5.15", "6.1"])
def test_moving_a_part(base):
    """5.10 finds out too late that the old area cannot be cut: both stay."""
    mm, file = Mm(base), Memory()
    addr = mm.mmap(file, 2 * MIB2)
    if base == "5.10":
        moved = mm.mremap(addr, KIB4, MIB2, True)
        assert {vma.start for vma in mm.vmas} == {addr, moved}
    else:
        refused(errno.EINVAL, mm.mremap, addr, KIB4, MIB2, True)


# -- fork, exit, truncation ----------------------------------------------------------------------------------


def test_a_child_maps_the_same_and_faults_anew():
    mm, file = Mm("6.1"), Memory()
    addr = mm.mmap(file, MIB2)
    other = mm.mmap(file, MIB2)
    mm.touch(addr)
    advice.madvise(mm, other, MIB2, Madv.DONTFORK)
    child = mm.fork()
    assert [vma.start for vma in child.vmas] == [addr]
    assert child.translate(addr) is None
    child.touch(addr)
    assert child.translate(addr) == mm.translate(addr)
    child.exit()
    assert child.gone
    assert len(file.mapping.areas) == 2


def test_unmapping_a_file_reaches_every_process():
    file, spaces = Memory(), [Mm("6.1") for _ in range(3)]
    addresses = [mm.mmap(file, 2 * MIB2, offset) for mm, offset in zip(spaces, (0, MIB2, 4 * MIB2), strict=True)]
    for mm, addr in zip(spaces, addresses, strict=True):
        mm.touch(addr, 2, MIB2)
    assert unmap_mapping_range(file.mapping, MIB2, MIB2) == 2
    present = [[mm.translate(addr + at * MIB2) for at in range(2)] for mm, addr in zip(spaces, addresses, strict=True)]
    assert present == [[0, None], [None, 1024], [2048, 2560]]
    assert unmap_mapping_range(file.mapping, 0, 0) == 4


# -- madvise and mlock ---------------------------------------------------------------------------------------


_HARMLESS = (
    *("NORMAL", "DONTNEED", "DONTFORK", "DOFORK", "MERGEABLE", "HUGEPAGE", "NOHUGEPAGE", "DONTDUMP", "COLD"),
    *("PAGEOUT", "POPULATE_READ", "POPULATE_WRITE", "DONTNEED_LOCKED"),
)


@pytest.mark.parametrize(
    ("what", "number"),
    [
        *((what, None) for what in ["NORMAL", "DONTNEED", "DONTFORK", "DOFORK", "MERGEABLE", "HUGEPAGE", "NOHUGEPAGE"]),
        *(
            (what, None)
            for what in ["DONTDUMP", "COLD", "PAGEOUT", "POPULATE_READ", "POPULATE_WRITE", "DONTNEED_LOCKED"]
        ),
        ("FREE", errno.EINVAL),
        ("REMOVE", errno.ENODEV),
        ("WIPEONFORK", errno.EINVAL),
        ("COLLAPSE", errno.EINVAL),
    ],
)
def test_advice_on_6_1(what, number):
    """Results of group vma-2M of the recorded k6.1-errors."""
    mm = Mm("6.1")
    addr = mm.mmap(Memory(), 2 * MIB2)
    if number:
        refused(number, advice.madvise, mm, addr, 2 * MIB2, Madv[what])
    else:
        advice.madvise(mm, addr, 2 * MIB2, Madv[what])


@pytest.mark.parametrize(
    ("base", "unknown"),
    [
        ("5.10", {"POPULATE_READ", "POPULATE_WRITE", "DONTNEED_LOCKED"}),
        ("5.15", {"DONTNEED_LOCKED"}),
        ("5.17", {"DONTNEED_LOCKED"}),
        ("6.12", set()),
    ],
)
def test_advice_that_came_later(base, unknown):
    mm = Mm(base)
    addr = mm.mmap(Memory(), MIB2)
    for what in ("POPULATE_READ", "POPULATE_WRITE", "DONTNEED_LOCKED"):
        if what in unknown:
            refused(errno.EINVAL, advice.madvise, mm, addr, MIB2, Madv[what])
        else:
            advice.madvise(mm, addr, MIB2, Madv[what])
    if base in ("5.15", "5.17"):  # recorded from builds without KSM
        with pytest.raises(WorkbenchError):
            advice.madvise(mm, addr, MIB2, Madv.MERGEABLE, ksm=False)


def test_advice_on_a_part():
    mm = Mm("6.1")
    addr = mm.mmap(Memory(), 2 * MIB2)
    mm.touch(addr, 2, MIB2)
    refused(errno.EINVAL, advice.madvise, mm, addr + KIB4, KIB4, Madv.DONTFORK)
    advice.madvise(mm, addr + KIB4, KIB4, Madv.DONTNEED)  # the whole entry goes
    assert [mm.translate(addr + at * MIB2) for at in range(2)] == [None, 512]
    refused(errno.EINVAL, advice.madvise, mm, addr + 1, KIB4, Madv.NORMAL)
    refused(errno.ENOMEM, advice.madvise, mm, addr, 3 * MIB2, Madv.NORMAL)


def test_populating_faults_in_and_locking_marks_nothing():
    mm, file = Mm("6.1"), Memory(size=3 * MIB2)
    addr = mm.mmap(file, 2 * MIB2)
    advice.mlock(mm, addr, 2 * MIB2)
    assert [mm.translate(addr + at * MIB2) for at in range(2)] == [0, 512]
    assert not mm.vmas[0].flags & Vm.LOCKED
    beyond = mm.mmap(file, 2 * MIB2, 2 * MIB2)
    refused(errno.ENOMEM, advice.mlock, mm, beyond, 2 * MIB2)
    refused(errno.EFAULT, advice.madvise, mm, beyond, 2 * MIB2, Madv.POPULATE_WRITE)
    assert mm.translate(beyond) == 1024
    refused(errno.ENOMEM, advice.mlock, mm, addr - GIB1, KIB4)
    populated = mm.mmap(file, 4 * MIB2, flags=Map.SHARED | Map.POPULATE)  # what cannot be is passed over
    assert mm.translate(populated) == 0
