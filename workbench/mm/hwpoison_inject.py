# SPDX-License-Identifier: GPL-2.0-only
"""How user space makes memory fail: madvise(2), two files of sysfs and two of debugfs."""

from __future__ import annotations

import errno
from dataclasses import replace

from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE
from workbench.errors import WorkbenchError
from workbench.mm import memory_failure as mf
from workbench.mm.memory_failure import MfFlags, Outcome, System, Task


def _without_eopnotsupp(outcome: Outcome) -> Outcome:
    """A filtered page is success to who asked (6.1 and later)."""
    return replace(outcome, errno=None) if outcome.errno == errno.EOPNOTSUPP else outcome


def madvise_inject_error(
    system: System, process: Task, addr: int, length: int, *, soft: bool = False, admin: bool = True
) -> Outcome:
    """MADV_HWPOISON and MADV_SOFT_OFFLINE: fail the pages mapped in a range, one after the other.

    Each step looks a page up as a fast GUP does, which faults it in and takes a reference, and goes on by the
    size of its compound page: by 4 KiB before the series, by the align after it.  The loop ends at the first
    error; a signal does not end it.

    Parameters
    ----------
    system : System
    process : Task
        Whose address space it is, and who runs.
    addr, length : int
        Bytes.
    soft : bool
        MADV_SOFT_OFFLINE.
    admin : bool
        CAP_SYS_ADMIN.

    Returns
    -------
    Outcome
        errno EINVAL: misaligned; EPERM; EFAULT: nothing to be had at an address; else that of the failure.

    Kernel
    ------
    mm/madvise.c, madvise_inject_error(), do_madvise(), 5.10 to 6.12.
    """
    if addr % PAGE_SIZE or length < 0:
        return Outcome(errno.EINVAL)
    if length and not admin:
        return Outcome(errno.EPERM)
    array = system.zone_device.array
    at, outcome = addr, Outcome()
    while at < addr + length and outcome.errno is None:
        try:
            pfn = system.get_user_pages_fast(process, at)
        except WorkbenchError as refused:
            return outcome.then(Outcome(refused.errno))
        step = PAGE_SIZE << mf.compound_order(array, mf.compound_head(array, pfn))
        if soft:
            said = f"Soft offlining pfn {pfn:#x} at process virtual address {at:#x}"
            done = mf.soft_offline_page(system, pfn, MfFlags.COUNT_INCREASED)
        else:
            said = f"Injecting memory failure for pfn {pfn:#x} at process virtual address {at:#x}"
            done = _without_eopnotsupp(mf.memory_failure(system, pfn, MfFlags.COUNT_INCREASED, process))
        outcome = outcome.then(Outcome(log=(said,))).then(done)
        at += step
    return outcome


def hard_offline_page(system: System, phys_addr: int, current: Task, *, admin: bool = True) -> Outcome:
    """A store to /sys/devices/system/memory/hard_offline_page: a physical address fails.

    Kernel: drivers/base/memory.c, ``hard_offline_page_store()``.
    """
    if not admin:
        return Outcome(errno.EPERM)
    return _without_eopnotsupp(mf.memory_failure(system, phys_addr >> PAGE_SHIFT, current=current))


def soft_offline_page(system: System, phys_addr: int, *, admin: bool = True) -> Outcome:
    """A store to /sys/devices/system/memory/soft_offline_page.

    Kernel: drivers/base/memory.c, ``soft_offline_page_store()``.
    """
    return mf.soft_offline_page(system, phys_addr >> PAGE_SHIFT) if admin else Outcome(errno.EPERM)


def hwpoison_inject(system: System, pfn: int, current: Task, *, admin: bool = True) -> Outcome:
    """A store to hwpoison/corrupt-pfn of debugfs: a pfn fails.

    With the filter switched on, pages that the page reclaim does not know, and so all of a device's, are
    left alone.

    Returns
    -------
    Outcome
        errno EPERM; ENXIO: no struct page; else that of the failure.

    Kernel
    ------
    mm/hwpoison-inject.c, hwpoison_inject().
    """
    if not admin:
        return Outcome(errno.EPERM)
    if not system.zone_device.array.exists(pfn)[0]:
        return Outcome(errno.ENXIO)
    if system.hwpoison_filter is not None:
        return Outcome()
    said = Outcome(log=(f"Injecting memory failure at pfn {pfn:#x}",))
    return said.then(_without_eopnotsupp(mf.memory_failure(system, pfn, current=current)))


def hwpoison_unpoison(system: System, pfn: int, *, admin: bool = True) -> Outcome:
    """A store to hwpoison/unpoison-pfn of debugfs.

    Kernel: mm/hwpoison-inject.c, ``hwpoison_unpoison()``.
    """
    return mf.unpoison_memory(system, pfn) if admin else Outcome(errno.EPERM)
