# SPDX-License-Identifier: GPL-2.0-only
"""drivers/dax/hmem: soft reserved memory becomes regions of dax devices.

``Soft Reserved`` in /proc/iomem -> platform device ``hmem.N`` over it -> dax region N, dynamic, align
2 MiB -> one device that has all of it.  A range that is not made of whole 2 MiB gets an ``hmem.N`` and no
region.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from workbench.abi.constants import PMD_SIZE
from workbench.dax.bus import DaxBus
from workbench.dax.region import DaxRegion, DevDax, RegionFlags
from workbench.errors import WorkbenchError
from workbench.mm.resource import Desc, Flags, Resource, insert_resource


@dataclass(frozen=True)
class HmemDevice:
    """A platform device ``hmem.N``.

    Attributes
    ----------
    id : int
    start, size : int
        Bytes.
    target_node : int
    """

    id: int
    start: int
    size: int
    target_node: int = 0

    @property
    def name(self) -> str:
        """``hmem.0``."""
        return f"hmem.{self.id}"


def soft_reserved(iomem: Resource) -> Iterator[Resource]:
    """Every soft reserved range, by address (walk_iomem_res_desc())."""
    return (found for _, found in iomem.walk() if found.desc is Desc.SOFT_RESERVED and Flags.BUSY not in found.flags)


def hmem_init(iomem: Resource, memregion_alloc: Callable[[], int], target_node: int = 0) -> list[HmemDevice]:
    """Register a platform device for each soft reserved range.

    Parameters
    ----------
    iomem : Resource
    memregion_alloc : callable
        Gives the next region id; regions of persistent memory take theirs from the same numbers.
    target_node : int
        The node whose memory it would be.

    Kernel
    ------
    drivers/dax/hmem/device.c, hmem_init() and hmem_register_device(), 5.10 to 6.12.
    """
    devices = []
    for found in list(soft_reserved(iomem)):
        device = HmemDevice(memregion_alloc(), found.start, found.size, target_node)
        insert_resource(iomem, Resource(found.start, found.end, device.name, desc=Desc.SOFT_RESERVED))
        devices.append(device)
    return devices


def dax_hmem_probe(bus: DaxBus, device: HmemDevice, *, region_idle: bool = False) -> DevDax:
    """Make the region and its first device.

    Parameters
    ----------
    bus : DaxBus
    device : HmemDevice
    region_idle : bool
        The module's parameter: the first device begins empty.

    Raises
    ------
    WorkbenchError
        ENOMEM: the range is not made of whole 2 MiB.  Nothing changes.

    Kernel
    ------
    drivers/dax/hmem/hmem.c, dax_hmem_probe(), 5.10 to 6.12.  From 6.3 on the devices are meant for kmem.
    """
    flags = RegionFlags.KMEM if bus.tree.base == "6.12" else RegionFlags.DYNAMIC
    try:
        region = DaxRegion(device.id, device.start, device.size, PMD_SIZE, device.target_node, flags)
    except WorkbenchError as refused:
        raise WorkbenchError(
            f"{device.name}: no dax region over {device.start:#x}-{device.start + device.size - 1:#x}: {refused} "
            "Soft-reserve whole 2 MiB.",
            errno.ENOMEM,
        ) from refused
    bus.add_region(region)
    return bus.create_dev_dax(region, 0 if region_idle else region.size)
