# SPDX-License-Identifier: GPL-2.0-only
"""From a namespace on persistent memory to where its metadata and its data lie.

::

    start                          start + dataoff                       end
      | info block  | struct pages   | data                    | end_trunc |
      |  8 KiB      | (map dev only) |                         |           |
      |<--------------------- pgmap range ------------------->|

* The data starts and ends at physical addresses that are multiples of ``align``, at least 2 MiB.
* ``map="mem"``: struct pages live in DRAM.  The pgmap covers the namespace from its start, so
  compounds are counted from there, and the part before the data is initialised like data.
* ``map="dev"``: struct pages live in the namespace (an altmap).  The first ordinary page, and with it
  the first compound, is the first of the data.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from workbench import text
from workbench.abi.constants import (
    INFO_BLOCK_RESERVE,
    MAX_STRUCT_PAGE_SIZE,
    PAGE_SHIFT,
    PAGE_SIZE,
    PAGES_PER_SUBSECTION,
    PMD_SIZE,
    PUD_SIZE,
    SUBSECTION_SHIFT,
)
from workbench.errors import WorkbenchError
from workbench.mm.sparse_vmemmap import Altmap, vmem_altmap_offset

MAPS = ("mem", "dev")
"""Where struct pages live: in DRAM, or in the namespace."""

SUPPORTED_ALIGNS = (PAGE_SIZE, PMD_SIZE, PUD_SIZE)
"""Aligns in bytes, as x86-64 with huge pages offers them (nd_pfn_supported_alignments())."""


@dataclass(frozen=True)
class Namespace:
    """A namespace in device-dax mode, as it is asked for.

    Attributes
    ----------
    start : int
        Physical address, bytes.
    size : int
        Bytes of persistent memory it takes, metadata included.
    align : int
        The device's align, bytes: 4096, 2 MiB or 1 GiB.
    map : str
        ``"mem"`` or ``"dev"``.
    """

    start: int
    size: int
    align: int
    map: str

    def __str__(self) -> str:
        return (
            f"{text.size(self.size, exact=True)} at {self.start:#x}, "
            f"align {text.size(self.align, exact=True)}, map {self.map}"
        )


@dataclass(frozen=True)
class NdPfn:
    """What the info block of a namespace says and what follows from it.

    Attributes
    ----------
    namespace : Namespace
    dataoff : int
        Bytes from the start of the namespace to its data.
    npfns : int
        Pages of data.
    end_trunc : int
        Bytes at the end left unused so that the data ends at a multiple of align.
    altmap : Altmap or None
        With ``map="dev"``.
    """

    namespace: Namespace
    dataoff: int
    npfns: int
    end_trunc: int
    altmap: Altmap | None

    @property
    def start_pfn(self) -> int:
        """First pfn of the namespace and of the pgmap's range."""
        return self.namespace.start >> PAGE_SHIFT

    @property
    def nr_pages(self) -> int:
        """Pages of the pgmap's range: metadata and data."""
        return (self.namespace.size - self.end_trunc) >> PAGE_SHIFT

    @property
    def end_pfn(self) -> int:
        """Pfn after the last of the range."""
        return self.start_pfn + self.nr_pages

    @property
    def data_start_pfn(self) -> int:
        """First pfn of the data."""
        return self.start_pfn + (self.dataoff >> PAGE_SHIFT)

    @property
    def dev_size(self) -> int:
        """Bytes of data: the size of the device."""
        return self.npfns << PAGE_SHIFT

    @property
    def pfn_first(self) -> int:
        """First pfn that gets the pgmap; compounds are counted from it (mm/memremap.c, pfn_first())."""
        return self.start_pfn + vmem_altmap_offset(self.altmap)


def memremap_compat_align() -> int:
    """Smallest align of a range that memremap_pages() takes on x86: a subsection, 2 MiB.

    Kernel
    ------
    mm/memremap.c, memremap_compat_align(), 5.10 to 6.12.
    """
    return 1 << SUBSECTION_SHIFT


