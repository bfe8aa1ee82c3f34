# SPDX-License-Identifier: GPL-2.0-only
"""The struct pages of a device as Datasets: its parts, one section, one compound page, and the numbers.

Every value is read from a page array that ``pagemap_range()`` filled, on the kernel asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from workbench.abi import STRUCT_PAGE_BYTES, WORDS, Abi, Role
from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE, PAGES_PER_SECTION, PAGES_PER_SUBSECTION
from workbench.errors import WorkbenchError
from workbench.lab.trace import PGMAP, START_PFN
from workbench.mm import DevPagemap, PageArray
from workbench.mm.memremap import pagemap_range, pfn_end, pfn_first, pfn_len
from workbench.mm.page_lanes import roles_of_rows, rules
from workbench.nvdimm import Namespace, nvdimm_setup_pfn
from workbench.series import Kernel, kernel
from workbench.text import parse_size

ROLES = tuple(Role)
"""The roles by the code that ``section_role`` uses."""

WIDE = 8
"""Struct pages of a compound page that are kept word by word."""

PARTS = ("reserve", "altmap", "data")
"""Parts of a device: pages never initialised, pages that hold its own struct pages, pages it gives out."""


def roles(abi: Abi, rows: np.ndarray, first_pfn: int) -> np.ndarray:
    """What each struct page is used as: :meth:`workbench.abi.Abi.role` for many pages at once.

    Parameters
    ----------
    abi : Abi
    rows : uint64[nr_pages, 8]
        Struct pages of a device.
    first_pfn : int
        The pfn of row 0.

    Returns
    -------
    uint8[nr_pages]
        Indices into :data:`ROLES`.  Free pages of the buddy allocator are not told apart: a device has none.
    """
    out = np.empty(len(rows), np.uint8)
    roles_of_rows(rows, first_pfn, rules(abi), out)
    return out


def device_layout(
    kernel_name: str, size: int | str = "1G", vmemmap_shift: int = 9, altmap: bool = False, compound: int = 0
) -> xr.Dataset:
    """Make a device's struct pages and look at them on every scale.

    Parameters
    ----------
    kernel_name : str
        A kernel :func:`workbench.series.kernel` knows.
    size : int or str
        Of the device's range, its own metadata included.
    vmemmap_shift : int
        Order of the compound pages the pgmap asks for: 0, 9 or 18.  A tree without patch 4 ignores it.
    altmap : bool
        Keep the struct pages in the device, laid out as in a namespace with ``map=dev``.
    compound : int
        Which compound page (or run of as many base pages) to show word by word.

    Returns
    -------
    xarray.Dataset
        ``words`` (uint64[page, column]) of the first :data:`WIDE` pages of the compound; ``section_role``
        (uint8[section_page], indices into :data:`ROLES`) of the section it lies in; ``part_pages`` (int64[part]);
        ``role_pages`` (int64[role], counted over the whole device); scalars ``references`` (what the pgmap takes on
        itself), ``refcounts`` (sum of ``_refcount``), ``vmemmap_bytes`` and ``alike`` (how many struct pages of the
        compound follow the shown ones and equal the last of them). Attributes: ``kernel``, ``provenance``,
        ``kernel_origin``, ``note``, ``release``, ``start_pfn``, ``end_pfn``, ``first_pfn`` (of the data),
        ``section_pfn``, ``compound_pfn``, ``run_pages`` (pages of a compound page asked for; 512 where none is),
        ``pages_per_compound`` (1 without compounds), ``vmemmap_shift``.

    Raises
    ------
    WorkbenchError
        A size of no whole compounds, a compound that the device has not, or what the engine refuses.

    Examples
    --------
    >>> ds = device_layout("5.16+4", "4M")
    >>> {str(role): int(n) for role, n in zip(ds.role.values, ds.role_pages.values) if n}
    {'head': 2, 'first_tail': 2, 'second_tail': 2, 'tail': 1018}
    """
    which = kernel(kernel_name)
    pgmap = _pgmap(parse_size(size), vmemmap_shift, altmap)
    start, nr_pages = pgmap.ranges[0]
    first, end = pfn_first(pgmap, 0), pfn_end(pgmap, 0)
    run = 1 << vmemmap_shift if vmemmap_shift else PAGES_PER_SUBSECTION
    if (end - first) % run or not first + compound * run < end:
        raise WorkbenchError(
            f"the device has {(end - first) / run:g} runs of {run} pages; run {compound} was asked for. "
            "Use a size of whole compound pages, and a compound inside it."
        )
    array = _filled(which, pgmap)
    at = first + compound * run
    page = array.view(at, min(run, max(WIDE, 1)))
    whole = array.view(at, run)
    section = max(at // PAGES_PER_SECTION * PAGES_PER_SECTION, start)
    section_end = min((at // PAGES_PER_SECTION + 1) * PAGES_PER_SECTION, end)
    counted, refcounts = _count(which.abi, array, start, end)
    alike = len(whole) - len(page) if (whole[len(page) :] == page[-1]).all() else 0
    altmap_pages = pgmap.altmap.free if pgmap.altmap else 0
    return xr.Dataset(
        {
            "words": (("page", "column"), page.copy()),
            "section_role": ("section_page", roles(which.abi, array.view(section, section_end - section), section)),
            "part_pages": ("part", np.array([first - start - altmap_pages, altmap_pages, end - first])),
            "role_pages": ("role", counted),
            "references": pfn_len(array, pgmap, 0),
            "refcounts": refcounts,
            "vmemmap_bytes": nr_pages * STRUCT_PAGE_BYTES,
            "alike": alike,
        },
        coords={
            "page": np.arange(at, at + len(page)),
            "column": np.arange(WORDS),
            "section_page": np.arange(section, section_end),
            "part": list(PARTS),
            "role": [str(role) for role in ROLES],
        },
        attrs=_kernel_facts(which, kernel_name)
        | {
            "start_pfn": start,
            "end_pfn": end,
            "first_pfn": first,
            "section_pfn": section,
            "compound_pfn": at,
            "run_pages": run,
            "pages_per_compound": 1 << vmemmap_shift if which.tree.has(4) else 1,
            "vmemmap_shift": vmemmap_shift,
        },
    )


def numbers(kernel_names: Sequence[str], size: int | str = "1G", align: Sequence[int | str] = ("2M",)) -> xr.Dataset:
    """Heads, tails and references of one device, on several kernels and aligns, counted in its struct pages.

    Parameters
    ----------
    kernel_names : sequence of str
    size : int or str
        Of the device.
    align : sequence of int or str
        The pgmap asks for compound pages of this size.

    Returns
    -------
    xarray.Dataset
        Dimensions ``align`` (bytes) and ``kernel``: ``struct_pages``, ``base_pages``, ``heads``, ``tails``,
        ``references``, ``refcounts``, ``vmemmap_bytes`` (int64), ``provenance`` (str).

    Raises
    ------
    WorkbenchError
        As :func:`device_layout`; an align that is no power of two of at least 4096.
    """
    sizes = [parse_size(one) for one in align]
    for nbytes in sizes:
        if nbytes < PAGE_SIZE or nbytes & (nbytes - 1):
            raise WorkbenchError(
                f"align is a power of two of at least {PAGE_SIZE} bytes; got {nbytes}. Use 4K, 2M or 1G."
            )
    cells = [
        [_numbers(device_layout(name, size, (nbytes >> PAGE_SHIFT).bit_length() - 1)) for name in kernel_names]
        for nbytes in sizes
    ]
    return xr.Dataset(
        {name: (("align", "kernel"), [[cell[name] for cell in row] for row in cells]) for name in cells[0][0]},
        coords={"align": sizes, "kernel": list(kernel_names)},
        attrs={"size": parse_size(size)},
    )


def _numbers(layout: xr.Dataset) -> dict[str, Any]:
    by_role = dict(zip(layout.role.values.tolist(), layout.role_pages.values.tolist(), strict=True))
    tails = sum(by_role[role] for role in ROLES if role.is_tail)
    return {
        "struct_pages": sum(by_role.values()),
        "base_pages": by_role[Role.ZONE_DEVICE],
        "heads": by_role[Role.HEAD],
        "tails": tails,
        "references": int(layout.references),
        "refcounts": int(layout.refcounts),
        "vmemmap_bytes": int(layout.vmemmap_bytes),
        "provenance": layout.attrs["provenance"],
    }


def changes(before: str, after: str, size: int | str = "1G", vmemmap_shift: int = 9) -> xr.Dataset:
    """Which words of a device's struct pages differ between two kernels.

    Parameters
    ----------
    before, after : str
        Kernels :func:`workbench.series.kernel` knows, of one layout of struct page.
    size, vmemmap_shift
        As :func:`device_layout`.

    Returns
    -------
    xarray.Dataset
        ``words_different`` (int64[role, column]): how many struct pages that have this role afterwards differ in
        this word; ``pages`` (int64[role]); scalars ``words`` and ``pages_different``.

    Raises
    ------
    WorkbenchError
        The kernels' layouts differ, or as :func:`device_layout`.
    """
    kernels = [kernel(name) for name in (before, after)]
    if kernels[0].abi != kernels[1].abi:
        raise WorkbenchError(
            f"{before} and {after} have different layouts of struct page: their words mean different things. "
            "Compare trees of one release, such as 5.16+3 and 5.16+4."
        )
    pgmap = _pgmap(parse_size(size), vmemmap_shift, altmap=False)
    start, nr_pages = pgmap.ranges[0]
    old, new = (_filled(which, pgmap) for which in kernels)
    different, pages = np.zeros((len(ROLES), WORDS), np.int64), np.zeros(len(ROLES), np.int64)
    pages_different = 0
    for lo in range(start, start + nr_pages, PAGES_PER_SECTION):
        count = min(PAGES_PER_SECTION, start + nr_pages - lo)
        rows = new.view(lo, count)
        differs, codes = old.view(lo, count) != rows, roles(kernels[1].abi, rows, lo)
        np.add.at(different, codes, differs)
        pages += np.bincount(codes, minlength=len(ROLES))
        pages_different += int(differs.any(axis=1).sum())
    return xr.Dataset(
        {
            "words_different": (("role", "column"), different),
            "pages": ("role", pages),
            "words": nr_pages * WORDS,
            "pages_different": pages_different,
        },
        coords={"role": [str(role) for role in ROLES], "column": np.arange(WORDS)},
        attrs={"before": before, "after": after, "provenance": "derived"},
    )


def _filled(which: Kernel, pgmap: DevPagemap) -> PageArray:
    """The page array of a device after pagemap_range()."""
    array = PageArray(which, *pgmap.ranges[0])
    pagemap_range(array, pgmap, 0)
    return array


def _pgmap(nbytes: int, vmemmap_shift: int, altmap: bool) -> DevPagemap:
    """The pgmap of a device at :data:`workbench.lab.trace.START_PFN`."""
    if not altmap:
        return DevPagemap(PGMAP, ((START_PFN, nbytes >> PAGE_SHIFT),), vmemmap_shift)
    nd_pfn = nvdimm_setup_pfn(Namespace(START_PFN << PAGE_SHIFT, nbytes, PAGE_SIZE << vmemmap_shift, "dev"))
    return DevPagemap(PGMAP, ((nd_pfn.start_pfn, nd_pfn.nr_pages),), vmemmap_shift, nd_pfn.altmap)


def _count(abi: Abi, array: PageArray, start: int, end: int) -> tuple[np.ndarray, int]:
    """Pages by role, and the sum of their _refcount, section by section."""
    array.materialise(start, end - start)  # refused whole where there is not the memory
    counted, refcounts = np.zeros(len(ROLES), np.int64), 0
    for lo in range(start, end, PAGES_PER_SECTION):
        rows = array.view(lo, min(PAGES_PER_SECTION, end - lo))
        counted += np.bincount(roles(abi, rows, lo), minlength=len(ROLES))
        refcounts += int((rows[:, 6] >> np.uint64(32)).sum())
    return counted, refcounts


def _kernel_facts(which: Kernel, name: str) -> dict[str, str]:
    return {
        "kernel": name,
        "provenance": "derived",
        "kernel_origin": which.origin,
        "note": which.note,
        "release": which.abi.release,
    }
