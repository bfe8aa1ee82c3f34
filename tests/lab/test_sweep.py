# SPDX-License-Identifier: GPL-2.0-only
"""A sweep goes on where it stopped, keeps every sample, and keeps measured and modelled apart."""

import numpy as np
import pytest
import xarray as xr

from workbench.errors import WorkbenchError
from workbench.lab.cost import seed_fit
from workbench.lab.media import medium
from workbench.lab.sweep import Point, gains, medians, points, sweep

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
ABOUT = {"cpu": "a processor", "engine_sha256": "0"}
SIZES, ALIGNS = (64 * MIB, GIB), (4 * KIB, 2 * MIB, GIB)


class Clock:
    """Measures by arithmetic: 8 ns a page for get; for put 6 ns before and 2 ns after; samples 1, 2, ... % slower."""

    def __init__(self, fails_at=None):
        self.asked, self.fails_at = [], fails_at

    def __call__(self, point, samples):
        if len(self.asked) == self.fails_at:
            raise KeyboardInterrupt
        self.asked.append(point)
        pages = point.size // 4096
        put = 6 if point.state == "before" else 2
        slower = [1 + 0.01 * sample for sample in range(samples)]
        return {"get": [8e-9 * pages * one for one in slower], "put": [put * 1e-9 * pages * one for one in slower]}


def run(path, clock, **changes):
    arguments = {"sizes": SIZES, "aligns": ALIGNS, "about": ABOUT, "samples": 3, "progress": False} | changes
    return sweep(path, clock, **arguments)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file with the whole sweep, and its Dataset."""
    path = tmp_path_factory.mktemp("sweep") / "s.nc"
    return path, run(path, Clock())


def test_a_device_has_a_multiple_of_its_align():
    there = list(points(SIZES, ALIGNS))
    assert len(there) == 2 * (2 + 3) and Point(64 * MIB, GIB, "after") not in there
    assert [point.state for point in there[:2]] == ["before", "after"]


def test_every_sample_is_kept_by_the_page(whole):
    path, done = whole
    one = done.measured_ns.sel(size=GIB, align=2 * MIB, state="after")
    assert one.sel(phase="put").values == pytest.approx([2, 2.02, 2.04])
    assert one.sel(phase="get").values == pytest.approx([8, 8.08, 8.16])
    assert np.isnan(done.measured_ns.sel(size=64 * MIB, align=GIB)).all()
    assert (done.measured_ns.attrs["kind"], done.modelled_ns.attrs["kind"]) == ("measured", "modelled")
    xr.testing.assert_identical(xr.load_dataset(path, engine="h5netcdf"), done)


def test_a_whole_sweep_measures_nothing_again(whole):
    clock = Clock()
    xr.testing.assert_identical(run(whole[0], clock), whole[1])
    assert clock.asked == []


def test_modelled_numbers_are_those_of_the_media(tmp_path):
    media = [medium(name, seed_fit().media) for name in ("dram", "pmem", "cxl")]
    done = run(tmp_path / "s.nc", Clock(), media=media, sizes=SIZES[:1], aligns=(2 * MIB,))
    prices = seed_fit().prices
    one = done.modelled_ns.sel(size=64 * MIB, align=2 * MIB, state="before", phase="get")
    assert float(one.sel(medium="dram")) == pytest.approx(prices["read_dram"] + 3 * prices["locked"])
    assert done.label.sel(medium="cxl").item().startswith("EXTRAPOLATED")


def test_an_interrupted_sweep_goes_on(tmp_path, whole):
    path, first, second = tmp_path / "s.nc", Clock(fails_at=4), Clock()
    with pytest.raises(KeyboardInterrupt):
        run(path, first)
    assert int(np.isfinite(xr.load_dataset(path, engine="h5netcdf").measured_ns).sum()) == 4 * 2 * 3
    done = run(path, second)
    assert first.asked + second.asked == list(points(SIZES, ALIGNS))
    xr.testing.assert_identical(done, whole[1])


@pytest.mark.parametrize(
    "change", [{"sizes": (GIB,)}, {"samples": 4}, {"about": ABOUT | {"engine_sha256": "1"}}, {"aligns": ALIGNS[:2]}]
)
def test_another_sweep_is_not_mixed_in(whole, change):
    path, _ = whole
    before = path.read_bytes()
    with pytest.raises(WorkbenchError, match="holds another sweep"):
        run(path, Clock(), **change)
    assert path.read_bytes() == before


def test_a_measure_that_gives_too_few_is_refused(tmp_path):
    with pytest.raises(WorkbenchError, match="instead of 3"):
        run(tmp_path / "s.nc", lambda point, samples: {"get": [1.0], "put": [1.0]})


def test_medians_spread_and_gains(whole):
    _, done = whole
    told = medians(done).sel(size=GIB, align=GIB, state="before", phase="put")
    assert (float(told["median"]), float(told.least), float(told.greatest)) == pytest.approx((6.06, 6, 6.12))
    gain = gains(done).sel(size=GIB, align=2 * MIB)
    assert float(gain.measured.sel(phase="put")) == pytest.approx(3)
    assert float(gain.measured.sel(phase="get")) == pytest.approx(1)
    assert float(gain.modelled.sel(phase="get", medium="pmem")) == pytest.approx(4.0, abs=0.05)
    # an align of 4 KiB has no compound pages
    assert float(gains(done).modelled.sel(size=GIB, align=4 * KIB, phase="put", medium="pmem")) == 1
