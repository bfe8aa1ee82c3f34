# SPDX-License-Identifier: GPL-2.0-only
"""Backing of struct pages against a page-by-page walk of the rules and the specification's numbers."""

import errno
from collections import Counter
from itertools import count

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.mm.sparse_vmemmap import (
    NOTHING_MAPPED,
    Altmap,
    How,
    Populated,
    add_pages,
    altmap_alloc_block_buf,
    populate,
    vmem_altmap_nr_free,
    vmemmap_can_optimize,
)

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
SECTION, SUBSECTION = 32768, 512
PFN = 0x140000


def naive_entries(ranges, shift, dedup, altmap):
    """Every page-table entry behind the struct pages, one after the other.

    Returns
    -------
    list of (entry bytes, frame)
        One for each 4 KiB of vmemmap.  A frame is a number the "allocator" gave, or ("altmap", pfn).
    """
    entries, dram = [], count()
    taken = 0 if altmap is None else altmap.base_pfn + altmap.reserve
    for first, nr_pages in ranges:
        pfn = first
        while pfn < first + nr_pages:
            stop = min(first + nr_pages, (pfn // SECTION + 1) * SECTION)
            if dedup and altmap is None and shift:
                into_compound = (pfn - first) % (1 << shift)
                for page in range(pfn, stop, 64):
                    place = (page - pfn) % (1 << shift) // 64  # counted from the chunk, as the kernel does
                    if (shift > 9 and into_compound) or place >= 2:
                        entries.append((4096, entries[-1][1]))
                    else:
                        entries.append((4096, next(dram)))
            elif stop - pfn < SECTION:
                entries += [(4096, next(dram)) for _ in range(pfn, stop, 64)]
            elif altmap is None:
                entries += [(2 * MIB, next(dram)) for _ in range(512)]
            else:
                taken = -(-taken // 512) * 512
                entries += [(2 * MIB, ("altmap", taken + page)) for page in range(512)]
                taken += 512
            pfn = stop
    return entries


def naive_walk(entries):
    small = Counter(frame for size, frame in entries if size == 4096)
    large = sum(size == 2 * MIB for size, _ in entries) // 512
    return {
        "ptes_4k": sum(small.values()),
        "pmds_2m": large,
        "va_bytes": 4096 * len(entries),
        "distinct_physical_bytes": 4096 * len({frame for _, frame in entries}),
        "distinct_4k": len(small),
        "max_share": max(Counter(frame for _, frame in entries).values()),
    }


def small_range(first):
    """Ranges from ``first`` on that reach over a few sections."""
    return st.tuples(
        st.integers(0, 63).map(lambda n: first + n * SUBSECTION),
        st.one_of(
            st.integers(1, 70).map(lambda n: n * SUBSECTION),
            st.integers(1, 20).map(lambda n: n * SECTION),
        ),
    )


shifts = st.sampled_from([0, 9, 18])


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=3), shifts, st.booleans(), st.data())
def test_every_entry_is_as_the_rules_say(gaps, shift, dedup, data):
    ranges = [data.draw(small_range(PFN + 40 * SECTION * (i + sum(gaps[: i + 1])))) for i in range(len(gaps))]
    entries = naive_entries(ranges, shift, dedup, None)
    populated = populate(ranges, vmemmap_shift=shift, dedup=dedup)
    assert populated.backing().walk == naive_walk(entries)
    sharing = populated.sharing()
    first_of = {}
    assert sharing.first.tolist() == [first_of.setdefault(frame, i) for i, (_, frame) in enumerate(entries)]
    assert sharing.leaf_bytes.tolist() == [size for size, _ in entries]
    assert (sharing.phys_addr == -1).all()


@given(small_range(PFN), shifts, st.booleans())
def test_an_altmap_backs_whole_sections_and_nothing_is_shared(one_range, shift, dedup):
    first, nr_pages = one_range
    assume(nr_pages >= 2 * SECTION)
    altmap = Altmap(first, reserve=2, free=nr_pages // 64 + 510)
    entries = naive_entries([one_range], shift, dedup, altmap)
    populated = populate([one_range], vmemmap_shift=shift, dedup=dedup, altmap=altmap)
    assert populated.backing().walk == naive_walk(entries)
    sharing = populated.sharing()
    assert sharing.first.tolist() == list(range(len(entries)))
    expected = [frame[1] * 4096 if isinstance(frame, tuple) else -1 for _, frame in entries]
    assert sharing.phys_addr.tolist() == expected


@given(st.integers(0, 4096), st.integers(0, 600), st.integers(0, 12 * 512), st.integers(1, 12))
def test_blocks_of_an_altmap_follow_each_other(section, reserve, free, sections):
    """Block by block as altmap_alloc_block_buf() hands them out, and all at once, is the same."""
    altmap = one_by_one = Altmap(section * SECTION, reserve, free)
    ranges = [(altmap.base_pfn, sections * SECTION)]
    pfns = []
    for _ in range(sections):
        taken = altmap_alloc_block_buf(2 * MIB, one_by_one)
        if taken is None:
            with pytest.raises(WorkbenchError) as refusal:
                populate(ranges, altmap=altmap)
            assert refusal.value.errno == errno.ENOMEM
            return
        pfn, one_by_one = taken
        pfns.append(pfn)
    populated = populate(ranges, altmap=altmap)
    assert [populated.altmap_pfn + 512 * i for i in range(sections)] == pfns
    assert populated.altmap == one_by_one


def test_first_block_of_an_altmap():
    """Reserve 2 from an aligned base: 510 pfns are lost, the block starts at base + 512, then none are lost."""
    pfn, altmap = altmap_alloc_block_buf(2 * MIB, Altmap(PFN, 2, 4606))
    assert (pfn, altmap.align, altmap.alloc) == (PFN + 512, 510, 512)
    pfn, altmap = altmap_alloc_block_buf(2 * MIB, altmap)
    assert (pfn, altmap.align, altmap.alloc) == (PFN + 1024, 510, 1024)
    assert vmem_altmap_nr_free(altmap) == 4606 - 510 - 1024


def test_an_altmap_of_1_gib_is_used_to_the_last_page():
    populated = populate([(PFN, 262144)], altmap=Altmap(PFN, 2, 4606))
    assert vmem_altmap_nr_free(populated.altmap) == 0
    with pytest.raises(WorkbenchError) as refusal:
        populate([(PFN, 262144)], altmap=Altmap(PFN, 2, 4605))
    assert refusal.value.errno == errno.ENOMEM


@pytest.mark.parametrize("size", [0, 1, 4095, -4096])
def test_an_altmap_gives_whole_pages_only(size):
    assert altmap_alloc_block_buf(size, Altmap(PFN, 2, 4606)) is None


def test_a_block_is_aligned_to_the_power_of_two_in_its_size():
    pfn, altmap = altmap_alloc_block_buf(3 * 4096, Altmap(PFN, 2, 100))
    assert (pfn, altmap.align) == (PFN + 2, 0)
    pfn, altmap = altmap_alloc_block_buf(6 * 4096, Altmap(PFN, 1, 100))
    assert (pfn, altmap.align) == (PFN + 2, 1)


# Per compound: vmemmap pages, and those kept.  The specification's table (followups.md).
@pytest.mark.parametrize(("shift", "pages", "kept"), [(9, 8, 2), (18, 4096, 2)])
def test_one_compound_keeps_two_vmemmap_pages(shift, pages, kept):
    sharing = populate([(PFN, 1 << shift)], vmemmap_shift=shift, dedup=True).sharing()
    assert sharing.first.size == pages
    assert np.unique(sharing.first).size == kept
    assert sharing.first[:3].tolist() == [0, 1, 1]


#                 shift  dedup  physical per TiB
@pytest.mark.parametrize(
    ("shift", "dedup", "per_tib"),
    [(0, False, 16 * GIB), (9, False, 16 * GIB), (18, False, 16 * GIB), (9, True, 4 * GIB), (18, True, 8 * MIB)],
)
def test_physical_memory_per_tib(shift, dedup, per_tib):
    backing = populate([(0, TIB // 4096)], vmemmap_shift=shift, dedup=dedup).backing()
    assert backing.distinct_physical_bytes == per_tib
    assert backing.va_bytes == 16 * GIB


def test_1g_compounds_cost_40_mib_a_tib_with_their_page_tables():
    """The cover letter of the deduplication series: 8 MiB of struct pages, 8 tables a GiB."""
    backing = populate([(0, TIB // 4096)], vmemmap_shift=18, dedup=True).backing()
    assert backing.pte_tables == 8 * 1024
    assert backing.dram_bytes == 40 * MIB


def test_later_sections_of_a_1g_compound_repeat_the_page_before_them():
    """
    section   0          1          ...        7          8 = next compound
    vmemmap   H T T T .. T T T ..              T T T ..   H' T' T' ..
    backing   0 1 1 1 .. 1 1 1 ..              1 1 1 ..   2  3  3 ..
    """
    populated = populate([(PFN, 2 << 18)], vmemmap_shift=18, dedup=True)
    assert populated.how.tolist() == [How.COMPOUND] + [How.REUSE] * 7 + [How.COMPOUND] + [How.REUSE] * 7
    first = populated.sharing().first
    assert set(first[1:4096]) == {1}
    assert first[4096] == 4096
    assert set(first[4097:]) == {4097}


def test_a_later_head_shares_its_page_where_the_range_starts_inside_a_section():
    """Only chunk starts are compared with the compounds: the head at +1 GiB lies inside a chunk."""
    populated = populate([(PFN + SUBSECTION, 2 << 18)], vmemmap_shift=18, dedup=True)
    backing, head = populated.backing(), (1 << 18) // 64
    assert populated.sharing().first[head] == 1
    assert backing.distinct_4k == 2
    assert backing.max_share == 8192 - 1


def test_a_part_of_a_section_is_mapped_by_dram_pages_even_with_an_altmap():
    populated = populate([(PFN, SECTION + SUBSECTION)], altmap=Altmap(PFN, 2, 2048))
    backing = populated.backing()
    assert populated.how.tolist() == [How.HUGEPAGES, How.BASEPAGES]
    assert (backing.pmds_2m, backing.ptes_4k, backing.pte_tables) == (1, 8, 1)
    assert backing.altmap_bytes == 2 * MIB
    assert backing.dram_bytes == 8 * 4096 + 4096


def test_an_early_section_is_not_mapped_again():
    """
    section 40       41
    |  ... RAM  DEV  | DEV ... |
    """
    start = PFN + SECTION - SUBSECTION
    populated = populate([(start, SUBSECTION + SECTION)], early_sections={PFN // SECTION, PFN // SECTION + 1})
    assert populated.how.tolist() == [How.EARLY, How.HUGEPAGES], "a whole section is mapped anew"
    assert populated.backing().va_bytes == 2 * MIB
    assert populated.sharing().leaf_bytes.tolist() == [2 * MIB] * (8 + 512)
    only_early = populate([(start, SUBSECTION)], early_sections={PFN // SECTION})
    assert only_early.backing() == NOTHING_MAPPED


def test_which_devices_share():
    assert [vmemmap_can_optimize(None, shift) for shift in (0, 7, 8, 9, 18)] == [False, False, True, True, True]
    assert not vmemmap_can_optimize(Altmap(PFN, 2, 4606), 9)


@pytest.mark.parametrize(
    ("start", "nr_pages"), [(PFN + 1, 512), (PFN, 511), (PFN, 0), (PFN, -512), (-512, 512), (PFN + 256, 512)]
)
def test_only_whole_subsections_are_added(start, nr_pages):
    with pytest.raises(WorkbenchError) as refusal:
        populate([(start, nr_pages)])
    assert refusal.value.errno == errno.EINVAL


@pytest.mark.parametrize("altmap", [Altmap(PFN + 512, 2, 100), Altmap(PFN, 2, SECTION - 1)])
def test_an_altmap_lies_at_the_start_of_its_range(altmap):
    with pytest.raises(WorkbenchError) as refusal:
        populate([(PFN, SECTION)], altmap=altmap)
    assert refusal.value.errno == errno.EINVAL


def test_refused_shapes():
    with pytest.raises(WorkbenchError, match="exactly one"):
        populate([])
    with pytest.raises(WorkbenchError, match="exactly one"):
        populate([(PFN, SECTION), (PFN + SECTION, SECTION)], altmap=Altmap(PFN, 2, 1024))
    with pytest.raises(WorkbenchError, match="vmemmap_shift"):
        populate([(PFN, SECTION)], vmemmap_shift=10)
    with pytest.raises(WorkbenchError, match="128 TiB"):
        populate([(0, 1 << 60)])
    with pytest.raises(WorkbenchError, match="physical address"):
        populate([(1 << 40, SECTION)])


@given(small_range(PFN))
def test_chunks_end_at_section_boundaries(one_range):
    first, nr_pages = one_range
    start_pfn, counts = add_pages(first, nr_pages)
    assert start_pfn[0] == first
    assert (start_pfn[1:] == start_pfn[:-1] + counts[:-1]).all()
    assert (start_pfn[1:] % SECTION == 0).all()
    assert counts.sum() == nr_pages
    assert ((counts > 0) & (counts <= SECTION)).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 16 * TIB // (2 * MIB)), st.integers(1, 64 * TIB // (2 * MIB)), shifts, st.booleans())
def test_totals_up_to_64_tib(start, subsections, shift, dedup):
    nr_pages = subsections * SUBSECTION
    populated: Populated = populate([(start * SUBSECTION, nr_pages)], vmemmap_shift=shift, dedup=dedup)
    backing = populated.backing()
    assert backing.va_bytes == nr_pages * 64 == backing.ptes_4k * 4096 + backing.pmds_2m * 2 * MIB
    assert backing.distinct_physical_bytes == backing.distinct_4k * 4096 + backing.pmds_2m * 2 * MIB
    assert backing.distinct_physical_bytes <= backing.va_bytes
    assert backing.max_share == 1 or (dedup and shift)
    assert backing.distinct_4k * backing.max_share >= backing.ptes_4k
    sections = (start * SUBSECTION + nr_pages - 1) // SECTION - start * SUBSECTION // SECTION + 1
    assert backing.pmds_2m + backing.pte_tables == sections
