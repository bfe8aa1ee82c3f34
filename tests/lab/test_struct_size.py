# SPDX-License-Identifier: GPL-2.0-only
"""Bytes of a pgmap: series.md, patch 6."""

import pytest

from workbench.errors import WorkbenchError
from workbench.lab.struct_size import bind_ranges, bytes_different, pgmap_size

BEFORE, AFTER = "5.16+5", "5.16+6"


@pytest.mark.parametrize(("nr_range", "asked"), [(1, 160), (2, 176), (4, 208)])
def test_both_ask_for_the_same(nr_range, asked):
    for kernel in (BEFORE, AFTER):
        size = pgmap_size(kernel, nr_range)
        assert (size.asked, size.structure, size.missing, size.saturated) == (asked, 160, 0, False)


def test_no_range():
    before, after = pgmap_size(BEFORE, 0), pgmap_size(AFTER, 0)
    assert (before.asked, before.missing, before.saturated) == (144, 16, False)
    assert (after.asked, after.missing, after.saturated) == (2**64 - 1, 0, True)


@pytest.mark.parametrize("nr_range", [1, 3])
def test_devices_bound_on_both_have_the_same_bytes(nr_range):
    before, after = (bind_ranges(kernel, nr_range) for kernel in (BEFORE, AFTER))
    assert before.ranges == after.ranges == tuple((0x100000 + 1024 * k, 512) for k in range(nr_range))
    assert len(before.pages) == 512 * nr_range and bytes_different(before, after) == 0
    before.pages[3, 1] ^= 1
    assert bytes_different(before, after) == 1


def test_a_device_without_memory_is_refused_before_the_driver_is_asked():
    assert [bind_ranges(kernel, 0).errno for kernel in (BEFORE, AFTER)] == ["ENXIO", "ENXIO"]


def test_other_ranges_are_not_compared():
    with pytest.raises(WorkbenchError, match="Bind the same ranges"):
        bytes_different(bind_ranges(BEFORE, 1), bind_ranges(AFTER, 2))
