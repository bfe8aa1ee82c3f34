# SPDX-License-Identifier: GPL-2.0-only
"""The recorded actions, done again on the engine.

An action's handler gives the result it computes.  Two other outcomes are told apart, and neither is a
pass:

* *assumed*: the part that decides the result is not built, so the record's word is taken for it (the
  ranges the device bus hands out, say), and what follows in the struct pages is computed;
* *not yet*: the engine does not know what the action does to struct pages.  Devices it may have
  touched stay unknown until they are bound anew, which initialises every page.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from workbench.abi.constants import PAGE_SHIFT, PMD_SIZE
from workbench.errors import WorkbenchError
from workbench.lab.captures.compare import Pointers
from workbench.lab.captures.reading import pfn_of
from workbench.mm import Altmap, DevPagemap, PageArray
from workbench.mm.memremap import pagemap_range
from workbench.nvdimm import Namespace, nvdimm_setup_pfn
from workbench.series import Kernel

Action = dict[str, Any]
Result = dict[str, Any]

_MEMMAP_LINE = re.compile(r"memmap_init_zone_device initialised (\d+) pages in \d+ms")
_ALIGNS = (4096, 2 << 20, 1 << 30)


class Outcome(Enum):
    """What a handler that computes no result says instead."""

    ASSUMED = "assumed"
    NOT_YET = "not yet"


@dataclass
class Device:
    """A dax device as the replay knows it.

    Attributes
    ----------
    align : int
        Bytes.
    ranges : tuple of (int, int)
        First pfn and number of pages; for a namespace the pgmap's range, metadata included.
    altmap : Altmap or None
    pgmap : int or None
        Stand-in address of the pgmap while a driver is bound.
    known : bool
        Whether the actions since it was bound are all understood.
    """

    align: int
    ranges: tuple[tuple[int, int], ...] = ()
    altmap: Altmap | None = None
    pgmap: int | None = None
    known: bool = True


@dataclass
class Tally:
    """Results of the actions since the last state."""

    compared: int = 0
    different: int = 0
    assumed: int = 0
    first: str = ""


@dataclass
class Replay:
    """A machine of one kernel, as far as the recorded actions bring it up."""

    kernel: Kernel
    pointers: Pointers = field(default_factory=Pointers)
    array: PageArray | None = None
    devices: dict[str, Device] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    _memory: list[tuple[int, int]] = field(default_factory=list)
    _namespace_start: int = 0
    _device_of: dict[str, str] = field(default_factory=dict)
    _reported: Counter[int] = field(default_factory=Counter)

    @property
    def device_memory(self) -> np.ndarray:
        """int64[n, 2]: first pfn, and pfn after the last, of memory that devices are made of."""
        return np.array(self._memory, np.int64).reshape(-1, 2)

    @property
    def known(self) -> bool:
        """Whether every struct page of device memory is determined by what was replayed."""
        return self.array is not None and all(d.known for d in self.devices.values())

    def do(self, action: Action) -> None:
        """Do one action, and compare its result with the recorded one."""
        handler: Callable[[Replay, Action], Result | Outcome | None] = _HANDLERS.get(action["op"], _not_yet)
        got = handler(self, action)
        if "result" not in action or got is None:
            return
        if isinstance(got, Outcome):
            self.tally.assumed += 1
            return
        self.tally.compared += 1
        difference = _difference(action["result"], got)
        if difference:
            self.tally.different += 1
            self.tally.first = self.tally.first or f"{action['op']}: {difference}"

    # what handlers use

    def bind(self, device: Device) -> None:
        """A driver takes the device: new pgmap, every struct page initialised."""
        assert self.array is not None
        device.pgmap, device.known = self.pointers.new(), True
        pgmap = DevPagemap(device.pgmap, device.ranges, self.kernel.tree.vmemmap_shift(device.align), device.altmap)
        for range_id in range(len(device.ranges)):
            self._reported[pagemap_range(self.array, pgmap, range_id)] += 1

    def unbind(self, device: Device) -> None:
        """The driver lets go: the struct pages are gone.  What was not known stays so until it is bound anew."""
        assert self.array is not None
        if device.pgmap is not None:
            for start, nr_pages in device.ranges:
                self.array.remove_pages(start, nr_pages)
            self.pointers.forget(device.pgmap)
        device.pgmap = None

    def lose_track(self, name: str | None) -> None:
        """What follows is not determined: of one device, or where that is not told of every bound one."""
        for device in [self.devices[name]] if name in self.devices else self.devices.values():
            device.known &= device.pgmap is None

    def expect_log(self, lines: list[str]) -> None:
        """Each line about initialised pages must tell of an initialisation that the engine did.

        The log is read late, so a line may belong to any action since the boot; times differ.
        """
        for line in lines:
            match = _MEMMAP_LINE.search(line)
            if match is None:
                continue
            self.tally.compared += 1
            nr_pages = int(match[1])
            if self._reported[nr_pages] > 0:
                self._reported[nr_pages] -= 1
            elif self.known:
                self.tally.different += 1
                self.tally.first = self.tally.first or f"the log tells of {nr_pages} pages, the engine of none so many"


def _difference(recorded: Result, got: Result) -> str:
    """How a computed result differs from the recorded one; ``errno: null`` stands for any refusal."""
    for key in recorded.keys() | got.keys():
        if key in ("inferred", "note"):
            continue
        if key == "errno" and recorded.get("errno", "") is None and got.get("errno"):
            continue
        if recorded.get(key) != got.get(key):
            return f"{key} is {recorded.get(key)!r}, the engine says {got.get(key)!r}"
    return ""


def _ranges(records: Any, where: str) -> tuple[tuple[int, int], ...]:
    """Recorded ranges as (first pfn, pages), refused where they contradict themselves or each other."""
    ranges = []
    for record in records:
        first, nr_pages = pfn_of(record["first_pfn"], where), record["nr_pages"]
        last = first + nr_pages - 1 if type(nr_pages) is int and nr_pages > 0 else -1
        if pfn_of(hex(max(last, 0)), where) != last or int(record["start"], 16) != first << PAGE_SHIFT:
            raise WorkbenchError(f"{where}: a range from pfn {first:#x} of {nr_pages!r} pages. Correct the capture.")
        ranges.append((first, nr_pages))
    return tuple(ranges)


def _record(start_pfn: int, nr_pages: int, page_offset: int = 0) -> dict[str, Any]:
    """A range in the captures' form."""
    return {
        "start": hex(start_pfn << PAGE_SHIFT),
        "end": hex((start_pfn + nr_pages) << PAGE_SHIFT),
        "first_pfn": hex(start_pfn),
        "nr_pages": nr_pages,
        "page_offset": page_offset,
    }


