# SPDX-License-Identifier: GPL-2.0-only
"""arch/x86/kernel/e820.c: the table of memory the kernel boots with, and the option ``memmap=``.

* An entry is a range and a type.  Ranges may overlap until the table is sanitised; then the higher
  type number wins, and neighbours of one type become one entry.
* Soft reserved and legacy persistent memory keep their borders: an entry may stand for one device.
* RAM goes to the page allocator.  Soft reserved memory does not: device-dax makes regions of it.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

from workbench.errors import KernelCrash, WorkbenchError
from workbench.firmware.cmdline import memparse, simple_strtoull
from workbench.mm.resource import Desc

_ULLONG_MAX = (1 << 64) - 1


class E820Type(IntEnum):
    """E820_TYPE_* (arch/x86/include/asm/e820/types.h)."""

    RAM = 1
    RESERVED = 2
    ACPI = 3
    NVS = 4
    UNUSABLE = 5
    PMEM = 7
    PRAM = 12
    SOFT_RESERVED = 0xEFFFFFFF


_NO_MERGE = (E820Type.PRAM, E820Type.SOFT_RESERVED)

_DMESG = {
    E820Type.RAM: "usable",
    E820Type.RESERVED: "reserved",
    E820Type.ACPI: "ACPI data",
    E820Type.NVS: "ACPI NVS",
    E820Type.UNUSABLE: "unusable",
    E820Type.PMEM: "persistent (type 7)",
    E820Type.PRAM: "persistent (type 12)",
    E820Type.SOFT_RESERVED: "soft reserved",
}

_IOMEM = {
    E820Type.RAM: ("System RAM", Desc.NONE),
    E820Type.RESERVED: ("Reserved", Desc.RESERVED),
    E820Type.ACPI: ("ACPI Tables", Desc.ACPI_TABLES),
    E820Type.NVS: ("ACPI Non-volatile Storage", Desc.ACPI_NV_STORAGE),
    E820Type.UNUSABLE: ("Unusable memory", Desc.NONE),
    E820Type.PMEM: ("Persistent Memory", Desc.PERSISTENT_MEMORY),
    E820Type.PRAM: ("Persistent Memory (legacy)", Desc.PERSISTENT_MEMORY_LEGACY),
    E820Type.SOFT_RESERVED: ("Soft Reserved", Desc.SOFT_RESERVED),
}


@dataclass(frozen=True)
class E820Entry:
    """A range of one type.

    Attributes
    ----------
    start, size : int
        Bytes.
    type : int
        An :class:`E820Type`, or any other number that firmware or ``memmap=`` gives.
    """

    start: int
    size: int
    type: int

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.start + self.size

    @property
    def name(self) -> str:
        """What /proc/iomem calls it (e820_type_to_string())."""
        return _IOMEM[E820Type(self.type)][0] if self.type in _IOMEM else "Unknown E820 type"

    @property
    def desc(self) -> Desc:
        """e820_type_to_iores_desc()."""
        return _IOMEM[E820Type(self.type)][1] if self.type in _IOMEM else Desc.NONE

    def __str__(self) -> str:
        kind = _DMESG[E820Type(self.type)] if self.type in _DMESG else f"type {self.type}"
        return f"[mem {self.start:#018x}-{self.end - 1:#018x}] {kind}"


class E820Table:
    """e820_table.

    Parameters
    ----------
    entries : iterable of E820Entry
        As firmware gives them: in any order, possibly overlapping.
    """

    def __init__(self, entries: Iterable[E820Entry] = ()) -> None:
        self.entries: list[E820Entry] = list(entries)

    def __iter__(self) -> Iterator[E820Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def range_add(self, start: int, size: int, type: int) -> None:
        """Append a range; it may overlap others until :meth:`update_table` (e820__range_add())."""
        self.entries.append(E820Entry(start, size, type))

    def range_update(self, start: int, size: int, old_type: int, new_type: int) -> int:
        """Give what is of ``old_type`` in a range ``new_type`` (e820__range_update()).

        Returns
        -------
        int
            Bytes changed.

        Raises
        ------
        KernelCrash
            The two types are one: the kernel's BUG.  Nothing changes.
        """
        if old_type == new_type:
            raise KernelCrash(
                f"the range {start:#x}-{start + size - 1:#x} is to change from type {old_type} to the same type: "
                "a BUG in e820__range_update(). Give two types."
            )
        kept: list[E820Entry] = []
        changed: list[E820Entry] = []
        for entry in self.entries:
            if entry.type != old_type:
                kept.append(entry)
                continue
            outside, inside = _cut(entry, start, start + size)
            kept += outside
            changed += [replace(part, type=new_type) for part in inside]
        self.entries = kept + changed
        return sum(part.size for part in changed)

    def range_remove(self, start: int, size: int, old_type: int | None = None) -> int:
        """Forget a range, of any type or of ``old_type`` only (e820__range_remove()); the bytes removed."""
        kept: list[E820Entry] = []
        removed = 0
        for entry in self.entries:
            if old_type is not None and entry.type != old_type:
                kept.append(entry)
                continue
            outside, inside = _cut(entry, start, start + size)
            kept += outside
            removed += sum(part.size for part in inside)
        self.entries = kept
        return removed

    def update_table(self) -> None:
        """Sort and untangle: no overlaps, the higher type number on top (e820__update_table())."""
        borders = sorted({border for entry in self.entries for border in (entry.start, entry.end)})
        clean: list[E820Entry] = []
        for start, end in itertools.pairwise(borders):
            types = [entry.type for entry in self.entries if entry.start <= start and end <= entry.end]
            if not types:
                continue
            last = clean[-1] if clean else None
            if last and last.end == start and last.type == max(types) and last.type not in _NO_MERGE:
                clean[-1] = replace(last, size=end - last.start)
            else:
                clean.append(E820Entry(start, end - start, max(types)))
        self.entries = clean

    def text(self, who: str = "BIOS-e820") -> list[str]:
        """The table as the kernel's log prints it (e820__print_table())."""
        return [f"{who}: {entry}" for entry in self.entries]

    def parse_memmap_one(self, option: str) -> None:
        """Apply one value of ``memmap=`` (parse_memmap_one()).

        ``exactmap``; ``nn@ss`` RAM; ``nn#ss`` ACPI data; ``nn$ss`` reserved; ``nn!ss`` legacy persistent
        memory; ``nn%ss-oldtype+newtype`` change, remove or add; ``nn`` no RAM above.

        Raises
        ------
        WorkbenchError
            EINVAL: no number at the start, or something behind the last one.  As in the kernel, what was
            read before is applied.
        KernelCrash
            ``oldtype`` equals ``newtype``.
        """
        if option.startswith("exactmap"):
            self.entries = []
            return
        size, rest = memparse(option)
        if rest == option:
            raise _malformed(option, option)
        if rest[:1] in _ADDS:
            type = _ADDS[rest[0]]
            start, rest = memparse(rest[1:])
            self.range_add(start, size, type)
        elif rest.startswith("%"):
            rest = self._change(size, rest[1:])
        else:
            self.range_remove(size, _ULLONG_MAX - size, E820Type.RAM)
        if rest:
            raise _malformed(option, rest)

    def _change(self, size: int, rest: str) -> str:
        """``ss-oldtype+newtype`` of ``memmap=nn%...``; what is left of it."""
        start, rest = memparse(rest)
        old = new = 0
        if rest.startswith("-"):
            old, rest = simple_strtoull(rest[1:])
        if rest.startswith("+"):
            new, rest = simple_strtoull(rest[1:])
        if old and new:
            self.range_update(start, size, old, new)
        elif new:
            self.range_add(start, size, new)
        else:
            self.range_remove(start, size, old or None)
        return rest


_ADDS = {"@": E820Type.RAM, "#": E820Type.ACPI, "$": E820Type.RESERVED, "!": E820Type.PRAM}


def _malformed(option: str, at: str) -> WorkbenchError:
    return WorkbenchError(
        f"memmap={option}: cannot be read from {at!r} on. Write nn@ss, nn#ss, nn$ss, nn!ss, "
        "nn%ss-oldtype+newtype, nn or exactmap.",
        errno.EINVAL,
    )


def _cut(entry: E820Entry, start: int, end: int) -> tuple[list[E820Entry], list[E820Entry]]:
    """The parts of an entry outside and inside ``start`` to ``end`` (exclusive), empty ones left out."""
    low, high = max(entry.start, start), min(entry.end, end)
    if low >= high:
        return [entry], []
    sides = ((entry.start, low), (high, entry.end))
    outside = [E820Entry(first, last - first, entry.type) for first, last in sides if first < last]
    return outside, [E820Entry(low, high - low, entry.type)]
