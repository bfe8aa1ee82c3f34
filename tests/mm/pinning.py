# SPDX-License-Identifier: GPL-2.0-only
"""A device whose memory a process maps, with page tables made by hand: what the pinning engine needs."""

from __future__ import annotations

from itertools import count

import numpy as np

from tests.mm.support import START
from workbench.mm import Altmap, DevPagemap, PageArray, gup_fast, pgtable
from workbench.mm.gup import Backing, PageRefcounts
from workbench.mm.memremap import ZoneDevice
from workbench.mm.mmap import AddressSpace, Mm, Vm, Vma, VmFault
from workbench.mm.page_ref import Foll
from workbench.mm.pgtable import Level, Pg
from workbench.mm.resource import iomem_resource
from workbench.series import Kernel, kernel

BASE = 0x7F00_0000_0000
"""User address of the mapping, a multiple of 1 GiB."""
LEVELS = {"4K": Level.PTE, "2M": Level.PMD, "1G": Level.PUD}
READ_WRITE = Vm.READ | Vm.WRITE | Vm.SHARED | Vm.MAYREAD | Vm.MAYWRITE | Vm.MAYSHARE


class Memory:
    """A file that maps page frames one to one from ``first_pfn`` on, by entries of one level.

    ``fails`` is what a fault from the address ``fails_from`` on answers.
    """

    backing = Backing.FILE
    readable = writable = True

    def __init__(self, first_pfn: int, level: Level, bits: Pg = Pg.DEVMAP) -> None:
        self.first_pfn, self.level, self.bits = first_pfn, level, bits
        self.mapping = AddressSpace(0xFFFF888100001000)
        self.fails_from, self.fails = 1 << 62, VmFault.SIGBUS
        self.faults = 0

    def touch(self, mm, vma, addr, nr, stride, write):
        for done in range(nr):
            at = addr + done * stride
            if at >= self.fails_from:
                return done, self.fails
            self.faults += 1
            self.enter(mm, vma, at, write)
        return nr, VmFault.NOPAGE

    def enter(self, mm, vma, addr, write=True):
        """Put the entry that maps ``addr``; one that is there gets what the access needs."""
        pfn = self.first_pfn + (vma.pgoff_of(addr & -self.level.size))
        word = pfn << 12 | vma.page_prot | self.bits | (Pg.PSE if self.level else 0) | (Pg.DIRTY if write else 0)
        mm.pt = pgtable.reserve(mm.pt, 3)
        table = pgtable.table_for(mm.pt, addr, self.level)
        mm.pt.entries[table, pgtable.entry_index(addr, self.level)] = np.uint64(word)


class Pinning:
    """A device of ``mib`` MiB from pfn ``first`` on, and one process that maps it.

    ``mm``, ``zone``, ``array``, ``file``, ``gup`` (the engine under test) and ``pgmap``.  ``room`` is pages of
    the array behind the device; ``altmap`` puts the struct pages into the device.
    """

    def __init__(
        self,
        name: str | Kernel = "5.17",
        align: str = "2M",
        mib: int = 8,
        *,
        mapped: bool = True,
        flags: Vm = READ_WRITE,
        room: int = 0,
        altmap: bool = False,
        **engine,
    ) -> None:
        k = kernel(name) if isinstance(name, str) else name
        level = LEVELS[align]
        self.nr_pages = mib << 8
        metadata = max(level.size >> 12, 512) if altmap else 0
        self.first = START + metadata
        self.array = PageArray(k, START, metadata + self.nr_pages + room)
        addresses = count(0xFFFF888100A01000, 4096)
        self.zone = ZoneDevice(self.array, iomem_resource(), lambda: next(addresses))
        shift = k.tree.vmemmap_shift(level.size)
        self.pgmap = DevPagemap(
            self.zone.new_address(),
            ((START, metadata + self.nr_pages),),
            vmemmap_shift=shift,
            altmap=Altmap(START, 2, metadata - 2) if altmap else None,
        )
        self.zone.memremap_pages(self.pgmap)
        self.mm = Mm(k.tree.base)
        self.file = Memory(self.first, level)
        self.vma = Vma(BASE, BASE + (mib << 20), flags, self.file, 0)
        self.mm.insert(self.vma)
        if mapped:
            for addr in range(self.vma.start, self.vma.end, level.size):
                self.file.enter(self.mm, self.vma, addr)
        self.gup = PageRefcounts(self.array, self.zone, **engine)

    @property
    def pages(self) -> np.ndarray:
        """uint64[nr_pages, 8]: the device's struct pages now, a copy."""
        return self.array.view(self.first, self.nr_pages).copy()

    def addr(self, page: int) -> int:
        """User address of a page of the device."""
        return BASE + (page << 12)


def exercise(listeners) -> None:
    """Have every function of the pinning engine compiled, with each of ``listeners`` (events or None)."""
    p = Pinning("6.12", "2M", 4)
    small = Pinning("6.12", "4K", 2)
    for make in listeners:
        ev, other = make(p.array.nr_pages), make(small.array.nr_pages)
        for take in (p.gup.pin_user_pages_fast, p.gup.pin_user_pages, p.gup.get_user_pages_fast):
            p.gup.release(take(p.mm, BASE, 600, Foll.WRITE, ev), make_dirty=True, events=ev)
        held = p.gup.pin_user_pages_fast(p.mm, BASE, 8, Foll.WRITE, ev)
        p.gup.set_pages_dirty(held.pfns, False, ev)
        p.gup.unpin_user_page_range(int(held.pfns[0]), 8, True, ev)
        small.gup.release(small.gup.pin_user_pages_remote(small.mm, BASE, 3, Foll.WRITE, other), events=other)
        gup, mm = p.gup, p.mm
        pages = np.empty(8, np.int64)
        machine = (gup.vm, gup.refs, gup.own_pgmaps(), mm.pt, mm.write_protect_seq)
        taken, _ = gup_fast.gup_fast_calls(*machine, BASE, 8, 4, int(Foll.PIN), pages, ev)
        assert gup.first_not_pinned(pages[:taken]) is None
        gup.unpin_user_pages(pages[:taken], events=ev)
    assert p.gup.compound(p.first + 3) == (p.first, 512)
