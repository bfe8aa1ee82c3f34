# SPDX-License-Identifier: GPL-2.0-only
"""tools/testing/selftests/vm/gup_test.c of 6.1 on a simulated machine: its options, its output, its exit status.

The tool maps a file, touches every page, and has the kernel (mm/gup_test.c) pin the range by calls of some
pages and release it, both timed.  Here the kernel is the engine, and the times are this machine's.

The file is a device, or ``/dev/zero``: anonymous memory, shared memory with ``-S``, and with ``-H`` hugetlb pages of
2 MiB, whatever the file is called.  The slow path (``-L``, ``-b``, ``-U``) takes all memory page by page here; a kernel
takes hugetlb pages, and since 6.5 transparent huge pages, by the piece, to the same counts.

``-c`` prints no page: it has the kernel write pages to its log, which ``--log`` shows (:mod:`workbench.mm.debug`).
"""

from __future__ import annotations

import getopt
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum
from threading import Lock
from time import perf_counter_ns

import numpy as np

from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE
from workbench.errors import Signalled, WorkbenchError
from workbench.lab import pin_events
from workbench.machine import Machine, Process
from workbench.machine.ordinary import NORMAL_START, OrdinaryMemory, mmap_zero
from workbench.mm import gup_fast
from workbench.mm.debug import dump_page
from workbench.mm.gup import PageRefcounts
from workbench.mm.madvise import Madv
from workbench.mm.mmap import Map
from workbench.mm.page_ref import Foll
from workbench.mm.pgtable import USER_END
from workbench.text import parse_size

SHORT_OPTIONS = "m:r:n:F:f:abcj:tTLUuwWSHpz"
LONG_OPTIONS = ("kernel=", "patches=", "altmap", "align=", "size=", "model=", "log")
"""The simulated machine, which the tool has no options for."""
MAX_PAGES_TO_DUMP = 8

_MB = 1 << 20
_ULONG = (1 << 64) - 1
_START = 4 << 30
_SIGBUS_STATUS = 128 + 7
_ZERO = "/dev/zero"
_DEVICE = re.compile(r"/dev/(dax\d+\.\d+)")
_INTEGER = re.compile(r"\s*([+-]?)(\d+)", re.ASCII)
_C_INTEGER = re.compile(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9]\d*)", re.ASCII)

Echo = Callable[[str], object]


class Command(Enum):
    """What the ioctl asks for, by the name that the tool prints."""

    GUP_FAST = "GUP_FAST_BENCHMARK"
    PIN_FAST = "PIN_FAST_BENCHMARK"
    PIN_LONGTERM = "PIN_LONGTERM_BENCHMARK"
    GUP_BASIC = "GUP_BASIC_TEST"
    PIN_BASIC = "PIN_BASIC_TEST"
    DUMP = "DUMP_USER_PAGES_TEST"

    @property
    def timed(self) -> bool:
        """Whether times are printed."""
        return self in (Command.GUP_FAST, Command.PIN_FAST, Command.PIN_LONGTERM)


