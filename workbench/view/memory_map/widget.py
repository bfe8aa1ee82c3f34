# SPDX-License-Identifier: GPL-2.0-only
"""The memory map as a widget: one script, one message a question, one answer.

* The page array never crosses the wire.  The browser asks ``{seq, view, state, parts, bins}``; the answer repeats
  ``seq`` and ``view`` and carries the strips as buffers.  An answer that is not the latest is dropped there.
* A kernel may answer while a cell runs, in another thread: struct pages are looked at by one of them at a time.
* What is shown is one string, :class:`workbench.view.memory_map.state.State`.
* Where no kernel runs, the static picture and the text form stand in.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from threading import RLock
from typing import Any

import anywidget
import numpy as np
import plotly.graph_objects as go
import traitlets
import xarray as xr

from workbench.errors import WorkbenchError
from workbench.view import palette
from workbench.view.choices import PLOTLY
from workbench.view.export import description
from workbench.view.memory_map.export import view_dataset
from workbench.view.memory_map.model import PARTS, Device, Model
from workbench.view.memory_map.state import State
from workbench.view.memory_map.static import picture, text

_STATIC = Path(__file__).parent / "static"


class MemoryMap(anywidget.AnyWidget):
    """A device from 1 TiB down to a bit.

    Parameters
    ----------
    device : Device
        What is shown.
    state : str or State, optional
        Where to begin; default: the first tail of the first compound page.

    Raises
    ------
    WorkbenchError
        The device or the state cannot be shown.

    Examples
    --------
    ::

        MemoryMap(device("5.16+11", "1T", before="5.16+0"))
    """

    # Their text: of a path anywidget keeps every widget, and with it its struct pages, to tell it of a new version.
    _esm = (_STATIC / "memory_map.js").read_text(encoding="utf-8")
    _css = (_STATIC / "memory_map.css").read_text(encoding="utf-8")
    facts = traitlets.Dict().tag(sync=True)

    def __init__(self, device: Device, state: str | State | None = None) -> None:
        self.model, self._turn = Model(device), RLock()
        self.shown = self._read(state) if state is not None else self.model.require(self.model.first_state())
        super().__init__(facts=self.model.facts())
        self.on_msg(self._on_message)

    @property
    def state(self) -> str:
        """What is shown, as one line; assign another one to go there."""
        return self.model.line(self.shown)

    @state.setter
    def state(self, to: str | State) -> None:
        with self._turn:
            self.shown = self._read(to)
        self.send({"kind": "go", "state": self.state})

    def refresh(self, pfns: np.ndarray | Sequence[int] | None = None) -> None:
        """Show the struct pages anew, after those of ``pfns`` (default: any) were written to; see Model.refresh()."""
        with self._turn:
            self.model.refresh(pfns)
        self.send({"kind": "go", "state": self.state})

    def figure(self) -> go.Figure:
        """The present view as a plotly figure with caption and alt text, for a paper."""
        with self._turn:
            return picture(self.model, self.shown)

    def dataset(self) -> xr.Dataset:
        """The present view as a Dataset, see :func:`workbench.view.memory_map.export.view_dataset`."""
        with self._turn:
            return view_dataset(self.model, self.shown)

    def _read(self, state: str | State) -> State:
        return self.model.require(State.parse(state) if isinstance(state, str) else state)

    def _on_message(self, _: object, question: dict[str, Any], __: object) -> None:
        self.send(*self.answer(question))

    def answer(self, question: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """Answer one question of the browser.

        Parameters
        ----------
        question : dict
            ``seq``, ``view``, ``parts`` and ``bins``; ``state`` (text), without which what is shown is meant; with
            ``snap`` that struct page of the compound page, counted from its head, is meant; with ``follow`` the word of
            the store just made.

        Returns
        -------
        dict, list of bytes
            The answer and its buffers of uint32; ``error`` instead of parts where the question cannot be answered.
        """
        with self._turn:
            return self._answer(question)

    def _answer(self, question: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        head = {"kind": "answer", "seq": question.get("seq"), "view": question.get("view")}
        try:
            state = self._read(str(question["state"])) if "state" in question else self.shown
            if "snap" in question:
                state = self.model.snapped(state, int(question["snap"]))
            zoom = state.zoom
            if question.get("follow"):
                state = self.model.following(self.model.require(state))
            moved = {"zoom"} if state.zoom != zoom else set()
            parts = [part for part in PARTS if part in moved or part in question["parts"]]
            answer, buffers = self.model.answer(state, parts, int(question.get("bins", 800)))
        except (WorkbenchError, KeyError, TypeError, ValueError) as error:
            return head | {"error": str(error) or type(error).__name__, "state": self.model.line(self.shown)}, []
        self.shown = state
        return head | answer, [buffer.tobytes() for buffer in buffers]

    # where no kernel runs

    def __repr__(self) -> str:
        with self._turn:
            return text(self.model, self.shown)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        shown = super()._repr_mimebundle_(**kwargs)
        data, metadata = shown if isinstance(shown, tuple) else (shown or {}, {})
        figure = self.figure()
        drawn = json.loads(figure.to_json()) | {"config": dict(palette.CONFIG)}
        caption, alt = description(figure)
        return {**data, PLOTLY: drawn, "text/plain": f"{alt}\n{self!r}"}, {
            **metadata,
            "caption": caption,
        }
