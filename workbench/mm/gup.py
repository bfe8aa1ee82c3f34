# SPDX-License-Identifier: GPL-2.0-only
"""mm/gup.c: user pages pinned and released, as a driver calls it.

:class:`PageRefcounts` is the machine's side (its struct pages, its pgmaps, how its release counts); an
:class:`workbench.mm.mmap.Mm` is the process's.  A call gives as many pages as the kernel's would, which may be
fewer than asked for; none at all is an error.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np

from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE, PAGES_PER_SECTION
from workbench.errors import KernelCrash, WorkbenchError
from workbench.mm import gup_fast, gup_slow
from workbench.mm.events import Events
from workbench.mm.memmap import Memmap
from workbench.mm.memremap import PgmapArray, put_dev_pagemap
from workbench.mm.mmap import Mm, Vm, Vma, VmFault
from workbench.mm.page_array import PageArray
from workbench.mm.page_ref import Foll, RefSwitch, page_refs
from workbench.mm.pgtable import USER_END
from workbench.text import count, pfn_range

_FAST_FLAGS = Foll.WRITE | Foll.LONGTERM | Foll.FORCE | Foll.PIN | Foll.GET | Foll.FAST_ONLY
_MOST_FAULTS = 3
"""Faults of one page after which the kernel would be going round in circles."""


class Backing(Enum):
    """What an area's memory is, as far as those who pin it ask."""

    FILE = "file"
    FSDAX = "fsdax"
    HUGETLB = "hugetlb"
    ANONYMOUS = "anonymous"


def backing(vma: Vma) -> Backing:
    """What an area maps: the ``backing`` of its file, without one an ordinary file (device-dax is one)."""
    return getattr(vma.file, "backing", Backing.FILE)


class Pgmaps(Protocol):
    """Where the pgmaps of a machine are found: :class:`workbench.mm.memremap.ZoneDevice`."""

    @property
    def pgmap_array(self) -> PgmapArray:
        """The table of the pgmaps."""


@dataclass(frozen=True, eq=False)
class Pinned:
    """Pages that a caller holds.

    Attributes
    ----------
    pfns : int64[n]
        In the order of the user addresses.
    asked : int
        Pages asked for; more than n where something ended the call.
    pins : bool
        Held by FOLL_PIN: give back with unpin_user_pages(); else by put_page().
    error : int or None
        The positive errno that ended the call, where one did.  The kernel drops it when there are pages.
    """

    pfns: np.ndarray
    asked: int
    pins: bool
    error: int | None = None

    def __len__(self) -> int:
        return len(self.pfns)

    @property
    def whole(self) -> bool:
        """Whether all pages asked for are there."""
        return len(self.pfns) == self.asked


