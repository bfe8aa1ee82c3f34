# SPDX-License-Identifier: GPL-2.0-only
"""What a first fault stores, held against the specification of patches 5, 8, 9, 10 and 11."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.errors import WorkbenchError
from workbench.lab.fault_writes import fault_writes, later_faults
from workbench.mm.mmap import VmFault
from workbench.mm.pgtable import Level

MAPPING, INDEX = 3, 4  # words at +24 and +32 of a struct page


def each_page_in_turn(pages):
    """mapping, then index, of one struct page after the other."""
    return [[page, word] for page in range(pages) for word in (MAPPING, INDEX)]


@pytest.mark.parametrize(
    ("kernel", "first"), [("5.16+7", False), ("5.16+8", False), ("5.16+9", True), ("5.16+10", True)]
)
@pytest.mark.parametrize(("align", "pages", "entry"), [("4K", 1, Level.PTE), ("2M", 512, Level.PMD)])
def test_without_patch_11_every_struct_page_and_patch_9_moves_the_entry(kernel, first, align, pages, entry):
    fault = fault_writes(kernel, align)
    assert (fault.result, fault.entry) == ("mapped", entry)
    assert fault.stores.tolist() == each_page_in_turn(pages)
    assert fault.before_entry == (2 * pages if first else 0)
    assert fault.exposed == (0 if first else pages)
    assert fault.longest_exposed == (0 if first else 2 * pages)
    assert fault.described_at.tolist() == list(range(2, 2 * pages + 1, 2))


@pytest.mark.parametrize(("align", "entry"), [("2M", Level.PMD), ("1G", Level.PUD)])
def test_patch_11_stores_to_the_head_alone(align, entry):
    fault = fault_writes("5.16+11", align, first_touch="20K")
    assert fault.compound and fault.entry == entry
    assert fault.stores.tolist() == each_page_in_turn(1)
    assert (fault.before_entry, fault.exposed) == (2, 0)


def test_patch_11_changes_nothing_for_4_kib():
    one, other = fault_writes("5.16+10", "4K"), fault_writes("5.16+11", "4K")
    assert not other.compound and np.array_equal(one.stores, other.stores)


def test_without_patch_9_the_head_too_is_exposed():
    fault = fault_writes("5.16+=2,3,4,5,6,7,8,10,11")
    assert (fault.before_entry, fault.exposed, fault.longest_exposed) == (0, 1, 2)


@pytest.mark.parametrize(("fails", "result"), [(VmFault.OOM, "ENOMEM"), (VmFault.SIGBUS, "SIGBUS")])
@pytest.mark.parametrize(("kernel", "stays"), [("5.16+8", 0), ("5.16+9", 512), ("5.16+11", 1)])
def test_what_stays_where_no_entry_can_be_made(kernel, stays, fails, result):
    fault = fault_writes(kernel, fails=fails)
    assert (fault.result, fault.entry, len(fault.written)) == (result, None, stays)
    assert (fault.mapping != 0) == (stays > 0)
    assert fault.exposed == fault.longest_exposed == 0


@pytest.mark.parametrize(("kernel", "index"), [("5.16+4", 0), ("5.16+8", 512), ("5.17", 512), ("5.17-pgofffix", 0)])
def test_the_first_index_stays(kernel, index):
    first, other_process, mapped_again = later_faults(kernel, first_touch="20K")
    assert first.stores == (2 if kernel.startswith("5.17") else 1024)
    assert other_process.stores == mapped_again.stores == 0
    assert first.index == other_process.index == mapped_again.index == index


def test_an_offset_outside_the_page_is_refused():
    with pytest.raises(WorkbenchError, match="does not lie"):
        fault_writes("5.17", "2M", "2M")
