# SPDX-License-Identifier: GPL-2.0-only
"""The driver takes a device and lets it go: patches 4, 6, 7 and 11 before and after, failures, teardown."""

import numpy as np
import pytest

from tests.dax.support import START, START_PFN, G, M, boot, create, hold, machine, refcount, refused
from workbench.abi import Role
from workbench.dax.bus import DaxRegion, RegionFlags
from workbench.dax.probe import SIZE_MAX, alloc_pgmap, pgmap_bytes
from workbench.dax.region import DaxRange
from workbench.errors import KernelCrash
from workbench.mm import Altmap, DevPagemap
from workbench.mm.resource import release_region, request_region
from workbench.series import Tree, kernel

EVERY_RELEASE = ["5.10", "5.15", "5.16", "5.17", "6.1"]


def dynamic(name="5.17", size=4 * M, align=2 * M, **options):
    bus = boot(name, size=0, **options)
    bus.align_store("dax0.0", align)
    bus.size_store("dax0.0", size)
    return bus, bus.device("dax0.0")


def struct_pages(bus, nr_pages=1024):
    return bus.zone_device.array.view(START_PFN, nr_pages)


# -- one patch at a time -----------------------------------------------------------------------------------


def test_patch_4_alone_changes_no_byte_of_a_device():
    """It teaches struct pages to be compound; nobody asks for it before patch 11."""
    before, after = (dynamic(name)[0] for name in ("5.16+3", "5.16+4"))
    for bus in (before, after):
        bus.bind("dax0.0")
    assert struct_pages(before).tobytes() == struct_pages(after).tobytes()
    assert before.zone_device.refs(before.device("dax0.0").bound_pgmap) == 1024
    assert after.zone_device.refs(after.device("dax0.0").bound_pgmap) == 1024


def test_patch_11_makes_compound_pages_of_the_align():
    """4 MiB: 1,024 base pages with a count of 1 each; then 2 heads and 1,022 tails, 2 references."""
    before, after = (dynamic(name)[0] for name in ("5.16+10", "5.16+11"))
    for bus, counts, refs in ((before, [1] * 1024, 1024), (after, ([1] + [0] * 511) * 2, 2)):
        bus.bind("dax0.0")
        assert (struct_pages(bus)[:, 6] >> np.uint64(32)).tolist() == counts
        assert bus.zone_device.refs(bus.device("dax0.0").bound_pgmap) == refs
    roles = [after.zone_device.array.role(START_PFN + at) for at in (0, 1, 511, 512)]
    assert (roles[0], roles[3]) == (Role.HEAD, Role.HEAD) and Role.ZONE_DEVICE not in roles
    assert before.zone_device.array.role(START_PFN) is Role.ZONE_DEVICE


@pytest.mark.parametrize(
    "name, align, shift", [("5.16+10", 2 * M, 0), ("5.17", 4096, 0), ("5.17", 2 * M, 9), ("6.1", G, 18)]
)
def test_the_order_comes_from_the_align(name, align, shift):
    bus, device = dynamic(name, G, align)
    bus.bind("dax0.0")
    assert device.bound_pgmap.vmemmap_shift == shift
    assert bus.zone_device.refs(device.bound_pgmap) == 262144 >> shift


@pytest.mark.parametrize("name", ["5.16+5", "5.16+6"])
@pytest.mark.parametrize("nr_range, nbytes", [(1, 160), (2, 176), (4, 208)])
def test_patch_6_asks_for_the_same_bytes(name, nr_range, nbytes):
    assert pgmap_bytes(kernel(name).tree, nr_range) == nbytes


def test_patch_6_at_no_range():
    """Before, the product wraps and the allocation succeeds; after, it saturates and fails."""
    before, after = kernel("5.16+5").tree, kernel("5.16+6").tree
    assert (pgmap_bytes(before, 0), pgmap_bytes(after, 0)) == (144, SIZE_MAX)
    device = boot("5.17", size=0).device("dax0.0")
    assert alloc_pgmap(before, device, 1).nr_range == 0
    with refused("ENOMEM"):
        alloc_pgmap(after, device, 1)


