# SPDX-License-Identifier: GPL-2.0-only
"""Runs of the captures' form from kernels, aligns, sizes and places that were not recorded.

Each is made by :mod:`tests.lab.captures.recorder` with the naive model's struct pages, and must replay
equal; where it must not, the reason is in the test's name.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.captures.recorder import COMPOUND, FAMILIES, GIB, KIB4, MIB, Run
from workbench.errors import WorkbenchError
from workbench.lab import captures

ALIGNS = (KIB4, 2 * MIB, GIB)
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


# static: a namespace on persistent memory


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


@pytest.mark.parametrize("map", ["mem", "dev"])
@pytest.mark.parametrize("align", ALIGNS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_namespace_of_every_family_align_and_map(family, align, map, tmp_path):
    run, _ = static_run(family, 5 * GIB, 4 * GIB if align == GIB else GIB, align, map)
    report = replay(run, tmp_path)
    assert_equal(report)
    for state in report.states:
        # 1,224 distinct pages in the device, 64 before it in ordinary memory; 128 behind it have no struct page.
        assert state.pages.pages_left_out == 64
        assert state.pages.bytes_compared == 64 * (state.pages.pages - 128)


@settings(max_examples=12)
@given(
    family=st.sampled_from(FAMILIES),
    start=st.integers(513, 3000),
    size=st.integers(17, 500),
    cut=st.integers(0, 511),
    align=st.sampled_from((KIB4, 2 * MIB)),
    map=st.sampled_from(("mem", "dev")),
)
def test_a_namespace_of_any_size_at_any_place(family, start, size, cut, align, map, tmp_path_factory):
    """Starts at odd subsections, ends that are cut to the align (end_trunc), partial sections."""
    run, _ = static_run(family, start * 2 * MIB, size * 2 * MIB + cut * KIB4, align, map)
    assert_equal(replay(run, tmp_path_factory.mktemp("run")))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_namespace_with_1g_align_off_a_1g_boundary_with_an_altmap(family, tmp_path):
    """Its data begin at a boundary, and so do its compounds; 64 MiB at its end are cut off."""
    run, _ = static_run(family, 5 * GIB + 576 * MIB, 3 * GIB - 512 * MIB, GIB, "dev")
    assert_equal(replay(run, tmp_path))


@pytest.mark.parametrize("family", ["5.10", "6.1", "6.12"])
def test_a_namespace_with_1g_align_off_a_1g_boundary_in_ram(family, tmp_path):
    """Compounds are counted from the namespace's start, so no head lies at a boundary."""
    run, _ = static_run(family, 5 * GIB + 512 * MIB, 3 * GIB + 512 * MIB, GIB, "mem")
    assert_equal(replay(run, tmp_path))


def test_a_refused_namespace_compares_its_errno(tmp_path):
    for number, (size, recorded, status) in enumerate(
        [
            (2 * MIB, {"errno": "ENXIO"}, "equal"),
            (2 * MIB, {"errno": None}, "equal"),
            (2 * MIB, {"ok": False}, "equal"),
            (2 * MIB, {"errno": "EINVAL"}, "different"),
            (64 * GIB, {"ok": False, "errno": None}, "equal"),
            (GIB, {"errno": None}, "different"),
        ]
    ):
        run = Run("6.1", f"refused{number}")
        run.boot_persistent((5 * GIB, 9 * GIB))
        run.do("create_namespace", recorded, size=size, align=2 * MIB, map="mem")
        run.state("online", [(5 << 18, 16)])
        assert statuses(replay(run, tmp_path)) == {"online": status}, size


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


def test_a_second_namespace_beside_the_first_is_not_reached(tmp_path):
    run = Run("6.1")
    run.boot_persistent((5 * GIB, 9 * GIB))
    run.create_namespace(GIB, 2 * MIB, "mem")
    run.do("create_namespace", {"ok": True, "device": "dax0.1"}, size=GIB, align=2 * MIB, map="mem")
    run.state("two", [(5 << 18, 64)])
    assert statuses(replay(run, tmp_path)) == {"two": "not-yet"}


# dynamic: devices in a soft-reserved region


