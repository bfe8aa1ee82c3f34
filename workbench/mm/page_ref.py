# SPDX-License-Identifier: GPL-2.0-only
"""References and flags of a page, as those who pin it change them: locked operations, in the release's order.

A reference is counted on the head.  A pin (FOLL_PIN) is told from a plain reference (FOLL_GET):

* a base page counts 1024 references for it;
* a compound page counts one, and one more in a counter of its own, which lies in tail 2 up to 5.17 (for
  orders above 1), in tail 1 since.

Kernel: include/linux/page_ref.h, include/linux/mm.h, mm/gup.c.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NamedTuple

import numpy as np

from workbench.abi import Role
from workbench.mm._jit import borrowing, inline, likely
from workbench.mm.atomics import atomic_add_i32, atomic_and_u64, atomic_or_u64, cmpxchg_i32
from workbench.mm.events import Access, Site, note_load, note_store
from workbench.mm.memmap import (
    COMPOUND_HEAD,
    COUNTS,
    FLAGS,
    LOW_HALF,
    MAPPING,
    REFCOUNT_SHIFT,
    TAIL_DATA,
    read_once,
    struct_page,
)
from workbench.series import Kernel

GUP_PIN_COUNTING_BIAS = 1024

_HEAD_BIT = np.uint64(1)
_NONE = np.uint64(0)
_LINE_SHIFT = np.uint64(6)
_BIAS = np.int64(GUP_PIN_COUNTING_BIAS)
_REFCOUNT_BYTE = np.int64(52)
_ORDER_SHIFT, _ORDER = np.uint64(8), np.uint64(0xFF)


class Foll(IntFlag):
    """FOLL_* flags, with the numbers they have up to 6.2 (include/linux/mm.h)."""

    WRITE = 0x01
    TOUCH = 0x02
    GET = 0x04
    FORCE = 0x10
    LONGTERM = 0x10000
    PIN = 0x40000
    FAST_ONLY = 0x80000


class RefSwitch(IntEnum):
    """How a release counts references: bits of :attr:`PageRefs.switches`.

    Attributes
    ----------
    BIAS_AT_ONCE
        try_grab_compound_head() adds all 1024 in the step that looks whether the count is zero; later
        releases add one there and 1023 after it (5.10).
    PINCOUNT_FIRST
        The pin counter before the reference count (5.10).
    GRAB_PAGE_ADDS
        try_grab_page() relies on the page-table lock and adds without a look at zero in the same step
        (5.10, 6.1 and later; 5.15 to 5.17 share the code of the lockless path).
    FOLIO_FAST
        The lockless path over huge device entries grabs like any other, then marks (6.12).
    PINCOUNT_ANY_ORDER
        Every compound page has a pin counter (6.1 and later).
    SUB_AND_TEST
        References go in one step; before, all but one went first (6.1 and later).
    UNPIN_EACH
        unpin_user_pages() releases page by page (5.10).
    DIRTY_IS_NOOP
        set_page_dirty() of device-dax memory does nothing (5.10).
    LONGTERM_TOUCHES
        Long-term pins through pin_user_pages_fast() mark the page accessed (6.12).
    LRU_GEN
        mark_page_accessed() counts in the multi-generation LRU's bits (6.12).
    GRAB_PAGE_ASKED
        The lockless path over other huge entries grabs through the first page asked for; before, through the first
        page that the entry maps (6.1 and later).
    HEAD_ONCE
        Not in any release: version 4's patch 8, one grab for the pages of a compound page.
    PLAIN
        Not in any release: loads and stores instead of locked operations, to show what gets lost.
    """

    BIAS_AT_ONCE = 1 << 0
    PINCOUNT_FIRST = 1 << 1
    GRAB_PAGE_ADDS = 1 << 2
    FOLIO_FAST = 1 << 3
    PINCOUNT_ANY_ORDER = 1 << 4
    SUB_AND_TEST = 1 << 5
    UNPIN_EACH = 1 << 6
    DIRTY_IS_NOOP = 1 << 7
    LONGTERM_TOUCHES = 1 << 8
    LRU_GEN = 1 << 9
    HEAD_ONCE = 1 << 10
    PLAIN = 1 << 11
    GRAB_PAGE_ASKED = 1 << 12


_S = RefSwitch
_OF_BASE = {
    "5.10": _S.BIAS_AT_ONCE | _S.PINCOUNT_FIRST | _S.GRAB_PAGE_ADDS | _S.UNPIN_EACH | _S.DIRTY_IS_NOOP,
    "5.15": 0,
    "5.16": 0,
    "5.17": 0,
    "6.1": _S.GRAB_PAGE_ADDS | _S.PINCOUNT_ANY_ORDER | _S.SUB_AND_TEST | _S.GRAB_PAGE_ASKED,
    "6.12": _S.GRAB_PAGE_ADDS
    | _S.PINCOUNT_ANY_ORDER
    | _S.SUB_AND_TEST
    | _S.GRAB_PAGE_ASKED
    | _S.FOLIO_FAST
    | _S.LONGTERM_TOUCHES
    | _S.LRU_GEN,
}


class PageRefs(NamedTuple):
    """What the kernels here need beside the memmap.

    Attributes
    ----------
    head, referenced, dirty, locked, workingset, unevictable, active : uint64
        Page flags as masks.
    lru_refs, lru_refs_one : uint64
        The LRU_REFS bits of the flags word and the lowest of them; 0 where a release has none.
    zone, zone_device : uint64
        The ZONE bits, and what they hold for ZONE_DEVICE.
    order_in_flags : bool
        6.12: the order lies in the first tail's flags word.
    pincount_tail, pincount_byte : int64
        Which tail has the pin counter, and at which of its bytes.
    switches : int64
        :class:`RefSwitch` bits.
    """

    head: np.uint64
    referenced: np.uint64
    dirty: np.uint64
    locked: np.uint64
    workingset: np.uint64
    unevictable: np.uint64
    active: np.uint64
    lru_refs: np.uint64
    lru_refs_one: np.uint64
    zone: np.uint64
    zone_device: np.uint64
    order_in_flags: bool
    pincount_tail: int
    pincount_byte: int
    switches: int


_PINCOUNTS = ("hpage_pinned_refcount", "compound_pincount", "_pincount")


def page_refs(kernel: Kernel, *, head_once: bool = False, plain: bool = False) -> PageRefs:
    """The :class:`PageRefs` of a kernel.

    Parameters
    ----------
    kernel : Kernel
    head_once : bool
        With version 4's patch 8, which was never merged: :attr:`RefSwitch.HEAD_ONCE`.
    plain : bool
        Without locked operations: :attr:`RefSwitch.PLAIN`.
    """
    abi = kernel.abi
    tail, byte = next(
        (number, field.offset)
        for number, role in ((1, Role.FIRST_TAIL), (2, Role.SECOND_TAIL))
        for field in abi.fields(role)
        if field.name in _PINCOUNTS
    )
    lru_refs = next((field.mask for field in abi.flags_fields if field.name == "LRU_REFS"), 0)
    zone = abi.bits("ZONE")
    switches = int(_OF_BASE[kernel.tree.base])
    switches |= (RefSwitch.HEAD_ONCE if head_once else 0) | (RefSwitch.PLAIN if plain else 0)

    def mask(flag: str) -> np.uint64:
        return np.uint64(abi.flag(flag))

    return PageRefs(
        head=mask("head"),
        referenced=mask("referenced"),
        dirty=mask("dirty"),
        locked=mask("locked"),
        workingset=mask("workingset"),
        unevictable=mask("unevictable"),
        active=mask("active"),
        lru_refs=np.uint64(lru_refs),
        lru_refs_one=np.uint64(lru_refs & -lru_refs),
        zone=np.uint64(zone.mask),
        zone_device=np.uint64(abi.zone_device << zone.shift),
        order_in_flags="compound_order" not in {f.name for f in abi.fields(Role.FIRST_TAIL)},
        pincount_tail=tail,
        pincount_byte=byte,
        switches=switches,
    )


# what a page is


@inline
def head_of(vm, i, word):
    """The row of the head that word 1 of row ``i`` leads to; ``i`` itself where it is no tail."""
    if likely((word & _HEAD_BIT) == _NONE):
        return np.int64(i)
    return np.int64((word - _HEAD_BIT - vm.address) >> _LINE_SHIFT)


@inline
def tail_word(vm, head):
    """Word 1 of every tail of the compound page at ``head``."""
    return struct_page(vm, head) | _HEAD_BIT


@inline
def compound_head(vm, i, ev):
    """compound_head(): the row of the head of row ``i``."""
    return head_of(vm, i, read_once(vm, i, COMPOUND_HEAD, ev))


@inline
def compound_order(vm, refs, head, ev):
    """compound_order(): 0 for a base page."""
    if read_once(vm, head, FLAGS, ev) & refs.head == _NONE:
        return np.int64(0)
    if refs.order_in_flags:
        return np.int64(read_once(vm, head + 1, FLAGS, ev) & _ORDER)
    return np.int64((read_once(vm, head + 1, TAIL_DATA, ev) >> _ORDER_SHIFT) & _ORDER)


@inline
def has_pincount(vm, refs, head, ev):
    """hpage_pincount_available(), since 6.1 folio_test_large(): whether pins of a page are counted apart."""
    if refs.switches & RefSwitch.PINCOUNT_ANY_ORDER:
        return (read_once(vm, head, FLAGS, ev) & refs.head) != _NONE
    return compound_order(vm, refs, head, ev) > 1


@inline
def page_count(vm, i, ev):
    """_refcount of row ``i``, as int32."""
    return np.int32(read_once(vm, i, COUNTS, ev) >> REFCOUNT_SHIFT)


# locked operations


@inline
def _add(vm, refs, i, byte, delta, site, ev):
    """Add to the int at ``byte`` of row ``i``; the value after it."""
    word = byte >> 3
    if ev is not None or refs.switches & RefSwitch.PLAIN:
        shift = np.uint64((byte & 7) * 8)
        old = vm.pages[i, word]
        count = (((old >> shift) & LOW_HALF) + (np.uint64(np.int64(delta)) & LOW_HALF)) & LOW_HALF
        new = (old & ~(LOW_HALF << shift)) | (count << shift)
        if ev is not None:
            note_load(ev, i)
            note_store(ev, i, word, old, new, site, Access.LOCKED)
        if refs.switches & RefSwitch.PLAIN:
            vm.pages[i, word] = new
            return np.int32(count)
    address = np.int64(vm.pages.ctypes.data) + np.int64(i) * 64 + byte
    return np.int32(np.int64(atomic_add_i32(address, np.int32(delta))) + np.int64(delta))


@inline
def page_ref_add(vm, refs, i, nr, site, ev):
    """Add ``nr`` (may be negative) references to row ``i``; the count after it."""
    return _add(vm, refs, i, _REFCOUNT_BYTE, nr, site, ev)


@inline
def page_ref_sub_and_test(vm, refs, i, nr, ev):
    """Take ``nr`` references from row ``i``; whether none is left."""
    return page_ref_add(vm, refs, i, -nr, Site.put_page_testzero, ev) == 0


@inline
def pincount_add(vm, refs, head, nr, ev):
    """Add ``nr`` (may be negative) to the pin counter of the compound page at ``head``; the value after it."""
    site = Site.pincount_add if nr > 0 else Site.pincount_sub
    return _add(vm, refs, head + refs.pincount_tail, np.int64(refs.pincount_byte), nr, site, ev)


@inline
def page_ref_add_unless_zero(vm, refs, i, nr, seen, ev):
    """Add ``nr`` references where there is at least one; ``seen`` is a guess of the count.

    Kernel: include/linux/page_ref.h, ``page_ref_add_unless()``: one compare and exchange where the guess is right.

    Returns
    -------
    bool
    """
    address = np.int64(vm.pages.ctypes.data) + np.int64(i) * 64 + _REFCOUNT_BYTE
    while seen != 0:
        new = np.int32(np.int64(seen) + np.int64(nr))
        if refs.switches & RefSwitch.PLAIN:
            _add(vm, refs, i, _REFCOUNT_BYTE, nr, Site.page_ref_add_unless, ev)
            return True
        if ev is not None:
            note_load(ev, i)
            old = vm.pages[i, COUNTS]
            word = (old & LOW_HALF) | ((np.uint64(np.int64(new)) & LOW_HALF) << REFCOUNT_SHIFT)
            note_store(ev, i, COUNTS, old, word, Site.page_ref_add_unless, Access.LOCKED)
        was = cmpxchg_i32(address, seen, new)
        if was == seen:
            return True
        seen = was
    return False


@inline
def set_flag(vm, refs, i, mask, site, ev):
    """set_bit() on the flags word of row ``i``."""
    if ev is not None:
        note_load(ev, i)
        note_store(ev, i, FLAGS, vm.pages[i, FLAGS], vm.pages[i, FLAGS] | mask, site, Access.LOCKED)
    if refs.switches & RefSwitch.PLAIN:
        vm.pages[i, FLAGS] |= mask
    else:
        atomic_or_u64(np.int64(vm.pages.ctypes.data) + np.int64(i) * 64, mask)


@inline
def clear_flag(vm, refs, i, mask, site, ev):
    """clear_bit() on the flags word of row ``i``."""
    if ev is not None:
        note_load(ev, i)
        note_store(ev, i, FLAGS, vm.pages[i, FLAGS], vm.pages[i, FLAGS] & ~mask, site, Access.LOCKED)
    if refs.switches & RefSwitch.PLAIN:
        vm.pages[i, FLAGS] &= ~mask
    else:
        atomic_and_u64(np.int64(vm.pages.ctypes.data) + np.int64(i) * 64, ~mask)


# grabbing


@inline
def look_at(vm, refs, head, pin, ev):
    """What those who grab look at before they change anything.

    The processor waits with what comes after a locked operation: all that is read is read before the first one.

    Returns
    -------
    (count, apart) : int32, bool
        _refcount; and whether pins, where they are taken (``pin``), are counted apart.
    """
    count = page_count(vm, head, ev)
    return count, pin and count > 0 and has_pincount(vm, refs, head, ev)


@inline
def _count_pins(vm, refs, head, nr, apart, ev):
    """After ``nr`` references were taken: what makes them pins."""
    if apart:
        pincount_add(vm, refs, head, nr, ev)
    else:
        page_ref_add(vm, refs, head, nr * (_BIAS - np.int64(1)), Site.page_ref_add, ev)


@inline
def try_grab_compound_head(vm, refs, head, nr, pin, seen, ev):
    """Take ``nr`` references of the page at ``head`` without any lock held.

    Parameters
    ----------
    nr : int64
    pin : bool
        Pins (FOLL_PIN), not plain references (FOLL_GET).
    seen : (int32, bool)
        As of :func:`look_at`.

    Returns
    -------
    bool
        False where the count is zero, or negative: it has overflowed.

    Kernel
    ------
    mm/gup.c, try_grab_compound_head(), 5.10 to 5.17; try_grab_folio(), 6.1; try_grab_folio_fast(), 6.12.
    """
    count, apart = seen
    if count < 0:
        return False
    if not pin:
        return page_ref_add_unless_zero(vm, refs, head, nr, count, ev)
    if refs.switches & RefSwitch.BIAS_AT_ONCE:
        if not page_ref_add_unless_zero(vm, refs, head, nr if apart else nr * _BIAS, count, ev):
            return False
        if apart:
            pincount_add(vm, refs, head, nr, ev)
        return True
    if not page_ref_add_unless_zero(vm, refs, head, nr, count, ev):
        return False
    _count_pins(vm, refs, head, nr, apart, ev)
    return True


@inline
def try_grab_page(vm, refs, head, pin, seen, ev):
    """Take one reference or pin of the page at ``head``, whose page-table entry cannot go away.

    Returns
    -------
    bool
        False where the count is not positive.

    Kernel
    ------
    mm/gup.c, try_grab_page(), 5.10 to 6.1; try_grab_folio(), 6.12.
    """
    if not refs.switches & RefSwitch.GRAB_PAGE_ADDS:
        return try_grab_compound_head(vm, refs, head, 1, pin, seen, ev)
    count, apart = seen
    if count <= 0:
        return False
    if not pin:
        page_ref_add(vm, refs, head, 1, Site.page_ref_add, ev)
    elif not apart:
        page_ref_add(vm, refs, head, _BIAS, Site.page_ref_add, ev)
    elif refs.switches & RefSwitch.PINCOUNT_FIRST:
        pincount_add(vm, refs, head, 1, ev)
        page_ref_add(vm, refs, head, 1, Site.page_ref_add, ev)
    else:
        page_ref_add(vm, refs, head, 1, Site.page_ref_add, ev)
        pincount_add(vm, refs, head, 1, ev)
    return True


# releasing


@inline
def put_compound_head(vm, refs, head, nr, pin, ev):
    """Give ``nr`` references or pins of the page at ``head`` back; whether the last reference went.

    Kernel: mm/gup.c, ``put_compound_head()``, 5.10 to 5.17; ``gup_put_folio()``, 6.1 and later;
    include/linux/mm.h, ``put_page()``, for one plain reference.
    """
    if pin:
        if has_pincount(vm, refs, head, ev):
            pincount_add(vm, refs, head, -nr, ev)
        else:
            nr *= _BIAS
    if refs.switches & RefSwitch.SUB_AND_TEST:
        return page_ref_sub_and_test(vm, refs, head, nr, ev)
    if nr > 1:
        page_ref_add(vm, refs, head, 1 - nr, Site.page_ref_sub, ev)
    return page_ref_sub_and_test(vm, refs, head, np.int64(1), ev)


# marks


@borrowing
def set_page_dirty(vm, refs, head, ev):
    """Mark a page dirty, as the file's address space does it.

    Kernel: drivers/dax/device.c, ``dev_dax_aops``: nothing on 5.10, the flag alone since (5.15 and later).
    """
    word = read_once(vm, head, FLAGS, ev)
    noop = (
        refs.switches & RefSwitch.DIRTY_IS_NOOP
        and (word & refs.zone) == refs.zone_device
        and read_once(vm, head, MAPPING, ev) != _NONE
    )
    if not noop and (word & refs.dirty) == _NONE:
        set_flag(vm, refs, head, refs.dirty, Site.set_page_dirty, ev)


@borrowing
def set_page_dirty_lock(vm, refs, head, ev):
    """Mark a page dirty that the caller does not know to be locked, unless it is marked.

    Kernel: mm/page-writeback.c, ``set_page_dirty_lock()``; mm/gup.c asks for the flag first.
    """
    if (read_once(vm, head, FLAGS, ev) & refs.dirty) == _NONE:
        set_flag(vm, refs, head, refs.locked, Site.lock_page, ev)
        set_page_dirty(vm, refs, head, ev)
        clear_flag(vm, refs, head, refs.locked, Site.unlock_page, ev)
