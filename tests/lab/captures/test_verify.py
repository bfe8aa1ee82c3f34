# SPDX-License-Identifier: GPL-2.0-only
"""The recorded runs, done again: every state and case is as recorded, and a change of one value is found.

What there is to compare, and which pages count, is taken from the runs' own files and FORMAT.md.
"""

import copy
import json
import os
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.lab.captures.recorder import load, write
from workbench.lab import captures

CAPTURES = Path(os.environ.get("WORKBENCH_CAPTURES", Path(__file__).parents[3] / "data" / "captures"))
RUNS = sorted(path.parent.name for path in CAPTURES.glob("*/capture.json"))
OTHERS = "WORKBENCH_CAPTURES" in os.environ
"""Other runs were asked for than those that came with the project."""

STATES = {
    "k5.10-static-2M-dev": 20,
    "k5.10-static-2M-mem": 20,
    "k5.10-static-4K-mem": 19,
    "k5.15-index-2M": 10,
    "k5.15-static-2M-dev": 20,
    "k5.15-static-2M-mem": 20,
    "k5.17-index-2M": 10,
    "k5.17-lifecycle-2M": 10,
    "k5.17-overrun-1G": 1,
    "k5.17-static-1G-dev": 20,
    "k5.17-static-2M-mem": 20,
    "k5.17-static-4K-mem": 19,
    "k6.1-dynamic": 7,
    "k6.1-hugetlb-thp": 7,
    "k6.1-lifecycle-2M": 9,
    "k6.1-static-1G-mem": 20,
    "k6.1-static-2M-dev": 20,
    "k6.1-static-2M-mem": 20,
    "k6.1-static-4K-mem": 19,
    "k6.12-static-2M-mem": 20,
    "k6.1nodedup-static-2M-mem": 20,
}
"""Equal states of each run with struct pages."""
NOT_REPLAYABLE = {
    "k5.17-overrun-1G": ["created_1G_over_two_half_ranges"],
    "k6.1-hugetlb-thp": [
        *("thp_faulted", "thp_hwpoison_page9", "hugetlb2M_faulted", "hugetlb2M_hwpoison_page9", "hugetlb1G_faulted"),
    ],
    "k6.1-lifecycle-2M": ["reference_released"],
}
CASES = {
    "efi_fake_mem-stock": {"boot": 1},
    "k5.17-hwpoison-2M": {"hwpoison-2M": 16},
    "k6.1-errors": {
        "sysfs": 33,
        **{"mmap-4K": 40, "file-4K": 7, "vma-4K": 31, "gup-4K": 18},
        **{"mmap-2M": 52, "file-2M": 7, "vma-2M": 40, "gup-2M": 18},
        **{"mmap-1G": 52, "file-1G": 7, "vma-1G": 39, "gup-1G": 18},
    },
    "k6.1-frag-1G": {"frag-1G": 15},
    "k6.1-hwpoison-2M": {"hwpoison-2M": 16},
}
"""Equal cases of each other run, by group; one of vma-1G is not replayable."""


@cache
def recorded(name):
    return json.loads((CAPTURES / name / "capture.json").read_text(encoding="utf-8"))


@cache
def report(name):
    return captures.verify(captures.read(CAPTURES / name))


def recorded_states():
    return [(name, at) for name in RUNS for at, _ in enumerate(recorded(name).get("states", ()))]


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


@pytest.mark.parametrize("name", RUNS)
def test_every_run_passes_as_a_whole(name):
    """Nothing differs, nothing is out of reach, nothing is assumed; what was done after the last state included."""
    assert report(name).passed
    tallies = [state.results for state in report(name).states] + [report(name).trailing.results]
    assert [(tally.different, tally.assumed) for tally in tallies] == [(0, 0)] * len(tallies)


@pytest.mark.skipif(OTHERS, reason="other runs were asked for")
def test_states_and_cases_are_equal_in_these_numbers():
    equal = {name: Counter(s.status for s in report(name).states)["equal"] for name in RUNS}
    assert {name: number for name, number in equal.items() if number} == STATES
    left = {name: [s.name for s in report(name).states if s.status != "equal"] for name in RUNS}
    assert {name: states for name, states in left.items() if states} == NOT_REPLAYABLE
    groups = {name: Counter(c.group for c in report(name).cases if c.status == "equal") for name in RUNS}
    assert {name: dict(counts) for name, counts in groups.items() if counts} == CASES
    others = [(name, c.group, c.status) for name in RUNS for c in report(name).cases if c.status != "equal"]
    assert others == [("k6.1-errors", "vma-1G", "not-replayable")]


@pytest.mark.parametrize(("name", "at"), recorded_states())
def test_states_are_equal_byte_for_byte(name, at):
    on_record, replayed = recorded(name)["states"][at], report(name).states[at]
    assert replayed.name == on_record["state"]
    if not on_record["replayable"]:
        assert (replayed.status, replayed.pages.pages, replayed.pages.bytes_compared) == ("not-replayable", 0, 0)
        return
    assert (replayed.status, replayed.pages.bytes_different, replayed.first) == ("equal", 0, "")
    if "hugetlb" in name:  # ordinary memory: the page allocator's pages are what is compared
        assert replayed.pages.pages > 0
        return
    inside, mapped, outside = pages_of(recorded(name), on_record)
    assert replayed.pages.pages == len(inside) > 0
    assert replayed.pages.pages_left_out == len(outside)
    assert replayed.pages.bytes_compared == 64 * len(mapped)


