# SPDX-License-Identifier: GPL-2.0-only
"""The dax bus of a machine as ``daxctl list`` prints it: the same members in the same order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from workbench.dax.bus import DaxBus
from workbench.dax.kmem import MEMORY_BLOCK_SIZE, dax_kmem_range
from workbench.dax.region import DaxRegion, DevDax
from workbench.errors import WorkbenchError
from workbench.lab.daxctl import display_size

_PMEM_PATH = "/LNXSYSTM:00/LNXSYBUS:00/ACPI0012:00/ndbus0/region{region}/{device}"
_HMEM_PATH = "/platform/hmem.{region}"


def mapping_json(device: DevDax, human: bool = False) -> list[dict[str, Any]]:
    """The ranges of a device: page offset, first and last byte, size."""
    shown = hex if human else int
    return [
        {
            "page_offset": shown(each.pgoff),
            "start": shown(each.start),
            "end": shown(each.end),
            "size": _size(each.size, human),
        }
        for each in device.ranges
    ]


def device_json(bus: DaxBus, device: DevDax, *, mappings: bool = False, human: bool = False) -> dict[str, Any]:
    """A device.

    Parameters
    ----------
    bus : DaxBus
    device : DevDax
    mappings : bool
        With its ranges.
    human : bool
        Sizes in units, addresses in hex.
    """
    row: dict[str, Any] = {"chardev": device.name, "size": _size(device.size, human)}
    if device.target_node >= 0:
        row["target_node"] = device.target_node
    row["align"] = _size(device.align, human)
    row["mode"] = "system-ram" if device.driver == "kmem" else "devdax"
    if device.driver == "kmem":
        blocks = sum(found[1] for found in map(dax_kmem_range, device.ranges) if found) // MEMORY_BLOCK_SIZE
        online = blocks if bus.is_online(device.name) else 0
        row |= {"online_memblocks": online, "total_memblocks": blocks}
    if not device.bound:
        row["state"] = "disabled"
    if mappings and device.ranges:
        row["mappings"] = mapping_json(device, human)
    return row


def region_json(
    bus: DaxBus,
    region: DaxRegion,
    *,
    devices: bool = False,
    mappings: bool = False,
    idle: bool = False,
    human: bool = False,
    only: str | None = None,
) -> dict[str, Any]:
    """A region, with its devices where asked for; ``only`` names the one to show."""
    path = _PMEM_PATH if region.is_static else _HMEM_PATH
    row: dict[str, Any] = {
        "path": path.format(region=region.region_id, device=next(iter(region.devices), "")),
        "id": region.region_id,
        "size": _size(region.size, human),
    }
    if region.available_size:
        row["available_size"] = _size(region.available_size, human)
    row["align"] = region.align
    if devices:
        shown = _shown(region.devices.values(), idle, only)
        if shown:
            row["devices"] = [device_json(bus, each, mappings=mappings, human=human) for each in shown]
    return row


def list_json(
    bus: DaxBus,
    *,
    regions: bool = False,
    devices: bool = False,
    mappings: bool = False,
    idle: bool = False,
    human: bool = False,
    region: int | None = None,
    dev: str | None = None,
) -> list[dict[str, Any]]:
    """What ``daxctl list`` shows.

    Parameters
    ----------
    bus : DaxBus
    regions, devices, mappings, idle, human : bool
        ``-R``, ``-D``, ``-M``, ``-i``, ``-u``.  With neither ``-R`` nor ``-D``, regions where ``region`` is
        given, else devices.
    region : int, optional
        ``-r``: only this region.
    dev : str, optional
        ``-d``: only this device.

    Returns
    -------
    list of dict
        Regions, each with its devices, or devices.  Empty devices are left out but with ``idle``.
    """
    if not regions and not devices:
        regions, devices = region is not None, region is None or dev is not None
    found = [each for each in bus.all_regions() if region in (None, each.region_id)]
    if regions:
        return [
            region_json(bus, each, devices=devices, mappings=mappings, idle=idle, human=human, only=dev)
            for each in found
        ]
    return [
        device_json(bus, device, mappings=mappings, human=human)
        for each in found
        for device in _shown(each.devices.values(), idle, dev)
    ]


def select(bus: DaxBus, words: str, region: int | None = None) -> list[DevDax]:
    """The devices a command means: a name or ``all``, within a region where one is given.

    Raises
    ------
    WorkbenchError
        There is none.
    """
    found = [
        device
        for each in bus.all_regions()
        if region in (None, each.region_id)
        for device in each.devices.values()
        if words in ("all", device.name)
    ]
    if not found:
        names = ", ".join(device.name for device in bus.devices())
        raise WorkbenchError(f"no device {words} here. There are {names or 'none'}; or say all.")
    return found


def _shown(devices: Iterable[DevDax], idle: bool, only: str | None) -> list[DevDax]:
    by_number = sorted(devices, key=lambda device: device.id)
    return [device for device in by_number if only in (None, device.name) and (idle or device.size)]


def _size(nbytes: int, human: bool) -> int | str:
    return display_size(nbytes) if human else nbytes
