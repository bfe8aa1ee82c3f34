# SPDX-License-Identifier: GPL-2.0-only
"""What a machine and its processes do with requests at the edge: refused with a reason, or done whole."""

import pytest

from workbench.dax.device import DaxFile
from workbench.errors import WorkbenchError
from workbench.machine import Machine
from workbench.mm.madvise import Madv
from workbench.mm.mmap import Map, Prot, Vm, VmFault

GIB, MIB = 1 << 30, 1 << 20


@pytest.fixture
def machine():
    machine = Machine("6.1", soft_reserved=[(4 * GIB, 6 * GIB)])
    machine.unbind("dax0.0")
    machine.set_size("dax0.0", 64 * MIB)
    machine.bind("dax0.0")
    return machine


def mapped(machine, length=6 * MIB) -> tuple[int, DaxFile]:
    process = machine.process()
    file = process.open("dax0.0")
    return process.mmap(file, length), file


@pytest.mark.parametrize(("count", "stride"), [(0, 4096), (-1, 4096), (2, -4096)])
def test_accesses_that_are_none_are_refused(machine, count, stride):
    with pytest.raises(WorkbenchError, match="at least one"):
        machine.process().touch(mapped(machine)[0], count, stride)


@pytest.mark.parametrize("name", ["dax", "daxX.1", "foo"])
def test_a_name_that_no_device_has_cannot_be_deleted(machine, name):
    with pytest.raises(WorkbenchError) as refused:
        machine.delete_device(name)
    assert refused.value.errno_name == "ENXIO"


def test_smaps_of_a_process_that_maps_nothing(machine):
    with pytest.raises(WorkbenchError, match="p0 maps nothing"):
        machine.process().smaps()


def test_a_child_has_a_name_of_its_own_and_its_parents_settings(machine):
    parent = machine.process()
    parent.mm.thp_disabled, parent.early_kill = True, True
    child = parent.fork("p1")
    assert (child.mm.thp_disabled, child.early_kill) == (True, True)
    with pytest.raises(WorkbenchError, match="p1 is there already"):
        parent.fork("p1")
    assert machine.process("p1") is child


@pytest.mark.parametrize(
    "what", [lambda p, a: p.mlock(a, 2 * MIB), lambda p, a: p.madvise(a, 2 * MIB, Madv.POPULATE_READ)]
)
def test_every_unit_of_a_range_that_begins_inside_one_is_faulted_in(machine, what):
    addr, _ = mapped(machine)
    process = machine.process()
    what(process, addr + 4096)
    assert [process.mm.translate(addr + at * 2 * MIB) is not None for at in range(3)] == [True, True, False]


def test_map_populate_passes_over_what_cannot_be_had(machine):
    machine.inode("dax0.0").insert_fails = VmFault.OOM
    process = machine.process()
    addr = process.mmap(process.open("dax0.0"), 2 * MIB, flags=Map.SHARED | Map.POPULATE)
    assert process.mm.find_vma(addr) is not None and process.mm.translate(addr) is None


def test_mprotect_goes_to_the_end_of_the_page(machine):
    addr, _ = mapped(machine)
    process = machine.process()
    process.mprotect(addr, 2 * MIB - 100, Prot.READ)
    assert not process.mm.find_vma(addr).flags & Vm.WRITE
    assert process.mm.find_vma(addr + 2 * MIB).flags & Vm.WRITE


def test_a_namespace_whose_device_waits_for_a_page_can_be_disabled_later():
    machine = Machine("5.10", persistent_memory=[(4 * GIB, 6 * GIB)])
    machine.create_namespace()
    addr, _ = mapped(machine)
    held = machine.process().vmsplice(addr, 4096)
    with pytest.raises(WorkbenchError, match="waits"):
        machine.disable_namespace()
    machine.process().release(held)
    assert machine.unbind_finished("dax0.0")
    machine.disable_namespace()
    assert list(machine.bus.devices()) == []


@pytest.mark.parametrize("release", ["5.10", "6.1", "6.12"])
def test_no_device_can_be_bound_that_is_not_there(release):
    with pytest.raises(WorkbenchError) as refused:
        Machine(release, soft_reserved=[(4 * GIB, 6 * GIB)]).bind("dax0.9")
    assert refused.value.errno_name == "ENODEV"


def test_an_advice_that_no_kernel_knows(machine):
    with pytest.raises(WorkbenchError, match="advice 77") as refused:
        machine.process().madvise(mapped(machine)[0], 4096, 77)
    assert refused.value.errno_name == "EINVAL"


def test_map_fixed_leaves_a_gap_where_the_file_refuses(machine):
    """mmap_region() unmaps what was there before it asks the file."""
    addr, file = mapped(machine)
    process = machine.process()
    with pytest.raises(WorkbenchError) as refused:
        process.mmap(file, 2 * MIB, flags=Map.PRIVATE | Map.FIXED, addr=addr)
    assert (refused.value.errno_name, len(refused.value.changed)) == ("EINVAL", 1)
    assert process.mm.find_vma(addr) is None and process.mm.find_vma(addr + 2 * MIB) is not None


def test_map_fixed_over_a_part_that_cannot_be_cut(machine):
    addr, file = mapped(machine)
    with pytest.raises(WorkbenchError) as refused:
        machine.process().mmap(file, 4096, flags=Map.SHARED | Map.FIXED, addr=addr + 4096)
    assert refused.value.errno_name == "ENOMEM"


def test_madv_remove_asks_for_a_writable_mapping(machine):
    """madvise_remove(): EACCES before the file is asked."""
    addr, _ = mapped(machine)
    process = machine.process()
    process.mprotect(addr, 2 * MIB, Prot.READ)
    found = []
    for at in (addr, addr + 2 * MIB):
        with pytest.raises(WorkbenchError) as refused:
            process.madvise(at, 2 * MIB, Madv.REMOVE)
        found.append(refused.value.errno_name)
    assert found == ["EACCES", "ENODEV"]
