# SPDX-License-Identifier: GPL-2.0-only
"""What the 64 bytes of ``struct page`` mean, per release and page role, as data.

A row is ``offset name type``; types are u8, u16, u32, s32, u64 and ``ptr`` (a u64 that is printed
as an address).  The rows of a role partition the 64 bytes, so decoding loses nothing: bytes no
member of the kernel's union claims in that role carry a name that starts with an underscore.

Kernel: include/linux/mm_types.h (struct page, struct folio of 6.12), include/linux/memremap.h
(struct dev_pagemap, struct vmem_altmap).  Offsets were compiled from the kernels of
``data/captures/layouts``; 5.16 is derived: 5.15 and 5.17 agree on every row used here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

RELEASES = ("5.10", "5.15", "5.16", "5.17", "6.1", "6.12")
STRUCT_PAGE_BYTES = 64
WORDS = STRUCT_PAGE_BYTES // 8


class Role(StrEnum):
    """What a struct page is used as."""

    UNINITIALISED = "uninitialised"
    BASE = "base"
    ZONE_DEVICE = "zone_device"
    HEAD = "head"
    FIRST_TAIL = "first_tail"
    SECOND_TAIL = "second_tail"
    TAIL = "tail"
    BUDDY = "buddy"

    @property
    def is_tail(self) -> bool:
        """Whether word 1 holds compound_head."""
        return self in (Role.FIRST_TAIL, Role.SECOND_TAIL, Role.TAIL)


@dataclass(frozen=True, slots=True)
class Field:
    """One member: its byte offset in struct page, its size in bytes, its sign and how it prints."""

    name: str
    offset: int
    size: int
    signed: bool = False
    pointer: bool = False

    @property
    def word(self) -> int:
        """The 8-byte word the member lies in."""
        return self.offset // 8

    @property
    def shift(self) -> int:
        """Bit position inside that word (little endian)."""
        return self.offset % 8 * 8

    @property
    def mask(self) -> int:
        """The member's bits inside that word, in place."""
        return ((1 << 8 * self.size) - 1) << self.shift

    def get(self, words) -> int:
        """The member's value in ``words`` (eight ints)."""
        raw = (int(words[self.word]) & self.mask) >> self.shift
        return raw - (1 << 8 * self.size) if self.signed and raw >> (8 * self.size - 1) else raw

    def put(self, words: list[int], value: int) -> None:
        """Store ``value`` into ``words``, leaving the bytes around it."""
        raw = (value & ((1 << 8 * self.size) - 1)) << self.shift
        words[self.word] = words[self.word] & ~self.mask | raw


_TYPES = {
    "u8": (1, False),
    "u16": (2, False),
    "u32": (4, False),
    "s32": (4, True),
    "u64": (8, False),
    "ptr": (8, False),
}


def _rows(text: str) -> tuple[Field, ...]:
    fields = []
    for row in filter(None, text.splitlines()):
        offset, name, kind = row.split()
        size, signed = _TYPES[kind]
        fields.append(Field(name, int(offset), size, signed, kind == "ptr"))
    return tuple(sorted(fields, key=lambda f: f.offset))


_COUNTS = """
48 _mapcount s32
52 _refcount s32
"""
_LAST = dict.fromkeys(RELEASES, "56 memcg_data u64") | {"5.10": "56 mem_cgroup u64"}
_FLAGS = "0 flags u64\n"
_MAPPING_INDEX_PRIVATE = """
24 mapping ptr
32 index u64
40 private u64
"""
_LRU = "8 lru.next ptr\n16 lru.prev ptr"
_DEVMAP = "8 pgmap ptr\n16 zone_device_data ptr"
_BUDDY = """
8 buddy_list.next ptr
16 buddy_list.prev ptr
24 mapping ptr
32 index u64
40 private.order u64
48 page_type u32
52 _refcount s32
"""

_TAIL = "8 compound_head ptr\n16 _tail_16 u64" + _MAPPING_INDEX_PRIVATE
_FIRST_TAIL_UP_TO_5_17 = """
8 compound_head ptr
16 compound_dtor u8
17 compound_order u8
18 _compound_pad u16
20 compound_mapcount s32
24 compound_nr u32
28 _mapping_high u32
32 index u64
40 private u64
"""
_FIRST_TAIL_6_1 = """
8 compound_head ptr
16 compound_dtor u8
17 compound_order u8
18 _compound_pad u16
20 compound_mapcount s32
24 compound_pincount s32
28 compound_nr u32
32 _private_1 u64
40 private u64
"""
_FIRST_TAIL_6_12 = """
8 compound_head ptr
16 _large_mapcount s32
20 _entire_mapcount s32
24 _nr_pages_mapped s32
28 _pincount s32
32 _folio_nr_pages u32
36 _folio_pad u32
40 private u64
"""
_SECOND_TAIL_UP_TO_5_17 = """
8 compound_head ptr
16 hpage_pinned_refcount s32
20 _pin_pad u32
24 deferred_list.next ptr
32 deferred_list.prev ptr
40 private u64
"""
_SECOND_TAIL_6_1 = """
8 compound_head ptr
16 _compound_pad_2 u64
24 deferred_list.next ptr
32 deferred_list.prev ptr
40 private u64
"""
_SECOND_TAIL_6_12 = """
8 compound_head ptr
16 _deferred_list.next ptr
24 _deferred_list.prev ptr
32 index u64
40 private u64
"""


