# SPDX-License-Identifier: GPL-2.0-only
"""Runs of the captures' form from kernels, aligns, sizes and places that were not recorded.

Each is made by :mod:`tests.lab.captures.recorder` with the naive model's struct pages, and must replay
equal; where it must not, the reason is in the test's name.
"""

import pytest

from tests.lab.captures.recorder import FAMILIES, GIB, KIB4, MIB, Run
from workbench.lab import captures

REGION = (4 * GIB, 12 * GIB)
"""Soft-reserved memory as the recorded machines have it."""


def replay(run, folder):
    return captures.verify(captures.read(run.write(folder)))


def statuses(report):
    return {state.name: state.status for state in report.states}


def states(report):
    return {state.name: state for state in report.states}


def assert_equal(report, *names):
    """Every named state (default: every one) is equal in every byte and result, and something was compared."""
    for state in report.states:
        if not names or state.name in names:
            assert state.first == ""
            assert (state.status, state.pages.bytes_different, state.results.different) == ("equal", 0, 0)
            assert state.pages.pages > 0


def static_run(family, start, size, align, map):
    run = Run(family, f"k{family}-static")
    run.boot_persistent((start, start + size + 64 * MIB))
    data, end = run.create_namespace(size, align, map)
    first = start >> 12
    spans = [(first - 64, 64), (first, 256), (first + (data - first) // 2, 64), (data - 128, 128), (data, 256)]
    spans += [(data + min(align // 4096, 512), 64), (end - 256, 256), (end - 8, 8), (end, 128)]
    run.state("online", spans)
    run.map("dax0.0")
    run.state("mmapped_untouched", spans)
    return run, len(spans)


def test_a_namespace_is_made_again_after_it_was_destroyed(tmp_path):
    run = Run("6.1")
    run.boot_persistent((5 * GIB, 9 * GIB))
    run.create_namespace(GIB, 2 * MIB, "mem")
    run.state("online", [(5 << 18, 64)])
    run.do("disable_namespace", {"ok": True})
    run.do("destroy_namespace", {"ok": True})
    run.machine.unbind(run.devices["dax0.0"][0])
    run.state("destroyed", [(5 << 18, 64)])
    data, _ = run.create_namespace(GIB, KIB4, "dev")
    run.state("again", [(5 << 18, 64), (data, 64)])
    assert_equal(replay(run, tmp_path))


@pytest.mark.parametrize("map", ["mem", "dev"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("start", "size", "align"),
    [
        (5 * GIB, 3 * GIB + 18 * MIB, GIB),
        (5 * GIB + 2 * MIB, 64 * MIB + KIB4, 2 * MIB),
        (5 * GIB, 64 * MIB + 12 * KIB4, 2 * MIB),
        (5 * GIB + 6 * MIB, 64 * MIB + 12 * KIB4, KIB4),
    ],
)
def test_the_end_of_a_namespace_is_cut_where_its_region_is_no_multiple(family, map, start, size, align, tmp_path):
    """Without labels a namespace is its whole region, of any size; user space checks the size only with labels."""
    run = Run(family, "k-cut")
    run.boot_persistent((start, start + size))
    data, end = run.create_namespace(size, align, map, labels=False)
    assert end << 12 < start + size
    run.state("online", [(start >> 12, 64), (data, 64), (end - 64, 64), (end, 8)])
    assert_equal(replay(run, tmp_path))


def test_with_labels_a_size_that_is_no_multiple_is_refused(tmp_path):
    run = Run("6.1")
    run.boot_persistent((5 * GIB, 9 * GIB))
    run.do("init_labels", {"ok": True})
    run.do("create_namespace", {"errno": "EINVAL"}, size=GIB + 2 * MIB, align=2 * MIB, map="mem")
    run.do("create_namespace", {"errno": "ENOSPC"}, size=8 * GIB, align=2 * MIB, map="mem")
    run.state("refused", [(5 << 18, 64)])
    report = replay(run, tmp_path)
    assert_equal(report)
    assert report.states[0].results.compared == 4


def test_two_soft_reserved_regions(tmp_path):
    """Each has its default device; memory between them is not theirs."""
    run = Run("6.1")
    run.boot_soft_reserved((4 * GIB, 5 * GIB), (6 * GIB, 7 * GIB))
    run.log(0x40000, 0x40000)
    run.state("boot", run.around("dax0.0") + run.around("dax1.0") + [(0x158000, 8)])
    run.unbind("dax1.0")
    run.state("second unbound", run.around("dax0.0") + run.around("dax1.0"))
    report = replay(run, tmp_path)
    assert_equal(report)
    assert states(report)["boot"].pages.pages_left_out == 8 * 5


def one_device(family="6.1"):
    run = Run(family)
    run.boot_soft_reserved(REGION)
    run.empty_the_first()
    run.create_device("dax0.1", [(0x100000, 0x4000)], 2 * MIB)
    return run


SPANS = [(0x100000, 1536), (0x103E00, 512)]


def test_a_pgmap_may_change_with_a_binding_but_not_within_one(tmp_path):
    run = one_device()
    run.state("online", SPANS)
    run.unbind("dax0.1")
    run.bind("dax0.1")
    run.state("rebound", SPANS)
    first, second = (int(run.arrays[f"{at:02d}.{name}.span0"][0, 1]) for at, name in ((0, "online"), (1, "rebound")))
    assert first != second
    assert_equal(replay(run, tmp_path / "two"))
    for words in run.arrays.values():
        words[words[:, 1] == second, 1] = first
    assert_equal(replay(run, tmp_path / "the same again"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size": 8 * GIB - 4096}, "size"),
        ({"align": KIB4}, "align"),
        ({"device": "dax1.0"}, "device"),
        ({"ranges": []}, "ranges"),
        ({"another": 1}, "another"),
    ],
)
def test_a_wrong_result_of_boot_is_found(change, named, tmp_path):
    run = Run("6.1")
    run.boot_soft_reserved(REGION)
    run.actions[0]["result"] |= change
    run.state("boot_default_2M", run.around("dax0.0"))
    (state,) = replay(run, tmp_path).states
    assert (state.status, state.results.different, state.pages.bytes_different) == ("different", 1, 0)
    assert state.first.startswith(f"boot: {named}")


@pytest.mark.parametrize(
    "change",
    [
        {"device_size": GIB},
        {"data_start_pfn": "0x140400"},
        {"end_pfn": "0x180200"},
        {"namespace_start_pfn": "0x140200"},
        {"pages_per_compound": 1},
        {"pages_per_align_unit": 1},
        {"ok": False},
        {"ranges": []},
    ],
)
def test_a_wrong_result_of_create_namespace_is_found(change, tmp_path):
    run, _ = static_run("6.1", 5 * GIB, GIB, 2 * MIB, "mem")
    action = next(a for a in run.capture["states"][0]["actions"] if a["op"] == "create_namespace")
    action["result"] |= change
    report = replay(run, tmp_path)
    assert statuses(report) == {"online": "different", "mmapped_untouched": "equal"}
    assert report.states[0].results.different == 1
    assert report.states[0].first.startswith(f"create_namespace: {next(iter(change))}")


def test_remarks_and_inference_are_no_results(tmp_path):
    run, _ = static_run("6.1", 5 * GIB, GIB, 2 * MIB, "mem")
    for action in run.capture["states"][0]["actions"]:
        action["note"] = "a remark"
        action["result"] |= {"inferred": True, "note": "a remark"}
    assert_equal(replay(run, tmp_path))


@pytest.mark.parametrize("map", ["mem", "dev"])
def test_the_device_of_a_namespace_is_observed_without_its_metadata(map, tmp_path):
    run, _ = static_run("6.1", 5 * GIB, GIB, 2 * MIB, map)
    created = next(a for a in run.capture["states"][0]["actions"] if a["op"] == "create_namespace")["result"]
    seen = {"size": created["device_size"], "align": 2 * MIB, "ranges": created["ranges"]}
    run.do("observe", what="devices", devices={"dax0.0": seen})
    run.state("observed", [(5 << 18, 64)])
    report = replay(run, tmp_path)
    assert_equal(report)
    assert (report.states[-1].results.compared, report.states[-1].results.assumed) == (1, 0)


def test_nothing_after_an_unknown_op_is_passed(tmp_path):
    run = one_device()
    run.state("before it", SPANS)
    run.do("an_op_of_tomorrow", {"ok": True})
    run.state("after it", SPANS)
    run.unbind("dax0.1")
    run.bind("dax0.1")
    run.state("initialised anew", SPANS)
    found = statuses(replay(run, tmp_path))
    assert found == {"before it": "equal", "after it": "not-yet", "initialised anew": "not-yet"}


def test_a_device_goes_where_there_is_room_not_where_the_record_has_it(tmp_path):
    run = one_device()
    run.create_device("dax0.2", [(0x102000, 0x4000)], 2 * MIB)
    run.state("overlap", SPANS)
    (state,) = replay(run, tmp_path).states
    assert state.status == "different"
    assert state.results.first.startswith("create_device: ranges")
