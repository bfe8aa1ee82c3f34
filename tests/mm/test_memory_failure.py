# SPDX-License-Identifier: GPL-2.0-only
"""Memory failure of device memory: patch 1, patch 5's bug, who is told, what is unmapped, and what was recorded.

A huge page of a 2 MiB device, and what happens when its page 5 fails::

    pages        0    1    2    3    4    5   ...  511
    before       .    .    .    .    .    X         .      si_addr: page 5     unmapped: all 512
    patch 11     X    .    .    .    .    .         .      si_addr: page 0     unmapped: all 512
"""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.mm.poison import FIRST, INDEX, MAPPING, SIZES, Machine
from tests.naive_failure import NaiveMachine
from workbench.errors import KernelCrash, Signal, Signalled, WorkbenchError
from workbench.lab.checkout import Checkout
from workbench.mm.hwpoison_inject import (
    hard_offline_page,
    hwpoison_inject,
    hwpoison_unpoison,
    madvise_inject_error,
    soft_offline_page,
)
from workbench.mm.memory_failure import (
    MemoryFailureCrash,
    MfFlags,
    compound_order,
    dev_pagemap_mapping_shift,
    memory_failure,
    vma_address,
)
from workbench.mm.memremap import MemoryType
from workbench.mm.mmap import Mm, Prot, Vm, Vma

MiB2, GiB = SIZES["2M"], SIZES["1G"]
BEFORE, AFTER, FIXED = "5.16+10", "5.16+11", "5.16+=1,2,3,4,6,7,8,9,10,11"
WITHOUT_1 = "5.16+=2,3,4,5,6,7,8,9,10,11"


def recovered(pfn):
    return f"Memory failure: {pfn:#x}: recovery action for dax page: Recovered"


def failed(pfn):
    return f"Memory failure: {pfn:#x}: recovery action for dax page: Failed"


def sending(pfn, name="p0"):
    return f"Memory failure: {pfn:#x}: Sending SIGBUS to {name} due to hardware memory corruption"


def sigbus(addr, lsb, code="BUS_MCEERR_AR"):
    return Signal("SIGBUS", code, addr, lsb)


# -- patch 1: which struct page is looked at and marked ------------------------------------------------------


@pytest.mark.parametrize("name", ["5.10", "5.15", "5.16+0", "5.16+1", "5.16+10"])
def test_base_pages_are_marked_one_by_one(name):
    machine = Machine(name, MiB2)
    task, addr = machine.mapped()
    outcome = memory_failure(machine, FIRST + 5, current=task)
    assert machine.flagged("hwpoison") == [5]
    assert outcome.delivered == {"p0": sigbus(addr + 5 * 4096, 21)}
    assert (outcome.errno, outcome.result, outcome.unmapped) == (None, "Recovered", 1)


def test_the_range_unmapped_is_the_huge_page_around_the_pfn():
    machine = Machine("5.15", MiB2)
    task, addr = machine.mapped()
    task.mm.touch(addr + MiB2)
    assert memory_failure(machine, FIRST + 5, current=task).unmapped == 1
    assert [task.mm.translate(addr), task.mm.translate(addr + MiB2)] == [None, FIRST + 512]


def test_patch_1_changes_no_byte_of_base_pages():
    images = []
    for name in ("5.16+0", "5.16+1"):
        machine = Machine(name, MiB2)
        task, _ = machine.mapped()
        memory_failure(machine, FIRST + 5, current=task)
        images.append(machine.image())
    assert (images[0] == images[1]).all()


@pytest.mark.parametrize("name", ["5.16+11", "5.17", "6.1", "6.1-nodedup", "6.12"])
@pytest.mark.parametrize("align", ["2M", "1G"])
def test_a_compound_page_is_marked_at_its_head(name, align):
    machine = Machine(name, SIZES[align], units=2)
    task, addr = machine.mapped()
    untouched = machine.array.words(FIRST + 5)
    outcome = memory_failure(machine, FIRST + 5, current=task)
    assert machine.flagged("hwpoison", nr=1024) == [0]
    assert machine.array.words(FIRST + 5) == untouched
    assert outcome.marked == (FIRST,)
    assert outcome.delivered == {"p0": sigbus(addr, {"2M": 21, "1G": 30}[align])}
    assert outcome.log == (sending(FIRST + 5), recovered(FIRST + 5))  # the exact pfn, not the head's


def test_words_of_the_specification():
    for name, word in (("5.15", 0x27FFFFC0801000), ("5.17", 0x27FFFFC0811000)):
        machine = Machine(name, MiB2)
        task, _ = machine.mapped()
        memory_failure(machine, FIRST, current=task)
        assert machine.array.words(FIRST)[0] == word


