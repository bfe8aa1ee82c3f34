# SPDX-License-Identifier: GPL-2.0-only
"""The recorded actions, done again on a :class:`workbench.machine.Machine`.

A handler does what its op names and gives the result in the captures' form; the record's result is only
compared with it.  Four things the record decides, because a kernel leaves them open: where a mapping goes
(the addresses must have the remainders they must have), kernel addresses (learnt at first sight), when a
line appears in the log, and what random bytes a plain file holds.

An op without a handler ends what can be told: nothing after it is compared.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from workbench.abi import WORDS
from workbench.abi.constants import PAGE_SHIFT
from workbench.dax.device import DaxFile
from workbench.dax.region import DevDax
from workbench.errors import KernelCrash, Signalled, WorkbenchError
from workbench.firmware.setup import Firmware
from workbench.lab.captures.compare import Pointers
from workbench.lab.captures.reading import MAX_PFN, Image, get, number, pfn, refused, text
from workbench.lab.daxctl_list import list_json
from workbench.lab.difference import differences
from workbench.machine import CreateRefused, Machine, PlainFile, Process
from workbench.machine.ordinary import HugePageFile, give_huge_page, map_huge_pages, set_struct_pages
from workbench.mm import PageArray
from workbench.mm.gup import Backing, Pinned
from workbench.mm.madvise import Madv
from workbench.mm.mmap import Map, Prot, Vma
from workbench.mm.pgtable import FRAME, Level, is_leaf
from workbench.series import Kernel

Action = dict[str, Any]
Result = dict[str, Any]
Ranges = tuple[tuple[int, int], ...]
T = TypeVar("T")

_MEMMAP_LINE = re.compile(r"(memmap_init_zone_device initialised \d{1,15} pages) in \d+ms")
_FAILURE_LINE = re.compile(r"Memory failure: |Injecting memory failure|Soft offlining|soft offline: |Unpoison: ")
_ONE_OF_ALL = re.compile(r"one of \d+ devices")
"""The note of what a management command did to all devices at once."""
_VICTIM = re.compile(r"Sending SIGBUS to (?:the process|\S+) due")
_CREATE_VALUE = re.compile(r"region create (\S+)")
_CHARACTER = {"r": Prot.READ, "w": Prot.WRITE, "x": Prot.EXEC}
_LOW_RAM = (0x10_0000, 2 << 30)
"""Memory below 4 GiB of a machine with UEFI, in bytes."""
_ORDINARY_BYTES = 64 << 30
"""Physical memory whose struct pages a record of ordinary huge pages may show."""
_MAX_COUNT = 1 << 24
"""Most accesses, pages or entries of one action: 64 GiB of base pages."""
_MAX_INITIALISED = 1 << 32
"""Most struct pages that the bindings of a run may initialise together, 16 TiB of memory: seconds of bookkeeping."""
_FREE_OF_COMPARISON = {"inferred", "note", "kernel_log", "failed_step"}
"""Members of a result that say where it comes from."""


@dataclass
class Tally:
    """Results of the actions that lead to a state, or of those after the last one.

    Attributes
    ----------
    compared, different : int
    assumed : int
        Results that were taken from the record: bytes read where random ones had been copied to.
    first : str
        The first difference, in words.
    """

    compared: int = 0
    different: int = 0
    assumed: int = 0
    first: str = ""

    def add(self, difference: str) -> None:
        """A result was compared; ``difference`` is empty where it is the recorded one."""
        self.compared += 1
        self.different += bool(difference)
        self.first = self.first or difference


@dataclass
class Mapped:
    """A mapping under its recorded name."""

    process: Process
    device: str
    start: int
    length: int
    align: int


@dataclass
class Replay:
    """A machine of one kernel, as far as the recorded actions bring it up.

    Attributes
    ----------
    kernel : Kernel
    options : dict of str to bool
        Deviations of the recorded kernel's configuration, see :class:`workbench.machine.Machine`.
    cmdline : str
        The recorded kernel's command line, for a boot over firmware that is told.
    pointers : Pointers
        Kernel addresses learnt.
    machine : Machine or None
        None before the boot.
    followed : bool
        Every op so far had a handler.
    """

    kernel: Kernel
    options: dict[str, bool] = field(default_factory=dict)
    cmdline: str = ""
    pointers: Pointers = field(default_factory=Pointers)
    machine: Machine | None = None
    followed: bool = True
    tally: Tally = field(default_factory=Tally)
    persistent_memory: Ranges = ()
    memory: Ranges = ()
    handles: dict[str, Any] = field(default_factory=dict)
    mappings: dict[str, Mapped] = field(default_factory=dict)
    unbinding: str = ""
    unbacked: Vma | None = None
    case: str = ""
    _unread: Counter[str] = field(default_factory=Counter)
    _log_seen: int = 0
    _log_counted: int = 0
    _initialised: int = 0
    _destroys_all: bool = False

    def do_all(self, actions: Iterable[Action], *, determined: bool = True) -> None:
        """Do actions in order, their results in a new :class:`Tally`.

        Those that lead to a state which is not ``determined`` may be beyond what is computed here: they are left out.
        """
        self.tally = Tally()
        for action in actions:
            with nullcontext() if determined else suppress(WorkbenchError):
                self.do(action)

    def do(self, action: Action) -> None:
        """Do one action, and compare its result with the recorded one."""
        got = self.result_of(action)
        if got is not None and "result" in action:
            difference = difference_of(get(action, "result", dict, action["op"]), got)
            self.tally.add(difference and f"{action['op']}: {difference}")

    def result_of(self, action: Action) -> Result | None:
        """Do one action; its result in the captures' form, None where it has none or cannot be told."""
        handler = _HANDLERS.get(action["op"])
        self._count_initialised(action["op"])
        self._destroy_idle(action)
        if handler is None or not self.followed:
            self.followed = False
            return None
        try:
            return handler(self, action)
        except Signalled as signalled:
            return self._signal(signalled, action)
        except KernelCrash:
            return {"killed": True}
        except CreateRefused as refusal:
            return {"ok": False, "errno": refusal.errno_name, "device": refusal.failed.device}
        except WorkbenchError as refusal:
            if refusal.errno is None:
                raise  # not the kernel's refusal: the workbench has not the memory, or the record is malformed
            return {"errno": refusal.errno_name}

    def _count_initialised(self, op: str) -> None:
        """A run that binds all memory without end is refused."""
        log = self.machine.log if self.machine else []
        lines = filter(_MEMMAP_LINE.match, log[self._log_counted :])
        self._initialised += sum(int(line.split()[2]) for line in lines)
        self._log_counted = len(log)
        if self._initialised > _MAX_INITIALISED:
            raise refused(op, f"comes after {self._initialised} pages bound, over {_MAX_INITIALISED} in one run")

    def _destroy_idle(self, action: Action) -> None:
        """A command that destroys all devices is recorded by the ones whose end was seen; idle ones went too.

        It begins with the region's first device, which stays, and the actions that stand for it are inferred.
        """
        stores = action["op"] in ("set_size", "delete_device")
        goes_on = stores and (self._destroys_all or "inferred" in _recorded(action))
        if self._destroys_all and not goes_on:
            for device in list(self.on().bus.devices()):
                if not (device.bound or device.size or device.id == 0):
                    self.on().delete_device(device.name)
        self._destroys_all = goes_on

    def _signal(self, signalled: Signalled, action: Action) -> Result:
        signal = signalled.signal
        if signal.name == "SIGKILL":
            return {"killed": True}
        result = {"signal": signal.name, "code": signal.code, "addr": hex(signal.addr), "lsb": signal.lsb}
        for name, mapping in self.mappings.items():
            inside = signal.addr - mapping.start
            if 0 <= inside < mapping.length and mapping.process.name == action.get("process"):
                result |= {
                    "mapping": name,
                    "offset_in_mapping": inside,
                    "offset_in_align_unit": signal.addr % mapping.align,
                }
        return result | ({"at_index": signalled.at_index} if action["op"] == "touch" else {})

    def start_from(self, image: Image) -> None:
        """Take the struct pages of ordinary huge pages from the record: the page allocator chose them.

        The page whose image it is was faulted in by the first access to the last anonymous mapping.
        """
        if self.unbacked is None or not image.exists.all():
            return
        first = int(image.pfns[0])
        set_struct_pages(self.on().array, image.pfns, image.words)
        for process in self.on().processes.values():
            if self.unbacked in process.mm.vmas:
                give_huge_page(process.mm, self.unbacked, self.unbacked.start, first)
        runs = np.split(image.pfns, np.flatnonzero(np.diff(image.pfns) != 1) + 1)
        self.memory += tuple((int(run[0]), len(run)) for run in runs)
        self.unbacked = None

    # what is compared

    @property
    def array(self) -> PageArray | None:
        """The struct pages; None before the boot."""
        return self.machine.array if self.machine else None

    def in_device_memory(self, pfns: np.ndarray) -> np.ndarray:
        """Which of ascending ``pfns`` (int64[n]) lie in memory that devices are made of, as bool[n]."""
        inside = np.zeros(len(pfns), np.bool_)
        for start, nr_pages in self.memory:
            inside[slice(*np.searchsorted(pfns, (start, start + nr_pages)))] = True
        return inside

    def pointers_now(self) -> Pointers:
        """The addresses learnt, but for those of objects that are gone."""
        self.pointers.keep(self.on().addresses())
        return self.pointers

    def knows(self) -> bool:
        """Whether the struct pages are determined by what was replayed."""
        return self.machine is not None and self.followed

    # what handlers use

    def on(self) -> Machine:
        """The machine, booted."""
        if self.machine is None:
            raise refused("an action", "comes before the boot")
        return self.machine

    def process(self, action: Action) -> Process:
        """The process that acts."""
        return self.on().process(text(action, "process", action["op"]))

    def handle(self, action: Action, kind: Any, key: str = "handle") -> Any:
        """What the record's handle stands for, of type ``kind``."""
        name = text(action, key, action["op"])
        if not isinstance(self.handles.get(name), kind):
            raise refused(action["op"], f"uses {key} {name}, which nothing of that kind was returned as")
        return self.handles[name]

    def log_lines(self) -> Counter[str]:
        """Lines of the machine's log that no recorded reading has told of yet."""
        log = self.on().log
        self._unread.update(_as_recorded(line) for line in log[self._log_seen :])
        self._log_seen = len(log)
        return self._unread


