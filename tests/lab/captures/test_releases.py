# SPDX-License-Identifier: GPL-2.0-only
"""The recorded tables of 6.1 done on other kernels: they differ exactly as NOTES-5.15-5.17.md says."""

from pathlib import Path

import pytest

from workbench.lab import captures
from workbench.lab.captures.replay import Replay, difference_of
from workbench.series import kernel

CAPTURES = Path(__file__).parents[3] / "data" / "captures"
ALIGNS = ("4K", "2M", "1G")


def differing(run, release):
    """Cases whose result on ``release`` is not the recorded one, and what it is."""
    capture = captures.read(CAPTURES / run)
    small = dict.fromkeys(("KSM", "MEM_SOFT_DIRTY"), False) if release in ("5.15", "5.17") else {}
    replay = Replay(kernel(release), small)
    found = {}
    for case in capture.cases:
        replay.case = case.name
        replay.do_all(case.before)
        got = replay.result_of(case.action | {"result": case.result})
        if case.replayable and difference_of(case.result, got):
            found[case.name] = got
    return found


def named(groups, what):
    return {f"{group}: {what}" for group in groups}


VMA = [f"vma-{align}" for align in ALIGNS]
GUP = [f"gup-{align}" for align in ALIGNS]
UNPOISON = named(GUP, "unpoison-pfn")
NOT_THERE_YET = named(VMA, "madvise MADV_DONTNEED_LOCKED whole")
NO_KSM = named(VMA, "madvise MADV_MERGEABLE whole")
NO_SOFT_DIRTY = {"mmap-2M: fixed aligned addr, offset=4096: translation"}
PAGE_ITSELF = named(GUP[1:], "hard_offline_page of never-faulted page")


def test_errors_on_5_17():
    found = differing("k6.1-errors", "5.17")
    assert found.keys() == UNPOISON | NOT_THERE_YET | NO_KSM | NO_SOFT_DIRTY
    assert all(found[name] == {"errno": "EBUSY"} for name in UNPOISON)
    assert all(found[name] == {"errno": "EINVAL"} for name in NOT_THERE_YET | NO_KSM)


def test_errors_on_5_15():
    """The differences of 5.17, another unpoison, and base pages: the page itself is reported."""
    found = differing("k6.1-errors", "5.15")
    assert found.keys() == UNPOISON | NOT_THERE_YET | NO_KSM | NO_SOFT_DIRTY | PAGE_ITSELF
    assert all(found[name] == {"ok": True} for name in UNPOISON)
    assert all(found[name]["offset_in_align_unit"] for name in PAGE_ITSELF)


def test_errors_on_5_10():
    """No MADV_POPULATE_*; a mapping of one page's length can be moved, which touches the cases after it."""
    found = differing("k6.1-errors", "5.10")
    populate = named(VMA, "madvise MADV_POPULATE_READ whole") | named(VMA, "madvise MADV_POPULATE_WRITE whole")
    moved = named(VMA[1:], "mremap old_len 4096 -> move")
    after_it = named(GUP[1:], "touch after unbind (mapped)") | {"gup-1G: hwpoison madvise"}
    empty = {"sysfs: bind with size 0"}
    assert found.keys() == empty | NOT_THERE_YET | populate | moved | after_it | PAGE_ITSELF
    assert found.pop("sysfs: bind with size 0") == {"errno": "ENODEV"}
    assert all(found[name] == {"errno": "EINVAL"} for name in populate | NOT_THERE_YET)
    assert all(found[name]["moved"] for name in moved)


@pytest.mark.parametrize(("release", "refusal"), [("5.15", {"ok": True}), ("5.17", {"errno": "EBUSY"})])
def test_memory_failure_by_pfn(release, refusal):
    """HardwareCorrupted stays 0; with base pages the page itself has the flag."""
    found = {name.removeprefix("hwpoison-2M: "): got for name, got in differing("k6.1-hwpoison-2M", release).items()}
    assert found.pop("HardwareCorrupted") == {"value": 0}
    assert found.pop("unpoison head") == found.pop("unpoison tail 5") == refusal
    base = {"hwpoison flag at page offsets", "flag after unpoison at", "flags word of head"}
    assert found.keys() == (base if release == "5.15" else set())


@pytest.mark.parametrize(
    ("release", "states"),
    [
        ("5.10", {"dyn_dax0.1_align2097152": "bind: errno: recorded ENXIO, derived ENODEV"}),
        ("5.15", {}),
        ("5.17", {}),
        ("6.12", {"boot_default_2M": "boot: bound: recorded True, derived False"}),
    ],
)
def test_devices_made_and_resized(release, states):
    """Which ranges they get is the same everywhere; 5.10 and 6.12 as FORMAT.md says."""
    replay, found = Replay(kernel(release)), {}
    for state in captures.read(CAPTURES / "k6.1-dynamic").states:
        replay.do_all(state.actions)
        found |= {state.name: replay.tally.first} if replay.tally.first else {}
    if release == "6.12":  # its first stores succeed: nothing is bound after boot
        assert found.pop("dyn_dax0.1_align2097152").startswith("set_size: ok")
    assert found == states