def _first_tail(release: str) -> str:
    return {"6.1": _FIRST_TAIL_6_1, "6.12": _FIRST_TAIL_6_12}.get(release, _FIRST_TAIL_UP_TO_5_17)


def _second_tail(release: str) -> str:
    return {"6.1": _SECOND_TAIL_6_1, "6.12": _SECOND_TAIL_6_12}.get(release, _SECOND_TAIL_UP_TO_5_17)


def _roles(release: str) -> dict[Role, tuple[Field, ...]]:
    def rows(middle: str, counts: str = _COUNTS) -> tuple[Field, ...]:
        return _rows("\n".join((_FLAGS, middle, counts, _LAST[release])))

    plain = rows(_LRU + _MAPPING_INDEX_PRIVATE)
    return {
        Role.UNINITIALISED: plain,
        Role.BASE: plain,
        Role.ZONE_DEVICE: rows(_DEVMAP + _MAPPING_INDEX_PRIVATE),
        Role.HEAD: rows(_DEVMAP + _MAPPING_INDEX_PRIVATE),
        Role.FIRST_TAIL: rows(_first_tail(release)),
        Role.SECOND_TAIL: rows(_second_tail(release)),
        Role.TAIL: rows(_TAIL),
        Role.BUDDY: rows(_BUDDY, ""),
    }


FIELDS: dict[str, dict[Role, tuple[Field, ...]]] = {release: _roles(release) for release in RELEASES}
"""Release to role to the members, in offset order."""

HEAD_IN_LRU_VIEW = _rows(_FLAGS + _LRU + _MAPPING_INDEX_PRIVATE + _COUNTS)[1:3]
"""Words 1 and 2 of a head that is not in ZONE_DEVICE: lru.next and lru.prev."""

ORDER_IN_FLAGS = 0xFF
"""6.12: these bits of the first tail's flags word hold the order of the compound page, not page flags."""


@dataclass(frozen=True, slots=True)
class StructLayout:
    """Size in bytes and member offsets in bytes of a structure that is not an array of words here."""

    size: int
    members: dict[str, int]


_ALTMAP = {"base_pfn": 0, "end_pfn": 8, "reserve": 16, "free": 24, "align": 32, "alloc": 40}
_PGMAP_OLD_REF = {"altmap": 0, "ref": 48, "internal_ref": 56, "done": 72, "type": 104, "flags": 108}
_PGMAP_REF = {"altmap": 0, "ref": 48, "done": 64, "type": 96, "flags": 100, "vmemmap_shift": 104, "ops": 112}

VMEM_ALTMAP = {release: StructLayout(48, _ALTMAP) for release in RELEASES} | {
    "6.12": StructLayout(56, _ALTMAP | {"inaccessible": 48})
}
"""struct vmem_altmap per release."""

_BEFORE_PATCH_4 = StructLayout(152, _PGMAP_OLD_REF | {"ops": 112, "owner": 120, "nr_range": 128, "range": 136})
_AFTER_PATCH_4 = StructLayout(
    160, _PGMAP_OLD_REF | {"vmemmap_shift": 112, "ops": 120, "owner": 128, "nr_range": 136, "range": 144}
)
_EMBEDDED_REF = StructLayout(152, _PGMAP_REF | {"owner": 120, "nr_range": 128, "range": 136})
_6_12 = StructLayout(
    160,
    {
        "altmap": 0,
        "ref": 56,
        "done": 72,
        "type": 104,
        "flags": 108,
        "vmemmap_shift": 112,
        "ops": 120,
        "owner": 128,
        "nr_range": 136,
        "range": 144,
    },
)


def dev_pagemap(release: str, patch_4: bool) -> StructLayout:
    """Layout of struct dev_pagemap of ``release``, with or without patch 4's ``vmemmap_shift``.

    From 5.17 on the member is always there.  On 5.10 to 5.16 patch 4 adds 8 bytes after ``flags``.
    """
    if release in ("5.17", "6.1"):
        return _EMBEDDED_REF
    if release == "6.12":
        return _6_12
    return _AFTER_PATCH_4 if patch_4 else _BEFORE_PATCH_4
