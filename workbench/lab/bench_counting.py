# SPDX-License-Identifier: GPL-2.0-only
"""Measure what counting costs, and hold what is counted against closed forms.

The instrumented form of a kernel is the same source, compiled a second time with somebody listening.  What is
measured here is what the cost model counts: pins, releases and the put_page() walk.  Initialisation tells of each
assignment, some twenty a struct page; that is for looking at, and takes as much longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import numpy as np

from workbench.abi.constants import PAGE_SIZE
from workbench.lab import pin_events
from workbench.lab.bench_kernels import Case, prepare, run_engine, window_pages
from workbench.lab.bench_pins import BASE_PAGES, COMPOUND, PinCase, Pinner
from workbench.lab.bench_samples import Pace, Samples, rotated, timed
from workbench.mm import PageArray
from workbench.mm.events import Counter, Events, events
from workbench.mm.memmap import Memmap, memmap
from workbench.series import kernel

FORMS = ("plain", "counted")
_PUT = Case("put_pages", "5.16+0", 0, before=0)
_PINS = (BASE_PAGES, COMPOUND)

Counts = dict[Counter, int]


def _pin_name(case: PinCase, phase: int) -> str:
    return f"{case.kernels()[phase]} {case.name}"


COUNTED = (_PUT.name, *(_pin_name(case, phase) for case in _PINS for phase in (0, 1)))
"""What is counted, by name."""


def closed_form(name: str, nr_pages: int) -> Counts:
    """What running ``name``, one of :data:`COUNTED`, over ``nr_pages`` pages counts.

    The put_page() walk over base pages reads every line and does one locked operation on it; for pins see
    :mod:`workbench.lab.pin_events`.
    """
    if name == _PUT.name:
        return dict.fromkeys((Counter.LOCKED, Counter.LINES_READ, Counter.LINES_WRITTEN), nr_pages)
    case, phase = next((case, phase) for case in _PINS for phase in (0, 1) if _pin_name(case, phase) == name)
    path = (pin_events.PIN_FAST, pin_events.UNPIN)[phase]
    tree = kernel(case.tree).tree
    told = pin_events.pin_events(path, nr_pages * PAGE_SIZE, compound=case.order > 0, release=tree.base)
    return {
        Counter.LOCKED: told.locked,
        Counter.LINES_READ: told.lines_read,
        Counter.LINES_WRITTEN: told.lines_written,
    }


def miscount(name: str, ev: Events, nr_pages: int) -> int:
    """How far what ``ev`` counted is off the closed form, summed over its counters."""
    return sum(abs(int(ev.counts[counter]) - wanted) for counter, wanted in closed_form(name, nr_pages).items())


def measure_counting(array: PageArray, windows: int, samples: Samples, pace: Pace) -> Iterator[None]:
    """Time kernels as they are and counting, one right after the other.  Yields after each repetition.

    Parameters
    ----------
    array : PageArray
        Overwritten.
    windows : int
        Parts of the array; each sample works on the next one.
    samples : Samples
        ``samples.counting`` and ``samples.miscounts`` grow.
    pace : Pace
        A step is all of :data:`COUNTED`.
    """
    size = window_pages(array, windows)
    vm = array.writable(array.start_pfn, array.nr_pages)
    starts = cycle(range(0, array.nr_pages, size))
    pinners = [Pinner(case, vm, np.zeros(size, np.int64)) for case in _PINS]
    for repetition, kept in pace.turns(samples):
        for form in rotated(FORMS, repetition):
            _run_puts(form, vm, next(starts), size, kept)
            for pinner in pinners:
                _run_pins(pinner, form, next(starts), size, kept)
        pace.done()
        yield


def _listener(form: str, vm: Memmap) -> Events | None:
    """Where the counted form notes what it does, its memory touched before the clock runs; None for the plain one."""
    if form == "plain":
        return None
    ev = events(len(vm.pages))
    ev.seen.fill(0)
    return ev


def _run_puts(form: str, vm: Memmap, start: int, size: int, kept: Samples) -> None:
    vm = memmap(kernel(_PUT.tree), vm.pages, vm.pageblock_flags, vm.start_pfn)
    ev = _listener(form, vm)
    prepare(_PUT, vm, start, start + size)
    with timed(kept.counting[_PUT.name, form]):
        run_engine(_PUT, vm, start, start + size, ev)
    _note(_PUT.name, ev, size, kept)


def _run_pins(pinner: Pinner, form: str, start: int, size: int, kept: Samples) -> None:
    pinner.prepare(start, start + size)
    for phase, run in enumerate((pinner.get, pinner.put)):
        name, ev = _pin_name(pinner.case, phase), _listener(form, pinner.vm)
        with timed(kept.counting[name, form]):
            run(start, start + size, None, ev)
        _note(name, ev, size, kept)


def _note(name: str, ev: Events | None, size: int, kept: Samples) -> None:
    if ev is not None:
        kept.miscounts[name].append(miscount(name, ev, size))
