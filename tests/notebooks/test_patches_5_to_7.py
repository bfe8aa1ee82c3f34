# SPDX-License-Identifier: GPL-2.0-only
"""Notebooks 05, 06 and 07 run from a clean kernel, and what they show is what the specification says."""

from __future__ import annotations

import pytest

from tests.notebooks.test_patches_2_and_4 import executed, figure, table
from workbench.lab import pages
from workbench.view.export import description

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("05_pgoff_align", ["answer", "choose", "failure", "neighbour"]),
        ("06_struct_size", ["sizes"]),
        ("07_dynamic_pgmap", ["static", "answer", "choose"]),
    ],
)
def test_it_runs_without_a_warning_and_every_figure_is_described(name, figures):
    seen = []
    for cell in executed(name).cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error" and output.get("name") != "stderr"
            if pages.PLOTLY in output.get("data", {}) and all(description(output.data[pages.PLOTLY])):
                seen.append(cell.id)
    assert seen == figures


def test_patch_5_answers_its_question():
    notes = [note["text"] for note in figure("05_pgoff_align", "answer")["layout"]["annotations"]]
    assert [text for text in notes if "index" in text] == [
        "<b>✓ index 512</b>",
        "<b>✗ index 1,024</b>",
        "<b>✗ index 1,024</b>",
        "<b>✓ index 512</b>",
    ]
    assert [row[1:] for row in table("05_pgoff_align", "loop")[1:]] == [
        ["read 1", "1"],
        ["never", "10"],
        ["never", "10"],
        ["read 1", "1"],
    ]
    assert {row[-1] for row in table("05_pgoff_align", "verified")[1:]} == {"equal"}


def test_patch_6_changes_no_byte():
    rows = table("06_struct_size", "bound")[1:]
    assert rows[0][1:3] == ["ENXIO", "ENXIO"] and {row[-1] for row in rows[1:]} == {"0"}


def test_patch_7_answers_its_question():
    notes = [note["text"] for note in figure("07_dynamic_pgmap", "answer")["layout"]["annotations"]]
    assert notes.count("<b>in use</b>") == 3 and notes.count("<b>freed</b>") == 3
    assert notes.count("<b>✗ EINVAL</b>") == 2 and notes.count("<b>✗ EBUSY</b>") == 2
