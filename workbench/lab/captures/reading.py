# SPDX-License-Identifier: GPL-2.0-only
"""A recorded run from disk: ``capture.json`` and ``pages.npz``, checked before anything is believed.

A capture may come from anywhere.  Sizes are bounded before anything is taken into memory; an array is
taken only if its header is, letter for letter, the one of the struct pages its span names: nothing is
parsed, nothing is unpickled.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import numpy as np

from workbench.abi import STRUCT_PAGE_BYTES, WORDS
from workbench.errors import WorkbenchError
from workbench.text import count, size

FORMAT = 2
KINDS = ("pages", "errors", "boot")
MAX_PFN = 1 << 34
"""64 TiB of physical memory: what four page-table levels reach."""
_JSON_LIMIT = 16 << 20
_PAGES_LIMIT = 128 << 20
_SPANS_LIMIT = 2048
_HEX = re.compile(r"0x[0-9a-f]{1,16}", re.ASCII | re.IGNORECASE)
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_BAD_ZIP = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, NotImplementedError)


@dataclass(frozen=True)
class Image:
    """The struct pages of a state, each once.

    Attributes
    ----------
    pfns : int64[n]
        Ascending.
    exists : bool[n]
        False where no struct page existed.
    words : uint64[n, 8]
        Zeroes where none existed.
    """

    pfns: np.ndarray
    exists: np.ndarray
    words: np.ndarray


@dataclass(frozen=True)
class State:
    """A moment at which the machine was stopped and its struct pages read."""

    name: str
    actions: list[dict[str, Any]]
    replayable: bool
    image: Image


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
class FlagsLayout:
    """Places in the flags word, in bits; ``last_cpupid_shift`` is None where the field does not exist."""

    node_shift: int
    node_bits: int
    zone_shift: int
    zone_bits: int
    last_cpupid_shift: int | None
    vmemmap_base: int


@dataclass(frozen=True)
class Capture:
    """One run.

    Attributes
    ----------
    name, kind : str
        ``kind`` is ``pages``, ``errors`` or ``boot``.
    family : str
        Kernel family: ``5.10``, ``6.1``, ``6.1nodedup``, ...
    flags_layout : FlagsLayout
    page_flags : dict
        Flag names to bits, as recorded.
    states, cases : tuple
        Of a ``pages`` and of an ``errors`` run.
    actions : tuple
        Of a ``boot`` run.
    trailing_actions : tuple
        What was done after the last state or case.
    cmdline : str
        The kernel's command line; empty where it was not recorded.
    """

    name: str
    kind: str
    family: str
    flags_layout: FlagsLayout
    page_flags: dict[str, int]
    states: tuple[State, ...] = ()
    cases: tuple[Case, ...] = ()
    actions: tuple[dict[str, Any], ...] = ()
    trailing_actions: tuple[dict[str, Any], ...] = ()
    cmdline: str = ""


def find(paths: list[Path]) -> list[Path]:
    """Folders of runs: each path that holds a ``capture.json``, or the folders below it that do.

    Raises
    ------
    WorkbenchError
        A path without any run.
    """
    found = []
    for path in paths:
        runs = [path / "capture.json", *sorted(path.glob("*/capture.json"))]
        folders = [run.parent for run in runs if run.is_file()][: 1 if runs[0].is_file() else None]
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
        Anything missing, of the wrong type, out of range, larger than it may be, or two spans that
        disagree about a page; says where.
    """
    path = folder / "capture.json"
    content = _json(path)
    where = _short(path)
    if content.get("format") != FORMAT:
        raise refused(where, f"has format {shown(content.get('format'))}; this reads format {FORMAT}")
    if content.get("kind") not in KINDS:
        raise refused(where, f"has kind {shown(content.get('kind'))}; known are {', '.join(KINDS)}")
    kernel = get(content, "kernel", dict, where)
    common = {
        "name": text(content, "name", where),
        "kind": content["kind"],
        "family": text(kernel, "family", f"{where} kernel"),
        "cmdline": get({"cmdline": ""} | kernel, "cmdline", str, f"{where} kernel"),
        "flags_layout": _flags_layout(get(content, "page_flag_layout", dict, where), f"{where} page_flag_layout"),
        "page_flags": _page_flags(get(content, "page_flags", dict, where), f"{where} page_flags"),
        "trailing_actions": tuple(_actions({"trailing_actions": []} | content, "trailing_actions", where)),
    }
    if common["kind"] == "boot":
        return Capture(**common, actions=tuple(_actions(content, "actions", where)))
    if common["kind"] == "errors":
        return Capture(**common, cases=tuple(_cases(content, where)))
    return Capture(**common, states=tuple(_states(content, where, folder / "pages.npz")))


