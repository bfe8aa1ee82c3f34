# SPDX-License-Identifier: GPL-2.0-only
"""The timing views in JupyterLab and in Voilà: a mark is clicked, and controls, ring, reason and memory map follow.

The notebook has a text too, whose terms are explained on hover in both.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from playwright.sync_api import Browser, Page, expect

from tests.view.memory_map.browser import complaints, left_the_machine, run_first_cell, server, watch
from workbench.lab.glossary import glossary, marked

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CODE = "from workbench.view.explorer.timing import TimingExplorer\nTimingExplorer()"
READY_MS = 90_000
CHART = ".jp-RenderedPlotly"

# Where the mark of a trace and a size lies, and where the rings lie, in pixels of the window.
MARK = """([name, kernel, size]) => {
    const chart = document.querySelector(".jp-RenderedPlotly"), upper = chart.querySelectorAll(".xy .trace.scatter");
    const drawn = chart.data.filter((one) => (one.yaxis ?? "y") === "y");
    const at = drawn.findIndex((one) => one.name === name);
    const points = upper[at].querySelectorAll("path.point");
    const which = drawn[at].customdata?.findIndex(([of, bytes]) => of === kernel && bytes === size) ?? 0;
    const box = points[which].getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
}"""


def write_notebook(folder: Path) -> None:
    cells = [new_code_cell(CODE), new_markdown_cell("With an altmap of one head.")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(marked(new_notebook(cells=cells, metadata=kernel)), folder / "map.ipynb")


def explains(page: Page) -> None:
    """What a term means is the title of its first mention."""
    for name in ("altmap", "head"):
        term = page.get_by_role("link", name=name, exact=True)
        expect(term).to_have_attribute("title", glossary()[name].means, timeout=READY_MS)


def watched(browser: Browser, width: int) -> Page:
    page = browser.new_context(viewport={"width": width, "height": 1300}).new_page()
    watch(page)
    return page


def place(page: Page, name: str, kernel: str = "", size: int = 0) -> tuple[float, float]:
    x, y = page.evaluate(MARK, [name, kernel, size])
    return x, y


def click(page: Page, name: str, kernel: str, size: int) -> None:
    page.locator(CHART).scroll_into_view_if_needed()
    x, y = place(page, name, kernel, size)
    page.mouse.move(x - 3, y)
    page.mouse.move(x, y)
    expect(page.locator(f"{CHART} .hovertext")).to_contain_text("without the series")
    page.mouse.click(x, y)


def follows(page: Page) -> None:
    """A published mark leads to its point, its values, its reason and what the path touches; a list leads on."""
    expect(page.locator(CHART)).to_contain_text("16 GiB, with the series: modelled", timeout=READY_MS)
    expect(page.locator(".mm")).to_have_count(0)
    click(page, "published, without the series", "5.16+0", 127004 << 20)
    expect(page.locator(CHART)).to_contain_text("127004 MiB, without the series: modelled", timeout=READY_MS)
    expect(page.locator(CHART)).to_contain_text("writing changed lines back")
    size, kernel = (page.get_by_label(name, exact=True) for name in ("memory held", "state of the series"))
    chosen = "e => e.options[e.selectedIndex].text.replaceAll('\\u00a0', ' ')"
    assert (size.evaluate(chosen), kernel.evaluate(chosen)) == ("127004 MiB", "without the series")
    ring = place(page, "the point chosen")
    assert ring == pytest.approx(place(page, "modelled, without the series", "5.16+0", 127004 << 20), abs=2)
    page.locator(".mm[data-drawn]").wait_for(timeout=READY_MS)
    expect(page.locator(".mm")).to_contain_text("unpin_user_pages() of 512 pages")
    expect(page.get_by_text("512 written")).to_be_visible()
    kernel.select_option("with the series")
    expect(page.get_by_text("read, 2 written")).to_be_visible(timeout=READY_MS)
    expect(page.locator(CHART)).to_contain_text("127004 MiB, with the series: modelled")
    click(page, "modelled, without the series", "5.16+0", 1 << 30)
    expect(page.locator(CHART)).to_contain_text("1 GiB, without the series: modelled", timeout=READY_MS)
    expect(page.get_by_text("512 written")).to_be_visible()
    expect(page.locator(".mm")).to_have_count(1)


def test_a_click_in_jupyterlab(browser, tmp_path):
    write_notebook(tmp_path)
    options = ("--no-browser", "--ip=127.0.0.1", "--port={port}", "--IdentityProvider.token=", "--allow-root")
    with server(tmp_path, "jupyterlab", *options, "--LabApp.news_url=None", f"--ServerApp.root_dir={tmp_path}") as lab:
        page = watched(browser, 1280)
        run_first_cell(page, lab)
        explains(page)
        page.locator(CHART).wait_for(timeout=READY_MS)
        follows(page)
        assert left_the_machine(page) == [] and complaints(page) == []
        page.context.close()


def test_a_click_in_voila(browser, tmp_path):
    write_notebook(tmp_path)
    options = ("--no-browser", "--port={port}", "--Voila.ip=127.0.0.1", "--template=offline", "map.ipynb")
    with server(tmp_path, "voila", *options) as address:
        page = watched(browser, 2560)
        page.goto(address, wait_until="commit")
        page.locator(CHART).wait_for(timeout=READY_MS)
        explains(page)
        follows(page)
        assert left_the_machine(page) == [] and complaints(page) == []
        page.context.close()
