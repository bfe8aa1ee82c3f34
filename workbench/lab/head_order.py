# SPDX-License-Identifier: GPL-2.0-only
"""When the head of a compound page is prepared: as the kernel does it, and, as an ablation, too early.

``prep_compound_head()`` stores into tails 1 and 2.  Initialising those tails clears them.  The kernel
therefore prepares the head once tail 2 exists.  Here the same functions also run in the tempting order,
head first, to see what is lost.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from workbench.abi.constants import PAGES_PER_SUBSECTION
from workbench.errors import WorkbenchError
from workbench.lab.trace import PGMAP, START_PFN, as_dataset, trace_init
from workbench.mm import PageArray
from workbench.mm.events import Site, events
from workbench.mm.memmap import HIGH_HALF, store_bits
from workbench.mm.page_alloc import __init_zone_device_page as init_zone_device_page
from workbench.mm.page_alloc import __SetPageHead as SetPageHead
from workbench.mm.page_alloc import alias_tails, compound_nr_pages, prep_compound_head, prep_compound_tail
from workbench.series import kernel

HEAD_PART = Site.prep_compound_head.c_name
_STORES_A_PAGE = 24
_MOST_PAGES = 4096


class Wiped(NamedTuple):
    """A store that a later one undid.

    Attributes
    ----------
    store, by : int
        Positions in the trace: of the store, and of the first later store to the same word that
        takes a bit of it back.
    page, word : int
        Index into the trace's pages, and 0 to 7.
    """

    store: int
    by: int
    page: int
    word: int


def trace_compound(kernel_name: str, vmemmap_shift: int = 9) -> xr.Dataset:
    """Trace the initialisation of one compound page, as the kernel does it.

    Parameters
    ----------
    kernel_name : str
        A kernel :func:`workbench.series.kernel` knows.
    vmemmap_shift : int
        Order of the compound page, 2 to 12.

    Returns
    -------
    xarray.Dataset
        See :func:`workbench.lab.trace.as_dataset`.

    Raises
    ------
    WorkbenchError
        ``vmemmap_shift`` is out of range.
    """
    return trace_init(kernel(kernel_name), _pages(vmemmap_shift), vmemmap_shift)


def trace_head_first(kernel_name: str, vmemmap_shift: int = 9) -> xr.Dataset:
    """The same stores in an order that no kernel uses: the head is prepared before its tails are initialised.

    An ablation: every function is the kernel's own, only the place of ``prep_compound_head()`` is moved to
    where the head itself is ready.

    Parameters, Returns, Raises
    ---------------------------
    As :func:`trace_compound`; the attribute ``provenance`` is ``modelled``.
    """
    which, nr_pages = kernel(kernel_name), _pages(vmemmap_shift)
    existing = -(-nr_pages // PAGES_PER_SUBSECTION) * PAGES_PER_SUBSECTION
    array = PageArray(which, START_PFN, existing)
    array.add_pages(START_PFN, existing)
    vm = array.writable(START_PFN, existing)
    head, ev = START_PFN - array.start_pfn, events(array.nr_pages, nr_pages * _STORES_A_PAGE)
    before = array.view(START_PFN, nr_pages).copy()
    zone, nid, pgmap = np.uint64(which.abi.zone_device), np.uint64(0), np.uint64(PGMAP)
    init_zone_device_page(vm, head, zone, nid, pgmap, ev)
    SetPageHead(vm, head, ev)
    prep_compound_head(vm, head, vmemmap_shift, ev)
    initialised = int(compound_nr_pages(vm, nr_pages, False))
    for tail in range(1, initialised):
        init_zone_device_page(vm, head + tail, zone, nid, pgmap, ev)
        prep_compound_tail(vm, head, tail, ev)
        store_bits(vm, head + tail, 6, HIGH_HALF, np.uint64(0), Site.set_page_count, ev)
    rest, end = head + initialised, head + nr_pages
    alias_tails(vm, head, rest, end, zone, nid, pgmap, vmemmap_shift, 0, array.nr_pages)
    trace = as_dataset(which, array, ev, before, START_PFN, nr_pages)
    return trace.assign_attrs(provenance="modelled")


def wiped(trace: xr.Dataset, function: str = HEAD_PART) -> list[Wiped]:
    """The stores of a C function that a later store undoes.

    Parameters
    ----------
    trace : xarray.Dataset
        From :func:`trace_compound`, :func:`trace_head_first` or :mod:`workbench.lab.trace`.
    function : str
        Its name.

    Returns
    -------
    list of Wiped
        In order.  A store whose bits are all still there at the end, or that changed none, is not in it.
    """
    page, word = trace.pfn.values - int(trace.page[0]), trace.word.values
    old, new = trace.old.values, trace.new.values
    out = []
    for at in np.flatnonzero(trace.site.values == function):
        set_here = old[at] ^ new[at]
        later = np.flatnonzero((page == page[at]) & (word == word[at]))
        later = later[later > at]
        undone = later[((new[later] ^ new[at]) & set_here) != 0]
        if len(undone) and set_here:
            out.append(Wiped(int(at), int(undone[0]), int(page[at]), int(word[at])))
    return out


def words_lost(right: xr.Dataset, wrong: xr.Dataset) -> list[tuple[int, int, int, int]]:
    """The words that two traces of the same pages leave different.

    Returns
    -------
    list of (int, int, int, int)
        Page (its index), word, value after ``right``, value after ``wrong``.

    Raises
    ------
    WorkbenchError
        The traces are of different pages.
    """
    if right.page.values.tolist() != wrong.page.values.tolist():
        raise WorkbenchError("the two traces show different struct pages. Trace the same pages twice.")
    good, bad = right.after.values, wrong.after.values
    return [(int(p), int(w), int(good[p, w]), int(bad[p, w])) for p, w in np.argwhere(good != bad)]


def _pages(vmemmap_shift: int) -> int:
    if vmemmap_shift < 2 or 1 << vmemmap_shift > _MOST_PAGES:
        raise WorkbenchError(
            f"a trace of one compound page takes an order of 2 to {_MOST_PAGES.bit_length() - 1}; got {vmemmap_shift}. "
            "All compound pages begin alike: trace a small one."
        )
    return 1 << vmemmap_shift
