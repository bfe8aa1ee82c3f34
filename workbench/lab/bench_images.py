# SPDX-License-Identifier: GPL-2.0-only
"""Measure the layout image: how many struct pages of each role lie behind each pixel of a memory map.

Three ways to come by it: all struct pages of an array read, held against one load of 8 bytes a line; only those read
that an operation wrote to; and none but a few, where a device was never looked at and init calls describe it.
"""

from __future__ import annotations

import numpy as np

from workbench.abi import STRUCT_PAGE_BYTES
from workbench.lab.bench_devices import Booted
from workbench.lab.bench_kernels import PGMAP, START_PFN
from workbench.lab.bench_samples import Pace, Samples, rotated, timed
from workbench.lab.twins import Twins
from workbench.mm import InitCall, PageArray
from workbench.mm.page_counts import PageCounts, bin_edges
from workbench.mm.page_lanes import Layer
from workbench.series import kernel

IMAGES = ("scan", "read", "dirty", "analytic")
"""What is timed: ``read`` is the limit that ``scan`` is held against."""
ANALYTIC_PAGES = 1 << 28
"""Struct pages of a device of 1 TiB."""
DIRTY = 64
_BINS = 800


def measure_images(device: Booted, twins: Twins, samples: Samples, pace: Pace) -> None:
    """Time every kind of image.

    Parameters
    ----------
    device : Booted
        All its struct pages are in memory; a few are poisoned.
    twins : Twins
    samples : Samples
        ``samples.images`` grows.
    pace : Pace
        A step is all of :data:`IMAGES`.
    """
    array, edges = device.array, _edges(device.array)
    followed = PageCounts(array)
    for layer in (Layer.roles, Layer.poison):
        followed.counts(layer, edges)
    described, noise = _described(), np.random.default_rng(11)
    for repetition, kept in pace.turns(samples):
        for side in rotated(("scan", "read"), repetition):
            with timed(kept.images[side]):
                if side == "scan":
                    PageCounts(array).counts(Layer.roles, edges)
                else:
                    pages = array.memmap.pages
                    twins.limit("read", pages.ctypes.data, len(pages) * STRUCT_PAGE_BYTES)
        pfns = _poison(array, noise)
        with timed(kept.images["dirty"]):
            followed.refresh(pfns)
            followed.counts(Layer.poison, edges)
        with timed(kept.images["analytic"]):
            PageCounts(described).counts(Layer.roles, _edges(described))
        _forget(described)
        pace.done()


def _poison(array: PageArray, noise: np.random.Generator) -> np.ndarray:
    """Poison pages all over an array; their pfns."""
    pfns = array.start_pfn + noise.choice(array.nr_pages, DIRTY, replace=False)
    array.memmap.pages[pfns - array.start_pfn, 0] |= np.uint64(array.kernel.abi.flag("hwpoison"))
    return pfns


def _described() -> PageArray:
    """The struct pages of 1 TiB, of which none was looked at yet."""
    array = PageArray(kernel("5.17"), START_PFN, ANALYTIC_PAGES)
    _fill(array)
    return array


def _fill(array: PageArray) -> None:
    array.add_pages(array.start_pfn, array.nr_pages)
    array.init(InitCall(array.start_pfn, array.end_pfn, pgmap=PGMAP, vmemmap_shift=9))


def _forget(array: PageArray) -> None:
    """Make it as if no section had been looked at; memory that was touched stays."""
    array.remove_pages(array.start_pfn, array.nr_pages)
    _fill(array)


def _edges(array: PageArray) -> np.ndarray:
    """Edges of the pixels of a strip that shows a whole array: none narrower than a section."""
    return bin_edges(array.start_pfn, array.end_pfn, min(_BINS, array.nr_sections))
