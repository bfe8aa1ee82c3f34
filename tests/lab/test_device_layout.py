# SPDX-License-Identifier: GPL-2.0-only
"""What a device counts, held against the specification's numbers and against the roles of single pages."""

import numpy as np
import pytest

from workbench.abi import Role
from workbench.errors import WorkbenchError
from workbench.lab import device_layout as module
from workbench.lab.device_layout import ROLES, changes, device_layout, numbers, roles
from workbench.series import kernel

GIB_PAGES = 262_144


@pytest.mark.parametrize(
    ("kernel_name", "shift", "base", "heads", "tails", "references"),
    [
        # algorithms A6, work for a GiB: base pages, or compound pages of 2 MiB and 1 GiB
        ("5.16+3", 9, GIB_PAGES, 0, 0, GIB_PAGES),
        ("5.16+4", 0, GIB_PAGES, 0, 0, GIB_PAGES),
        ("5.16+4", 9, 0, 512, 261_632, 512),
        ("5.16+4", 18, 0, 1, 262_143, 1),
        ("6.1", 9, 0, 512, 261_632, 512),
        ("6.12", 18, 0, 1, 262_143, 1),
    ],
)
def test_a_gib_counts_what_the_specification_says(kernel_name, shift, base, heads, tails, references):
    ds = device_layout(kernel_name, "1G", shift)
    by_role = dict(zip(ds.role.values.tolist(), ds.role_pages.values.tolist(), strict=True))
    assert by_role[Role.ZONE_DEVICE] == base and by_role[Role.HEAD] == heads
    assert sum(by_role[role] for role in (Role.FIRST_TAIL, Role.SECOND_TAIL, Role.TAIL)) == tails
    assert int(ds.references) == references
    assert int(ds.refcounts) == base + heads  # 1 for a base page and a head, 0 for a tail
    assert int(ds.vmemmap_bytes) == 16 << 20  # 16 MiB a GiB, whatever the compounds


def test_numbers_by_align():
    ds = numbers(["5.16+3", "5.16+4"], "1G", ["4K", "2M", "1G"])
    assert ds.heads.sel(kernel="5.16+4").values.tolist() == [0, 512, 1]
    assert ds.references.sel(kernel="5.16+4").values.tolist() == [GIB_PAGES, 512, 1]
    assert ds.tails.sel(kernel="5.16+4").values.tolist() == [0, 261_632, 262_143]
    assert set(ds.references.sel(kernel="5.16+3").values.tolist()) == {GIB_PAGES}
    assert set(ds.struct_pages.values.ravel().tolist()) == {GIB_PAGES}
    assert set(ds.provenance.values.ravel().tolist()) == {"derived"}
    with pytest.raises(WorkbenchError, match="power of two"):
        numbers(["5.17"], "1G", [12288])


def test_the_words_of_a_compound_page():
    # page-layout, section 3, order 9, 5.15-5.17: head, tail 1, tail 2 and on
    head = "0027ffffc0011000 ffff888100a01000 0 0 0 0 00000001ffffffff 0"
    tail_1 = "0027ffffc0001000 ffffea0004000001 ffffffff00000901 dead000000000200 0 0 00000000ffffffff 0"
    tail_2 = "0027ffffc0001000 ffffea0004000001 0 dead000000000400 0 0 00000000ffffffff 0"
    expected = [[int(word, 16) for word in row.split()] for row in [head, tail_1, *[tail_2] * 6]]
    ds = device_layout("5.17", "1G", 9)
    assert ds.words.values.tolist() == expected
    assert int(ds.alike) == 512 - 8
    assert ds.attrs["provenance"] == "derived" and ds.attrs["pages_per_compound"] == 512


def test_an_altmap_moves_the_first_compound_page():
    # a namespace of 1 GiB, map=dev: 2 pages reserved, 18 MiB in all before the data
    ds = device_layout("5.17", "1G", 9, altmap=True)
    first = (18 << 20) // 4096
    assert ds.part_pages.values.tolist() == [2, first - 2, GIB_PAGES - first]
    assert ds.attrs["first_pfn"] == ds.attrs["compound_pfn"] == 0x100000 + first
    by_role = dict(zip(ds.role.values.tolist(), ds.role_pages.values.tolist(), strict=True))
    assert by_role[Role.UNINITIALISED] == 2 and by_role[Role.BASE] == first - 2
    assert by_role[Role.HEAD] == (GIB_PAGES - first) // 512 == int(ds.references)


@pytest.mark.parametrize("altmap", [False, True])
@pytest.mark.parametrize("kernel_name", ["5.10", "5.17", "6.1-nodedup", "6.12"])
def test_roles_of_many_pages_are_those_of_each(kernel_name, altmap):
    ds = device_layout(kernel_name, "64M", 9, altmap)
    abi, first = kernel(kernel_name).abi, ds.attrs["section_pfn"]
    array = module._filled(kernel(kernel_name), module._pgmap(64 << 20, 9, altmap))
    rows = array.view(first, 1024 * 5)
    one_by_one = [abi.role(row, first + k) for k, row in enumerate(rows.tolist())]
    assert [ROLES[code] for code in roles(abi, rows, first)] == one_by_one
    assert len(set(one_by_one)) > (2 if altmap else 0)


def test_which_words_change():
    # PG_head in the head; compound_head, mapping and the counts in every tail, and the order in the first
    ds = changes("5.16+3", "5.16+4", "1G", 9)
    different = ds.words_different
    assert different.sel(role="head").values.tolist() == [512, 0, 0, 0, 0, 0, 0, 0]
    assert different.sel(role="first_tail").values.tolist() == [0, 512, 512, 512, 0, 0, 512, 0]
    assert different.sel(role="second_tail").values.tolist() == [0, 512, 0, 512, 0, 0, 512, 0]
    rest = GIB_PAGES - 3 * 512
    assert different.sel(role="tail").values.tolist() == [0, rest, 0, rest, 0, 0, rest, 0]
    assert int(ds.pages_different) == GIB_PAGES and int(ds.words) == 8 * GIB_PAGES


def test_nothing_changes_where_no_compound_page_is_asked_for():
    assert int(changes("5.16+3", "5.16+4", "64M", 0).words_different.sum()) == 0


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(WorkbenchError, match="whole compound pages"):
        device_layout("5.17", "1025M", 18)
    with pytest.raises(WorkbenchError, match="inside it"):
        device_layout("5.17", "4M", 9, compound=2)
    with pytest.raises(WorkbenchError, match="different layouts"):
        changes("5.17", "6.1", "64M", 9)


def test_order_1_never_gets_its_head_prepared():
    # prep_compound_head() fires at index 2, and there is none
    ds = device_layout("5.16+4", "2M", 1)
    head, tail = ds.words.values
    assert head[0] & np.uint64(1 << 16) and tail[1] & np.uint64(1)
    assert tail[2] == 0 and tail[3] == np.uint64(0xDEAD000000000400)
