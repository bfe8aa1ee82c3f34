# SPDX-License-Identifier: GPL-2.0-only
"""What struct pages are at a glance: a layer is a few lanes, a lane is a yes or no for each page; kernels count them.

* The lanes of ``flags`` may be several at once for a page; those of every other layer exclude one another.
* A struct page is one cache line, and each is read once; most are told by one or two of their words.
* Neighbours are mostly alike: equal ones are counted in a register and written down together.

The last lane of every layer, :data:`MISSING`, is for pages that have no struct page at all.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from workbench.abi import STRUCT_PAGE_BYTES, Abi, Role
from workbench.abi.constants import (
    GUP_PIN_COUNTING_BIAS,
    LIST_POISON1,
    LIST_POISON2,
    PAGES_PER_SECTION,
    PAGES_PER_SUBSECTION,
    SUBSECTIONS_PER_SECTION,
    TAIL_MAPPING,
)
from workbench.abi.layout import ORDER_IN_FLAGS
from workbench.mm._jit import borrowing, inline, jit
from workbench.mm.memmap import COUNTS, FLAGS, LRU_NEXT, MAPPING, REFCOUNT_SHIFT
from workbench.mm.prefetch import prefetch

MISSING = "missing"
"""Key of the lane of pages that have no struct page."""
ALTMAP = "altmap"
"""Key of the lane, among the roles, of base pages that hold the device's own struct pages."""
SHOWN_FLAGS = ("reserved", "head", "uptodate", "dirty", "locked", "referenced", "lru", "active", "hwpoison")
"""Page flags that have a lane each; the others share one."""


class Layer(IntEnum):
    """A way to look at struct pages."""

    roles = 0
    refcount = 1
    pincount = 2
    flags = 3
    mapping = 4
    poison = 5


class Rules(NamedTuple):
    """What the kernels need to know of a release to tell lanes apart.

    Attributes
    ----------
    vmemmap_base, altmap_end : uint64
        Kernel addresses of the struct pages of pfn 0 and of the first pfn behind the altmap; 0 without one.
    head, hwpoison : uint64
        PG_head and PG_hwpoison as masks; 0 where the configuration lacks a flag.
    zone, zone_device : uint64
        The zone's bits in the flags word, and ZONE_DEVICE in place.
    order : uint64
        Bits of a first tail's flags word that are no flags but an order.
    pinned_role : uint64
        Code of the tail that counts pins: its place among the roles.
    pinned_word : int64
    pinned : uint64
        Where it counts: bits of one word.
    first_tail_mapping, second_tail_mapping : bool
        Whether these tails have a member ``mapping``.
    flag_masks : uint64[lanes]
        Of each lane of ``flags`` but the last.
    shown : uint64
        All of these.
    """

    vmemmap_base: np.uint64
    altmap_end: np.uint64
    head: np.uint64
    hwpoison: np.uint64
    zone: np.uint64
    zone_device: np.uint64
    order: np.uint64
    pinned_role: np.uint64
    pinned_word: np.int64
    pinned: np.uint64
    first_tail_mapping: bool
    second_tail_mapping: bool
    flag_masks: np.ndarray
    shown: np.uint64


def rules(abi: Abi, altmap_end: int = 0) -> Rules:
    """The :class:`Rules` of a release; base pages before pfn ``altmap_end`` are the altmap's."""
    zone = abi.bits("ZONE")
    masks = _flag_masks(abi)
    tails = (Role.FIRST_TAIL, Role.SECOND_TAIL)
    pinned_role, pinned = next(
        (role, field)
        for role in tails
        for field in abi.fields(role)
        if "pincount" in field.name or "pinned" in field.name
    )
    has_mapping = [any(field.name == "mapping" for field in abi.fields(role)) for role in tails]
    order_in_flags = not any(field.name == "compound_order" for field in abi.fields(Role.FIRST_TAIL))
    return Rules(
        vmemmap_base=np.uint64(abi.vmemmap_base),
        altmap_end=np.uint64(abi.struct_page(altmap_end) if altmap_end else 0),
        head=np.uint64(abi.flag("head")),
        hwpoison=np.uint64(abi.flag("hwpoison") if "hwpoison" in abi.page_flags else 0),
        zone=np.uint64(zone.mask),
        zone_device=np.uint64(abi.zone_device << zone.shift),
        order=np.uint64(ORDER_IN_FLAGS if order_in_flags else 0),
        pinned_role=_CODE[pinned_role],
        pinned_word=np.int64(pinned.word),
        pinned=np.uint64(pinned.mask),
        first_tail_mapping=has_mapping[0],
        second_tail_mapping=has_mapping[1],
        flag_masks=np.array(list(masks.values()), np.uint64),
        shown=np.uint64(sum(masks.values())),
    )


