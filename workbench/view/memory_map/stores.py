# SPDX-License-Identifier: GPL-2.0-only
"""The stores of an operation, page by page: what a trace player steps through, and who wrote a word last.

No shadow array is kept.  Who wrote a word is found by replaying the operations on record that touch its compound
page, on an array of their own, and by comparing the words they leave with the words that are there: a word that
differs was written by something that is not on record, and that is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
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
    """

    name: str
    trace: xr.Dataset
    model: int | None = None

    def __post_init__(self) -> None:
        pfn = self.trace.pfn.values
        object.__setattr__(self, "_order", np.argsort(pfn, kind="stable"))
        object.__setattr__(self, "_sorted", pfn[self._order])  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return self.trace.sizes["store"]

    def __getitem__(self, number: int) -> Store:
        ds = self.trace
        return Store(
            number,
            int(ds.pfn.values[number]),
            int(ds.word.values[number]),
            int(ds.old.values[number]),
            int(ds.new.values[number]),
            str(ds.site.values[number]),
            bool(ds.locked.values[number]),
        )

    def to_page(self, pfn: int, steps: int | None = None) -> np.ndarray:
        """Numbers of the stores to the struct page of ``pfn``, among the first ``steps``."""
        lo, hi = np.searchsorted(self._sorted, [pfn, pfn + 1])  # type: ignore[attr-defined]
        numbers = self._order[lo:hi]  # type: ignore[attr-defined]
        return numbers if steps is None else numbers[numbers < steps]

    def before(self, pfn: int) -> list[int] | None:
        """The words of ``pfn`` before the operation, None if the trace has not kept them."""
        at = np.flatnonzero(self.trace.page.values == pfn)
        return self.trace.before.values[at[0]].tolist() if len(at) else None

    def after(self, pfn: int, steps: int) -> list[int] | None:
        """The words of ``pfn`` after the first ``steps`` stores, None if the trace has not kept them."""
        words = self.before(pfn)
        if words is None:
            return None
        for number in self.to_page(pfn, steps):
            words[int(self.trace.word.values[number])] = int(self.trace.new.values[number])
        return words

    def written(self, steps: int) -> tuple[int, int, int]:
        """Words stored to, struct pages (cache lines) dirtied and locked operations of the first ``steps`` stores."""
        pfn, word = self.trace.pfn.values[:steps], self.trace.word.values[:steps]
        places = np.unique(pfn * WORDS + word)
        return len(places), len(np.unique(places // WORDS)), int(self.trace.locked.values[:steps].sum())


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


def last_writers(array: PageArray, pfn: int, operations: Sequence[Stores]) -> list[Writer]:
    """Who wrote each word of a struct page last.

    Parameters
    ----------
    array : PageArray
        Whose words are explained.
    pfn : int
    operations : sequence of Stores
        On record, oldest first.

    Returns
    -------
    list of Writer
        Eight.
    """
    words, left, by = array.words(pfn), [0] * WORDS, [("", "")] * WORDS
    for operation in operations:
        numbers = operation.to_page(pfn)
        if not len(numbers) and operation.model is not None:
            numbers = operation.to_page(operation.model)
        for number in numbers:
            store = operation[int(number)]
            left[store.word], by[store.word] = store.new, (store.site, operation.name)
    return [Writer(*by[word], left[word] == words[word]) for word in range(WORDS)]
