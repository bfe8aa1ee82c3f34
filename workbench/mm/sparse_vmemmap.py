# SPDX-License-Identifier: GPL-2.0-only
"""Which physical pages back the struct pages of a device.

* Memory is added in chunks that end at section boundaries (128 MiB); a chunk's struct pages are
  mapped before the next chunk is looked at.
* A whole section needs 2 MiB of struct pages: one 2 MiB block, one PMD entry.
* A part of a section is mapped by 4 KiB pages, always from DRAM, even where the device brought an
  altmap.
* With deduplication (v5.19 and later, never with an altmap) a compound page keeps two 4 KiB vmemmap
  pages: one with the head and 63 tails, one with 64 tails.  The rest of it maps the second again.
* A compound larger than a section goes on doing so in its later sections.  Which chunk starts a
  compound is counted from the start of the *range*, and only chunk starts are looked at: in a range
  that does not start at a section boundary no later chunk starts a compound, and every later head
  lies in a shared page.
* An altmap hands out 2 MiB blocks in order, the first after the padding to 2 MiB.
"""

from __future__ import annotations

import errno
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from workbench import text
from workbench.abi import STRUCT_PAGE_BYTES
from workbench.abi.constants import (
    PAGE_SHIFT,
    PAGE_SIZE,
    PAGES_PER_SECTION,
    PAGES_PER_SUBSECTION,
    PMD_ORDER,
    PMD_SIZE,
    PUD_ORDER,
    PUD_SIZE,
)
from workbench.errors import WorkbenchError

VMEMMAP_RESERVE_NR = 2
"""vmemmap pages a deduplicated compound keeps (include/linux/mm.h)."""

STRUCT_PAGES_PER_PAGE = PAGE_SIZE // STRUCT_PAGE_BYTES
"""Struct pages in one 4 KiB vmemmap page: 64."""

PFNS_PER_PMD_TABLE = PUD_SIZE // STRUCT_PAGE_BYTES
"""Pfns whose struct pages one table of PMD entries maps (1 GiB of vmemmap): 64 GiB of memory."""


MAX_PHYSMEM_BITS = 52
"""Bits of a physical address, with five page-table levels (arch/x86/include/asm/sparsemem.h); 46 with four."""

MAX_PFN = 1 << (MAX_PHYSMEM_BITS - PAGE_SHIFT)

MAX_DEVICE_PAGES = (128 << 40) >> PAGE_SHIFT
"""Pages of the largest device described here: 128 TiB, a million sections.  The workbench's limit."""


class How(IntEnum):
    """How the struct pages of a chunk came to be mapped."""

    HUGEPAGES = 0
    """vmemmap_populate_hugepages(): a 2 MiB block."""
    BASEPAGES = 1
    """vmemmap_populate_basepages(): 4 KiB pages, none shared."""
    COMPOUND = 2
    """vmemmap_populate_compound_pages(): two 4 KiB pages a compound, the second repeated."""
    REUSE = 3
    """The same function where the chunk goes on with a compound: the page before it, repeated."""
    EARLY = 4
    """Nothing mapped: the section's struct pages exist since boot."""


@dataclass(frozen=True)
class Altmap:
    """struct vmem_altmap: storage for struct pages inside the device itself.

    Attributes
    ----------
    base_pfn : int
        First pfn of the device.
    reserve : int
        Pfns from there on that cannot hold struct pages.
    free : int
        Pfns after the reserve set aside for struct pages.
    align : int
        Pfns lost to alignment so far.
    alloc : int
        Pfns used so far.

    Kernel
    ------
    include/linux/memremap.h, 5.10 to 6.12 (end_pfn is read by other architectures only).
    """

    base_pfn: int
    reserve: int
    free: int
    align: int = 0
    alloc: int = 0


def vmem_altmap_offset(altmap: Altmap | None) -> int:
    """Pfns between the start of the device and its first ordinary page: reserve and free.

    Kernel
    ------
    mm/memremap.c, vmem_altmap_offset(), 5.10 to 6.1 (include/linux/memremap.h later).
    """
    return altmap.reserve + altmap.free if altmap else 0


def vmem_altmap_next_pfn(altmap: Altmap) -> int:
    """The first pfn of ``altmap`` not handed out yet.

    Kernel
    ------
    mm/sparse-vmemmap.c, vmem_altmap_next_pfn().
    """
    return altmap.base_pfn + altmap.reserve + altmap.alloc + altmap.align


