# SPDX-License-Identifier: GPL-2.0-only
"""The recorded runs against the engine: what must be equal is, and nothing else passes.

What must be equal, and which pages count, is taken from the runs' own files and FORMAT.md.
"""

import json
import os
import re
import time
from functools import cache
from pathlib import Path

import pytest

from workbench.lab import captures

CAPTURES = Path(os.environ.get("WORKBENCH_CAPTURES", Path(__file__).parents[3] / "data" / "captures"))
RUNS = sorted(path.parent.name for path in CAPTURES.glob("*/capture.json"))
MUST_BE_EQUAL = re.compile(r"online|mmapped_untouched|boot_default_2M|dyn_.+")
INITIALISED_ANEW = {"rebound", "multirange_2M", "shrunk_512M"}
"""States that follow faults and pins, whose pages a binding initialised again."""
CHANGES_PAGES = {"touch", "pin", "unpin", "get", "put", "madvise", "hard_offline_page"}


@cache
def recorded(name):
    return json.loads((CAPTURES / name / "capture.json").read_text(encoding="utf-8"))


@cache
def report(name):
    return captures.verify(captures.read(CAPTURES / name))


def of_kind(kind):
    return [name for name in RUNS if recorded(name)["kind"] == kind]


def recorded_states(which):
    return [(name, s["state"]) for name in of_kind("pages") for s in recorded(name)["states"] if which(s)]


def pages_of(capture, state):
    """(pages in memory devices are made of, those of them with a struct page, pages elsewhere), each counted once."""
    boot = capture["states"][0]["actions"][0]
    memory = [
        range(int(m["start"], 16) >> 12, int(m["end"], 16) >> 12)
        for m in boot.get("persistent_memory", []) + boot.get("soft_reserved", [])
    ]
    inside, mapped, outside = set(), set(), set()
    for span in state["spans"]:
        start = int(span["pfn"], 16)
        for pfn in range(start, start + span["nr_pages"]):
            if any(pfn in stretch for stretch in memory):
                inside.add(pfn)
                mapped |= {pfn} if span["mapped"] else set()
            else:
                outside.add(pfn)
    return inside, mapped, outside


def find(name, state):
    at = next(i for i, s in enumerate(recorded(name)["states"]) if s["state"] == state)
    return recorded(name)["states"][at], report(name).states[at]


@pytest.mark.parametrize(("name", "state"), recorded_states(lambda s: MUST_BE_EQUAL.fullmatch(s["state"])))
def test_fresh_pages_are_equal_byte_for_byte(name, state):
    on_record, replayed = find(name, state)
    inside, mapped, outside = pages_of(recorded(name), on_record)
    assert replayed.status == "equal"
    assert (replayed.pages.bytes_different, replayed.results.different, replayed.first) == (0, 0, "")
    assert replayed.pages.pages == len(inside) > 0
    assert replayed.pages.pages_left_out == len(outside)
    assert replayed.pages.bytes_compared == 64 * len(mapped)


def test_each_release_align_and_map_is_among_them():
    """At least what came with the project; more runs may lie there."""
    if "WORKBENCH_CAPTURES" in os.environ:
        pytest.skip("other runs were asked for")
    names = {name for name, _ in recorded_states(lambda s: MUST_BE_EQUAL.fullmatch(s["state"]))}
    for kernel in ("5.10", "5.15", "5.17", "6.1", "6.12", "6.1nodedup"):
        assert any(name.startswith(f"k{kernel}-") for name in names)
    for geometry in ("4K-mem", "2M-mem", "1G-mem", "2M-dev", "1G-dev", "dynamic", "lifecycle-2M"):
        assert any(name.endswith(f"-{geometry}") for name in names)


@pytest.mark.parametrize("name", of_kind("pages"))
def test_nothing_passes_that_the_engine_does_not_reach(name):
    for on_record, replayed in zip(recorded(name)["states"], report(name).states, strict=True):
        state = on_record["state"]
        assert replayed.name == state
        if not on_record["replayable"]:
            expected = "not-replayable"
        elif MUST_BE_EQUAL.fullmatch(state) or state in INITIALISED_ANEW:
            expected = "equal"
        else:
            expected = "not-yet"
        assert replayed.status == expected, state
        if expected != "equal":
            assert replayed.pages.pages == replayed.pages.bytes_compared == 0


@pytest.mark.parametrize(("name", "state"), recorded_states(lambda s: s["state"] in INITIALISED_ANEW))
def test_pages_that_are_equal_after_faults_were_initialised_anew(name, state):
    """A binding of the device comes after the last action that changes pages, and no other was changed."""
    states = recorded(name)["states"]
    at = next(i for i, s in enumerate(states) if s["state"] == state)
    actions = [action for s in states[: at + 1] for action in s["actions"]]
    device_of = {a["result"]["mapping"]: a.get("device") for a in actions if a["op"] == "mmap" and "ok" in a["result"]}
    changed = [(when, device_of.get(a.get("mapping"))) for when, a in enumerate(actions) if a["op"] in CHANGES_PAGES]
    bound = [
        (when, a.get("device") or a["result"]["device"])
        for when, a in enumerate(actions)
        if a["op"] in ("bind", "create_device") and a["result"].get("ok")
    ]
    assert {device for _, device in changed} <= {bound[-1][1], None}
    assert all(when < bound[-1][0] for when, _ in changed)
    assert find(name, state)[1].pages.bytes_different == 0


@pytest.mark.parametrize("name", of_kind("errors"))
def test_every_case_of_an_errors_run_is_reported_and_none_passes(name):
    cases = recorded(name)["cases"]
    assert [(c.name, c.group, c.recorded) for c in report(name).cases] == [
        (c["name"], c["group"], c["result"]) for c in cases
    ]
    for on_record, replayed in zip(cases, report(name).cases, strict=True):
        assert replayed.status == ("not-yet" if on_record["replayable"] else "not-replayable")
        assert replayed.got is None


@pytest.mark.parametrize("name", of_kind("boot"))
def test_a_boot_run_is_reported_action_by_action(name):
    actions = recorded(name)["actions"]
    assert [(c.name, c.recorded, c.status) for c in report(name).cases] == [
        (a["op"], a["result"], "not-yet") for a in actions
    ]


@pytest.mark.parametrize("name", RUNS)
def test_no_run_passes_as_a_whole_yet(name):
    """Each holds something out of reach or taken from the record; the exit status says so."""
    assert not report(name).passed


def test_all_recorded_runs_take_seconds():
    report(RUNS[-1])  # kernels are compiled
    start = time.process_time()
    for name in RUNS:
        captures.verify(captures.read(CAPTURES / name))
    assert time.process_time() - start < 10


@pytest.mark.parametrize("name", of_kind("pages"))
def test_what_was_done_after_the_last_state_is_replayed(name):
    """Every result is compared or assumed, and none differs; all that the dynamic run changed was bound anew."""
    actions = recorded(name)["trailing_actions"]
    trailing = report(name).trailing
    assert trailing.actions == len(actions)
    assert trailing.results.different == 0
    assert trailing.results.compared + trailing.results.assumed >= sum("result" in action for action in actions)
    if name == "k6.1-dynamic":
        assert trailing.reached
