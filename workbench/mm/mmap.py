# SPDX-License-Identifier: GPL-2.0-only
"""The address space of a process: areas, and what the calls on them check and change.

Files bring their own rules (:class:`File`): device-dax refuses areas that are not whole multiples of its
align, and refuses to have them split elsewhere.  A refused call changes what the kernel's does: nothing,
unless the error's ``changed`` says otherwise.
"""

from __future__ import annotations

import bisect
import errno
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import IntFlag
from typing import Protocol

import numpy as np

from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE
from workbench.errors import Signal, Signalled, WorkbenchError
from workbench.mm import pgtable
from workbench.mm.pgtable import PageTables, Pg
from workbench.text import size

MMAP_BASE = 0x7FFF_F7FF_F000
"""Where a process without randomisation places its first mapping from the top down."""
_ULONG_MAX = (1 << 64) - 1


class Prot(IntFlag):
    """PROT_* of mmap(2)."""

    READ = 1
    WRITE = 2
    EXEC = 4


class Map(IntFlag):
    """MAP_* of mmap(2), x86-64 (include/uapi/asm-generic/mman-common.h and arch/x86)."""

    SHARED = 0x01
    PRIVATE = 0x02
    SHARED_VALIDATE = 0x03
    FIXED = 0x10
    ANONYMOUS = 0x20
    MAP_32BIT = 0x40
    GROWSDOWN = 0x0100
    DENYWRITE = 0x0800
    EXECUTABLE = 0x1000
    LOCKED = 0x2000
    NORESERVE = 0x4000
    POPULATE = 0x8000
    NONBLOCK = 0x10000
    STACK = 0x20000
    HUGETLB = 0x40000
    SYNC = 0x80000
    FIXED_NOREPLACE = 0x100000
    HUGE_2MB = 21 << 26
    HUGE_1GB = 30 << 26


_TYPE = 0x0F
_LEGACY_MAP_MASK = (
    Map.SHARED | Map.PRIVATE | Map.FIXED | Map.ANONYMOUS | Map.DENYWRITE | Map.EXECUTABLE | Map.GROWSDOWN
    | Map.LOCKED | Map.NORESERVE | Map.POPULATE | Map.NONBLOCK | Map.STACK | Map.HUGETLB | Map.MAP_32BIT
    | Map.HUGE_2MB | Map.HUGE_1GB
)  # fmt: skip


class Vm(IntFlag):
    """VM_* flags of an area (include/linux/mm.h), those that matter here."""

    READ = 0x1
    WRITE = 0x2
    EXEC = 0x4
    SHARED = 0x8
    MAYREAD = 0x10
    MAYWRITE = 0x20
    MAYEXEC = 0x40
    MAYSHARE = 0x80
    LOCKED = 0x2000
    DONTCOPY = 0x20000
    DONTDUMP = 0x0400_0000
    HUGEPAGE = 0x2000_0000
    NOHUGEPAGE = 0x4000_0000


_ACCESS = Vm.READ | Vm.WRITE | Vm.EXEC


class VmFault(IntFlag):
    """VM_FAULT_* results (include/linux/mm_types.h)."""

    OOM = 0x1
    SIGBUS = 0x2
    NOPAGE = 0x100
    FALLBACK = 0x800


@dataclass(eq=False)
class AddressSpace:
    """struct address_space of a file: which areas map it.

    Attributes
    ----------
    address : int
        Its kernel address: what page->mapping holds.
    areas : list of (Mm, Vma)
        i_mmap, in the order of mapping.
    """

    address: int
    areas: list[tuple[Mm, Vma]] = field(default_factory=list)


