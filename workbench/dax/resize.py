# SPDX-License-Identifier: GPL-2.0-only
"""How a device gets and loses ranges of its region: drivers/dax/bus.c.

* Growth takes the lowest hole first, then the next, until it has enough.  The device's last range is
  extended where the hole follows it; anywhere else the device gets one more range.
* Pages of the file keep their place: a new range comes at the end of the file, whatever its address.
* Shrinking takes from the last range backwards.
"""

from __future__ import annotations

import errno

from workbench import text
from workbench.dax.region import DaxRange, DevDax
from workbench.errors import WorkbenchError
from workbench.mm.resource import Resource, adjust_resource, release_region, request_region


def alloc_dev_dax_range(dev_dax: DevDax, start: int, size: int, *, registered: bool = True) -> None:
    """Give a device one more range.

    Kernel: drivers/dax/bus.c, ``alloc_dev_dax_range()``, 5.10 to 6.12.

    Parameters
    ----------
    dev_dax : DevDax
    start, size : int
        Bytes.  Size 0 is for a device that begins empty.
    registered : bool
        The device is there for user space: the range gets its mappingN folder at once.

    Raises
    ------
    WorkbenchError
        EBUSY: size 0 for a device that has ranges; ENOMEM: the region does not have it free.  Nothing
        changes.
    """
    if size == 0:
        if dev_dax.ranges:
            raise WorkbenchError(f"{dev_dax.name} has ranges already, and an empty one was asked for.", errno.EBUSY)
        return
    if request_region(dev_dax.region.res, start, size, dev_dax.name) is None:
        raise WorkbenchError(
            f"{start:#x}-{start + size - 1:#x} is not free in region {dev_dax.region.region_id}. Take a range of "
            "its available memory.",
            errno.ENOMEM,
        )
    pgoff = sum(each.nr_pages for each in dev_dax.ranges)
    dev_dax.ranges.append(DaxRange(start, start + size - 1, pgoff))
    if registered:
        register_dax_mapping(dev_dax, dev_dax.ranges[-1])


def register_dax_mapping(dev_dax: DevDax, dax_range: DaxRange) -> None:
    """Name a range in sysfs: mappingN, with the lowest free N.

    Kernel: drivers/dax/bus.c, ``devm_register_dax_mapping()``.
    """
    taken = {each.mapping_id for each in dev_dax.ranges}
    dax_range.mapping_id = next(number for number in range(len(taken) + 1) if number not in taken)


def adjust_dev_dax_range(dev_dax: DevDax, res: Resource, size: int) -> None:
    """Give the last range another size, from its start on.

    Kernel: drivers/dax/bus.c, ``adjust_dev_dax_range()``.

    Raises
    ------
    WorkbenchError
        EINVAL: size 0; EBUSY: another device has a part of it.  Nothing changes.
    """
    if size == 0:
        raise WorkbenchError(f"a range of {dev_dax.name} cannot be made empty; it is to be taken away.", errno.EINVAL)
    refused = adjust_resource(res, res.start, size)
    if refused:
        raise WorkbenchError(
            f"the range of {dev_dax.name} from {res.start:#x} has no room for {text.size(size)}.", -refused
        )
    dev_dax.ranges[-1].end = res.start + size - 1


def dev_dax_shrink(dev_dax: DevDax, size: int) -> None:
    """Take the end of a device away until ``size`` bytes are left.

    Kernel: drivers/dax/bus.c, ``dev_dax_shrink()``.

    Raises
    ------
    WorkbenchError
        ENXIO: the region does not know the range that is to be cut.
    """
    region, to_shrink = dev_dax.region, dev_dax.size - size
    while to_shrink:
        last = dev_dax.ranges[-1]
        if to_shrink < last.size:
            res = next((r for r in region.res.children if (r.name, r.start) == (dev_dax.name, last.start)), None)
            if res is None:
                raise WorkbenchError(
                    f"no resource of region {region.region_id} is {dev_dax.name}'s {last}.", errno.ENXIO
                )
            adjust_dev_dax_range(dev_dax, res, last.size - to_shrink)
            return
        to_shrink -= last.size
        release_region(region.res, last.start, last.size)
        dev_dax.ranges.pop()


def adjust_ok(dev_dax: DevDax, res: Resource) -> bool:
    """Whether ``res`` is the device's last range and the end of its file, so that it may grow in place.

    Kernel: drivers/dax/bus.c, ``adjust_ok()``.
    """
    if not dev_dax.ranges or res.name != dev_dax.name:
        return False
    *others, last = dev_dax.ranges
    return (last.start, last.end) == (res.start, res.end) and all(each.pgoff <= last.pgoff for each in others)


def dev_dax_resize(dev_dax: DevDax, size: int) -> None:
    """Give a device another size.

    Kernel: drivers/dax/bus.c, ``dev_dax_resize()``, 5.10 to 6.12.

    Raises
    ------
    WorkbenchError
        EBUSY: a driver has it; ENOSPC: the region has not so much left; ENXIO: it would grow by no whole
        units of its align.  Nothing changes.
    """
    if dev_dax.bound:
        raise WorkbenchError(f"{dev_dax.name} is bound to {dev_dax.driver}. Unbind it first.", errno.EBUSY)
    available = dev_dax.region.available_size
    to_alloc = size - dev_dax.size
    if to_alloc > available:
        raise WorkbenchError(
            f"{dev_dax.name} would need {text.size(to_alloc)} more and region {dev_dax.region.region_id} has "
            f"{text.size(available)}. Ask for less, or shrink another device.",
            errno.ENOSPC,
        )
    if to_alloc <= 0:
        dev_dax_shrink(dev_dax, size)
        return
    if to_alloc % dev_dax.allocation_unit:
        raise WorkbenchError(
            f"{dev_dax.name} would grow by {text.size(to_alloc, exact=True)}, no multiple of "
            f"{text.size(dev_dax.allocation_unit)}. Ask for whole units.",
            errno.ENXIO,
        )
    while to_alloc:
        to_alloc -= _grow_once(dev_dax, to_alloc)


def _grow_once(dev_dax: DevDax, to_alloc: int) -> int:
    """Take what the lowest hole has, ``to_alloc`` bytes at most; how much that was."""
    root = dev_dax.region.res
    if not root.children:
        alloc_dev_dax_range(dev_dax, root.start, to_alloc)
        return to_alloc
    first = root.children[0]
    if first.start > root.start:
        alloc = min(first.start - root.start, to_alloc)
        alloc_dev_dax_range(dev_dax, root.start, alloc)
        return alloc
    ends = [res.start for res in root.children[1:]] + [root.end + 1]
    res, hole = next(
        (res, end - res.end - 1) for res, end in zip(root.children, ends, strict=True) if end > res.end + 1
    )
    alloc = min(hole, to_alloc)
    if adjust_ok(dev_dax, res):
        adjust_dev_dax_range(dev_dax, res, res.size + alloc)
    else:
        alloc_dev_dax_range(dev_dax, res.end + 1, alloc)
    return alloc
