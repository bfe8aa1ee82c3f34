# SPDX-License-Identifier: GPL-2.0-only
"""Page tables as arrays, against a dictionary of what is mapped where."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.mm import pgtable
from workbench.mm.pgtable import Level, Pg

BASE = 0x7F00_0000_0000  # a multiple of 1 GiB
LEAF = Pg.PRESENT | Pg.USER
KIB4, MIB2, GIB1 = 1 << 12, 1 << 21, 1 << 30


def tables(capacity=64):
    return pgtable.page_tables(capacity)


def put(pt, addr, pfn, level=Level.PTE, bits=LEAF | Pg.RW):
    """A leaf entry at ``addr``; the table it was put into."""
    table = pgtable.table_for(pt, addr, int(level))
    if table >= 0:
        word = pfn << 12 | bits | (Pg.PSE if level else 0)
        pt.entries[table, pgtable.entry_index(addr, int(level))] = np.uint64(word)
    return table


def entry(pt, addr):
    level, table, index = pgtable.walk(pt, addr)
    return Level(level), int(pt.entries[table, index])


def used(pt):
    """Tables in use, the PGD among them."""
    freed, table = 0, int(pt.state[1])
    while table:
        freed, table = freed + 1, int(pt.entries[table, 0])
    return int(pt.state[0]) - freed


@pytest.mark.parametrize(
    ("level", "size"), [(Level.PTE, KIB4), (Level.PMD, MIB2), (Level.PUD, GIB1), (Level.PGD, 512 * GIB1)]
)
def test_a_level_is_what_its_entries_map(level, size):
    assert level.size == size
    assert 1 << level.shift == size


def test_bits_are_those_of_the_architecture():
    recorded = 0x8400_0001_4020_08E7  # a 2 MiB entry of a device on 6.1, faulted by a write
    bits = Pg.PRESENT | Pg.RW | Pg.USER | Pg.ACCESSED | Pg.DIRTY | Pg.PSE | Pg.SOFT_DIRTY | Pg.DEVMAP | Pg.NX
    assert recorded & ~int(pgtable.FRAME) == bits
    assert pgtable.entry_pfn(np.uint64(recorded)) == 0x140200
    assert pgtable.is_devmap(np.uint64(recorded))
    assert pgtable.is_devmap(np.uint64(0x8200_0001_4020_00A7))  # the same on 6.12: one bit lower
    assert not pgtable.is_devmap(np.uint64(0x8000_0001_4020_00A7))


@pytest.mark.parametrize("level", [Level.PTE, Level.PMD, Level.PUD])
def test_a_walk_ends_at_the_leaf_or_at_the_first_hole(level):
    pt = tables()
    assert entry(pt, BASE) == (Level.PGD, 0)
    put(pt, BASE, 0x140000, level)
    assert entry(pt, BASE)[0] == level
    assert entry(pt, BASE + level.size - 1) == entry(pt, BASE)
    assert entry(pt, BASE + level.size) == (level, 0)
    assert used(pt) == 1 + Level.PGD - level


def test_an_access_sets_what_the_processor_sets():
    pt = tables()
    put(pt, BASE, 0x200, Level.PMD, LEAF | Pg.RW)
    assert pgtable.access(pt, BASE + 5 * KIB4 + 7, False) == 0x205
    assert entry(pt, BASE)[1] & 0x60 == Pg.ACCESSED
    assert pgtable.access(pt, BASE + MIB2 - 1, True) == 0x3FF
    assert entry(pt, BASE)[1] & 0x60 == Pg.ACCESSED | Pg.DIRTY
    assert pgtable.access(pt, BASE + MIB2, False) == -1


def test_an_access_that_the_entry_forbids_faults_and_changes_nothing():
    pt = tables()
    put(pt, BASE, 0x200, bits=LEAF)
    before = pt.entries.copy()
    assert pgtable.access(pt, BASE, True) == -1
    put(pt, BASE + KIB4, 0x201, bits=Pg.PROTNONE)
    before[:] = pt.entries
    assert pgtable.access(pt, BASE + KIB4, False) == -1
    assert (pt.entries == before).all()


def test_memory_for_tables_runs_out():
    pt = tables()
    pt.state[2] = 2
    assert put(pt, BASE, 1) == -1
    assert used(pt) == 3  # what was made on the way stays
    pt.state[2] = -1
    assert put(pt, BASE, 1) >= 0
    assert put(tables(3), BASE, 1) == -1


def test_a_larger_entry_is_in_the_way():
    pt = tables()
    put(pt, BASE, 0x200, Level.PMD)
    assert put(pt, BASE + KIB4, 1) == -2


def test_what_is_freed_is_taken_again():
    pt = tables()
    put(pt, BASE, 1)
    put(pt, BASE + GIB1, 2)
    assert used(pt) == 6
    pgtable.zap(pt, BASE, BASE + KIB4)
    pgtable.free_tables(pt, BASE, BASE + KIB4)
    assert used(pt) == 4  # the tables of PTEs and PMDs below 1 GiB; the rest maps the second page
    assert entry(pt, BASE + GIB1) == (Level.PTE, 2 << 12 | LEAF | Pg.RW)
    next_unused = int(pt.state[0])
    put(pt, BASE + 2 * GIB1, 3)
    assert int(pt.state[0]) == next_unused
    assert entry(pt, BASE + 2 * GIB1) == (Level.PTE, 3 << 12 | LEAF | Pg.RW)


def test_a_larger_pool_holds_the_same():
    pt = tables(4)
    put(pt, BASE, 7)
    larger = pgtable.reserve(pt, pgtable.tables_for(BASE, BASE + GIB1, Level.PTE))
    assert len(larger.entries) >= 4 + 512
    assert entry(larger, BASE) == entry(pt, BASE)
    assert pgtable.reserve(larger, 1) is larger


def test_clearing_a_part_of_a_huge_entry_clears_it_whole():
    pt = tables()
    put(pt, BASE, 0x200, Level.PMD)
    put(pt, BASE + MIB2, 0x400, Level.PMD)
    assert pgtable.zap(pt, BASE + KIB4, BASE + 2 * KIB4) == 1
    assert entry(pt, BASE)[1] == 0
    assert entry(pt, BASE + MIB2)[1] != 0
    assert pgtable.zap(pt, BASE, BASE + MIB2) == 0


@pytest.mark.parametrize("clear_pud", [False, True])
def test_protection(clear_pud):
    pt = tables()
    put(pt, BASE, 0x40000, Level.PUD)
    put(pt, BASE + GIB1, 0x200, Level.PMD)
    put(pt, BASE + GIB1 + MIB2, 0x400, Level.PMD)
    mask = np.uint64(Pg.RW)
    pgtable.protect(pt, BASE, BASE + GIB1 + MIB2 + KIB4, np.uint64(0), mask, clear_pud)
    pud = entry(pt, BASE)[1]
    assert pud == (0 if clear_pud else 0x40000 << 12 | LEAF | Pg.PSE)
    assert entry(pt, BASE + GIB1)[1] == 0x200 << 12 | LEAF | Pg.PSE
    assert entry(pt, BASE + GIB1 + MIB2)[1] == 0  # only its first 4 KiB lay in the range


def test_moving():
    pt, new = tables(), BASE + 4 * GIB1
    put(pt, BASE, 1)
    put(pt, BASE + MIB2, 0x200, Level.PMD)
    put(pt, BASE + GIB1, 0x40000, Level.PUD)
    pgtable.move(pt, BASE, new, 2 * GIB1, False)
    assert entry(pt, new) == (Level.PTE, 1 << 12 | LEAF | Pg.RW)
    assert entry(pt, new + MIB2)[1] == 0x200 << 12 | LEAF | Pg.RW | Pg.PSE
    assert entry(pt, new + GIB1)[1] == 0x40000 << 12 | LEAF | Pg.RW | Pg.PSE
    assert not pgtable.count_leaves(pt, BASE, BASE + 2 * GIB1).any()
    pgtable.move(pt, new, BASE, 2 * GIB1, True)
    assert list(pgtable.count_leaves(pt, BASE, BASE + 2 * GIB1)) == [1, 1, 0]  # 5.10 drops what maps 1 GiB


def test_a_part_of_a_huge_entry_is_not_moved_but_dropped():
    pt = tables()
    put(pt, BASE, 0x200, Level.PMD)
    pgtable.move(pt, BASE, BASE + GIB1, KIB4, False)
    assert not pgtable.count_leaves(pt, BASE, BASE + 2 * GIB1).any()


def test_a_walk_for_proc_clears_what_maps_1_gib():
    pt = tables()
    put(pt, BASE, 0x40000, Level.PUD)
    put(pt, BASE + GIB1, 0x80000, Level.PUD)
    put(pt, BASE + 2 * GIB1, 0x200, Level.PMD)
    pgtable.split_puds(pt, BASE + GIB1, BASE + 3 * GIB1)
    assert list(pgtable.count_leaves(pt, BASE, BASE + 3 * GIB1)) == [0, 1, 1]


PLACES = st.tuples(st.sampled_from(list(Level)[:3]), st.integers(0, 5))


@given(st.lists(PLACES, max_size=12), st.tuples(st.integers(0, 6), st.integers(0, 6)))
def test_against_a_dictionary(places, cut):
    """Entries at places of different sizes, a range cleared: what remains is what a dictionary says."""
    pt, model = tables(256), {}
    for number, (level, place) in enumerate(places):
        addr = BASE + place * GIB1 + (place * MIB2 if level < Level.PUD else 0)
        taken = [at for at, (lower, _) in model.items() if at < addr + level.size and addr < at + lower.size]
        if not taken and put(pt, addr, number + 1, level) >= 0:
            model[addr] = (level, number + 1)
    start, end = (BASE + at * GIB1 // 2 for at in sorted(cut))
    cleared = pgtable.zap(pt, start, end)
    gone = [at for at, (level, _) in model.items() if max(at, start) < min(at + level.size, end)]
    assert cleared == len(gone)
    for addr in gone:
        del model[addr]
    assert sum(pgtable.count_leaves(pt, BASE, BASE + 8 * GIB1)) == len(model)
    for addr, (level, pfn) in model.items():
        found, word = entry(pt, addr)
        assert (found, pgtable.entry_pfn(np.uint64(word))) == (level, pfn)
    for addr in model:
        pgtable.zap(pt, addr, addr + 1)
    pgtable.free_tables(pt, BASE, BASE + 8 * GIB1)
    assert used(pt) == 1
