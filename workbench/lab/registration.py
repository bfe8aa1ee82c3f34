# SPDX-License-Identifier: GPL-2.0-only
"""Registering device-dax memory with RDMA: the rounds that the RFC published, and what a registration does.

A memory region is pinned with FOLL_LONGTERM, by calls for at most 512 pages; on a device that is the slow
path, one page after the other, on every release.  It is released by ranges, and there the series counts: one
batch for each compound page.

The cost model knows the struct pages' part only.  The slow path also walks the page tables and takes a lock
for every page, so a modelled registration is a **lower bound**; a release has no such part.

Kernel
------
``drivers/infiniband/core/umem.c``: ``ib_umem_get()``, ``__ib_umem_release()``; 5.15 to 6.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.lab.cost import Fit
from workbench.lab.pin_events import PIN_SLOW, UNPIN_RANGE, PinEvents, pin_events
from workbench.lab.published import Published, published
from workbench.rdma.umem import PAGES_PER_CALL

MEMORIES = ("device-dax", "hugetlbfs")


@dataclass(frozen=True, slots=True)
class Rounds:
    """Rounds of registering and deregistering, as the RFC printed them.

    Attributes
    ----------
    memory : str
        One of :data:`MEMORIES`.
    state : str
        ``"before"`` or ``"after"`` the RFC.
    rounds : int
    seconds : float
    us_per_round : float
        Microseconds, as printed.
    """

    memory: str
    state: str
    rounds: int
    seconds: float
    us_per_round: float

    @property
    def per_second(self) -> float:
        """Rounds a second; derived."""
        return self.rounds / self.seconds


def published_rounds(data: Published | None = None) -> list[Rounds]:
    """The four runs of the RFC, before and after for each memory."""
    data = published() if data is None else data
    found = []
    for memory in MEMORIES:
        rounds, seconds, one = (data[f"rfc-mr-{memory}-{part}"] for part in ("rounds", "seconds", "round"))
        for state in ("before", "after"):
            after = state == "after"
            count = rounds.amount(after).value or 0
            found.append(Rounds(memory, state, int(count), seconds.ms(after) / 1e3, one.ms(after) * 1e3))
    return found


@dataclass(frozen=True, slots=True)
class Registration:
    """What registering and releasing a memory region does to struct pages, and the modelled time of that part.

    Attributes
    ----------
    calls : int
        Calls that pin.
    pin, release : PinEvents
    pin_ms, release_ms : float
        Modelled milliseconds; ``pin_ms`` is a lower bound.
    """

    calls: int
    pin: PinEvents
    release: PinEvents
    pin_ms: float
    release_ms: float


def registration(size: int, align: int, compound: bool, altmap: bool, fit: Fit) -> Registration:
    """One memory region of a whole number of compound pages, registered and released on 5.16 or 5.17.

    Parameters
    ----------
    size, align : int
        Bytes; ``size`` a multiple of ``align``.
    compound : bool
        With the series.
    altmap : bool
        Struct pages in the device.
    fit : Fit
        Prices.

    Raises
    ------
    WorkbenchError
        As :func:`workbench.lab.pin_events.pin_events`.
    """
    medium = fit.media["pmem" if altmap else "dram"]
    pin, release = (pin_events(path, size, align, compound) for path in (PIN_SLOW, UNPIN_RANGE))
    return Registration(-(-pin.pages // PAGES_PER_CALL), pin, release, medium.ms(pin), medium.ms(release))
