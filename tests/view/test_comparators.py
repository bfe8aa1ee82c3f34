# SPDX-License-Identifier: GPL-2.0-only
"""Table and figure of the comparators say what the Dataset holds, and of what provenance it is."""

import numpy as np
import pytest
import xarray as xr

from workbench.lab.comparators import AFTER, BEFORE, HUGETLB, PHASES, THP
from workbench.view.comparators import comparators_figure, comparators_table
from workbench.view.export import description
from workbench.view.palette import PROVENANCE
from workbench.view.summary import mark

MEMORY = [BEFORE, AFTER, THP, HUGETLB]


def dataset(thp_instructions=(10.0, 12.0), put_locked=3):
    """4 MiB: 1,024 pages, all counts twice those of 2 MiB; medians of ns are 40, 20 before and 30, 2.5 after."""
    locked = [[3072, 2048], [3072, 2 * put_locked], [6, 6], [6, 6]]
    touched = [[1024, 1024], [1024, 1024], [6, 1024], [6, 1024]]
    written = [[1024, 1024], [4, 4], [4, 4], [4, 4]]
    ns = np.array([[40, 20], [30, 2.5], [2, 2], [1, 2]])[:, :, None] * np.array([0.5, 1, 3])
    counts = {"locked": locked, "lines_touched": touched, "lines_written": written}
    return xr.Dataset(
        {name: (("memory", "phase"), values) for name, values in counts.items()}
        | {
            "ns": (("memory", "phase", "sample"), ns),
            "instructions": (("memory", "phase"), [[150.0, 100], [120, 10], list(thp_instructions), [np.nan, np.nan]]),
        },
        coords={"memory": MEMORY, "phase": list(PHASES), "kernel": ("memory", ["5.15", "5.17", "5.17", "5.17"])},
        attrs={"size": 4 << 20, "align": "2M", "pages_per_call": 512, "cpu": "a processor"},
    )


def test_the_table_has_counts_of_2_mib_and_ratios():
    table = comparators_table(dataset())
    rows = {(row[0], row[1]): list(row[2:]) for row in table.rows}
    assert rows[f"{BEFORE} (5.15)", "get"] == ["1,536", "512", "512", "40.0", "20.0 – 120.0", "1.00", "150.0"]
    assert rows[f"{AFTER} (5.17)", "put"] == ["3", "512", "2", "2.5", "1.2 – 7.5", "0.12", "10.0"]
    assert rows[f"{THP} (5.17)", "get"] == ["3", "3", "2", "2.0", "1.0 – 6.0", "1/20", "10.0"]
    assert rows[f"{HUGETLB} (5.17)", "put"][-1] == "–"
    for kind in ("derived", "measured", "captured"):
        assert f"{mark(kind)} {kind.capitalize()}" in table.caption
    assert "a processor" in table.caption


def points(fig, name, axis):
    trace = next(t for t in fig.data if t.name == name and (t.xaxis or "x") == axis)
    return dict(zip([round(y) for y in trace.y], trace.x, strict=True)), trace.marker.symbol


def test_the_figure_divides_by_device_dax_before():
    fig = comparators_figure(dataset())
    locked, symbol = points(fig, "locked operations (derived)", "x2")
    assert locked == pytest.approx({0: 1, 1: 3 / 1024, 2: 3 / 1024, 3: 3 / 1024})
    assert symbol == PROVENANCE["derived"].symbol
    measured, symbol = points(fig, "time (measured)", "x")
    assert measured == pytest.approx({0: 1, 1: 0.75, 2: 0.05, 3: 0.025})
    assert symbol == PROVENANCE["measured"].symbol
    captured, symbol = points(fig, "instructions (captured)", "x")
    assert captured == pytest.approx({0: 1, 1: 0.8, 2: 1 / 15})  # nothing is recorded of the last
    assert symbol == PROVENANCE["captured"].symbol
    alt = description(fig)[1]
    assert "a put takes 0.12 of the time measured, a get 0.75" in alt
    assert f"{AFTER}: 1.00 of the locked operations of a get, 1/341 of those of a put." in alt


@pytest.mark.parametrize("put_locked, ticks", [(3, 4), (0.01, 4)])
def test_no_point_lies_outside_the_axis(put_locked, ticks):
    fig = comparators_figure(dataset(put_locked=put_locked))
    low, high = fig.layout.xaxis.range
    for trace in fig.data:
        assert all(low < np.log10(x) < high for x in trace.x)
    assert len(fig.layout.xaxis.tickvals) == ticks == len(fig.layout.xaxis.ticktext)