def dynamic_run(family, bound=True, told=True):
    """The recorded dynamic run, its refused stores included, up to the third device and a multi-range one."""
    run = Run(family, f"k{family}-dynamic")
    run.boot_soft_reserved(REGION, bound=bound)
    if bound:
        run.log(2097152)
    run.state("boot_default_2M", run.around("dax0.0"))
    if bound:
        run.do("set_size", {"errno": None}, device="dax0.0", size=4 * GIB)
        run.do("unbind", {"ok": True}, device="dax0.0")
        run.machine.unbind(run.devices["dax0.0"][0])
    else:  # 6.12: the first stores succeed, and nobody tells the ranges
        run.do("set_size", {"ok": True}, device="dax0.0", size=4 * GIB)
        run.do("set_align", {"ok": True}, device="dax0.0", align=KIB4)
        run.do("unbind", {"errno": None}, device="dax0.0")
        run.observe_devices()
    run.do("set_align", {"errno": None}, device="dax0.0", align=8192)
    run.do("set_size", {"ok": True}, device="dax0.0", size=0)
    run.devices["dax0.0"] = ([], 2 * MIB)
    run.do("bind", {"errno": "ENXIO"}, device="dax0.0")
    run.create_device("dax0.1", [(0x100000, 0x40000)], 2 * MIB, told)
    run.create_device("dax0.2", [(0x140000, 0x40000)], GIB, told)
    run.create_device("dax0.3", [(0x180000, 0x4000)], KIB4, told)
    failed = {"ok": False, "errno": None, "failed_step": "set_size", "device": "dax0.4"}
    run.do("create_device", failed, size=512 * MIB, align=GIB)
    run.devices["dax0.4"] = run.devices["dax0.5"] = ([], 2 * MIB)
    run.observe_devices("dax0.4", "dax0.5")
    run.log(0x40000, 0x4000)
    for name, align in (("dax0.1", 2 * MIB), ("dax0.2", GIB), ("dax0.3", KIB4)):
        run.state(f"dyn_{name}_align{align}", run.around(name))
    run.log(0x40000)
    run.unbind("dax0.1")
    run.do("destroy_device", {"ok": True}, device="dax0.1")
    run.devices["dax0.1"] = ([], 2 * MIB)
    run.create_device("dax0.4", [(0x100000, 0x40000), (0x184000, 0x80000)], 2 * MIB, told)
    run.observe_devices("dax0.1")
    run.log(0x40000, 0x80000)
    run.state("multirange_2M", run.around("dax0.4"))
    return run


