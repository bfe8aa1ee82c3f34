# SPDX-License-Identifier: GPL-2.0-only
"""What a cache line and a locked operation cost on a medium: fitted, or assumed for a what-if.

A :class:`Medium` of kind ``modelled`` holds parameters of the cost model fitted to published numbers.
One of kind ``what-if`` is an **extrapolation**: parameters that nobody fitted, assumed by
:data:`ASSUMPTIONS` or by a file, on the processor of the fit.  A number made with it must say so;
:attr:`Medium.label` does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.lab.pin_events import PinEvents

MODELLED, WHAT_IF = "modelled", "what-if"
FITTED = ("dram", "pmem")

_COSTS = ("read_ns", "write_ns", "locked_ns")


@dataclass(frozen=True, slots=True)
class Medium:
    """Prices of one medium that holds struct pages.

    Attributes
    ----------
    name : str
    read_ns : float
        Nanoseconds for each distinct line touched, in sequence, what the processor does with it included.
    write_ns : float
        Further nanoseconds for each distinct line written, which has to go back.
    locked_ns : float
        Nanoseconds for each locked operation.
    kind : str
        :data:`MODELLED` or :data:`WHAT_IF`.
    source : str
        What was fitted, or assumed.

    Raises
    ------
    WorkbenchError
        A price is negative or no number.
    """

    name: str
    read_ns: float
    write_ns: float
    locked_ns: float
    kind: str
    source: str

    def __post_init__(self) -> None:
        for cost in _COSTS:
            value = getattr(self, cost)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise WorkbenchError(f"medium {self.name!r}: {cost} is {value!r}. Give nanoseconds, 0 or more.")

    @property
    def label(self) -> str:
        """What has to stand beside every number made with this medium."""
        if self.kind == MODELLED:
            return f"modelled ({self.name}): {self.source}"
        return f"EXTRAPOLATED ({self.name}), no measurement behind it: {self.source}"

    def ms(self, events: PinEvents) -> float:
        """Milliseconds of a phase whose struct pages lie on this medium."""
        counted = (events.lines_read, events.lines_written, events.locked)
        return sum(n * ns for n, ns in zip(counted, (self.read_ns, self.write_ns, self.locked_ns), strict=True)) / 1e6


@dataclass(frozen=True, slots=True)
class Assumption:
    """A medium as multiples of a fitted one: factors of its read and write prices, a further write price in ns."""

    base: str
    read: float
    write: float
    extra_write_ns: float
    why: str


ASSUMPTIONS = {
    "cxl": Assumption(
        "dram", 2.5, 1.0, 2.5, "reads 2.5 times those of DRAM; a line back over a link of 26 GB/s takes 2.5 ns"
    ),
    "hbm": Assumption(
        "dram", 1.15, 1.0, 0.0, "reads 1.15 times those of DRAM: one thread meets its latency, not its bandwidth"
    ),
    "slow-pmem": Assumption("pmem", 1.5, 2.0, 0.0, "reads 1.5 times and written lines twice as dear as on pmem"),
}
"""What-if media by name.  They are assumptions, not data: change them in a file."""


def what_if(name: str, fitted: Mapping[str, Medium]) -> Medium:
    """An assumed medium over the fitted ones.

    Parameters
    ----------
    name : str
        A key of :data:`ASSUMPTIONS`.
    fitted : mapping of str to Medium
        ``dram`` and ``pmem``.

    Raises
    ------
    WorkbenchError
        There is no such assumption.
    """
    if name not in ASSUMPTIONS:
        raise WorkbenchError(f"no medium {name!r}. Those known: {', '.join((*FITTED, *ASSUMPTIONS))}, or a JSON file.")
    told = ASSUMPTIONS[name]
    base = fitted[told.base]
    write_ns = base.write_ns * told.write + told.extra_write_ns
    return Medium(name, base.read_ns * told.read, write_ns, base.locked_ns, WHAT_IF, told.why)


def medium(name: str, fitted: Mapping[str, Medium]) -> Medium:
    """The medium that a user names.

    Parameters
    ----------
    name : str
        ``dram``, ``pmem``, a key of :data:`ASSUMPTIONS`, or the path of a JSON file that ends in ``.json``:
        ``{"name", "read_ns", "write_ns", "locked_ns", "why"}``.
    fitted : mapping of str to Medium
        ``dram`` and ``pmem``.

    Raises
    ------
    WorkbenchError
        None of these, or a file that is not of that form.
    """
    if name in fitted:
        return fitted[name]
    return _read(Path(name)) if name.endswith(".json") else what_if(name, fitted)


def _read(path: Path) -> Medium:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        costs = {cost: raw[cost] for cost in _COSTS}
        name, why = str(raw["name"]), str(raw["why"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WorkbenchError(
            f"{path} is no medium: {error!r}. Write a JSON object with name, {', '.join(_COSTS)} and why."
        ) from error
    return Medium(name, **costs, kind=WHAT_IF, source=f"{why} (from {path.name})")