def _as_recorded(line: str) -> str:
    """A line of the log without what the records leave out: milliseconds, and who the process was."""
    return _VICTIM.sub("Sending SIGBUS to the process due", _MEMMAP_LINE.sub(r"\1", line))


def difference_of(recorded: Result, got: Result) -> str:
    """How a computed result differs from the recorded one; ``errno: null`` stands for any refusal."""
    if _is_refusal(recorded) and _is_refusal(got):
        fields = [key for key in ("errno", "device") if recorded.get(key)]
    else:
        fields = sorted((recorded.keys() | got.keys()) - _FREE_OF_COMPARISON)
    if recorded.get("killed") and got.get("killed"):
        fields = ["killed"]
    found = differences({key: recorded.get(key) for key in fields}, {key: got.get(key) for key in fields})
    return f"{found[0]!s:.400}" if found else ""


def _is_refusal(result: Result) -> bool:
    return "errno" in result or result.get("ok") is False


def shown(device: DevDax) -> dict[str, Any]:
    """Size and ranges of a device in the captures' form."""
    records = [
        {
            "start": hex(each.start),
            "end": hex(each.end + 1),
            "first_pfn": hex(each.start_pfn),
            "nr_pages": each.nr_pages,
            "page_offset": each.pgoff,
        }
        for each in device.ranges
    ]
    return {"size": device.size, "ranges": records}


