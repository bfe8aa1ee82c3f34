# SPDX-License-Identifier: GPL-2.0-only
"""The page fault of a device-dax mapping, from the access to the page-table entry, in compiled code.

One access runs through the kernel's stations: the processor's walk, handle_mm_fault() that asks for a
1 GiB, a 2 MiB and a 4 KiB page in turn, the device's handler, dax_set_mapping() (patches 5, 8, 9, 11) and
the insertion of the entry.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from workbench.mm._jit import borrowing
from workbench.mm.events import Site
from workbench.mm.memmap import COMPOUND_HEAD, INDEX, MAPPING, load, store
from workbench.mm.mmap import Vm, VmFault
from workbench.mm.pgtable import FRAME, Level, Pg, access, entry_index, is_leaf, table_for

_NONE = np.uint64(0)
_HEAD_BIT = np.uint64(1)
_LINE_SHIFT = np.uint64(6)
_12 = np.uint64(12)
_PSE, _SPECIAL = np.uint64(Pg.PSE), np.uint64(Pg.SPECIAL)
_RW, _ACCESSED, _DIRTY = np.uint64(Pg.RW), np.uint64(Pg.ACCESSED), np.uint64(Pg.DIRTY)
_OOM, _SIGBUS, _NOPAGE, _FALLBACK = (
    np.int64(fault) for fault in (VmFault.OOM, VmFault.SIGBUS, VmFault.NOPAGE, VmFault.FALLBACK)
)
_WRITE = int(Vm.WRITE)


class Fault(NamedTuple):
    """What the handlers read: the area, the device, and how the tree does it.

    Attributes
    ----------
    start, end, pgoff, vm_flags : int64
        The area: user addresses, first file page, Vm flags.
    page_prot : uint64
        Bits of a fresh entry.
    devmap : uint64
        The bit that marks an entry of device memory.
    huge : bool
        The area may have huge entries (no MADV_NOHUGEPAGE, THP not disabled for the process).
    valid : bool
        check_vma() passes: the device is alive, the area shared and aligned.
    align : int64
        Bytes.
    range_pgoff, range_pfn, range_pages : int64[n]
        The device's ranges.
    mapping : uint64
        Kernel address of the file's address_space.
    soft_dirty : uint64
        The soft-dirty bit, or 0 on a kernel without it.
    compound : bool
        vmemmap_shift is not 0: only the head is marked (patch 11).
    round_up : bool
        Patch 5 without its fix.
    mapping_first : bool
        Patch 9: struct pages are marked before the entry is inserted, whatever comes of it.
    insert_fails : int64
        0, or the result every insertion gives: an injected failure.
    """

    start: int
    end: int
    pgoff: int
    vm_flags: int
    page_prot: np.uint64
    devmap: np.uint64
    huge: bool
    valid: bool
    align: int
    range_pgoff: np.ndarray
    range_pfn: np.ndarray
    range_pages: np.ndarray
    mapping: np.uint64
    soft_dirty: np.uint64
    compound: bool
    round_up: bool
    mapping_first: bool
    insert_fails: int


@borrowing
def dax_pgoff_to_pfn(f, pgoff, nr_pages):
    """The first pfn of ``nr_pages`` pages of the file from ``pgoff`` on; -1 where one range does not hold them all.

    Kernel: drivers/dax/device.c, ``dax_pgoff_to_phys()``.
    """
    for i in range(len(f.range_pgoff)):
        inside = pgoff - f.range_pgoff[i]
        if 0 <= inside < f.range_pages[i]:
            return f.range_pfn[i] + inside if inside + nr_pages <= f.range_pages[i] else np.int64(-1)
    return np.int64(-1)


@borrowing
def dax_set_mapping(vm, f, addr, pfn, level, ev):
    """page->mapping and page->index of what is faulted: each page, or with patch 11 the head alone.

    A page that has a mapping keeps it, and its index.  The index is that of the file page at the faulted
    address, rounded to the size of the fault: down, or up with patch 5.

    Kernel: drivers/dax/device.c, ``dev_dax_huge_fault()`` up to patch 7, ``dax_set_mapping()`` since.
    """
    size = np.int64(1) << (12 + 9 * level)
    base = (addr + size - 1) & ~(size - 1) if f.round_up else addr & ~(size - 1)
    pgoff = f.pgoff + ((base - f.start) >> 12)
    row = pfn - vm.start_pfn
    nr_pages = size >> 12
    if f.compound:
        nr_pages = np.int64(1)
        word = load(vm, row, COMPOUND_HEAD, ev)
        if word & _HEAD_BIT:
            row = np.int64((word - _HEAD_BIT - vm.address) >> _LINE_SHIFT)
    for i in range(nr_pages):
        if load(vm, row + i, MAPPING, ev) == _NONE:
            store(vm, row + i, MAPPING, f.mapping, Site.dax_set_mapping, ev)
            store(vm, row + i, INDEX, np.uint64(pgoff + i), Site.dax_set_mapping, ev)


@borrowing
def _insert(pt, f, addr, pfn, level, write):
    """Put a leaf entry; one that is there keeps its frame, and a write makes it writable.

    Kernel: mm/memory.c, ``vmf_insert_mixed()``; mm/huge_memory.c, ``vmf_insert_pfn_pmd()``, ``vmf_insert_pfn_pud()``.
    """
    if f.insert_fails:
        return np.int64(f.insert_fails)
    table = table_for(pt, addr, level)
    if table < 0:
        return _OOM
    index = entry_index(addr, level)
    old = pt.entries[table, index]
    frame = (np.uint64(pfn) << _12) & ~np.uint64((np.int64(1) << (12 + 9 * level)) - 1) & FRAME
    written = _ACCESSED | _DIRTY | f.soft_dirty | (_RW if f.vm_flags & _WRITE else _NONE)
    if old != _NONE:
        if level and write and (old & FRAME) == frame:
            pt.entries[table, index] = old | written
        return _NOPAGE
    if level == 0:
        pt.entries[table, index] = frame | f.page_prot | f.devmap | _SPECIAL
    else:
        pt.entries[table, index] = frame | f.page_prot | f.devmap | _PSE | (written if write else _NONE)
    return _NOPAGE


@borrowing
def dev_dax_huge_fault(vm, pt, f, addr, level, write, ev):
    """The device's handler for one size of page.

    Kernel: drivers/dax/device.c, ``__dev_dax_pte_fault()``, ``__dev_dax_pmd_fault()``, ``__dev_dax_pud_fault()``.

    Returns
    -------
    int64
        :class:`workbench.mm.mmap.VmFault`.
    """
    size = np.int64(1) << (12 + 9 * level)
    if not f.valid or f.align > size:
        return _SIGBUS
    if f.align < size:
        return _FALLBACK
    base = addr & ~(size - 1)
    if base < f.start or base + size > f.end:
        return _SIGBUS
    pfn = dax_pgoff_to_pfn(f, f.pgoff + ((base - f.start) >> 12), size >> 12)
    if pfn < 0:
        return _SIGBUS
    if f.mapping_first:
        dax_set_mapping(vm, f, addr, pfn, level, ev)
    result = _insert(pt, f, addr, pfn, level, write)
    if not f.mapping_first and result == _NOPAGE:
        dax_set_mapping(vm, f, addr, pfn, level, ev)
    return result


@borrowing
def handle_mm_fault(vm, pt, f, addr, write, ev):
    """Ask the device for the largest page first; larger entries that exist are made accessible.

    Kernel: mm/memory.c, ``__handle_mm_fault()``.
    """
    for level in range(2, 0, -1):
        table = table_for(pt, addr, level)
        if table == -1:
            return _OOM
        entry = pt.entries[table, entry_index(addr, level)]
        if entry == _NONE:
            if f.huge:
                result = dev_dax_huge_fault(vm, pt, f, addr, level, write, ev)
                if result != _FALLBACK:
                    return result
        elif is_leaf(entry, level):
            return dev_dax_huge_fault(vm, pt, f, addr, level, write, ev)
    return dev_dax_huge_fault(vm, pt, f, addr, np.int64(0), write, ev)


@borrowing
def touch(vm, pt, f, addr, count, stride, write, ev):
    """Access ``count`` addresses, ``stride`` bytes apart, each until it succeeds or cannot.

    Returns
    -------
    (done, fault) : int64
    """
    for done in range(count):
        at = addr + done * stride
        while access(pt, at, write) < 0:
            fault = handle_mm_fault(vm, pt, f, at & ~np.int64(4095), write, ev)
            if fault != _NOPAGE:
                return done, fault
    return count, _NOPAGE


LEVEL_OF_ALIGN = {level.size: level for level in (Level.PTE, Level.PMD, Level.PUD)}
"""Level whose handler inserts for a device's align in bytes."""
