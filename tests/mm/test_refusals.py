# SPDX-License-Identifier: GPL-2.0-only
"""What is refused changes nothing, and what was there before does not show through."""

from dataclasses import replace

import numpy as np
import pytest

from workbench.abi import Abi, Config
from workbench.errors import WorkbenchError
from workbench.mm import Altmap, DevPagemap, PageArray, arena
from workbench.mm.events import events
from workbench.mm.memremap import drop_references, init_call, pagemap_range
from workbench.mm.sparse_vmemmap import populate
from workbench.series import kernel

START, GIB = 0x140000, 1 << 18
PGMAP = DevPagemap(0xFFFF_8881_00A0_1000, ((START, GIB),), 9)


@pytest.mark.parametrize(
    "pgmap, nid, errno",
    [
        (PGMAP, 1024, None),
        (PGMAP, -1, None),
        (replace(PGMAP, vmemmap_shift=-1), 0, None),
        (replace(PGMAP, vmemmap_shift=31), 0, None),
        (replace(PGMAP, altmap=Altmap(START, 2, GIB)), 0, "EINVAL"),
        (replace(PGMAP, altmap=Altmap(START + 512, 2, 4606)), 0, "EINVAL"),
        (replace(PGMAP, altmap=Altmap(START, 2, GIB - 2)), 0, None),
        (replace(PGMAP, ranges=((START, GIB - 1),)), 0, "EINVAL"),
    ],
)
def test_a_refused_range_leaves_no_struct_page(pgmap, nid, errno):
    array = PageArray(kernel("5.17"), START, GIB)
    with pytest.raises(WorkbenchError) as refused:
        pagemap_range(array, pgmap, 0, nid)
    assert (refused.value.errno_name, refused.value.changed) == (errno, ())
    assert array.existing_pages == 0


def test_a_range_that_another_pgmap_has_is_enomem():
    array = PageArray(kernel("5.17"), START, 2 * GIB)
    pagemap_range(array, PGMAP, 0)
    for start in (START - 512 + GIB, START):
        with pytest.raises(WorkbenchError) as refused:
            pagemap_range(array, replace(PGMAP, ranges=((start, GIB),)), 0)
        assert refused.value.errno_name == "ENOMEM"
    assert array.existing_pages == GIB


def test_pageblocks_of_an_earlier_device_do_not_show_through():
    """With deduplication a 1 GiB compound marks its first pageblock only, whatever was there before."""
    array = PageArray(kernel("6.1"), START, GIB)
    pagemap_range(array, PGMAP, 0)
    array.materialise()
    assert array.migratetype(START + 512) == 1
    array.remove_pages(START, GIB)
    pagemap_range(array, replace(PGMAP, vmemmap_shift=18), 0)
    assert [array.migratetype(START + pfn) for pfn in (0, 512)] == [1, 0]


@pytest.mark.parametrize("name", ["6.1", "6.12"])
@pytest.mark.parametrize("start, nr_pages", [(0x184000, 0x60000), (0x184000, 0xC0000), (0x140000, 0x60000)])
@pytest.mark.parametrize("order", [9, 18])
def test_struct_pages_that_share_memory_are_equal(name, start, nr_pages, order):
    """Also where a range begins off a section boundary and later heads lie in the shared page."""
    array = PageArray(kernel(name), start, nr_pages)
    pagemap_range(array, replace(PGMAP, ranges=((start, nr_pages),), vmemmap_shift=order), 0)
    first = populate(((start, nr_pages),), vmemmap_shift=order, dedup=True).sharing().first
    vmemmap_pages = array.view(start, nr_pages).reshape(-1, 64, 8)
    assert (first != np.arange(len(first))).any()
    assert (vmemmap_pages == vmemmap_pages[first]).all()


def test_events_of_another_size_are_refused():
    array = PageArray(kernel("5.17"), START + 512, 512)
    array.add_pages(START + 512, 512)
    pgmap = DevPagemap(PGMAP.address, ((START + 512, 512),), 9)
    array.init(init_call(pgmap))
    for operation in (
        lambda ev: array.traced(init_call(pgmap), ev),
        lambda ev: drop_references(array, pgmap, events=ev),
    ):
        with pytest.raises(WorkbenchError, match="512 pages"):
            operation(events(512))
        operation(events(array.nr_pages))


def test_memory_that_was_touched_is_not_asked_for_again(monkeypatch):
    array = PageArray(kernel("5.17"), START, GIB)
    pagemap_range(array, PGMAP, 0)
    array.materialise()
    array.remove_pages(START, GIB)
    monkeypatch.setattr(arena, "available", lambda: 0)
    pagemap_range(array, PGMAP, 0)
    assert array.words(START + 1)[1] & 1
    with pytest.raises(WorkbenchError, match="available"):
        other = PageArray(kernel("5.17"), START, GIB)
        pagemap_range(other, PGMAP, 0)
        other.words(START)


def test_calls_that_describe_nothing_are_forgotten():
    array = PageArray(kernel("5.17"), START, GIB)
    for _ in range(5):
        pagemap_range(array, PGMAP, 0)
        array.words(START)
        array.remove_pages(START, GIB)
    pagemap_range(array, PGMAP, 0)
    assert "init calls: 1" in repr(array)


def test_a_control_group_limits_what_is_available(tmp_path, monkeypatch):
    monkeypatch.setattr(arena, "_CGROUP", tmp_path)
    system = arena.available()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("4096\n")
    assert arena.available() == pytest.approx(system, rel=0.2)  # other programs take and give meanwhile
    (tmp_path / "memory.max").write_text("1048576\n")
    assert arena.available() == 1048576 - 4096


@pytest.mark.parametrize(
    "make",
    [
        lambda: PageArray(kernel("5.17"), 1 << 60, 512),
        lambda: PageArray(replace(kernel("5.17"), abi=Abi("5.17", Config(zone_device=False))), START, GIB),
        lambda: kernel("5.17").tree.vmemmap_shift(0),
        lambda: kernel("5.17").tree.vmemmap_shift(3 << 20),
        lambda: Config(pgtable_levels=3),
    ],
)
def test_what_cannot_be_is_refused_in_words(make):
    with pytest.raises(WorkbenchError):
        make()
