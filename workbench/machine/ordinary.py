# SPDX-License-Identifier: GPL-2.0-only
"""Ordinary memory, that of the page allocator, mapped as huge or base pages: what devices are compared with.

Struct pages either begin as an image that the caller has (:func:`set_struct_pages`, :func:`give_huge_page`), or are
made as the allocator hands them out (:class:`OrdinaryMemory`), as far as taking and giving references asks: zone and
node, compound pages by the engine's ``prep_compound_page()``, references, and a mapping that is not zero.

Not computed: which frame the allocator gives (the next one, at a multiple of the page's size) and takes back (none);
page flags but ``PG_head``; mapcounts, which stay as of a page that is not mapped; list links, index, private and memory
group, which stay as initialised; the destructor, which stays that of any compound page; the tails' mapping of a 1 GiB
page, which hugetlb leaves zero.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE, PAGES_PER_SUBSECTION
from workbench.errors import WorkbenchError
from workbench.machine.machine import Machine
from workbench.machine.process import Process
from workbench.mm import PageArray, page_alloc, pgtable
from workbench.mm.gup import Backing
from workbench.mm.memmap import COUNTS, FLAGS, LOW_HALF, MAPPING, REFCOUNT_SHIFT
from workbench.mm.mmap import AddressSpace, Map, Mm, Vm, Vma, VmFault
from workbench.mm.pgtable import Level, Pg
from workbench.text import size

NORMAL_START = 4 << 30
"""Where ZONE_NORMAL begins on x86-64, in bytes."""

_NO_FLAGS = Map(0)
_NO_FILE = Map.ANONYMOUS | Map.HUGETLB | 0x3F << 26
_READ_WRITE = Vm.READ | Vm.WRITE | Vm.MAYREAD | Vm.MAYWRITE | Vm.MAYEXEC
_PAGE_MAPPING_ANON = 1


class OrdinaryMemory:
    """Memory of ZONE_NORMAL, node 0, all of it free at first.

    Parameters
    ----------
    machine : Machine
        One with ``ordinary_bytes``.
    first_pfn : int
        The first page that is handed out.
    """

    def __init__(self, machine: Machine, first_pfn: int = NORMAL_START >> PAGE_SHIFT) -> None:
        self.array = machine.array
        self.new_address = machine.new_address
        self._next = first_pfn
        self._lock = Lock()

    def take(self, order: int, nr: int, references: int, mapping: int) -> int:
        """Hand out neighbouring pages, each of ``2**order`` base pages.

        Parameters
        ----------
        order : int
        nr : int
            How many of them.
        references : int
            What their users hold of each.
        mapping : int
            Word 3 of each (of the head).

        Returns
        -------
        int
            The first pfn.

        Raises
        ------
        WorkbenchError
            ENOMEM: nothing is left.

        Kernel
        ------
        mm/page_alloc.c, ``memmap_init_range()``, ``__free_pages_core()``, ``prep_new_page()``; 1 GiB pages:
        mm/hugetlb.c, ``prep_compound_gigantic_page()``.
        """
        with self._lock:
            first = -(-self._next >> order) << order
            nr_pages = nr << order
            if first + nr_pages > self.array.end_pfn:
                raise WorkbenchError(
                    f"no {size(nr_pages << PAGE_SHIFT)} are left of the ordinary memory, which ends at "
                    f"{self.array.end_pfn << PAGE_SHIFT:#x}. Give the machine more ordinary_bytes.",
                    errno.ENOMEM,
                )
            self._next = first + nr_pages
            self._prepare(first, nr_pages, order, references, mapping)
        return first

    def _prepare(self, first: int, nr_pages: int, order: int, references: int, mapping: int) -> None:
        _let_exist(self.array, first, nr_pages)
        vm, start = self.array.memmap, first - self.array.start_pfn
        end = start + nr_pages
        zone = np.uint64(self.array.kernel.abi.zone("NORMAL"))
        page_alloc.memmap_init_range(vm, start, end, zone, np.uint64(0), start, end, None)
        rows = vm.pages[start:end]
        rows[:, FLAGS] &= ~vm.reserved
        rows[:, COUNTS] &= LOW_HALF
        heads = rows[:: 1 << order]
        heads[:, COUNTS] |= np.uint64(references) << REFCOUNT_SHIFT
        heads[:, MAPPING] = np.uint64(mapping)
        for head in range(start, end, 1 << order) if order else ():
            page_alloc.prep_compound_page(vm, head, order, None)


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


@dataclass(eq=False)
class ZeroFile(HugePageFile):
    """``/dev/zero`` or no file at all: a fault takes its page from the allocator.

    Attributes
    ----------
    backing : Backing
        ANONYMOUS (huge pages are transparent), HUGETLB, or FILE: shared memory.
    level : Level
        The largest page.
    mapping : AddressSpace
        Its address is that of the anon_vma where an area is private.
    memory : OrdinaryMemory
    """

    memory: OrdinaryMemory = field(kw_only=True)

    def get_unmapped_area(self, mm: Mm, length: int, pgoff: int) -> int:
        """An address: for hugetlb at a multiple of the page size, else wherever there is room."""
        if self.backing is Backing.HUGETLB:
            return super().get_unmapped_area(mm, length, pgoff)
        return mm.get_unmapped_area(length)

    def pagesize(self, vma: Vma) -> int:
        """Bytes of a page: transparent huge pages do not count."""
        return self.level.size if self.backing is Backing.HUGETLB else PAGE_SIZE

    def touch(self, mm: Mm, vma: Vma, addr: int, count: int, stride: int, write: bool) -> tuple[int, VmFault]:
        """Access ``count`` addresses, faulting as needed; see :class:`workbench.mm.mmap.File`.

        Base pages that follow each other are given at once, as those accesses would one by one.

        Raises
        ------
        WorkbenchError
            A private area is read where nothing was written: the zero page is not computed; or it is written where
            its pages are write-protected.
        """
        done = 0
        while done < count:
            at = addr + done * stride
            if pgtable.access(mm.pt, at, write) >= 0:
                step = mm.walk(at)[0].size
                end = at // step * step + step
            else:
                try:
                    end = self._fault(mm, vma, at, count - done if stride == PAGE_SIZE else 1, write)
                except WorkbenchError as refused:
                    if refused.errno == errno.ENOMEM:
                        return done, VmFault.OOM
                    raise
            done += -(-(end - at) // stride) if stride else count
        return count, VmFault.NOPAGE

    def _fault(self, mm: Mm, vma: Vma, addr: int, base_pages: int, write: bool) -> int:
        """Map a page at ``addr``, or up to ``base_pages`` base pages; the address up to which they reach.

        Kernel: mm/memory.c, ``do_anonymous_page()``; mm/huge_memory.c, ``do_huge_pmd_anonymous_page()``;
        mm/hugetlb.c, ``hugetlb_no_page()``; mm/shmem.c, ``shmem_fault()``.
        """
        shared = bool(vma.flags & Vm.SHARED)
        above, entry = mm.walk(addr)
        if entry or not (write or shared):
            raise WorkbenchError(
                f"{addr:#x} is {'write-protected' if entry else 'read before it is written'}; ordinary memory does "
                "that by copying on write, which is not computed. Write to private memory first."
            )
        level = self._level(mm, vma, addr, above)
        start = addr // level.size * level.size
        nr = 1
        if level is Level.PTE:
            table_end = addr // Level.PMD.size * Level.PMD.size + Level.PMD.size
            nr = min(base_pages, (min(table_end, vma.end) - start) >> PAGE_SHIFT)
            nr = next((k for k in range(1, nr) if mm.walk(start + (k << PAGE_SHIFT))[1]), nr)
        # The page cache holds a page of a file as well.
        references, mapping = (2, self.mapping.address) if shared else (1, self.mapping.address | _PAGE_MAPPING_ANON)
        pfn = self.memory.take(level.shift - PAGE_SHIFT, nr, references, mapping)
        _enter(mm, vma, start, level, pfn, nr, Pg.RW | Pg.DIRTY if write else Pg(0))
        return start + nr * level.size

    def _level(self, mm: Mm, vma: Vma, addr: int, above: Level) -> Level:
        """How large a page a fault takes: a transparent one (setting "always") has to fit where nothing is yet."""
        if self.backing is Backing.HUGETLB:
            return self.level
        start = addr // self.level.size * self.level.size
        fits = vma.start <= start and start + self.level.size <= vma.end and above >= self.level
        return self.level if fits and not vma.flags & Vm.NOHUGEPAGE and not mm.thp_disabled else Level.PTE


def mmap_zero(
    process: Process, memory: OrdinaryMemory, length: int, flags: int = Map.PRIVATE, chosen: int | None = None
) -> int:
    """mmap(2) of ``/dev/zero``, or with HUGETLB and ANONYMOUS of no file.

    Parameters
    ----------
    process : Process
    memory : OrdinaryMemory
        hugetlb takes its pages from there too: its pool is never short.
    length : int
        Bytes.
    flags : int
        :class:`Map` bits: PRIVATE is anonymous memory, with transparent huge pages where they fit; SHARED is shared
        memory, in base pages (shmem_enabled "never"); HUGETLB, with HUGE_1GB of that size.
    chosen : int, optional
        An address that the caller likes, see :meth:`workbench.mm.mmap.Mm.mmap`.

    Returns
    -------
    int
        The address.

    Raises
    ------
    WorkbenchError
        As :meth:`workbench.mm.mmap.Mm.mmap`.

    Kernel
    ------
    drivers/char/mem.c, mmap_zero(); mm/mmap.c, ksys_mmap_pgoff(), whose hugetlb rounds the length up.
    """
    mapping = AddressSpace(memory.new_address())
    if flags & Map.HUGETLB:
        level = Level.PUD if flags & Map.HUGE_1GB == Map.HUGE_1GB else Level.PMD
        file = ZeroFile(Backing.HUGETLB, level, mapping, memory=memory)
        length = -(-length // level.size) * level.size
    elif flags & Map.SHARED:
        file = ZeroFile(Backing.FILE, Level.PTE, mapping, memory=memory)
    else:
        file = ZeroFile(Backing.ANONYMOUS, Level.PMD, mapping, memory=memory)
    return process.mm.mmap(file, length, flags=flags & ~_NO_FILE, chosen=chosen)


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
    _enter(mm, vma, addr, level, pfn, 1, Pg.RW | Pg.DIRTY)


def _enter(mm: Mm, vma: Vma, addr: int, level: Level, pfn: int, nr: int, more: Pg) -> None:
    """Make ``nr`` entries of one table map ``pfn`` and what follows."""
    mm.pt = pgtable.reserve(mm.pt, 3)
    table, index = pgtable.table_for(mm.pt, addr, level), pgtable.entry_index(addr, level)
    bits = np.uint64(vma.page_prot | Pg.ACCESSED | more | (Pg.PSE if level else Pg(0)))
    frames = (pfn + (np.arange(nr, dtype=np.uint64) << np.uint64(level.shift - PAGE_SHIFT))) << np.uint64(PAGE_SHIFT)
    mm.pt.entries[table, index : index + nr] = frames | bits


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
        _let_exist(array, first, PAGES_PER_SUBSECTION)
    array.memmap.pages[rows] = words


def _let_exist(array: PageArray, first_pfn: int, nr_pages: int) -> None:
    """Let the struct pages of a range exist, whole subsections around it too, and have their memory."""
    for first in range(first_pfn & -PAGES_PER_SUBSECTION, first_pfn + nr_pages, PAGES_PER_SUBSECTION):
        if not array.exists(first)[0]:
            array.add_pages(first, PAGES_PER_SUBSECTION)
    array.materialise(first_pfn, nr_pages)
