# SPDX-License-Identifier: GPL-2.0-only
"""How a pgmap lets its struct pages go: which of them are put, what waits, and the mistake of version 3."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count as counting

import numpy as np

from workbench.abi import Role
from workbench.abi.constants import PAGE_SHIFT, PMD_ORDER
from workbench.errors import KernelCrash
from workbench.lab.trace import PGMAP, START_PFN
from workbench.machine import Machine
from workbench.mm import DevPagemap, PageArray
from workbench.mm.events import LOG_COLUMNS, Counter, events
from workbench.mm.memremap import ZoneDevice
from workbench.mm.resource import iomem_resource
from workbench.series import kernel as kernel_named
from workbench.text import parse_size

_COUNTS = 6
_REFCOUNT = np.uint64(32)
_PAGE, _NEW = LOG_COLUMNS.index("page"), LOG_COLUMNS.index("new")
_SHOWN = 4
"""So many struct pages at the start of a huge page are kept, and its last."""


@dataclass(frozen=True)
class Page:
    """A struct page before and after the teardown.

    Attributes
    ----------
    offset : int
        In pages from the start of the device.
    role : Role
    before, after : int
        Its reference count.
    put : bool
        The walk dropped a reference of it.
    died : bool
        The walk came to it, and the kernel died.
    """

    offset: int
    role: Role
    before: int
    after: int
    put: bool
    died: bool


@dataclass(frozen=True)
class Teardown:
    """memunmap_pages() of an idle pgmap.

    Attributes
    ----------
    kernel : str
    by_one : bool
        The walk of version 3, page by page.
    order : int
        Of the compound pages that the pgmap asks for.
    nr_pages : int
    references : int
        That the pgmap held on itself before.
    puts : int
        References of struct pages dropped.
    offers : int or None
        Offers to reschedule (cond_resched) on the way; None where the kernel died.
    pages : tuple of Page
        Some of them: the first ones and the last of two huge pages, 2 MiB each or larger.
    crash : str
        How the kernel died; empty where it did not.
    """

    kernel: str
    by_one: bool
    order: int
    nr_pages: int
    references: int
    puts: int
    offers: int | None
    pages: tuple[Page, ...]
    crash: str


def teardown(kernel: str, size: str = "4M", order: int = 9, *, by_one: bool = False) -> Teardown:
    """Give a device of ``size`` its struct pages and take them away again.

    Parameters
    ----------
    kernel : str
        See :func:`workbench.series.kernel`: one whose memunmap_pages() puts pages, 5.17 or before.
    size : str
        Of the device.
    order : int
        The vmemmap_shift that its pgmap asks for.
    by_one : bool
        With the mistake of version 3, see :class:`workbench.mm.memremap.ZoneDevice`.

    Examples
    --------
    >>> teardown("5.16+3").puts, teardown("5.16+4").puts
    (1024, 2)
    """
    nr_pages = parse_size(size) >> PAGE_SHIFT
    array = PageArray(kernel_named(kernel), START_PFN, nr_pages)
    zone_device = ZoneDevice(array, iomem_resource(), counting(PGMAP).__next__, pfn_next_by_one=by_one)
    pgmap = DevPagemap(PGMAP, ((START_PFN, nr_pages),), order)
    zone_device.memremap_pages(pgmap)
    references = zone_device.refs(pgmap)
    before, seen = _refcounts(array, nr_pages), events(nr_pages, nr_pages)
    unit = 1 << max(order, PMD_ORDER)
    places = (start + at for start in (0, unit) for at in (*range(_SHOWN), unit - 1))
    shown = [at for at in places if at < nr_pages]
    roles = {at: array.role(START_PFN + at) for at in shown}
    after, died, crash = before.copy(), -1, ""
    try:
        zone_device.memunmap_pages(pgmap, seen)
        assert seen.log is not None
        log = seen.log[: seen.counts[Counter.LOGGED]]
        put = log[:, _PAGE].astype(np.int64)
        after[put] = log[:, _NEW] >> _REFCOUNT
    except KernelCrash as dead:
        crash = str(dead)
        found = re.search(r"at pfn (0x[0-9a-f]+)", crash)
        assert found is not None
        died = int(found[1], 16) - START_PFN
        after = _refcounts(array, nr_pages)  # the struct pages stay
        put = np.flatnonzero(after < before)
    was_put = set(put.tolist())
    kept = tuple(Page(at, roles[at], int(before[at]), int(after[at]), at in was_put, at == died) for at in shown)
    offers = None if crash else int(seen.counts[Counter.COND_RESCHED])
    return Teardown(kernel, by_one, order, nr_pages, references, len(put), offers, kept, crash)


def _refcounts(array: PageArray, nr_pages: int) -> np.ndarray:
    return (array.view(START_PFN, nr_pages)[:, _COUNTS] >> _REFCOUNT).astype(np.int64)


# -- a page that is held -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """A device is unbound while a pipe holds one of its pages.

    Attributes
    ----------
    kernel : str
    held : int
        Reference count of the page's head when the unbind begins.
    finished : bool
        The unbind returned while the page was held.
    blocked_in : str
        The function where it waits; empty where it does not.
    mapped : bool
        The process still has its entry.
    struct_pages : int
        Of the device that exist while the page is held.
    released : str
        How the kernel died when the pipe was closed; empty where it did not.
    finished_after : bool
        The unbind is over once the pipe is closed.
    """

    kernel: str
    held: int
    finished: bool
    blocked_in: str
    mapped: bool
    struct_pages: int
    released: str
    finished_after: bool


def unbind_while_held(kernel: str, size: str = "64M", align: str = "2M") -> Held:
    """Give a page of a device to a pipe, unbind the device, then close the pipe.

    Parameters
    ----------
    kernel : str
        See :func:`workbench.series.kernel`.
    size, align : str
        Of the namespace that the device is of.
    """
    nbytes, start = parse_size(size), START_PFN << PAGE_SHIFT
    machine = Machine(kernel, persistent_memory=[(start, start + nbytes)])
    device = machine.create_namespace(None, parse_size(align), "mem")
    process = machine.process()
    addr = process.mmap(process.open(device.name), device.align)
    process.touch(addr)
    pipe = process.vmsplice(addr, 1 << PAGE_SHIFT)
    held = machine.array.words(device.ranges[0].start_pfn)[_COUNTS] >> 32
    finished = machine.unbind(device.name)
    blocked = machine.bus.blocked_in(device.name)
    mapped, exist = process.mm.translate(addr) is not None, machine.array.existing_pages
    released = ""
    try:
        process.release(pipe)
    except KernelCrash as dead:
        released = str(dead)
    over = machine.unbind_finished(device.name)
    return Held(kernel, held, finished, blocked[0] if blocked else "", mapped, exist, released, over)