def _device(replay: Replay, action: Action) -> Device:
    name = action.get("device")
    if name not in replay.devices:
        raise WorkbenchError(f"{action['op']}: no device {name!r} was made before. Correct the capture.")
    return replay.devices[name]


# handlers, one for each op that is understood


def _boot(replay: Replay, action: Action) -> Result | Outcome:
    """The machine starts; its persistent or soft-reserved memory is where devices will lie."""
    soft_reserved = action.get("soft_reserved", [])
    for memory in [*action.get("persistent_memory", []), *soft_reserved]:
        start, end = int(memory["start"], 16) >> PAGE_SHIFT, int(memory["end"], 16) >> PAGE_SHIFT
        if pfn_of(hex(start), "boot") >= pfn_of(hex(end), "boot"):
            raise WorkbenchError(
                f"boot: memory from {memory['start']} to {memory['end']} is empty. Correct the capture."
            )
        replay._memory.append((start, end))
    if not replay._memory:
        return Outcome.ASSUMED
    low, high = min(start for start, _ in replay._memory), max(end for _, end in replay._memory)
    replay.array = PageArray(replay.kernel, low, high - low)
    replay._namespace_start = low << PAGE_SHIFT
    if not soft_reserved:
        return {"ok": True}
    start, end = replay._memory[-1]
    device = Device(PMD_SIZE, ((start, end - start),))
    replay.devices["dax0.0"] = device
    # Whether a driver takes it by itself is the distribution's choice, not the kernel's.
    bound = bool(action["result"].get("bound"))
    if bound:
        replay.bind(device)
    replay.tally.assumed += 1
    return {
        "device": "dax0.0",
        "size": (end - start) << PAGE_SHIFT,
        "align": PMD_SIZE,
        "bound": bound,
        "ranges": [_record(start, end - start)],
    }