def lane_keys(abi: Abi, layer: Layer) -> tuple[str, ...]:
    """The lanes of a layer by key, in the order that they are counted in."""
    keys = {
        Layer.roles: (*map(str, Role), ALTMAP),
        Layer.refcount: ("0", "1", "some", "many", "negative"),
        Layer.pincount: ("zero", "pinned", "bias", "none"),
        Layer.flags: tuple(_flag_masks(abi)),
        Layer.mapping: ("null", "tail", "list", "set", "counts"),
        Layer.poison: ("hwpoison", "well"),
    }
    return (*keys[layer], MISSING)


def _flag_masks(abi: Abi) -> dict[str, int]:
    masks = {name: abi.flag(name) for name in SHOWN_FLAGS if name in abi.page_flags}
    return masks | {"other": sum(1 << bit for name, bit in abi.page_flags.items() if name not in masks)}


_CODE = {role: np.uint64(code) for code, role in enumerate(Role)}
_UNINITIALISED, _BASE, _ZONE_DEVICE = _CODE[Role.UNINITIALISED], _CODE[Role.BASE], _CODE[Role.ZONE_DEVICE]
_HEAD, _FIRST_TAIL, _SECOND_TAIL, _TAIL = (
    _CODE[role] for role in (Role.HEAD, Role.FIRST_TAIL, Role.SECOND_TAIL, Role.TAIL)
)
_IN_ALTMAP = np.uint64(len(Role))
_AHEAD = np.int64(96 * STRUCT_PAGE_BYTES)
"""How far ahead lines are asked for: as many as are under way while one comes from memory, with room to spare."""
_ROLES, _REFCOUNT, _PINCOUNT, _FLAGS, _MAPPING, _POISON = (np.int64(layer) for layer in Layer)
_0, _1, _2, _3, _4 = (np.uint64(number) for number in range(5))
_LIST = np.uint64(8)  # of lru in struct page
_LINE = np.uint64(STRUCT_PAGE_BYTES)
_ADDRESS = ~np.uint64(STRUCT_PAGE_BYTES - 1)
_BIAS = np.uint64(GUP_PIN_COUNTING_BIAS)
_MINUS = np.uint64(1 << 31)
_TAIL_MAPPING, _POISON_1, _POISON_2 = np.uint64(TAIL_MAPPING), np.uint64(LIST_POISON1), np.uint64(LIST_POISON2)


@inline
def _role(pages, i, own, rules):
    """Code of what the struct page of row ``i``, at address ``own``, is used as.

    As :meth:`workbench.abi.Abi.role`, but for free pages of the buddy allocator: a device has none.
    """
    link = pages[i, LRU_NEXT]
    if link & _1:
        head = link & _ADDRESS
        if head == own - _LINE:
            return _FIRST_TAIL
        if head == own - _LINE - _LINE:
            return _SECOND_TAIL
        return _TAIL
    flags = pages[i, FLAGS]
    if flags & rules.head:
        return _HEAD
    if flags & rules.zone == rules.zone_device and link != own + _LIST:
        return _ZONE_DEVICE
    if flags | link == _0:
        rest = _0
        for word in range(2, 8):
            rest |= pages[i, word]
        if rest == _0:
            return _UNINITIALISED
    return _BASE


