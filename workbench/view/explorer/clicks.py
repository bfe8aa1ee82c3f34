# SPDX-License-Identifier: GPL-2.0-only
"""Clicks on the marks of a chart that is an output, without sending plotly once more as a widget of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import anywidget
import ipywidgets as widgets
import traitlets


class Clicks(anywidget.AnyWidget):
    """Calls ``chosen`` with the ``customdata`` of the mark that was clicked.

    Parameters
    ----------
    beside : ipywidgets.Output
        Where the chart is shown; it may be replaced at any time.
    chosen : callable
        Takes the ``customdata`` of one mark.  Marks without any are not told.
    """

    _esm = Path(__file__).with_name("clicks.js").read_text(encoding="utf-8")  # not the path: widgets of one stay
    beside = traitlets.Unicode().tag(sync=True)

    def __init__(self, beside: widgets.Output, chosen: Callable[[Any], None]) -> None:
        name = f"clicks-{uuid4().hex}"
        beside.add_class(name)
        super().__init__(beside=name)
        self.layout.display = "none"
        self.on_msg(lambda _widget, message, _buffers: chosen(message["clicked"]) if "clicked" in message else None)
