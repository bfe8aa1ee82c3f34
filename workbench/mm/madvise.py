# SPDX-License-Identifier: GPL-2.0-only
"""madvise(2) and mlock(2) on file areas, as far as they matter to a device: what each advice checks and changes."""

from __future__ import annotations

import errno
from collections.abc import Callable
from enum import IntEnum

from workbench.abi.constants import PAGE_SIZE
from workbench.errors import Signalled, WorkbenchError
from workbench.mm.mmap import Mm, Vm, Vma


class Madv(IntEnum):
    """MADV_* (include/uapi/asm-generic/mman-common.h)."""

    NORMAL = 0
    RANDOM = 1
    SEQUENTIAL = 2
    WILLNEED = 3
    DONTNEED = 4
    FREE = 8
    REMOVE = 9
    DONTFORK = 10
    DOFORK = 11
    MERGEABLE = 12
    UNMERGEABLE = 13
    HUGEPAGE = 14
    NOHUGEPAGE = 15
    DONTDUMP = 16
    DODUMP = 17
    WIPEONFORK = 18
    KEEPONFORK = 19
    COLD = 20
    PAGEOUT = 21
    POPULATE_READ = 22
    POPULATE_WRITE = 23
    DONTNEED_LOCKED = 24
    COLLAPSE = 25
    HWPOISON = 100
    SOFT_OFFLINE = 101


_SINCE = {
    Madv.POPULATE_READ: ("5.15", "5.16", "5.17", "6.1", "6.12"),
    Madv.POPULATE_WRITE: ("5.15", "5.16", "5.17", "6.1", "6.12"),
    Madv.DONTNEED_LOCKED: ("6.1", "6.12"),
    Madv.COLLAPSE: ("6.1", "6.12"),
}
"""Advice that not every release knows."""
_NONE = Vm(0)


def _refuse(code: int, message: str) -> WorkbenchError:
    return WorkbenchError(message, code)


def _set_flags(set_: Vm, clear: Vm = _NONE) -> Callable[[Mm, Vma, int, int], None]:
    """Advice that only changes the flags of the area: it is cut, where the file allows that."""

    def advise(mm: Mm, vma: Vma, start: int, end: int) -> None:
        flags = vma.flags & ~clear | set_
        if flags != vma.flags:
            mm.set_flags(vma, start, end, flags)

    return advise


def _nothing(mm: Mm, vma: Vma, start: int, end: int) -> None:
    """Advice without effect on a device's memory."""


def _dontneed(mm: Mm, vma: Vma, start: int, end: int) -> None:
    """Entries go.  DAX areas are never marked locked (mlock_fixup()), so DONTNEED_LOCKED is the same."""
    mm.zap(start, end)


def _remove(mm: Mm, vma: Vma, start: int, end: int) -> None:
    if not (vma.flags & Vm.SHARED and vma.flags & (Vm.MAYWRITE if mm.base == "6.12" else Vm.WRITE)):
        raise _refuse(errno.EACCES, f"the mapping at {vma.start:#x} cannot be written. Map a file opened rw.")
    raise _refuse(errno.ENODEV, "MADV_REMOVE needs a file with fallocate(); a device has none.")


def _walked(mm: Mm, vma: Vma, start: int, end: int) -> None:
    """MADV_COLD and MADV_PAGEOUT find no page of the page cache; their walk splits 1 GiB entries."""
    mm.walk_page_range(start, end)


def _no(code: int, why: str) -> Callable[[Mm, Vma, int, int], None]:
    def advise(mm: Mm, vma: Vma, start: int, end: int) -> None:
        raise _refuse(code, why)

    return advise


