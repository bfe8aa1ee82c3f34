# SPDX-License-Identifier: GPL-2.0-only
"""The memory map as a widget: one script, one message a question, one answer.

* The page array never crosses the wire.  The browser asks ``{seq, view, state, parts, bins}``; the answer repeats
  ``seq`` and ``view`` and carries the strips as buffers.  An answer that is not the latest is dropped there.
* What is shown is one string, :class:`workbench.view.memory_map.state.State`.
* Where no kernel runs, the static picture and the text form stand in.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
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

    _esm = _STATIC / "memory_map.js"
    _css = _STATIC / "memory_map.css"
    facts = traitlets.Dict().tag(sync=True)

    def __init__(self, device: Device, state: str | State | None = None) -> None:
        self.model = Model(device)
        self.shown = self._read(state) if state is not None else self.model.require(self.model.first_state())
        super().__init__(facts=self.model.facts() | {"state": self.model.line(self.shown)})
        self.on_msg(self._on_message)

    @property
    def state(self) -> str:
        """What is shown, as one line; assign another one to go there."""
        return self.model.line(self.shown)

    @state.setter
    def state(self, to: str | State) -> None:
        self.shown = self._read(to)
        self.send({"kind": "go", "state": self.model.line(self.shown)})

    def refresh(self, pfns: np.ndarray | Sequence[int] | None = None) -> None:
        """Show the struct pages anew, after those of ``pfns`` (default: any) were written to; see Model.refresh()."""
        self.model.refresh(pfns)
        self.send({"kind": "go", "state": self.model.line(self.shown)})

    def figure(self) -> go.Figure:
        """The present view as a plotly figure with caption and alt text, for a paper."""
        return picture(self.model, self.shown)

    def dataset(self) -> xr.Dataset:
        """The present view as a Dataset, see :func:`workbench.view.memory_map.export.view_dataset`."""
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
            ``seq``, ``view``, ``state`` (text), ``parts`` and ``bins``; with ``snap`` that struct page of the compound
            page, counted from its head, is meant; with ``follow`` the word of the store just made.

        Returns
        -------
        dict, list of bytes
            The answer and its buffers of uint32; ``error`` instead of parts where the question cannot be answered.
        """
        head = {"kind": "answer", "seq": question.get("seq"), "view": question.get("view")}
        try:
            state = self._read(str(question["state"]))
            if "snap" in question:
                state = self.model.snapped(state, int(question["snap"]))
            if question.get("follow"):
                state = self.model.following(self.model.require(state))
            parts = [part for part in PARTS if part in question["parts"]]
            answer, buffers = self.model.answer(state, parts, int(question.get("bins", 800)))
        except (WorkbenchError, KeyError, TypeError, ValueError) as error:
            return head | {"error": str(error) or type(error).__name__, "state": self.model.line(self.shown)}, []
        self.shown = state
        return head | answer, [buffer.tobytes() for buffer in buffers]

    # where no kernel runs

    def __repr__(self) -> str:
        return text(self.model, self.shown)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        shown = super()._repr_mimebundle_(**kwargs)
        data, metadata = shown if isinstance(shown, tuple) else (shown or {}, {})
        figure = self.figure()
        drawn = json.loads(figure.to_json()) | {"config": dict(palette.CONFIG)}
        caption, alt = description(figure)
        return {**data, PLOTLY: drawn, "text/plain": f"{alt}\n{text(self.model, self.shown)}"}, {
            **metadata,
            "caption": caption,
        }