@pytest.mark.parametrize("align", ["4K", "2M"])
def test_metadata_of_the_device_is_not_recoverable(align):
    machine = Machine("5.17", SIZES[align], units=2, altmap_pages=516_608)
    task, addr = machine.mapped()
    before = machine.array.view(FIRST, 1024).copy()
    outcome = memory_failure(machine, FIRST + 10, current=task)
    assert (outcome.errno, outcome.log) == (errno.ENXIO, (failed(FIRST + 10),))
    assert (machine.array.view(FIRST, 1024) == before).all()
    assert not outcome.signals
    data = FIRST + 516_608
    assert memory_failure(machine, data, current=task).delivered["p0"].addr == addr


# Up to 5.17 the low half of tail 1's word is the number of pages; 6.1 has none of TAIL_MAPPING left there.
@pytest.mark.parametrize(
    "name, page, word, fault",
    [
        (WITHOUT_1, 5, "0xdead000000000400", "general protection fault"),
        (WITHOUT_1, 1, "0xdead000000000200", "general protection fault"),
        ("6.1+=2,3,4,5,6,7,8,9,10,11", 5, "0xdead000000000400", "general protection fault"),
        ("6.1+=2,3,4,5,6,7,8,9,10,11", 1, "0x20000000000", "page fault"),
    ],
)
def test_without_patch_1_a_tail_kills_the_kernel(name, page, word, fault):
    machine = Machine(name, MiB2)
    task, _ = machine.mapped()
    before = machine.image()
    with pytest.raises(
        MemoryFailureCrash, match=f"{fault}.*{word}.*pfn {FIRST + page:#x}, a tail of head {FIRST:#x}"
    ) as dead:
        memory_failure(machine, FIRST + page, MfFlags(0), task)
    assert "patch 1" in str(dead.value)
    assert dead.value.outcome.steps[-1].what == "dax_lock_page()"
    assert dead.value.changed == ()
    assert (machine.image() == before).all()
    assert dev_pagemap_mapping_shift(task.mm, task.mm.vmas[0].start) == 21  # nothing was unmapped


def test_what_was_done_before_the_kernel_died():
    machine = Machine(WITHOUT_1, MiB2)
    task, addr = machine.mapped()
    with pytest.raises(KernelCrash) as dead:
        madvise_inject_error(machine, task, addr + 0x5000, 4096)
    assert dead.value.changed == ("put_page(): the caller's reference is dropped",)


def test_without_patch_1_a_head_still_works():
    machine = Machine(WITHOUT_1, MiB2)
    task, addr = machine.mapped()
    assert memory_failure(machine, FIRST, current=task).delivered["p0"].addr == addr


def test_without_patch_1_the_first_tail_of_6_12_has_no_mapping():
    machine = Machine("6.12+=2,3,4,5,6,7,8,9,10,11", MiB2)
    task, _ = machine.mapped()
    assert memory_failure(machine, FIRST + 1, current=task).errno == errno.EBUSY


# -- what the pages of a real kernel say: patch 5's bug ------------------------------------------------------


@pytest.mark.parametrize("name, index", [(BEFORE, 512), (AFTER, 512), (FIXED, 0), ("6.1", 0), ("5.16+4", 0)])
def test_the_index_of_a_first_touch_off_the_start(name, index):
    machine = Machine(name, MiB2)
    machine.mapped(touch=0x5000)
    assert machine.array.words(FIRST)[INDEX] == index


def test_a_wrong_index_tells_nobody_and_unmaps_nothing():
    machine = Machine(AFTER, MiB2)
    task, addr = machine.mapped(touch=0x5000)
    outcome = memory_failure(machine, FIRST + 9, current=task)
    assert (outcome.errno, outcome.signals, outcome.unmapped) == (None, (), 0)
    assert outcome.log == (recovered(FIRST + 9),)
    assert machine.flagged("hwpoison") == [0]
    assert task.mm.translate(addr + 0x9000) == FIRST + 9  # still there: the next access fails again


def test_a_wrong_index_hits_the_neighbour():
    machine = Machine(AFTER, MiB2)
    task, addr = machine.mapped(touch=0x5000)
    task.mm.touch(addr + MiB2)
    outcome = memory_failure(machine, FIRST + 9, current=task)
    assert outcome.delivered == {"p0": sigbus(addr + MiB2, 21)}
    assert task.mm.translate(addr + MiB2) is None
    assert task.mm.translate(addr) == FIRST