@inline
def _refcount(pages, i):
    return pages[i, COUNTS] >> REFCOUNT_SHIFT


@inline
def _refcount_lane(pages, i):
    refcount = _refcount(pages, i)
    if refcount >= _MINUS:
        return _4
    if refcount >= _BIAS:
        return _3
    return min(refcount, _2)


@inline
def _pincount_lane(pages, i, own, rules):
    role = _role(pages, i, own, rules)
    if role == rules.pinned_role:
        return _1 if pages[i, rules.pinned_word] & rules.pinned else _0
    if role in (_BASE, _ZONE_DEVICE) and _BIAS <= _refcount(pages, i) < _MINUS:
        return _2
    return _3


@inline
def _mapping_lane(pages, i, own, rules):
    mapping = pages[i, MAPPING]
    if mapping == _0:
        return _0
    if mapping == _TAIL_MAPPING:
        return _1
    if mapping in (_POISON_1, _POISON_2):
        return _2
    role = _role(pages, i, own, rules)
    if role == _FIRST_TAIL and not rules.first_tail_mapping:
        return _4
    if role == _SECOND_TAIL and not rules.second_tail_mapping:
        return _4
    return _3


@inline
def _flags_shown(pages, i, own, rules):
    flags = pages[i, FLAGS]
    if rules.order and flags & rules.order and _role(pages, i, own, rules) == _FIRST_TAIL:
        flags &= ~rules.order
    return flags & rules.shown


@inline
def _key(pages, i, own, layer, rules):
    """The lane of a struct page; of ``flags`` its flags."""
    if layer == _ROLES:
        role = _role(pages, i, own, rules)
        return _IN_ALTMAP if role == _BASE and own < rules.altmap_end else role
    if layer == _REFCOUNT:
        return _refcount_lane(pages, i)
    if layer == _PINCOUNT:
        return _pincount_lane(pages, i, own, rules)
    if layer == _FLAGS:
        return _flags_shown(pages, i, own, rules)
    if layer == _MAPPING:
        return _mapping_lane(pages, i, own, rules)
    return _0 if pages[i, FLAGS] & rules.hwpoison else _1


@inline
def _add(out, at, key, nr_pages, layer, rules):
    """Add ``nr_pages`` pages of one key to row ``at`` of ``out``."""
    if layer == _FLAGS:
        for lane in range(len(rules.flag_masks)):
            if key & rules.flag_masks[lane]:
                out[at, lane] += nr_pages
    else:
        out[at, np.int64(key)] += nr_pages


@borrowing
def count_rows(pages, first, nr_pages, pfn, layer, rules, out, at):
    """Count rows ``first`` on, the first one of ``pfn``, by lane of ``layer`` into row ``at`` of ``out``."""
    own = rules.vmemmap_base + np.uint64(pfn) * _LINE
    last, nr_alike = _0, 0
    for i in range(first, first + nr_pages):
        prefetch(np.int64(pages.ctypes.data + i * STRUCT_PAGE_BYTES) + _AHEAD)
        key = _key(pages, i, own, layer, rules)
        own += _LINE
        if key == last:
            nr_alike += 1
        else:
            _add(out, at, last, nr_alike, layer, rules)
            last, nr_alike = key, 1
    _add(out, at, last, nr_alike, layer, rules)


@jit
def roles_of_rows(pages, pfn, rules, out):
    """The role of each row of ``pages``, the first one of ``pfn``: its place among :class:`Role`, into ``out``."""
    own = rules.vmemmap_base + np.uint64(pfn) * _LINE
    for i in range(len(pages)):
        out[i] = _role(pages, i, own, rules)
        own += _LINE


