# SPDX-License-Identifier: GPL-2.0-only
"""The file page that a fault stores in page->index, and what memory failure makes of it.

A process maps a device of some huge pages and first touches huge page :data:`TOUCHED` of it, at a byte
that is chosen.  Patch 5 rounds that address up where it was rounded down before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE, PMD_SIZE
from workbench.errors import WorkbenchError
from workbench.lab.captures import read
from workbench.machine import Machine, Process
from workbench.mm.memory_failure import MfFlags, memory_failure
from workbench.text import parse_size

UNITS, TOUCHED = 4, 1
"""Huge pages of the device, and which of them is touched."""
_START, _GRAIN = 4 << 30, 16 << 20
_MAPPING, _INDEX = 3, 4


@dataclass(frozen=True)
class FirstTouch:
    """What the first touch of a huge page leaves in its struct pages.

    Attributes
    ----------
    kernel : str
    align : int
        Of the device, bytes.
    offset : int
        Of the byte touched, from the start of huge page :data:`TOUCHED`.
    unit : int
        Bytes of a huge page: the align, or 2 MiB for an align of 4 KiB.
    page : int
        Which struct page is looked at, in pages from the start of the huge page: the first with a mapping.
    marked : int
        Struct pages whose mapping and index were set.
    index : int
        Of that page, in pages of the file.
    """

    kernel: str
    align: int
    offset: int
    unit: int
    page: int
    marked: int
    index: int

    @property
    def right(self) -> int:
        """The index that the page should have."""
        return TOUCHED * (self.unit >> PAGE_SHIFT) + self.page

    @property
    def says(self) -> int:
        """The huge page of the file that the index lies in."""
        return (self.index << PAGE_SHIFT) // self.unit


def first_touch(kernel: str, align: str = "2M", offset: str | int = 0) -> FirstTouch:
    """Touch huge page :data:`TOUCHED` of a fresh device and read its struct pages.

    Parameters
    ----------
    kernel : str
        See :func:`workbench.series.kernel`.
    align : str
        ``"4K"``, ``"2M"`` or ``"1G"``.
    offset : str or int
        Bytes into the huge page.

    Raises
    ------
    WorkbenchError
        The offset lies outside the huge page.

    Examples
    --------
    >>> first_touch("5.16+4", "2M", "20K").index, first_touch("5.16+5", "2M", "20K").index
    (512, 1024)
    """
    size = parse_size(align)
    unit, at = max(size, PMD_SIZE), _offset(offset, max(size, PMD_SIZE), align)
    machine, process, start = _mapped(kernel, size, unit)
    process.touch(start + TOUCHED * unit + at)
    pages = machine.array.view(_data_pfn(machine) + TOUCHED * (unit >> PAGE_SHIFT), unit >> PAGE_SHIFT)
    (marked,) = np.nonzero(pages[:, _MAPPING] == np.uint64(process.open("dax0.0").mapping.address))
    index = int(pages[marked[0], _INDEX])
    return FirstTouch(kernel, size, at, unit, int(marked[0]), len(marked), index)


def reads_until_told(kernel: str, align: str = "2M", offset: str | int = 0, most: int = 10) -> tuple[int, list[str]]:
    """A program reads a byte that fails, over and over, until a signal stops it.

    Parameters
    ----------
    kernel, align, offset
        As in :func:`first_touch`.
    most : int
        Reads after which it is given up.

    Returns
    -------
    tuple of (int, list of str)
        Reads up to the signal, 0 where none came; lines of the kernel log.
    """
    size = parse_size(align)
    machine, process, start = _mapped(kernel, size, size)
    addr = start + TOUCHED * size + _offset(offset, size, align)
    process.touch(addr)
    log: list[str] = []
    for number in range(1, most + 1):
        process.touch(addr)  # mapped anew where the last failure unmapped it
        pfn = process.mm.translate(addr)
        assert pfn is not None
        outcome = memory_failure(machine, pfn, MfFlags.ACTION_REQUIRED, process)
        log += outcome.log
        if process.name in outcome.delivered:
            return number, log
    return 0, log


def _offset(offset: str | int, unit: int, align: str) -> int:
    nbytes = parse_size(offset)
    if not 0 <= nbytes < unit:
        raise WorkbenchError(f"byte {nbytes} does not lie in a huge page of {align}. Keep it below {unit}.")
    return nbytes


def _mapped(kernel: str, align: int, unit: int) -> tuple[Machine, Process, int]:
    """A machine with a device of :data:`UNITS` huge pages, and a process that maps all of it."""
    machine = Machine(kernel, persistent_memory=[(_START, _START + (UNITS + 1) * max(unit, _GRAIN))])
    machine.init_labels()
    machine.create_namespace(max((UNITS + 1) * unit, _GRAIN), align, "mem")
    process = machine.process()
    return machine, process, process.mmap(process.open("dax0.0"), UNITS * unit)


def _data_pfn(machine: Machine) -> int:
    return machine.bus.device("dax0.0").ranges[0].start_pfn


# -- what real kernels did -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecordedFailure:
    """A page of a device poisoned on a recorded kernel.

    Attributes
    ----------
    kernel, state : str
        Family of the kernel, and name of the recorded state.
    page : int
        The page that failed, in pages of the file.
    index : int
        page->index of its struct page (of the head, where there is one), as recorded.
    expected : int
        What the index should be.
    told : int or None
        Address in the signal, in bytes of the file; None for no signal.
    """

    kernel: str
    state: str
    page: int
    index: int
    expected: int
    told: int | None

    @property
    def right(self) -> bool:
        """Whether the process was told of the huge page that failed."""
        return self.told is not None and self.told // PMD_SIZE == self.page * PAGE_SIZE // PMD_SIZE


def recorded_failures(captures: Path, run: str) -> tuple[RecordedFailure, ...]:
    """Every page that a recorded run poisoned by MADV_HWPOISON, in order.

    Parameters
    ----------
    captures : Path
        The folder of the runs.
    run : str
        ``"k5.17-index-2M"`` or ``"k5.15-index-2M"``: devices with an align of 2 MiB.
    """
    capture = read(captures / run)
    found = []
    for state in capture.states:
        poison = [action for action in state.actions if action.get("advice") == "HWPOISON"]
        if not poison:
            continue
        (poisoned,) = poison
        pfn, page = int(poisoned["pfn"], 16), poisoned["file_offset"] // PAGE_SIZE
        words = state.image.words[np.flatnonzero(state.image.pfns == pfn)[0]]
        tail = int(words[1]) & 1
        first = pfn & ~(PMD_SIZE // PAGE_SIZE - 1)
        if tail:
            words = state.image.words[np.flatnonzero(state.image.pfns == first)[0]]
        result, told = poisoned["result"], None
        if "signal" in result:
            told = poisoned["file_offset"] + int(result["addr"], 16) - int(poisoned["addr"], 16)
        expected = page - (pfn - first if tail else 0)
        found.append(RecordedFailure(capture.family, state.name, page, int(words[_INDEX]), expected, told))
    return tuple(found)
