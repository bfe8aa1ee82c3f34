# SPDX-License-Identifier: GPL-2.0-only
"""Where the numbers of a figure come from, and the JSON sidecar that says so.

Every series of numbers has one **kind**:

=============  ====================================================================================
``published``  printed in the series, a mail or a paper; ``source`` names it
``captured``   read from a real kernel; ``source`` names the capture
``derived``    follows from the specification or from arithmetic; ``source`` says by what
``measured``   timed on a machine; ``source`` is a Dataset in ``data/bench/``
``modelled``   output of a cost model; ``source`` names the model and its parameters
=============  ====================================================================================

The **hash of the inputs** covers what a figure shows: its id, size and description, the content of
its data files, its parameters and the drawn figure itself.  It stands in the SVG, the PDF and the
sidecar.  The hash of the sources stands only in the sidecar: a changed comment would otherwise change
every committed figure, while a change that moves a number moves the drawn figure and so the hash.

A **sidecar** (``FIGURE.json`` beside ``FIGURE.svg``) holds everything that may differ between two
runs that draw the same figure: date, commit, versions, browser and fonts.  Its schema, ``SCHEMA``::

    {"schema": "devmap-workbench/figure/1",
     "id", "title", "caption", "alt",                    text
     "width_px", "height_px",
     "inputs":  {"hash",                                 also embedded in SVG and PDF
                 "files": [{"path", "sha256", "bytes"}], relative to the checkout
                 "parameters": {...}, "sources"},        sources: hash of the package
     "series":  [{"name", "kind", "source", "unit"}],
     "made":    {"workbench", "commit", "dirty", "date"},
     "versions": {"python", "numpy", "plotly", "kaleido", "browser", "browser_major"},
     "fonts":   [{"asked", "weight", "used", "widths"}], widths: hash of measured text widths
     "outputs": {"FIGURE.svg": {"sha256", "bytes"}, ...}}
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workbench
from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout
from workbench.lab.files import file_hash

if TYPE_CHECKING:
    from workbench.view.figures import PaperFigure

SCHEMA = "devmap-workbench/figure/1"
KINDS = ("published", "captured", "derived", "measured", "modelled")

_REQUIRED: dict[str, tuple[str, ...]] = {
    "inputs": ("hash", "files", "parameters", "sources"),
    "made": ("workbench", "commit", "dirty", "date"),
    "versions": ("python", "numpy", "plotly", "kaleido", "browser", "browser_major"),
}
_TEXT = ("id", "title", "caption", "alt")
_LISTS: dict[str, tuple[str, ...]] = {
    "series": ("name", "kind", "source", "unit"),
    "fonts": ("asked", "weight", "used", "widths"),
}


@dataclass(frozen=True, slots=True)
class Series:
    """One series of numbers in a figure.

    Parameters
    ----------
    name : str
        As the legend or the axis calls it.
    kind : str
        One of :data:`KINDS`.
    source : str
        Where the numbers come from; for ``measured`` the path of the Dataset, ``data/bench/...``.
    unit : str
        Unit of the numbers, "1" for none.

    Raises
    ------
    WorkbenchError
        ``kind`` is not known, or a part is empty.
    """

    name: str
    kind: str
    source: str
    unit: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise WorkbenchError(
                f"series {self.name!r}: {self.kind!r} is no provenance; write one of {', '.join(KINDS)}."
            )
        for part in ("name", "source", "unit"):
            if not getattr(self, part).strip():
                raise WorkbenchError(
                    f"series {self.name!r} has no {part}. Say where its numbers come from, and in what."
                )


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a figure was drawn from.

    Parameters
    ----------
    series : sequence of Series
        The provenance of every series of numbers in it; at least one.
    parameters : mapping
        The parameters it was drawn with; plain JSON values.
    files : sequence of pathlib.Path
        The data files that were read, all of them declared by the figure.
    """

    series: Sequence[Series]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[Path] = ()


