# SPDX-License-Identifier: GPL-2.0-only
"""Pages need no network, no kernel and no script."""

from __future__ import annotations

import base64

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from workbench.errors import WorkbenchError
from workbench.lab.pages import PLOTLY, WIDGET, attach_static, external_loads, page

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="3"><rect width="4" height="3"/></svg>'

# What a page may not do, and what of it is found.
LOADS = {
    '<script src="https://cdn.plot.ly/plotly.js"></script>': "https://cdn.plot.ly/plotly.js",
    "<script src=//cdn.x.org/a.js></script>": "//cdn.x.org/a.js",
    '<script>import("https://x.org/m.js")</script>': "https://x.org/m.js",
    "<script>s.src = 'http://x.org/a?b=c';</script>": "http://x.org/a?b=c",
    '<link rel="stylesheet" href="theme.css">': "theme.css",
    '<img src="figure.png" alt="">': "figure.png",
    '<img srcset="data:x 1x, big.png 2x" alt="">': "big.png",
    '<img SRC = " https://x.org/a.png ">': "https://x.org/a.png",
    '<svg><image href="https://x.org/a.png"/></svg>': "https://x.org/a.png",
    '<svg><use xlink:href="icons.svg#a"/></svg>': "icons.svg#a",
    '<iframe src="https://x.org/"></iframe>': "https://x.org/",
    '<object data="a.pdf"></object>': "a.pdf",
    '<video poster="p.png"></video>': "p.png",
    "<style>@import 'a.css';</style>": "a.css",
    '<style>@import url("https://x.org/a.css");</style>': "https://x.org/a.css",
    "<style>a { background: url( 'https://x.org/a.png' ) }</style>": "https://x.org/a.png",
    '<p style="background: url(a.png)">': "a.png",
    '<base href="https://x.org/">': "https://x.org/",
}

FREE = (
    '<a href="https://lwn.net/">a link</a> https://lwn.net/ in text',
    f'<img alt="" src="data:image/png;base64,{PNG}">',
    '<svg xmlns="http://www.w3.org/2000/svg"><use href="#icon"/><use xlink:href="#icon"/></svg>',
    "<style>a { background: url(#grad); mask: url('data:image/svg+xml,x') }</style>",
    "<pre>&lt;script src='https://x.org/'&gt;</pre><!-- <img src='a.png'> -->",
    '<img src="">',
)


@pytest.mark.parametrize("html", LOADS)
def test_a_load_is_found(html: str) -> None:
    assert external_loads(f"<html><body>{html}</body></html>") == [LOADS[html]]


@pytest.mark.parametrize("html", FREE)
def test_what_loads_nothing_is_let_through(html: str) -> None:
    assert external_loads(html) == []


def notebook(*outputs: nbformat.NotebookNode, text: str = "# A notebook") -> nbformat.NotebookNode:
    cells = [new_markdown_cell(text, id="t"), new_code_cell("1", id="c", outputs=list(outputs), execution_count=1)]
    return new_notebook(cells=cells)


def shown(data: dict, **metadata: object) -> nbformat.NotebookNode:
    return new_output("display_data", data=data, metadata=metadata)


def test_a_page_has_no_script_and_loads_nothing() -> None:
    html = page(notebook(new_output("stream", text="hello")), "00_a")
    assert external_loads(html) == [] and "<script" not in html
    assert "<title>A notebook</title>" in html and "hello" in html and '<html lang="en">' in html


def test_a_plotly_figure_becomes_an_image_with_alt_text_and_caption() -> None:
    spec = {"data": [], "layout": {"meta": {}}}
    done = attach_static(notebook(shown({PLOTLY: spec})), lambda figure: (SVG, "1 < 2 & so", 'say "512"'))
    output = done.cells[1].outputs[0]
    assert output.data[PLOTLY] == spec, "JupyterLab still shows the interactive figure"
    html = page(done, "00_a")
    encoded = base64.b64encode(SVG.encode()).decode()
    assert f"data:image/svg+xml;base64,{encoded}" in html
    assert 'alt="say &quot;512&quot;"' in html or "alt='say \"512\"'" in html
    assert "<figcaption>1 &lt; 2 &amp; so</figcaption>" in html
    assert PLOTLY in output.data, "the page is made from a copy"