class PageRefcounts:
    """The struct pages of a machine, for those who take and give references of user pages.

    Parameters
    ----------
    array : PageArray
    pgmaps : ZoneDevice
        Anything with a ``pgmap_array``.
    head_once : bool
        With version 4's patch 8 ("grab head page refcount once for group of subpages"), never merged.
    plain : bool
        The ablation: no locked operations.
    """

    def __init__(self, array: PageArray, pgmaps: Pgmaps, *, head_once: bool = False, plain: bool = False) -> None:
        self.array = array
        self.pgmaps = pgmaps
        self.refs = page_refs(array.kernel, head_once=head_once, plain=plain)

    @property
    def vm(self) -> Memmap:
        """The memmap as the kernels see it; what they touch has to have its memory, see :meth:`need_mapped`."""
        return self.array.memmap

    def own_pgmaps(self) -> PgmapArray:
        """The table of the pgmaps with counts of one's own.

        A lookup gives back what it takes, so what a call leaves in them is nothing; side by side, as per-CPU
        counters are, they cannot lose each other's.
        """
        table = self.pgmaps.pgmap_array
        return table._replace(refs=np.zeros_like(table.refs))

    # memory for the struct pages

    def need_mapped(self, mm: Mm, addr: int, nr_pages: int) -> None:
        """Give the struct pages behind a range of user addresses their memory, those of their heads too."""
        found, present = np.empty(self.array.nr_sections, np.int64), self.array.sections.present
        while n := gup_slow.lacking_mapped(self.vm, present, mm.pt, addr, nr_pages, found):
            self._need_sections(found[:n])

    def need_held(self, pfns: np.ndarray) -> None:
        """Give the struct pages of ``pfns`` (int64[n]) and of their heads their memory.

        Raises
        ------
        KernelCrash
            One is gone.
        """
        found, missing = np.empty(self.array.nr_sections, np.int64), -1
        while missing < 0:
            n, missing = gup_slow.lacking_held(self.vm, self.array.sections, pfns, found)
            self._need_sections(found[:n])
            if not n:
                break
        if missing >= 0:
            gone = int(pfns[missing])
            address = self.array.kernel.abi.struct_page(gone) + 8
            raise KernelCrash(
                f"BUG: unable to handle page fault for address: {address:016x}: the struct page of pfn {gone:#x} went "
                "with its device while the page was held. Drop what holds pages before the device is unbound."
            )

    def _need_sections(self, sections: np.ndarray) -> None:
        for section in sections.tolist():
            self.array.materialise(self.array.start_pfn + section * PAGES_PER_SECTION, PAGES_PER_SECTION)

    # taking

    def pin_user_pages_fast(self, mm: Mm, addr: int, nr_pages: int, flags: int, events: Events | None = None) -> Pinned:
        """Pin pages, without a lock as far as that goes.

        Parameters
        ----------
        mm : Mm
        addr : int
            User address; rounded down to a page.
        nr_pages : int
        flags : int
            :class:`Foll` bits: WRITE, LONGTERM, FORCE, FAST_ONLY.
        events : Events, optional
            Told of each access to a struct page.

        Returns
        -------
        Pinned

        Raises
        ------
        WorkbenchError
            No page could be pinned: EINVAL (a flag that is not for this call), EFAULT, ENOMEM, EOPNOTSUPP.

        Kernel
        ------
        mm/gup.c, pin_user_pages_fast(), internal_get_user_pages_fast(), 5.10 to 6.12.
        """
        if flags & Foll.GET:
            raise _error(errno.EINVAL, "FOLL_GET is not for pin_user_pages_fast(). Leave it out.")
        return self._fast(mm, addr, nr_pages, flags | Foll.PIN, events)

    def get_user_pages_fast(self, mm: Mm, addr: int, nr_pages: int, flags: int, events: Events | None = None) -> Pinned:
        """Take plain references, without a lock as far as that goes; else as :meth:`pin_user_pages_fast`."""
        _require_get(flags)
        return self._fast(mm, addr, nr_pages, flags | Foll.GET, events)

    def _fast(self, mm: Mm, addr: int, nr_pages: int, flags: int, events: Events | None) -> Pinned:
        if flags & ~_FAST_FLAGS:
            raise _error(errno.EINVAL, f"flags {flags & ~_FAST_FLAGS:#x} are not for the fast calls. Leave them out.")
        start = addr & -PAGE_SIZE
        if start + (nr_pages << PAGE_SHIFT) > USER_END:
            raise _error(errno.EFAULT, f"{count(nr_pages)} pages from {addr:#x} on reach beyond user addresses.")
        mm.has_pinned |= bool(flags & Foll.PIN)
        self.need_mapped(mm, start, nr_pages)
        pages = np.empty(nr_pages, np.int64)
        nr = gup_fast.lockless_pages_from_mm(
            self.vm, self.refs, self.own_pgmaps(), mm.pt, mm.write_protect_seq, start, nr_pages, flags, pages, 0, events
        )
        if nr == nr_pages or flags & Foll.FAST_ONLY:
            return Pinned(pages[:nr], nr_pages, bool(flags & Foll.PIN))
        if not flags & Foll.LONGTERM or self.refs.switches & RefSwitch.LONGTERM_TOUCHES:
            flags |= Foll.TOUCH
        return self._slow(mm, start, nr_pages, flags, pages, int(nr), events)

    def pin_user_pages(self, mm: Mm, addr: int, nr_pages: int, flags: int, events: Events | None = None) -> Pinned:
        """Pin pages one by one, faulting in what is missing.

        Parameters, result and errors as of :meth:`pin_user_pages_fast`; FOLL_TOUCH is allowed.

        Kernel
        ------
        mm/gup.c, pin_user_pages(), __gup_longterm_locked(), __get_user_pages(), 5.10 to 6.12.
        """
        if flags & Foll.GET:
            raise _error(errno.EINVAL, "FOLL_GET is not for pin_user_pages(). Leave it out.")
        mm.has_pinned = True
        return self._locked(mm, addr, nr_pages, flags | Foll.PIN, events)

    def pin_user_pages_remote(
        self, mm: Mm, addr: int, nr_pages: int, flags: int, events: Events | None = None
    ) -> Pinned:
        """Pin pages of another process: as :meth:`pin_user_pages`, with FOLL_TOUCH."""
        return self.pin_user_pages(mm, addr, nr_pages, flags | Foll.TOUCH, events)

    def get_user_pages(self, mm: Mm, addr: int, nr_pages: int, flags: int, events: Events | None = None) -> Pinned:
        """Take plain references of pages one by one, with FOLL_TOUCH; else as :meth:`pin_user_pages`."""
        _require_get(flags)
        return self._locked(mm, addr, nr_pages, flags | Foll.GET | Foll.TOUCH, events)

    def _locked(self, mm: Mm, addr: int, nr_pages: int, flags: int, events: Events | None) -> Pinned:
        return self._slow(mm, addr & -PAGE_SIZE, nr_pages, flags, np.empty(nr_pages, np.int64), 0, events)

    def _slow(
        self,
        mm: Mm,
        start: int,
        nr_pages: int,
        flags: int,
        pages: np.ndarray,
        nr: int,
        events: Events | None,
    ) -> Pinned:
        """__get_user_pages(): from page ``nr`` on, area by area, until all are there or something is wrong."""
        error, slot, pgmaps, faults = 0, -1, self.own_pgmaps(), 0
        while nr < nr_pages and not error:
            addr = start + (nr << PAGE_SHIFT)
            vma = mm.find_vma(addr)
            error = errno.EFAULT if vma is None else check_vma_flags(vma, flags)
            if vma is None or error:
                break
            ahead = min(nr_pages - nr, (vma.end - addr) >> PAGE_SHIFT)
            self.need_mapped(mm, addr, ahead)
            before = nr
            nr, slot, code = gup_slow.follow_pages(
                self.vm, self.refs, pgmaps, mm.pt, addr, ahead, flags, pages, nr, slot, events
            )
            if code < 0:
                error = -code
            elif code == gup_slow.FAULT:
                faults = faults + 1 if nr == before else 1
                error = _faultin_page(mm, vma, start + (nr << PAGE_SHIFT), flags, faults)
        put_dev_pagemap(pgmaps, slot)
        if nr == 0 and error:
            raise _error(error, f"no page could be pinned at {start:#x}.")
        return Pinned(pages[:nr], nr_pages, bool(flags & Foll.PIN), error or None)

    # giving back

    def unpin_user_pages(self, pfns: np.ndarray, make_dirty: bool = False, events: Events | None = None) -> np.ndarray:
        """Release pins, with ``make_dirty`` as unpin_user_pages_dirty_lock().

        Parameters
        ----------
        pfns : int64[n]
        make_dirty : bool
        events : Events, optional

        Returns
        -------
        int64[m]
            Heads whose count reached zero: a device page of 5.17 and before gives its pgmap's reference back.

        Raises
        ------
        KernelCrash
            The struct page of one is gone.

        Kernel
        ------
        mm/gup.c, unpin_user_pages(), unpin_user_pages_dirty_lock(), 5.10 to 6.12.
        """
        self.need_held(pfns)
        freed = np.empty(len(pfns), np.int64)
        return freed[: gup_fast.unpin_user_pages(self.vm, self.refs, pfns, make_dirty, freed, events)]

    def unpin_user_page_range(
        self, pfn: int, nr_pages: int, make_dirty: bool = False, events: Events | None = None
    ) -> np.ndarray:
        """Release one pin of each page of a physical range: unpin_user_page_range_dirty_lock().

        Returns
        -------
        int64[m]
            As of :meth:`unpin_user_pages`.

        Raises
        ------
        WorkbenchError
            5.10, which has no such function.
        KernelCrash
            A struct page is gone.
        """
        if self.refs.switches & RefSwitch.UNPIN_EACH:
            raise WorkbenchError(
                f"{self.array.kernel.tree.base} has no unpin_user_page_range_dirty_lock() "
                f"({pfn_range(pfn, nr_pages)}). Use unpin_user_pages()."
            )
        self.need_held(np.arange(pfn, pfn + nr_pages))
        freed = np.empty(nr_pages, np.int64)
        return freed[: gup_fast.unpin_user_page_range(self.vm, self.refs, pfn, nr_pages, make_dirty, freed, events)]

    def put_pages(self, pfns: np.ndarray, events: Events | None = None) -> np.ndarray:
        """put_page() of each page; result and crash as of :meth:`unpin_user_pages`."""
        self.need_held(pfns)
        freed = np.empty(len(pfns), np.int64)
        return freed[: gup_fast.put_user_pages(self.vm, self.refs, pfns, freed, events)]

    def release(self, pinned: Pinned, make_dirty: bool = False, events: Events | None = None) -> np.ndarray:
        """Give back what a call took, by the way that it was taken."""
        if pinned.pins:
            return self.unpin_user_pages(pinned.pfns, make_dirty, events)
        return self.put_pages(pinned.pfns, events)

    def set_pages_dirty(self, pfns: np.ndarray, base_only: bool, events: Events | None = None) -> None:
        """set_page_dirty_lock() of each page; with ``base_only`` pages of compounds are passed over."""
        self.need_held(pfns)
        gup_fast.set_pages_dirty(self.vm, self.refs, pfns, base_only, events)

    def compound(self, pfn: int) -> tuple[int, int]:
        """First pfn and pages of the compound page that ``pfn`` is in; a base page is one of one."""
        self.need_held(np.array([pfn]))
        head = gup_fast.compound_head(self.vm, pfn - self.array.start_pfn, None)
        order = gup_fast.compound_order(self.vm, self.refs, head, None)
        return int(head) + self.array.start_pfn, 1 << int(order)

    def first_not_pinned(self, pfns: np.ndarray) -> int | None:
        """The first of ``pfns`` that page_maybe_dma_pinned() does not call pinned, or None."""
        at = gup_fast.first_not_pinned(self.vm, self.refs, pfns)
        return None if at < 0 else int(pfns[at])


