# SPDX-License-Identifier: GPL-2.0-only
"""Figures, a checkout and a browser for the tests of the main job.  Nothing here reads the project's data."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.lab.checkout import Checkout
from workbench.view.export import Exporter, describe
from workbench.view.figures import PaperFigure
from workbench.view.provenance import Inputs, Series

DERIVED = Series("pages", "derived", "by arithmetic", "1")


def sample(name: str) -> go.Figure:
    """Three figures that use what plotly draws with random ids: clips, patterns, gradients, images."""
    match name:
        case "bars":
            fig = go.Figure(go.Bar(x=["head", "tail"], y=[1, 511], marker_pattern_shape="/", name="pages → words"))
        case "map":
            fig = make_subplots(2, 1)
            fig.add_heatmap(z=[[0, 1], [1, 0]], row=1, col=1, xgap=1, ygap=1)
            fig.add_contour(z=[[0, 1], [1, 0]], row=2, col=1, showscale=True)
        case "lines":
            fig = go.Figure([go.Scatter(x=[1, 2, 3], y=[3, k, 2], fill="tozeroy", name=f"series {k}") for k in (1, 2)])
            fig.update_xaxes(rangeslider_visible=True)
        case _:
            raise ValueError(name)
    fig.update_layout(template="devmap", showlegend=True, title_text=f"Sample {name}")
    return describe(fig, caption=f"Caption of {name}.", alt=f"Alt text of {name} & more.")


SAMPLES = ("bars", "map", "lines")


def export_samples(folder: Path, names: tuple[str, ...]) -> None:
    """Draw samples in this order with one browser."""
    with Exporter() as exporter:
        for name in names:
            digest = hashlib.sha256(name.encode()).hexdigest()
            for file, content in exporter.files(
                name, sample(name), 640, 400, name, f"Drawing of {name}", digest
            ).items():
                (folder / file).write_bytes(content)


def export_forever(folder: Path) -> None:
    """Draw paper figures until interrupted, saying so on standard output when the first is there."""
    from workbench.view.build import build_figures

    def say(_: str) -> None:
        sys.stdout.write("one round\n")
        sys.stdout.flush()

    while True:
        for path in (folder / "out" / "figures").glob("*.svg"):
            path.unlink()
        build_figures(checkout=Checkout(folder), only=["struct-page-cost"], echo=say, progress=False)


def paper(**changes: object) -> PaperFigure:
    """A valid paper figure, with ``changes``."""

    def build(checkout: Checkout) -> tuple[go.Figure, Inputs]:
        return go.Figure(go.Bar(y=[1, 511])), Inputs(series=[DERIVED])

    parts: dict[str, object] = {
        "id": "one-bar",
        "title": "One bar",
        "caption": "A caption.",
        "alt": "A bar.",
        "width_px": 400,
        "height_px": 300,
        "data": (),
        "build": build,
    }
    return PaperFigure(**{**parts, **changes})  # type: ignore[arg-type]


class FakeExporter:
    """A browser that draws at once: its bytes are the figure's JSON, its version what a test sets."""

    major = 156
    fonts = ({"asked": "DejaVu Sans", "weight": 400, "used": ["DejaVuSans"], "widths": "aa"},)
    noise = ""
    drawn: list[str]

    def __init__(self, path: Path | None = None) -> None:
        type(self).drawn = []

    def __enter__(self) -> FakeExporter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def browser(self) -> dict[str, object]:
        return {"version": f"Chrome/{self.major}.0", "major": self.major, "fonts": list(self.fonts)}

    def files(self, name: str, fig: go.Figure, width: int, height: int, title: str, text: str, digest: str):
        self.drawn.append(name)
        content = (json.dumps([fig.to_dict()["data"], digest], default=str) + self.noise).encode()
        return {f"{name}.{form}": form.encode() + content for form in ("svg", "pdf", "png")}

    def static_image(self, spec: dict[str, object]) -> tuple[str, str, str]:
        return "<svg/>", "caption", "alt"


if __name__ == "__main__":
    command, folder, *names = sys.argv[1:]
    if command == "samples":
        export_samples(Path(folder), tuple(names))
    else:
        export_forever(Path(folder))
