# SPDX-License-Identifier: GPL-2.0-only
"""The committed times of the memory map in a browser, and what is made of such times."""

from __future__ import annotations

import copy
import json

import pytest

from workbench.lab.bench_results import PAGE, fill
from workbench.lab.checkout import Checkout

map_latency = pytest.importorskip("benchmarks.map_latency")


@pytest.fixture(scope="module")
def root():
    return Checkout.find().root


@pytest.fixture
def run(root):
    return json.loads((root / map_latency.COMMITTED).read_text())


def test_the_table_of_the_docs_is_that_of_the_committed_run(root, run):
    page = (root / PAGE).read_text()
    assert fill(page, {"map": map_latency.documented(run)}) == page


def test_the_committed_run_is_complete_and_was_taken_on_idle_cores(run):
    assert list(run["events_ms"]) == list(map_latency.EVENTS)
    assert run["load_before"] <= map_latency.BUSY and run["about"]["cores"] >= 1 and run["about"]["chromium"]
    for what, (_, keys) in map_latency.EVENTS.items():
        ms = run["events_ms"][what]
        assert ms["n"] == len(keys) and 0 < ms["p50"] <= ms["p95"], what


@pytest.mark.parametrize(
    ("p50", "p95", "load", "says"),
    [
        (60, 120, 0.5, "holds"),
        (60.1, 90, 0.1, "**misses**"),
        (50, 121, 0.1, "**misses**"),
        (90, 190, 0.6, "no verdict"),
    ],
)
def test_bars_of_an_event(run, p50, p95, load, says):
    other = copy.deepcopy(run) | {"load_before": load}
    other["events_ms"] = {"next bit": {"p50": p50, "p95": p95, "n": 40}}
    what, _, _, verdict = map_latency.rows(other)[-1]
    assert what == "next bit" and verdict.startswith(says)
    assert map_latency.missed(other) == (says == "**misses**")


@pytest.mark.parametrize(("name", "value", "row"), [("first_view_s", 3.01, 0), ("kernel_peak_mib", 2049, 1)])
def test_bars_of_the_first_view(run, name, value, row):
    quiet = run | {"load_before": 0.0}
    assert map_latency.rows(quiet)[row][-1] == "holds"
    assert map_latency.rows(quiet | {name: value})[row][-1] == "**misses**"


def test_it_waits_for_idle_cores_but_not_for_ever(monkeypatch):
    loads, naps = iter([2.0, 1.0, 0.4, 0.4]), []
    monkeypatch.setattr(map_latency.os, "getloadavg", lambda: (next(loads), 0, 0))
    monkeypatch.setattr(map_latency.time, "sleep", naps.append)
    assert map_latency.idle() == 0.4 and len(naps) == 2
    monkeypatch.setattr(map_latency, "PATIENCE_S", -1)
    monkeypatch.setattr(map_latency.os, "getloadavg", lambda: (7.0, 0, 0))
    assert map_latency.idle() == 7.0
