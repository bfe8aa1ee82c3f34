# SPDX-License-Identifier: GPL-2.0-only
"""A machine: a kernel booted over a memory map, and what people and their tools do with its devices.

Everything that user space can do to device memory is one method, here or on :class:`Process`, named after
the call or the file of sysfs it stands for.  The kernel's objects can be looked at: ``iomem``, ``bus``,
``zone_device``, ``array``, ``processes``, ``log``.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from html import escape
from itertools import count as counting

from workbench import text
from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE
from workbench.dax.bus import DaxBus
from workbench.dax.device import DaxInode
from workbench.dax.hmem import dax_hmem_probe, hmem_init
from workbench.dax.pmem import DaxPmem, dax_pmem_probe, dax_pmem_remove
from workbench.dax.region import DaxRange, DevDax
from workbench.errors import Signalled, WorkbenchError
from workbench.firmware.e820 import E820Entry, E820Type
from workbench.firmware.iomem import iomem_tree
from workbench.firmware.setup import Firmware, setup_arch
from workbench.machine.process import Hazard, Process
from workbench.mm import PageArray, hwpoison_inject
from workbench.mm.gup import PageRefcounts
from workbench.mm.memory_failure import Outcome, Task
from workbench.mm.memremap import ZoneDevice
from workbench.mm.mmap import AddressSpace, unmap_mapping_range
from workbench.nvdimm.region import NdNamespace, NdRegion
from workbench.series import Kernel, kernel

_KERNEL_HEAP = 0xFFFF_8881_0000_0000
"""Where the addresses of this machine's pgmaps and files begin: in the direct map, as a real kernel's are."""
_RAM = (0x10_0000, 3 << 30)
"""Memory below the devices, in bytes: what is left of 3 GiB."""
_OPTIONS = {"KSM": True, "MEM_SOFT_DIRTY": True}
"""Options of the kernel's configuration that user space can tell, as distributions set them."""

KPF_NOPAGE = 1 << 20
"""No page of the page allocator there (include/uapi/linux/kernel-page-flags.h)."""

Ranges = Iterable[tuple[int, int]]


@dataclass(frozen=True)
class CreateFailed:
    """A step of making a device was refused: the device stays, empty.

    Attributes
    ----------
    step : str
        ``create``, ``set_align``, ``set_size`` or ``bind``.
    device : str or None
    """

    step: str
    device: str | None = None


class CreateRefused(WorkbenchError):
    """create_device was refused in one of its steps.

    Parameters
    ----------
    refused : WorkbenchError
    failed : CreateFailed
    """

    def __init__(self, refused: WorkbenchError, failed: CreateFailed) -> None:
        changed = refused.changed
        if failed.device:
            changed += (f"{failed.device} stays, without memory, and is the next to be set up",)
        super().__init__(f"{failed.step}: {refused}", refused.errno, changed)
        self.failed = failed


