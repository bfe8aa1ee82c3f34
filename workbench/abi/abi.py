# SPDX-License-Identifier: GPL-2.0-only
"""One release and configuration: name, place and meaning of every bit of ``struct page``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from workbench.abi import constants
from workbench.abi.config import BITS_PER_LONG, DISTRIBUTION, BitField, Config, flags_layout
from workbench.abi.layout import (
    FIELDS,
    HEAD_IN_LRU_VIEW,
    ORDER_IN_FLAGS,
    RELEASES,
    STRUCT_PAGE_BYTES,
    WORDS,
    Field,
    Role,
)
from workbench.abi.pageflags import ALIASES, page_flags
from workbench.errors import WorkbenchError
from workbench.text import word as word_text


@dataclass(frozen=True)
class Abi:
    """The layout of ``struct page`` (64 bytes, x86-64, SPARSEMEM_VMEMMAP).

    Parameters
    ----------
    release : str
        One of ``5.10 5.15 5.16 5.17 6.1 6.12``.
    config : Config
        Kernel options; the default is the distribution kernels'.

    Raises
    ------
    WorkbenchError
        Unknown release, or a configuration whose fields do not fit the flags word.
    """

    release: str
    config: Config = DISTRIBUTION

    def __post_init__(self) -> None:
        if self.release not in RELEASES:
            raise WorkbenchError(f"no struct page layout for release {self.release!r}. Known: {', '.join(RELEASES)}.")
        lowest = self.flags_fields[-1].shift
        if lowest < len(self.page_flags):
            raise WorkbenchError(
                f"{BITS_PER_LONG - lowest} bits of node, zone and last_cpupid and {len(self.page_flags)} page flags do "
                f"not fit in {BITS_PER_LONG} bits of flags. Lower nr_cpus or nodes_shift, or switch numa_balancing off "
                "(the kernel would move last_cpupid out of flags and struct page would not be 64 bytes)."
            )

    @cached_property
    def flags_fields(self) -> tuple[BitField, ...]:
        """NODE, ZONE, LAST_CPUPID, LRU_GEN, LRU_REFS: highest first, width 0 where absent."""
        return flags_layout(self.config, self.release)

    @cached_property
    def page_flags(self) -> dict[str, int]:
        """Flag name to bit number, in bit order."""
        return page_flags(self.release, self.config)

    @property
    def vmemmap_base(self) -> int:
        """Address of the struct page of pfn 0."""
        return self.config.vmemmap_base

    @property
    def zone_device(self) -> int:
        """The number of ZONE_DEVICE."""
        return self.zone("DEVICE")

    def zone(self, name: str) -> int:
        """The number of a zone.

        Raises
        ------
        WorkbenchError
            The configuration has no such zone.
        """
        if name not in self.config.zones:
            raise WorkbenchError(f"this configuration has no zone {name!r}. It has {', '.join(self.config.zones)}.")
        return self.config.zones.index(name)

    def bits(self, name: str) -> BitField:
        """The bit field ``name`` (``NODE``, ``ZONE``, ``LAST_CPUPID``, ``LRU_GEN``, ``LRU_REFS``) of word 0.

        Raises
        ------
        WorkbenchError
            No such field; one that the configuration leaves out is there with width 0.
        """
        fields = {field.name: field for field in self.flags_fields}
        if name not in fields:
            raise WorkbenchError(f"the flags word has no field {name!r}. It has {', '.join(fields)}.")
        return fields[name]

    def bit(self, flag: str) -> int:
        """The bit number of a page flag or one of its second names.

        Raises
        ------
        WorkbenchError
            This release or configuration has no such flag.
        """
        name = ALIASES[self.release].get(flag, flag)
        if name not in self.page_flags:
            raise WorkbenchError(f"{self.release} with this configuration has no page flag {flag!r}.")
        return self.page_flags[name]

    def flag(self, name: str) -> int:
        """A page flag as a mask of word 0."""
        return 1 << self.bit(name)

    def flag_names(self, flags: int) -> tuple[str, ...]:
        """Names of the page flags set in a flags word, in bit order."""
        return tuple(name for name, bit in self.page_flags.items() if flags >> bit & 1)

    def flags_word(self, names: Iterable[str] = (), **fields: int) -> int:
        """A flags word of the named page flags and bit fields (``node=0, zone=4, last_cpupid=...``).

        Raises
        ------
        WorkbenchError
            Unknown flag or field, or a value that does not fit its width.
        """
        value = 0
        for name in names:
            value |= self.flag(name)
        for name, number in fields.items():
            field = self.bits(name.upper())
            if not 0 <= number < 1 << field.width:
                raise WorkbenchError(f"{name}={number} does not fit {field.width} bits of the flags word.")
            value |= number << field.shift
        return value

    def struct_page(self, pfn: int) -> int:
        """Virtual address of the struct page of ``pfn``."""
        return self.vmemmap_base + STRUCT_PAGE_BYTES * pfn

    def pfn_of(self, address: int) -> int:
        """The pfn whose struct page lies at ``address`` (a multiple of 64 above vmemmap_base)."""
        return (address - self.vmemmap_base) // STRUCT_PAGE_BYTES

    def role(self, words: Sequence[int], pfn: int) -> Role:
        """What the struct page of ``pfn`` is, read from its eight words.

        The number of a tail comes from its own address, so ``pfn`` is needed.  A tail of 6.12 keeps
        the order in its low flag bits: tail-ness is tested before any flag.
        """
        words = [int(w) for w in words]
        if not any(words):
            return Role.UNINITIALISED
        if words[1] & 1:
            tail = pfn - self.pfn_of(words[1] - 1)
            return {1: Role.FIRST_TAIL, 2: Role.SECOND_TAIL}.get(tail, Role.TAIL)
        if words[0] & self.flag("head"):
            return Role.HEAD
        if self._is_buddy(words):
            return Role.BUDDY
        zone = self.bits("ZONE")
        in_device = "DEVICE" in self.config.zones and (words[0] & zone.mask) >> zone.shift == self.zone_device
        # The pages that hold an altmap's memmap are in ZONE_DEVICE but have no pgmap: their list head is empty.
        return Role.ZONE_DEVICE if in_device and words[1] != self.struct_page(pfn) + 8 else Role.BASE

    def _is_buddy(self, words: Sequence[int]) -> bool:
        page_type = words[6] & 0xFFFF_FFFF
        if self.release == "6.12":
            return page_type >> 24 == constants.PGTY_BUDDY
        return page_type & (constants.PAGE_TYPE_BASE | constants.PG_BUDDY) == constants.PAGE_TYPE_BASE

    def fields(self, role: Role, flags: int | None = None) -> tuple[Field, ...]:
        """The members of ``role``, which partition the 64 bytes.

        Parameters
        ----------
        role : Role
        flags : int, optional
            The page's flags word: a head outside ZONE_DEVICE has lru where a devmap head has pgmap.
        """
        fields = FIELDS[self.release][role]
        if role is Role.HEAD and flags is not None:
            zone = self.bits("ZONE")
            if "DEVICE" not in self.config.zones or (flags & zone.mask) >> zone.shift != self.zone_device:
                fields = fields[:1] + HEAD_IN_LRU_VIEW + fields[3:]
        if not self.config.memcg:
            fields = (*fields[:-1], Field("_pad_56", 56, 8))
        return fields

    def decode(self, words: Sequence[int], pfn: int) -> dict[str, int]:
        """The members of a struct page by name, in offset order; see :meth:`encode` for the way back."""
        return {f.name: f.get(words) for f in self.fields(self.role(words, pfn), int(words[0]))}

    def encode(self, role: Role, fields: dict[str, int]) -> list[int]:
        """Eight words from the members of ``role``: the inverse of :meth:`decode`.

        Raises
        ------
        WorkbenchError
            A name that is no member of ``role``.
        """
        words = [0] * WORDS
        known = {f.name: f for f in self.fields(role, fields.get("flags"))}
        for name, value in fields.items():
            if name not in known:
                raise WorkbenchError(
                    f"{name!r} is no member of a {role} page of {self.release}. It has {', '.join(known)}."
                )
            known[name].put(words, value)
        return words

    def decode_flags(self, flags: int, role: Role | None = None) -> dict[str, int | tuple[str, ...]]:
        """The flags word taken apart: ``node``, ``zone``, ``last_cpupid``, ..., ``flags`` (names), ``unnamed`` bits.

        On 6.12 the low byte of a first tail's flags is the order of the compound page: with that
        ``role`` it is told as ``order``, and those bits are no flags.
        """
        out: dict[str, int | tuple[str, ...]] = {}
        named = 0
        for field in self.flags_fields:
            if field.width:
                out[field.name.lower()] = (flags & field.mask) >> field.shift
                named |= field.mask
        order_bits = 0
        if role is Role.FIRST_TAIL and self.release == "6.12":
            order_bits = ORDER_IN_FLAGS
            out["order"] = flags & order_bits
        out["flags"] = self.flag_names(flags & ~order_bits)
        named |= (1 << len(self.page_flags)) - 1
        out["unnamed"] = flags & ~named
        return out

    def explain_flags(self, flags: int, role: Role | None = None) -> str:
        """The flags word in one line, for people: flag names, order, node and zone.

        Examples
        --------
        >>> Abi("5.17").explain_flags(0x27FFFFC0011000)
        'reserved head, node 0, zone DEVICE'
        """
        parts = self.decode_flags(flags, role)
        names, zone = parts["flags"], parts.get("zone")
        assert isinstance(names, tuple)
        said = [
            " ".join(names) or "no flags",
            *(f"{name} {parts[name]}" for name in ("order", "node") if name in parts),
        ]
        if isinstance(zone, int):
            zones = self.config.zones
            said.append(f"zone {zones[zone] if zone < len(zones) else zone}")
        return ", ".join(said)

    def explain(self, words: Sequence[int], pfn: int) -> str:
        """A struct page as lines of text: role, then offset, member and value; for people."""
        role = self.role(words, pfn)
        lines = [f"pfn {pfn:#x}: {role}"]
        for field in self.fields(role, int(words[0])):
            value = field.get(words)
            if field.name == "flags":
                shown = f"{word_text(value)}  ({self.explain_flags(value, role)})"
            elif field.name.startswith("_mapping"):
                shown = f"{value:#x}  (what is left of TAIL_MAPPING)"
            else:
                shown = word_text(value) if field.pointer else str(value)
            lines.append(f"  +{field.offset:<2} {field.name:<22} {shown}")
        return "\n".join(lines)
