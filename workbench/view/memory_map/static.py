# SPDX-License-Identifier: GPL-2.0-only
"""A memory map without a kernel: the same view as a plotly figure, and as text."""

from __future__ import annotations

import plotly.graph_objects as go

from workbench.text import count
from workbench.text import pfn as pfn_text
from workbench.text import word as word_text
from workbench.view import palette, words
from workbench.view.layout import before_after, memory_map
from workbench.view.memory_map.export import view_dataset
from workbench.view.memory_map.model import Model
from workbench.view.memory_map.state import State


def picture(model: Model, state: State, width_px: int = palette.NOTEBOOK_PX) -> go.Figure:
    """The view as a figure for a page or a paper.

    Parameters
    ----------
    model : Model
    state : State
    width_px : int
        CSS pixels.

    Returns
    -------
    plotly.graph_objects.Figure
        Before and after, word by word, where there is a before and nothing is played; else the device on five
        scales.  A struct page behind the eighth stands for by the eighth.
    """
    ds = view_dataset(model, state)
    if model.before is not None and state.step < 0:
        return before_after(view_dataset(model, state, before=True), ds, width_px=width_px)
    page = min(state.pfn - ds.attrs["compound_pfn"], ds.sizes["page"] - 1)
    return memory_map(ds, page, state.word, width_px)


def text(model: Model, state: State) -> str:
    """The view in lines of text: device, roles, the selected struct page word by word."""
    scene = model.scene(model.require(state))
    run, row = scene.run, scene.rows[state.pfn]
    totals = ", ".join(
        f"{count(pages)} {palette.ROLES[key].label}" for key, pages in model.totals("roles").items() if key != "missing"
    )
    long = words.long(model.abi, row, state.pfn)
    lines = [
        f"Memory map of {model.device.name}: {model.title}",
        f"  roles: {totals}",
        f"  {run.text}",
        f"  struct page of pfn {pfn_text(state.pfn)}: {palette.ROLES[model.abi.role(row, state.pfn)].label}",
        *(
            f"  {'>' if word == state.word else ' '} +{8 * word:<3} {word_text(row[word])}  {long[word]}"
            for word in range(len(row))
        ),
        f"  view: {model.line(state)}",
    ]
    return "\n".join(lines)
