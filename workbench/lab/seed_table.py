# SPDX-License-Identifier: GPL-2.0-only
"""The cover letter's table: published, modelled and, where there is a run, measured; as text, CSV and LaTeX.

The letter prints no get with struct pages in DRAM.  The rows are there all the same, with the modelled
numbers, since they say why.  The engine's struct pages lie in DRAM, so rows with an altmap have no measured one.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from workbench.errors import WorkbenchError
from workbench.lab.cost import KERNELS, Fit, seed_fit, seed_samples
from workbench.lab.media import Medium
from workbench.lab.pin_events import PIN_FAST, UNPIN, PinEvents, pin_events

ALIGN = 2 << 20
SIZES_MIB = {False: (16384, 129022), True: (16384, 127004)}
"""Struct pages in the device or not, to the memory pinned, in MiB."""

PHASES = {"get": PIN_FAST, "put": UNPIN}
STATES = tuple(KERNELS)
KINDS = ("published", "modelled", "measured")
UNMEASURED = "Rows with an altmap have no measured time: the engine's struct pages lie in DRAM."


class Key(NamedTuple):
    """What a time of the table is of."""

    size_mib: int
    altmap: bool
    phase: str
    state: str


@dataclass(frozen=True, slots=True)
class Time:
    """One time of the table.

    Attributes
    ----------
    key : Key
    kind : str
        One of :data:`KINDS`.
    ms : float or None
        Milliseconds, of measured ones the median; None where there is none.
    spread : tuple of float or None
        Least and greatest measured.
    """

    key: Key
    kind: str
    ms: float | None
    spread: tuple[float, float] | None = None


def keys() -> Iterator[Key]:
    """Every time of the table, in its order: before and after, get and put, by memory and place."""
    for altmap, sizes in SIZES_MIB.items():
        for size_mib in sizes:
            for phase in PHASES:
                for state in STATES:
                    yield Key(size_mib, altmap, phase, state)


def seed_table(fit: Fit | None = None, measured: Mapping[Key, Sequence[float]] | None = None) -> list[Time]:
    """All times of the table, of every kind.

    Parameters
    ----------
    fit : Fit, optional
        The cost model; the one fitted to the letter if not given.
    measured : mapping of Key to sequence of float, optional
        Milliseconds that a machine took, one for each repetition (:func:`workbench.lab.seed_timing.times`); keys that
        are missing have no number.

    Returns
    -------
    list of Time
        Three for each key, in the order of :data:`KINDS`.

    Raises
    ------
    WorkbenchError
        A measured key is not of the table.
    """
    fit = seed_fit() if fit is None else fit
    measured = {} if measured is None else measured
    if strange := [key for key in measured if key not in set(keys())]:
        raise WorkbenchError(f"{strange[0]} is no row of the cover letter's table. Measure what keys() names.")
    printed = {Key(s.size_mib, s.altmap, *s.family.split("-")[1:]): s.published_ms for s in seed_samples()}
    times = []
    for key in keys():
        modelled = fit.media["pmem" if key.altmap else "dram"].ms(phase_events(key))
        times += [Time(key, "published", printed.get(key)), Time(key, "modelled", modelled)]
        taken = measured.get(key)
        spread = (min(taken), max(taken)) if taken else None
        times.append(Time(key, "measured", statistics.median(taken) if taken else None, spread))
    return times


def as_rows(times: Sequence[Time]) -> list[list[str]]:
    """The table as text cells: memory, place, phase, then before, after and ratio of each kind; "" for none.

    Measured times are followed by their spread: ``92.2 [90.7-94.4]``.
    """
    found = {(time.key, time.kind): time for time in times}
    rows = []
    for key in keys():
        if key.state != STATES[0]:
            continue
        cells = [str(key.size_mib), "altmap" if key.altmap else "DRAM", key.phase]
        for kind in KINDS:
            before, after = (found[key._replace(state=state), kind] for state in STATES)
            ratio = "" if before.ms is None or after.ms is None else ratio_text(before.ms, after.ms)
            cells += [_cell(before), _cell(after), ratio]
        rows.append(cells)
    return rows


HEADER = (
    "MiB",
    "struct pages",
    "phase",
    *(f"{kind} {what}" for kind in KINDS for what in ("before", "after", "ratio")),
)
"""Columns of :func:`as_rows`; times in ms."""


def as_text(times: Sequence[Time], where: str = "") -> list[str]:
    """The table for a terminal; times in ms.

    Parameters
    ----------
    times : sequence of Time
    where : str
        What measured numbers are of (:func:`workbench.lab.seed_timing.where`); "" where there are none.
    """
    rows = [["", "", "", *(cell for kind in KINDS for cell in (kind, "", ""))]]
    rows += [["MiB", "struct pages", "phase", *("before", "after", "ratio") * len(KINDS)], *as_rows(times)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    lines.append("times in ms; kernel 5.16 before, the series (5.17) after; compound pages of 2 MiB")
    return lines + ([f"measured: {where}; median [least-greatest]. {UNMEASURED}"] if where else [])


def as_csv(times: Sequence[Time], where: str = "") -> str:
    """The table as CSV: a row for each time that there is, in ms, with its spread and where it comes from.

    Parameters
    ----------
    times, where
        As of :func:`as_text`.
    """
    sources = {"published": "cover letter of version 7", "modelled": "workbench cost", "measured": where}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["size_mib", "struct_pages", "phase", "state", "kind", "ms", "least_ms", "greatest_ms", "source"])
    for time in times:
        if time.ms is not None:
            place = "altmap" if time.key.altmap else "DRAM"
            numbers = [f"{ms:.6g}" for ms in (time.ms, *(time.spread or ()))]
            numbers += [""] * (3 - len(numbers))
            what = [time.key.size_mib, place, time.key.phase, time.key.state, time.kind]
            writer.writerow([*what, *numbers, sources[time.kind]])
    return out.getvalue()


def as_latex(times: Sequence[Time], where: str = "") -> str:
    """The table for a paper (package ``booktabs``); a dash where there is no number.

    Parameters
    ----------
    times, where
        As of :func:`as_text`.
    """
    columns = "rllrrr" + "rrr" * (len(KINDS) - 1)
    groups = " & ".join(rf"\multicolumn{{3}}{{c}}{{{kind}}}" for kind in KINDS)
    rules = "".join(rf"\cmidrule(lr){{{first}-{first + 2}}}" for first in range(4, len(HEADER), 3))
    body = [" & ".join(cell.replace("-", "--") or "--" for cell in row) + r" \\" for row in as_rows(times)]
    lines = [
        "% SPDX-License-Identifier: GPL-2.0-only",
        "% times in ms: published in the cover letter, modelled by workbench cost, measured where there is a run",
        *([f"% measured: {where}; median [least--greatest]. {UNMEASURED}"] if where else []),
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        rf" & & & {groups} \\",
        rules,
        "MiB & struct pages & phase & " + " & ".join(["before", "after", "ratio"] * len(KINDS)) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def what_if_text(medium: Medium) -> list[str]:
    """Lines for a terminal: the letter's runs as if their struct pages lay on ``medium``."""
    prices = f"read {medium.read_ns:.2f}, write {medium.write_ns:.2f}, locked {medium.locked_ns:.2f} ns"
    lines = [medium.label, f"  {prices}", f"  {'MiB':>6}  phase {'before':>12} {'after':>12} {'ratio':>7}"]
    for size_mib in SIZES_MIB[False]:
        for phase in PHASES:
            before, after = (medium.ms(phase_events(Key(size_mib, False, phase, state))) for state in STATES)
            lines += [f"  {size_mib:>6}  {phase:<5} {before:>9.1f} ms {after:>9.1f} ms {before / after:>7.1f}"]
    return lines


def phase_events(key: Key) -> PinEvents:
    """What is counted for a time; where the struct pages lie does not matter."""
    release = KERNELS[key.state]
    return pin_events(PHASES[key.phase], key.size_mib << 20, ALIGN, key.state == "after", release=release)


def ratio_text(before: float, after: float) -> str:
    """How many times less time: ``3.2``; ``0.97`` where it takes longer, or nearly as long."""
    ratio = before / after
    return f"{ratio:.1f}" if ratio >= 1.05 else f"{ratio:.2f}"


def _cell(time: Time) -> str:
    if time.ms is None:
        return ""
    spread = f" [{'-'.join(map(_ms, time.spread))}]" if time.spread else ""
    return _ms(time.ms) + spread


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
