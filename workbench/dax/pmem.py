# SPDX-License-Identifier: GPL-2.0-only
"""drivers/dax/pmem: a namespace in device-dax mode becomes a static region with one device.

::

    namespace0.1   |info block|   altmap    |              data                |
                   |<--- reserved by name -->|<------- region, dax0.1 -------->|
                   |<--------------------- range of the pgmap ---------------->|
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from workbench.abi.constants import PAGE_SHIFT
from workbench.dax.bus import DaxBus
from workbench.dax.region import DaxRegion, DevDax, RegionFlags
from workbench.errors import WorkbenchError
from workbench.mm import Altmap
from workbench.mm.memremap import DevPagemap
from workbench.mm.resource import devm_request_mem_region, release_region


class Layout(Protocol):
    """What the info block of a namespace says: :class:`workbench.nvdimm.NdPfn`."""

    @property
    def start_pfn(self) -> int:
        """First pfn of the namespace."""

    @property
    def nr_pages(self) -> int:
        """Pages of the pgmap's range."""

    @property
    def dataoff(self) -> int:
        """Bytes before the data."""

    @property
    def dev_size(self) -> int:
        """Bytes of data."""

    @property
    def altmap(self) -> Altmap | None:
        """Storage for struct pages in the namespace."""


@dataclass(frozen=True)
class DaxPmem:
    """A namespace that dax_pmem has.

    Attributes
    ----------
    name : str
        Of the namespace.
    layout : Layout
    device : DevDax
    """

    name: str
    layout: Layout
    device: DevDax


def dax_pmem_probe(
    bus: DaxBus, layout: Layout, align: int, region_id: int = 0, id: int = 0, target_node: int = 0
) -> DaxPmem:
    """Reserve the metadata, make the region and its device.

    Parameters
    ----------
    bus : DaxBus
    layout : Layout
        Where metadata and data lie.
    align : int
        Bytes, of the device.
    region_id, id : int
        Both numbers of ``namespaceR.N``; the device is ``daxR.N``.
    target_node : int

    Raises
    ------
    WorkbenchError
        EBUSY: somebody has a part of the metadata.  ENOMEM: the data are not made of whole units of align.
        Nothing changes.  A failed probe of the device itself leaves it without driver and is not told.

    Kernel
    ------
    drivers/dax/pmem.c, __dax_pmem_probe(), 5.10 to 6.12.
    """
    name = f"namespace{region_id}.{id}"
    start = layout.start_pfn << PAGE_SHIFT
    data = start + layout.dataoff
    iomem = bus.zone_device.iomem
    devm_request_mem_region(iomem, start, layout.dataoff, name)
    try:
        region = bus.add_region(DaxRegion(region_id, data, layout.dev_size, align, target_node, RegionFlags.STATIC))
        pgmap = DevPagemap(
            bus.zone_device.new_address(),
            ((layout.start_pfn, layout.nr_pages),),
            altmap=layout.altmap and replace(layout.altmap),
        )
        device = bus.create_dev_dax(region, layout.dev_size, id=id, pgmap=pgmap)
    except WorkbenchError:
        release_region(iomem, start, layout.dataoff)
        raise
    return DaxPmem(name, layout, device)


def dax_pmem_remove(bus: DaxBus, pmem: DaxPmem) -> None:
    """Take device and region away, and give the metadata back.

    Raises
    ------
    WorkbenchError
        The device's unbind waits for held pages (5.10 to 5.17), see
        :meth:`workbench.dax.bus.DaxBus.remove_region`.
    """
    bus.remove_region(pmem.device.region)
    release_region(bus.zone_device.iomem, pmem.layout.start_pfn << PAGE_SHIFT, pmem.layout.dataoff)
