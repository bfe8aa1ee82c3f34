# SPDX-License-Identifier: GPL-2.0-only
"""A recorder of runs that no machine made: the captures' form, struct pages by the naive model.

It stands for other kernels, aligns, sizes and places than those recorded, and knows nothing of the
engine: what is where comes from FORMAT.md and the specification, each struct page from tests/naive.py.
"""

from __future__ import annotations

import copy
import json
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests import naive

KIB4, MIB, GIB = 4096, 1 << 20, 1 << 30
INFO_BLOCK = 8192
COMPOUND = {"5.17", "6.1", "6.12", "6.1nodedup"}
DEDUP = {"6.1", "6.12"}
FAMILIES = ("5.10", "5.15", "5.17", "6.1", "6.1nodedup", "6.12")


def up(value: int, align: int) -> int:
    return -(-value // align) * align


def range_record(start_pfn: int, nr_pages: int, page_offset: int = 0) -> dict[str, Any]:
    return {
        "start": hex(start_pfn * 4096),
        "end": hex((start_pfn + nr_pages) * 4096),
        "first_pfn": hex(start_pfn),
        "nr_pages": nr_pages,
        "page_offset": page_offset,
    }


def range_records(ranges: list[tuple[int, int]]) -> list[dict[str, Any]]:
    offsets = np.cumsum([0] + [nr_pages for _, nr_pages in ranges]).tolist()
    return [range_record(*each, offset) for each, offset in zip(ranges, offsets, strict=False)]


@dataclass(frozen=True)
class Binding:
    """One range of one binding: its pages begin at ``first``, behind what an altmap keeps."""

    start: int
    end: int
    first: int
    reserve: int
    shift: int
    pgmap: int


@dataclass(eq=False)
class Machine:
    """A kernel of one family and the struct pages of the devices bound on it."""

    family: str

    def __post_init__(self) -> None:
        self.layout = naive.LAYOUTS[{"6.1nodedup": "6.1-nodedup"}.get(self.family, self.family)]
        self.bindings: list[Binding] = []
        self.written: dict[tuple[int, int], int] = {}
        self._pgmaps = 0

    def shift(self, align: int) -> int:
        return (align // 4096).bit_length() - 1 if self.family in COMPOUND else 0

    def bind(self, ranges: list[tuple[int, int]], align: int, reserve: int = 0, free: int = 0) -> None:
        """A driver takes the ranges, which share one pgmap; with an altmap there is one range."""
        self._pgmaps += 1
        pgmap = 0xFFFF888100000000 + zlib.crc32(self._pgmaps.to_bytes(4)) // 8 * 8
        for start, nr_pages in ranges:
            self.written = {at: value for at, value in self.written.items() if not start <= at[0] < start + nr_pages}
            first = start + reserve + free
            self.bindings.append(Binding(start, start + nr_pages, first, reserve, self.shift(align), pgmap))

    def unbind(self, ranges: list[tuple[int, int]]) -> None:
        starts = [start for start, _ in ranges]
        self.bindings = [binding for binding in self.bindings if binding.start not in starts]

    def exists(self, pfn: int) -> bool:
        return any(binding.start <= pfn < binding.end for binding in self.bindings)

    def write(self, pfn: int, word: int, value: int) -> None:
        """What a fault, a pin or a poison leaves: a word of one page, until it is bound anew."""
        self.written[pfn, word] = value

    def words(self, pfn: int) -> list[int]:
        """The struct page of ``pfn``; a later binding writes over what an earlier one left."""
        words = next(filter(None, (self._words(binding, pfn) for binding in reversed(self.bindings))))
        return [self.written.get((pfn, word), value) for word, value in enumerate(words)]

    @cache  # noqa: B019 - a machine lives as long as one test
    def _words(self, binding: Binding, pfn: int) -> list[int] | None:
        L, altmap = self.layout, None
        if binding.first > binding.start:
            altmap = (binding.start, binding.reserve, binding.first - binding.start - binding.reserve)
        if binding.start <= pfn < binding.first:
            mem = naive.populate({}, pfn, 1)
            if pfn >= binding.start + binding.reserve:
                naive.memmap_init_range_altmap(mem, L, (pfn, 0, 1), 0)
            return mem[pfn]
        step = 1 << binding.shift
        count = naive.compound_nr_pages(binding.shift, altmap, self.family in DEDUP, False)
        head = binding.first + (pfn - binding.first) // step * step
        tail = pfn - head
        if pfn < binding.first or head >= binding.end or (pfn >= binding.end and tail >= count):
            return None
        if tail >= count:  # no vmemmap of its own: the second vmemmap page of the compound again
            return self._words(binding, head + 64 + tail % 64)
        init = (L.zone_device, 0, binding.pgmap)
        if tail < 4:
            mem = naive.populate({}, head, 4)
            naive.init_zone_device_page(mem, L, head, *init)
            if step > 1:
                naive.memmap_init_compound(mem, L, head, *init, binding.shift, 4)
        else:  # what memmap_init_compound does for one tail that the head part does not lie in
            mem = naive.populate({}, pfn, 1)
            naive.init_zone_device_page(mem, L, pfn, *init)
            naive.prep_compound_tail(mem, L, head, tail)
            mem[pfn][6] &= naive.MINUS_ONE_32
        return mem[pfn]


class Run:
    """A run being recorded: actions are added, states taken, and the folder written."""

    def __init__(self, family: str, name: str = "k-run") -> None:
        self.machine = Machine(family)
        flags = self.machine.layout
        self.capture: dict[str, Any] = {
            "format": 2,
            "kind": "pages",
            "name": name,
            "kernel": {"family": family, "release": "?", "version": "?", "variant": "?", "cmdline": "", "config": []},
            "machine": {"cpus": 1, "page_bytes": 4096, "page_table_levels": 4, "memory_map": []},
            "page_flag_layout": {
                "node_shift": flags.node_shift,
                "node_bits": flags.node_bits,
                "zone_shift": flags.zone_shift,
                "zone_bits": flags.zone_bits,
                "last_cpupid_shift": flags.last_cpupid_shift,
                "struct_page_bytes": 64,
                "vmemmap_base": "0xffffea0000000000",
            },
            "page_flags": dict(flags.flags),
            "states": [],
            "trailing_actions": [],
        }
        self.arrays: dict[str, np.ndarray] = {}
        self.actions: list[dict[str, Any]] = []
        self.memory: list[tuple[int, int]] = []
        self.devices: dict[str, tuple[list[tuple[int, int]], int]] = {}

    # actions

    def do(self, op: str, result: dict[str, Any] | None = None, **arguments: Any) -> None:
        self.actions.append({"op": op, **arguments} | ({} if result is None else {"result": result}))

    def boot_persistent(self, *memory: tuple[int, int]) -> None:
        """Memory as bytes (start, end)."""
        self.memory = [(start >> 12, end >> 12) for start, end in memory]
        where = [{"start": hex(start), "end": hex(end)} for start, end in memory]
        self.do("boot", {"ok": True}, persistent_memory=where)

    def boot_soft_reserved(self, *memory: tuple[int, int], bound: bool = True) -> None:
        self.memory = [(start >> 12, end >> 12) for start, end in memory]
        for region, (start, end) in enumerate(self.memory):
            self.devices[f"dax{region}.0"] = ([(start, end - start)], 2 * MIB)
            if bound:
                self.machine.bind([(start, end - start)], 2 * MIB)
        where = [{"start": hex(start), "end": hex(end)} for start, end in memory]
        ranges, align = self.devices["dax0.0"]
        self.do(
            "boot",
            {
                "device": "dax0.0",
                "size": ranges[0][1] * 4096,
                "align": align,
                "bound": bound,
                "ranges": range_records(ranges),
            },
            soft_reserved=where,
        )

    def create_namespace(self, size: int, align: int, map: str, labels: bool = True) -> tuple[int, int]:
        """A namespace at the start of the memory; the first pfn of its data and the pfn after its end."""
        start = self.memory[0][0] * 4096
        step = max(align, 2 * MIB)
        struct_pages = 64 * ((size - INFO_BLOCK) // 4096) if map == "dev" else 0
        data = up(start + INFO_BLOCK + struct_pages, step)
        end = (start + size) // step * step
        reserve, free = (INFO_BLOCK // 4096, (data - start - INFO_BLOCK) // 4096) if map == "dev" else (0, 0)
        self.machine.bind([(start >> 12, (end - start) >> 12)], align, reserve, free)
        self.devices["dax0.0"] = ([(start >> 12, (end - start) >> 12)], align)
        if labels:
            self.do("init_labels", {"ok": True})
        self.do(
            "create_namespace",
            {
                "ok": True,
                "device": "dax0.0",
                "namespace_start_pfn": hex(start >> 12),
                "data_start_pfn": hex(data >> 12),
                "end_pfn": hex(end >> 12),
                "pages_per_compound": 1 << self.machine.shift(align),
                "pages_per_align_unit": align // 4096,
                "device_size": end - data,
                "ranges": [range_record(data >> 12, (end - data) >> 12)],
            },
            size=size,
            align=align,
            map=map,
        )
        return data >> 12, end >> 12

    def create_device(self, name: str, ranges: list[tuple[int, int]], align: int, told: bool = True) -> None:
        """``told``: the result gives the ranges, else an observation afterwards does."""
        size = sum(nr_pages for _, nr_pages in ranges) * 4096
        self.machine.bind(ranges, align)
        self.devices[name] = (ranges, align)
        result = {"ok": True, "device": name} | ({"ranges": range_records(ranges)} if told else {})
        self.do("create_device", result, size=size, align=align)
        self.observe_devices(name)

    def bind(self, name: str) -> None:
        self.machine.bind(*self.devices[name])
        self.do("bind", {"ok": True}, device=name)

    def unbind(self, name: str) -> None:
        self.machine.unbind(self.devices[name][0])
        self.do("unbind", {"ok": True}, device=name)

    def resize(self, name: str, ranges: list[tuple[int, int]], told: bool = True, op: str = "resize_device") -> None:
        size = sum(nr_pages for _, nr_pages in ranges) * 4096
        self.devices[name] = (ranges, self.devices[name][1])
        result = {"ok": True} | ({"ranges": range_records(ranges)} if told else {})
        self.do(op, result, device=name, size=size)

    def empty_the_first(self) -> None:
        """The region's default device gives its memory back, as a run on dynamic devices begins."""
        if self.machine.bindings:
            self.unbind("dax0.0")
        self.devices["dax0.0"] = ([], 2 * MIB)
        self.do("set_size", {"ok": True, "inferred": True}, device="dax0.0", size=0)
        note = "the region's first device can be emptied, not deleted"
        self.do("delete_device", {"errno": "EBUSY", "inferred": False}, device="dax0.0", note=note)

    def map(self, name: str, mapping: str = "m1", flags: tuple[str, ...] = ("SHARED",)) -> None:
        handle = f"h-{mapping}"
        self.do("open", {"ok": True}, process="p0", device=name, mode="rw", handle=handle)
        length = max(self.devices[name][1], 2 * MIB)
        result = {"ok": True, "addr": "0x7f0000000000", "mapping": mapping, "addr_mod_align": 0}
        where = {"process": "p0", "device": name, "handle": handle, "length": length, "offset": 0}
        self.do("mmap", result, **where, prot="rw", flags=list(flags))

    def observe_devices(self, *names: str, **more: Any) -> None:
        seen = {}
        for name in names:
            ranges, align = self.devices[name]
            size = sum(nr_pages for _, nr_pages in ranges) * 4096
            seen[name] = {"size": size, "align": align, "ranges": range_records(ranges)}
        self.do("observe", what="devices", devices=seen, **more)

    def log(self, *nr_pages: int) -> None:
        lines = [f"memmap_init_zone_device initialised {n} pages in {at}ms" for at, n in enumerate(nr_pages)]
        self.do("observe", what="kernel_log", lines=lines)

    # states

    def around(self, name: str) -> list[tuple[int, int]]:
        """Spans as the dynamic runs choose them: before, first, last, after of each range."""
        ranges, align = self.devices[name]
        spans = []
        for start, nr_pages in ranges:
            end, last = start + nr_pages, min(max(align // 4096, 8), 520, nr_pages)
            spans += [(start - 8, 8), (start, min(1024, nr_pages)), (end - last, last), (end, 8), (end - last, 8)]
        return spans

    def state(self, name: str, spans: list[tuple[int, int]], **more: Any) -> None:
        """Stop the machine and read the struct pages of ``spans`` (first pfn, pages)."""
        index, records = len(self.capture["states"]), []
        for at, (pfn, nr_pages) in enumerate(spans):
            label = f"span{at}"
            in_ram = not any(start <= pfn < end for start, end in self.memory)
            mapped = in_ram or self.machine.exists(pfn)
            record = {"label": label, "pfn": hex(pfn), "nr_pages": nr_pages, "mapped": mapped}
            if mapped:
                key = f"{index:02d}.{name}.{label}"
                ram = [0x17FFFFC0000000, 0xDEAD000000000100, 7, 0, pfn, 0, 1 << 32, 0]
                rows = [ram if in_ram else self.machine.words(p) for p in range(pfn, pfn + nr_pages)]
                self.arrays[key] = np.array(rows, np.uint64)
                record["array"] = key
            records.append(record)
        state = {"state": name, "index": index, "replayable": True, "pages_changed": None, "spans": records}
        self.capture["states"].append(state | {"actions": self.actions} | more)
        self.actions = []

    def write(self, folder: Path) -> Path:
        return write(folder / self.capture["name"], self.capture, self.arrays)


def write(folder: Path, capture: dict[str, Any], arrays: dict[str, np.ndarray]) -> Path:
    """A run's folder: capture.json and pages.npz."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "capture.json").write_text(json.dumps(capture), encoding="utf-8")
    np.savez(folder / "pages.npz", **arrays)
    return folder


def load(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What :func:`write` takes, from a recorded folder; both may be changed."""
    capture = json.loads((folder / "capture.json").read_text(encoding="utf-8"))
    with np.load(folder / "pages.npz", allow_pickle=False) as archive:
        return capture, {name: archive[name].copy() for name in archive.files}


def only(capture: dict[str, Any], *states: str) -> dict[str, Any]:
    """The run cut down to some of its states."""
    capture = copy.deepcopy(capture)
    capture["states"] = [state for state in capture["states"] if state["state"] in states]
    return capture
