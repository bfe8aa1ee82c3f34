# SPDX-License-Identifier: GPL-2.0-only
"""The memory map in JupyterLab and in Voilà, in a real browser: pictures, brush, keyboard, player, themes, axe."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.view.memory_map.browser import (
    ROOT,
    complaints,
    left_the_machine,
    run_first_cell,
    server,
    watch,
    write_notebook,
)
from tests.view.memory_map.support import START
from workbench.view import palette

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CODE = """from workbench.view.memory_map import MemoryMap, device
shown = MemoryMap(device("5.16+11", "1T", before="5.16+0"))
shown"""
BEGIN = f"tree=5.16+11/pgmap=0/pfn={START + 1:#x}/word=1"
DRAWN_MS = 90_000

COLOURS = """(canvas) => {
    const {width, height} = canvas, found = {};
    const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    for (let y = 0; y < height; y++) for (let x = 152; x < width; x++) {
        const at = 4 * (y * width + x), hex = (byte) => byte.toString(16).padStart(2, "0").toUpperCase();
        const key = "#" + [0, 1, 2].map((k) => hex(pixels[at + k])).join("");
        (found[key] ??= {pixels: 0, first: y, last: y, from: x, to: x});
        const one = found[key];
        one.pixels++; one.last = Math.max(one.last, y); one.from = Math.min(one.from, x); one.to = Math.max(one.to, x);
    }
    return found;
}"""


def watched(browser: Browser, width: int = 1280) -> Page:
    page = browser.new_context(viewport={"width": width, "height": 1500}).new_page()
    watch(page)
    return page


def opened(browser: Browser, address: str, width: int = 1280) -> Page:
    page = watched(browser, width)
    page.goto(address, wait_until="commit")  # Voilà sends the page while the notebook runs
    return page


@pytest.fixture(scope="module")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The map in JupyterLab, drawn."""
    folder = tmp_path_factory.mktemp("lab")
    write_notebook(folder, CODE, "print(f'the kernel shows {shown.state}')")
    options = ("--no-browser", "--ip=127.0.0.1", "--port={port}", "--IdentityProvider.token=", "--allow-root")
    with server(folder, "jupyterlab", *options, "--LabApp.news_url=None", f"--ServerApp.root_dir={folder}") as address:
        page = watched(browser)
        run_first_cell(page, address)
        page.locator(".mm[data-drawn]").wait_for(timeout=DRAWN_MS)
        yield page
        page.context.close()


@pytest.fixture
def shown(lab: Page) -> Page:
    """The map where every test begins."""
    restore(lab, BEGIN)
    return lab


def restore(page: Page, line: str) -> None:
    field = page.locator(".mm-state")
    field.fill(line)
    field.press("Enter")
    answered(page)
    expect(field).to_have_value(line)


def answered(page: Page) -> None:
    """Wait until what was asked has been drawn."""
    page.wait_for_timeout(50)
    page.wait_for_function(
        "() => { const m = document.querySelector('.mm'); return m.dataset.drawn === m.dataset.asked; }"
    )


def state(page: Page) -> str:
    answered(page)
    return page.locator(".mm-state").input_value()


def strip(page: Page, number: int):
    return page.locator(".mm canvas").nth(number)


def test_the_first_picture_has_the_roles_colours_where_they_belong(shown):
    found = strip(shown, 0).evaluate(COLOURS)
    fills = {role: look.fill for role, look in palette.ROLES.items()}
    base, head, first, tail = (found[fills[role]] for role in ("zone_device", "head", "first_tail", "tail"))
    assert base["last"] < head["first"] < first["first"] < tail["first"], "before above after; heads on top of tails"
    assert base["pixels"] > 10_000 and tail["pixels"] > 5_000 and head["to"] - head["from"] > 400
    section = strip(shown, 1).evaluate(COLOURS)
    assert section[fills["head"]]["pixels"] > 1_000, "64 heads, at least two pixels wide each"
    assert shown.locator(".mm-column").count() == 8
    assert shown.locator(".mm-fold").inner_text() == "× 504\nalike"


