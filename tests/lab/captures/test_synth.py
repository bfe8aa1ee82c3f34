# SPDX-License-Identifier: GPL-2.0-only
"""Whole runs of kernels, aligns and maps that were not recorded: every state and result by FORMAT.md's rules.

Each follows a recorded run action for action; :mod:`tests.lab.captures.synth` says what must come of it.
"""

import pytest

from tests.lab.captures.recorder import FAMILIES, GIB, KIB4, MIB
from tests.lab.captures.synth import Session
from workbench.lab import captures

ALIGNS = (KIB4, 2 * MIB, GIB)
SOFT_RESERVED = (4 * GIB, 12 * GIB)


def verified(run, folder):
    report = captures.verify(captures.read(run.write(folder)))
    assert [(state.name, state.first) for state in report.states if state.first] == []
    return report


def assert_equal(run, folder, *not_replayable):
    report = verified(run, folder)
    expected = ["not-replayable" if s["state"] in not_replayable else "equal" for s in run.capture["states"]]
    assert [state.status for state in report.states] == expected
    assert report.passed


def static_run(family, align, map):
    """The static run: map, fault, fork, pin, splice, poison, unbind."""
    run = Session(family, f"k{family}-static")
    size = 4 * GIB if align == GIB else GIB
    run.boot_persistent((5 * GIB, 5 * GIB + size + 3 * GIB))
    data, end = run.create_namespace(size, align, map)
    unit = max(align, 8 * KIB4)
    pages = align // KIB4
    spans = [((5 << 18) - 64, 64), (5 << 18, 256), (data - 128, 128), (data, 1024 if pages == 1 else 256)]
    if pages > 1:
        spans += [(data + pages - 8, 256), (data + 2 * pages - 8, 256)]
    spans += [(end - 256, 256), (end, 128)]

    run.watch(spans)

    def state(name):
        run.state(name, spans)

    state("online")
    run.open("dax0.0", "h1")
    run.mmap("dax0.0", "h1", "m1", 4 * MIB if align == KIB4 else 3 * align)
    state("mmapped_untouched")
    run.touch("m1", 0)
    run.walk("m1", 0)
    run.pagemap("m1", 0, 2)
    state("fault_read_first")
    second = KIB4 if align == KIB4 else unit + 5 * KIB4
    run.touch("m1", second, write=True)
    run.walk("m1", second)
    run.pagemap("m1", second, 2)
    run.smaps("m1")
    state("fault_write_second")
    run.do("fork", {"ok": True}, process="p0", child="p1")
    state("forked")
    run.do("exit", {"ok": True}, process="p1", how="SIGKILL, waited for")
    run.pin("m1", 0, 512, "h2")
    state("pinned_xdp_512pages")
    holders = ["h2", "h4"]
    if align > KIB4:
        run.pin("m1", 2 * unit - 2 * KIB4, 4, "h3")
        state("pinned_xdp_straddling")
        holders.append("h3")
    run.pin("m1", unit + (0 if align == KIB4 else 7 * KIB4), 3, "h4")
    state("pinned_xdp_plus3")
    for holder in holders:
        run.unpin(holder)
    run.do("wait", seconds=1)
    state("unpinned_xdp")
    run.get("m1", 0, 16, "h5")
    state("vmsplice_16pages_held")
    run.put("h5")
    state("vmsplice_released")
    run.get("m1", 0, 16, "h6", "GIFT")
    state("vmsplice_gift_held")
    run.put("h6")
    taken = run.pin_io_uring("m1", 0, 512, "h7")
    state("io_uring_fixed_buffer")
    if taken:
        run.unpin("h7", dirty=False)
    run.readv("m1", 0, 2)
    if align > KIB4:
        where = run.where("m1", 3 * KIB4)
        run.do("munmap", {"errno": "EINVAL"}, process="p0", length=KIB4, **where)
    state("munmap_partial_try")
    poisoned = 9 * KIB4 + (0 if align == KIB4 else unit)
    run.touch("m1", poisoned, write=True)
    run.pagemap("m1", poisoned, 1)
    run.madvise_hwpoison("m1", poisoned)
    for again in (poisoned, poisoned + KIB4, poisoned // align * align if align > KIB4 else 0, 0):
        run.touch("m1", again)
    run.hardware_corrupted()
    run.walk("m1", poisoned)
    state("hwpoison_madvise_tail")
    run.fail_by_another("hard_offline_page", "dax0.0", end - pages + 17 if align > KIB4 else end - 17)
    state("hwpoison_hard_offline_unmapped_tail")
    run.unpoison("dax0.0", data + (poisoned >> 12))
    state("unpoison_try")
    run.fail_by_another("corrupt_pfn", "dax0.0", data + 3 * pages + 2 if align > KIB4 else data + 600)
    state("corrupt_pfn_debugfs")
    run.unbind("dax0.0")
    run.do("disable_namespace", {"ok": True})
    m = run.maps["m1"]
    lost = {"signal": "SIGBUS", "code": "BUS_ADRERR", "addr": hex(m.addr), "lsb": 0, "mapping": "m1"}
    lost |= {"offset_in_mapping": 0, "offset_in_align_unit": 0, "at_index": 0}
    run.do("touch", lost, process="p0", **run.where("m1", 0), write=False)
    again = {"process": "p0", "device": "dax0.0", "handle": "h1", "length": align, "offset": 0, "prot": "rw"}
    run.do("mmap", {"errno": "ENXIO"}, **again, flags=["SHARED"])
    state("disabled_while_mapped")
    run.munmap("m1")
    run.close("h1")
    run.do("destroy_namespace", {"ok": True})
    run.hardware_corrupted()
    state("destroyed")
    return run


@pytest.mark.parametrize("map", ["mem", "dev"])
@pytest.mark.parametrize("align", ALIGNS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_static_run(family, align, map, tmp_path):
    assert_equal(static_run(family, align, map), tmp_path)


def soft_reserved_device(family, name, nr_pages=0x4000, align=2 * MIB):
    run = Session(family, name)
    run.boot_soft_reserved(SOFT_RESERVED, bound=family != "6.12")
    if family != "6.12":
        run.unbind("dax0.0")
    run.empty_the_first()
    run.create_device("dax0.1", [(0x100000, nr_pages)], align)
    return run


def lifecycle_run(family):
    run = soft_reserved_device(family, f"k{family}-lifecycle-2M")
    spans = [(0x100000, 1536), (0x103C00, 1024)]
    run.watch(spans)
    run.state("online", spans)
    run.open("dax0.1", "h1")
    run.mmap("dax0.1", "h1", "m1", 6 * MIB)
    run.touch("m1", 0, True, 3, 2 * MIB)
    run.state("touched3", spans)
    run.mmap("dax0.1", "h1", "m2", 4 * MIB, 2 * MIB)
    run.touch("m2", 0, False, 2, 2 * MIB)
    run.state("second_mapping_other_offset", spans)
    run.munmap("m1")
    run.munmap("m2")
    run.state("munmapped_all", spans)
    run.close("h1")
    run.state("closed", spans)
    run.open("dax0.1", "h2")
    run.mmap("dax0.1", "h2", "m3", 2 * MIB, 60 * MIB + KIB4, fixed=True)
    run.mmap("dax0.1", "h2", "m4", 2 * MIB, 60 * MIB + KIB4, fixed=True)
    run.touch("m4", 0, True)
    run.pagemap("m4", 0, 1)
    run.state("offset_plus_4096", spans)
    run.close("h2")
    run.unbind("dax0.1")
    run.bind("dax0.1")
    run.state("rebound", spans)
    run.open("dax0.1", "h3")
    run.mmap("dax0.1", "h3", "m5", 6 * MIB)
    run.touch("m5", 0, True, 3, 2 * MIB)
    run.get("m5", 0, 1, "h4")
    run.state("vmsplice_before_teardown", spans)
    run.unbind("dax0.1", background=True)
    waits = run.waiting is not None
    run.do("observe", what="unbind_finished", value=not waits)
    run.state("teardown_requested_while_page_referenced", spans)
    run.put("h4")
    run.do("observe", what="unbind_finished", value=True)
    run.state("reference_released", spans, replayable=waits, reason="" if waits else "kernel oops")
    return run


@pytest.mark.parametrize("family", FAMILIES)
def test_the_lifecycle_run(family, tmp_path):
    oops = ["reference_released"] if family.startswith("6") else []
    assert_equal(lifecycle_run(family), tmp_path, *oops)


def index_run(family, align=2 * MIB):
    """Where head->index is one unit high, memory failure misses, or hits the neighbour."""
    pages = align // KIB4
    run = soft_reserved_device(family, f"k{family}-index", (32 if align == 2 * MIB else 5) * pages, align)
    device = "dax0.1"
    first, nr_pages = run.devices[device][0][0]
    spans = [(first + at * pages, 256) for at in range(3)] + [(first + nr_pages - pages, 256)]

    run.watch(spans)

    def state(name):
        run.state(name, spans)

    state("online")
    run.open(device, "h1")
    run.mmap(device, "h1", "m1", 3 * align)
    run.touch("m1", 5 * KIB4, True)
    state("touched_unit0_page5")
    run.madvise_hwpoison("m1", 9 * KIB4)
    run.touch("m1", 9 * KIB4)
    run.hardware_corrupted()
    state("hwpoison_unit0_next_unit_not_mapped")
    run.munmap("m1")
    run.mmap(device, "h1", "m2", 3 * align)
    run.touch("m2", 0, True)
    run.touch("m2", align, True)
    state("mapped_again_touched_at_first_page")
    run.madvise_hwpoison("m2", 9 * KIB4)
    run.touch("m2", 9 * KIB4)
    run.touch("m2", align)
    state("hwpoison_unit0_next_unit_mapped")
    run.touch("m2", 2 * align + KIB4)
    run.madvise_hwpoison("m2", 2 * align + 3 * KIB4)
    run.touch("m2", 2 * align)
    state("hwpoison_last_mapped_unit")
    run.mmap(device, "h1", "m3", align, nr_pages * KIB4 - align)
    run.touch("m3", align - KIB4, True)
    run.madvise_hwpoison("m3", 0)
    run.touch("m3", 0)
    state("hwpoison_last_unit_of_device")
    run.munmap("m3")
    run.munmap("m2")
    run.close("h1")
    run.unbind(device)
    run.bind(device)
    run.open(device, "h2")
    state("rebound")
    run.mmap(device, "h2", "m4", 3 * align)
    run.touch("m4", 0, True, 3, align)
    state("touched_all_at_first_page")
    run.madvise_hwpoison("m4", align + 9 * KIB4)
    run.touch("m4", align + 9 * KIB4)
    state("hwpoison_unit1")
    return run


@pytest.mark.parametrize("align", [2 * MIB, GIB])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_index_run(family, align, tmp_path):
    assert_equal(index_run(family, align), tmp_path)


def several_ranges_run(family):
    """A device over two ranges, faulted at each end and pinned across the gap, then shrunk to less than one."""
    run = Session(family, f"k{family}-dynamic")
    run.boot_soft_reserved(SOFT_RESERVED, bound=family != "6.12")
    if family != "6.12":
        run.unbind("dax0.0")
    run.empty_the_first()
    run.create_device("dax0.1", [(0x100000, 0x40000)], 2 * MIB)
    run.create_device("dax0.2", [(0x140000, 0x4000)], KIB4)
    run.unbind("dax0.1")
    run.do("destroy_device", {"ok": True}, device="dax0.1")
    run.create_device("dax0.1", [(0x100000, 0x40000), (0x144000, 0x80000)], 2 * MIB)
    spans = [*run.around("dax0.1"), (0x140000, 64)]
    run.watch(spans)
    run.state("multirange_2M", spans)
    run.open("dax0.1", "h1")
    run.mmap("dax0.1", "h1", "m1", 3 * GIB)
    for inside in (0, GIB - KIB4, GIB, 3 * GIB - KIB4):
        run.touch("m1", inside, True)
        run.pagemap("m1", inside, 1)
    run.pin("m1", GIB - 2 * KIB4, 4, "h2")
    run.state("multirange_2M_faulted_pinned_across_boundary", spans)
    run.unpin("h2")
    run.munmap("m1")
    run.close("h1")
    run.do("set_size", {"errno": "EBUSY"}, device="dax0.1", size=4 * GIB)
    run.unbind("dax0.1")
    run.state("unbound", spans)
    run.resize("dax0.1", [(0x100000, 0x40000), (0x144000, 0xC0000)])
    run.bind("dax0.1")
    run.observe_devices("dax0.1")
    run.unbind("dax0.1")
    run.resize("dax0.1", [(0x100000, 0x20000)])
    run.bind("dax0.1")
    run.observe_devices("dax0.1")
    run.state("shrunk_512M", spans)
    return run


@pytest.mark.parametrize("family", FAMILIES)
def test_a_device_of_two_ranges(family, tmp_path):
    assert_equal(several_ranges_run(family), tmp_path)
