# SPDX-License-Identifier: GPL-2.0-only
"""Where struct pages lie, held against the specification's arithmetic and the recorded page tables."""

from __future__ import annotations

import pytest

from workbench.errors import WorkbenchError
from workbench.lab.altmap_layout import DATA, INFO, PADDING, STRUCT_PAGES, UNUSED, altmap_layout, recorded_places
from workbench.lab.checkout import Checkout

MIB = 1 << 20


@pytest.mark.parametrize(
    ("size", "map", "data_mib", "begins_mib"),
    [
        ("1G", "dev", 1006, 18),
        ("16G", "dev", 16126, 258),
        ("126G", "mem", 129022, 2),
        ("126G", "dev", 127006, 2018),
        ("128G", "dev", 129022, 2050),
        ("1T", "dev", 1032190, 16386),
    ],
)
def test_data_of_a_namespace(size, map, data_mib, begins_mib):
    layout = altmap_layout("5.17", size, "2M", map)
    (data,) = (part for part in layout.parts if part.what == DATA)
    assert (data.size, data.start) == (data_mib * MIB, begins_mib * MIB)


@pytest.mark.parametrize(("size", "align"), [("1G", "2M"), ("1G", "4K"), ("4G", "1G"), ("1088M", "2M")])
@pytest.mark.parametrize("map", ["mem", "dev"])
def test_parts_fill_the_namespace_and_struct_pages_are_a_sixty_fourth(size, align, map):
    layout = altmap_layout("5.17", size, align, map)
    assert layout.parts[0].start == 0 and layout.parts[-1].end == layout.size
    assert all(one.end == other.start for one, other in zip(layout.parts, layout.parts[1:], strict=False))
    assert sum(chunk.struct_page_bytes for chunk in layout.chunks) == layout.size // 64
    assert layout.total(INFO) == 8192
    inside = sum(chunk.struct_page_bytes for chunk in layout.chunks if chunk.block is not None)
    assert inside == layout.total(STRUCT_PAGES)


def test_blocks_follow_one_another_after_the_padding():
    layout = altmap_layout("5.17", "1G")
    assert [chunk.block for chunk in layout.chunks] == [(2 + 2 * k) * MIB for k in range(8)]
    assert [chunk.start for chunk in layout.chunks] == [128 * k * MIB for k in range(8)]
    assert layout.total(PADDING) == 510 * 4096 and layout.total(UNUSED) == layout.dram_bytes == 0
    assert layout.first_head == 18 * MIB


def test_a_partial_section_has_its_struct_pages_in_dram():
    layout = altmap_layout("5.17", "1088M")
    assert [chunk.block is None for chunk in layout.chunks] == [False] * 8 + [True]
    assert layout.chunks[-1].struct_page_bytes == MIB
    assert layout.dram_bytes == MIB + 4096  # and one table of 4 KiB entries


def test_an_align_of_1_gib_moves_the_data_to_a_gib():
    mem, dev = (altmap_layout("5.17", "4G", "1G", map) for map in ("mem", "dev"))
    assert mem.total(DATA) == dev.total(DATA) == 3 << 30
    assert (mem.first_head, dev.first_head) == (0, 1 << 30)
    assert dev.total(UNUSED) == (1024 - 2 - 64) * MIB and dev.dram_bytes == 0
    assert mem.dram_bytes == 64 * MIB


def test_sharing_leaves_an_altmap_alone():
    assert altmap_layout("6.1", "1G", map="mem").dram_bytes < 5 * MIB
    assert altmap_layout("6.1", "1G").total(STRUCT_PAGES) == 16 * MIB


def test_no_room_for_data_is_refused():
    with pytest.raises(WorkbenchError) as refused:
        altmap_layout("5.17", "1G", "1G")
    assert refused.value.errno_name == "ENXIO"


def test_real_kernels_have_them_there():
    runs = "k5.10-static-2M-dev", "k5.17-static-1G-dev", "k5.17-static-2M-mem", "k6.1-static-2M-dev"
    places = recorded_places(Checkout.find().data / "captures", runs)
    assert [(p.kernel, p.in_namespace // MIB, p.in_dram // MIB, p.first, p.differences) for p in places] == [
        ("5.10", 16, 0, 2 * MIB, 0),
        ("5.17", 64, 0, 2 * MIB, 0),
        ("5.17", 0, 16, None, 0),
        ("6.1", 16, 0, 2 * MIB, 0),
    ]
