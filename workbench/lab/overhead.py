# SPDX-License-Identifier: GPL-2.0-only
"""What the metadata of a device costs: before the series, after it, and with deduplication.

Numbers are ``derived`` here, by the rules of :mod:`workbench.nvdimm` and
:mod:`workbench.mm.sparse_vmemmap`; recorded rows are ``captured``
(:mod:`workbench.lab.overhead_check`).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from workbench import text
from workbench.errors import WorkbenchError
from workbench.mm.sparse_vmemmap import (
    STRUCT_PAGES_PER_PAGE,
    VMEMMAP_RESERVE_NR,
    Backing,
    pgmap_vmemmap_nr,
    populate,
    vmemmap_can_optimize,
)
from workbench.nvdimm import Namespace, NdPfn, nvdimm_setup_pfn
from workbench.series import Kernel, Tree, kernel

NAMESPACE_START = 5 << 30
"""Where a namespace starts unless told: 0x140000000, as in every recorded run on persistent memory.

Rows of ``overhead.json`` do not say where theirs started.  They were taken on the same machine (3 GiB
of RAM), and any multiple of 1 GiB gives the same numbers.
"""

STAGES = {"before": "5.16", "after": "5.17", "dedup": "6.1"}
"""The three columns of the cost table and a kernel of each: base pages, the series, vmemmap shared."""


def kernel_of(name: str) -> Kernel:
    """A kernel by its name; the captures' ``6.1nodedup`` is ``6.1-nodedup``.

    Raises
    ------
    WorkbenchError
        There is no such kernel.
    """
    return kernel(re.sub(r"(?<=\d)nodedup$", "-nodedup", name))


@dataclass(frozen=True)
class Overhead:
    """The metadata of one device on one kernel.

    Attributes
    ----------
    kernel : str
    nd_pfn : NdPfn
        Where metadata and data of its namespace lie.
    vmemmap_shift : int
        log2 of the pages of a compound; 0 without compounds.
    dedup : bool
        The kernel shares vmemmap pages where it can.
    backing : Backing
        What is behind the struct pages.
    """

    kernel: str
    nd_pfn: NdPfn
    vmemmap_shift: int
    dedup: bool
    backing: Backing

    @property
    def namespace(self) -> Namespace:
        """The namespace asked about."""
        return self.nd_pfn.namespace

    @property
    def dev_size(self) -> int:
        """Bytes of the device."""
        return self.nd_pfn.dev_size

    @property
    def lost_to_metadata_in_namespace(self) -> int:
        """Bytes of the namespace that are not in the device: info block, altmap, alignment at both ends."""
        return self.namespace.size - self.dev_size

    @property
    def pages_initialised(self) -> int:
        """Pages memmap_init_zone_device() reports: all it covers, in pages of 4 KiB."""
        return self.nd_pfn.end_pfn - self.nd_pfn.pfn_first

    @property
    def heads(self) -> int:
        """Heads of compounds, or all pages where there are none; the last compound may run over the end."""
        return -(-self.pages_initialised // pgmap_vmemmap_nr(self.vmemmap_shift))

    @property
    def compounds(self) -> int:
        """Compound pages; 0 where the device has none."""
        return self.heads if self.vmemmap_shift else 0

    @property
    def struct_pages_written(self) -> int:
        """Struct pages initialised one by one, those of the altmap's own storage included."""
        altmap = self.nd_pfn.altmap
        per_head = pgmap_vmemmap_nr(self.vmemmap_shift)
        if self.dedup and vmemmap_can_optimize(altmap, self.vmemmap_shift):
            per_head = VMEMMAP_RESERVE_NR * STRUCT_PAGES_PER_PAGE
        return (altmap.free if altmap else 0) + self.heads * per_head

    @property
    def pgmap_refs(self) -> int:
        """References the pgmap takes on itself: one a compound, or one a page (mm/memremap.c, pfn_len())."""
        return self.pages_initialised >> self.vmemmap_shift


