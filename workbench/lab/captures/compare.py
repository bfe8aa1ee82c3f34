# SPDX-License-Identifier: GPL-2.0-only
"""Recorded struct pages against the page array, byte for byte.

Two words cannot be computed: the addresses of a pgmap and of a file's address_space, which the real
kernel's allocator chose.  The replay's machine uses a stand-in for each; the first recorded page that
should hold one tells the real address, and every other must then agree.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import numpy as np

from workbench.abi import STRUCT_PAGE_BYTES, Abi
from workbench.lab.captures.reading import Image
from workbench.mm import PageArray
from workbench.text import word

_POINTER_WORDS = (1, 3)
"""pgmap and mapping."""
_STAND_IN = 0xFFFF_A500_0000_0000
"""Kernel addresses no real machine of the captures uses (a hole between direct map and vmalloc)."""


class Pointers:
    """Addresses of the kernel's objects, learnt at first sight.

    An object has one address as long as it lives; a new one's is learnt anew; two that exist at the same
    time have different addresses.
    """

    def __init__(self) -> None:
        self._learnt: dict[int, int] = {}
        self._next = _STAND_IN

    def new(self) -> int:
        """A stand-in for the address of a new object."""
        self._next += 0x1000
        return self._next

    def keep(self, living: Container[int]) -> None:
        """The other objects are gone: their addresses may be used again."""
        self._learnt = {stand_in: address for stand_in, address in self._learnt.items() if stand_in in living}

    def resolve(self, ours: np.ndarray, recorded: np.ndarray) -> None:
        """Replace stand-ins in ``ours`` (uint64[n, 8]) by the recorded addresses, learning new ones."""
        for column in _POINTER_WORDS:
            self._resolve(ours[:, column], recorded[:, column])

    def _resolve(self, ours: np.ndarray, recorded: np.ndarray) -> None:
        for stand_in in np.unique(ours[(ours > _STAND_IN) & (ours <= self._next)]).tolist():
            rows = ours == np.uint64(stand_in)
            if stand_in not in self._learnt:
                seen = filter(_is_kernel_pointer, recorded[rows].tolist())
                address = next(seen, None)
                if address is None or address in self._learnt.values():
                    continue
                self._learnt[stand_in] = address
            ours[rows] = np.uint64(self._learnt[stand_in])


def _is_kernel_pointer(address: int) -> bool:
    """Whether an object of the kernel can lie there: in the upper half, at a multiple of 8 bytes."""
    return address >> 56 == 0xFF and address & 7 == 0


@dataclass
class Comparison:
    """What comparing a state gave: pages, bytes, and the first difference in words."""

    pages: int = 0
    pages_left_out: int = 0
    bytes_compared: int = 0
    bytes_different: int = 0
    first: str = ""


def compare(image: Image, inside: np.ndarray, array: PageArray, pointers: Pointers) -> Comparison:
    """Compare recorded struct pages with the page array.

    Parameters
    ----------
    image : Image
    inside : bool[n]
        Which of its pages belong to devices or to the memory devices are made of.  The others belong
        to the page allocator: left out.
    array : PageArray
    pointers : Pointers

    Returns
    -------
    Comparison
        A page recorded as having no struct page is compared too: the array must have none.  A struct
        page that only one side has differs in all its 64 bytes, and they count as compared.
    """
    pfns, exists, words = image.pfns[inside], image.exists[inside], image.words[inside]
    out = Comparison(len(pfns), len(inside) - len(pfns))
    ours_exists = _exists(array, pfns)
    out.bytes_compared = int((exists | ours_exists).sum()) * STRUCT_PAGE_BYTES
    alone = exists != ours_exists
    if alone.any():
        out.bytes_different = int(alone.sum()) * STRUCT_PAGE_BYTES
        at = int(np.argmax(alone))
        sides = ("a", "none") if exists[at] else ("no", "one")
        out.first = f"pfn {pfns[at]:#x}: recorded {sides[0]} struct page, engine {sides[1]}"
    both = exists & ours_exists
    if both.any():
        pfns, recorded = pfns[both], words[both]
        ours = array.rows(pfns)
        pointers.resolve(ours, recorded)
        out.bytes_different += int((ours.view(np.uint8) != recorded.view(np.uint8)).sum())
        differ = (ours != recorded).any(axis=1)
        if differ.any():
            row = int(np.argmax(differ))
            out.first = out.first or _first_difference(array.kernel.abi, int(pfns[row]), recorded[row], ours[row])
    return out


def _exists(array: PageArray, pfns: np.ndarray) -> np.ndarray:
    """Whether the array has the struct page of each of ascending ``pfns``."""
    runs = np.split(pfns, np.flatnonzero(np.diff(pfns) != 1) + 1)
    return np.concatenate([array.exists(int(run[0]), len(run)) for run in runs if len(run)] or [np.empty(0, np.bool_)])


def _first_difference(abi: Abi, pfn: int, recorded: np.ndarray, ours: np.ndarray) -> str:
    """The first differing word of a page, decoded on both sides."""
    at = int(np.argmax(recorded != ours))
    sides = (_decoded(abi, pfn, words.tolist(), at) for words in (recorded, ours))
    return "pfn {:#x} word {}: recorded {}, engine {}".format(pfn, at, *sides)


def _decoded(abi: Abi, pfn: int, words: list[int], at: int) -> str:
    """A word with the members of struct page that lie in it; the flags word with its bit fields and flags."""
    role = abi.role(words, pfn)
    if at == 0:
        parts = abi.decode_flags(words[0], role).items()
        members = [f"{n} {'|'.join(value) or 'none' if isinstance(value, tuple) else value}" for n, value in parts]
    else:
        inside = [f for f in abi.fields(role, words[0]) if f.word == at]
        members = [f"{f.name} {word(f.get(words)) if f.pointer else f.get(words)}" for f in inside]
    return f"{word(words[at])} ({role}: {', '.join(members)})"