def test_the_size_of_the_structure_as_recorded():
    """152 bytes on 5.10 and 5.15 (the layouts), 152 again on 5.17 and 6.1: patch 4 adds what 5.17 took away."""
    assert {pgmap_bytes(kernel(name).tree, 1) for name in ("5.10", "5.15", "5.17", "6.1", "6.12")} == {152}
    assert pgmap_bytes(Tree("5.17"), 1) == 144 and pgmap_bytes(kernel("5.16+3").tree, 1) == 152


@pytest.mark.parametrize("name, kept", [("5.16+6", False), ("5.16+7", True), ("5.17", True)])
def test_patch_7_keeps_the_pgmap_while_bound(name, kept):
    bus, device = dynamic(name, G)
    assert device.pgmap is None
    bus.bind("dax0.0")
    assert device.bound_pgmap.ranges == ((START_PFN, 262144),)
    assert device.pgmap is (device.bound_pgmap if kept else None)
    bus.unbind("dax0.0")
    assert device.pgmap is None and device.bound_pgmap is None
    create(bus, G, bind=False)
    bus.size_store("dax0.0", 2 * G)
    bus.bind("dax0.0")
    assert device.bound_pgmap.ranges == ((START_PFN, 262144), (START_PFN + 524288, 262144))


@pytest.mark.parametrize(
    "name, errnos",
    [("5.10", ["ENODEV", "ENODEV", None]), ("5.15", ["EBUSY", "EBUSY", None]), ("5.16+6", ["EBUSY", "EBUSY", None])]
    + [(name, ["EBUSY", "EINVAL", "EINVAL"]) for name in ("5.16+7", "5.17", "6.1")],
)
def test_patch_7_leaves_a_pgmap_behind(name, errnos):
    """A conflict, the conflict again, the conflict gone: from patch 7 on the first failure is for good.

    Nothing else stays: not the range that was reserved before the conflict was met.
    """
    bus = boot(name, size=0)
    bus.mapping_store("dax0.0", f"{START:x}-{START + G - 1:x}")
    bus.mapping_store("dax0.0", f"{START + 2 * G:x}-{START + 3 * G - 1:x}")
    device, iomem = bus.device("dax0.0"), bus.zone_device.iomem
    request_region(iomem, START + 2 * G, 4096, "a driver")
    before = iomem.text()
    for expected in errnos[:2]:
        with refused(expected) as info:
            bus.bind("dax0.0")
        assert iomem.text() == before and not device.bound and bus.zone_device.pgmaps == ()
    stale = bus.tree.has(7)
    assert (device.pgmap is not None) == stale
    release_region(iomem, START + 2 * G, 4096)
    if not stale:
        assert info.value.changed == ()
        bus.bind("dax0.0")
        return
    with refused("EINVAL", "pre-populated"):
        bus.bind("dax0.0")


def test_the_error_says_what_a_failed_probe_leaves():
    bus, _ = dynamic("5.17")
    request_region(bus.zone_device.iomem, START, 4096, "a driver")
    with refused("EBUSY") as info:
        bus.bind("dax0.0")
    assert len(info.value.changed) == 1 and "keeps the pgmap" in info.value.changed[0]


def test_a_device_made_anew_has_no_stale_pgmap():
    bus = boot("5.17", size=0)
    name = create(bus, 2 * M, bind=False)
    conflict = request_region(bus.zone_device.iomem, START, 4096, "a driver")
    with refused("EBUSY"):
        bus.bind(name)
    release_region(bus.zone_device.iomem, conflict.start, conflict.size)
    bus.size_store(name, 0)
    bus.delete_store(name)
    assert create(bus, 2 * M) == name and bus.device(name).alive


@pytest.mark.parametrize("name", ["5.15", "5.17"])
def test_what_the_workbench_refuses_changes_nothing(name):
    """Memory beyond the page array: no kernel was asked, so no device, no region in use and no pgmap stay."""
    bus = machine(name, max_pfn=1 << 30)
    region = bus.add_region(DaxRegion(0, START + 8 * G, G))
    with refused(None, "not in this array"):
        bus.create_dev_dax(region, G)
    assert list(bus.devices()) == [] and region.available_size == G
    device = bus.create_dev_dax(region, 0)
    bus.size_store("dax0.0", G)
    for _ in range(2):
        with refused(None, "not in this array"):
            bus.bind("dax0.0")
    assert device.pgmap is None and not device.bound and "dax0.0" not in bus.zone_device.iomem.text()


# -- static devices ----------------------------------------------------------------------------------------


