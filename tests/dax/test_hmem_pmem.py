# SPDX-License-Identifier: GPL-2.0-only
"""Where dax regions come from: soft reserved memory, and namespaces on persistent memory."""

import itertools
import json
from pathlib import Path

import pytest

from workbench.dax.bus import DaxBus, RegionFlags
from workbench.dax.hmem import dax_hmem_probe, hmem_init
from workbench.dax.pmem import dax_pmem_probe, dax_pmem_remove
from workbench.errors import WorkbenchError
from workbench.firmware import Firmware, iomem_tree, setup_arch
from workbench.mm import PageArray
from workbench.mm.memremap import ZoneDevice
from workbench.nvdimm import NdRegion
from workbench.series import kernel

MIB, GIB = 1 << 20, 1 << 30
CAPTURES = Path(__file__).resolve().parents[2] / "data" / "captures"


def boot(name="6.1", cmdline="", pmem=(), efi=False):
    """A bus on a machine with 12 GiB of RAM."""
    memory = setup_arch(Firmware.plain([(MIB, 12 * GIB)], pmem, efi), cmdline, kernel(name).tree.base)
    array = PageArray(kernel(name), 0, 24 * GIB >> 12)
    addresses = itertools.count(0xFFFF888100000000, 0x1000)
    return DaxBus(ZoneDevice(array, iomem_tree(memory.e820), lambda: next(addresses)))


def hmem(bus, **options):
    devices = hmem_init(bus.zone_device.iomem, itertools.count().__next__)
    return [dax_hmem_probe(bus, device, **options) for device in devices]


def rows(bus, start):
    return [line for line in bus.zone_device.iomem.text().splitlines() if int(line.split("-")[0], 16) >= start]


@pytest.mark.parametrize(
    ("cmdline", "efi"), [("memmap=8G%4G-1+0xefffffff", False), ("efi_fake_mem=8G@4G:0x40000", True)]
)
def test_a_soft_reserved_range_becomes_a_region_with_one_device(cmdline, efi):
    """As every recorded dynamic run boots: dax0.0 of 8 GiB at 4 GiB, align 2 MiB, bound."""
    bus = boot(cmdline=cmdline, efi=efi)
    (device,) = hmem(bus)
    assert (device.name, device.size, device.align, device.driver) == ("dax0.0", 8 * GIB, 2 * MIB, "device_dax")
    assert [(r.start, r.end + 1, r.pgoff) for r in device.ranges] == [(4 * GIB, 12 * GIB, 0)]
    assert bus.available_size() == 0
    assert rows(bus, 4 * GIB) == [
        "100000000-2ffffffff : hmem.0",
        "  100000000-2ffffffff : Soft Reserved",
        "    100000000-2ffffffff : dax0.0",
    ]


def test_on_6_12_the_device_is_meant_for_kmem_and_is_in_no_devmap():
    (device,) = hmem(boot("6.12", "memmap=8G%4G-1+0xefffffff"))
    assert (device.size, device.driver == "device_dax") == (8 * GIB, False)
    assert RegionFlags.KMEM in device.region.flags


def test_region_idle_leaves_the_first_device_empty():
    bus = boot(cmdline="memmap=8G%4G-1+0xefffffff")
    (device,) = hmem(bus, region_idle=True)
    assert (device.size, device.driver, bus.available_size()) == (0, None, 8 * GIB)


def test_each_range_is_a_region():
    bus = boot(cmdline="memmap=1G%4G-1+0xefffffff,2G%8G-1+0xefffffff")
    assert [(d.name, d.ranges[0].start, d.size) for d in hmem(bus)] == [
        ("dax0.0", 4 * GIB, GIB),
        ("dax1.0", 8 * GIB, 2 * GIB),
    ]


def test_a_range_off_2_mib_has_a_platform_device_and_no_region():
    bus = boot(cmdline="memmap=1G%4097M-1+0xefffffff")
    (device,) = hmem_init(bus.zone_device.iomem, itertools.count().__next__)
    with pytest.raises(WorkbenchError) as refused:
        dax_hmem_probe(bus, device)
    assert refused.value.errno_name == "ENOMEM"
    assert bus.regions == {}
    assert rows(bus, 4 * GIB + MIB)[:2] == ["100100000-1400fffff : hmem.0", "  100100000-1400fffff : Soft Reserved"]


def test_without_soft_reserved_memory_there_is_no_region():
    """What 8aa83e6395 does to efi_fake_mem: no soft reserved range, no hmem device, no dax region."""
    assert hmem(boot(cmdline="efi_fake_mem=8G@4G:0x40000 efi=nosoftreserve", efi=True)) == []


def pmem_region(bus, size=4 * GIB, labels=True):
    return NdRegion(0, 16 * GIB, size, labels)


