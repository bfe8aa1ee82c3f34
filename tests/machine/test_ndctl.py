# SPDX-License-Identifier: GPL-2.0-only
"""The device side of ndctl's own tests (device-dax.c, dax-poison, multi-dax.sh), as ``reviewers.md`` tells them."""

from __future__ import annotations

import errno

import pytest

from tests.naive_dax import GIB, MIB2, PAGE
from workbench.errors import Signalled, WorkbenchError
from workbench.machine import Machine, PlainFile, Process
from workbench.mm.madvise import Madv
from workbench.mm.mmap import Map, Prot

START = 4 * GIB
ALIGNS = [PAGE, MIB2, GIB]
KERNELS = ["5.10", "5.17", "6.1"]
pytestmark = [pytest.mark.parametrize("align", ALIGNS), pytest.mark.parametrize("kernel", KERNELS)]


def boot(kernel: str, align: int) -> tuple[Machine, Process, int]:
    """A devdax namespace with its struct pages in itself; two aligns of it mapped."""
    machine = Machine(kernel, persistent_memory=[(START, START + 4 * GIB)])
    device = machine.create_namespace(align=align, map="dev")
    p0 = machine.process()
    return machine, p0, p0.mmap(p0.open(device.name), 2 * align)


def physical(process: Process, addr: int) -> int:
    return process.mm.translate(addr) * PAGE


def test_device_dax(kernel, align):
    """Private mappings fail, shared ones hold data; smaps can be read; after disabling, a store is SIGBUS."""
    machine, p0, at = boot(kernel, align)
    file = p0.open(next(machine.bus.devices()).name)
    with pytest.raises(WorkbenchError) as refused:
        p0.mmap(file, 2 * align, 0, Prot.READ, Map.PRIVATE)
    assert refused.value.errno == errno.EINVAL
    assert p0.touch(at, count=2, stride=align, write=True) == 2
    assert p0.touch(at + align) == 2
    with pytest.raises(WorkbenchError) as refused:
        machine.soft_offline_page(physical(p0, at))
    assert refused.value.errno == errno.EIO
    assert p0.smaps()["kernel_page_kB"] == align >> 10
    machine.disable_namespace()
    with pytest.raises(Signalled) as got:
        p0.touch(at, write=True)
    assert (got.value.signal.name, got.value.signal.code) == ("SIGBUS", "BUS_ADRERR")
    with pytest.raises(WorkbenchError) as refused:
        p0.mmap(file, align)
    assert refused.value.errno == errno.ENXIO
    machine.destroy_namespace()
    assert not machine.zone_device.pgmaps


def test_direct_io(kernel, align):
    """From unfaulted memory and into it, from faulted memory, and a child sees the data."""
    _, p0, at = boot(kernel, align)
    plain = PlainFile(PAGE)
    assert p0.write_file(plain, PAGE, at) == PAGE
    assert p0.mm.translate(at) is not None, "the buffer was faulted"
    assert p0.read_file(plain, PAGE, at + align) == PAGE
    p0.touch(at, write=True)
    assert p0.write_file(plain, PAGE, at) == PAGE
    assert p0.fork("child").touch(at) == 1
    p0.mprotect(at, align, Prot.READ)
    with pytest.raises(WorkbenchError) as refused:
        p0.read_file(plain, PAGE, at)
    assert refused.value.errno == errno.EFAULT
    p0.mprotect(at, align, Prot.READ | Prot.WRITE)
    assert p0.read_file(plain, PAGE, at) == PAGE


def test_remap(kernel, align):
    """A page of the mapping moved elsewhere: refused, or what is touched there is SIGBUS unless pages are 4 KiB."""
    _, p0, at = boot(kernel, align)
    p0.touch(at, write=True)
    try:
        moved = p0.mremap(at, PAGE, 2 * PAGE)
    except WorkbenchError as refused:
        assert (refused.errno, align > PAGE, kernel != "5.10") == (errno.EINVAL, True, True)
        assert p0.touch(at) == 1
        return
    if align == PAGE:
        assert p0.touch(moved, write=True) == 1
        return
    assert kernel == "5.10"
    with pytest.raises(Signalled) as got:
        p0.touch(moved, write=True)
    assert got.value.signal.name == "SIGBUS"


def test_poison(kernel, align):
    """Soft offline fails; a page that fails in a populated mapping is BUS_MCEERR_AR."""
    machine = Machine(kernel, persistent_memory=[(START, START + 4 * GIB)])
    p0 = machine.process()
    file = p0.open(machine.create_namespace(align=align, map="dev").name)
    flags = Map.SHARED_VALIDATE | Map.SYNC | Map.POPULATE
    at = p0.mmap(file, align, flags=flags)
    assert p0.mm.translate(at) is not None
    bad = at + align // 2 // PAGE * PAGE
    with pytest.raises(WorkbenchError) as refused:
        p0.madvise(bad, PAGE, Madv.SOFT_OFFLINE)
    assert refused.value.errno == errno.EIO
    with pytest.raises(Signalled) as got:
        p0.madvise(bad, PAGE, Madv.HWPOISON)
    signal = got.value.signal
    assert (signal.name, signal.code) == ("SIGBUS", "BUS_MCEERR_AR")
    assert 1 << signal.lsb == align
    assert signal.addr == (bad if kernel == "5.10" else at)


def test_two_namespaces_in_one_region(kernel, align):
    """multi-dax.sh; sizes grow with the align, which the script leaves at 4 KiB."""
    machine = Machine(kernel, persistent_memory=[(START, START + 6 * GIB)])
    machine.init_labels()
    size = max(16 << 20, 2 * align)
    devices = [machine.create_namespace(size, align=align, map="mem") for _ in range(2)]
    assert len({d.name for d in devices}) == 2
    assert all(d.bound and align <= d.size < size for d in devices)
    p0 = machine.process()
    for nth, device in enumerate(devices):
        p0.touch(p0.mmap(p0.open(device.name), align), count=nth + 1, stride=1, write=True)
    assert [p0.touch(p0.mmap(p0.open(d.name), align) + 1) for d in devices] == [0, 2]
