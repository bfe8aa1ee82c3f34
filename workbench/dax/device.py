# SPDX-License-Identifier: GPL-2.0-only
"""drivers/dax/device.c: what an open device-dax file allows, and how its mappings get their pages."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import numpy as np

from workbench.abi.constants import PAGE_SHIFT, PAGES_PER_SECTION
from workbench.dax import fault
from workbench.dax.bus import DevDax
from workbench.errors import KernelCrash, WorkbenchError
from workbench.mm import pgtable
from workbench.mm.events import Events
from workbench.mm.memremap import pfn_first
from workbench.mm.mmap import AddressSpace, Map, Mm, Vm, Vma, VmFault
from workbench.mm.page_array import PageArray
from workbench.text import size

_NO_INJECTION = VmFault(0)


@dataclass(eq=False)
class DaxInode:
    """The character device of a dax device: what all who open it share.

    Attributes
    ----------
    dev_dax : DevDax
    array : PageArray
        The struct pages of the machine.
    mapping : AddressSpace
    insert_fails : VmFault
        An injected failure: what every insertion of an entry answers (OOM, SIGBUS); 0 for none.
    events : Events or None
        Told of every store to a struct page, while it is set.
    """

    dev_dax: DevDax
    array: PageArray
    mapping: AddressSpace
    insert_fails: VmFault = _NO_INJECTION
    events: Events | None = field(default=None, repr=False)

    def open(self, *, readable: bool = True, writable: bool = True, direct: bool = False) -> DaxFile:
        """open(2).

        Raises
        ------
        WorkbenchError
            EINVAL: O_DIRECT, which a device without direct I/O refuses.
        """
        if direct:
            raise WorkbenchError("device-dax has no direct I/O. Open it without O_DIRECT.", errno.EINVAL)
        return DaxFile(self, readable, writable)


@dataclass(eq=False)
class DaxFile:
    """An open device-dax file.

    Kernel
    ------
    drivers/dax/device.c, dax_fops and dax_vm_ops, 5.10 to 6.12.
    """

    inode: DaxInode
    readable: bool = True
    writable: bool = True
    mmap_supported_flags: Map = Map.SYNC

    @property
    def mapping(self) -> AddressSpace:
        """The address space of the device's file."""
        return self.inode.mapping

    def _check_vma(self, vma: Vma) -> WorkbenchError | None:
        """check_vma(): what is wrong with an area, or None."""
        dev_dax = self.inode.dev_dax
        if not dev_dax.alive:
            return WorkbenchError(f"{dev_dax.name} has no driver. Bind it first.", errno.ENXIO)
        if not vma.flags & Vm.MAYSHARE:
            return WorkbenchError(f"{dev_dax.name}: private mappings are not supported. Use MAP_SHARED.", errno.EINVAL)
        if vma.start % dev_dax.align or vma.end % dev_dax.align:
            return WorkbenchError(
                f"{dev_dax.name}: {vma.start:#x}-{vma.end:#x} does not begin and end at multiples of its align, "
                f"{size(dev_dax.align)}. Round address and length.",
                errno.EINVAL,
            )
        return None

    def mmap(self, vma: Vma) -> None:
        """dax_mmap(): refuse the area, or take it and ask for huge pages.

        Raises
        ------
        WorkbenchError
            ENXIO: no driver; EINVAL: private, or not whole multiples of the align.
        """
        refusal = self._check_vma(vma)
        if refusal is not None:
            raise refusal
        vma.flags |= Vm.HUGEPAGE

    def get_unmapped_area(self, mm: Mm, length: int, pgoff: int) -> int:
        """dax_get_unmapped_area(): an address with the remainder of the file offset, where one aligned unit fits."""
        align, offset = self.inode.dev_dax.align, pgoff << PAGE_SHIFT
        first = -(-offset // align) * align
        if offset + length <= first or offset + length - first < align:
            return mm.get_unmapped_area(length)
        addr = mm.get_unmapped_area(length + align)
        return addr + (offset - addr) % align

    def may_split(self, vma: Vma, addr: int) -> None:
        """dev_dax_may_split(): only at multiples of the align.

        Raises
        ------
        WorkbenchError
            EINVAL.
        """
        align = self.inode.dev_dax.align
        if addr % align:
            raise WorkbenchError(
                f"a mapping of {self.inode.dev_dax.name} cannot be cut at {addr:#x}: its align is {size(align)}. "
                "Round the range.",
                errno.EINVAL,
            )

    def pagesize(self, vma: Vma) -> int:
        """dev_dax_pagesize(): the align."""
        return self.inode.dev_dax.align

    # file operations it does not have

    def read(self, length: int) -> int:
        """read(2): EINVAL; EBADF where it was opened for writing only."""
        raise self._no("read") if self.readable else self._bad("reading")

    def write(self, length: int) -> int:
        """write(2): EINVAL; EBADF where it was opened for reading only."""
        raise self._no("write") if self.writable else self._bad("writing")

    def lseek(self, offset: int, whence: str) -> int:
        """lseek(2): the position stays 0 (noop_llseek())."""
        return 0

    def fallocate(self, mode: int, offset: int, length: int) -> None:
        """fallocate(2): ENODEV, it is no regular file."""
        raise self._no("fallocate", errno.ENODEV)

    def ftruncate(self, length: int) -> None:
        """ftruncate(2): EINVAL, it is no regular file."""
        raise self._no("ftruncate")

    def fsync(self) -> None:
        """fsync(2): EINVAL."""
        raise self._no("fsync")

    def _bad(self, what: str) -> WorkbenchError:
        return WorkbenchError(f"{self.inode.dev_dax.name} is not open for {what} here. Open it rw.", errno.EBADF)

    def _no(self, what: str, code: int = errno.EINVAL) -> WorkbenchError:
        return WorkbenchError(f"{self.inode.dev_dax.name} has no {what}(). Map it.", code)

    # faults

    def touch(self, mm: Mm, vma: Vma, addr: int, count: int, stride: int, write: bool) -> tuple[int, VmFault]:
        """Access ``count`` addresses of an area, faulting as needed; see :class:`workbench.mm.mmap.File`."""
        dev_dax, inode = self.inode.dev_dax, self.inode
        align = dev_dax.align
        self._materialise(vma, addr, count, stride)
        last = addr + (count - 1) * stride
        level = fault.LEVEL_OF_ALIGN[align]
        mm.pt = pgtable.reserve(mm.pt, pgtable.tables_for(min(addr, last), max(addr, last) + align, level))
        done, result = fault.touch(
            inode.array.memmap, mm.pt, self._fault(mm, vma), addr, count, stride, write, inode.events
        )
        return done, VmFault(result)

    def _fault(self, mm: Mm, vma: Vma) -> fault.Fault:
        dev_dax, tree = self.inode.dev_dax, self.inode.array.kernel.tree
        pgmap = dev_dax.bound_pgmap
        return fault.Fault(
            start=vma.start,
            end=vma.end,
            pgoff=vma.pgoff,
            vm_flags=int(vma.flags),
            page_prot=np.uint64(vma.page_prot),
            devmap=np.uint64(pgtable.Pg.DEVMAP_6_12 if tree.base == "6.12" else pgtable.Pg.DEVMAP),
            huge=not vma.flags & Vm.NOHUGEPAGE and not mm.thp_disabled,
            valid=self._check_vma(vma) is None,
            align=dev_dax.align,
            range_pgoff=np.array([each.pgoff for each in dev_dax.ranges], np.int64),
            range_pfn=np.array([each.start >> PAGE_SHIFT for each in dev_dax.ranges], np.int64),
            range_pages=np.array([(each.end + 1 - each.start) >> PAGE_SHIFT for each in dev_dax.ranges], np.int64),
            mapping=np.uint64(self.mapping.address),
            soft_dirty=np.uint64(pgtable.Pg.SOFT_DIRTY if mm.soft_dirty else 0),
            compound=pgmap is not None and pgmap.vmemmap_shift > 0,
            round_up=tree.rounds_pgoff_up,
            mapping_first=tree.has(9),
            insert_fails=int(self.inode.insert_fails),
        )

    def _materialise(self, vma: Vma, addr: int, count: int, stride: int) -> None:
        """Give the struct pages that faults of these accesses may write to their memory: the units' and the heads'."""
        dev_dax, array = self.inode.dev_dax, self.inode.array
        pgmap = dev_dax.bound_pgmap
        if not dev_dax.alive or pgmap is None:
            return
        unit = dev_dax.align >> PAGE_SHIFT
        addresses = addr + np.arange(count, dtype=np.int64) * stride
        pages = np.unique((addresses - vma.start) // dev_dax.align) * unit + vma.pgoff
        # Base pages are all written, of a compound page only the head; a misaligned offset reaches into the next unit.
        inside = np.arange(0, unit, PAGES_PER_SECTION) if not pgmap.vmemmap_shift else np.zeros(1, np.int64)
        for range_id, each in enumerate(dev_dax.ranges):
            inside_range = (pages >= each.pgoff) & (pages + unit <= each.pgoff + each.nr_pages)
            first = pages[inside_range] - each.pgoff + each.start_pfn
            if not len(first):
                continue
            pfn = int(first[0])
            if not array.exists(pfn)[0]:
                raise KernelCrash(
                    f"BUG: unable to handle page fault for address: {array.kernel.abi.struct_page(pfn):016x}: "
                    f"{dev_dax.name} got its range {each} after it was bound, so pfn {pfn:#x} has no struct page. "
                    "Unbind the device before it gets a range."
                )
            origin = pfn_first(pgmap, range_id)
            heads = origin + ((first - origin) >> pgmap.vmemmap_shift << pgmap.vmemmap_shift)
            written = np.concatenate([heads, first + unit - 1, (first[:, None] + inside).ravel()])
            sections = np.unique((written - array.start_pfn) // PAGES_PER_SECTION)
            sections = sections[sections < array.nr_sections]
            for section in sections[~array.sections.present[sections]].tolist():
                array.materialise(array.start_pfn + section * PAGES_PER_SECTION, PAGES_PER_SECTION)
