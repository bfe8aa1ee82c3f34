# SPDX-License-Identifier: GPL-2.0-only
"""A naive model of one dynamic device-dax region: dictionaries and lists, one page at a time.

Written from the specification (``algorithms.md`` B, C, D; ``series.md``; ``page-layout.md``) and the recorded
runs' notes alone, to be compared with the engine; it shares no code with it.  It knows nothing of locks, of
memory limits or of ranges that the kernel mishandles: :meth:`NaiveRegion.whole_units` tells those apart.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

PAGE = 4096
MIB2 = 2 << 20
GIB = 1 << 30
VMEMMAP = 0xFFFF_EA00_0000_0000
TAIL_MAPPING = 0xDEAD_0000_0000_0400
NO_MAPCOUNT = 0xFFFF_FFFF
USER_END = (1 << 47) - PAGE


@dataclass(frozen=True)
class Rules:
    """What a tree does, in the words of ``series.md``.

    Attributes
    ----------
    compound : bool
        Patches 4 and 11: aligns above 4K have compound struct pages.
    rounds_up : bool
        Patch 5 without its fix: a fault's file page counts from the address rounded up.
    teardown_waits : bool
        5.17 and before: unbind waits for held pages.
    unpin_dirties : bool
        Not 5.10.
    bound_at_boot : bool
        Not 6.12.
    empty_bind : int
        The errno of binding an empty device.
    layout : str
        ``"5.17"`` (and before), ``"6.1"``, ``"6.12"``: where a struct page keeps its fields.
    """

    compound: bool
    rounds_up: bool
    teardown_waits: bool
    unpin_dirties: bool = True
    bound_at_boot: bool = True
    empty_bind: int = errno.ENXIO
    layout: str = "5.17"


RULES = {
    "5.10": Rules(False, False, True, unpin_dirties=False, empty_bind=errno.ENODEV),
    "5.15": Rules(False, False, True),
    "5.16+5": Rules(False, True, True),
    "5.17": Rules(True, True, True),
    "5.17-pgofffix": Rules(True, False, True),
    "6.1": Rules(True, False, False, layout="6.1"),
    "6.12": Rules(True, False, False, bound_at_boot=False, layout="6.12"),
}


class Refused(Exception):
    """The kernel returns an error."""

    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode[number])
        self.number = number


class Signal(Exception):
    """The process gets a signal."""

    def __init__(self, name: str, code: str, addr: int) -> None:
        super().__init__(f"{name} {code} {addr:#x}")
        self.name, self.code, self.addr = name, code, addr


def up(value: int, unit: int) -> int:
    """The next multiple of a unit."""
    return -(-value // unit) * unit


def down(value: int, unit: int) -> int:
    """The last multiple of a unit."""
    return value // unit * unit


@dataclass(eq=False)
class Range:
    """Bytes of a region that belong to a device; ``pgoff`` counts pages of the device's file."""

    start: int
    size: int
    pgoff: int

    @property
    def end(self) -> int:
        """First byte after it."""
        return self.start + self.size


@dataclass(eq=False)
class Page:
    """What of a struct page the model follows: base page or head of a compound."""

    mapping: bool = False
    index: int = 0
    pins: int = 0
    gets: int = 0
    referenced: bool = False
    dirty: bool = False


@dataclass(eq=False)
class Device:
    """One dax device."""

    region: NaiveRegion
    id: int
    align: int
    ranges: list[Range] = field(default_factory=list)
    bound: bool = False
    deleted: bool = False
    teardown_waits: bool = False
    unit_pages: int = 1
    pages: dict[int, Page] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As the kernel calls it."""
        return f"dax0.{self.id}"

    @property
    def alive(self) -> bool:
        """Whether it can be mapped and faulted."""
        return self.bound and not self.teardown_waits and not self.deleted

    @property
    def size(self) -> int:
        """Bytes of all ranges."""
        return sum(r.size for r in self.ranges)

    def head(self, pfn: int) -> int:
        """The pfn whose struct page counts for ``pfn``: compounds start at the range's start."""
        [r] = [r for r in self.ranges if r.start <= pfn * PAGE < r.end]
        first = r.start // PAGE
        return first + down(pfn - first, self.unit_pages)

    def page(self, pfn: int) -> Page:
        """The head's or base page's record, made at first use."""
        return self.pages.setdefault(self.head(pfn), Page())

    def pgoff_to_phys(self, pgoff: int, size: int) -> int | None:
        """Where the file's page lies, if ``size`` bytes from there lie in the same range."""
        for r in self.ranges:
            if r.pgoff <= pgoff < r.pgoff + r.size // PAGE:
                phys = r.start + (pgoff - r.pgoff) * PAGE
                return phys if phys + size <= r.end else None
        return None

    @property
    def held(self) -> int:
        """References that someone holds."""
        return sum(p.pins + p.gets for p in self.pages.values())


