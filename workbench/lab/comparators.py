# SPDX-License-Identifier: GPL-2.0-only
"""Device-dax beside THP and hugetlb: the same size pinned and released by the same engine.

::

    found = comparators("256M")          # a Dataset: counts, times, recorded instructions

The series makes releasing a device's pages as cheap as releasing those of transparent huge pages or hugetlb: one
release a compound page.  Pinning stays a loop over base pages, each looked up and grabbed on its own, where THP and
hugetlb are grabbed once for all pages of a call that lie in one compound page.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE
from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout
from workbench.lab.gup_timing import this_machine, time_pins
from workbench.lab.pin_events import PAGES_PER_CALL
from workbench.lab.pinning import FILES, Mapped, mapped_device
from workbench.machine import Machine
from workbench.machine.ordinary import NORMAL_START, OrdinaryMemory, mmap_zero
from workbench.mm import gup_fast
from workbench.mm.events import Counter, Events, events
from workbench.mm.madvise import Madv
from workbench.mm.mmap import Map
from workbench.mm.page_ref import Foll
from workbench.mm.pgtable import Level
from workbench.text import parse_size

PHASES = ("get", "put")
KERNELS = ("5.15", "5.17")
"""Before the series and with it, both recorded."""
KERNELS_6_1 = ("6.1+=1-10", "6.1-nodedup")
"""One recorded kernel, 6.1: without patch 11's assignment, and with compound pages, vmemmap not shared."""
_VARIANTS = dict(zip(("before", "nodedup", "stock"), (*KERNELS_6_1, "6.1"), strict=True))

BEFORE, AFTER = "device-dax, before", "device-dax, with the series"
THP, HUGETLB, BASE_PAGES = "THP", "hugetlb", "anonymous base pages"

_ALIGNED = 0x7F00_0000_0000
"""Where a program puts a buffer that is to have huge pages only."""

_HUGETLB_OF = {"2M": Map.HUGE_2MB, "1G": Map.HUGE_1GB}


def mapped_ordinary(kernel: str, length: int, flags: int = Map.PRIVATE, *, huge: bool = True) -> Mapped:
    """Boot a machine with ordinary memory, map some at an address of huge pages and write to every page.

    Parameters
    ----------
    kernel : str
        See :func:`workbench.series.kernel`.
    length : int
        Bytes.
    flags : int
        See :func:`workbench.machine.ordinary.mmap_zero`.
    huge : bool
        False: MADV_NOHUGEPAGE.

    Returns
    -------
    Mapped
        ``align`` is the size of the first page.
    """
    machine = Machine(kernel, ordinary_bytes=NORMAL_START + (-(-length >> 30) << 30))
    process = machine.process()
    addr = mmap_zero(process, OrdinaryMemory(machine), length, flags, _ALIGNED)
    if not huge:
        process.madvise(addr, length, Madv.NOHUGEPAGE)
    process.mm.touch(addr, length >> PAGE_SHIFT, PAGE_SIZE, write=True)
    return Mapped(machine, process, machine.gup, addr, length, Level(process.mm.walk(addr)[0]).size, altmap=False)


@dataclass(frozen=True)
class _Case:
    """Some memory: its kernel, how it comes to be, and what gup_test's records call it."""

    kernel: str
    mapped: Callable[[str, int], Mapped]
    recorded: tuple[str, str | None]


def _cases(align: str, kernels: tuple[str, str]) -> dict[str, _Case]:
    def device(kernel: str, length: int) -> Mapped:
        return mapped_device(kernel, align, length)

    def hugetlb(kernel: str, length: int) -> Mapped:
        return mapped_ordinary(kernel, length, Map.SHARED | Map.ANONYMOUS | Map.HUGETLB | _HUGETLB_OF[align])

    def small(kernel: str, length: int) -> Mapped:
        return mapped_ordinary(kernel, length, huge=False)

    before, after = kernels
    cases = {
        BEFORE: _Case(before, device, ("device-dax", align)),
        AFTER: _Case(after, device, ("device-dax", align)),
    }
    if align == "2M":
        cases[THP] = _Case(after, mapped_ordinary, ("transparent huge pages", None))
    # The records have hugetlb pages of 2 MiB alone.
    cases[HUGETLB] = _Case(after, hugetlb, ("hugetlb memory", None if align == "2M" else align))
    cases[BASE_PAGES] = _Case(after, small, ("no transparent huge pages", None))
    return cases


