# SPDX-License-Identifier: GPL-2.0-only
"""mm/memory-failure.c for the memory of a device: what is marked, what is unmapped, who is told which address.

* A pfn failed.  Its pgmap says whether the device uses it; patch 1 then goes on with the *head* of its
  compound page, because only a head has page->mapping and page->index.
* The file behind page->mapping knows the areas that map it.  The victim's address is computed from
  page->index: what a fault stored there long ago decides who is told what, not the page tables.
* The largest entry found at a victim's address gives the size that is unmapped, in all processes.
* A tree without patch 1 under patch 11 takes a tail's mapping word for a pointer, and dies.

Every run keeps the order of its locks, checks and stores in :attr:`Outcome.steps`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntFlag
from typing import NamedTuple, Protocol

import numpy as np

from workbench.abi.constants import PAGE_SHIFT
from workbench.errors import KernelCrash, Signal, WorkbenchError
from workbench.mm._jit import plain
from workbench.mm.events import Access, Events, Site, note_load, note_store
from workbench.mm.memmap import (
    COMPOUND_HEAD,
    COUNTS,
    FLAGS,
    INDEX,
    MAPPING,
    REFCOUNT_SHIFT,
    TAIL_DATA,
    page_ref_sub_return,
)
from workbench.mm.memremap import (
    DevPagemap,
    MemoryType,
    ZoneDevice,
    get_dev_pagemap,
    pgmap_pfn_valid,
    put_dev_pagemap,
)
from workbench.mm.mmap import AddressSpace, Mm, Vma, unmap_mapping_range
from workbench.mm.page_array import PageArray
from workbench.mm.pgtable import Level, Pg

_MF_SPLIT = ("6.1", "6.12")
"""Bases where the common part is mf_generic_kill_procs(), drivers are asked first and every result is counted."""
_MF_MUTEX = ("5.17", *_MF_SPLIT)
"""Bases where mf_mutex covers device memory too."""


class MfFlags(IntFlag):
    """MF_* of include/linux/mm.h."""

    COUNT_INCREASED = 1 << 0
    ACTION_REQUIRED = 1 << 1
    MUST_KILL = 1 << 2
    SOFT_OFFLINE = 1 << 3


_NO_FLAGS = MfFlags(0)


class Task(Protocol):
    """A process, as far as memory failure looks at it."""

    @property
    def name(self) -> str:
        """How the log names it; the kernel writes NAME:PID."""

    @property
    def mm(self) -> Mm:
        """Its address space."""

    @property
    def alive(self) -> bool:
        """Whether it still runs."""

    @property
    def early_kill(self) -> bool | None:
        """prctl(PR_MCE_KILL): True early, False late, None what the system's setting says."""


class System(Protocol):
    """What memory failure asks of the machine around it."""

    @property
    def zone_device(self) -> ZoneDevice:
        """The pgmaps and their struct pages."""

    @property
    def mappings(self) -> Mapping[int, AddressSpace]:
        """The files that page->mapping can point to, by address."""

    @property
    def processes(self) -> Mapping[str, Task]:
        """The processes, oldest first."""

    @property
    def memory_failure_early_kill(self) -> bool:
        """/proc/sys/vm/memory_failure_early_kill."""

    @property
    def memory_failure_recovery(self) -> bool:
        """/proc/sys/vm/memory_failure_recovery."""

    @property
    def hwpoison_filter(self) -> Callable[[int], bool] | None:
        """The filter of the injection module: True for a pfn to leave alone; None where it is switched off."""

    def get_user_pages_fast(self, process: Task, addr: int) -> int:
        """Take a reference (FOLL_GET) of the page at a user address; its pfn.

        Raises
        ------
        WorkbenchError
            EFAULT.
        """


class Step(NamedTuple):
    """One step of a run: a lock, a check, a walk, a store or a signal.

    Attributes
    ----------
    kind : str
        ``lock``, ``check``, ``walk``, ``store``, ``signal``, ``log``, ``unlock``.
    what : str
        The kernel's name for it.
    found : str
        What came of it here.
    """

    kind: str
    what: str
    found: str = ""


