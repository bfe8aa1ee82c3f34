# SPDX-License-Identifier: GPL-2.0-only
"""The picture of one 2 MiB page and its struct pages."""

import re

from workbench.lab.device_cost import device_cost
from workbench.lab.huge_page import huge_page
from workbench.view import palette
from workbench.view.export import description
from workbench.view.overview import overview_figure

# Per 2 MiB: references held, struct pages initialised, memory; per TiB: memory.
FACTS = {
    "references held on the device": ("512", "1", "1"),
    "with a refcount above 0": ("512", "1", "1"),
    "struct pages initialised": ("512", "512", "128"),
    "memory of these struct pages": ("32 KiB", "32 KiB", "8 KiB"),
    "the same for a device of 1 TiB": ("16 GiB", "16 GiB", "4 GiB"),
}


def figure():
    return overview_figure([huge_page(name) for name in ("5.16", "5.17", "6.1")], device_cost("1T", "2M"))


def test_facts_stand_in_their_rows_and_what_changes_is_bold():
    texts = {}
    for note in figure().layout.annotations:
        texts.setdefault(note.y, []).append((note.x, note.text))
    rows = {min(row)[1]: [text for _, text in sorted(row)[1:]] for row in texts.values()}
    for label, values in FACTS.items():
        assert [re.sub("<.*?>", "", cell) for cell in rows[label]] == list(values)
        bold = ["<b>" in cell for cell in rows[label]]
        assert bold == [False, values[1] != values[0], values[2] != values[1]]


def test_every_struct_page_is_a_cell_of_its_role():
    cells = {trace.fillcolor: sum(x is None for x in trace.x) for trace in figure().data if trace.fill == "toself"}
    fill = {role: swatch.fill for role, swatch in palette.ROLES.items()}
    assert cells[fill["zone_device"]] == 512
    assert cells[fill["head"]] == cells[fill["first_tail"]] == cells[fill["second_tail"]] == 2
    assert cells[fill["tail"]] == 2 * 509


def test_the_rows_that_share_memory_are_paled_on_the_follow_up_alone():
    (note,) = (note for note in figure().layout.annotations if "take no memory" in note.text)
    assert "6 rows" in note.text and "row 2" in note.text


def test_the_figure_is_described():
    fig = figure()
    caption, alt = description(fig)
    assert "Derived" in caption and "512 cells" in alt and "4 GiB" in alt
    assert fig.layout.meta["origin"] == "derived"