def vmem_altmap_nr_free(altmap: Altmap) -> int:
    """Pfns of ``altmap`` that are left, at least 0.

    Kernel
    ------
    mm/sparse-vmemmap.c, vmem_altmap_nr_free().
    """
    return max(altmap.free - (altmap.alloc + altmap.align), 0)


def altmap_alloc_block_buf(size: int, altmap: Altmap) -> tuple[int, Altmap] | None:
    """Take ``size`` bytes from ``altmap``.

    Parameters
    ----------
    size : int
        Bytes, a positive multiple of 4096.  The block is aligned to the largest power of two that
        divides its number of pages.
    altmap : Altmap

    Returns
    -------
    (int, Altmap) or None
        First pfn of the block and the altmap afterwards; None where the rest is too small.

    Kernel
    ------
    mm/sparse-vmemmap.c, altmap_alloc_block_buf(), 5.10 to 6.12.
    """
    if size <= 0 or size % PAGE_SIZE:
        return None
    nr_pfns = size >> PAGE_SHIFT
    pfn = vmem_altmap_next_pfn(altmap)
    nr_align = -pfn % (nr_pfns & -nr_pfns)
    if nr_pfns + nr_align > vmem_altmap_nr_free(altmap):
        return None
    return pfn + nr_align, replace(altmap, alloc=altmap.alloc + nr_pfns, align=altmap.align + nr_align)


def _altmap_alloc_pmds(altmap: Altmap, nr_blocks: int) -> tuple[int, Altmap]:
    """Take ``nr_blocks`` blocks of 2 MiB, one after the other; they are adjacent after the first."""
    first = altmap_alloc_block_buf(PMD_SIZE, altmap)
    rest = (nr_blocks - 1) << PMD_ORDER
    if first is None or rest > vmem_altmap_nr_free(first[1]):
        raise WorkbenchError(
            f"the altmap has room for {text.size(altmap.free * PAGE_SIZE)} of struct pages and its device "
            f"needs {nr_blocks} aligned blocks of 2 MiB (base_pfn {text.pfn(altmap.base_pfn)}, reserve "
            f"{altmap.reserve}). Set more aside (free) or leave the altmap out.",
            errno.ENOMEM,
        )
    pfn, altmap = first
    return pfn, replace(altmap, alloc=altmap.alloc + rest)


def pgmap_vmemmap_nr(vmemmap_shift: int) -> int:
    """Pages of one compound of the device; 1 without compounds.

    Kernel
    ------
    include/linux/memremap.h, pgmap_vmemmap_nr(), 5.17 (c4386bd8ee3a).
    """
    return 1 << vmemmap_shift


def vmemmap_can_optimize(altmap: Altmap | None, vmemmap_shift: int) -> bool:
    """Whether a kernel with deduplication shares the vmemmap pages of this device.

    Kernel
    ------
    include/linux/mm.h, vmemmap_can_optimize(), 6.1 and 6.12: the struct page size is a power of two
    (64 here), there is no altmap, and a compound has more than two vmemmap pages.
    """
    return altmap is None and pgmap_vmemmap_nr(vmemmap_shift) // STRUCT_PAGES_PER_PAGE > VMEMMAP_RESERVE_NR


def reuse_compound_section(start_pfn: np.ndarray, range_start_pfn: int, vmemmap_shift: int) -> np.ndarray:
    """Whether the chunks that start at ``start_pfn`` go on with a compound that began earlier.

    Parameters
    ----------
    start_pfn : int64[n]
    range_start_pfn : int
        First pfn of the range being added: compounds are counted from there.
    vmemmap_shift : int

    Returns
    -------
    bool[n]

    Kernel
    ------
    mm/sparse-vmemmap.c, reuse_compound_section(), 5.19 to 6.12.
    """
    nr_pages = pgmap_vmemmap_nr(vmemmap_shift)
    return ((start_pfn - range_start_pfn) % nr_pages != 0) & (nr_pages > PAGES_PER_SUBSECTION)


