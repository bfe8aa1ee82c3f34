# SPDX-License-Identifier: GPL-2.0-only
"""The pgmaps of a machine: checks, unwinding, references, lookups, and teardowns that wait or do not."""

from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mm.support import START, needs_jit, refcounts
from workbench.errors import KernelCrash, WorkbenchError
from workbench.mm import Altmap, DevPagemap, PageArray
from workbench.mm.events import Counter, events
from workbench.mm.memremap import MemoryType, ZoneDevice, get_dev_pagemap, pgmap_pfn_valid, put_dev_pagemap, range_with
from workbench.mm.resource import SYSTEM_RAM, Resource, insert_resource, iomem_resource
from workbench.series import kernel

SECTION, GIB = 32768, 262_144
UP_TO_5_17 = ["5.10", "5.15", "5.16+3", "5.16+4", "5.17"]


def machine(name="5.17", nr_pages=4 * GIB, **options):
    addresses = count(0xFFFF888100000000, 256)
    array = PageArray(kernel(name), START, nr_pages)
    return ZoneDevice(array, iomem_resource(), lambda: next(addresses), **options)


def pgmap(zone, *ranges, **more):
    return DevPagemap(zone.new_address(), ranges, **more)


def refusal(zone, pgmap):
    before = zone.array.existing_pages, zone.pgmaps, pgmap.nr_range, pgmap.altmap
    with pytest.raises(WorkbenchError) as refused:
        zone.memremap_pages(pgmap)
    assert (zone.array.existing_pages, zone.pgmaps, pgmap.nr_range, pgmap.altmap) == before
    return refused.value.errno_name


def hold(zone, pfn, by=1):
    counts = zone.array.writable(pfn, 1).pages.view(np.int32)[:, 13]
    counts[pfn - zone.array.start_pfn] += by


# -- bringing up -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, shift, refs",
    [("5.16+3", 9, 2 * GIB), ("5.16+4", 9, 1024), ("5.17", 0, 2 * GIB), ("5.17", 9, 1024), ("6.1", 18, 2)],
)
def test_one_reference_a_head(name, shift, refs):
    zone = machine(name)
    device = pgmap(zone, (START, GIB), (START + 2 * GIB, GIB), vmemmap_shift=shift)
    assert zone.refs(device) == 0
    assert zone.memremap_pages(device) == START << 12
    assert zone.refs(device) == refs and zone.initialised == [GIB, GIB]
    assert zone.pgmap_of(START + GIB - 1) is device and zone.pgmap_of(START + GIB) is None
    assert zone.memunmap_pages(device) and zone.array.existing_pages == 0 and zone.refs(device) == 0


def test_a_range_of_what_another_has():
    zone = machine()
    zone.memremap_pages(pgmap(zone, (START + SECTION, SECTION)))
    assert refusal(zone, pgmap(zone, (START + SECTION, 4 * SECTION))) == "ENOMEM"
    assert refusal(zone, pgmap(zone, (START, SECTION + 512))) == "ENOMEM"
    assert refusal(zone, pgmap(zone, (START, 3 * SECTION))) == "EEXIST"  # only its middle
    assert refusal(zone, pgmap(zone, (START + 4 * SECTION, SECTION), (START + SECTION, 512))) == "ENOMEM"


def test_memory_of_the_page_allocator():
    zone = machine()
    insert_resource(zone.iomem, Resource((START + GIB) << 12, ((START + 2 * GIB) << 12) - 1, "System RAM", SYSTEM_RAM))
    assert refusal(zone, pgmap(zone, (START + GIB, SECTION))) == "ENXIO"
    assert refusal(zone, pgmap(zone, (START, SECTION), (START + GIB - SECTION, 2 * SECTION))) == "ENXIO"
    zone.memremap_pages(pgmap(zone, (START, GIB)))