def overhead(namespace: Namespace, kernel_name: str) -> Overhead:
    """Compute the metadata of a device.

    Parameters
    ----------
    namespace : Namespace
    kernel_name : str
        A kernel :func:`workbench.series.kernel` knows.

    Returns
    -------
    Overhead

    Raises
    ------
    WorkbenchError
        ENXIO or EINVAL where the kernel refuses the namespace or, for want of data, the device.

    Examples
    --------
    >>> cost = overhead(Namespace(NAMESPACE_START, 16 << 30, 2 << 20, "mem"), "6.1")
    >>> cost.dev_size, cost.lost_to_metadata_in_namespace, cost.backing.distinct_physical_bytes
    (17177772032, 2097152, 67108864)
    """
    tree = kernel_of(kernel_name).tree
    nd_pfn = nvdimm_setup_pfn(namespace)
    if not nd_pfn.npfns:
        raise WorkbenchError(
            f"namespace {namespace}: {text.size(nd_pfn.dataoff)} of metadata and {text.size(nd_pfn.end_trunc)} cut "
            "off its end leave a device of size 0, which no driver binds. Make it larger or its align smaller.",
            errno.ENXIO,
        )
    vmemmap_shift = tree.vmemmap_shift(namespace.align)
    populated = populate(
        [(nd_pfn.start_pfn, nd_pfn.nr_pages)],
        vmemmap_shift=vmemmap_shift,
        dedup=tree.dedup,
        altmap=nd_pfn.altmap,
    )
    return Overhead(kernel_name, nd_pfn, vmemmap_shift, tree.dedup, populated.backing())


def stage_of(tree: Tree) -> str:
    """The column of the cost table a tree belongs to: ``before``, ``after`` or ``dedup``."""
    if not tree.has(11):
        return "before"
    return "dedup" if tree.dedup else "after"


def side_by_side(namespace: Namespace, kernel_name: str = "6.1") -> dict[str, Overhead]:
    """The costs of a device before the series, after it and with deduplication.

    Parameters
    ----------
    namespace : Namespace
    kernel_name : str
        The kernel asked about; it stands in its own column, the others hold those of :data:`STAGES`.

    Returns
    -------
    dict of str to Overhead
        Keys ``before``, ``after``, ``dedup``.
    """
    kernels = STAGES | {stage_of(kernel_of(kernel_name).tree): kernel_name}
    return {stage: overhead(namespace, name) for stage, name in kernels.items()}


_UNITS = {
    "size": "bytes",
    "align": "bytes",
    "dev_size": "bytes",
    "lost_to_metadata_in_namespace": "bytes",
    "ptes_4k": "entries",
    "pmds_2m": "entries",
    "va_bytes": "bytes",
    "distinct_physical_bytes": "bytes",
    "distinct_4k": "pages of 4096 bytes",
    "max_share": "pages of 4096 bytes",
    "altmap_bytes": "bytes",
    "pte_tables": "pages of 4096 bytes",
    "pmd_tables": "pages of 4096 bytes",
    "dram_bytes": "bytes",
    "compounds": "compound pages",
    "struct_pages_written": "struct pages",
    "pgmap_refs": "references",
    "memfree_before_kB": "KiB",
    "memfree_after_kB": "KiB",
    "memfree_destroyed_kB": "KiB",
    "ram_cost_kB": "KiB",
}


def dataset(rows: list[dict[str, Any]], provenance: str) -> xr.Dataset:
    """Rows of equal fields as a table, each marked with ``provenance``; units where the field has one."""
    columns = {name: ("row", np.array([row[name] for row in rows])) for name in rows[0]}
    columns["provenance"] = ("row", np.full(len(rows), provenance))
    table = xr.Dataset(columns, attrs={"title": "metadata of a device", "provenance": provenance})
    for name, units in _UNITS.items():
        if name in table:
            table[name].attrs["units"] = units
    return table


def cost_table(costs: Iterable[Overhead]) -> xr.Dataset:
    """Costs as a table.

    Parameters
    ----------
    costs : iterable of Overhead
        At least one, each a row.

    Returns
    -------
    xarray.Dataset
        Dimension ``row``.  ``kernel``, ``stage``, ``map`` and ``provenance`` (all ``derived``) are text,
        the rest int64 with ``units``.
    """
    return dataset(
        [
            {
                "kernel": cost.kernel,
                "stage": stage_of(kernel_of(cost.kernel).tree),
                "size": cost.namespace.size,
                "align": cost.namespace.align,
                "map": cost.namespace.map,
                "dev_size": cost.dev_size,
                "lost_to_metadata_in_namespace": cost.lost_to_metadata_in_namespace,
                **cost.backing.walk,
                "altmap_bytes": cost.backing.altmap_bytes,
                "pte_tables": cost.backing.pte_tables,
                "pmd_tables": cost.backing.pmd_tables,
                "dram_bytes": cost.backing.dram_bytes,
                "compounds": cost.compounds,
                "struct_pages_written": cost.struct_pages_written,
                "pgmap_refs": cost.pgmap_refs,
            }
            for cost in costs
        ],
        "derived",
    )