class Machine:
    """A kernel booted over memory.

    Parameters
    ----------
    kernel : Kernel or str
        See :func:`workbench.series.kernel`.
    persistent_memory, soft_reserved : iterable of (int, int)
        Start and end (exclusive) in bytes of each range that devices can be made of.
    firmware : Firmware, optional
        In place of those: what the machine tells the kernel about all of its memory.
    cmdline : str
        ``efi_fake_mem=``, ``memmap=`` and ``efi=nosoftreserve`` are heeded.
    early_reserve_memory_first : bool
        Commit 8aa83e6395ce, see :func:`workbench.firmware.setup.setup_arch`.
    options : dict of str to bool
        Deviations from :data:`_OPTIONS`.
    new_address : callable, optional
        Gives kernel addresses for new objects.
    pfn_next_by_one : bool
        The mistake of version 3 of the series, see :class:`workbench.mm.memremap.ZoneDevice`.
    ordinary_bytes : int
        So much physical memory from 0 on has struct pages that can be given, see
        :mod:`workbench.machine.ordinary`.

    Attributes
    ----------
    array : PageArray
    iomem : Resource
    zone_device : ZoneDevice
    bus : DaxBus
    gup : PageRefcounts
        Takes and gives references of user pages.
    nd_regions : list of NdRegion
    processes : dict of str to Process
        ``p0`` is there from the start.
    log : list of str
        Lines of the kernel log.
    contents : dict of int to int or None
        Bytes written to memory, by physical address; None where they are not known; 0 elsewhere.
    happened : list of Hazard
        What was done that the kernel does not guard against; see :meth:`hazards`.
    """

    memory_failure_early_kill = False
    memory_failure_recovery = True
    hwpoison_filter: Callable[[int], bool] | None = None

    def __init__(
        self,
        kernel: Kernel | str,
        *,
        persistent_memory: Ranges = (),
        soft_reserved: Ranges = (),
        firmware: Firmware | None = None,
        cmdline: str = "",
        early_reserve_memory_first: bool = False,
        options: dict[str, bool] | None = None,
        new_address: Callable[[], int] | None = None,
        pfn_next_by_one: bool = False,
        ordinary_bytes: int = 0,
    ) -> None:
        self.kernel = _kernel(kernel)
        self.options = _OPTIONS | (options or {})
        self.new_address = new_address or counting(_KERNEL_HEAP, 0x1000).__next__
        firmware = firmware or _firmware(persistent_memory, soft_reserved)
        boot = setup_arch(firmware, cmdline, self.kernel.tree.base, early_reserve_memory_first)
        pmem, soft = boot.ranges(E820Type.PMEM), boot.ranges(E820Type.SOFT_RESERVED)
        ordinary = [(0, ordinary_bytes)] if ordinary_bytes else []
        if not pmem + soft + ordinary:
            raise WorkbenchError(
                "this machine has no memory that devices can be made of: neither persistent memory nor soft reserved. "
                "Add persistent_memory=, soft_reserved=, or efi_fake_mem= to the command line."
            )
        spans = pmem + soft + ordinary
        low, high = min(start for start, _ in spans), max(end for _, end in spans)
        self.log: list[str] = list(boot.log)
        self.iomem = iomem_tree(boot.e820)
        self.array = PageArray(self.kernel, low >> PAGE_SHIFT, (high - low) >> PAGE_SHIFT)
        self.zone_device = ZoneDevice(
            self.array, self.iomem, self.new_address, max_pfn=high >> PAGE_SHIFT, pfn_next_by_one=pfn_next_by_one
        )
        self.bus = DaxBus(self.zone_device)
        self.gup = PageRefcounts(self.array, self.zone_device)
        self.mappings: dict[int, AddressSpace] = {}
        self._inodes: dict[DevDax, DaxInode] = {}
        self._pmem: dict[str, DaxPmem] = {}
        self.contents: dict[int, int | None] = {}
        self.happened: list[Hazard] = []
        self.processes: dict[str, Process] = {}
        self.process("p0")
        ids = counting()
        self.nd_regions = [NdRegion(next(ids), start, end - start) for start, end in pmem]
        for hmem in hmem_init(self.iomem, ids.__next__):
            try:
                dax_hmem_probe(self.bus, hmem)
            except WorkbenchError as refused:
                if refused.errno is None:
                    raise
                self.log.append(f"dax_hmem {hmem.name}: probe with driver dax_hmem failed with error -{refused.errno}")
        self._adopt()

    # processes

    def process(self, name: str = "p0") -> Process:
        """The process called ``name``; a new one where there is none."""
        if name not in self.processes:
            self.processes[name] = Process(self, name)
        return self.processes[name]

    def inode(self, device: str) -> DaxInode:
        """The device file of a device.

        Raises
        ------
        WorkbenchError
            ENOENT: no such device.
        """
        found = self.bus.device(device)
        self._adopt()
        return self._inodes[found]

    def _adopt(self) -> None:
        """Give each new device its file, and note what the log says of its pages."""
        for device in self.bus.devices():
            if device not in self._inodes:
                mapping = AddressSpace(device.mapping_address)
                self.mappings[mapping.address] = mapping
                self._inodes[device] = DaxInode(device, self.array, mapping)
                device.unmap_mapping = partial(unmap_mapping_range, mapping, 0, 0)
        for nr_pages in self.zone_device.initialised:
            self.log.append(f"memmap_init_zone_device initialised {nr_pages} pages in 0ms")
        self.zone_device.initialised.clear()

    # namespaces of persistent memory

    def init_labels(self) -> None:
        """Write namespace labels, so that a namespace may be smaller than its region."""
        for region in self.nd_regions:
            region.init_labels()

    def create_namespace(self, size: int | None = None, align: int = 2 << 20, map: str = "dev") -> DevDax:
        """Make a namespace in device-dax mode in the first region that takes it; its device is bound.

        Parameters
        ----------
        size : int, optional
            Bytes; all that is free unless told.
        align : int
            Bytes.
        map : str
            ``"mem"``: struct pages in RAM; ``"dev"``: in the namespace itself.

        Raises
        ------
        WorkbenchError
            See :meth:`workbench.nvdimm.region.NdRegion.create_namespace`; ENOSPC without persistent memory.
        """
        refused = WorkbenchError("this machine has no persistent memory. Boot it with some.", errno.ENOSPC)
        for region in self.nd_regions:
            try:
                namespace = region.create_namespace(size, align, map)
            except WorkbenchError as no:
                refused = no
                continue
            return self._enable(namespace)
        raise refused

    def _enable(self, namespace: NdNamespace) -> DevDax:
        assert namespace.nd_pfn is not None
        pmem = dax_pmem_probe(
            self.bus, namespace.nd_pfn, namespace.nd_pfn.namespace.align, namespace.region_id, namespace.id
        )
        self._pmem[namespace.name] = pmem
        self._adopt()
        return pmem.device

    def _namespace(self, name: str) -> tuple[NdRegion, NdNamespace]:
        for region in self.nd_regions:
            for namespace in region.namespaces:
                if namespace.name == name:
                    return region, namespace
        raise WorkbenchError(f"no {name}.", errno.ENODEV)

    def disable_namespace(self, name: str = "namespace0.0") -> None:
        """Release the driver of a namespace, and with it its device.

        Raises
        ------
        WorkbenchError
            ENODEV: there is none; or the device's unbind waits.
        """
        region, namespace = self._namespace(name)
        if name in self._pmem:
            device = self._pmem[name].device
            dax_pmem_remove(self.bus, self._pmem[name])
            del self._pmem[name]
            self._inodes.pop(device, None)
        region.disable_namespace(namespace.name)

    def reconfigure_namespace(self, name: str = "namespace0.0", align: int = 2 << 20, map: str = "dev") -> DevDax:
        """Give a disabled namespace another align or map and bring it back.

        Raises
        ------
        WorkbenchError
            See :meth:`workbench.nvdimm.region.NdRegion.reconfigure_namespace`.
        """
        region, _ = self._namespace(name)
        return self._enable(region.reconfigure_namespace(name, align, map))

    def enable_namespace(self, name: str = "namespace0.0") -> DevDax:
        """Bring a disabled namespace and its device back."""
        region, _ = self._namespace(name)
        return self._enable(region.enable_namespace(name))

    def destroy_namespace(self, name: str = "namespace0.0") -> None:
        """Take the label of a disabled namespace away; see :meth:`NdRegion.destroy_namespace`."""
        self._namespace(name)[0].destroy_namespace(name)

    def namespaces(self) -> Iterator[NdNamespace]:
        """Every namespace, region by region."""
        for region in self.nd_regions:
            yield from region.namespaces

    # the dax bus: one store each

    def region_create(self, value: str = "1", region: int = 0) -> DevDax:
        """Store to a region's ``create``; see :meth:`workbench.dax.bus.DaxBus.create_store`."""
        device = self.bus.create_store(value, region)
        self._adopt()
        return device

    def read_seed(self, region: int = 0) -> str:
        """Read a region's ``seed``."""
        return self.bus.seed(region)

    def set_size(self, device: str, size: int | str) -> None:
        """Store to a device's ``size``."""
        self.bus.size_store(device, size)

    def set_align(self, device: str, align: int | str) -> None:
        """Store to a device's ``align``."""
        self.bus.align_store(device, align)

    def add_range(self, device: str, start: int, last: int) -> None:
        """Store to a device's ``mapping``: one more range, its last byte included."""
        self.bus.mapping_store(device, f"{start:x}-{last:x}")

    def delete_device(self, device: str) -> None:
        """Store to the region's ``delete``."""
        named = re.match(r"dax(\d+)\.", device)
        region = int(named[1]) if named else 0
        gone = next((each for each in self.bus.devices() if each.name == device), None)
        self.bus.delete_store(device, region)
        if gone is not None:
            self._inodes.pop(gone, None)

    def bind(self, device: str) -> None:
        """Let the device_dax driver take a device; from 6.3 on, where it waits to be told, tell it first.

        Raises
        ------
        WorkbenchError
            See :meth:`workbench.dax.bus.DaxBus.bind`.
        KernelCrash
        """
        try:
            found = next((each for each in self.bus.devices() if each.name == device), None)
            if self.kernel.tree.base == "6.12" and found is not None and not found.region.is_static:
                self.bus.new_id("device_dax", device)
                if found.bound:
                    return
            self.bus.bind(device)
        finally:
            self._adopt()

    def unbind(self, device: str) -> bool:
        """Let the driver go; False where it waits for held pages (see :meth:`unbind_finished`)."""
        self._note_held(device)
        return self.bus.unbind(device)

    def _note_held(self, name: str) -> None:
        """6.1 and later let struct pages go while somebody holds them."""
        device = next((each for each in self.bus.devices() if each.name == name), None)
        if device is None or device.bound_pgmap is None or self.kernel.tree.puts_pages_at_teardown:
            return
        held = sum(self.array.count_held(*each) for each in device.bound_pgmap.ranges)
        if held:
            self.happened.append(
                Hazard(
                    f"unbind of {name}",
                    f"{text.count(held)} struct pages went while somebody held them: who drops such a page touches "
                    "memory that is not mapped, and the kernel oopses",
                )
            )

    def unbind_finished(self, device: str) -> bool:
        """Whether an unbind that waited has come to its end."""
        return self.bus.unbind_continue(device)

    # the management commands over them

    def disable_device(self, device: str) -> bool:
        """``daxctl disable-device``: unbind it; one without a driver is passed over."""
        return not self.bus.device(device).bound or self.unbind(device)

    def create_device(self, size: int, align: int = 2 << 20, region: int = 0) -> DevDax:
        """``daxctl create-device``: the region's seed gets align and size, and is bound.

        Raises
        ------
        CreateRefused
            With the step that was refused; the device stays, empty.
        KernelCrash
            Binding it kills the process.
        """
        device: str | None = None
        step = "create"
        try:
            self.region_create("1", region)
            device = self.bus.seed(region)
            step = "set_align"
            self.set_align(device, align)
            step = "set_size"
            self.set_size(device, size)
            step = "bind"
            self.bind(device)
        except WorkbenchError as refused:
            if refused.errno is None:
                raise
            raise CreateRefused(refused, CreateFailed(step, device)) from refused
        return self.bus.device(device)

    def resize_device(self, device: str, size: int) -> None:
        """``daxctl reconfigure-device --size``: of an unbound device."""
        self.set_size(device, size)

    def destroy_device(self, device: str) -> None:
        """``daxctl destroy-device``: empty it, then delete it.

        Raises
        ------
        WorkbenchError
            EBUSY: bound; the region's first device is only emptied.
        """
        self.set_size(device, 0)
        self.delete_device(device)

    # memory failure

    def report(self, outcome: Outcome, process: Process | None) -> None:
        """Take the outcome of a memory failure: log, counters, victims; raise what ``process`` gets.

        Raises
        ------
        Signalled
            A signal to ``process``.
        WorkbenchError
            The errno of the call.
        """
        self.log.extend(outcome.log)
        self.zone_device.num_poisoned_pages += outcome.counted
        delivered = outcome.delivered
        for name, signal in delivered.items():
            if signal.name == "SIGKILL" and name in self.processes:
                self.processes[name].exit()
        if process is not None and process.name in delivered:
            signal = delivered[process.name]
            raise Signalled(signal, f"memory at {signal.addr:#x} failed; {1 << signal.lsb} bytes around it are lost.")
        if outcome.errno is not None:
            raise WorkbenchError(
                f"memory failure: {'; '.join(outcome.log) or 'refused before anything was done'}. "
                "Give a page that a device has, that was faulted once, and whose address is a multiple of 4096.",
                outcome.errno,
            )

    def get_user_pages_fast(self, process: Task, addr: int) -> int:
        """One page for :func:`workbench.mm.hwpoison_inject.madvise_inject_error`: its pfn, with a reference."""
        return int(self.gup.get_user_pages_fast(process.mm, addr, 1, 0).pfns[0])

    def hard_offline_page(self, phys_addr: int, process: str = "p0") -> None:
        """Store a physical address to ``hard_offline_page`` of sysfs; see :meth:`report`."""
        _require_u64(phys_addr)
        current = self.process(process)
        self.report(hwpoison_inject.hard_offline_page(self, phys_addr, current), current)

    def soft_offline_page(self, phys_addr: int, process: str = "p0") -> None:
        """Store a physical address to ``soft_offline_page`` of sysfs."""
        _require_u64(phys_addr)
        self.report(hwpoison_inject.soft_offline_page(self, phys_addr), self.process(process))

    def corrupt_pfn(self, pfn: int, process: str = "p0") -> None:
        """Store a pfn to ``hwpoison/corrupt-pfn`` of debugfs."""
        current = self.process(process)
        self.report(hwpoison_inject.hwpoison_inject(self, pfn, current), current)

    def unpoison_pfn(self, pfn: int, process: str = "p0") -> None:
        """Store a pfn to ``hwpoison/unpoison-pfn`` of debugfs."""
        self.report(hwpoison_inject.hwpoison_unpoison(self, pfn), self.process(process))

    # what to know

    @property
    def hardware_corrupted_kB(self) -> int:
        """HardwareCorrupted of /proc/meminfo."""
        return self.zone_device.num_poisoned_pages * (PAGE_SIZE >> 10)

    def addresses(self) -> set[int]:
        """Kernel addresses of the pgmaps and files there are now."""
        pgmaps = {pgmap.address for pgmap in self.zone_device.pgmaps}
        return pgmaps | {device.mapping_address for device in self.bus.devices()}

    def kpageflags(self, pfn: int) -> tuple[int, int]:
        """/proc/kpageflags and /proc/kpagecount of a page: device memory is never online, so it is no page to them."""
        return KPF_NOPAGE, 0

    def hazards(self) -> list[Hazard]:
        """What this machine's devices do that the kernel does not check."""
        found = [*self.happened, *(Hazard("device memory", what) for what in self.zone_device.hazards)]
        for device in self.bus.devices():
            found.extend(_misaligned(device))
        for process in self.processes.values():
            for vma in process.mm.vmas:
                align = vma.file.pagesize(vma)
                if vma.pgoff % (align >> PAGE_SHIFT):
                    found.append(
                        Hazard(
                            f"{process.name} at {vma.start:#x}",
                            f"the file offset, page {vma.pgoff:#x}, is no multiple of {text.size(align)}: "
                            "the frame mapped is rounded down, page->index is not",
                        )
                    )
        return found

    def _facts(self) -> dict[str, str]:
        devices = [_device_line(device) for device in self.bus.devices()]
        return {
            "kernel": repr(self.kernel),
            "persistent memory": "; ".join(map(repr, self.nd_regions)) or "none",
            "devices": "; ".join(devices) or "none",
            "processes": ", ".join(self.processes) or "none",
            "hazards": "; ".join(map(str, self.hazards())) or "none seen",
        }

    def __repr__(self) -> str:
        return "Machine\n" + "\n".join(f"  {name}: {value}" for name, value in self._facts().items())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(n)}</th><td>{escape(v)}</td></tr>" for n, v in self._facts().items())
        return f"<table><caption>Machine</caption>{rows}</table>"


