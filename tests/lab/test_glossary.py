# SPDX-License-Identifier: GPL-2.0-only
"""Terms are explained once a notebook, in its text and nowhere else; every notebook is in step with the glossary."""

from __future__ import annotations

import copy
import json
import re

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout
from workbench.lab.glossary import SCHEMA, Term, explained, glossary, marked, read, unmarked
from workbench.lab.pages import external_loads, page

FIRST, ALL, NUMBER = Term("the first", "02_x"), Term('all, as "one"', "04_y"), Term("a number", "00_z")
TERMS = {"head": FIRST, "heads": FIRST, "compound page": ALL, "pfn": NUMBER}
HEAD = '[head]: 02_x.ipynb "the first"'
FOLDER = Checkout.find().notebooks
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def noted(*texts: str) -> list[str]:
    return [
        cell.source for cell in marked(new_notebook(cells=[new_markdown_cell(text) for text in texts]), TERMS).cells
    ]


def test_the_first_mention_is_explained_and_no_other():
    first, second = noted("A compound page has heads. A compound page has a head.", "The pfn of the head.")
    assert first == (
        "A [compound page] has [heads]. A compound page has a head.\n\n"
        '[compound page]: 04_y.ipynb "all, as \\"one\\""\n[heads]: 02_x.ipynb "the first"'
    )
    assert second == 'The [pfn] of the head.\n\n[pfn]: 00_z.ipynb "a number"'


@pytest.mark.parametrize(
    "alone",
    [
        "## The head",
        "`head` and ``a `head` ``",
        "```\nthe head\n```",
        "[the head](x.ipynb) ![a head](x.svg) [x][head]",
        "| a head |\n|---|\n| head |",
        "<details><summary>head</summary>\nhead</details>",
        "ahead head_pfn head() head: head.x a/head",
    ],
)
def test_what_is_not_running_text_is_left_alone(alone):
    assert noted(alone) == [alone]
    assert noted(f"{alone}\n\nA head.") == [f"{alone}\n\nA [head].\n\n{HEAD}"]


def test_code_is_left_alone():
    notebook = new_notebook(cells=[new_code_cell("# head"), new_markdown_cell("a head")])
    assert [cell.source for cell in marked(notebook, TERMS).cells] == ["# head", f"a [head]\n\n{HEAD}"]


def test_marks_are_written_anew():
    text = "A [head](a.ipynb), a head,\nand heads: a pfn (pfn)."
    (once,) = noted(text)
    assert noted(once) == [once] and unmarked(once) == text
    moved = noted("The head.", once)
    assert moved[0] == f"The [head].\n\n{HEAD}" and HEAD not in moved[1] and "[head](a.ipynb), a head," in moved[1]


def test_a_page_explains_the_words_of_its_text():
    cells = [new_markdown_cell("# The altmap\n\nAn altmap holds `altmap`."), new_code_cell("altmap")]
    html = page(marked(new_notebook(cells=cells)), "one")
    means = glossary()["altmap"].means
    assert re.findall(r'<a href="([^"]*)" title="([^"]*)">altmap</a>', html) == [("12_altmap.html", means)]
    assert external_loads(html) == []


def test_plain_text_for_a_widget():
    assert re.sub(r' title="[^"]+"', "", explained("heads < an altmap, the altmap")) == (
        '<abbr class="term" tabindex="0">heads</abbr> &lt; an <abbr class="term" tabindex="0">altmap</abbr>, the altmap'
    )


def test_every_term_is_explained_in_a_sentence_and_shown_in_a_notebook():
    found = glossary()
    assert {"compound page", "altmap", "vmemmap_shift", "FOLL_PIN", "TAIL_MAPPING"} <= found.keys()
    assert all(term.means.endswith(".") and len(term.means) > 20 for term in found.values())
    assert {term.shown_in for term in found.values()} <= set(NAMES)


def out_of_step(notebook: NotebookNode) -> list[str]:
    """Ids of the cells that ``make glossary`` would change."""
    after = marked(copy.deepcopy(notebook))
    return [old.id for old, new in zip(notebook.cells, after.cells, strict=True) if old.source != new.source]


def test_the_check_sees_offenders():
    notebook = marked(new_notebook(cells=[new_markdown_cell("An altmap.", id="a"), new_markdown_cell("a pfn", id="b")]))
    assert out_of_step(notebook) == []
    notebook.cells[0].source = notebook.cells[0].source.replace("Struct pages", "Pages")
    notebook.cells[1].source += " of a head"
    assert out_of_step(notebook) == ["a", "b"]


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_in_step(name):
    """If this fails, a text or a meaning was changed: run ``make glossary``."""
    assert out_of_step(nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)) == []


def test_files_that_are_no_glossary_are_refused(tmp_path):
    path = tmp_path / "glossary.json"
    with pytest.raises(WorkbenchError, match="no glossary"):
        read(path)
    twice = [{"names": ["a"], "means": means, "shown_in": "x"} for means in "xy"]
    path.write_text(json.dumps({"schema": SCHEMA, "terms": twice}))
    with pytest.raises(WorkbenchError, match="two meanings"):
        read(path)
    path.write_text(json.dumps({"schema": "another", "terms": []}))
    with pytest.raises(WorkbenchError, match="no glossary"):
        read(path)
