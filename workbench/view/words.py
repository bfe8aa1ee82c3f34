# SPDX-License-Identifier: GPL-2.0-only
"""The eight words of a struct page as text: a few letters for a cell, a line for an inspector, spans of bits.

What a word means depends on the release and on the role of the page; both come from ``workbench.abi``.
Bytes that no member claims in a role are shown only where they are not zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from workbench.abi import WORDS, Abi, Field, Role
from workbench.abi.constants import COMPOUND_PAGE_DTOR, LIST_POISON1, LIST_POISON2, TAIL_MAPPING
from workbench.text import pfn as pfn_text
from workbench.text import word as word_text

MINUS = "−"
ORDER_BITS = 8
"""Low bits of a first tail's flags that hold the order, on 6.12."""

_FILLER = ("pad", "_tail_", "_private_", "_mapping_high")
_SHORT = {
    "compound_dtor": "dtor",
    "compound_order": "order",
    "compound_nr": "nr",
    "_folio_nr_pages": "nr",
    "compound_pincount": "pins",
    "hpage_pinned_refcount": "pins",
    "_pincount": "pins",
    "_mapcount": "map",
    "_large_mapcount": "map",
    "_refcount": "ref",
    "private.order": "order",
    "zone_device_data": "zdd",
    "page_type": "type",
}
_LEFT_OUT = ("compound_mapcount", "_entire_mapcount", "_nr_pages_mapped")
"""Members a cell has no room for; the inspector shows them."""

_CONSTANTS = {TAIL_MAPPING: "TAIL_MAPPING", LIST_POISON1: "LIST_POISON1", LIST_POISON2: "LIST_POISON2"}
_DTORS = {0: "NULL", COMPOUND_PAGE_DTOR: "COMPOUND_PAGE_DTOR"}


class Span(NamedTuple):
    """Bits ``high`` to ``low`` of a word, both included: name of the member, and its value as text."""

    name: str
    high: int
    low: int
    text: str


def short(abi: Abi, words: Sequence[int], pfn: int) -> list[str]:
    """Each word of a struct page in some fourteen characters.

    Parameters
    ----------
    abi : Abi
    words : sequence of int
        Eight words.
    pfn : int
        Whose struct page it is.

    Returns
    -------
    list of str
        Eight texts; ``"0"`` for a word that is zero and has no small members.

    Examples
    --------
    >>> base = [0x27FFFFC0001000, 0xFFFF888100A01000, 0, 0, 0, 0, 0x1FFFFFFFF, 0]
    >>> short(Abi("5.17"), base, 0x100000)
    ['reserved', 'pgmap', '0', '0', '0', '0', 'map −1 ref 1', '0']
    """
    role = abi.role(words, pfn)
    if role is Role.UNINITIALISED:
        return ["0"] * WORDS
    by_word = _by_word(abi, role, words)
    return [_cell(abi, role, fields, words, pfn) for fields in by_word]


def long(abi: Abi, words: Sequence[int], pfn: int) -> list[str]:
    """Each word of a struct page taken apart into its members, one line a word.

    Parameters and errors are those of :func:`short`.

    Examples
    --------
    >>> tail = [0x27FFFFC0001000, 0xFFFFEA0004000001, 0xFFFFFFFF00000901, 0xDEAD000000000200, 0, 0, 0xFFFFFFFF, 0]
    >>> long(Abi("5.17"), tail, 0x100001)[2]
    'compound_dtor 1 (COMPOUND_PAGE_DTOR) · compound_order 9 · compound_mapcount −1'
    """
    role = abi.role(words, pfn)
    out = []
    for fields in _by_word(abi, role, words):
        parts = [f"{f.name} {_value(abi, role, f, words, pfn)}" for f in fields if _worth_saying(f, words)]
        out.append(" · ".join(parts) or "0")
    return out


def spans(abi: Abi, words: Sequence[int], pfn: int, word: int) -> list[Span]:
    """The bits of one word and what they belong to, highest first.

    Parameters
    ----------
    abi, words, pfn
        As :func:`short`.
    word : int
        0 to 7.

    Returns
    -------
    list of Span
        Word 0: the bit fields of flags, then the page flags as one span (:func:`set_flags` names them).  Word 1
        of a tail: the address, then bit 0.  Else one span a member.

    Examples
    --------
    >>> base = [0x27FFFFC0001000, 0xFFFF888100A01000, 0, 0, 0, 0, 0x1FFFFFFFF, 0]
    >>> [(s.name, s.high, s.low, s.text) for s in spans(Abi("5.17"), base, 0x100000, 6)]
    [('_refcount', 63, 32, '1'), ('_mapcount', 31, 0, '−1')]
    """
    role = abi.role(words, pfn)
    if word == 0:
        return _flags_spans(abi, role, int(words[0]))
    fields = _by_word(abi, role, words)[word]
    if role.is_tail and word == 1:
        return [Span("compound_head", 63, 1, f"= {_head(abi, words)}"), Span("tail", 0, 0, "1")]
    return [
        Span(
            "unused" if _is_filler(f) and not f.get(words) else f.name,
            f.shift + 8 * f.size - 1,
            f.shift,
            _value(abi, role, f, words, pfn),
        )
        for f in reversed(fields)
    ]


