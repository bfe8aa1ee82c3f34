# SPDX-License-Identifier: GPL-2.0-only
"""What verifying gives to programs and to people, and when a run passes."""

import json

import numpy as np
import pytest

from tests.lab.captures.recorder import GIB, MIB, Run, write
from workbench.lab import captures

STATE_KEYS = [
    *("name", "status", "pages", "pages_left_out", "bytes_compared", "bytes_different"),
    *("results", "results_different", "results_assumed"),
]
CASE_KEYS = ["name", "group", "status", "recorded", "got"]


def run():
    """An equal state, one with a changed bit, one out of reach and one that cannot be replayed."""
    run = Run("6.1", "k-report")
    run.boot_persistent((5 * GIB, 9 * GIB))
    data, end = run.create_namespace(GIB, 2 * MIB, "mem")
    spans = [((5 << 18) - 64, 64), (data, 1200), (end, 8)]
    run.state("online", spans)
    run.map("dax0.0")
    run.state("mmapped_untouched", spans)
    run.do("an_op_of_tomorrow", {"ok": True})
    run.state("fault_read_first", spans)
    run.state("oops", spans, replayable=False, reason="kernel oops")
    run.arrays["01.mmapped_untouched.span1"][3, 6] ^= np.uint64(1 << 32)
    return run


@pytest.fixture
def reports(tmp_path):
    errors = run().capture | {
        "kind": "errors",
        "name": "k-errors",
        "cases": [
            {
                "name": "mmap PRIVATE",
                "group": "mmap-2M",
                "replayable": replayable,
                "before": [],
                "action": {"op": "an_op_of_tomorrow"},
                "result": {"errno": "EINVAL"},
            }
            for replayable in (True, True, False)
        ],
    }
    boot = run().capture | {
        "kind": "boot",
        "name": "k-boot",
        "actions": [{"op": "an_op_of_tomorrow", "result": {"devices": [1]}}, {"op": "observe"}],
    }
    folders = [run().write(tmp_path), write(tmp_path / "errors", errors, {}), write(tmp_path / "boot", boot, {})]
    return [captures.verify(captures.read(folder)) for folder in folders]


def test_json_has_exactly_the_promised_form(reports):
    content = json.loads(json.dumps(captures.as_json(reports)))
    assert list(content) == ["captures"]
    assert [list(capture) for capture in content["captures"]] == [["name", "states", "cases"]] * 3
    pages, errors, boot = content["captures"]
    assert [pages["name"], errors["name"], boot["name"]] == ["k-report", "k-errors", "k-boot"]
    assert all(list(state) == STATE_KEYS for state in pages["states"])
    assert all(list(case) == CASE_KEYS for case in errors["cases"] + boot["cases"])
    assert pages["cases"] == errors["states"] == boot["states"] == []


def test_json_of_states(reports):
    """1,208 pages of the namespace and behind it, 8 of which have no struct page; 64 in ordinary memory."""
    online, mapped, faulted, oops = captures.as_json(reports)["captures"][0]["states"]
    assert list(online.values()) == ["online", "equal", 1208, 64, 1200 * 64, 0, 3, 0, 0]
    assert list(mapped.values()) == ["mmapped_untouched", "different", 1208, 64, 1200 * 64, 1, 2, 0, 0]
    assert list(faulted.values()) == ["fault_read_first", "not-yet", 0, 0, 0, 0, 0, 0, 0]
    assert list(oops.values()) == ["oops", "not-replayable", 0, 0, 0, 0, 0, 0, 0]


def test_json_of_cases(reports):
    _, errors, boot = captures.as_json(reports)["captures"]
    refusal = {"errno": "EINVAL"}
    reached = ["mmap PRIVATE", "mmap-2M", "not-yet", refusal, None]
    assert [list(case.values()) for case in errors["cases"]] == [
        reached,
        reached,
        ["mmap PRIVATE", "mmap-2M", "not-replayable", refusal, None],
    ]
    assert [list(case.values()) for case in boot["cases"]] == [
        ["an_op_of_tomorrow", "boot", "not-yet", {"devices": [1]}, None],
        ["observe", "boot", "not-yet", {}, None],
    ]


