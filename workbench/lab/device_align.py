# SPDX-License-Identifier: GPL-2.0-only
"""What a device's align decides: vmemmap_shift, the size of an entry, and what faults write; devices in pieces.

Everything is asked of a :class:`workbench.machine.Machine`.
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE
from workbench.lab.fault_writes import START, FaultWrites, boot, fault_writes
from workbench.machine import Machine
from workbench.mm.events import Counter, events
from workbench.mm.pgtable import Level
from workbench.text import parse_size

ALIGNS = ("4K", "2M", "1G")
WHOLE = 1 << 30
"""Bytes of the device whose every page is touched: one page of the largest align."""


@dataclass(frozen=True)
class AlignedDevice:
    """One device, its first access, and what it takes to touch all of it.

    Attributes
    ----------
    first : FaultWrites
        The first access.
    path : tuple of Level
        Entries that the processor passes to the page, from the top, the one of the page last.
    vmemmap_shift : int
        Of its pgmap.
    references : int
        That the pgmap takes on itself for :data:`WHOLE` bytes.
    faults, stores, struct_pages : int
        For touching each 4 KiB of :data:`WHOLE` bytes once: entries made, stores to struct pages, struct pages
        written.
    """

    first: FaultWrites
    path: tuple[Level, ...]
    vmemmap_shift: int
    references: int
    faults: int
    stores: int
    struct_pages: int

    @property
    def kernel(self) -> str:
        """The kernel's name."""
        return self.first.kernel

    @property
    def align(self) -> int:
        """Bytes."""
        return self.first.align


def aligned_device(kernel: str, align: str | int) -> AlignedDevice:
    """Make a device of that align, touch a byte, then every page of it.

    Parameters
    ----------
    kernel : str
        See :func:`workbench.series.kernel`.
    align : str or int
        4 KiB, 2 MiB or 1 GiB.
    """
    size = parse_size(align)
    machine, device = boot(kernel, size, WHOLE)
    process, inode = machine.process(), machine.inode(device.name)
    assert device.bound_pgmap is not None
    references = machine.zone_device.refs(device.bound_pgmap)
    inode.events = events(machine.array.nr_pages)
    addr = process.mmap(process.open(device.name), WHOLE)
    process.touch(addr, WHOLE >> PAGE_SHIFT, PAGE_SIZE)
    counts = inode.events.counts
    (vma,) = process.mm.vmas
    return AlignedDevice(
        first=fault_writes(kernel, size),
        path=tuple(level for level, _ in process.mm.walk_levels(addr)),
        vmemmap_shift=device.bound_pgmap.vmemmap_shift,
        references=references,
        faults=int(process.mm.leaves(vma).sum()),
        stores=int(counts[Counter.STORES]),
        struct_pages=int(counts[Counter.LINES_WRITTEN]),
    )


@dataclass(frozen=True)
class Piece:
    """A range of a device, and what the page table makes of its first huge page.

    Attributes
    ----------
    device : str
    start, end : int
        Physical addresses, the last included.
    pgoff : int
        Its first page in the device's file.
    mapped_start : int
        Physical address that a program reaches at the first byte of the range.
    """

    device: str
    start: int
    end: int
    pgoff: int
    mapped_start: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start + 1


@dataclass(frozen=True)
class Region:
    """A dynamic region cut into devices.

    Attributes
    ----------
    kernel : str
    align : int
        Of its devices, bytes.
    start, size : int
        Bytes.
    pieces : tuple of Piece
        By device, then in the order of the file.
    references : dict of str to int
        What each device's pgmap takes on itself.
    hazards : tuple of str
        What the kernel does not check.
    """

    kernel: str
    align: int
    start: int
    size: int
    pieces: tuple[Piece, ...]
    references: dict[str, int]
    hazards: tuple[str, ...]

    def of(self, device: str) -> list[Piece]:
        """The pieces of a device, in the order of its file."""
        return [piece for piece in self.pieces if piece.device == device]


def grown_in_turns(
    kernel: str, align: str | int = "2M", size: str | int = "4G", step: str | int = "512M", off: str | int = 0
) -> Region:
    """Two devices that take turns in growing until the region is full: each ends up in pieces.

    Parameters
    ----------
    kernel : str
    align : str or int
        Of both devices.
    size, step : str or int
        Of the region; by how much a device grows each time.
    off : str or int
        The region begins this far behind a multiple of 1 GiB.

    Raises
    ------
    WorkbenchError
        What the kernel refuses: a step that is no multiple of the align.

    Notes
    -----
    ndctl's daxctl-create.sh does this in its test 4.
    """
    unit, whole, grow = parse_size(align), parse_size(size), parse_size(step)
    start = START + parse_size(off)
    machine = Machine(kernel, soft_reserved=[(start, start + whole)])
    (first,) = machine.bus.devices()
    machine.disable_device(first.name)
    machine.set_size(first.name, 0)
    names = [first.name, machine.region_create().name]
    for name in names:
        machine.set_align(name, unit)
    for total in range(grow, whole // len(names) + 1, grow):
        for name in names:
            machine.set_size(name, total)
    for name in names:
        machine.bind(name)
    pieces = tuple(piece for name in names for piece in _pieces(machine, name))
    pgmaps = {name: machine.bus.device(name).bound_pgmap for name in names}
    references = {name: machine.zone_device.refs(pgmap) for name, pgmap in pgmaps.items() if pgmap is not None}
    return Region(kernel, unit, start, whole, pieces, references, tuple(str(hazard) for hazard in machine.hazards()))


def _pieces(machine: Machine, name: str) -> list[Piece]:
    """The ranges of a device, each touched at its first byte."""
    device, process = machine.bus.device(name), machine.process()
    addr = process.mmap(process.open(name), device.size)
    found = []
    for each in device.ranges:
        at = addr + (each.pgoff << PAGE_SHIFT)
        process.touch(at)
        pfn = process.mm.translate(at)
        assert pfn is not None
        found.append(Piece(name, each.start, each.end, each.pgoff, pfn << PAGE_SHIFT))
    return found
