# SPDX-License-Identifier: GPL-2.0-only
"""Page tables of a process: x86-64, four levels, as arrays that compiled code walks.

All tables of a process lie in one pool, ``entries[table, index]``; table 0 is the PGD.  An entry is the
64-bit word of the architecture.  In a leaf its frame bits hold a pfn; elsewhere they hold the number of
the next table in the pool (a real kernel's allocator chooses page frames there).

A level is named by the size its entries map: PTE 4 KiB, PMD 2 MiB, PUD 1 GiB, PGD 512 GiB.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NamedTuple

import numpy as np

from workbench.mm._jit import borrowing, jit

PTRS_PER_TABLE = 512
USER_END = 1 << 47
"""The end of user addresses with four levels (TASK_SIZE_MAX is one page below)."""


class Level(IntEnum):
    """Level of a page table, by what its entries map."""

    PTE = 0
    PMD = 1
    PUD = 2
    PGD = 3

    @property
    def size(self) -> int:
        """Bytes one entry maps."""
        return 1 << self.shift

    @property
    def shift(self) -> int:
        """log2 of those bytes: 12, 21, 30, 39."""
        return 12 + 9 * self


class Pg(IntFlag):
    """Bits of an entry (arch/x86/include/asm/pgtable_types.h).

    6.6 and later keep DEVMAP one bit lower: shadow stacks took its place.
    """

    PRESENT = 1 << 0
    RW = 1 << 1
    USER = 1 << 2
    ACCESSED = 1 << 5
    DIRTY = 1 << 6
    PSE = 1 << 7
    PROTNONE = 1 << 8
    SPECIAL = 1 << 9
    SOFT_DIRTY = 1 << 11
    DEVMAP_6_12 = 1 << 57
    DEVMAP = 1 << 58
    NX = 1 << 63


_PRESENT, _RW, _ACCESSED, _DIRTY, _PSE = (np.uint64(bit) for bit in (Pg.PRESENT, Pg.RW, Pg.ACCESSED, Pg.DIRTY, Pg.PSE))
FRAME = np.uint64(0x000F_FFFF_FFFF_F000)
_ANY_DEVMAP = np.uint64(Pg.DEVMAP | Pg.DEVMAP_6_12)
_TABLE = np.uint64(Pg.PRESENT | Pg.RW | Pg.USER | Pg.ACCESSED | Pg.DIRTY)
_NONE = np.uint64(0)
_12 = np.uint64(12)
_NEXT, _FREE, _LEFT = np.int64(0), np.int64(1), np.int64(2)


class PageTables(NamedTuple):
    """The tables of one process.

    Attributes
    ----------
    entries : uint64[capacity, 512]
    state : int64[3]
        Next table never used; first of the freed ones, linked through their entry 0 (0: none); how many
        more may be taken before the system has no memory left (negative: no limit).
    """

    entries: np.ndarray
    state: np.ndarray


def page_tables(capacity: int = 64) -> PageTables:
    """Empty page tables with room for ``capacity`` tables (address space; memory comes with use)."""
    return PageTables(np.zeros((capacity, PTRS_PER_TABLE), np.uint64), np.array([1, 0, -1], np.int64))


def tables_for(start: int, end: int, leaf: Level) -> int:
    """How many tables mapping ``[start, end)`` bytes by ``leaf`` entries takes at most."""
    return sum(-(-(end - start) // Level(level + 1).size) + 1 for level in range(leaf, Level.PGD))


def reserve(pt: PageTables, tables: int) -> PageTables:
    """``pt``, or a copy of it in a larger pool, so that ``tables`` more can be taken."""
    need = int(pt.state[_NEXT]) + tables
    if need <= len(pt.entries):
        return pt
    larger = page_tables(max(need, 2 * len(pt.entries)))
    used = int(pt.state[_NEXT])
    larger.entries[:used] = pt.entries[:used]
    larger.state[:] = pt.state
    return larger


@borrowing
def entry_index(addr, level):
    """Index into a table of ``level`` for a user address."""
    return (addr >> (12 + 9 * level)) & 511


@borrowing
def entry_pfn(entry):
    """The pfn of a leaf entry."""
    return np.int64((entry & FRAME) >> _12)


@borrowing
def is_leaf(entry, level):
    """Whether ``entry`` maps memory (or is one made inaccessible by PROT_NONE)."""
    return entry != _NONE and (level == 0 or (entry & _PSE) != _NONE)


@borrowing
def is_devmap(entry):
    """Whether a leaf maps device memory, by the bit of any release: none has another use for either."""
    return (entry & _ANY_DEVMAP) != _NONE


@borrowing
def walk(pt, addr):
    """Go down to the entry that maps ``addr``, or to the empty one where nothing does.

    Returns
    -------
    (level, table, index) : int64
    """
    table, level = np.int64(0), np.int64(3)
    while True:
        index = entry_index(addr, level)
        entry = pt.entries[table, index]
        if entry == _NONE or is_leaf(entry, level):
            return level, table, index
        table = entry_pfn(entry)
        level -= 1


@borrowing
def _take_table(pt):
    """A zeroed table; -1 where memory has run out."""
    if pt.state[_LEFT] == 0:
        return np.int64(-1)
    pt.state[_LEFT] -= 1
    table = pt.state[_FREE]
    if table:
        pt.state[_FREE] = np.int64(pt.entries[table, 0])
        pt.entries[table, 0] = _NONE
        return table
    table = pt.state[_NEXT]
    if table == len(pt.entries):
        return np.int64(-1)
    pt.state[_NEXT] += 1
    return table


@borrowing
def table_for(pt, addr, level):
    """The table of ``level`` for ``addr``, made with those above it where they are missing.

    Kernel: mm/memory.c, ``__p4d_alloc()``, ``__pud_alloc()``, ``__pmd_alloc()``, ``__pte_alloc()``.

    Returns
    -------
    int64
        The table; -1: no memory; -2: a larger entry maps the address already.
    """
    table = np.int64(0)
    for at in range(3, level, -1):
        index = entry_index(addr, at)
        entry = pt.entries[table, index]
        if entry == _NONE:
            lower = _take_table(pt)
            if lower < 0:
                return np.int64(-1)
            pt.entries[table, index] = (np.uint64(lower) << _12) | _TABLE
            table = lower
        elif is_leaf(entry, at):
            return np.int64(-2)
        else:
            table = entry_pfn(entry)
    return table


@borrowing
def access(pt, addr, write):
    """What the processor does for one access: sets ACCESSED and DIRTY, or faults.

    Returns
    -------
    int64
        The pfn accessed, or -1 for a page fault.
    """
    level, table, index = walk(pt, addr)
    entry = pt.entries[table, index]
    if (entry & _PRESENT) == _NONE or (write and (entry & _RW) == _NONE):
        return np.int64(-1)
    pt.entries[table, index] = entry | (_ACCESSED | _DIRTY if write else _ACCESSED)
    return entry_pfn(entry) + ((addr & ((np.int64(1) << (12 + 9 * level)) - 1)) >> 12)


@borrowing
def zap(pt, start, end):
    """Clear every leaf entry that maps a byte of ``[start, end)``; an entry mapped whole goes whole.

    The kernel splits a huge entry of file memory that is only partly in the range by clearing it.

    Kernel: mm/memory.c, ``unmap_page_range()``; mm/huge_memory.c, ``__split_huge_pmd()``, ``__split_huge_pud()``.

    Returns
    -------
    int64
        Entries cleared.
    """
    cleared, addr = 0, start
    while addr < end:
        level, table, index = walk(pt, addr)
        if pt.entries[table, index] != _NONE:
            pt.entries[table, index] = _NONE
            cleared += 1
        size = np.int64(1) << (12 + 9 * level)
        addr = (addr & ~(size - 1)) + size
    return cleared


@borrowing
def split_puds(pt, start, end):
    """Clear the 1 GiB entries that map a byte of ``[start, end)``: there is no other way to split one.

    Kernel: mm/huge_memory.c, ``__split_huge_pud()``.

    Returns
    -------
    int64
        Entries cleared.
    """
    addr, cleared = start, 0
    while addr < end:
        level, table, index = walk(pt, addr)
        if level == 2 and pt.entries[table, index] != _NONE:
            pt.entries[table, index] = _NONE
            cleared += 1
        size = np.int64(1) << (12 + 9 * max(level, 2))
        addr = (addr & ~(size - 1)) + size
    return cleared


@borrowing
def protect(pt, start, end, bits, mask, clear_pud):
    """In every leaf entry that lies in ``[start, end)``, replace the bits of ``mask`` by ``bits``.

    An entry that reaches beyond the range is cleared instead, as in :func:`zap`; with ``clear_pud`` every
    1 GiB entry is: kernels that do not know them there take them for bad.

    Kernel: mm/mprotect.c, ``change_protection_range()``; mm/huge_memory.c, ``change_huge_pmd()``.
    """
    addr = start
    while addr < end:
        level, table, index = walk(pt, addr)
        size = np.int64(1) << (12 + 9 * level)
        base = addr & ~(size - 1)
        entry = pt.entries[table, index]
        if entry != _NONE:
            whole = base >= start and base + size <= end and not (clear_pud and level == 2)
            pt.entries[table, index] = ((entry & ~mask) | bits) if whole else _NONE
        addr = base + size


@borrowing
def move(pt, old, new, length, clear_pud):
    """Move leaf entries from ``[old, old + length)`` to ``new``.

    An entry that lies only partly in the range, or for which no table can be had, is dropped: it is faulted
    again.  With ``clear_pud`` so is every 1 GiB entry.

    Kernel: mm/mremap.c, ``move_page_tables()``.
    """
    addr = old
    while addr < old + length:
        level, table, index = walk(pt, addr)
        size = np.int64(1) << (12 + 9 * level)
        entry = pt.entries[table, index]
        if entry != _NONE:
            pt.entries[table, index] = _NONE
            target = new + (addr - old)
            whole = addr % size == 0 and addr + size <= old + length and not (clear_pud and level == 2)
            lower = table_for(pt, target, level) if whole else np.int64(-1)
            if lower >= 0:
                pt.entries[lower, entry_index(target, level)] = entry
        addr = (addr & ~(size - 1)) + size


@borrowing
def _is_empty(pt, table):
    return not pt.entries[table].any()


@borrowing
def free_tables(pt, start, end):
    """Give back the tables of ``[start, end)`` that map nothing any more.

    Kernel: mm/memory.c, ``free_pgd_range()``.
    """
    for upper in range(1, 4):  # tables of PTEs hang from PMD entries, and so on upwards
        size = np.int64(1) << (12 + 9 * upper)
        addr = start & ~(size - 1)
        while addr < end:
            table, level = np.int64(0), np.int64(3)
            while level > upper and pt.entries[table, entry_index(addr, level)] != _NONE:
                if is_leaf(pt.entries[table, entry_index(addr, level)], level):
                    break
                table = entry_pfn(pt.entries[table, entry_index(addr, level)])
                level -= 1
            if level == upper:
                index = entry_index(addr, level)
                entry = pt.entries[table, index]
                if entry != _NONE and not is_leaf(entry, level) and _is_empty(pt, entry_pfn(entry)):
                    lower = entry_pfn(entry)
                    pt.entries[table, index] = _NONE
                    pt.entries[lower, 0] = np.uint64(pt.state[_FREE])
                    pt.state[_FREE] = lower
                addr += size
            else:
                skip = np.int64(1) << (12 + 9 * level)
                addr = (addr & ~(skip - 1)) + skip


@jit
def count_leaves(pt, start, end):
    """How many leaf entries of each level map a byte of ``[start, end)``, as int64[3] (PTE, PMD, PUD)."""
    found = np.zeros(3, np.int64)
    addr = start
    while addr < end:
        level, table, index = walk(pt, addr)
        if pt.entries[table, index] != _NONE:
            found[level] += 1
        size = np.int64(1) << (12 + 9 * level)
        addr = (addr & ~(size - 1)) + size
    return found
