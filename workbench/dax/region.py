# SPDX-License-Identifier: GPL-2.0-only
"""Regions of memory for dax devices, and the devices: what drivers/dax/dax-private.h declares.

* A *static* region (persistent memory) is one device with one range; its pgmap comes with it.
* A *dynamic* region (soft-reserved memory) is cut into devices, and a device may have several ranges,
  each with its place in the device's file.
* All addresses are bytes and a range's last byte is included, as in the kernel's struct range.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Flag, auto
from html import escape

from workbench import text
from workbench.abi.constants import PAGE_SHIFT, PMD_SIZE, SUBSECTION_SHIFT
from workbench.errors import WorkbenchError
from workbench.mm.memremap import DevPagemap
from workbench.mm.resource import Resource

MEMREMAP_COMPAT_ALIGN = 1 << SUBSECTION_SHIFT
"""Bytes that a range is a multiple of at least (memremap_compat_align() on x86): 2 MiB."""


class RegionFlags(Flag):
    """IORESOURCE_DAX_*: what a region allows (drivers/dax/bus.h)."""

    DYNAMIC = 0
    STATIC = auto()
    """One device over all of it, neither resized nor given another align."""
    KMEM = auto()
    """Its devices go to the page allocator unless asked otherwise (6.3 and later)."""


@dataclass
class DaxRange:
    """struct dev_dax_range.

    Attributes
    ----------
    start, end : int
        Physical addresses in bytes, the last one included.
    pgoff : int
        Its first page in the device's file.
    mapping_id : int
        N of its mappingN folder in sysfs; -1 before the device is registered.
    """

    start: int
    end: int
    pgoff: int
    mapping_id: int = -1

    @property
    def size(self) -> int:
        """Bytes (range_len())."""
        return self.end - self.start + 1

    @property
    def start_pfn(self) -> int:
        """First pfn."""
        return self.start >> PAGE_SHIFT

    @property
    def nr_pages(self) -> int:
        """Pages."""
        return self.size >> PAGE_SHIFT

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.end:#x} at page {self.pgoff:#x} of the file"


@dataclass(eq=False, repr=False)
class DaxRegion:
    """struct dax_region.

    Attributes
    ----------
    region_id : int
        The N of daxN.M.
    start, size : int
        Bytes.
    align : int
        Bytes; what its devices begin with.
    target_node : int
        The node its memory would be RAM of; -1 for none.
    flags : RegionFlags
    res : Resource
        Who of its devices has what: a tree of its own, apart from /proc/iomem.
    devices : dict of str to DevDax
        In the order they came.
    seed : DevDax or None
        The first device made by ``create`` that was not bound since.
    bound : bool
        The region's own device has its driver; without it most attributes are refused.

    Raises
    ------
    WorkbenchError
        ENOMEM: start or size is not a multiple of align (alloc_dax_region() gives no region then).
    """

    region_id: int
    start: int
    size: int
    align: int = PMD_SIZE
    target_node: int = 0
    flags: RegionFlags = RegionFlags.DYNAMIC
    res: Resource = field(init=False)
    devices: dict[str, DevDax] = field(default_factory=dict)
    seed: DevDax | None = None
    bound: bool = True

    def __post_init__(self) -> None:
        if self.start % self.align or self.size % self.align or self.size < 1:
            raise WorkbenchError(
                f"dax region {self.region_id} from {self.start:#x} of {text.size(self.size)} is not made of whole "
                f"units of its align, {text.size(self.align)}. Round both.",
                errno.ENOMEM,
            )
        self.res = Resource(self.start, self.start + self.size - 1, f"dax{self.region_id}")

    @property
    def is_static(self) -> bool:
        """Whether it is one device that cannot be changed (is_static())."""
        return RegionFlags.STATIC in self.flags

    @property
    def available_size(self) -> int:
        """Bytes that no device has (dax_region_avail_size())."""
        return self.size - sum(res.size for res in self.res.children)

    def new_id(self) -> int:
        """The lowest id that no device has."""
        taken = {device.id for device in self.devices.values()}
        return next(number for number in range(len(taken) + 1) if number not in taken)

    def _facts(self) -> dict[str, str]:
        return {
            "memory": f"{self.start:#x}-{self.start + self.size - 1:#x}, {text.size(self.size)}",
            "kind": "static" if self.is_static else "dynamic",
            "align": text.size(self.align, exact=True),
            "available": text.size(self.available_size),
            "seed": self.seed.name if self.seed else "none",
            "devices": "; ".join(map(repr, self.devices.values())) or "none",
        }

    def __repr__(self) -> str:
        lines = (f"  {name}: {value}" for name, value in self._facts().items())
        return "\n".join((f"DaxRegion {self.region_id}", *lines))

    def _repr_html_(self) -> str:
        return _table(f"DaxRegion {self.region_id}", self._facts().items())


@dataclass(eq=False, repr=False)
class DevDax:
    """struct dev_dax: one device.

    Attributes
    ----------
    region : DaxRegion
    id : int
        The M of daxN.M; -1 once it is deleted.
    align : int
        Bytes: the only size of page its mappings use.
    ranges : list of DaxRange
        In the order they were given; a device may be empty.
    target_node : int
    mapping_address : int
        Kernel address of the address_space of its file, what page->mapping of a faulted page holds.
    driver : str or None
        ``"device_dax"``, ``"kmem"``, or none.
    alive : bool
        It can be mapped and faulted: dead from unbind to bind.
    pgmap : DevPagemap or None
        dev_dax->pgmap: a static device's for good; a dynamic one's from patch 7 on, while it is bound.
    bound_pgmap : DevPagemap or None
        The pgmap that its pages have now, whoever remembers it.
    unmap_mapping : callable
        Unmaps its file from every process: unmap_mapping_range() over all of it.
    """

    region: DaxRegion
    id: int
    align: int
    ranges: list[DaxRange] = field(default_factory=list)
    target_node: int = 0
    mapping_address: int = 0
    driver: str | None = None
    alive: bool = False
    pgmap: DevPagemap | None = None
    bound_pgmap: DevPagemap | None = None
    unmap_mapping: Callable[[], object] = lambda: None
    name: str = ""

    def __post_init__(self) -> None:
        self.name = self.name or f"dax{self.region.region_id}.{self.id}"

    @property
    def size(self) -> int:
        """Bytes of all ranges (dev_dax_size())."""
        return sum(each.size for each in self.ranges)

    @property
    def bound(self) -> bool:
        """Whether a driver has it."""
        return self.driver is not None

    @property
    def allocation_unit(self) -> int:
        """Bytes that sizes are multiples of: align, and at least 2 MiB."""
        return max(self.align, MEMREMAP_COMPAT_ALIGN)

    def pgoff_to_phys(self, pgoff: int, size: int) -> int:
        """Physical address of ``size`` bytes from page ``pgoff`` of the file; -1 where no single range has them.

        Kernel: drivers/dax/device.c, ``dax_pgoff_to_phys()``.
        """
        for each in self.ranges:
            if each.pgoff <= pgoff < each.pgoff + each.nr_pages:
                phys = each.start + ((pgoff - each.pgoff) << PAGE_SHIFT)
                return phys if phys + size - 1 <= each.end else -1
        return -1

    def _facts(self) -> dict[str, str]:
        return {
            "size": text.size(self.size),
            "align": text.size(self.align, exact=True),
            "driver": self.driver or "none",
            "ranges": "; ".join(map(str, self.ranges)) or "none",
        }

    def __repr__(self) -> str:
        return f"{self.name}: " + ", ".join(f"{name} {value}" for name, value in self._facts().items())

    def _repr_html_(self) -> str:
        return _table(self.name, self._facts().items())


def _table(caption: str, rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table><caption>{escape(caption)}</caption>{body}</table>"