def report_json(costs: dict[str, Overhead]) -> dict[str, Any]:
    """What :func:`side_by_side` found, as an object for JSON."""
    any_cost = next(iter(costs.values()))
    nd_pfn, namespace, altmap = any_cost.nd_pfn, any_cost.namespace, any_cost.nd_pfn.altmap
    return {
        "provenance": "derived",
        "namespace": {
            "start": namespace.start,
            "size": namespace.size,
            "align": namespace.align,
            "map": namespace.map,
            "dataoff": nd_pfn.dataoff,
            "end_trunc": nd_pfn.end_trunc,
            "data_start_pfn": nd_pfn.data_start_pfn,
            "end_pfn": nd_pfn.end_pfn,
            "altmap": altmap and {"base_pfn": altmap.base_pfn, "reserve": altmap.reserve, "free": altmap.free},
        },
        "dev_size": any_cost.dev_size,
        "lost_to_metadata_in_namespace": any_cost.lost_to_metadata_in_namespace,
        "costs": {
            stage: {
                "kernel": cost.kernel,
                "vmemmap": cost.backing.walk,
                "altmap_bytes": cost.backing.altmap_bytes,
                "page_tables": {"pte_tables": cost.backing.pte_tables, "pmd_tables": cost.backing.pmd_tables},
                "dram_bytes": cost.backing.dram_bytes,
                "compounds": cost.compounds,
                "struct_pages_written": cost.struct_pages_written,
                "pgmap_refs": cost.pgmap_refs,
            }
            for stage, cost in costs.items()
        },
    }


def report_lines(costs: dict[str, Overhead], kernel_name: str) -> list[str]:
    """The same as a table for a terminal; the column of ``kernel_name`` is marked with ``*``."""
    any_cost = next(iter(costs.values()))
    nd_pfn = any_cost.nd_pfn
    rows: list[tuple[str, list[str]]] = [
        ("", [stage + ("*" if cost.kernel == kernel_name else "") for stage, cost in costs.items()]),
        ("kernel", [cost.kernel for cost in costs.values()]),
    ]
    for label, of in _REPORT:
        rows.append((label, [of(cost) for cost in costs.values()]))
    return [
        f"namespace {any_cost.namespace}  (derived)",
        f"device size                    {any_cost.dev_size} ({text.size(any_cost.dev_size)})",
        f"lost to metadata in namespace  {any_cost.lost_to_metadata_in_namespace} "
        f"({text.size(any_cost.lost_to_metadata_in_namespace)}: data starts {text.size(nd_pfn.dataoff)} in, "
        f"{text.size(nd_pfn.end_trunc)} cut off the end)",
        "",
        *(f"{label:30}" + "".join(f"{value:>18}" for value in values) for label, values in rows),
        "",
        f"* {kernel_of(kernel_name)!r}, as asked for. The other columns stand for a kernel before the series,",
        "one with the series, and one with the follow-up that shares vmemmap pages.",
        "Tables of 2 MiB entries are shared by all memory in the same 64 GiB and not counted as DRAM of the device;",
        "nor are the page tables of the kernel's direct mapping.",
    ]


_REPORT = (
    ("struct pages, 4 KiB entries", lambda cost: text.count(cost.backing.ptes_4k)),
    ("struct pages, 2 MiB entries", lambda cost: text.count(cost.backing.pmds_2m)),
    ("struct pages, virtual", lambda cost: text.size(cost.backing.va_bytes)),
    ("struct pages, physical", lambda cost: text.size(cost.backing.distinct_physical_bytes)),
    ("  of it 4 KiB pages", lambda cost: text.count(cost.backing.distinct_4k)),
    ("  of it in the namespace", lambda cost: text.size(cost.backing.altmap_bytes)),
    ("most virtual pages on one", lambda cost: text.count(cost.backing.max_share)),
    ("tables of 4 KiB entries", lambda cost: text.count(cost.backing.pte_tables)),
    ("tables of 2 MiB entries", lambda cost: text.count(cost.backing.pmd_tables)),
    ("DRAM", lambda cost: text.size(cost.backing.dram_bytes)),
    ("compound pages", lambda cost: text.count(cost.compounds)),
    ("struct pages initialised", lambda cost: text.count(cost.struct_pages_written)),
    ("references of the pgmap", lambda cost: text.count(cost.pgmap_refs)),
)
