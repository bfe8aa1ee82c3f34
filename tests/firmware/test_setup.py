# SPDX-License-Identifier: GPL-2.0-only
"""From firmware and a command line to /proc/iomem: EFI attributes, fake ones, the order of setup_arch()."""

import json
from pathlib import Path

import pytest

from workbench.firmware import (
    EFI_MEMORY_SP,
    EFI_MEMORY_WB,
    E820Entry,
    E820Type,
    EfiMemoryDescriptor,
    EfiMemoryType,
    Firmware,
    iomem_tree,
    parse_efi_fake_mem,
    setup_arch,
)

GIB = 1 << 30
CAPTURES = Path(__file__).resolve().parents[2] / "data" / "captures"
SOFT = E820Type.SOFT_RESERVED


def conventional(start, end, attribute=EFI_MEMORY_WB):
    return EfiMemoryDescriptor(EfiMemoryType.CONVENTIONAL_MEMORY, start, (end - start) >> 12, attribute)


def record(name):
    return json.loads((CAPTURES / name / "capture.json").read_text())


def recorded_map(capture):
    return [(int(r["start"], 16), int(r["end"], 16), r["name"], r["depth"]) for r in capture["machine"]["memory_map"]]


_EFI_TYPES = {
    "System RAM": EfiMemoryType.CONVENTIONAL_MEMORY,
    "Soft Reserved": EfiMemoryType.CONVENTIONAL_MEMORY,  # only the option made it so
    "Reserved": EfiMemoryType.RESERVED_TYPE,
    "ACPI Non-volatile Storage": EfiMemoryType.ACPI_MEMORY_NVS,
    "ACPI Tables": EfiMemoryType.ACPI_RECLAIM_MEMORY,
}
_E820_TYPES = {"System RAM": E820Type.RAM, "Soft Reserved": E820Type.RAM, "Reserved": E820Type.RESERVED}
_LATER = ("hmem.0", "dax0.0")
"""What drivers add after boot."""


def efi_machine(capture):
    """Firmware that a recorded boot may have had, and the devices' windows."""
    rows = recorded_map(capture)
    memory = [
        EfiMemoryDescriptor(_EFI_TYPES[name], start, (end - start) >> 12)
        for start, end, name, _ in rows
        if name in _EFI_TYPES
    ]
    devices = [(start, end, name) for start, end, name, _ in rows if name not in (*_EFI_TYPES, *_LATER)]
    return Firmware.from_efi(memory), devices


def seen(iomem):
    return [(r.start, r.end + 1, r.name) for _, r in iomem.walk()]


def test_efi_fake_mem_boots_into_the_recorded_memory_map():
    capture = record("efi_fake_mem-stock")
    firmware, devices = efi_machine(capture)
    boot = setup_arch(firmware, capture["kernel"]["cmdline"], "6.1")
    iomem = iomem_tree(boot.e820, devices)
    expected = sorted(row for *row, _ in recorded_map(capture) if row[2] not in _LATER)
    assert sorted(map(list, seen(iomem))) == expected
    assert boot.ranges(SOFT) == [(0x100000000, 0x200000000)]
    assert capture["kernel_log"][1] in boot.log


def test_efi_fake_mem_was_broken_by_8aa83e6395():
    capture = record("efi_fake_mem-stock")
    firmware, devices = efi_machine(capture)
    broken = setup_arch(firmware, capture["kernel"]["cmdline"], "6.1", early_reserve_memory_first=True)
    assert broken.ranges(SOFT) == []
    assert (0x100000000, 0x2C0000000, "System RAM") in seen(iomem_tree(broken.e820, devices))
    # The option is read, and the descriptors that user space sees carry the attribute: only memory does not.
    assert capture["kernel_log"][1] in broken.log
    assert [(d.phys_addr, d.end) for d in broken.efi if d.attribute & EFI_MEMORY_SP] == [(0x100000000, 0x200000000)]


@pytest.mark.parametrize("name", ["k6.1-dynamic", "k5.17-index-2M", "k5.15-index-2M"])
def test_memmap_boots_into_the_recorded_memory_map(name):
    capture = record(name)
    rows = recorded_map(capture)
    memory = [E820Entry(a, b - a, _E820_TYPES[name]) for a, b, name, _ in rows if name in _E820_TYPES]
    devices = [(a, b, name) for a, b, name, _ in rows if name not in (*_E820_TYPES, *_LATER)]
    boot = setup_arch(Firmware.from_e820(memory), capture["kernel"]["cmdline"])
    expected = sorted(row for *row, _ in rows if row[2] not in _LATER)
    assert sorted(map(list, seen(iomem_tree(boot.e820, devices)))) == expected
    assert boot.ranges(SOFT) == [(0x100000000, 0x300000000)]


def test_the_example_of_the_2020_test_script():
    """efi_fake_mem=8G@9G:0x40000 marks 0x240000000-0x43fffffff."""
    firmware = Firmware.from_efi([conventional(0, 32 * GIB)])
    boot = setup_arch(firmware, "efi_fake_mem=8G@9G:0x40000")
    assert boot.ranges(SOFT) == [(0x240000000, 0x440000000)]
    assert [(d.phys_addr, d.end, bool(d.attribute & EFI_MEMORY_SP)) for d in boot.efi] == [
        (0, 0x240000000, False),
        (0x240000000, 0x440000000, True),
        (0x440000000, 32 * GIB, False),
    ]