def test_text_is_one_line_a_state_and_names_the_first_difference(reports):
    lines = list(captures.as_text(reports))
    assert [line.split()[:2] for line in lines] == [
        ["k-report:", "kernel"],
        ["equal", "online"],
        ["different", "mmapped_untouched"],
        ["pfn", "0x140203"],
        ["not-yet", "fault_read_first"],
        ["not-replayable", "oops"],
        ["k-errors:", "kernel"],
        ["not-replayable", "1"],
        ["not-yet", "2"],
        ["k-boot:", "kernel"],
        ["not-yet", "2"],
    ]
    assert "1,208 pages, 64 left out, 0 bytes differ; results 3 compared, 0 differ, 0 assumed" in lines[1]
    assert "1,208 pages, 64 left out, 1 bytes differ" in lines[2]
    assert "_refcount 1" in lines[3] and "_refcount 0" in lines[3]


def test_what_is_never_compared_is_listed_as_promised():
    assert captures.NOT_COMPARED == (
        "milliseconds in log lines",
        "nr_foll_pin_*",
        "page-table frames",
        "user addresses beyond their residue",
        "memory_kB",
    )


def passing_run():
    run = Run("6.1")
    run.boot_persistent((5 * GIB, 9 * GIB))
    data, _ = run.create_namespace(GIB, 2 * MIB, "mem")
    return run, [(data, 8)]


ADDR = "0x7f0000000000"
RANDOM_BYTE = (
    ("open", {"ok": True}, {"process": "p0", "device": "dax0.0", "mode": "rw", "handle": "h1"}),
    (
        "mmap",
        {"ok": True, "addr": ADDR, "mapping": "m1", "addr_mod_align": 0},
        {"process": "p0", "handle": "h1", "length": 2 * MIB, "offset": 0, "prot": "rw", "flags": ["SHARED"]},
    ),
    ("make_file", None, {"file": "f1", "length": 4096}),
    ("open", {"ok": True}, {"process": "p0", "file": "f1", "handle": "h2"}),
    (
        "read",
        {"ok": True, "value": 4096},
        {"process": "p0", "handle": "h2", "length": 4096, "buffer": {"mapping": "m1", "addr": ADDR}},
    ),
    ("touch", {"ok": True, "value": 77}, {"process": "p0", "addr": ADDR, "mapping": "m1", "write": False}),
)
"""Bytes of a random file are read into device memory, and one of them is read there: nobody can tell its value."""


def passed(run, folder):
    return captures.verify(captures.read(run.write(folder))).passed


def test_a_run_passes_only_if_all_was_computed_and_is_equal(tmp_path):
    run, spans = passing_run()
    run.state("online", spans)
    assert passed(run, tmp_path)
    run.state("oops", spans, replayable=False)
    assert passed(run, tmp_path)
    run.do("an_op_of_tomorrow", {"ok": True})
    run.state("later", spans)
    assert not passed(run, tmp_path)  # not yet


def test_a_different_byte_is_no_pass(tmp_path):
    run, spans = passing_run()
    run.state("online", spans)
    run.arrays["00.online.span0"][7, 7] = 1
    assert not passed(run, tmp_path)


@pytest.mark.parametrize("replayable", [True, False])
def test_a_different_result_is_no_pass_where_a_state_is_replayable(replayable, tmp_path):
    run, spans = passing_run()
    run.actions[-1]["result"]["device_size"] += 4096
    run.state("online", spans, replayable=replayable)
    assert passed(run, tmp_path) == (not replayable)


