# SPDX-License-Identifier: GPL-2.0-only
"""A byte of a huge page fails: one machine, three processes that map it, and what each is told.

::

    device      | page 0 | page 1 | page 2 |       huge pages; a byte of page 1 fails
    p0          | page 0 | page 1 | page 2 |       reads that byte
    p1                   | page 1 | page 2 |       maps from page 1 on
    p2          | page 0 | page 1 | page 2 |       asked to be told early
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.abi import Role
from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE, PMD_ORDER
from workbench.errors import Signal, WorkbenchError
from workbench.lab.captures import read
from workbench.machine import Machine
from workbench.mm.memory_failure import (
    MemoryFailureCrash,
    MfFlags,
    Outcome,
    compound_head,
    memory_failure,
)
from workbench.mm.mmap import Mm
from workbench.series import kernel as kernel_named
from workbench.text import parse_size

UNITS, FAILS = 3, 1
"""Huge pages of the device, and which of them has the byte that fails."""
_START, _GRAIN = 4 << 30, 16 << 20
_FIRST_PAGE = {"p0": 0, "p1": FAILS, "p2": 0}


@dataclass(frozen=True)
class Told:
    """One process: what it maps, and what the failure does to it.

    Attributes
    ----------
    name : str
    start : int
        User address of its mapping.
    first : int
        The huge page of the device that it begins with.
    runs, early : bool
        It reads the byte; it asked to be told early.
    before, after : frozenset of int
        Huge pages of the device that it has an entry for.
    signal : Signal or None
    """

    name: str
    start: int
    first: int
    runs: bool
    early: bool
    before: frozenset[int]
    after: frozenset[int]
    signal: Signal | None

    def hit(self, align: int) -> int | None:
        """The huge page of the device that the signal's address lies in."""
        return None if self.signal is None else self.first + (self.signal.addr - self.start) // align


@dataclass(frozen=True)
class Poisoned:
    """What a failing byte does on one kernel.

    Attributes
    ----------
    kernel : str
    align : int
        Bytes of a huge page.
    data_pfn : int
        First pfn of the device.
    pfn : int
        Of the byte that fails.
    first_touch : int
        Offset of the first access to its huge page, bytes.
    looked_at : int
        Pfn of the struct page whose mapping and index count.
    role : Role
        What that struct page is.
    mapping, index : int
        Those two words of it.
    pages : tuple of (int, Role)
        Some struct pages of the huge page that fails, by offset in pages: its first ones, those around the byte
        and the last.
    told : tuple of Told
    outcome : Outcome
    crash : str
        How the kernel dies; empty where it does not.
    """

    kernel: str
    align: int
    data_pfn: int
    pfn: int
    first_touch: int
    looked_at: int
    role: Role
    mapping: int
    index: int
    pages: tuple[tuple[int, Role], ...]
    told: tuple[Told, ...]
    outcome: Outcome
    crash: str

    @property
    def unit_pages(self) -> int:
        """Pages of 4 KiB of a huge page."""
        return self.align >> PAGE_SHIFT

    @property
    def fails_pfn(self) -> int:
        """First pfn of the huge page that fails."""
        return self.data_pfn + FAILS * self.unit_pages

    @property
    def right(self) -> bool:
        """Whether every address told lies in the huge page that failed, and the process that reads it is told."""
        hits = {each.name: each.hit(self.align) for each in self.told}
        return hits["p0"] == FAILS and set(hits.values()) <= {FAILS, None}


