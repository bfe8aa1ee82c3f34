# SPDX-License-Identifier: GPL-2.0-only
"""Samples of the benchmark: pairs of CPU seconds and wall seconds, and the order in which they are taken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from time import monotonic, perf_counter, thread_time

import numpy as np

CLOCKS = ("cpu", "wall")
Times = list[tuple[float, float]]
"""Samples of one kind, in the order they were taken: CPU seconds and wall seconds of each."""


def _lists() -> defaultdict:
    return defaultdict(list)


@dataclass
class Samples:
    """What was measured so far; each value of a dict is a list of samples, :data:`Times` where not said otherwise.

    Attributes
    ----------
    kernels : dict of (case name, side)
    pins : dict of (case name, phase, side)
    counting : dict of (case name, "plain" or "counted")
    miscounts : dict of case name to list of int
        How far the counted events were off their closed form.
    reinit : dict of (device bytes, threads)
        Initialising a whole array anew through :meth:`workbench.mm.PageArray.init`.
    spin : dict of (device bytes, threads)
        One thread, then two at a time, each counting in registers; taken beside ``reinit``.
    faults, writes : dict of device bytes
        Faulting every huge page of a device, and writing to random lines of its array.
    probes : dict of "probe" or "init"
        Making the struct pages of a device as its driver does, and the kernel alone.
    images : dict of "scan", "read", "dirty" or "analytic"
        Images of struct pages, see :mod:`workbench.lab.bench_images`.
    starts : dict of "cold" or "warm"
        Import to first result in a fresh process, without and with compiled kernels at hand.
    residuals : list of float
        Of the cost model, one a published time: modelled over published, less one.
    prices : int
        Parameters of the cost model.
    reasons : dict of str to str
        Why a part was not measured: ``scale``, the array of 1 TiB.
    """

    kernels: defaultdict[tuple[str, str], Times] = field(default_factory=_lists)
    pins: defaultdict[tuple[str, str, str], Times] = field(default_factory=_lists)
    counting: defaultdict[tuple[str, str], Times] = field(default_factory=_lists)
    miscounts: defaultdict[str, list[int]] = field(default_factory=_lists)
    reinit: defaultdict[tuple[int, int], Times] = field(default_factory=_lists)
    spin: defaultdict[tuple[int, int], Times] = field(default_factory=_lists)
    faults: defaultdict[int, Times] = field(default_factory=_lists)
    writes: defaultdict[int, Times] = field(default_factory=_lists)
    probes: defaultdict[str, Times] = field(default_factory=_lists)
    images: defaultdict[str, Times] = field(default_factory=_lists)
    starts: defaultdict[str, Times] = field(default_factory=_lists)
    residuals: list[float] = field(default_factory=list)
    prices: int = 0
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pace:
    """How often everything is measured, and until when.

    Attributes
    ----------
    repetitions : int
        After a warm-up, which is not kept.
    deadline : float or None
        ``time.monotonic()`` after which nothing further begins.
    done : callable
        Called after every step.
    """

    repetitions: int
    deadline: float | None = None
    done: Callable[[], object] = lambda: None

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return self.deadline is not None and monotonic() > self.deadline

    def turns(self, samples: Samples) -> Iterator[tuple[int, Samples]]:
        """Number of each repetition, and where its samples go: those of the warm-up nowhere."""
        for repetition in range(1 + self.repetitions):
            if self.over:
                return
            yield repetition, samples if repetition else Samples()


def interleave(*parts: Iterator[None]) -> None:
    """Run parts side by side: a repetition of each, then the next one of each."""
    for _ in zip_longest(*parts):
        pass


@contextmanager
def timed(into: Times) -> Iterator[None]:
    """Take a sample of what the block does."""
    wall, cpu = perf_counter(), thread_time()
    yield
    into.append((thread_time() - cpu, perf_counter() - wall))


def rotated(sides: tuple[str, ...], repetition: int, rounds: int = 1) -> list[str]:
    """The sides of a case, ``rounds`` times each: begun by another one every time, backwards every other time."""
    order: list[str] = []
    for turn in range(repetition, repetition + rounds):
        at = turn % len(sides)
        order += sides[at:] + sides[:at]
    return order[::-1] if repetition % 2 else order


def table(lists: list[Times], outer: tuple[int, ...], longest: int = 0) -> np.ndarray:
    """Samples as an array of shape ``outer`` + (``longest`` or the longest list, 2); shorter lists end in NaN."""
    longest = max(longest, *map(len, lists))
    rows = [samples + [(np.nan, np.nan)] * (longest - len(samples)) for samples in lists]
    return np.array(rows, float).reshape(*outer, longest, len(CLOCKS))
