# SPDX-License-Identifier: GPL-2.0-only
"""The kmem driver: a device's memory becomes System RAM, and is no device memory any more.

* No pgmap, no ZONE_DEVICE, no compound pages: the page allocator has the pages, in whole memory blocks.
* While a block is online the memory cannot be taken back: unbinding lets the driver go and leaves the
  memory where it is, reserved for good.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from workbench import text
from workbench.dax.region import DaxRange, DevDax
from workbench.errors import WorkbenchError
from workbench.mm.resource import (
    SYSTEM_RAM,
    Flags,
    Resource,
    devm_request_mem_region,
    insert_resource,
    release_resource,
)

MEMORY_BLOCK_SIZE = 128 << 20
"""Bytes of a memory block of a machine with less than 64 GiB (memory_block_size_bytes() on x86)."""

RAM_NAME = "System RAM (kmem)"


@dataclass(eq=False)
class KmemData:
    """struct dax_kmem_data: what the driver keeps of a device.

    Attributes
    ----------
    resources : list of Resource
        One for each range that became memory.
    online : bool
        The page allocator uses the memory.
    """

    resources: list[Resource] = field(default_factory=list)
    online: bool = False


def dax_kmem_range(dax_range: DaxRange) -> tuple[int, int] | None:
    """Start and bytes of the whole memory blocks in a range; None where there is none.

    Kernel: drivers/dax/kmem.c, ``dax_kmem_range()``.
    """
    start = -(-dax_range.start // MEMORY_BLOCK_SIZE) * MEMORY_BLOCK_SIZE
    end = (dax_range.end + 1) // MEMORY_BLOCK_SIZE * MEMORY_BLOCK_SIZE
    return (start, end - start) if start < end else None


def dev_dax_kmem_probe(dev_dax: DevDax, iomem: Resource, base: str, *, online: bool = True) -> KmemData:
    """Make System RAM of a device's memory.

    Kernel: drivers/dax/kmem.c, ``dev_dax_kmem_probe()``, 5.10 to 6.12.

    Parameters
    ----------
    dev_dax : DevDax
    iomem : Resource
    base : str
        The release.
    online : bool
        New memory goes online by itself.

    Raises
    ------
    WorkbenchError
        EINVAL: no node is known for the memory; no whole memory block in it (5.15 and later).  EBUSY: another
        driver has a part of the first range; later ranges that cannot be had are left out.
    """
    if dev_dax.target_node < 0:
        raise WorkbenchError(
            f"{dev_dax.name}: rejecting DAX region with invalid node {dev_dax.target_node}. Use a region that "
            "firmware gave a node.",
            errno.EINVAL,
        )
    blocks = [found for found in map(dax_kmem_range, dev_dax.ranges) if found]
    if not blocks and base != "5.10":
        raise WorkbenchError(
            f"{dev_dax.name}: rejecting DAX region without any memory after alignment to "
            f"{text.size(MEMORY_BLOCK_SIZE)}. Make it larger.",
            errno.EINVAL,
        )
    data = KmemData(online=online)
    for start, size in blocks:
        try:
            resource = devm_request_mem_region(iomem, start, size, dev_dax.name)
        except WorkbenchError:
            if not data.resources:
                raise
            continue
        resource.flags = SYSTEM_RAM
        ram = Resource(start, start + size - 1, RAM_NAME, SYSTEM_RAM | Flags.BUSY | Flags.SYSRAM_DRIVER_MANAGED)
        insert_resource(resource, ram)
        data.resources.append(resource)
    return data


def dev_dax_kmem_remove(data: KmemData) -> bool:
    """Take the memory back from the page allocator, where it is offline.

    Kernel: drivers/dax/kmem.c, ``dev_dax_kmem_remove()``.

    Returns
    -------
    bool
        False where it is online: it stays System RAM ("hotremove failed"), and nobody can have it again.
    """
    if data.online:
        return False
    for resource in data.resources:
        release_resource(resource)
    return True