def _kernel(which: Kernel | str) -> Kernel:
    return kernel(which) if isinstance(which, str) else which


def _require_u64(value: int) -> None:
    """What kstrtoull() takes."""
    if not 0 <= value < 1 << 64:
        raise WorkbenchError(f"{value:#x} is no number of 64 bits. Give a physical address.", errno.EINVAL)


def _firmware(persistent_memory: Ranges, soft_reserved: Ranges) -> Firmware:
    """A BIOS table with those ranges, and RAM below them."""
    special = [
        E820Entry(start, end - start, kind)
        for ranges, kind in ((persistent_memory, E820Type.PMEM), (soft_reserved, E820Type.SOFT_RESERVED))
        for start, end in ranges
    ]
    ram_end = min([_RAM[1], *(entry.start for entry in special)])
    ram = [E820Entry(_RAM[0], ram_end - _RAM[0], E820Type.RAM)] if ram_end > _RAM[0] else []
    return Firmware.from_e820(ram + special)


def _misaligned(device: DevDax) -> Iterator[Hazard]:
    for each in device.ranges:
        if each.start % device.align:
            yield Hazard(
                device.name,
                f"its range {each} starts off a multiple of {text.size(device.align)}: a fault maps memory of "
                "others below it, and heads do not lie where huge pages begin",
            )
        if each.size % device.align:
            yield Hazard(
                device.name,
                f"its range {each} is no multiple of {text.size(device.align)} long: the last compound page runs over "
                "its end, and its last part cannot be mapped",
            )


def _device_line(device: DevDax) -> str:
    ranges = ", ".join(_range(each) for each in device.ranges) or "empty"
    return f"{device.name} align {text.size(device.align)} {ranges} ({device.driver or 'no driver'})"


def _range(each: DaxRange) -> str:
    return f"{each.start:#x}-{each.end:#x}"
