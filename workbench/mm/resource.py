# SPDX-License-Identifier: GPL-2.0-only
"""kernel/resource.c: who has which physical addresses, the tree that /proc/iomem prints.

* A resource is a range of bytes, its last one included; its children lie inside it, in address order,
  none overlapping another.
* A *busy* resource belongs to a driver that asked for the region: nobody else gets a part of it.  A
  request goes down through those that are not busy.
* An inserted resource may lie over others: it becomes their parent.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, Flag, auto
from html import escape

from workbench.errors import WorkbenchError


class Desc(Enum):
    """IORES_DESC_*: what a resource is, beyond its flags (include/linux/ioport.h)."""

    NONE = "none"
    ACPI_TABLES = "acpi tables"
    ACPI_NV_STORAGE = "acpi nv storage"
    PERSISTENT_MEMORY = "persistent memory"
    PERSISTENT_MEMORY_LEGACY = "persistent memory (legacy)"
    DEVICE_PRIVATE_MEMORY = "device private memory"
    RESERVED = "reserved"
    SOFT_RESERVED = "soft reserved"


class Flags(Flag):
    """IORESOURCE_*: the bits that decide something here (include/linux/ioport.h)."""

    MEM = auto()
    BUSY = auto()
    SYSRAM = auto()
    """Memory that the page allocator has; with MEM the kernel calls both IORESOURCE_SYSTEM_RAM."""
    SYSRAM_DRIVER_MANAGED = auto()


SYSTEM_RAM = Flags.MEM | Flags.SYSRAM
_PLAIN = Flags(0)


class Intersection(Enum):
    """What region_intersects() finds."""

    DISJOINT = "disjoint"
    INTERSECTS = "intersects"
    MIXED = "mixed"


@dataclass(eq=False, repr=False)
class Resource:
    """struct resource.

    Attributes
    ----------
    start, end : int
        Physical addresses in bytes; ``end`` is the last byte, included.
    name : str
    flags : Flags
    desc : Desc
    parent : Resource or None
        None at the root, and where it is in no tree.
    children : list of Resource
        In address order.
    """

    start: int
    end: int
    name: str
    flags: Flags = Flags.MEM
    desc: Desc = Desc.NONE
    parent: Resource | None = None
    children: list[Resource] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes (resource_size())."""
        return self.end - self.start + 1

    @property
    def busy(self) -> bool:
        """Whether a driver has it."""
        return Flags.BUSY in self.flags

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Resource]]:
        """Each resource below this one with its depth, parents first, in address order."""
        for child in self.children:
            yield depth, child
            yield from child.walk(depth + 1)

    def text(self) -> str:
        """What lies below, a line each, as root reads it in /proc/iomem (kernel/resource.c, r_show()).

        Deeper than five levels everything stands at the fifth.

        Examples
        --------
        >>> iomem = iomem_resource()
        >>> _ = insert_resource(iomem, Resource(0x100000000, 0x13FFFFFFF, "Soft Reserved", desc=Desc.SOFT_RESERVED))
        >>> _ = request_region(iomem, 0x100000000, 1 << 21, "dax0.0")
        >>> iomem.text().splitlines()
        ['100000000-13fffffff : Soft Reserved', '  100000000-1001fffff : dax0.0']
        """
        width = 4 if self.end < 0x10000 else 8
        rows = ((min(depth, 4) * "  ", r) for depth, r in self.walk())
        return "\n".join(f"{indent}{r.start:0{width}x}-{r.end:0{width}x} : {r.name or '<BAD>'}" for indent, r in rows)

    def __repr__(self) -> str:
        busy = ", busy" if self.busy else ""
        return f"Resource {self.start:#x}-{self.end:#x} {self.name!r}{busy}, {len(self.children)} inside"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p><pre>{escape(self.text())}</pre>"


def iomem_resource(physical_bits: int = 52) -> Resource:
    """An empty root: all physical addresses, ``PCI mem`` by name."""
    return Resource(0, (1 << physical_bits) - 1, "PCI mem")


def _request(root: Resource, new: Resource) -> Resource | None:
    """Link ``new`` below ``root``, or return what is in its way (``root`` where it does not fit in).

    Kernel: kernel/resource.c, ``__request_resource()``.
    """
    if new.end < new.start or new.start < root.start or new.end > root.end:
        return root
    at = 0
    for child in root.children:
        if child.start > new.end:
            break
        if child.end >= new.start:
            return child
        at += 1
    root.children.insert(at, new)
    new.parent = root
    return None


def request_resource(root: Resource, new: Resource) -> int:
    """Make ``new`` a child of ``root``.

    Kernel: kernel/resource.c, ``request_resource()``.

    Returns
    -------
    int
        0, or -EBUSY where something lies there already; then nothing changes.
    """
    return -errno.EBUSY if _request(root, new) else 0


