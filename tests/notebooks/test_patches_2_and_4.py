# SPDX-License-Identifier: GPL-2.0-only
"""Notebooks 02 and 04 run from a clean kernel, and what they show is what the specification says."""

from __future__ import annotations

import copy
import re
from functools import lru_cache
from html import unescape

import pytest
from nbformat import NotebookNode

from workbench.lab import notebooks, pages
from workbench.lab.checkout import Checkout
from workbench.view.export import description

pytestmark = pytest.mark.slow


@lru_cache
def executed(name: str) -> NotebookNode:
    return notebooks.execute(Checkout.find().notebooks / f"{name}.ipynb", progress=False)


def outputs(name: str, cell_id: str) -> list[NotebookNode]:
    (cell,) = [cell for cell in executed(name).cells if cell.id == cell_id]
    return cell.outputs


def figure(name: str, cell_id: str) -> dict:
    (output,) = [output for output in outputs(name, cell_id) if pages.PLOTLY in output.get("data", {})]
    return output.data[pages.PLOTLY]


def table(name: str, cell_id: str) -> list[list[str]]:
    (output,) = outputs(name, cell_id)
    rows = re.findall(r"<tr>(.*?)</tr>", output.data["text/html"], re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("02_head_tail_split", ["equal", "who"]),
        ("04_compound_devmap", ["before", "after", "changed", "trace", "player", "teardown"]),
    ],
)
def test_every_figure_has_a_caption_and_an_alt_text(name, figures):
    seen = [
        cell.id
        for cell in executed(name).cells
        for output in cell.get("outputs", [])
        if pages.PLOTLY in output.get("data", {}) and all(description(output.data[pages.PLOTLY]))
    ]
    assert seen == figures
    assert all(output.output_type != "error" for cell in executed(name).cells for output in cell.get("outputs", []))
    assert all(output.get("name") != "stderr" for cell in executed(name).cells for output in cell.get("outputs", [])), (
        "a notebook warns"
    )


@pytest.mark.parametrize("name", ["02_head_tail_split", "04_compound_devmap"])
def test_the_page_opens_offline_and_shows_every_figure(name):
    nb = pages.attach_static(copy.deepcopy(executed(name)), lambda spec: ("<svg/>", *description(spec)))
    html = unescape(pages.page(nb, name))  # refuses what would load anything
    alts = [output.metadata.alt for cell in nb.cells for output in cell.get("outputs", []) if "alt" in output.metadata]
    assert alts and all(f'alt="{alt}"' in html for alt in alts)
    assert "a control stands here" not in html  # controls have a figure in their place


def test_patch_2_changes_no_byte_and_the_same_words_are_stored():
    equal = figure("02_head_tail_split", "equal")
    assert equal["layout"]["title"]["text"].startswith("0 of ")
    assert len(equal["data"][0]["x"]) == 18 and len(equal["data"][0]["y"]) == 7
    assert (
        "the same words, the same values, the same order"
        in figure("02_head_tail_split", "who")["layout"]["title"]["text"]
    )


def test_patch_4_answers_its_question():
    header, *rows = table("04_compound_devmap", "answer")
    before, after = (row for row in rows if row[0] == "2 MiB")
    at = {
        name: header.index(name) for name in ("struct pages", "heads", "tails", "references", "bytes of struct pages")
    }
    assert [before[at[name]] for name in at] == ["262,144", "0", "0", "262,144", "16 MiB"]
    assert [after[at[name]] for name in at] == ["262,144", "512", "261,632", "512", "16 MiB"]
    assert rows[0][2:] == rows[1][2:], "4 KiB asks for no compound pages"
    assert [rows[5][at[name]] for name in at] == ["262,144", "1", "262,143", "1", "16 MiB"]


def test_patch_4_counts_the_changed_words():
    rows = {row[0]: row for row in table("04_compound_devmap", "changed-table")}
    assert rows["head"][-1] == "512" and rows["first tail"][-1] == "2,048"
    assert rows["second tail"][-1] == "1,536" and rows["further tail"][-1] == "781,824"


def test_patch_4_stands_beside_real_kernels():
    header, *rows = table("04_compound_devmap", "captures")
    assert {row[header.index("kernel")] for row in rows} == {"5.15", "5.17", "6.1", "6.12"}
    assert {row[header.index("bytes that differ")] for row in rows} == {"0"}
    assert {(row[0], row[2]) for row in rows if row[-1] != "equal"} == {("k6.1-lifecycle-2M", "reference_released")}
    assert {row[0] for row in rows} >= {"k5.17-lifecycle-2M", "k6.1-lifecycle-2M", "k5.17-static-1G-dev"}


def test_the_player_begins_where_the_head_is_prepared():
    assert "prep_compound_head()" in figure("04_compound_devmap", "player")["layout"]["title"]["text"]
