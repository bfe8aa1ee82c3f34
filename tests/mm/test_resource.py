# SPDX-License-Identifier: GPL-2.0-only
"""kernel/resource.c: who has which addresses.

::

    0x1000                      0x8fff
      |-------- bank -------------|           inserted
      |   |--busy--|     |--busy--|           requested
"""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.mm.resource import (
    SYSTEM_RAM,
    Desc,
    Flags,
    Intersection,
    Resource,
    adjust_resource,
    devm_request_mem_region,
    insert_resource,
    iomem_resource,
    region_intersects,
    release_region,
    release_resource,
    request_region,
    request_resource,
)


def soft_reserved():
    """8 GiB at 4 GiB as firmware names it, with the platform device over it."""
    iomem = iomem_resource()
    assert insert_resource(iomem, Resource(0x100000000, 0x2FFFFFFFF, "Soft Reserved", desc=Desc.SOFT_RESERVED)) == 0
    assert insert_resource(iomem, Resource(0x100000000, 0x2FFFFFFFF, "hmem.0")) == 0
    return iomem


def test_a_device_in_soft_reserved_memory_as_recorded():
    """hmem.0, Soft Reserved and dax0.0 of the same range, in that order of depth: the 6.1 dynamic run's memory map."""
    iomem = soft_reserved()
    assert request_region(iomem, 0x100000000, 8 << 30, "dax0.0").desc is Desc.SOFT_RESERVED
    assert iomem.text().splitlines() == [
        "100000000-2ffffffff : hmem.0",
        "  100000000-2ffffffff : Soft Reserved",
        "    100000000-2ffffffff : dax0.0",
    ]
    assert "dax0.0" in iomem._repr_html_() and "PCI mem" in repr(iomem)


def test_text_pads_to_eight_digits_and_indents_to_the_fifth_level():
    root = iomem_resource()
    for depth in range(6):
        insert_resource(root, Resource(0x1000, 0x1FFF - depth, f"level {depth}"))
    lines = root.text().splitlines()
    assert lines[0] == "00001000-00001fff : level 0"
    assert [len(line) - len(line.lstrip()) for line in lines] == [0, 2, 4, 6, 8, 8]


def test_a_request_goes_down_through_what_is_not_busy_and_stops_at_what_is():
    iomem = soft_reserved()
    first = request_region(iomem, 0x100000000, 1 << 30, "dax0.1")
    assert first.busy and first.parent.name == "Soft Reserved"
    assert request_region(iomem, 0x100000000, 1 << 21, "dax0.2") is None
    assert request_region(iomem, 0x13FE00000, 4 << 20, "dax0.2") is None  # over the end of dax0.1
    assert request_region(iomem, 0x2FFE00000, 4 << 20, "dax0.2") is None  # over the end of the bank
    assert request_region(iomem, 0x180000000, 0, "dax0.2") is None
    with pytest.raises(WorkbenchError, match="dax0.2: could not reserve 0x100000000-0x1001fffff") as refused:
        devm_request_mem_region(iomem, 0x100000000, 1 << 21, "dax0.2")
    assert refused.value.errno_name == "EBUSY"
    assert request_region(iomem, 0x140000000, 1 << 21, "dax0.2").parent is first.parent


def test_release_wants_the_very_region():
    iomem = soft_reserved()
    request_region(iomem, 0x100000000, 1 << 30, "dax0.1")
    assert not release_region(iomem, 0x100000000, 1 << 29)
    assert not release_region(iomem, 0x200000000, 1 << 29)
    assert release_region(iomem, 0x100000000, 1 << 30)
    assert not release_region(iomem, 0x100000000, 1 << 30)
    assert request_region(iomem, 0x100000000, 8 << 30, "dax0.0") is not None