def file_records(checkout: Checkout, files: Sequence[Path]) -> list[dict[str, Any]]:
    """Path, SHA-256 and size in bytes of each file, sorted by path."""
    records = [
        {"path": checkout.relative(path), "sha256": file_hash(path), "bytes": path.stat().st_size} for path in files
    ]
    return sorted(records, key=lambda record: record["path"])


def inputs_hash(figure: PaperFigure, drawn: str, records: Sequence[Mapping[str, Any]], inputs: Inputs) -> str:
    """SHA-256 of what ``figure`` shows, in hex.

    Parameters
    ----------
    figure : PaperFigure
        Id, size and description.
    drawn : str
        The plotly figure as JSON.
    records : sequence of mapping
        Its data files, from :func:`file_records`.
    inputs : Inputs
        Its parameters and series.
    """
    shown = {
        "figure": [figure.id, figure.title, figure.caption, figure.alt, figure.width_px, figure.height_px],
        "drawn": json.loads(drawn),
        "files": [[record["path"], record["sha256"]] for record in records],
        "parameters": dict(inputs.parameters),
        "series": [asdict(series) for series in inputs.series],
    }
    return hashlib.sha256(json.dumps(shown, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sidecar(
    figure: PaperFigure,
    inputs: Inputs,
    records: Sequence[Mapping[str, Any]],
    digest: str,
    checkout: Checkout,
    browser: Mapping[str, Any],
    outputs: Mapping[str, bytes],
) -> dict[str, Any]:
    """The sidecar of a rendered figure.

    Parameters
    ----------
    figure, inputs, records, digest
        What was drawn, as in :func:`inputs_hash`, and that hash.
    checkout : Checkout
        Where it was drawn.
    browser : mapping
        ``version``, ``major`` and ``fonts``, as ``Exporter.browser`` gives them.
    outputs : mapping of str to bytes
        File name to content.
    """
    commit, dirty = checkout.commit()
    return {
        "schema": SCHEMA,
        "id": figure.id,
        "title": figure.title,
        "caption": figure.caption,
        "alt": figure.alt,
        "width_px": figure.width_px,
        "height_px": figure.height_px,
        "inputs": {
            "hash": digest,
            "files": list(records),
            "parameters": dict(inputs.parameters),
            "sources": checkout.source_hash(),
        },
        "series": [asdict(series) for series in inputs.series],
        "made": {"workbench": workbench.__version__, "commit": commit, "dirty": dirty, "date": _now()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "plotly", "kaleido")},
            "browser": browser["version"],
            "browser_major": browser["major"],
        },
        "fonts": browser["fonts"],
        "outputs": {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in sorted(outputs.items())
        },
    }


def problems(record: Mapping[str, Any]) -> list[str]:
    """What is missing from, or wrong in, a sidecar; empty when it is complete."""
    found = [] if record.get("schema") == SCHEMA else [f"schema is {record.get('schema')!r}, not {SCHEMA!r}"]
    found += [f"{name} is empty" for name in _TEXT if not str(record.get(name, "")).strip()]
    found += [
        f"{name} is not a positive number of pixels"
        for name in ("width_px", "height_px")
        if not (isinstance(record.get(name), int) and record[name] > 0)
    ]
    for part, names in _REQUIRED.items():
        found += [f"{part}.{name} is missing" for name in names if name not in record.get(part, {})]
    for part, names in _LISTS.items():
        rows = record.get(part) or []
        if not rows:
            found.append(f"{part} is empty")
        found += [
            f"{part}[{number}].{name} is missing"
            for number, row in enumerate(rows)
            for name in names
            if name not in row
        ]
    found += [
        f"series {row.get('name')!r} has provenance {row.get('kind')!r}"
        for row in record.get("series") or []
        if row.get("kind") not in KINDS
    ]
    for suffix in ("svg", "pdf", "png"):
        name = f"{record.get('id')}.{suffix}"
        if set(record.get("outputs", {}).get(name, {})) != {"sha256", "bytes"}:
            found.append(f"outputs has no hash and size of {name}")
    return found


def _now() -> str:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return now.isoformat(timespec="seconds")