def static(name, **more):
    """A 1 GiB namespace with map=dev, align 2M: 18 MiB of metadata, 1006 MiB of data."""
    bus = machine(name)
    region = bus.add_region(DaxRegion(0, START + 18 * M, 1006 * M, flags=RegionFlags.STATIC))
    pgmap = DevPagemap(1 << 40, ((START_PFN, 262144),), altmap=Altmap(START_PFN, 2, 4606))
    return bus, bus.create_dev_dax(region, 1006 * M, id=0, pgmap=pgmap)


@pytest.mark.parametrize("name, refs", [("5.15", 257536), ("5.17", 503), ("6.1", 503)])
def test_a_static_device_keeps_its_pgmap(name, refs):
    bus, device = static(name)
    for _ in range(2):
        assert device.alive and bus.zone_device.refs(device.pgmap) == refs
        assert bus.zone_device.array.role(START_PFN + 4608) is (Role.ZONE_DEVICE if name == "5.15" else Role.HEAD)
        assert f"{START + 18 * M:x}-13fffffff : dax0.0" in bus.zone_device.iomem.text()
        bus.unbind("dax0.0")
        assert device.pgmap is not None and not device.alive
        bus.bind("dax0.0")


@pytest.mark.parametrize("name", EVERY_RELEASE)
def test_a_static_device_of_two_ranges(name):
    bus, device = static(name)
    bus.unbind("dax0.0")
    before = bus.zone_device.iomem.text()
    device.ranges.append(DaxRange(START + G, START + 2 * G - 1, 257536))
    with refused("ENODEV" if name == "5.10" else "EINVAL", "multi-range device conflict"):
        bus.bind("dax0.0")
    assert bus.zone_device.iomem.text() == before


@pytest.mark.parametrize("name, made", [("5.16+6", True), ("5.17", False)])
def test_patch_7_asks_for_the_kind_of_region_not_for_a_pgmap(name, made):
    """A static device that came without one: before, it is treated as a dynamic one; after, it is no case at all."""
    bus = machine(name)
    region = bus.add_region(DaxRegion(0, START, G, flags=RegionFlags.STATIC))
    if not made:
        with refused(None, "without a pgmap"):
            bus.create_dev_dax(region, G, id=0)
        return
    device = bus.create_dev_dax(region, G, id=0)
    assert device.alive and device.pgmap is None and device.bound_pgmap.ranges == ((START_PFN, 262144),)


# -- letting go --------------------------------------------------------------------------------------------


def test_unbind_unmaps_before_the_pages_go():
    bus, device = dynamic()
    bus.bind("dax0.0")
    seen = []
    device.unmap_mapping = lambda: seen.append((device.alive, bus.zone_device.array.existing_pages))
    assert bus.unbind("dax0.0")
    assert seen == [(False, 1024)] and bus.zone_device.array.existing_pages == 0
    assert "dax0.0" not in bus.zone_device.iomem.text() and not device.bound


@pytest.mark.parametrize("name", ["5.10", "5.15", "5.17"])
def test_an_unbind_that_waits(name):
    """The lifecycle runs: dead and unmapped at once, blocked in memunmap_pages, over when the page is let go."""
    bus, device = dynamic(name)
    bus.bind("dax0.0")
    hold(bus, START_PFN)
    assert bus.blocked_in("dax0.0") == ()
    assert not bus.unbind("dax0.0")
    assert bus.blocked_in("dax0.0") == (
        "memunmap_pages",
        "devm_memremap_pages_release",
        "devm_action_release",
        "devres_release_all",
        "__device_release_driver",
        "device_driver_detach",
    )
    assert (device.alive, device.bound, refcount(bus, START_PFN)) == (False, True, 1)
    assert "dax0.0" in bus.zone_device.iomem.text()
    for store in (
        lambda: bus.bind("dax0.0"),
        lambda: bus.unbind("dax0.0"),
        lambda: bus.size_store("dax0.0", 0),
        lambda: bus.align_store("dax0.0", 4096),
        lambda: bus.mapping_store("dax0.0", "0-1fffff"),
        lambda: bus.delete_store("dax0.0"),
    ):
        with refused(None, "would wait"):
            store()
    assert not bus.unbind_continue("dax0.0")
    hold(bus, START_PFN, -1)
    assert bus.unbind_continue("dax0.0") and not device.bound and bus.blocked_in("dax0.0") == ()
    assert bus.zone_device.array.existing_pages == 0 and "dax0.0" not in bus.zone_device.iomem.text()
    assert bus.unbind_continue("dax0.0")


