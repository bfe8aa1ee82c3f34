# SPDX-License-Identifier: GPL-2.0-only
"""Kernels: a layout of struct page paired with a tree.  The presets are kernels that exist."""

from __future__ import annotations

import re
from dataclasses import dataclass

from workbench.abi import DISTRIBUTION, DISTRIBUTION_6_12, SMALL_6_1, Abi
from workbench.errors import WorkbenchError
from workbench.series.tree import ALL, Tree

NOT_RELEASED = "no such kernel was released"


@dataclass(frozen=True)
class Kernel:
    """A struct page layout and the code that fills it.

    Attributes
    ----------
    abi : Abi
    tree : Tree
    origin : str
        ``captured`` where a real kernel of exactly this pairing was recorded, ``derived`` where it
        follows from the specification (5.16 and its prefixes), else ``no such kernel was released``.
    note : str
        Which kernel that is.
    """

    abi: Abi
    tree: Tree
    origin: str = NOT_RELEASED
    note: str = ""

    @property
    def name(self) -> str:
        """The tree's name; with the layout's release where the two differ."""
        return self.tree.name if self.abi.release == self.tree.base else f"{self.tree.name}/{self.abi.release}"

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Kernel {self.name} ({self.origin}{'; ' + self.note if self.note else ''})"


def _captured(abi: Abi, tree: Tree, note: str) -> Kernel:
    return Kernel(abi, tree, "captured", note)


_PRESETS = {
    "5.10": _captured(Abi("5.10", DISTRIBUTION), Tree("5.10"), "before the series, distribution kernel"),
    "5.15": _captured(Abi("5.15", DISTRIBUTION), Tree("5.15"), "before the series, 5.15.16"),
    "5.17": _captured(Abi("5.17", DISTRIBUTION), Tree("5.17", ALL), "5.17-rc5, exactly the series"),
    "6.1": _captured(Abi("6.1", DISTRIBUTION), Tree("6.1", ALL, dedup=True), "6.1.192, with vmemmap dedup"),
    "6.1-nodedup": _captured(Abi("6.1", SMALL_6_1), Tree("6.1", ALL), "6.1.192 source, dedup switched off"),
    "6.12": _captured(Abi("6.12", DISTRIBUTION_6_12), Tree("6.12", ALL, dedup=True), "6.12.117, with vmemmap dedup"),
}
PRESETS = tuple(_PRESETS) + tuple(f"5.16+{n}" for n in range(len(ALL) + 1))
"""Names of the kernels that exist, the prefixes of the series on 5.16 among them."""

_5_16_NOTE = "layout from the specification; 5.15 and 5.17 as captured agree with it on every word"
_NAME = re.compile(
    r"(?P<base>\d+\.\d+)(?:\+(?P<set>=?)(?P<patches>(?:\d+(?:-\d+)?,?)*))?"
    r"(?P<dedup>-nodedup|-dedup)?(?P<fix>-pgofffix|-nopgofffix)?"
)
_CONFIG = {"6.12": DISTRIBUTION_6_12}


def kernel(name: str) -> Kernel:
    """The kernel called ``name``.

    ``5.10``, ``5.15``, ``5.17``, ``6.1``, ``6.1-nodedup``, ``6.12``; ``5.16+N`` with patches 1 to N;
    ``5.16+=2,4,9-11`` with exactly those; ``-dedup`` and ``-nodedup`` switch vmemmap deduplication,
    ``-pgofffix`` and ``-nopgofffix`` the fix of patch 5 of October 2024.
    ``5.16`` alone is ``5.16+0``.

    Raises
    ------
    WorkbenchError
        The name cannot be read, or its patches lack what they build on.

    Examples
    --------
    >>> kernel("5.16+4")
    Kernel 5.16+4 (derived; layout from the specification; 5.15 and 5.17 as captured agree with it on every word)
    >>> kernel("5.10+11").origin
    'no such kernel was released'
    """
    if name in _PRESETS:
        return _PRESETS[name]
    match = _NAME.fullmatch(name)
    if match is None:
        raise WorkbenchError(f"no kernel {name!r}. Use one of {', '.join(_PRESETS)}, or 5.16+N with N from 0 to 11.")
    base, numbers = match["base"], _numbers(match["patches"] or "")
    if match["patches"] is None:
        patches = ALL if base in ("5.17", "6.1", "6.12") else frozenset()
    elif match["set"]:
        patches = frozenset(numbers)
    elif len(numbers) == 1:
        patches = Tree.prefix("5.16", numbers[0]).patches
    else:
        raise WorkbenchError(f"{name!r}: write {base}+N for patches 1 to N, or {base}+=2,4,11 for exactly those.")
    released_dedup = base in ("6.1", "6.12") and patches == ALL
    dedup = {"-dedup": True, "-nodedup": False}.get(match["dedup"], released_dedup)
    fix = {"-pgofffix": True, "-nopgofffix": False}.get(match["fix"])
    tree = Tree(base, patches, dedup, fix)
    return pair(Abi(base, _CONFIG.get(base, DISTRIBUTION)), tree)


def _numbers(patches: str) -> list[int]:
    """The numbers of ``2,4,9-11``."""
    spans = [span.split("-") for span in patches.split(",") if span]
    return [n for first, *last in spans for n in range(int(first), int((last or [first])[0]) + 1)]


def pair(abi: Abi, tree: Tree) -> Kernel:
    """Any layout with any tree, labelled with where it comes from."""
    for preset in _PRESETS.values():
        if (preset.abi, preset.tree) == (abi, tree):
            return preset
    is_prefix = tree.patches == frozenset(range(1, len(tree.patches) + 1))
    if abi == Abi("5.16", DISTRIBUTION) and tree.base == "5.16" and is_prefix and tree == Tree("5.16", tree.patches):
        return Kernel(abi, tree, "derived", _5_16_NOTE)
    return Kernel(abi, tree)
