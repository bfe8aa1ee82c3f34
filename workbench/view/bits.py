# SPDX-License-Identifier: GPL-2.0-only
"""One word as 64 bits, 63 on the left: members in brackets above, single bits that matter named below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.abi import Abi
from workbench.view import words
from workbench.view.cells import MONO
from workbench.view.panels import CHAR_PX, INK, Panel, Panels

ABOVE_PX = 38
"""Room above the bits for two lines of labels."""


def draw_bits(map_: Panels, panel: Panel, abi: Abi, row: Sequence[int], pfn: int, word: int) -> None:
    """Draw the 64 bits of a word into ``panel``: what they belong to above, what stands out below.

    Parameters
    ----------
    map_ : Panels
        Changed in place.
    panel : Panel
        Needs :data:`ABOVE_PX` above it for labels, and some 50 px below.
    abi : Abi
    row : sequence of int
        The eight words of a struct page.
    pfn : int
        Whose struct page it is.
    word : int
        0 to 7.
    """
    value = row[word]
    bits = [value >> bit & 1 for bit in range(63, -1, -1)]
    map_.figure.add_bar(
        x=list(range(64)),
        y=[1] * 64,
        width=[0.9] * 64,
        marker={"color": ["#222222" if b else "#FFFFFF" for b in bits], "line": {"color": "#999999", "width": 1}},
        text=[str(b) for b in bits],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        constraintext="none",
        textfont={**MONO, "size": 10, "color": ["#FFFFFF" if b else "#8A8A8A" for b in bits]},
        hovertext=[f"bit {63 - k}" for k in range(64)],
        hoverinfo="text",
        showlegend=False,
        name="bits",
        **panel.axes,
    )
    ticks = [63, *range(56, -1, -8)]
    map_.axes(
        panel,
        {
            "range": [-0.5, 63.5],
            "showticklabels": True,
            "tickvals": [63 - bit for bit in ticks],
            "ticktext": [str(bit) for bit in ticks],
            "tickfont": {"size": 11},
        },
        {"range": [0, 1]},
    )
    map_.heading(panel, f"5  word +{8 * word} as bits, 63 to 0", above_px=ABOVE_PX)
    per_bit = map_.plot_width_px / 64
    place = {"xref": panel.x, "yref": "paper", "font": {"size": 12, "color": INK}}
    spans = words.spans(abi, row, pfn, word)
    texts = [f"{span.name} {span.text}".strip() for span in spans]
    centres = [63 - (span.high + span.low) / 2 for span in spans]
    y = map_.y_paper(panel.top_px - 4)
    for span, text, x, level in zip(spans, texts, centres, _levels(centres, texts, per_bit), strict=True):
        path = f"M{63 - span.high - 0.45},{y} L{63 - span.low + 0.45},{y}"
        line = {"color": INK, "width": 2}
        map_.figure.add_shape(type="path", path=path, xref=panel.x, yref="paper", line=line)
        above = map_.y_paper(panel.top_px - 6 - 15 * level)
        map_.figure.add_annotation(text=text, y=above, yanchor="bottom", **_within(x, text, per_bit), **place)
    said = marks(abi, row, pfn, word)
    xs = [63 - bit for bit, _ in said]
    tip = map_.y_paper(panel.top_px + panel.height_px + 19)
    for (_, text), x, level in zip(said, xs, _levels(xs, [text for _, text in said], per_bit), strict=True):
        map_.figure.add_annotation(
            text=text,
            x=x,
            y=tip,
            ax=0,
            ay=20 + 15 * level,
            xanchor=_within(x, text, per_bit)["xanchor"],
            showarrow=True,
            arrowhead=2,
            arrowcolor=INK,
            **place,
        )


def marks(abi: Abi, row: Sequence[int], pfn: int, word: int) -> list[tuple[int, str]]:
    """What to say about single bits: the page flags that are set, or what bit 0 of word 1 tells."""
    role = abi.role(row, pfn)
    if word == 0:
        return [(bit, name) for bit, name in reversed(words.set_flags(abi, role, row[0]))]
    if word == 1:
        if role.is_tail:
            return [(0, "<b>bit 0 is set: this is a tail; clear it for the address of its head </b>")]
        return [(0, "<b>bit 0 is clear: this is no tail </b>")]
    return []


def _levels(centres: Sequence[float], texts: Sequence[str], px_per_unit: float) -> list[int]:
    """For each label, left to right, the lowest line on which it touches no label placed before."""
    ends: list[float] = []
    levels = []
    for x, text in zip(centres, texts, strict=True):
        half = (len(text) + 1) * CHAR_PX / 2 / px_per_unit
        level = next((k for k, end in enumerate(ends) if end < x - half), len(ends))
        ends[level : level + 1] = [x + half]
        levels.append(level)
    return levels


def _within(x: float, text: str, px_per_unit: float) -> dict[str, Any]:
    """``x`` and ``xanchor`` of a label that must not leave the panel of 64 bits."""
    half = len(text) * CHAR_PX / 2 / px_per_unit
    if x + half > 63.5:
        return {"x": 63.5, "xanchor": "right"}
    return {"x": -0.5, "xanchor": "left"} if x - half < -0.5 else {"x": x, "xanchor": "center"}
