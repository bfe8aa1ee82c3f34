# SPDX-License-Identifier: GPL-2.0-only
"""The memmap as the kernels see it: the array, where it starts, and the release's numbers.

A kernel addresses a struct page by its row ``i`` of ``vm.pages``; its pfn is ``vm.start_pfn + i``.
Every access to a struct page goes through the functions here, which also tell ``ev``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from workbench.abi import Abi, Role
from workbench.mm._jit import inline
from workbench.mm.atomics import atomic_add_i32
from workbench.mm.events import Access, note_load, note_store
from workbench.series import Kernel

REFCOUNT_SHIFT = np.uint64(32)
HIGH_HALF = np.uint64(0xFFFF_FFFF_0000_0000)
LOW_HALF = np.uint64(0x0000_0000_FFFF_FFFF)
_LINE = np.uint64(64)

# The words of a struct page, under the names of what they hold here.  As numpy integers they are no literals to
# numba, which would compile each function once for every literal it is called with.
FLAGS, LRU_NEXT, LRU_PREV, MAPPING, INDEX, PRIVATE, COUNTS, MEMCG = (np.int64(word) for word in range(8))
PGMAP = COMPOUND_HEAD = LRU_NEXT
ZONE_DEVICE_DATA = TAIL_DATA = LRU_PREV


class Memmap(NamedTuple):
    """What the jitted kernels need to know.

    Attributes
    ----------
    pages : uint64[nr_pages, 8]
        Struct pages, C-contiguous, 64-byte aligned.
    pageblock_flags : uint64[nr_pages / 8192]
        Four bits a pageblock of 512 pages.
    start_pfn : int64
        The pfn of row 0, a multiple of 32,768 (a section).
    address : uint64
        Kernel virtual address of row 0's struct page.
    zone_shift, node_shift : uint64
        Places in the flags word.
    last_cpupid : uint64
        The LAST_CPUPID bits, all ones, in place; 0 without NUMA balancing.
    reserved, head : uint64
        PG_reserved and PG_head as masks.
    pincount_in_first_tail, order_in_flags : bool
        Where prep_compound_head() writes: neither up to 5.17, the first on 6.1, both on 6.12.
    switches : int64
        :class:`workbench.series.Switch` bits of the tree.
    """

    pages: np.ndarray
    pageblock_flags: np.ndarray
    start_pfn: int
    address: np.uint64
    zone_shift: np.uint64
    node_shift: np.uint64
    last_cpupid: np.uint64
    reserved: np.uint64
    head: np.uint64
    pincount_in_first_tail: bool
    order_in_flags: bool
    switches: int


def memmap(kernel: Kernel, pages: np.ndarray, pageblock_flags: np.ndarray, start_pfn: int) -> Memmap:
    """The :class:`Memmap` of ``kernel`` over ``pages`` (uint64[nr_pages, 8])."""
    abi: Abi = kernel.abi
    first_tail = {f.name for f in abi.fields(Role.FIRST_TAIL)}
    node = abi.bits("NODE")
    return Memmap(
        pages=pages,
        pageblock_flags=pageblock_flags,
        start_pfn=start_pfn,
        address=np.uint64(abi.struct_page(start_pfn)),
        zone_shift=np.uint64(abi.bits("ZONE").shift),
        node_shift=np.uint64(node.shift if node.width else 0),  # without NUMA no shift by all 64 bits
        last_cpupid=np.uint64(abi.bits("LAST_CPUPID").mask),
        reserved=np.uint64(abi.flag("reserved")),
        head=np.uint64(abi.flag("head")),
        pincount_in_first_tail=bool(first_tail & {"compound_pincount", "_pincount"}),
        order_in_flags="compound_order" not in first_tail,
        switches=int(kernel.tree.switches),
    )


@inline
def struct_page(vm, i):
    """Kernel virtual address of the struct page in row ``i``."""
    return vm.address + np.uint64(i) * _LINE


@inline
def load(vm, i, word, ev):
    """Word ``word`` of row ``i``."""
    note_load(ev, i)
    return vm.pages[i, word]


@inline
def read_once(vm, i, word, ev):
    """READ_ONCE(): as :func:`load`, where no store of one's own is near.

    The index is unsigned, so that nobody looks whether it is negative; the compiler would not know that it and the
    signed one of a store are the same.
    """
    note_load(ev, i)
    return vm.pages[np.uint64(i), word]


@inline
def store(vm, i, word, value, site, ev):
    """Store a whole word."""
    if ev is not None:
        note_store(ev, i, word, vm.pages[i, word], value, site, Access.PLAIN)
    vm.pages[i, word] = value


@inline
def store_bits(vm, i, word, mask, value, site, ev):
    """Store a member smaller than a word: the bits of ``mask``, already in place."""
    new = (vm.pages[i, word] & ~mask) | value
    if ev is not None:
        note_store(ev, i, word, vm.pages[i, word], new, site, Access.PLAIN)
    vm.pages[i, word] = new


@inline
def page_ref_sub_return(vm, i, site, ev):
    """Locked decrement of _refcount; the value after it."""
    if ev is not None:
        note_load(ev, i)
        old = vm.pages[i, COUNTS]
        count = ((old >> REFCOUNT_SHIFT) - np.uint64(1)) & LOW_HALF
        note_store(ev, i, COUNTS, old, (old & LOW_HALF) | (count << REFCOUNT_SHIFT), site, Access.LOCKED)
    return atomic_add_i32(np.int64(vm.pages.ctypes.data + i * 64 + 52), np.int32(-1)) - 1