def test_what_a_pgmap_lacks():
    zone = machine("5.17")
    private = {"type": MemoryType.PRIVATE}
    both = frozenset({"migrate_to_ram", "page_free"})
    assert refusal(zone, pgmap(zone)) == "EINVAL"
    assert refusal(zone, pgmap(zone, (START, SECTION), ops=both - {"page_free"}, owner=1, **private)) == "EINVAL"
    assert refusal(zone, pgmap(zone, (START, SECTION), ops=both, **private)) == "EINVAL"
    assert refusal(zone, pgmap(zone, (START, 1000))) == "EINVAL"
    assert refusal(zone, pgmap(zone, (START + 4 * GIB, SECTION))) == "EINVAL"
    two = pgmap(zone, (START, SECTION), (START + SECTION, SECTION), altmap=Altmap(START, 2, 510))
    assert refusal(zone, two) == "EINVAL"
    assert refusal(zone, pgmap(zone, (START, SECTION), altmap=Altmap(START + 512, 2, 510))) == "EINVAL"
    zone.memremap_pages(pgmap(zone, (START, SECTION), ops=both, owner=1, **private))


@pytest.mark.parametrize("name", ["5.15", "5.17"])
def test_a_reference_count_of_the_drivers_own(name):
    """Up to 5.16 a driver may bring one, with the ops that end it; from 5.17 on there is no such thing."""
    zone = machine(name)
    ops = frozenset({"kill", "cleanup"})
    expected = "EINVAL" if name == "5.15" else None
    assert refusal(zone, pgmap(zone, (START, SECTION), ops=ops)) == expected
    assert refusal(zone, pgmap(zone, (START, SECTION), has_ref=True)) == expected
    if name == "5.15":
        zone.memremap_pages(pgmap(zone, (START, SECTION), ops=ops, has_ref=True))


def test_a_namespace_with_its_struct_pages_in_itself_binds_twice():
    """1 GiB, map=dev: eight sections, eight 2 MiB blocks of the altmap, 510 pages lost to their alignment once."""
    zone = machine()
    device = pgmap(zone, (START, GIB), vmemmap_shift=9, altmap=Altmap(START, 2, 4606))
    for _ in range(2):
        zone.memremap_pages(device)
        assert (device.altmap.alloc, device.altmap.align) == (8 * 512, 510)
        assert zone.refs(device) == (GIB - 4608) // 512
        assert zone.memunmap_pages(device) and device.altmap.alloc == 0 and zone.warnings == []


def test_an_altmap_that_is_too_small():
    zone = machine()
    assert refusal(zone, pgmap(zone, (START, GIB), altmap=Altmap(START, 2, 510))) == "ENOMEM"


def test_blocks_that_were_not_given_back_are_warned_of():
    zone = machine()
    device = pgmap(zone, (START, SECTION), altmap=Altmap(START, 2, 1534))
    zone.memremap_pages(device)
    device.altmap = Altmap(START, 2, 1534, 510, 1024)
    assert zone.memunmap_pages(device) and zone.warnings == ["failed to free all reserved pages"]


# -- lookups -----------------------------------------------------------------------------------------------


def test_the_cache_serves_the_first_range_only():
    """Same slot, no counting, in range 0; in range 1 a reference is given back and another taken, each time."""
    zone = machine()
    device = pgmap(zone, (START, SECTION), (START + 2 * SECTION, SECTION), vmemmap_shift=9)
    zone.memremap_pages(device)
    table, heads = zone.pgmap_array, 128
    slot = get_dev_pagemap(table, START + 5, -1)
    assert zone.at_slot(slot) is device and zone.refs(device) == heads + 1
    table.live[slot] = 0  # a lookup would fail now: what is still served comes from the cache
    assert get_dev_pagemap(table, START + SECTION - 1, slot) == slot and zone.refs(device) == heads + 1
    assert get_dev_pagemap(table, START + 2 * SECTION, slot) == -1 and zone.refs(device) == heads
    table.live[slot] = 1
    assert get_dev_pagemap(table, START + 3 * SECTION - 1, -1) == slot and zone.refs(device) == heads + 1
    assert get_dev_pagemap(table, START + SECTION, slot) == -1 and zone.refs(device) == heads
    put_dev_pagemap(table, -1)
    assert zone.refs(device) == heads