@dataclass(frozen=True)
class Outcome:
    """What one or several memory failures did.

    Attributes
    ----------
    errno : int or None
        Positive errno of the call, None for success.
    result : str
        ``Recovered``, ``Failed`` as the log says; empty where it says nothing.
    log : tuple of str
        Lines of the kernel log, in order.
    signals : tuple of (Task, Signal)
        Every signal sent, in order; see :attr:`delivered` for what arrives.
    unmapped : int
        Page table entries cleared.
    marked : tuple of int
        Pfns whose struct page got PG_hwpoison.
    counted : int
        By how many pages HardwareCorrupted of /proc/meminfo grows.
    steps : tuple of Step
        Locks, checks and stores in the order they happened.
    """

    errno: int | None = None
    result: str = ""
    log: tuple[str, ...] = ()
    signals: tuple[tuple[Task, Signal], ...] = ()
    unmapped: int = 0
    marked: tuple[int, ...] = ()
    counted: int = 0
    steps: tuple[Step, ...] = ()

    @property
    def delivered(self) -> dict[str, Signal]:
        """The signal each process gets, by name.

        A SIGBUS that is pending swallows the later ones: the address seen is that of the first.  SIGKILL wins.
        """
        seen: dict[str, Signal] = {}
        for task, signal in self.signals:
            if task.name not in seen or signal.name == "SIGKILL":
                seen[task.name] = signal
        return seen

    def then(self, later: Outcome) -> Outcome:
        """The outcome of this and then another one of the same call."""
        return Outcome(
            later.errno,
            later.result,
            self.log + later.log,
            self.signals + later.signals,
            self.unmapped + later.unmapped,
            self.marked + later.marked,
            self.counted + later.counted,
            self.steps + later.steps,
        )


class MemoryFailureCrash(KernelCrash):
    """The kernel dies while it handles a memory failure.

    Parameters
    ----------
    message : str
    outcome : Outcome
        What it had done by then.
    """

    def __init__(self, message: str, outcome: Outcome) -> None:
        stores = tuple(f"{step.what}: {step.found}" for step in outcome.steps if step.kind == "store")
        super().__init__(message, changed=stores)
        self.outcome = outcome


