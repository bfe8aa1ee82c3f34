# SPDX-License-Identifier: GPL-2.0-only
"""The device_dax driver takes a device and lets it go: dev_dax_probe() and kill_dev_dax().

* Patch 6: the pgmap's size in bytes is computed by a helper that cannot overflow.
* Patch 7: a dynamic device's pgmap is kept in dev_dax->pgmap, from before its memory is asked for.
  Where the probe fails after that, the memory of the pgmap is freed and the pointer stays: each later
  bind is refused until the device is deleted.
* Patch 11: the pgmap gets its vmemmap_shift from the device's align.
"""

from __future__ import annotations

import errno

from workbench.abi.constants import PAGE_SIZE
from workbench.dax.region import DevDax
from workbench.errors import KernelCrash, WorkbenchError
from workbench.mm.memremap import DevPagemap, ZoneDevice
from workbench.mm.resource import Resource, devm_request_mem_region, release_region
from workbench.series import Tree
from workbench.text import count

SIZE_MAX = (1 << 64) - 1
_RANGE_BYTES = 16
_SHIFT_BYTES = 8

UNBIND_BLOCKED_IN = (
    "memunmap_pages",
    "devm_memremap_pages_release",
    "devm_action_release",
    "devres_release_all",
    "__device_release_driver",
    "device_driver_detach",
)
"""Where an unbind waits that pages hold up, innermost function first; recorded on 5.17."""


def sizeof_dev_pagemap(tree: Tree) -> int:
    """Bytes of struct dev_pagemap, one range included: patch 4 adds vmemmap_shift, 5.17 takes a pointer away.

    Examples
    --------
    >>> sizeof_dev_pagemap(Tree("5.15")), sizeof_dev_pagemap(Tree("5.17", frozenset(range(1, 12))))
    (152, 152)
    """
    without_shift = 152 if tree.base in ("5.10", "5.15", "5.16") else 144
    return without_shift + _SHIFT_BYTES * tree.has(4)


def pgmap_bytes(tree: Tree, nr_range: int) -> int:
    """Bytes that the probe asks for, for a pgmap of ``nr_range`` ranges.

    Patch 6 makes it struct_size(): the same from one range on.  For none the multiplication before it
    wraps to one range less than the structure has; struct_size() says SIZE_MAX.

    Kernel: drivers/dax/device.c, ``dev_dax_probe()``, patch 6.
    """
    extra = nr_range - 1
    if extra < 0 and tree.has(6):
        return SIZE_MAX
    return (sizeof_dev_pagemap(tree) + _RANGE_BYTES * extra) & SIZE_MAX


def alloc_pgmap(tree: Tree, dev_dax: DevDax, address: int) -> DevPagemap:
    """A zeroed pgmap for the ranges of a dynamic device.

    Raises
    ------
    WorkbenchError
        ENOMEM: more than there can be (a device without a range, after patch 6).
    """
    nbytes = pgmap_bytes(tree, len(dev_dax.ranges))
    if nbytes == SIZE_MAX:
        raise WorkbenchError(
            f"{dev_dax.name}: a pgmap of {len(dev_dax.ranges)} ranges would take {count(nbytes)} bytes. "
            "Give the device a size first.",
            errno.ENOMEM,
        )
    return DevPagemap(address, tuple((each.start_pfn, each.nr_pages) for each in dev_dax.ranges))