def _create_namespace(replay: Replay, action: Action) -> Result:
    """A namespace at the start of the persistent memory, its device bound."""
    nd_pfn = nvdimm_setup_pfn(Namespace(replay._namespace_start, action["size"], action["align"], action["map"]))
    device = Device(action["align"], ((nd_pfn.start_pfn, nd_pfn.nr_pages),), nd_pfn.altmap)
    replay.devices["dax0.0"] = device
    replay.bind(device)
    return {
        "ok": True,
        "device": "dax0.0",
        "namespace_start_pfn": hex(nd_pfn.start_pfn),
        "data_start_pfn": hex(nd_pfn.data_start_pfn),
        "end_pfn": hex(nd_pfn.end_pfn),
        "pages_per_compound": 1 << replay.kernel.tree.vmemmap_shift(device.align),
        "pages_per_align_unit": device.align >> PAGE_SHIFT,
        "device_size": nd_pfn.dev_size,
        "ranges": [_record(nd_pfn.data_start_pfn, nd_pfn.npfns)],
    }


def _create_device(replay: Replay, action: Action) -> Outcome:
    """The bus makes a device, sizes and binds it; which memory it gets is taken from the record."""
    result = action["result"]
    if result.get("killed"):
        return _not_yet(replay, action)
    if result.get("ok"):
        device = Device(_align(action), _ranges(result["ranges"], "create_device"))
        replay.devices[result["device"]] = device
        replay.bind(device)
    elif "device" in result:
        replay.devices.setdefault(result["device"], Device(PMD_SIZE))
    return Outcome.ASSUMED


def _set_size(replay: Replay, action: Action) -> Outcome:
    """A size store on an unbound device; the ranges that follow are taken from the record."""
    result = action["result"]
    if result.get("ok"):
        device = _device(replay, action)
        if "ranges" in result:
            device.ranges = _ranges(result["ranges"], action["op"])
        elif action["size"] == 0:
            device.ranges = ()
    return Outcome.ASSUMED


def _set_align(replay: Replay, action: Action) -> Outcome:
    if action["result"].get("ok"):
        _device(replay, action).align = _align(action)
    return Outcome.ASSUMED


def _delete(replay: Replay, action: Action) -> Outcome:
    if action["result"].get("ok"):
        del replay.devices[action["device"]]
    return Outcome.ASSUMED


def _bind(replay: Replay, action: Action) -> Outcome:
    if action["result"].get("ok"):
        replay.bind(_device(replay, action))
    return Outcome.ASSUMED


def _unbind(replay: Replay, action: Action) -> Outcome:
    """A driver lets go.  Begun in the background, it may wait for references: not understood yet."""
    if action.get("background"):
        return _not_yet(replay, action)
    if action["result"].get("ok"):
        replay.unbind(_device(replay, action))
    return Outcome.ASSUMED


def _mmap(replay: Replay, action: Action) -> Outcome:
    """A mapping: no struct page changes until it is touched."""
    if action["result"].get("ok") and "device" in action:
        replay._device_of[action["result"]["mapping"]] = action["device"]
    return Outcome.ASSUMED


def _leaves_struct_pages_alone(replay: Replay, action: Action) -> Outcome:
    """Names, mappings and page-table entries may change; no struct page does."""
    return Outcome.ASSUMED


def _observe(replay: Replay, action: Action) -> None:
    if action.get("what") == "kernel_log":
        replay.expect_log([str(line) for line in action["lines"]])
    elif action.get("what") == "devices":
        for name, seen in action["devices"].items():
            device = replay.devices.setdefault(name, Device(PMD_SIZE))
            if device.pgmap is None:
                device.align, device.ranges = _align(seen), _ranges(seen.get("ranges", []), "observe")


def _not_yet(replay: Replay, action: Action) -> Outcome:
    """An action on a device, told by name, by a mapping of it, or by a handle on pages of such a mapping."""
    names = (action.get("device"), *(replay._device_of.get(action.get(key, "")) for key in ("mapping", "handle")))
    name = next((n for n in names if n), None)
    if name and "handle" in action:
        replay._device_of[action["handle"]] = name
    replay.lose_track(name)
    return Outcome.NOT_YET


def _align(source: Action) -> int:
    align = source["align"]
    if align not in _ALIGNS:
        raise WorkbenchError(f"align {align!r} bytes; device-dax knows 4 KiB, 2 MiB and 1 GiB. Correct the capture.")
    return align


_ONLY_NAMES_AND_MAPPINGS = (
    *("init_labels", "region_create", "read_seed", "open", "close", "munmap", "fork", "exit", "wait", "make_file"),
    *("read_pagemap", "read_smaps", "read_kpageflags", "read_struct_pages"),
)
_HANDLERS: dict[str, Callable[[Replay, Action], Result | Outcome | None]] = {
    "boot": _boot,
    "create_namespace": _create_namespace,
    "create_device": _create_device,
    "set_size": _set_size,
    "resize_device": _set_size,
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
