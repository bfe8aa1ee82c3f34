# SPDX-License-Identifier: GPL-2.0-only
"""Both forms of prep_compound_page() leave the same bytes; a byte that differs is seen."""

import numpy as np
import pytest

from workbench.errors import WorkbenchError
from workbench.lab import split
from workbench.lab.same_bytes import LAYOUTS
from workbench.lab.split import ORDERS, compare_split, without_and_with
from workbench.series import Switch


def test_no_byte_differs_at_any_order_on_any_layout():
    same = compare_split()
    assert same.order.values.tolist() == list(range(1, 19)) == list(ORDERS)
    assert same.sizes["layout"] == len(LAYOUTS)
    assert int(same.bytes_different.sum()) == 0
    # 64 bytes a struct page, freshly initialised and of ones
    assert same.bytes_compared.values.tolist() == [[2 * 64 << order] * len(LAYOUTS) for order in ORDERS]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_two_kernels_differ_in_patch_2_alone(layout):
    whole, both = without_and_with(layout)
    assert whole.abi == both.abi and whole.tree.base == both.tree.base
    assert both.tree.patches - whole.tree.patches == {2} and not whole.tree.has(2)


def test_a_difference_is_seen(monkeypatch):
    true = split.prep_compound_page

    def forgets_the_last_tail(vm, head, order, ev):
        kept = vm.pages[head + (1 << order) - 1].copy()
        true(vm, head, order, ev)
        if vm.switches & Switch.P2:
            vm.pages[head + (1 << order) - 1] = kept

    monkeypatch.setattr(split, "prep_compound_page", forgets_the_last_tail)
    same = compare_split([3], ["5.17"])
    assert int(same.bytes_different.sum()) > 0
    assert int(same.first_page_different.item()) == 7


def test_order_1_and_9_of_5_17_as_specified():
    whole, both = without_and_with("5.17")
    for which in (whole, both):
        for order, number in ((1, 2), (9, 512)):
            rows = split._prepared(split._array(which, order), order, ones=False)
            assert rows[0, 0] & np.uint64(1 << 16)
            pad = np.uint64(0xFFFF0000)  # bytes 18 and 19 keep what lru.prev left there
            assert rows[1, 2] & ~pad == np.uint64(0xFFFFFFFF00000001 | order << 8)
            assert rows[1, 3] == np.uint64(0xDEAD000000000000 | number)
            assert (rows[2:, 3] == np.uint64(0xDEAD000000000400)).all()
            assert (rows[1:, 1] == np.uint64(0xFFFFEA0004000001)).all()


def test_what_cannot_be_compared_is_refused():
    for orders, layouts in (([0], ["5.17"]), ([19], ["5.17"]), ([], ["5.17"]), ([9], [])):
        with pytest.raises(WorkbenchError, match="orders of 1 to 18"):
            compare_split(orders, layouts)