@dataclass
class _Run:
    """An outcome in the making, and who is told of stores to struct pages."""

    events: Events | None = None
    log: list[str] = field(default_factory=list)
    signals: list[tuple[Task, Signal]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    unmapped: int = 0
    marked: tuple[int, ...] = ()

    def step(self, kind: str, what: str, found: str = "") -> None:
        self.steps.append(Step(kind, what, found))

    def outcome(self, code: int | None, result: str = "", counted: int = 0) -> Outcome:
        log, signals, steps = tuple(self.log), tuple(self.signals), tuple(self.steps)
        return Outcome(code, result, log, signals, self.unmapped, self.marked, counted, steps)


@dataclass(frozen=True)
class ToKill:
    """struct to_kill: a process to be told, where, and the size of the entry there.

    Attributes
    ----------
    task : Task
    addr : int or None
        User address; None for -EFAULT: the page has no address in the area.
    size_shift : int
        12, 21 or 30; 0 with no address.
    """

    task: Task
    addr: int | None
    size_shift: int


def compound_head(array: PageArray, pfn: int) -> int:
    """The pfn of the head of the compound page of ``pfn``; ``pfn`` itself for a base page.

    Kernel: include/linux/page-flags.h, ``compound_head()``.
    """
    word = array.words(pfn)[int(COMPOUND_HEAD)]
    return array.kernel.abi.pfn_of(word - 1) if word & 1 else pfn


def compound_order(array: PageArray, head: int) -> int:
    """log2 of the pages of the compound page of ``head``, read from its first tail; 0 for a base page.

    Kernel: include/linux/mm.h, ``compound_order()``.
    """
    if not array.words(head)[int(FLAGS)] & array.kernel.abi.flag("head"):
        return 0
    tail = array.words(head + 1)
    if array.writable(head, 1).order_in_flags:
        return tail[int(FLAGS)] & 0xFF
    return tail[int(TAIL_DATA)] >> 8 & 0xFF


def vma_address(index: int, nr_pages: int, vma: Vma) -> int | None:
    """Where an area maps a page; None for -EFAULT.

    Parameters
    ----------
    index : int
        page->index.
    nr_pages : int
        Pages of its compound page, 1 for a base page.
    vma : Vma

    Kernel
    ------
    mm/internal.h, vma_address(), 5.13 and later.
    """
    if index >= vma.pgoff:
        address = vma.start + ((index - vma.pgoff) << PAGE_SHIFT)
        return address if address < vma.end else None
    return vma.start if index + nr_pages > vma.pgoff else None


def dev_pagemap_mapping_shift(mm: Mm, addr: int) -> int:
    """log2 of the bytes of the entry at a user address: 12, 21 or 30; 0 where nothing is present.

    A 1 GiB entry without access (PROT_NONE) does not count as present; smaller ones do.

    Kernel: mm/memory-failure.c, ``dev_pagemap_mapping_shift()``.
    """
    level, entry = mm.walk(addr)
    present = Pg.PRESENT if level == Level.PUD else Pg.PRESENT | Pg.PROTNONE
    return level.shift if entry & present else 0


def areas_of(mapping: AddressSpace, mm: Mm, index: int) -> list[Vma]:
    """The areas of ``mm`` that map the file's page ``index``, in the order of the interval tree.

    The tree is sorted by the first file page of an area; among equals the one mapped first comes first.

    Kernel: mm/interval_tree.c, ``vma_interval_tree_foreach()``.
    """
    inside = (vma for owner, vma in mapping.areas if owner is mm and vma.pgoff <= index < vma.pgoff_of(vma.end))
    return sorted(inside, key=lambda vma: vma.pgoff)


def collect_procs(system: System, page: int, mapping: AddressSpace, current: Task | None) -> list[ToKill]:
    """The processes to be told of a failure that requires action, one entry an area, in the kernel's order.

    The process that runs always, another only if it wants to know early; and only where an entry is present
    at the address that page->index gives.

    Parameters
    ----------
    system : System
    page : int
        Pfn of the struct page whose index counts.
    mapping : AddressSpace
        What its mapping points to.
    current : Task or None
        The process that runs; None for a machine check in nobody's context.

    Kernel
    ------
    mm/memory-failure.c, collect_procs_file(), task_early_kill(), add_to_kill(), 5.11 to 6.12.
    """
    array = system.zone_device.array
    index = array.words(page)[int(INDEX)]
    nr_pages = 1 << compound_order(array, page)
    found = []
    for task in system.processes.values():
        victim = _task_early_kill(system, task, current)
        if victim is None:
            continue
        for vma in areas_of(mapping, task.mm, index):
            addr = vma_address(index, nr_pages, vma)
            shift = 0 if addr is None else dev_pagemap_mapping_shift(task.mm, addr)
            if addr is None or shift:
                found.append(ToKill(victim, addr, shift))
    return found


def _task_early_kill(system: System, task: Task, current: Task | None) -> Task | None:
    if not task.alive:
        return None
    if current is not None and task.mm is current.mm:
        return current
    early = system.memory_failure_early_kill if task.early_kill is None else task.early_kill
    return task if early else None


def kill_procs(run: _Run, victims: list[ToKill], pfn: int, current: Task | None) -> None:
    """Send each victim its signal.

    Kernel: mm/memory-failure.c, ``kill_procs()``, ``kill_proc()``.
    """
    for victim in victims:
        if victim.addr is None:
            run.log.append(
                f"Memory failure: {pfn:#x}: forcibly killing {victim.task.name} because of failure to unmap "
                "corrupted page"
            )
            signal = Signal("SIGKILL", "", 0)
        else:
            run.log.append(
                f"Memory failure: {pfn:#x}: Sending SIGBUS to {victim.task.name} due to hardware memory corruption"
            )
            code = "BUS_MCEERR_AR" if victim.task is current else "BUS_MCEERR_AO"
            signal = Signal("SIGBUS", code, victim.addr, victim.size_shift)
        run.signals.append((victim.task, signal))
        where = f"{signal.code}, {signal.addr:#x}, lsb {signal.lsb}" if signal.code else "no address"
        run.step("signal", f"{signal.name} to {victim.task.name}", where)


def dax_lock_page(system: System, page: int, run: _Run) -> AddressSpace | None:
    """The file behind a struct page's mapping word, or None where no fault ever set it.

    A file of a filesystem gets its entry locked; a device needs no lock.

    Raises
    ------
    MemoryFailureCrash
        The word is no pointer to a file: a tail's TAIL_MAPPING.

    Kernel
    ------
    fs/dax.c, dax_lock_page().
    """
    array = system.zone_device.array
    word = array.words(page)[int(MAPPING)]
    if word == 0 or word in system.mappings:
        return system.mappings.get(word)
    head = compound_head(array, page)
    role = "a base page" if head == page else f"a tail of head {head:#x}"
    canonical = word >> 47 in (0, (1 << 17) - 1)
    fault = (
        f"unable to handle page fault for address {word:#x}"
        if canonical
        else f"general protection fault, probably for non-canonical address {word:#x}"
    )
    run.step("check", "dax_lock_page()", f"the kernel dies: page->mapping is {word:#x}")
    raise MemoryFailureCrash(
        f"{fault}: dax_lock_page() follows page->mapping of pfn {page:#x}, {role}, to {word:#x}; only a head's "
        "word is a pointer. Apply patch 1, which takes the head first.",
        run.outcome(None),
    )


def put_page(array: PageArray, pfn: int, events: Events | None = None) -> None:
    """Drop one reference of a page, that is, of its head.

    Kernel: include/linux/mm.h, ``put_page()``.
    """
    head = compound_head(array, pfn)
    vm = array.writable(head, 1)
    page_ref_sub_return(vm, head - array.start_pfn, Site.put_page_testzero, events)


def set_page_hwpoison(array: PageArray, pfn: int, events: Events | None = None) -> None:
    """Mark a struct page by a locked operation.

    Kernel: include/linux/page-flags.h, ``SetPageHWPoison()``.
    """
    row, flag = pfn - array.start_pfn, np.uint64(array.kernel.abi.flag("hwpoison"))
    pages = array.writable(pfn, 1).pages
    if events is not None:
        note_load(events, row)
        old = pages[row, FLAGS]
        note_store(events, row, FLAGS, old, old | flag, Site.SetPageHWPoison, Access.LOCKED)
    pages[row, FLAGS] |= flag


def memory_failure(
    system: System,
    pfn: int,
    flags: MfFlags = _NO_FLAGS,
    current: Task | None = None,
    events: Events | None = None,
) -> Outcome:
    """Handle the failure of one page of device memory.

    Parameters
    ----------
    system : System
    pfn : int
        The page that failed; the log names it also where its head is marked.
    flags : MfFlags
        COUNT_INCREASED: the caller holds a reference of it, which is dropped.
    current : Task, optional
        The process that runs, told with BUS_MCEERR_AR.
    events : Events, optional
        Told of each store to a struct page.

    Returns
    -------
    Outcome
        errno ENXIO: the device does not use the page, or nobody does; EBUSY: no process ever touched it, or
        private device memory; EOPNOTSUPP: filtered (6.1 and later).

    Raises
    ------
    KernelCrash
        Recovery is switched off, or a tail's mapping is followed.
    WorkbenchError
        Ordinary memory, or a driver that handles failures itself: the model has neither.

    Kernel
    ------
    mm/memory-failure.c, memory_failure(), 5.10 to 6.12.
    """
    if not system.memory_failure_recovery:
        raise KernelCrash(f"Kernel panic: Memory failure on page {pfn:x}. Set memory_failure_recovery to survive it.")
    run, zone_device = _Run(events), system.zone_device
    mutex = zone_device.array.kernel.tree.base in _MF_MUTEX
    if mutex:
        run.step("lock", "mf_mutex")
    pgmaps = zone_device.pgmap_array
    slot = int(plain(get_dev_pagemap)(pgmaps, pfn, -1))
    if slot < 0:
        _refuse_ordinary_memory(zone_device, pfn)
        run.step("check", "get_dev_pagemap()", "no pgmap has it")
        run.log.append(f"Memory failure: {pfn:#x}: memory outside kernel control")
        outcome = run.outcome(errno.ENXIO)
    else:
        run.step("lock", "get_dev_pagemap()", "a reference of the pgmap")
        outcome = _memory_failure_dev_pagemap(system, pfn, flags, zone_device.at_slot(slot), current, run)
        plain(put_dev_pagemap)(pgmaps, slot)
    return replace(outcome, steps=(*outcome.steps, Step("unlock", "mf_mutex", "released"))) if mutex else outcome


def _refuse_ordinary_memory(zone_device: ZoneDevice, pfn: int) -> None:
    if zone_device.array.exists(pfn)[0] and zone_device.pgmap_of(pfn) is None:
        raise WorkbenchError(f"pfn {pfn:#x} is ordinary memory; only device memory can fail here. Name a device's pfn.")


def _memory_failure_dev_pagemap(
    system: System, pfn: int, flags: MfFlags, pgmap: DevPagemap, current: Task | None, run: _Run
) -> Outcome:
    """memory_failure_dev_pagemap(): the frame around the common part, and what the log says in the end."""
    array = system.zone_device.array
    counts = array.kernel.tree.base in _MF_SPLIT
    if flags & MfFlags.COUNT_INCREASED:
        put_page(array, pfn, run.events)
        run.step("store", "put_page()", "the caller's reference is dropped")
    code: int | None
    if pgmap_pfn_valid(pgmap, pfn):
        run.step("check", "pgmap_pfn_valid()", "the device uses it")
        if counts and "memory_failure" in pgmap.ops:
            raise WorkbenchError("this pgmap's driver handles memory failures itself. Use a device-dax pgmap.")
        code = _kill_procs_of(system, pfn, pgmap, current, run)
    else:
        run.step("check", "pgmap_pfn_valid()", "metadata of the device")
        code = errno.ENXIO
    run.step("unlock", "put_dev_pagemap()", "given back")
    if code == errno.EOPNOTSUPP:
        return run.outcome(code)
    result = "Failed" if code else "Recovered"
    run.log.append(f"Memory failure: {pfn:#x}: recovery action for dax page: {result}")
    run.step("log", "action_result()", result)
    return run.outcome(code, result, counted=int(counts))


def _kill_procs_of(system: System, pfn: int, pgmap: DevPagemap, current: Task | None, run: _Run) -> int | None:
    """From the failing pfn to the signals, under the lock of the file's entry: mf_generic_kill_procs()."""
    array = system.zone_device.array
    tree = array.kernel.tree
    page = compound_head(array, pfn) if tree.has(1) else pfn
    if tree.has(1):
        run.step("walk", "compound_head()", "itself" if page == pfn else f"pfn {page:#x}")
    mapping = dax_lock_page(system, page, run)
    if mapping is None:
        run.step("check", "dax_lock_page()", "never faulted: no mapping")
        return errno.EBUSY
    if pgmap.type == MemoryType.FS_DAX:
        run.step("lock", "dax_lock_page()", f"file entry {_index(array, page):#x}")
    else:
        run.step("check", "dax_lock_page()", "a device: has a mapping, needs no lock")
    code = _poison(system, page, pfn, pgmap, mapping, current, run)
    if pgmap.type == MemoryType.FS_DAX:
        run.step("unlock", "dax_unlock_page()", "released")
    return code


def _poison(
    system: System, page: int, pfn: int, pgmap: DevPagemap, mapping: AddressSpace, current: Task | None, run: _Run
) -> int | None:
    array = system.zone_device.array
    split = array.kernel.tree.base in _MF_SPLIT
    if system.hwpoison_filter is not None and system.hwpoison_filter(page):
        run.step("check", "hwpoison_filter()", "left alone")
        return errno.EOPNOTSUPP if split else None
    if pgmap.type == MemoryType.PRIVATE:
        run.step("check", "pgmap->type", "private: its driver would have to help")
        return errno.ENXIO if split else errno.EBUSY
    set_page_hwpoison(array, page, run.events)
    run.marked = (page,)
    run.step("store", "SetPageHWPoison()", f"pfn {page:#x}")
    tasks = "rcu_read_lock()" if array.kernel.tree.base == "6.12" else "tasklist_lock"
    run.step("lock", f"i_mmap_rwsem, {tasks}", "areas and processes stand still")
    victims = collect_procs(system, page, mapping, current)
    told = ", ".join(victim.task.name for victim in victims) or "nobody"
    run.step("walk", "collect_procs()", f"index {_index(array, page):#x}: {told}")
    run.step("unlock", f"{tasks}, i_mmap_rwsem", "released")
    length = max((1 << victim.size_shift for victim in victims if victim.size_shift), default=0)
    if length:
        start = (_index(array, page) << PAGE_SHIFT) & ~(length - 1)
        run.unmapped = unmap_mapping_range(mapping, start, length)
        run.step("store", "unmap_mapping_range()", f"file bytes {start:#x}-{start + length - 1:#x}")
    kill_procs(run, victims, pfn, current)
    return None


def _index(array: PageArray, page: int) -> int:
    return array.words(page)[int(INDEX)]


def soft_offline_page(system: System, pfn: int, flags: MfFlags = _NO_FLAGS) -> Outcome:
    """Move a page's contents away: refused for device memory, which is not online.

    Returns
    -------
    Outcome
        errno ENXIO: no struct page; EIO: device memory.

    Kernel
    ------
    mm/memory-failure.c, soft_offline_page().
    """
    array = system.zone_device.array
    if not array.exists(pfn)[0]:
        return Outcome(errno.ENXIO)
    _refuse_ordinary_memory(system.zone_device, pfn)
    if flags & MfFlags.COUNT_INCREASED:
        put_page(array, pfn)
    return Outcome(errno.EIO)


def unpoison_memory(system: System, pfn: int) -> Outcome:
    """Take PG_hwpoison away again, for tests of the kernel; no release does it for device memory.

    5.10, 6.1 and 6.12 know no struct page of a pfn that is not online.  5.15 and 5.16 find the page in
    use and say success; 5.17 finds the same and says EBUSY.

    Returns
    -------
    Outcome
        errno ENXIO: no struct page; EIO; EBUSY; None on 5.15 and 5.16.

    Kernel
    ------
    mm/memory-failure.c, unpoison_memory().
    """
    array = system.zone_device.array
    abi, base = array.kernel.abi, array.kernel.tree.base
    exists = bool(array.exists(pfn)[0])
    _refuse_ordinary_memory(system.zone_device, pfn)
    if base in ("5.10", *_MF_SPLIT):
        return Outcome(errno.EIO)
    if not exists:
        return Outcome(errno.ENXIO)
    head = compound_head(array, pfn)
    if not array.words(pfn)[int(FLAGS)] & abi.flag("hwpoison"):
        why = "Page was already unpoisoned"
    elif array.words(head)[int(COUNTS)] >> int(REFCOUNT_SHIFT) > 1:
        why = "Someone grabs the hwpoison page"
    else:
        why = "the hwpoison page has non-NULL mapping"
    return Outcome(errno.EBUSY if base == "5.17" else None, log=(f"Unpoison: {why} {pfn:#x}",))
