# SPDX-License-Identifier: GPL-2.0-only
"""What the map says of struct pages, against the words of the specification and slow replays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.view.memory_map.support import SECTION, START, filled
from workbench.errors import WorkbenchError
from workbench.lab.trace import trace_init
from workbench.mm import PageArray
from workbench.series import kernel
from workbench.view.memory_map import Device, Model, State, device
from workbench.view.memory_map.model import PARTS
from workbench.view.memory_map.reference import source
from workbench.view.memory_map.runs import Run, run_at, shown_pfns, unlike
from workbench.view.memory_map.stores import init_stores, last_writers


@pytest.fixture(scope="module")
def pair() -> Model:
    return Model(device("5.16+11", "1G", before="5.16+0"))


def at(model: Model, pfn: int, **more: object) -> State:
    return model.require(State(model.kernel.name, 0, pfn, **more))  # type: ignore[arg-type]


# runs


def test_the_run_of_a_tail_is_its_compound():
    array = filled("5.17", SECTION)
    for page in (0, 1, 2, 3, 511):
        assert run_at(array, START + 512 + page) == Run(START + 512, 512, 9)
    assert shown_pfns(Run(START, 512, 9), START + 3) == [START + k for k in range(8)]
    assert shown_pfns(Run(START, 512, 9), START + 511)[-1] == START + 511
    assert unlike(array, Run(START, 512, 9)) == []


@pytest.mark.parametrize("name", ["5.17", "6.1", "6.12"])
def test_the_order_is_read_where_the_release_keeps_it(name):
    assert run_at(filled(name, 8 * SECTION, 18), START + 100_000) == Run(START, 1 << 18, 18)


def test_base_pages_come_by_subsections():
    assert run_at(filled("5.16+0", SECTION, 0), START + 700) == Run(START + 512, 512, -1)


def test_a_tail_of_a_head_that_is_gone_is_no_compound():
    array = filled("5.17", SECTION)
    array.writable(START, 2).pages[1, 2] = np.uint64(0xFFFFFFFF00000101)  # order 1: pages 2 and on are stray
    assert run_at(array, START + 1) == Run(START, 2, 1)
    assert run_at(array, START + 5) == Run(START, 512, -1)


def test_pages_unlike_the_others_are_found():
    array = filled("5.17", SECTION)
    array.writable(START, 512).pages[300, 0] |= np.uint64(array.kernel.abi.flag("hwpoison"))
    assert unlike(array, Run(START, 512, 9)) == [START + 300]


# who wrote a word


def test_writers_of_a_compound():
    array = filled("5.17", SECTION)
    stores = init_stores(array, run_at(array, START))
    assert stores is not None
    head, first, tail = (last_writers(array.words(START + page), START + page, [stores]) for page in (0, 1, 3))
    assert all(writer.certain for writer in head + first + tail)
    assert [writer.site for writer in head[:2]] == ["__SetPageHead", "__init_zone_device_page"]
    assert [writer.site for writer in first[1:4]] == ["prep_compound_tail", "prep_compound_head", "prep_compound_head"]
    assert [tail[word].site for word in (1, 3, 6)] == ["prep_compound_tail", "prep_compound_tail", "set_page_count"]


@pytest.mark.parametrize(("name", "shift"), [("5.16+0", 0), ("5.17", 18), ("6.1", 9), ("6.1", 18), ("6.12", 9)])
def test_a_replay_leaves_the_words_that_are_there(name, shift):
    array = filled(name, 8 * SECTION, shift)
    stores = init_stores(array, run_at(array, START))
    assert stores is not None
    for page in (0, 1, 2, 7, 8, 200, 511):
        assert all(writer.certain for writer in last_writers(array.words(START + page), START + page, [stores])), page


def test_a_write_off_the_record_is_not_ascribed_to_anyone(pair):
    array = filled("5.17", SECTION)
    array.writable(START, 8).pages[3, 4] = np.uint64(77)
    answer, _ = Model(Device(array)).answer(at(Model(Device(array)), START + 3), ["page"])
    by = [(word["by"], word["file"]) for word in answer["page"]["words"]]
    assert by[4] == ("something that is not on record", "")
    assert by[1] == ("prep_compound_tail()", "mm/page_alloc.c")


def test_files_follow_the_release():
    assert source("prep_compound_head", "6.1") == "mm/page_alloc.c"
    assert source("prep_compound_head", "6.12") == "mm/internal.h"
    assert source("not_a_function", "6.1") == ""


# parts


def test_words_of_the_first_tail(pair):
    answer, _ = pair.answer(at(pair, START + 513, word=1), PARTS, 400)
    assert answer["state"] == f"tree=5.16+11/pgmap=0/pfn={START + 513:#x}/word=1"
    run, page = answer["run"], answer["page"]
    assert (run["pfn"], run["pages"], run["fold"], run["alike"], len(run["columns"])) == (START + 512, 512, 504, 504, 8)
    assert [column["label"] for column in run["columns"][:4]] == ["head", "first tail", "second tail", "tail"]
    assert page["words"][1]["raw"] == f"{0xFFFFEA0000000000 + 64 * (START + 512) + 1:016x}"
    word = page["words"][1]
    assert word["marks"][0][0] == 0 and word["spans"][-1][:3] == ["tail", 0, 0] and "bit 0 set" in word["long"]
    assert page["said"] == f"pfn {START + 513:#x}, page 1 of a {run['text']}, first tail."


def test_an_answer_has_all_words_and_bits_of_the_page(pair):
    """What the browser draws without asking again must be what it would be told."""
    pages = [pair.answer(at(pair, START, word=word, bit=bit), ["page"])[0]["page"] for word, bit in ((0, 0), (6, 40))]
    assert pages[0] == pages[1]
    row = pair.array.words(START)
    assert [int(word["raw"], 16) for word in pages[0]["words"]] == row
    for word in pages[0]["words"]:
        covered = [bit for _, high, low, _ in word["spans"] for bit in range(low, high + 1)]
        assert sorted(covered) == sorted(set(covered)), "no bit belongs to two members"
    assert [name for name, *_ in pages[0]["words"][6]["spans"]] == ["_refcount", "_mapcount"]


def test_outlines_are_words_that_differ(pair):
    """5.16 leaves each page alone: tails get compound_head, TAIL_MAPPING or counts, and lose their reference."""
    answer, _ = pair.answer(at(pair, START + 1), ["run"])
    assert [column["differs"] for column in answer["run"]["columns"][:4]] == [[0], [1, 2, 3, 6], [1, 3, 6], [1, 3, 6]]
    assert answer["run"]["columns"][1]["before"][1] == "pgmap"


def test_strips_have_a_bin_a_pixel_and_count_every_page(pair):
    answer, buffers = pair.answer(at(pair, START + 1), ["device", "zoom"], 333)
    for part, pages in (("device", 1 << 18), ("zoom", SECTION)):
        strip = answer[part]
        assert strip["bins"] == 333 and [name for name, _ in strip["rows"]] == ["before", "after"]
        for _, buffer in strip["rows"]:
            assert buffers[buffer].dtype == np.uint32 and int(buffers[buffer].sum()) == pages
        assert buffers[strip["differs"]].shape == (333, 1)


def test_a_layer_of_one_array_alone_has_no_differences():
    shown = Model(device("5.16+11", "64M", before="5.16+0"))
    answer, _ = shown.answer(at(shown, START, layer="backing"), ["device", "zoom"], 100)
    for part in ("device", "zoom"):
        assert [name for name, _ in answer[part]["rows"]] == ["after"] and "differs" not in answer[part]


def test_a_page_of_the_fold_is_shown_beside_the_first_eight(pair):
    answer, _ = pair.answer(at(pair, START + 300), ["run"])
    assert [column["page"] for column in answer["run"]["columns"]] == [*range(8), 300]
    assert answer["run"]["fold"] == 503


# the player


def test_after_every_store_the_words_are_those_of_a_plain_replay(pair):
    operations = pair.operations(START)
    trace = operations[0].trace
    now = trace.before.values[:8].copy()
    for step in range(60):
        assert list(pair.scene(at(pair, START + 1, step=step)).rows.values()) == now.tolist(), step
        pfn, word = int(trace.pfn[step]) - START, int(trace.word[step])
        if pfn < 8:
            now[pfn, word] = trace.new.values[step]


def test_a_changed_word_keeps_its_old_value_in_sight(pair):
    trace = pair.operations(START)[0].trace
    step = int(np.flatnonzero((trace.site.values == "prep_compound_tail") & (trace.word.values == 1))[0]) + 1
    answer, _ = pair.answer(at(pair, START + 1, step=step), ["run", "player"])
    column = answer["run"]["columns"][1]
    assert (column["changed"], column["was"], column["short"][1]) == (1, "pgmap", "head | 1")
    assert answer["player"]["line"].startswith("prep_compound_tail(): pfn 0x100001 +8")
    assert pair.answer(at(pair, START + 1, step=step), ["page"])[0]["page"]["said"].startswith(f"Store {step} of ")


def test_the_selection_follows_the_store(pair):
    trace = pair.operations(START)[0].trace
    for step in (1, 30, 45):
        state = pair.following(at(pair, START + 1, step=step))
        assert (state.pfn, state.word) == (int(trace.pfn[step - 1]), int(trace.word[step - 1]))
    assert pair.following(at(pair, START + 1, step=0)).pfn == START + 1


def test_when_all_stores_are_made_the_words_are_as_they_are_now(pair):
    stores = len(pair.operations(START)[0])
    last = pair.answer(at(pair, START + 1, step=stores), ["run"])[0]["run"]["columns"]
    now = pair.answer(at(pair, START + 1), ["run"])[0]["run"]["columns"]
    assert [column["raw"] for column in last] == [column["raw"] for column in now]


def test_what_was_done_is_counted(pair):
    trace = pair.operations(START)[0].trace
    places = {(int(p), int(w)) for p, w in zip(trace.pfn.values[:40], trace.word.values[:40], strict=True)}
    done = pair.answer(at(pair, START + 1, step=40), ["player"])[0]["player"]["done"]
    assert done == f"words written {len(places)} · cache lines dirtied {len({p for p, _ in places})} · locked 0"


def test_a_recorded_operation_is_played_too():
    array = filled("5.17", SECTION)
    trace = trace_init(array.kernel, 512, 9)
    model = Model(Device(array, operations={"the same once more": trace}))
    state = at(model, START + 1, op=1, step=3)
    assert model.answer(state, ["player"])[0]["player"]["names"][1] == "the same once more"
    with pytest.raises(WorkbenchError, match="recorded on kernel 5.17"):
        Model(Device(filled("5.16+11", SECTION), operations={"x": trace}))


# refusals


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tree": "5.17"}, "Make a map of that kernel"),
        ({"pgmap": 1}, "pgmap=1"),
        ({"pfn": START - 1}, "not inside the device"),
        ({"layer": "colour"}, "no layer"),
        ({"zoom": (0, 9)}, "not inside the device"),
        ({"step": 999_999}, "stores here"),
        ({"op": 3, "step": 0}, "1 operations here"),
    ],
)
def test_refusals(pair, change, says):
    with pytest.raises(WorkbenchError, match=says):
        pair.require(replace(State("5.16+11", 0, START), **change))


def test_an_empty_array_has_nothing_to_show():
    with pytest.raises(WorkbenchError, match="no struct page exists"):
        Model(Device(PageArray(kernel("5.17"), START, SECTION)))
