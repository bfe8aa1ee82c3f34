# SPDX-License-Identifier: GPL-2.0-only
"""Recorded struct pages against the page array, byte for byte.

One word cannot be computed: the address of a pgmap, which the real kernel's allocator chose.  The
replay initialises pages with a stand-in for each binding; the first recorded page that should hold it
tells the real address, and every other must then agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.abi import STRUCT_PAGE_BYTES, Abi
from workbench.lab.captures.reading import Span
from workbench.mm import PageArray
from workbench.text import word

_PGMAP_WORD = 1
_STAND_IN = 0xFFFF_A500_0000_0000
"""Kernel addresses no real machine of the captures uses (a hole between direct map and vmalloc)."""
_KERNEL_HALF = 1 << 63


class Pointers:
    """Addresses of pgmaps, learnt at first sight.

    A binding's pages all hold one address; a new binding's address is learnt anew; two bindings that
    exist at the same time have different addresses.
    """

    def __init__(self) -> None:
        self._learnt: dict[int, int] = {}
        self._next = _STAND_IN

    def new(self) -> int:
        """A stand-in for the pgmap of a new binding."""
        self._next += 0x1000
        return self._next

    def forget(self, stand_in: int) -> None:
        """The binding is over: its address may be used again."""
        self._learnt.pop(stand_in, None)

    def resolve(self, ours: np.ndarray, recorded: np.ndarray) -> None:
        """Replace stand-ins in ``ours`` (uint64[n, 8]) by the recorded addresses, learning new ones."""
        column = ours[:, _PGMAP_WORD]
        for stand_in in np.unique(column[(column > _STAND_IN) & (column <= self._next)]).tolist():
            rows = column == np.uint64(stand_in)
            if stand_in not in self._learnt:
                seen = int(recorded[rows, _PGMAP_WORD][0])
                if not seen & _KERNEL_HALF or seen & 7 or seen in self._learnt.values():
                    continue
                self._learnt[stand_in] = seen
            column[rows] = np.uint64(self._learnt[stand_in])


@dataclass
class Comparison:
    """What comparing the spans of a state gave; pages are counted once, however many spans hold them."""

    pages: int = 0
    pages_left_out: int = 0
    bytes_compared: int = 0
    bytes_different: int = 0
    first: str = ""


def compare(spans: tuple[Span, ...], array: PageArray | None, in_device: np.ndarray, pointers: Pointers) -> Comparison:
    """Compare the spans of a state with the page array.

    Parameters
    ----------
    spans : tuple of Span
    array : PageArray or None
        None where the run has no device.
    in_device : int64[n, 2]
        First pfn, and the pfn after the last, of each stretch of memory that belongs to devices or to
        the memory devices are made of.  Pages elsewhere belong to the page allocator: left out.
    pointers : Pointers

    Returns
    -------
    Comparison
        A page recorded as having no struct page is compared too: the array must have none.
    """
    out = Comparison()
    done = np.empty(0, np.int64)
    for span in spans:
        pfns = np.arange(span.pfn, span.pfn + span.nr_pages)
        fresh = ~np.isin(pfns, done)
        done = np.concatenate([done, pfns[fresh]])
        ours_too = ((pfns[:, None] >= in_device[:, 0]) & (pfns[:, None] < in_device[:, 1])).any(axis=1) & fresh
        out.pages_left_out += int((fresh & ~ours_too).sum())
        if array is not None and ours_too.any():
            _compare_pages(span, pfns[ours_too], array, pointers, out)
    return out


def _compare_pages(span: Span, pfns: np.ndarray, array: PageArray, pointers: Pointers, out: Comparison) -> None:
    out.pages += len(pfns)
    exists = array.exists(span.pfn, span.nr_pages)[pfns - span.pfn]
    if span.words is None:
        _note_existence(span, pfns[exists], "no struct page here, the engine has one", out)
        return
    out.bytes_compared += len(pfns) * STRUCT_PAGE_BYTES
    _note_existence(span, pfns[~exists], "a struct page here, the engine has none", out)
    pfns = pfns[exists]
    if not len(pfns):
        return
    recorded = np.ascontiguousarray(span.words[pfns - span.pfn])
    ours = array.rows(pfns)
    pointers.resolve(ours, recorded)
    differ = ours != recorded
    if differ.any():
        different_bytes = ours.view(np.uint8) != recorded.view(np.uint8)
        out.bytes_different += int(different_bytes.sum())
        row = int(np.argmax(differ.any(axis=1)))
        out.first = out.first or _first_difference(array.kernel.abi, int(pfns[row]), recorded[row], ours[row])


def _note_existence(span: Span, pfns: np.ndarray, what: str, out: Comparison) -> None:
    if len(pfns):
        out.bytes_different += len(pfns) * STRUCT_PAGE_BYTES
        out.first = out.first or f"{span.label}, pfn {int(pfns[0]):#x}: the kernel had {what}"


def _first_difference(abi: Abi, pfn: int, recorded: np.ndarray, ours: np.ndarray) -> str:
    """The first differing word of a page, and its member decoded on both sides."""
    at = int(np.argmax(recorded != ours))

    def side(words: np.ndarray) -> str:
        words = words.tolist()
        role = abi.role(words, pfn)
        members = (f for f in abi.fields(role, words[0]) if f.word == at)
        if at == 0:
            text = " ".join(abi.flag_names(words[0])) or "no flags"
        else:
            text = ", ".join(f"{f.name} {word(f.get(words)) if f.pointer else f.get(words)}" for f in members)
        return f"{word(words[at])} ({role}: {text})"

    return f"pfn {pfn:#x} word {at}: recorded {side(recorded)}, engine {side(ours)}"
