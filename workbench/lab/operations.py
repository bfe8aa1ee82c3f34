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
from workbench.lab.pin_events import PAGES_PER_CALL
from workbench.lab.trace import PGMAP, START_PFN, as_dataset
from workbench.machine import Machine
from workbench.mm.events import Events, events
from workbench.mm.gup import Pinned
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
    step = parse_size(align)
    pages = nr_pages(step)
    if start_pfn % pages:
        raise WorkbenchError(
            f"pfn {start_pfn:#x} is no multiple of {count(pages)} pages, the device's huge page. Round it."
        )
    # Kernels use the same piece of heap again for the pgmap of a device that is bound a second time.
    addresses = chain([_MAPPING], repeat(PGMAP)).__next__
    machine, device = boot(kernel, step, pages << PAGE_SHIFT, start_pfn << PAGE_SHIFT, addresses)
    process, gup, array = machine.process(), machine.gup, machine.array
    addr = process.mmap(process.open(device.name), pages << PAGE_SHIFT)
    traces: dict[str, xr.Dataset] = {}

    def record(name: str, what: str, operation: Callable[[Events], object]) -> None:
        ev = events(array.nr_pages, LOGGED)
        before = array.view(start_pfn, KEPT).copy()
        try:
            operation(ev)
        finally:
            trace = as_dataset(machine.kernel, array, ev, before, start_pfn, KEPT)
            traces[name] = trace.assign_attrs(what=what)

    def fault(ev: Events) -> None:
        inode = machine.inode(device.name)
        inode.events = ev
        process.touch(addr, (pages << PAGE_SHIFT) // step, step, write=True)
        inode.events = None

    def poison(ev: Events) -> None:
        (pfn,) = gup.get_user_pages_fast(process.mm, addr + FAILING * PAGE_SIZE, 1, 0, ev).pfns
        memory_failure(machine, int(pfn), MfFlags.COUNT_INCREASED, process, ev)

    touched = "each page" if step == PAGE_SIZE else f"a huge page of {size(step)}"
    record("fault", f"a process writes to {touched}", fault)
    pinned: list[Pinned] = []
    record(
        "pin",
        f"pin_user_pages_fast() of {KEPT} pages",
        lambda ev: pinned.append(gup.pin_user_pages_fast(process.mm, addr, KEPT, Foll.WRITE, ev)),
    )
    record("unpin", f"unpin_user_pages() of {KEPT} pages", lambda ev: gup.release(pinned.pop(), events=ev))
    try:
        record("poison", f"madvise(MADV_HWPOISON) of page {FAILING}", poison)
    except MemoryFailureCrash as crash:
        return Life(machine, device, traces, str(crash))
    process.exit()
    pgmap = device.bound_pgmap
    assert pgmap is not None
    if machine.kernel.tree.puts_pages_at_teardown:
        record("teardown", "memunmap_pages() drops its references", lambda ev: drop_references(array, pgmap, events=ev))
    return Life(machine, device, traces)
