# SPDX-License-Identifier: GPL-2.0-only
"""Which struct pages are shown side by side: a compound page, or a run of base pages; its first ones wide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.abi import Abi, Role
from workbench.abi.constants import PAGES_PER_SUBSECTION
from workbench.lab.device_layout import WIDE
from workbench.mm import PageArray
from workbench.text import count
from workbench.text import pfn as pfn_text

_SHORT_RUN = 8 * PAGES_PER_SUBSECTION
"""A compound page of more struct pages is not searched for pages unlike the others at every step."""


@dataclass(frozen=True, slots=True)
class Run:
    """Struct pages that belong together.

    Attributes
    ----------
    pfn : int
        Of the head, or of the first base page.
    nr_pages : int
        Struct pages; at most those that exist.
    order : int
        log2 of the pages of the compound page; -1 for base pages.
    """

    pfn: int
    nr_pages: int
    order: int

    @property
    def text(self) -> str:
        """What it is, in words."""
        if self.order < 0:
            return f"{count(self.nr_pages)} base pages from pfn {pfn_text(self.pfn)}"
        return f"compound page of {count(1 << self.order)} struct pages, head pfn {pfn_text(self.pfn)}"


def run_at(array: PageArray, pfn: int) -> Run:
    """The run that the struct page of ``pfn`` belongs to.

    Base pages are taken by subsections of 512.  The head that a tail names is believed only if it names the size of
    a compound page that reaches the tail: what a stray tail points to may be no head any more.

    Raises
    ------
    WorkbenchError
        No struct page exists there.
    """
    abi, words = array.kernel.abi, array.words(pfn)
    role = abi.role(words, pfn)
    head = abi.pfn_of(words[1] - 1) if role.is_tail else pfn
    if (role.is_tail or role is Role.HEAD) and array.exists(head, 2).all():
        order = compound_order(abi, array.words(head + 1), head + 1)
        if order > 0 and head <= pfn < head + (1 << order):
            return Run(head, _existing(array, head, 1 << order), order)
    first = pfn // PAGES_PER_SUBSECTION * PAGES_PER_SUBSECTION
    return Run(first, PAGES_PER_SUBSECTION, -1)


def compound_order(abi: Abi, first_tail: list[int], pfn: int) -> int:
    """The order that a first tail keeps; 0 if ``first_tail`` is none."""
    if abi.role(first_tail, pfn) is not Role.FIRST_TAIL:
        return 0
    if "order" in (flags := abi.decode_flags(first_tail[0], Role.FIRST_TAIL)):
        order = flags["order"]
        assert isinstance(order, int)
        return order
    return abi.decode(first_tail, pfn)["compound_order"]


def _existing(array: PageArray, pfn: int, nr_pages: int) -> int:
    """How many of the pages exist, up to the first that does not."""
    missing = np.flatnonzero(~array.exists(pfn, nr_pages))
    return int(missing[0]) if len(missing) else nr_pages


def shown_pfns(run: Run, pfn: int) -> list[int]:
    """The struct pages drawn wide: the first eight, and ``pfn`` where it is not among them."""
    wide = [run.pfn + page for page in range(min(WIDE, run.nr_pages))]
    return wide if pfn in wide or not run.pfn <= pfn < run.pfn + run.nr_pages else [*wide, pfn]


def unlike(array: PageArray, run: Run) -> list[int]:
    """Pages of the fold whose words are not those of the page before it; the first few of a long run.

    Returns
    -------
    list of int
        pfns; empty if all are alike.
    """
    first = run.pfn + min(WIDE, run.nr_pages)
    model = array.view(first - 1, 1)
    found: list[int] = []
    for lo in range(first, run.pfn + run.nr_pages, _SHORT_RUN):
        rows = array.view(lo, min(_SHORT_RUN, run.pfn + run.nr_pages - lo))
        found += (lo + np.flatnonzero((rows != model).any(axis=1))).tolist()
    return found