_OK = {"ok": True}


def _size(action: Action, key: str = "length") -> int:
    value: int = get(action, key, int, action["op"])
    if not -(1 << 63) <= value < 1 << 64:
        raise refused(action["op"], f"has {key} {value}, which no word of 64 bits holds")
    return value


def _count(action: Action, key: str, least: int = 0) -> int:
    count = _size(action, key)
    if not least <= count <= _MAX_COUNT:
        raise refused(action["op"], f"has {key} {count}; from {least} to {_MAX_COUNT} can be done")
    return count


def _address(action: Action, key: str = "addr") -> int:
    return number(action, key, action["op"])


def _listed(action: Action, key: str) -> list[Any]:
    """A list that may be absent."""
    return get(action, key, list, action["op"]) if key in action else []


def _one_of(known: Mapping[str, T], name: str, action: Action, key: str) -> T:
    if name not in known:
        raise refused(action["op"], f"has {key} {name!r:.40}, which is not known")
    return known[name]


def _device(action: Action) -> str:
    return text(action, "device", action["op"])


def _recorded(action: Action) -> Result:
    return get(action, "result", dict, action["op"]) if "result" in action else {}


def _recorded_addr(action: Action) -> int | None:
    result = _recorded(action)
    return number(result, "addr", action["op"]) if "addr" in result else None


def _recorded_mapping(action: Action) -> str:
    result = _recorded(action)
    return text(result, "mapping", action["op"]) if "mapping" in result else ""


# the machine and its memory


