# SPDX-License-Identifier: GPL-2.0-only
"""The widget without a browser: questions and answers, size, and what stands in where no kernel runs."""

from __future__ import annotations

import json
from threading import Thread

import numpy as np
import plotly.graph_objects as go
import pytest

from tests.view.memory_map.support import START
from workbench.errors import WorkbenchError
from workbench.view.choices import PLOTLY
from workbench.view.export import description
from workbench.view.memory_map import MemoryMap, device
from workbench.view.memory_map.model import PARTS

MOST_BYTES = 64 << 10


@pytest.fixture(scope="module")
def shown() -> MemoryMap:
    return MemoryMap(device("5.16+11", "1T", before="5.16+0"))


def question(map_: MemoryMap, **more: object) -> dict:
    return {"seq": 7, "view": 2, "state": map_.state, "parts": list(PARTS), "bins": 500} | more


def test_it_begins_at_the_word_that_makes_a_tail(shown):
    assert shown.state == f"tree=5.16+11/pgmap=0/pfn={START + 1:#x}/word=1"


def test_an_answer_repeats_its_question_and_carries_the_strips(shown):
    answer, buffers = shown.answer(question(shown))
    assert (answer["kind"], answer["seq"], answer["view"]) == ("answer", 7, 2)
    assert set(PARTS) < set(answer)
    lanes = len(shown.model.tiles.lanes["roles"])
    after = np.frombuffer(buffers[answer["device"]["rows"][1][1]], np.uint32).reshape(500, lanes)
    assert int(after.sum()) == 1 << 28
    json.dumps(answer)


def test_only_what_is_wanted_is_sent(shown):
    answer, buffers = shown.answer(question(shown, parts=["page"]))
    assert not buffers and not set(answer) & {"device", "zoom", "run", "player"}


def test_a_far_click_keeps_the_page_of_the_compound(shown):
    far = f"tree=5.16+11/pgmap=0/pfn={START + 100_000:#x}/word=1"
    answer, _ = shown.answer(question(shown, state=far, parts=["run"], snap=1))
    assert answer["at"]["pfn"] == START + 100_000 // 512 * 512 + 1 and shown.shown.pfn == answer["at"]["pfn"]


@pytest.mark.parametrize(
    "wrong", [{"state": "nonsense"}, {"state": None}, {"bins": "x"}, {"bins": 0}, {"parts": None}, {"snap": "y"}]
)
def test_a_question_that_has_no_answer_is_told_so(shown, wrong):
    before = shown.state
    answer, buffers = shown.answer(question(shown, **wrong))
    assert answer["error"] and answer["state"] == before == shown.state and not buffers


def test_a_page_that_names_no_view_is_told_the_one_that_is_shown():
    map_ = MemoryMap(device("5.17", "4M"))
    map_.state = line = f"tree=5.17/pgmap=0/pfn={START + 513:#x}/word=6"
    answer, _ = map_.answer({"seq": 1, "view": 1, "parts": list(PARTS), "bins": 500})
    assert answer["state"] == line == map_.state and answer["page"]["pfn"] == START + 513


def test_pages_are_not_looked_at_anew_while_a_question_is_answered(monkeypatch):
    map_ = MemoryMap(device("5.17", "4M"))
    cell = Thread(target=map_.refresh)
    during = []

    def slow(*_):
        cell.start()
        cell.join(0.2)
        during.append(cell.is_alive())
        return {}, []

    monkeypatch.setattr(map_.model, "answer", slow)
    map_.answer(question(map_))
    cell.join(10)
    assert during == [True] and not cell.is_alive()


def test_it_is_small(shown):
    """What the browser gets before it asks: script, styles and facts."""
    sent = shown.get_state()
    assert len(json.dumps({name: str(value) for name, value in sent.items()}).encode()) < MOST_BYTES
    assert "export default" in str(sent["_esm"]) and "http://" not in str(sent["_esm"]).replace("http://www.w3.org", "")


def test_a_view_is_restored_from_its_line(shown):
    line = f"tree=5.16+11/pgmap=0/pfn={START + 513:#x}/word=6/layer=refcount"
    assert MemoryMap(device("5.16+11", "4M"), line).state == line
    shown.state = line
    assert shown.state == line
    with pytest.raises(WorkbenchError):
        shown.state = "tree=5.17/pgmap=0/pfn=0x100000"
    assert shown.state == line


def test_without_a_kernel_there_is_a_figure_and_a_text(shown):
    bundle, metadata = shown._repr_mimebundle_()
    figure = go.Figure({key: bundle[PLOTLY][key] for key in ("data", "layout")})
    caption, alt = description(figure)
    assert caption == metadata["caption"] and alt in bundle["text/plain"]
    assert "524,288 head" in bundle["text/plain"] and "compound_head" in repr(shown)


def test_a_single_array_is_drawn_on_five_scales():
    map_ = MemoryMap(device("6.1", "4G", map="dev"))
    caption, _ = description(map_.figure())
    assert "From the top: the device, one section" in caption
    ds = map_.dataset()
    assert ds.attrs["state"] == map_.state and int(ds.role_pages.sum()) == 1 << 20
    assert int(ds.zoom_pages.sum()) == 32768


def test_written_pages_are_shown_after_a_refresh():
    map_ = MemoryMap(device("5.17", "4M"))
    head = map_.model.array.writable(START, 1).pages
    raw = map_.answer(question(map_, parts=["run"]))[0]["run"]["columns"][0]["raw"][7]
    head[0, 7] = np.uint64(0xABC)
    map_.refresh()
    assert raw == "0" * 16 and map_.answer(question(map_, parts=["run"]))[0]["run"]["columns"][0]["raw"][7].endswith(
        "abc"
    )


@pytest.mark.parametrize("before", [None, "5.16+0"])
def test_a_poisoned_page_of_one_tebibyte_shows_when_told_where(before):
    map_ = MemoryMap(device("5.16+11", "1T", before=before))
    start, end = map_.model.tiles.start_pfn, map_.model.tiles.end_pfn
    pfn = (start + end) // 2 + 5
    map_.state = f"{map_.state}/layer=poison"

    def poisoned():
        answer, buffers = map_.answer(question(map_, parts=["device"], bins=100))
        strip = answer["device"]
        counts = np.frombuffer(buffers[strip["rows"][-1][1]], np.uint32).reshape(strip["bins"], -1)
        return np.flatnonzero(counts[:, 0]).tolist()

    assert poisoned() == []
    pages = map_.model.array.writable(pfn, 1).pages
    pages[pfn - map_.model.array.start_pfn, 0] |= np.uint64(map_.model.abi.flag("hwpoison"))
    map_.refresh([pfn])
    assert poisoned() == [50]
