# SPDX-License-Identifier: GPL-2.0-only
"""The picture of an altmap is to scale, and says what lies where."""

from __future__ import annotations

import pytest

from workbench.lab.altmap_layout import RecordedPlace, altmap_layout
from workbench.view.altmap import altmap_figure, explore_altmap, recorded_table, space_table
from workbench.view.export import description
from workbench.view.palette import ALTMAP, ROLES


def texts(fig):
    return [note.text for note in fig.layout.annotations]


def purple(fig):
    """Left, top and width of the boxes of struct pages."""
    fill = ROLES[ALTMAP].fill
    boxes = [trace for trace in fig.data if trace.type == "scatter" and trace.fillcolor == fill]
    return [(min(box.x), min(box.y), max(box.x) - min(box.x)) for box in boxes]


def test_struct_pages_take_a_sixty_fourth_in_dram_and_in_the_namespace():
    fig = altmap_figure(*(altmap_layout("5.17", "1G", map=map) for map in ("mem", "dev")))
    dram, inside, *enlarged = purple(fig)
    assert dram[2] == pytest.approx(788 / 64) and inside[2] == pytest.approx(788 / 64)
    assert dram[1] < inside[1] < enlarged[0][1]
    assert len(enlarged) == 9  # the part, and its eight blocks over it
    assert {round(box[2], 6) for box in enlarged[1:]} == {round(enlarged[0][2] / 8, 6)}
    said = texts(fig)
    assert said.count("128 MiB") == 8
    assert {"1022 MiB of data", "1006 MiB of data", "the first 18 MiB, enlarged"} <= set(said)
    assert len([shape for shape in fig.layout.shapes if shape.type == "path"]) == 9  # the wedge, and eight ties
    assert all(description(fig))


def test_a_partial_section_is_told():
    assert "the last 64 MiB: struct pages in DRAM" in texts(explore_altmap("1088M", "2M", "5.17"))


def test_many_blocks_are_drawn_as_one():
    fig = explore_altmap("126G", "2M", "5.17")
    assert "1,008 sections" in texts(fig) and len(fig.data) < 60
    assert {trace.name for trace in explore_altmap("4G", "1G", "5.17").data if trace.name} >= {"unused", "padding"}


def test_tables():
    rows = space_table([altmap_layout("5.17", "1G", map=map) for map in ("mem", "dev")]).rows
    assert rows[0][2:] == ["mem", "–", "–", "1,022 MiB", "99.80 %", "16 MiB"]
    assert rows[1][2:] == ["dev", "16 MiB", "–", "1,006 MiB", "98.24 %", "–"]
    told = recorded_table([RecordedPlace("run", "5.17", 1 << 30, 16 << 20, 0, 2 << 20, 0)]).rows[0]
    assert told[3:] == ["16 MiB", "2 MiB after its start", "–", "equal"]
    assert recorded_table([RecordedPlace("run", "5.17", 1 << 30, 0, 16 << 20, None, 3)]).rows[0][-1] == "3 differ"
