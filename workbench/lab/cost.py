# SPDX-License-Identifier: GPL-2.0-only
"""The cost model: the time of a phase is what it does to struct pages, each act at its price.

::

    time = lines read x read(medium) + lines written x write(medium) + locked operations x locked

The counts are the closed forms of :mod:`workbench.lab.pin_events`; the prices are fitted to the twelve
times of the merged cover letter.  Four prices are enough (:data:`MODEL`); that a written line costs
nothing further in DRAM is an assumption, which a fifth price (:data:`WITH_DRAM_WRITES`) relaxes.

The fit minimises the squared **logarithms** of model over published, every number with equal weight, so that
twice as long is as bad as half as long, at 22 ms as at 4 s.  Its start is the linear least squares of
the relative residuals; Gauss-Newton steps follow.  The rounding of the printed numbers is not weighed: it is
small beside the residuals, but for "~1sec", whose interval is told.

What it can tell is limited, and :func:`leave_out` shows how: the twelve times are six distinct costs, each
seen at two sizes, and four prices explain them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from workbench.errors import WorkbenchError
from workbench.lab.media import MODELLED, Medium
from workbench.lab.pin_events import PinEvents, pin_events
from workbench.lab.published import Number, published

KERNELS = {"before": "5.16", "after": "5.17"}
"""State of the series to the kernel whose counts stand for it."""

MAX_RESIDUAL, MAX_RMS = 0.08, 0.04
"""What a good fit keeps: every published time within 8 %, the root mean square within 4 %."""

_CONFIG = ("size_mib", "align_mib", "altmap", "path", "phase")
_STEPS = 50
_CONVERGED = 1e-12


@dataclass(frozen=True, slots=True)
class Sample:
    """One published time and what was counted for it.

    Attributes
    ----------
    name : str
        Id of the published number, ``-before`` or ``-after``.
    family : str
        What it has in common with the same phase at another size: ``altmap-get-before``.
    size_mib : int
        Memory pinned.
    altmap : bool
        Struct pages in the device (``pmem``) or in DRAM (``dram``).
    published_ms : float
    interval_ms : tuple of float
        What rounds to the printed text.
    events : PinEvents
    """

    name: str
    family: str
    size_mib: int
    altmap: bool
    published_ms: float
    interval_ms: tuple[float, float]
    events: PinEvents

    @property
    def ns_per_page(self) -> float:
        """Published nanoseconds for each 4 KiB page."""
        return self.published_ms * 1e6 / self.events.pages


@dataclass(frozen=True, slots=True)
class Term:
    """One price: its name, what it means, and how often a sample pays it."""

    name: str
    meaning: str
    count: Callable[[Sample], int]


TERMS = {
    term.name: term
    for term in (
        Term(
            "read_dram",
            "a line of struct pages in DRAM touched in sequence, the instructions that go with it included",
            lambda sample: 0 if sample.altmap else sample.events.lines_read,
        ),
        Term(
            "read_pmem",
            "the same with struct pages in the device: sequential reading of persistent memory",
            lambda sample: sample.events.lines_read if sample.altmap else 0,
        ),
        Term(
            "write_pmem",
            "a changed line that goes back to the device; its unit of writing is larger than a line",
            lambda sample: sample.events.lines_written if sample.altmap else 0,
        ),
        Term(
            "locked",
            "a locked operation on a line that is in the cache by then, hot or not",
            lambda sample: sample.events.locked,
        ),
        Term(
            "write_dram",
            "a changed line that goes back to DRAM; zero in the model of four prices",
            lambda sample: 0 if sample.altmap else sample.events.lines_written,
        ),
    )
}
"""Every price that can be fitted, by name; all are nanoseconds."""

MODEL = ("read_dram", "read_pmem", "write_pmem", "locked")
WITH_DRAM_WRITES = (*MODEL, "write_dram")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A fitted price.

    Attributes
    ----------
    name : str
    value : float
        Nanoseconds.
    stderr : float
        Standard error, nanoseconds; NaN where there are as many prices as times.
    """

    name: str
    value: float
    stderr: float