def test_the_brush_moves_the_range_below(shown):
    box = strip(shown, 0).bounding_box()
    shown.mouse.move(box["x"] + 400, box["y"] + 20)
    shown.mouse.down()
    shown.mouse.move(box["x"] + 500, box["y"] + 20, steps=5)
    shown.mouse.up()
    zoom = state(shown).partition("zoom=")[2].split("/")[0].split("-")
    first, last = (int(pfn, 16) - START for pfn in zoom)
    per_pixel = (1 << 28) / (box["width"] - 152)
    assert first == pytest.approx((400 - 150) * per_pixel, abs=3 * per_pixel)
    assert last - first == pytest.approx(100 * per_pixel, abs=3 * per_pixel)
    assert "GiB of it" in shown.locator(".mm h4").nth(1).inner_text()


def test_a_click_takes_a_compound_and_its_page(shown):
    box = strip(shown, 1).bounding_box()
    strip(shown, 1).click(position={"x": 150 + (box["width"] - 152) / 2, "y": 20})
    assert f"pfn={START + 16384 + 1:#x}" in state(shown), "first tail of the compound in the middle of the section"


def test_from_the_device_to_a_named_bit_by_keyboard(shown):
    strip(shown, 0).focus()
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        shown.keyboard.press(key)
        answered(shown)
    pfn = START + 2 * 32768 + 1
    assert f"pfn={pfn:#x}" in state(shown)
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.getAttribute('aria-label')").startswith("place of the selected")
    shown.keyboard.press("Enter")
    for key in ("ArrowLeft", "ArrowUp"):
        shown.keyboard.press(key)
        answered(shown)
    shown.keyboard.press("Enter")
    bits = shown.locator(".mm-bits")
    expect(bits).to_be_focused()
    for _ in range(16):
        shown.keyboard.press("ArrowLeft")
    answered(shown)
    expect(bits).to_have_attribute("aria-valuetext", "bit 16 is 1, page flags, head")
    assert state(shown).startswith(f"tree=5.16+11/pgmap=0/pfn={pfn - 1:#x}/word=0/bit=16")
    expect(shown.locator(".mm-said")).to_contain_text("Bit 16 is 1")


def test_bits_and_words_are_drawn_in_the_task_of_the_key_and_the_kernel_hears_of_them(shown):
    """All that the answer would say stands there before the event's task is over, and is what the kernel says after."""
    shown.locator(".mm-bits").focus()
    there = shown.locator(".mm-bits").evaluate("""(bits) => {
        const root = document.querySelector(".mm"), textOf = (what) => root.querySelector(what).textContent;
        const press = (node, key) => node.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
        for (let k = 0; k < 3; k++) press(bits, "ArrowLeft");
        press(root.querySelector("[aria-selected]"), "ArrowDown");
        press(bits, "ArrowLeft");
        return {
            drawn: root.dataset.drawn === root.dataset.asked, line: root.querySelector(".mm-state").value,
            said: textOf(".mm-said"), word: textOf(".mm-page .mm-mine"), bit: bits.getAttribute("aria-valuetext"),
            mine: root.querySelector(".mm-bits .mm-mine").dataset.bit,
        };
    }""")
    line = BEGIN.replace("word=1", "word=2") + "/bit=1"
    assert (there["drawn"], there["line"], there["mine"]) == (True, line, "1")
    assert there["said"].endswith(f"Bit 1 is {there['bit'].split()[3].strip(',')}.") and "Word +16: " in there["said"]
    assert there["word"].startswith("+16")
    shown.wait_for_timeout(300)
    run_second_cell(shown)
    expect(shown.locator(".jp-OutputArea-output", has_text="the kernel shows")).to_contain_text(f"shows {line}\n")
    for given in (
        line,
        line + "/layer=refcount",
        BEGIN.replace("word=1", "word=0") + f"/zoom={START:#x}-{START + 0xFFFF:#x}",
    ):
        restore(shown, given)  # what the kernel would write is what stands there after a key
        shown.locator(".mm-bits").press("ArrowLeft")
        expected = given.replace("bit=1", "bit=2").replace("word=0", "word=0/bit=1")
        assert shown.locator(".mm-state").input_value() == expected
        shown.wait_for_timeout(300)
        assert state(shown) == expected


