# SPDX-License-Identifier: GPL-2.0-only
"""What can be shown of many struct pages at once: a layer is a few lanes, a lane is a yes or no for each page.

The lanes of ``roles`` and ``refcount`` exclude one another; a page may be in several lanes of ``flags``.  Hue
belongs to roles: the lanes of every other layer are told apart by place and name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from workbench.abi import Abi, Role
from workbench.abi.constants import GUP_PIN_COUNTING_BIAS, LIST_POISON1, LIST_POISON2, TAIL_MAPPING
from workbench.lab.device_layout import ROLES, roles
from workbench.mm import Altmap
from workbench.mm.sparse_vmemmap import vmem_altmap_offset
from workbench.view import palette

MISSING = "missing"
"""Key of the lane of pages that have no struct page at all: the last lane of every layer of words."""

_ROLE_ORDER = (
    Role.HEAD,
    Role.FIRST_TAIL,
    Role.SECOND_TAIL,
    Role.TAIL,
    Role.ZONE_DEVICE,
    Role.BASE,
    Role.BUDDY,
    Role.UNINITIALISED,
)


@dataclass(frozen=True, slots=True)
class Lane:
    """One line of a layer: a key, what it is called, and the key of :data:`palette.ROLES` that it is drawn as."""

    key: str
    label: str
    role: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """A way to look at struct pages.

    Attributes
    ----------
    key, label : str
        For programs, for people.
    lanes : tuple of Lane
    of_words : callable
        Takes an :class:`Abi`, rows (uint64[n, 8]) and the first pfn; returns bool[n, len(lanes) - 1], for every
        lane but :data:`MISSING`.
    """

    key: str
    label: str
    lanes: tuple[Lane, ...]
    of_words: Callable[[Abi, np.ndarray, int], np.ndarray]


_NO_PAGE = Lane(MISSING, "no struct page", palette.UNPOPULATED)


def word_layers(abi: Abi, altmap: Altmap | None = None) -> tuple[Layer, ...]:
    """The layers that are read from the words of struct pages.

    Parameters
    ----------
    abi : Abi
    altmap : Altmap, optional
        Of the device: base pages inside it are drawn as altmap.
    """
    return (_roles(altmap), _refcount(), _pincount(abi), _flags(abi), _mapping(), _poison(abi))


def _one_hot(codes: np.ndarray, lanes: int) -> np.ndarray:
    return codes[:, None] == np.arange(lanes)


def _roles(altmap: Altmap | None) -> Layer:
    names = {role: palette.ROLES[role] for role in _ROLE_ORDER}
    lanes = tuple(Lane(str(role), swatch.label, str(role)) for role, swatch in names.items())
    in_altmap = Lane(palette.ALTMAP, palette.ROLES[palette.ALTMAP].label, palette.ALTMAP)
    place = np.array([_ROLE_ORDER.index(role) for role in ROLES])
    end = altmap.base_pfn + vmem_altmap_offset(altmap) if altmap else 0

    def of_words(abi: Abi, rows: np.ndarray, first_pfn: int) -> np.ndarray:
        codes = place[roles(abi, rows, first_pfn)]
        if altmap is not None:
            inside = np.arange(first_pfn, first_pfn + len(rows)) < end
            codes[inside & (codes == _ROLE_ORDER.index(Role.BASE))] = len(_ROLE_ORDER)
        return _one_hot(codes, len(_ROLE_ORDER) + 1)

    return Layer("roles", "roles", (*lanes, in_altmap, _NO_PAGE), of_words)


def _refcount() -> Layer:
    lanes = (
        Lane("0", "refcount 0"),
        Lane("1", "refcount 1"),
        Lane("some", f"refcount 2–{GUP_PIN_COUNTING_BIAS - 1:,}"),
        Lane("many", f"refcount ≥ {GUP_PIN_COUNTING_BIAS:,}"),
        Lane("negative", "refcount < 0"),
        _NO_PAGE,
    )

    def of_words(abi: Abi, rows: np.ndarray, first_pfn: int) -> np.ndarray:
        counts = refcounts(rows)
        return _one_hot(np.where(counts < 0, 4, np.digitize(counts, [1, 2, GUP_PIN_COUNTING_BIAS])), 5)

    return Layer("refcount", "refcount", lanes, of_words)


def refcounts(rows: np.ndarray) -> np.ndarray:
    """``_refcount`` of each row of ``rows`` (uint64[n, 8]), as int32[n]."""
    return (rows[:, 6] >> np.uint64(32)).astype(np.uint32).view(np.int32)


def _pincount(abi: Abi) -> Layer:
    """Where pins are counted: a member of one tail, or the refcount of a page of its own."""
    kept = [
        (role, field)
        for role in (Role.FIRST_TAIL, Role.SECOND_TAIL)
        for field in abi.fields(role)
        if "pincount" in field.name or "pinned" in field.name
    ]
    lanes = (
        Lane("zero", "pin count 0"),
        Lane("pinned", "pin count ≥ 1"),
        Lane("bias", f"own count ≥ {GUP_PIN_COUNTING_BIAS:,}"),
        Lane("none", "keeps no pin count"),
        _NO_PAGE,
    )

    def of_words(abi: Abi, rows: np.ndarray, first_pfn: int) -> np.ndarray:
        codes = roles(abi, rows, first_pfn)
        out = np.full(len(rows), 3)
        own = np.isin(codes, [ROLES.index(role) for role in (Role.BASE, Role.ZONE_DEVICE)])
        out[own & (refcounts(rows) >= GUP_PIN_COUNTING_BIAS)] = 2
        for role, field in kept:
            mine = codes == ROLES.index(role)
            out[mine] = rows[mine, field.word] & np.uint64(field.mask) != 0
        return _one_hot(out, 4)

    return Layer("pincount", "pin count", lanes, of_words)


_FLAGS = ("reserved", "head", "uptodate", "dirty", "locked", "referenced", "lru", "active", "hwpoison")


def _flags(abi: Abi) -> Layer:
    names = tuple(name for name in _FLAGS if name in abi.page_flags)
    others = sum(1 << bit for name, bit in abi.page_flags.items() if name not in names)
    lanes = (*(Lane(name, f"PG_{name}") for name in names), Lane("other", "another flag"), _NO_PAGE)
    masks = np.array([*(abi.flag(name) for name in names), others], np.uint64)
    order = np.uint64(0xFF if abi.release == "6.12" else 0)

    def of_words(abi: Abi, rows: np.ndarray, first_pfn: int) -> np.ndarray:
        flags = rows[:, 0].copy()
        if order:  # the low byte of a first tail's flags is the order of the compound page
            flags[roles(abi, rows, first_pfn) == ROLES.index(Role.FIRST_TAIL)] &= ~order
        return flags[:, None] & masks != 0

    return Layer("flags", "page flags", lanes, of_words)


def _mapping() -> Layer:
    lanes = (
        Lane("null", "mapping NULL"),
        Lane("tail", "TAIL_MAPPING"),
        Lane("list", "list poison"),
        Lane("set", "a mapping"),
        Lane("counts", "other members"),
        _NO_PAGE,
    )

    def of_words(abi: Abi, rows: np.ndarray, first_pfn: int) -> np.ndarray:
        word, codes = rows[:, 3], roles(abi, rows, first_pfn)
        instead = np.zeros(len(rows), bool)
        for role in (Role.FIRST_TAIL, Role.SECOND_TAIL):
            if not any(field.name == "mapping" for field in abi.fields(role)):
                instead |= codes == ROLES.index(role)
        poison = (word == np.uint64(LIST_POISON1)) | (word == np.uint64(LIST_POISON2))
        kinds = [word == 0, word == np.uint64(TAIL_MAPPING), poison, instead]
        return _one_hot(np.select(kinds, [0, 1, 2, 4], 3), 5)

    return Layer("mapping", "mapping", lanes, of_words)


def _poison(abi: Abi) -> Layer:
    lanes = (Lane("hwpoison", "PG_hwpoison"), Lane("well", "not poisoned"), _NO_PAGE)
    bit = np.uint64(abi.flag("hwpoison") if "hwpoison" in abi.page_flags else 0)

    def of_words(abi: Abi, rows: np.ndarray, first_pfn: int) -> np.ndarray:
        poisoned = rows[:, 0] & bit != 0
        return np.stack([poisoned, ~poisoned], axis=1)

    return Layer("poison", "poison", lanes, of_words)
