# SPDX-License-Identifier: GPL-2.0-only
"""What a struct page *is*, per release: words, members, flag bits, constants.  Data; knows nothing else."""

from workbench.abi.abi import Abi
from workbench.abi.config import DISTRIBUTION, DISTRIBUTION_6_12, SMALL_6_1, BitField, Config
from workbench.abi.layout import RELEASES, STRUCT_PAGE_BYTES, VMEM_ALTMAP, WORDS, Field, Role, StructLayout, dev_pagemap

__all__ = [
    "DISTRIBUTION",
    "DISTRIBUTION_6_12",
    "RELEASES",
    "SMALL_6_1",
    "STRUCT_PAGE_BYTES",
    "VMEM_ALTMAP",
    "WORDS",
    "Abi",
    "BitField",
    "Config",
    "Field",
    "Role",
    "StructLayout",
    "dev_pagemap",
]