def test_the_fix_tells_the_right_address():
    machine = Machine(FIXED, MiB2)
    task, addr = machine.mapped(touch=0x5000)
    assert memory_failure(machine, FIRST + 9, current=task).delivered == {"p0": sigbus(addr, 21)}
    assert task.mm.translate(addr) is None


def test_with_base_pages_the_wrong_index_moves_the_address_by_a_huge_page_too():
    machine = Machine(BEFORE, MiB2)
    task, addr = machine.mapped(touch=0x5000)
    task.mm.touch(addr + MiB2)
    assert memory_failure(machine, FIRST + 9, current=task).delivered["p0"].addr == addr + MiB2 + 9 * 4096


# -- recorded runs -------------------------------------------------------------------------------------------

ADVICE = {"HWPOISON": False, "SOFT_OFFLINE": True}


class Recorded:
    """A run of the captures, its faults and failures done anew on a small machine."""

    def __init__(self, run):
        self.folder = Checkout.find().data / "captures" / run
        self.capture = json.loads((self.folder / "capture.json").read_text())
        self.machine = Machine(self.capture["kernel"]["family"], MiB2, units=32)
        self.task = self.machine.process("the process")
        self.log: list[str] = []
        self.corrupted = 0

    def do(self, action, result):
        op, want = action["op"], result
        handler = getattr(self, op, None)
        if handler is not None:
            got = handler(action)
            keys = ("errno", "signal", "code", "addr", "lsb", "pages_with_flag", "flags_word")
            assert got == {
                key: want[key] for key in keys if want and key in want and (key != "addr" or "signal" in want)
            }

    def mmap(self, action):
        where = int(action["result"]["addr"], 16)
        assert self.task.mm.mmap(self.machine.file, action["length"], action["offset"], chosen=where) == where
        return {}

    def munmap(self, action):
        self.task.mm.munmap(int(action["addr"], 16), action["length"])
        return {}

    def touch(self, action):
        self.task.mm.touch(int(action["addr"], 16), action.get("count", 1), action.get("stride", 4096), action["write"])
        return {}

    def unbind(self, action):
        if action["device"] != "dax0.0":
            fresh = Machine(self.machine.name, MiB2, units=32)
            self.machine.array, self.machine.zone_device = fresh.array, fresh.zone_device
            self.machine.file.array = fresh.array
        return {}

    def report(self, outcome):
        self.log += outcome.log
        self.corrupted += outcome.counted
        if outcome.errno:
            return {"errno": errno.errorcode[outcome.errno]}
        signal = outcome.delivered.get(self.task.name)
        if signal is None:
            return {}
        return {"signal": signal.name, "code": signal.code, "addr": f"{signal.addr:#x}", "lsb": signal.lsb}

    def madvise(self, action):
        soft = ADVICE[action["advice"]]
        addr = int(action["addr"], 16)
        return self.report(madvise_inject_error(self.machine, self.task, addr, action["length"], soft=soft))

    def hard_offline_page(self, action):
        return self.report(hard_offline_page(self.machine, int(action["phys_addr"], 16), self.task))

    def corrupt_pfn(self, action):
        return self.report(hwpoison_inject(self.machine, int(action["pfn"], 16), self.task))

    def unpoison_pfn(self, action):
        return self.report(hwpoison_unpoison(self.machine, int(action["pfn"], 16)))

    def read_struct_pages(self, action):
        first = int(action["pfn"], 16)
        if "flag" in action:
            return {"pages_with_flag": self.machine.flagged(action["flag"], first, action["nr_pages"])}
        return {"flags_word": f"{self.machine.array.words(first)[0]:#x}"}


@pytest.mark.parametrize("run", ["k5.15-index-2M", "k5.17-index-2M"])
def test_a_wrong_index_as_recorded(run):
    """Every result, every log line, and flags, mapping, index and counts of every page after every state."""
    replay = Recorded(run)
    poisoned = 0
    with np.load(replay.folder / "pages.npz") as arrays:
        for state in replay.capture["states"]:
            for action in state["actions"]:
                replay.do(action, action.get("result"))
                poisoned += action.get("advice") == "HWPOISON"
                if action.get("what") == "kernel_log":
                    lines = [line for line in action["lines"] if "memmap_init" not in line]
                    assert replay.log == lines, state["state"]
                    replay.log = []
                elif action.get("what") == "HardwareCorrupted_kB":
                    assert 4 * replay.corrupted == action["value"]
            for span in state["spans"]:
                recorded = arrays[span["array"]].copy()
                pages = replay.machine.array.view(int(span["pfn"], 16), span["nr_pages"])
                mapped = recorded[:, MAPPING] & 1 == 0  # tails have TAIL_MAPPING, others a pointer or nothing
                assert ((recorded[:, MAPPING] != 0) == (pages[:, MAPPING] != 0)).all(), state["state"]
                assert mapped.any()
                assert (recorded[:, [0, INDEX, 6]] == pages[:, [0, INDEX, 6]]).all(), state["state"]
    assert poisoned == 5