@pytest.mark.parametrize("told", [True, False], ids=["ranges told", "ranges observed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_dynamic_run_of_every_family(family, told, tmp_path):
    """On 6.12 nothing binds the region's default device after boot: its spans have no struct pages."""
    run = dynamic_run(family, bound=family != "6.12", told=told)
    report = replay(run, tmp_path)
    assert_equal(report)
    boot = states(report)["boot_default_2M"].pages
    assert (boot.bytes_compared == 0) == (family == "6.12")


@pytest.mark.parametrize("family", FAMILIES)
def test_after_a_pin_only_what_is_bound_anew_is_known(family, tmp_path):
    run = dynamic_run(family)
    run.map("dax0.4")
    run.touch("dax0.4")
    run.do("pin", {"ok": True}, process="p0", via="AF_XDP UMEM", handle="h2", mapping="m1", nr_pages=4, flags=[])
    spans = run.around("dax0.4")
    run.state("multirange_2M_faulted_pinned_across_boundary", spans)
    run.state("the other devices", [(0x140000, 64), (0x180000, 64)])
    run.do("unpin", {"ok": True}, process="p0", via="AF_XDP UMEM", handle="h2", dirty=True)
    run.do("munmap", {"ok": True}, process="p0", mapping="m1", offset_in_mapping=0)
    run.do("set_size", {"errno": None}, device="dax0.4", size=4 * GIB)
    run.unbind("dax0.4")
    run.state("unbound", run.around("dax0.4"))
    run.resize("dax0.4", [(0x100000, 0x40000), (0x184000, 0xC0000)])
    run.bind("dax0.4")
    run.observe_devices("dax0.4")
    run.unbind("dax0.4")
    run.resize("dax0.4", [(0x100000, 0x20000)])
    run.bind("dax0.4")
    run.observe_devices("dax0.4")
    run.log(0xC0000, 0x20000)
    run.state("shrunk_512M", run.around("dax0.4"))
    report = replay(run, tmp_path)
    assert_equal(report, "shrunk_512M", "the other devices")
    found = statuses(report)
    assert found["multirange_2M_faulted_pinned_across_boundary"] == "not-yet"
    assert found["unbound"] == "not-yet"


@pytest.mark.parametrize("op", ["resize_device", "set_size"])
def test_a_size_whose_ranges_are_only_observed_after_the_binding(op, tmp_path):
    run = Run("6.1")
    run.boot_soft_reserved(REGION)
    run.unbind("dax0.0")
    run.resize("dax0.0", [(0x100000, 0x20000)], told=False, op=op)
    run.bind("dax0.0")
    run.log(0x20000)
    run.state("ranges not told", run.around("dax0.0"))
    run.observe_devices("dax0.0")
    run.state("ranges observed", run.around("dax0.0"))
    report = replay(run, tmp_path)
    assert statuses(report) == {"ranges not told": "not-yet", "ranges observed": "equal"}


def test_a_device_touched_before_its_ranges_are_observed_stays_unknown(tmp_path):
    run = Run("6.1")
    run.boot_soft_reserved(REGION)
    run.unbind("dax0.0")
    run.resize("dax0.0", [(0x100000, 0x20000)], told=False)
    run.bind("dax0.0")
    run.map("dax0.0")
    run.touch("dax0.0")
    run.observe_devices("dax0.0")
    run.state("touched", run.around("dax0.0"))
    assert statuses(replay(run, tmp_path)) == {"touched": "not-yet"}


def test_new_devices_ranges_and_names_as_the_attributes_give_them(tmp_path):
    """region_create, read_seed, set_align, add_range and bind instead of the management command."""
    run = Run("6.12")
    run.boot_soft_reserved(REGION, bound=False)
    run.empty_the_first()
    run.do("region_create", {"ok": True})
    run.do("read_seed", {"value": "dax0.1"})
    run.do("set_align", {"ok": True}, device="dax0.1", align=GIB)
    run.do("set_align", {"errno": "EINVAL"}, device="dax0.1", align=8192)
    run.do("add_range", {"ok": True, "size": GIB}, device="dax0.1", start="0x140000000", last="0x17fffffff")
    run.do("add_range", {"errno": None}, device="dax0.1", start="0x180100000", last="0x1800fffff")
    run.do("add_range", {"ok": True, "size": 2 * GIB}, device="dax0.1", start="0x200000000", last="0x23fffffff")
    run.do("refused_in_user_space", {"ok": False}, device="dax0.1", align=KIB4, note="nothing reached the kernel")
    run.devices["dax0.1"] = ([(0x140000, 0x40000), (0x200000, 0x40000)], GIB)
    run.bind("dax0.1")
    run.state("bound", run.around("dax0.1"))
    run.do("refused_in_user_space", {"ok": False}, device="dax0.1", align=KIB4)
    run.state("still bound", run.around("dax0.1"))
    run.unbind("dax0.1")
    run.do("delete_device", {"ok": True}, device="dax0.1")
    run.observe_devices(removed=["dax0.1"])
    run.state("deleted", run.around("dax0.1"))
    assert_equal(replay(run, tmp_path))


def test_memory_of_a_device_that_is_gone_is_known_once_another_has_it(tmp_path):
    run = Run("6.1")
    run.boot_soft_reserved(REGION)
    run.map("dax0.0")
    run.touch("dax0.0")
    run.unbind("dax0.0")
    run.state("unbound", run.around("dax0.0"))
    run.devices["dax0.0"] = ([], 2 * MIB)
    run.do("set_size", {"ok": True, "inferred": True}, device="dax0.0", size=0)
    run.create_device("dax0.1", [(0x100000, 0x4000)], 2 * MIB)
    run.state("another", [(0x100000, 512)])
    run.state("where none is yet", [(0x110000, 64)])
    found = statuses(replay(run, tmp_path))
    assert found == {"unbound": "not-yet", "another": "equal", "where none is yet": "not-yet"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("start_pfn", [0x100200, 0x106600, 0x10FE00])
def test_a_device_of_64_mib_at_an_odd_place_of_a_section(family, start_pfn, tmp_path):
    """Partial sections: the struct pages beside the device are there only as far as it reaches."""
    run = Run(family)
    run.boot_soft_reserved(REGION)
    run.empty_the_first()
    run.create_device("dax0.1", [(start_pfn, 0x4000)], 2 * MIB)
    run.create_device("dax0.2", [(start_pfn + 0x4000, 0x200)], KIB4)
    run.state("both", run.around("dax0.1") + run.around("dax0.2"))
    run.unbind("dax0.1")
    run.do("delete_device", {"ok": True}, device="dax0.1")
    run.state("one", run.around("dax0.1") + run.around("dax0.2"))
    assert_equal(replay(run, tmp_path))


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


# a 1 GiB device over ranges that are not whole GiB


@pytest.mark.parametrize("family", FAMILIES)
def test_1g_over_half_ranges_where_the_neighbour_comes_later(family, tmp_path):
    """The last compound of a range may reach into a neighbour, which is initialised after it."""
    run = Run(family)
    run.boot_soft_reserved(REGION)
    run.empty_the_first()
    if family in ("5.17", "6.1nodedup"):  # the whole compound is initialised: what it reaches must exist
        run.create_device("dax0.2", [(0x120000, 0x20000)], 2 * MIB)
    run.create_device("dax0.1", [(0x100000, 0x20000)], GIB)
    run.create_device("dax0.3", [(0x140000, 0x8000)], 2 * MIB)
    run.state("overrun", run.around("dax0.1") + run.around("dax0.3") + [(0x13FFC0, 64), (0x120000, 512)])
    report = replay(run, tmp_path)
    assert_equal(report)


@pytest.mark.parametrize("family", FAMILIES)
def test_1g_over_a_half_range_beside_a_device_that_is_there(family, tmp_path):
    """5.17 overwrites the neighbour with tails; with deduplication 128 pages are written, and it stays whole."""
    run = Run(family)
    run.boot_soft_reserved(REGION)
    run.empty_the_first()
    run.create_device("dax0.2", [(0x120000, 0x40000)], 2 * MIB)
    run.create_device("dax0.1", [(0x100000, 0x20000)], GIB)
    run.state("overrun", [*run.around("dax0.1"), *run.around("dax0.2"), (0x13FE00, 1024)])
    tails = run.arrays["00.overrun.span6"][:, 1].tolist()
    overwritten = set(tails) == {0xFFFFEA0000000000 + 64 * 0x100000 + 1}
    assert overwritten == (family in ("5.17", "6.1nodedup"))
    assert_equal(replay(run, tmp_path))


@pytest.mark.parametrize("family", ["5.17", "6.1nodedup"])
def test_1g_over_the_end_of_all_struct_pages_cannot_be_bound(family, tmp_path):
    """The kernel dies there; a record that says it went well differs, and nothing after it is known."""
    run = Run(family)
    run.boot_soft_reserved(REGION)
    run.empty_the_first()
    run.create_device("dax0.1", [(0x100000, 0x20000)], GIB)
    run.state("survived", [(0x100000, 64)])
    run.unbind("dax0.1")
    run.create_device("dax0.2", [(0x140000, 0x20000)], 2 * MIB)
    run.state("later", run.around("dax0.2"))
    report = replay(run, tmp_path)
    assert statuses(report) == {"survived": "different", "later": "not-yet"}
    assert "page fault" in report.states[0].first


def test_a_killed_binding_leaves_everything_unknown_until_it_is_bound_anew(tmp_path):
    run = Run("5.17")
    run.boot_soft_reserved(REGION)
    run.empty_the_first()
    run.create_device("dax0.1", [(0x100000, 0x20000)], 2 * MIB)
    run.state("before", run.around("dax0.1"))
    run.do("create_device", {"killed": True, "kernel_log": ["BUG"]}, size=GIB, align=GIB)
    run.log(12345)
    run.state("killed", run.around("dax0.1"))
    run.unbind("dax0.1")
    run.bind("dax0.1")
    run.state("anew", [(0x100000, 64)])
    run.state("beside it", run.around("dax0.1"))
    report = replay(run, tmp_path)
    expected = {"before": "equal", "killed": "not-yet", "anew": "equal", "beside it": "not-yet"}
    assert statuses(report) == expected


# what makes states unknown, and for how long


def one_device(family="6.1"):
    run = Run(family)
    run.boot_soft_reserved(REGION)
    run.empty_the_first()
    run.create_device("dax0.1", [(0x100000, 0x4000)], 2 * MIB)
    return run


SPANS = [(0x100000, 1536), (0x103E00, 512)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lifecycle_of_every_family(family, tmp_path):
    run = one_device(family)
    run.state("online", SPANS)
    run.map("dax0.1")
    run.touch("dax0.1")
    run.state("touched3", SPANS)
    run.do("munmap", {"ok": True}, process="p0", mapping="m1", offset_in_mapping=0)
    run.do("close", {"ok": True}, process="p0", handle="h-m1")
    run.state("closed", SPANS)
    run.unbind("dax0.1")
    run.bind("dax0.1")
    run.state("rebound", SPANS)
    run.map("dax0.1", "m2")
    run.do("get", {"ok": True, "nr_pages": 1}, via="vmsplice", mapping="m2", handle="h9", nr_pages=1)
    run.state("vmsplice_before_teardown", SPANS)
    run.do("unbind", {"started": True}, device="dax0.1", background=True)
    run.state("teardown_requested_while_page_referenced", SPANS)
    run.do("close_pipe_end", {"ok": True}, handle="h9")
    run.do("put", {"ok": True}, handle="h9")
    run.do("observe", what="unbind_finished", value=True)
    run.state("reference_released", SPANS, replayable=family not in ("6.1", "6.12"))
    run.machine.unbind([(0x100000, 0x4000)])
    run.bind("dax0.1")
    run.state("bound again", SPANS)
    report = replay(run, tmp_path)
    assert_equal(report, "online", "rebound", "bound again")
    found = statuses(report)
    assert found["reference_released"] == ("not-replayable" if family in ("6.1", "6.12") else "not-yet")
    others = found.keys() - {"online", "rebound", "bound again", "reference_released"}
    assert {found[name] for name in others} == {"not-yet"}


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


NOT_UNDERSTOOD = (
    *("touch", "madvise", "mlock", "mremap", "mprotect", "read", "write", "fallocate", "ftruncate", "fsync"),
    *("pin", "unpin", "get", "put", "process_vm_readv"),
    *("hard_offline_page", "soft_offline_page", "corrupt_pfn", "unpoison_pfn", "an_op_of_tomorrow"),
)
CHANGES_NO_STRUCT_PAGE = (
    *("fork", "exit", "wait", "make_file", "open", "close", "munmap"),
    *("read_pagemap", "read_smaps", "read_kpageflags", "read_struct_pages"),
)


@pytest.mark.parametrize("op", NOT_UNDERSTOOD)
def test_what_is_not_understood_is_never_passed(op, tmp_path):
    run = one_device()
    run.do(op, {"ok": True}, process="p0")
    run.state("after it", SPANS)
    run.state("and later", SPANS)
    run.unbind("dax0.1")
    run.bind("dax0.1")
    run.state("initialised anew", SPANS)
    found = statuses(replay(run, tmp_path))
    assert found == {"after it": "not-yet", "and later": "not-yet", "initialised anew": "equal"}


@pytest.mark.parametrize("op", CHANGES_NO_STRUCT_PAGE)
def test_what_changes_no_struct_page_keeps_a_state_known(op, tmp_path):
    """FORMAT.md, section 6, and the reads of /proc."""
    run = one_device()
    run.do(op, None if op in ("wait", "make_file") else {"ok": True}, process="p0")
    run.state("after it", SPANS)
    assert_equal(replay(run, tmp_path))


@pytest.mark.parametrize("flags", [("SHARED", "POPULATE"), ("SHARED", "LOCKED"), ("SHARED", "0x8000")])
def test_a_mapping_that_may_be_filled_at_once_is_not_understood(flags, tmp_path):
    run = one_device()
    run.map("dax0.1", flags=flags)
    run.state("mapped", SPANS)
    assert statuses(replay(run, tmp_path)) == {"mapped": "not-yet"}


def test_a_state_that_is_not_replayable_makes_all_later_ones_unknown(tmp_path):
    run = one_device()
    run.state("oops", SPANS, replayable=False, reason="kernel oops")
    run.state("after it", SPANS)
    run.unbind("dax0.1")
    run.bind("dax0.1")
    run.state("initialised anew", SPANS)
    report = replay(run, tmp_path)
    assert statuses(report) == {"oops": "not-replayable", "after it": "not-yet", "initialised anew": "equal"}
    assert report.states[0].pages.pages == 0


def test_ordinary_huge_pages_are_not_replayable_then_not_yet(tmp_path):
    """A machine without device memory: the allocator's image, then a pin, then an action that changes nothing."""
    run = Run("6.1", "k-hugetlb-thp")
    run.do("boot", {"ok": True}, hugepages_2M=16, hugepages_1G=2)
    run.do("mmap", {"ok": True, "addr": "0x7f0000000000", "mapping": "m1"}, process="p0", length=2 * MIB)
    run.state("thp_faulted", [(0x104E00, 512)], replayable=False, reason="allocator state")
    run.do("pin", {"ok": True}, process="p0", handle="h1", mapping="m1")
    run.state("thp_pinned512", [(0x104E00, 512)])
    run.state("nothing_done", [(0x104E00, 512)])
    found = statuses(replay(run, tmp_path))
    assert found == {"thp_faulted": "not-replayable", "thp_pinned512": "not-yet", "nothing_done": "not-yet"}


# results


def test_the_kernel_log_tells_how_many_pages_were_initialised(tmp_path):
    run = one_device()
    run.log(2097152, 0x4000)
    run.state("right", SPANS)
    run.log(0x4000)
    run.state("once too often", SPANS)
    run.log(0x4001)
    run.state("wrong number", SPANS)
    run.do("observe", what="kernel_log", lines=["usb 1-1: new device", "memmap_init_zone_device had a good day"])
    run.state("other lines", SPANS)
    report = replay(run, tmp_path)
    assert statuses(report) == {
        "right": "equal",
        "once too often": "different",
        "wrong number": "different",
        "other lines": "equal",
    }
    assert states(report)["right"].results.compared == 4  # the boot's result, the device seen and two lines
    assert "16385 initialised pages" in states(report)["wrong number"].first


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


def test_a_recorded_binding_that_did_not_happen_is_found_in_the_pages(tmp_path):
    run = Run("6.1")
    run.boot_soft_reserved(REGION)
    run.actions[0]["result"]["bound"] = False
    run.state("boot_default_2M", [(0x100000, 16)])
    (state,) = replay(run, tmp_path).states
    assert (state.status, state.pages.bytes_different) == ("different", 16 * 64)
    assert state.first == "pfn 0x100000: recorded a struct page, engine none"


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


def test_what_is_taken_from_the_record_is_counted_and_no_pass(tmp_path):
    run = Run("6.1")
    run.boot_persistent((5 * GIB, 9 * GIB))
    data, _ = run.create_namespace(GIB, 2 * MIB, "mem")
    run.actions = [action for action in run.actions if action["op"] != "init_labels"]
    run.state("online", [(data, 16)])
    report = replay(run, tmp_path)
    assert (report.states[0].results.compared, report.states[0].results.assumed) == (2, 0)
    assert report.passed
    run.do("set_size", {"errno": None}, device="dax0.0", size=GIB)
    run.state("later", [(data, 16)])
    report = replay(run, tmp_path)
    assert statuses(report) == {"online": "equal", "later": "equal"}
    assert report.states[1].results.assumed == 1
    assert not report.passed


# what is seen of devices


def test_ranges_taken_from_an_observation_are_assumed(tmp_path):
    """The size store and the binding tell no ranges: three words of the record, the observation one of them."""
    for told, assumed in ((True, 2), (False, 3)):
        run = Run("6.1", f"told-{told}")
        run.boot_soft_reserved(REGION)
        run.unbind("dax0.0")
        run.state("unbound", [(0x100000, 8)])
        run.resize("dax0.0", [(0x100000, 0x20000)], told=told)
        run.bind("dax0.0")
        run.observe_devices("dax0.0")
        run.state("bound", [(0x100000, 512)])
        report = replay(run, tmp_path)
        assert_equal(report, "bound")
        tally = states(report)["bound"].results
        assert (tally.compared, tally.assumed) == (int(told), assumed)


def test_a_device_that_was_never_heard_of_is_assumed(tmp_path):
    run = one_device()
    run.state("online", SPANS)
    run.devices["dax0.7"] = ([], 2 * MIB)
    run.observe_devices("dax0.7")
    run.observe_devices("dax0.7")
    run.state("seen", SPANS)
    tally = states(replay(run, tmp_path))["seen"].results
    assert (tally.compared, tally.assumed) == (1, 1)


@pytest.mark.parametrize("change", [{"align": KIB4}, {"size": 32 * MIB}, {"ranges": []}])
def test_a_bound_device_is_observed_as_the_engine_has_it(change, tmp_path):
    run = one_device()
    run.state("online", SPANS)
    run.observe_devices("dax0.1")
    run.state("same", SPANS)
    run.observe_devices("dax0.1")
    run.actions[-1]["devices"]["dax0.1"] |= change
    run.state("other", SPANS)
    run.observe_devices("dax0.1")
    run.state("same again", SPANS)
    report = replay(run, tmp_path)
    assert statuses(report) == {"online": "equal", "same": "equal", "other": "different", "same again": "equal"}
    other = states(report)["other"]
    assert (other.results.compared, other.results.different, other.results.assumed) == (1, 1, 0)
    assert other.first.startswith(f"observe: dax0.1 {next(iter(change))}")


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


def test_what_is_seen_of_a_device_after_something_not_understood_is_assumed(tmp_path):
    """Whatever it was may have given the device other memory; a binding then takes the memory seen."""
    run = one_device()
    run.do("an_op_of_tomorrow", {"ok": True})
    run.machine.unbind([(0x100000, 0x4000)])
    run.devices["dax0.1"] = ([(0x110000, 0x4000)], 2 * MIB)
    run.observe_devices("dax0.1")
    run.state("moved", [(0x110000, 512)])
    run.unbind("dax0.1")
    run.bind("dax0.1")
    run.state("bound anew", [(0x110000, 512)])
    assert statuses(replay(run, tmp_path)) == {"moved": "not-yet", "bound anew": "equal"}


def test_a_device_touched_before_its_ranges_are_observed_stays_unknown_itself(tmp_path):
    run = Run("6.1")
    run.boot_soft_reserved(REGION)
    run.unbind("dax0.0")
    run.resize("dax0.0", [(0x100000, 0x20000)], told=False)
    run.bind("dax0.0")
    run.map("dax0.0")
    run.touch("dax0.0")
    run.observe_devices("dax0.0")
    run.state("touched", [(0x100000, 512)])
    assert statuses(replay(run, tmp_path)) == {"touched": "not-yet"}


def test_a_device_touched_and_unbound_before_its_ranges_are_told_leaves_all_unknown(tmp_path):
    """Nobody knows which memory it was; a device elsewhere is known once it is bound anew."""
    run = one_device()
    run.create_device("dax0.2", [(0x110000, 0x4000)], 2 * MIB)
    run.unbind("dax0.2")
    run.resize("dax0.2", [(0x120000, 0x4000)], told=False)
    run.bind("dax0.2")
    run.map("dax0.2")
    run.touch("dax0.2")
    run.unbind("dax0.2")
    run.state("unbound", SPANS)
    run.unbind("dax0.1")
    run.bind("dax0.1")
    run.state("bound anew", SPANS)
    assert statuses(replay(run, tmp_path)) == {"unbound": "not-yet", "bound anew": "equal"}


# the log, when not every initialisation was seen


def unseen_binding():
    """A device is bound to ranges nobody tells, and unbound again."""
    run = one_device()
    run.unbind("dax0.1")
    run.resize("dax0.1", [(0x100000, 0x20000)], told=False)
    run.bind("dax0.1")
    run.unbind("dax0.1")
    run.resize("dax0.1", [(0x100000, 0x4000)])
    run.bind("dax0.1")
    return run


def test_the_log_may_tell_of_a_binding_whose_ranges_nobody_told(tmp_path):
    run = unseen_binding()
    run.log(0x1C000, 0x4000)
    run.log(0x4000, 0x4000)  # late, and the rest of the unseen one
    run.state("after it", SPANS)
    (state,) = replay(run, tmp_path).states
    assert (state.status, state.results.different) == ("equal", 0)


@pytest.mark.parametrize("lines", [(0x20001,), (0x20000, 0x20000), (0x1C000, 0x4001)])
def test_the_log_tells_of_no_more_pages_than_that_binding_had(lines, tmp_path):
    run = unseen_binding()
    run.log(*lines)
    run.state("after it", SPANS)
    (state,) = replay(run, tmp_path).states
    assert (state.status, state.results.different) == ("different", 1)


def test_lines_are_compared_again_when_everything_is_known_again(tmp_path):
    """Up to the reading of the log that follows, they may tell of what was not understood."""
    run = Run("6.1")
    run.boot_soft_reserved(REGION)
    run.do("an_op_of_tomorrow", {"ok": True})
    run.log(12345)
    run.unbind("dax0.0")
    run.bind("dax0.0")
    run.log(12345)
    run.state("known again", run.around("dax0.0"))
    run.log(12345)
    run.state("followed", run.around("dax0.0"))
    assert statuses(replay(run, tmp_path)) == {"known again": "equal", "followed": "different"}


def test_a_refused_binding_over_known_pages_is_a_difference_whatever_was_lost_elsewhere(tmp_path):
    run = one_device()
    run.do("an_op_of_tomorrow", {"ok": True})
    run.unbind("dax0.1")
    run.bind("dax0.1")
    run.create_device("dax0.2", [(0x102000, 0x2000)], 2 * MIB)
    run.state("overlap", SPANS)
    (state,) = replay(run, tmp_path).states
    assert state.status == "different"
    assert "another pgmap has" in state.first


# captures that contradict themselves


@pytest.mark.parametrize(
    ("op", "arguments", "result", "message"),
    [
        ("boot", {"soft_reserved": [{"start": "0x0", "end": "0x1000"}]}, {"ok": True}, "second time"),
        ("create_device", {"align": 8192, "size": GIB}, {"ok": True, "device": "dax0.9"}, "align 8192"),
        ("set_align", {"align": 3, "device": "dax0.1"}, {"ok": True}, "align 3"),
        ("set_align", {"align": True, "device": "dax0.1"}, {"ok": True}, "align True"),
        ("set_size", {"size": "1G", "device": "dax0.1"}, {"ok": True}, "size '1G'"),
        ("set_size", {"size": 1}, {"ok": True}, "no device"),
        ("bind", {"device": ["dax0.1"]}, {"ok": True}, "device"),
        ("bind", {"device": "dax0.1\n"}, {"ok": True}, "line of text"),
        ("bind", {"device": "dax0.1"}, None, "no result"),
        ("add_range", {"device": "dax0.1", "start": "0x2000", "last": "0xfff"}, {"ok": True}, "0x2000 to 0x1000"),
        ("observe", {"what": "devices", "devices": []}, None, "devices"),
        ("observe", {"what": "devices", "devices": {}, "removed": "dax0.1"}, None, "removed"),
        ("observe", {"what": "kernel_log"}, None, "no lines"),
        ("mmap", {"device": "dax0.1", "flags": "SHARED"}, {"ok": True, "mapping": "m"}, "flags"),
        ("touch", {"mapping": 5}, {"ok": True}, "mapping 5"),
    ],
)
def test_an_action_that_has_not_the_form_is_refused(op, arguments, result, message, tmp_path):
    run = one_device()
    run.do(op, result, **arguments)
    run.state("online", SPANS)
    with pytest.raises(WorkbenchError, match=message):
        replay(run, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"nr_pages": 0},
        {"nr_pages": -512},
        {"nr_pages": 1 << 40},
        {"nr_pages": "16"},
        {"start": "0x100000"},
        {"first_pfn": "-0x1"},
        {"first_pfn": "0x400000000"},
    ],
)
def test_ranges_that_contradict_themselves_are_refused(change, tmp_path):
    run = one_device()
    run.actions[-2]["result"]["ranges"][0] |= change
    run.state("online", SPANS)
    with pytest.raises(WorkbenchError, match="create_device"):
        replay(run, tmp_path)


def test_two_devices_in_one_place_differ(tmp_path):
    run = one_device()
    run.create_device("dax0.2", [(0x102000, 0x4000)], 2 * MIB)
    run.state("overlap", SPANS)
    (state,) = replay(run, tmp_path).states
    assert state.status == "different"
    assert "another pgmap has" in state.first


def test_after_something_not_understood_a_refused_binding_is_no_difference(tmp_path):
    """Whatever it was may have taken the first device away."""
    run = one_device()
    run.do("an_op_of_tomorrow", {"ok": True})
    run.create_device("dax0.2", [(0x102000, 0x4000)], 2 * MIB)
    run.state("overlap", SPANS)
    assert statuses(replay(run, tmp_path)) == {"overlap": "not-yet"}


def test_every_family_with_compounds_was_met():
    """The recorder and the engine agree which trees have compound pages."""
    for family in FAMILIES:
        run = one_device(family)
        run.state("online", [(0x100000, 2)])
        tail = int(run.arrays["00.online.span0"][1, 1])
        assert (tail == 0xFFFFEA0000000000 + 64 * 0x100000 + 1) == (family in COMPOUND)
