# SPDX-License-Identifier: GPL-2.0-only
"""A process: open files, an address space, and the system calls that touch device memory."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE
from workbench.dax.device import DaxFile
from workbench.errors import Signalled, WorkbenchError
from workbench.mm import gup_users, hwpoison_inject
from workbench.mm.gup import Pinned
from workbench.mm.madvise import Madv, madvise, mlock
from workbench.mm.mmap import Map, Mm, Prot
from workbench.mm.pgtable import Level

if TYPE_CHECKING:
    from workbench.machine.machine import Machine

_RW = Prot.READ | Prot.WRITE


@dataclass(frozen=True)
class Hazard:
    """Something the kernel does not check, where it happened.

    Attributes
    ----------
    where : str
    what : str
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class PlainFile:
    """A regular file in RAM: something to read into device memory from.

    Parameters
    ----------
    length : int
        Bytes.
    """

    def __init__(self, length: int) -> None:
        self.length = length


class Process:
    """One process of a machine.

    Parameters
    ----------
    machine : Machine
    name : str

    Attributes
    ----------
    mm : Mm
    early_kill : bool or None
        prctl(PR_MCE_KILL): whether it is told of memory that failed before it touches it; None: as the system's
        setting says.
    """

    def __init__(self, machine: Machine, name: str, mm: Mm | None = None) -> None:
        self.machine = machine
        self.name = name
        self.mm = mm or Mm(machine.kernel.tree.base, soft_dirty=machine.options["MEM_SOFT_DIRTY"])
        self.early_kill: bool | None = None

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return not self.mm.gone

    # files

    def open(self, device: str, mode: str = "rw", *, direct: bool = False) -> DaxFile:
        """open(2) of a device's file.

        Parameters
        ----------
        device : str
            ``dax0.1``.
        mode : str
            ``r``, ``w`` or ``rw``.
        direct : bool
            O_DIRECT.

        Raises
        ------
        WorkbenchError
            ENOENT, EINVAL.
        """
        inode = self.machine.inode(device)
        return inode.open(readable="r" in mode, writable="w" in mode, direct=direct)

    # memory

    def mmap(
        self,
        file: DaxFile,
        length: int,
        offset: int = 0,
        prot: Prot = _RW,
        flags: int = Map.SHARED,
        addr: int = 0,
        chosen: int | None = None,
    ) -> int:
        """mmap(2), see :meth:`workbench.mm.mmap.Mm.mmap`."""
        return self.mm.mmap(file, length, offset, prot, flags, addr, chosen)

    def munmap(self, addr: int, length: int) -> None:
        """munmap(2), see :meth:`workbench.mm.mmap.Mm.munmap`."""
        self.mm.munmap(addr, length)

    def mprotect(self, addr: int, length: int, prot: Prot) -> None:
        """mprotect(2), see :meth:`workbench.mm.mmap.Mm.mprotect`."""
        self.mm.mprotect(addr, length, prot)

    def mremap(
        self, addr: int, old_length: int, new_length: int, *, may_move: bool = True, chosen: int | None = None
    ) -> int:
        """mremap(2), see :meth:`workbench.mm.mmap.Mm.mremap`."""
        return self.mm.mremap(addr, old_length, new_length, may_move, chosen)

    def mlock(self, addr: int, length: int) -> None:
        """mlock(2), see :func:`workbench.mm.madvise.mlock`."""
        _require_length(length)
        mlock(self.mm, addr, length)

    def madvise(self, addr: int, length: int, advice: Madv) -> None:
        """madvise(2); HWPOISON and SOFT_OFFLINE inject memory failure.

        Raises
        ------
        WorkbenchError
            See :func:`workbench.mm.madvise.madvise` and :func:`workbench.mm.hwpoison_inject.madvise_inject_error`.
        Signalled
            The memory failure hit this process.
        """
        if advice not in list(Madv):
            raise WorkbenchError(f"advice {advice} is none that a kernel here knows. Use Madv.", errno.EINVAL)
        if advice in (Madv.HWPOISON, Madv.SOFT_OFFLINE):
            outcome = hwpoison_inject.madvise_inject_error(
                self.machine, self, addr, length, soft=advice == Madv.SOFT_OFFLINE
            )
            self.machine.report(outcome, self)
            return
        madvise(self.mm, addr, length, Madv(advice), ksm=self.machine.options["KSM"])
        huge = any(vma.file.pagesize(vma) > PAGE_SIZE for vma in self.mm.areas_in(addr, addr + length))
        if advice == Madv.NOHUGEPAGE and huge:
            what = (
                "MADV_NOHUGEPAGE on a device's huge pages: one not mapped yet answers SIGBUS, there are no smaller ones"
            )
            self.machine.happened.append(Hazard(f"{self.name} at {addr:#x}", what))

    def touch(self, addr: int, count: int = 1, stride: int = PAGE_SIZE, write: bool = False) -> int | None:
        """Read or write bytes, as a program does.

        Parameters
        ----------
        addr : int
        count, stride : int
            Accesses, and bytes from one to the next.
        write : bool
            Stores 1, 2, 3, ... and reads each back.

        Returns
        -------
        int or None
            The last byte read; None where the contents are not known.

        Raises
        ------
        Signalled
            SIGSEGV or SIGBUS.
        """
        if count < 1 or stride < 0:
            raise WorkbenchError(
                f"{self.name} at {addr:#x}: {count} accesses, {stride} bytes apart. Make at least one, going up."
            )
        done = count
        try:
            self.mm.touch(addr, count, stride, write)
        except Signalled as signalled:
            done = signalled.at_index
            raise
        except WorkbenchError:
            done = 0  # the process was stopped by something else than an access of its own
            raise
        finally:
            if write:
                for index in range(done):
                    self.machine.contents[self._physical(addr + index * stride)] = index + 1 & 0xFF
        return self.machine.contents.get(self._physical(addr + (count - 1) * stride), 0)

    def _physical(self, addr: int) -> int:
        pfn = self.mm.translate(addr)
        assert pfn is not None  # it was accessed just now
        return (pfn << PAGE_SHIFT) + addr % PAGE_SIZE

    def fork(self, name: str) -> Process:
        """fork(2): the child maps the same files and faults its own entries; it keeps both of prctl()'s settings.

        Raises
        ------
        WorkbenchError
            The name is taken.
        """
        if name in self.machine.processes:
            raise WorkbenchError(f"process {name} is there already. Give the child of {self.name} another name.")
        child = Process(self.machine, name, self.mm.fork())
        child.early_kill = self.early_kill
        self.machine.processes[name] = child
        return child

    def exit(self) -> None:
        """The process ends, its mappings with it."""
        self.mm.exit()
        self.machine.processes.pop(self.name, None)

    # pins and references

    def af_xdp_umem(self, addr: int, nr_pages: int) -> Pinned:
        """Register a UMEM of AF_XDP: a pin for long; see :func:`workbench.mm.gup_users.af_xdp_umem_pin`."""
        _require_length(nr_pages, "pages", 1)
        return gup_users.af_xdp_umem_pin(self.machine.gup, self.mm, addr, nr_pages)

    def io_uring_buffer(self, addr: int, length: int) -> Pinned:
        """Register a fixed buffer; see :func:`workbench.mm.gup_users.io_uring_fixed_buffer`."""
        return gup_users.io_uring_fixed_buffer(self.machine.gup, self.mm, addr, length)

    def vmsplice(self, addr: int, length: int) -> Pinned:
        """Give references to a pipe; see :func:`workbench.mm.gup_users.vmsplice`."""
        _require_length(length)
        return gup_users.vmsplice(self.machine.gup, self.mm, addr, length)

    def release(self, held: Pinned, *, dirty: bool = False) -> None:
        """Give back what one of the above returned.

        Raises
        ------
        KernelCrash
            6.1 and later: the device went meanwhile, and its struct pages with it.
        """
        self.machine.gup.release(held, make_dirty=dirty)

    def process_vm_readv(self, target: Process, addr: int, length: int) -> int:
        """Read from another process; see :func:`workbench.mm.gup_users.process_vm_readv`."""
        _require_length(length)
        return gup_users.process_vm_readv(self.machine.gup, target.mm, addr, length)

    # plain files, whose data lies in device memory

    def read_file(self, file: PlainFile, length: int, buffer: int) -> int:
        """read(2) of a plain file into ``buffer``; what the memory holds then is not known.

        Raises
        ------
        WorkbenchError
            EFAULT: the buffer cannot be written.
        """
        return self._copy(file, length, buffer, write=True)

    def write_file(self, file: PlainFile, length: int, buffer: int) -> int:
        """write(2) to a plain file from ``buffer``.

        Raises
        ------
        WorkbenchError
            EFAULT: the buffer cannot be read.
        """
        return self._copy(file, length, buffer, write=False)

    def _copy(self, file: PlainFile, length: int, buffer: int, write: bool) -> int:
        _require_length(length)
        length = min(length, file.length) if write else length
        first = buffer // PAGE_SIZE * PAGE_SIZE
        pages = -(-(buffer + length - first) // PAGE_SIZE)
        try:
            self.mm.touch(first, pages, PAGE_SIZE, write)
        except Signalled as signalled:
            raise WorkbenchError(
                f"bad user address {signalled.signal.addr:#x}. Map the buffer first.", errno.EFAULT
            ) from signalled
        if write:
            for at in range(buffer, buffer + length):
                self.machine.contents[self._physical(at)] = None
        return length

    # what /proc tells

    def pagemap(self, addr: int, nr_pages: int) -> list[tuple[int, int | None]]:
        """/proc/PID/pagemap: address and pfn (None: not present) of each page.

        Reading it clears the 1 GiB entries that it meets.
        """
        self._walk("pagemap", addr, addr + nr_pages * PAGE_SIZE)
        addresses = range(addr, addr + nr_pages * PAGE_SIZE, PAGE_SIZE)
        return [(at, self.mm.translate(at)) for at in addresses]

    def _walk(self, file: str, start: int, end: int) -> None:
        cleared = self.mm.walk_page_range(start, end)
        if cleared:
            what = f"reading {file} cleared {cleared} entries of 1 GiB; the next access faults them again"
            self.machine.happened.append(Hazard(f"{self.name} at {start:#x}", what))

    def smaps(self) -> dict[str, int]:
        """/proc/PID/smaps of the first device mapping: page sizes and what is resident, in kB.

        Pages of 4 KiB entries of a device count as none; reading clears the 1 GiB entries.
        """
        if not self.mm.vmas:
            raise WorkbenchError(f"{self.name} maps nothing, so smaps has no entry. Map a device first.")
        vma = self.mm.vmas[0]
        self._walk("smaps", vma.start, vma.end)
        pagesize, pmds = vma.file.pagesize(vma), int(self.mm.leaves(vma)[Level.PMD])
        # An entry counts as much as the compound page behind it: on a tree without them that is one page.
        counted = pagesize if self.machine.kernel.tree.vmemmap_shift(pagesize) else PAGE_SIZE
        if self.mm.base == "6.12":  # which takes no entry of a device for one of a page
            counted = 0
        return {"kernel_page_kB": pagesize >> 10, "mmu_page_kB": pagesize >> 10, "rss_kB": pmds * counted >> 10}


def _require_length(length: int, unit: str = "bytes", least: int = 0) -> None:
    """No call takes a negative length."""
    if length < least:
        raise WorkbenchError(f"{length} {unit} are asked for. Ask for {least} or more.", errno.EINVAL)
