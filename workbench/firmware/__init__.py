# SPDX-License-Identifier: GPL-2.0-only
"""What firmware says about memory, what the command line makes of it, and what the kernel boots with.

``EFI descriptors or a BIOS table -> e820 table -> memmap=, efi_fake_mem= -> /proc/iomem``; the ranges
marked Soft Reserved there are what device-dax later makes regions of.
"""

from workbench.firmware.e820 import E820Entry, E820Table, E820Type
from workbench.firmware.efi import EFI_MEMORY_SP, EFI_MEMORY_WB, EfiMemoryDescriptor, EfiMemoryType
from workbench.firmware.efi_fake_mem import FakeMem, parse_efi_fake_mem
from workbench.firmware.iomem import iomem_tree
from workbench.firmware.setup import BootMemory, Firmware, setup_arch

__all__ = [
    "EFI_MEMORY_SP",
    "EFI_MEMORY_WB",
    "BootMemory",
    "E820Entry",
    "E820Table",
    "E820Type",
    "EfiMemoryDescriptor",
    "EfiMemoryType",
    "FakeMem",
    "Firmware",
    "iomem_tree",
    "parse_efi_fake_mem",
    "setup_arch",
]