def _boot(replay: Replay, action: Action) -> Result:
    """The machine starts; its persistent or soft-reserved memory is where devices will lie."""
    if replay.machine is not None:
        raise refused("boot", "comes a second time")
    persistent_memory, soft_reserved = (_memory(action, kind) for kind in ("persistent_memory", "soft_reserved"))
    if action.get("firmware") == "UEFI":
        return _boot_by_command_line(replay, soft_reserved)
    ordinary = 0 if persistent_memory or soft_reserved else _ORDINARY_BYTES
    replay.machine = Machine(
        replay.kernel,
        ordinary_bytes=ordinary,
        persistent_memory=persistent_memory,
        soft_reserved=soft_reserved,
        options=replay.options,
        new_address=replay.pointers.new,
    )
    ranges = persistent_memory + soft_reserved
    replay.memory = tuple((start >> PAGE_SHIFT, (end - start) >> PAGE_SHIFT) for start, end in ranges)
    replay.persistent_memory = replay.memory[: len(persistent_memory)]
    if not soft_reserved:
        return _OK
    device = replay.machine.bus.device("dax0.0")
    return {"device": device.name, "align": device.align, "bound": device.bound, **shown(device)}


def _boot_by_command_line(replay: Replay, soft_reserved: Ranges) -> Result:
    """The memory is ordinary to the firmware; the command line makes it soft reserved (efi_fake_mem=)."""
    firmware = Firmware.plain((_LOW_RAM, *soft_reserved), efi=True)
    replay.machine = Machine(replay.kernel, firmware=firmware, cmdline=replay.cmdline)
    regions = list_json(replay.machine.bus, regions=True, devices=True, mappings=True)
    return {"devices": [{key: value for key, value in region.items() if key != "path"} for region in regions]}


def _memory(action: Action, kind: str) -> Ranges:
    """Start and end of each stretch of memory of one kind, in bytes."""
    memory = []
    for stretch in _listed(action, kind):
        if not isinstance(stretch, dict):
            raise refused("boot", f"has {stretch!r:.40} for memory")
        start, end = (number(stretch, bound, "boot") for bound in ("start", "end"))
        if not start < end <= MAX_PFN << PAGE_SHIFT:
            raise refused("boot", f"has {kind} from {start:#x} to {end:#x}")
        memory.append((start, end))
    return tuple(memory)


def _init_labels(replay: Replay, action: Action) -> Result:
    replay.on().init_labels()
    return _OK


def _create_namespace(replay: Replay, action: Action) -> Result:
    align = _size(action, "align")
    device = replay.on().create_namespace(_size(action, "size"), align, text(action, "map", action["op"]))
    layouts = {each.name: each.nd_pfn for each in replay.on().namespaces()}
    layout = layouts[device.name.replace("dax", "namespace")]
    assert layout is not None
    return {
        "ok": True,
        "device": device.name,
        "namespace_start_pfn": hex(layout.start_pfn),
        "data_start_pfn": hex(layout.data_start_pfn),
        "end_pfn": hex(layout.end_pfn),
        "pages_per_compound": 1 << replay.kernel.tree.vmemmap_shift(align),
        "pages_per_align_unit": align >> PAGE_SHIFT,
        "device_size": layout.dev_size,
        "ranges": shown(device)["ranges"],
    }


def _disable_namespace(replay: Replay, action: Action) -> Result:
    for namespace in list(replay.on().namespaces()):
        replay.on().disable_namespace(namespace.name)
    return _OK


def _destroy_namespace(replay: Replay, action: Action) -> Result:
    for namespace in list(replay.on().namespaces()):
        replay.on().destroy_namespace(namespace.name)
    return _OK


# the dax bus


def _create_device(replay: Replay, action: Action) -> Result:
    device = replay.on().create_device(_size(action, "size"), _size(action, "align"))
    return {"ok": True, "device": device.name, "ranges": shown(device)["ranges"]}


def _resize_device(replay: Replay, action: Action) -> Result:
    replay.on().resize_device(_device(action), _size(action, "size"))
    return {"ok": True, "ranges": shown(replay.on().bus.device(_device(action)))["ranges"]}


def _region_create(replay: Replay, action: Action) -> Result:
    """The record tells the value that was stored in the name of the case."""
    named = _CREATE_VALUE.search(replay.case)
    replay.on().region_create(named[1] if named else "1")
    return _OK


def _add_range(replay: Replay, action: Action) -> Result:
    replay.on().add_range(_device(action), _address(action, "start"), _address(action, "last"))
    return {"ok": True, "size": replay.on().bus.device(_device(action)).size}


def _unbind(replay: Replay, action: Action) -> Result:
    if _ONE_OF_ALL.match(str(action.get("note"))):
        replay.on().disable_device(_device(action))
        return _OK
    finished = replay.on().unbind(_device(action))
    if action.get("background"):
        replay.unbinding = _device(action)
        return {"started": True}
    return _OK if finished else {"ok": False, "waits": True}


