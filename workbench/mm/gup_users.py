# SPDX-License-Identifier: GPL-2.0-only
"""Who pins user pages: what a user can do, in terms of get_user_pages().

Each function does what one system call does to the pages of a range of user addresses, with the flags, the
batches and the clean-up after a failure that the release has.
"""

from __future__ import annotations

import errno

import numpy as np

from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE
from workbench.errors import WorkbenchError
from workbench.mm.gup import Backing, PageRefcounts, Pinned, backing
from workbench.mm.mmap import Mm
from workbench.mm.page_ref import Foll

_LONGTERM_WRITE = Foll.WRITE | Foll.LONGTERM
_SPLICE_BATCH = 16
_PVM_BATCH = 2 * PAGE_SIZE // 8
_BIO_MAX_VECS = 256
_IO_URING_MAX = 1 << 30


def pages_of(addr: int, length: int) -> int:
    """Pages that have a byte of ``[addr, addr + length)``."""
    return ((addr + length + PAGE_SIZE - 1) >> PAGE_SHIFT) - (addr >> PAGE_SHIFT)


def _refused(number: int, message: str) -> WorkbenchError:
    return WorkbenchError(message, errno=number)


# AF_XDP


def af_xdp_umem_pin(gup: PageRefcounts, mm: Mm, addr: int, nr_pages: int) -> Pinned:
    """Register a UMEM: its pages are pinned for long, to be written.

    Parameters
    ----------
    gup : PageRefcounts
    mm : Mm
    addr : int
        User address, a multiple of 4096.
    nr_pages : int

    Returns
    -------
    Pinned
        To be given back by :func:`af_xdp_umem_unpin`.

    Raises
    ------
    WorkbenchError
        EINVAL: misaligned; what pin_user_pages() says where it pins nothing; ENOMEM where it pins less than
        asked: those it pinned are released as dirty.

    Kernel
    ------
    net/xdp/xdp_umem.c, xdp_umem_pin_pages().
    """
    if addr % PAGE_SIZE:
        raise _refused(errno.EINVAL, f"a UMEM begins at a page; got {addr:#x}. Round it.")
    pinned = gup.pin_user_pages(mm, addr, nr_pages, _LONGTERM_WRITE)
    if not pinned.whole:
        gup.release(pinned, make_dirty=True)
        raise _refused(errno.ENOMEM, f"only {len(pinned)} of {nr_pages} pages at {addr:#x} could be pinned.")
    return pinned


def af_xdp_umem_unpin(gup: PageRefcounts, pinned: Pinned) -> np.ndarray:
    """The last user of a UMEM is gone: its pages are released, as dirty.

    Returns
    -------
    int64[n]
        As of :meth:`PageRefcounts.unpin_user_pages`.

    Kernel
    ------
    net/xdp/xdp_umem.c, xdp_umem_unpin_pages().
    """
    return gup.release(pinned, make_dirty=True)


# vmsplice


def vmsplice(gup: PageRefcounts, mm: Mm, addr: int, length: int, slots: int = 16) -> Pinned:
    """Give references of user pages to a pipe (SPLICE_F_GIFT changes nothing here).

    Parameters
    ----------
    gup, mm, addr
        As of :func:`af_xdp_umem_pin`; any address.
    length : int
        Bytes.
    slots : int
        Free slots of the pipe.  Pages for which there is none are taken and dropped again.

    Returns
    -------
    Pinned
        Plain references, which the pipe holds until it is read or closed (:meth:`PageRefcounts.put_pages`).

    Raises
    ------
    WorkbenchError
        EFAULT: not one page could be had.

    Kernel
    ------
    fs/splice.c, iter_to_pipe(); lib/iov_iter.c, iov_iter_get_pages2().
    """
    asked, held = pages_of(addr, length), [np.empty(0, np.int64)]
    got = 0
    while got < asked:
        now = min(_SPLICE_BATCH, asked - got)
        try:
            batch = gup.get_user_pages_fast(mm, addr + (got << PAGE_SHIFT), now, 0).pfns
        except WorkbenchError:
            if not got:
                raise
            break
        kept = min(len(batch), slots - got)
        held.append(batch[:kept])
        got += kept
        if kept < len(batch):
            gup.put_pages(batch[kept:])
            break
    return Pinned(np.concatenate(held), asked, pins=False)


# io_uring


