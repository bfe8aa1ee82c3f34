# SPDX-License-Identifier: GPL-2.0-only
"""The main job with a real kernel and a real browser, and its pages opened offline."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from playwright.sync_api import Browser, Page

from workbench.lab.checkout import Checkout
from workbench.view import figures
from workbench.view.build import build_figures

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FIXTURES = Path(__file__).with_name("fixtures.py")
FIGURE = """\
import plotly.graph_objects as go
from workbench.view import palette
from workbench.view.export import describe
palette.install()
fig = go.Figure(go.Bar(x=["head", "tail"], y=[1, 511], marker_color=palette.BLUE), layout_title_text="{title}")
describe(fig, caption="One head, 511 tails.", alt="Bar chart: 1 head, 511 tails.")"""
WIDGET = """\
import anywidget, base64
class Map(anywidget.AnyWidget):
    _esm = "export default { render({ el }) { el.textContent = 'alive' } }"
    def _repr_mimebundle_(self, **options):
        data, metadata = super()._repr_mimebundle_(**options)
        png = base64.b64encode(open("map.png", "rb").read()).decode()
        return data | {"image/png": png, "text/plain": "map of 2 pages"}, metadata
Map()"""
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
# Counts the different colours of an image: a blank one has one.
COLOURS = """image => {
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    return new Set(new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size;
}"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the main job has run once."""
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    checkout.notebooks.mkdir()
    (checkout.notebooks / "map.png").write_bytes(PNG)
    write(checkout, "00_a", "# Start\n[next](01_b.ipynb)", FIGURE.format(title="First"), FIGURE.format(title="Second"))
    write(checkout, "01_b", "# Widgets", WIDGET, "import ipywidgets\nipywidgets.IntSlider()")
    with pytest.MonkeyPatch.context() as patch:
        known = figures.load()["struct-page-cost"]
        patch.setattr(figures, "load", lambda: {known.id: known})
        assert build_figures(checkout=checkout, echo=lambda line: None, progress=False) == 0
    return checkout


def write(checkout: Checkout, name: str, text: str, *code: str) -> None:
    cells = [new_markdown_cell(text, id="t")] + [new_code_cell(source, id=f"c{k}") for k, source in enumerate(code)]
    (checkout.notebooks / f"{name}.ipynb").write_text(nbformat.writes(new_notebook(cells=cells)))


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """A tab without network that keeps what it asked for and what went wrong."""
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.asked, page.wrong = [], []  # type: ignore[attr-defined]
    page.on("request", lambda request: page.asked.append(request.url))
    page.on(
        "console", lambda message: page.wrong.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    yield page
    context.close()


def test_everything_is_written(made: Checkout) -> None:
    written = {made.relative(path) for path in made.out.rglob("*") if path.is_file()}
    assert written == {
        "out/.state.json",
        *(f"out/notebooks/{name}.ipynb" for name in ("00_a", "01_b")),
        *(f"out/html/{name}.html" for name in ("00_a", "01_b")),
        *(f"out/figures/struct-page-cost.{form}" for form in ("svg", "pdf", "png", "json")),
    }
    record = json.loads((made.out / "figures" / "struct-page-cost.json").read_text())
    for name, output in record["outputs"].items():
        assert hashlib.sha256((made.out / "figures" / name).read_bytes()).hexdigest() == output["sha256"]
    for form in ("svg", "pdf"):
        assert record["inputs"]["hash"].encode() in (made.out / "figures" / f"struct-page-cost.{form}").read_bytes()


def test_figures_are_seen_without_kernel_and_network(made: Checkout, tab: Page) -> None:
    address = (made.out / "html" / "00_a.html").as_uri()
    tab.goto(address)
    images = tab.locator("figure img")
    assert images.count() == 2
    for image in images.all():
        assert image.get_attribute("alt") == "Bar chart: 1 head, 511 tails."
        box = image.bounding_box()
        assert image.is_visible() and box["width"] > 600 and box["height"] > 300
        assert image.evaluate(COLOURS) > 10, "it is drawn, not blank"
    assert tab.locator("figcaption").first.inner_text() == "One head, 511 tails."
    loaded = [url for url in tab.asked if not url.startswith("data:")]  # type: ignore[attr-defined]
    assert loaded == [address] and tab.wrong == []  # type: ignore[attr-defined]


def test_page_opens_from_another_folder_and_on_a_narrow_screen(made: Checkout, tab: Page, tmp_path: Path) -> None:
    copied = tmp_path / "mail.html"
    copied.write_bytes((made.out / "html" / "00_a.html").read_bytes())
    tab.set_viewport_size({"width": 480, "height": 800})
    tab.goto(copied.as_uri())
    assert tab.locator("figure img").first.evaluate(COLOURS) > 10
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing runs off the screen"


def test_widgets_show_their_static_fallback(made: Checkout, tab: Page) -> None:
    tab.goto((made.out / "html" / "01_b.html").as_uri())
    image = tab.locator("figure img")
    assert image.get_attribute("alt") == "map of 2 pages" and image.evaluate("image => image.naturalWidth") == 1
    assert tab.get_by_text("Interactive in JupyterLab").is_visible()
    assert "alive" not in "".join(tab.locator(".jp-OutputArea").all_inner_texts())
    assert tab.wrong == []  # type: ignore[attr-defined]


def test_links_lead_from_page_to_page(made: Checkout, tab: Page) -> None:
    tab.goto((made.out / "html" / "00_a.html").as_uri())
    tab.get_by_role("link", name="next").click()
    assert tab.title() == "Widgets"
    tab.get_by_role("link", name="Start").click()
    assert tab.title() == "Start"


def test_executed_notebooks_hold_both_forms(made: Checkout) -> None:
    notebook = nbformat.read(made.out / "notebooks" / "00_a.ipynb", as_version=4)
    nbformat.validate(notebook)
    data = notebook.cells[1].outputs[0].data
    assert set(data) == {"application/vnd.plotly.v1+json", "image/svg+xml"}
    assert data["application/vnd.plotly.v1+json"]["config"]["showSendToCloud"] is False
    ids = [set(re.findall(r'\sid="([^"]+)"', cell.outputs[0].data["image/svg+xml"])) for cell in notebook.cells[1:]]
    assert not ids[0] & ids[1]


def test_ctrl_c_leaves_whole_files_and_no_browser(tmp_path: Path) -> None:
    # draw, draw, draw ... Ctrl-C: every file that is there is whole, no browser runs on
    (tmp_path / "workbench").mkdir()
    command = [sys.executable, FIXTURES, "forever", tmp_path]
    for moment_s in (0.0, 0.7, 1.6):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert select.select([process.stdout], [], [], 120)[0], "no figure in two minutes"
            end = time.monotonic() + 60
            while not (children := psutil.Process(process.pid).children(recursive=True)):
                assert time.monotonic() < end
                time.sleep(0.02)
            time.sleep(moment_s)
            children += psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            stderr = process.communicate(timeout=60)[1]
        assert "KeyboardInterrupt" in stderr and process.returncode != 0
        assert psutil.wait_procs(set(children), timeout=20)[1] == [], "a browser is still running"
        assert not list(tmp_path.rglob("*.part"))
        for path in (tmp_path / "out" / "figures").iterdir():
            content = path.read_bytes()
            whole = {".svg": b"</svg>\n", ".pdf": b"%%EOF\n", ".png": b"IEND\xaeB`\x82", ".json": b"}\n"}
            assert content.endswith(whole[path.suffix]), path.name
