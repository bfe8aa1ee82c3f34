# SPDX-License-Identifier: GPL-2.0-only
"""EFI memory descriptors and the e820 types the kernel gives them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from workbench.abi.constants import PAGE_SHIFT
from workbench.firmware.e820 import E820Entry, E820Table, E820Type

EFI_MEMORY_WB = 0x8
"""The memory can be cached write-back."""
EFI_MEMORY_SP = 0x40000
"""Specific purpose: a hint to keep the memory from general use (UEFI 2.8)."""


class EfiMemoryType(IntEnum):
    """EFI memory types (UEFI, GetMemoryMap())."""

    RESERVED_TYPE = 0
    LOADER_CODE = 1
    LOADER_DATA = 2
    BOOT_SERVICES_CODE = 3
    BOOT_SERVICES_DATA = 4
    RUNTIME_SERVICES_CODE = 5
    RUNTIME_SERVICES_DATA = 6
    CONVENTIONAL_MEMORY = 7
    UNUSABLE_MEMORY = 8
    ACPI_RECLAIM_MEMORY = 9
    ACPI_MEMORY_NVS = 10
    MEMORY_MAPPED_IO = 11
    MEMORY_MAPPED_IO_PORT_SPACE = 12
    PAL_CODE = 13
    PERSISTENT_MEMORY = 14


_USABLE = (
    EfiMemoryType.LOADER_CODE,
    EfiMemoryType.LOADER_DATA,
    EfiMemoryType.BOOT_SERVICES_CODE,
    EfiMemoryType.BOOT_SERVICES_DATA,
    EfiMemoryType.CONVENTIONAL_MEMORY,
)
_OTHER = {
    EfiMemoryType.UNUSABLE_MEMORY: E820Type.UNUSABLE,
    EfiMemoryType.ACPI_RECLAIM_MEMORY: E820Type.ACPI,
    EfiMemoryType.ACPI_MEMORY_NVS: E820Type.NVS,
    EfiMemoryType.PERSISTENT_MEMORY: E820Type.PMEM,
}


@dataclass(frozen=True)
class EfiMemoryDescriptor:
    """A range of the firmware's memory map (efi_memory_desc_t).

    Attributes
    ----------
    type : EfiMemoryType
    phys_addr : int
        Bytes.
    num_pages : int
        Pages of 4 KiB.
    attribute : int
        EFI_MEMORY_* bits.
    """

    type: EfiMemoryType
    phys_addr: int
    num_pages: int
    attribute: int = EFI_MEMORY_WB

    @property
    def size(self) -> int:
        """Bytes."""
        return self.num_pages << PAGE_SHIFT

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.phys_addr + self.size

    @property
    def is_soft_reserved(self) -> bool:
        """Ordinary memory that firmware wants kept for a purpose."""
        return self.type == EfiMemoryType.CONVENTIONAL_MEMORY and bool(self.attribute & EFI_MEMORY_SP)

    def e820(self, soft_reserve: bool, from_kernel: bool) -> E820Entry:
        """The e820 entry of this range.

        Parameters
        ----------
        soft_reserve : bool
            Whether EFI_MEMORY_SP is heeded: ``efi=nosoftreserve`` says no.
        from_kernel : bool
            The kernel itself calls memory that cannot be write-back reserved; its boot stub does not ask.

        Kernel
        ------
        arch/x86/platform/efi/efi.c, do_add_efi_memmap(); drivers/firmware/efi/libstub/x86-stub.c,
        setup_e820(), 5.10 to 6.12.
        """
        if self.type not in _USABLE:
            kind = _OTHER.get(self.type, E820Type.RESERVED)
        elif soft_reserve and self.attribute & EFI_MEMORY_SP:
            kind = E820Type.SOFT_RESERVED
        elif from_kernel and not self.attribute & EFI_MEMORY_WB:
            kind = E820Type.RESERVED
        else:
            kind = E820Type.RAM
        return E820Entry(self.phys_addr, self.size, kind)


def setup_e820(memmap: Iterable[EfiMemoryDescriptor], soft_reserve: bool) -> list[E820Entry]:
    """The table that the EFI boot stub hands to the kernel."""
    return [descriptor.e820(soft_reserve, from_kernel=False) for descriptor in memmap]


def do_add_efi_memmap(table: E820Table, memmap: Iterable[EfiMemoryDescriptor], soft_reserve: bool) -> None:
    """Add the firmware's own map to the table the kernel was handed."""
    table.entries += [descriptor.e820(soft_reserve, from_kernel=True) for descriptor in memmap]
    table.update_table()