@pytest.mark.parametrize("run", ["k5.17-hwpoison-2M", "k6.1-hwpoison-2M"])
def test_memory_failure_by_pfn_as_recorded(run):
    replay = Recorded(run)
    done = 0
    for case in replay.capture["cases"]:
        for action in case["before"]:
            replay.do(action, action.get("result"))
        action, result = case["action"], case["result"]
        replay.do(action, result)
        done += action["op"] in ("hard_offline_page", "corrupt_pfn", "unpoison_pfn", "read_struct_pages")
        if action.get("what") == "kernel_log":
            assert replay.log == result["lines"]
        elif action.get("what") == "HardwareCorrupted_kB":
            assert 4 * replay.corrupted == result["value"]
    assert done == 11


# -- several processes, several mappings ---------------------------------------------------------------------


def test_only_the_process_that_runs_is_told_and_all_are_unmapped():
    machine = Machine("5.17", MiB2)
    runs, here = machine.mapped("p0")
    other, there = machine.mapped("p1")
    outcome = memory_failure(machine, FIRST + 3, current=runs)
    assert outcome.delivered == {"p0": sigbus(here, 21)}
    assert outcome.unmapped == 2
    assert runs.mm.translate(here) is None and other.mm.translate(there) is None


@pytest.mark.parametrize(
    "setting, early, told",
    [(False, None, False), (True, None, True), (False, True, True), (True, False, False)],
)
def test_who_wants_to_know_early(setting, early, told):
    machine = Machine("5.17", MiB2, memory_failure_early_kill=setting)
    runs, here = machine.mapped("p0")
    _, there = machine.mapped("p1", early_kill=early)
    outcome = memory_failure(machine, FIRST + 3, current=runs)
    expected = {"p0": sigbus(here, 21)}
    if told:
        expected["p1"] = sigbus(there, 21, "BUS_MCEERR_AO")
    assert outcome.delivered == expected


def test_victims_in_the_order_of_processes_each_with_its_own_address():
    machine = Machine("5.17", MiB2, memory_failure_early_kill=True)
    first, a = machine.mapped("p0", first_unit=1, touch=0)
    second, b = machine.mapped("p1", touch=MiB2)
    machine.mapped("p2", touch=0)  # maps unit 0 only: not a victim
    third, c = machine.mapped("p3", first_unit=1, touch=None)  # mapped, not touched: not a victim
    outcome = memory_failure(machine, FIRST + 512 + 7, current=second)
    assert [(task.name, signal) for task, signal in outcome.signals] == [
        ("p0", sigbus(a, 21, "BUS_MCEERR_AO")),
        ("p1", sigbus(b + MiB2, 21)),
    ]
    assert outcome.log[:2] == (sending(FIRST + 519, "p0"), sending(FIRST + 519, "p1"))
    assert third.mm.translate(c) is None and first.mm.translate(a) is None


def test_a_forked_child_is_no_victim_until_it_touches():
    machine = Machine("5.17", MiB2, memory_failure_early_kill=True)
    parent, addr = machine.mapped("p0")
    child = machine.process("p1", mm=parent.mm.fork())
    assert list(memory_failure(machine, FIRST, current=parent).delivered) == ["p0"]
    parent.mm.touch(addr)
    child.mm.touch(addr)
    assert list(memory_failure(machine, FIRST, current=parent).delivered) == ["p0", "p1"]
    parent.mm.touch(addr)
    child.mm.touch(addr)
    child.mm.exit()
    assert list(memory_failure(machine, FIRST, current=parent).delivered) == ["p0"]


def test_two_tasks_of_one_address_space_are_told_as_the_one_that_runs():
    machine = Machine("5.17", MiB2)
    main, addr = machine.mapped("p0")
    thread = machine.process("p0-thread", mm=main.mm)
    outcome = memory_failure(machine, FIRST, current=thread)
    assert [(task.name, signal) for task, signal in outcome.signals] == [("p0-thread", sigbus(addr, 21))] * 2


