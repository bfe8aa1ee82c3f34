# SPDX-License-Identifier: GPL-2.0-only
"""system-ram mode: the memory leaves the device map, and comes back if it is offline."""

import pytest

from tests.dax.support import SIZE, START, G, M, boot, create, refused
from workbench.dax.bus import DaxRegion
from workbench.mm.resource import SYSTEM_RAM, request_region


def system_ram(name="6.1", size=SIZE, **options):
    bus = boot(name, size=size)
    bus.auto_online = options.get("online", False)
    if size:
        bus.unbind("dax0.0")
    bus.load("kmem")
    return bus


def to_ram(bus, name="dax0.0"):
    bus.new_id("kmem", name)
    assert bus.device(name).driver == "kmem"


def test_the_memory_leaves_the_device_map():
    bus = system_ram()
    to_ram(bus)
    assert bus.zone_device.iomem.text().splitlines()[2:] == [
        "    100000000-2ffffffff : dax0.0",
        "      100000000-2ffffffff : System RAM (kmem)",
    ]
    assert bus.zone_device.pgmaps == () and bus.zone_device.array.existing_pages == 0
    assert [resource.flags for _, resource in bus.zone_device.iomem.walk()][2] == SYSTEM_RAM  # busy no more
    device = bus.device("dax0.0")
    assert not device.alive and device.pgmap is None and device.bound_pgmap is None
    with refused("EBUSY"):
        bus.size_store("dax0.0", 0)


def test_offline_memory_comes_back():
    bus = system_ram()
    before = bus.zone_device.iomem.text()
    to_ram(bus)
    assert not bus.is_online("dax0.0")
    assert bus.unbind("dax0.0") and bus.zone_device.iomem.text() == before
    bus.bind("dax0.0")
    assert bus.device("dax0.0").alive


@pytest.mark.parametrize("name", ["5.10", "6.1"])
def test_online_memory_stays_reserved_for_good(name):
    bus = system_ram(name, online=True)
    to_ram(bus)
    assert bus.is_online("dax0.0")
    assert bus.unbind("dax0.0") and not bus.device("dax0.0").bound
    assert "System RAM (kmem)" in bus.zone_device.iomem.text()
    with refused("ENODEV" if name == "5.10" else "EBUSY"):
        bus.bind("dax0.0")


def test_online_and_offline_by_hand():
    bus = system_ram()
    with refused("EINVAL"):
        bus.online("dax0.0")
    to_ram(bus)
    bus.online("dax0.0")
    assert bus.is_online("dax0.0")
    bus.online("dax0.0", False)
    assert bus.unbind("dax0.0") and "System RAM" not in bus.zone_device.iomem.text()


def test_whole_memory_blocks_only():
    """A device from 64 MiB to 576 MiB: three blocks of 128 MiB, from 128 MiB to 512 MiB."""
    bus = system_ram(size=64 * M)
    name = create(bus, 512 * M, bind=False)
    to_ram(bus, name)
    assert "108000000-11fffffff : System RAM (kmem)" in bus.zone_device.iomem.text()


@pytest.mark.parametrize("name, taken", [("5.10", True), ("5.15", False), ("6.1", False)])
def test_no_whole_block(name, taken):
    bus = system_ram(name, size=64 * M)
    bus.new_id("kmem", "dax0.0")
    assert bus.device("dax0.0").bound == taken
    if not taken:
        with refused("EINVAL", "without any memory"):
            bus.bind("dax0.0", "kmem")


def test_a_region_without_a_node():
    bus = system_ram(size=0)
    bus.device("dax0.0").target_node = -1
    bus.size_store("dax0.0", G)
    bus.ids["kmem"].add("dax0.0")
    with refused("EINVAL", "invalid node"):
        bus.bind("dax0.0", "kmem")


def test_a_conflict():
    """In the first range the probe fails; a later one is left out."""
    bus = system_ram(size=0)
    for start in (0, 2 * G):
        bus.mapping_store("dax0.0", f"{START + start:x}-{START + start + G - 1:x}")
    bus.ids["kmem"].add("dax0.0")
    request_region(bus.zone_device.iomem, START + 2 * G, 4096, "a driver")
    bus.bind("dax0.0", "kmem")
    assert bus.zone_device.iomem.text().count("System RAM (kmem)") == 1
    bus.unbind("dax0.0")
    request_region(bus.zone_device.iomem, START, 4096, "a driver")
    with refused("EBUSY"):
        bus.bind("dax0.0", "kmem")


def test_system_ram_is_refused_to_another_device():
    """A second region over the same memory: its device meets the conflict at once, and keeps that pgmap."""
    bus = system_ram()
    to_ram(bus)
    region = bus.add_region(DaxRegion(1, START, SIZE))
    assert not bus.create_dev_dax(region, SIZE).bound
    with refused("EINVAL", "pre-populated"):
        bus.bind("dax1.0")


def test_6_12_gives_kmem_what_was_meant_for_it():
    bus = boot("6.12")
    bus.load("kmem")
    assert bus.device("dax0.0").driver == "kmem"
