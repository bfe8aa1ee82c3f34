# SPDX-License-Identifier: GPL-2.0-only
"""One call that pins pages of a mapped device, and the one that releases them: every access to a struct page.

::

    device = mapped_device("5.17", "2M")
    held = pin_and_release(device, 512)          # a Dataset: lines, stores, words, of both phases
    recorded_traffic("5.17", "2M")               # the same counts of a real kernel

What happens is the engine's: a machine boots, a namespace is made and bound, a process maps the device and
touches it, and the calls count what they do (:mod:`workbench.mm.events`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from workbench.abi import WORDS, Role
from workbench.abi.constants import PAGE_SHIFT
from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout
from workbench.machine import Machine, Process
from workbench.mm.events import Access, Counter, Events, Site, events
from workbench.mm.gup import PageRefcounts, Pinned
from workbench.mm.page_ref import Foll
from workbench.series import Kernel
from workbench.text import count, parse_size, size

PHASES = ("take", "give back")
WINDOW = 512
"""Struct pages that a Dataset tells one by one: those of 2 MiB, from the head of the first page on."""

FILES = ("data/captures/gup_test_5.15_5.17.json", "data/captures/gup_test.json")
"""Recorded runs of gup_test, the traffic to struct pages counted from outside."""

_START = 4 << 30
_STORES_A_PAGE = 8


@dataclass(frozen=True)
class Call:
    """A way to hold pages, and the way back.

    Attributes
    ----------
    name, back : str
        The kernel's functions.
    flags : Foll
    take : callable
        Of :class:`workbench.mm.gup.PageRefcounts`, with process, address, pages, flags and events.
    give : callable
        Takes what was taken, and events.
    """

    name: str
    back: str
    flags: Foll
    take: Callable[..., Pinned]
    give: Callable[[PageRefcounts, Pinned, Events], object]


def _unpin(gup: PageRefcounts, held: Pinned, ev: Events) -> object:
    return gup.unpin_user_pages(held.pfns, events=ev)


def _unpin_range(gup: PageRefcounts, held: Pinned, ev: Events) -> object:
    return gup.unpin_user_page_range(int(held.pfns[0]), len(held), events=ev)


def _put(gup: PageRefcounts, held: Pinned, ev: Events) -> object:
    return gup.put_pages(held.pfns, events=ev)


CALLS = {
    "pin": Call("pin_user_pages_fast", "unpin_user_pages", Foll.WRITE, PageRefcounts.pin_user_pages_fast, _unpin),
    "get": Call("get_user_pages_fast", "put_page", Foll.WRITE, PageRefcounts.get_user_pages_fast, _put),
    "pin for long": Call(
        "pin_user_pages_fast",
        "unpin_user_page_range_dirty_lock",
        Foll.WRITE | Foll.LONGTERM,
        PageRefcounts.pin_user_pages_fast,
        _unpin_range,
    ),
}
"""``pin for long`` is what RDMA asks for: FOLL_LONGTERM, which on a device always takes the slow path."""


@dataclass(frozen=True)
class Mapped:
    """A device that a process has mapped and touched.

    Attributes
    ----------
    machine : Machine
    process : Process
    gup : PageRefcounts
    addr : int
        User address of the first byte.
    size, align : int
        Bytes mapped, and of a huge page.
    altmap : bool
    """

    machine: Machine
    process: Process
    gup: PageRefcounts
    addr: int
    size: int
    align: int
    altmap: bool

    @property
    def first_pfn(self) -> int:
        """Pfn of the first page mapped."""
        pfn = self.process.mm.translate(self.addr)
        assert pfn is not None  # it was touched
        return pfn


def mapped_device(
    kernel: Kernel | str, align: str | int = "2M", length: int = 0, *, altmap: bool = False, head_once: bool = False
) -> Mapped:
    """Boot a machine with persistent memory, make a device of it, map its start and touch every huge page.

    Parameters
    ----------
    kernel : Kernel or str
        See :func:`workbench.series.kernel`.
    align : str or int
        ``"4K"``, ``"2M"`` or ``"1G"``, or in bytes.
    length : int
        Bytes to map, a multiple of ``align``; by default one huge page, 2 MiB at least.
    altmap : bool
        Struct pages in the device.
    head_once : bool
        With version 4's patch 8, which was never merged.

    Raises
    ------
    WorkbenchError
        As :meth:`workbench.machine.Machine.create_namespace` and ``mmap``.
    """
    step = parse_size(align)
    length = length or max(step, WINDOW << PAGE_SHIFT)
    room = length + (length >> 5) + (3 << 30)  # info block, struct pages, and the way to a multiple of 1 GiB
    machine = Machine(kernel, persistent_memory=[(_START, _START + (room >> 30 << 30))])
    device = machine.create_namespace(align=step, map="dev" if altmap else "mem")
    process = machine.process()
    addr = process.mmap(process.open(device.name), length)
    process.mm.touch(addr, length // step, step, write=True)
    gup = PageRefcounts(machine.array, machine.zone_device, head_once=True) if head_once else machine.gup
    return Mapped(machine, process, gup, addr, length, step, altmap)


def pin_and_release(device: Mapped, nr_pages: int = WINDOW, first: int = 0, call: str = "pin") -> xr.Dataset:
    """Take pages by one call and give them back by one.

    Parameters
    ----------
    device : Mapped
    nr_pages : int
        Pages of the call.
    first : int
        Where it begins, in pages from the start of the mapping; ``first + nr_pages`` is at most :data:`WINDOW`.
    call : str
        A key of :data:`CALLS`.

    Returns
    -------
    xarray.Dataset
        Dimensions ``phase`` (:data:`PHASES`), ``page`` (:data:`WINDOW`, from the start of the mapping on), ``word``
        and, for each phase, ``take_store`` and ``give_store``.  ``read``, ``written`` (bool: phase, page): lines
        touched and stored to.  ``lines_touched``, ``lines_written``, ``locked``, ``loads`` (phase): counts of the
        whole call.  ``before``, ``held``, ``after`` (uint64: page, word): the struct pages.  ``take_page``,
        ``take_word``, ``take_old``, ``take_new``, ``take_site``: the stores in order; likewise ``give_...``.

    Raises
    ------
    WorkbenchError
        The call reaches beyond the window, is not known, or does not get all pages.
    """
    if call not in CALLS:
        raise WorkbenchError(f"no call {call!r}. Use one of {', '.join(CALLS)}.")
    if nr_pages < 1 or first < 0 or first + nr_pages > WINDOW:
        raise WorkbenchError(
            f"pages {count(first)} to {count(first + nr_pages)} do not lie in the first {WINDOW} struct pages, which "
            "are shown. Take fewer, or begin further left."
        )
    how, gup, array = CALLS[call], device.gup, device.machine.array
    at = device.first_pfn
    logs = [events(array.nr_pages, _STORES_A_PAGE * nr_pages) for _ in PHASES]
    gup.need_mapped(device.process.mm, device.addr, WINDOW)
    words = [array.view(at, WINDOW).copy()]
    held = how.take(gup, device.process.mm, device.addr + (first << PAGE_SHIFT), nr_pages, how.flags, logs[0])
    words.append(array.view(at, WINDOW).copy())
    how.give(gup, held, logs[1])
    words.append(array.view(at, WINDOW).copy())
    if not held.whole:
        raise WorkbenchError(f"{how.name}() gave {len(held)} of {nr_pages} pages (error {held.error}).")
    row = at - array.start_pfn
    seen = np.array([ev.seen[row : row + WINDOW] for ev in logs])
    names = dict(zip(("before", "held", "after"), words, strict=True))
    counters = {"locked": Counter.LOCKED, "lines_written": Counter.LINES_WRITTEN, "loads": Counter.LOADS}
    return xr.Dataset(
        {
            "read": (("phase", "page"), seen != 0),
            "written": (("phase", "page"), seen & 2 != 0),
            "lines_touched": ("phase", [int(np.count_nonzero(ev.seen)) for ev in logs]),
            **{name: ("phase", [int(ev.counts[which]) for ev in logs]) for name, which in counters.items()},
            **{name: (("page", "word"), each) for name, each in names.items()},
            **_stores("take", logs[0], row),
            **_stores("give", logs[1], row),
        },
        coords={
            "phase": list(PHASES),
            "page": np.arange(WINDOW),
            "word": np.arange(WORDS),
            "pfn": ("page", np.arange(at, at + WINDOW)),
        },
        attrs={
            "provenance": "derived",
            "kernel": device.machine.kernel.name,
            "head_once": int(gup is not device.machine.gup),
            "align": device.align,
            "altmap": int(device.altmap),
            "call": call,
            "first": first,
            "nr_pages": nr_pages,
        },
    )


_SITES = np.array([site.c_name for site in Site])


def _stores(phase: str, ev: Events, row: int) -> dict[str, tuple[str, np.ndarray]]:
    """The log of a phase as variables; every store of a pin is a locked operation."""
    assert ev.log is not None and not ev.counts[Counter.NOT_LOGGED], "the log is long enough for every call"
    log = ev.log[: ev.counts[Counter.LOGGED]]
    assert (log[:, 5] == Access.LOCKED).all()
    columns: dict[str, np.ndarray] = {
        "page": log[:, 0].astype(np.int64) - row,
        "word": log[:, 1].astype(np.int8),
        "old": log[:, 2],
        "new": log[:, 3],
        "site": _SITES[log[:, 4].astype(np.intp)],
    }
    return {f"{phase}_{name}": (f"{phase}_store", values) for name, values in columns.items()}


# what a real kernel did


@dataclass(frozen=True)
class Traffic:
    """What one phase did to the struct pages of a huge page; counts may be fractions of a whole run's.

    Attributes
    ----------
    stores, lines_touched, lines_written : float
        For each 512 pages pinned.
    physical_lines : float
        Lines touched by physical address: fewer where struct pages share their memory.
    """

    stores: float
    lines_touched: float
    lines_written: float
    physical_lines: float


_VARIANTS = {"before": "6.1, patch 11's assignment left out", "nodedup": "6.1-nodedup", "stock": "6.1"}


def recorded_traffic(checkout: Checkout | None = None) -> dict[tuple[str, str, bool], tuple[Traffic, Traffic]]:
    """Every recorded run: kernel, align and altmap to the traffic of get (PIN_FAST_BENCHMARK) and put.

    Raises
    ------
    WorkbenchError
        A file is not of the form that is read here, or the repeats of a run differ.
    """
    root = (checkout or Checkout.find()).root
    found = {}
    for name in FILES:
        for row in json.loads((root / name).read_text(encoding="utf-8"))["struct_page_traffic"]["rows"]:
            phases = [
                _traffic([repeat[phase] for repeat in row["repeats"]], row["base_pages"] / WINDOW, name)
                for phase in ("get", "put")
            ]
            kernel = _VARIANTS.get(row["variant"], row["variant"])
            found[kernel, row["align"], row["map"] == "dev"] = (phases[0], phases[1])
    return found


def _traffic(repeats: list[dict[str, int]], parts: float, name: str) -> Traffic:
    fields = ("stores", "va_lines", "va_lines_written", "phys_lines")
    first, *others = [tuple(one[field] / parts for field in fields) for one in repeats]
    if any(other != first for other in others):
        raise WorkbenchError(f"{name}: the repeats of a run differ in {', '.join(fields)}. Take the file from git.")
    return Traffic(*first)


# what the counts become


@dataclass(frozen=True)
class Counts:
    """The counts of a huge page while all of it is pinned once.

    Attributes
    ----------
    pages : int
        Struct pages behind the huge page.
    idle, held : int
        ``_refcount`` of the first struct page, before and while it is pinned.
    pincount : int or None
        The pin counter of the compound page; None for base pages, which have none.
    room : int
        How many times the whole huge page can be held at once before a count would turn negative.
    """

    pages: int
    idle: int
    held: int
    pincount: int | None
    room: int


def counts_while_held(kernel: Kernel | str, align: str) -> Counts:
    """Pin a whole huge page once and read its counts."""
    device = mapped_device(kernel, align)
    array, at, pages = device.machine.array, device.first_pfn, device.align >> PAGE_SHIFT
    idle = array.decode(at)["_refcount"]
    held = device.gup.pin_user_pages_fast(device.process.mm, device.addr, pages, Foll.WRITE)
    refcount = array.decode(at)["_refcount"]
    pincount = _pincount(array.kernel, array.view(at, 3).copy(), at) if pages > 1 else None
    device.gup.unpin_user_pages(held.pfns)
    return Counts(pages, idle, refcount, pincount, (_INT_MAX - idle) // (refcount - idle))


_INT_MAX = (1 << 31) - 1
_PINCOUNTS = ("hpage_pinned_refcount", "compound_pincount", "_pincount")


def _pincount(kernel: Kernel, words: np.ndarray, pfn: int) -> int | None:
    """The pin counter of the compound page that begins with these three struct pages, if they begin one."""
    for page, role in ((1, Role.FIRST_TAIL), (2, Role.SECOND_TAIL)):
        row = words[page].tolist()
        if kernel.abi.role(row, pfn + page) is role:
            decoded = kernel.abi.decode(row, pfn + page)
            for name in _PINCOUNTS:
                if name in decoded:
                    return decoded[name]
    return None


def place(data: xr.Dataset) -> str:
    """A few words for the device of a Dataset."""
    where = "the device" if data.attrs["altmap"] else "DRAM"
    return f"align {size(data.attrs['align'])}, struct pages in {where}"