def test_several_mappings_in_one_process_one_line_each_and_the_first_address_is_seen():
    """As gup-2M of the recorded errors: m35 was mapped before m36 and m37; the process sees m35's address."""
    machine = Machine("6.1", MiB2)
    task, m35 = machine.mapped()
    _, m36 = machine.mapped()
    task.mm.mmap(machine.file, MiB2, prot=Prot.READ)
    m37 = task.mm.vmas[0].start
    task.mm.touch(m37)
    outcome = madvise_inject_error(machine, task, m36, 4096)
    assert [signal.addr for _, signal in outcome.signals] == [m35, m36, m37]
    assert outcome.log[-3:] == (sending(FIRST, "p0"),) * 2 + (recovered(FIRST),)
    assert outcome.delivered == {"p0": sigbus(m35, 21)}
    assert outcome.unmapped == 3


def test_among_mappings_the_one_that_begins_earlier_in_the_file_is_first():
    machine = Machine("6.1", MiB2)
    task, late = machine.mapped(first_unit=1)
    _, early = machine.mapped(touch=MiB2)
    outcome = memory_failure(machine, FIRST + 512, current=task)
    assert [signal.addr for _, signal in outcome.signals] == [early + MiB2, late]


def test_nobody_runs():
    machine = Machine("5.17", MiB2)
    _, addr = machine.mapped("p0")
    _, there = machine.mapped("p1", early_kill=True)
    outcome = memory_failure(machine, FIRST)
    assert outcome.delivered == {"p1": sigbus(there, 21, "BUS_MCEERR_AO")}
    assert machine.processes["p0"].mm.translate(addr) is None


def test_an_area_without_access_is_told_too_a_mapping_of_another_file_is_not():
    machine = Machine("5.17", MiB2)
    task, addr = machine.mapped()
    task.mm.mprotect(addr, MiB2, Prot(0))
    assert memory_failure(machine, FIRST, current=task).delivered["p0"].addr == addr


def test_a_device_of_4_kib_loses_one_page():
    machine = Machine("5.17", 4096)
    task, addr = machine.mapped()
    task.mm.touch(addr, 4)
    outcome = memory_failure(machine, FIRST + 2, current=task)
    assert outcome.delivered == {"p0": sigbus(addr + 2 * 4096, 12)}
    assert [task.mm.translate(addr + i * 4096) for i in range(4)] == [FIRST, FIRST + 1, None, FIRST + 3]
    assert machine.flagged("hwpoison") == [2]


def test_a_poisoned_page_can_be_touched_and_poisoned_again():
    machine = Machine("5.17", MiB2)
    task, addr = machine.mapped()
    for _ in range(2):
        assert memory_failure(machine, FIRST + 1, current=task).delivered == {"p0": sigbus(addr, 21)}
        task.mm.touch(addr + 4096)
    assert machine.flagged("hwpoison") == [0]


def test_a_mapping_whose_offset_is_off_by_a_page():
    """Head index 0x1 from such a mapping: the range rounds down to the unit, the entry goes whole."""
    machine = Machine("5.17", MiB2)
    task = machine.process("p0")
    addr = task.mm.mmap(machine.file, MiB2, offset=4096)
    task.mm.touch(addr)
    assert machine.array.words(FIRST)[INDEX] == 1
    outcome = memory_failure(machine, FIRST + 9, current=task)
    assert outcome.delivered == {"p0": sigbus(addr, 21)}
    assert task.mm.translate(addr) is None


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["5.15", "5.17", "6.1"])
def test_a_page_nobody_ever_touched(name):
    machine = Machine(name, MiB2)
    task, _ = machine.mapped(touch=0)
    before = machine.image()
    outcome = memory_failure(machine, FIRST + 512 + 3, current=task)
    assert (outcome.errno, outcome.result, outcome.log) == (errno.EBUSY, "Failed", (failed(FIRST + 515),))
    assert (machine.image() == before).all()


@pytest.mark.parametrize("name, code", [("5.15", errno.EBUSY), ("5.17", errno.EBUSY), ("6.1", errno.ENXIO)])
def test_private_device_memory(name, code):
    machine = Machine(name, 4096, type=MemoryType.PRIVATE)
    task, _ = machine.mapped()
    assert memory_failure(machine, FIRST, current=task).errno == code
    assert machine.flagged("hwpoison") == []


