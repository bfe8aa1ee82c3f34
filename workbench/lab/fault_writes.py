# SPDX-License-Identifier: GPL-2.0-only
"""One page fault of a device-dax mapping: which struct pages it writes, and which of that before its entry.

The engine tells its stores to struct pages in their order.  Where among them the entry goes into the page
table is seen by a second run, in which every insertion fails: what is stored then was stored before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from workbench.abi import Role
from workbench.abi.constants import PAGE_SHIFT
from workbench.dax.region import MEMREMAP_COMPAT_ALIGN, DevDax
from workbench.errors import Signalled, WorkbenchError
from workbench.machine import Machine, Process
from workbench.mm.events import LOG_COLUMNS, Counter, events
from workbench.mm.memmap import INDEX, MAPPING
from workbench.mm.mmap import VmFault
from workbench.mm.pgtable import Level
from workbench.text import count, parse_size

START = 4 << 30
"""Physical address of the devices here, bytes: a multiple of every align."""

NO_FAILURE = VmFault(0)
SHOWN = 4
"""Struct pages at the start of a huge page whose role is kept."""

_MARKED = (MAPPING, INDEX)


@dataclass(frozen=True)
class FaultWrites:
    """What the first access to a huge page (of the device's align) leaves behind.

    Attributes
    ----------
    kernel : str
    align : int
        Bytes.
    first_touch : int
        Offset of the access into the huge page, bytes.
    result : str
        ``mapped``, or what the process gets: ``SIGBUS`` or ``ENOMEM``.
    entry : Level or None
        Of the entry in the page table; None where there is none.
    stores : int64[n, 2]
        Struct page (counted from the first of the huge page) and word of each store, in their order.
    before_entry : int
        How many of the stores were made when the entry goes in, or would have gone in.
    mapping, index : int
        Words of the first struct page, afterwards.
    roles : tuple of Role
        Of the first struct pages of the huge page, :data:`SHOWN` at most.
    """

    kernel: str
    align: int
    first_touch: int
    result: str
    entry: Level | None
    stores: np.ndarray
    before_entry: int
    mapping: int
    index: int
    roles: tuple[Role, ...]

    @property
    def nr_pages(self) -> int:
        """Pages of 4 KiB of the huge page."""
        return self.align >> PAGE_SHIFT

    @property
    def written(self) -> np.ndarray:
        """Struct pages written, ascending, int64[n]."""
        return np.unique(self.stores[:, 0])

    @property
    def described_at(self) -> np.ndarray:
        """For each struct page written: how many stores are made when both its words are, int64[n]."""
        _, last = np.unique(self.stores[::-1, 0], return_index=True)
        return len(self.stores) - last

    @property
    def compound(self) -> bool:
        """Whether the huge page is one compound page: its tails are asked through the head."""
        return self.roles[0] == Role.HEAD

    @property
    def exposed(self) -> int:
        """Struct pages that the page table leads to before their words are there."""
        return 0 if self.entry is None else int((self.described_at > self.before_entry).sum())

    @property
    def longest_exposed(self) -> int:
        """Stores that are made while the last of those is waiting for its words."""
        return len(self.stores) - self.before_entry if self.exposed else 0


def fault_writes(
    kernel: str, align: str | int = "2M", first_touch: str | int = 0, fails: VmFault = NO_FAILURE
) -> FaultWrites:
    """Touch one byte of a huge page that nobody touched before.

    Parameters
    ----------
    kernel : str
        See :func:`workbench.series.kernel`.
    align : str or int
        Of the device: 4 KiB, 2 MiB or 1 GiB.
    first_touch : str or int
        Offset of the byte into the huge page.
    fails : VmFault
        Injected: what the insertion of the entry answers, OOM or SIGBUS.

    Raises
    ------
    WorkbenchError
        An align that no device has, or an offset outside the huge page.

    Examples
    --------
    >>> fault_writes("5.16+11", "2M").written.tolist()
    [0]
    """
    size, offset = parse_size(align), parse_size(first_touch)
    if not 0 <= offset < size:
        raise WorkbenchError(f"offset {offset} does not lie in a huge page of {size} bytes. Keep it below.")
    done = _touched(kernel, size, offset, fails)
    before = _touched(kernel, size, offset, fails or VmFault.OOM).stores
    if not np.array_equal(before, done.stores[: len(before)]):
        raise WorkbenchError(f"kernel {kernel} stores something else where no entry can be made: no order to be seen.")
    return replace(done, before_entry=len(before))


def _touched(kernel: str, align: int, offset: int, fails: VmFault) -> FaultWrites:
    """A new machine whose only process touches one byte of its device."""
    machine, device = boot(kernel, align)
    process = machine.process()
    addr = process.mmap(process.open(device.name), align)
    machine.inode(device.name).insert_fails = fails
    listen(machine, device)
    result = "mapped"
    try:
        process.touch(addr + offset)
    except Signalled as signalled:
        result = signalled.signal.name
    except WorkbenchError as refused:
        if refused.errno is None:
            raise
        result = str(refused.errno_name)
    level, entry = process.mm.walk(addr + offset)
    first_pfn, nr_pages = device.ranges[0].start_pfn, align >> PAGE_SHIFT
    words = machine.array.words(first_pfn)
    return FaultWrites(
        kernel=kernel,
        align=align,
        first_touch=offset,
        result=result,
        entry=level if entry else None,
        stores=stores_in_order(machine, device),
        before_entry=0,
        mapping=words[MAPPING],
        index=words[INDEX],
        roles=tuple(machine.array.role(first_pfn + page) for page in range(min(SHOWN, nr_pages))),
    )


@dataclass(frozen=True)
class LaterFault:
    """A fault of a huge page that was faulted before.

    Attributes
    ----------
    what : str
    stores : int
        To struct pages.
    index : int
        Of the first struct page, afterwards.
    """

    what: str
    stores: int
    index: int


def later_faults(kernel: str, align: str | int = "2M", first_touch: str | int = 0) -> list[LaterFault]:
    """Fault one huge page three times: first, by another process at its first byte, and again after munmap.

    Parameters
    ----------
    kernel, align, first_touch
        As :func:`fault_writes`.
    """
    size, offset = parse_size(align), parse_size(first_touch)
    machine, device = boot(kernel, size)
    p0, p1 = machine.process("p0"), machine.process("p1")
    addr = p0.mmap(p0.open(device.name), size)

    def faulted(what: str, process: Process, at: int) -> LaterFault:
        listen(machine, device)
        process.touch(at)
        index = machine.array.words(device.ranges[0].start_pfn)[INDEX]
        return LaterFault(what, len(stores_in_order(machine, device)), index)

    found = [faulted(f"p0 reads byte {count(offset)}", p0, addr + offset)]
    found.append(faulted("p1 maps it too and reads byte 0", p1, p1.mmap(p1.open(device.name), size)))
    p0.munmap(addr, size)
    found.append(faulted("p0 unmaps it, maps it again, reads byte 0", p0, p0.mmap(p0.open(device.name), size)))
    return found


def boot(
    kernel: str, align: int, nbytes: int = 0, start: int = START, new_address: Callable[[], int] | None = None
) -> tuple[Machine, DevDax]:
    """A machine with one device of that align over all of its soft-reserved memory, bound.

    Parameters
    ----------
    kernel : str
    align : int
        Bytes.
    nbytes : int
        Of the device; two huge pages unless told.
    start : int
        Its physical address.
    new_address : callable, optional
        As :class:`workbench.machine.Machine` has it.
    """
    end = start + (nbytes or 2 * max(align, MEMREMAP_COMPAT_ALIGN))
    machine = Machine(kernel, soft_reserved=[(start, end)], new_address=new_address)
    (device,) = machine.bus.devices()
    machine.disable_device(device.name)
    machine.set_align(device.name, align)
    machine.bind(device.name)
    return machine, device


def listen(machine: Machine, device: DevDax) -> None:
    """Let a device's file be told, from now on, of the stores that faults of one huge page can make."""
    capacity = len(_MARKED) * (device.align >> PAGE_SHIFT)
    machine.inode(device.name).events = events(machine.array.nr_pages, capacity)


def stores_in_order(machine: Machine, device: DevDax) -> np.ndarray:
    """The stores told since :func:`listen`: struct page (from the device's first on) and word, int64[n, 2]."""
    told = machine.inode(device.name).events
    assert told is not None and told.log is not None and not told.counts[Counter.NOT_LOGGED]
    log = told.log[: int(told.counts[Counter.LOGGED])].astype(np.int64)
    page, word = (LOG_COLUMNS.index(name) for name in ("page", "word"))
    first_row = device.ranges[0].start_pfn - machine.array.start_pfn
    return np.stack([log[:, page] - first_row, log[:, word]], axis=1)
