# SPDX-License-Identifier: GPL-2.0-only
"""The figures of a sweep keep measured, modelled and published apart, and say what dominates."""

import pytest

from workbench.errors import WorkbenchError
from workbench.lab.cost import seed_fit
from workbench.lab.media import medium
from workbench.lab.sweep import sweep
from workbench.view import sweep as view
from workbench.view.export import description
from workbench.view.palette import PROVENANCE

MIB, GIB = 1 << 20, 1 << 30
FIT = seed_fit()


def clock(point, samples):
    """10 ns a page for get; for put 8 ns before and 2 ns after; samples 1, 2, 3 times as slow."""
    pages, put = point.size >> 12, 8 if point.state == "before" else 2
    return {name: [ns * pages * 1e-9 * (k + 1) for k in range(samples)] for name, ns in (("get", 10), ("put", put))}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    media = [medium(name, FIT.media) for name in ("dram", "pmem", "cxl")]
    path = tmp_path_factory.mktemp("sweep") / "s.nc"
    about = {"cpu": "a processor"}
    return sweep(path, clock, (64 * MIB, GIB), (2 * MIB, GIB), about, samples=3, media=media, progress=False)


def test_measured_points_are_medians_with_their_spread(run):
    fig = view.sweep_figure(run)
    one = next(t for t in fig.data if t.name == "measured, with the series (5.17)" and t.xaxis == "x2")
    assert one.y[1] == pytest.approx(4)  # put after: 2, 4 and 6 ns
    assert (one.error_y.array[1], one.error_y.arrayminus[1]) == pytest.approx((2, 2))
    assert one.marker.symbol == PROVENANCE["measured"].symbol
    crosses = {t.marker.symbol for t in fig.data if t.name.startswith("modelled")}
    assert crosses == {PROVENANCE["modelled"].symbol}
    assert "put measured 16.0 before and 4.0 after" in description(fig)[1]


def test_modelled_points_are_of_the_medium_asked_for(run):
    prices = FIT.prices
    fig = view.sweep_figure(run, "pmem")
    one = next(t for t in fig.data if t.name == "modelled (pmem), before (5.16)" and t.xaxis == "x")
    assert one.y[1] == pytest.approx(prices["read_pmem"] + prices["write_pmem"] + 3 * prices["locked"])
    with pytest.raises(WorkbenchError, match="no medium 'hbm'"):
        view.sweep_figure(run, "hbm")


def test_a_point_is_split_by_price(run):
    fig = view.explore_point(run, GIB, 2 * MIB, "dram")
    bars = {trace.name: list(trace.x) for trace in fig.data if trace.type == "bar"}
    read = next(values for name, values in bars.items() if name.startswith("reading"))
    assert read == pytest.approx([FIT.prices["read_dram"]] * 4)
    measured = next(trace for trace in fig.data if trace.name.startswith("measured"))
    assert list(measured.x) == pytest.approx([20, 20, 16, 4])
    published = next(trace for trace in fig.data if trace.name.startswith("published"))
    assert sorted(published.x)[-1] == pytest.approx(71e6 / 4194304)


def test_published_and_measured_stand_only_where_they_belong(run):
    names = {trace.name for trace in view.explore_point(run, GIB, GIB, "cxl").data}
    assert not any(name.startswith(("published", "measured")) for name in names)
    names = {trace.name for trace in view.explore_point(run, GIB, 2 * MIB, "pmem").data}
    assert "published, either size" in names and "measured here, the engine" not in names
    with pytest.raises(WorkbenchError, match="cannot be 64 MiB"):
        view.explore_point(run, 64 * MIB, GIB, "dram")


def test_why_names_what_dominates():
    dram, pmem = FIT.media["dram"], FIT.media["pmem"]
    assert view.why(dram, GIB, 2 * MIB) == "get 1.0×: locked operations stay; put 2.8×: saves locked operations"
    assert view.why(pmem, GIB, 2 * MIB).startswith("get 4.0×: saves writing changed lines back")
    assert view.why(pmem, GIB, 4096).count("1.0×") == 2


def test_gains_and_progress(run):
    rows = {tuple(row[:3]): row[3:] for row in view.gains_table(run).rows}
    assert rows["2 MiB", "1 GiB", "put"][0] == "4.0" and rows["2 MiB", "1 GiB", "get"][:2] == ["1.0", "1.0"]
    assert ("1 GiB", "64 MiB", "get") not in rows
    assert "Extrapolated, nobody measured them: cxl" in view.gains_table(run).caption
    assert view.progress_table(run).caption.startswith("6 of 6 points")
    gone = run.copy(deep=True)
    gone.measured_ns.loc[{"size": GIB, "align": GIB, "state": "after"}] = float("nan")
    assert view.progress_table(gone).caption.startswith("5 of 6 points")
