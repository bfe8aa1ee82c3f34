# SPDX-License-Identifier: GPL-2.0-only
"""Actions that have not the form, or contradict themselves: refused with a message, or a difference; never a crash."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.captures.recorder import GIB, KIB4, MIB
from tests.lab.captures.synth import Session
from workbench.errors import WorkbenchError
from workbench.lab.captures.replay import Replay
from workbench.series import kernel

WRONG = (None, True, "", "x", "0x10", -1, 0, 3, 1 << 70, 1.5, [], ["x"], {}, {"x": 1})
ABSENT = object()


def sound_actions():
    """One of nearly every op, on a device of 64 MiB."""
    run = Session("6.1")
    run.boot_soft_reserved((4 * GIB, 5 * GIB))
    run.unbind("dax0.0")
    run.empty_the_first()
    run.create_device("dax0.1", [(0x100000, 0x4000)], 2 * MIB)
    run.watch([(0x100000, 1536)])
    run.open("dax0.1", "h1")
    run.mmap("dax0.1", "h1", "m1", 6 * MIB)
    run.touch("m1", 0, True, 3, 2 * MIB)
    run.walk("m1", 0)
    run.pagemap("m1", 0, 2)
    run.smaps("m1")
    run.mmap("dax0.1", "h1", "m2", 2 * MIB, fixed=True)
    run.do("fork", {"ok": True}, process="p0", child="p1")
    run.do("exit", {"ok": True}, process="p1")
    run.pin("m1", 0, 4, "h2")
    run.unpin("h2")
    run.get("m1", 0, 2, "h3")
    run.put("h3")
    run.readv("m1", 0, 2)
    run.madvise_hwpoison("m1", 9 * KIB4)
    run.fail_by_another("hard_offline_page", "dax0.1", 0x100300)
    run.fail_by_another("corrupt_pfn", "dax0.1", 0x100300)
    run.unpoison("dax0.1", 0x100300)
    run.do("read_struct_pages", {"pages_with_flag": [0]}, pfn="0x100200", nr_pages=4, flag="hwpoison")
    run.do("mprotect", {"ok": True}, process="p0", **run.where("m1", 0), length=2 * MIB, prot="r")
    run.do("make_file", file="f1", length=4096)
    run.do("open", {"ok": True}, process="p0", file="f1", handle="h5")
    buffer = run.where("m1", 4 * MIB)
    run.do("read", {"ok": True, "value": 4096}, process="p0", handle="h5", length=4096, buffer=buffer)
    run.munmap("m1")
    run.close("h1")
    run.unbind("dax0.1")
    run.resize("dax0.1", [(0x100000, 0x2000)])
    run.do("region_create", {"ok": True})
    run.do("read_seed", {"value": "dax0.2"})
    run.do("set_align", {"ok": True}, device="dax0.2", align=KIB4)
    run.do("add_range", {"ok": True, "size": 2 * MIB}, device="dax0.2", start="0x110000000", last="0x1101fffff")
    run.do("bind", {"ok": True}, device="dax0.2")
    return run.actions


ACTIONS = sound_actions()


def replayed(actions):
    replay = Replay(kernel("6.1"))
    replay.do_all(actions)
    return replay


def test_the_actions_are_sound_to_begin_with():
    assert replayed(ACTIONS).tally.first == ""
    assert replayed(ACTIONS).tally.compared > 40


def places(value, path=()):
    """Every member of a JSON value, those inside it included."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in inside:
        yield (*path, key)
        yield from places(member, (*path, key))


PLACES = [path for path in places(ACTIONS) if len(path) > 1 and path[-1] != "op"]


@settings(max_examples=150)
@given(st.sampled_from(PLACES), st.sampled_from((*WRONG, ABSENT)))
def test_any_member_of_another_value_is_refused_or_a_difference(path, wrong):
    actions = copy.deepcopy(ACTIONS[: path[0] + 2])
    holder = actions
    for key in path[:-1]:
        holder = holder[key]
    if wrong is ABSENT:
        del holder[path[-1]]
    else:
        holder[path[-1]] = wrong
    try:
        replayed(actions)
    except WorkbenchError as refusal:
        assert str(refusal).isprintable()
        assert len(str(refusal)) < 900


@pytest.mark.parametrize(
    ("op", "arguments", "message"),
    [
        ("touch", {"write": True, "addr": "0x7f0000000000", "count": 1 << 40, "stride": 1}, "count"),
        ("touch", {"write": True}, "no addr"),
        ("touch", {"addr": 5, "write": True}, "addr 5"),
        ("pin", {"via": "AF_XDP UMEM", "addr": "0x7f0000000000", "nr_pages": 1 << 50}, "nr_pages"),
        ("pin", {"via": "a wish", "addr": "0x7f0000000000", "nr_pages": 1}, "a wish"),
        ("mmap", {"handle": "h77", "length": 1, "offset": 0, "prot": "rw", "flags": []}, "handle h77"),
        ("mmap", {"handle": "h1", "length": 1, "offset": 0, "prot": "q", "flags": []}, "prot 'q'"),
        ("mmap", {"handle": "h1", "length": 1, "offset": 0, "prot": "rw", "flags": ["NONE"]}, "flags 'NONE'"),
        ("madvise", {"addr": "0x7f0000000000", "length": 1, "advice": "TALK"}, "advice 'TALK'"),
        ("touch", {"write": True, "addr": "0xfffffffffffff000", "count": 9, "stride": KIB4}, "no addresses"),
        ("touch", {"write": True, "addr": "0x7f0000000000", "count": 0, "stride": 1}, "count 0"),
        ("unpin", {"handle": "h1", "dirty": True}, "handle h1"),
        ("resize_device", {"device": "dax0.1", "size": 1 << 70}, "size 1180591620717411303424"),
        ("read_smaps", {}, "maps nothing"),
        ("read_pagemap", {"addr": "0x7f0000000000", "count": -1}, "count"),
        ("open", {"file": "never made", "handle": "h9"}, "file never made"),
        ("boot", {"soft_reserved": []}, "second time"),
    ],
)
def test_what_nothing_can_be_done_with_is_named(op, arguments, message):
    at = next(i for i, action in enumerate(ACTIONS) if action["op"] == "mmap")
    with pytest.raises(WorkbenchError, match=message):
        replayed([*ACTIONS[:at], {"op": op, "process": "p0", "result": {"ok": True}} | arguments])


def test_an_action_before_the_boot_is_refused():
    with pytest.raises(WorkbenchError, match="comes before the boot"):
        replayed([{"op": "bind", "device": "dax0.0", "result": {"ok": True}}])


def test_nothing_is_told_after_an_unknown_op():
    replay = replayed([*ACTIONS[:3], {"op": "an_op_of_tomorrow", "result": {"ok": True}}, *ACTIONS[3:]])
    assert not replay.knows()
    assert replay.tally.compared == replayed(ACTIONS[:3]).tally.compared
