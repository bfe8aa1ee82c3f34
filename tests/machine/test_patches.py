# SPDX-License-Identifier: GPL-2.0-only
"""Each of patches 4 to 11 alone: what a machine shows before and after it, as ``series.md`` says."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from tests.naive_dax import GIB, MIB2, PAGE, VMEMMAP
from workbench.dax.probe import pgmap_bytes
from workbench.errors import WorkbenchError
from workbench.machine import Machine
from workbench.mm import DevPagemap
from workbench.mm.mmap import VmFault
from workbench.mm.resource import release_region, request_region
from workbench.series import Tree

START = 4 * GIB
FIRST, PAGES = START // PAGE, 16 * MIB2 // PAGE
MAPPING, INDEX = 3, 4
BASE_PAGE, HEAD = 0x0027_FFFF_C000_1000, 0x0027_FFFF_C001_1000


def boot(last: int, align: int = MIB2) -> Machine:
    """5.16 with the first patches of the series, and a device of 16 times 2 MiB."""
    machine = Machine(f"5.16+{last}", soft_reserved=[(START, START + PAGES * PAGE)])
    if align != MIB2:
        machine.unbind("dax0.0")
        machine.set_align("dax0.0", align)
        machine.bind("dax0.0")
    return machine


def mapped(machine: Machine, units: int = 4, align: int = MIB2) -> int:
    p0 = machine.process()
    return p0.mmap(p0.open("dax0.0"), units * align)


def pages(machine: Machine) -> np.ndarray:
    """All struct pages."""
    return machine.array.view(FIRST, PAGES).copy()


def a_life(last: int, align: int) -> list[bytes]:
    """The struct pages after each of many steps."""
    machine = boot(last, align)
    at, p0, seen = mapped(machine, 8, align), machine.process(), []

    def step(*_) -> None:
        seen.append(pages(machine).tobytes())

    step()
    step(p0.touch(at))
    step(p0.touch(at + align + 5 * PAGE, write=True))
    step(p0.fork("child").touch(at + 2 * align, write=True))
    step(pinned := p0.af_xdp_umem(at + align - PAGE, 2))
    step(got := p0.vmsplice(at, PAGE))
    step(p0.release(pinned, dirty=True))
    step(p0.release(got))
    step(p0.munmap(at, align))
    step(p0.exit())
    machine.unbind("dax0.0")
    machine.bind("dax0.0")
    step()
    return seen


@pytest.mark.parametrize("align", [PAGE, MIB2])
@pytest.mark.parametrize("number", [4, 6, 7, 8, 9, 10])
def test_no_byte_differs(number, align):
    before, after = a_life(number - 1, align), a_life(number, align)
    assert before == after
    assert len(set(after)) > 5, "the steps are seen in the struct pages"


def test_4_compounds_for_who_asks():
    """4 MiB with vmemmap_shift 9: two heads, one reference each; before it, nobody could ask."""
    machine = boot(4)
    machine.unbind("dax0.0")
    pgmap = DevPagemap(0xFFFF_8881_2345_6000, ((FIRST, 1024),), vmemmap_shift=9)
    machine.zone_device.memremap_pages(pgmap)
    words = machine.array.view(FIRST, 1024)
    assert np.flatnonzero(words[:, 0] == HEAD).tolist() == [0, 512]
    assert ((words[:, 6] >> np.uint64(32)) == 1).sum() == 2
    assert ((words[:, 6] >> np.uint64(32)) == 0).sum() == 1022
    assert machine.zone_device.refs(pgmap) == 2
    assert machine.zone_device.memunmap_pages(pgmap)
    assert not machine.zone_device.pgmaps


@pytest.mark.parametrize(("offset", "late"), [(0, 0), (0x5000, 512)])
def test_5_rounds_the_faulted_address_up(offset, late):
    seen = []
    for last in (4, 5):
        machine = boot(last)
        machine.process().touch(mapped(machine) + offset)
        seen.append(pages(machine))
    before, after = seen
    assert before[:512, INDEX].tolist() == list(range(512))
    assert after[:512, INDEX].tolist() == list(range(late, late + 512))
    after[:512, INDEX] = before[:512, INDEX]
    assert np.array_equal(before, after), "nothing else differs"


def test_5_leaves_faults_of_4_kib_alone():
    seen = []
    for last in (4, 5):
        machine = boot(last, PAGE)
        machine.process().touch(mapped(machine, 16, PAGE) + 5 * PAGE + 7)
        seen.append(pages(machine))
    assert np.array_equal(*seen)
    assert seen[0][:16, MAPPING].nonzero()[0].tolist() == [5]
    assert seen[0][5, INDEX] == 5


@pytest.mark.parametrize(("nr_range", "size"), [(1, 160), (2, 176), (4, 208)])
def test_6_the_pgmap_takes_as_many_bytes(nr_range, size):
    assert [pgmap_bytes(Tree.prefix("5.16", last), nr_range) for last in (5, 6)] == [size, size]


def test_7_the_device_knows_its_pgmap_while_it_is_bound():
    for last, knows in ((6, False), (7, True)):
        machine = boot(last)
        device = machine.bus.device("dax0.0")
        assert (device.pgmap is not None) == knows
        machine.unbind("dax0.0")
        assert device.pgmap is None
        machine.set_size("dax0.0", 4 * MIB2)
        machine.add_range("dax0.0", START + 8 * MIB2, START + 10 * MIB2 - 1)
        machine.bind("dax0.0")
        assert (device.pgmap is not None) == knows
        assert device.bound_pgmap.ranges == ((FIRST, 2048), (FIRST + 4096, 1024))


def test_7_a_probe_that_failed_leaves_its_pgmap_behind():
    for last, second in ((6, errno.EBUSY), (7, errno.EINVAL)):
        machine = boot(last)
        machine.unbind("dax0.0")
        assert request_region(machine.iomem, START + 3 * MIB2, MIB2, "another driver")
        for expected in (errno.EBUSY, second):
            with pytest.raises(WorkbenchError) as refused:
                machine.bind("dax0.0")
            assert refused.value.errno == expected
        release_region(machine.iomem, START + 3 * MIB2, MIB2)
        if last == 6:
            machine.bind("dax0.0")
            assert machine.bus.device("dax0.0").alive
            continue
        with pytest.raises(WorkbenchError) as refused:
            machine.bind("dax0.0")
        assert refused.value.errno == errno.EINVAL, "for good"


@pytest.mark.parametrize("align", [PAGE, MIB2])
@pytest.mark.parametrize("failure", [VmFault.OOM, VmFault.SIGBUS])
def test_9_marks_pages_even_if_their_entry_cannot_be_made(failure, align):
    marked = {}
    for last in (8, 9):
        machine = boot(last, align)
        at, online = mapped(machine, align=align), pages(machine)
        machine.inode("dax0.0").insert_fails = failure
        with pytest.raises(WorkbenchError):
            machine.process().touch(at)
        assert machine.process().mm.translate(at) is None
        now = pages(machine)
        marked[last] = np.flatnonzero(now[:, MAPPING]).tolist()
        now[:, [MAPPING, INDEX]] = 0
        assert np.array_equal(now, online)
    assert marked == {8: [], 9: list(range(align // PAGE))}


def test_11_online():
    """Every struct page of 5.16 with ten and with eleven patches, word for word."""
    for last in (10, 11):
        machine = boot(last)
        pgmap = machine.bus.device("dax0.0").bound_pgmap.address
        expected = np.zeros((PAGES, 8), np.uint64)
        expected[:] = [BASE_PAGE, pgmap, 0, 0, 0, 0, 0x1_FFFF_FFFF, 0]
        if last == 11:
            head = np.arange(PAGES, dtype=np.uint64) // np.uint64(512) * np.uint64(512) + np.uint64(FIRST)
            expected[:] = [BASE_PAGE, 0, 0, 0xDEAD_0000_0000_0400, 0, 0, 0xFFFF_FFFF, 0]
            expected[:, 1] = np.uint64(VMEMMAP + 1) + np.uint64(64) * head
            expected[1::512, 2], expected[1::512, 3] = 0xFFFF_FFFF_0000_0901, 0xDEAD_0000_0000_0200
            expected[::512] = [HEAD, pgmap, 0, 0, 0, 0, 0x1_FFFF_FFFF, 0]
        assert np.array_equal(pages(machine), expected)
        assert machine.zone_device.refs(machine.bus.device("dax0.0").bound_pgmap) == (PAGES if last == 10 else 16)


def test_11_a_fault_marks_the_head():
    for last, rows in ((10, range(512)), (11, [0])):
        machine = boot(last)
        at, online = mapped(machine), pages(machine)
        machine.process().touch(at)
        faulted = pages(machine)
        assert np.flatnonzero((faulted != online).any(axis=1)).tolist() == list(rows)
        assert set(faulted[rows, MAPPING].tolist()) == {machine.bus.device("dax0.0").mapping_address}
        assert faulted[rows, INDEX].tolist() == list(rows)


def test_11_pins_count_on_the_head():
    for last in (10, 11):
        machine = boot(last)
        at, p0 = mapped(machine), machine.process()
        p0.touch(at, write=True)
        before = pages(machine)
        held = p0.af_xdp_umem(at, 512)
        counts = pages(machine)[:512, 6] >> np.uint64(32)
        assert counts.tolist() == ([1025] * 512 if last == 10 else [513] + [0] * 511)
        assert pages(machine)[2, 2] == (0 if last == 10 else 512), "pincount of the second tail"
        p0.release(held)
        assert np.array_equal(pages(machine), before)


def test_11_leaves_4_kib_alone():
    assert a_life(10, PAGE) == a_life(11, PAGE)
