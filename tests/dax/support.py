# SPDX-License-Identifier: GPL-2.0-only
"""The recorded machine: soft-reserved memory from 4 to 12 GiB, one dynamic region over it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import numpy as np
import pytest

from workbench.dax.bus import DaxBus, DaxRegion, RegionFlags
from workbench.errors import WorkbenchError
from workbench.mm import PageArray
from workbench.mm.memremap import ZoneDevice
from workbench.mm.resource import Desc, Resource, insert_resource, iomem_resource
from workbench.series import Kernel, kernel

START, SIZE = 0x100000000, 8 << 30
START_PFN = START >> 12
G, M = 1 << 30, 1 << 20


def machine(name: str | Kernel = "6.1", **options) -> DaxBus:
    """A machine's dax bus, without a region; ``options`` as ZoneDevice takes them."""
    k = kernel(name) if isinstance(name, str) else name
    iomem = iomem_resource()
    insert_resource(iomem, Resource(START, START + SIZE - 1, "Soft Reserved", desc=Desc.SOFT_RESERVED))
    insert_resource(iomem, Resource(START, START + SIZE - 1, "hmem.0"))
    addresses = count(0xFFFF888100000000, 256)
    zone_device = ZoneDevice(PageArray(k, START_PFN, SIZE >> 12), iomem, lambda: next(addresses), **options)
    return DaxBus(zone_device)


def boot(name: str | Kernel = "6.1", size: int = SIZE, **options) -> DaxBus:
    """The machine after boot: region 0 with dax0.0, of ``size`` bytes."""
    bus = machine(name, **options)
    flags = RegionFlags.KMEM if bus.tree.base == "6.12" else RegionFlags.DYNAMIC
    bus.create_dev_dax(bus.add_region(DaxRegion(0, START, SIZE, flags=flags)), size)
    return bus


def create(bus: DaxBus, size: int, align: int = 2 * M, bind: bool = True) -> str:
    """A device as daxctl makes one: create, align, size, bind."""
    name = bus.create_store().name
    bus.align_store(name, align)
    bus.size_store(name, size)
    if bind:
        bus.bind(name)
    return name


def ranges(bus: DaxBus, name: str) -> list[tuple[int, int, int]]:
    """First pfn, pages and page offset of each range."""
    return [(each.start_pfn, each.nr_pages, each.pgoff) for each in bus.device(name).ranges]


@contextmanager
def refused(errno_name: str | None, match: str | None = None) -> Iterator[pytest.ExceptionInfo[WorkbenchError]]:
    """The errno that is expected."""
    with pytest.raises(WorkbenchError, match=match) as info:
        yield info
    assert info.value.errno_name == errno_name


def hold(bus: DaxBus, pfn: int, by: int = 1) -> None:
    """Add to a page's reference count."""
    array = bus.zone_device.array
    array.writable(pfn, 1).pages.view(np.int32)[pfn - array.start_pfn, 13] += by


def refcount(bus: DaxBus, pfn: int) -> int:
    return bus.zone_device.array.words(pfn)[6] >> 32
