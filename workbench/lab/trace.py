# SPDX-License-Identifier: GPL-2.0-only
"""An operation's stores, in order, as a Dataset: what a trace player or a figure draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from workbench.abi import STRUCT_PAGE_BYTES, WORDS
from workbench.abi.constants import PAGES_PER_SUBSECTION
from workbench.errors import WorkbenchError
from workbench.mm import InitCall, PageArray
from workbench.mm.events import Access, Counter, Events, Site, events
from workbench.mm.memmap import Memmap
from workbench.mm.page_alloc import __init_single_page as init_single_page
from workbench.mm.page_alloc import prep_compound_page as _prep_compound_page
from workbench.series import Kernel

START_PFN = 0x100000
"""Where the examples' device lies: 4 GiB."""

PGMAP = 0xFFFF_8881_00A0_1000
"""A plausible kernel address for the example's dev_pagemap; a real one cannot be known."""

_STORES_A_PAGE = 24
_LONGEST = 4_000_000


def trace_init(kernel: Kernel, nr_pages: int, vmemmap_shift: int = 0, start_pfn: int = START_PFN) -> xr.Dataset:
    """Trace ``memmap_init_zone_device()`` over a device of ``nr_pages``.

    Parameters
    ----------
    kernel : Kernel
    nr_pages : int
        Pages of the device; at most what gives 4,000,000 stores.
    vmemmap_shift : int
        Order of the compound pages asked for.
    start_pfn : int
        First pfn, a multiple of 512.

    Returns
    -------
    xarray.Dataset
        See :func:`as_dataset`.

    Raises
    ------
    WorkbenchError
        More stores than a trace holds, or a range the page array refuses.
    """
    step = 1 << vmemmap_shift if kernel.tree.has(4) else 1
    written = -(-nr_pages // step) * step  # the last compound runs over the device's end
    existing = -(-written // PAGES_PER_SUBSECTION) * PAGES_PER_SUBSECTION
    array = PageArray(kernel, start_pfn, existing)
    array.add_pages(start_pfn, existing)
    call = InitCall(start_pfn, start_pfn + nr_pages, 0, PGMAP, vmemmap_shift)
    return _traced(kernel, array, lambda ev: array.traced(call, ev), start_pfn, nr_pages, written)


def trace_prep_compound_page(kernel: Kernel, order: int, start_pfn: int = START_PFN) -> xr.Dataset:
    """Trace ``prep_compound_page()`` on 2**order fresh pages of zone NORMAL with one reference each.

    Returns
    -------
    xarray.Dataset
        See :func:`as_dataset`.

    Raises
    ------
    WorkbenchError
        ``order`` is not 1 to 18, or more stores than a trace holds.
    """
    array, vm = _fresh_pages(kernel, order, start_pfn)
    row = start_pfn - array.start_pfn
    return _traced(kernel, array, lambda ev: _prep_compound_page(vm, row, order, ev), start_pfn, 1 << order, 1 << order)


def compound_page(kernel: Kernel, order: int, start_pfn: int = START_PFN) -> np.ndarray:
    """The struct pages that ``prep_compound_page()`` leaves behind on fresh pages.

    Returns
    -------
    uint64[2**order, 8]
        Read-only.
    """
    array, vm = _fresh_pages(kernel, order, start_pfn)
    _prep_compound_page(vm, start_pfn - array.start_pfn, order, None)
    return array.view(start_pfn, 1 << order)


def _fresh_pages(kernel: Kernel, order: int, start_pfn: int) -> tuple[PageArray, Memmap]:
    if not 1 <= order <= 18:
        raise WorkbenchError(f"a compound page here has order 1 to 18 (2 pages to 1 GiB); got order {order}.")
    nr_pages = 1 << order
    existing = -(-nr_pages // PAGES_PER_SUBSECTION) * PAGES_PER_SUBSECTION
    array = PageArray(kernel, start_pfn, existing)
    array.add_pages(start_pfn, existing)
    vm = array.writable(start_pfn, existing)
    zone = np.uint64(kernel.abi.zone("NORMAL"))
    for row in range(start_pfn - array.start_pfn, start_pfn - array.start_pfn + nr_pages):
        init_single_page(vm, row, zone, np.uint64(0), None)
    return array, vm


def _traced(
    kernel: Kernel,
    array: PageArray,
    operation: Callable[[Events], object],
    start_pfn: int,
    nr_pages: int,
    written: int,
) -> xr.Dataset:
    if written * _STORES_A_PAGE > _LONGEST:
        raise WorkbenchError(
            f"a trace of {written:,} pages would hold up to {written * _STORES_A_PAGE:,} stores; the limit is "
            f"{_LONGEST:,}. Trace a smaller range: every compound page repeats the first."
        )
    ev = events(array.nr_pages, written * _STORES_A_PAGE)
    before = array.view(start_pfn, nr_pages).copy()
    operation(ev)
    return as_dataset(kernel, array, ev, before, start_pfn, nr_pages)


def as_dataset(
    kernel: Kernel, array: PageArray, ev: Events, before: np.ndarray, start_pfn: int, nr_pages: int
) -> xr.Dataset:
    """What :class:`workbench.mm.events.Events` noted, as a Dataset.

    Returns
    -------
    xarray.Dataset
        Dimension ``store``, in order: ``pfn``, ``word`` (0 to 7), ``old``, ``new`` (uint64), ``site``
        (the C function), ``locked`` (bool).  Dimensions ``page``, ``column``: the 64-bit words
        ``before`` and ``after``.  Scalars: ``loads``, ``stores``, ``locked_operations``,
        ``lines_read``, ``lines_written``, ``cond_resched``, ``migratetype_writes``.
    """
    assert ev.log is not None, "a trace was asked for with a log"
    log = ev.log[: ev.counts[Counter.LOGGED]]
    sites = np.array([site.c_name for site in Site])
    counts = {
        "loads": Counter.LOADS,
        "stores": Counter.STORES,
        "locked_operations": Counter.LOCKED,
        "lines_read": Counter.LINES_READ,
        "lines_written": Counter.LINES_WRITTEN,
        "cond_resched": Counter.COND_RESCHED,
        "migratetype_writes": Counter.MIGRATETYPE_WRITES,
    }
    return xr.Dataset(
        {
            "pfn": ("store", log[:, 0].astype(np.int64) + array.start_pfn),
            "word": ("store", log[:, 1].astype(np.int8)),
            "old": ("store", log[:, 2]),
            "new": ("store", log[:, 3]),
            "site": ("store", sites[log[:, 4].astype(np.intp)]),
            "locked": ("store", log[:, 5] == Access.LOCKED),
            "before": (("page", "column"), before),
            "after": (("page", "column"), array.view(start_pfn, nr_pages).copy()),
            **{name: int(ev.counts[counter]) for name, counter in counts.items()},
        },
        coords={"page": np.arange(start_pfn, start_pfn + nr_pages), "column": np.arange(WORDS)},
        attrs={
            "kernel": kernel.name,
            "provenance": "derived",
            "kernel_origin": kernel.origin,
            "struct_page_bytes": STRUCT_PAGE_BYTES,
            "not_logged": int(ev.counts[Counter.NOT_LOGGED]),
        },
    )