class NaiveRegion:
    """A dynamic region, its devices and every rule of their attributes."""

    def __init__(self, start: int, size: int, rules: Rules) -> None:
        self.start, self.size, self.rules = start, size, rules
        self.devices: list[Device] = []
        self.seed: Device | None = None
        self.told: set[str] = set()
        self.written: set[int] = set()
        first = self._new()
        first.ranges = [Range(start, size, 0)]
        if rules.bound_at_boot:
            self.bind(first)

    def _new(self) -> Device:
        taken = {d.id for d in self.devices}
        device = Device(self, min(i for i in range(len(taken) + 1) if i not in taken), MIB2)
        self.devices.append(device)
        return device

    @property
    def available(self) -> int:
        """Bytes that no device has."""
        return self.size - sum(d.size for d in self.devices)

    def create(self, value: str) -> Device:
        """Store to ``create``."""
        if value != "1":
            raise Refused(errno.EINVAL)
        if not self.available:
            raise Refused(errno.ENOSPC)
        device = self._new()
        if self.seed is None:
            self.seed = device
        return device

    def delete(self, device: Device) -> None:
        """Store to ``delete``."""
        if device.bound or device.size or device.id == 0:
            raise Refused(errno.EBUSY)
        device.deleted = True
        self.devices.remove(device)
        if self.seed is device:
            self.seed = None

    def set_align(self, device: Device, align: int | str) -> None:
        """Store to ``align``."""
        if not isinstance(align, int):
            raise Refused(errno.ENXIO)
        if align not in (PAGE, MIB2, GIB):
            raise Refused(errno.EINVAL)
        if device.bound:
            raise Refused(errno.EBUSY)
        if any(r.size % max(align, MIB2) for r in device.ranges):
            raise Refused(errno.EINVAL)
        device.align = align

    def set_size(self, device: Device, size: int) -> None:
        """Store to ``size``."""
        if size % max(device.align, MIB2):
            raise Refused(errno.EINVAL)
        if device.bound:
            raise Refused(errno.EBUSY)
        if size - device.size > self.available:
            raise Refused(errno.ENOSPC)
        while device.size > size:
            last = device.ranges[-1]
            gone = device.size - size
            if gone >= last.size:
                device.ranges.pop()
            else:
                last.size -= gone
        while device.size < size:
            self._grow_once(device, size - device.size)

    def _owners(self) -> list[tuple[Range, Device]]:
        return sorted(((r, d) for d in self.devices for r in d.ranges), key=lambda x: x[0].start)

    def _grow_once(self, device: Device, need: int) -> None:
        owners = self._owners()
        if not owners:
            self._add(device, self.start, need)
            return
        hole = owners[0][0].start - self.start
        if hole:
            self._add(device, self.start, min(hole, need))
            return
        for (r, owner), after in zip(owners, [r.start for r, _ in owners[1:]] + [self.start + self.size], strict=True):
            hole = after - r.end
            if not hole:
                continue
            if owner is device and r is device.ranges[-1]:
                r.size += min(hole, need)
            else:
                self._add(device, r.end, min(hole, need))
            return

    def _add(self, device: Device, start: int, size: int) -> None:
        device.ranges.append(Range(start, size, device.size // PAGE))

    def add_range(self, device: Device, start: int, last: int) -> None:
        """Store to ``mapping``."""
        size = last - start + 1
        if size % max(device.align, MIB2):
            raise Refused(errno.ENXIO)
        if start < self.start or last >= self.start + self.size:
            raise Refused(errno.ENOMEM)
        if any(start < r.end and r.start <= last for r, _ in self._owners()):
            raise Refused(errno.ENOMEM)
        self._add(device, start, size)

    def whole_units(self, device: Device) -> bool:
        """Whether every range starts and ends at multiples of the align: the kernel does not check."""
        return not any(r.start % device.align or r.size % device.align for r in device.ranges)

    def told_with(self, device: Device) -> list[Device]:
        """The devices that binding one brings the driver: itself, and where the driver goes by names, all it knows.

        A name that is told once stays, and each further one has the driver look at every device again.
        """
        if self.rules.bound_at_boot:
            return [device]
        names = self.told | {device.name}
        return [d for d in self.devices if d.name in names and not d.bound and (d.size or d is device)]

    def bind(self, device: Device) -> None:
        """User space has the driver take a device."""
        others = [d for d in self.told_with(device) if d is not device]
        self.told.add(device.name)
        for other in others:
            self._bind(other)
        self._bind(device)

    def _bind(self, device: Device) -> None:
        """The driver takes the device: fresh struct pages."""
        if not device.size:
            raise Refused(self.rules.empty_bind)
        device.bound = True
        device.unit_pages = device.align // PAGE if self.rules.compound else 1
        device.pages = {}
        if self.seed is device:
            self.seed = None

    def unbind(self, device: Device, processes: list[NaiveProcess]) -> bool:
        """The driver lets go: every entry is zapped; False where the teardown waits for held pages."""
        for process in processes:
            process.zap(device)
        if device.held and self.rules.teardown_waits:
            device.teardown_waits = True
            return False
        self.unbound(device)
        return True

    def unbound(self, device: Device) -> None:
        """The teardown has ended."""
        device.bound = device.teardown_waits = False
        device.pages = {}


@dataclass(eq=False)
class Mapping:
    """What one mmap of a process left: which units of its address range are still there, and how."""

    device: Device
    start: int
    pgoff: int
    unit: int
    can_write: bool
    writable: dict[int, bool] = field(default_factory=dict)
    entries: dict[int, int] = field(default_factory=dict)
    """Address of a unit to the physical address its entry maps."""


class NaiveProcess:
    """One process: its mappings, and what its accesses do."""

    def __init__(self) -> None:
        self.mappings: list[Mapping] = []

    def is_chance(self, device: Device, length: int, offset: int, addr: int | None) -> bool:
        """Whether no aligned unit of the file would fit, so that the kernel gives any free address."""
        first = up(offset, device.align)
        return addr is None and offset % PAGE == 0 and first + device.align > offset + up(length, PAGE)

    def check_mmap(
        self,
        device: Device,
        length: int,
        offset: int,
        *,
        addr: int | None,
        private: bool,
        write: bool,
        file_writes: bool,
    ) -> None:
        """What mmap(2) refuses; ``addr`` is a fixed address, None where the kernel chooses."""
        if offset % PAGE or not length:
            raise Refused(errno.EINVAL)
        if write and not file_writes and not private:
            raise Refused(errno.EACCES)
        if not device.alive:
            raise Refused(errno.ENXIO)
        # An address that the kernel chooses equals the offset, modulo the align.
        start = offset if addr is None else addr
        if private or start % device.align or up(length, PAGE) % device.align:
            raise Refused(errno.EINVAL)

    def mmap(self, device: Device, addr: int, length: int, offset: int, *, write: bool, file_writes: bool) -> None:
        """The mapping that mmap(2) made at ``addr``."""
        new = Mapping(device, addr, offset // PAGE, device.align, file_writes)
        new.writable = dict.fromkeys(range(addr, addr + length, device.align), write)
        self.mappings.append(new)

    def _at(self, addr: int) -> tuple[Mapping, int] | None:
        for m in self.mappings:
            unit = down(addr, m.unit)
            if unit in m.writable:
                return m, unit
        return None

    def munmap(self, addr: int, length: int) -> None:
        """munmap(2)."""
        end = addr + up(length, PAGE)
        if addr % PAGE or not length or end > USER_END:
            raise Refused(errno.EINVAL)
        for edge in (addr, end):
            found = self._at(edge)
            if found and edge % found[0].unit:
                raise Refused(errno.EINVAL)
        for m in self.mappings:
            for unit in [u for u in m.writable if addr <= u < end]:
                m.writable.pop(unit)
                m.entries.pop(unit, None)
        self.mappings = [m for m in self.mappings if m.writable]

    def mprotect(self, addr: int, length: int, *, write: bool) -> None:
        """mprotect(2) of units of one mapping, or of a part of one unit."""
        found = self._at(addr)
        if found is None:
            raise Refused(errno.ENOMEM)
        m, unit = found
        units = range(unit, addr + length, m.unit)
        if all(m.writable[u] == write for u in units):
            return
        if write and not m.can_write:
            raise Refused(errno.EACCES)
        if addr % m.unit or length % m.unit:
            raise Refused(errno.EINVAL)
        for u in units:
            # A 1 GiB entry is taken for a bad one and cleared, up to 6.1.
            if m.writable[u] != write and m.unit == GIB and m.device.region.rules.layout != "6.12":
                m.entries.pop(u, None)
            m.writable[u] = write

    def zap(self, device: Device) -> None:
        """Take out every entry of a device."""
        for m in self.mappings:
            if m.device is device:
                m.entries.clear()

    def dontneed(self, mapping: Mapping) -> None:
        """MADV_DONTNEED of all of a mapping."""
        mapping.entries.clear()

    def fault(self, addr: int, *, write: bool) -> int:
        """An access to an address: the physical address it reaches."""
        found = self._at(addr)
        if found is None:
            raise Signal("SIGSEGV", "SEGV_MAPERR", addr)
        m, unit = found
        if write and not m.writable[unit]:
            raise Signal("SIGSEGV", "SEGV_ACCERR", addr)
        if unit not in m.entries:
            m.entries[unit] = self._insert(m, unit, addr)
        return m.entries[unit] + addr - unit

    def _insert(self, m: Mapping, unit: int, addr: int) -> int:
        device = m.device
        if not device.alive:
            raise Signal("SIGBUS", "BUS_ADRERR", addr)
        if m.unit != device.align:
            raise AssertionError("a mapping of another align than the device's: the model does not follow it")
        phys = device.pgoff_to_phys(m.pgoff + (unit - m.start) // PAGE, m.unit)
        if phys is None:
            raise Signal("SIGBUS", "BUS_ADRERR", addr)
        page_of_access = down(addr, PAGE)
        counted = up(page_of_access, m.unit) if device.region.rules.rounds_up else unit
        index = m.pgoff + (counted - m.start) // PAGE
        stamped = 1 if device.unit_pages > 1 else m.unit // PAGE
        for i in range(stamped):
            page = device.page(phys // PAGE + i)
            if not page.mapping:
                page.mapping, page.index = True, index + i
        return down(phys, m.unit)

    def touch(self, addr: int, *, write: bool) -> int:
        """A byte read, or 1 written and read back."""
        phys = self.fault(addr, write=write)
        written = self.mappings and self._at(addr)[0].device.region.written
        if write:
            written.add(phys)
        return int(phys in written)

    def pin(self, addr: int, nr_pages: int) -> list[Page]:
        """Pins for long, with write access, through the slow path: page by page."""
        pages = []
        for a in range(addr, addr + nr_pages * PAGE, PAGE):
            phys = self.fault(a, write=True)
            page = self._at(a)[0].device.page(phys // PAGE)
            page.pins += 1
            pages.append(page)
        return pages

    def get(self, addr: int, nr_pages: int) -> list[Page]:
        """References through the fast path, of pages whose entries are there."""
        pages = []
        for a in range(addr, addr + nr_pages * PAGE, PAGE):
            page = self._at(a)[0].device.page(self.fault(a, write=False) // PAGE)
            page.gets += 1
            page.referenced = True
            pages.append(page)
        return pages

    def fork(self) -> NaiveProcess:
        """A child: the same mappings, no entries."""
        child = NaiveProcess()
        for m in self.mappings:
            child.mappings.append(Mapping(m.device, m.start, m.pgoff, m.unit, m.can_write, dict(m.writable)))
        return child


def struct_pages(device: Device, pgmap: int, mapping: int, pfns: list[int]) -> list[list[int]]:
    """The eight words of each struct page of some pfns of a bound device.

    Parameters
    ----------
    device : Device
    pgmap, mapping : int
        Addresses that only the engine knows.
    pfns : list of int
    """
    layout, n = device.region.rules.layout, device.unit_pages
    newest = layout == "6.12"
    base = 0x0027_FFFF_C000_2000 if newest else 0x0027_FFFF_C000_1000
    referenced, dirty, head_bit = (1 << 2, 1 << 4, 1 << 6) if newest else (1 << 1, 1 << 3, 1 << 16)
    order = n.bit_length() - 1
    words = []
    for pfn in pfns:
        head = device.head(pfn)
        page = device.pages.get(head, Page())
        nth = pfn - head
        if nth == 0:
            flags = base | (head_bit if n > 1 else 0) | (referenced if page.referenced else 0)
            flags |= dirty if page.dirty else 0
            own = 0 if device.teardown_waits else 1
            count_ = own + page.gets + page.pins * (1 if n > 1 else 1024)
            where = (mapping, page.index) if page.mapping else (0, 0)
            words.append([flags, pgmap, 0, *where, 0, count_ << 32 | NO_MAPCOUNT, 0])
            continue
        row = [base, VMEMMAP + 64 * head + 1, 0, TAIL_MAPPING, 0, 0, NO_MAPCOUNT, 0]
        if nth == 1 and layout == "5.17":
            row[2:4] = [NO_MAPCOUNT << 32 | order << 8 | 1, TAIL_MAPPING >> 32 << 32 | n]
        elif nth == 1 and layout == "6.1":
            row[2:4] = [NO_MAPCOUNT << 32 | order << 8 | 1, n << 32 | page.pins]
        elif nth == 1:
            row[0] |= order
            row[2:5] = [0xFFFF_FFFF_FFFF_FFFF, page.pins << 32, n]
        elif nth == 2 and layout == "5.17":
            row[2] = page.pins
        words.append(row)
    return words
