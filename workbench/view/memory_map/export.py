# SPDX-License-Identifier: GPL-2.0-only
"""The present view of a memory map as a Dataset, which a paper figure draws and a file keeps."""

from __future__ import annotations

import numpy as np
import xarray as xr

from workbench.abi import STRUCT_PAGE_BYTES, WORDS, Role
from workbench.lab.device_layout import PARTS, ROLES, WIDE, roles
from workbench.mm import PageArray
from workbench.view import palette
from workbench.view.memory_map.model import Model
from workbench.view.memory_map.runs import run_at, unlike
from workbench.view.memory_map.state import State
from workbench.view.memory_map.tiles import bin_edges, lane_totals

STRIP_BINS = 800


def view_dataset(model: Model, state: State, before: bool = False) -> xr.Dataset:
    """What a memory map shows, in the form of :func:`workbench.lab.device_layout.device_layout`, with its strips.

    Parameters
    ----------
    model : Model
    state : State
    before : bool
        Of the array *before* instead; the operation that is played then changes nothing.

    Returns
    -------
    xarray.Dataset
        ``words`` (uint64[page, column]) of the first struct pages, ``section_role`` (uint8[section_page]),
        ``part_pages``, ``role_pages``, ``vmemmap_bytes`` and ``alike`` as there; ``zoom_pages`` (int64[bin, lane]):
        pages by lane of the state's layer between ``bin`` (first pfn) and the next.  Attributes as there, and
        ``state`` and ``layer``.
    """
    state = model.require(state)
    assert state.zoom is not None
    tiles = model.before if before and model.before is not None else model.tiles
    array, abi = tiles.array, tiles.array.kernel.abi
    scene = model.scene(state)
    run = scene.run
    own = run_at(array, run.pfn)
    pfns = np.arange(run.pfn, run.pfn + min(WIDE, run.nr_pages))
    words = array.view(run.pfn, len(pfns)) if before else [scene.rows[int(pfn)] for pfn in pfns]
    section = model.section_of(run.pfn)
    layer = state.layer if state.layer in tiles.lanes else "roles"
    edges = bin_edges(*state.zoom, STRIP_BINS)
    parts = tiles.counts("altmap", np.array([tiles.start_pfn, tiles.end_pfn]))[0]
    totals = lane_totals(tiles, "roles")
    totals[Role.BASE] = totals.get(Role.BASE, 0) + totals.pop(palette.ALTMAP, 0)
    alike = run.nr_pages - len(pfns) if not unlike(array, run) else 0
    return xr.Dataset(
        {
            "words": (("page", "column"), np.array(words, np.uint64)),
            "section_role": ("section_page", _roles(array, *section)),
            "part_pages": ("part", parts),
            "role_pages": ("role", np.array([totals.get(role, 0) for role in ROLES])),
            "vmemmap_bytes": (tiles.end_pfn - tiles.start_pfn) * STRUCT_PAGE_BYTES,
            "alike": alike,
            "zoom_pages": (("bin", "lane"), tiles.counts(layer, edges)),
        },
        coords={
            "page": pfns,
            "column": np.arange(WORDS),
            "section_page": np.arange(*section),
            "part": list(PARTS),
            "role": [str(role) for role in ROLES],
            "bin": edges[:-1],
            "lane": [lane.key for lane in tiles.lanes[layer]],
        },
        attrs={
            "kernel": array.kernel.name,
            "provenance": "derived",
            "kernel_origin": array.kernel.origin,
            "note": array.kernel.note,
            "release": abi.release,
            "start_pfn": tiles.start_pfn,
            "end_pfn": tiles.end_pfn,
            "first_pfn": tiles.start_pfn + int(parts[0] + parts[1]),
            "section_pfn": section[0],
            "compound_pfn": run.pfn,
            "run_pages": run.nr_pages,
            "pages_per_compound": 1 << own.order if own.order > 0 else 1,
            "vmemmap_shift": max(own.order, 0),
            "state": model.line(state),
            "layer": layer,
        },
    )


def _roles(array: PageArray, start_pfn: int, end_pfn: int) -> np.ndarray:
    """Roles of a range, as indices into :data:`ROLES`; what has no struct page counts as uninitialised."""
    exists = array.exists(start_pfn, end_pfn - start_pfn)
    rows = np.zeros((len(exists), WORDS), np.uint64)
    rows[exists] = array.rows(start_pfn + np.flatnonzero(exists))
    return roles(array.kernel.abi, rows, start_pfn)
