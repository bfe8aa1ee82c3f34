# SPDX-License-Identifier: GPL-2.0-only
"""Patch 5: the index of a first touch, failures that go unnoticed, and what recorded kernels did."""

import pytest

from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout
from workbench.lab.pgoff import TOUCHED, first_touch, reads_until_told, recorded_failures

BASE_4, BASE_5, SERIES, FIXED = "5.16+4", "5.16+5", "5.16+11", "5.16+11-pgofffix"


@pytest.mark.parametrize(
    ("kernel", "align", "offset", "index", "marked"),
    [
        # series.md, patch 5: index = page of the file, rounded down before, up after; huge page 1 is touched
        (BASE_4, "2M", "20K", 512, 512),
        (BASE_5, "2M", "20K", 1024, 512),
        (BASE_5, "2M", 0, 512, 512),
        (BASE_5, "2M", 4095, 512, 512),
        (BASE_5, "2M", 4096, 1024, 512),
        (SERIES, "2M", "20K", 1024, 1),
        (FIXED, "2M", "20K", 512, 1),
        ("6.1", "2M", "20K", 512, 1),
        (BASE_4, "1G", "4K", 262144, 262144),
        (SERIES, "1G", "4K", 524288, 1),
        # page-table entries of 4 KiB never differ
        (BASE_4, "4K", "20K", 517, 1),
        (BASE_5, "4K", "20K", 517, 1),
    ],
)
def test_the_index_of_a_first_touch(kernel, align, offset, index, marked):
    touch = first_touch(kernel, align, offset)
    assert (touch.index, touch.marked) == (index, marked)
    assert touch.says == (2 if index in (1024, 524288) else TOUCHED)
    assert (touch.index == touch.right) == (touch.says == TOUCHED)


def test_a_byte_outside_the_huge_page_is_refused():
    with pytest.raises(WorkbenchError, match="does not lie in a huge page of 2M"):
        first_touch(BASE_4, "2M", "2M")


@pytest.mark.parametrize(
    ("kernel", "offset", "told"),
    [(BASE_4, "20K", 1), (BASE_5, "20K", 0), (BASE_5, 0, 1), (SERIES, "20K", 0), (FIXED, "20K", 1)],
)
def test_a_failing_byte_is_read_until_somebody_is_told(kernel, offset, told):
    reads, log = reads_until_told(kernel, "2M", offset, most=3)
    assert reads == told
    assert sum(line.endswith("recovery action for dax page: Recovered") for line in log) == (told or 3)
    assert any("Sending SIGBUS" in line for line in log) == bool(told)


def failures(run):
    return recorded_failures(Checkout.find().data / "captures", run)


def test_recorded_5_15_tells_of_every_page_exactly():
    """NOTES-5.15-5.17: index equals the page, the address told is that of the page."""
    found = failures("k5.15-index-2M")
    assert [(each.page, each.index) for each in found] == [(page, page) for page in (9, 9, 1027, 15872, 521)]
    assert all(each.right and each.told == each.page * 4096 and each.index == each.expected for each in found)


def test_recorded_5_17_names_the_next_huge_page():
    """Heads name the huge page after theirs; nobody is told, or of the wrong one; right after a first touch at 0."""
    found = failures("k5.17-index-2M")
    assert [each.index - each.expected for each in found] == [512, 512, 512, 512, 0]
    assert [each.told for each in found] == [None, 2 << 20, None, None, 2 << 20]
    assert [each.right for each in found] == [False, False, False, False, True]
