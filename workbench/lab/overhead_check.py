# SPDX-License-Identifier: GPL-2.0-only
"""The recorded cost table of real kernels, and its comparison with what is derived.

Compared exactly, row by row: ``dev_size``, ``lost_to_metadata_in_namespace``, each number of
``vmemmap``, and the number of pages in ``memmap_init_message`` where the row has one.  All else is
context: free memory, what follows from it, time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import xarray as xr

from workbench import text
from workbench.errors import WorkbenchError
from workbench.lab.difference import Difference, differences
from workbench.lab.overhead import NAMESPACE_START, dataset, kernel_of, overhead, stage_of
from workbench.mm.sparse_vmemmap import Backing
from workbench.nvdimm import Namespace

CONTEXT = ("memfree_before_kB", "memfree_after_kB", "memfree_destroyed_kB", "ram_cost_kB")
"""Columns of a recorded row that are shown and never compared: free memory is blurred by per-CPU lists."""

_COMPARED = ("dev_size", "lost_to_metadata_in_namespace")

_FORM: dict[str, type | tuple[type, ...]] = {
    "kernel": str,
    "namespace_GiB": (int, float),
    "align": str,
    "map": str,
    "vmemmap": dict,
    **dict.fromkeys(_COMPARED, int),
}

_INITIALISED = re.compile(r"memmap_init_zone_device initialised (\d+) pages")


class RecordedRow(NamedTuple):
    """A row of a recorded ``overhead.json``, its fields checked.

    Attributes
    ----------
    kernel : str
    size, align : int
        Bytes.
    map : str
    fields : dict
        The row as recorded.
    """

    kernel: str
    size: int
    align: int
    map: str
    fields: dict[str, Any]

    @property
    def name(self) -> str:
        """Kernel and namespace in a few words."""
        return f"{self.kernel} {text.size(self.size, exact=True)} align {text.size(self.align)} map {self.map}"


def recorded_rows(recorded: Any) -> Iterator[RecordedRow]:
    """The rows of a recorded ``overhead.json``.

    Parameters
    ----------
    recorded : object
        Content of the file.

    Raises
    ------
    WorkbenchError
        It is not of that form, with the row and what it lacks.
    """
    rows = recorded.get("rows") if isinstance(recorded, dict) else None
    if not isinstance(rows, list) or not rows or recorded.get("kind") != "overhead":
        raise WorkbenchError('a recorded overhead table has "kind": "overhead" and a list "rows". Name such a file.')
    for number, row in enumerate(rows):
        where = f"row {number} of the recorded overhead table"
        if not isinstance(row, dict):
            raise WorkbenchError(f"{where} is no object; got {row!r}.")
        for field, kind in _FORM.items():
            if not isinstance(row.get(field), kind) or isinstance(row[field], bool):
                raise WorkbenchError(f"{where}: {field} is {row.get(field)!r}. Compare with the recorded form.")
        try:
            nbytes = Fraction(row["namespace_GiB"]) * (1 << 30)
        except (ValueError, OverflowError):  # NaN, infinity
            nbytes = Fraction(0)
        if nbytes.denominator != 1 or nbytes < 1:
            raise WorkbenchError(
                f"{where}: namespace_GiB is {row['namespace_GiB']!r}, which is no whole positive number of bytes."
            )
        yield RecordedRow(row["kernel"], int(nbytes), text.parse_size(row["align"]), row["map"], row)


def recorded_table(recorded: Any) -> xr.Dataset:
    """A recorded ``overhead.json`` as a table, to put beside :func:`workbench.lab.overhead.cost_table`.

    Parameters
    ----------
    recorded : object
        Content of the file.

    Returns
    -------
    xarray.Dataset
        As ``cost_table`` with every ``provenance`` ``captured``: the columns that a walk cannot know
        are left out, the free-memory columns (KiB) added.

    Raises
    ------
    WorkbenchError
        It is not of the recorded form.
    """
    rows = []
    for row in recorded_rows(recorded):
        missing = [name for name in Backing.WALK if name not in row.fields["vmemmap"]]
        missing += [name for name in CONTEXT if name not in row.fields]
        if missing:
            raise WorkbenchError(f"recorded row {row.name} lacks {', '.join(missing)}.")
        rows.append(
            {
                "kernel": row.kernel,
                "stage": stage_of(kernel_of(row.kernel).tree),
                "size": row.size,
                "align": row.align,
                "map": row.map,
                **{name: row.fields[name] for name in _COMPARED},
                **{name: row.fields["vmemmap"][name] for name in Backing.WALK},
                **{name: row.fields[name] for name in CONTEXT},
            }
        )
    return dataset(rows, "captured")


def check(recorded: Any, start: int = NAMESPACE_START) -> list[tuple[RecordedRow, list[Difference]]]:
    """Compare every row of a recorded ``overhead.json`` with what is derived.

    Parameters
    ----------
    recorded : object
        Content of the file.
    start : int
        Where the namespaces started, bytes.

    Returns
    -------
    list of (RecordedRow, list of Difference)
        A row the kernel's rules refuse differs in ``namespace``.

    Raises
    ------
    WorkbenchError
        It is not of the recorded form, or names an unknown kernel.
    """
    return [(row, _check_row(row, start)) for row in recorded_rows(recorded)]


def _check_row(row: RecordedRow, start: int) -> list[Difference]:
    kernel_of(row.kernel)  # an unknown kernel is no difference but an error
    try:
        cost = overhead(Namespace(start, row.size, row.align, row.map), row.kernel)
    except WorkbenchError as refusal:
        return [Difference("namespace", "a device", f"refused: {refusal}")]
    found = differences({n: row.fields[n] for n in _COMPARED}, {n: getattr(cost, n) for n in _COMPARED})
    found += differences(row.fields["vmemmap"], cost.backing.walk, "vmemmap.")
    message = _INITIALISED.search(str(row.fields.get("memmap_init_message")))
    if message:
        found += differences({"pages initialised": int(message[1])}, {"pages initialised": cost.pages_initialised})
    return found


def check_lines(checked: list[tuple[RecordedRow, list[Difference]]]) -> list[str]:
    """One line a row: ``equal`` or ``different``, the namespace, and what differs."""
    return [
        f"{'different' if found else 'equal':9}  {row.name}" + "".join(f"; {difference}" for difference in found)
        for row, found in checked
    ]


def check_json(checked: list[tuple[RecordedRow, list[Difference]]]) -> dict[str, Any]:
    """The same as an object for JSON, with the context columns of each row."""
    return {
        "rows": [
            {
                "kernel": row.kernel,
                "size": row.size,
                "align": row.align,
                "map": row.map,
                "status": "different" if found else "equal",
                "differences": [difference._asdict() for difference in found],
                "context": {name: row.fields[name] for name in CONTEXT if name in row.fields},
            }
            for row, found in checked
        ]
    }
