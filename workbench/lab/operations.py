# SPDX-License-Identifier: GPL-2.0-only
"""The life of a huge page of a device, store by store: faulted, pinned, released, poisoned, torn down.

A small :class:`workbench.machine.Machine` does what user space asks, one operation after the other on the same struct
pages, and each is kept as a trace in the form of :mod:`workbench.lab.trace`::

    life = operations("5.16+11", "2M")
    MemoryMap(Device(life.machine.array, operations=life.traces))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, repeat

import xarray as xr

from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE
from workbench.dax.region import DevDax
from workbench.errors import WorkbenchError
from workbench.lab.fault_writes import boot
from workbench.lab.pin_events import PAGES_PER_CALL, PATHS, PIN_SLOW, UNPIN
from workbench.lab.pinning import CALLS, Call
from workbench.lab.trace import PGMAP, START_PFN, as_dataset
from workbench.machine import Machine
from workbench.mm.events import Events, events
from workbench.mm.gup import PageRefcounts, Pinned
from workbench.mm.memory_failure import MemoryFailureCrash, MfFlags, memory_failure
from workbench.mm.memremap import drop_references
from workbench.mm.page_ref import Foll
from workbench.text import count, parse_size, size

OPERATIONS = ("fault", "pin", "unpin", "poison", "teardown")
"""Names of the operations, in their order.  Releases that put no page at teardown have no trace of the last."""

FAILING = 3
"""The page that fails, counted from the first of the huge page: a tail where there are compound pages."""

KEPT = PAGES_PER_CALL
"""Struct pages whose words are kept, from the first of the huge page on; the pages that are pinned at once."""

LOGGED = 24_576
"""Stores kept of one operation; the others are counted in ``not_logged``."""

_MAPPING = PGMAP - 0x1000
"""A plausible kernel address for the address space of the device's file."""


@dataclass(frozen=True, eq=False)
class Life:
    """What a machine did to the struct pages of a huge page.

    Attributes
    ----------
    machine : Machine
        After the last operation; the struct pages are still there.
    device : DevDax
    traces : dict of str to xarray.Dataset
        By name, of :data:`OPERATIONS`; see :func:`workbench.lab.trace.as_dataset`.  The attribute ``what`` says in a
        few words what was asked of the kernel.  :data:`KEPT` struct pages are kept.
    died : str
        What the kernel said when it died of the last operation, or ``""``.
    """

    machine: Machine
    device: DevDax
    traces: dict[str, xr.Dataset]
    died: str = ""


def nr_pages(align: int) -> int:
    """Pages of the device that :func:`operations` makes for an align in bytes: one huge page, 2 MiB at least."""
    return max(align >> PAGE_SHIFT, KEPT)


def operations(kernel: str, align: int | str = "2M", start_pfn: int = START_PFN) -> Life:
    """Run :data:`OPERATIONS` on a device of one huge page (512 pages with an align of 4 KiB).

    Parameters
    ----------
    kernel : str
        See :func:`workbench.series.kernel`.
    align : int or str
        Of the device: 4 KiB, 2 MiB or 1 GiB.
    start_pfn : int
        Where it lies, a multiple of the align and of 2 MiB.

    Returns
    -------
    Life

    Raises
    ------
    WorkbenchError
        A machine does not take such a device.
    """
    run = _Run(kernel, parse_size(align), start_pfn)
    run.fault("fault")
    run.hold(CALLS["pin"], "pin", "unpin")
    machine, device = run.machine, run.device
    try:
        run.record("poison", f"madvise(MADV_HWPOISON) of page {FAILING}", run.poison)
    except MemoryFailureCrash as crash:
        return Life(machine, device, run.traces, str(crash))
    run.process.exit()
    pgmap = device.bound_pgmap
    assert pgmap is not None
    if machine.kernel.tree.puts_pages_at_teardown:
        what = "memunmap_pages() drops its references"
        run.record("teardown", what, lambda ev: drop_references(machine.array, pgmap, events=ev))
    return Life(machine, device, run.traces)


