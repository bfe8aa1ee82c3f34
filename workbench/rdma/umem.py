# SPDX-License-Identifier: GPL-2.0-only
"""drivers/infiniband/core/umem.c: memory registered for RDMA, pinned until it is deregistered.

Registering asks for long-term pins, which the lockless walk refuses for device memory: it pays for
page-by-page lookups whatever the align.  What compound pages change is the release, one step a compound.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import numpy as np

from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE
from workbench.errors import WorkbenchError
from workbench.mm.events import Events
from workbench.mm.gup import PageRefcounts
from workbench.mm.mmap import Mm
from workbench.mm.page_ref import Foll
from workbench.text import count, size

PAGES_PER_CALL = PAGE_SIZE // 8
"""Pages pinned by a call: as many pointers as one page holds."""
MAX_SEGMENT = 2 << 30
"""Bytes of the largest entry of the list, as mlx5 allows."""
_ULONG_MAX = (1 << 64) - 1
_WRITE_OR_FORCE = ("5.10", "5.15", "5.16", "5.17", "6.1")
"""Releases that pin read-only regions for writing, by FOLL_FORCE; 6.2 stopped that."""


@dataclass
class Limits:
    """What a process may lock.

    Attributes
    ----------
    memlock : int or None
        RLIMIT_MEMLOCK in bytes; None is unlimited.
    ipc_lock : bool
        CAP_IPC_LOCK: the limit does not count.
    pinned_vm : int
        Pages registered so far.
    """

    memlock: int | None = None
    ipc_lock: bool = False
    pinned_vm: int = 0


@dataclass(frozen=True, eq=False)
class Umem:
    """struct ib_umem: a registered range.

    Attributes
    ----------
    addr, length : int
        User address and bytes.
    writable : bool
    pfns, nr_pages : int64[n]
        The list: first pfn and pages of each entry.
    limits : Limits
    """

    addr: int
    length: int
    writable: bool
    pfns: np.ndarray
    nr_pages: np.ndarray
    limits: Limits = field(repr=False)

    @property
    def npages(self) -> int:
        """Pages that have a byte of the range."""
        return _num_pages(self.addr, self.length)


def _num_pages(addr: int, length: int) -> int:
    return (-(-(addr + length) // PAGE_SIZE)) - addr // PAGE_SIZE if length else 0


def ib_umem_get(
    gup: PageRefcounts,
    mm: Mm,
    addr: int,
    length: int,
    *,
    writable: bool = True,
    on_demand: bool = False,
    limits: Limits | None = None,
    max_segment: int = MAX_SEGMENT,
    events: Events | None = None,
) -> Umem:
    """Register a range: pin it in batches of 512 pages, and merge neighbours into entries of a list.

    Parameters
    ----------
    gup : PageRefcounts
    mm : Mm
    addr, length : int
        User address and bytes.
    writable : bool
        The adapter may write (IB_ACCESS_LOCAL_WRITE and its kind).
    on_demand : bool
        IB_ACCESS_ON_DEMAND.
    limits : Limits, optional
        Default: unlimited.
    max_segment : int
        Bytes of the largest entry.
    events : Events, optional

    Returns
    -------
    Umem

    Raises
    ------
    WorkbenchError
        EINVAL: the range wraps, or is empty; EPERM: nothing may be locked; EOPNOTSUPP: on demand; ENOMEM:
        beyond RLIMIT_MEMLOCK; what pinning says.  Nothing stays pinned.

    Kernel
    ------
    drivers/infiniband/core/umem.c, ib_umem_get(), 5.10 to 6.12.
    """
    limits = Limits() if limits is None else limits
    npages = _require_allowed(addr, length, on_demand, limits)
    flags = Foll.LONGTERM | Foll.WRITE if writable else Foll.LONGTERM
    if not writable and gup.array.kernel.tree.base in _WRITE_OR_FORCE:
        flags |= Foll.WRITE | Foll.FORCE
    limits.pinned_vm += npages
    batches: list[np.ndarray] = []
    start, done = addr & -PAGE_SIZE, 0
    try:
        while done < npages:
            now = min(npages - done, PAGES_PER_CALL)
            batch = gup.pin_user_pages_fast(mm, start + (done << PAGE_SHIFT), now, flags, events)
            batches.append(batch.pfns)
            done += len(batch)
    except WorkbenchError:
        _release(gup, *merge(batches, max_segment), False, events)
        limits.pinned_vm -= npages
        raise
    return Umem(addr, length, writable, *merge(batches, max_segment), limits)


def _require_allowed(addr: int, length: int, on_demand: bool, limits: Limits) -> int:
    """What ib_umem_get() checks before it pins, in its order; pages of the range."""
    if addr + length + PAGE_SIZE - 1 > _ULONG_MAX:
        raise WorkbenchError(f"{length} bytes from {addr:#x} on wrap around. Ask for less.", errno.EINVAL)
    if limits.memlock == 0 and not limits.ipc_lock:
        raise WorkbenchError("RLIMIT_MEMLOCK is 0: nothing may be locked. Raise it.", errno.EPERM)
    if on_demand:
        raise WorkbenchError("on-demand paging is another call's matter. Leave the flag out.", errno.EOPNOTSUPP)
    npages = _num_pages(addr, length)
    if npages == 0:
        raise WorkbenchError("a memory region has at least a byte; got 0.", errno.EINVAL)
    allowed = None if limits.memlock is None or limits.ipc_lock else limits.memlock >> PAGE_SHIFT
    if allowed is not None and limits.pinned_vm + npages > allowed:
        raise WorkbenchError(
            f"{count(npages)} pages more than the {count(limits.pinned_vm)} registered are beyond RLIMIT_MEMLOCK, "
            f"{size(allowed << PAGE_SHIFT)}. Raise it.",
            errno.ENOMEM,
        )
    return npages


def merge(batches: list[np.ndarray], max_segment: int = MAX_SEGMENT) -> tuple[np.ndarray, np.ndarray]:
    """First pfn and pages of the entries that pages in this order make, as two int64[n].

    Kernel: lib/scatterlist.c, ``sg_alloc_append_table_from_pages()``: neighbours are one entry, up to the largest size.
    """
    pfns = np.concatenate(batches) if batches else np.empty(0, np.int64)
    if not len(pfns):
        return pfns, pfns
    most = max(max_segment >> PAGE_SHIFT, 1)
    begins = np.flatnonzero(np.append(True, np.diff(pfns) != 1))
    lengths = np.diff(np.append(begins, len(pfns)))
    pieces = -(-lengths // most)
    which = np.repeat(np.arange(len(begins)), pieces)
    piece = np.arange(len(which)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    return pfns[begins[which]] + piece * most, np.minimum(lengths[which] - piece * most, most)


def ib_umem_release(gup: PageRefcounts, umem: Umem, events: Events | None = None) -> np.ndarray:
    """Deregister: every entry released by one call, one step a compound page (5.10: page by page).

    Returns
    -------
    int64[n]
        Heads whose count reached zero, as of :meth:`workbench.mm.gup.PageRefcounts.unpin_user_pages`.

    Kernel
    ------
    drivers/infiniband/core/umem.c, ib_umem_release(), __ib_umem_release().
    """
    umem.limits.pinned_vm -= umem.npages
    return _release(gup, umem.pfns, umem.nr_pages, umem.writable, events)


def _release(
    gup: PageRefcounts, pfns: np.ndarray, nr_pages: np.ndarray, dirty: bool, events: Events | None
) -> np.ndarray:
    freed = [np.empty(0, np.int64)]
    for pfn, nr in zip(pfns.tolist(), nr_pages.tolist(), strict=True):
        if gup.array.kernel.tree.base == "5.10":
            freed.append(gup.unpin_user_pages(np.arange(pfn, pfn + nr), dirty, events))
        else:
            freed.append(gup.unpin_user_page_range(pfn, nr, dirty, events))
    return np.concatenate(freed)
