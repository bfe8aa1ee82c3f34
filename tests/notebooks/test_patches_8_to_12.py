# SPDX-License-Identifier: GPL-2.0-only
"""Notebooks 08_10, 11 and 12 run from a clean kernel, and what they show is what the specification says."""

from __future__ import annotations

import re
from functools import lru_cache

import pytest
from nbformat import NotebookNode

from workbench.lab import notebooks, pages
from workbench.lab.checkout import Checkout
from workbench.view.export import description

pytestmark = pytest.mark.slow

FIGURES = {
    "08_10_set_mapping": ["answer", "choose"],
    "11_device_dax_align": ["answer", "pieces", "stray", "choose"],
    "12_altmap": ["answer", "partial", "cost", "choose"],
}


@lru_cache
def executed(name: str) -> NotebookNode:
    return notebooks.execute(Checkout.find().notebooks / f"{name}.ipynb", progress=False)


def outputs(name: str, cell_id: str) -> list[NotebookNode]:
    (cell,) = [cell for cell in executed(name).cells if cell.id == cell_id]
    return cell.outputs


def table(name: str, cell_id: str) -> list[list[str]]:
    (output,) = outputs(name, cell_id)
    rows = re.findall(r"<tr>(.*?)</tr>", output.data["text/html"], re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_a_caption_and_an_alt_text_and_nothing_warns(name):
    told = [(cell.id, output) for cell in executed(name).cells for output in cell.get("outputs", [])]
    figures = [
        (cell_id, output.data[pages.PLOTLY]) for cell_id, output in told if pages.PLOTLY in output.get("data", {})
    ]
    assert [cell_id for cell_id, _ in figures] == FIGURES[name]
    assert all(all(description(figure)) for _, figure in figures)
    assert not [cell_id for cell_id, output in told if output.output_type == "error" or output.get("name") == "stderr"]


def test_patches_8_and_10_change_nothing_9_the_order_11_the_stores():
    header, *rows = table("08_10_set_mapping", "table")
    at = {name: header.index(name) for name in ("stores", "before the entry", "exposed")}
    assert [[row[at[name]] for name in at] + [row[-1]] for row in rows] == [
        ["1,024", "0", "512", ""],
        ["1,024", "0", "512", "same"],
        ["1,024", "1,024", "0", "differs"],
        ["1,024", "1,024", "0", "same"],
        ["2", "2", "0", "differs"],
    ]


def test_what_stays_without_an_entry():
    _, *rows = table("08_10_set_mapping", "fails")
    assert [row[-1] for row in rows] == ["0", "512", "512", "1"]


def test_a_range_off_a_gib_is_told_of():
    _, *rows = table("11_device_dax_align", "stray-table")
    assert [row[-1] for row in rows] == ["512 MiB too low"] * 4
    _, *hazards = table("11_device_dax_align", "hazards")
    assert len(hazards) == 4


def test_the_altmap_stands_beside_real_kernels():
    _, *rows = table("12_altmap", "captured")
    assert len(rows) == 5 and {row[-1] for row in rows} == {"equal"}


def test_the_letters_sizes_are_those_of_126_gib():
    header, *rows = table("12_altmap", "space")
    data = {(row[0], row[header.index("map")]): row[header.index("data")] for row in rows}
    assert data["126 GiB", "mem"] == "129,022 MiB" and data["126 GiB", "dev"] == "127,006 MiB"