@pytest.mark.parametrize("first", [False, True])
def test_a_descriptor_of_the_firmware_is_soft_reserved_in_either_order(first):
    firmware = Firmware.from_efi(
        [conventional(0, 4 * GIB), conventional(4 * GIB, 8 * GIB, EFI_MEMORY_WB | EFI_MEMORY_SP)]
    )
    boot = setup_arch(firmware, early_reserve_memory_first=first)
    assert boot.ranges(SOFT) == [(4 * GIB, 8 * GIB)]


def test_nosoftreserve_is_ignored_with_8aa83e6395():
    firmware = Firmware.from_efi([conventional(0, 4 * GIB), conventional(4 * GIB, 8 * GIB, 0x8 | EFI_MEMORY_SP)])
    assert setup_arch(firmware, "efi=debug,nosoftreserve").ranges(SOFT) == []
    assert setup_arch(firmware, "efi=debug,nosoftreserve").ranges(E820Type.RAM) == [(0, 8 * GIB)]
    broken = setup_arch(firmware, "efi=debug,nosoftreserve", early_reserve_memory_first=True)
    assert broken.ranges(SOFT) == [(4 * GIB, 8 * GIB)]


def test_nosoftreserve_switches_the_fake_attribute_off():
    firmware = Firmware.plain([(0, 8 * GIB)], efi=True)
    assert setup_arch(firmware, "efi=nosoftreserve efi_fake_mem=1G@4G:0x40000").ranges(SOFT) == []


@pytest.mark.parametrize(
    ("firmware", "cmdline", "release"),
    [
        (Firmware.plain([(0, 8 * GIB)]), "efi_fake_mem=1G@4G:0x40000", "6.1"),  # no EFI memory map
        (Firmware.plain([(0, 8 * GIB)], efi=True), "efi_fake_mem=1G@4G:0x10000", "6.1"),  # more reliable, not special
        (Firmware.plain([(0, 8 * GIB)], efi=True), "efi_fake_mem=1G@4G:0x40000", "6.12"),  # the option is gone
        (Firmware.plain([(0, 8 * GIB)], efi=True), "efi_fake_mem=1G@16G:0x40000", "6.1"),  # no memory there
        (Firmware.plain([(0, 8 * GIB)], efi=True), "efi_fake_mem=1G", "6.1"),
    ],
)
def test_what_does_not_make_soft_reserved_memory(firmware, cmdline, release):
    assert setup_arch(firmware, cmdline, release).ranges(SOFT) == []


def test_only_conventional_memory_is_marked():
    loader = EfiMemoryDescriptor(EfiMemoryType.LOADER_DATA, 5 * GIB, GIB >> 12)
    firmware = Firmware.from_efi([conventional(4 * GIB, 5 * GIB), loader, conventional(6 * GIB, 8 * GIB)])
    boot = setup_arch(firmware, "efi_fake_mem=4G@4G:0x40000")
    assert boot.ranges(SOFT) == [(4 * GIB, 5 * GIB), (6 * GIB, 8 * GIB)]
    assert boot.ranges(E820Type.RAM) == [(5 * GIB, 6 * GIB)]


def test_fake_ranges_are_read_until_the_first_fault_and_eight_at_most():
    assert [(f.start, f.size) for f in parse_efi_fake_mem("1G@8G:1,2G@4G:0x40000,junk")] == [
        (4 * GIB, 2 * GIB),
        (8 * GIB, GIB),
    ]
    assert len(parse_efi_fake_mem(",".join(f"1M@{n}M:1" for n in range(12)))) == 8
    assert parse_efi_fake_mem("1G") == parse_efi_fake_mem("1G@4G") == []


def test_a_malformed_memmap_is_logged_and_the_boot_goes_on():
    boot = setup_arch(Firmware.plain([(0, 8 * GIB)]), "memmap=junk memmap=1G%4G-1+0xefffffff")
    assert boot.ranges(SOFT) == [(4 * GIB, 5 * GIB)]
    assert [line for line in boot.log if line.startswith("Malformed early option 'memmap'")]


def test_a_reserved_range_grows_over_what_it_would_cut():
    """
    device          |--------|
    reserved  |--------|          becomes  |---------------| with the device in it
    """
    boot = setup_arch(Firmware.from_e820([E820Entry(0x10000000, 0x2000000, E820Type.RESERVED)]))
    iomem = iomem_tree(boot.e820, [(0x11000000, 0x13000000, "device")])
    assert iomem.text().splitlines() == ["10000000-12ffffff : Reserved", "  11000000-12ffffff : device"]


def test_the_first_mebibyte_is_busy_whatever_it_is():
    boot = setup_arch(Firmware.from_e820([E820Entry(0, 0x1000, 2), E820Entry(0x100000, 0x1000, 2)]))
    assert [child.busy for child in iomem_tree(boot.e820).children] == [True, False]