def set_flags(abi: Abi, role: Role, flags: int) -> list[tuple[int, str]]:
    """Bit number and name of every page flag set in a flags word, lowest first.

    The order that 6.12 keeps in the low byte of a first tail's flags is no flag.
    """
    low = ORDER_BITS if _order_in_flags(abi, role) else 0
    names = abi.flag_names(flags >> low << low)
    return [(abi.bit(name), name) for name in names]


def _by_word(abi: Abi, role: Role, words: Sequence[int]) -> list[list[Field]]:
    fields = abi.fields(role, int(words[0]))
    return [[f for f in fields if f.word == word] for word in range(WORDS)]


def _order_in_flags(abi: Abi, role: Role) -> bool:
    return role is Role.FIRST_TAIL and "compound_order" not in {f.name for f in abi.fields(role)}


def _is_filler(field: Field) -> bool:
    return any(part in field.name for part in _FILLER)


def _worth_saying(field: Field, words: Sequence[int]) -> bool:
    return not _is_filler(field) or bool(field.get(words))


def _cell(abi: Abi, role: Role, fields: list[Field], words: Sequence[int], pfn: int) -> str:
    first = fields[0]
    if first.name == "flags":
        names = [name for _, name in set_flags(abi, role, int(words[0]))]
        order = [f"order {int(words[0]) & 0xFF}"] if _order_in_flags(abi, role) else []
        return " ".join(names + order) or "0"
    if len(fields) == 1:
        return _whole_word(abi, first, words, pfn)
    shown = [f for f in fields if not _is_filler(f) and f.name not in _LEFT_OUT]
    return " ".join(f"{_SHORT.get(f.name, f.name)} {_number(f.get(words))}" for f in shown) or "0"


def _whole_word(abi: Abi, field: Field, words: Sequence[int], pfn: int) -> str:
    value = field.get(words)
    if not value:
        return "0"
    if value in _CONSTANTS:
        return _CONSTANTS[value]
    if field.name == "compound_head":
        return "head | 1"
    if value == abi.struct_page(pfn) + 8:
        return "itself"
    name = _SHORT.get(field.name, field.name)
    return name if field.pointer else f"{name} {value:#x}"


def _value(abi: Abi, role: Role, field: Field, words: Sequence[int], pfn: int) -> str:
    value = field.get(words)
    if field.name == "flags":
        return _flags(abi, role, value)
    if field.name == "compound_head":
        return f"{word_text(value)} = {_head(abi, words)}, bit 0 set"
    if field.name == "compound_dtor":
        return f"{value} ({_DTORS.get(value, 'unknown')})"
    if field.name == "_mapping_high":
        high = TAIL_MAPPING >> 32
        return f"{value:#x}" + (" (what is left of TAIL_MAPPING)" if value == high else "")
    if value in _CONSTANTS:
        return _CONSTANTS[value]
    if field.pointer and value == abi.struct_page(pfn) + 8:
        return "→ its own list head: empty"
    if field.pointer:
        return word_text(value) if value else "0"
    return _number(value)


def _head(abi: Abi, words: Sequence[int]) -> str:
    return f"address of the struct page of pfn {pfn_text(abi.pfn_of(int(words[1]) - 1))}"


def _number(value: int) -> str:
    return f"{MINUS}{-value}" if value < 0 else f"{value}" if value < 1 << 20 else f"{value:#x}"


def _flags(abi: Abi, role: Role, flags: int) -> str:
    parts = [name for _, name in set_flags(abi, role, flags)]
    if _order_in_flags(abi, role):
        parts.append(f"order {flags & 0xFF}")
    parts += [f"{span.name} {span.text}" for span in _bit_fields(abi, flags)]
    return " · ".join(parts)


def _bit_fields(abi: Abi, flags: int) -> list[Span]:
    out = []
    for field in abi.flags_fields:
        if field.width:
            value = (flags & field.mask) >> field.shift
            text = str(value)
            if field.name == "ZONE":
                text = f"{value} ({abi.config.zones[value]})" if value < len(abi.config.zones) else text
            if field.name == "LAST_CPUPID" and flags & field.mask == field.mask:
                text = "all ones"
            out.append(Span(field.name, field.shift + field.width - 1, field.shift, text))
    return out


def _flags_spans(abi: Abi, role: Role, flags: int) -> list[Span]:
    top = len(abi.page_flags) - 1
    if not _order_in_flags(abi, role):
        return [*_bit_fields(abi, flags), Span("page flags", top, 0, "")]
    order = Span("order", ORDER_BITS - 1, 0, str(flags & 0xFF))
    return [*_bit_fields(abi, flags), Span("page flags", top, ORDER_BITS, ""), order]
