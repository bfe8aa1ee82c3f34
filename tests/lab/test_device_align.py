# SPDX-License-Identifier: GPL-2.0-only
"""Aligns and pieces of a device, held against the specification of patch 11 and of the dax bus."""

from __future__ import annotations

import pytest

from workbench.errors import WorkbenchError
from workbench.lab.device_align import aligned_device, grown_in_turns
from workbench.mm.pgtable import Level

GIB = 1 << 30
PAGES = GIB >> 12


@pytest.mark.parametrize(
    ("align", "shift", "leaf"), [("4K", 0, Level.PTE), ("2M", 9, Level.PMD), ("1G", 18, Level.PUD)]
)
def test_patch_11_saves_stores_and_references_but_no_fault(align, shift, leaf):
    before, after = aligned_device("5.16+10", align), aligned_device("5.16+11", align)
    units = PAGES >> shift
    assert (before.vmemmap_shift, after.vmemmap_shift) == (0, shift)
    assert before.faults == after.faults == units
    assert before.path == after.path and before.path[-1] == leaf and len(before.path) == 4 - leaf
    assert (before.stores, before.struct_pages, before.references) == (2 * PAGES, PAGES, PAGES)
    assert (after.stores, after.struct_pages, after.references) == (2 * units, units, units)


def test_devices_that_grow_in_turns_get_four_ranges_each():
    region = grown_in_turns("5.16+11", "2M")
    half = GIB // 2
    assert [(p.start, p.size, p.pgoff) for p in region.of("dax0.0")] == [
        (4 * GIB + 2 * k * half, half, k * half >> 12) for k in range(4)
    ]
    assert [p.start for p in region.of("dax0.1")] == [4 * GIB + (2 * k + 1) * half for k in range(4)]
    assert region.references == {"dax0.0": 1024, "dax0.1": 1024}
    assert all(piece.mapped_start == piece.start for piece in region.pieces) and not region.hazards


@pytest.mark.parametrize("kernel", ["5.10", "5.16+11", "6.1"])
def test_ranges_off_a_gib_reach_memory_below_them(kernel):
    region = grown_in_turns(kernel, "1G", step="1G", off="512M")
    assert [piece.start - piece.mapped_start for piece in region.pieces] == [GIB // 2] * 4
    assert len(region.hazards) == 4


def test_a_range_off_a_gib_is_no_matter_for_2_mib():
    region = grown_in_turns("5.16+11", "2M", off="512M")
    assert all(piece.mapped_start == piece.start for piece in region.pieces) and not region.hazards


def test_a_length_that_is_no_multiple_is_refused():
    with pytest.raises(WorkbenchError) as refused:
        grown_in_turns("5.16+11", "1G", step="512M")
    assert refused.value.errno_name == "EINVAL"
