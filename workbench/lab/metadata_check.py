# SPDX-License-Identifier: GPL-2.0-only
"""Everything recorded about metadata in one go: cost table, namespaces, backing, sharing.

Of a run are compared, where it records them: ``namespace``
(:func:`workbench.lab.vmemmap_check.compare_namespace`), each ``vmemmap_backing``, and the
``vmemmap.json`` beside it.  Runs that record none of them are left out and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.lab.difference import Difference, read_json
from workbench.lab.overhead import NAMESPACE_START
from workbench.lab.overhead_check import RecordedRow, check, check_json, check_lines
from workbench.lab.vmemmap_check import compare_namespace, compare_vmemmap, compare_vmemmap_backing


@dataclass(frozen=True)
class RunCheck:
    """One recorded run.

    Attributes
    ----------
    name : str
    compared : tuple of str
        Which of ``namespace``, ``vmemmap_backing`` and ``sharing`` it records; empty where none.
    differences : tuple of Difference
    """

    name: str
    compared: tuple[str, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class MetadataCheck:
    """What :func:`check_path` compared.

    Attributes
    ----------
    rows : list of (RecordedRow, list of Difference)
        Rows of the cost table.
    runs : list of RunCheck
    """

    rows: list[tuple[RecordedRow, list[Difference]]]
    runs: list[RunCheck]

    @property
    def differs(self) -> bool:
        """Whether anything does."""
        return any(found for _, found in self.rows) or any(run.differences for run in self.runs)

    @property
    def left_out(self) -> int:
        """Runs that record nothing of this kind."""
        return sum(not run.compared for run in self.runs)

    @property
    def lines(self) -> list[str]:
        """One line a row, one a run, and how many runs were left out."""
        lines = check_lines(self.rows)
        for run in self.runs:
            if run.compared:
                status = "different" if run.differences else "equal"
                found = "".join(f"; {difference}" for difference in run.differences)
                lines.append(f"{status:9}  {run.name}: {', '.join(run.compared)}{found}")
        if self.left_out:
            lines.append(f"left out   {self.left_out} runs that record no namespace, backing or entries")
        return lines

    @property
    def json(self) -> dict[str, Any]:
        """The same as an object for JSON."""
        return check_json(self.rows) | {
            "runs": [
                {
                    "name": run.name,
                    "compared": list(run.compared),
                    "status": "different" if run.differences else "equal",
                    "differences": [difference._asdict() for difference in run.differences],
                }
                for run in self.runs
                if run.compared
            ],
            "runs_left_out": self.left_out,
        }


def _records_backing(capture: dict[str, Any]) -> bool:
    states = capture.get("states")
    parts = [capture, *(states if isinstance(states, list) else [])]
    return any(isinstance(part, dict) and part.get("vmemmap_backing") for part in parts)


def check_run(folder: Path) -> RunCheck:
    """Compare what the run in ``folder`` records about its metadata.

    Raises
    ------
    WorkbenchError
        The run is not of the recorded form.
    """
    capture = read_json(folder / "capture.json")
    if not isinstance(capture, dict):
        raise WorkbenchError(f"{folder / 'capture.json'} is no recorded run. Name a folder that holds one.")
    compared: list[str] = []
    found: list[Difference] = []
    if capture.get("namespace"):
        compared.append("namespace")
        found += compare_namespace(capture)
    if _records_backing(capture):
        compared.append("vmemmap_backing")
        found += compare_vmemmap_backing(capture)
    if (folder / "vmemmap.json").exists():
        compared.append("sharing")
        found += compare_vmemmap(read_json(folder / "vmemmap.json"), capture)
    return RunCheck(folder.name, tuple(compared), tuple(found))


def check_path(path: Path | str, start: int = NAMESPACE_START) -> MetadataCheck:
    """Compare a recorded cost table, a run, or a folder of both.

    Parameters
    ----------
    path : pathlib.Path
        A file of the form of ``overhead.json``; a folder with a ``capture.json``; or a folder of such
        folders, with an ``overhead.json`` among them or not.
    start : int
        Where the namespaces of the cost table started, bytes.

    Returns
    -------
    MetadataCheck

    Raises
    ------
    WorkbenchError
        Something is not of the recorded form, or there is nothing to compare.
    """
    path = Path(path)
    if not path.is_dir():
        return MetadataCheck(check(read_json(path), start), [])
    if (path / "capture.json").exists():
        return MetadataCheck([], [check_run(path)])
    table = path / "overhead.json"
    rows = check(read_json(table), start) if table.exists() else []
    runs = [check_run(capture.parent) for capture in sorted(path.glob("*/capture.json"))]
    if not rows and not runs:
        raise WorkbenchError(f"{path} holds neither an overhead.json nor recorded runs. Name a folder that does.")
    return MetadataCheck(rows, runs)
