# SPDX-License-Identifier: GPL-2.0-only
"""Members of struct page, dev_pagemap and vmem_altmap against what the compiler made of them."""

import pytest

from tests.abi.compiled import COMPILED, members, read
from workbench.abi import RELEASES, STRUCT_PAGE_BYTES, VMEM_ALTMAP, Role, dev_pagemap
from workbench.abi.layout import FIELDS, HEAD_IN_LRU_VIEW

# Bytes that no member claims in that role: the name is ours, there is nothing to compare with.
PADDING = {"_tail_16", "_compound_pad", "_mapping_high", "_folio_pad", "_pin_pad"}
# Our name for half of a list head, or for a member as the role uses it: (the kernel's name, bytes into it).
PARTS = {
    "lru.next": ("lru", 0),
    "lru.prev": ("lru", 8),
    "buddy_list.next": ("lru", 0),
    "buddy_list.prev": ("lru", 8),
    "deferred_list.next": ("deferred_list", 0),
    "deferred_list.prev": ("deferred_list", 8),
    "_deferred_list.next": ("_deferred_list", 0),
    "_deferred_list.prev": ("_deferred_list", 8),
    "private.order": ("private", 0),
}


def of_tail(release, number):
    """Members of struct page, and those that struct folio keeps in its tail ``number`` (6.12)."""
    found = members(release, "page")
    if release == "6.12":
        first = STRUCT_PAGE_BYTES * number
        for name, (offset, size) in members(release, "folio").items():
            if first <= offset < first + STRUCT_PAGE_BYTES:
                found[name] = (offset - first, size)
    return found


@pytest.mark.parametrize("release", COMPILED)
@pytest.mark.parametrize("role", Role)
def test_every_member_is_where_the_compiler_put_it(release, role):
    known = of_tail(release, {Role.FIRST_TAIL: 1, Role.SECOND_TAIL: 2}.get(role, 0))
    for field in FIELDS[release][role]:
        if field.name in PADDING:
            continue
        name, into = PARTS.get(field.name, (field.name, 0))
        offset, size = known[name]
        assert field.offset == offset + into, field
        assert field.size == size if field.name not in PARTS else field.size <= size, field


@pytest.mark.parametrize("release", COMPILED)
def test_no_padding_where_the_kernel_has_a_member_of_that_role(release):
    """A name of ours may not hide a member that the role's own view has."""
    views = {
        Role.FIRST_TAIL: "compound_head compound_dtor compound_order compound_mapcount compound_nr compound_pincount "
        "_private_1 _large_mapcount _entire_mapcount _nr_pages_mapped _pincount _folio_nr_pages",
        Role.SECOND_TAIL: "hpage_pinned_refcount _compound_pad_2 deferred_list _deferred_list",
    }
    for number, (role, names) in enumerate(views.items(), start=1):
        known = of_tail(release, number)
        ours = {PARTS.get(f.name, (f.name,))[0] for f in FIELDS[release][role]}
        assert {name for name in names.split() if name in known} <= ours


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("role", Role)
def test_members_partition_the_64_bytes(release, role):
    at = 0
    for field in FIELDS[release][role]:
        assert field.offset == at
        assert field.offset // 8 == (field.offset + field.size - 1) // 8, "no member crosses a word"
        at += field.size
    assert at == STRUCT_PAGE_BYTES
    names = [field.name for field in FIELDS[release][role]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("release", COMPILED)
def test_struct_page_has_64_bytes(release):
    assert read(release, "page")["size"] == STRUCT_PAGE_BYTES


@pytest.mark.parametrize("role", Role)
def test_5_16_is_what_5_15_and_5_17_agree_on(role):
    assert FIELDS["5.15"][role] == FIELDS["5.16"][role] == FIELDS["5.17"][role]


def test_a_head_outside_zone_device_has_its_list_pointers():
    for release in COMPILED:
        lru, size = members(release, "page")["lru"]
        assert [(f.name, f.offset) for f in HEAD_IN_LRU_VIEW] == [("lru.next", lru), ("lru.prev", lru + size // 2)]


@pytest.mark.parametrize("release", COMPILED)
def test_vmem_altmap(release):
    layout = VMEM_ALTMAP[release]
    assert layout.size == read(release, "vmem_altmap")["size"]
    assert layout.members == {name: offset for name, (offset, _) in members(release, "vmem_altmap").items()}


@pytest.mark.parametrize("release", COMPILED)
def test_dev_pagemap(release):
    layout = dev_pagemap(release, patch_4=release not in ("5.10", "5.15"))
    assert layout.size == read(release, "dev_pagemap")["size"]
    flexible = {"ranges[0]", "__empty_ranges"}  # the array that begins where ``range`` does
    found = {name: offset for name, (offset, _) in members(release, "dev_pagemap").items() if name not in flexible}
    assert layout.members == found


@pytest.mark.parametrize("release", ["5.10", "5.15", "5.16"])
def test_patch_4_adds_eight_bytes_behind_flags(release):
    """152 to 160 bytes with the reference members of before 5.17."""
    before, after = dev_pagemap(release, patch_4=False), dev_pagemap(release, patch_4=True)
    assert (before.size, after.size) == (152, 160)
    assert "vmemmap_shift" not in before.members
    assert after.members["vmemmap_shift"] == 112
    for name, offset in before.members.items():
        assert after.members[name] == offset + (8 if offset > before.members["flags"] else 0), name


@pytest.mark.parametrize("release", ["5.17", "6.1", "6.12"])
def test_the_member_of_patch_4_stays_from_5_17_on(release):
    assert dev_pagemap(release, patch_4=False) == dev_pagemap(release, patch_4=True)


def test_vmem_altmap_of_5_16_is_that_of_its_neighbours():
    assert VMEM_ALTMAP["5.15"] == VMEM_ALTMAP["5.16"] == VMEM_ALTMAP["5.17"]
