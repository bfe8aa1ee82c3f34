# SPDX-License-Identifier: GPL-2.0-only
"""Memory for page arrays: aligned, handed out again, refused when there is too little."""

import builtins
import gc
import io
import re
from pathlib import Path

import numpy as np
import pytest

from workbench.errors import WorkbenchError
from workbench.mm import arena

MIB = 1 << 20


@pytest.fixture
def empty_arena(monkeypatch):
    gc.collect()
    monkeypatch.setattr(arena, "_free", [])


@pytest.mark.parametrize("nbytes", [2 * MIB, 6 * MIB, 256 * MIB])
def test_aligned_writable_words(nbytes):
    root = arena.take(nbytes)
    assert root.dtype == np.uint64
    assert root.nbytes == nbytes
    assert root.ctypes.data % arena.HUGE_PAGE == 0
    root[0] = root[-1] = 7
    assert root[0] == root[-1] == 7


def test_advised_to_be_huge(empty_arena):
    """The kernel lists the advice ("hg") for the mapping."""
    root = arena.take(8 * MIB)
    root[0] = 1
    flags, inside = None, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        bounds = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if bounds:
            inside = int(bounds[1], 16) <= root.ctypes.data < int(bounds[2], 16)
        elif inside and line.startswith("VmFlags:"):
            flags = line.split()[1:]
    if flags is None or not Path("/sys/kernel/mm/transparent_hugepage").exists():
        pytest.skip("this system does not tell")
    assert "hg" in flags
    assert "nr" in flags, "no swap or overcommit is reserved for address space alone"


def test_memory_returns_with_the_last_view_and_is_handed_out_again(empty_arena):
    root = arena.take(4 * MIB)
    address = root.ctypes.data
    view = root.reshape(-1, 8)[5:9]
    view[:] = 9
    del root
    gc.collect()
    assert arena.take(4 * MIB).ctypes.data != address, "a view still uses it"
    assert (view == 9).all()
    del view
    gc.collect()
    again = [arena.take(4 * MIB) for _ in range(2)]
    assert address in [a.ctypes.data for a in again]


def test_no_two_arrays_share_memory(empty_arena):
    arrays = [arena.take(2 * MIB) for _ in range(8)]
    for i, a in enumerate(arrays):
        a[:] = i
    del arrays[3]
    gc.collect()
    arrays.append(arena.take(2 * MIB))
    arrays[-1][:] = 99
    assert [int(a[0]) for a in arrays] == [0, 1, 2, 4, 5, 6, 7, 99]


def test_a_mapping_much_larger_than_asked_for_is_left_for_others(empty_arena):
    large = arena.take(64 * MIB)
    address = large.ctypes.data
    del large
    gc.collect()
    assert arena.take(2 * MIB).ctypes.data != address
    assert arena.take(40 * MIB).ctypes.data == address


def test_of_several_the_smallest_that_fits(empty_arena):
    first, second = arena.take(30 * MIB), arena.take(20 * MIB)
    smaller = second.ctypes.data
    del first, second
    gc.collect()
    assert arena.take(18 * MIB).ctypes.data == smaller


def test_what_is_kept_is_bounded(empty_arena, monkeypatch):
    """The largest goes first."""
    monkeypatch.setattr(arena, "_KEEP", 40 * MIB)
    arrays = [arena.take(n * MIB) for n in (2, 30, 10, 20)]
    while arrays:
        arrays.pop()
        gc.collect()
    assert sum(map(len, arena._free)) <= 40 * MIB
    assert sorted(len(m) // MIB for m in arena._free) == [4, 12, 22]


def test_address_space_that_cannot_be_had():
    with pytest.raises(WorkbenchError, match=r"refused .* of address space .*Use a smaller device"):
        arena.take(1 << 60)


def test_available_is_what_the_system_says(monkeypatch):
    lines = Path("/proc/meminfo").read_text().splitlines()
    total = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemTotal:"))
    assert 0 < arena.available() <= total
    said = "MemTotal:  16384 kB\nMemFree:   1 kB\nMemAvailable:   2048 kB\nBuffers: 3 kB\n"
    monkeypatch.setattr(builtins, "open", lambda *_, **__: io.StringIO(said))
    assert arena.available() == 2 * MIB
    monkeypatch.setattr(builtins, "open", lambda *_, **__: io.StringIO("MemFree: 1 kB\n"))
    with pytest.raises(WorkbenchError, match="no MemAvailable"):
        arena.available()


def test_more_than_is_available_is_refused_with_both_sizes(monkeypatch):
    monkeypatch.setattr(arena, "available", lambda: 1536 * MIB)
    arena.require(1024 * MIB, "filling something")
    with pytest.raises(WorkbenchError) as refused:
        arena.require(1024 * MIB + 1, "filling something")
    message = str(refused.value)
    assert message.startswith("filling something needs ~1 GiB of memory; 1536 MiB are available")
    assert "512 MiB of them stay free" in message
    assert "describe a smaller device" in message
    assert refused.value.errno is None
