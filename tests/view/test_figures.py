# SPDX-License-Identifier: GPL-2.0-only
"""The registry's rules, and every registered figure drawn twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import plotly.graph_objects as go
import pytest

from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout
from workbench.view import figures
from workbench.view.build import build_figures
from workbench.view.export import Exporter
from workbench.view.figures import draw, load, paper_figure
from workbench.view.provenance import Inputs, Series, problems

from .fixtures import DERIVED, paper

# Draws every registered figure, last one first, and writes name and content hash of each file.
REVERSED = """
import hashlib, json, sys
from workbench.lab.checkout import Checkout
from workbench.view import figures
from workbench.view.build import build_figures
from workbench.view.export import Exporter
with Exporter() as exporter:
    hashes = {}
    for figure in reversed(figures.load().values()):
        files, _ = figures.render(figure, Checkout.find(), exporter)
        hashes |= {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
json.dump(hashes, sys.stdout)
"""


@pytest.mark.browser
@pytest.mark.slow
def test_every_figure_twice_in_other_order_and_process() -> None:
    there = json.loads(subprocess.run([sys.executable, "-c", REVERSED], check=True, capture_output=True).stdout)
    here = {}
    with Exporter() as exporter:
        for figure in load().values():
            _, record = figures.render(figure, Checkout.find(), exporter)
            assert problems(record) == []
            here |= {name: output["sha256"] for name, output in record["outputs"].items()}
    assert here == there and len(here) == 3 * len(load())


def test_what_struct_pages_cost() -> None:
    # x86-64: 4096 bytes a page, 64 bytes a struct page
    fig, inputs = draw(load()["struct-page-cost"], Checkout.find())
    line = fig.data[0]
    pairs = dict(zip(line.x, line.y, strict=True))
    assert pairs[16] == 0.25 and pairs[1024] == 16.0
    assert all(64 * device == 4096 * cost for device, cost in pairs.items())
    assert [series.kind for series in inputs.series] == ["derived"]
    for number in (*(text.strip("</b>") for text in line.text), "1.5625"):
        assert number in load()["struct-page-cost"].alt


def test_draw_sets_title_size_and_description() -> None:
    fig, _ = draw(paper(), Checkout.find())
    assert (fig.layout.title.text, fig.layout.width, fig.layout.height) == ("One bar", 400, 300)
    assert (fig.layout.meta["caption"], fig.layout.meta["alt"]) == ("A caption.", "A bar.")
    assert fig.layout.template.layout.font.family.startswith("DejaVu Sans")


def built(inputs: Inputs):
    return lambda checkout: (go.Figure(), inputs)


def test_undeclared_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    read = tmp_path / "data" / "a.json"
    read.touch()
    figure = paper(build=built(Inputs([DERIVED], files=[read])))
    with pytest.raises(WorkbenchError, match=r"read data/a\.json; declare it"):
        draw(figure, Checkout(tmp_path))
    draw(paper(build=figure.build, data=("data/*.json",)), Checkout(tmp_path))


@pytest.mark.parametrize("source", ["a stopwatch", "data/captures/a.nc", "data/bench/other.nc"])
def test_measured_values_come_from_a_read_benchmark_dataset(tmp_path: Path, source: str) -> None:
    for name in ("bench", "captures"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "a.nc").touch()
    files = [tmp_path / "data" / name / "a.nc" for name in ("bench", "captures")]
    bad = built(Inputs([Series("time", "measured", source, "ns")], files=files))
    with pytest.raises(WorkbenchError, match="Measured values are drawn only from a Dataset below data/bench/"):
        draw(paper(build=bad, data=("data/*/*.nc",)), Checkout(tmp_path))
    good = built(Inputs([Series("time", "measured", "data/bench/a.nc", "ns")], files=files))
    draw(paper(build=good, data=("data/*/*.nc",)), Checkout(tmp_path))


def test_a_figure_without_series_is_refused() -> None:
    with pytest.raises(WorkbenchError, match="has no series"):
        draw(paper(build=built(Inputs([]))), Checkout.find())


@pytest.mark.parametrize(
    "change",
    [
        {"id": "Cost"},
        {"id": "a--b"},
        {"id": "../a"},
        {"title": ""},
        {"caption": " "},
        {"alt": ""},
        {"width_px": 0},
        {"height_px": -1},
    ],
)
def test_malformed_figures_are_refused(change: dict) -> None:
    with pytest.raises(WorkbenchError):
        paper(**change)


def test_two_figures_with_one_id_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_registry", {})
    parts = {"id": "a", "title": "t", "caption": "c", "alt": "a", "width_px": 1, "height_px": 1}

    def one(checkout: Checkout):
        raise NotImplementedError

    def other(checkout: Checkout):
        raise NotImplementedError

    other.__module__ = "elsewhere"
    paper_figure(**parts)(one)
    with pytest.raises(WorkbenchError, match="two figures are called a"):
        paper_figure(**parts)(other)


@pytest.mark.browser
@pytest.mark.slow
def test_the_committed_figures_are_the_ones_drawn_now() -> None:
    said: list[str] = []
    code = build_figures(check=True, echo=said.append)
    assert code != 1, "\n".join(said)
    if code:
        pytest.skip("\n".join(said))
