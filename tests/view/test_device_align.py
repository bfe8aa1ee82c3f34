# SPDX-License-Identifier: GPL-2.0-only
"""Three aligns and the pieces of a device, as drawn."""

from __future__ import annotations

import pytest

from workbench.lab.device_align import aligned_device, grown_in_turns
from workbench.view.device_align import (
    explore_pieces,
    hazards_table,
    pieces_map,
    pieces_table,
    three_aligns,
)
from workbench.view.export import description


def texts(fig):
    return [note.text for note in fig.layout.annotations]


@pytest.fixture(scope="module")
def devices():
    return {align: (aligned_device("5.16+10", align), aligned_device("5.16+11", align)) for align in ("4K", "2M", "1G")}


def test_three_columns(devices):
    fig = three_aligns(devices)
    said = texts(fig)
    for words in ("PTE entry maps 4 KiB", "PMD entry maps 2 MiB", "PUD entry maps 1 GiB"):
        assert f"one {words}" in said
    for shift, stores in ((0, "1,024"), (0, "524,288"), (9, "2"), (18, "2")):
        assert f"vmemmap_shift <b>{shift}</b>, {stores} stores" in said
    assert {trace.name for trace in fig.data if trace.name} >= {
        "base page",
        "head",
        "first tail",
        "written by the fault",
    }
    assert said.count("511") == said.count("262,143") == 2
    assert "<b>1,024</b>" in said and "<b>524,288</b>" not in said  # bold where patch 11 changes a number
    assert all(description(fig))


def test_pieces_are_drawn_to_scale_and_only_stray_ones_get_a_second_row():
    fig = pieces_map(grown_in_turns("5.16+11", "2M"))
    assert texts(fig).count("512 MiB") == 8 and not any("✗" in text for text in texts(fig))
    stray = explore_pieces("1G", "512M", "5.16+11")
    assert any("✗" in text for text in texts(stray)) and "not its own" in texts(stray)
    assert stray.layout.height > fig.layout.height
    assert all(description(stray))


def test_tables_of_pieces():
    region = grown_in_turns("5.16+11", "1G", step="1G", off="512M")
    rows = pieces_table(region).rows
    assert rows[0] == ["dax0.0", "0 B", "1 GiB", "0x120000000", "0x100000000", "512 MiB too low"]
    assert [row[0] for row in hazards_table(region).rows] == ["dax0.0", "dax0.0", "dax0.1", "dax0.1"]
    assert hazards_table(grown_in_turns("5.16+11", "2M")).rows == [["none", ""]]