def request_region(parent: Resource, start: int, size: int, name: str, flags: Flags = _PLAIN) -> Resource | None:
    """Ask for ``size`` bytes from ``start`` for a driver.

    Goes down through what is there and not busy.  The new resource is busy; its kind is that of the
    resource it ends up in.

    Kernel: kernel/resource.c, ``__request_region()``, 5.10 to 6.12.

    Returns
    -------
    Resource or None
        None where a busy resource has a part of it, it straddles the end of one, or it is empty.
    """
    new = Resource(start, start + size - 1, name)
    while True:
        new.flags = (parent.flags & SYSTEM_RAM) | Flags.BUSY | flags
        new.desc = parent.desc
        conflict = _request(parent, new)
        if conflict is None:
            return new
        if conflict is parent or conflict.busy:
            return None
        parent = conflict


def insert_resource(parent: Resource, new: Resource) -> int:
    """Put ``new`` below ``parent``: inside what holds it, over what it holds.

    Over a resource of the same range it becomes its parent.

    Kernel: kernel/resource.c, ``insert_resource()``.

    Returns
    -------
    int
        0, or -EBUSY where it overlaps another in part, or lies outside ``parent``; then nothing changes.
    """
    while True:
        first = _request(parent, new)
        if first is None:
            return 0
        if first is parent:
            return -errno.EBUSY
        whole = first.start <= new.start and first.end >= new.end
        if not whole or (first.start, first.end) == (new.start, new.end):
            break
        parent = first
    covered = [child for child in parent.children if child.start <= new.end and child.end >= new.start]
    if any(child.start < new.start or child.end > new.end for child in covered):
        return -errno.EBUSY
    at = parent.children.index(covered[0])
    parent.children[at : at + len(covered)] = [new]
    new.parent, new.children = parent, covered
    for child in covered:
        child.parent = new
    return 0


def release_resource(old: Resource) -> int:
    """Take ``old`` out of its tree, with all that lies in it.

    Kernel: kernel/resource.c, ``release_resource()``.

    Returns
    -------
    int
        0, or -EINVAL where it is in no tree.
    """
    if old.parent is None:
        return -errno.EINVAL
    old.parent.children.remove(old)
    old.parent = None
    return 0


def release_region(parent: Resource, start: int, size: int) -> bool:
    """Give back a region as it was requested.

    Kernel: kernel/resource.c, ``__release_region()``.

    Returns
    -------
    bool
        False where the kernel warns "Trying to free nonexistent resource"; then nothing changes.
    """
    end = start + size - 1
    while True:
        holder = next((child for child in parent.children if child.start <= start and child.end >= end), None)
        if holder is None:
            return False
        if holder.busy:
            break
        parent = holder
    if (holder.start, holder.end) != (start, end):
        return False
    parent.children.remove(holder)
    holder.parent = None
    return True


def adjust_resource(res: Resource, start: int, size: int) -> int:
    """Move the borders of ``res``, within its parent, clear of its neighbours, around its children.

    Kernel: kernel/resource.c, ``adjust_resource()``.

    Returns
    -------
    int
        0, or -EBUSY; then nothing changes.
    """
    end = start + size - 1
    if res.parent is not None:
        others = (child for child in res.parent.children if child is not res)
        inside = res.parent.start <= start and end <= res.parent.end
        if not inside or any(other.start <= end and other.end >= start for other in others):
            return -errno.EBUSY
    if any(child.start < start or child.end > end for child in res.children):
        return -errno.EBUSY
    res.start, res.end = start, end
    return 0


def region_intersects(
    iomem: Resource, start: int, size: int, flags: Flags = SYSTEM_RAM, desc: Desc = Desc.NONE
) -> Intersection:
    """Whether a region lies in resources of a kind, in others, or in both.

    Looks at the top of the tree, as kernels up to 6.11 do; what lies deeper (memory that a driver
    manages as RAM) has the kind of its top here.

    Kernel: kernel/resource.c, ``region_intersects()``.
    """
    end = start + size - 1
    touching = [child for child in iomem.children if child.start <= end and child.end >= start]
    of_kind = [child for child in touching if flags in child.flags and desc in (Desc.NONE, child.desc)]
    if not of_kind:
        return Intersection.DISJOINT
    return Intersection.INTERSECTS if len(of_kind) == len(touching) else Intersection.MIXED


def devm_request_mem_region(iomem: Resource, start: int, size: int, name: str) -> Resource:
    """:func:`request_region`, with the refusal of a driver's probe.

    Raises
    ------
    WorkbenchError
        EBUSY: another driver has a part of it.  Nothing changes.
    """
    found = request_region(iomem, start, size, name)
    if found is None:
        raise WorkbenchError(
            f"{name}: could not reserve {start:#x}-{start + size - 1:#x}: another driver has a part of it. "
            "Release that one first; /proc/iomem names it.",
            errno.EBUSY,
        )
    return found
