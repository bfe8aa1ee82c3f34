# SPDX-License-Identifier: GPL-2.0-only
"""The script of the map in a browser without a server: answers come when the test gives them, the clock is its own."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.view.memory_map.support import START
from workbench.view import memory_map
from workbench.view.memory_map import MemoryMap, device

pytestmark = [pytest.mark.browser]

SCRIPT = Path(memory_map.__file__).with_name("static") / "memory_map.js"
SHOW = """async ([script, facts]) => {
    const {default: {render}} = await import("data:text/javascript;base64," + script);
    window.questions = [];
    const model = {
        get: () => facts, send: (question) => window.questions.push(question), off: () => {},
        on: (_, answered) => { window.answered = answered; },
    };
    render({model, el: document.querySelector("#map")});
}"""
ANSWER = """([answer, buffers]) => window.answered(answer, buffers.map((text) =>
    new DataView(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer)))"""


class Shown:
    """A page, and the widget that answers it when it is told to."""

    def __init__(self, page: Page, widget: MemoryMap) -> None:
        self.page, self.widget, self.wrong = page, widget, []
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.clock.install()
        page.set_content('<body><div id="map" style="width:1100px"></div></body>')
        page.add_style_tag(path=SCRIPT.with_suffix(".css"))
        script = base64.b64encode(SCRIPT.read_bytes()).decode()
        page.evaluate(SHOW, [script, widget.facts])
        page.wait_for_function("window.questions.length === 1")

    @property
    def questions(self) -> list[dict]:
        return self.page.evaluate("window.questions")

    def answer(self, number: int) -> None:
        answer, buffers = self.widget.answer(self.questions[number])
        self.page.evaluate(ANSWER, [answer, [base64.b64encode(one).decode() for one in buffers]])

    def zoomed(self) -> str:
        return self.page.locator(".mm h4").nth(1).inner_text().splitlines()[0]


@pytest.fixture(scope="module")
def page(browser: Browser) -> Page:
    return browser.new_page()


def test_a_map_begins_where_the_kernel_is_and_waits_for_it(page):
    widget = MemoryMap(device("5.17", "4G"))
    shown = Shown(page, widget)
    widget.state = line = f"tree=5.17/pgmap=0/pfn={START + 513:#x}/word=6"
    canvas = page.locator(".mm canvas").first
    canvas.dispatch_event("pointerdown", {"pointerId": 1})
    canvas.dispatch_event("wheel", {"ctrlKey": True, "deltaY": 1})
    for label in ("play", "one store on", "one store back"):
        page.get_by_label(label, exact=True).click()
    assert len(shown.questions) == 1 and shown.wrong == []
    shown.answer(0)
    assert page.locator(".mm-state").input_value() == line and widget.state == line


def test_what_a_late_answer_would_have_brought_is_asked_for_again(page):
    shown = Shown(page, MemoryMap(device("5.17", "4G")))
    shown.answer(0)
    assert "128 MiB" in shown.zoomed()
    page.locator(".mm canvas").nth(1).press("Home")
    assert shown.questions[1]["parts"] == ["zoom"]
    page.clock.fast_forward(6_000)
    page.locator(".mm select").first.select_option("refcount")
    assert sorted(shown.questions[2]["parts"]) == ["device", "zoom"]
    page.clock.fast_forward(6_000)
    page.locator(".mm-cell").first.click()
    assert sorted(shown.questions[3]["parts"]) == ["device", "page", "zoom"]
    for late in (1, 2, 3):
        shown.answer(late)
    assert "4 GiB" in shown.zoomed()
    assert page.locator(".mm").evaluate("e => e.dataset.drawn === e.dataset.asked") and shown.wrong == []


def test_other_buttons_than_the_first_are_the_browsers(page):
    shown = Shown(page, MemoryMap(device("5.17", "4G")))
    shown.answer(0)
    for strip in (0, 1):
        page.locator(".mm canvas").nth(strip).click(button="right", position={"x": 600, "y": 15})
    assert len(shown.questions) == 1


@pytest.mark.parametrize("zoom", ["", f"/zoom={START + 4096:#x}-{START + 8191:#x}"], ids=["in sight", "elsewhere"])
def test_only_a_compound_page_in_the_range_is_framed_there(page, zoom):
    shown = Shown(page, MemoryMap(device("5.17", "4G"), f"tree=5.17/pgmap=0/pfn={START + 1:#x}/word=1{zoom}"))
    shown.answer(0)
    framed = (
        page.locator(".mm canvas")
        .nth(1)
        .evaluate("""(canvas) => {
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        for (let at = 0; at < pixels.length; at += 4)
            if (pixels[at] === 0 && pixels[at + 1] === 0x72 && pixels[at + 2] === 0xb2) return true;
        return false;
    }""")
    )
    wedge = page.locator(".mm-wedge polygon").nth(1).get_attribute("points")
    assert (framed, bool(wedge)) == (not zoom, not zoom)