def comparators(
    length: str = "256M", samples: int = 5, align: str = "2M", kernels: tuple[str, str] = KERNELS
) -> xr.Dataset:
    """Pin and release some memory of every kind by calls of 512 pages: counted, and timed on this machine.

    Parameters
    ----------
    length : str
        Memory pinned, a multiple of ``align``.
    samples : int
        Timed runs of each.
    align : str
        ``"2M"`` or ``"1G"``: of the devices, and the size of hugetlb pages.  THP have 2 MiB only.
    kernels : (str, str)
        Without and with compound pages in device-dax; the other memory is of the second.  Recorded are :data:`KERNELS`
        and :data:`KERNELS_6_1`.

    Returns
    -------
    xarray.Dataset
        Dimensions ``memory``, ``phase`` (:data:`PHASES`), ``sample``.  ``locked``, ``lines_touched``,
        ``lines_written`` (memory, phase): counts of the engine over all calls, struct pages alone.  ``ns`` (memory,
        phase, sample): measured nanoseconds a base page.  ``instructions`` (memory, phase): recorded of a real
        kernel, a base page; NaN where nothing is.  ``kernel`` (memory).

    Raises
    ------
    WorkbenchError
        Another align, or a length that is none of it.

    Notes
    -----
    The recorded THP lay at an address off a huge page, as a private mapping of ``/dev/zero`` does: 512 of the
    131,072 pages were base pages, and each call met two compound pages.  Here the buffer is aligned.

    Where a call begins inside a compound page, that is with 1 GiB pages, ``lines_touched`` of a get from THP or hugetlb
    has the struct page of its first base page, which 5.18 and later read; earlier releases read the head instead.
    """
    if align not in _HUGETLB_OF or parse_size(length) % parse_size(align):
        raise WorkbenchError(
            f"{length} of pages of {align} cannot be pinned: the huge pages are of {' or '.join(_HUGETLB_OF)}, and the "
            "length is a multiple of them."
        )
    nbytes, cases, recorded = parse_size(length), _cases(align, kernels), recorded_instructions()
    counts, times, instructions = [], [], []
    for case in cases.values():
        mapped = case.mapped(case.kernel, nbytes)
        counts.append(_counted(mapped))
        seconds = time_pins(mapped, samples)
        times.append([[each * 1e9 / (nbytes >> PAGE_SHIFT) for each in seconds[phase]] for phase in PHASES])
        instructions.append(recorded.get((case.kernel, *case.recorded), (np.nan, np.nan)))
    names = ("locked", "lines_touched", "lines_written")
    return xr.Dataset(
        {
            **{
                name: (("memory", "phase"), [[one[k] for one in each] for each in counts])
                for k, name in enumerate(names)
            },
            "ns": (("memory", "phase", "sample"), times),
            "instructions": (("memory", "phase"), instructions),
        },
        coords={
            "memory": list(cases),
            "phase": list(PHASES),
            "kernel": ("memory", [case.kernel for case in cases.values()]),
        },
        attrs={
            "provenance": "derived, measured, captured",
            "size": nbytes,
            "align": align,
            "pages_per_call": PAGES_PER_CALL,
            "cpu": this_machine()["cpu"],
        },
    )


def _counted(mapped: Mapped) -> list[tuple[int, int, int]]:
    """Locked operations, lines touched and lines written of pinning all of it, and of releasing it."""
    gup, mm, nr_pages = mapped.gup, mapped.process.mm, mapped.size >> PAGE_SHIFT
    gup.need_mapped(mm, mapped.addr, nr_pages)
    pages = np.empty(nr_pages, np.int64)
    get, put = (events(mapped.machine.array.nr_pages) for _ in PHASES)
    nr, _asked = gup_fast.gup_fast_calls(
        *(gup.vm, gup.refs, gup.own_pgmaps(), mm.pt, mm.write_protect_seq),
        *(mapped.addr, nr_pages, PAGES_PER_CALL, int(Foll.PIN | Foll.WRITE), pages, get),
    )
    assert nr == nr_pages  # every page was written to
    gup_fast.unpin_user_pages(gup.vm, gup.refs, pages, False, pages[:0], put)
    return [_counts(ev) for ev in (get, put)]


def _counts(ev: Events) -> tuple[int, int, int]:
    return int(ev.counts[Counter.LOCKED]), int(np.count_nonzero(ev.seen)), int(ev.counts[Counter.LINES_WRITTEN])


def recorded_instructions(checkout: Checkout | None = None) -> dict[tuple[str, str, str | None], tuple[float, float]]:
    """Instructions a base page of get and put, recorded by gup_test with ``-a -n 512 -w``, struct pages in DRAM.

    Returns
    -------
    dict
        Of kernel, memory (as the record calls it) and align (None for what is no device).
    """
    root = (checkout or Checkout.find()).root
    found: dict[tuple[str, str, str | None], tuple[float, float]] = {}
    for name in FILES:
        for run in json.loads((root / name).read_text(encoding="utf-8"))["runs"]:
            told = {"-a", "-w", f"-n {PAGES_PER_CALL}"} <= set(run["options"])
            if run["mode"] == "instructions" and told and run["map"] in (None, "mem"):
                kernel = _VARIANTS.get(run["variant"], run["variant"])
                values = (run["get_instructions_per_page"], run["put_instructions_per_page"])
                found.setdefault((kernel, run["memory"], run["align"]), values)
    return found