def test_a_figure_without_alt_text_names_its_cell() -> None:
    def refuse(_: object) -> tuple[str, str, str]:
        raise WorkbenchError("no alt text")

    with pytest.raises(WorkbenchError, match=r"cell 2 \(id c\): no alt text"):
        attach_static(notebook(shown({PLOTLY: {}})), refuse)


def test_a_widget_shows_its_own_image() -> None:
    data = {WIDGET: {"model_id": "m"}, "image/png": PNG, "text/plain": "memory map of 512 pages"}
    html = page(notebook(shown(data)), "00_a")
    assert f'alt="memory map of 512 pages" src="data:image/png;base64,{PNG}"' in html
    assert "model_id" not in html


def test_a_widget_shows_its_own_html() -> None:
    html = page(notebook(shown({WIDGET: {}, "text/html": "<b>as text</b>", "text/plain": "repr()"})), "00_a")
    assert "<b>as text</b>" in html and "repr()" not in html


def test_a_control_is_named_as_one() -> None:
    html = page(notebook(shown({WIDGET: {}, "text/plain": "IntSlider(value=3)"})), "00_a")
    assert "Interactive in JupyterLab" in html and "IntSlider" not in html


def test_widget_state_and_scripts_are_left_out() -> None:
    one = notebook(shown({"application/javascript": "alert(1)", "text/plain": "plain"}))
    one.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {"secret": 1}}}
    html = page(one, "00_a")
    assert "secret" not in html and "alert(1)" not in html and "plain" in html


def test_html_that_loads_is_refused() -> None:
    with pytest.raises(WorkbenchError, match=r"page of 00_a\.ipynb would load https://cdn\.plot\.ly/p\.js"):
        page(notebook(shown({"text/html": '<script src="https://cdn.plot.ly/p.js"></script>'})), "00_a")


def test_links_between_notebooks_lead_to_pages() -> None:
    text = (
        '# T\n[a](01_b.ipynb) [b](./02_c.ipynb#cost) [c](https://x.org/03_d.ipynb) <a href="04_e.ipynb">d</a> `f.ipynb`'
    )
    html = page(notebook(text=text), "00_a")
    for link in ("01_b.html", "./02_c.html#cost", "https://x.org/03_d.ipynb", "04_e.html"):
        assert f'href="{link}"' in html
    assert "f.ipynb" in html


def test_a_committed_figure_in_the_text_is_left_out() -> None:
    image = "![A map](../docs/figures/memory-map.svg)"
    for key in (image, f"<details><summary>The key figure</summary>\n\n{image}\n\n</details>"):
        html = page(notebook(text=f"# A title\n\nText.\n\n{key}"), "00_a")
        assert "Text." in html and "memory-map" not in html and "A map" not in html and "key figure" not in html
    with pytest.raises(WorkbenchError, match=r"other\.png"):
        page(notebook(text="![Another](other.png)"), "00_a")


def test_pages_are_listed_and_the_present_one_is_marked() -> None:
    html = page(notebook(), "00_a", [("00_a.html", "Start <here>"), ("01_b.html", "Next")])
    assert '<a aria-current="page" href="00_a.html">Start &lt;here&gt;</a>' in html
    assert '<a href="01_b.html">Next</a>' in html
    nav = html.partition("<nav")[2].partition("</nav>")[0]
    assert nav.count("·") == 1 and "white-space: nowrap" in html


def test_outputs_of_the_given_notebook_are_unchanged() -> None:
    one = notebook(shown({WIDGET: {}, "text/plain": "IntSlider()"}), text="# T\n[a](01_b.ipynb)")
    before = nbformat.writes(one)
    page(one, "00_a")
    assert nbformat.writes(one) == before