def check_vma_flags(vma: Vma, flags: int) -> int:
    """check_vma_flags(): 0, or the positive errno with which an area refuses to be pinned."""
    if flags & Foll.LONGTERM and backing(vma) is Backing.FSDAX:
        return errno.EOPNOTSUPP
    need = Vm.WRITE if flags & Foll.WRITE else Vm.READ
    if vma.flags & need:
        return 0
    # FOLL_FORCE breaks copy-on-write of private areas, and reads what may be read.
    may = not vma.flags & Vm.SHARED and vma.flags & Vm.MAYWRITE if flags & Foll.WRITE else vma.flags & Vm.MAYREAD
    return 0 if flags & Foll.FORCE and may else errno.EFAULT


def _faultin_page(mm: Mm, vma: Vma, addr: int, flags: int, faults: int) -> int:
    """faultin_page(): 0, or the positive errno of a fault that gave no page."""
    done, fault = vma.file.touch(mm, vma, addr, 1, PAGE_SIZE, bool(flags & Foll.WRITE))
    if done:
        if faults > _MOST_FAULTS:
            raise WorkbenchError(f"the page at {addr:#x} is faulted in again and again, and never as it has to be.")
        return 0
    return errno.ENOMEM if fault & VmFault.OOM else errno.EFAULT


def _require_get(flags: int) -> None:
    if flags & (Foll.PIN | Foll.LONGTERM):
        raise _error(errno.EINVAL, "FOLL_PIN and FOLL_LONGTERM are for the pin calls. Use one of them.")


def _error(number: int, message: str) -> WorkbenchError:
    return WorkbenchError(f"{os.strerror(number)}: {message}", errno=number)