@pytest.mark.parametrize("replayable", [True, False])
def test_an_assumed_result_is_no_pass_where_a_state_is_replayable(replayable, tmp_path):
    run, spans = passing_run()
    for op, result, arguments in RANDOM_BYTE:
        run.do(op, result, **arguments)
    run.state("online", spans, replayable=replayable)
    assert passed(run, tmp_path) == (not replayable)


def test_a_case_out_of_reach_is_no_pass(reports):
    assert [report.passed for report in reports] == [False, False, False]
    reports[1].cases = [case for case in reports[1].cases if case.status == "not-replayable"]
    assert reports[1].passed


# what was done after the last state


def trailing_run(*actions):
    """A run that passes, and then something."""
    run, spans = passing_run()
    run.state("online", spans)
    for op, result, arguments in actions:
        run.do(op, result, **arguments)
    run.capture["trailing_actions"], run.actions = run.actions, []
    return run


LOG = "memmap_init_zone_device initialised {} pages in 5ms"


def log_of(nr_pages):
    return "observe", None, {"what": "kernel_log", "lines": [LOG.format(nr_pages)]}


TRAILING = {
    "nothing": ((), True, None),
    "computed": ((log_of(0x40000),), True, "1 actions, reached; results 1 compared, 0 differ, 0 assumed"),
    "different": ((log_of(0x40001),), False, "1 actions, reached; results 1 compared, 1 differ, 0 assumed"),
    "assumed": (RANDOM_BYTE, False, "6 actions, reached; results 5 compared, 0 differ, 1 assumed"),
    "not understood": (
        (("an_op_of_tomorrow", {"ok": True}, {"process": "p0"}),),
        False,
        "1 actions, not reached; results 0 compared, 0 differ, 0 assumed",
    ),
    "not understood, without a result": (
        (("an_op_of_tomorrow", None, {}),),
        False,
        "1 actions, not reached; results 0 compared, 0 differ, 0 assumed",
    ),
}


@pytest.mark.parametrize("what", TRAILING)
def test_what_was_done_after_the_last_state_counts(what, tmp_path):
    actions, passes, line = TRAILING[what]
    report = captures.verify(captures.read(trailing_run(*actions).write(tmp_path)))
    assert report.passed == passes
    lines = [text.strip() for text in captures.as_text([report]) if text.startswith("  trailing")]
    assert [" ".join(text.split()).replace(" after the last state or case", "") for text in lines] == (
        [f"trailing {line}"] if line else []
    )
    (content,) = captures.as_json([report])["captures"]
    assert list(content) == ["name", "states", "cases"]
    assert [state["name"] for state in content["states"]] == ["online"]


def test_the_first_difference_after_the_last_state_is_named(tmp_path):
    report = captures.verify(captures.read(trailing_run(log_of(77)).write(tmp_path)))
    assert "initialised 77 pages" in list(captures.as_text([report]))[-1]


def test_what_follows_the_cases_is_not_reached(tmp_path):
    case = {
        "name": "c",
        "group": "g",
        "replayable": False,
        "before": [],
        "action": {"op": "an_op_of_tomorrow"},
        "result": {},
    }
    capture = trailing_run(log_of(77)).capture | {"kind": "errors", "cases": [case]}
    report = captures.verify(captures.read(write(tmp_path / "errors", capture, {})))
    assert not report.passed
    assert list(captures.as_text([report]))[-1] == (
        "  trailing       1 actions after the last state or case, not reached; results 0 compared, 0 differ, 0 assumed"
    )


def test_a_run_may_leave_its_trailing_actions_out(tmp_path):
    run = trailing_run()
    del run.capture["trailing_actions"]
    assert passed(run, tmp_path)


def test_the_summary_counts_what_was_assumed_after_the_last_state(tmp_path):
    run = trailing_run(*RANDOM_BYTE)
    report = captures.verify(captures.read(run.write(tmp_path)))
    assert captures.summary([report]).endswith("; 1 results assumed.")