@pytest.mark.parametrize("name", [name for name in RUNS if "cases" in recorded(name)])
def test_cases_are_reported_in_order_as_recorded(name):
    cases = recorded(name)["cases"]
    assert [(c.name, c.group, c.recorded) for c in report(name).cases] == [
        (c["name"], c["group"], c["result"]) for c in cases
    ]
    for on_record, replayed in zip(cases, report(name).cases, strict=True):
        assert (replayed.status == "not-replayable") == (not on_record["replayable"])
        if replayed.status == "equal" and "errno" in on_record["result"]:
            assert replayed.got["errno"] == on_record["result"]["errno"]


@pytest.mark.parametrize("name", [name for name in RUNS if recorded(name)["kind"] == "pages"])
def test_what_was_done_after_the_last_state_is_done_too(name):
    trailing = report(name).trailing
    actions = recorded(name)["trailing_actions"]
    assert trailing.actions == len(actions)
    assert trailing.results.compared >= sum("result" in a and a["op"] != "refused_in_user_space" for a in actions)


# a record with one value changed

PAGES, ERRORS = "k5.17-index-2M", "k6.1-hwpoison-2M"


def changed_states(change, folder, name=PAGES):
    """Names of the states that differ after ``change(capture, arrays)``."""
    capture, arrays = load(CAPTURES / name)
    change(capture, arrays)
    return [
        s.name for s in captures.verify(captures.read(write(folder, capture, arrays))).states if s.status != "equal"
    ]


@pytest.mark.parametrize("at", range(10))
def test_one_byte_of_one_page_is_found_in_its_state_only(at, tmp_path):
    state = recorded(PAGES)["states"][at]
    span = state["spans"][0]

    def change(_, arrays):
        arrays[span["array"]].view(np.uint8)[span["nr_pages"] // 2, at * 6] ^= 1 << at % 8

    assert changed_states(change, tmp_path) == [state["state"]]


def of_op(capture, op, what=None):
    """The actions of a kind, with the names of their states."""
    for state in capture["states"]:
        for action in state["actions"]:
            if action["op"] == op and action.get("what") == what:
                yield state["state"], action


RESULTS = {
    "value read": ("touch", None, lambda a: a["result"].update(value=a["result"]["value"] + 1)),
    "success": ("munmap", None, lambda a: a.update(result={"errno": "EINVAL"})),
    "address": ("mmap", None, lambda a: a["result"].update(addr_mod_align=4096)),
    "poisoned": ("madvise", None, lambda a: a.update(result={"errno": "EBUSY"})),
    "ranges": ("create_device", None, lambda a: a["result"]["ranges"][0].update(nr_pages=1)),
    "log line": ("observe", "kernel_log", lambda a: a["lines"].append("Memory failure: 0x1: nothing of the kind")),
    "counter": ("observe", "HardwareCorrupted_kB", lambda a: a.update(value=4)),
    "device": ("observe", "devices", lambda a: a["devices"]["dax0.1"].update(size=4096)),
}


@pytest.mark.parametrize("which", RESULTS)
def test_one_result_is_found_in_its_state_only(which, tmp_path):
    op, what, alter = RESULTS[which]
    where = []

    def change(capture, _):
        state, action = next(of_op(capture, op, what))
        alter(action)
        where.append(state)

    assert changed_states(change, tmp_path) == where


@pytest.mark.parametrize("member", ["signal", "code", "addr", "lsb", "mapping", "offset_in_mapping"])
def test_each_member_of_a_signal_counts(member, tmp_path):
    def change(capture, _):
        result = next(a["result"] for _, a in of_op(capture, "madvise") if "signal" in a["result"])
        result[member] = result[member] + 1 if isinstance(result[member], int) else "0x1000"

    assert changed_states(change, tmp_path) == ["hwpoison_unit0_next_unit_mapped"]


@pytest.mark.parametrize("at", range(16))
def test_another_result_of_one_case_is_found_in_it_only(at, tmp_path):
    capture = copy.deepcopy(recorded(ERRORS))
    case = capture["cases"][at]
    if "value" in case["result"]:
        case["result"]["value"] += 1
    elif "lines" in case["result"]:
        case["result"]["lines"].append("Memory failure: 0x1: nothing of the kind")
    else:
        case["result"] = {"ok": True} if "errno" in case["result"] else {"errno": "EXDEV"}
    cases = captures.verify(captures.read(write(tmp_path, capture, {}))).cases
    assert [c.name for c in cases if c.status != "equal"] == [case["name"]]


def test_all_recorded_runs_cover_releases_aligns_and_maps():
    if OTHERS:
        pytest.skip("other runs were asked for")
    for kernel in ("5.10", "5.15", "5.17", "6.1", "6.12", "6.1nodedup"):
        assert any(name.startswith(f"k{kernel}-static") for name in STATES)
    for geometry in ("4K-mem", "2M-mem", "1G-mem", "2M-dev", "1G-dev", "dynamic", "lifecycle-2M", "index-2M"):
        assert any(name.endswith(f"-{geometry}") for name in STATES)
