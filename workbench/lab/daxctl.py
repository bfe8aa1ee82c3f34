# SPDX-License-Identifier: GPL-2.0-only
"""What ``daxctl list`` and ``ndctl list`` of a real machine tell, and a machine like it.

* Sizes come exact, or rounded for people: ``"1006.00 MiB (1054.87 MB)"``.  A rounded one is an interval
  of bytes; the multiple of the align in it, or the one nearest to what is printed, is taken.
* ``daxctl list -DRM`` knows where ranges lie and not how a namespace was asked for; ``ndctl list`` the
  other way round.  What neither tells is worked out from the info block's arithmetic, and said.
* The machine is a list of actions in the form of the captures: whoever replays captures can build it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench import text
from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE, PMD_SIZE
from workbench.errors import WorkbenchError
from workbench.lab.overhead import NAMESPACE_START, STAGES, kernel_of
from workbench.mm.sparse_vmemmap import Altmap, Backing, pgmap_vmemmap_nr, populate
from workbench.nvdimm import MAPS, SUPPORTED_ALIGNS, Namespace, NdPfn, nvdimm_setup_pfn
from workbench.nvdimm.region import MEMREMAP_COMPAT_ALIGN_MAX

GIB = 1 << 30
_HUMAN = re.compile(r"(\d+)\.(\d\d) (MiB|GiB|TiB) \((\d+)\.(\d\d) (MB|GB|TB)\)")
_BINARY = {"MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_DECIMAL = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
_CHARDEV = re.compile(r"dax(\d+)\.(\d+)")
_NAMESPACE = re.compile(r"namespace(\d+)\.(\d+)")
_LARGEST = 64 << 40


def display_size(nbytes: int) -> int | str:
    """A size as ``daxctl list --human`` prints it: a number below 5000 KiB, else text with two units.

    Kernel
    ------
    ndctl, util/json.c, display_size().

    Examples
    --------
    >>> display_size(2 << 20), display_size(1 << 30), display_size(3 << 30)
    (2097152, '1024.00 MiB (1073.74 MB)', '3.00 GiB (3.22 GB)')
    """
    if nbytes < 5000 * 1024:
        return nbytes
    if nbytes < 2 << 30:
        binary, decimal = "MiB", "MB"
    elif nbytes < 2 << 40:
        binary, decimal = "GiB", "GB"
    else:
        binary, decimal = "TiB", "TB"
    hundredths = (nbytes * 200 // _BINARY[binary] + 1) // 2
    others = (nbytes // (_DECIMAL[decimal] // 200) + 1) // 2
    return f"{hundredths // 100}.{hundredths % 100:02} {binary} ({others // 100}.{others % 100:02} {decimal})"


def parse_size(value: int | str, align: int) -> tuple[int, int]:
    """A size from a listing, and by how many bytes it may be off.

    Parameters
    ----------
    value : int or str
        Bytes, or text as :func:`display_size` makes it.
    align : int
        Bytes: the size is taken to be a multiple of it.

    Raises
    ------
    WorkbenchError
        It is no size, or no multiple of ``align`` prints like it.

    Examples
    --------
    >>> parse_size("1006.00 MiB (1054.87 MB)", 2 << 20), parse_size(4096, 4096)
    ((1054867456, 0), (4096, 0))
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= _LARGEST:
            raise WorkbenchError(f"a size of {value} bytes: at most {text.size(_LARGEST)} is addressable.")
        return value, 0
    match = _HUMAN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise WorkbenchError(f"{value!r} is no size of a listing: bytes, or text like 1006.00 MiB (1054.87 MB).")
    whole, part, binary, others, rest, decimal = match.groups()
    printed = int(whole + part) * _BINARY[binary] // 100
    low, high = _interval(int(whole + part), _BINARY[binary])
    other_low, other_high = _interval(int(others + rest), _DECIMAL[decimal])
    low, high = max(low, other_low), min(high, other_high)
    first, last = -(-low // align), high // align
    if first > last:
        raise WorkbenchError(f"{value!r}: no multiple of {text.size(align, exact=True)} prints like this.")
    nearest = min(max((printed + align // 2) // align, first), last)
    return nearest * align, max(nearest - first, last - nearest) * align


def _interval(hundredths: int, unit: int) -> tuple[int, int]:
    """First and last byte count that rounds to so many hundredths of a unit."""
    return -(-(2 * hundredths - 1) * unit // 200), -(-(2 * hundredths + 1) * unit // 200) - 1


@dataclass(frozen=True)
class Range:
    """A mapping of a device.

    Attributes
    ----------
    start, size : int
        Bytes.
    page_offset : int
        Pages of the device before it.
    """

    start: int
    size: int
    page_offset: int = 0


@dataclass(frozen=True)
class Device:
    """A dax device of a listing.

    Attributes
    ----------
    name : str
    size : int
        Bytes.
    align : int
        Bytes.
    mode : str
        ``"devdax"`` or ``"system-ram"``.
    enabled : bool
    ranges : tuple of Range
        Empty where the listing does not tell them.
    """

    name: str
    size: int
    align: int
    mode: str = "devdax"
    enabled: bool = True
    ranges: tuple[Range, ...] = ()


@dataclass(frozen=True)
class Region:
    """A region and what it is made of.

    Attributes
    ----------
    id : int
    persistent : bool
        A namespace on persistent memory; else soft reserved memory, which can be cut into devices.
    size : int
        Bytes: of the dax region, or, from ``ndctl list``, of the persistent memory.
    devices : tuple of Device
    maps : dict of str to str
        ``mem`` or ``dev`` by device, where the listing tells it.
    """

    id: int
    persistent: bool
    size: int
    devices: tuple[Device, ...]
    maps: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """A listing, read.

    Attributes
    ----------
    regions : tuple of Region
    assumed : tuple of str
        What it does not tell and was taken to be.
    """

    regions: tuple[Region, ...]
    assumed: tuple[str, ...] = ()

    @property
    def devices(self) -> Iterator[tuple[Region, Device]]:
        """Every device that has memory, with its region."""
        return ((region, device) for region in self.regions for device in region.devices if device.size)


def read(path: Path) -> Listing:
    """A file with the output of ``daxctl list`` or ``ndctl list``.

    Raises
    ------
    WorkbenchError
        It cannot be read, is no JSON, or holds neither regions, namespaces nor devices.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise WorkbenchError(f"{path}: {error}. Name a file with what daxctl list -DRM printed.") from error
    try:
        return parse(raw)
    except WorkbenchError as refusal:
        raise WorkbenchError(f"{path}: {refusal}") from refusal


def parse(raw: Any) -> Listing:
    """The same from decoded JSON.

    Raises
    ------
    WorkbenchError
        As :func:`read`.
    """
    try:
        return _Reader().listing(raw)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WorkbenchError(
            f"is not of the form of a listing: {error!r}. Use what daxctl list -DRM printed."
        ) from error


class _Reader:
    """One reading: what had to be assumed is kept."""

    def __init__(self) -> None:
        self.assumed: list[str] = []

    def listing(self, raw: Any) -> Listing:
        if isinstance(raw, dict) and isinstance(raw.get("regions"), list):
            raw = raw["regions"]
        rows = raw if isinstance(raw, list) else [raw]
        if not rows or not all(isinstance(row, dict) for row in rows):
            raise WorkbenchError("holds no regions or devices. Use the output of daxctl list -DRM or ndctl list -RN.")
        if all("chardev" in row for row in rows):
            regions = self._bare_devices(rows)
        elif all(_NAMESPACE.fullmatch(str(row.get("dev", ""))) for row in rows):
            regions = [self._pmem_region({"dev": "region0", "namespaces": rows})]
        else:
            regions = [self._region(row) for row in rows]
        return Listing(tuple(regions), tuple(self.assumed))

    def _bare_devices(self, rows: Sequence[dict[str, Any]]) -> list[Region]:
        devices = [self._device(row) for row in rows]
        ids = sorted({_region_of(device.name) for device in devices})
        self.assumed.append("no regions are listed (daxctl list -R): devices are taken to lie in soft reserved memory")
        made = []
        for id in ids:
            own = tuple(device for device in devices if _region_of(device.name) == id)
            made.append(Region(id, False, sum(device.size for device in own), own))
        return made

    def _region(self, row: dict[str, Any]) -> Region:
        if "namespaces" in row or str(row.get("dev", "")).startswith("region"):
            return self._pmem_region(row)
        if "id" not in row:
            raise WorkbenchError(f"a region without id: {str(row)[:80]}. Use the output of daxctl list -DRM.")
        devices = tuple(self._device(device) for device in row.get("devices", ()))
        if "path" not in row:
            self.assumed.append(f"region {row['id']} has no path: it is taken for soft reserved memory")
        align = _align(row.get("align", PMD_SIZE))
        size = self._size(row.get("size", sum(d.size for d in devices)), align, f"region {row['id']}")
        persistent = "/ndbus" in str(row.get("path", ""))
        ranges = [each for device in devices for each in device.ranges]
        if ranges and not persistent and max(r.start + r.size for r in ranges) - min(r.start for r in ranges) < size:
            self.assumed.append(f"region {row['id']}: memory before its first range is taken to lie behind the last")
        if persistent:
            self.assumed.append(
                f"region {row['id']}: daxctl does not tell a namespace's map; unless given, the one is taken that "
                "makes its size rounder"
            )
        return Region(int(row["id"]), persistent, size, devices)

    def _pmem_region(self, row: dict[str, Any]) -> Region:
        devices, maps = [], {}
        for namespace in row.get("namespaces", ()):
            if namespace.get("mode") != "devdax":
                continue
            name = str(namespace.get("dev"))
            match = _NAMESPACE.fullmatch(name)
            if match is None:
                raise WorkbenchError(f"{name!r} is no name of a namespace, such as namespace0.0.")
            device = f"dax{match[1]}.{match[2]}"
            align = _align(namespace.get("align", PMD_SIZE))
            size = self._size(namespace.get("size"), max(align, PMD_SIZE), name)
            devices.append(Device(device, size, align, enabled=namespace.get("state") != "disabled"))
            maps[device] = _map(namespace.get("map", "dev"))
        if len(devices) > 1:
            self.assumed.append(f"{row.get('dev')}: each of its namespaces is rebuilt in a region of its own")
        id = int("".join(filter(str.isdigit, str(row.get("dev", "region0")))) or 0)
        size = self._size(row["size"], MEMREMAP_COMPAT_ALIGN_MAX, f"region{id}") if "size" in row else 0
        return Region(id, True, size, tuple(devices), maps)

    def _device(self, row: dict[str, Any]) -> Device:
        name = str(row.get("chardev"))
        _region_of(name)
        align = _align(row.get("align", PMD_SIZE))
        size = self._size(row.get("size", 0), align, name)
        ranges = []
        for mapping in row.get("mappings", ()):
            start, end = (_number(mapping.get(key)) for key in ("start", "end"))
            ranges.append(Range(start, end + 1 - start, _number(mapping.get("page_offset", 0))))
        if ranges and sum(r.size for r in ranges) != size:
            size = sum(r.size for r in ranges)
        return Device(name, size, align, str(row.get("mode", "devdax")), row.get("state") != "disabled", tuple(ranges))

    def _size(self, value: Any, align: int, whose: str) -> int:
        nbytes, off = parse_size(value, align)
        if off:
            self.assumed.append(
                f"{whose}: {value!r} is rounded; {text.size(nbytes, exact=True)} is taken, "
                f"which may be {text.size(off, exact=True)} off (list without --human)"
            )
        return nbytes


def _region_of(chardev: str) -> int:
    match = _CHARDEV.fullmatch(chardev)
    if match is None:
        raise WorkbenchError(f"{chardev!r} is no name of a dax device, such as dax0.0.")
    return int(match[1])


def _number(value: Any) -> int:
    """A number, or the hex text that --human makes of one."""
    try:
        number = int(value, 0) if isinstance(value, str) else int(value)
    except (TypeError, ValueError) as error:
        raise WorkbenchError(f"{value!r} is no address or page offset.") from error
    if not 0 <= number <= _LARGEST:
        raise WorkbenchError(f"{value!r} is no address: at most {text.size(_LARGEST)} is addressable.")
    return number


def _align(value: Any) -> int:
    align, _ = parse_size(value, PAGE_SIZE)
    if align not in SUPPORTED_ALIGNS:
        raise WorkbenchError(f"an align of {value!r}: device-dax has 4 KiB, 2 MiB and 1 GiB.")
    return align


def _map(value: Any) -> str:
    if value not in MAPS:
        raise WorkbenchError(f"a namespace's map is mem or dev; got {value!r}.")
    return value


# A machine like it


def namespace_of(device: Device, map: str, start: int | None = None) -> Namespace:
    """The namespace whose device has this size: the roundest size of those possible.

    Parameters
    ----------
    device : Device
    map : str
    start : int, optional
        Where to put it, bytes; where the device's range is known, it follows from that.

    Raises
    ------
    WorkbenchError
        No namespace of this align and map gives a device of this size.
    """
    data = device.ranges[0].start if device.ranges else None
    unit = max(device.align, PMD_SIZE)
    at = NAMESPACE_START if start is None else start
    if data is not None:
        at = data % unit + unit  # what counts is where it lies within the unit

    def laid_out(size: int) -> NdPfn:
        return nvdimm_setup_pfn(Namespace(at, size, device.align, map))

    size = device.size + unit
    while (more := device.size + laid_out(size).dataoff) > size:
        size = more
    fits = [s for s in range(size, size + 2 * unit, PMD_SIZE) if laid_out(s).dev_size == device.size]
    if not fits:
        raise WorkbenchError(
            f"{device.name}: no namespace of align {text.size(device.align, exact=True)}, map {map} has a device of "
            f"{device.size} bytes. Tell its map, or list without --human."
        )
    best = max(fits, key=lambda s: s & -s)
    namespace = Namespace(at, best, device.align, map)
    return namespace if data is None else replace(namespace, start=data - laid_out(best).dataoff)


def _likely(device: Device, map: str | None, start: int) -> Namespace:
    """The namespace of a device; where its map is open, the one with the rounder size."""
    if map is not None:
        return namespace_of(device, map, start)
    return max((namespace_of(device, each, start) for each in MAPS), key=lambda n: n.size & -n.size)


@dataclass(frozen=True)
class Placed:
    """A device and where its pgmap is.

    Attributes
    ----------
    device : Device
    ranges : tuple of (int, int)
        First pfn and pages of each range of the pgmap, metadata included.
    altmap : Altmap or None
    namespace : Namespace or None
        On persistent memory.
    """

    device: Device
    ranges: tuple[tuple[int, int], ...]
    altmap: Altmap | None = None
    namespace: Namespace | None = None


def place(listing: Listing, map: str | None = None) -> list[Placed]:
    """Where each device's pgmap is, or may be where the listing does not tell.

    Parameters
    ----------
    listing : Listing
    map : str, optional
        Of namespaces whose map is not told; of the two possible ones that with the rounder size unless
        given.

    Raises
    ------
    WorkbenchError
        As :func:`namespace_of`.
    """
    placed = []
    free = NAMESPACE_START
    for region, device in listing.devices:
        if region.persistent:
            namespace = _likely(device, region.maps.get(device.name, map), free)
            nd_pfn = nvdimm_setup_pfn(namespace)
            placed.append(Placed(device, ((nd_pfn.start_pfn, nd_pfn.nr_pages),), nd_pfn.altmap, namespace))
            free = max(free, namespace.start + namespace.size)
        else:
            ranges = device.ranges or (Range(free, device.size),)
            pfns = tuple((r.start >> PAGE_SHIFT, r.size >> PAGE_SHIFT) for r in ranges)
            placed.append(Placed(device, pfns))
            free = max(free, *(r.start + r.size for r in ranges))
        free = -(-free // GIB) * GIB
    return placed


def actions(listing: Listing, map: str | None = None) -> list[dict[str, Any]]:
    """The actions that make a machine with these devices, in the form of the captures.

    Persistent memory: one region a namespace, as large as it, without labels.  Soft reserved memory: one
    region that holds its devices' ranges, which are added one by one.  Regions are numbered as a boot
    numbers them, persistent memory first, each kind by address.
    """
    placed = {each.device.name: each for each in place(listing, map)}
    namespaces = sorted((each.namespace for each in placed.values() if each.namespace), key=lambda n: n.start)
    cut = []
    for region in listing.regions:
        own = [placed[device.name] for device in region.devices if device.size]
        if own and not region.persistent:
            start = min(first for each in own for first, _ in each.ranges) << PAGE_SHIFT
            end = max(first + pages for each in own for first, pages in each.ranges) << PAGE_SHIFT
            cut.append((start, max(end, start + region.size), own))
    cut.sort(key=lambda each: each[0])
    boot: dict[str, Any] = {"op": "boot"}
    if namespaces:
        boot["persistent_memory"] = [_span(each.start, each.start + each.size) for each in namespaces]
    if cut:
        boot["soft_reserved"] = [_span(start, end) for start, end, _ in cut]
    made = [{"op": "create_namespace", "size": n.size, "align": n.align, "map": n.map} for n in namespaces]
    for number, (start, end, own) in enumerate(cut, len(namespaces)):
        made += _cut(number, own, start, end)
    return [boot, *made]


def _span(start: int, end: int) -> dict[str, str]:
    return {"start": hex(start), "end": hex(end)}


def _cut(region: int, own: list[Placed], start: int, end: int) -> Iterator[dict[str, Any]]:
    """Cut a soft reserved region, which boots as one device over all of it."""
    ids = {each.device.name: int(each.device.name.partition(".")[2]) for each in own}
    only = own[0].device
    whole = ((start >> PAGE_SHIFT, (end - start) >> PAGE_SHIFT),)
    if own[0].ranges == whole and (ids[only.name], only.align, only.mode, only.enabled) == (
        0,
        PMD_SIZE,
        "devdax",
        True,
    ):
        return
    yield {"op": "unbind", "device": f"dax{region}.0"}
    yield {"op": "set_size", "device": f"dax{region}.0", "size": 0}
    yield from ({"op": "region_create", "region": region} for _ in range(max(ids.values())))
    for each in own:
        name = f"dax{region}.{ids[each.device.name]}"
        yield {"op": "set_align", "device": name, "align": each.device.align}
        for pfn, pages in each.ranges:
            at = pfn << PAGE_SHIFT
            yield {"op": "add_range", "device": name, "start": hex(at), "last": hex(at + (pages << PAGE_SHIFT) - 1)}
        if each.device.mode == "system-ram":
            yield {"op": "bind", "device": name, "driver": "kmem"}
        elif each.device.enabled:
            yield {"op": "bind", "device": name}


# What the series saves on it


@dataclass(frozen=True)
class Saving:
    """A device on one kernel.

    Attributes
    ----------
    device : Device
    stage : str
        ``before``, ``after`` or ``dedup``.
    kernel : str
    pgmap_refs : int
        References its pgmap takes on itself.
    fault_writes : int
        Struct pages that faulting in all of the device writes.
    backing : Backing
    """

    device: Device
    stage: str
    kernel: str
    pgmap_refs: int
    fault_writes: int
    backing: Backing


def savings(listing: Listing, map: str | None = None) -> list[Saving]:
    """Each device before the series, after it and with vmemmap deduplication; ``derived``.

    A device in system-ram mode has no pgmap and is left out.
    """
    return [
        _saving(each, stage, name)
        for each in place(listing, map)
        if each.device.mode == "devdax"
        for stage, name in STAGES.items()
    ]


def _saving(each: Placed, stage: str, kernel_name: str) -> Saving:
    tree = kernel_of(kernel_name).tree
    shift = tree.vmemmap_shift(each.device.align)
    backing = populate(each.ranges, vmemmap_shift=shift, dedup=tree.dedup, altmap=each.altmap).backing()
    offset = each.altmap.reserve + each.altmap.free if each.altmap else 0
    lengths = [pages - (offset if at == 0 else 0) for at, (_, pages) in enumerate(each.ranges)]
    pages = each.device.size >> PAGE_SHIFT
    heads = -(-pages // pgmap_vmemmap_nr(shift))
    return Saving(each.device, stage, kernel_name, sum(length >> shift for length in lengths), heads, backing)


def report_json(listing: Listing, map: str | None = None) -> dict[str, Any]:
    """What was read, what was assumed, what the series saves, and the actions that build the machine."""
    by_device: dict[str, dict[str, Any]] = {}
    for saving in savings(listing, map):
        by_device.setdefault(saving.device.name, {})[saving.stage] = {
            "kernel": saving.kernel,
            "pgmap_refs": saving.pgmap_refs,
            "fault_writes": saving.fault_writes,
            "vmemmap_bytes": saving.backing.distinct_physical_bytes,
            "vmemmap_in_device": saving.backing.altmap_bytes,
        }
    return {
        "provenance": "derived",
        "assumed": list(listing.assumed),
        "devices": [
            {"chardev": device.name, "size": device.size, "align": device.align, "stages": by_device.get(device.name)}
            for _, device in listing.devices
        ],
        "actions": actions(listing, map),
    }


def report_lines(listing: Listing, map: str | None = None) -> list[str]:
    """The same for a terminal."""
    lines = []
    found = savings(listing, map)
    for region, device in listing.devices:
        kind = "persistent memory" if region.persistent else "soft reserved memory"
        lines.append(
            f"{device.name}: {text.size(device.size)}, align {text.size(device.align, exact=True)}, "
            f"{device.mode}, {kind}"
        )
        own = [saving for saving in found if saving.device is device]
        if not own:
            lines.append("  no devmap in this mode: the series does not concern it")
            continue
        lines.append(f"  {'':34}" + "".join(f"{saving.stage:>16}" for saving in own))
        for label, of in _REPORT:
            lines.append(f"  {label:34}" + "".join(f"{of(saving):>16}" for saving in own))
    lines += [f"assumed: {each}" for each in listing.assumed]
    lines.append("All numbers are derived. before: 5.16; after: 5.17, the series; dedup: 6.1, with the follow-up.")
    return lines


_REPORT = (
    ("references of the pgmap", lambda saving: text.count(saving.pgmap_refs)),
    ("struct pages written, all faulted", lambda saving: text.count(saving.fault_writes)),
    ("memory behind struct pages", lambda saving: text.size(saving.backing.distinct_physical_bytes)),
    ("  of it in the device", lambda saving: text.size(saving.backing.altmap_bytes)),
)