_ADVICE: dict[Madv, Callable[[Mm, Vma, int, int], None]] = {
    Madv.NORMAL: _nothing,
    Madv.RANDOM: _nothing,
    Madv.SEQUENTIAL: _nothing,
    Madv.WILLNEED: _nothing,
    Madv.DONTNEED: _dontneed,
    Madv.DONTNEED_LOCKED: _dontneed,
    Madv.FREE: _no(errno.EINVAL, "MADV_FREE is for anonymous memory. Use MADV_DONTNEED."),
    Madv.REMOVE: _remove,
    Madv.DONTFORK: _set_flags(Vm.DONTCOPY),
    Madv.DOFORK: _set_flags(_NONE, Vm.DONTCOPY),
    Madv.MERGEABLE: _nothing,
    Madv.UNMERGEABLE: _nothing,
    Madv.HUGEPAGE: _set_flags(Vm.HUGEPAGE, Vm.NOHUGEPAGE),
    Madv.NOHUGEPAGE: _set_flags(Vm.NOHUGEPAGE, Vm.HUGEPAGE),
    Madv.DONTDUMP: _set_flags(Vm.DONTDUMP),
    Madv.DODUMP: _set_flags(_NONE, Vm.DONTDUMP),
    Madv.WIPEONFORK: _no(errno.EINVAL, "MADV_WIPEONFORK is for private anonymous memory."),
    Madv.KEEPONFORK: _nothing,
    Madv.COLD: _walked,
    Madv.PAGEOUT: _walked,
    Madv.COLLAPSE: _no(errno.EINVAL, "MADV_COLLAPSE is for memory that khugepaged may collapse; a device's is not."),
}


def madvise(mm: Mm, addr: int, length: int, advice: Madv, *, ksm: bool = True) -> None:
    """madvise(2), but for HWPOISON and SOFT_OFFLINE (see :mod:`workbench.mm.hwpoison_inject`).

    Parameters
    ----------
    mm : Mm
    addr, length : int
        Bytes.
    advice : Madv
    ksm : bool
        Whether the kernel has CONFIG_KSM, without which MERGEABLE is unknown.

    Raises
    ------
    WorkbenchError
        EINVAL: misaligned, unknown to the release, or not for such memory; ENODEV, ENOMEM, EFAULT.

    Kernel
    ------
    mm/madvise.c, do_madvise(), 5.10 to 6.12.
    """
    known = mm.base in _SINCE.get(advice, (mm.base,)) and (ksm or advice not in (Madv.MERGEABLE, Madv.UNMERGEABLE))
    if not known:
        raise _refuse(errno.EINVAL, f"this kernel does not know MADV_{advice.name}.")
    if addr % PAGE_SIZE or length < 0:
        raise _refuse(errno.EINVAL, f"address {addr:#x} is no multiple of {PAGE_SIZE} bytes. Round it.")
    end = addr + -(-length // PAGE_SIZE) * PAGE_SIZE
    if advice in (Madv.POPULATE_READ, Madv.POPULATE_WRITE):
        _populate(mm, addr, end, advice == Madv.POPULATE_WRITE)
        return
    at, hole = addr, False
    for vma in mm.areas_in(addr, end):
        hole |= vma.start > at
        at = vma.end
        _ADVICE[advice](mm, vma, max(vma.start, addr), min(vma.end, end))
    if hole or at < end:
        raise _refuse(errno.ENOMEM, f"part of {addr:#x}-{end:#x} is not mapped; the rest was done.")


def _populate(mm: Mm, start: int, end: int, write: bool) -> None:
    at = start
    while at < end:
        vma = mm.find_vma(at)
        if vma is None:
            raise _refuse(errno.ENOMEM, f"nothing is mapped at {at:#x}.")
        if not vma.flags & (Vm.WRITE if write else Vm.READ):
            raise _refuse(errno.EINVAL, f"the mapping at {at:#x} does not allow the access.")
        stop = min(vma.end, end)
        try:
            mm.touch_all(vma, at, stop, write)
        except Signalled as signalled:
            raise _refuse(errno.EFAULT, f"no page for {signalled.signal.addr:#x}.") from signalled
        at = stop


def mlock(mm: Mm, addr: int, length: int) -> None:
    """mlock(2): DAX memory is not counted and not marked, its pages are faulted in.

    Raises
    ------
    WorkbenchError
        ENOMEM: not all is mapped.

    Kernel
    ------
    mm/mlock.c, do_mlock(), mlock_fixup(): areas of DAX files stay as they are.
    """
    start = addr // PAGE_SIZE * PAGE_SIZE
    end = -(-(addr + length) // PAGE_SIZE) * PAGE_SIZE
    at = start
    for vma in mm.areas_in(start, end):
        if vma.start > at:
            break
        at = vma.end
    if at < end:
        raise _refuse(errno.ENOMEM, f"nothing is mapped at {at:#x}. Map it first.")
    try:
        mm.populate(start, end - start, ignore_errors=False)
    except Signalled as signalled:
        raise _refuse(errno.ENOMEM, f"no page for {signalled.signal.addr:#x}.") from signalled
