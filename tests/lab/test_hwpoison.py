# SPDX-License-Identifier: GPL-2.0-only
"""A failing byte on a whole machine: the scenarios of the specification, and what real kernels marked."""

import pytest

from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout
from workbench.lab.hwpoison import FAILS, poisoned, recorded_marks

WITHOUT_1 = "5.16+=2,3,4,5,6,7,8,9,10,11"
PAGE_5 = 5 * 4096


def hits(shown):
    """Name to (huge page, byte in it) of the address told."""
    return {
        each.name: (each.hit(shown.align), (each.signal.addr - each.start) % shown.align)
        for each in shown.told
        if each.signal
    }


@pytest.mark.parametrize("align, lsb", [("2M", 21), ("1G", 30)])
def test_before_the_exact_page_after_the_head(align, lsb):
    before, after = poisoned("5.16+0", align, PAGE_5), poisoned("5.16+11", align, PAGE_5)
    assert [pfn - before.fails_pfn for pfn in before.outcome.marked] == [5]
    assert [pfn - after.fails_pfn for pfn in after.outcome.marked] == [0]
    assert hits(before) == {"p0": (FAILS, PAGE_5), "p2": (FAILS, PAGE_5)}
    assert hits(after) == {"p0": (FAILS, 0), "p2": (FAILS, 0)}
    for shown in (before, after):
        assert {each.signal.lsb for each in shown.told if each.signal} == {lsb}
        assert [(each.before, each.after) for each in shown.told] == [({FAILS}, frozenset())] * 3
        assert shown.right and not shown.crash
        codes = {each.name: each.signal.code for each in shown.told if each.signal}
        assert codes == {"p0": "BUS_MCEERR_AR", "p2": "BUS_MCEERR_AO"}


@pytest.mark.parametrize(
    "kernel, right", [("5.16+11", False), ("5.17", False), ("5.16+11-pgofffix", True), ("6.1", True)]
)
def test_a_first_touch_off_the_start(kernel, right):
    alone = poisoned(kernel, "2M", PAGE_5, 4096)
    crowded = poisoned(kernel, "2M", PAGE_5, 4096, neighbour=True)
    assert alone.right == crowded.right == right
    assert alone.outcome.result == crowded.outcome.result == "Recovered"
    assert alone.index == 512 * (1 if right else 2)
    assert hits(alone) == ({"p0": (1, 0), "p2": (1, 0)} if right else {})
    assert hits(crowded) == dict.fromkeys(("p0", "p2"), (1 if right else 2, 0))
    assert [each.after for each in crowded.told] == ([{2}, frozenset(), {2}] if right else [{1}, {1}, {1}])


def test_without_patch_1_the_kernel_dies_on_tail_mapping():
    shown = poisoned(WITHOUT_1, "2M", PAGE_5)
    assert "0xdead000000000400" in shown.crash and shown.mapping == 0xDEAD000000000400
    assert all(each.after == each.before == {FAILS} for each in shown.told)
    assert shown.outcome.marked == () and not shown.right


def test_an_offset_outside_the_huge_page_is_refused():
    with pytest.raises(WorkbenchError, match="do not lie in a huge page of 2M"):
        poisoned("5.17", "2M", "2M")


def test_what_real_kernels_marked():
    """The table of the notes: 5.15 the page itself, 5.17 a huge page too high, 6.1 the start of the right one."""
    rows = recorded_marks(Checkout.find().data / "captures")
    assert [(row.memory, row.kernel, row.page, row.marked, row.told) for row in rows] == [
        ("device-dax", "5.15", 9, (9,), 9 * 4096),
        ("device-dax", "5.17", 9, (0,), 2 << 20),
        ("device-dax", "6.1", 9, (0,), 0),
        ("hugetlbfs", "6.1", 9, (0,), None),
        ("transparent huge page", "6.1", 9, (9,), None),
    ]
    assert [str(row.role) for row in rows] == ["zone_device", "tail", "tail", "tail", "base"]
