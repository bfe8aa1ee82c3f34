# SPDX-License-Identifier: GPL-2.0-only
"""Two trees side by side on the same device: which bytes and which counts differ.

A patch that only moves code must leave every byte and every count as it was.  Here both trees run
``memmap_init_zone_device()`` with the engine's regular stores, each taking its own branch, over struct
pages that hold a pattern of ones beforehand (as ``page_init_poison()`` leaves them): what a branch
forgets to write is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from workbench.abi import STRUCT_PAGE_BYTES
from workbench.abi.constants import PAGE_SHIFT, PAGES_PER_SECTION, PMD_ORDER, PUD_ORDER
from workbench.errors import WorkbenchError
from workbench.lab.trace import PGMAP, START_PFN
from workbench.mm import InitCall, PageArray
from workbench.mm.events import Counter, events
from workbench.nvdimm import Namespace, nvdimm_setup_pfn
from workbench.series import Kernel, kernel, pair

COUNTS = {
    "struct_pages_initialised": Counter.LINES_WRITTEN,
    "stores": Counter.STORES,
    "loads": Counter.LOADS,
    "locked_operations": Counter.LOCKED,
    "migratetype_writes": Counter.MIGRATETYPE_WRITES,
    "cond_resched": Counter.COND_RESCHED,
}
"""Name of a count in the Dataset to the engine's counter."""

LAYOUTS = ("5.10", "5.15", "5.16+0", "5.17", "6.1", "6.1-nodedup", "6.12")
"""A kernel of each layout of struct page, the small recorded build among them."""

_PATTERN = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


@dataclass(frozen=True)
class Shape:
    """A call of ``memmap_init_zone_device()``.

    Attributes
    ----------
    name : str
        What people call it.
    start_pfn, nr_pages : int
        Pages that get the pgmap.
    vmemmap_shift : int
        Order of the compound pages asked for.
    altmap : bool
        Struct pages lie in the device.
    """

    name: str
    start_pfn: int
    nr_pages: int
    vmemmap_shift: int = 0
    altmap: bool = False


def _of_namespace(size: int, align: int, map: str, name: str) -> Shape:
    nd_pfn = nvdimm_setup_pfn(Namespace(START_PFN << PAGE_SHIFT, size, align, map))
    return Shape(name, nd_pfn.pfn_first, nd_pfn.end_pfn - nd_pfn.pfn_first, altmap=nd_pfn.altmap is not None)


SHAPES = (
    Shape("one page", START_PFN, 1),
    Shape("2 MiB", START_PFN, 512),
    Shape("1 GiB", START_PFN, 1 << 18),
    Shape("256 MiB, start 2 MiB into a section", START_PFN + 512, 1 << 16),
    Shape("4 MiB less a page, odd start", START_PFN + 77, 1023),
    _of_namespace(1 << 30, 4096, "mem", "namespace of 1 GiB, align 4 KiB"),
    _of_namespace(1 << 30, 2 << 20, "dev", "namespace of 1 GiB, align 2 MiB, altmap"),
    _of_namespace(3 << 30, 1 << 30, "dev", "namespace of 3 GiB, align 1 GiB, altmap"),
)
"""Base pages: sizes, starts and the ranges of real namespaces."""

COMPOUND_SHAPES = (
    Shape("1 GiB in compounds of 2 MiB", START_PFN, 1 << 18, PMD_ORDER),
    Shape("1 GiB in one compound", START_PFN, 1 << PUD_ORDER, PUD_ORDER),
    Shape("3 MiB in compounds of 2 MiB: the last overruns", START_PFN, 768, PMD_ORDER),
)
"""Compound pages; trees without patch 4 ignore the order."""


