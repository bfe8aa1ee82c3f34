# SPDX-License-Identifier: GPL-2.0-only
"""Two trees side by side: patch 3 changes nothing, patch 4 is seen to change what it must."""

import pytest

from tests import naive
from workbench.errors import WorkbenchError
from workbench.lab.same_bytes import COMPOUND_SHAPES, COUNTS, LAYOUTS, SHAPES, Shape, compare, stores_by_function
from workbench.lab.trace import PGMAP, START_PFN, trace_init
from workbench.series import kernel
from workbench.view.export import description
from workbench.view.same_bytes import counts_table, differences, equality_figure, stores_table

pytestmark = pytest.mark.slow  # 56 runs of two trees, up to a GiB of device each

ONE_GIB = [shape for shape in SHAPES if shape.name == "1 GiB"]


@pytest.fixture(scope="module")
def patch_3():
    return compare("5.16+2", "5.16+3")


def test_patch_3_changes_no_byte_and_no_count_on_any_shape_and_layout(patch_3):
    assert patch_3.bytes_different.shape == (len(SHAPES), len(LAYOUTS)) == (8, 7)
    assert differences(patch_3) == 0
    assert int(patch_3.bytes_compared.min()) >= 64


def test_one_gib_takes_262144_inits_and_512_pageblocks(patch_3):
    for tree in ("before", "after"):
        one = patch_3.sel(shape="1 GiB", tree=tree)
        assert set(one.struct_pages_initialised.values.tolist()) == {262144}
        assert set(one.pages_logged.values.tolist()) == {262144}
        assert set(one.migratetype_writes.values.tolist()) == {512}
        assert set(one.cond_resched.values.tolist()) == {512}


def test_an_odd_start_meets_only_the_pageblocks_inside(patch_3):
    # 1023 pages from 77 behind a multiple of 512: the multiples 512 and 1024 lie inside
    odd = patch_3.sel(shape="4 MiB less a page, odd start", layout="5.17")
    assert odd.migratetype_writes.values.tolist() == [2, 2]


def test_patch_3_is_neutral_under_patch_4_too():
    assert differences(compare("5.16+=1,2,4", "5.16+4", COMPOUND_SHAPES, ["5.17", "6.12"])) == 0


def test_what_patch_4_changes_is_counted_byte_by_byte():
    shape = Shape("2 MiB compound", START_PFN, 512, 9)
    layout = naive.LAYOUTS["5.17"]
    base, compound = (naive.populate({}, START_PFN, 512) for _ in range(2))
    naive.memmap_init_zone_device(base, layout, START_PFN, 512, 0, PGMAP, 9, compound=False)
    naive.memmap_init_zone_device(compound, layout, START_PFN, 512, 0, PGMAP, 9)
    expected = sum(
        one != other
        for pfn in base
        for word in range(8)
        for one, other in zip(
            base[pfn][word].to_bytes(8, "little"), compound[pfn][word].to_bytes(8, "little"), strict=True
        )
    )
    same = compare("5.16+3", "5.16+4", [shape], ["5.17"])
    assert int(same.bytes_different.sum()) == expected > 511
    assert differences(same) > expected  # the stores that make tails are counted as well


def test_nothing_to_compare_is_refused():
    with pytest.raises(WorkbenchError):
        compare("5.16+2", "5.16+3", [])
    with pytest.raises(WorkbenchError):
        compare("5.16+2", "5.16+12", ONE_GIB, ["5.17"])


def test_two_stores_a_page_move_into_the_helper():
    stores = stores_by_function(*(trace_init(kernel(name), 512) for name in ("5.16+2", "5.16+3")))
    got = {
        name: (before, after)
        for name, before, after in zip(
            stores.function.values.tolist(), stores.before.values.tolist(), stores.after.values.tolist(), strict=True
        )
    }
    assert got.pop("memmap_init_zone_device") == (1024, 0)
    assert got.pop("__init_zone_device_page") == (0, 1024)
    assert all(before == after > 0 for before, after in got.values())
    # 17 stores a struct page: 8 to zero it, 6 by the rest of __init_single_page(), reserved, pgmap and private data
    assert int(stores.before.sum()) == int(stores.after.sum()) == 512 * 17
    table = repr(stores_table(stores))
    assert table.count("moved") == 2 and "8,704" in table


def test_the_figure_says_what_the_dataset_holds(patch_3):
    fig = equality_figure(patch_3)
    assert "0 bytes differ" in fig.layout.title.text
    assert not fig.data[0].z.any()
    caption, alt = description(fig)
    assert "Derived" in caption and "56 of 56 cells are equal" in alt
    assert fig.layout.meta["origin"] == "derived"


def test_a_difference_turns_its_cell_black():
    fig = equality_figure(compare("5.16+3", "5.16+4", COMPOUND_SHAPES[2:], ["5.17"]))
    assert fig.data[0].z.tolist() == [[1]] and fig.data[0].colorscale[1] == (1, "#000000")
    assert "0 of 1 cells are equal" in description(fig)[1]


def test_counts_stand_side_by_side(patch_3):
    table = repr(counts_table(patch_3, "1 GiB", "5.17"))
    assert table.count("262,144") == 4 and table.count("equal") == len(COUNTS) + 1 and "different" not in table
