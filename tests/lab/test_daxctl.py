# SPDX-License-Identifier: GPL-2.0-only
"""Listings of real machines: read, written, rebuilt, and what the series saves on them."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dax.test_hmem_pmem import boot, hmem
from workbench.dax.pmem import dax_pmem_probe
from workbench.errors import WorkbenchError
from workbench.lab import daxctl, overhead
from workbench.lab.daxctl_list import list_json
from workbench.nvdimm import MAPS, SUPPORTED_ALIGNS, NdRegion

ROOT = Path(__file__).resolve().parents[2]
LISTS = sorted((ROOT / "data" / "daxctl").glob("*.json"))
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def named(path):
    """Namespace size, align and map that the run of a listing asked for."""
    _, _, align, map = path.name.split(".daxctl")[0].split(".ndctl")[0].rsplit("-", 3)
    align = {"4K": 4 * KIB, "2M": 2 * MIB, "1G": GIB}[align]
    return (4 * GIB if align == GIB else GIB), align, map


def test_every_listing_is_here():
    assert len(LISTS) == 18


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.name)
def test_a_listing_leads_back_to_the_namespace_that_was_asked_for(path):
    size, align, map = named(path)
    boot_action, create = daxctl.actions(daxctl.read(path))
    assert boot_action == {
        "op": "boot",
        "persistent_memory": [{"start": "0x140000000", "end": hex(5 * GIB + size)}],
    }
    assert create == {
        "op": "create_namespace",
        "size": size,
        "align": align,
        "map": map,
    }


@pytest.mark.parametrize("path", [p for p in LISTS if "daxctl" in p.name], ids=lambda path: path.name)
def test_the_machine_lists_itself_as_the_real_one_did(path):
    size, align, map = named(path)
    region = NdRegion(0, 5 * GIB, 2 * size, labels=True)
    bus = boot(path.name.split("-")[0][1:].replace("nodedup", "-nodedup"), "mem=0", [(5 * GIB, 5 * GIB + 2 * size)])
    # RAM of this machine ends above: take what lies there out of the way
    bus.zone_device.iomem.children.clear()
    made = region.create_namespace(size, align, map)
    dax_pmem_probe(bus, made.nd_pfn, align)
    assert list_json(bus, regions=True, devices=True, mappings=True) == json.loads(path.read_text())


@pytest.mark.parametrize("path", [p for p in LISTS if "ndctl" in p.name], ids=lambda path: path.name)
def test_sizes_for_people_as_ndctl_printed_them(path):
    (region,) = json.loads(path.read_text())["regions"]
    (namespace,) = [each for each in region["namespaces"] if each["mode"] == "devdax"]
    size, align, map = named(path)
    made = NdRegion(0, 5 * GIB, 2 * size, labels=True).create_namespace(size, align, map)
    assert daxctl.display_size(made.nd_pfn.dev_size) == namespace["size"]
    assert daxctl.display_size(align) == namespace["daxregion"]["devices"][0]["align"]
    whole = NdRegion(0, 5 * GIB, (8 if align == GIB else 4) * GIB - 2 * MIB, labels=True)
    whole.create_namespace(size, align, map)
    assert daxctl.display_size(whole.size) == region["size"]
    assert daxctl.display_size(whole.align) == region["align"]
    assert daxctl.display_size(whole.available_size) == region["available_size"]
    assert daxctl.display_size(whole.max_available_extent) == region["max_available_extent"]


@given(st.integers(1, 1 << 44), st.sampled_from(SUPPORTED_ALIGNS))
def test_a_size_for_people_is_read_within_what_it_says(units, align):
    size = min(units, (60 << 40) // align) * align
    shown = daxctl.display_size(size)
    read, off = daxctl.parse_size(shown, align)
    assert read % align == 0
    assert abs(read - size) <= off
    assert daxctl.display_size(read) == shown


def test_a_gib_is_shown_in_mib():
    assert daxctl.display_size(GIB) == "1024.00 MiB (1073.74 MB)"
    assert daxctl.display_size(5000 * KIB - 1) == 5000 * KIB - 1
    assert daxctl.parse_size("126.00 GiB (135.29 GB)", 2 * MIB) == (126 * GIB, 4 * MIB)


@given(st.integers(1, 600), st.sampled_from(SUPPORTED_ALIGNS), st.sampled_from(MAPS), st.integers(0, 3))
def test_any_namespace_is_found_from_its_device(size, align, map, at):
    region = NdRegion(0, (5 + at) * GIB, 640 * GIB, labels=True)
    try:
        made = region.create_namespace(size * GIB, align, map)
    except WorkbenchError:
        return  # 1 GiB of align 1 GiB has no data
    device = daxctl.Device("dax0.0", made.nd_pfn.dev_size, align)
    if not device.size:
        return
    found = daxctl.namespace_of(device, map, made.start)
    rebuilt = region_of(found)
    assert rebuilt.nd_pfn.dev_size == device.size
    placed = daxctl.Device("dax0.0", device.size, align, ranges=(daxctl.Range(data_of(made), device.size),))
    assert data_of(region_of(daxctl.namespace_of(placed, map))) == data_of(made)


def region_of(namespace):
    return NdRegion(0, namespace.start, namespace.size).create_namespace(None, namespace.align, namespace.map)


def data_of(made):
    return made.nd_pfn.data_start_pfn << 12


# What the series saves


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.name)
def test_costs_are_those_of_the_namespace(path):
    """The same numbers as ``workbench overhead`` gives for the namespace that was asked for."""
    size, align, map = named(path)
    costs = overhead.side_by_side(overhead.Namespace(5 * GIB, size, align, map))
    for saving in daxctl.savings(daxctl.read(path)):
        cost = costs[saving.stage]
        assert saving.pgmap_refs == cost.pgmap_refs
        assert saving.backing == cost.backing


@pytest.mark.parametrize(
    ("align", "map", "before", "after", "dedup"),
    [
        #           references, pages written by faults, MiB behind struct pages of the recorded namespace
        ("4K", "mem", (262144, 261632, 16), (262144, 261632, 16), (262144, 261632, 16)),
        ("2M", "mem", (262144, 261632, 16), (512, 511, 16), (512, 511, 4)),
        ("2M", "dev", (257536, 257536, 16), (503, 503, 16), (503, 503, 16)),
        ("1G", "mem", (4 * 262144, 3 * 262144, 64), (4, 3, 64), (4, 3, 0.03125)),
    ],
)
def test_what_the_series_saves(align, map, before, after, dedup):
    path = next(p for p in LISTS if f"static-{align}-{map}.ndctl" in p.name)
    found = {
        saving.stage: (
            saving.pgmap_refs,
            saving.fault_writes,
            saving.backing.distinct_physical_bytes / MIB,
        )
        for saving in daxctl.savings(daxctl.read(path))
    }
    assert found == {"before": before, "after": after, "dedup": dedup}


# Soft reserved memory: several devices, several ranges


def cut():
    """Four devices in 8 GiB; dax0.2 has two ranges around dax0.1, dax0.3 has align 1 GiB."""
    bus = boot(cmdline="memmap=8G%4G-1+0xefffffff")
    hmem(bus)
    bus.unbind("dax0.0")
    bus.size_store("dax0.0", GIB)
    for _ in range(3):
        bus.create_store("1")
    bus.size_store("dax0.1", GIB)
    bus.size_store("dax0.0", 0)
    bus.size_store("dax0.2", 3 * GIB)
    bus.align_store("dax0.3", GIB)
    bus.size_store("dax0.3", 2 * GIB)
    for name in ("dax0.1", "dax0.2", "dax0.3"):
        bus.bind(name)
    return bus


def listed(bus, **options):
    return list_json(bus, regions=True, devices=True, mappings=True, **options)


def rebuilt(actions):
    """The bus that the actions make, done one by one."""
    first, *rest = actions
    (span,) = first["soft_reserved"]
    size = int(span["end"], 16) - int(span["start"], 16)
    bus = boot(cmdline=f"memmap={size}%{span['start']}-1+0xefffffff")
    hmem(bus)
    for action in rest:
        device = action.get("device")
        match action["op"]:
            case "unbind":
                assert bus.unbind(device)
            case "set_size":
                bus.size_store(device, action["size"])
            case "set_align":
                bus.align_store(device, action["align"])
            case "region_create":
                bus.create_store("1")
            case "add_range":
                bus.mapping_store(device, f"{action['start']}-{action['last']}")
            case "bind":
                bus.bind(device)
            case op:
                raise AssertionError(op)
    return bus


@pytest.mark.parametrize("human", [False, True])
def test_devices_of_several_ranges_are_rebuilt(human):
    bus = cut()
    listing = daxctl.parse(listed(bus, human=human))
    assert listed(rebuilt(daxctl.actions(listing))) == listed(bus)


def test_what_boots_as_listed_needs_no_cutting():
    bus = boot(cmdline="memmap=8G%4G-1+0xefffffff")
    hmem(bus)
    assert [action["op"] for action in daxctl.actions(daxctl.parse(listed(bus)))] == ["boot"]


def test_regions_are_numbered_as_a_boot_does_it():
    """Soft reserved memory listed as region 0 and 1, out of order, beside persistent memory listed as region 2."""
    pmem = json.loads((ROOT / "data" / "daxctl" / "k6.1-static-2M-mem.daxctl-list.json").read_text())[0]
    pmem["id"], pmem["devices"][0]["chardev"] = 2, "dax2.0"
    soft = [
        {
            "path": f"/platform/hmem.{id}",
            "id": id,
            "size": GIB,
            "align": 2 * MIB,
            "devices": [
                {
                    "chardev": f"dax{id}.0",
                    "size": GIB,
                    "align": GIB,
                    "mode": "system-ram",
                    "mappings": [{"page_offset": 0, "start": start, "end": start + GIB - 1, "size": GIB}],
                }
            ],
        }
        for id, start in ((0, 12 * GIB), (1, 8 * GIB))
    ]
    boot_action, *rest = daxctl.actions(daxctl.parse([*soft, pmem]))
    assert [span["start"] for span in boot_action["soft_reserved"]] == [hex(8 * GIB), hex(12 * GIB)]
    assert [span["start"] for span in boot_action["persistent_memory"]] == [hex(5 * GIB)]
    assert rest[0]["op"] == "create_namespace"
    assert [(a["device"], a["start"]) for a in rest if a["op"] == "add_range"] == [
        ("dax1.0", hex(8 * GIB)),
        ("dax2.0", hex(12 * GIB)),
    ]
    assert [(a["device"], a["driver"]) for a in rest if a["op"] == "bind"] == [("dax1.0", "kmem"), ("dax2.0", "kmem")]


def test_the_recorded_region_of_efi_fake_mem():
    capture = json.loads((ROOT / "data" / "captures" / "efi_fake_mem-stock" / "capture.json").read_text())
    (region,) = capture["actions"][0]["result"]["devices"]
    bus = boot(cmdline="efi_fake_mem=4G@4G:0x40000", efi=True)
    hmem(bus)
    (own,) = listed(bus)
    assert own.pop("path") == "/platform/hmem.0"
    assert own == region
    listing = daxctl.parse([region])
    assert listing.assumed == ("region 0 has no path: it is taken for soft reserved memory",)
    assert daxctl.actions(listing) == [
        {"op": "boot", "soft_reserved": [{"start": "0x100000000", "end": "0x200000000"}]}
    ]


def test_savings_of_several_ranges():
    found = {(s.device.name, s.stage): s for s in daxctl.savings(daxctl.parse(listed(cut())))}
    assert [found["dax0.2", stage].pgmap_refs for stage in ("before", "after", "dedup")] == [786432, 1536, 1536]
    assert [found["dax0.3", stage].pgmap_refs for stage in ("before", "after", "dedup")] == [524288, 2, 2]
    assert found["dax0.2", "after"].backing.distinct_physical_bytes == 48 * MIB


def test_a_device_in_system_ram_mode_has_no_devmap():
    row = {"chardev": "dax0.0", "size": GIB, "align": 2 * MIB, "mode": "system-ram"}
    listing = daxctl.parse([row])
    assert daxctl.savings(listing) == []
    assert any("does not concern it" in line for line in daxctl.report_lines(listing))


def test_list_options():
    bus = cut()
    assert [d["chardev"] for d in list_json(bus)] == ["dax0.1", "dax0.2", "dax0.3"]
    assert [d["chardev"] for d in list_json(bus, idle=True)] == ["dax0.0", "dax0.1", "dax0.2", "dax0.3"]
    assert list_json(bus, dev="dax0.3") == [
        {"chardev": "dax0.3", "size": 2 * GIB, "target_node": 0, "align": GIB, "mode": "devdax"}
    ]
    assert list_json(bus, region=0) == [
        {"path": "/platform/hmem.0", "id": 0, "size": 8 * GIB, "available_size": 2 * GIB, "align": 2 * MIB}
    ]
    assert list_json(bus, region=3) == []
    bus.unbind("dax0.3")
    (row,) = list_json(bus, dev="dax0.3", devices=True, mappings=True, human=True)
    assert row["state"] == "disabled"
    assert row["mappings"][0]["start"] == "0x200000000"


@pytest.mark.parametrize(
    "raw",
    [
        {},
        [],
        [1],
        "x",
        [{"chardev": "sda"}],
        [{"chardev": "dax0.0", "size": "1006 MiB"}],
        [{"chardev": "dax0.0", "size": -1}],
        [{"chardev": "dax0.0", "size": GIB, "align": 3}],
        [{"chardev": "dax0.0", "size": GIB, "mappings": [{"start": "x", "end": 1}]}],
        [{"id": 0, "path": "/ndbus0/x", "size": 3 * MIB, "devices": [{"chardev": "dax0.0", "size": 3 * MIB}]}],
        {"regions": [{"dev": "region0", "namespaces": [{"dev": "x", "mode": "devdax"}]}]},
        {"regions": [{"dev": "region0", "namespaces": [{"dev": "namespace0.0", "mode": "devdax"}]}]},
    ],
)
def test_what_is_no_listing_is_refused(raw, tmp_path):
    path = tmp_path / "list.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(WorkbenchError, match=r"list\.json|dax0\.0"):
        daxctl.report_json(daxctl.read(path))


NAMES = ("chardev", "dev", "id", "path", "size", "align", "mode", "map", "devices", "namespaces", "mappings", "regions")
VALUES = st.recursive(
    st.none()
    | st.integers(-1, 1 << 70)
    | st.sampled_from(("dax0.0", "namespace0.0", "region0", "/ndbus", "devdax", "2M")),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
@settings(max_examples=150)
def test_whatever_is_in_a_file_is_read_or_refused(raw):
    try:
        listing = daxctl.parse(raw)
        daxctl.report_json(listing)
        daxctl.report_lines(listing)
    except WorkbenchError:
        pass


def places(value):
    """Every container in a listing with a key of it."""
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from places(inner)


ODD = st.sampled_from((None, -1, 0, 3, 1 << 30, 1 << 70, "", "x", [], {}, [1], True, 1.5, "dax9.9", "0x100"))


@given(st.sampled_from(LISTS), st.data(), ODD)
@settings(max_examples=150)
def test_a_real_listing_with_one_value_changed_is_read_or_refused(path, data, odd):
    raw = json.loads(path.read_text())
    inside = list(places(raw))
    container, key = inside[data.draw(st.integers(0, len(inside) - 1))]
    container[key] = odd
    with suppress(WorkbenchError):
        daxctl.report_json(daxctl.parse(raw))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(WorkbenchError, match="daxctl list -DRM"):
        daxctl.read(tmp_path / "nowhere.json")
