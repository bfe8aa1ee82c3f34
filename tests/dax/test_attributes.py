# SPDX-License-Identifier: GPL-2.0-only
"""What each attribute of regions and devices answers, from the recorded error tables and the specification."""

import pytest

from tests.dax.support import SIZE, START, G, M, boot, create, machine, ranges, refused
from workbench.dax.bus import DaxRegion, RegionFlags
from workbench.errors import WorkbenchError
from workbench.mm import DevPagemap

# The group sysfs of the 6.1 error run, case by case: dax0.0 of 8 GiB, align 2M, bound.
RECORDED = [
    ("size", "dax0.0", 4 * G, "EBUSY"),
    ("align", "dax0.0", 4096, "EBUSY"),
    ("delete", "dax0.0", None, "EBUSY"),
    ("create", "2", None, "EINVAL"),
    ("create", "1", None, "ENOSPC"),
    ("unbind", "dax0.0", None, "ok"),
    ("delete", "dax0.0", None, "EBUSY"),
    ("size", "dax0.0", 4 * G + 4096, "EINVAL"),
    ("size", "dax0.0", 9 * G, "ENOSPC"),
    ("align", "dax0.0", 0, "EINVAL"),
    ("align", "dax0.0", 1, "EINVAL"),
    ("align", "dax0.0", 2048, "EINVAL"),
    ("align", "dax0.0", 8192, "EINVAL"),
    ("align", "dax0.0", 1048576, "EINVAL"),
    ("align", "dax0.0", 4194304, "EINVAL"),
    ("align", "dax0.0", 2147483648, "EINVAL"),
    ("align", "dax0.0", "abc", "ENXIO"),
    ("align", "dax0.0", 4096, "ok"),
    ("align", "dax0.0", 1 << 30, "ok"),
    ("align", "dax0.0", 2 << 20, "ok"),
    ("size", "dax0.0", 0, "ok"),
    ("delete", "dax0.0", None, "EBUSY"),
    ("bind", "dax0.0", None, "ENXIO"),
    ("create", "1", None, "ok"),
    ("create", "1", None, "ok"),
    ("seed", None, None, "dax0.1"),
    ("align", "dax0.1", 1 << 30, "ok"),
    ("size", "dax0.1", 512 * M, "EINVAL"),
    ("size", "dax0.1", 1 * G, "ok"),
    ("align", "dax0.1", 2 << 20, "ok"),
    ("size", "dax0.1", 1 * G + 2 * M, "ok"),
    ("align", "dax0.1", 1 << 30, "EINVAL"),
    ("size", "dax0.1", 0, "ok"),
    ("delete", "dax0.1", None, "ok"),
]


def do(bus, what, name, value):
    stores = {
        "size": lambda: bus.size_store(name, value),
        "align": lambda: bus.align_store(name, value),
        "delete": lambda: bus.delete_store(name),
        "create": lambda: bus.create_store(name),
        "bind": lambda: bus.bind(name),
        "unbind": lambda: bus.unbind(name),
    }
    if what == "seed":
        return bus.seed()
    try:
        stores[what]()
    except WorkbenchError as refusal:
        return refusal.errno_name
    return "ok"


@pytest.mark.parametrize("name", ["5.10", "5.15", "5.17", "6.1"])
def test_the_recorded_table(name):
    """5.10 differs in one case: its bind says ENODEV whatever the probe found."""
    bus = boot(name)
    expected = ["ENODEV" if (name, case[0]) == ("5.10", "bind") else case[3] for case in RECORDED]
    assert [do(bus, *case[:3]) for case in RECORDED] == expected
    assert [device.name for device in bus.devices()] == ["dax0.0", "dax0.2"]


def test_a_refused_store_changes_nothing():
    bus = boot()
    bus.unbind("dax0.0")
    bus.align_store("dax0.0", 1 << 30)
    for case in (("size", 9 * G), ("size", G + 2 * M), ("align", 8192), ("size", "1e9")):
        assert do(bus, case[0], "dax0.0", case[1]) not in ("ok", None)
    assert ranges(bus, "dax0.0") == [(0x100000, SIZE >> 12, 0)] and bus.device("dax0.0").align == 1 << 30


def test_numbers_as_the_kernel_reads_them():
    bus = boot(size=0)
    for written, size in (("2097152\n", 2 * M), ("0x400000", 4 * M), ("+0", 0), ("010000000", 2 * M)):
        bus.size_store("dax0.0", written)
        assert bus.device("dax0.0").size == size
    for written, code in (("", "EINVAL"), ("-1", "EINVAL"), ("2M", "EINVAL"), ("08", "EINVAL"), (1 << 64, "ERANGE")):
        assert do(bus, "size", "dax0.0", written) == code
    assert [do(bus, "create", text, None) for text in ("0", "-1", "x", "4294967297")] == ["EINVAL"] * 3 + ["ERANGE"]


def test_a_region_without_its_driver():
    bus = boot(size=0)
    bus.region(0).bound = False
    assert do(bus, "size", "dax0.0", 2 * M) == "ENXIO"
    assert do(bus, "size", "dax0.0", 4096) == "EINVAL"  # asked before
    assert do(bus, "align", "dax0.0", 4096) == "ENXIO"
    with refused("ENXIO"):
        bus.mapping_store("dax0.0", f"{START:x}-{START + 2 * M - 1:x}")