def dev_dax_probe(dev_dax: DevDax, zone_device: ZoneDevice) -> None:
    """Take the device: reserve its memory, give it struct pages, bring it to life.

    Kernel: drivers/dax/device.c, ``dev_dax_probe()``, 5.10 to 6.12.

    Raises
    ------
    WorkbenchError
        EINVAL: a static device of several ranges; a dynamic one that has a pgmap already (patch 7); and
        those of :meth:`workbench.mm.memremap.ZoneDevice.memremap_pages`.  ENOMEM: no memory for the pgmap.
        EBUSY: another driver has a part of its memory.  What was reserved is given back; ``changed`` says
        where patch 7's pgmap stays behind.
    KernelCrash
        Initialising the struct pages faults; everything stays as it is then.
    """
    tree = zone_device.array.kernel.tree
    pgmap = _pgmap(dev_dax, zone_device)
    stale = (
        (f"{dev_dax.name} keeps the pgmap of this probe: each bind is refused with EINVAL until it is deleted",)
        if tree.has(7) and not dev_dax.region.is_static
        else ()
    )
    reserved: list[Resource] = []
    try:
        for each in dev_dax.ranges:
            reserved.append(devm_request_mem_region(zone_device.iomem, each.start, each.size, dev_dax.name))
        if dev_dax.align > PAGE_SIZE:
            pgmap.vmemmap_shift = tree.vmemmap_shift(dev_dax.align)
        zone_device.memremap_pages(pgmap)
    except KernelCrash:
        raise
    except WorkbenchError as refused:
        for resource in reversed(reserved):
            release_region(zone_device.iomem, resource.start, resource.size)
        if refused.errno is None:  # the workbench's own refusal changes nothing
            if not dev_dax.region.is_static:
                dev_dax.pgmap = None
            raise
        raise WorkbenchError(str(refused), refused.errno, (*refused.changed, *stale)) from refused
    dev_dax.bound_pgmap, dev_dax.alive = pgmap, True


def _pgmap(dev_dax: DevDax, zone_device: ZoneDevice) -> DevPagemap:
    """The pgmap to bind with: a static device's own, for a dynamic one a new one."""
    tree, region = zone_device.array.kernel.tree, dev_dax.region
    # Before patch 7 the test was whether there is a pgmap; now it is whether the region is static.
    has_own = region.is_static if tree.has(7) else dev_dax.pgmap is not None
    if has_own:
        if len(dev_dax.ranges) > 1:
            raise WorkbenchError(
                f"{dev_dax.name}: static pgmap / multi-range device conflict: it has {len(dev_dax.ranges)} ranges. "
                "A static device has one.",
                errno.EINVAL,
            )
        if dev_dax.pgmap is None:
            raise WorkbenchError(f"{dev_dax.name} is static and was created without a pgmap. Create it with one.")
        return dev_dax.pgmap
    if dev_dax.pgmap is not None:
        raise WorkbenchError(
            f"{dev_dax.name}: dynamic-dax with pre-populated page map: a probe that failed left its pgmap behind. "
            "Delete the device and create it anew.",
            errno.EINVAL,
        )
    pgmap = alloc_pgmap(tree, dev_dax, zone_device.new_address())
    if tree.has(7):
        dev_dax.pgmap = pgmap
    return pgmap


def kill_dev_dax(dev_dax: DevDax, tree: Tree) -> None:
    """The device is dead: nothing can be mapped or faulted any more, and what is mapped is unmapped.

    Kernel: drivers/dax/bus.c, ``kill_dev_dax()``; patch 7 lets a dynamic device forget its pgmap here.
    """
    dev_dax.alive = False
    dev_dax.unmap_mapping()
    if tree.has(7) and not dev_dax.region.is_static:
        dev_dax.pgmap = None


def dev_dax_release(dev_dax: DevDax, zone_device: ZoneDevice) -> bool:
    """What the driver's resources do when they are released, last first: kill, unmap the pages, give the memory back.

    Kernel: drivers/base/devres.c over what ``dev_dax_probe()`` registered.

    Returns
    -------
    bool
        True when it is over; False where pages are held and memunmap_pages() waits (5.10 to 5.17): see
        :func:`dev_dax_release_continue`.
    """
    assert dev_dax.bound_pgmap is not None
    kill_dev_dax(dev_dax, zone_device.array.kernel.tree)
    return _finish(dev_dax, zone_device, zone_device.memunmap_pages(dev_dax.bound_pgmap))


def dev_dax_release_continue(dev_dax: DevDax, zone_device: ZoneDevice) -> bool:
    """Let a release that waits go on; True when it is over."""
    assert dev_dax.bound_pgmap is not None
    return _finish(dev_dax, zone_device, zone_device.teardown_continue(dev_dax.bound_pgmap))


def _finish(dev_dax: DevDax, zone_device: ZoneDevice, unmapped: bool) -> bool:
    if unmapped:
        for each in reversed(dev_dax.ranges):
            release_region(zone_device.iomem, each.start, each.size)
        dev_dax.bound_pgmap = None
    return unmapped