def attach(bus, namespace, align=2 * MIB):
    return dax_pmem_probe(bus, namespace.nd_pfn, align, namespace.region_id, namespace.id)


@pytest.mark.parametrize("name", sorted(p.parent.name for p in CAPTURES.glob("*-static-*-mem/capture.json")))
def test_the_recorded_map_with_a_namespace(name):
    capture = json.loads((CAPTURES / name / "capture.json").read_text())
    recorded = [
        (int(row["start"], 16), int(row["end"], 16), row["name"], row["depth"])
        for row in capture["machine"]["memory_map"]
    ]
    (pmem,) = [(start, end) for start, end, what, _ in recorded if what == "Persistent Memory"]
    memory = setup_arch(Firmware.plain([(MIB, 5 * GIB)], [pmem]))
    array = PageArray(kernel("6.1"), 0, pmem[1] >> 12)
    addresses = itertools.count(0xFFFF888100000000, 0x1000)
    bus = DaxBus(ZoneDevice(array, iomem_tree(memory.e820), lambda: next(addresses)))
    create = next(a for a in capture["states"][0]["actions"] if a["op"] == "create_namespace")
    region = NdRegion(0, pmem[0], pmem[1] - pmem[0], labels=True)
    made = region.create_namespace(create["size"], create["align"], create["map"])
    device = attach(bus, made, create["align"]).device
    assert (device.size, device.driver) == (create["result"]["device_size"], "device_dax")
    seen = [(r.start, r.end + 1, r.name, depth) for depth, r in bus.zone_device.iomem.walk() if r.start >= pmem[0]]
    assert seen == [row for row in recorded if pmem[0] <= row[0] < pmem[1]]


def test_a_static_region_is_one_device_and_gives_everything_back():
    bus = boot(pmem=[(16 * GIB, 20 * GIB)])
    before = bus.zone_device.iomem.text()
    region = pmem_region(bus)
    made = region.create_namespace(GIB, 2 * MIB, "dev")
    pmem = attach(bus, made)
    assert pmem.device.region.is_static
    altmap = pmem.device.pgmap.altmap
    assert (altmap.base_pfn, altmap.reserve, altmap.free) == (16 * GIB >> 12, 2, 4606)
    assert made.nd_pfn.altmap.alloc == 0  # a binding uses up its own
    assert pmem.device.ranges[0].start == 16 * GIB + 18 * MIB
    assert rows(bus, 16 * GIB) == [
        "400000000-4ffffffff : Persistent Memory",
        "  400000000-4011fffff : namespace0.0",
        "  401200000-43fffffff : dax0.0",
    ]
    for refused, code in (
        (lambda: bus.size_store("dax0.0", GIB), "EACCES"),
        (lambda: bus.align_store("dax0.0", 4096), "EACCES"),
        (lambda: bus.create_store("1"), "ENOENT"),
    ):
        with pytest.raises(WorkbenchError) as refusal:
            refused()
        assert refusal.value.errno_name == code
    dax_pmem_remove(bus, pmem)
    assert bus.zone_device.iomem.text() == before
    assert bus.regions == {}


def test_metadata_that_somebody_has_are_refused_and_nothing_changes():
    bus = boot(pmem=[(16 * GIB, 20 * GIB)])
    made = pmem_region(bus).create_namespace(GIB)
    attach(bus, made)
    before = bus.zone_device.iomem.text()
    with pytest.raises(WorkbenchError) as refusal:
        attach(bus, made)
    assert refusal.value.errno_name == "EBUSY"
    assert bus.zone_device.iomem.text() == before


def test_two_namespaces_of_one_region_are_two_devices():
    """multi-dax.sh: two namespaces of 16 MiB, align 4 KiB, in one region: dax0.0 and dax0.1."""
    bus = boot(pmem=[(16 * GIB, 20 * GIB)])
    before = bus.zone_device.iomem.text()
    region = pmem_region(bus)
    pmems = [attach(bus, region.create_namespace(16 * MIB, 4096, "mem"), 4096) for _ in range(2)]
    assert [(p.device.name, p.device.size, p.device.driver) for p in pmems] == [
        ("dax0.0", 14 * MIB, "device_dax"),
        ("dax0.1", 14 * MIB, "device_dax"),
    ]
    assert [device.name for device in bus.devices()] == ["dax0.0", "dax0.1"]
    dax_pmem_remove(bus, pmems[0])
    assert [device.name for device in bus.devices()] == ["dax0.1"]
    assert bus.region(0).devices.keys() == {"dax0.1"}
    dax_pmem_remove(bus, pmems[1])
    assert bus.regions == {}
    assert bus.zone_device.iomem.text() == before
