# SPDX-License-Identifier: GPL-2.0-only
"""Ordinary huge pages: memory of the page allocator mapped by one entry, for comparison with a device's.

Which frame the allocator gives, and what else it keeps in the struct pages, is not computed: a page comes
with its frame, and its struct pages begin as an image that the caller has.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from workbench.abi.constants import PAGES_PER_SUBSECTION
from workbench.errors import WorkbenchError
from workbench.mm import PageArray, pgtable
from workbench.mm.gup import Backing
from workbench.mm.mmap import AddressSpace, Map, Mm, Vm, Vma, VmFault
from workbench.mm.pgtable import Level, Pg

_NO_FLAGS = Map(0)
_READ_WRITE = Vm.READ | Vm.WRITE | Vm.MAYREAD | Vm.MAYWRITE | Vm.MAYEXEC


@dataclass(eq=False)
class HugePageFile:
    """What an anonymous mapping of huge pages stands on: transparent ones, or hugetlb's.

    Attributes
    ----------
    backing : Backing
        ANONYMOUS (transparent) or HUGETLB.
    level : Level
        PMD or PUD: the size of a page.
    """

    backing: Backing
    level: Level
    mapping: AddressSpace = field(default_factory=lambda: AddressSpace(0))
    readable: bool = True
    writable: bool = True
    mmap_supported_flags: Map = _NO_FLAGS

    def mmap(self, vma: Vma) -> None:
        """Any area is taken."""

    def get_unmapped_area(self, mm: Mm, length: int, pgoff: int) -> int:
        """An address at a multiple of the page size."""
        return -(-mm.get_unmapped_area(length + self.level.size) // self.level.size) * self.level.size

    def may_split(self, vma: Vma, addr: int) -> None:
        """Not looked at here."""

    def pagesize(self, vma: Vma) -> int:
        """Bytes of a page."""
        return self.level.size

    def touch(self, mm: Mm, vma: Vma, addr: int, count: int, stride: int, write: bool) -> tuple[int, VmFault]:
        """Accesses succeed where a page was given; which frame a fault would take is the allocator's business."""
        for done in range(count):
            if pgtable.access(mm.pt, addr + done * stride, write) < 0:
                return done, VmFault.OOM
        return count, VmFault.NOPAGE


def map_huge_pages(mm: Mm, file: HugePageFile, length: int, chosen: int | None = None) -> Vma:
    """Map ``length`` bytes of huge pages, none of them there yet."""
    start = file.get_unmapped_area(mm, length, 0) if chosen is None else chosen
    shared = Vm.SHARED | Vm.MAYSHARE if file.backing is Backing.HUGETLB else Vm(0)
    vma = Vma(start, start + length, _READ_WRITE | shared, file, 0)
    mm.insert(vma)
    return vma


def give_huge_page(mm: Mm, vma: Vma, addr: int, pfn: int) -> None:
    """Let the huge page at ``pfn`` (its first) be what a write at ``addr`` has faulted in."""
    level = vma.file.level if isinstance(vma.file, HugePageFile) else Level.PMD
    mm.pt = pgtable.reserve(mm.pt, 3)
    table = pgtable.table_for(mm.pt, addr, level)
    bits = vma.page_prot | Pg.RW | Pg.ACCESSED | Pg.DIRTY | Pg.PSE
    mm.pt.entries[table, pgtable.entry_index(addr, level)] = np.uint64((pfn << 12) | bits)


def set_struct_pages(array: PageArray, pfns: np.ndarray, words: np.ndarray) -> None:
    """Begin with an image of struct pages.

    Parameters
    ----------
    array : PageArray
    pfns : int64[n]
        Ascending.
    words : uint64[n, 8]

    Raises
    ------
    WorkbenchError
        A page outside the array.  Nothing changes.
    """
    rows = pfns - array.start_pfn
    if len(rows) and not 0 <= rows[0] <= rows[-1] < array.nr_pages:
        raise WorkbenchError(
            f"the image has pfns {pfns[0]:#x} to {pfns[-1]:#x}, the array {array.start_pfn:#x} to "
            f"{array.end_pfn - 1:#x}. Make the array larger."
        )
    for first in np.unique(pfns // PAGES_PER_SUBSECTION * PAGES_PER_SUBSECTION).tolist():
        if not array.exists(first)[0]:
            array.add_pages(first, PAGES_PER_SUBSECTION)
        array.materialise(first, PAGES_PER_SUBSECTION)
    array.memmap.pages[rows] = words