def test_a_lookup_blocks_teardown_on_every_release():
    for name in ("5.17", "6.1"):
        zone = machine(name)
        device = pgmap(zone, (START, SECTION), vmemmap_shift=9)
        zone.memremap_pages(device)
        table = zone.pgmap_array
        slot = get_dev_pagemap(table, START, -1)
        assert not zone.memunmap_pages(device) and zone.refs(device) == 1
        assert get_dev_pagemap(table, START, -1) == -1
        put_dev_pagemap(table, slot)
        assert zone.teardown_continue(device)


@given(
    starts=st.lists(st.integers(0, 30), unique=True, max_size=8).map(sorted),
    lengths=st.lists(st.integers(1, 5), min_size=8, max_size=8),
    pfn=st.integers(-1, 40),
)
def test_the_table_finds_the_range(starts, lengths, pfn):
    ends = [*starts[1:], 99]
    rows = [(s, min(s + n, e) - 1) for s, n, e in zip(starts, lengths, ends, strict=False)]
    columns = np.array(rows, np.int64).reshape(-1, 2)
    none = np.empty(0, np.int64)
    table = machine().pgmap_array._replace(
        first_pfn=columns[:, 0].copy(), last_pfn=columns[:, 1].copy(), slot=none, refs=none
    )
    assert range_with(table, pfn) == next((i for i, (a, b) in enumerate(rows) if a <= pfn <= b), -1)


def test_which_pages_a_device_can_use():
    device = DevPagemap(1, ((START, SECTION), (START + 2 * SECTION, SECTION)))
    namespace = DevPagemap(1, ((START, SECTION),), altmap=Altmap(START, 2, 510))
    pfns = (START - 1, START, START + SECTION - 1, START + SECTION, START + 2 * SECTION, START + 3 * SECTION)
    assert [pgmap_pfn_valid(device, pfn) for pfn in pfns] == [False, True, True, False, True, False]
    assert [pgmap_pfn_valid(namespace, START + at) for at in (0, 511, 512)] == [False, False, True]


# -- teardown ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", UP_TO_5_17)
def test_a_held_page_blocks(name):
    """Every head from 1 to 0, the held one from 2 to 1, also where nobody had read a struct page before."""
    zone = machine(name)
    device = pgmap(zone, (START, 2 * SECTION), (START + 4 * SECTION, SECTION), vmemmap_shift=9)
    zone.memremap_pages(device)
    held = START + SECTION + 512
    hold(zone, held)
    assert not zone.memunmap_pages(device)
    assert zone.refs(device) == 1 and zone.held_pages(device) == [held] and zone.pgmaps == (device,)
    for start, nr_pages in device.ranges:
        counts = refcounts(zone.array.view(start, nr_pages))
        assert counts.sum() == (start < held < start + nr_pages)
    assert not zone.teardown_continue(device)
    hold(zone, held, -1)
    assert zone.teardown_continue(device) and zone.pgmaps == () and zone.array.existing_pages == 0
    with pytest.raises(WorkbenchError, match="nothing waits"):
        zone.teardown_continue(device)


@pytest.mark.parametrize("name", ["6.1", "6.12", "6.1-nodedup"])
def test_from_6_1_on_nothing_waits_and_the_late_put_oopses(name):
    """The 6.1 lifecycle run: BUG: unable to handle page fault for address: ffffea0004000008, pfn 0x100000."""
    zone = machine(name)
    device = pgmap(zone, (START, SECTION), vmemmap_shift=9)
    zone.memremap_pages(device)
    zone.require_vmemmap(START)
    hold(zone, START)
    assert zone.memunmap_pages(device) and zone.array.existing_pages == 0
    with pytest.raises(KernelCrash, match="unable to handle page fault for address: ffffea0004000008"):
        zone.require_vmemmap(START)


def test_struct_pages_nobody_read_are_not_made_for_a_teardown():
    zone = machine(nr_pages=4 * GIB)
    device = pgmap(zone, (START, 4 * GIB), vmemmap_shift=9)
    zone.memremap_pages(device)
    zone.array.view(START + 3 * SECTION, 1)
    assert zone.memunmap_pages(device)
    assert zone.array._touched.sum() == 1