@dataclass(frozen=True)
class Options:
    """What the command line says, under the names of the tool's variables.

    Attributes
    ----------
    cmd : Command
    size : int
        Bytes to map.
    repeats, nr_pages, nthreads : int
    file : str
    thp : bool or None
        madvise() for or against huge pages; None: none.
    write, shared, hugetlb, touch, dump_by_pin : bool
    gup_flags : int
        As given by ``-F``; FOLL_WRITE and FOLL_TOUCH are added.
    which_pages : tuple of int
        Pages to dump, counted from 1; 0 is none.
    kernel : str
    altmap : bool
    align : int
        Bytes.
    device_size : int or None
        Bytes of the namespace; default as many as the mapping needs.
    model : str or None
        Medium for which the cost model's times are printed, not measured ones.
    log : bool
        Print the kernel's log, on standard error.
    """

    cmd: Command = Command.GUP_FAST
    size: int = 128 * _MB
    repeats: int = 1
    nr_pages: int = 1
    nthreads: int = 1
    file: str = _ZERO
    thp: bool | None = None
    write: bool = True
    shared: bool = False
    hugetlb: bool = False
    touch: bool = False
    dump_by_pin: bool = False
    gup_flags: int = 0
    which_pages: tuple[int, ...] = ()
    kernel: str = "5.17"
    altmap: bool = False
    align: int = 2 << 20
    device_size: int | None = None
    model: str | None = None
    log: bool = False

    @property
    def flags(self) -> int:
        """The gup_flags that the ioctl gets."""
        return self.gup_flags | (Foll.WRITE if self.write else 0) | (Foll.TOUCH if self.touch else 0)

    @property
    def map_flags(self) -> int:
        """The flags that mmap() gets."""
        return (Map.SHARED if self.shared else Map.PRIVATE) | (Map.HUGETLB | Map.ANONYMOUS if self.hugetlb else 0)

    @property
    def device(self) -> str | None:
        """The device that is mapped; None where it is ordinary memory.

        Raises
        ------
        WorkbenchError
            A file that is not simulated.
        """
        named = _DEVICE.fullmatch(self.file)
        if named is None and self.file != _ZERO:
            raise WorkbenchError(
                f"{self.file} is not simulated. Name a device-dax file, -f /dev/dax0.0, and map it shared, -S; "
                f"or leave -f out: {_ZERO}."
            )
        return None if named is None or self.hugetlb else named[1]


class UsageError(WorkbenchError):
    """getopt() refused the command line: the tool prints what is wrong and exits with 255."""


def atoi(text: str) -> int:
    """atoi(3): the decimal number a text begins with, else 0, as a 32-bit int."""
    found = _INTEGER.match(text)
    value = int(found[1] + found[2]) if found else 0
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def strtol(text: str) -> int:
    """strtol(3) with base 0: decimal, 0x hexadecimal or 0 octal, else 0."""
    found = _C_INTEGER.match(text)
    if not found:
        return 0
    digits = found[2]
    base = 16 if digits[:2].lower() == "0x" else 8 if digits.startswith("0") else 10
    return int(found[1] + digits, base)


_COMMANDS = {
    "-a": Command.PIN_FAST,
    "-b": Command.PIN_BASIC,
    "-L": Command.PIN_LONGTERM,
    "-c": Command.DUMP,
    "-U": Command.GUP_BASIC,
    "-u": Command.GUP_FAST,
}
_SWITCHES: dict[str, dict[str, object]] = {
    "-t": {"thp": True},
    "-T": {"thp": False},
    "-w": {"write": True},
    "-W": {"write": False},
    "-S": {"shared": True},
    "-H": {"hugetlb": True},
    "-z": {"touch": True},
    "-p": {"dump_by_pin": True},
    "--altmap": {"altmap": True},
    "--log": {"log": True},
}
_VALUES: dict[str, Callable[[str], dict[str, object]]] = {
    "-m": lambda value: {"size": atoi(value) * _MB & _ULONG},
    "-r": lambda value: {"repeats": atoi(value)},
    "-n": lambda value: {"nr_pages": atoi(value) & 0xFFFF_FFFF},
    "-j": lambda value: {"nthreads": atoi(value)},
    "-F": lambda value: {"gup_flags": strtol(value) & 0xFFFF_FFFF},
    "-f": lambda value: {"file": value},
    "--kernel": lambda value: {"kernel": value},
    "--patches": lambda value: {"kernel": f"5.16+={value}"},
    "--align": lambda value: {"align": parse_size(value)},
    "--size": lambda value: {"device_size": parse_size(value)},
    "--model": lambda value: {"model": value},
}


