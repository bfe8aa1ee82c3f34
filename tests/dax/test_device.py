# SPDX-License-Identifier: GPL-2.0-only
"""What an open device-dax file allows, and where its mappings go."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import KernelCrash, WorkbenchError
from workbench.machine import Machine
from workbench.mm.madvise import Madv
from workbench.mm.mmap import Map

KIB4, MIB2, GIB1 = 1 << 12, 1 << 21, 1 << 30
START = 4 << 30


def opened(kernel="6.1", align=MIB2):
    machine = Machine(kernel, soft_reserved=[(START, START + (4 << 30))])
    machine.unbind("dax0.0")
    machine.set_align("dax0.0", align)
    machine.bind("dax0.0")
    process = machine.process()
    return machine, process, process.open("dax0.0")


def refused(number, call, *arguments, **named):
    with pytest.raises(WorkbenchError) as refusal:
        call(*arguments, **named)
    assert refusal.value.errno == number


def test_file_operations_as_recorded():
    """Group file-2M of k6.1-errors."""
    machine, process, file = opened()
    refused(errno.EINVAL, file.read, KIB4)
    refused(errno.EINVAL, file.write, KIB4)
    assert file.lseek(0, "END") == 0
    refused(errno.ENODEV, file.fallocate, 0, 0, MIB2)
    refused(errno.EINVAL, file.ftruncate, MIB2)
    refused(errno.EINVAL, file.fsync)
    refused(errno.EINVAL, process.open, "dax0.0", "rw", direct=True)
    refused(errno.ENOENT, process.open, "dax0.7")
    machine.unbind("dax0.0")
    assert process.open("dax0.0")
    refused(errno.ENXIO, process.mmap, file, MIB2)


@given(
    st.sampled_from([KIB4, MIB2, GIB1]),
    st.integers(1, 5 * GIB1 // KIB4).map(lambda pages: pages * KIB4),
    st.integers(0, 3 * GIB1 // KIB4).map(lambda pages: pages * KIB4),
)
def test_the_address_has_the_remainder_of_the_offset(align, length, offset):
    """dax_get_unmapped_area(): where a whole unit fits, address and offset are alike modulo the align."""
    _, process, file = opened(align=align)
    addr = file.get_unmapped_area(process.mm, length, offset // KIB4)
    first_unit = -(-offset // align) * align
    if first_unit + align <= offset + length:
        assert (addr - offset) % align == 0
    assert addr % KIB4 == 0
    assert not process.mm.areas_in(addr, addr + length)


@pytest.mark.parametrize(
    ("length", "offset", "addr", "number"),
    [
        (MIB2, 0, None, None),
        (KIB4, 0, None, errno.EINVAL),
        (MIB2 // 2, 0, None, errno.EINVAL),
        (MIB2 + KIB4, 0, None, errno.EINVAL),
        (MIB2, KIB4, None, errno.EINVAL),
        (2 * MIB2, MIB2 // 2, None, errno.EINVAL),
        (MIB2, 0, 0x7000_0000_1000, errno.EINVAL),
        (MIB2, KIB4, 0x7000_0000_1000, errno.EINVAL),
        (MIB2, KIB4, 0x7000_0000_0000, None),  # nobody looks at the offset
        (MIB2, 64 << 30, None, None),  # nor at the device's size
    ],
)
def test_lengths_offsets_and_addresses(length, offset, addr, number):
    """Group mmap-2M of k6.1-errors."""
    _, process, file = opened()
    flags = Map.SHARED | (Map.FIXED_NOREPLACE if addr else 0)
    if number:
        refused(number, process.mmap, file, length, offset, flags=flags, addr=addr or 0)
        assert not process.mm.vmas
        assert not file.mapping.areas
    else:
        assert process.mmap(file, length, offset, flags=flags, addr=addr or 0) % MIB2 == 0


def test_smaps_counts_what_the_compound_page_has():
    """Recorded after two units of 2 MiB: 8 kB on 5.10, 4096 kB on 6.1, nothing on 6.12, nothing at 4K and 1G."""
    for kernel, align, resident in (
        ("5.10", MIB2, 8),
        ("6.1", MIB2, 4096),
        ("6.12", MIB2, 0),
        ("6.1", KIB4, 0),
        ("6.1", GIB1, 0),
    ):
        machine = Machine(kernel, persistent_memory=[(START, START + (5 << 30))])
        machine.init_labels()
        device = machine.create_namespace(4 << 30, align, "mem")
        process = machine.process()
        addr = process.mmap(process.open(device.name), 2 * align)
        process.touch(addr, 2, align)
        unit = align >> 10
        assert process.smaps() == {"kernel_page_kB": unit, "mmu_page_kB": unit, "rss_kB": resident}


def test_reading_pagemap_of_1_gib_pages_unmaps_them():
    _, process, file = opened(align=GIB1)
    addr = process.mmap(file, GIB1)
    process.touch(addr)
    assert process.mm.translate(addr) is not None
    assert process.pagemap(addr, 2) == [(addr, None), (addr + KIB4, None)]
    process.touch(addr)


def test_a_range_that_came_after_binding_has_no_struct_pages():
    """mapping_store() asks for no driver: the next fault there dies in the kernel."""
    machine = Machine("6.1", soft_reserved=[(START, START + (4 << 30))])
    machine.unbind("dax0.0")
    machine.set_size("dax0.0", GIB1)
    machine.bind("dax0.0")
    machine.add_range("dax0.0", START + 2 * GIB1, START + 3 * GIB1 - 1)
    process = machine.process()
    addr = process.mmap(process.open("dax0.0"), 2 * GIB1)
    process.touch(addr)
    with pytest.raises(KernelCrash, match="got its range"):
        process.touch(addr + GIB1)


def test_calls_against_the_open_mode_and_odd_numbers():
    machine, process, _ = opened()
    refused(errno.EBADF, process.open("dax0.0", "w").read, KIB4)
    refused(errno.EBADF, process.open("dax0.0", "r").write, KIB4)
    refused(errno.EINVAL, process.af_xdp_umem, 0x7000_0000_0000, 0)
    refused(errno.EINVAL, process.vmsplice, 0x7000_0000_0000, -1)
    refused(errno.EINVAL, process.mlock, 0x7000_0000_0000, -1)
    refused(errno.EINVAL, process.munmap, -KIB4, KIB4)
    refused(errno.EINVAL, machine.hard_offline_page, 1 << 80)


def test_what_the_kernel_does_not_guard_against_is_told():
    """A read of pagemap that unmaps, huge pages forbidden to huge pages, struct pages that go while held."""
    machine, process, file = opened("6.1", GIB1)
    addr = process.mmap(file, 2 * GIB1)
    process.touch(addr)
    assert not machine.hazards()
    process.pagemap(addr, 1)
    assert "cleared 1 entries of 1 GiB" in str(machine.hazards()[-1])
    process.pagemap(addr, 1)
    assert len(machine.hazards()) == 1
    process.madvise(addr, 2 * GIB1, Madv.NOHUGEPAGE)
    assert "answers SIGBUS" in str(machine.hazards()[-1])
    process.madvise(addr, 2 * GIB1, Madv.HUGEPAGE)
    process.munmap(addr, 2 * GIB1)
    held = process.vmsplice(process.mmap(file, GIB1), KIB4)
    machine.unbind("dax0.0")
    assert "oopses" in str(machine.hazards()[-1])
    with pytest.raises(KernelCrash):
        process.release(held)


def test_up_to_5_17_nothing_goes_while_held():
    machine, process, file = opened("5.17")
    held = process.vmsplice(process.mmap(file, MIB2), KIB4)
    assert not machine.unbind("dax0.0")
    assert not machine.hazards()
    process.release(held)
    assert machine.unbind_finished("dax0.0")
