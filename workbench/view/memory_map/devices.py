# SPDX-License-Identifier: GPL-2.0-only
"""A device to look at, made on the spot: what device-dax would ask of a kernel for a namespace."""

from __future__ import annotations

from workbench.abi.constants import PAGE_SHIFT
from workbench.lab.operations import nr_pages, operations
from workbench.lab.trace import PGMAP, START_PFN
from workbench.mm import DevPagemap, PageArray
from workbench.mm.memremap import pagemap_range
from workbench.mm.sparse_vmemmap import populate
from workbench.nvdimm import Namespace, nvdimm_setup_pfn
from workbench.series import Kernel, kernel
from workbench.text import parse_size
from workbench.view.memory_map.model import Device


def device(
    kernel_name: str = "5.17",
    size: int | str = "1T",
    align: int | str = "2M",
    map: str = "mem",
    before: str | None = None,
    name: str = "dax0.0",
    examples: bool = False,
) -> Device:
    """The struct pages of a namespace in device-dax mode.

    Parameters
    ----------
    kernel_name : str
        A kernel :func:`workbench.series.kernel` knows.
    size, align : int or str
        Of the namespace.
    map : str
        Where the struct pages live: ``"mem"`` (DRAM) or ``"dev"`` (an altmap in the device).
    before : str, optional
        Another kernel of the same layout of struct page, to compare with.
    name : str
        Of the device.
    examples : bool
        With operations to play on the first huge page, see :mod:`workbench.lab.operations`; a device of less than
        2 MiB has none.  Of a fresh checkout they take a minute to compile.

    Returns
    -------
    Device
        Nothing but a few sections has memory.

    Raises
    ------
    WorkbenchError
        The namespace has no room for data, or the kernels refuse it.
    """
    nd_pfn = nvdimm_setup_pfn(Namespace(START_PFN << PAGE_SHIFT, parse_size(size), parse_size(align), map))
    span = (nd_pfn.start_pfn, nd_pfn.nr_pages)
    which = kernel(kernel_name)
    shift = which.tree.vmemmap_shift(parse_size(align))

    def filled(kernel: Kernel) -> PageArray:
        array = PageArray(kernel, *span)
        pgmap = DevPagemap(PGMAP, (span,), kernel.tree.vmemmap_shift(parse_size(align)), nd_pfn.altmap)
        pagemap_range(array, pgmap, 0)
        return array

    data, step = nd_pfn.data_start_pfn, parse_size(align)
    played = examples and nd_pfn.end_pfn - data >= nr_pages(step)
    return Device(
        filled(which),
        filled(kernel(before)) if before is not None else None,
        name,
        nd_pfn.altmap,
        populate([span], vmemmap_shift=shift, dedup=which.tree.dedup, altmap=nd_pfn.altmap),
        examples=operations(kernel_name, step, data).traces if played else None,
        span=(span[0], span[0] + span[1]),
    )