@dataclass(frozen=True, slots=True)
class Fit:
    """Fitted prices and the times they were fitted to."""

    parameters: tuple[Parameter, ...]
    samples: tuple[Sample, ...]

    @property
    def prices(self) -> dict[str, float]:
        """Name to nanoseconds."""
        return {parameter.name: parameter.value for parameter in self.parameters}

    def ms(self, sample: Sample) -> float:
        """Modelled milliseconds of a sample, fitted or not."""
        return sum(ns * TERMS[name].count(sample) for name, ns in self.prices.items()) / 1e6

    def residual(self, sample: Sample) -> float:
        """Modelled over published, less one."""
        return self.ms(sample) / sample.published_ms - 1

    @property
    def residuals(self) -> np.ndarray:
        """float64[sample], of the samples fitted to."""
        return np.array([self.residual(sample) for sample in self.samples])

    @property
    def max_residual(self) -> float:
        """The greatest residual, without its sign."""
        return float(np.abs(self.residuals).max())

    @property
    def rms(self) -> float:
        """Root mean square of the residuals."""
        return float(np.sqrt(np.mean(self.residuals**2)))

    @property
    def media(self) -> dict[str, Medium]:
        """``dram`` and ``pmem`` at the fitted prices."""
        prices = self.prices
        source = f"fitted to {len(self.samples)} published times"
        return {
            name: Medium(
                name, prices[f"read_{name}"], prices.get(f"write_{name}", 0.0), prices["locked"], MODELLED, source
            )
            for name in ("dram", "pmem")
        }


def sample_of(number: Number, state: str) -> Sample:
    """A published gup_test time as a sample.

    Parameters
    ----------
    number : Number
        One with ``size_mib``, ``align_mib``, ``altmap``, ``path`` and ``phase``.
    state : str
        ``"before"`` or ``"after"`` the series.

    Raises
    ------
    WorkbenchError
        The number is not of such a run, or has no such time.
    """
    after, config = state == "after", number.config
    if lacking := [name for name in _CONFIG if name not in config]:
        raise WorkbenchError(f"{number.id} does not say {', '.join(lacking)}; only runs of gup_test can be modelled.")
    place = "altmap" if config["altmap"] else "dram"
    events = pin_events(
        config["path"], config["size_mib"] << 20, config["align_mib"] << 20, compound=after, release=KERNELS[state]
    )
    return Sample(
        f"{number.id}-{state}",
        f"{place}-{config['phase']}-{state}",
        config["size_mib"],
        config["altmap"],
        number.ms(after),
        number.interval_ms(after),
        events,
    )


@cache
def seed_samples() -> tuple[Sample, ...]:
    """The twelve times of the merged cover letter."""
    return tuple(sample_of(number, state) for number in published().seed() for state in KERNELS)


def fit(samples: Sequence[Sample] | None = None, terms: Sequence[str] = MODEL) -> Fit:
    """Fit prices by least squares of the logarithms of model over published.

    Parameters
    ----------
    samples : sequence of Sample, optional
        Times to fit to; :func:`seed_samples` if not given.
    terms : sequence of str
        Keys of :data:`TERMS`.

    Returns
    -------
    Fit

    Raises
    ------
    WorkbenchError
        The samples do not determine the prices, or lead to none that are positive.
    """
    samples = seed_samples() if samples is None else tuple(samples)
    counts = np.array([[TERMS[name].count(sample) for name in terms] for sample in samples], float) / 1e6
    times = np.array([sample.published_ms for sample in samples])
    if len(samples) < len(terms) or np.linalg.matrix_rank(counts / times[:, None]) < len(terms):
        raise WorkbenchError(
            f"{len(samples)} times do not determine {len(terms)} prices: {', '.join(terms)}. Give more or other times."
        )
    prices = np.linalg.lstsq(counts / times[:, None], np.ones(len(times)))[0]
    for _ in range(_STEPS):
        modelled = counts @ prices
        if (modelled <= 0).any():
            raise WorkbenchError("a price came out so negative that a time is. Leave fewer times out.")
        step = np.linalg.lstsq(counts / modelled[:, None], np.log(times / modelled))[0]
        prices = prices + step
        if np.abs(step / prices).max() < _CONVERGED:
            break
    else:
        raise WorkbenchError(f"the fit did not settle within {_STEPS} steps. Give more or other times.")
    modelled = counts @ prices
    slopes = counts / modelled[:, None]
    free = len(samples) - len(terms)
    variance = float(np.sum(np.log(times / modelled) ** 2)) / free if free else math.nan
    errors = np.sqrt(variance * np.diag(np.linalg.inv(slopes.T @ slopes)))
    parameters = zip(terms, prices.tolist(), errors.tolist(), strict=True)
    return Fit(tuple(Parameter(*parameter) for parameter in parameters), samples)