def io_uring_fixed_buffer(gup: PageRefcounts, mm: Mm, addr: int, length: int) -> Pinned:
    """Register a fixed buffer.

    Up to 6.1 memory of a file is refused unless it is hugetlb's, after it was pinned.  6.12 takes it, and
    keeps one pin of each compound page where the buffer is whole ones but for its ends.

    Returns
    -------
    Pinned
        The pins that are kept.

    Raises
    ------
    WorkbenchError
        EFAULT: no address, more than 1 GiB, or not all pages could be pinned; EOPNOTSUPP: memory of a file,
        up to 6.1; what pinning says where it pins nothing.

    Kernel
    ------
    fs/io_uring.c (io_uring/rsrc.c since 5.19), io_sqe_buffer_register(), io_pin_pages(); 6.12:
    io_check_coalesce_buffer(), io_do_coalesce_buffer().
    """
    if not addr or not 0 < length <= _IO_URING_MAX:
        raise _refused(errno.EFAULT, f"a fixed buffer has an address and 1 byte to 1 GiB; got {addr:#x}, {length}.")
    start, nr_pages = addr & -PAGE_SIZE, pages_of(addr, length)
    new = gup.array.kernel.tree.base == "6.12"
    pin = gup.pin_user_pages_fast if new else gup.pin_user_pages
    pinned = pin(mm, start, nr_pages, _LONGTERM_WRITE)
    if not pinned.whole:
        gup.release(pinned)
        raise _refused(errno.EFAULT, f"only {len(pinned)} of {nr_pages} pages at {addr:#x} could be pinned.")
    if new:
        return _coalesced(gup, pinned)
    areas = mm.areas_in(start, start + (nr_pages << PAGE_SHIFT))
    if any(backing(vma) in (Backing.FILE, Backing.FSDAX) for vma in areas):
        gup.release(pinned)
        raise _refused(errno.EOPNOTSUPP, "fixed buffers of a file's memory are not supported up to 6.1. Use 6.12.")
    return pinned


def _coalesced(gup: PageRefcounts, pinned: Pinned) -> Pinned:
    """Drop all pins but one of each compound page, where every compound but the first and last is there whole."""
    pfns, runs, at = pinned.pfns, [], 0
    while at < len(pfns):
        head, nr = gup.compound(int(pfns[at]))
        inside = min(head + nr - int(pfns[at]), len(pfns) - at)
        run = int(np.argmin(np.append(np.diff(pfns[at : at + inside]) == 1, False))) + 1
        runs.append((at, run, int(pfns[at]) - head, nr))
        at += run
    size = runs[0][3]
    whole = all(
        nr == size and (k == 0 or first == 0) and (k == len(runs) - 1 or first + run == size)
        for k, (_, run, first, nr) in enumerate(runs)
    )
    if size == 1 or not whole:
        return pinned
    kept = []
    for start, run, _, _ in runs:
        if run > 1:
            gup.unpin_user_pages(pfns[start + 1 : start + run])
        kept.append(pfns[start])
    return Pinned(np.array(kept, np.int64), pinned.asked, pins=True)


# process_vm_readv and process_vm_writev


def process_vm_readv(gup: PageRefcounts, mm: Mm, addr: int, length: int, *, write: bool = False) -> int:
    """Read (process_vm_writev: write) a range of another process, or of one's own: pinned while it is copied.

    Returns
    -------
    int
        Bytes; fewer than ``length`` where pages cannot be had.

    Raises
    ------
    WorkbenchError
        EFAULT: not one page could be had.

    Kernel
    ------
    mm/process_vm_access.c, process_vm_rw_single_vec().
    """
    nr_pages, start, done = pages_of(addr, length), addr & -PAGE_SIZE, 0
    while done < nr_pages:
        now = min(_PVM_BATCH, nr_pages - done)
        try:
            pinned = gup.pin_user_pages_remote(mm, start + (done << PAGE_SHIFT), now, Foll.WRITE if write else 0)
        except WorkbenchError as refusal:
            if not done:
                raise _refused(errno.EFAULT, str(refusal)) from refusal
            break
        gup.release(pinned, make_dirty=write)
        done += len(pinned)
    return min(length, (done << PAGE_SHIFT) - addr % PAGE_SIZE)


# direct I/O


def read_into(gup: PageRefcounts, mm: Mm, addr: int, length: int) -> int:
    """read(2) of a file opened with O_DIRECT into a range: the device writes to its pages, which become dirty.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    WorkbenchError
        EFAULT: a page could not be had; those before it are read.

    Kernel
    ------
    block/bio.c, bio_iov_iter_get_pages(), bio_set_pages_dirty(), bio_release_pages().
    """
    return _direct(gup, mm, addr, length, dirty=True)


def write_from(gup: PageRefcounts, mm: Mm, addr: int, length: int) -> int:
    """write(2) of a range to a file opened with O_DIRECT; as :func:`read_into`, nothing becomes dirty."""
    return _direct(gup, mm, addr, length, dirty=False)


def _direct(gup: PageRefcounts, mm: Mm, addr: int, length: int, *, dirty: bool) -> int:
    new = gup.array.kernel.tree.base == "6.12"  # bios pin since 6.5, and mark compound pages too
    take = gup.pin_user_pages_fast if new else gup.get_user_pages_fast
    nr_pages, start, done = pages_of(addr, length), addr & -PAGE_SIZE, 0
    while done < nr_pages:
        now = min(_BIO_MAX_VECS, nr_pages - done)
        held = take(mm, start + (done << PAGE_SHIFT), now, Foll.WRITE if dirty else 0)
        if dirty:
            gup.set_pages_dirty(held.pfns, base_only=not new)
        gup.release(held)
        done += len(held)
    return length
