# SPDX-License-Identifier: GPL-2.0-only
"""What struct pages cost: of one device, and per GiB of device by release and align.

``derived`` rows come from :func:`workbench.lab.overhead.overhead`; ``captured`` rows from page-table
walks of real kernels, kept in ``data/captures``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from workbench import text
from workbench.errors import WorkbenchError
from workbench.lab.difference import read_json
from workbench.lab.overhead import NAMESPACE_START, cost_table, dataset, overhead, side_by_side
from workbench.lab.overhead_check import recorded_table
from workbench.lab.vmemmap_check import recorded_sharing
from workbench.mm.sparse_vmemmap import PFNS_PER_PMD_TABLE, STRUCT_PAGES_PER_PAGE
from workbench.nvdimm import SUPPORTED_ALIGNS, Namespace

LARGEST_DEVICE = 64 << 40
"""Bytes of physical memory that x86-64 addresses with four-level page tables."""

GIB = 1 << 30

_RECORDED_NAME = re.compile(r"k(?P<kernel>[\w.]+)-static-(?P<align>\w+)-(?P<map>mem|dev)")


def device_cost(size: int | str, align: int | str = "2M", map: str = "mem") -> xr.Dataset:
    """Struct-page cost of one device before the series, with it, and with the follow-up.

    Parameters
    ----------
    size : int or str
        Of the namespace, in bytes or as ``"1T"``; at most 64 TiB.
    align : int or str
        4096, 2 MiB or 1 GiB.
    map : str
        ``"mem"``: struct pages in DRAM; ``"dev"``: in the device (altmap).

    Returns
    -------
    xarray.Dataset
        Three rows, ``stage`` ``before``, ``after``, ``dedup``; see :func:`workbench.lab.overhead.cost_table`.

    Raises
    ------
    WorkbenchError
        A size that is none or too large, or a namespace that the kernel refuses.

    Examples
    --------
    >>> cost = device_cost("1T", "1G")
    >>> cost.distinct_physical_bytes.values.tolist()
    [17179869184, 17179869184, 8388608]
    """
    nbytes = text.parse_size(size)
    if not 0 < nbytes <= LARGEST_DEVICE:
        raise WorkbenchError(
            f"a device has at least one byte and at most {text.size(LARGEST_DEVICE)}, what x86-64 addresses with "
            f"four-level page tables; got {text.size(nbytes)}. Use a size such as 16G or 1.5T."
        )
    namespace = Namespace(NAMESPACE_START, nbytes, text.parse_size(align), map)
    return cost_table(side_by_side(namespace).values())


def derived_per_gib(releases: Sequence[str], aligns: Sequence[int] = SUPPORTED_ALIGNS, map: str = "mem") -> xr.Dataset:
    """Physical bytes of struct pages per GiB of device, as the kernel's rules give them.

    Parameters
    ----------
    releases : sequence of str
        Kernels; ``5.16`` is the one without the series.
    aligns : sequence of int
        Bytes.
    map : str
        ``"mem"`` or ``"dev"``.

    Returns
    -------
    xarray.Dataset
        Dimension ``row``: ``kernel``, ``align``, ``map``, ``bytes_per_gib``, ``provenance``.
    """
    rows = []
    for release in releases:
        for align in aligns:
            # 64 GiB is the smallest span whose page tables are all its own.
            namespace = Namespace(NAMESPACE_START, PFNS_PER_PMD_TABLE << text.PAGE_SHIFT, align, map)
            walk = overhead(namespace, release).backing.walk
            rows.append(_row(release, align, map, walk["distinct_physical_bytes"], walk["va_bytes"]))
    return dataset(rows, "derived")


def captured_per_gib(cost_file: Path, walk_files: Sequence[Path] = ()) -> xr.Dataset:
    """The same as real kernels had it, from recorded page-table walks.

    Parameters
    ----------
    cost_file : pathlib.Path
        A recorded ``overhead.json``.
    walk_files : sequence of pathlib.Path
        Recorded ``vmemmap.json`` of static devices; kernel, align and map stand in each record's name.

    Returns
    -------
    xarray.Dataset
        As :func:`derived_per_gib`; one row for each kernel, align and map.

    Raises
    ------
    WorkbenchError
        A file is not of the recorded form, or two records disagree.
    """
    table = recorded_table(read_json(cost_file))
    columns = ("kernel", "align", "map", "distinct_physical_bytes", "va_bytes")
    rows = [_row(*(table[name].values[at].item() for name in columns)) for at in range(table.sizes["row"])]
    rows += [_walk_row(read_json(path), path) for path in sorted(walk_files)]
    by_device: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = (row["kernel"], row["align"], row["map"])
        if by_device.setdefault(key, row) != row:
            raise WorkbenchError(
                f"two records of kernel {key[0]}, align {text.size(key[1])}, map {key[2]} give "
                f"{by_device[key]['bytes_per_gib']} and {row['bytes_per_gib']} bytes per GiB. Look at both files."
            )
    return dataset(list(by_device.values()), "captured")


def _walk_row(record: Any, path: Path) -> dict[str, Any]:
    """One recorded walk: what it maps, and how much of that is distinct."""
    name = record.get("name") if isinstance(record, dict) else None
    match = _RECORDED_NAME.fullmatch(str(name))
    runs = record.get("runs") if match else None
    if match is None or not runs:
        raise WorkbenchError(f"{path} is named {name!r} and is no recorded walk of a static device. Name such a file.")
    try:
        first = min(int(run["va"], 16) for run in runs)
        mapped = sum(run["count"] * run["page_bytes"] for run in runs) // text.PAGE_SIZE
    except (KeyError, TypeError, ValueError) as error:
        raise WorkbenchError(f"{path}: a run lacks va, count or page_bytes: {error!r}. Record it anew.") from error
    distinct = np.unique(recorded_sharing(record, first, mapped).first).size
    return _row(match["kernel"], text.parse_size(match["align"]), match["map"], distinct, mapped)


def _row(kernel: str, align: int, map: str, physical: int, virtual: int) -> dict[str, Any]:
    """``physical`` and ``virtual`` in one unit; a GiB of device has 16 MiB of struct pages, virtually."""
    virtual_per_gib = GIB // STRUCT_PAGES_PER_PAGE
    return {"kernel": kernel, "align": align, "map": map, "bytes_per_gib": physical * virtual_per_gib // virtual}
