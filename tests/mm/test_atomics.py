# SPDX-License-Identifier: GPL-2.0-only
"""Locked operations: what they return, that none is lost, and that the machine code has them."""

import re
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from tests.mm.support import KERNELS, needs_jit, over, struct_pages
from workbench.mm import atomics, memremap, page_alloc
from workbench.mm._jit import JIT, jit
from workbench.mm.atomics import atomic_add_i32, cmpxchg_u64
from workbench.mm.events import events
from workbench.mm.memmap import page_ref_sub_return

I32 = st.integers(-(2**31), 2**31 - 1)
U64 = st.integers(0, 2**64 - 1)


@jit
def add(address, delta):
    return atomic_add_i32(address, delta)


@jit
def exchange(address, old, new):
    return cmpxchg_u64(address, old, new)


@jit
def add_often(address, delta, times):
    for _ in range(times):
        atomic_add_i32(address, delta)


@jit
def exchange_often(address, words, times):
    """Add one to a word by compare and exchange, retrying as the kernel does."""
    for _ in range(times):
        was = words[0]
        while True:
            seen = cmpxchg_u64(address, was, was + np.uint64(1))
            if seen == was:
                break
            was = seen


@jit
def plain_often(words, delta, times):
    for _ in range(times):
        words[0] += delta


def wrapped(value):
    return (value + 2**31) % 2**32 - 2**31


@pytest.mark.parametrize("function", [add, atomics._plain_add_i32])
@given(before=I32, delta=I32)
def test_add_returns_what_was_there(function, before, delta):
    cells = np.array([11, before, 22], np.int32)
    assert function(np.int64(cells.ctypes.data + 4), np.int32(delta)) == before
    assert cells.tolist() == [11, wrapped(before + delta), 22]


@pytest.mark.parametrize("function", [exchange, atomics._plain_cmpxchg_u64])
@given(before=U64, old=U64, new=U64, right=st.booleans())
def test_exchange_stores_only_over_the_expected(function, before, old, new, right):
    cells = np.array([11, before, 22], np.uint64)
    old = before if right else old
    assert function(np.int64(cells.ctypes.data + 8), np.uint64(old), np.uint64(new)) == before
    assert cells.tolist() == [11, new if old == before else before, 22]


def both(work, *arguments):
    """Two threads at once, in compiled code without the interpreter's lock."""
    start = threading.Barrier(2)

    def run():
        start.wait()
        work(*arguments)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


TIMES = 500_000


@needs_jit
def test_two_threads_lose_no_update():
    count = np.zeros(1, np.int32)
    add_often(count.ctypes.data, np.int32(0), 1)  # compiled before the threads start
    both(add_often, count.ctypes.data, np.int32(1), TIMES)
    assert count[0] == 2 * TIMES
    word = np.zeros(1, np.uint64)
    exchange_often(word.ctypes.data, word, 0)
    both(exchange_often, word.ctypes.data, word, TIMES)
    assert word[0] == 2 * TIMES


def test_a_refcount_goes_down_by_one_and_its_neighbours_stay():
    k, _ = KERNELS["5.17"]
    pages = struct_pages(2, 0x1111111111111111)
    vm = over(k, pages)
    assert page_ref_sub_return(vm, 1, 14, None) == 0x11111110
    assert page_ref_sub_return(vm, 1, 14, events(2, 4)) == 0x1111110F
    assert pages[1].tolist() == [0x1111111111111111] * 6 + [0x1111110F11111111] + [0x1111111111111111]
    assert (pages[0] == 0x1111111111111111).all()
    pages[0, 6] = 0
    assert page_ref_sub_return(vm, 0, 14, None) == -1, "below zero is told, not hidden"


def locked_instructions(function, *arguments):
    """Mnemonics that follow a lock prefix; compiled here, since code from a cache cannot be looked into.

    Numba's own counting of references to arrays (lock incq, lock decq) is left out.
    """
    fresh = njit(nogil=True)(function.py_func)
    fresh(*arguments)
    (text,) = fresh.inspect_asm().values()
    return set(re.findall(r"\block\b\s+(\w+)", text)) - {"incq", "decq"}


def one_page():
    return over(KERNELS["5.17"][0], struct_pages(1))


@needs_jit
def test_machine_code_has_the_lock_prefix():
    """What two CPUs need; a machine with one would not notice its absence."""
    cell, word = np.zeros(1, np.int32), np.zeros(1, np.uint64)
    on_32_bits = {"addl", "xaddl", "incl", "subl", "decl"}
    found = locked_instructions(add_often, cell.ctypes.data, np.int32(1), 1)
    assert found
    assert found <= on_32_bits
    assert locked_instructions(exchange, word.ctypes.data, np.uint64(0), np.uint64(1)) == {"cmpxchgq"}
    found = locked_instructions(memremap.put_pages, one_page(), 0, 1, 0, None)
    assert found
    assert found <= on_32_bits
    assert locked_instructions(page_alloc.set_pageblock_migratetype, one_page(), 0, None) == {"cmpxchgq"}


@needs_jit
def test_plain_stores_have_no_lock_prefix():
    assert locked_instructions(plain_often, np.zeros(1, np.int32), np.int32(1), 1) == set()


def test_the_plain_twins_stand_in_when_the_jit_is_off():
    assert (atomics.atomic_add_i32 is atomics._plain_add_i32) == (not JIT)
    assert (atomics.cmpxchg_u64 is atomics._plain_cmpxchg_u64) == (not JIT)
