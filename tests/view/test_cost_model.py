# SPDX-License-Identifier: GPL-2.0-only
"""Figures and tables of the cost model: they show the numbers they are given, each with its kind."""

import math
import re

import numpy as np
import pytest

from workbench.lab import seed_timing
from workbench.lab.checkout import Checkout
from workbench.lab.cost import MODEL, WITH_DRAM_WRITES, seed_fit
from workbench.lab.media import medium
from workbench.lab.registration import published_rounds, registration
from workbench.lab.seed_table import Key, keys, seed_table
from workbench.view import cost_model
from workbench.view.figures import draw, load
from workbench.view.palette import PROVENANCE, STATES
from workbench.view.summary import mark

FIT = seed_fit()


def points(fig, name):
    """Label to x of the traces whose name begins so."""
    ticks = dict(zip(fig.layout.yaxis.tickvals, fig.layout.yaxis.ticktext, strict=True))
    found = {}
    for trace in fig.data:
        if trace.name and trace.name.startswith(name):
            found |= {ticks[round(y)]: x for x, y in zip(trace.x, trace.y, strict=True)}
    return found


def test_the_figure_of_the_table_has_each_published_time():
    fig = cost_model.seed_figure(seed_table())
    before, after = points(fig, "published, before"), points(fig, "published, with")
    assert (before["16,384 MiB, DRAM, <b>put</b>"], after["16,384 MiB, DRAM, <b>put</b>"]) == (71, 22)
    assert before["127,004 MiB, altmap, <b>put</b>"] == 4120
    assert len(before) == len(after) == 6 and len(points(fig, "modelled, before")) == 8
    assert not [trace for trace in fig.data if trace.name.startswith("measured")]


def test_measured_times_get_marks_of_their_own():
    before, after = (Key(16384, False, "get", state) for state in ("before", "after"))
    times = seed_table(measured={before: [80, 81, 84], after: [93, 92, 99]})
    fig = cost_model.seed_figure(times, where="a processor")
    assert points(fig, "measured, before") == {"16,384 MiB, DRAM, <b>get</b>": 81}
    assert points(fig, "measured, with") == {"16,384 MiB, DRAM, <b>get</b>": 93}
    looks = {trace.name.split(",")[0]: trace.marker.symbol for trace in fig.data}
    assert looks == {kind: PROVENANCE[kind].symbol for kind in ("published", "modelled", "measured")}
    assert {trace.marker.color for trace in fig.data} == {STATES["before"], STATES["after"]}
    (spread,) = [trace.error_x for trace in fig.data if trace.name.startswith("measured, with")]
    assert (spread.array, spread.arrayminus) == ((6,), (1,))
    assert not [trace for trace in fig.data if "measured" not in trace.name and trace.error_x.array]
    assert fig.layout.title.subtitle.text.endswith("measured: a processor")


def test_labels_of_measured_times_stand_clear_of_each_other_and_altmap_rows_say_that_there_is_none():
    before, after = (Key(16384, False, "get", state) for state in ("before", "after"))
    fig = cost_model.seed_figure(seed_table(measured={before: [80, 81, 120], after: [93, 92, 99]}))
    notes = {note.text: note for note in fig.layout.annotations}
    # Longer with the series: its label lies right of the greatest of both, that of before left of the least.
    assert (notes["93\xa0ms"].xanchor, notes["93\xa0ms"].x) == ("left", pytest.approx(math.log10(120)))
    assert (notes["81\xa0ms"].xanchor, notes["81\xa0ms"].x) == ("right", pytest.approx(math.log10(80)))
    rows = [round(note.y) for note in fig.layout.annotations if note.text.startswith("not measured")]
    assert [fig.layout.yaxis.ticktext[row] for row in rows] == [
        name for name in fig.layout.yaxis.ticktext if "altmap" in name
    ]


def test_without_a_run_nothing_is_said_of_measuring():
    fig = cost_model.seed_figure(seed_table())
    assert not fig.layout.annotations and "measured" not in fig.layout.title.subtitle.text
    assert "easured" not in repr(cost_model.seed_view(seed_table()))
    told = repr(cost_model.seed_view(seed_table(measured={next(keys()): [1.0]}), "a processor"))
    assert (
        f"{mark('measured')} Measured: a processor; median" in told and f"{mark('measured')} measured, before" in told
    )


