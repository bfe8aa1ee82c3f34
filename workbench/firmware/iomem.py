# SPDX-License-Identifier: GPL-2.0-only
"""From the e820 table to /proc/iomem.

RAM and ACPI memory are busy from the start: no driver gets a part of them.  Reserved, soft reserved and
persistent memory above 1 MiB are left to drivers and enter the tree after the devices' own windows.
"""

from __future__ import annotations

from collections.abc import Iterable

from workbench.firmware.e820 import E820Entry, E820Table, E820Type
from workbench.mm.resource import (
    SYSTEM_RAM,
    Flags,
    Resource,
    insert_resource,
    iomem_resource,
    request_resource,
)

_LEFT_TO_DRIVERS = (E820Type.RESERVED, E820Type.SOFT_RESERVED, E820Type.PRAM, E820Type.PMEM)


def do_mark_busy(entry: E820Entry) -> bool:
    """Whether an entry's resource is busy from the start.

    Kernel
    ------
    arch/x86/kernel/e820.c, do_mark_busy(), 5.10 to 6.12.
    """
    return entry.start < 1 << 20 or entry.type not in _LEFT_TO_DRIVERS


def insert_resource_expand_to_fit(root: Resource, new: Resource) -> None:
    """Insert ``new``, made larger where it would cut through another.

    Kernel
    ------
    kernel/resource.c, insert_resource_expand_to_fit().
    """
    while insert_resource(root, new):
        cut = next((old for _, old in root.walk() if _straddle(old, new)), None)
        if cut is None:
            return
        new.start, new.end = min(new.start, cut.start), max(new.end, cut.end)


def _straddle(one: Resource, other: Resource) -> bool:
    """Whether two ranges overlap and neither holds the other."""
    first, second = sorted((one, other), key=lambda r: (r.start, -r.end))
    return first.end >= second.start and first.start < second.start and first.end < second.end


def iomem_tree(table: E820Table, platform: Iterable[tuple[int, int, str]] = ()) -> Resource:
    """The resources of a boot.

    Parameters
    ----------
    table : E820Table
        Sanitised.
    platform : iterable of (int, int, str)
        Windows and devices that firmware's memory map does not tell of: start, end (exclusive), name.
        Each goes inside what holds it, over what it holds.

    Returns
    -------
    Resource
        The root.  A reserved range that straddles the border of another resource grows over it.

    Kernel
    ------
    arch/x86/kernel/e820.c, e820__reserve_resources() and e820__reserve_resources_late().
    """
    iomem = iomem_resource()
    busy = [entry for entry in table if do_mark_busy(entry)]
    late = [entry for entry in table if not do_mark_busy(entry)]
    for entry in busy:
        request_resource(iomem, _resource(entry, busy=True))
    for start, end, name in platform:
        insert_resource(iomem, Resource(start, end - 1, name))
    for entry in late:
        insert_resource_expand_to_fit(iomem, _resource(entry, busy=False))
    return iomem


def _resource(entry: E820Entry, busy: bool) -> Resource:
    flags = SYSTEM_RAM if entry.type == E820Type.RAM else Flags.MEM
    return Resource(entry.start, entry.end - 1, entry.name, flags | Flags.BUSY if busy else flags, entry.desc)
