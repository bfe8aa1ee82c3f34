# SPDX-License-Identifier: GPL-2.0-only
"""How long the engine's pins and releases take on this machine: what a sweep measures.

::

    run = sweep(path, time_point, sizes, aligns, about=this_machine())

The loop is gup_test's: calls of 512 pages until the whole range is pinned, then one release of all of them.
Both run in compiled code with the processor's own locked operations, over struct pages in this machine's DRAM.
What is timed is the thread's processor time, so that others who want the processor do not count; their traffic in
caches and memory does.  The engine is no kernel: it walks its own page tables, takes no interrupts off, and has no
per-CPU counters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import thread_time

import numpy as np

from workbench.abi.constants import PAGE_SHIFT
from workbench.errors import WorkbenchError
from workbench.lab.bench import engine_hash
from workbench.lab.checkout import Checkout
from workbench.lab.cost import KERNELS
from workbench.lab.pin_events import PAGES_PER_CALL
from workbench.lab.pinning import Mapped, mapped_device
from workbench.lab.sweep import Measure, Point
from workbench.mm import gup_fast
from workbench.mm.page_ref import Foll
from workbench.text import count


def time_point(point: Point, samples: int) -> dict[str, list[float]]:
    """Seconds of all calls at one point of a sweep: a :data:`workbench.lab.sweep.Measure`."""
    return time_pins(mapped_device(KERNELS[point.state], point.align, point.size), samples)


def time_pins(device: Mapped, samples: int, per_call: int = PAGES_PER_CALL) -> dict[str, list[float]]:
    """Pin and release all that is mapped, again and again; the first time is not counted.

    Parameters
    ----------
    device : Mapped
    samples : int
    per_call : int
        Pages of a call.

    Returns
    -------
    dict of str to list of float
        ``get`` and ``put``: seconds, one for each sample.

    Raises
    ------
    WorkbenchError
        Not all pages could be pinned.
    """
    nr_pages = device.size >> PAGE_SHIFT
    device.gup.need_mapped(device.process.mm, device.addr, nr_pages)
    each = list(_timed(device, nr_pages, per_call, samples + 1))[1:]
    return {"get": [get for get, _ in each], "put": [put for _, put in each]}


def _timed(device: Mapped, nr_pages: int, per_call: int, times: int) -> Iterator[tuple[float, float]]:
    gup, mm, flags = device.gup, device.process.mm, int(Foll.PIN | Foll.WRITE)
    pages = np.empty(nr_pages, np.int64)
    for _ in range(times):
        pgmaps = gup.own_pgmaps()
        started = thread_time()
        nr, _asked = gup_fast.gup_fast_calls(
            *(gup.vm, gup.refs, pgmaps, mm.pt, mm.write_protect_seq),
            *(device.addr, nr_pages, per_call, flags, pages, None),
        )
        got = thread_time()
        if nr != nr_pages:
            raise WorkbenchError(
                f"{count(int(nr))} of {count(nr_pages)} pages were pinned. Touch all of the range first."
            )
        release = thread_time()
        gup_fast.unpin_user_pages(gup.vm, gup.refs, pages, False, pages[:0], None)
        yield got - started, thread_time() - release


def interrupted(measure: Measure, after: int) -> Measure:
    """``measure``, with Ctrl-C pressed instead of point number ``after`` (from 0)."""
    asked = iter(range(after))

    def stops(point: Point, samples: int) -> Mapping[str, Sequence[float]]:
        if next(asked, None) is None:
            raise KeyboardInterrupt
        return measure(point, samples)

    return stops


def this_machine() -> dict[str, str | int]:
    """What a sweep's file says of where it ran, and goes on only if it is the same."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    model = re.search(r"^model name\s*: (.+)$", cpuinfo, re.MULTILINE)
    return {
        "title": "Pinning and releasing device-dax memory, measured and modelled",
        "cpu": model[1] if model else "unknown",
        "engine_sha256": engine_hash(Checkout.find()),
        "pages_per_call": PAGES_PER_CALL,
    }