def test_shares_add_up_to_the_modelled_cost():
    fig = cost_model.shares_figure(FIT)
    bars = [trace for trace in fig.data if trace.type == "bar"]
    sums = [sum(parts) for parts in zip(*(bar.x for bar in bars), strict=True)]
    prices = FIT.prices
    assert sums[0] == pytest.approx(prices["read_dram"] + 3 * prices["locked"])  # DRAM, get, before
    assert sums[3] == pytest.approx(prices["read_dram"] + 3 / 512 * prices["locked"])  # DRAM, put, after
    altmap_get = prices["read_pmem"] + prices["write_pmem"] + 3 * prices["locked"]
    assert sums[4] == pytest.approx(altmap_get)
    marks = next(trace for trace in fig.data if trace.type == "scatter")
    assert len(marks.x) == 12 and not {0, 1} & set(marks.y)  # no published get in DRAM


def test_residuals_fitted_and_foretold():
    fig = cost_model.residual_figure(FIT)
    fitted = next(trace for trace in fig.data if trace.name == "modelled")
    assert list(fitted.x) == pytest.approx([100 * value for value in FIT.residuals])
    foretold = next(trace for trace in fig.data if trace.name == "modelled without that time")
    assert all(abs(out) >= abs(seen) for out, seen in zip(foretold.x, fitted.x, strict=True))


def test_rounds():
    bars = {bar.name: dict(zip(bar.y, bar.x, strict=True)) for bar in cost_model.rounds_figure(published_rounds()).data}
    assert bars["before the RFC (published)"]["device-dax"] == pytest.approx(159 / 5.027)
    assert bars["after the RFC (published)"]["hugetlbfs"] == pytest.approx(1073 / 5.004)


def test_tables_say_where_their_numbers_come_from():
    told = repr(cost_model.seed_view(seed_table()))
    assert "◆ published" in told and "✕ modelled" in told and "measured" not in told
    assert re.search(r"127,004 MiB, altmap +put +4120 +563 +7\.3", told)
    told = repr(cost_model.prices_table(FIT))
    assert "96.80\xa0ns" in told and "0.66\xa0GB/s" in told and "✕ Modelled" in told
    told = repr(cost_model.limits_table(FIT))
    assert "each cost, at both sizes" in told and "+39.8%" in told and "never fitted" in told


def test_the_counts_are_those_of_the_specification():
    rows = {row[0]: row[1:] for row in cost_model.counts_table().rows}
    assert rows["pin_user_pages_fast"] == ["1,536 / 512 / 512", "1,536 / 2 / 512", "3 / 2 / 3"]
    assert rows["unpin_user_page_range_dirty_lock"] == ["1,024 / 512 / 512", "3 / 2 / 3", "3 / 2 / 3"]


def test_other_sets_of_prices_stand_beside_the_model():
    rows = cost_model.models_table([MODEL, WITH_DRAM_WRITES]).rows
    assert [row[0] for row in rows] == ["4", "5"]
    assert rows[0][-2:] == ["7.5%", "3.8%"] and rows[1][-2:] == ["4.4%", "2.7%"]
    assert rows[0][5] == "–" and float(rows[1][5]) > 0


def test_a_medium_that_is_assumed_is_called_extrapolated():
    table = cost_model.media_table([medium(name, FIT.media) for name in ("dram", "cxl")])
    assert [row[-1].split()[0] for row in table.rows] == ["modelled", "EXTRAPOLATED"]
    assert "never measured" in table.caption


def test_the_registration_table_marks_a_lower_bound():
    one = registration(16 << 30, 2 << 20, True, False, FIT)
    (row,) = cost_model.registration_table([("after", one)]).rows
    assert row[:2] == ["after", "8,192"] and row[7].startswith("≥\xa0") and row[4] == "24,576"


@pytest.mark.parametrize("name", ["seed-table", "pin-cost-shares", "cost-residuals", "rdma-rounds"])
def test_paper_figures_name_the_file_and_the_kinds(name):
    fig, inputs = draw(load()[name], Checkout.find())
    measured = ["seed_table.nc"] if name == "seed-table" else []
    assert [path.name for path in inputs.files] == ["numbers.json", *measured]
    assert {series.kind for series in inputs.series} == set(fig.layout.meta["origin"].split(", "))


def test_alt_texts_tell_the_numbers():
    for number in ("71", "22", "524", "127", "525", "513", "188", "4.1", "4.12", "563"):
        assert number in load()["seed-table"].alt
    medians = {key: np.median(ms) for key, ms in seed_timing.times(seed_timing.committed(Checkout.find())).items()}
    for key, ms in medians.items():
        if key.state == "after":
            left = ms / medians[key._replace(state="before")]
            assert left < 0.5 if key.phase == "put" else 0.9 < left < 1.1
    assert "31.6" in load()["rdma-rounds"].alt and "214.4" in load()["rdma-rounds"].alt
    assert f"{100 * FIT.residuals.min():.1f}".replace("-", "minus ") in load()["cost-residuals"].alt