def add_pages(pfn: int, nr_pages: int, altmap: Altmap | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Cut a range into the chunks that are added one by one: up to each section boundary.

    Parameters
    ----------
    pfn, nr_pages : int
        The range, multiples of 512 pages (a subsection).
    altmap : Altmap, optional
        Checked against the range.

    Returns
    -------
    start_pfn, nr_pages : int64[n]

    Raises
    ------
    WorkbenchError
        EINVAL: the range is empty, not made of whole subsections or ends above all physical
        addresses, or the altmap does not start where the range does or is larger than it.

    Kernel
    ------
    mm/memory_hotplug.c, __add_pages() and check_pfn_span(), 5.10 to 6.12.
    """
    where = text.pfn_range(pfn, nr_pages)
    if altmap and (altmap.base_pfn != pfn or vmem_altmap_offset(altmap) > nr_pages):
        raise WorkbenchError(
            f"the altmap ({vmem_altmap_offset(altmap)} pages from pfn {text.pfn(altmap.base_pfn)}) must start "
            f"with its range and lie inside it ({where}). Take base_pfn and free from the info block.",
            errno.EINVAL,
        )
    if pfn < 0 or nr_pages < 1 or pfn % PAGES_PER_SUBSECTION or nr_pages % PAGES_PER_SUBSECTION:
        raise WorkbenchError(
            f"struct pages are added in subsections of {PAGES_PER_SUBSECTION} pages (2 MiB); got {nr_pages} "
            f"pages from pfn {text.pfn(pfn)} ({where}). Round start and length to 2 MiB.",
            errno.EINVAL,
        )
    end = pfn + nr_pages
    if end > MAX_PFN:
        raise WorkbenchError(
            f"{where} ends above the {MAX_PHYSMEM_BITS} bits of physical address x86-64 has at most. Start it lower.",
            errno.EINVAL,
        )
    next_section = (pfn // PAGES_PER_SECTION + 1) * PAGES_PER_SECTION
    boundaries = np.arange(next_section, end, PAGES_PER_SECTION, dtype=np.int64)
    start_pfn = np.concatenate((np.array([pfn], np.int64), boundaries))
    return start_pfn, np.diff(start_pfn, append=end)


def populate_section_memmap(
    start_pfn: np.ndarray,
    nr_pages: np.ndarray,
    range_start_pfn: int,
    *,
    vmemmap_shift: int,
    dedup: bool,
    altmap: Altmap | None,
    early_sections: Container[int],
) -> np.ndarray:
    """How the struct pages of each chunk of one range are mapped.

    Parameters
    ----------
    start_pfn, nr_pages : int64[n]
        Chunks as :func:`add_pages` cuts them.
    range_start_pfn, vmemmap_shift, dedup, altmap, early_sections
        As for :func:`populate`.

    Returns
    -------
    uint8[n]
        :class:`How` of each chunk.

    Kernel
    ------
    mm/sparse.c, section_activate(); mm/sparse-vmemmap.c, __populate_section_memmap();
    arch/x86/mm/init_64.c, vmemmap_populate(); 5.10 to 6.12, processors with 2 MiB pages.
    """
    whole = nr_pages == PAGES_PER_SECTION
    if dedup and vmemmap_can_optimize(altmap, vmemmap_shift):
        reuse = reuse_compound_section(start_pfn, range_start_pfn, vmemmap_shift)
        how = np.where(reuse, How.REUSE, How.COMPOUND)
    else:
        how = np.where(whole, How.HUGEPAGES, How.BASEPAGES)
    for chunk in np.flatnonzero(~whole):  # the first and the last at most
        if int(start_pfn[chunk]) // PAGES_PER_SECTION in early_sections:
            how[chunk] = How.EARLY
    return how.astype(np.uint8)


@dataclass(frozen=True)
class Backing:
    """What the struct pages of a device cost, as a page-table walk of their addresses would count it.

    Attributes
    ----------
    ptes_4k, pmds_2m : int
        Leaf entries of either size.
    va_bytes : int
        Virtual bytes of struct pages mapped.
    distinct_physical_bytes : int
        Physical bytes behind them, each counted once.
    distinct_4k : int
        Physical pages behind the 4 KiB entries, each counted once.
    max_share : int
        Most virtual pages on one physical page; 0 where nothing is mapped.
    altmap_bytes : int
        Part of ``distinct_physical_bytes`` that lies in the device itself.
    pte_tables : int
        Tables of 4 KiB entries (one a 2 MiB of vmemmap mapped so), 4 KiB of DRAM each.
    pmd_tables : int
        Tables of 2 MiB entries on the way (one each 64 GiB of memory); often there already, since
        all memory in the same 64 GiB shares one.
    """

    ptes_4k: int
    pmds_2m: int
    va_bytes: int
    distinct_physical_bytes: int
    distinct_4k: int
    max_share: int
    altmap_bytes: int = 0
    pte_tables: int = 0
    pmd_tables: int = 0

    WALK = ("ptes_4k", "pmds_2m", "va_bytes", "distinct_physical_bytes", "distinct_4k", "max_share")

    @property
    def walk(self) -> dict[str, int]:
        """The six numbers a page-table walk gives, in the form of the captures."""
        return {name: getattr(self, name) for name in self.WALK}

    @property
    def dram_bytes(self) -> int:
        """DRAM spent: what is not in the device itself, and the tables of 4 KiB entries."""
        return self.distinct_physical_bytes - self.altmap_bytes + self.pte_tables * PAGE_SIZE


NOTHING_MAPPED = Backing(0, 0, 0, 0, 0, 0)
"""What a walk finds after the device is gone."""


@dataclass(frozen=True)
class Sharing:
    """For each 4 KiB page of a device's vmemmap, which one it shares its memory with.

    Attributes
    ----------
    first : int64[n]
        Index of the first vmemmap page on the same physical page; its own index where it is the
        first.  Pages are numbered through all ranges.
    leaf_bytes : int64[n]
        Size of the entry that maps it: 4096 or 2 MiB.
    phys_addr : int64[n]
        Physical address where it follows from the altmap, -1 where the allocator chose.
    """

    first: np.ndarray
    leaf_bytes: np.ndarray
    phys_addr: np.ndarray


def _distinct(values: np.ndarray) -> int:
    """How many different values there are; sorts, which is fast for what is nearly sorted."""
    ordered = np.sort(values)
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + bool(values.size)


@dataclass(frozen=True)
class Populated:
    """The struct pages of a device as they were mapped, chunk by chunk.

    Attributes
    ----------
    start_pfn, nr_pages : int64[n]
        Chunks in the order they were added.
    how : uint8[n]
        :class:`How` of each.
    vmemmap_shift : int
    altmap : Altmap or None
        After the allocations.
    altmap_pfn : int
        First pfn of the first 2 MiB block taken from it; -1 where none was.
    """

    start_pfn: np.ndarray
    nr_pages: np.ndarray
    how: np.ndarray
    vmemmap_shift: int
    altmap: Altmap | None
    altmap_pfn: int = -1

    @property
    def _vmemmap_pages(self) -> np.ndarray:
        return self.nr_pages // STRUCT_PAGES_PER_PAGE

    @property
    def _compound_pages(self) -> np.ndarray:
        """Pages of vmemmap from one head to the next inside each chunk, the rest of the chunk at most."""
        return np.minimum(self._vmemmap_pages, pgmap_vmemmap_nr(self.vmemmap_shift) // STRUCT_PAGES_PER_PAGE)

    def backing(self) -> Backing:
        """Count entries, bytes, sharing and tables.

        Returns
        -------
        Backing

        Notes
        -----
        Cost: one vector operation over the sections, 8 bytes each; 64 TiB have 524,288.
        """
        pages, how = self._vmemmap_pages, self.how
        huge, base = how == How.HUGEPAGES, how == How.BASEPAGES
        compound, reuse = how == How.COMPOUND, how == How.REUSE
        by_pte = base | compound | reuse

        pmds = int(huge.sum())
        ptes = int(pages[by_pte].sum())
        heads = int((pages[compound] // self._compound_pages[compound]).sum())
        distinct_4k = int(pages[base].sum()) + VMEMMAP_RESERVE_NR * heads
        max_share = int(bool(pmds or ptes))
        if compound.any():
            repeats = np.where(compound, self._compound_pages - 1, np.where(reuse, pages, 0))
            max_share = int(np.add.reduceat(repeats, np.flatnonzero(compound)).max())
        return Backing(
            ptes_4k=ptes,
            pmds_2m=pmds,
            va_bytes=ptes * PAGE_SIZE + pmds * PMD_SIZE,
            distinct_physical_bytes=distinct_4k * PAGE_SIZE + pmds * PMD_SIZE,
            distinct_4k=distinct_4k,
            max_share=max_share,
            altmap_bytes=pmds * PMD_SIZE if self.altmap else 0,
            pte_tables=_distinct(self.start_pfn[by_pte] // PAGES_PER_SECTION),
            pmd_tables=_distinct(self.start_pfn[by_pte | huge] // PFNS_PER_PMD_TABLE),
        )

    def sharing(self) -> Sharing:
        """Which vmemmap page shares its memory with which.

        Returns
        -------
        Sharing

        Notes
        -----
        Cost: 24 bytes a vmemmap page, that is 96 KiB a GiB of device.
        """
        ends = np.cumsum(self._vmemmap_pages)
        nr_vmemmap_pages = int(ends[-1])
        first = np.arange(nr_vmemmap_pages, dtype=np.int64)
        leaf_bytes = np.full(nr_vmemmap_pages, PAGE_SIZE, np.int64)
        phys_addr = np.full(nr_vmemmap_pages, -1, np.int64)
        next_block = self.altmap_pfn << PAGE_SHIFT
        for start, end, how, size in zip(ends - self._vmemmap_pages, ends, self.how, self._compound_pages, strict=True):
            if how in (How.HUGEPAGES, How.EARLY):
                leaf_bytes[start:end] = PMD_SIZE
            if how == How.HUGEPAGES and self.altmap:
                phys_addr[start:end] = np.arange(next_block, next_block + PMD_SIZE, PAGE_SIZE)
                next_block += PMD_SIZE
            if how == How.COMPOUND:
                compounds = first[start:end].reshape(-1, size)
                compounds[:, VMEMMAP_RESERVE_NR:] = compounds[:, VMEMMAP_RESERVE_NR - 1, None]
            if how == How.REUSE:
                first[start:end] = first[compound_section_tail_page(start)]
        return Sharing(first, leaf_bytes, phys_addr)


def compound_section_tail_page(vmemmap_page: int) -> int:
    """The vmemmap page whose memory a chunk starting at ``vmemmap_page`` goes on with: the one before.

    Kernel
    ------
    mm/sparse-vmemmap.c, compound_section_tail_page(), 5.19 to 6.12.
    """
    return vmemmap_page - 1


def populate(
    ranges: Sequence[tuple[int, int]],
    *,
    vmemmap_shift: int = 0,
    dedup: bool = False,
    altmap: Altmap | None = None,
    early_sections: Container[int] = (),
) -> Populated:
    """Map the struct pages of a device.

    Parameters
    ----------
    ranges : sequence of (int, int)
        First pfn and number of pages of each range of the pgmap, in their order.
    vmemmap_shift : int
        0, 9 or 18: log2 of the pages of a compound, as device-dax sets it.
    dedup : bool
        The release shares vmemmap pages (v5.19 and later).
    altmap : Altmap, optional
        Storage in the device; only with a single range.
    early_sections : container of int
        Numbers (pfn // 32768) of sections whose struct pages exist since boot.  A chunk of such a
        section that is not all of it is not mapped and costs nothing.

    Returns
    -------
    Populated

    Raises
    ------
    WorkbenchError
        EINVAL: no range, a range that is not made of whole subsections, an altmap with several
        ranges or out of place.  ENOMEM: the altmap is too small.  Without errno: another shift, or
        more than 128 TiB.

    Notes
    -----
    DRAM is taken to have a free 2 MiB block for each whole section.  A kernel that finds none falls
    back to 4 KiB pages for that section.
    """
    if vmemmap_shift not in (0, PMD_ORDER, PUD_ORDER):
        raise WorkbenchError(
            f"vmemmap_shift is {vmemmap_shift}; device-dax sets 0 (align 4K), {PMD_ORDER} (2M) or "
            f"{PUD_ORDER} (1G). Use one of them."
        )
    if not ranges or (altmap and len(ranges) > 1):
        raise WorkbenchError(
            f"a pgmap has at least one range, and with an altmap exactly one; got {len(ranges)}.",
            errno.EINVAL,
        )
    device_pages = sum(nr_pages for _, nr_pages in ranges)
    if device_pages > MAX_DEVICE_PAGES:
        raise WorkbenchError(
            f"devices are counted up to {text.size(MAX_DEVICE_PAGES * PAGE_SIZE)}; got "
            f"{text.size(device_pages * PAGE_SIZE)}. Ask for a part of it: the cost is proportional."
        )
    chunks = []
    for pfn, nr_pages in ranges:
        start_pfn, counts = add_pages(pfn, nr_pages, altmap)
        how = populate_section_memmap(
            start_pfn,
            counts,
            pfn,
            vmemmap_shift=vmemmap_shift,
            dedup=dedup,
            altmap=altmap,
            early_sections=early_sections,
        )
        chunks.append((start_pfn, counts, how))
    start_pfn, counts, how = (np.concatenate(column) for column in zip(*chunks, strict=True))
    altmap_pfn = -1
    nr_blocks = int((how == How.HUGEPAGES).sum())
    if altmap and nr_blocks:
        altmap_pfn, altmap = _altmap_alloc_pmds(altmap, nr_blocks)
    return Populated(start_pfn, counts, how, vmemmap_shift, altmap, altmap_pfn)