# parts of capture.json


def _json(path: Path) -> dict[str, Any]:
    with _readable(path, _JSON_LIMIT):
        try:
            content = json.loads(path.read_bytes(), parse_constant=_no_number)
        except (ValueError, RecursionError) as wrong:
            raise refused(_short(path), f"is not JSON ({wrong!s:.100})") from wrong
    if not isinstance(content, dict):
        raise refused(_short(path), "is no JSON object")
    return content


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


@contextmanager
def _readable(path: Path, limit: int) -> Iterator[None]:
    """For a body that reads ``path``: a plain file of at most ``limit`` bytes, sound if it is a zip archive."""
    if not path.is_file():
        raise refused(_short(path), "is missing")
    if path.stat().st_size > limit:
        raise refused(_short(path), f"is larger than {size(limit)}")
    try:
        yield
    except OSError as wrong:
        raise refused(_short(path), f"cannot be read ({wrong.strerror})") from wrong
    except (*_BAD_ZIP, ValueError) as wrong:
        raise refused(_short(path), f"is no sound zip archive ({wrong!s:.100})") from wrong


def _flags_layout(layout: dict[str, Any], where: str) -> FlagsLayout:
    places = {key: get(layout, key, int, where) for key in ("node_shift", "node_bits", "zone_shift", "zone_bits")}
    places["last_cpupid_shift"] = get(layout, "last_cpupid_shift", int | None, where)
    if not all(0 <= (place or 0) <= 64 for place in places.values()):
        raise refused(where, "has places outside a word of 64 bits")
    return FlagsLayout(**places, vmemmap_base=number(layout, "vmemmap_base", where))


def _page_flags(flags: dict[str, Any], where: str) -> dict[str, int]:
    for name in flags:
        if not (_is_text(name) and 0 <= get(flags, name, int, where) < 64):
            raise refused(where, f"does not map names to bits 0 to 63 at {shown(name)}")
    return flags


def _states(content: dict[str, Any], where: str, arrays: Path) -> Iterator[State]:
    states = get(content, "states", list, where)
    if not states:
        raise refused(where, "has no states")
    nr_spans, nbytes = 0, 0
    with _readable(arrays, _PAGES_LIMIT), zipfile.ZipFile(arrays) as archive:
        if len(set(archive.namelist())) != len(archive.namelist()):
            raise refused(_short(arrays), "holds two arrays of one name")
        for at, state in enumerate(states):
            here = f"{where} states[{at}]"
            name = text(_object(state, here), "state", here)
            spans = get(state, "spans", list, here)
            nr_spans += len(spans)
            nbytes += sum(_nr_pages(span, f"{here} spans") for span in spans) * STRUCT_PAGE_BYTES
            if nr_spans > _SPANS_LIMIT or nbytes > _PAGES_LIMIT:
                limits = f"{count(_SPANS_LIMIT)} spans or {size(_PAGES_LIMIT)} of struct pages"
                raise refused(here, f"is where the run has more than {limits}")
            replayable = get(state, "replayable", bool, here)
            yield State(name, _actions(state, "actions", here), replayable, _image(spans, archive, here))


def _image(spans: list[Any], archive: zipfile.ZipFile, where: str) -> Image:
    """The pages of overlapping spans, each once.

    Raises
    ------
    WorkbenchError
        Spans that overlap and do not agree.
    """
    pfns, exists, words = [np.empty(0, np.int64)], [np.empty(0, np.bool_)], [np.empty((0, WORDS), np.uint64)]
    for span in spans:
        here = f"{where} span {shown(span.get('label'))}"
        start_pfn, nr_pages = pfn(span, "pfn", here), _nr_pages(span, here)
        if nr_pages > MAX_PFN - start_pfn:
            raise refused(here, f"ends beyond 64 TiB: {nr_pages} pages from pfn {start_pfn:#x}")
        mapped = get(span, "mapped", bool, here)
        pfns.append(np.arange(start_pfn, start_pfn + nr_pages))
        exists.append(np.full(nr_pages, mapped))
        words.append(
            _words(archive, text(span, "array", here), nr_pages, here)
            if mapped
            else np.zeros((nr_pages, WORDS), np.uint64)
        )
    all_pfns, all_exists, all_words = np.concatenate(pfns), np.concatenate(exists), np.concatenate(words)
    once, first, back = np.unique(all_pfns, return_index=True, return_inverse=True)
    image = Image(once, all_exists[first], all_words[first])
    agree = (image.exists[back] == all_exists) & (image.words[back] == all_words).all(axis=1)
    if not agree.all():
        raise refused(where, f"has spans that disagree about pfn {all_pfns[np.argmin(agree)]:#x}")
    return image


