# SPDX-License-Identifier: GPL-2.0-only
"""What user space does to devices, recorded of no machine: each action's result and what it leaves in struct pages.

The rules are those of data/captures/FORMAT.md, section 6, and of NOTES-5.15-5.17.md; the struct pages are the
naive model's.  The engine is not asked.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

from tests.lab.captures.recorder import GIB, KIB4, MIB, Run

BASE_PAGES = {"5.10", "5.15"}
BLOCKING = {"5.10", "5.15", "5.17"}
"""Unbind waits for held pages."""
SOFT_DIRTY = {"5.10", "6.1", "6.12"}
"""Distribution kernels track it; the small builds do not."""
PINCOUNT = {"5.17": (2, 2, 0), "6.1": (1, 3, 0), "6.1nodedup": (1, 3, 0), "6.12": (1, 3, 32)}
"""Which tail, which word, from which bit on."""
LSB = {KIB4: 12, 2 * MIB: 21, GIB: 30}


@dataclass
class Mapped:
    """A mapping of the only process that maps; ``present`` are its align units, with their entries' low bits."""

    device: str
    addr: int
    length: int
    offset: int
    present: dict[int, int] = field(default_factory=dict)


class Session(Run):
    """A run in which processes map devices, touch, pin and poison them."""

    def __init__(self, family: str, name: str = "k-session") -> None:
        super().__init__(family, name)
        self.family = family
        self.maps: dict[str, Mapped] = {}
        self.contents: dict[int, int] = {}
        self.held: dict[str, tuple[list[int], bool]] = {}
        self.mapping_of: dict[str, int] = {}
        self.corrupted = 0
        self.waiting: str | None = None
        self.data: dict[str, list[tuple[int, int]]] = {}
        self.spans: list[tuple[int, int]] = []
        self._watched: list[int] = []
        self._top = 0x7F00_0000_0000

    # where things are

    def watch(self, spans: list[tuple[int, int]]) -> None:
        """The pages that states will show; of base pages no others are followed."""
        self.spans = spans
        self._watched = sorted({pfn for start, nr_pages in spans for pfn in range(start, start + nr_pages)})

    def watched(self, start: int, nr_pages: int) -> list[int]:
        return self._watched[bisect_left(self._watched, start) : bisect_left(self._watched, start + nr_pages)]

    def create_namespace(self, size: int, align: int, map: str) -> tuple[int, int]:
        data, end = super().create_namespace(size, align, map)
        self.data["dax0.0"] = [(data, end - data)]
        return data, end

    def align(self, device: str) -> int:
        return self.devices[device][1]

    def ranges(self, device: str) -> list[tuple[int, int]]:
        """What can be mapped: of a namespace, its data."""
        return self.data.get(device) or self.devices[device][0]

    def head(self, device: str, pfn: int) -> int:
        order = self.machine.shift(self.align(device))
        start = next(start for start, nr_pages in self.ranges(device) if start <= pfn < start + nr_pages)
        return start + (pfn - start >> order << order)

    def pfn_at(self, device: str, file_page: int) -> int:
        for start, nr_pages in self.ranges(device):
            if file_page < nr_pages:
                return start + file_page
            file_page -= nr_pages
        raise AssertionError("beyond the device")

    def frame(self, m: Mapped, addr: int) -> int:
        """The pfn that is mapped at ``addr``: the file offset rounded down to the unit."""
        align, offset = self.align(m.device), m.offset + addr - m.addr
        return self.pfn_at(m.device, offset // align * align + addr % align >> 12)

    def word(self, pfn: int, word: int) -> int:
        return self.machine.words(pfn)[word]

    def add(self, pfn: int, word: int, more: int) -> None:
        self.machine.write(pfn, word, self.word(pfn, word) + more & 2**64 - 1)

    def set_flag(self, pfn: int, flag: str) -> None:
        self.machine.write(pfn, 0, self.word(pfn, 0) | 1 << self.capture["page_flags"][flag])

    def where(self, name: str, inside: int) -> dict[str, Any]:
        m = self.maps[name]
        return {"addr": hex(m.addr + inside), "mapping": name, "offset_in_mapping": inside}

    # mapping and touching

    def open(self, device: str, handle: str) -> None:
        self.do("open", {"ok": True}, process="p0", device=device, mode="rw", handle=handle)

    def mmap(self, device: str, handle: str, name: str, length: int, offset: int = 0, fixed: bool = False) -> None:
        """At the next lower free address, a multiple of 1 GiB; ``fixed`` by a rule, else by the kernel's choice."""
        self._top -= -(-length // GIB) * GIB
        self.maps[name] = Mapped(device, self._top, length, offset)
        rule = {"addr_rule": {"aligned_to": self.align(device), "plus": 0}} if fixed else {}
        flags = ["SHARED", "FIXED_NOREPLACE"] if fixed else ["SHARED"]
        result = {"ok": True, "addr": hex(self._top), "mapping": name, "addr_mod_align": 0}
        where = {"process": "p0", "device": device, "handle": handle, "length": length, "offset": offset, **rule}
        self.do("mmap", result, **where, prot="rw", flags=flags)

    def munmap(self, name: str) -> None:
        m = self.maps.pop(name)
        self.do("munmap", {"ok": True}, process="p0", addr=hex(m.addr), length=m.length, mapping=name)

    def close(self, handle: str) -> None:
        self.do("close", {"ok": True}, process="p0", handle=handle)

    def fault(self, m: Mapped, addr: int, write: bool) -> bool:
        """An access; True where an entry was there already."""
        align = self.align(m.device)
        pages, unit = align >> 12, addr // align
        if unit in m.present:
            m.present[unit] |= 0x40 if write else 0
            return True
        soft_dirty = 0x800 if align > KIB4 and self.family in SOFT_DIRTY else 0
        m.present[unit] = (0x27 if align > KIB4 else 0x227) | (0x80 if align > KIB4 else 0)
        m.present[unit] |= (0x40 | soft_dirty) if write else 0
        index = m.offset + unit * align - m.addr >> 12
        first = self.frame(m, unit * align)
        if self.machine.shift(align):
            if self.family == "5.17" and addr // KIB4 % pages:
                index += pages  # rounded up: the mistake of patch 5
            self._first_fault(m.device, self.head(m.device, first), index)
        else:  # every page, from the one the file offset stands for on
            begin = first + index % pages
            for pfn in self.watched(begin, pages):
                self._first_fault(m.device, pfn, index + pfn - begin)
        return False

    def _first_fault(self, device: str, pfn: int, index: int) -> None:
        if self.word(pfn, 3) == 0:
            number = len(self.mapping_of)
            self.machine.write(pfn, 3, self.mapping_of.setdefault(device, 0xFFFF_8881_2345_6780 + 0x400 * number))
            self.machine.write(pfn, 4, index)

    def touch(self, name: str, inside: int, write: bool = False, count: int = 1, stride: int = 1) -> None:
        m, value = self.maps[name], 0
        for at in range(count):
            addr = m.addr + inside + at * stride
            self.fault(m, addr, write)
            byte = (self.frame(m, addr) << 12) + addr % KIB4
            if write:
                self.contents[byte] = at + 1
            value = self.contents.get(byte, 0)
        several = {"count": count, "stride": stride} if count > 1 else {}
        self.do("touch", {"ok": True, "value": value}, process="p0", **self.where(name, inside), write=write, **several)

    # pins and references

    def _lookup(self, name: str, inside: int, nr_pages: int) -> tuple[list[int], bool]:
        """The page each reference goes to, and whether all entries were there."""
        m = self.maps[name]
        pages, fast = [], True
        for addr in range(m.addr + inside, m.addr + inside + nr_pages * KIB4, KIB4):
            fast &= self.fault(m, addr, True)
            pages.append(self.head(m.device, self.frame(m, addr)))
        return pages, fast

    def _count(self, pages: list[int], pinned: bool, sign: int) -> None:
        for pfn in pages:
            compound = (self.word(pfn, 0) >> self.capture["page_flags"]["head"]) & 1
            self.add(pfn, 6, sign * (1024 if pinned and not compound else 1) << 32)
            if pinned and compound:
                tail, word, bit = PINCOUNT[self.family]
                self.add(pfn + tail, word, sign << bit)

    def _accessed(self, pages: list[int]) -> None:
        """A lookup that touches marks pages behind 4 KiB entries."""
        flags = self.capture["page_flags"]
        referenced = 1 << flags["referenced"]
        for pfn in pages:
            word = self.word(pfn, 0)
            if not word & referenced:
                word |= referenced
            elif self.family != "6.12":
                word &= ~referenced
            elif not word & 1 << flags["workingset"]:
                word |= 1 << flags["workingset"]
            else:
                word += 1 << 25 if word >> 25 & 3 < 3 else 0
            self.machine.write(pfn, 0, word)

    def pin(self, name: str, inside: int, nr_pages: int, handle: str) -> None:
        """For long, by AF_XDP."""
        pages, _ = self._lookup(name, inside, nr_pages)
        self._count(pages, True, 1)
        self.held[handle] = pages, True
        self._asked("pin", {"ok": True}, name, inside, nr_pages, via="AF_XDP UMEM", handle=handle)

    def pin_io_uring(self, name: str, inside: int, nr_pages: int, handle: str) -> bool:
        """A fixed buffer, refused before 6.12; whether it was taken."""
        asked = {"via": "io_uring fixed buffer", "handle": handle}
        if self.family != "6.12":
            self._asked("pin", {"errno": "EOPNOTSUPP"}, name, inside, nr_pages, via=asked["via"])
            return False
        pages, _ = self._lookup(name, inside, nr_pages)
        small = self.align(self.maps[name].device) == KIB4
        if small:
            self._accessed(pages)
        kept = list(dict.fromkeys(pages))
        self._count(kept, True, 1)
        self.held[handle] = kept, True
        self._asked("pin", {"ok": True} | ({} if small else {"kept_per_compound": 1}), name, inside, nr_pages, **asked)
        return True

    def get(self, name: str, inside: int, nr_pages: int, handle: str, *flags: str) -> None:
        """Into a pipe; the fast path, where the entries are there, sets PG_referenced."""
        pages, fast = self._lookup(name, inside, nr_pages)
        self._count(pages, False, 1)
        for pfn in pages if fast else []:
            self.set_flag(pfn, "referenced")
        self.held[handle] = pages, False
        result = {"ok": True, "nr_pages": nr_pages}
        self._asked("get", result, name, inside, nr_pages, list(flags), via="vmsplice", handle=handle)

    def _asked(
        self, op: str, result: dict[str, Any], name: str, inside: int, nr_pages: int, flags: Any = (), **more: Any
    ) -> None:
        where = self.where(name, inside) | {"length": nr_pages * KIB4, "nr_pages": nr_pages}
        self.do(op, result, process="p0", flags=list(flags or ["WRITE", "LONGTERM"]), **where, **more)

    def unpin(self, handle: str, dirty: bool = True) -> None:
        pages, _ = self.held.pop(handle)
        self._count(pages, True, -1)
        for pfn in pages if dirty and self.family != "5.10" else []:
            self.set_flag(pfn, "dirty")
        self.do("unpin", {"ok": True}, process="p0", handle=handle, dirty=dirty)

    def put(self, handle: str) -> None:
        pages, _ = self.held.pop(handle)
        self.do("close_pipe_end", {"ok": True}, process="p0", handle=handle)
        dies = self.waiting is None and not self.machine.exists(pages[0])
        if not dies:
            self._count(pages, False, -1)
        if self.waiting is not None:
            self.machine.unbind(self.devices[self.waiting][0])
            self.forget(self.waiting)
            self.waiting = None
        self.do("put", {"killed": True} if dies else {"ok": True}, process="p0", handle=handle)

    def readv(self, name: str, inside: int, nr_pages: int) -> None:
        pages, _ = self._lookup(name, inside, nr_pages)
        if self.align(self.maps[name].device) == KIB4:
            self._accessed(pages)
        length, where = nr_pages * KIB4, self.where(name, inside)
        self.do("process_vm_readv", {"ok": True, "value": length}, process="p0", target="p0", length=length, **where)

    # memory failure

    def _fail(self, device: str, pfn: int) -> tuple[str, str, int] | None:
        """The page is poisoned and unmapped: (mapping, device, address) of who mapped it, else None."""
        head = self.head(device, pfn)
        self.set_flag(head, "hwpoison")
        self.corrupted += 4
        index, align = self.word(head, 4) << 12, self.align(device)
        hit = None
        for name, m in self.maps.items():
            addr = m.addr + index - m.offset
            if m.device == device and m.addr <= addr < m.addr + m.length and addr // align in m.present:
                del m.present[addr // align]
                hit = (name, device, addr)
        return hit

    def madvise_hwpoison(self, name: str, inside: int) -> None:
        m = self.maps[name]
        addr = m.addr + inside
        there = self.fault(m, addr, False)
        pfn = self.frame(m, addr)
        if there:
            self.set_flag(self.head(m.device, pfn), "referenced")
        hit = self._fail(m.device, pfn)
        result: dict[str, Any] = {"ok": True}
        if hit:
            of, device, at = hit
            align, hit_inside = self.align(device), at - self.maps[of].addr
            result = {"signal": "SIGBUS", "code": "BUS_MCEERR_AR", "addr": hex(at), "lsb": LSB[align], "mapping": of}
            result |= {"offset_in_mapping": hit_inside, "offset_in_align_unit": at % align}
        self.do("madvise", result, process="p0", **self.where(name, inside), length=KIB4, advice="HWPOISON")
        told = [f"Memory failure: {pfn:#x}: Sending SIGBUS to the process due to hardware memory corruption"]
        self.lines(
            f"Injecting memory failure for pfn {pfn:#x} at process virtual address {addr:#x}",
            *(told if hit else []),
            f"Memory failure: {pfn:#x}: recovery action for dax page: Recovered",
        )

    def fail_by_another(self, op: str, device: str, pfn: int) -> None:
        """hard_offline_page or corrupt_pfn by a process that maps nothing."""
        inside = any(start <= pfn < start + nr_pages for start, nr_pages in self.devices[device][0])
        where = {"pfn": hex(pfn)} | ({"phys_addr": hex(pfn << 12)} if op == "hard_offline_page" else {})
        if not inside:
            self.do(op, {"errno": "ENXIO"}, process="other", **where)
            return
        faulted = self.word(self.head(device, pfn), 3) != 0
        if faulted:
            self._fail(device, pfn)
        else:
            self.corrupted += 4
        self.do(op, {"ok": True} if faulted else {"errno": "EBUSY"}, process="other", **where)
        self.lines(
            *([f"Injecting memory failure at pfn {pfn:#x}"] if op == "corrupt_pfn" else []),
            f"Memory failure: {pfn:#x}: recovery action for dax page: {'Recovered' if faulted else 'Failed'}",
        )

    def unpoison(self, device: str, pfn: int) -> None:
        """Refused, or said to be done, by release; nothing changes."""
        compound_tail = self.head(device, pfn) != pfn
        result = {"5.15": {"ok": True}, "5.17": {"errno": "EBUSY"}}.get(self.family, {"errno": "EIO"})
        self.do("unpoison_pfn", result, process="other", pfn=hex(pfn))
        if self.family in ("5.15", "5.17"):
            already = "Unpoison: Page was already unpoisoned {:#x}"
            line = already if compound_tail else "Unpoison: the hwpoison page has non-NULL mapping {:#x}"
            self.lines(line.format(pfn))

    def lines(self, *lines: str) -> None:
        self.do("observe", what="kernel_log", lines=list(lines))

    # looking

    def walk(self, name: str, inside: int) -> None:
        m = self.maps[name]
        addr, align = m.addr + inside, self.align(m.device)
        leaf = m.present[addr // align] | 1 << 63 | 1 << (57 if self.family == "6.12" else 58)
        leaf |= self.frame(m, addr // align * align) << 12
        levels = ["PGD", "PUD", "PMD", "PTE"][: {GIB: 2, 2 * MIB: 3, KIB4: 4}[align]]
        entries = [{"level": level, "entry": hex(0x102432067 + 4096 * at)} for at, level in enumerate(levels)]
        entries[-1]["entry"] = hex(leaf)
        self.do("observe", what="page_table_walk", process="p0", addr=hex(addr), levels=entries)

    def pagemap(self, name: str, inside: int, count: int) -> None:
        """Reading takes a 1 GiB entry for a bad one and clears it."""
        m, entries = self.maps[name], []
        align = self.align(m.device)
        for addr in range(m.addr + inside, m.addr + inside + count * KIB4, KIB4):
            if align == GIB:
                m.present.pop(addr // align, None)
            here = addr // align in m.present
            entries.append({"addr": hex(addr), "present": int(here), "pfn": hex(self.frame(m, addr) if here else 0)})
        self.do("read_pagemap", {"entries": entries}, process="p0", addr=hex(m.addr + inside), count=count)

    def smaps(self, name: str) -> None:
        m = self.maps[name]
        align = self.align(m.device)
        if align == GIB:
            m.present.clear()
        each = 0 if self.family == "6.12" or align != 2 * MIB else 4 if self.family in BASE_PAGES else 2048
        result = {"kernel_page_kB": align >> 10, "mmu_page_kB": align >> 10, "rss_kB": each * len(m.present)}
        self.do("read_smaps", result, process="p0")

    def hardware_corrupted(self) -> None:
        counts = self.family not in BLOCKING
        self.do("observe", what="HardwareCorrupted_kB", value=self.corrupted if counts else 0)

    # the end of a binding

    def unbind(self, name: str, background: bool = False) -> None:
        poisoned = {pfn for (pfn, word), value in self.machine.written.items() if word == 0 and self._poisoned(value)}
        for m in self.maps.values():
            if m.device == name:
                m.present.clear()
        self.mapping_of.pop(name, None)
        if self.family != "6.12":  # which does not count them down
            self.corrupted -= 4 * len(poisoned)
        if background and self.held and self.family in BLOCKING:
            for start, nr_pages in self.devices[name][0]:
                for pfn in self.watched(start, nr_pages):
                    if self.head(name, pfn) == pfn:
                        self.add(pfn, 6, -1 << 32)
            self.waiting = name
        else:
            self.machine.unbind(self.devices[name][0])
            self.forget(name)
        more = {"background": True} if background else {}
        self.do("unbind", {"started": True} if background else {"ok": True}, device=name, **more)

    def forget(self, name: str) -> None:
        """The struct pages of a device are gone, and with them what was written there."""
        ranges = [range(start, start + nr_pages) for start, nr_pages in self.devices[name][0]]
        written = self.machine.written.items()
        self.machine.written = {at: value for at, value in written if not any(at[0] in each for each in ranges)}

    def _poisoned(self, word: int) -> bool:
        return bool(word >> self.capture["page_flags"]["hwpoison"] & 1)
