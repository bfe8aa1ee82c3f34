# SPDX-License-Identifier: GPL-2.0-only
"""Ordinary memory handed out by the engine: struct pages as recorded ones, pins that give back what they took."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.mm.support import needs_jit
from workbench.errors import WorkbenchError
from workbench.machine import Machine
from workbench.machine.ordinary import NORMAL_START, OrdinaryMemory, mmap_zero
from workbench.mm.madvise import Madv
from workbench.mm.mmap import Map
from workbench.mm.page_ref import Foll
from workbench.mm.pgtable import Level, Pg

RUN = Path(__file__).parents[2] / "data" / "captures" / "k6.1-hugetlb-thp"
MIB, GIB = 1 << 20, 1 << 30
BASE = 0x7F00_0000_0000
PRIVATE, SHARED, HUGETLB = Map.PRIVATE, Map.SHARED, Map.SHARED | Map.ANONYMOUS | Map.HUGETLB
HUGETLB_1G = HUGETLB | Map.HUGE_1GB
RELEASES = ("5.10", "5.15", "5.17", "6.1", "6.12")


def machine(kernel="6.1", end=NORMAL_START + GIB):
    return Machine(kernel, ordinary_bytes=end)


def faulted(booted, flags, length, first_pfn=NORMAL_START >> 12):
    """Map ``length`` bytes at BASE and write to every page; the process."""
    process = booted.process()
    mmap_zero(process, OrdinaryMemory(booted, first_pfn), length, flags, BASE)
    process.mm.touch(BASE, length >> 12, write=True)
    return process


def recorded(label):
    """First pfn and struct pages of a recorded huge page."""
    states = json.loads((RUN / "capture.json").read_text())["states"]
    span = next(s for state in states if state["state"] == f"{label}_faulted" for s in state["spans"])
    with np.load(RUN / "pages.npz") as pages:
        return int(span["pfn"], 16), pages[span["array"]]


@needs_jit
@pytest.mark.parametrize(
    "label, flags, length", [("thp", PRIVATE, 2 * MIB), ("hugetlb2M", HUGETLB, 2 * MIB), ("hugetlb1G", HUGETLB_1G, GIB)]
)
def test_struct_pages_as_recorded(label, flags, length):
    first, theirs = recorded(label)
    booted = machine(end=(first << 12) + GIB)
    process = faulted(booted, flags, length, first)
    assert process.mm.translate(BASE) == first
    ours = booted.array.view(first, len(theirs))
    # What a pin looks at: zone, node and PG_head; tails that lead to their head; references; order; pins.
    bits = booted.kernel.abi.bits("ZONE").mask | booted.kernel.abi.bits("NODE").mask | booted.kernel.abi.flag("head")
    np.testing.assert_array_equal(ours[:, 0] & np.uint64(bits), theirs[:, 0] & np.uint64(bits))
    np.testing.assert_array_equal(ours[1:, 1], theirs[1:, 1])
    np.testing.assert_array_equal(ours[:, 6] >> 32, theirs[:, 6] >> 32)
    assert (ours[1, 2] >> 8) & 0xFF == (theirs[1, 2] >> 8) & 0xFF
    assert ours[1, 3] == theirs[1, 3]
    assert (ours[0, 3] != 0) and (ours[0, 3] & 3) == (theirs[0, 3] & 3)
    # Further tails are equal byte for byte, but for the mapping, which hugetlb leaves zero in 1 GiB pages.
    same = [0, 1, 2, 4, 5, 6, 7] if label == "hugetlb1G" else slice(None)
    np.testing.assert_array_equal(ours[3:, same], theirs[3:, same])


@pytest.mark.parametrize("flags, references", [(PRIVATE, 1), (SHARED, 2)])
def test_base_pages(flags, references):
    booted = machine()
    process = booted.process()
    mmap_zero(process, OrdinaryMemory(booted), 6 * MIB, flags, BASE)
    process.madvise(BASE, 6 * MIB, Madv.NOHUGEPAGE)
    process.mm.touch(BASE + 4096, 600, write=True)
    assert process.mm.leaves(process.mm.find_vma(BASE)).tolist() == [600, 0, 0]
    assert process.mm.translate(BASE) is None
    first = process.mm.translate(BASE + 4096)
    assert [process.mm.translate(BASE + 4096 * k) for k in range(1, 601)] == list(range(first, first + 600))
    for at in (first, first + 599):
        page = booted.array.decode(at)
        assert page["_refcount"] == references and page["mapping"] & 1 == (flags == PRIVATE)
        assert booted.kernel.abi.decode_flags(page["flags"])["zone"] == booted.kernel.abi.zone("NORMAL")
    assert booted.array.decode(first + 600)["_refcount"] == 0
    # A huge page does not take the place of base pages that are there.
    process.madvise(BASE, 6 * MIB, Madv.HUGEPAGE)
    process.mm.touch(BASE, 1536, write=True)
    assert process.mm.translate(BASE + 4096) == first
    assert process.mm.leaves(process.mm.find_vma(BASE)).tolist() == ([1024, 1, 0] if flags == PRIVATE else [1536, 0, 0])


@needs_jit
@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("flags", [PRIVATE, HUGETLB, SHARED])
def test_a_pin_gives_back_what_it_took(release, flags):
    booted = machine(release)
    process = faulted(booted, flags, 4 * MIB)
    first = process.mm.translate(BASE)
    before = booted.array.view(first, 1024).copy()
    held = booted.gup.pin_user_pages_fast(process.mm, BASE + 100 * 4096, 700, Foll.WRITE | Foll.LONGTERM)
    assert held.whole and booted.gup.first_not_pinned(held.pfns) is None
    more = (booted.array.view(first, 1024)[:, 6] >> 32).astype(int) - (before[:, 6] >> 32).astype(int)
    # A compound page counts a reference for each of its pages, a base page 1024 for a pin.
    expected = np.zeros(1024, int)
    if flags == SHARED:
        expected[100:800] = 1024
    else:
        expected[[0, 512]] = 412, 288
    np.testing.assert_array_equal(more, expected)
    booted.gup.release(held)
    after = booted.array.view(first, 1024).copy()
    after[:, 0] &= ~np.uint64(booted.kernel.abi.flag("referenced"))
    np.testing.assert_array_equal(after, before)


def test_huge_pages_lie_at_multiples_of_their_size_and_apart():
    booted = machine(end=NORMAL_START + 3 * GIB)
    memory, process = OrdinaryMemory(booted), booted.process()
    taken = []
    for flags, length in ((PRIVATE, 3 * MIB), (HUGETLB, 1), (HUGETLB_1G, 1), (SHARED, 8192)):
        addr = mmap_zero(process, memory, length, flags)
        vma = process.mm.find_vma(addr)
        process.mm.touch(addr, vma.length >> 12, write=True)
        taken += [process.mm.translate(at) for at in range(vma.start, vma.end, 4096)]
        level, entry = process.mm.walk(vma.end - 4096)
        assert entry & Pg.RW and process.mm.translate(vma.end - 4096 & -level.size) % (level.size >> 12) == 0
        assert vma.length % vma.file.pagesize(vma) == 0
    assert len(set(taken)) == len(taken) == (3 * MIB + 2 * MIB + GIB + 8192) >> 12


def test_no_memory_is_left():
    booted = machine(end=NORMAL_START + 128 * MIB)
    process = booted.process()
    addr = mmap_zero(process, OrdinaryMemory(booted), 256 * MIB, HUGETLB)
    with pytest.raises(WorkbenchError, match="no memory") as refused:
        process.mm.touch(addr, 256, MIB, write=True)
    assert refused.value.errno == 12
    assert process.mm.leaves(process.mm.find_vma(addr))[Level.PMD] == 64


def test_what_copying_on_write_would_do_is_refused():
    booted = machine()
    process = booted.process()
    addr = mmap_zero(process, OrdinaryMemory(booted), 2 * MIB)
    with pytest.raises(WorkbenchError, match="read before it is written"):
        process.mm.touch(addr)
    assert process.mm.translate(addr) is None
    shared = mmap_zero(process, OrdinaryMemory(booted, (NORMAL_START >> 12) + 512), 4096, SHARED)
    process.mm.touch(shared)
    assert not process.mm.walk(shared)[1] & Pg.DIRTY
