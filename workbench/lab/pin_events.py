# SPDX-License-Identifier: GPL-2.0-only
"""What pinning and unpinning do to the struct pages of a device, as closed forms.

Three counts for one **phase**, the whole of the calls that pin (get) or unpin (put) a range, each page
once and in order.  All three are of the *device's* struct pages alone: page tables, locks, per-CPU
counters and the array of page pointers are not counted.

``locked``
    Locked read-modify-write operations that the processor executes: ``atomic_add``, a ``cmpxchg`` that
    succeeds at once, ``set_bit``.  They equal the stores to struct pages, since these paths store in no
    other way.
``lines_written``
    Distinct 64-byte lines that were stored to at least once in the phase.  A struct page is one line, so
    they are distinct struct pages; a line stored to a thousand times is one.  In a phase much larger than
    the caches this is the number of lines that go back to memory, as long as the lines that are hot stay.
``lines_read``
    Distinct lines that were touched, those written included.

They do not depend on where the struct pages lie: an altmap changes the price of a line, not the count.

Kernel
------
``mm/gup.c``: ``__gup_device_huge()``, ``gup_pte_range()``, ``try_grab_compound_head()``,
``put_compound_head()``, ``unpin_user_pages()``, ``unpin_user_page_range_dirty_lock()``; 5.15 to 5.17 and 6.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from workbench import text
from workbench.errors import WorkbenchError
from workbench.nvdimm import SUPPORTED_ALIGNS

PIN_FAST = "pin_user_pages_fast"
GET_FAST = "get_user_pages_fast"
PIN_SLOW = "pin_user_pages"
UNPIN = "unpin_user_pages"
UNPIN_RANGE = "unpin_user_page_range_dirty_lock"
PUT_PAGE = "put_page"
PATHS = (PIN_FAST, GET_FAST, PIN_SLOW, UNPIN, UNPIN_RANGE, PUT_PAGE)
"""The paths whose counts are known.

``pin_user_pages`` is the slow path, page by page, which FOLL_LONGTERM always takes on a device; its page-table
lock is not counted.  ``unpin_user_page_range_dirty_lock`` is that of one range with nothing to make dirty;
``put_page`` is a loop over all pages.  :data:`PIN_FAST` and :data:`UNPIN` are as recorded; the others are derived.
"""

PAGES_PER_CALL = 512

_GRAB = {PIN_FAST: 3, GET_FAST: 2, PIN_SLOW: 2}
"""Locked operations of one grab of a compound page: PG_referenced (not on the slow path), reference, pincount."""

_HEAD_AND_PINCOUNT = 2
_HEAD_ORDER_AND_PINCOUNT = 3


@dataclass(frozen=True, slots=True)
class Release:
    """What differs between releases in one phase.

    Attributes
    ----------
    pin_base, pin_base_pte, pin_base_slow : int
        Locked operations that pin a base page mapped by a PMD or PUD, by a PTE, and on the slow path.
    unpin_base, unpin_batch : int
        Locked operations that release a base page, and a batch of more than one page of one compound.
    compound_lines : int
        Struct pages that hold what releasing a batch reads: head, order, pincount.
    """

    pin_base: int
    pin_base_pte: int
    pin_base_slow: int
    unpin_base: int
    unpin_batch: int
    compound_lines: int


# The slow path leaves PG_referenced alone.
# 5.15 to 5.17: PG_referenced, cmpxchg of +1, add of +1023; release subtracts 1023 and puts 1, after the pincount.
_SERIES = Release(
    pin_base=3,
    pin_base_pte=3,
    pin_base_slow=2,
    unpin_base=2,
    unpin_batch=3,
    compound_lines=_HEAD_ORDER_AND_PINCOUNT,
)
# 6.1: PG_referenced, one add of +1024 unless mapped by a PTE; one subtraction; order and pincount share a tail.
_FOLIOS = Release(
    pin_base=2,
    pin_base_pte=3,
    pin_base_slow=1,
    unpin_base=1,
    unpin_batch=2,
    compound_lines=_HEAD_AND_PINCOUNT,
)

RELEASES = {"5.15": _SERIES, "5.16": _SERIES, "5.17": _SERIES, "6.1": _FOLIOS}
"""Release to its counts; 5.15, 5.17 and 6.1 are as recorded, 5.16 is 5.15's code."""