class File(Protocol):
    """An open file, as far as mappings of it go."""

    readable: bool
    writable: bool
    mmap_supported_flags: Map

    @property
    def mapping(self) -> AddressSpace:
        """The address space that its areas are areas of."""

    def mmap(self, vma: Vma) -> None:
        """Take a new area, or raise; may set flags on it."""

    def get_unmapped_area(self, mm: Mm, length: int, pgoff: int) -> int:
        """An address for a mapping whose caller has no wish."""

    def may_split(self, vma: Vma, addr: int) -> None:
        """Raise EINVAL where an area of this file cannot end or begin."""

    def pagesize(self, vma: Vma) -> int:
        """Bytes of a page of the area, as smaps shows them."""

    def touch(self, mm: Mm, vma: Vma, addr: int, count: int, stride: int, write: bool) -> tuple[int, VmFault]:
        """Access ``count`` addresses from ``addr`` on, ``stride`` bytes apart, faulting as needed.

        Returns how many were done, and NOPAGE or what the fault of the next one gave.
        """


@dataclass(eq=False)
class Vma:
    """struct vm_area_struct: ``[start, end)`` maps ``file`` from page ``pgoff`` on."""

    start: int
    end: int
    flags: Vm
    file: File
    pgoff: int

    @property
    def page_prot(self) -> Pg:
        """The bits of a fresh leaf entry (arch/x86 protection_map, shared areas)."""
        if not self.flags & _ACCESS:
            return Pg.PROTNONE | Pg.ACCESSED
        prot = Pg.PRESENT | Pg.USER | Pg.ACCESSED
        if self.flags & Vm.WRITE and self.flags & Vm.SHARED:
            prot |= Pg.RW
        return prot if self.flags & Vm.EXEC else prot | Pg.NX

    def pgoff_of(self, addr: int) -> int:
        """The file page behind a user address (linear_page_index())."""
        return self.pgoff + ((addr - self.start) >> PAGE_SHIFT)

    @property
    def length(self) -> int:
        """Bytes."""
        return self.end - self.start

    def joins(self, behind: Vma, flags: Vm) -> bool:
        """Whether ``behind``, or this, with ``flags`` in the part that changes, goes on where the other ends.

        Both keep their own flags where they are; the one that is not changed must have ``flags`` already.
        """
        adjacent = self.end == behind.start and self.file is behind.file
        return adjacent and self.pgoff_of(self.end) == behind.pgoff and flags in (self.flags, behind.flags)


def _einval(message: str) -> WorkbenchError:
    return WorkbenchError(message, errno.EINVAL)


