# SPDX-License-Identifier: GPL-2.0-only
"""Devices that are small enough to look at page by page, and slow, obvious counts of them."""

from __future__ import annotations

import numpy as np

from workbench.mm import Altmap, DevPagemap, PageArray
from workbench.mm.memremap import pagemap_range
from workbench.series import kernel

START = 0x100000
SECTION = 32768
PGMAP = 0xFFFF_8881_00A0_1000


def filled(name: str, nr_pages: int, shift: int = 9, start: int = START, altmap: Altmap | None = None) -> PageArray:
    """The struct pages of one device."""
    array = PageArray(kernel(name), start, nr_pages)
    pagemap_range(array, DevPagemap(PGMAP, ((start, nr_pages),), shift, altmap), 0)
    return array


def roles_one_by_one(array: PageArray, start: int, end: int) -> list[str]:
    """The role of each page, asked one struct page at a time."""
    rows = array.view(start, end - start).tolist()
    return [str(array.kernel.abi.role(row, start + k)) for k, row in enumerate(rows)]


def refcount_of(row: np.ndarray) -> int:
    """_refcount: the four bytes at offset 52."""
    return int.from_bytes(row.tobytes()[52:56], "little", signed=True)