@dataclass(frozen=True, slots=True)
class PinEvents:
    """The counts of one phase; see the module for what each counts.

    Attributes
    ----------
    path : str
        One of :data:`PATHS`.
    pages : int
        4 KiB pages pinned or unpinned.
    locked, lines_written, lines_read : int
    """

    path: str
    pages: int
    locked: int
    lines_written: int
    lines_read: int


def pin_events(
    path: str,
    size: int,
    align: int = 2 << 20,
    compound: bool = False,
    release: str = "5.17",
    pages_per_call: int = PAGES_PER_CALL,
    grab_once: bool = False,
) -> PinEvents:
    """Count one phase over ``size`` bytes of a device, from the start of a compound page.

    Parameters
    ----------
    path : str
        One of :data:`PATHS`.
    size : int
        Bytes; a multiple of ``align``, as a device is.
    align : int
        4 KiB, 2 MiB or 1 GiB: the size of a mapping, and of a compound page if there are any.
    compound : bool
        With compound pages; an ``align`` of 4 KiB has none all the same.
    release : str
        A key of :data:`RELEASES`.
    pages_per_call : int
        Pages pinned by a call; matters with ``grab_once`` only.
    grab_once : bool
        One grab for all pages of a compound page in a call: hugetlb and THP on every release, device-dax
        with version 4's patch 8 only.

    Returns
    -------
    PinEvents

    Raises
    ------
    WorkbenchError
        An argument is not one of those above.

    Examples
    --------
    >>> pin_events(PIN_FAST, 2 << 20, compound=True)
    PinEvents(path='pin_user_pages_fast', pages=512, locked=1536, lines_written=2, lines_read=512)
    >>> pin_events(UNPIN, 2 << 20, compound=True).locked, pin_events(UNPIN, 2 << 20).locked
    (3, 1024)
    """
    if path not in PATHS:
        raise WorkbenchError(f"no counts for the path {path!r}. Use one of {', '.join(PATHS)}.")
    if release not in RELEASES:
        raise WorkbenchError(f"no counts for release {release!r}. Use one of {', '.join(RELEASES)}.")
    if align not in SUPPORTED_ALIGNS:
        raise WorkbenchError(f"an align is 4 KiB, 2 MiB or 1 GiB; got {text.size(align, exact=True)}.")
    if size <= 0 or size % align:
        raise WorkbenchError(
            f"a device has a multiple of its align of {text.size(align)}; got {text.size(size, exact=True)}. Round it."
        )
    if pages_per_call < 1:
        raise WorkbenchError(f"a call pins at least one page; got {pages_per_call}.")
    rules, pages, of_pte = RELEASES[release], size >> text.PAGE_SHIFT, align == text.PAGE_SIZE
    if not compound or of_pte:
        return PinEvents(path, pages, pages * _base_locked(path, rules, of_pte), pages, pages)
    compounds = size // align
    if path in _GRAB:
        locked, lines = _GRAB[path], 1 if path == GET_FAST else rules.compound_lines
        grabs = _grabs(pages, pages_per_call, align >> text.PAGE_SHIFT) if grab_once else pages
        written = compounds * (1 if path == GET_FAST else _HEAD_AND_PINCOUNT)
        return PinEvents(path, pages, grabs * locked, written, compounds * lines if grab_once else pages)
    if path == PUT_PAGE:
        return PinEvents(path, pages, pages, compounds, pages)
    touched = compounds * rules.compound_lines if path == UNPIN_RANGE else pages
    return PinEvents(path, pages, compounds * rules.unpin_batch, compounds * _HEAD_AND_PINCOUNT, touched)


def _base_locked(path: str, rules: Release, of_pte: bool) -> int:
    """Locked operations of a base page."""
    return {
        PIN_FAST: rules.pin_base_pte if of_pte else rules.pin_base,
        GET_FAST: 2,
        PIN_SLOW: rules.pin_base_slow,
        UNPIN: rules.unpin_base,
        UNPIN_RANGE: rules.unpin_base,
        PUT_PAGE: 1,
    }[path]


def _grabs(pages: int, pages_per_call: int, pages_per_compound: int) -> int:
    """Pairs of a call and a compound page that meet: a grab begins where either begins."""

    def starts(step: int) -> int:
        return -(-pages // step)

    both = math.lcm(pages_per_call, pages_per_compound)
    return starts(pages_per_call) + starts(pages_per_compound) - starts(both)