def parse(argv: Sequence[str]) -> Options:
    """Read the command line as the tool's getopt() does, options anywhere.

    Raises
    ------
    UsageError
        An option that is not known, or lacks its value: the message is getopt's.
    """
    try:
        given, rest = getopt.gnu_getopt(list(argv), SHORT_OPTIONS, list(LONG_OPTIONS))
    except getopt.GetoptError as wrong:
        raise UsageError(_as_getopt_says(wrong)) from wrong
    options = Options()
    for option, value in given:
        changes: dict[str, object]
        if option in _COMMANDS:
            changes = {"cmd": _COMMANDS[option]} | ({"which_pages": (1,)} if option == "-c" else {})
        elif option in _SWITCHES:
            changes = _SWITCHES[option]
        else:
            changes = _VALUES[option](value)
        options = replace(options, **changes)  # type: ignore[arg-type]
    if rest:
        pages = tuple(strtol(word) + 1 & 0xFFFF_FFFF for word in rest[:MAX_PAGES_TO_DUMP])
        options = replace(options, which_pages=pages + options.which_pages[len(pages) :])
    return options


def _as_getopt_says(wrong: getopt.GetoptError) -> str:
    """What getopt(3) of the C library prints."""
    if len(wrong.opt) > 1:
        return f"gup_test: {wrong.msg}"
    what = "option requires an argument" if "requires argument" in wrong.msg else "invalid option"
    return f"gup_test: {what} -- '{wrong.opt}'"


@dataclass(frozen=True)
class Result:
    """What the ioctl gives back.

    Attributes
    ----------
    get_delta_usec, put_delta_usec : int
        Microseconds.
    size : int
        Bytes up to the call that ended the loop.
    """

    get_delta_usec: int
    put_delta_usec: int
    size: int


