# SPDX-License-Identifier: GPL-2.0-only
"""A source tree: a release's code with a set of the series' patches applied."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from workbench.errors import WorkbenchError
from workbench.series.patches import PATCHES, patch

BASES = ("5.10", "5.15", "5.16", "5.17", "6.1", "6.12")
ALL = frozenset(p.number for p in PATCHES)
_FIXED = ("6.1", "6.12")
"""Releases that carry the fix of patch 5, by a stable update or from the start."""


class Switch(IntEnum):
    """What a tree tells the jitted kernels: one bit a patch, then what else a release does differently.

    Attributes
    ----------
    P2, P3, P4
        Patches whose code runs in ``mm``.  The other patches ask the Tree, not the kernels.
    HEAD_AFTER_FIRST_TAIL
        prep_compound_head() fires after tail 1 instead of tail 2 (mm/mm_init.c, 6.12).
    TAIL_CLEARS_PRIVATE
        prep_compound_tail() stores 0 to page->private (mm/page_alloc.c, 6.1 and later).
    ZEROES_TAIL_REFCOUNT
        prep_compound_page() stores refcount 0 to each tail (mm/page_alloc.c, 5.10).
    COMPOUND_NR_PAGES
        Of each compound only the unique vmemmap pages are initialised: compound_nr_pages()
        (mm/page_alloc.c, 5.19 and later).
    """

    P2 = 1 << 2
    P3 = 1 << 3
    P4 = 1 << 4
    HEAD_AFTER_FIRST_TAIL = 1 << 16
    TAIL_CLEARS_PRIVATE = 1 << 17
    ZEROES_TAIL_REFCOUNT = 1 << 18
    COMPOUND_NR_PAGES = 1 << 19


_BASE_SWITCHES = {
    "5.10": Switch.ZEROES_TAIL_REFCOUNT,
    "5.15": 0,
    "5.16": 0,
    "5.17": 0,
    "6.1": Switch.TAIL_CLEARS_PRIVATE,
    "6.12": Switch.TAIL_CLEARS_PRIVATE | Switch.HEAD_AFTER_FIRST_TAIL,
}


@dataclass(frozen=True)
class Tree:
    """A release's code and the patches of the series it carries.

    Parameters
    ----------
    base : str
        The release whose code surrounds the series: ``5.10 5.15 5.16 5.17 6.1 6.12``.
    patches : frozenset of int
        Patches applied, 1 to 11.  Every set is accepted whose patches have what they build on: 11
        needs 4; 9 and 10 need 8.  Patch 1 may be missing under 11 (memory failure then follows a
        tail's mapping).
    dedup : bool
        The follow-up "sparse-vmemmap: memory savings for compound devmaps": vmemmap pages of a
        compound are shared and only the unique ones initialised.
    pgoff_fix : bool, optional
        The fix of patch 5, "device-dax: correct pgoff align in dax_set_mapping()": the faulted address is
        rounded down again.  Default: as the release has it (6.1 and 6.12 do).

    Raises
    ------
    WorkbenchError
        Unknown base or patch, a patch without what it needs, or dedup without patch 4.
    """

    base: str
    patches: frozenset[int] = frozenset()
    dedup: bool = False
    pgoff_fix: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "patches", frozenset(self.patches))
        if self.pgoff_fix is None:
            object.__setattr__(self, "pgoff_fix", self.base in _FIXED)
        if self.base not in BASES:
            raise WorkbenchError(
                f"no kernel {self.base!r}: its base is one of {', '.join(BASES)}, with +N or +=2,4,11 for patches "
                "and -dedup or -nodedup, like 5.16+4 or 6.1-nodedup."
            )
        unknown = self.patches - ALL
        if unknown:
            raise WorkbenchError(f"the series has patches 1 to {max(ALL)}; got {sorted(unknown)}.")
        for number in sorted(self.patches):
            missing = [n for n in patch(number).needs if n not in self.patches]
            if missing:
                raise WorkbenchError(
                    f"patch {number} ({patch(number).title}) builds on patch {missing[0]} "
                    f"({patch(missing[0]).title}), which this set lacks. Add {missing[0]} or leave {number} out."
                )
        if self.dedup and 4 not in self.patches:
            raise WorkbenchError(
                "vmemmap deduplication works on compound pages and needs patch 4, which this set lacks. "
                "Add 4 or leave dedup off."
            )

    @classmethod
    def prefix(cls, base: str, last: int) -> Tree:
        """``base`` with patches 1 to ``last``, as a bisect would stand (0: none)."""
        if not 0 <= last <= max(ALL):
            raise WorkbenchError(f"a prefix of the series ends at patch 0 to {max(ALL)}; got {last}.")
        return cls(base, frozenset(range(1, last + 1)))

    def has(self, number: int) -> bool:
        """Whether patch ``number`` is applied."""
        return number in self.patches

    def without(self, numbers: Iterable[int] | int) -> Tree:
        """The tree with one or several patches left out (and checked again)."""
        gone = {numbers} if isinstance(numbers, int) else set(numbers)
        return Tree(self.base, self.patches - gone, self.dedup, self.pgoff_fix)

    @property
    def switches(self) -> int:
        """The :class:`Switch` bits the jitted kernels take, or-ed into one integer."""
        bits = _BASE_SWITCHES[self.base]
        for number, bit in ((2, Switch.P2), (3, Switch.P3), (4, Switch.P4)):
            if self.has(number):
                bits |= bit
        return bits | Switch.COMPOUND_NR_PAGES if self.dedup else bits

    @property
    def rounds_pgoff_up(self) -> bool:
        """Whether a fault's file page is counted from the address rounded up: patch 5 without its fix."""
        return self.has(5) and not self.pgoff_fix

    @property
    def puts_pages_at_teardown(self) -> bool:
        """Whether memunmap_pages() drops one reference a page (a head) and waits: 5.17 and before.

        6.1 and later return the pgmap's references in bulk (mm/memremap.c).
        """
        return self.base not in ("6.1", "6.12")

    def vmemmap_shift(self, align: int) -> int:
        """The vmemmap_shift device-dax asks for: log2(align / 4096) with patch 11, else 0.

        Parameters
        ----------
        align : int
            The device's align in bytes, a power of two of at least 4096.

        Raises
        ------
        WorkbenchError
            ``align`` is something else.
        """
        if align < 4096 or align & (align - 1):
            raise WorkbenchError(f"an align is a power of two of at least 4096 bytes; got {align}. Use 4K, 2M or 1G.")
        return (align >> 12).bit_length() - 1 if self.has(11) else 0

    @property
    def name(self) -> str:
        """A short name that :func:`workbench.series.kernel` reads back: ``5.16+4``, ``5.16+=2,4,11``, ``6.1``."""
        n = len(self.patches)
        if self.patches == {"5.10": frozenset(), "5.15": frozenset()}.get(self.base, ALL) and self.base != "5.16":
            text = self.base
        elif self.patches == frozenset(range(1, n + 1)):
            text = f"{self.base}+{n}"
        else:
            text = f"{self.base}+={','.join(map(str, sorted(self.patches)))}"
        released_dedup = self.base in ("6.1", "6.12") and self.patches == ALL
        if released_dedup != self.dedup:
            text += "-nodedup" if released_dedup else "-dedup"
        if self.pgoff_fix != (self.base in _FIXED):
            text += "-pgofffix" if self.pgoff_fix else "-nopgofffix"
        return text

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        applied = ", ".join(map(str, sorted(self.patches))) or "none"
        return f"Tree {self.name}: {self.base} code, patches {applied}{', vmemmap dedup' if self.dedup else ''}"