@needs_jit
@pytest.mark.parametrize("name, shift, yields", [("5.16+3", 0, 256), ("5.17", 0, 261_888), ("5.17", 9, 511)])
def test_teardown_offers_to_reschedule(name, shift, yields):
    zone = machine(name)
    device = pgmap(zone, (START, GIB), vmemmap_shift=shift)
    zone.memremap_pages(device)
    ev = events(zone.array.nr_pages)
    assert zone.memunmap_pages(device, ev)
    assert ev.counts[Counter.COND_RESCHED] == yields


def test_version_3_ends_in_a_bug():
    """Compounds at init, page by page at teardown: the second put of a compound finds its head's count at zero."""
    zone = machine(pfn_next_by_one=True)
    plain = pgmap(zone, (START + GIB, SECTION))
    zone.memremap_pages(plain)
    assert zone.memunmap_pages(plain)  # without compounds a page is a step
    device = pgmap(zone, (START, 1024), vmemmap_shift=9)
    zone.memremap_pages(device)
    with pytest.raises(KernelCrash, match=r"VM_BUG_ON_PAGE.* at pfn 0x100001") as crash:
        zone.memunmap_pages(device)
    assert crash.value.changed == ("pfn 0x100000-0x100000: references dropped",)
    assert refcounts(zone.array.view(START, 1024)).tolist() == [0] * 512 + [1] + [0] * 511


def test_teardown_of_what_is_not_there():
    zone = machine()
    with pytest.raises(WorkbenchError, match="has no pages"):
        zone.memunmap_pages(pgmap(zone, (START, SECTION)))


# -- the overrun -------------------------------------------------------------------------------------------


def test_an_overrun_into_a_neighbour_is_flagged():
    """The neighbour's references never all come back: its heads became tails, and its teardown waits for good.

    |device: 1 section|neighbour: 1 section|     one compound of 2 sections from the device's start
    """
    zone = machine()
    neighbour = pgmap(zone, (START + SECTION, SECTION), vmemmap_shift=9)
    zone.memremap_pages(neighbour)
    device = pgmap(zone, (START, SECTION), vmemmap_shift=16)
    zone.memremap_pages(device)
    assert len(zone.hazards) == 1 and "pfn 0x108000-0x10ffff of the pgmap at" in zone.hazards[0]
    assert not zone.memunmap_pages(neighbour)
    assert zone.refs(neighbour) == 64 and zone.held_pages(neighbour) == []


def test_an_overrun_whose_head_is_gone():
    zone = machine()
    neighbour = pgmap(zone, (START + SECTION, SECTION), vmemmap_shift=9)
    zone.memremap_pages(neighbour)
    device = pgmap(zone, (START, SECTION), vmemmap_shift=16)
    zone.memremap_pages(device)
    assert zone.memunmap_pages(device)
    with pytest.raises(KernelCrash, match="ffffea0004000008"):
        zone.memunmap_pages(neighbour)


def test_an_overrun_into_nothing_is_a_page_fault():
    zone = machine()
    device = pgmap(zone, (START, SECTION), vmemmap_shift=16)
    with pytest.raises(KernelCrash, match="no struct page exists at pfn 0x108000") as crash:
        zone.memremap_pages(device)
    assert crash.value.changed == ("struct pages initialised up to pfn 0x107fff",)
    assert zone.array.existing_pages == SECTION


def test_text_and_table_say_the_same():
    zone = machine()
    device = pgmap(zone, (START, SECTION), vmemmap_shift=9, altmap=Altmap(START, 2, 1022))
    zone.memremap_pages(device)
    for fact in ("0x100000-0x107fff", "MEMORY_DEVICE_GENERIC", "2 + 1,022 pages"):
        assert fact in repr(device) and fact in device._repr_html_()
        assert fact in repr(zone) and fact in zone._repr_html_()
    assert "62 references, in use" in repr(zone)
