# SPDX-License-Identifier: GPL-2.0-only
"""The stores of an operation, page by page: what a trace player steps through, and who wrote a word last.

No shadow array is kept.  Who wrote a word is found by replaying the operations on record that touch its compound
page, on an array of their own, and by comparing the words they leave with the words that are there: a word that
differs was written by something that is not on record, and that is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import xarray as xr

from workbench.abi import WORDS
from workbench.abi.constants import PAGES_PER_SUBSECTION
from workbench.lab.device_layout import WIDE
from workbench.lab.trace import as_dataset
from workbench.mm import InitCall, PageArray
from workbench.mm.events import events
from workbench.view.memory_map.runs import Run

_LOGGED = 24_576
"""Stores kept of one initialisation: all of a 2 MiB compound page, the first struct pages of a larger one."""


class Store(NamedTuple):
    """One store: number in its operation from 0, place, words before and after, the C function."""

    number: int
    pfn: int
    word: int
    old: int
    new: int
    site: str
    locked: bool


class Writer(NamedTuple):
    """Who wrote a word last: the C function (``""``: nobody on record), in which operation, and whether it is sure."""

    site: str
    operation: str
    certain: bool


@dataclass(frozen=True, eq=False)
class Stores:
    """An operation's stores.

    Parameters
    ----------
    name : str
        Of the operation, for people.
    trace : xarray.Dataset
        In the form of :func:`workbench.lab.trace.as_dataset`.
    model : int, optional
        A pfn whose stores stand for those of any page that has none of its own: in a compound page every further
        tail is treated alike, but a long trace does not keep them all, and shared tails are not stored to at all.
    happened : bool
        Whether it was done to the struct pages that are shown; False for an example.
    """

    name: str
    trace: xr.Dataset
    model: int | None = None
    happened: bool = True
    _columns: dict[str, np.ndarray] = field(init=False, repr=False)
    _order: np.ndarray = field(init=False, repr=False)
    _sorted: np.ndarray = field(init=False, repr=False)
    _before: np.ndarray = field(init=False, repr=False)
    _first: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        columns = {name: self.trace[name].values for name in ("pfn", "word", "old", "new", "site", "locked")}
        order = np.argsort(columns["pfn"], kind="stable")
        object.__setattr__(self, "_columns", columns)
        object.__setattr__(self, "_order", order)
        object.__setattr__(self, "_sorted", columns["pfn"][order])
        object.__setattr__(self, "_first", int(self.trace.page.values[0]))
        object.__setattr__(self, "_before", self.trace.before.values)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, number: int) -> Store:
        pfn, word, old, new, site, locked = (column[number] for column in self._columns.values())
        return Store(number, int(pfn), int(word), int(old), int(new), str(site), bool(locked))

    def to_page(self, pfn: int, steps: int | None = None) -> np.ndarray:
        """Numbers of the stores to the struct page of ``pfn``, among the first ``steps``."""
        lo, hi = np.searchsorted(self._sorted, [pfn, pfn + 1])
        numbers = self._order[lo:hi]
        return numbers if steps is None else numbers[numbers < steps]

    def before(self, pfn: int) -> list[int] | None:
        """The words of ``pfn`` before the operation, None if the trace has not kept them."""
        row = pfn - self._first
        return self._before[row].tolist() if 0 <= row < len(self._before) else None

    def after(self, pfn: int, steps: int) -> list[int] | None:
        """The words of ``pfn`` after the first ``steps`` stores, None if the trace has not kept them."""
        words = self.before(pfn)
        if words is None:
            return None
        numbers = self.to_page(pfn, steps)
        for word, new in zip(self._columns["word"][numbers], self._columns["new"][numbers].tolist(), strict=True):
            words[word] = new
        return words

    def last_stores(self, pfn: int) -> dict[int, Store]:
        """The last store to each word of ``pfn`` that was stored to."""
        numbers = self.to_page(pfn)
        if not len(numbers) and self.model is not None:
            numbers = self.to_page(self.model)
        last = dict(zip(self._columns["word"][numbers].tolist(), numbers.tolist(), strict=True))
        return {word: self[number] for word, number in last.items()}

    def written(self, steps: int) -> tuple[int, int, int]:
        """Words stored to, struct pages (cache lines) dirtied and locked operations of the first ``steps`` stores."""
        places = np.unique(self._columns["pfn"][:steps] * WORDS + self._columns["word"][:steps])
        return len(places), len(np.unique(places // WORDS)), int(self._columns["locked"][:steps].sum())


def init_stores(array: PageArray, run: Run) -> Stores | None:
    """The stores by which a run was initialised, or None if no call on record did.

    The calls are run again, for this run alone, on an array of their own.
    """
    calls = [clipped for call in array.calls if (clipped := _clipped(array, call, run)) is not None]
    if not calls:
        return None
    start = run.pfn // PAGES_PER_SUBSECTION * PAGES_PER_SUBSECTION
    end = max(run.pfn + run.nr_pages, *(array.written_end(call) for call in calls))
    nr_pages = -(-(end - start) // PAGES_PER_SUBSECTION) * PAGES_PER_SUBSECTION
    copy = PageArray(array.kernel, start, nr_pages)
    copy.add_pages(start, nr_pages)
    kept = min(run.nr_pages, PAGES_PER_SUBSECTION)
    before = copy.view(run.pfn, kept).copy()
    ev = events(copy.nr_pages, _LOGGED)
    for call in calls:
        copy.traced(call, ev)
    trace = as_dataset(array.kernel, copy, ev, before, run.pfn, kept)
    names = dict.fromkeys("memmap_init_range" if call.pgmap is None else "memmap_init_zone_device" for call in calls)
    return Stores(f"{' and '.join(names)}: {run.text}", trace, run.pfn + min(WIDE, run.nr_pages) - 1)


def _clipped(array: PageArray, call: InitCall, run: Run) -> InitCall | None:
    """The part of ``call`` that stores to ``run``: whole compounds of it; None if it does not."""
    start, end = max(run.pfn, call.start_pfn), min(run.pfn + run.nr_pages, array.written_end(call))
    if start >= end:
        return None
    step = 1 << call.vmemmap_shift if call.pgmap is not None and array.kernel.tree.has(4) else 1
    start = call.start_pfn + (start - call.start_pfn) // step * step
    return replace(call, start_pfn=start, end_pfn=end)


def last_writers(words: Sequence[int], pfn: int, operations: Sequence[Stores]) -> list[Writer]:
    """Who wrote each word of a struct page last.

    Parameters
    ----------
    words : sequence of int
        The struct page as it is.
    pfn : int
    operations : sequence of Stores
        On record, oldest first.

    Returns
    -------
    list of Writer
        Eight.
    """
    left, by = [0] * WORDS, [("", "")] * WORDS
    for operation in operations:
        for word, store in operation.last_stores(pfn).items():
            left[word], by[word] = store.new, (store.site, operation.name)
    return [Writer(*by[word], left[word] == words[word]) for word in range(WORDS)]
