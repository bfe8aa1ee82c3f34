# SPDX-License-Identifier: GPL-2.0-only
"""The numbers that the series and its neighbours published, from ``data/published/numbers.json``.

Every number keeps its printed text, the interval of what rounds to it, what was run, and what it is
not.  ``data/published/README.md`` documents the file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout

FILE = "data/published/numbers.json"
SCHEMA = "devmap-workbench/published/1"
SEED = "seed-"
"""How the ids of the merged cover letter's own table begin."""

_MS = {"s": 1e3, "ms": 1.0, "us": 1e-3}


@dataclass(frozen=True, slots=True)
class Source:
    """A mail: its title, date (ISO), message id, and how it was read; None for what is not known."""

    title: str
    date: str | None
    message_id: str | None
    read: str

    @property
    def url(self) -> str | None:
        """Where the mail can be read."""
        return None if self.message_id is None else f"https://lore.kernel.org/r/{self.message_id}"


@dataclass(frozen=True, slots=True)
class Amount:
    """A printed number.

    Attributes
    ----------
    printed : str
        The text.
    value : float or None
        In the unit of its :class:`Number`; None where a range or a bound is printed.
    low, high : float or None
        What rounds to the printed text, or the printed range; None where it is open.
    """

    printed: str
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Number:
    """One published comparison; the attributes are those of ``data/published/README.md``.

    Attributes
    ----------
    before, after : Amount or None
        None where only the other is printed.
    """

    id: str
    source: str
    also_in: tuple[str, ...]
    quantity: str
    unit: str
    before: Amount | None
    after: Amount | None
    config: dict[str, Any]
    is_: str
    is_not: str
    note: str

    def amount(self, after: bool) -> Amount:
        """The amount with or without the work that the source describes.

        Raises
        ------
        WorkbenchError
            It is not printed.
        """
        amount = self.after if after else self.before
        if amount is None:
            raise WorkbenchError(f"{self.id} prints no number {'after' if after else 'before'}. Use the other one.")
        return amount

    def ms(self, after: bool) -> float:
        """A time in milliseconds.

        Raises
        ------
        WorkbenchError
            It is no time, not printed, or printed as a range.
        """
        value = self.amount(after).value
        if value is None or self.unit not in _MS:
            printed = self.amount(after).printed
            raise WorkbenchError(f"{self.id}: {printed!r} (unit {self.unit}) is not one time. Use low and high.")
        return value * _MS[self.unit]

    def interval_ms(self, after: bool) -> tuple[float, float]:
        """The interval, in milliseconds, of what rounds to a printed time.

        Raises
        ------
        WorkbenchError
            It is no time, not printed, or open at one end.
        """
        amount = self.amount(after)
        if amount.low is None or amount.high is None or self.unit not in _MS:
            raise WorkbenchError(f"{self.id}: {amount.printed!r} (unit {self.unit}) has no interval of times.")
        return amount.low * _MS[self.unit], amount.high * _MS[self.unit]


@dataclass(frozen=True, slots=True)
class Published:
    """All published numbers by id, and the mails they come from by short name."""

    sources: dict[str, Source]
    numbers: dict[str, Number]

    def __getitem__(self, id: str) -> Number:
        """The number ``id``.

        Raises
        ------
        WorkbenchError
            There is none.
        """
        if id not in self.numbers:
            raise WorkbenchError(f"no published number {id!r}. Those known: {', '.join(self.numbers)}.")
        return self.numbers[id]

    def starting(self, prefix: str) -> list[Number]:
        """The numbers whose ids begin with ``prefix``, in the order of the file."""
        return [number for id, number in self.numbers.items() if id.startswith(prefix)]

    def only(self, prefix: str) -> Published:
        """The numbers whose ids begin with ``prefix``, with the mails they come from.

        Raises
        ------
        WorkbenchError
            None does.
        """
        numbers = {number.id: number for number in self.starting(prefix)}
        if not numbers:
            raise WorkbenchError(f"no published number begins with {prefix!r}. Those known: {', '.join(self.numbers)}.")
        used = {name for number in numbers.values() for name in (number.source, *number.also_in)}
        return Published({name: source for name, source in self.sources.items() if name in used}, numbers)

    def seed(self) -> list[Number]:
        """The six comparisons, twelve numbers, of the merged cover letter's table."""
        return self.starting(SEED)


def read(path: Path) -> Published:
    """Published numbers from a file.

    Parameters
    ----------
    path : pathlib.Path
        JSON of schema :data:`SCHEMA`.

    Returns
    -------
    Published

    Raises
    ------
    WorkbenchError
        The file is missing or not of that form, two ids are equal, or a source is not declared.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] != SCHEMA:
            raise WorkbenchError(
                f"{path} has the schema {raw['schema']!r}; {SCHEMA!r} is read here. Update one of them."
            )
        sources = {name: Source(**source) for name, source in raw["sources"].items()}
        rows = [_number(row) for row in raw["numbers"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WorkbenchError(f"{path} is no file of published numbers: {error!r}. Take it from git.") from error
    numbers = {number.id: number for number in rows}
    if len(numbers) < len(rows):
        raise WorkbenchError(f"{path}: two numbers have one id. Give each its own.")
    if unknown := {name for number in rows for name in (number.source, *number.also_in)} - sources.keys():
        raise WorkbenchError(f"{path}: no source {', '.join(sorted(unknown))}. Declare it below sources.")
    return Published(sources, numbers)


@cache
def published() -> Published:
    """The committed file, read once."""
    return read(Checkout.find().root / FILE)


def as_json(data: Published) -> dict[str, Any]:
    """The numbers as the file has them, as plain JSON values."""

    def plain(amount: Amount | None) -> dict[str, Any] | None:
        if amount is None:
            return None
        return {"printed": amount.printed, "value": amount.value, "low": amount.low, "high": amount.high}

    sources = {
        name: {"title": source.title, "date": source.date, "message_id": source.message_id, "read": source.read}
        for name, source in data.sources.items()
    }
    numbers = [
        {
            "id": number.id,
            "source": number.source,
            "also_in": list(number.also_in),
            "quantity": number.quantity,
            "unit": number.unit,
            "before": plain(number.before),
            "after": plain(number.after),
            "config": number.config,
            "is": number.is_,
            "is_not": number.is_not,
            **({"note": number.note} if number.note else {}),
        }
        for number in data.numbers.values()
    ]
    return {"schema": SCHEMA, "sources": sources, "numbers": numbers}


def as_text(data: Published) -> list[str]:
    """Lines for a terminal: each number, where it is from, and what it is not."""
    lines = []
    for number in data.numbers.values():
        printed = " -> ".join(amount.printed for amount in (number.before, number.after) if amount is not None)
        lines += [f"{number.id}: {number.quantity}: {printed}"]
        lines += [f"    published: {data.sources[number.source].title}"]
        lines += [f"    is {number.is_}", f"    is {number.is_not}"]
        lines += [f"    note: {number.note}"] if number.note else []
    return lines


def _number(row: dict[str, Any]) -> Number:
    def amount(side: str) -> Amount | None:
        return None if row[side] is None else Amount(**row[side])

    return Number(
        row["id"],
        row["source"],
        tuple(row["also_in"]),
        row["quantity"],
        row["unit"],
        amount("before"),
        amount("after"),
        row["config"],
        row["is"],
        row["is_not"],
        row.get("note", ""),
    )
