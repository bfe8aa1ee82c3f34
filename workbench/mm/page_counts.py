# SPDX-License-Identifier: GPL-2.0-only
"""The struct pages of an array counted by lane between any two pfns, without making those of a whole device.

* A device of 1 TiB has 8,192 sections but few kinds of them (:meth:`PageArray.alike`): a copy of one of each kind
  stands for all of that kind.  Sections that have memory are read one by one.
* What is kept is counted by subsection (512 struct pages).  After a write only the subsections that were written to
  are counted anew, if the writer says which.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.abi import WORDS
from workbench.abi.constants import PAGES_PER_SECTION, PAGES_PER_SUBSECTION, SUBSECTIONS_PER_SECTION
from workbench.errors import WorkbenchError
from workbench.mm.page_array import PageArray
from workbench.mm.page_lanes import Counts, Layer, Sources, count_bins, count_subsections, lane_keys, rules
from workbench.text import pfn_range

_CHUNK = 64 * SUBSECTIONS_PER_SECTION
"""Subsections counted by one call into compiled code: some 10 ms, so that Ctrl-C is heard."""


class PageCounts:
    """Counts of an array's struct pages that keep up with it.

    Parameters
    ----------
    array : PageArray
        Not changed, but that a section of each kind gets its memory.
    altmap_end : int
        Base pages of lower pfns hold the device's own struct pages; 0: none do.

    Attributes
    ----------
    kinds : int64[nr_sections]
        As :meth:`PageArray.alike`; what was written to since is of a kind of its own.
    """

    def __init__(self, array: PageArray, altmap_end: int = 0) -> None:
        self.array = array
        self._rules = rules(array.kernel.abi, altmap_end)
        self.refresh()

    def refresh(self, pfns: np.ndarray | Sequence[int] | None = None) -> None:
        """Look at struct pages anew: to be called after they were written to.

        Parameters
        ----------
        pfns : int64[n], optional
            Those that were written to; default: any may have been, and more or fewer may exist.

        Raises
        ------
        WorkbenchError
            A pfn lies outside the array.
        """
        if pfns is None:
            self._counted: dict[Layer, Counts] = {}
            self._look()
            return
        pages = np.asarray(pfns, np.int64) - self.array.start_pfn
        if len(pages) and not 0 <= pages.min() <= pages.max() < self.array.nr_pages:
            raise WorkbenchError(
                f"a pfn lies outside the array, {pfn_range(self.array.start_pfn, self.array.nr_pages)}. "
                "Give pfns of its struct pages."
            )
        subsections = np.unique(pages // PAGES_PER_SUBSECTION)
        # What has no memory was not written to, whatever is said.
        subsections = subsections[self.array.sections.present[subsections // SUBSECTIONS_PER_SECTION]]
        try:
            self._move(np.unique(subsections // SUBSECTIONS_PER_SECTION))
            for layer in self._counted:
                self._count(layer, subsections)
        except BaseException:
            self._counted.clear()  # some of it would be as before the write
            raise

    def counts(self, layer: Layer, edges: np.ndarray) -> np.ndarray:
        """Struct pages by lane between neighbouring ``edges``.

        Parameters
        ----------
        layer : Layer
        edges : int64[n + 1]
            Ascending pfns, from the array's first one to its end.

        Returns
        -------
        int64[n, lanes]
            Lanes in the order of :func:`lane_keys`.

        Raises
        ------
        WorkbenchError
            The edges do not ascend inside the array.
        """
        edges = np.ascontiguousarray(edges, np.int64)
        if not self.array.start_pfn <= edges[0] or not edges[-1] <= self.array.end_pfn or (np.diff(edges) < 0).any():
            raise WorkbenchError(
                f"edges ascend inside the array, {pfn_range(self.array.start_pfn, self.array.nr_pages)}; got "
                f"{len(edges)} from {int(edges[0]):#x} to {int(edges[-1]):#x}."
            )
        if layer not in self._counted:
            self._count_all(layer)
        counts = self._counted[layer]
        out = np.zeros((len(edges) - 1, counts.by_section.shape[1]), np.int64)
        count_bins(self._sources, edges, np.int64(layer), self._rules, counts, out)
        return out

    def rows(self, section: int) -> tuple[np.ndarray, np.ndarray]:
        """The struct pages of a section, zero where there is none (uint64[32768, 8]), and which exist (bool)."""
        first = self.array.start_pfn + section * PAGES_PER_SECTION
        exists = self.array.exists(first, PAGES_PER_SECTION)
        if exists.all():
            return self.array.view(first, PAGES_PER_SECTION), exists
        rows = np.zeros((PAGES_PER_SECTION, WORDS), np.uint64)
        if exists.any():
            rows[exists] = self.array.rows(first + np.flatnonzero(exists))
        return rows, exists

    def _look(self) -> None:
        """Find out which sections are alike, and copy one of each kind without memory."""
        array = self.array
        present = array.sections.present.copy()
        kinds = array.alike()
        described = np.flatnonzero((kinds >= 0) & ~present)
        _, first, number = np.unique(kinds[described], return_index=True, return_inverse=True)
        models = described[first]
        stand_ins = np.zeros((len(first) * PAGES_PER_SECTION, WORDS), np.uint64)
        for at, section in enumerate(models.tolist()):
            stand_ins[at * PAGES_PER_SECTION : (at + 1) * PAGES_PER_SECTION] = self.rows(section)[0]
        place = np.zeros(array.nr_sections, np.int64)
        place[described] = 1 + number.reshape(-1)
        own = 1 + len(first) + np.arange(array.nr_sections)
        has_memory = (kinds >= 0) & present
        place[has_memory] = own[has_memory]
        stand_in_pfn = array.start_pfn + models * PAGES_PER_SECTION
        sources = Sources(array.memmap.pages, array.sections.exist, array.start_pfn, place, stand_ins, stand_in_pfn)
        self.kinds, self._own, self._sources = kinds, own, sources

    def _move(self, sections: np.ndarray) -> None:
        """Read ``sections`` (int64[n]) from their own memory from now on."""
        sections = sections[self._sources.place[sections] != self._own[sections]]
        if not len(sections):
            return
        before, own = self._sources.place[sections], self._own[sections]
        for counts in self._counted.values():
            for kept in counts:
                kept[own] = kept[before]
        self.kinds[sections] = self.kinds.max() + 1 + np.arange(len(sections))
        self._sources.place[sections] = own

    def _count_all(self, layer: Layer) -> None:
        lanes, places = len(lane_keys(self.array.kernel.abi, layer)), int(self._own[-1]) + 1
        counts = Counts(
            np.zeros((places, SUBSECTIONS_PER_SECTION, lanes), np.uint16), np.zeros((places, lanes), np.int32)
        )
        counts.by_subsection[0, :, -1], counts.by_section[0, -1] = PAGES_PER_SUBSECTION, PAGES_PER_SECTION
        self._counted[layer] = counts
        try:
            taken, sections = np.unique(self._sources.place, return_index=True)  # one section of each place
            first = sections[taken > 0, None] * SUBSECTIONS_PER_SECTION
            self._count(layer, (first + np.arange(SUBSECTIONS_PER_SECTION)).reshape(-1))
        except BaseException:
            del self._counted[layer]  # half of it would be taken for all
            raise

    def _count(self, layer: Layer, subsections: np.ndarray) -> None:
        counts = self._counted[layer]
        room = np.zeros((1, counts.by_section.shape[1]), np.int64)
        for at in range(0, len(subsections), _CHUNK):
            chunk = subsections[at : at + _CHUNK]
            count_subsections(self._sources, chunk, np.int64(layer), self._rules, counts, room)


def bin_edges(start_pfn: int, end_pfn: int, bins: int) -> np.ndarray:
    """Edges of at most ``bins`` bins that cover a range: whole pages, whole sections where a bin is wider than one.

    Returns
    -------
    int64[n + 1]
    """
    nr_pages = end_pfn - start_pfn
    edges = start_pfn + np.arange(min(bins, nr_pages) + 1, dtype=np.int64) * nr_pages // min(bins, nr_pages)
    if nr_pages >= bins * PAGES_PER_SECTION:
        edges[1:-1] = edges[1:-1] // PAGES_PER_SECTION * PAGES_PER_SECTION
    return edges