def _words(archive: zipfile.ZipFile, name: str, nr_pages: int, where: str) -> np.ndarray:
    """The array ``name``: uint64[nr_pages, 8] in C order, as numpy writes it; nothing else is taken."""
    nbytes = nr_pages * STRUCT_PAGE_BYTES
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise refused(where, f"names array {shown(name)}, which pages.npz does not hold") from None
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise refused(where, f"has an array packed by method {info.compress_type}; numpy stores or deflates")
    with archive.open(info) as file:
        start = file.read(len(_NPY_MAGIC) + 2)
        header = file.read(int.from_bytes(start[-2:], "little"))
        expected = f"{{'descr': '<u8', 'fortran_order': False, 'shape': ({nr_pages}, {WORDS}), }}"
        if not start.startswith(_NPY_MAGIC) or header.strip() != expected.encode():
            raise refused(where, f"has array {shown(name)} that is not uint64[{nr_pages}, {WORDS}] but {shown(header)}")
        data = file.read(nbytes + 1)
    if len(data) != nbytes:
        raise refused(where, f"has array {shown(name)} of {'more' if len(data) > nbytes else 'less'} than its pages")
    return np.frombuffer(data, np.uint64).reshape(nr_pages, WORDS)


def _cases(content: dict[str, Any], where: str) -> Iterator[Case]:
    cases = get(content, "cases", list, where)
    if not cases:
        raise refused(where, "has no cases")
    for at, case in enumerate(cases):
        here = f"{where} cases[{at}]"
        yield Case(
            text(_object(case, here), "name", here),
            text(case, "group", here),
            get(case, "replayable", bool, here),
            _actions(case, "before", here),
            _action(case.get("action"), f"{here}.action"),
            get(case, "result", dict, here),
        )


def _actions(holder: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    return [_action(a, f"{where}.{key}[{at}]") for at, a in enumerate(get(holder, key, list, where))]


def _action(action: Any, where: str) -> dict[str, Any]:
    text(_object(action, where), "op", where)
    if "result" in action:
        get(action, "result", dict, where)
    return action


# members of an object, of the type they must have


def get(holder: dict[str, Any], key: str, kind: Any, where: str) -> Any:
    """Member ``key`` of a JSON object, of type ``kind``; true and false are no numbers.

    Raises
    ------
    WorkbenchError
        Absent or of another type.
    """
    if key not in holder:
        raise refused(where, f"has no {key}")
    value = holder[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise refused(where, f"has {key} {shown(value)}, not {getattr(kind, '__name__', kind)}")
    return value


def text(holder: dict[str, Any], key: str, where: str) -> str:
    """A short printable line; see :func:`get`."""
    if not _is_text(get(holder, key, str, where)):
        raise refused(where, f"has {key} {shown(holder[key])}, which is no short line of text")
    return holder[key]


def number(holder: dict[str, Any], key: str, where: str) -> int:
    """A number of at most 64 bits from its hex string; see :func:`get`."""
    value = get(holder, key, str, where)
    if not _HEX.fullmatch(value):
        raise refused(where, f"has {key} {shown(value)}, which is no hex number of 64 bits")
    return int(value, 16)


def pfn(holder: dict[str, Any], key: str, where: str) -> int:
    """A pfn, below 64 TiB, from its hex string; see :func:`get`."""
    value = number(holder, key, where)
    if value >= MAX_PFN:
        raise refused(where, f"has {key} {value:#x}, beyond 64 TiB (pfn {MAX_PFN - 1:#x})")
    return value


def refused(where: str, what: str) -> WorkbenchError:
    """The error for a capture that is malformed at ``where``."""
    return WorkbenchError(f"{where} {what}. Record the run anew or restore the file.")


def _nr_pages(span: Any, where: str) -> int:
    nr_pages = get(_object(span, where), "nr_pages", int, where)
    if not 1 <= nr_pages <= MAX_PFN:
        raise refused(where, f"has nr_pages {shown(nr_pages)}")
    return nr_pages


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise refused(where, f"is {shown(value)}, no object")
    return value


def _is_text(value: str) -> bool:
    return value.isprintable() and len(value) <= 200


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