def test_6_1_does_not_wait():
    bus, device = dynamic("6.1")
    bus.bind("dax0.0")
    hold(bus, START_PFN)
    assert bus.unbind("dax0.0") and not device.bound
    with pytest.raises(KernelCrash, match="ffffea0004000008"):
        bus.zone_device.require_vmemmap(START_PFN)


def test_a_region_goes_with_its_devices():
    bus = boot("5.17", size=G)
    name = create(bus, 2 * M)
    hold(bus, START_PFN)
    with refused(None, "memunmap_pages") as info:
        bus.remove_region(bus.region(0))
    assert info.value.changed == ("dax0.0 is dead and unmapped",)
    hold(bus, START_PFN, -1)
    assert bus.unbind_continue("dax0.0")
    device = bus.device(name)
    bus.remove_region(bus.region(0))
    assert list(bus.devices()) == [] and bus.zone_device.pgmaps == () and device.id == -1
    with refused("ENOENT"):
        bus.available_size(0)


def test_version_3_dies_when_the_device_is_unbound():
    bus, _ = dynamic("5.17", pfn_next_by_one=True)
    bus.bind("dax0.0")
    with pytest.raises(KernelCrash, match="VM_BUG_ON_PAGE"):
        bus.unbind("dax0.0")


# -- a 1 GiB device over ranges that are no whole GiB ------------------------------------------------------


def around_a_neighbour(name):
    """|hole: 512 MiB|neighbour: 1 GiB|hole: 512 MiB|  and a device of align 1G that takes both holes."""
    bus = boot(name, size=0)
    create(bus, 512 * M)
    create(bus, G)
    bus.unbind("dax0.1")
    bus.size_store("dax0.1", 0)
    bus.delete_store("dax0.1")
    return bus, create(bus, G, G, bind=False)


def test_5_17_overwrites_the_neighbour_and_dies():
    """k5.17-overrun-1G: pfns 0x120000-0x13ffff become tails of head 0x100000; the fault is at pfn 0x180000."""
    bus, name = around_a_neighbour("5.17")
    array = bus.zone_device.array
    with pytest.raises(KernelCrash, match="no struct page exists at pfn 0x180000") as crash:
        bus.bind(name)
    assert any("pfn 0x120000-0x13ffff" in change for change in crash.value.changed)
    heads = [
        (array.words(pfn)[1] - 1 - array.kernel.abi.struct_page(0)) // 64 for pfn in (0x120000, 0x13FFFF, 0x160001)
    ]
    assert heads == [0x100000, 0x100000, 0x160000]
    assert array.role(0x140000) is Role.HEAD and refcount(bus, 0x140000) == 1


@pytest.mark.parametrize("name", ["5.15", "6.1"])
def test_others_survive(name):
    """Base pages, or the first 128 pages of a compound only."""
    bus, device = around_a_neighbour(name)
    bus.bind(device)
    assert bus.zone_device.hazards == [] and bus.device(device).alive


def test_a_misplaced_range_is_taken():
    """k6.1-frag-1G: nothing asks where a 1 GiB device begins; its head is pfn 0x120000."""
    bus = boot("6.1", size=0)
    create(bus, 512 * M)
    name = create(bus, G, G)
    assert bus.zone_device.array.role(0x120000) is Role.HEAD
    assert bus.zone_device.array.words(0x120001)[1] == 0xFFFFEA0004800001
    assert bus.device(name).pgoff_to_phys(0, G) == 0x120000000


def test_where_a_page_of_the_file_lies():
    bus = boot(size=0)
    bus.mapping_store("dax0.0", f"{START + G:x}-{START + G + 4 * M - 1:x}")
    bus.mapping_store("dax0.0", f"{START:x}-{START + 2 * M - 1:x}")
    device = bus.device("dax0.0")
    assert device.pgoff_to_phys(0, 2 * M) == START + G
    assert device.pgoff_to_phys(512, 2 * M) == START + G + 2 * M
    assert device.pgoff_to_phys(1024, 2 * M) == START
    assert device.pgoff_to_phys(1023, 8192) == -1  # a page may not span ranges
    assert device.pgoff_to_phys(1536, 4096) == -1