def poisoned(
    kernel: str, align: str = "1G", poison: str | int = "20K", first_touch: str | int = 0, neighbour: bool = False
) -> Poisoned:
    """Let a byte fail and see who is told what.

    Parameters
    ----------
    kernel : str
        See :func:`workbench.series.kernel`.
    align : str
        Of the device: ``"2M"`` or ``"1G"``.
    poison, first_touch : str or int
        Offsets into the huge page of the byte that fails, and of the first access to the page.
    neighbour : bool
        Whether p0 and p2 have touched the next huge page too.

    Raises
    ------
    WorkbenchError
        An offset outside the huge page.
    """
    size = parse_size(align)
    offsets = [parse_size(each) if isinstance(each, str) else each for each in (poison, first_touch)]
    if not all(0 <= offset < size for offset in offsets):
        raise WorkbenchError(f"offsets {offsets} bytes do not lie in a huge page of {align}. Keep them below it.")
    machine = Machine(kernel, persistent_memory=[(_START, _START + (UNITS + 1) * max(size, _GRAIN))])
    machine.init_labels()
    device = machine.create_namespace(max((UNITS + 1) * size, _GRAIN), size, "mem")
    data_pfn = device.ranges[0].start >> PAGE_SHIFT
    starts = {}
    for name, first in _FIRST_PAGE.items():
        process = machine.process(name)
        process.early_kill = name == "p2"
        starts[name] = process.mmap(process.open(device.name), (UNITS - first) * size, first * size)
        in_page = offsets[1] if name == "p0" else 0
        process.mm.touch(starts[name] + (FAILS - first) * size + in_page)
        if neighbour and name != "p1":
            process.mm.touch(starts[name] + (FAILS + 1 - first) * size)
    pfn = data_pfn + ((FAILS * size + offsets[0]) >> PAGE_SHIFT)
    before = {name: _present(machine.process(name).mm, starts[name], size, _FIRST_PAGE[name]) for name in starts}
    looked_at = compound_head(machine.array, pfn) if machine.kernel.tree.has(1) else pfn
    words = machine.array.words(looked_at)
    outcome, crash = _fail(machine, pfn)
    told = tuple(
        Told(
            name,
            start,
            _FIRST_PAGE[name],
            name == "p0",
            name == "p2",
            before[name],
            _present(machine.process(name).mm, start, size, _FIRST_PAGE[name]),
            outcome.delivered.get(name),
        )
        for name, start in starts.items()
    )
    fails_pfn = data_pfn + FAILS * (size >> PAGE_SHIFT)
    at, last = pfn - fails_pfn, (size >> PAGE_SHIFT) - 1
    shown = sorted({0, 1, 2, max(at - 1, 0), at, min(at + 1, last), last})
    pages = tuple((offset, machine.array.role(fails_pfn + offset)) for offset in shown)
    role = machine.array.role(looked_at)
    mapping, index = words[3], words[4]
    return Poisoned(
        kernel, size, data_pfn, pfn, offsets[1], looked_at, role, mapping, index, pages, told, outcome, crash
    )


def _fail(machine: Machine, pfn: int) -> tuple[Outcome, str]:
    try:
        return memory_failure(machine, pfn, MfFlags.ACTION_REQUIRED, machine.process("p0")), ""
    except MemoryFailureCrash as dead:
        return dead.outcome, str(dead)


def _present(mm: Mm, start: int, size: int, first: int) -> frozenset[int]:
    """Huge pages of the device that a mapping has an entry for."""
    return frozenset(unit for unit in range(first, UNITS) if mm.translate(start + (unit - first) * size) is not None)


# -- what real kernels marked --------------------------------------------------------------------------------

_RECORDED = (
    ("device-dax", "k5.15-static-2M-mem", "hwpoison_madvise_tail"),
    ("device-dax", "k5.17-static-2M-mem", "hwpoison_madvise_tail"),
    ("device-dax", "k6.1-static-2M-mem", "hwpoison_madvise_tail"),
    ("hugetlbfs", "k6.1-hugetlb-thp", "hugetlb2M_hwpoison_page9"),
    ("transparent huge page", "k6.1-hugetlb-thp", "thp_hwpoison_page9"),
)


@dataclass(frozen=True)
class Recorded:
    """A huge page of 2 MiB poisoned by MADV_HWPOISON on a real kernel.

    Attributes
    ----------
    memory, kernel : str
        What kind of memory, and the kernel's family.
    page : int
        The page that failed, by its place in the huge page.
    role : Role
        What its struct page is afterwards.
    marked : tuple of int
        Pages with PG_hwpoison, by their place in the huge page.
    told : int or None
        Bytes from the start of the huge page to the address in the signal; None for no signal.
    """

    memory: str
    kernel: str
    page: int
    role: Role
    marked: tuple[int, ...]
    told: int | None


def recorded_marks(captures: Path) -> tuple[Recorded, ...]:
    """The recorded huge pages, those of device-dax first.

    Parameters
    ----------
    captures : Path
        The folder of the runs.
    """
    return tuple(_recorded(captures, *each) for each in _RECORDED)


def _recorded(captures: Path, memory: str, run: str, name: str) -> Recorded:
    capture = read(captures / run)
    (state,) = (each for each in capture.states if each.name == name)
    (poison,) = (each for each in state.actions if each.get("advice") == "HWPOISON")
    (line,) = (
        line for each in state.actions if "lines" in each for line in each["lines"] if line.startswith("Injecting")
    )
    found = re.search(r"pfn (0x[0-9a-f]+)", line)
    assert found is not None
    pfn = int(found[1], 16)
    first = pfn >> PMD_ORDER << PMD_ORDER
    image = state.image
    inside = (image.pfns >= first) & (image.pfns < first + (1 << PMD_ORDER))
    flag = np.uint64(1 << capture.page_flags["hwpoison"])
    marked = tuple((image.pfns[inside & (image.words[:, 0] & flag != 0)] - first).tolist())
    (row,) = np.flatnonzero(image.pfns == pfn)
    role = kernel_named(capture.family).abi.role(image.words[row].tolist(), pfn)
    result, told = poison["result"], None
    if "signal" in result:
        told = int(result["addr"], 16) - int(poison["addr"], 16) + (pfn - first) * PAGE_SIZE
    return Recorded(memory, capture.family, pfn - first, role, marked, told)
