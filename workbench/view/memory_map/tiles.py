# SPDX-License-Identifier: GPL-2.0-only
"""Counts of a device's struct pages between any two pfns, lane by lane.

* What is read from their words is counted by :class:`workbench.mm.page_counts.PageCounts`, for every edge exactly;
  only where a bin is wider than a section are its edges rounded to sections, which no eye sees.
* What is known of the device without reading a word (its altmap, the pages behind its vmemmap) is counted from
  the description alone: as a difference of running sums.
* So is how many struct pages differ between two arrays: a section of each kind is compared.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from workbench.abi import Role
from workbench.abi.constants import PAGES_PER_SECTION
from workbench.errors import WorkbenchError
from workbench.mm import Altmap, PageArray
from workbench.mm.page_counts import PageCounts
from workbench.mm.page_counts import bin_edges as bin_edges
from workbench.mm.sparse_vmemmap import STRUCT_PAGES_PER_PAGE, VMEMMAP_RESERVE_NR, How, Populated, vmem_altmap_offset
from workbench.text import pfn_range
from workbench.view import palette
from workbench.view.memory_map.layers import Lane, word_layers

_SECTIONS_KEPT = 24
"""Sections whose running sums by page are kept: some 35 MiB a layer at most."""

Sums = Callable[[np.ndarray], np.ndarray]
"""Takes ascending pfns (int64[n]); returns how many pages before each are in each lane (int64[n, lanes])."""


class RunningSums:
    """Pages before a pfn, lane by lane, where a function tells the lanes of one section's pages.

    Parameters
    ----------
    start_pfn : int
        First pfn of section 0.
    kinds : int64[nr_sections]
        Sections of one kind have the same lanes, page by page; -1 where there is nothing.
    lanes : int
        How many; the last one is for sections of kind -1.
    of_section : callable
        Takes the number of a section, returns bool[32768, lanes].
    """

    def __init__(self, start_pfn: int, kinds: np.ndarray, lanes: int, of_section: Callable[[int], np.ndarray]) -> None:
        self.start_pfn = start_pfn
        self._kinds, self._lanes, self._of_section = kinds, lanes, of_section
        self._by_page: OrderedDict[int, np.ndarray] = OrderedDict()
        _, first, kind = np.unique(kinds, return_index=True, return_inverse=True)
        totals = np.stack([self._pages(int(section))[-1] for section in first])
        self._by_section = np.zeros((len(kinds) + 1, lanes), np.int64)
        np.cumsum(totals[kind.reshape(-1)], axis=0, out=self._by_section[1:])
        self._representative = first[kind.reshape(-1)]

    def __call__(self, pfns: np.ndarray) -> np.ndarray:
        """Pages before each of ``pfns`` (int64[n]) in each lane: int64[n, lanes]."""
        section, page = np.divmod(pfns - self.start_pfn, PAGES_PER_SECTION)
        out = self._by_section[section]
        for one in np.unique(section[page > 0]):
            mine = (section == one) & (page > 0)
            out[mine] += self._pages(int(self._representative[one]))[page[mine] - 1]
        return out

    def _pages(self, section: int) -> np.ndarray:
        """Running sums over the pages of a section, int32[32768, lanes]."""
        if section in self._by_page:
            self._by_page.move_to_end(section)
            return self._by_page[section]
        if self._kinds[section] < 0:
            lanes = np.zeros((PAGES_PER_SECTION, self._lanes), bool)
            lanes[:, -1] = True
        else:
            lanes = self._of_section(section)
        sums = np.cumsum(lanes, axis=0, dtype=np.int32)
        self._by_page[section] = sums
        if len(self._by_page) > _SECTIONS_KEPT:
            self._by_page.popitem(last=False)
        return sums


class Tiles:
    """The struct pages of a device, counted by lane between any two pfns.

    Parameters
    ----------
    array : PageArray
        Not changed, but that a section of each kind gets its memory.
    start_pfn, end_pfn : int
        The device.
    altmap : Altmap, optional
    backing : Populated, optional
        From :func:`workbench.mm.sparse_vmemmap.populate`: then there is a layer ``backing``.
    """

    def __init__(
        self,
        array: PageArray,
        start_pfn: int,
        end_pfn: int,
        altmap: Altmap | None = None,
        backing: Populated | None = None,
    ) -> None:
        self.array, self.start_pfn, self.end_pfn, self.altmap = array, start_pfn, end_pfn, altmap
        self.pages = PageCounts(array, altmap.base_pfn + vmem_altmap_offset(altmap) if altmap else 0)
        self._word_layers = {layer.counted.name: layer for layer in word_layers(array.kernel.abi)}
        self.lanes: dict[str, tuple[Lane, ...]] = {key: layer.lanes for key, layer in self._word_layers.items()}
        self.labels = {key: layer.label for key, layer in self._word_layers.items()}
        self._placed: dict[str, Sums] = {}
        self._place("altmap", "altmap", _ALTMAP_LANES, _altmap_sums(start_pfn, end_pfn, altmap))
        if backing is not None:
            self._place("backing", "vmemmap backing", _BACKING_LANES, _backing_sums(backing, start_pfn))

    def _place(self, key: str, label: str, lanes: tuple[Lane, ...], sums: Sums) -> None:
        self.lanes[key], self.labels[key], self._placed[key] = lanes, label, sums

    def refresh(self, pfns: np.ndarray | Sequence[int] | None = None) -> None:
        """Count anew after struct pages were written to: those of ``pfns`` (int64[n]), by default all.

        Raises
        ------
        WorkbenchError
            A pfn lies outside the array.
        """
        self.pages.refresh(pfns)

    def counts(self, layer: str, edges: np.ndarray) -> np.ndarray:
        """Struct pages by lane between neighbouring ``edges``.

        Parameters
        ----------
        layer : str
            A key of :attr:`lanes`.
        edges : int64[n + 1]
            Ascending pfns inside the device.

        Returns
        -------
        int64[n, lanes]

        Raises
        ------
        WorkbenchError
            The layer is not known, or an edge lies outside the device.
        """
        if layer not in self.lanes:
            raise WorkbenchError(f"there is no layer {layer!r}; use one of {', '.join(self.lanes)}.")
        self.require_inside(int(edges[0]), int(edges[-1]))
        if layer in self._placed:
            return np.diff(self._placed[layer](edges), axis=0)
        of_words = self._word_layers[layer]
        return self.pages.counts(of_words.counted, edges)[:, of_words.order]

    def require_inside(self, start_pfn: int, end_pfn: int) -> None:
        """Refuse a range that is empty, or not inside the device.

        Raises
        ------
        WorkbenchError
        """
        if not self.start_pfn <= start_pfn <= end_pfn <= self.end_pfn:
            raise WorkbenchError(
                f"{pfn_range(start_pfn, end_pfn - start_pfn)} is not inside the device, "
                f"{pfn_range(self.start_pfn, self.end_pfn - self.start_pfn)}."
            )


def difference_sums(before: Tiles, after: Tiles) -> Sums:
    """How many struct pages before a pfn differ between two arrays, in any word: one lane.

    Raises
    ------
    WorkbenchError
        The arrays have other spans, or other layouts of struct page.
    """
    one, other = before.array, after.array
    if (one.start_pfn, one.nr_pages) != (other.start_pfn, other.nr_pages) or one.kernel.abi != other.kernel.abi:
        raise WorkbenchError(
            f"before ({pfn_range(one.start_pfn, one.nr_pages)}, layout {one.kernel.abi.release}) and after "
            f"({pfn_range(other.start_pfn, other.nr_pages)}, layout {other.kernel.abi.release}) have no common words. "
            "Give two arrays of one span and one layout of struct page."
        )

    def of_section(section: int) -> np.ndarray:
        differs = (before.pages.rows(section)[0] != after.pages.rows(section)[0]).any(axis=1)
        return np.stack([differs, np.zeros(len(differs), bool)], axis=1)

    _, both = np.unique(np.stack([before.pages.kinds, after.pages.kinds]), axis=1, return_inverse=True)
    kinds = np.where((before.pages.kinds < 0) & (after.pages.kinds < 0), -1, both.reshape(-1))
    sums = RunningSums(one.start_pfn, kinds, 2, of_section)
    return lambda pfns: sums(pfns)[:, :1]


# what needs no words

_ALTMAP_LANES = (
    Lane("reserve", "reserved at the start", palette.UNPOPULATED),
    Lane("free", "altmap: holds struct pages", palette.ALTMAP),
    Lane("data", "data", Role.ZONE_DEVICE),
)

_BACKING_LANES = (
    Lane("block", "2 MiB block of DRAM"),
    Lane("own", "4 KiB page of its own"),
    Lane("shared", "shared 4 KiB page"),
    Lane("device", "2 MiB block in the device"),
    Lane("boot", "there since boot"),
)


def _altmap_sums(start_pfn: int, end_pfn: int, altmap: Altmap | None) -> Sums:
    ends = [start_pfn, start_pfn, end_pfn]
    if altmap is not None:
        ends[:2] = altmap.base_pfn + altmap.reserve, altmap.base_pfn + vmem_altmap_offset(altmap)
    starts = np.array([start_pfn, *ends[:2]])
    return lambda pfns: np.clip(pfns[:, None] - starts, 0, np.array(ends) - starts)


def _backing_sums(backing: Populated, start_pfn: int) -> Sums:
    chunk_start, how = backing.start_pfn, backing.how.astype(int)
    length = np.minimum(backing.nr_pages, 1 << backing.vmemmap_shift)
    unique = STRUCT_PAGES_PER_PAGE * (VMEMMAP_RESERVE_NR - 1)  # the first vmemmap page: the second one is shared
    lane = np.array([0, 1, 2, 2, 4])  # by How
    lane[How.HUGEPAGES] = 3 if backing.altmap else 0

    def inside(chunk: np.ndarray, pages: np.ndarray) -> np.ndarray:
        """Lanes of the first ``pages`` pages of each chunk."""
        out = np.zeros((len(chunk), len(_BACKING_LANES)), np.int64)
        out[np.arange(len(chunk)), lane[how[chunk]]] = pages
        heads, rest = np.divmod(pages, length[chunk])
        own = np.where(how[chunk] == How.COMPOUND, heads * unique + np.minimum(rest, unique), 0)
        out[:, 1] += own
        out[:, 2] -= own
        return out

    every = np.arange(len(chunk_start))
    before = np.zeros((len(chunk_start), len(_BACKING_LANES)), np.int64)
    np.cumsum(inside(every, backing.nr_pages)[:-1], axis=0, out=before[1:])

    def sums(pfns: np.ndarray) -> np.ndarray:
        chunk = np.maximum(np.searchsorted(chunk_start, pfns, side="right") - 1, 0)
        return before[chunk] + inside(chunk, np.minimum(pfns - chunk_start[chunk], backing.nr_pages[chunk]))

    return sums


def lane_totals(tiles: Tiles, layer: str) -> dict[str, int]:
    """Pages of the whole device by lane, those with none left out."""
    edges: Sequence[int] = (tiles.start_pfn, tiles.end_pfn)
    totals = tiles.counts(layer, np.array(edges, np.int64))[0]
    return {lane.key: int(n) for lane, n in zip(tiles.lanes[layer], totals, strict=True) if n}
