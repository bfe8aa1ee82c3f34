# SPDX-License-Identifier: GPL-2.0-only
"""One 2 MiB page of a device, and its 512 struct pages on one kernel."""

from __future__ import annotations

import numpy as np
import xarray as xr

from workbench.abi.constants import PAGES_PER_SECTION, PMD_ORDER, PMD_SIZE
from workbench.lab.overhead import kernel_of, stage_of
from workbench.lab.trace import PGMAP, START_PFN, trace_init
from workbench.mm import DevPagemap, PageArray
from workbench.mm.memremap import pfn_len
from workbench.mm.sparse_vmemmap import STRUCT_PAGES_PER_PAGE, populate

NR_PAGES = 1 << PMD_ORDER


def huge_page(kernel_name: str) -> xr.Dataset:
    """The struct pages of the first 2 MiB of a device with an align of 2 MiB, struct pages in DRAM.

    Parameters
    ----------
    kernel_name : str
        A kernel :func:`workbench.series.kernel` knows.

    Returns
    -------
    xarray.Dataset
        Dimension ``page`` (512): ``role`` and ``refcount`` of each, read from the struct pages the
        engine made.  Dimension ``vmemmap_page`` (8): ``first``, the vmemmap page whose physical memory
        it uses (its own number where that is its own).  Scalars: ``struct_pages_initialised``,
        ``pgmap_refs``.

    Examples
    --------
    >>> page = huge_page("5.17")
    >>> int(page.refcount.sum()), int(page.pgmap_refs), int(page.struct_pages_initialised)
    (1, 1, 512)
    """
    kernel = kernel_of(kernel_name)
    shift = kernel.tree.vmemmap_shift(PMD_SIZE)
    trace = trace_init(kernel, NR_PAGES, shift)
    words = trace.after.values
    section = (START_PFN, PAGES_PER_SECTION)
    first = populate([section], vmemmap_shift=shift, dedup=kernel.tree.dedup).sharing().first
    pgmap = DevPagemap(PGMAP, ((START_PFN, NR_PAGES),), shift)
    return xr.Dataset(
        {
            "role": ("page", [str(kernel.abi.role(row, START_PFN + at)) for at, row in enumerate(words)]),
            "refcount": ("page", (words[:, 6] >> np.uint64(32)).astype(np.int64)),
            "first": ("vmemmap_page", first[: NR_PAGES // STRUCT_PAGES_PER_PAGE]),
            "struct_pages_initialised": int(trace.lines_written),
            "pgmap_refs": pfn_len(PageArray(kernel, *section), pgmap, 0),
        },
        attrs={"kernel": kernel_name, "stage": stage_of(kernel.tree), "provenance": "derived"},
    )