class Mm:
    """struct mm_struct: the areas of one process, in address order, and its page tables.

    Parameters
    ----------
    base : str
        The release; a few calls differ (``mremap()`` of a part, ``mprotect()`` of a 1 GiB entry).
    soft_dirty : bool
        Whether the kernel tracks soft-dirty entries (CONFIG_MEM_SOFT_DIRTY).

    Attributes
    ----------
    vmas : list of Vma
    pt : PageTables
    thp_disabled : bool
        prctl(PR_SET_THP_DISABLE): no area gets huge entries.
    gone : bool
        The process has ended.
    has_pinned : bool
        MMF_HAS_PINNED: pages of it were pinned once.
    write_protect_seq : int64[1]
        Odd while fork() copies the page tables.
    """

    def __init__(self, base: str, *, soft_dirty: bool = True) -> None:
        self.base = base
        self.soft_dirty = soft_dirty
        self.thp_disabled = False
        self.vmas: list[Vma] = []
        self.pt: PageTables = pgtable.page_tables()
        self.gone = False
        self.has_pinned = False
        self.write_protect_seq = np.zeros(1, np.int64)

    # areas

    def find_vma(self, addr: int) -> Vma | None:
        """The area that holds ``addr``, or None."""
        at = bisect.bisect_right(self.vmas, addr, key=lambda vma: vma.start) - 1
        return self.vmas[at] if at >= 0 and addr < self.vmas[at].end else None

    def areas_in(self, start: int, end: int) -> list[Vma]:
        """The areas that have a byte in ``[start, end)``, in order."""
        return [vma for vma in self.vmas if vma.start < end and start < vma.end]

    def get_unmapped_area(self, length: int) -> int:
        """The highest free stretch of ``length`` bytes below the base, as an address.

        Kernel: mm/mmap.c, ``arch_get_unmapped_area_topdown()``.

        Raises
        ------
        WorkbenchError
            ENOMEM: no stretch is free.
        """
        top = MMAP_BASE
        for vma in reversed(self.vmas):
            if vma.end <= top and top - vma.end >= length:
                break
            top = min(top, vma.start)
        if top - length < PAGE_SIZE:
            raise WorkbenchError(f"no {size(length)} of addresses are free. Unmap something.", errno.ENOMEM)
        return top - length

    def insert(self, vma: Vma) -> None:
        """Put an area into the address space, and into its file's (insert_vm_struct())."""
        bisect.insort(self.vmas, vma, key=lambda each: each.start)
        vma.file.mapping.areas.append((self, vma))

    def _remove(self, vma: Vma) -> None:
        self.vmas.remove(vma)
        vma.file.mapping.areas.remove((self, vma))

    def split_vma(self, vma: Vma, addr: int) -> Vma:
        """Cut ``vma`` at ``addr``; the part from there on is returned.

        Kernel: mm/mmap.c, ``__split_vma()``.

        Raises
        ------
        WorkbenchError
            EINVAL: the file forbids it (dev_dax_may_split()).  Nothing changes.
        """
        vma.file.may_split(vma, addr)
        upper = replace(vma, start=addr, pgoff=vma.pgoff_of(addr))
        vma.end = addr
        self.insert(upper)
        return upper

    def set_flags(self, vma: Vma, start: int, end: int, flags: Vm) -> Vma:
        """Give the part ``[start, end)`` of an area other flags: cut it out, or join it with like neighbours.

        Kernel: mm/mmap.c, ``vma_merge()``, ``split_vma()``, in their callers' order.

        Returns
        -------
        Vma
            The area that has the part then.

        Raises
        ------
        WorkbenchError
            EINVAL: the file forbids the cut.  Where the end cannot be cut, the beginning was.
        """
        before = self.find_vma(start - 1) if start == vma.start else None
        behind = self.find_vma(end) if end == vma.end else None
        joins_before = before is not None and before.joins(vma, flags)
        joins_behind = behind is not None and vma.joins(behind, flags)
        if start > vma.start:
            vma = self.split_vma(vma, start)
        if end < vma.end:
            self.split_vma(vma, end)
        vma.flags = flags
        if joins_before and before is not None:
            self._remove(vma)
            before.end = vma.end
            vma = before
        if joins_behind and behind is not None:
            self._remove(behind)
            vma.end = behind.end
        return vma

    # system calls

    def mmap(
        self,
        file: File,
        length: int,
        offset: int = 0,
        prot: Prot = Prot.READ | Prot.WRITE,
        flags: int = Map.SHARED,
        addr: int = 0,
        chosen: int | None = None,
    ) -> int:
        """mmap(2) of a file.

        Parameters
        ----------
        file : File
        length, offset : int
            Bytes.
        prot : Prot
        flags : int
            :class:`Map` bits, others too.
        addr : int
            Used with FIXED and FIXED_NOREPLACE, else a hint.
        chosen : int, optional
            Stands for what get_unmapped_area() answers: an address recorded from a real kernel.  It must
            have the remainders that the file's own answer has.

        Returns
        -------
        int
            The address.

        Raises
        ------
        WorkbenchError
            EINVAL, EOVERFLOW, EACCES, EOPNOTSUPP, EEXIST, ENOMEM and what the file refuses with.

        Kernel
        ------
        arch/x86/kernel/sys_x86_64.c; mm/mmap.c, ksys_mmap_pgoff(), do_mmap(), mmap_region().
        """
        if offset % PAGE_SIZE:
            raise _einval(f"offset {offset} is no multiple of {PAGE_SIZE} bytes. Round it.")
        if flags & Map.HUGETLB:
            raise _einval("MAP_HUGETLB maps files of hugetlbfs only. Leave the flag out.")
        if length <= 0:
            raise _einval(f"a mapping of {length} bytes is none. Ask for at least a page.")
        length = -(-length // PAGE_SIZE) * PAGE_SIZE
        pgoff = (offset & _ULONG_MAX) >> PAGE_SHIFT
        start = self._place(file, length, pgoff, flags, addr, chosen)
        vm_flags = self._mmap_flags(file, length, pgoff, prot, flags)
        vma = Vma(start, start + length, vm_flags, file, pgoff)
        changed: tuple[str, ...] = ()
        if flags & Map.FIXED and not flags & Map.FIXED_NOREPLACE and self.areas_in(start, start + length):
            self._make_room(start, length)
            changed = (f"what was mapped at {start:#x}-{start + length - 1:#x} is unmapped",)
        try:
            file.mmap(vma)
        except WorkbenchError as refused:
            raise WorkbenchError(str(refused), refused.errno, (*refused.changed, *changed)) from refused
        self.insert(vma)
        if flags & Map.LOCKED or flags & (Map.POPULATE | Map.NONBLOCK) == Map.POPULATE:
            self.populate(start, length)
        return start

    def _make_room(self, start: int, length: int) -> None:
        """Unmap what MAP_FIXED replaces; up to 6.1 a refusal to cut it reads as ENOMEM (mmap_region())."""
        try:
            self.munmap(start, length)
        except WorkbenchError as refused:
            code = refused.errno if self.base == "6.12" else errno.ENOMEM
            raise WorkbenchError(str(refused), code, refused.changed) from refused

    def _place(self, file: File, length: int, pgoff: int, flags: int, addr: int, chosen: int | None) -> int:
        if flags & (Map.FIXED | Map.FIXED_NOREPLACE):
            if addr % PAGE_SIZE:
                raise _einval(f"fixed address {addr:#x} is no multiple of {PAGE_SIZE} bytes. Round it.")
            if not PAGE_SIZE <= addr <= pgtable.USER_END - PAGE_SIZE - length:
                raise WorkbenchError(f"fixed address {addr:#x} is no user address. Go lower.", errno.ENOMEM)
            if flags & Map.FIXED_NOREPLACE and self.areas_in(addr, addr + length):
                raise WorkbenchError(f"{addr:#x} is mapped already. Unmap it or use MAP_FIXED.", errno.EEXIST)
            return addr
        if chosen is not None and not self.areas_in(chosen, chosen + length):
            return chosen
        return file.get_unmapped_area(self, length, pgoff)

    @staticmethod
    def _mmap_flags(file: File, length: int, pgoff: int, prot: Prot, flags: int) -> Vm:
        """What do_mmap() checks for a file, in its order, and the flags of the new area."""
        if pgoff > (_ULONG_MAX - length) >> PAGE_SHIFT:
            raise WorkbenchError(
                f"page offset {pgoff:#x} and {size(length)} reach beyond all file offsets. Use a smaller offset.",
                errno.EOVERFLOW,
            )
        vm_flags = Vm(int(prot)) | Vm.MAYREAD | Vm.MAYWRITE | Vm.MAYEXEC
        kind = flags & _TYPE
        if kind not in (Map.SHARED, Map.PRIVATE, Map.SHARED_VALIDATE):
            raise _einval(f"mapping type {kind:#x} is not SHARED, PRIVATE or SHARED_VALIDATE. Use one of them.")
        if kind == Map.SHARED_VALIDATE and flags & ~(_LEGACY_MAP_MASK | file.mmap_supported_flags):
            unknown = flags & ~(_LEGACY_MAP_MASK | file.mmap_supported_flags)
            raise WorkbenchError(f"flags {unknown:#x} are not known to this file. Leave them out.", errno.EOPNOTSUPP)
        if kind != Map.PRIVATE:
            if prot & Prot.WRITE and not file.writable:
                raise WorkbenchError("a file opened for reading cannot be mapped for writing.", errno.EACCES)
            vm_flags |= Vm.SHARED | Vm.MAYSHARE
            if not file.writable:
                vm_flags &= ~(Vm.MAYWRITE | Vm.SHARED)
        if not file.readable:
            raise WorkbenchError("a file opened for writing only cannot be mapped. Open it rw.", errno.EACCES)
        return vm_flags

    def munmap(self, addr: int, length: int) -> None:
        """munmap(2): areas are cut at both ends, entries and empty tables go.

        Raises
        ------
        WorkbenchError
            EINVAL: misaligned, or a file that cannot be cut there.

        Kernel
        ------
        mm/mmap.c, __do_munmap(), unmap_region().
        """
        if addr < 0 or addr % PAGE_SIZE or length <= 0 or addr + length > pgtable.USER_END - PAGE_SIZE:
            raise _einval(f"munmap of {length} bytes at {addr:#x}: round both to {PAGE_SIZE} bytes.")
        end = addr + -(-length // PAGE_SIZE) * PAGE_SIZE
        inside = self._cut(addr, end)
        for vma in inside:
            self.zap(vma.start, vma.end)
            self._remove(vma)
            pgtable.free_tables(self.pt, vma.start, vma.end)

    def _cut(self, start: int, end: int) -> list[Vma]:
        """Split the areas at both ends of a range; those inside it."""
        touched = self.areas_in(start, end)
        if touched and touched[0].start < start:
            touched[0] = self.split_vma(touched[0], start)
        if touched and end < touched[-1].end:
            self.split_vma(touched[-1], end)
        return touched

    def mprotect(self, addr: int, length: int, prot: Prot) -> None:
        """mprotect(2).

        A 1 GiB entry that it meets is cleared as bad up to 6.1; the next access faults it again.

        Raises
        ------
        WorkbenchError
            EINVAL: misaligned, or a file that cannot be cut there; ENOMEM: not all is mapped; EACCES: the
            file was not opened for that.  What lies before the place that is refused has changed.

        Kernel
        ------
        mm/mprotect.c, do_mprotect_pkey(), mprotect_fixup(), change_pud_range().
        """
        if addr % PAGE_SIZE or length < 0:
            raise _einval(f"address {addr:#x} is no multiple of {PAGE_SIZE} bytes. Round it.")
        end_of_all, start = addr + -(-length // PAGE_SIZE) * PAGE_SIZE, addr
        while start < end_of_all:
            vma = self.find_vma(start)
            changed = (f"{addr:#x}-{start - 1:#x} is {prot!r} now",) if start > addr else ()
            if vma is None:
                raise WorkbenchError(f"nothing is mapped at {start:#x}. Map it first.", errno.ENOMEM, changed)
            flags = vma.flags & ~_ACCESS | Vm(int(prot))
            if (flags & _ACCESS) & ~Vm(int(flags) >> 4):
                raise WorkbenchError(f"the file was not opened for {prot!r}. Open it rw.", errno.EACCES, changed)
            end = min(vma.end, end_of_all)
            if flags == vma.flags:
                start = end
                continue
            inside = self.set_flags(vma, start, end, flags)
            mask = np.uint64(Pg.PRESENT | Pg.RW | Pg.USER | Pg.NX | Pg.PROTNONE)
            bits = np.uint64(inside.page_prot & ~Pg.ACCESSED)
            pgtable.protect(self.pt, start, end, bits, mask, self.base != "6.12")
            start = end

    def mremap(self, addr: int, old_length: int, new_length: int, may_move: bool, chosen: int | None = None) -> int:
        """mremap(2) without a new address of the caller's.

        Parameters
        ----------
        addr, old_length, new_length : int
            Bytes.
        may_move : bool
            MREMAP_MAYMOVE.
        chosen : int, optional
            As in :meth:`mmap`; ``addr`` itself where the kernel grew the area in place.

        Raises
        ------
        WorkbenchError
            EINVAL, EFAULT, ENOMEM.

        Kernel
        ------
        mm/mremap.c, mremap(), vma_to_resize(), move_vma().
        """
        old_length = -(-old_length // PAGE_SIZE) * PAGE_SIZE
        new_length = -(-new_length // PAGE_SIZE) * PAGE_SIZE
        if addr % PAGE_SIZE or new_length <= 0:
            raise _einval(f"mremap to {new_length} bytes at {addr:#x}: round both to {PAGE_SIZE} bytes.")
        if self.find_vma(addr) is None and self.base not in ("5.10", "5.15"):
            raise WorkbenchError(f"nothing is mapped at {addr:#x}. Map it first.", errno.EFAULT)
        if old_length >= new_length:
            if old_length > new_length:
                self.munmap(addr + new_length, old_length - new_length)
            return addr
        vma = self.find_vma(addr)
        if vma is None or old_length > vma.end - addr:
            raise WorkbenchError(f"{size(old_length)} at {addr:#x} are not one mapping.", errno.EFAULT)
        if old_length == vma.end - addr and chosen in (None, addr):
            room = vma.end + new_length - old_length
            if not self.areas_in(vma.end, room) and room < MMAP_BASE:
                vma.end = room
                return addr
        if not may_move:
            raise WorkbenchError("no room to grow in place. Allow a move.", errno.ENOMEM)
        return self._move_vma(vma, addr, old_length, new_length, chosen)

    def _move_vma(self, vma: Vma, addr: int, old_length: int, new_length: int, chosen: int | None) -> int:
        """Map the new place, move what is mapped, unmap the old place."""
        pgoff = vma.pgoff_of(addr)
        start = self._place(vma.file, new_length, pgoff, 0, 0, chosen)
        if self.base != "5.10":  # asked before anything moves; 5.10 finds out when it unmaps
            for edge, at in ((vma.start, addr), (vma.end, addr + old_length)):
                if edge != at:
                    vma.file.may_split(vma, at)
        self.insert(replace(vma, start=start, end=start + new_length, pgoff=pgoff))
        self.pt = pgtable.reserve(self.pt, pgtable.tables_for(start, start + old_length, pgtable.Level.PTE))
        pgtable.move(self.pt, addr, start, old_length, self.base == "5.10")
        with suppress(WorkbenchError):  # 5.10 goes on: the old area stays as it was, and both map the file
            self.munmap(addr, old_length)
        return start

    def fork(self) -> Mm:
        """The address space of a child: shared file areas come along, their entries are faulted anew.

        Kernel: kernel/fork.c, ``dup_mmap()``; mm/memory.c, ``copy_page_range()``.
        """
        child = Mm(self.base, soft_dirty=self.soft_dirty)
        child.thp_disabled = self.thp_disabled
        for vma in self.vmas:
            if not vma.flags & Vm.DONTCOPY:
                child.insert(replace(vma))
        return child

    def exit(self) -> None:
        """exit_mmap(): every area goes."""
        for vma in list(self.vmas):
            self._remove(vma)
        self.pt = pgtable.page_tables()
        self.gone = True

    # faults and entries

    def zap(self, start: int, end: int) -> int:
        """Clear the entries of a range; how many there were."""
        return int(pgtable.zap(self.pt, start, end))

    def walk_page_range(self, start: int, end: int) -> int:
        """What a walk for smaps, pagemap or mincore leaves behind: it splits 1 GiB entries, that is, clears them.

        Kernel: mm/pagewalk.c, ``walk_pud_range()``; mm/huge_memory.c, ``__split_huge_pud()``.

        Returns
        -------
        int
            Entries cleared.
        """
        return int(pgtable.split_puds(self.pt, start, end))

    def touch(self, addr: int, count: int = 1, stride: int = PAGE_SIZE, write: bool = False) -> None:
        """Access bytes as a user program does.

        Parameters
        ----------
        addr : int
        count, stride : int
            Accesses, and bytes from one to the next.
        write : bool

        Raises
        ------
        Signalled
            SIGSEGV or SIGBUS; ``at_index`` tells which access.
        WorkbenchError
            ENOMEM: no memory for page tables.

        Kernel
        ------
        arch/x86/mm/fault.c, do_user_addr_fault().
        """
        done = 0
        while done < count:
            at = addr + done * stride
            vma = self.find_vma(at)
            if vma is None:
                raise Signalled(Signal("SIGSEGV", "SEGV_MAPERR", at), f"nothing is mapped at {at:#x}.", done)
            if not vma.flags & (Vm.WRITE if write else _ACCESS):
                raise Signalled(
                    Signal("SIGSEGV", "SEGV_ACCERR", at),
                    f"{'writing' if write else 'reading'} at {at:#x} is not allowed by the mapping. Use mprotect.",
                    done,
                )
            inside = count - done if not stride else min(count - done, -(-(vma.end - at) // stride))
            reached, fault = vma.file.touch(self, vma, at, inside, stride, write)
            done += reached
            if reached < inside:
                self._fault_failed(fault, addr + done * stride, done)

    @staticmethod
    def _fault_failed(fault: VmFault, addr: int, at_index: int) -> None:
        if fault & VmFault.OOM:
            raise WorkbenchError(f"no memory for page tables at {addr:#x}. Unmap something.", errno.ENOMEM)
        raise Signalled(
            Signal("SIGBUS", "BUS_ADRERR", addr),
            f"the file cannot give a page for {addr:#x}: see what its fault handler checks.",
            at_index,
        )

    def populate(self, addr: int, length: int, *, ignore_errors: bool = True) -> None:
        """Fault a range in for reading (``__mm_populate()``); what cannot be is passed over, or raised.

        Raises
        ------
        Signalled
            What an access would get.
        """
        for vma in self.areas_in(addr, addr + length):
            start, end = max(vma.start, addr), min(vma.end, addr + length)
            try:
                self.touch_all(vma, start, end)
            except WorkbenchError:
                if not ignore_errors:
                    raise

    def touch_all(self, vma: Vma, start: int, end: int, write: bool = False) -> None:
        """Access every page of ``[start, end)``, a part of an area, once; refusals as of :meth:`touch`."""
        step = vma.file.pagesize(vma)
        boundary = min((start // step + 1) * step, end)
        self.touch(start, 1, step, write)
        self.touch(boundary, -(-(end - boundary) // step), step, write)

    def walk(self, addr: int) -> tuple[pgtable.Level, int]:
        """The deepest entry for ``addr``: its level and its word (0 where nothing is mapped)."""
        level, table, index = pgtable.walk(self.pt, addr)
        return pgtable.Level(level), int(self.pt.entries[table, index])

    def walk_levels(self, addr: int) -> list[tuple[pgtable.Level, int]]:
        """The entries on the way to ``addr``, from the top down to the leaf or to the empty one."""
        last, table, entries = self.walk(addr)[0], 0, []
        for level in range(pgtable.Level.PGD, last - 1, -1):
            entry = self.pt.entries[table, pgtable.entry_index(addr, level)]
            entries.append((pgtable.Level(level), int(entry)))
            table = int(pgtable.entry_pfn(entry))
        return entries

    def leaves(self, vma: Vma) -> np.ndarray:
        """Leaf entries of an area by level, as int64[3]."""
        return pgtable.count_leaves(self.pt, vma.start, vma.end)

    def translate(self, addr: int) -> int | None:
        """The pfn mapped at ``addr``, or None."""
        level, entry = self.walk(addr)
        if not entry & Pg.PRESENT:
            return None
        return int(pgtable.entry_pfn(np.uint64(entry))) + (addr % level.size >> PAGE_SHIFT)


def unmap_mapping_range(mapping: AddressSpace, start: int, length: int) -> int:
    """Clear every entry of a file's bytes ``[start, start + length)``, in all processes (length 0: to the end).

    Kernel: mm/memory.c, ``unmap_mapping_range()``, even_cows 0.

    Returns
    -------
    int
        Entries cleared.
    """
    first = start >> PAGE_SHIFT
    last = first + (-(-length // PAGE_SIZE)) - 1 if length else 1 << 52
    cleared = 0
    for mm, vma in mapping.areas:
        low, high = max(first, vma.pgoff), min(last, vma.pgoff_of(vma.end) - 1)
        if low <= high:
            base = vma.start - (vma.pgoff << PAGE_SHIFT)
            cleared += mm.zap(base + (low << PAGE_SHIFT), base + ((high + 1) << PAGE_SHIFT))
    return cleared
