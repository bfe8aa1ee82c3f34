# SPDX-License-Identifier: GPL-2.0-only
"""The table of the eleven patches, as the mail thread and the merged commits have it."""

import re

import pytest

from workbench.errors import WorkbenchError
from workbench.series import PATCHES, patch

MM, DAX = "mm/page_alloc.c", "drivers/dax/device.c"
TABLE = [
    (1, "61e28cf0543c7d8e6ef88c3c305f727c5a21ba5b", "memory-failure: fetch compound_head after pgmap_pfn_valid()"),
    (
        2,
        "5b24eeef06701cca6852f1bf768248ccc912819b",
        "mm/page_alloc: split prep_compound_page into head and tail subparts",
    ),
    (3, "46487e0095f895c25da9feae27dc06d2aa76793d", "mm/page_alloc: refactor memmap_init_zone_device() page init"),
    (4, "c4386bd8ee3a921c3c799b7197dc898ade76a453", "mm/memremap: add ZONE_DEVICE support for compound pages"),
    (5, "b9b5777f09be84d0de472ded2253d2f5101427f2", "device-dax: use ALIGN() for determining pgoff"),
    (6, "09b80137033dbc5f1d197e99116527c0f8d253f2", "device-dax: use struct_size()"),
    (7, "fc65c4eb0b2a27c30d35636650e3f4ddb07506cd", "device-dax: ensure dev_dax->pgmap is valid for dynamic devices"),
    (8, "a0fb038e50d72f8e60731dc48fb83a3a141b822e", "device-dax: factor out page mapping initialization"),
    (9, "0e7325f03f09802d1667b8860e10fe39c25bf14c", "device-dax: set mapping prior to vmf_insert_pfn{,_pmd,pud}()"),
    (10, "6ec228b6fef5ad3a1f19e76c29640a9161415240", "device-dax: remove pfn from __dev_dax_{pte,pmd,pud}_fault()"),
    (11, "14606001efb48a17be31a5bec626c13ca49d783a", "device-dax: compound devmap support"),
]
FILES = {
    1: {"mm/memory-failure.c"},
    2: {MM},
    3: {MM},
    4: {"include/linux/memremap.h", "mm/memremap.c", MM},
    7: {"drivers/dax/bus.c", "drivers/dax/bus.h", DAX},
}


@pytest.mark.parametrize("number, commit, title", TABLE)
def test_number_commit_title_and_files(number, commit, title):
    found = patch(number)
    assert (found.number, found.title, found.commit) == (number, title, commit)
    assert set(found.files) == FILES.get(number, {DAX})
    assert re.fullmatch("[0-9a-f]{40}", found.commit)
    assert found.claim.endswith(".")


def test_eleven_patches_in_order():
    assert [p.number for p in PATCHES] == list(range(1, 12))
    assert len({p.commit for p in PATCHES}) == len({p.title for p in PATCHES}) == 11


def test_series_touches_seven_files():
    """As the cover letter's diffstat says."""
    assert len({name for p in PATCHES for name in p.files}) == 7


def test_patches_that_must_not_change_a_byte():
    assert [p.number for p in PATCHES if p.same_bytes] == [1, 2, 3, 6, 7, 8, 10]


def test_what_each_patch_builds_on():
    assert {p.number: p.needs for p in PATCHES if p.needs} == {9: (8,), 10: (8,), 11: (4,)}


@pytest.mark.parametrize("number", [0, -1, 12])
def test_there_is_no_other_patch(number):
    with pytest.raises(WorkbenchError, match=f"patches 1 to 11; got {number}"):
        patch(number)