def calls_of(path: str) -> Call:
    """How pages are held so that ``path``, of :data:`workbench.lab.pin_events.PATHS`, is walked.

    Raises
    ------
    WorkbenchError
        There is no such path.
    """
    for call in _CALLS:
        if path in (call.name, call.back):
            return call
    raise WorkbenchError(f"no calls for the path {path!r}. Use one of {', '.join(PATHS)}.")


def pin_path(kernel: str, align: int | str, path: str, start_pfn: int = START_PFN) -> Life:
    """Fault the device of :func:`operations`, then hold :data:`KEPT` of its pages by one path and give them back.

    Parameters
    ----------
    kernel, align, start_pfn
        As :func:`operations`.
    path : str
        Of :data:`workbench.lab.pin_events.PATHS`: what takes the pages, or what gives them back.

    Returns
    -------
    Life
        The traces have the names ``fault`` and those of both calls.

    Raises
    ------
    WorkbenchError
        There is no such path, on this kernel or at all; or see :func:`operations`.
    """
    call = calls_of(path)
    run = _Run(kernel, parse_size(align), start_pfn)
    run.fault("fault")
    run.hold(call, call.name, call.back)
    return Life(run.machine, run.device, run.traces)


_SLOW = Call(PIN_SLOW, UNPIN, Foll.WRITE, PageRefcounts.pin_user_pages, CALLS["pin"].give)
_CALLS = (*CALLS.values(), _SLOW)


class _Run:
    """A machine with one device, mapped by a process, and the traces recorded so far."""

    def __init__(self, kernel: str, step: int, start_pfn: int) -> None:
        self.step, self.pages, self.start_pfn = step, nr_pages(step), start_pfn
        if start_pfn % self.pages:
            raise WorkbenchError(
                f"pfn {start_pfn:#x} is no multiple of {count(self.pages)} pages, the device's huge page. Round it."
            )
        nbytes = self.pages << PAGE_SHIFT
        # Kernels use the same piece of heap again for the pgmap of a device that is bound a second time.
        addresses = chain([_MAPPING], repeat(PGMAP)).__next__
        self.machine, self.device = boot(kernel, step, nbytes, start_pfn << PAGE_SHIFT, addresses)
        self.process = self.machine.process()
        self.addr = self.process.mmap(self.process.open(self.device.name), nbytes)
        self.traces: dict[str, xr.Dataset] = {}

    def record(self, name: str, what: str, operation: Callable[[Events], object]) -> None:
        """Keep what an operation stores, also where the kernel dies of it."""
        array = self.machine.array
        ev = events(array.nr_pages, LOGGED)
        before = array.view(self.start_pfn, KEPT).copy()
        try:
            operation(ev)
        finally:
            trace = as_dataset(self.machine.kernel, array, ev, before, self.start_pfn, KEPT)
            self.traces[name] = trace.assign_attrs(what=what)

    def fault(self, name: str) -> None:
        """Write to every huge page."""
        inode = self.machine.inode(self.device.name)

        def touch(ev: Events) -> None:
            inode.events = ev
            self.process.touch(self.addr, (self.pages << PAGE_SHIFT) // self.step, self.step, write=True)
            inode.events = None

        touched = "each page" if self.step == PAGE_SIZE else f"a huge page of {size(self.step)}"
        self.record(name, f"a process writes to {touched}", touch)

    def hold(self, call: Call, take: str, give: str) -> None:
        """Take pages and give them back."""
        gup, held = self.machine.gup, list[Pinned]()

        def taken(ev: Events) -> None:
            held.append(call.take(gup, self.process.mm, self.addr, KEPT, call.flags, ev))

        self.record(take, f"{call.name}() of {KEPT} pages", taken)
        self.record(give, f"{call.back}() of {KEPT} pages", lambda ev: call.give(gup, held.pop(), ev))

    def poison(self, ev: Events) -> None:
        """Fail a page as madvise(2) does: look it up, mark it, put it."""
        (pfn,) = self.machine.gup.get_user_pages_fast(self.process.mm, self.addr + FAILING * PAGE_SIZE, 1, 0, ev).pfns
        memory_failure(self.machine, int(pfn), MfFlags.COUNT_INCREASED, self.process, ev)