def _store(name: str, key: str | None = None) -> Callable[[Replay, Action], Result]:
    """A store to an attribute of the device."""

    def do(replay: Replay, action: Action) -> Result:
        store = getattr(replay.on(), name)
        store(_device(action), *([get(action, key, int | str, name)] if key else []))
        return _OK

    return do


# files and memory of a process


def _open(replay: Replay, action: Action) -> Result:
    process = replay.process(action)
    if "device" in action:
        direct = "DIRECT" in _listed(action, "flags")
        opened: Any = process.open(_device(action), text(action, "mode", "open"), direct=direct)
    else:
        opened = replay.handle(action, PlainFile, "file")
    if "handle" in action:
        replay.handles[text(action, "handle", "open")] = opened
    return _OK


def _close(replay: Replay, action: Action) -> Result:
    replay.handles.pop(text(action, "handle", "close"), None)
    return _OK


def _make_file(replay: Replay, action: Action) -> None:
    replay.handles[text(action, "file", "make_file")] = PlainFile(_count(action, "length"))


def _flags(action: Action) -> int:
    flags = 0
    for flag in get(action, "flags", list, action["op"]):
        name = str(flag).replace("HUGETLB_2M", "HUGE_2MB").replace("HUGETLB_1G", "HUGE_1GB")
        bits = number({"flags": name}, "flags", action["op"]) if name.startswith("0x") else None
        flags |= int(_one_of(Map.__members__, name, action, "flags")) if bits is None else bits
    return flags


def _prot(action: Action) -> Prot:
    letters, prot = text(action, "prot", action["op"]), Prot(0)
    for letter in "" if letters == "none" else letters:
        prot |= _one_of(_CHARACTER, letter, action, "prot")
    return prot


def _mmap(replay: Replay, action: Action) -> Result:
    """The kernel's choice of an address is the record's; what the address must be a multiple of is computed."""
    if "ANONYMOUS" in get(action, "flags", list, "mmap"):
        return _mmap_anonymous(replay, action)
    process, file, recorded = replay.process(action), replay.handle(action, DaxFile), _recorded_addr(action)
    flags, addr = _flags(action), 0
    if "addr_rule" in action:
        rule = get(action, "addr_rule", dict, "mmap") | {"op": "mmap addr_rule"}
        unit, plus = _size(rule, "aligned_to"), _size(rule, "plus")
        if unit < 1:
            raise refused("mmap addr_rule", f"has aligned_to {unit}")
        addr = recorded if recorded is not None else _free_address(process, _size(action), unit) + plus
        if addr % unit != plus % unit:
            raise refused("mmap", f"went to {addr:#x}, against its own rule")
    own = file.get_unmapped_area(process.mm, max(_size(action), 4096), max(_size(action, "offset"), 0) >> PAGE_SHIFT)
    align = file.inode.dev_dax.align
    chosen = recorded if recorded is not None and recorded % align == own % align else None
    start = process.mmap(file, _size(action), _size(action, "offset"), _prot(action), flags, addr, chosen)
    name = _recorded_mapping(action)
    replay.mappings[name] = Mapped(process, file.inode.dev_dax.name, start, _size(action), align)
    return {"ok": True, "addr": hex(start), "mapping": name, "addr_mod_align": start % align}


def _mmap_anonymous(replay: Replay, action: Action) -> Result:
    """Huge pages of the page allocator: transparent ones, unless the flags ask for hugetlb's."""
    flags, process = get(action, "flags", list, "mmap"), replay.process(action)
    backing = Backing.HUGETLB if any(str(flag).startswith("HUGETLB") for flag in flags) else Backing.ANONYMOUS
    level = Level.PUD if "HUGETLB_1G" in flags else Level.PMD
    vma = map_huge_pages(process.mm, HugePageFile(backing, level), _size(action), _recorded_addr(action))
    name = _recorded_mapping(action)
    replay.mappings[name] = Mapped(process, "", vma.start, vma.length, level.size)
    replay.unbacked = vma
    return {"ok": True, "addr": hex(vma.start), "mapping": name}