def test_insert_takes_over_what_it_holds_and_refuses_a_partial_overlap():
    root = iomem_resource()
    low, high = Resource(0x2000, 0x2FFF, "low"), Resource(0x4000, 0x4FFF, "high")
    assert request_resource(root, high) == request_resource(root, low) == 0
    assert request_resource(root, Resource(0x2800, 0x37FF, "over")) == -errno.EBUSY
    bank = Resource(0x1000, 0x8FFF, "bank")
    assert insert_resource(root, bank) == 0
    assert root.children == [bank] and bank.children == [low, high] and low.parent is bank
    assert insert_resource(root, Resource(0x4800, 0x9FFF, "over")) == -errno.EBUSY
    inner = Resource(0x2000, 0x3FFF, "inner")
    assert insert_resource(root, inner) == 0 and inner.parent is bank and inner.children == [low]
    assert insert_resource(low, Resource(0x2000, 0x3000, "outside")) == -errno.EBUSY


def test_release_resource_takes_what_lies_in_it_along():
    root = iomem_resource()
    bank = Resource(0x1000, 0x8FFF, "bank")
    insert_resource(root, bank)
    request_region(root, 0x2000, 0x1000, "busy")
    assert release_resource(bank) == 0 and root.text() == ""
    assert release_resource(bank) == -errno.EINVAL


def test_adjust_keeps_clear_of_parent_neighbours_and_children():
    root = Resource(0x1000, 0x8FFF, "region")
    a, b = (request_region(root, start, 0x1000, "d") for start in (0x2000, 0x4000))
    assert adjust_resource(a, 0x2000, 0x2000) == 0 and a.end == 0x3FFF
    assert adjust_resource(a, 0x2000, 0x2001) == -errno.EBUSY and a.end == 0x3FFF
    assert adjust_resource(b, 0x3FFF, 0x1000) == -errno.EBUSY
    assert adjust_resource(b, 0x4000, 0x5000) == 0 and b.end == root.end
    assert adjust_resource(b, 0x4000, 0x5001) == -errno.EBUSY
    request_resource(b, Resource(0x7000, 0x7FFF, "inside"))
    assert adjust_resource(b, 0x4000, 0x3000) == -errno.EBUSY
    assert adjust_resource(b, 0x4000, 0x4000) == 0


def test_which_memory_the_page_allocator_has():
    root = iomem_resource()
    insert_resource(root, Resource(0x1000, 0x1FFF, "System RAM", SYSTEM_RAM | Flags.BUSY))
    insert_resource(root, Resource(0x3000, 0x3FFF, "Soft Reserved", desc=Desc.SOFT_RESERVED))
    assert region_intersects(root, 0x2000, 0x2000) is Intersection.DISJOINT
    assert region_intersects(root, 0x1800, 0x1000) is Intersection.INTERSECTS
    assert region_intersects(root, 0x1000, 0x3000) is Intersection.MIXED
    soft = region_intersects(root, 0x3000, 0x1000, Flags.MEM, Desc.SOFT_RESERVED)
    assert soft is Intersection.INTERSECTS
    assert region_intersects(root, 0x1000, 0x1000, Flags.MEM, Desc.SOFT_RESERVED) is Intersection.DISJOINT


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(1, 12)), max_size=30))
def test_requests_and_releases_equal_a_map_of_owners(steps):
    """One owner a byte: a request succeeds where nobody has any of it, a release where one request was just that."""
    root = Resource(0, 47, "root")
    owner: list[int | None] = [None] * 48
    for number, (take, start, size) in enumerate(steps):
        piece = slice(start, start + size)
        if take:
            free = start + size <= 48 and all(byte is None for byte in owner[piece])
            assert (request_region(root, start, size, str(number)) is not None) == free
            if free:
                owner[piece] = [number] * size
        else:
            first = owner[start]
            whole = first is not None and {i for i, o in enumerate(owner) if o == first} == set(
                range(start, start + size)
            )
            assert release_region(root, start, size) == whole
            if whole:
                owner[piece] = [None] * size
    assert [(r.start, r.end) for _, r in root.walk()] == sorted(
        (min(i for i, o in enumerate(owner) if o == n), max(i for i, o in enumerate(owner) if o == n))
        for n in set(owner) - {None}
    )