def run_second_cell(page: Page) -> None:
    """Run the cell that prints what the kernel shows, and wait until it has."""
    page.locator(".jp-Cell").nth(1).locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    page.locator(".jp-OutputArea-output", has_text="the kernel shows").wait_for(timeout=10_000)


def test_zoom_keys_end_at_the_device_and_at_struct_pages(shown):
    strip(shown, 1).focus()
    shown.keyboard.press("Home")
    assert f"zoom={START:#x}-{START + (1 << 28) - 1:#x}" in state(shown)
    for _ in range(24):
        shown.keyboard.press("+")
        answered(shown)
    assert "256 KiB of it" in shown.locator(".mm h4").nth(1).inner_text()


def test_layers(shown):
    shown.locator(".mm select").first.select_option("backing")
    answered(shown)
    assert "layer=backing" in state(shown)
    assert strip(shown, 1).evaluate(COLOURS)


def test_the_player_steps_plays_and_shows_what_was(shown):
    store = shown.get_by_label("one store on")
    shown.get_by_label("before the first store").click()
    answered(shown)
    for _ in range(9):
        store.click()
        answered(shown)
    expect(shown.locator(".mm-store")).to_contain_text("set_page_links(): pfn 0x100000 +0: 0000000000000000 →")
    changed = shown.locator(".mm-changed")
    assert changed.count() == 1 and changed.locator("small").inner_text() == "0"
    assert changed.evaluate("e => getComputedStyle(e).animationName") == "mm-flash"
    shown.emulate_media(reduced_motion="reduce")
    assert changed.evaluate("e => getComputedStyle(e).animationName") == "none"
    shown.emulate_media(reduced_motion="no-preference")
    shown.get_by_label("one store back").click()
    assert state(shown).endswith("step=8")
    shown.get_by_label("speed").select_option("0")
    shown.get_by_label("play", exact=True).click()
    shown.wait_for_function("() => +/step=([0-9]+)/.exec(document.querySelector('.mm-state').value)[1] > 12")
    shown.get_by_label("pause", exact=True).click()
    shown.get_by_label("leave the operation").click()
    assert "step" not in state(shown)


def test_a_wrong_line_is_refused_and_nothing_moves(shown):
    shown.locator(".mm-state").fill("tree=5.17/pgmap=0/pfn=0x100000")
    shown.locator(".mm-state").press("Enter")
    expect(shown.locator(".mm-wrong")).to_contain_text("Make a map of that kernel")
    assert state(shown) == BEGIN


def test_dark_theme(shown):
    def ground() -> str:
        return shown.locator(".mm").evaluate("e => getComputedStyle(e).backgroundColor")

    light = strip(shown, 0).evaluate(COLOURS)
    assert ground() == "rgb(255, 255, 255)"
    theme(shown, "JupyterLab Dark")
    assert sum(int(part) for part in ground().strip("rgb()").split(",")) < 120
    assert serious(shown) == []
    dark = strip(shown, 0).evaluate(COLOURS)
    head = palette.ROLES["head"].fill
    # The page may be a scroll bar narrower or wider under another theme, and the strip with it.
    assert dark[head]["pixels"] > light[head]["pixels"] / 2, "heads keep their colour"
    assert "#FFFFFF" in dark, "ink is light now"
    theme(shown, "JupyterLab Light")


def theme(page: Page, name: str) -> None:
    page.get_by_role("menuitem", name="Settings", exact=True).click()
    page.locator("li[data-command='']", has_text="Theme").or_(page.get_by_text("Theme", exact=True)).first.hover()
    page.get_by_text(name, exact=True).click()
    page.wait_for_function(f"() => document.body.dataset.jpThemeName === '{name}'")
    page.wait_for_timeout(200)


def serious(page: Page, inside: str = ".mm") -> list[str]:
    """What axe finds serious about the widget, or about more of the page."""
    found = Axe().run(page, context=inside).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def test_axe_finds_nothing_serious(shown):
    assert serious(shown) == []
    shown.get_by_label("one store on").click()
    answered(shown)
    assert serious(shown) == []