def test_a_file_of_a_filesystem_has_its_entry_locked():
    machine = Machine("5.17", 4096, type=MemoryType.FS_DAX)
    task, addr = machine.mapped(touch=3 * 4096)
    outcome = memory_failure(machine, FIRST + 3, current=task)
    assert outcome.delivered == {"p0": sigbus(addr + 3 * 4096, 12)}
    assert ("lock", "dax_lock_page()", "file entry 0x3") in outcome.steps
    assert ("unlock", "dax_unlock_page()", "released") in outcome.steps


@pytest.mark.parametrize("name, code, log", [("5.17", None, (recovered(FIRST + 1),)), ("6.1", errno.EOPNOTSUPP, ())])
def test_a_filtered_page_is_left_alone(name, code, log):
    machine = Machine(name, MiB2, hwpoison_filter=lambda pfn: pfn == FIRST)
    task, addr = machine.mapped()
    outcome = memory_failure(machine, FIRST + 1, current=task)
    assert (outcome.errno, outcome.log, outcome.signals) == (code, log, ())
    assert machine.flagged("hwpoison") == []
    assert hard_offline_page(machine, (FIRST + 1) << 12, task).errno is None
    assert madvise_inject_error(machine, task, addr, 4096).errno is None
    assert hwpoison_inject(machine, FIRST, task).log == ()  # no page of a device passes a filter that is on
    task.mm.touch(addr + MiB2)
    assert memory_failure(machine, FIRST + 512, current=task).delivered  # another page is not filtered


def test_recovery_switched_off_is_a_panic():
    machine = Machine("5.17", MiB2, memory_failure_recovery=False)
    with pytest.raises(KernelCrash, match="Memory failure on page 100005"):
        memory_failure(machine, FIRST + 5)


def test_a_pfn_that_no_device_has():
    machine = Machine("5.17", MiB2)
    outcome = memory_failure(machine, FIRST - 1)
    assert outcome.errno == errno.ENXIO
    assert outcome.log == (f"Memory failure: {FIRST - 1:#x}: memory outside kernel control",)
    assert hwpoison_inject(machine, FIRST - 1, machine.process("p0")).log == ()


def test_ordinary_memory_is_refused_by_name():
    machine = Machine("5.17", MiB2)
    beyond = FIRST + 4 * 512
    machine.array.add_pages(beyond, 512)
    for refused in (memory_failure, soft_offline):
        with pytest.raises(WorkbenchError, match="ordinary memory") as error:
            refused(machine, beyond)
        assert error.value.errno is None


def soft_offline(machine, pfn):
    return soft_offline_page(machine, pfn << 12)


def test_the_reference_of_the_pgmap_is_given_back():
    machine = Machine("5.17", MiB2)
    task, _ = machine.mapped()
    before = machine.zone_device.refs(machine.pgmap)
    for pfn in (FIRST, FIRST + 1024):
        memory_failure(machine, pfn, current=task)
        assert machine.zone_device.refs(machine.pgmap) == before


# -- how user space asks for it ------------------------------------------------------------------------------


@pytest.mark.parametrize("name, calls", [(BEFORE, 512), (AFTER, 1), ("6.12", 1)])
def test_madvise_steps_by_the_compound_page(name, calls):
    machine = Machine(name, MiB2)
    task, addr = machine.mapped()
    outcome = madvise_inject_error(machine, task, addr, MiB2)
    assert sum("Injecting" in line for line in outcome.log) == calls
    assert machine.flagged("hwpoison") == list(range(calls))
    assert len(outcome.signals) == calls  # each time it was mapped again to be looked up
    assert outcome.delivered == {"p0": sigbus(addr, 21)}
    assert machine.flagged("referenced") == [0]  # only the first look-up found its entry


def test_madvise_drops_the_reference_it_took():
    machine = Machine("5.17", MiB2)
    task, addr = machine.mapped()
    before = machine.image()
    madvise_inject_error(machine, task, addr + 0x9000, 4096)
    after = machine.image()
    assert (before[:, 1:] == after[:, 1:]).all()
    assert np.flatnonzero(before[:, 0] != after[:, 0]).tolist() == [0]
    assert after[0, 0] == 0x27FFFFC0811002


def test_madvise_without_the_entry_sets_no_referenced():
    machine = Machine("5.17", MiB2)
    task, addr = machine.mapped(touch=None)
    assert madvise_inject_error(machine, task, addr, 4096).delivered["p0"].addr == addr
    assert machine.flagged("referenced") == []