class Sources(NamedTuple):
    """Where the struct pages of each section are read.

    Attributes
    ----------
    pages : uint64[nr_pages, 8]
        The array.
    exist : uint64[nr_sections]
        One bit a subsection: its struct pages exist.
    start_pfn : int64
        Of row 0.
    place : int64[nr_sections]
        0: no struct page exists; 1 to n: in the stand-in of that number; above: in the array.
    stand_ins : uint64[n * 32768, 8]
        Sections that stand for others without memory.
    stand_in_pfn : int64[n]
        Their first pfns.
    """

    pages: np.ndarray
    exist: np.ndarray
    start_pfn: int
    place: np.ndarray
    stand_ins: np.ndarray
    stand_in_pfn: np.ndarray


class Counts(NamedTuple):
    """What was counted of one layer, by place (see :class:`Sources`).

    Attributes
    ----------
    by_subsection : uint16[places, 64, lanes]
    by_section : int32[places, lanes]
    """

    by_subsection: np.ndarray
    by_section: np.ndarray


@borrowing
def _count_part(sources, section, page, nr_pages, layer, rules, out, at):
    """Count ``nr_pages`` pages from ``page`` of a section on, all in one subsection, into row ``at`` of ``out``."""
    exist = sources.exist[section] >> np.uint64(page // PAGES_PER_SUBSECTION) & _1
    place = sources.place[section]
    if place == 0 or not exist:
        out[at, out.shape[1] - 1] += nr_pages
    elif place <= len(sources.stand_in_pfn):
        first = (place - 1) * PAGES_PER_SECTION + page
        count_rows(sources.stand_ins, first, nr_pages, sources.stand_in_pfn[place - 1] + page, layer, rules, out, at)
    else:
        first = section * PAGES_PER_SECTION + page
        count_rows(sources.pages, first, nr_pages, sources.start_pfn + first, layer, rules, out, at)


@jit
def count_subsections(sources, subsections, layer, rules, counts, room):
    """Count subsections anew.

    Parameters
    ----------
    sources : Sources
    subsections : int64[n]
        Their numbers in the array.
    layer : int64
    rules : Rules
    counts : Counts
        Of this layer; its rows of ``subsections`` and the sums of their sections are brought up to date.
    room : int64[1, lanes]
        To count in.
    """
    lanes = room.shape[1]
    for subsection in subsections:
        section, inside = subsection // SUBSECTIONS_PER_SECTION, subsection % SUBSECTIONS_PER_SECTION
        place = sources.place[section]
        for lane in range(lanes):
            room[0, lane] = 0
        _count_part(
            sources, section, inside * PAGES_PER_SUBSECTION, PAGES_PER_SUBSECTION, layer, rules, room, np.int64(0)
        )
        for lane in range(lanes):
            before = np.int64(counts.by_subsection[place, inside, lane])
            counts.by_section[place, lane] += room[0, lane] - before
            counts.by_subsection[place, inside, lane] = room[0, lane]


@jit
def count_bins(sources, edges, layer, rules, counts, out):
    """Add the struct pages between neighbouring ``edges`` (int64[n + 1], pfns) to ``out`` (int64[n, lanes]).

    What is counted already is added up; only pages of a subsection that an edge cuts are looked at.
    """
    for at in range(len(edges) - 1):
        page, end = edges[at] - sources.start_pfn, edges[at + 1] - sources.start_pfn
        while page < end:
            section, inside = page // PAGES_PER_SECTION, page % PAGES_PER_SECTION
            place = sources.place[section]
            if inside == 0 and end - page >= PAGES_PER_SECTION:
                for lane in range(out.shape[1]):
                    out[at, lane] += counts.by_section[place, lane]
                page += PAGES_PER_SECTION
            elif inside % PAGES_PER_SUBSECTION == 0 and end - page >= PAGES_PER_SUBSECTION:
                for lane in range(out.shape[1]):
                    out[at, lane] += counts.by_subsection[place, inside // PAGES_PER_SUBSECTION, lane]
                page += PAGES_PER_SUBSECTION
            else:
                nr_pages = min(end - page, PAGES_PER_SUBSECTION - inside % PAGES_PER_SUBSECTION)
                _count_part(sources, section, inside, nr_pages, layer, rules, out, at)
                page += nr_pages
