# SPDX-License-Identifier: GPL-2.0-only
"""Fault, pin, unpin, poison and teardown in the trace player: each step by step to the real struct pages."""

from __future__ import annotations

import numpy as np
import pytest

from tests.view.memory_map.support import START
from workbench.lab.operations import OPERATIONS, Life, operations
from workbench.mm.events import Site
from workbench.view.memory_map import Device, MemoryMap, Model, State, device
from workbench.view.memory_map.reference import source

KERNELS = ("5.16+11", "5.16+0", "6.12")


@pytest.fixture(scope="module")
def lives() -> dict[str, Life]:
    return {name: operations(name) for name in KERNELS}


def state_of(model: Model, op: int, step: int, page: int = 0) -> State:
    return model.require(State(model.kernel.name, 0, START + page, op=op, step=step))


@pytest.mark.parametrize("name", KERNELS)
def test_each_is_played_to_the_real_struct_pages(lives, name):
    life = lives[name]
    model = Model(Device(life.machine.array, operations=life.traces))
    names = [one.name for one in model.operations(START)]
    assert [one.split(":")[0] for one in names[1:]] == list(life.traces)
    for op, trace in enumerate(life.traces.values(), 1):
        now = trace.before.values[:8].copy()
        stores = trace.sizes["store"]
        for step in range(stores + 1):
            if step < 8 or step > stores - 8:
                assert list(model.scene(state_of(model, op, step)).rows.values()) == now.tolist(), (op, step)
            if step < stores and (page := int(trace.pfn[step]) - START) < 8:
                now[page, int(trace.word[step])] = trace.new.values[step]
        np.testing.assert_array_equal(now, trace.after.values[:8])
    assert list(model.scene(state_of(model, 0, -1)).rows.values()) == life.machine.array.view(START, 8).tolist()


@pytest.mark.parametrize("name", KERNELS)
def test_every_word_has_a_writer_on_record(lives, name):
    life = lives[name]
    model = Model(Device(life.machine.array, operations=life.traces))
    for page in (0, 1, 2, 3, 511):
        words = model.answer(state_of(model, 0, -1, page), ["page"])[0]["page"]["words"]
        assert "something that is not on record" not in [word["by"] for word in words], page


def test_the_last_writers_of_a_head(lives):
    life = lives["5.16+11"]
    model = Model(Device(life.machine.array, operations=life.traces))
    words = model.answer(state_of(model, 0, -1), ["page"])[0]["page"]["words"]
    assert (words[0]["by"], words[0]["file"]) == ("SetPageHWPoison()", "include/linux/page-flags.h")
    assert (words[3]["by"], words[3]["file"]) == ("dax_set_mapping()", "drivers/dax/device.c")
    assert words[6]["by"] == "put_page_testzero()"


@pytest.mark.parametrize(("map", "align", "size"), [("mem", "2M", "1G"), ("dev", "2M", "1G"), ("mem", "4K", "64M")])
def test_examples_begin_with_the_words_that_the_device_has(map, align, size):
    shown = device("5.16+11", size, align, map, examples=True)
    assert shown.examples is not None
    fault = shown.examples["fault"]
    first = int(fault.page[0])
    np.testing.assert_array_equal(fault.before.values, shown.array.view(first, fault.sizes["page"]))
    model = Model(shown)
    assert [one.happened for one in model.operations(first)] == [True, *[False] * len(OPERATIONS)]
    for op in range(1, 1 + len(OPERATIONS)):
        stores = len(model.operations(first)[op])
        assert model.following(model.require(State("5.16+11", 0, first, op=op, step=stores))).pfn >= first
    words = model.answer(model.require(State("5.16+11", 0, first)), ["page"])[0]["page"]["words"]
    assert words[3]["by"] != "dax_set_mapping()"


def test_a_store_out_of_sight_takes_the_zoom_along():
    map_ = MemoryMap(device("5.16+11", "1G", before="5.16+0", examples=True))
    fault = map_.model.operations(START)[1].trace
    away = {"seq": 1, "view": 1, "parts": ["run"], "bins": 100, "follow": True}
    line = "tree=5.16+11/pgmap=0/pfn={:#x}/word=0/zoom={:#x}-{:#x}/op=1/step=1"
    stored = int(fault.pfn[0])
    for zoom, moved in (
        ((stored + 4096, stored + 4096 + 63), (stored - 32, stored + 31)),
        ((START, stored + 63), (START, stored + 63)),
    ):
        answer, _ = map_.answer(away | {"state": line.format(START + 1, *zoom)})
        assert (answer["at"]["pfn"], answer["at"]["lo"], answer["at"]["hi"] - 1) == (stored, *moved)
        assert ("zoom" in answer) == (zoom != moved)


def test_a_store_that_changes_nothing_says_so():
    shown = Model(device("5.16+11", "1G", examples=True))
    pin = shown.operations(START)[2].trace
    same = [int(new) == int(old) for new, old in zip(pin.new.values, pin.old.values, strict=True)]
    for step in (same.index(True), same.index(False)):
        state = shown.following(State("5.16+11", 0, START, op=2, step=step + 1))
        columns = shown.answer(state, ["run"])[0]["run"]["columns"]
        (column,) = [column for column in columns if column["pfn"] == int(pin.pfn[step])]
        assert (column["was"] == "as before") == same[step], step


def test_a_device_without_room_for_a_huge_page_has_no_examples():
    """The info block takes the first 2 MiB of a namespace."""
    assert device("5.16+11", "4M", "4K", examples=True).examples is not None
    assert device("5.16+11", "2560K", "4K", examples=True).examples is None


def test_every_function_that_stores_has_its_file():
    assert [site.c_name for site in Site if not source(site.c_name, "5.17")] == []