def test_nothing_left_the_machine_and_nothing_went_wrong(shown):
    assert left_the_machine(shown) == []
    assert complaints(shown) == []


VOILA = (
    *("voila", "--no-browser", "--port={port}", "--Voila.ip=127.0.0.1", "--template=offline"),
    "--Voila.kernel_websocket_connection_class=workbench.view.websocket.PromptConnection",
)


def test_voila_on_a_wide_screen(browser, tmp_path):
    write_notebook(tmp_path, CODE)
    with server(tmp_path, *VOILA, "map.ipynb") as address:
        page = opened(browser, address, 2560)
        page.locator(".mm[data-drawn]").wait_for(timeout=DRAWN_MS)
        answered(page)
        found = strip(page, 0).evaluate(COLOURS)
        assert found[palette.ROLES["tail"].fill]["to"] > 0.8 * strip(page, 0).evaluate("e => e.width")
        strip(page, 1).focus()
        page.keyboard.press("ArrowRight")
        assert f"pfn={START + 513:#x}" in state(page)
        assert page.locator(".mm").evaluate("e => e.scrollWidth <= e.clientWidth"), "nothing sticks out"
        assert serious(page) == [] and left_the_machine(page) == [] and complaints(page) == []
        page.context.close()


def test_the_explorer_shows_what_is_chosen_and_what_is_refused(browser, tmp_path):
    shutil.copy(ROOT / "notebooks" / "explorer" / "explorer.ipynb", tmp_path)
    with server(tmp_path, *VOILA, "explorer.ipynb") as address:
        page = opened(browser, address)
        page.locator(".mm[data-drawn]").wait_for(timeout=DRAWN_MS)
        expect(page.locator(".mm-name")).to_contain_text("1 TiB · kernel 5.16+11")
        expect(page.get_by_text("What its struct pages cost")).to_be_visible()
        expect(page.locator("abbr.term", has_text="altmap").first).to_have_attribute(
            "title", re.compile("^Struct pages")
        )
        page.get_by_label("struct pages in").select_option("the device, an altmap (map dev)")
        expect(page.locator(".mm-legend")).to_contain_text("altmap", timeout=DRAWN_MS)
        assert strip(page, 0).evaluate(COLOURS)[palette.ROLES["altmap"].fill]["pixels"] > 10
        page.get_by_label("show what this path touches").check()
        touched = page.locator(".mm").nth(1)
        expect(touched).to_contain_text("unpin_user_pages() of 512 pages", timeout=DRAWN_MS)
        expect(page.locator(".js-plotly-plot").last).to_contain_text("16 GiB, with the series: modelled")
        assert serious(page, "#rendered_cells") == []
        page.get_by_label("show what this path touches").uncheck()
        expect(page.locator(".mm")).to_have_count(1)
        page.get_by_label("play fault, pin, unpin, poison, teardown too").check()
        expect(page.get_by_label("operation", exact=True)).to_contain_text("poison: madvise", timeout=DRAWN_MS)
        page.get_by_label("compared with").select_option("nothing")
        page.get_by_label("align", exact=True).select_option("1 GiB")
        page.get_by_label("device of").fill("1G")
        page.get_by_label("device of").press("Enter")
        expect(page.get_by_role("alert").locator("visible=true")).to_contain_text("Refused", timeout=DRAWN_MS)
        expect(page.locator(".mm")).to_have_count(0)
        page.get_by_label("device of").fill("16G")
        page.get_by_label("device of").press("Enter")
        page.locator(".mm[data-drawn]").wait_for(timeout=DRAWN_MS)
        page.get_by_role("button", name="Save this view").click()
        saved = page.get_by_role("link", name="memory-map.svg")
        expect(saved).to_be_visible(timeout=DRAWN_MS)
        assert saved.get_attribute("href").startswith("data:image/svg+xml;base64,")
        assert serious(page, "#rendered_cells") == [] and left_the_machine(page) == [] and complaints(page) == []
        page.context.close()
