# SPDX-License-Identifier: GPL-2.0-only
"""A small machine to poison: one device, processes that map it, and a file whose faults are written out here.

The faults follow the specification of patches 5 and 11, not the package's own fault handlers.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

from workbench.errors import Signalled, WorkbenchError
from workbench.mm import DevPagemap, PageArray, pgtable
from workbench.mm.memremap import MemoryType, ZoneDevice
from workbench.mm.mmap import AddressSpace, Map, Mm, VmFault
from workbench.mm.pgtable import Level, Pg
from workbench.mm.resource import iomem_resource
from workbench.mm.sparse_vmemmap import Altmap
from workbench.series import kernel

FIRST = 0x100000
FILE = 0xFFFF_8881_0123_4560
OTHER_FILE = 0xFFFF_8881_0765_4320
SIZES = {"4K": 1 << 12, "2M": 1 << 21, "1G": 1 << 30}
MAPPING, INDEX = 3, 4


@dataclass(eq=False)
class DeviceFile:
    """A character device that maps ``first_pfn`` and on, by entries of its align."""

    array: PageArray
    first_pfn: int
    nr_pages: int
    align: int
    compound: bool
    mapping: AddressSpace
    readable: bool = True
    writable: bool = True
    mmap_supported_flags: Map = Map.SYNC

    def mmap(self, vma):
        """Any area."""

    def get_unmapped_area(self, mm, length, pgoff):
        addr = mm.get_unmapped_area(length + self.align)
        return -(-addr // self.align) * self.align

    def may_split(self, vma, addr):
        """Anywhere."""

    def pagesize(self, vma):
        return self.align

    def touch(self, mm, vma, addr, count, stride, write):
        for done in range(count):
            at = addr + done * stride
            if pgtable.access(mm.pt, at, write) < 0:
                fault = self._fault(mm, vma, at)
                if fault != VmFault.NOPAGE:
                    return done, fault
                pgtable.access(mm.pt, at, write)
        return count, VmFault.NOPAGE

    def _fault(self, mm, vma, addr):
        start = addr // self.align * self.align
        pgoff = vma.pgoff_of(start)
        if pgoff + self.align // 4096 > self.nr_pages:
            return VmFault.SIGBUS
        page = addr // 4096 * 4096
        rounded = -(-page // self.align) * self.align if self.array.kernel.tree.rounds_pgoff_up else start
        index = vma.pgoff_of(rounded)
        pages = 1 if self.compound else self.align // 4096
        frame = (self.first_pfn + pgoff) // (self.align // 4096) * (self.align // 4096)
        pfn = frame if self.compound else self.first_pfn + pgoff
        rows = self.array.writable(pfn, pages).pages[pfn - self.array.start_pfn :][:pages]
        new = rows[:, MAPPING] == 0
        rows[new, MAPPING] = self.mapping.address
        rows[new, INDEX] = index + np.flatnonzero(new).astype(np.uint64)
        level = {1 << 12: Level.PTE, 1 << 21: Level.PMD, 1 << 30: Level.PUD}[self.align]
        mm.pt = pgtable.reserve(mm.pt, 3)
        table = int(pgtable.table_for(mm.pt, start, int(level)))
        bits = vma.page_prot | Pg.DEVMAP | (Pg.PSE if level else Pg(0))
        mm.pt.entries[table, int(pgtable.entry_index(start, int(level)))] = frame << 12 | int(bits)
        return VmFault.NOPAGE


@dataclass(eq=False)
class Task:
    name: str
    mm: Mm
    early_kill: bool | None = None

    @property
    def alive(self):
        return not self.mm.gone


@dataclass(eq=False)
class Machine:
    """What :class:`workbench.mm.memory_failure.System` asks for, over one device of ``units`` align units."""

    name: str
    align: int
    units: int = 4
    altmap_pages: int = 0
    type: MemoryType = MemoryType.GENERIC
    memory_failure_early_kill: bool = False
    memory_failure_recovery: bool = True
    hwpoison_filter: object = None
    processes: dict = field(default_factory=dict)

    def __post_init__(self):
        self.kernel = kernel(self.name)
        nr_pages = self.units * max(self.align, 1 << 21) // 4096 + self.altmap_pages
        self.array = PageArray(self.kernel, FIRST, nr_pages)
        addresses = itertools.count(0xFFFF_8881_00A0_1000, 0x1000)
        self.zone_device = ZoneDevice(self.array, iomem_resource(), lambda: next(addresses))
        shift = self.kernel.tree.vmemmap_shift(self.align)
        altmap = Altmap(FIRST, 2, self.altmap_pages - 2) if self.altmap_pages else None
        migrate = {"ops": frozenset({"migrate_to_ram", "page_free"}), "owner": 1} if self.type.name == "PRIVATE" else {}
        self.pgmap = DevPagemap(next(addresses), ((FIRST, nr_pages),), shift, altmap, self.type, **migrate)
        self.zone_device.memremap_pages(self.pgmap)
        self.data = FIRST + self.altmap_pages
        self.mapping = AddressSpace(FILE)
        self.mappings = {FILE: self.mapping, OTHER_FILE: AddressSpace(OTHER_FILE)}
        self.file = DeviceFile(
            self.array, self.data, nr_pages - self.altmap_pages, self.align, bool(shift), self.mapping
        )

    def process(self, name, early_kill=None, mm=None):
        task = Task(name, mm or Mm(self.kernel.tree.base), early_kill)
        self.processes[name] = task
        return task

    def mapped(self, name="p0", first_unit=0, units=None, touch=0, early_kill=None):
        """A process that maps some units and touches byte ``touch`` of the mapping (None: nothing)."""
        task = self.processes.get(name) or self.process(name, early_kill)
        length = (self.units - first_unit if units is None else units) * self.align
        addr = task.mm.mmap(self.file, length, first_unit * self.align)
        if touch is not None:
            task.mm.touch(addr + touch)
        return task, addr

    def get_user_pages_fast(self, process, addr):
        """FOLL_GET of one page: PG_referenced only where the entry was there."""
        present = process.mm.translate(addr) is not None
        if not present:
            try:
                process.mm.touch(addr)
            except Signalled as signalled:
                raise WorkbenchError("no page", 14) from signalled
        pfn = process.mm.translate(addr)
        head = self.head(pfn)
        row = self.array.writable(head, 1).pages[head - self.array.start_pfn]
        row[6] += np.uint64(1 << 32)
        if present:
            row[0] |= np.uint64(self.kernel.abi.flag("referenced"))
        return pfn

    def head(self, pfn):
        word = self.array.words(pfn)[1]
        return (word - 1 - 0xFFFF_EA00_0000_0000) // 64 if word & 1 else pfn

    def flagged(self, flag, first=None, nr=None):
        """Offsets from the data's first page of the pages with a flag."""
        first = self.data if first is None else first
        nr = FIRST + self.pgmap.ranges[0][1] - first if nr is None else nr
        words = self.array.view(first, nr)[:, 0]
        return np.flatnonzero(words & np.uint64(self.kernel.abi.flag(flag))).tolist()

    def image(self):
        """A copy of all struct pages of the device."""
        first, nr = self.pgmap.ranges[0]
        return self.array.view(first, nr).copy()