@cache
def seed_fit() -> Fit:
    """The model: :data:`MODEL` fitted to :func:`seed_samples`."""
    return fit()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Times that a fit did not see, and how it foretells them.

    Attributes
    ----------
    what : str
    fit : Fit
        To all the others.
    samples : tuple of Sample
        Those left out.
    """

    what: str
    fit: Fit
    samples: tuple[Sample, ...]

    @property
    def worst(self) -> float:
        """The residual of greatest size among those left out, with its sign."""
        return max((self.fit.residual(sample) for sample in self.samples), key=abs)


def leave_out(by: Callable[[Sample], Any], samples: Sequence[Sample] | None = None) -> list[LeftOut]:
    """Fit anew without each group of samples.

    Parameters
    ----------
    by : callable
        What samples of one group have in common: ``name`` leaves out one time after the other, ``family``
        both sizes of a cost, ``size_mib > 16384`` one half of the table.
    samples : sequence of Sample, optional
        :func:`seed_samples` if not given.

    Returns
    -------
    list of LeftOut
        In the order in which the groups first come.
    """
    samples = seed_samples() if samples is None else tuple(samples)
    found = []
    for group in dict.fromkeys(by(sample) for sample in samples):
        out = tuple(sample for sample in samples if by(sample) == group)
        found.append(LeftOut(str(group), fit([sample for sample in samples if sample not in out]), out))
    return found


def disagreement(samples: Iterable[Sample] | None = None) -> dict[str, float]:
    """How far the two sizes of each cost lie apart in the published numbers themselves.

    Returns
    -------
    dict of str to float
        Family to the least greatest residual of any model whose cost for each page is the same at every
        size: half the spread of the logarithms, as a ratio less one.
    """
    families: dict[str, list[float]] = {}
    for sample in seed_samples() if samples is None else samples:
        families.setdefault(sample.family, []).append(math.log(sample.ns_per_page))
    return {family: math.exp((max(logs) - min(logs)) / 2) - 1 for family, logs in families.items()}


def held_out() -> list[Sample]:
    """Published times that no fit here sees: version 4's pins and gets of base pages, other runs on other days."""
    return [sample_of(number, "before") for number in published().starting("grab-once-")]


def as_json(fit: Fit) -> dict[str, list[dict[str, Any]]]:
    """Prices and residuals as plain JSON values; a residual is modelled over published, less one."""
    return {
        "parameters": [
            {"name": parameter.name, "value": parameter.value, "unit": "ns", "stderr": parameter.stderr}
            for parameter in fit.parameters
        ],
        "published": [
            {
                "name": sample.name,
                "published_ms": sample.published_ms,
                "model_ms": fit.ms(sample),
                "residual": fit.residual(sample),
            }
            for sample in fit.samples
        ],
    }


def as_text(fit: Fit) -> list[str]:
    """Lines for a terminal: prices and what they mean, published beside modelled, what the model cannot tell."""
    lines = ["prices, fitted to the cover letter of version 7 (modelled):"]
    for parameter in fit.parameters:
        meaning = TERMS[parameter.name].meaning
        lines += [f"  {parameter.name:<11} {parameter.value:6.2f} +- {parameter.stderr:.2f} ns  {meaning}"]
    lines += ["", f"  {'time':<32} {'published':>12} {'modelled':>12} {'residual':>9}"]
    for sample in fit.samples:
        times = f"{sample.published_ms:>9.0f} ms {fit.ms(sample):>9.1f} ms"
        lines += [f"  {sample.name:<32} {times} {fit.residual(sample):>+9.1%}"]
    lines += ["", f"  greatest {fit.max_residual:.1%}, root mean square {fit.rms:.1%}"]
    lines += [
        "",
        "left out and foretold from the rest, greatest residual:",
        *_left_out_lines("each time", lambda sample: sample.name, fit.samples),
        *_left_out_lines("each cost at both sizes", lambda sample: sample.family, fit.samples),
        *_left_out_lines("one size from the other", lambda sample: sample.size_mib > 16384, fit.samples),
    ]
    worst = max(disagreement(fit.samples).items(), key=lambda pair: pair[1])
    lines += ["", f"the published sizes themselves disagree by up to {worst[1]:.1%} either way ({worst[0]})"]
    return lines


def _left_out_lines(what: str, by: Callable[[Sample], Any], samples: Sequence[Sample]) -> list[str]:
    found = [(out.worst, out.samples) for out in leave_out(by, samples)]
    worst, of = max(found, key=lambda pair: abs(pair[0]))
    return [f"  {what:<24} {worst:+.1%} ({of[0].name})"]