def test_what_a_static_region_has_not():
    bus = machine()
    region = bus.add_region(DaxRegion(1, START, SIZE, flags=RegionFlags.STATIC))
    with refused("EINVAL", "needs an id"):
        bus.create_dev_dax(region, SIZE)
    bus.create_dev_dax(region, SIZE, id=0, pgmap=DevPagemap(1 << 40, ((START >> 12, SIZE >> 12),)))
    assert bus.device("dax1.0").bound
    for attribute in (
        bus.available_size,
        bus.seed,
        lambda n: bus.create_store("1", n),
        lambda n: bus.delete_store("", n),
    ):
        with refused("ENOENT", "static"):
            attribute(1)
    with refused("ENOENT", "static"):
        bus.mapping_store("dax1.0", "0-1fffff")
    assert (do(bus, "size", "dax1.0", 0), do(bus, "align", "dax1.0", 4096)) == ("EACCES", "EACCES")


def test_ids_and_names():
    bus = boot(size=0)
    assert [bus.create_store().name for _ in range(3)] == ["dax0.1", "dax0.2", "dax0.3"]
    bus.delete_store("dax0.2")
    assert bus.create_store().name == "dax0.2"
    with refused("ENXIO"):
        bus.delete_store("dax0.9")
    with refused("ENOENT"):
        bus.device("dax0.9")
    with refused("EINVAL", "takes no id"):
        bus.create_dev_dax(bus.region(0), 0, id=7)
    with refused("ENOMEM"):
        DaxRegion(2, START + M, SIZE)
    with refused("ENOMEM"):
        DaxRegion(2, START, SIZE + M)


def test_the_seed_is_the_oldest_that_was_never_bound():
    bus = boot(size=0)
    assert bus.seed() == ""
    for _ in range(3):
        bus.create_store()
    assert bus.seed() == "dax0.1"
    bus.size_store("dax0.2", 2 * M)
    bus.bind("dax0.2")
    assert bus.seed() == "dax0.1"
    bus.size_store("dax0.1", 2 * M)
    bus.bind("dax0.1")
    assert bus.seed() == ""
    bus.create_store()
    assert bus.seed() == "dax0.4"
    bus.delete_store("dax0.4")
    assert bus.seed() == ""


def test_a_mapping_at_a_place_of_ones_own():
    bus = boot(size=0)
    bus.mapping_store("dax0.0", "110000000-1101fffff")
    bus.mapping_store("dax0.0", "0x100000000-0x1003fffff\n")
    assert ranges(bus, "dax0.0") == [(0x110000, 512, 0), (0x100000, 1024, 512)]
    assert [each.mapping_id for each in bus.device("dax0.0").ranges] == [0, 1]
    for written, code in (
        ("110000000", "EINVAL"),
        ("110000000-", "EINVAL"),
        ("x-y", "EINVAL"),
        ("120000000-120000fff", "ENXIO"),
        ("1101fffff-1201fffff", "ENXIO"),
        ("110000000-1101fffff", "ENOMEM"),
        ("0-1fffff", "ENOMEM"),
        ("120000000-11fffffff", "EBUSY"),  # no byte: an empty range
        ("0-10000000000000000", "ERANGE"),
    ):
        with refused(code):
            bus.mapping_store("dax0.0", written)
    assert len(ranges(bus, "dax0.0")) == 2


def test_a_mapping_for_a_bound_device_is_taken_and_not_brought_up():
    """Nothing asks whether a driver has it: the file grows, the pgmap does not."""
    bus = boot(size=2 * M)
    bus.mapping_store("dax0.0", "100200000-1003fffff")
    assert bus.device("dax0.0").size == 4 * M
    assert bus.device("dax0.0").bound_pgmap.ranges == ((0x100000, 512),)
    assert bus.unbind("dax0.0") and "dax0.0" not in bus.zone_device.iomem.text()


def test_what_bind_and_unbind_refuse():
    bus = boot("6.1")
    assert do(bus, "bind", "dax0.0", None) == "EBUSY"
    assert do(bus, "bind", "dax0.9", None) == "ENODEV"
    with refused("ENOENT", "Load its module"):
        bus.bind("dax0.0", "kmem")
    with refused("ENODEV"):
        bus.unbind("dax0.0", "kmem")
    assert do(bus, "unbind", "dax0.0", None) == "ok"
    assert do(bus, "unbind", "dax0.0", None) == "ENODEV"
    assert do(boot("5.10"), "bind", "dax0.0", None) == "ENODEV"


def test_6_12_leaves_soft_reserved_memory_to_kmem():
    """Nothing has it after boot; device_dax takes it once it is told the name."""
    bus = boot("6.12")
    assert not bus.device("dax0.0").bound
    assert do(bus, "bind", "dax0.0", None) == "ENODEV"
    with refused("EINVAL"):
        bus.new_id("device_dax", "pmem0")
    bus.new_id("device_dax", "dax0.0")
    assert bus.device("dax0.0").driver == "device_dax"
    bus.unbind("dax0.0")
    bus.remove_id("device_dax", "dax0.0")
    assert do(bus, "bind", "dax0.0", None) == "ENODEV"


def test_new_id_tries_every_device_that_is_free():
    bus = boot(size=0)
    name = create(bus, 2 * M, bind=False)
    bus.new_id("device_dax", "dax0.0")  # empty: refused in the log only
    assert (bus.device(name).bound, bus.device("dax0.0").bound) == (True, False)


def test_text_and_table_say_the_same():
    bus = boot(size=G)
    create(bus, 2 * M)
    for fact in ("dax0.0", "1 GiB", "device_dax", "0x100000000-0x13fffffff"):
        assert fact in repr(bus) and fact in bus._repr_html_() and fact in repr(bus.device("dax0.0"))
    assert "7166 MiB" in repr(bus.region(0)) and "7166 MiB" in bus.region(0)._repr_html_()
    assert "0x13fffffff" in bus.device("dax0.0")._repr_html_()
