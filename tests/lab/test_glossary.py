# SPDX-License-Identifier: GPL-2.0-only
"""Terms are explained once a page, in its text and nowhere else."""

from __future__ import annotations

import json
import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from workbench.errors import WorkbenchError
from workbench.lab.glossary import explained, glossary, read
from workbench.lab.pages import external_loads, page

CELL = '<div class="jp-RenderedHTMLCommon jp-RenderedMarkdown" data-mime-type="text/markdown">{}</div>'
TERMS = {"head": "the first", "heads": "the first", "compound page": 'all, as "one"', "pfn": "a number"}


def terms_of(html: str) -> list[str]:
    return re.findall(r"<abbr[^>]*>([^<]*)</abbr>", html)


def test_the_first_mention_is_explained_and_no_other():
    html = explained(CELL.format("<p>A compound page has heads. A compound page has a head.</p>"), TERMS)
    assert terms_of(html) == ["compound page", "heads"]
    assert 'title="all, as &quot;one&quot;"' in html


@pytest.mark.parametrize(
    "inside",
    [
        "<h2>The head</h2>",
        "<code>head</code>",
        "<pre>x <b>head</b></pre>",
        '<a href="x">head</a>',
        "ahead head_pfn head()",
    ],
)
def test_code_headings_links_and_parts_of_names_are_left_alone(inside):
    assert explained(CELL.format(inside), TERMS) == CELL.format(inside)
    assert terms_of(explained(CELL.format(inside + "<p>the head</p>"), TERMS)) == ["head"]


def test_outputs_and_attributes_are_left_alone():
    html = "<div>head</div>" + CELL.format('<div>a</div><img alt="head"/> pfn') + "<p>head</p>"
    assert terms_of(explained(html, TERMS)) == ["pfn"]
    assert 'alt="head"' in explained(html, TERMS)


def test_a_page_explains_the_words_of_its_text():
    output = new_output("stream", text="altmap\n")
    cells = [new_markdown_cell("# The altmap\n\nAn altmap holds `altmap`."), new_code_cell("altmap", outputs=[output])]
    html = page(new_notebook(cells=cells), "one")
    assert terms_of(html) == ["altmap"] and external_loads(html) == []


def test_every_term_is_explained_in_a_sentence():
    found = glossary()
    assert {"compound page", "altmap", "vmemmap_shift", "FOLL_PIN", "TAIL_MAPPING"} <= found.keys()
    assert all(means.endswith(".") and len(means) > 20 for means in found.values())


def test_files_that_are_no_glossary_are_refused(tmp_path):
    path = tmp_path / "glossary.json"
    with pytest.raises(WorkbenchError, match="no glossary"):
        read(path)
    twice = [{"names": ["a"], "means": "x"}, {"names": ["a"], "means": "y"}]
    path.write_text(json.dumps({"schema": "devmap-workbench/glossary/1", "terms": twice}))
    with pytest.raises(WorkbenchError, match="two meanings"):
        read(path)
    path.write_text(json.dumps({"schema": "another", "terms": []}))
    with pytest.raises(WorkbenchError, match="no glossary"):
        read(path)