def gup_test_ioctl(gup: PageRefcounts, process: Process, options: Options, addr: int) -> Result:
    """Pin the range by calls of ``nr_pages`` pages until one gives fewer, then release it; both are timed.

    Kernel: mm/gup_test.c, ``__gup_test_ioctl()``, ``put_back_pages()``, ``verify_dma_pinned()``, 6.1.
    """
    nr_pages = options.size >> PAGE_SHIFT
    pages = np.empty(nr_pages, np.int64)
    gup.need_mapped(process.mm, addr, nr_pages)
    pins = options.cmd in (Command.PIN_FAST, Command.PIN_LONGTERM, Command.PIN_BASIC) or (
        options.cmd is Command.DUMP and options.dump_by_pin
    )
    started = perf_counter_ns()
    nr, walked = _take(gup, process, options, addr, pages)
    got = perf_counter_ns()
    held = pages[:nr]
    if pins:
        loose = gup.first_not_pinned(held)
        if loose is not None:
            raise WorkbenchError(f"pfn {loose:#x} was pinned, and its counts do not say so. A count was lost.")
    if options.cmd is Command.DUMP and options.log:
        process.machine.log += _dump_pages_test(gup, options.which_pages, addr, held)
    release = perf_counter_ns()
    if pins:
        gup_fast.unpin_user_pages(gup.vm, gup.refs, held, False, pages[:0], None)
    else:
        gup_fast.put_user_pages(gup.vm, gup.refs, held, pages[:0], None)
    ended = perf_counter_ns()
    return Result((got - started) // 1000, (ended - release) // 1000, walked << PAGE_SHIFT)


def _dump_pages_test(gup: PageRefcounts, which_pages: Sequence[int], addr: int, held: np.ndarray) -> list[str]:
    """What the kernel's log gets of some pages that are held, counted from 1."""
    found = [(at, which) for at, which in enumerate(which_pages) if which]
    lines = [f"ZEROING due to out of range: .which_pages[{at}]: {which}" for at, which in found if which > len(held)]
    for _, which in found:
        if which <= len(held):
            lines.append(f"---- page #{which - 1}, starting from user virt addr: {addr:#x}")
            lines += dump_page(gup.array, int(held[which - 1]), "gup_test: dump_pages() test")
    return lines


def _take(gup: PageRefcounts, process: Process, options: Options, addr: int, pages: np.ndarray) -> tuple[int, int]:
    """The loop of calls: pages taken, and pages up to which it came."""
    per_call, total, nr, walked = options.nr_pages, len(pages), 0, 0
    mm, take = process.mm, _call_of(gup, options)
    compiled = options.cmd in (Command.PIN_FAST, Command.GUP_FAST) and not options.flags & ~int(Foll.WRITE)
    flags = options.flags | (Foll.PIN if options.cmd is Command.PIN_FAST else Foll.GET)
    while walked < total and per_call:
        if compiled:
            done, asked = gup_fast.gup_fast_calls(
                *(gup.vm, gup.refs, gup.own_pgmaps(), mm.pt, mm.write_protect_seq, addr + (walked << PAGE_SHIFT)),
                *(total - walked, per_call, flags, pages[nr:], None),
            )
            whole = done if done == asked else done // per_call * per_call
            # The call that gave fewer is done again, by the way that faults pages in.
            _give_back(gup, options, pages[nr + whole : nr + done])
            nr, walked = nr + whole, walked + whole
            if walked == total:
                break
        now = min(per_call, total - walked)
        try:
            got = take(mm, addr + (walked << PAGE_SHIFT), now).pfns
        except WorkbenchError as refused:
            if refused.errno is None:
                raise
            break
        pages[nr : nr + len(got)] = got
        nr, walked = nr + len(got), walked + now
        if len(got) < now:
            break
    return nr, walked


def _give_back(gup: PageRefcounts, options: Options, pfns: np.ndarray) -> None:
    if options.cmd is Command.PIN_FAST:
        gup_fast.unpin_user_pages(gup.vm, gup.refs, pfns, False, pfns[:0], None)
    else:
        gup_fast.put_user_pages(gup.vm, gup.refs, pfns, pfns[:0], None)


def _call_of(gup: PageRefcounts, options: Options) -> Callable:
    """What one turn of the loop calls: with process, address and pages."""
    flags = options.flags
    call = {
        Command.GUP_FAST: gup.get_user_pages_fast,
        Command.PIN_FAST: gup.pin_user_pages_fast,
        Command.PIN_LONGTERM: gup.pin_user_pages,
        Command.GUP_BASIC: gup.get_user_pages,
        Command.PIN_BASIC: gup.pin_user_pages,
        Command.DUMP: gup.pin_user_pages if options.dump_by_pin else gup.get_user_pages,
    }[options.cmd]
    if options.cmd is Command.PIN_LONGTERM:
        flags |= Foll.LONGTERM
    return lambda mm, addr, nr_pages: call(mm, addr, nr_pages, flags)


def main(argv: Sequence[str], out: Echo, err: Echo) -> int:
    """Run the tool.

    Parameters
    ----------
    argv : sequence of str
        Its arguments, without its name.
    out, err : callable
        Take a line for standard output and standard error.

    Returns
    -------
    int
        The exit status: 0; 1 where a system call failed; 255 for a bad option or file; 135 after SIGBUS.

    Raises
    ------
    WorkbenchError
        A file that is not simulated, or a machine that cannot be.
    """
    try:
        options = parse(argv)
    except UsageError as wrong:
        err(str(wrong))
        return 255
    if options.model is not None:
        return _print_model(options, out)
    if options.cmd is Command.DUMP and options.log and options.device is None:
        raise WorkbenchError(
            "flags and mapcounts of ordinary memory are not simulated, so its pages cannot be told in the log. Dump a "
            "device's: -f /dev/dax0.0 -S, without -H."
        )
    machine, device = _boot(options)
    process = machine.process()
    try:
        if device is None:
            addr = mmap_zero(process, OrdinaryMemory(machine), options.size, options.map_flags)
        else:
            addr = process.mmap(process.open(device), options.size, flags=options.map_flags)
    except WorkbenchError as refused:
        if refused.errno is None:
            raise
        err(f"mmap: {os.strerror(refused.errno)}")
        return 1
    if options.thp is not None:
        process.madvise(addr, options.size, Madv.HUGEPAGE if options.thp else Madv.NOHUGEPAGE)
    if not options.touch:
        try:
            process.mm.touch(addr, options.size >> PAGE_SHIFT, PAGE_SIZE, write=True)
        except Signalled:
            err("Bus error")
            return _SIGBUS_STATUS
        # What is compiled is compiled before anything is timed.
        gup_test_ioctl(machine.gup, process, replace(options, size=PAGE_SIZE, log=False), addr)
    _threads(machine.gup, process, options, addr, out)
    if options.log:
        for line in machine.log:
            err(line)
    return 0


def _boot(options: Options) -> tuple[Machine, str | None]:
    """A machine whose persistent memory is one device, and the device's name; or one of ordinary memory, and None."""
    if options.device is None:
        size = options.size if options.size < USER_END else 0  # mmap() refuses more before a page is needed
        room = -(-(size + (64 << 20)) // (1 << 30)) << 30
        return Machine(options.kernel, ordinary_bytes=NORMAL_START + room), None
    need = options.device_size or options.size + (options.size >> 5) + 2 * options.align + (64 << 20)
    room = -(-need // (1 << 30)) << 30
    machine = Machine(options.kernel, persistent_memory=[(_START, _START + room)])
    where = "dev" if options.altmap else "mem"
    if options.device_size:
        machine.init_labels()
    device = machine.create_namespace(options.device_size, options.align, where)
    return machine, device.name


def _threads(gup: PageRefcounts, process: Process, options: Options, addr: int, out: Echo) -> None:
    """gup_thread() on each of ``nthreads`` threads; lines are printed whole."""
    printing, name = Lock(), options.cmd.value

    def turn(_: int) -> None:
        for _ in range(options.repeats if options.cmd.timed else 1):
            result = gup_test_ioctl(gup, process, options, addr)
            with printing:
                if options.cmd.timed:
                    cut = f", truncated (size: {result.size})" if result.size != options.size else ""
                    out(f"{name}: Time: get:{result.get_delta_usec} put:{result.put_delta_usec} us{cut}")
                else:
                    out(f"{name}: done")
                    if result.size != options.size:
                        out(f"Truncated (size: {result.size})")

    if options.nthreads > 0:
        with ThreadPoolExecutor(options.nthreads) as pool:
            list(pool.map(turn, range(options.nthreads)))


_MODELLED = {
    Command.PIN_FAST: (pin_events.PIN_FAST, pin_events.UNPIN),
    Command.GUP_FAST: (pin_events.GET_FAST, pin_events.PUT_PAGE),
    Command.PIN_LONGTERM: (pin_events.PIN_SLOW, pin_events.UNPIN),
}


def _print_model(options: Options, out: Echo) -> int:
    """What the cost model gives for a medium, in the tool's form, and where the prices come from."""
    from workbench.lab import cost, media
    from workbench.series import kernel

    if options.cmd not in _MODELLED:
        raise WorkbenchError(f"{options.cmd.value} prints no times. Model one of -a, -u and -L.")
    if options.device is None:
        raise WorkbenchError(
            "the cost model is one of device-dax memory. Name a device: -f /dev/dax0.0 -S, without -H."
        )
    where = media.medium(options.model or "", cost.seed_fit().media)
    tree = kernel(options.kernel).tree
    get, put = (
        where.ms(
            pin_events.pin_events(
                path,
                options.size,
                options.align,
                tree.vmemmap_shift(options.align) > 0 and tree.has(4),
                tree.base,
                options.nr_pages,
            )
        )
        for path in _MODELLED[options.cmd]
    )
    for _ in range(options.repeats):
        out(f"{options.cmd.value}: Time: get:{round(get * 1000)} put:{round(put * 1000)} us")
    out(where.label)
    return 0
