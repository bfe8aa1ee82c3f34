# SPDX-License-Identifier: GPL-2.0-only
"""What a memory map shows of a page array, asked part by part; knows nothing of browsers.

``Model.answer`` takes a :class:`State` and the parts wanted, and returns plain values and one array a strip: the
widget sends them, the static picture and the text form say the same.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from workbench.abi import STRUCT_PAGE_BYTES, WORDS, Role
from workbench.abi.constants import PAGE_SHIFT, PAGES_PER_SECTION
from workbench.errors import WorkbenchError
from workbench.lab.device_layout import WIDE
from workbench.mm import Altmap, PageArray
from workbench.mm.sparse_vmemmap import Populated, vmem_altmap_offset
from workbench.text import count, pfn_range, size
from workbench.text import pfn as pfn_text
from workbench.text import word as word_text
from workbench.view import palette, words
from workbench.view.bits import marks
from workbench.view.memory_map.reference import STRUCT_PAGE, source
from workbench.view.memory_map.runs import Run, run_at, shown_pfns, unlike
from workbench.view.memory_map.state import State
from workbench.view.memory_map.stores import Store, Stores, Writer, init_stores, last_writers
from workbench.view.memory_map.tiles import Sums, Tiles, bin_edges, difference_sums, lane_totals

PARTS = ("device", "zoom", "run", "page", "player")
"""Parts that can be asked for, from the whole device down to one word; last the operation that is played."""

_BOLD = re.compile(r"</?b>")

_BINS = 4096
"""Most bins a strip is cut into: no screen has more pixels."""


@dataclass(frozen=True)
class Device:
    """What is shown.

    Parameters
    ----------
    array : PageArray
        With the struct pages as they are; read, never written to.
    before : PageArray, optional
        The same pages otherwise, such as without the series.
    name : str
        Of the device.
    altmap : Altmap, optional
    backing : Populated, optional
        What backs the struct pages: then there is a layer for it.
    operations : mapping of str to xarray.Dataset
        Recorded operations that made the struct pages what they are, oldest first, in the form of
        :func:`workbench.lab.trace.as_dataset`; an attribute ``what`` says more than the name.
    examples : mapping of str to xarray.Dataset
        The same of a machine of its own, at the same pfns: played too, but not what wrote these struct pages.
    pgmap : int
        Number of the range of the pgmap that is shown.
    span : (int, int), optional
        First pfn, and the pfn after the last; default: all that exists.
    """

    array: PageArray
    before: PageArray | None = None
    name: str = "device"
    altmap: Altmap | None = None
    backing: Populated | None = None
    operations: Mapping[str, xr.Dataset] | None = None
    examples: Mapping[str, xr.Dataset] | None = None
    pgmap: int = 0
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """The struct pages shown word by word.

    Attributes
    ----------
    state : State
    run : Run
    played : Stores or None
        The operation that is played.
    rows, old : dict of int to list of int
        pfn to eight words: as they are at this moment, and before the series where that is shown.
    """

    state: State
    run: Run
    played: Stores | None
    rows: dict[int, list[int]]
    old: dict[int, list[int]]

    def was(self, pfn: int) -> tuple[int, int] | None:
        """The word of ``pfn`` that the last store made changed, and its value before."""
        if self.played is None or self.state.step < 1:
            return None
        store = self.played[self.state.step - 1]
        return (store.word, store.old) if store.pfn == pfn else None


class Model:
    """A device as a memory map asks about it.

    Parameters
    ----------
    device : Device

    Raises
    ------
    WorkbenchError
        No struct page exists, before and after do not fit, or an operation is of another kernel.
    """

    def __init__(self, device: Device) -> None:
        self.device, self.array = device, device.array
        self.kernel, self.abi = device.array.kernel, device.array.kernel.abi
        start, end = device.span or _existing_span(device.array)
        self.tiles = Tiles(device.array, start, end, device.altmap, device.backing)
        self.before = Tiles(device.before, start, end, device.altmap) if device.before is not None else None
        self._differences: Sums | None = None
        self._recorded = [_stores(*one, happened=True) for one in (device.operations or {}).items()]
        self._recorded += [_stores(*one, happened=False) for one in (device.examples or {}).items()]
        for one in self._recorded:
            if one.trace.attrs["kernel"] != self.kernel.name:
                raise WorkbenchError(
                    f"operation {one.name!r} was recorded on kernel {one.trace.attrs['kernel']}, the page array is of "
                    f"{self.kernel.name}. Record it on the same kernel."
                )
        self._folds: dict[Run, list[int]] = {}
        self._init: dict[Run, Stores | None] = {}

    def refresh(self, pfns: np.ndarray | Sequence[int] | None = None) -> None:
        """Look at the struct pages anew: to be called after they were written to.

        Parameters
        ----------
        pfns : int64[n], optional
            Those of the array that were written to: no others are counted anew.  By default any may have been, of the
            array and of the one before.

        Raises
        ------
        WorkbenchError
            A pfn lies outside the array.
        """
        self.tiles.refresh(pfns)
        if self.before is not None and pfns is None:
            self.before.refresh()
        self._differences = None
        self._folds.clear()

    # states

    def first_state(self) -> State:
        """Where to begin: the first tail of the device's first compound page, at compound_head."""
        data = self.tiles.start_pfn
        if self.device.altmap is not None:
            data = self.device.altmap.base_pfn + vmem_altmap_offset(self.device.altmap)
        return State(self.kernel.name, self.device.pgmap, min(data + 1, self.tiles.end_pfn - 1), 1)

    def require(self, state: State) -> State:
        """``state`` with its zoom filled in, if this device can show it.

        Raises
        ------
        WorkbenchError
            It is of another kernel or pgmap, of a page that is not in the device, or of an unknown layer.
        """
        if (state.tree, state.pgmap) != (self.kernel.name, self.device.pgmap):
            raise WorkbenchError(
                f"this map shows tree={self.kernel.name}/pgmap={self.device.pgmap}; asked for: tree={state.tree}/"
                f"pgmap={state.pgmap}. Make a map of that kernel."
            )
        self.tiles.require_inside(state.pfn, state.pfn + 1)
        if state.layer not in self.tiles.lanes:
            raise WorkbenchError(f"there is no layer {state.layer!r}; use one of {', '.join(self.tiles.lanes)}.")
        zoom = state.zoom or self.section_of(state.pfn)
        self.tiles.require_inside(*zoom)
        if state.step >= 0:
            operations = self.operations(state.pfn)
            if state.op >= len(operations):
                raise WorkbenchError(f"op={state.op}: there are {len(operations)} operations here. Count from 0.")
            stores = len(operations[state.op])
            if state.step > stores:
                raise WorkbenchError(f"step={state.step}: {operations[state.op].name} has {count(stores)} stores here.")
        return replace(state, zoom=zoom)

    def line(self, state: State) -> str:
        """``state`` as one line, without a zoom that is the pfn's section."""
        return str(replace(state, zoom=None) if state.zoom == self.section_of(state.pfn) else state)

    def snapped(self, state: State, page: int) -> State:
        """``state`` at struct page ``page`` of the compound page that holds its pfn, or at the last one before."""
        run = run_at(self.array, state.pfn)
        return replace(state, pfn=run.pfn + min(max(page, 0), run.nr_pages - 1))

    def following(self, state: State) -> State:
        """``state`` at the word that the last store made changed, its zoom moved there where it was out of sight."""
        operation = self.operations(state.pfn)[state.op] if state.step > 0 else None
        if operation is None:
            return state
        store = operation[state.step - 1]
        zoom = state.zoom
        if zoom is not None and not zoom[0] <= store.pfn < zoom[1]:
            pages = zoom[1] - zoom[0]
            first = min(max(store.pfn - pages // 2, self.tiles.start_pfn), self.tiles.end_pfn - pages)
            zoom = first, first + pages
        return replace(state, pfn=store.pfn, word=store.word, bit=0, zoom=zoom)

    def section_of(self, pfn: int) -> tuple[int, int]:
        """The part of the device that lies in the section of ``pfn``."""
        first = pfn // PAGES_PER_SECTION * PAGES_PER_SECTION
        return max(first, self.tiles.start_pfn), min(first + PAGES_PER_SECTION, self.tiles.end_pfn)

    # what is asked

    def facts(self) -> dict[str, Any]:
        """What does not change: the device, its layers, colours of roles."""
        start, end = self.tiles.start_pfn, self.tiles.end_pfn
        return {
            "name": self.device.name,
            "title": self.title,
            "tree": self.kernel.name,
            "pgmap": self.device.pgmap,
            "before": self.device.before.kernel.name if self.device.before is not None else "",
            "start": start,
            "end": end,
            "section": PAGES_PER_SECTION,
            "layers": [
                {"key": key, "label": self.tiles.labels[key], "lanes": [[one.label, one.role] for one in lanes]}
                for key, lanes in self.tiles.lanes.items()
            ],
            "roles": {role: [look.fill, look.outline, look.pattern] for role, look in palette.ROLES.items()},
        }

    @property
    def title(self) -> str:
        """The device in a line."""
        pages = self.tiles.end_pfn - self.tiles.start_pfn
        return (
            f"{size(pages << PAGE_SHIFT)} · kernel {self.kernel.name} · {count(pages)} struct pages · "
            f"{size(pages * STRUCT_PAGE_BYTES)} of vmemmap"
        )

    def answer(self, state: State, parts: Collection[str], bins: int = 800) -> tuple[dict[str, Any], list[np.ndarray]]:
        """The parts wanted of what ``state`` shows.

        Parameters
        ----------
        state : State
        parts : collection of str
            Of :data:`PARTS`.
        bins : int
            Pixels that a strip has, 1 to 4,096.

        Returns
        -------
        dict
            ``state`` (as text), ``at`` (its values), and one entry a part.  A strip names its buffers by number; the
            page has all that is shown of any word and bit of it.
        list of uint32[n, lanes]

        Raises
        ------
        WorkbenchError
            The state cannot be shown.
        """
        if not 1 <= bins <= _BINS:
            raise WorkbenchError(f"a strip has 1 to {_BINS} bins; got {bins}.")
        state = self.require(state)
        assert state.zoom is not None
        out: dict[str, Any] = {"state": self.line(state), "at": _state_dict(state)}
        buffers: list[np.ndarray] = []
        for part, span in (("device", (self.tiles.start_pfn, self.tiles.end_pfn)), ("zoom", state.zoom)):
            if part in parts:
                out[part] = self._strip(state, span, bins, buffers)
        of_scene = {"run": self._run, "page": self._page, "player": self._player}
        if wanted := [part for part in of_scene if part in parts]:
            scene = self.scene(state)
            out |= {part: of_scene[part](scene) for part in wanted}
        return out, buffers

    def scene(self, state: State) -> Scene:
        """The struct pages that ``state`` shows word by word."""
        run = run_at(self.array, state.pfn)
        played = self.operations(state.pfn, run)[state.op] if state.step >= 0 else None
        pfns = shown_pfns(run, state.pfn)
        rows = _rows(self.array, run.pfn, pfns)
        if played is not None:
            rows |= {pfn: words for pfn in pfns if (words := played.after(pfn, state.step)) is not None}
        old = _rows(self.device.before, run.pfn, pfns) if self.device.before is not None else {}
        return Scene(state, run, played, rows, old if played is None else {})

    def operations(self, pfn: int, run: Run | None = None) -> list[Stores]:
        """What can be played at ``pfn``: the initialisation of its compound page, then what was recorded."""
        run = run or run_at(self.array, pfn)
        if run not in self._init:
            self._init[run] = init_stores(self.array, run)
        init = self._init[run]
        return ([init] if init is not None else []) + self._recorded

    def totals(self, layer: str) -> dict[str, int]:
        """Pages of the device by lane of ``layer``."""
        return lane_totals(self.tiles, layer)

    # parts

    def _strip(self, state: State, span: tuple[int, int], bins: int, buffers: list[np.ndarray]) -> dict[str, Any]:
        edges = bin_edges(*span, bins)
        strip: dict[str, Any] = {"start": span[0], "end": span[1], "bins": len(edges) - 1, "rows": []}

        def add(counts: np.ndarray) -> int:
            buffers.append(np.ascontiguousarray(counts, np.uint32))
            return len(buffers) - 1

        before = self.before if self.before is not None and state.layer in self.before.lanes else None
        if before is not None:
            strip["rows"].append(["before", add(before.counts(state.layer, edges))])
        strip["rows"].append(["after" if self.before else "", add(self.tiles.counts(state.layer, edges))])
        if before is not None:
            self._differences = self._differences or difference_sums(before, self.tiles)
            strip["differs"] = add(np.diff(self._differences(edges), axis=0))
        pages = span[1] - span[0]
        strip["text"] = f"{pfn_range(span[0], pages)}, {size(pages << PAGE_SHIFT)}"
        strip["size"] = size(pages << PAGE_SHIFT)
        strip["ends"] = [self._place(span[0]), self._place(span[1])]
        return strip

    def _place(self, pfn: int) -> str:
        return size((pfn - self.tiles.start_pfn) << PAGE_SHIFT)

    def _run(self, scene: Scene) -> dict[str, Any]:
        run, pfns = scene.run, list(scene.rows)
        if run not in self._folds:
            self._folds[run] = unlike(self.array, run)
        unlike_pfns = [pfn for pfn in self._folds[run] if pfn not in scene.rows]
        folded = run.nr_pages - len(pfns)
        return {
            "text": run.text,
            "pfn": run.pfn,
            "pages": run.nr_pages,
            "order": run.order,
            "fold": folded,
            "unlike": [pfn_text(pfn) for pfn in unlike_pfns[:8]],
            "alike": folded - len(unlike_pfns),
            "columns": [self._column(scene, pfn) for pfn in pfns],
        }

    def _column(self, scene: Scene, pfn: int) -> dict[str, Any]:
        row = scene.rows[pfn]
        role = self._look(row, pfn)
        column: dict[str, Any] = {
            "pfn": pfn,
            "page": pfn - scene.run.pfn,
            "role": role,
            "label": palette.ROLES[role].label.replace("further ", ""),
            "short": words.short(self.abi, row, pfn),
            "raw": [word_text(value) for value in row],
            "differs": [],
        }
        if pfn in scene.old:
            old = scene.old[pfn]
            column["differs"] = [word for word in range(WORDS) if old[word] != row[word]]
            column["before"] = words.short(self.abi, old, pfn)
        if (was := scene.was(pfn)) is not None:
            word, value = was
            column["changed"] = word
            was_row = [*row[:word], value, *row[word + 1 :]]
            column["was"] = words.short(self.abi, was_row, pfn)[word] if value != row[word] else "as before"
        return column

    def _look(self, row: Sequence[int], pfn: int) -> str:
        """The key of :data:`palette.ROLES` that a struct page is drawn as."""
        role = self.abi.role(row, pfn)
        altmap = self.device.altmap
        inside = altmap is not None and pfn < altmap.base_pfn + vmem_altmap_offset(altmap)
        return palette.ALTMAP if role is Role.BASE and inside else str(role)

    def _page(self, scene: Scene) -> dict[str, Any]:
        pfn, row = scene.state.pfn, scene.rows[scene.state.pfn]
        role, was = self._look(row, pfn), scene.was(pfn)
        old = dict(enumerate(scene.old.get(pfn, row))) | (dict([was]) if was is not None else {})
        by, long = self._writers(scene), words.long(self.abi, row, pfn)
        return {
            "pfn": pfn,
            "role": role,
            "label": palette.ROLES[role].label,
            "reference": f"struct page, {STRUCT_PAGE}, {self.abi.release}",
            "said": self._said(scene),
            "words": [
                {
                    "raw": word_text(value),
                    "long": long[word],
                    "by": by[word][0],
                    "file": by[word][1],
                    "old": word_text(old[word]) if old[word] != value else "",
                    "spans": [[one.name, one.high, one.low, one.text] for one in words.spans(self.abi, row, pfn, word)],
                    "marks": [[bit, _BOLD.sub("", text).strip()] for bit, text in marks(self.abi, row, pfn, word)],
                }
                for word, value in enumerate(row)
            ],
        }

    def _writers(self, scene: Scene) -> list[tuple[str, str]]:
        """For each word of the selected page who wrote it last, and the file that holds that function."""
        release, state = self.kernel.tree.base, scene.state
        if scene.played is None:
            row = scene.rows[state.pfn]
            happened = [one for one in self.operations(state.pfn, scene.run) if one.happened]
            return [_who(one, release) for one in last_writers(row, state.pfn, happened)]
        by = [("", "")] * WORDS
        for number in scene.played.to_page(state.pfn, state.step):
            store = scene.played[int(number)]
            by[store.word] = f"{store.site}(), store {count(store.number + 1)}", source(store.site, release)
        return by

    def _player(self, scene: Scene) -> dict[str, Any]:
        state, operations = scene.state, self.operations(scene.state.pfn, scene.run)
        out: dict[str, Any] = {"names": [one.name for one in operations], "op": state.op, "step": state.step}
        shown = scene.played or (operations[state.op] if state.op < len(operations) else None)
        if shown is None:
            return out | {"stores": 0, "all": "0", "line": "", "done": ""}
        dropped = int(shown.trace.attrs["not_logged"])
        out["stores"] = len(shown)
        out["all"] = f"{count(len(shown))}" + (f" of {count(len(shown) + dropped)}" if dropped else "")
        if state.step < 0:
            return out | {"line": "the struct pages as they are now", "done": ""}
        places, lines, locked = shown.written(state.step)
        out["done"] = f"words written {count(places)} · cache lines dirtied {count(lines)} · locked {count(locked)}"
        out["line"] = _store_line(shown[state.step - 1]) if state.step else f"before the first store of {shown.name}"
        return out

    def _said(self, scene: Scene) -> str:
        """Which struct page is selected, as a sentence for those who do not see it."""
        state, run, row = scene.state, scene.run, scene.rows[scene.state.pfn]
        label = palette.ROLES[self._look(row, state.pfn)].label
        whole = run.text if run.order < 0 else f"a {run.text}"
        said = f"pfn {pfn_text(state.pfn)}, page {count(state.pfn - run.pfn)} of {whole}, {label}."
        if scene.played is not None:
            return f"Store {count(state.step)} of {count(len(scene.played))}. {said}"
        return said


def _stores(name: str, trace: xr.Dataset, happened: bool) -> Stores:
    what = trace.attrs.get("what")
    title = name if what is None else what if what.startswith(f"{name}(") else f"{name}: {what}"
    return Stores(title, trace, happened=happened)


def _rows(array: PageArray, start_pfn: int, pfns: Sequence[int]) -> dict[int, list[int]]:
    """The words of ``pfns``: neighbours from ``start_pfn`` on, and at most one more."""
    wide = sum(pfn < start_pfn + WIDE for pfn in pfns)
    rows = array.view(start_pfn, wide).tolist() + [array.words(pfn) for pfn in pfns[wide:]]
    return dict(zip(pfns, rows, strict=True))


def _store_line(store: Store) -> str:
    """A store in words."""
    return (
        f"{store.site}(): pfn {pfn_text(store.pfn)} +{8 * store.word}: {word_text(store.old)} → {word_text(store.new)}"
        + (" (locked)" if store.locked else "")
    )


def _existing_span(array: PageArray) -> tuple[int, int]:
    """First pfn that has a struct page, and the pfn after the last."""
    sections = np.flatnonzero(array.alike() >= 0)
    if not len(sections):
        raise WorkbenchError(f"no struct page exists in {pfn_range(array.start_pfn, array.nr_pages)}. Add pages first.")
    first, last = (array.start_pfn + int(sections[k]) * PAGES_PER_SECTION for k in (0, -1))
    return (
        first + int(np.flatnonzero(array.exists(first, PAGES_PER_SECTION))[0]),
        last + int(np.flatnonzero(array.exists(last, PAGES_PER_SECTION))[-1]) + 1,
    )


def _state_dict(state: State) -> dict[str, Any]:
    assert state.zoom is not None
    return {
        "pfn": state.pfn,
        "word": state.word,
        "bit": state.bit,
        "lo": state.zoom[0],
        "hi": state.zoom[1],
        "layer": state.layer,
        "op": state.op,
        "step": state.step,
    }


def _who(writer: Writer, release: str) -> tuple[str, str]:
    if not writer.certain:
        return "something that is not on record", ""
    return (f"{writer.site}()", source(writer.site, release)) if writer.site else ("nobody: still zero", "")