def _up(value: int, align: int) -> int:
    return -(-value // align) * align


def nd_pfn_init(namespace: Namespace) -> tuple[int, int, int]:
    """Lay out a namespace that has no info block yet.

    Parameters
    ----------
    namespace : Namespace

    Returns
    -------
    dataoff, npfns, end_trunc : int
        Bytes, pages, bytes.  ``npfns`` is 0 where the aligned end is the aligned start; device-dax
        refuses such a device later.

    Raises
    ------
    WorkbenchError
        EINVAL: unknown align or map, or a start that is not a multiple of 2 MiB.  ENXIO: the metadata
        leaves no room for data.

    Kernel
    ------
    drivers/nvdimm/pfn_devs.c, nd_pfn_init(), 5.10 to 6.12; align_store() and mode_store() for the two
    attributes.  Struct pages are counted at 64 bytes whatever their size is.
    """
    start, size = namespace.start, namespace.size
    if namespace.align not in SUPPORTED_ALIGNS:
        raise WorkbenchError(
            f"a namespace's align is 4 KiB, 2 MiB or 1 GiB; got {namespace.align} bytes. Use one of them.",
            errno.EINVAL,
        )
    if namespace.map not in MAPS:
        raise WorkbenchError(f"map is mem or dev; got {namespace.map!r}.", errno.EINVAL)
    if start < 0 or size < 1:
        raise WorkbenchError(
            f"a namespace starts at 0 or above and has at least a byte; got start {start}, size {size}.",
            errno.EINVAL,
        )
    align = max(namespace.align, memremap_compat_align())
    if start % memremap_compat_align():
        raise WorkbenchError(
            f"the namespace starts at {start:#x}, which is no multiple of 2 MiB. Start it at "
            f"{_up(start, memremap_compat_align()):#x}.",
            errno.EINVAL,
        )
    end_trunc = (start + size) % align
    npfns = (size - INFO_BLOCK_RESERVE) >> PAGE_SHIFT
    page_map_size = MAX_STRUCT_PAGE_SIZE * npfns if namespace.map == "dev" else 0
    dataoff = _up(start + INFO_BLOCK_RESERVE + page_map_size, align) - start
    if dataoff >= size:
        raise WorkbenchError(
            f"namespace {namespace}: metadata and alignment take {text.size(dataoff)} and leave no data. "
            "Make it larger or its align smaller.",
            errno.ENXIO,
        )
    return dataoff, (size - dataoff - end_trunc) >> PAGE_SHIFT, end_trunc


def init_altmap_base(base: int) -> int:
    """First pfn of the subsection that holds physical address ``base``.

    Kernel
    ------
    drivers/nvdimm/pfn_devs.c, init_altmap_base().
    """
    return (base >> PAGE_SHIFT) // PAGES_PER_SUBSECTION * PAGES_PER_SUBSECTION


def init_altmap_reserve(base: int) -> int:
    """Pfns of the altmap that hold the info block, and those before ``base`` in its subsection.

    Kernel
    ------
    drivers/nvdimm/pfn_devs.c, init_altmap_reserve().
    """
    return (INFO_BLOCK_RESERVE >> PAGE_SHIFT) + (base >> PAGE_SHIFT) - init_altmap_base(base)


def nvdimm_setup_pfn(namespace: Namespace) -> NdPfn:
    """Info block, range and altmap of a namespace.

    Parameters
    ----------
    namespace : Namespace

    Returns
    -------
    NdPfn

    Raises
    ------
    WorkbenchError
        As :func:`nd_pfn_init`.

    Kernel
    ------
    drivers/nvdimm/pfn_devs.c, nvdimm_setup_pfn() and __nvdimm_setup_pfn(), 5.10 to 6.12.

    Examples
    --------
    >>> nd_pfn = nvdimm_setup_pfn(Namespace(start=4 << 30, size=1 << 30, align=2 << 20, map="dev"))
    >>> text.size(nd_pfn.dataoff), text.size(nd_pfn.dev_size), nd_pfn.altmap.free
    ('18 MiB', '1006 MiB', 4606)
    """
    dataoff, npfns, end_trunc = nd_pfn_init(namespace)
    altmap = None
    if namespace.map == "dev":
        altmap = Altmap(
            base_pfn=init_altmap_base(namespace.start),
            reserve=init_altmap_reserve(namespace.start),
            free=(dataoff - INFO_BLOCK_RESERVE) >> PAGE_SHIFT,
        )
    return NdPfn(namespace, dataoff, npfns, end_trunc, altmap)
