# SPDX-License-Identifier: GPL-2.0-only
"""``efi_fake_mem=nn@ss:attr``: attributes the firmware did not give, to try soft reserved memory out.

Two hooks act on the option.  The early one changes the e820 table, before memory is handed to anybody;
only it makes soft reserved memory.  The late one splits the EFI descriptors and is what user space sees
in /sys/firmware/efi.  Present from 5.10 to 6.1 here, absent from 6.12.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from workbench.abi.constants import PAGE_SHIFT
from workbench.firmware.cmdline import memparse, simple_strtoull
from workbench.firmware.e820 import E820Table, E820Type
from workbench.firmware.efi import EFI_MEMORY_SP, EfiMemoryDescriptor, EfiMemoryType

EFI_MAX_FAKEMEM = 8
"""Ranges the option can name (CONFIG_EFI_MAX_FAKE_MEM, its default)."""


@dataclass(frozen=True)
class FakeMem:
    """One ``nn@ss:attr``.

    Attributes
    ----------
    start, size : int
        Bytes.
    attribute : int
        EFI_MEMORY_* bits to set.
    """

    start: int
    size: int
    attribute: int

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.start + self.size

    def __str__(self) -> str:
        return f"add attr={self.attribute:#018x} to [mem {self.start:#018x}-{self.end - 1:#018x}]"


def parse_efi_fake_mem(value: str) -> list[FakeMem]:
    """The ranges of the option, by address.

    What cannot be read ends the list: the ranges before it count, as in the kernel, and those beyond
    the eighth do not.

    Kernel
    ------
    drivers/firmware/efi/fake_mem.c, setup_fake_mem(), 5.10 to 6.1.

    Examples
    --------
    >>> [str(fake) for fake in parse_efi_fake_mem("4G@4G:0x40000")]
    ['add attr=0x0000000000040000 to [mem 0x0000000100000000-0x00000001ffffffff]']
    """
    fakes: list[FakeMem] = []
    while value and len(fakes) < EFI_MAX_FAKEMEM:
        size, rest = memparse(value)
        if not rest.startswith("@"):
            break
        start, rest = memparse(rest[1:])
        if not rest.startswith(":"):
            break
        attribute, rest = simple_strtoull(rest[1:])
        fakes.append(FakeMem(start, size, attribute))
        value = rest.removeprefix(",")
    return sorted(fakes, key=lambda fake: fake.start)


def efi_fake_memmap_early(table: E820Table, memmap: Iterable[EfiMemoryDescriptor], fakes: Iterable[FakeMem]) -> None:
    """Turn RAM that an option marks EFI_MEMORY_SP into soft reserved memory.

    Only where a conventional descriptor lies, and only what the table calls RAM.

    Kernel
    ------
    arch/x86/platform/efi/fake_mem.c (5.10: drivers/firmware/efi/x86_fake_mem.c), efi_fake_memmap_early().
    """
    descriptors = list(memmap)
    for fake in fakes:
        if not fake.attribute & EFI_MEMORY_SP:
            continue
        for descriptor in descriptors:
            start, end = max(descriptor.phys_addr, fake.start), min(descriptor.end, fake.end)
            if descriptor.type == EfiMemoryType.CONVENTIONAL_MEMORY and start < end:
                table.range_update(start, end - start, E820Type.RAM, E820Type.SOFT_RESERVED)
    table.update_table()


def efi_fake_memmap(memmap: Iterable[EfiMemoryDescriptor], fakes: Iterable[FakeMem]) -> list[EfiMemoryDescriptor]:
    """Split descriptors at the borders of the fake ranges and add the attributes.

    Kernel
    ------
    drivers/firmware/efi/memmap.c, efi_memmap_insert(); fake_mem.c, efi_fake_memmap().
    """
    descriptors = list(memmap)
    for fake in fakes:
        descriptors = [part for descriptor in descriptors for part in _split(descriptor, fake)]
    return descriptors


def _split(descriptor: EfiMemoryDescriptor, fake: FakeMem) -> list[EfiMemoryDescriptor]:
    """A descriptor before, inside and after a fake range; empty parts left out."""
    low = min(max(descriptor.phys_addr, fake.start), descriptor.end)
    high = max(min(descriptor.end, fake.end), low)
    marked = descriptor.attribute | fake.attribute
    parts = (
        (descriptor.phys_addr, low, descriptor.attribute),
        (low, high, marked),
        (high, descriptor.end, descriptor.attribute),
    )
    return [
        replace(descriptor, phys_addr=start, num_pages=(end - start) >> PAGE_SHIFT, attribute=attribute)
        for start, end, attribute in parts
        if start < end
    ]
