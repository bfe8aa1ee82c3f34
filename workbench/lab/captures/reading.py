# SPDX-License-Identifier: GPL-2.0-only
"""A recorded run from disk: ``capture.json`` and ``pages.npz``, checked before anything is believed.

A capture may come from anywhere.  JSON is bounded in size; the arrays are read by their declared
shape and type, never unpickled, and never larger than the span that names them.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.abi import STRUCT_PAGE_BYTES, WORDS
from workbench.errors import WorkbenchError
from workbench.text import size

FORMAT = 2
KINDS = ("pages", "errors", "boot")
MAX_PFN = 1 << 34
"""64 TiB of physical memory: what four page-table levels reach."""
_JSON_LIMIT = 64 << 20
_PAGES_LIMIT = 1 << 30


@dataclass(frozen=True)
class Span:
    """Struct pages recorded side by side.

    Attributes
    ----------
    label : str
    pfn : int
        The first.
    nr_pages : int
    words : uint64[nr_pages, 8] or None
        None where no struct page existed.
    """

    label: str
    pfn: int
    nr_pages: int
    words: np.ndarray | None


@dataclass(frozen=True)
class State:
    """A moment at which the machine was stopped and its struct pages read."""

    name: str
    actions: list[dict[str, Any]]
    replayable: bool
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Case:
    """One recorded result of an errors run, with what was done before it."""

    name: str
    group: str
    replayable: bool
    before: list[dict[str, Any]]
    action: dict[str, Any]
    result: dict[str, Any]


@dataclass(frozen=True)
class Capture:
    """One run.

    Attributes
    ----------
    name, kind : str
        ``kind`` is ``pages``, ``errors`` or ``boot``.
    family : str
        Kernel family: ``5.10``, ``6.1``, ``6.1nodedup``, ...
    flags_layout, page_flags : dict
        Places in the flags word, and flag names to bits, as recorded.
    states, cases : tuple
        Of a ``pages`` and of an ``errors`` run.
    actions : list
        Of a ``boot`` run.
    """

    name: str
    kind: str
    family: str
    flags_layout: dict[str, Any]
    page_flags: dict[str, int]
    states: tuple[State, ...] = ()
    cases: tuple[Case, ...] = ()
    actions: tuple[dict[str, Any], ...] = ()


def find(paths: list[Path]) -> list[Path]:
    """Folders of runs: each path that holds a ``capture.json``, or the folders below it that do.

    Raises
    ------
    WorkbenchError
        A path without any run.
    """
    found = []
    for path in paths:
        folders = [path] if (path / "capture.json").is_file() else sorted(p.parent for p in path.glob("*/capture.json"))
        if not folders:
            raise WorkbenchError(
                f"no capture.json in {path} or one folder below it. Name the folder of a recorded run."
            )
        found += folders
    return found


def read(folder: Path) -> Capture:
    """Read and check a run.

    Raises
    ------
    WorkbenchError
        Anything missing, of the wrong type, out of range or larger than it may be; says where.
    """
    try:
        return _capture(folder, _json(folder / "capture.json"))
    except (KeyError, TypeError, ValueError, AttributeError) as wrong:
        raise WorkbenchError(
            f"{folder.name}/capture.json does not have the form of a recorded run "
            f"({type(wrong).__name__}: {wrong}). Record it anew or restore the file."
        ) from wrong


def _json(path: Path) -> dict[str, Any]:
    _need(path.is_file(), path, "is missing")
    _need(path.stat().st_size <= _JSON_LIMIT, path, f"is larger than {size(_JSON_LIMIT)}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as wrong:
        raise WorkbenchError(f"{_short(path)}: not JSON ({wrong}). Restore the file.") from wrong
    _need(isinstance(content, dict), path, "is no JSON object")
    return content


def _capture(folder: Path, content: dict[str, Any]) -> Capture:
    path = folder / "capture.json"
    _need(content.get("format") == FORMAT, path, f"has format {content.get('format')!r}; this reads format {FORMAT}")
    _need(content.get("kind") in KINDS, path, f"has kind {content.get('kind')!r}; known are {', '.join(KINDS)}")
    flags = content["page_flags"]
    _need(
        isinstance(flags, dict) and all(type(bit) is int and 0 <= bit < 64 for bit in flags.values()),
        path,
        "page_flags does not map names to bits 0 to 63",
    )
    common = {
        "name": _text(content["name"], path, "name"),
        "kind": content["kind"],
        "family": _text(content["kernel"]["family"], path, "kernel.family"),
        "flags_layout": dict(content["page_flag_layout"]),
        "page_flags": flags,
    }
    if common["kind"] == "boot":
        return Capture(**common, actions=tuple(_actions(content["actions"], path, "actions")))
    if common["kind"] == "errors":
        return Capture(**common, cases=tuple(_cases(content["cases"], path)))
    arrays = folder / "pages.npz"
    _need(arrays.is_file(), arrays, "is missing")
    try:
        with zipfile.ZipFile(arrays) as archive:
            return Capture(**common, states=tuple(_states(content["states"], path, archive)))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, RuntimeError, OSError) as wrong:
        raise WorkbenchError(f"{_short(arrays)}: cannot be read ({wrong}). Restore the file.") from wrong


def _states(states: Any, path: Path, archive: zipfile.ZipFile) -> Iterator[State]:
    _need(isinstance(states, list) and states, path, "has no states")
    budget = _PAGES_LIMIT
    for number, state in enumerate(states):
        where = f"states[{number}]"
        name = _text(state["state"], path, f"{where}.state")
        _need(type(state["replayable"]) is bool, path, f"{where}.replayable is not true or false")
        spans = []
        for span in state["spans"]:
            spans.append(_span(span, path, f"{where} ({name})", archive))
            budget -= spans[-1].nr_pages * STRUCT_PAGE_BYTES
            _need(budget >= 0, path, f"has spans of more than {size(_PAGES_LIMIT)} of struct pages")
        yield State(name, _actions(state["actions"], path, where), state["replayable"], tuple(spans))


def _span(span: dict[str, Any], path: Path, where: str, archive: zipfile.ZipFile) -> Span:
    label = _text(span["label"], path, f"{where} label")
    where = f"{where} span {label}"
    pfn, nr_pages = pfn_of(span["pfn"], where), span["nr_pages"]
    _need(
        type(nr_pages) is int and 1 <= nr_pages <= MAX_PFN - pfn, path, f"{where}: nr_pages {nr_pages!r} out of range"
    )
    _need(type(span["mapped"]) is bool, path, f"{where}: mapped is not true or false")
    if not span["mapped"]:
        return Span(label, pfn, nr_pages, None)
    return Span(label, pfn, nr_pages, _words(archive, _text(span["array"], path, where), nr_pages, where))


def _words(archive: zipfile.ZipFile, name: str, nr_pages: int, where: str) -> np.ndarray:
    """The array ``name``, if it is uint64[nr_pages, 8] in C order; nothing else is read."""
    path = Path(archive.filename or "pages.npz")
    nbytes = nr_pages * STRUCT_PAGE_BYTES
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise WorkbenchError(f"{_short(path)} has no array {name!r}, which {where} names. Restore the file.") from None
    _need(info.file_size <= nbytes + (64 << 10), path, f"array {name!r} holds {info.file_size} bytes, not {nbytes}")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        _need(version == (1, 0), path, f"array {name!r} has npy version {version}, not (1, 0)")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        _need(
            shape == (nr_pages, WORDS) and dtype == np.dtype("<u8") and not fortran,
            path,
            f"array {name!r} is {dtype}{list(shape)}, not uint64[{nr_pages}, {WORDS}]",
        )
        data = file.read(nbytes)
    _need(len(data) == nbytes, path, f"array {name!r} ends after {len(data)} of {nbytes} bytes")
    return np.frombuffer(data, np.uint64).reshape(nr_pages, WORDS)


def _cases(cases: Any, path: Path) -> Iterator[Case]:
    _need(isinstance(cases, list) and cases, path, "has no cases")
    for number, case in enumerate(cases):
        where = f"cases[{number}]"
        _need(isinstance(case["result"], dict), path, f"{where}.result is no object")
        yield Case(
            _text(case["name"], path, f"{where}.name"),
            _text(case["group"], path, f"{where}.group"),
            bool(case["replayable"]),
            _actions(case["before"], path, where),
            _actions([case["action"]], path, where)[0],
            case["result"],
        )


def _actions(actions: Any, path: Path, where: str) -> list[dict[str, Any]]:
    _need(isinstance(actions, list), path, f"{where}: actions are no list")
    for action in actions:
        _need(isinstance(action, dict) and isinstance(action.get("op"), str), path, f"{where}: an action without op")
        _need(
            isinstance(action.get("result", {}), dict), path, f"{where}: {action['op']} has a result that is no object"
        )
    return actions


def pfn_of(text: Any, where: str) -> int:
    """A pfn from its hex string.

    Raises
    ------
    WorkbenchError
        Not a hex string, or beyond 64 TiB.
    """
    try:
        number = int(text, 16)
    except (TypeError, ValueError):
        raise WorkbenchError(f"{where}: {text!r} is no pfn in hex. Correct the capture.") from None
    if not 0 <= number < MAX_PFN:
        raise WorkbenchError(
            f"{where}: pfn {number:#x} lies beyond 64 TiB (pfn {MAX_PFN - 1:#x}). Correct the capture."
        )
    return number


def _text(value: Any, path: Path, where: str) -> str:
    _need(
        isinstance(value, str) and value.isprintable() and len(value) <= 200, path, f"{where} is no short line of text"
    )
    return value


def _need(condition: bool, path: Path, what: str) -> None:
    if not condition:
        raise WorkbenchError(f"{_short(path)}: {what}. Record the run anew or restore the file.")


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