def compare(before: str, after: str, shapes: Sequence[Shape] = SHAPES, layouts: Sequence[str] = LAYOUTS) -> xr.Dataset:
    """Run two trees over every shape with every layout.

    Parameters
    ----------
    before, after : str
        Names of kernels whose trees are compared, such as ``5.16+2`` and ``5.16+3``.
    shapes : sequence of Shape
        Calls to make.
    layouts : sequence of str
        Kernels whose layout of struct page is used.  Most pairings with a tree were never released;
        the code under test does not ask for the release.

    Returns
    -------
    xarray.Dataset
        Dimensions ``shape`` and ``layout``: ``bytes_compared``, ``bytes_different`` (struct pages of
        whole sections, so that a store outside the range is seen too) and ``pageblocks_different``
        (words of pageblock bits); with the dimension ``tree`` (``before``, ``after``) each of
        :data:`COUNTS` and ``pages_logged``, the number in the kernel's log line.

    Raises
    ------
    WorkbenchError
        No shape or layout, or a name that is no kernel.

    Examples
    --------
    >>> same = compare("5.16+2", "5.16+3", SHAPES[1:2], ["5.17"])
    >>> int(same.bytes_compared.sum()), int(same.bytes_different.sum())
    (2097152, 0)
    """
    if not shapes or not layouts:
        raise WorkbenchError("nothing to compare. Give at least one shape and one layout.")
    trees = [kernel(name).tree for name in (before, after)]
    size = (len(shapes), len(layouts))
    table = {name: np.zeros(size, np.int64) for name in ("bytes_compared", "bytes_different", "pageblocks_different")}
    counts = {name: np.zeros((2, *size), np.int64) for name in (*COUNTS, "pages_logged")}
    for row, shape in enumerate(shapes):
        for column, layout in enumerate(layouts):
            abi = kernel(layout).abi
            runs = [_run(pair(abi, tree), shape) for tree in trees]
            (old, old_blocks, _), (new, new_blocks, _) = runs
            table["bytes_compared"][row, column] = old.nbytes
            if not np.array_equal(old, new):
                table["bytes_different"][row, column] = int((old.view(np.uint8) != new.view(np.uint8)).sum())
            table["pageblocks_different"][row, column] = int((old_blocks != new_blocks).sum())
            for tree, (_, _, counted) in enumerate(runs):
                for name, value in counted.items():
                    counts[name][tree, row, column] = value
    return xr.Dataset(
        {name: (("shape", "layout"), values) for name, values in table.items()}
        | {name: (("tree", "shape", "layout"), values) for name, values in counts.items()},
        coords={
            "shape": [shape.name for shape in shapes],
            "layout": [kernel(layout).abi.release + ("*" if layout.endswith("-nodedup") else "") for layout in layouts],
            "tree": ["before", "after"],
        },
        attrs={"before": before, "after": after, "provenance": "derived", "struct_page_bytes": STRUCT_PAGE_BYTES},
    )


def stores_by_function(before: xr.Dataset, after: xr.Dataset) -> xr.Dataset:
    """How many stores each C function makes in two traces.

    Parameters
    ----------
    before, after : xarray.Dataset
        From :func:`workbench.lab.trace.trace_init`, over the same number of pages.

    Returns
    -------
    xarray.Dataset
        Dimension ``function``, in the order in which the functions first store: ``before``, ``after``
        (int64, stores a struct page of the trace) and ``pages``.
    """
    sites = np.concatenate([before.site.values, after.site.values])
    names, first = np.unique(sites, return_index=True)
    names = names[np.argsort(first)]
    pages = before.sizes["page"]
    columns = {
        which: ("function", np.array([np.count_nonzero(trace.site.values == name) for name in names]))
        for which, trace in (("before", before), ("after", after))
    }
    return xr.Dataset(
        columns,
        coords={"function": names},
        attrs={
            "pages": pages,
            "kernel_before": before.attrs["kernel"],
            "kernel_after": after.attrs["kernel"],
            "provenance": "derived",
        },
    )


def _run(which: Kernel, shape: Shape) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Struct pages, pageblock words and counts, after one init call over a pattern of ones."""
    step = 1 << shape.vmemmap_shift
    end = shape.start_pfn + -(-shape.nr_pages // step) * step
    first = shape.start_pfn // PAGES_PER_SECTION * PAGES_PER_SECTION
    nr_pages = -(-(end - first) // PAGES_PER_SECTION) * PAGES_PER_SECTION
    array = PageArray(which, first, nr_pages)
    array.add_pages(first, nr_pages)
    vm = array.writable(first, nr_pages)
    vm.pages[:] = _PATTERN
    noted = events(array.nr_pages)
    call = InitCall(
        shape.start_pfn, shape.start_pfn + shape.nr_pages, 0, PGMAP, shape.vmemmap_shift, altmap=shape.altmap
    )
    logged = array.traced(call, noted)
    counted = {name: int(noted.counts[counter]) for name, counter in COUNTS.items()}
    return array.view(first, nr_pages), vm.pageblock_flags, {**counted, "pages_logged": logged}
