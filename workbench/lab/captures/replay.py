# SPDX-License-Identifier: GPL-2.0-only
"""The recorded actions, done again on the engine.

An action's handler gives the result it computes, or None where the part that decides it is not built.
The record's word is then taken for it (the ranges the device bus hands out, say): it counts as assumed,
which is no pass, and what follows in the struct pages is computed.

Where the engine does not know what an action does to struct pages, those it may have touched are
unknown until a binding initialises them anew.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np

from workbench.abi.constants import PAGE_SHIFT, PAGES_PER_SUBSECTION, PMD_SIZE
from workbench.errors import WorkbenchError
from workbench.lab.captures.compare import Pointers
from workbench.lab.captures.reading import MAX_PFN, get, number, pfn, refused, text
from workbench.lab.difference import differences
from workbench.mm import Altmap, DevPagemap, PageArray
from workbench.mm.memremap import pagemap_range
from workbench.nvdimm import Namespace, nvdimm_setup_pfn
from workbench.series import Kernel
from workbench.text import count

Action = dict[str, Any]
Result = dict[str, Any]
Ranges = tuple[tuple[int, int], ...]

_MEMMAP_LINE = re.compile(r"memmap_init_zone_device initialised (\d{1,15}) pages in \d+ms")
_ALIGNS = (4096, 2 << 20, 1 << 30)
_BOUND_LIMIT = MAX_PFN
"""Pages that all bindings of a run may have together: 64 TiB, some seconds of bookkeeping."""
_FAULTS_NOTHING_IN = {
    *("SHARED", "PRIVATE", "SHARED_VALIDATE", "ANONYMOUS", "NORESERVE", "SYNC"),
    *("FIXED", "FIXED_NOREPLACE", "HUGETLB", "HUGETLB_2M", "HUGETLB_1G"),
}
"""Flags of mmap; with any other, pages may be there before they are touched."""


@dataclass
class Device:
    """A dax device as the replay knows it.

    Attributes
    ----------
    align : int
        Bytes.
    ranges : tuple of (int, int), or None
        First pfn and number of pages, as the bus shows them.  None between a change of size and the
        observation that tells them.
    asked : int
        Pages that were asked for, where ``ranges`` is None.
    metadata : int
        Pages before the first range that its pgmap has too: what a namespace keeps before its data.
    altmap : Altmap or None
    pgmap : DevPagemap or None
        With a stand-in for its address, while a driver is bound.
    bound_unseen : bool
        A driver is bound, to ranges that are not told yet.
    lost_unseen : bool
        Something not understood was done to it since.
    """

    align: int = PMD_SIZE
    ranges: Ranges | None = ()
    asked: int = 0
    metadata: int = 0
    altmap: Altmap | None = None
    pgmap: DevPagemap | None = None
    bound_unseen: bool = False
    lost_unseen: bool = False

    @property
    def pgmap_ranges(self) -> Ranges:
        """The ranges of its pgmap: metadata included."""
        assert self.ranges
        (start, nr_pages), *others = self.ranges
        return ((start - self.metadata, nr_pages + self.metadata), *others)


@dataclass
class Tally:
    """Results of the actions that lead to a state, or of those after the last one."""

    compared: int = 0
    different: int = 0
    assumed: int = 0
    first: str = ""

    def add(self, difference: str) -> None:
        """A result was compared; ``difference`` is empty where it is the recorded one."""
        self.compared += 1
        self.different += bool(difference)
        self.first = self.first or difference


@dataclass
class Replay:
    """A machine of one kernel, as far as the recorded actions bring it up."""

    kernel: Kernel
    pointers: Pointers = field(default_factory=Pointers)
    array: PageArray | None = None
    devices: dict[str, Device] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    persistent_memory: Ranges = ()
    _memory: Ranges = ()
    _unknown: np.ndarray = field(default_factory=lambda: np.empty(0, np.bool_))
    _device_of: dict[str, str] = field(default_factory=dict)
    _reported: Counter[int] = field(default_factory=Counter)
    _followed: bool = True
    _unseen_pages: int = 0
    _bound_pages: int = 0

    def do_all(self, actions: Iterable[Action]) -> None:
        """Do actions in order, their results in a new :class:`Tally`."""
        self.tally = Tally()
        for action in actions:
            self.do(action)

    def do(self, action: Action) -> None:
        """Do one action, and compare its result with the recorded one."""
        got = _HANDLERS.get(action["op"], _not_yet)(self, action)
        if got is None:
            self.tally.assumed += "result" in action
        else:
            difference = _difference(_result(action), got)
            self.tally.add(difference and f"{action['op']}: {difference}")

    def in_device_memory(self, pfns: np.ndarray) -> np.ndarray:
        """Which of ascending ``pfns`` (int64[n]) lie in memory that devices are made of, as bool[n]."""
        inside = np.zeros(len(pfns), np.bool_)
        for start, nr_pages in self._memory:
            inside[slice(*np.searchsorted(pfns, (start, start + nr_pages)))] = True
        return inside

    def knows(self, pfns: np.ndarray | None = None) -> bool:
        """Whether the struct pages of ``pfns`` in device memory (default: all) are determined by what was replayed."""
        if self.array is None or any(device.bound_unseen for device in self.devices.values()):
            return False
        where = slice(None) if pfns is None else (pfns - self.array.start_pfn) // PAGES_PER_SUBSECTION
        return not self._unknown[where].any()

    # what handlers use

    def start(self, persistent_memory: Ranges, soft_reserved: Ranges) -> None:
        """The machine has this memory for devices; none of it has struct pages yet."""
        self.persistent_memory = persistent_memory
        self._memory = persistent_memory + soft_reserved
        low = min(start for start, _ in self._memory)
        high = max(start + nr_pages for start, nr_pages in self._memory)
        self.array = PageArray(self.kernel, low, high - low)
        self._unknown = np.zeros(self.array.nr_pages // PAGES_PER_SUBSECTION, np.bool_)

    def device(self, name: str) -> Device:
        """The device ``name``; one that was not seen before is new and empty."""
        return self.devices.setdefault(name, Device())

    def bind(self, device: Device) -> None:
        """A driver takes the device: new pgmap, every struct page initialised.

        Where the kernel of the replay would refuse or die, the recorded one did not: a difference (unless
        the pages that it would have reached are unknown), after which nothing is known any more.
        """
        # A driver that lets go in the background has done so before another can take the device.
        self.unbind(device)
        device.bound_unseen = device.ranges is None
        if self.array is None or not device.ranges:
            return
        self._bound_pages += sum(nr_pages for _, nr_pages in device.ranges)
        if self._bound_pages > _BOUND_LIMIT:
            raise refused("bind", f"has more than {count(_BOUND_LIMIT)} pages, all bindings of the run together")
        shift = self.kernel.tree.vmemmap_shift(device.align)
        device.pgmap = DevPagemap(self.pointers.new(), device.pgmap_ranges, shift, device.altmap)
        try:
            for range_id, (start, nr_pages) in enumerate(device.pgmap.ranges):
                self._reported[pagemap_range(self.array, device.pgmap, range_id)] += 1
                self._unknown[self._subsections(start, nr_pages)] = False
        except WorkbenchError as refusal:
            if refusal.errno is None and not refusal.changed:
                raise  # not the kernel's refusal: the workbench has not the memory, say
            whole_compounds = -(-nr_pages >> shift) << shift
            if not self._unknown[self._subsections(start, whole_compounds)].any():
                self.tally.add(f"the engine cannot bind: {refusal}")
            self.array = None

    def unbind(self, device: Device) -> None:
        """The driver lets go: the struct pages are gone.  What was not known stays so until it is bound anew."""
        if device.pgmap is not None and self.array is not None:
            for start, nr_pages in device.pgmap.ranges:
                self.array.remove_pages(start, nr_pages)
            self.pointers.forget(device.pgmap.address)
        if device.bound_unseen:
            self._unseen_pages += device.asked
        if device.lost_unseen:
            self._forget(self._memory)
        device.pgmap = None
        device.bound_unseen = device.lost_unseen = False

    def lose_track(self, name: str | None = None) -> None:
        """What follows is not determined: for the pages of one device, or where that is not told for all."""
        device = self.devices.get(name or "")
        if device is None:
            self._forget(self._memory)
            self._followed = False
            for each in self.devices.values():
                each.lost_unseen = each.bound_unseen
        elif device.bound_unseen:
            device.lost_unseen = True
        elif device.pgmap is not None:
            self._forget(device.pgmap.ranges)

    def see(self, device: Device, align: int, ranges: Ranges) -> None:
        """Take the record's word for a device; a binding to ranges that were not told is done now."""
        device.align, device.ranges = align, ranges
        if device.bound_unseen:
            lost = device.lost_unseen
            device.bound_unseen = device.lost_unseen = False
            self.bind(device)
            if lost and device.pgmap is not None:
                self._forget(device.pgmap.ranges)

    def knows_device(self, device: Device) -> bool:
        """Whether it is bound, and nothing that was not understood can have touched it since."""
        if device.pgmap is None or self.array is None:
            return False
        return not any(self._unknown[self._subsections(*each)].any() for each in device.pgmap.ranges)

    def _forget(self, ranges: Ranges) -> None:
        """The struct pages of these ranges are unknown until they are bound anew."""
        if self.array is not None:
            for start, nr_pages in ranges:
                self._unknown[self._subsections(start, nr_pages)] = True

    def _subsections(self, start_pfn: int, nr_pages: int) -> slice:
        """Those of the array that hold pages of a range."""
        assert self.array is not None
        first, end = start_pfn - self.array.start_pfn, start_pfn + nr_pages - self.array.start_pfn
        return slice(max(first, 0) // PAGES_PER_SUBSECTION, max(-(-end // PAGES_PER_SUBSECTION), 0))

    def expect_log(self, lines: list[str]) -> None:
        """Each line about initialised pages must tell of an initialisation that the engine did.

        The log is read late, so a line may belong to any action since the boot; times differ.  It may
        also tell of a binding whose ranges nobody told, and after a loss of track of anything, up to the
        first reading at which everything is known again.
        """
        still_bound = sum(device.asked for device in self.devices.values() if device.bound_unseen)
        for match in filter(None, map(_MEMMAP_LINE.search, lines)):
            nr_pages = int(match[1])
            if self._reported[nr_pages]:
                self._reported[nr_pages] -= 1
                self.tally.add("")
            elif not self._followed or nr_pages <= self._unseen_pages + still_bound:
                self._unseen_pages -= nr_pages if self._followed else 0
                self.tally.assumed += 1
            else:
                self.tally.add(f"the log tells of {nr_pages} initialised pages, the engine of none so many")
        self._followed |= self.knows()


def _difference(recorded: Result, got: Result) -> str:
    """How a computed result differs from the recorded one; ``errno: null`` stands for any refusal."""
    if _is_refusal(recorded) and _is_refusal(got):
        fields = ["errno"] if recorded.get("errno") else []
    else:
        fields = ["errno", "ok", *sorted((recorded.keys() | got.keys()) - {"inferred", "note"})]
    found = differences({key: recorded.get(key) for key in fields}, {key: got.get(key) for key in fields})
    return f"{found[0]!s:.400}" if found else ""


def _is_refusal(result: Result) -> bool:
    return "errno" in result or result.get("ok") is False


def _ranges(holder: dict[str, Any], key: str, where: str) -> Ranges:
    """Recorded ranges as (first pfn, pages), refused where they contradict themselves."""
    ranges = []
    for record in get(holder, key, list, where):
        if not isinstance(record, dict):
            raise refused(where, f"has {record!r:.40} for a range")
        first, nr_pages = pfn(record, "first_pfn", where), get(record, "nr_pages", int, where)
        if not 1 <= nr_pages <= MAX_PFN - first or number(record, "start", where) != first << PAGE_SHIFT:
            raise refused(where, f"has a range from pfn {first:#x} of {nr_pages} pages that contradicts itself")
        ranges.append((first, nr_pages))
    return tuple(ranges)


def _shown(ranges: Ranges) -> dict[str, Any]:
    """Size and ranges of a device in the captures' form."""
    offsets = [0, *accumulate(nr_pages for _, nr_pages in ranges)]
    records = [
        {
            "start": hex(start_pfn << PAGE_SHIFT),
            "end": hex((start_pfn + nr_pages) << PAGE_SHIFT),
            "first_pfn": hex(start_pfn),
            "nr_pages": nr_pages,
            "page_offset": page_offset,
        }
        for (start_pfn, nr_pages), page_offset in zip(ranges, offsets, strict=False)
    ]
    return {"size": offsets[-1] << PAGE_SHIFT, "ranges": records}


def _result(action: Action) -> Result:
    return get(action, "result", dict, action["op"])


def _succeeded(action: Action) -> bool:
    return _result(action).get("ok") is True


def _device(replay: Replay, action: Action) -> Device:
    return replay.device(text(action, "device", action["op"]))


def _align(holder: dict[str, Any], where: str) -> int:
    align = get(holder, "align", int, where)
    if align not in _ALIGNS:
        raise refused(where, f"has align {align} bytes; device-dax knows 4 KiB, 2 MiB and 1 GiB")
    return align


# handlers, one for each op that is understood


def _boot(replay: Replay, action: Action) -> Result | None:
    """The machine starts; its persistent or soft-reserved memory is where devices will lie."""
    if replay.array is not None:
        raise refused("boot", "comes a second time")
    persistent_memory, soft_reserved = (_memory(action, kind) for kind in ("persistent_memory", "soft_reserved"))
    if not persistent_memory and not soft_reserved:
        return None
    replay.start(persistent_memory, soft_reserved)
    if not soft_reserved:
        return {"ok": True}
    result = _result(action)
    if "device" not in result:
        replay.lose_track()
        return None
    # Whether a driver takes a region's device by itself is the distribution's choice, not the kernel's.
    bound = get(result, "bound", bool, "boot")
    replay.tally.assumed += 1
    for region, memory in enumerate(soft_reserved):
        device = replay.device(f"dax{region}.0")
        device.ranges = (memory,)
        if bound:
            replay.bind(device)
    return {"device": "dax0.0", "align": PMD_SIZE, "bound": bound, **_shown(soft_reserved[:1])}


def _memory(action: Action, kind: str) -> Ranges:
    """First pfn and number of pages of each stretch of memory of one kind."""
    memory = []
    for stretch in get(action, kind, list, "boot") if kind in action else []:
        if not isinstance(stretch, dict):
            raise refused("boot", f"has {stretch!r:.40} for memory")
        start, end = (number(stretch, bound, "boot") >> PAGE_SHIFT for bound in ("start", "end"))
        if not start < end <= MAX_PFN:
            raise refused("boot", f"has {kind} from pfn {start:#x} to {end:#x}")
        memory.append((start, end - start))
    return tuple(memory)


def _create_namespace(replay: Replay, action: Action) -> Result | None:
    """A namespace at the start of the persistent memory, its device bound."""
    if not replay.persistent_memory or replay.device("dax0.0").pgmap is not None:
        replay.lose_track()
        return None
    start, nr_pages = replay.persistent_memory[0]
    nbytes, align = get(action, "size", int, "create_namespace"), get(action, "align", int, "create_namespace")
    if nbytes > nr_pages << PAGE_SHIFT:
        return {"errno": "ENOSPC"}
    namespace = Namespace(start << PAGE_SHIFT, nbytes, align, text(action, "map", "create_namespace"))
    try:
        nd_pfn = nvdimm_setup_pfn(namespace)
    except WorkbenchError as refusal:
        return {"errno": refusal.errno_name}
    metadata = nd_pfn.data_start_pfn - nd_pfn.start_pfn
    device = Device(align, ((nd_pfn.data_start_pfn, nd_pfn.npfns),), metadata=metadata, altmap=nd_pfn.altmap)
    replay.devices["dax0.0"] = device
    replay.bind(device)
    return {
        "ok": True,
        "device": "dax0.0",
        "namespace_start_pfn": hex(nd_pfn.start_pfn),
        "data_start_pfn": hex(nd_pfn.data_start_pfn),
        "end_pfn": hex(nd_pfn.end_pfn),
        "pages_per_compound": 1 << replay.kernel.tree.vmemmap_shift(align),
        "pages_per_align_unit": align >> PAGE_SHIFT,
        "device_size": nd_pfn.dev_size,
        "ranges": _shown(device.ranges or ())["ranges"],
    }


def _disable_namespace(replay: Replay, action: Action) -> None:
    """The driver of the namespace's device lets go, if it has not already."""
    if _succeeded(action):
        replay.unbind(replay.device("dax0.0"))


def _take_ranges(device: Device, action: Action) -> None:
    """The ranges of a device from the result of what sized it; where that tells none, how many pages they have."""
    if "ranges" in _result(action):
        device.ranges = _ranges(_result(action), "ranges", action["op"])
    else:
        device.ranges, device.asked = None, get(action, "size", int, action["op"]) >> PAGE_SHIFT or MAX_PFN


def _create_device(replay: Replay, action: Action) -> None:
    """The bus makes a device, sizes and binds it; which memory it gets is taken from the record."""
    result = _result(action)
    if result.get("killed"):
        replay.lose_track()
    elif "device" in result:
        device = replay.device(text(result, "device", "create_device"))
        if _succeeded(action):
            device.align = _align(action, "create_device")
            _take_ranges(device, action)
            replay.bind(device)


def _set_size(replay: Replay, action: Action) -> None:
    """A size store on an unbound device; the ranges that follow are taken from the record."""
    if _succeeded(action):
        device = _device(replay, action)
        if get(action, "size", int, action["op"]) == 0:
            device.ranges = ()
        else:
            _take_ranges(device, action)


def _add_range(replay: Replay, action: Action) -> None:
    """A store to the mapping attribute: one more range."""
    if _succeeded(action):
        device = _device(replay, action)
        start, end = number(action, "start", "add_range"), number(action, "last", "add_range") + 1
        if not start < end <= MAX_PFN << PAGE_SHIFT:
            raise refused("add_range", f"has a range from {start:#x} to {end:#x}")
        added = (start >> PAGE_SHIFT, (end - start) >> PAGE_SHIFT)
        if device.ranges is None:
            device.asked += added[1]
        else:
            device.ranges += (added,)


def _set_align(replay: Replay, action: Action) -> None:
    if _succeeded(action):
        _device(replay, action).align = _align(action, "set_align")


def _delete(replay: Replay, action: Action) -> None:
    if _succeeded(action):
        replay.unbind(_device(replay, action))
        del replay.devices[action["device"]]


def _bind(replay: Replay, action: Action) -> None:
    if _succeeded(action):
        replay.bind(_device(replay, action))
    elif _result(action).get("killed"):
        replay.lose_track()


def _unbind(replay: Replay, action: Action) -> None:
    """A driver lets go.  Begun in the background, it may wait for references: not understood yet."""
    if action.get("background"):
        _not_yet(replay, action)
    elif _succeeded(action):
        replay.unbind(_device(replay, action))


def _mmap(replay: Replay, action: Action) -> None:
    """A mapping: no struct page changes until it is touched."""
    if _succeeded(action) and "device" in action:
        replay._device_of[text(_result(action), "mapping", "mmap")] = text(action, "device", "mmap")
        if not set(map(str, get(action, "flags", list, "mmap"))) <= _FAULTS_NOTHING_IN:
            _not_yet(replay, action)


def _leaves_struct_pages_alone(replay: Replay, action: Action) -> None:
    """Names, mappings and page-table entries may change; no struct page of a device does."""


def _observe(replay: Replay, action: Action) -> None:
    if action.get("what") == "kernel_log":
        replay.expect_log([str(line) for line in get(action, "lines", list, "observe")])
    elif action.get("what") == "devices":
        seen = get(action, "devices", dict, "observe")
        for name in seen:
            _observe_device(replay, name, get(seen, name, dict, "observe"))
        for name in get(action, "removed", list, "observe") if "removed" in action else []:
            replay.unbind(replay.devices.pop(str(name), Device()))


def _observe_device(replay: Replay, name: str, seen: dict[str, Any]) -> None:
    """What the bus shows of a device: compared where the replay knows the device, else the record's word is taken."""
    align, ranges = _align(seen, "observe"), _ranges(seen, "ranges", "observe") if "ranges" in seen else ()
    device = replay.devices.get(name)
    if device is not None and device.ranges is not None:
        known = _shown(device.ranges) | {"align": device.align}
        difference = _difference(_shown(ranges) | {key: seen[key] for key in known if key in seen}, known)
        if not difference or replay.knows_device(device):
            replay.tally.add(difference and f"observe: {name} {difference}")
            return
    replay.tally.assumed += 1
    replay.see(replay.device(name), align, ranges)


def _not_yet(replay: Replay, action: Action) -> None:
    """An action on a device, told by name, by a mapping of it, or by a handle on pages of such a mapping.

    A process the kernel killed tells nothing about how far its work got.
    """
    told = {key: text(action, key, action["op"]) for key in ("device", "mapping", "handle") if key in action}
    names = (told.get("device"), *(replay._device_of.get(told.get(key, "")) for key in ("mapping", "handle")))
    name = next(filter(None, names), None)
    if name and "handle" in told:
        replay._device_of[told["handle"]] = name
    replay.lose_track(None if action.get("result", {}).get("killed") else name)


_ONLY_NAMES_AND_MAPPINGS = (
    *("init_labels", "destroy_namespace", "region_create", "read_seed", "refused_in_user_space"),
    *("open", "close", "munmap", "fork", "exit", "wait", "make_file"),
    *("read_pagemap", "read_smaps", "read_kpageflags", "read_struct_pages"),
)
_HANDLERS: dict[str, Callable[[Replay, Action], Result | None]] = {
    "boot": _boot,
    "create_namespace": _create_namespace,
    "disable_namespace": _disable_namespace,
    "create_device": _create_device,
    "set_size": _set_size,
    "resize_device": _set_size,
    "add_range": _add_range,
    "set_align": _set_align,
    "delete_device": _delete,
    "destroy_device": _delete,
    "bind": _bind,
    "unbind": _unbind,
    "mmap": _mmap,
    "observe": _observe,
    **dict.fromkeys(_ONLY_NAMES_AND_MAPPINGS, _leaves_struct_pages_alone),
}
"""Handlers by op; an op without one is not understood yet."""