def test_refusals_of_the_calls():
    machine = Machine("5.17", MiB2)
    task, addr = machine.mapped(touch=None)
    assert madvise_inject_error(machine, task, addr + 1, 4096).errno == errno.EINVAL
    assert madvise_inject_error(machine, task, addr, 0, admin=False).errno is None
    assert madvise_inject_error(machine, task, addr, 4096, admin=False).errno == errno.EPERM
    assert madvise_inject_error(machine, task, addr - MiB2, 4096).errno == errno.EFAULT
    for refused in (
        hard_offline_page(machine, FIRST << 12, task, admin=False),
        soft_offline_page(machine, FIRST << 12, admin=False),
        hwpoison_inject(machine, FIRST, task, admin=False),
        hwpoison_unpoison(machine, FIRST, admin=False),
    ):
        assert refused.errno == errno.EPERM
    assert machine.flagged("hwpoison") == []


def test_madvise_goes_on_until_the_end_of_the_device():
    machine = Machine("5.17", MiB2, units=2)
    task = machine.process("p0")
    addr = task.mm.mmap(machine.file, 3 * MiB2)
    outcome = madvise_inject_error(machine, task, addr, 3 * MiB2)
    assert outcome.errno == errno.EFAULT
    assert machine.flagged("hwpoison") == [0, 512]


def test_soft_offline_is_refused_and_the_reference_dropped():
    machine = Machine("5.17", MiB2)
    task, addr = machine.mapped()
    before = machine.image()[:, 6]
    outcome = madvise_inject_error(machine, task, addr, 2 * MiB2, soft=True)
    assert outcome.errno == errno.EIO
    assert outcome.log == (f"Soft offlining pfn {FIRST:#x} at process virtual address {addr:#x}",)
    assert (machine.image()[:, 6] == before).all()
    assert soft_offline_page(machine, FIRST << 12).errno == errno.EIO
    assert soft_offline_page(machine, (FIRST - 1) << 12).errno == errno.ENXIO


@pytest.mark.parametrize(
    "name, code, why",
    [
        ("5.10", errno.EIO, None),
        ("5.15", None, "the hwpoison page has non-NULL mapping"),
        ("5.17", errno.EBUSY, "the hwpoison page has non-NULL mapping"),
        ("6.1", errno.EIO, None),
        ("6.12", errno.EIO, None),
    ],
)
def test_no_release_takes_the_mark_away(name, code, why):
    machine = Machine(name, MiB2)
    task, addr = machine.mapped()
    memory_failure(machine, FIRST, current=task)
    outcome = hwpoison_unpoison(machine, FIRST)
    assert outcome.errno == code
    assert outcome.log == (() if why is None else (f"Unpoison: {why} {FIRST:#x}",))
    assert machine.flagged("hwpoison") == [0]
    if why:
        assert hwpoison_unpoison(machine, FIRST + 5).log == (f"Unpoison: Page was already unpoisoned {FIRST + 5:#x}",)
        machine.get_user_pages_fast(task, addr)
        assert hwpoison_unpoison(machine, FIRST).log == (f"Unpoison: Someone grabs the hwpoison page {FIRST:#x}",)
        assert hwpoison_unpoison(machine, FIRST - 1).errno == errno.ENXIO


# -- the parts -----------------------------------------------------------------------------------------------


def test_the_address_of_a_page_in_an_area():
    area = Vma(0x40000000, 0x40400000, Vm(0), None, pgoff=0x200)  # type: ignore[arg-type]
    assert vma_address(0x200, 1, area) == 0x40000000
    assert vma_address(0x5FF, 1, area) == 0x403FF000
    assert vma_address(0x600, 1, area) is None
    assert vma_address(0x1FF, 1, area) is None
    assert vma_address(0x1FF, 2, area) == 0x40000000  # a compound page that reaches into the area
    assert vma_address(0, 512, area) is None
    assert vma_address(0, 1024, area) == 0x40000000


@pytest.mark.parametrize("align, shift", [("4K", 12), ("2M", 21), ("1G", 30)])
def test_the_size_of_the_entry_at_an_address(align, shift):
    machine = Machine("5.17", SIZES[align], units=2)
    task, addr = machine.mapped(touch=None)
    assert dev_pagemap_mapping_shift(task.mm, addr) == 0
    task.mm.touch(addr)
    assert dev_pagemap_mapping_shift(task.mm, addr) == shift
    assert dev_pagemap_mapping_shift(task.mm, addr + SIZES[align] - 1) == shift
    assert dev_pagemap_mapping_shift(Mm("5.17"), addr) == 0
    assert compound_order(machine.array, FIRST) == shift - 12


@pytest.mark.parametrize("name", ["5.17", "6.1", "6.12"])
def test_the_order_of_a_compound_page(name):
    assert compound_order(Machine(name, MiB2).array, FIRST) == 9
    assert compound_order(Machine(name, 4096).array, FIRST) == 0


