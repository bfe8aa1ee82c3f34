# SPDX-License-Identifier: GPL-2.0-only
"""Where the struct pages of a namespace lie: in DRAM, or in the namespace itself (an altmap).

A :class:`workbench.machine.Machine` makes the namespace; its pgmap says where the rest goes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.abi import STRUCT_PAGE_BYTES
from workbench.abi.constants import INFO_BLOCK_RESERVE, PAGE_SHIFT, PAGES_PER_SECTION, PMD_SIZE
from workbench.lab.vmemmap_check import compare_vmemmap, recorded_kernel, recorded_namespace, recorded_sharing, sharing
from workbench.machine import Machine
from workbench.mm.sparse_vmemmap import How, populate, vmem_altmap_offset
from workbench.text import parse_size

START = 4 << 30
"""Physical address of the namespaces here, bytes."""

INFO, PADDING, STRUCT_PAGES, UNUSED, DATA = "info block", "padding", "struct pages", "unused", "data"


@dataclass(frozen=True)
class Part:
    """A stretch of a namespace.

    Attributes
    ----------
    what : str
        :data:`INFO`, :data:`PADDING` (up to a multiple of 2 MiB or of the align), :data:`STRUCT_PAGES`,
        :data:`UNUSED` (set aside for struct pages that did not come, or cut off at the end) or :data:`DATA`.
    start, end : int
        Bytes from the start of the namespace, the last not included.
    """

    what: str
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True)
class Chunk:
    """A section of memory, or a part of one, and where its struct pages are.

    Attributes
    ----------
    start, end : int
        Bytes from the start of the namespace.
    block : int or None
        Where its 2 MiB of struct pages begin, bytes from the start of the namespace; None: in DRAM.
    """

    start: int
    end: int
    block: int | None

    @property
    def struct_page_bytes(self) -> int:
        """Bytes of its struct pages."""
        return (self.end - self.start >> PAGE_SHIFT) * STRUCT_PAGE_BYTES


@dataclass(frozen=True)
class AltmapLayout:
    """A namespace and its struct pages.

    Attributes
    ----------
    kernel : str
    size, align : int
        Bytes.
    map : str
        ``"mem"``: struct pages in DRAM; ``"dev"``: in the namespace.
    parts : tuple of Part
        From the start of the namespace to its end.
    chunks : tuple of Chunk
        In the order in which their struct pages were made.
    first_head : int
        Where the first page that the pgmap gives out lies, bytes from the start of the namespace.
    dram_bytes : int
        Of struct pages in DRAM, the page tables of 4 KiB entries included.
    """

    kernel: str
    size: int
    align: int
    map: str
    parts: tuple[Part, ...]
    chunks: tuple[Chunk, ...]
    first_head: int
    dram_bytes: int

    def total(self, what: str) -> int:
        """Bytes of the namespace that are this."""
        return sum(part.size for part in self.parts if part.what == what)


def altmap_layout(
    kernel: str = "5.17", size: str | int = "1G", align: str | int = "2M", map: str = "dev"
) -> AltmapLayout:
    """Make a namespace over a region of its own and see where its struct pages go.

    Parameters
    ----------
    kernel : str
        See :func:`workbench.series.kernel`.
    size, align : str or int
    map : str
        ``"mem"`` or ``"dev"``.

    Raises
    ------
    WorkbenchError
        What the kernel refuses, see :func:`workbench.nvdimm.nvdimm_setup_pfn`.

    Examples
    --------
    >>> [(part.what, part.size >> 10) for part in altmap_layout(size="1G").parts]
    [('info block', 8), ('padding', 2040), ('struct pages', 16384), ('data', 1030144)]
    """
    nbytes = parse_size(size)
    machine = Machine(kernel, persistent_memory=[(START, START + nbytes)])
    device = machine.create_namespace(align=parse_size(align), map=map)
    (namespace,) = machine.namespaces()
    pgmap = device.bound_pgmap
    assert pgmap is not None and namespace.nd_pfn is not None
    populated = populate(
        pgmap.ranges,
        vmemmap_shift=pgmap.vmemmap_shift,
        dedup=machine.kernel.tree.dedup,
        altmap=namespace.nd_pfn.altmap,  # as it was before the machine took from it
    )
    altmap = pgmap.altmap
    data = namespace.nd_pfn.dataoff
    end = nbytes - namespace.nd_pfn.end_trunc
    blocks = blocks_end = data
    if altmap and altmap.alloc:
        blocks = (populated.altmap_pfn << PAGE_SHIFT) - START
        blocks_end = blocks + (altmap.alloc << PAGE_SHIFT)
    edges = [
        (INFO, 0, INFO_BLOCK_RESERVE),
        (PADDING, INFO_BLOCK_RESERVE, blocks),
        (STRUCT_PAGES, blocks, blocks_end),
        (UNUSED, blocks_end, data),
        (DATA, data, end),
        (UNUSED, end, nbytes),
    ]
    return AltmapLayout(
        kernel=kernel,
        size=nbytes,
        align=parse_size(align),
        map=map,
        parts=tuple(Part(*edge) for edge in edges if edge[2] > edge[1]),
        chunks=tuple(_chunks(populated.start_pfn, populated.nr_pages, populated.how, blocks if altmap else None)),
        first_head=vmem_altmap_offset(pgmap.altmap) << PAGE_SHIFT,
        dram_bytes=populated.backing().dram_bytes,
    )


def _chunks(start_pfn: np.ndarray, nr_pages: np.ndarray, how: np.ndarray, block: int | None) -> list[Chunk]:
    """Chunks in their order; whole sections take one 2 MiB block after the other, from ``block`` on."""
    found = []
    for first, pages, way in zip(start_pfn.tolist(), nr_pages.tolist(), how.tolist(), strict=True):
        start = (first << PAGE_SHIFT) - START
        inside = block is not None and way == How.HUGEPAGES
        found.append(Chunk(start, start + (pages << PAGE_SHIFT), block if inside else None))
        if block is not None and inside:
            block += PMD_SIZE
    return found


SECTION_BYTES = PAGES_PER_SECTION << PAGE_SHIFT
"""A section: 128 MiB."""

RECORDS = "capture.json", "vmemmap.json"


@dataclass(frozen=True)
class RecordedPlace:
    """Where a real kernel had the struct pages of a namespace.

    Attributes
    ----------
    run : str
    kernel : str
    namespace : int
        Its size, bytes.
    in_namespace, in_dram : int
        Bytes of struct pages.
    first : int or None
        Where the first of those in the namespace lie, bytes from its start.
    differences : int
        Facts in which the engine differs.
    """

    run: str
    kernel: str
    namespace: int
    in_namespace: int
    in_dram: int
    first: int | None
    differences: int


def recorded_places(folder: Path, runs: Sequence[str]) -> list[RecordedPlace]:
    """Read the page tables of real kernels for where struct pages lie.

    Parameters
    ----------
    folder : pathlib.Path
        The recorded runs, ``data/captures``.
    runs : sequence of str
        Static runs of kernels that share no struct pages.
    """
    found = []
    for run in runs:
        capture, walked = (json.loads((folder / run / name).read_bytes()) for name in RECORDS)
        namespace, kernel = recorded_namespace(capture), recorded_kernel(capture)
        first_pfn = namespace.start >> PAGE_SHIFT
        pages = sharing(namespace, kernel).first.size
        seen = recorded_sharing(walked, kernel.abi.vmemmap_base + first_pfn * STRUCT_PAGE_BYTES, pages)
        mapped = seen.phys_addr[seen.leaf_bytes > 0]
        inside = mapped[(mapped >= namespace.start) & (mapped < namespace.start + namespace.size)]
        found.append(
            RecordedPlace(
                run=run,
                kernel=kernel.name,
                namespace=namespace.size,
                in_namespace=inside.size << PAGE_SHIFT,
                in_dram=(mapped.size - inside.size) << PAGE_SHIFT,
                first=int(inside.min()) - namespace.start if inside.size else None,
                differences=len(compare_vmemmap(walked, capture)),
            )
        )
    return found
