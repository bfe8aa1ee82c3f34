# SPDX-License-Identifier: GPL-2.0-only
"""``prep_compound_page()`` in one piece, and split into head and tail parts by patch 2: byte by byte.

Both paths of the engine run with regular stores, for every order and every layout of struct page, over
struct pages as ``__init_single_page()`` leaves them and over words that are all ones: what one path
forgets to store is seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from workbench.abi.constants import PAGES_PER_SUBSECTION
from workbench.errors import WorkbenchError
from workbench.lab.same_bytes import LAYOUTS
from workbench.lab.trace import START_PFN
from workbench.mm import InitCall, PageArray
from workbench.mm.page_alloc import prep_compound_page
from workbench.series import Kernel, Tree, kernel, pair

ORDERS = tuple(range(1, 19))
"""2 pages to 1 GiB.  Order 0 is never passed."""

_ONES = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


def without_and_with(layout: str) -> tuple[Kernel, Kernel]:
    """Two kernels with the layout and tree of ``layout``: one without patch 2, one with it."""
    which = kernel(layout)
    whole = Tree(which.tree.base, which.tree.patches - {2}, which.tree.dedup)
    split = Tree(which.tree.base, which.tree.patches | {2}, which.tree.dedup)
    return pair(which.abi, whole), pair(which.abi, split)


def compare_split(orders: Sequence[int] = ORDERS, layouts: Sequence[str] = LAYOUTS) -> xr.Dataset:
    """Run both forms of ``prep_compound_page()`` on every order and layout and compare every byte.

    Parameters
    ----------
    orders : sequence of int
        log2 of the pages of a compound, 1 to 18.
    layouts : sequence of str
        Kernels whose layout and tree are used; patch 2 is taken out and put in.

    Returns
    -------
    xarray.Dataset
        Dimensions ``order`` and ``layout``: ``bytes_compared`` and ``bytes_different``
        (int64), over pages just initialised and pages of ones; ``first_page_different`` (-1: none).

    Raises
    ------
    WorkbenchError
        No order or layout, or an order that is not 1 to 18.

    Examples
    --------
    >>> same = compare_split([9], ["5.17"])
    >>> int(same.bytes_compared.sum()), int(same.bytes_different.sum())
    (65536, 0)
    """
    if not orders or not layouts or not set(orders) <= set(ORDERS):
        raise WorkbenchError(f"give orders of 1 to 18 and at least one layout; got {list(orders)}, {list(layouts)}.")
    size = (len(orders), len(layouts))
    compared, different, first = np.zeros(size, np.int64), np.zeros(size, np.int64), np.full(size, -1)
    for column, layout in enumerate(layouts):
        arrays = [_array(which, max(orders)) for which in without_and_with(layout)]
        for row, order in enumerate(orders):
            for ones in (False, True):
                whole, split = (_prepared(array, order, ones) for array in arrays)
                differs = whole.view(np.uint8) != split.view(np.uint8)
                compared[row, column] += differs.size
                different[row, column] += int(differs.sum())
                if differs.any() and first[row, column] < 0:
                    first[row, column] = int(np.flatnonzero(differs.any(axis=1))[0])
    table = {"bytes_compared": compared, "bytes_different": different, "first_page_different": first}
    return xr.Dataset(
        {name: (("order", "layout"), values) for name, values in table.items()},
        coords={
            "order": list(orders),
            "layout": [kernel(name).abi.release + ("*" if name.endswith("-nodedup") else "") for name in layouts],
        },
        attrs={"provenance": "derived"},
    )


def _array(which: Kernel, order: int) -> PageArray:
    nr_pages = max(1 << order, PAGES_PER_SUBSECTION)
    array = PageArray(which, START_PFN, nr_pages)
    array.add_pages(START_PFN, nr_pages)
    return array


def _prepared(array: PageArray, order: int, ones: bool) -> np.ndarray:
    """The first pages of ``array``, made ready and then prepared as one compound page."""
    nr_pages = 1 << order
    vm = array.writable(START_PFN, nr_pages)
    if ones:
        vm.pages[:nr_pages] = _ONES
    else:
        array.init(InitCall(START_PFN, START_PFN + nr_pages))
    prep_compound_page(vm, START_PFN - array.start_pfn, order, None)
    return array.view(START_PFN, nr_pages)