def test_locks_and_checks_in_their_order():
    machine = Machine("5.17", MiB2)
    task, _ = machine.mapped()
    steps = memory_failure(machine, FIRST + 5, current=task).steps
    what = [step.what for step in steps]
    assert what[:5] == ["mf_mutex", "get_dev_pagemap()", "pgmap_pfn_valid()", "compound_head()", "dax_lock_page()"]
    assert what.index("SetPageHWPoison()") < what.index("collect_procs()") < what.index("unmap_mapping_range()")
    assert what.index("unmap_mapping_range()") < what.index("SIGBUS to p0") < what.index("put_dev_pagemap()")
    held: list[str] = []
    for step in steps:  # what is taken last is given back first, and nothing stays taken
        if step.kind == "lock":
            held.append(step.what)
        elif step.kind == "unlock":
            held.pop()
    assert held == []
    assert what[-3:] == ["put_dev_pagemap()", "action_result()", "mf_mutex"]
    assert "compound_head()" not in [step.what for step in memory_failure(Machine("5.15", MiB2), FIRST).steps]


# -- against the naive model ---------------------------------------------------------------------------------

UNITS = 4
TOUCH = st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, UNITS - 1), st.sampled_from([0, 1, 2, 511]))
POISON = st.tuples(st.integers(0, 2), st.integers(0, UNITS * 512 - 1))


@settings(max_examples=60)
@given(
    name=st.sampled_from(["5.15", BEFORE, AFTER, FIXED, "6.1", "6.12"]),
    early=st.sets(st.integers(0, 2)),
    areas=st.lists(st.tuples(st.integers(0, 2), st.integers(0, UNITS - 1)), min_size=3, max_size=5),
    steps=st.lists(st.one_of(TOUCH, POISON), min_size=4, max_size=14),
)
def test_equals_the_naive_model(name, early, areas, steps):
    machine = Machine(name, MiB2, units=UNITS)
    tree = machine.kernel.tree
    model = NaiveMachine(UNITS, 512, compound=tree.has(11), rounds_up=tree.rounds_pgoff_up)
    where: dict[str, list[tuple[int, int]]] = {f"p{i}": [] for i in range(3)}
    for i in range(3):
        machine.process(f"p{i}", early_kill=i in early)
    for who, first in [(0, 0), *areas]:
        _, addr = machine.mapped(f"p{who}", first_unit=first, touch=None)
        where[f"p{who}"].append((addr, UNITS - first))
        model.map(f"p{who}", addr, first, UNITS - first)
    for step in steps:
        note(str(step))
        process = f"p{step[0]}"
        task = machine.processes[process]
        if len(step) == 4:
            _, which, unit, page = step
            if where[process]:
                addr, units = where[process][which % len(where[process])]
                at = addr + unit % units * MiB2 + page * 4096
                task.mm.touch(at)
                model.touch(process, at)
        else:
            outcome = memory_failure(machine, FIRST + step[1], current=task)
            handled, told = model.poison(step[1], process, {f"p{i}" for i in early})
            assert outcome.errno == (None if handled else errno.EBUSY)
            assert {name: (s.code, s.addr) for name, s in outcome.delivered.items()} == told
            assert all(signal.lsb == 21 for signal in outcome.delivered.values())
        assert machine.flagged("hwpoison") == sorted(model.poisoned)
        assert machine.flagged("referenced") == []
        for owner, mappings in where.items():
            for addr, units in mappings:
                for at in range(addr, addr + units * MiB2, MiB2):
                    present = machine.processes[owner].mm.translate(at) is not None
                    assert present == ((owner, at) in model.entries), (owner, hex(at))


def test_the_model_itself_misses_with_patch_5_bug():
    for rounds_up, told in ((False, {"p0": ("BUS_MCEERR_AR", 0x40000000)}), (True, {})):
        model = NaiveMachine(2, 512, compound=True, rounds_up=rounds_up)
        model.map("p0", 0x40000000, 0, 2)
        model.touch("p0", 0x40005000)
        assert model.poison(9, "p0", set()) == (True, told)
        assert model.entries == (set() if told else {("p0", 0x40000000)})


def test_a_touch_beyond_the_device_is_a_signal():
    machine = Machine("5.17", MiB2, units=1)
    task = machine.process("p0")
    addr = task.mm.mmap(machine.file, 2 * MiB2)
    with pytest.raises(Signalled):
        task.mm.touch(addr + MiB2)