def _free_address(process: Process, length: int, unit: int) -> int:
    addr = process.mm.get_unmapped_area(length + 2 * unit)
    return -(-addr // unit) * unit


def _munmap(replay: Replay, action: Action) -> Result:
    replay.process(action).munmap(_address(action), _size(action))
    return _OK


def _mprotect(replay: Replay, action: Action) -> Result:
    replay.process(action).mprotect(_address(action), _size(action), _prot(action))
    return _OK


def _mlock(replay: Replay, action: Action) -> Result:
    replay.process(action).mlock(_address(action), _size(action))
    return _OK


def _mremap(replay: Replay, action: Action) -> Result:
    process, addr, chosen = replay.process(action), _address(action), _recorded_addr(action)
    may_move = "MAYMOVE" in get(action, "flags", list, "mremap")
    old, new = _size(action, "old_length"), _size(action, "new_length")
    vma = process.mm.find_vma(addr)
    if vma is not None and chosen not in (None, addr) and new > 0:
        own = vma.file.get_unmapped_area(process.mm, new, vma.pgoff_of(addr))
        chosen = chosen if (chosen - own) % vma.file.pagesize(vma) == 0 else None
    start = process.mremap(addr, old, new, may_move=may_move, chosen=chosen)
    name = text(action, "mapping", "mremap")
    if name in replay.mappings:
        replay.mappings[name] = replace(replay.mappings[name], start=start, length=new)
    return {"ok": True, "addr": hex(start), "moved": start != addr, "mapping": name}


def _madvise(replay: Replay, action: Action) -> Result:
    advice = _one_of(Madv.__members__, text(action, "advice", "madvise"), action, "advice")
    replay.process(action).madvise(_address(action), _size(action), advice)
    return _OK


def _touch(replay: Replay, action: Action) -> Result:
    write, addr = get(action, "write", bool, "touch"), _address(action)
    count, stride = (_count(action, "count", least=1), _size(action, "stride")) if "count" in action else (1, 1)
    if not 0 <= addr + (count - 1) * stride < 1 << 64:
        raise refused("touch", f"goes on from {addr:#x} to where there are no addresses")
    value = replay.process(action).touch(addr, count, stride, write)
    if value is None:
        replay.tally.assumed += 1
        value = _recorded(action).get("value")
    return {"ok": True, "value": value}


def _fork(replay: Replay, action: Action) -> Result:
    replay.process(action).fork(text(action, "child", "fork"))
    return _OK


def _exit(replay: Replay, action: Action) -> Result:
    replay.process(action).exit()
    return _OK


def _file_operation(name: str, *keys: str) -> Callable[[Replay, Action], Result]:
    """A call on a device's file that it does not have."""

    def do(replay: Replay, action: Action) -> Result:
        file = replay.handle(action, DaxFile)
        value = getattr(file, name)(*(get(action, key, int | str, name) for key in keys))
        return _OK if value is None else {"ok": True, "value": value}

    return do


def _copy(name: str) -> Callable[[Replay, Action], Result]:
    """Read or write: between a plain file and a buffer in device memory, or on a device's file that has none."""
    on_device = _file_operation(name, "length")

    def do(replay: Replay, action: Action) -> Result:
        if isinstance(replay.handle(action, DaxFile | PlainFile), DaxFile):
            return on_device(replay, action)
        process = replay.process(action)
        copy = process.read_file if name == "read" else process.write_file
        buffer = get(action, "buffer", dict, name) | {"op": name}
        return {"ok": True, "value": copy(replay.handle(action, PlainFile), _count(action, "length"), _address(buffer))}

    return do


# pins and references


def _pin(replay: Replay, action: Action) -> Result:
    process, via = replay.process(action), text(action, "via", "pin")
    if via == "AF_XDP UMEM":
        held = process.af_xdp_umem(_address(action), _count(action, "nr_pages"))
    elif via == "io_uring fixed buffer":
        held = process.io_uring_buffer(_address(action), _size(action))
    else:
        raise refused("pin", f"is made by {via!r}, which nothing here does")
    if "handle" in action:
        replay.handles[text(action, "handle", "pin")] = held
    if "kept_per_compound" not in _recorded(action):
        return _OK
    heads = {replay.on().gup.compound(page)[0] for page in held.pfns.tolist()}
    return _OK | {"kept_per_compound": len(held) // len(heads)}


def _get(replay: Replay, action: Action) -> Result:
    held = replay.process(action).vmsplice(_address(action), _size(action))
    replay.handles[text(action, "handle", "get")] = held
    return {"ok": True, "nr_pages": len(held)}


def _release(replay: Replay, action: Action) -> Result:
    name = text(action, "handle", action["op"])
    if name not in replay.handles:
        return {"errno": "EBADF"}
    held = replay.handle(action, Pinned)
    del replay.handles[name]
    replay.process(action).release(held, dirty=bool(action.get("dirty")))
    return _OK


def _close_pipe_end(replay: Replay, action: Action) -> Result:
    """The other end still holds what the pipe has."""
    return _OK


def _process_vm_readv(replay: Replay, action: Action) -> Result:
    target = replay.on().process(text(action, "target", "process_vm_readv"))
    return {"ok": True, "value": replay.process(action).process_vm_readv(target, _address(action), _size(action))}


# memory failure


def _phys_addr(name: str) -> Callable[[Replay, Action], Result]:
    def do(replay: Replay, action: Action) -> Result:
        getattr(replay.on(), name)(_address(action, "phys_addr"), text(action, "process", name))
        return _OK

    return do


def _pfn(name: str) -> Callable[[Replay, Action], Result]:
    def do(replay: Replay, action: Action) -> Result:
        getattr(replay.on(), name)(pfn(action, "pfn", name), text(action, "process", name))
        return _OK

    return do


# looking


def _read_pagemap(replay: Replay, action: Action) -> Result:
    entries = replay.process(action).pagemap(_address(action), _count(action, "count"))
    return {
        "entries": [
            {"addr": hex(addr), "present": int(frame is not None), "pfn": hex(frame or 0)} for addr, frame in entries
        ]
    }


def _read_smaps(replay: Replay, action: Action) -> Result:
    process = replay.process(action)
    if not process.mm.vmas:
        raise refused("read_smaps", "is of a process that maps nothing")
    return dict(process.smaps())


def _read_kpageflags(replay: Replay, action: Action) -> Result:
    first = pfn(action, "pfn", action["op"])
    pages = range(first, first + _count(action, "count"))
    return {
        "entries": [
            {"pfn": hex(page), "flags": hex(flags), "count": mapped}
            for page in pages
            for flags, mapped in (replay.on().kpageflags(page),)
        ]
    }


def _read_struct_pages(replay: Replay, action: Action) -> Result:
    """What a reader outside the machine sees of some struct pages."""
    first, nr_pages = pfn(action, "pfn", action["op"]), _count(action, "nr_pages", least=1)
    array, recorded = replay.on().array, _recorded(action)
    rows = array.view(first, nr_pages).copy()
    if "flag" in action:
        bit = np.uint64(array.kernel.abi.flag(text(action, "flag", action["op"])))
        return {"pages_with_flag": np.flatnonzero(rows[:, 0] & bit).tolist()}
    if "words" in recorded:
        theirs = _words(recorded, action["op"])
        if theirs.shape == rows.shape:
            replay.pointers_now().resolve(rows, theirs)
        same = np.array_equal(rows, theirs)
        return {"words": recorded["words"] if same else [[hex(int(word)) for word in row] for row in rows]}
    return {"flags_word": hex(int(rows[0, 0]))}


def _words(recorded: Result, op: str) -> np.ndarray:
    """Recorded words of struct pages, uint64[n, 8]."""
    pages = get(recorded, "words", list, op)
    if not all(isinstance(page, list) and len(page) == WORDS for page in pages):
        raise refused(op, f"has words that are not {WORDS} a page")
    words = [number({"words": word}, "words", op) for page in pages for word in page]
    return np.array(words, np.uint64).reshape(-1, WORDS)


def _read_seed(replay: Replay, action: Action) -> Result:
    return {"value": replay.on().read_seed()}


def _observe(replay: Replay, action: Action) -> Result | None:
    """Observations outside error cases hold what was seen beside the op; those are compared here."""
    look = _LOOKS.get(text(action, "what", "observe"))
    if look is None:
        return None
    got = look(replay, action)
    seen = {key: action[key] for key in got if key in action}
    for key, value in seen.items():
        difference = difference_of({key: value}, {key: got[key]})
        replay.tally.add(difference and f"observe {action['what']}: {difference}")
    return got


def _seen(action: Action) -> Result:
    """What an observation recorded: beside its op, or as the result of a case."""
    return _recorded(action) or action


def _look_at_devices(replay: Replay, action: Action) -> Result:
    bus = replay.on().bus
    here: dict[str, Any] = {device.name: shown(device) | {"align": device.align} for device in bus.devices()}
    recorded = get(action, "devices", dict, "observe")
    removed = get(action, "removed", list, "observe") if "removed" in action else []
    devices = {
        name: {key: here.get(name, {}).get(key) for key in get(recorded, name, dict, "observe")} for name in recorded
    }
    return {"devices": devices, "removed": [name for name in removed if name not in here]}


def _look_at_log(replay: Replay, action: Action) -> Result:
    """Each line that this workbench computes must be one of its own; the others are told of by nobody."""
    recorded: list[Any] = get(_seen(action), "lines", list, "observe")
    ours, lines = replay.log_lines(), []
    for line in map(str, recorded):
        known = _as_recorded(line)
        if not (_MEMMAP_LINE.search(line) or _FAILURE_LINE.match(line)):
            lines.append(line)
        elif ours[known]:
            ours[known] -= 1
            lines.append(line)
    return {"lines": lines}


def _look_at_page_tables(replay: Replay, action: Action) -> Result:
    """Entries as recorded; where the record names the frame of a table, only the other bits are computed."""
    recorded: list[Any] = get(_seen(action), "levels", list, "observe")
    levels = []
    if "addr" in action:
        addr = _address(action)
    else:  # the device's last mapping
        starts = [each.start for each in replay.mappings.values() if each.device == _device(action)]
        if not starts:
            raise refused("observe", f"walks to {_device(action)}, which nothing maps")
        addr = starts[-1] + _size(action, "offset")
    for at, (level, entry) in enumerate(replay.process(action).mm.walk_levels(addr)):
        if not is_leaf(np.uint64(entry), int(level)) and entry and at < len(recorded):
            theirs = number(get({"levels": recorded[at]}, "levels", dict, "observe"), "entry", "observe levels")
            entry = entry & ~int(FRAME) | theirs & int(FRAME)
        levels.append({"level": Level(level).name, "entry": hex(entry)})
    return {"levels": levels}


def _look_at_unbind(replay: Replay, action: Action) -> Result:
    finished = replay.on().unbind_finished(replay.unbinding)
    chain = replay.on().bus.blocked_in(replay.unbinding)
    return {"value": finished} | ({"blocked_in": list(chain)} if chain else {})


def _look_at_corrupted(replay: Replay, action: Action) -> Result:
    return {"value": replay.on().hardware_corrupted_kB}


_LOOKS: dict[str, Callable[[Replay, Action], Result]] = {
    "devices": _look_at_devices,
    "kernel_log": _look_at_log,
    "page_table_walk": _look_at_page_tables,
    "unbind_finished": _look_at_unbind,
    "HardwareCorrupted_kB": _look_at_corrupted,
}
"""What is looked at; counters kept per cpu are not."""


def _nothing(replay: Replay, action: Action) -> None:
    """Nothing reaches the kernel, or nothing that it keeps."""


_HANDLERS: dict[str, Callable[[Replay, Action], Result | None]] = {
    "boot": _boot,
    "init_labels": _init_labels,
    "create_namespace": _create_namespace,
    "disable_namespace": _disable_namespace,
    "destroy_namespace": _destroy_namespace,
    "create_device": _create_device,
    "resize_device": _resize_device,
    "region_create": _region_create,
    "read_seed": _read_seed,
    "set_size": _store("set_size", "size"),
    "set_align": _store("set_align", "align"),
    "add_range": _add_range,
    "delete_device": _store("delete_device"),
    "destroy_device": _store("destroy_device"),
    "bind": _store("bind"),
    "unbind": _unbind,
    "open": _open,
    "close": _close,
    "make_file": _make_file,
    "mmap": _mmap,
    "munmap": _munmap,
    "mprotect": _mprotect,
    "mlock": _mlock,
    "mremap": _mremap,
    "madvise": _madvise,
    "touch": _touch,
    "fork": _fork,
    "exit": _exit,
    "read": _copy("read"),
    "write": _copy("write"),
    "lseek": _file_operation("lseek", "offset", "whence"),
    "fallocate": _file_operation("fallocate", "mode", "offset", "length"),
    "ftruncate": _file_operation("ftruncate", "length"),
    "fsync": _file_operation("fsync"),
    "pin": _pin,
    "unpin": _release,
    "get": _get,
    "close_pipe_end": _close_pipe_end,
    "put": _release,
    "process_vm_readv": _process_vm_readv,
    "hard_offline_page": _phys_addr("hard_offline_page"),
    "soft_offline_page": _phys_addr("soft_offline_page"),
    "corrupt_pfn": _pfn("corrupt_pfn"),
    "unpoison_pfn": _pfn("unpoison_pfn"),
    "read_pagemap": _read_pagemap,
    "read_smaps": _read_smaps,
    "read_kpageflags": _read_kpageflags,
    "read_struct_pages": _read_struct_pages,
    "observe": _observe,
    "refused_in_user_space": _nothing,
    "wait": _nothing,
}
"""Handlers by op; an op without one is not understood yet."""
