# SPDX-License-Identifier: GPL-2.0-only
"""The benchmark: twins that do what the engine does, ratios that are what the samples say, a run that ends in time."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from hashlib import sha256
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.lab import bars, bench, bench_kernels, bench_results, bench_starts, twins
from workbench.lab.bench import CASES, GIB, TIB, Case
from workbench.lab.bench_counting import COUNTED
from workbench.lab.bench_devices import RANDOM_WRITES
from workbench.lab.bench_images import IMAGES
from workbench.lab.bench_kernels import START_PFN
from workbench.lab.bench_pins import PHASES, PIN_CASES
from workbench.lab.bench_samples import Pace, Samples, interleave, rotated
from workbench.lab.checkout import Checkout
from workbench.mm import PageArray
from workbench.mm._jit import JIT
from workbench.mm.memmap import memmap
from workbench.series import kernel

needs_jit = pytest.mark.skipif(not JIT, reason="nothing is compiled")
HAS_GCC = shutil.which("gcc") is not None
needs_gcc = [pytest.mark.compiler, pytest.mark.skipif(not HAS_GCC, reason="no gcc")]


def needs_compiler(test):
    for mark in needs_gcc:
        test = mark(test)
    return test


@pytest.fixture(scope="module")
def checkout():
    return Checkout.find()


@pytest.fixture(scope="module")
def built(checkout):
    return twins.Twins(checkout)


def over(name, nr_pages, seed, start_pfn=START_PFN):
    """A Memmap of kernel ``name`` over ``nr_pages`` struct pages full of noise, the same for the same seed."""
    noise = np.random.default_rng(seed)
    room = np.empty(nr_pages * 8 + 8, np.uint64)
    pages = room[-(room.ctypes.data // 8) % 8 :][: nr_pages * 8].reshape(nr_pages, 8)
    pages[:] = noise.integers(0, 2**64, pages.shape, np.uint64)
    blocks = noise.integers(0, 2**64, -(-nr_pages // 8192), np.uint64)
    return memmap(kernel(name), pages, blocks, start_pfn)


def both(case, built, nr_pages, start, end, seed=1, start_pfn=START_PFN):
    """Engine and twin on equal memory: what each returns, and what each leaves."""
    left = []
    for side in ("engine", "gcc"):
        vm = over(case.tree, nr_pages, seed, start_pfn)
        bench_kernels.prepare(case, vm, start, end)
        result = (
            bench_kernels.run_engine(case, vm, start, end)
            if side == "engine"
            else bench_kernels.run_twin(case, vm, start, end, built)
        )
        left.append((result, sha256(vm.pages).hexdigest(), vm.pageblock_flags.tolist()))
    return left


# -- twins ---------------------------------------------------------------------------------------------------


@needs_compiler
@needs_jit
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_twin_and_engine_leave_the_same_bytes(case, built):
    """As they are measured: the second window of an array."""
    window = 1 << 18
    engine, twin = both(case, built, 2 * window, window, 2 * window)
    assert engine[0] == twin[0]
    assert engine[2] == twin[2]
    assert engine[1] == twin[1]


@needs_compiler
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@given(data=st.data())
@settings(max_examples=15 if JIT else 5)
def test_twin_and_engine_agree_on_any_shape(case, built, data):
    """Orders, starts in the middle of a pageblock, ranges that end inside a compound."""
    order = data.draw(st.integers(1, 10 if JIT else 4)) if case.order else 0
    step = 1 << order if kernel(case.tree).tree.has(4) or case.kernel == "prep_compound_page" else 1
    start = data.draw(st.integers(0, 600))
    length = data.draw(st.integers(1, 1500 if JIT else 60))
    if case.kernel in ("prep_compound_page", "put_pages"):
        length = -(-length // step) * step
    shape = Case(case.kernel, case.tree, order, before=None if case.before is None else min(case.before, order))
    rows = start + length + step
    engine, twin = both(shape, built, rows, start, start + length, seed=data.draw(st.integers(0, 9)))
    assert engine == twin


@needs_compiler
@needs_jit
@pytest.mark.parametrize(
    ("before", "after", "case"),
    [
        ("0xdead000000000400ull", "0xdead000000000401ull", "memmap_init_zone_device 5.17 order 9"),
        ("page->refcount = 1;", "page->refcount = 2;", "memmap_init_range 5.17 base"),
        ("compound_mapcount = -1", "compound_mapcount = 0", "memmap_init_zone_device 5.17 order 18"),
        ("MOVABLE = 1", "MOVABLE = 2", "memmap_init_zone_device_nt 5.16+0 base"),
        ("refcount, 1, __ATOMIC", "refcount, 2, __ATOMIC", "put_pages 5.16+0 base"),
        ("COMPOUND_DTOR = 1", "COMPOUND_DTOR = 2", "prep_compound_page 5.16+0 order 9"),
    ],
)
def test_a_twin_that_does_something_else_is_found(checkout, tmp_path, before, after, case):
    shutil.copytree(checkout.root / "benchmarks", tmp_path / "benchmarks")
    source = tmp_path / "benchmarks" / "twins.c"
    text = source.read_text()
    assert text.count(before) == 1
    source.write_text(text.replace(before, after))
    case = next(c for c in CASES if c.name == case)
    engine, twin = both(case, twins.Twins(Checkout(tmp_path)), 1 << 18, 0, 1 << 18)
    assert engine != twin


@needs_compiler
@pytest.mark.parametrize("name", ["6.1", "6.12", "5.10", "5.17-dedup"])
def test_twins_refuse_other_trees_and_layouts(built, name):
    with pytest.raises(WorkbenchError, match="trees 5.15 to 5.17"):
        built.put_pages(over(name, 1, 0), 0, 1, 0)


@needs_compiler
def test_a_source_that_gcc_refuses_is_named(checkout, tmp_path):
    shutil.copytree(checkout.root / "benchmarks", tmp_path / "benchmarks")
    with (tmp_path / "benchmarks" / "limits.c").open("a") as source:
        source.write("int broken(void) { return; }\n")
    with pytest.raises(WorkbenchError, match="limits.c"):
        twins.Twins(Checkout(tmp_path))


def test_without_gcc_it_says_what_to_install(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(WorkbenchError, match="apt-get install gcc"):
        twins.Twins(checkout)


@needs_compiler
def test_limits_do_to_each_line_what_they_say(built):
    def after(limit):
        vm = over("5.17", 100, 7)
        before = vm.pages.copy()
        built.limit(limit, vm.pages.ctypes.data, vm.pages.nbytes)
        return before, vm.pages

    assert not after("memset")[1].any()
    assert not after("nt_fill")[1].any()
    before, read = after("read")
    assert (read == before).all()
    before, once = after("locked_1")
    # the counter of a line lies in the upper half of its seventh word
    counters = (before[:, 6] >> np.uint64(32)) + np.uint64(1) & np.uint64(0xFFFF_FFFF)
    assert (once[:, 6] >> np.uint64(32) == counters).all()
    assert (np.delete(once, 6, axis=1) == np.delete(before, 6, axis=1)).all()
    before, thrice = after("locked_3")
    assert (thrice[:, 0] == before[:, 0] | np.uint64(4)).all()
    assert (thrice[:, 6] >> np.uint64(32) == (before[:, 6] >> np.uint64(32)) + np.uint64(1024) & 0xFFFF_FFFF).all()
    before, hot = after("read_hot_3")
    assert (np.delete(hot, [0, 2], axis=0) == np.delete(before, [0, 2], axis=0)).all()
    assert hot[0, 0] == before[0, 0] | np.uint64(4)
    assert hot[0, 6] >> np.uint64(32) == (before[0, 6] >> np.uint64(32)) + np.uint64(100) & 0xFFFF_FFFF
    assert hot[2, 2] & 0xFFFF_FFFF == (before[2, 2] & 0xFFFF_FFFF) + np.uint64(100) & 0xFFFF_FFFF
    before, twice = after("locked_2")
    assert (twice[:, 0] == before[:, 0] | np.uint64(4)).all()
    assert (twice[:, 6] == once[:, 6]).all()


@needs_compiler
def test_random_writes_reach_every_line_and_nothing_else(built):
    vm = over("5.17", 64, 7)
    before = vm.pages.copy()
    built.random_writes(vm.pages.ctypes.data, vm.pages.nbytes, 4000)
    assert (np.delete(vm.pages, 5, axis=1) == np.delete(before, 5, axis=1)).all()
    last = vm.pages[:, 5].astype(int)
    assert len(set(last)) == 64 and max(last) == 3999
    assert min(last) > 3000  # no line waits long: the writes are spread over all of them


# -- from samples to verdicts ----------------------------------------------------------------------------------

ABOUT = {
    "quick": 0,
    "interrupted": 0,
    "kernel_device_bytes": 128 * GIB,
    "kernel_sample_pages": 1 << 24,
    "random_writes": RANDOM_WRITES,
    "cpu": "a processor",
    "cores": 2,
    "memory_bytes": 24 * GIB,
    "load_average": "0.10",
    "linux": "6.1",
    "date": "2026-01-01T00:00:00+00:00",
    "engine_sha256": "0" * 64,
    **dict.fromkeys(("workbench", "python", "numba", "numpy", "gcc"), "1.2.3"),
}


def a_run(samples=7, quick=0, **changed):
    """A run in which all holds but for what is changed: seconds; ``pair``, ``spin`` and ``share`` are ratios."""
    seconds = {"engine": 1.0, "gcc": 1.0, "memset": 2.4, "nt_fill": 0.97, "read": 1.0, "locked_1": 1.0, "locked_2": 2.0}
    seconds |= {
        "small": 0.05,
        "large": 0.8,
        "pair": 0.42,
        "spin": 1.02,
        "warm": 0.7,
        "cold": 3.0,
        "share": 1.0,
    }
    # seconds of pinning, and what the limits beside take
    seconds |= {"base get": 3.3, "base put": 2.2, "9 get": 3.3, "9 put": 1.1, "once get": 0.25, "once put": 0.08}
    limits = {"base get": 3.0, "base put": 2.0, "9 get": 3.0, "9 put": 1.0}
    seconds |= {"counting": 1.5, "miscount": 0, "fault": 400e-9, "write": 20e-9, "probe": 1.05}
    seconds |= {"scan": 1.2, "dirty": 0.0015, "analytic": 0.025}
    seconds |= {"residual": 0.07, "other residuals": 0.03, "prices": 4} | changed
    found = Samples()
    for case in PIN_CASES:
        for phase in PHASES:
            what = f"{case.name.split()[-1]} {phase}"
            found.pins[case.name, phase, "engine"] = [(seconds[what], 9.0)] * samples
            found.pins[case.name, phase, "gcc"] = [(seconds[what] * seconds["gcc"], 9.0)] * samples
            if what in limits:
                found.pins[case.name, phase, "limit"] = [(limits[what], 9.0)] * samples
    for name in COUNTED:
        found.counting[name, "plain"] = [(2.0, 9.0)] * samples
        found.counting[name, "counted"] = [(2.0 * seconds["counting"], 9.0)] * samples
        found.miscounts[name] = [0] * samples
    found.miscounts[COUNTED[-1]][-1] = seconds["miscount"]
    found.probes["probe"], found.probes["init"] = [(seconds["probe"], 9.0)] * samples, [(1.0, 9.0)] * samples
    for image in IMAGES:
        found.images[image] = [(seconds[image], 9.0)] * samples
    found.residuals = [-seconds["residual"]] + [seconds["other residuals"]] * 11
    found.prices = seconds["prices"]
    for case in CASES:
        for side in ("engine", "gcc", *case.limits):
            found.kernels[case.name, side] = [(seconds[side], seconds[side])] * samples
    for device, name in ((bench.SMALL, "small"), (TIB, "large"))[: 1 if quick else 2]:
        found.reinit[device, 1] = [(seconds[name], seconds[name])] * samples
        found.reinit[device, 2] = [(0.01, seconds[name] * seconds["pair"] / 0.8)] * samples
        found.faults[device] = [(seconds["fault"] * (device >> 21), 9.0)] * samples
        found.writes[device] = [(seconds["write"] * RANDOM_WRITES, 9.0)] * samples
        found.spin[device, 1] = [(0.04, 0.04)] * samples
        found.spin[device, 2] = [(0.001, 0.04 * seconds["spin"])] * samples
    for start in bench_starts.STARTS:
        found.starts[start] = [(seconds[start] * seconds["share"], seconds[start])] * samples
    return bench.dataset(found, ABOUT | {"quick": quick})


def judged(run):
    return {bar.id: bar for bar in bars.bars(run)}


IDS = [
    "1",
    "2a",
    "2b",
    "2c",
    "3",
    "4a",
    "4b",
    "5a",
    "5b",
    "6a",
    "6b",
    "6c",
    "7a",
    "7b",
    "9a",
    "9b",
    "9c",
    "10a",
    "10b",
    "11a",
    "11b",
    "11c",
    "12a",
    "12b",
    "13",
    "14",
]


def test_a_good_run_holds_every_bar():
    found = judged(a_run())
    assert list(found) == IDS
    assert {id: bar.holds for id, bar in found.items()} == dict.fromkeys(found, True)
    assert found["4a"].value == pytest.approx(1.1)
    assert found["5a"].value == pytest.approx(1.1)
    assert found["6a"].value == pytest.approx(2.0)
    assert found["6b"].value == pytest.approx(13.2)
    assert found["6c"].value == pytest.approx(13.75)
    assert (found["9a"].value, found["9b"].value) == (4, pytest.approx(0.07))
    assert found["9c"].value == pytest.approx(((0.07**2 + 11 * 0.03**2) / 12) ** 0.5)
    assert (found["10a"].value, found["10b"].value) == (0, pytest.approx(1.5))
    assert found["11a"].value == pytest.approx(1.5)
    assert "an image of 1 TiB after 64" in found["11a"].text
    assert found["11b"].value == pytest.approx(25)
    assert "268,435,456" in found["11b"].text
    assert found["11c"].value == pytest.approx(1.2)
    assert found["13"].value == pytest.approx(20.0)
    assert "524,288 faults of 1 TiB, 0.21 s" in found["13"].text
    assert found["14"].value == pytest.approx(1.05)
    assert found["1"].value == pytest.approx(2.4)
    assert found["2b"].value == pytest.approx(0.97)
    assert found["3"].value == pytest.approx(1.0)
    assert found["7a"].value == pytest.approx(1.0)  # 0.8 s for sixteen times the pages of 0.05 s
    assert found["7b"].value == pytest.approx(0.525)
    assert found["12b"].value == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        ({"memset": 2.19}, {"1"}),
        ({"nt_fill": 0.91}, {"2a", "2c"}),
        ({"nt_fill": 0.87}, {"2a", "2b", "2c"}),
        ({"gcc": 0.9}, {"3"}),
        ({"large": 0.89, "pair": 0.4}, {"7a"}),
        ({"pair": 0.49}, {"7b"}),
        ({"9 put": 1.31}, {"4a", "6a"}),
        ({"base put": 2.31}, {"4b"}),
        ({"base get": 3.76}, {"5a"}),
        ({"9 get": 3.46}, {"5b"}),
        ({"once get": 0.34}, {"6b"}),
        ({"once put": 0.12}, {"6c"}),
        ({"prices": 5}, {"9a"}),
        ({"residual": 0.081}, {"9b"}),
        ({"other residuals": 0.037}, {"9c"}),
        ({"miscount": 1}, {"10a"}),
        ({"counting": 1.61}, {"10b"}),
        ({"fault": 801e-9}, {"13"}),
        ({"probe": 1.11}, {"14"}),
        ({"dirty": 0.00201}, {"11a"}),
        ({"analytic": 0.0401}, {"11b"}),
        ({"scan": 1.31}, {"11c"}),
        ({"warm": 1.6}, {"12a"}),
        ({"cold": 5.1}, {"12b"}),
    ],
)
def test_each_bar_can_fail(changed, failing):
    found = judged(a_run(**changed))
    assert {id for id, bar in found.items() if bar.holds is False} == failing
    assert all(bar.holds for id, bar in found.items() if id not in failing)


def test_the_limits_themselves_hold():
    found = judged(a_run(memset=2.2, nt_fill=0.92, engine=1.0, warm=1.5, cold=5.0))
    assert all(found[id].holds for id in ("1", "2a", "2c", "12a", "12b"))


def test_a_ratio_is_taken_within_a_repetition():
    """A machine that becomes slower half-way changes seconds, not ratios."""
    found = Samples()
    for case in CASES:
        found.kernels[case.name, "engine"] = [(pace * 1.05, 9.0) for pace in (1, 1, 1, 3, 3, 3, 3)]
        found.kernels[case.name, "gcc"] = [(pace * 1.0, 1.0) for pace in (1, 1, 1, 3, 3, 3, 3)]
    ratios = bars.kernel_ratios(bench.dataset(found, ABOUT))
    assert len(ratios) == len(CASES) + 2 * len(PIN_CASES)
    for case in CASES:
        assert ratios[case.name] == pytest.approx([1.05] * 7)


def test_the_slowest_kernel_decides_bar_3():
    run = a_run()
    run.kernel_seconds.loc[{"case": "put_pages 5.16+0 base", "side": "engine"}] = 1.09
    assert judged(run)["3"].holds
    run.kernel_seconds.loc[{"case": "memmap_init_range 5.17 base", "side": "engine"}] = 1.11
    bar = judged(run)["3"]
    assert not bar.holds
    assert "memmap_init_range 5.17 base" in bar.text
    assert bar.value == pytest.approx(1.11)


def test_a_kernel_without_enough_samples_withholds_bar_3():
    run = a_run()
    run.kernel_seconds.loc[{"case": "put_pages 5.16+0 base"}][4:] = np.nan
    run.kernel_seconds.values[[c.name for c in CASES].index("put_pages 5.16+0 base"), :, 4:] = np.nan
    bar = judged(run)["3"]
    assert bar.holds is None
    assert bar.reason.startswith("4 samples")


def test_one_case_that_counts_slowly_decides_bar_10():
    run = a_run()
    run.counting_seconds.loc[{"counted": COUNTED[2], "form": "counted"}] = 3.3
    bar = judged(run)["10b"]
    assert not bar.holds and COUNTED[2] in bar.text and bar.value == pytest.approx(1.65)


def test_a_slow_pin_decides_bar_3():
    run = a_run()
    run.pin_seconds.loc[{"pin_case": "5.17 order 9 once", "phase": "put", "pin_side": "gcc"}] = 0.07
    bar = judged(run)["3"]
    assert not bar.holds
    assert "unpin_user_page_range 5.17 order 9 once" in bar.text


def test_a_run_of_before_pinning_was_measured_is_still_read():
    run = a_run()
    young = [name for name, values in run.data_vars.items() if not {"case", "threads", "start"} & set(values.dims)]
    assert len(young) == 8
    found = judged(run.drop_vars(young))
    old = {"1", "2a", "2b", "2c", "3", "7a", "7b", "12a", "12b"}
    assert {id for id, bar in found.items() if bar.holds is None} == set(IDS) - old
    assert all(bar.reason for bar in found.values() if bar.holds is None)


def test_four_samples_are_no_verdict():
    for id, bar in judged(a_run(samples=4)).items():
        if id in ("9a", "9b", "9c", "10a"):  # not from samples of time
            continue
        assert bar.holds is None
        assert "4" in bar.reason
        assert bar.samples == 4


def test_nothing_measured_is_no_verdict():
    found = judged(bench.dataset(Samples(), ABOUT))
    assert {bar.holds for bar in found.values()} == {None}
    assert all(bar.value is None and bar.reason for bar in found.values())


def test_two_threads_are_judged_only_on_idle_cores():
    busy = judged(a_run(spin=1.9, pair=0.8))["7b"]
    assert busy.holds is None
    assert "two idle cores in 0 of 7" in busy.reason
    run = a_run(pair=0.8)
    run.spin_seconds.values[:, 1, 5:] *= 2
    assert judged(run)["7b"].holds is False  # five idle repetitions are enough
    run.spin_seconds.values[:, 1, 4:] *= 2
    assert judged(run)["7b"].holds is None


def test_a_fresh_process_without_a_core_is_not_judged():
    starved = judged(a_run(warm=3.0, share=0.4))["12a"]
    assert starved.holds is None
    assert "40%" in starved.reason
    assert judged(a_run(warm=3.0, share=0.9))["12a"].holds is False
    assert judged(a_run(warm=1.4, share=0.4))["12a"].holds is True


def test_quick_says_what_it_left_out():
    run = a_run(quick=1)
    run.attrs["reason_scale"] = "left out"
    found = judged(run)
    assert found["7a"].holds is None and found["7a"].reason == "left out"
    assert "64 GiB instead of 1 TiB" in found["7b"].text
    assert found["7b"].holds is None and found["7b"].reason == "left out"
    assert found["7b"].value > 0
    assert "quick" in bench_results.as_text(run)[0]


# -- what is kept and told -------------------------------------------------------------------------------------


def check_json(said):
    """The agreed form of ``--json``, all of it plain JSON."""
    said = json.loads(json.dumps(said))
    assert said["bars"]
    for bar in said["bars"]:
        assert {"id", "text", "limit", "value", "holds"} <= set(bar)
        assert bar["holds"] in (True, False, None)
        assert (bar["holds"] is None) == ("reason" in bar)
        assert bar["value"] is None or isinstance(bar["value"], float)
        assert bar["value"] is not None or bar["holds"] is None
    assert [bar["id"] for bar in said["bars"]] == IDS
    return said


def test_json_of_a_full_and_an_empty_run():
    assert len(check_json(bars.as_json(a_run()))["kernels"]) == len(CASES) + 2 * len(PIN_CASES)
    assert check_json(bars.as_json(bench.dataset(Samples(), ABOUT)))["kernels"] == []


def test_a_run_survives_its_file(tmp_path):
    run = a_run()
    run.kernel_seconds.values[0, 0, -1] = np.nan
    bench_results.write(tmp_path / "new" / "run.nc", run)
    read = bench_results.read(tmp_path / "new" / "run.nc")
    assert read.identical(run)
    with pytest.raises(WorkbenchError, match="make bench"):
        bench_results.read(tmp_path / "none.nc")


@pytest.mark.parametrize("changed", [{"quick": 1}, {"interrupted": 1}])
def test_only_a_complete_run_is_published(tmp_path, changed):
    run = a_run()
    run.attrs |= changed
    with pytest.raises(WorkbenchError, match="does not replace"):
        bench_results.publish(Checkout(tmp_path), run)
    assert not list(tmp_path.iterdir())


def test_publishing_writes_the_dataset_and_the_tables(tmp_path, checkout):
    (tmp_path / "docs").mkdir()
    shutil.copy(checkout.root / bench_results.PAGE, tmp_path / bench_results.PAGE)
    run = a_run(memset=2.31)
    bench_results.publish(Checkout(tmp_path), run)
    page = (tmp_path / bench_results.PAGE).read_text()
    assert "| 2.31 |" in page
    assert bench_results.read(tmp_path / bench_results.COMMITTED).identical(run)
    assert bench_results.refresh(page, run) == page


def test_a_page_without_its_marks_is_refused(checkout):
    page = (checkout.root / bench_results.PAGE).read_text()
    with pytest.raises(WorkbenchError, match="no place for the table 'bars'"):
        bench_results.refresh(page.replace("<!-- end: bars -->", ""), a_run())


def test_the_tables_of_the_docs_are_those_of_the_committed_run(checkout):
    page = (checkout.root / bench_results.PAGE).read_text()
    run = bench_results.read(checkout.root / bench_results.COMMITTED)
    assert bench_results.refresh(page, run) == page


def test_the_committed_run_is_complete_and_says_where_it_was_taken(checkout):
    run = bench_results.read(checkout.root / bench_results.COMMITTED)
    assert run.attrs["provenance"] == "measured"
    assert not run.attrs["quick"] and not run.attrs["interrupted"]
    for name in ("cpu", "cores", "memory_bytes", "date", "numba", "numpy", "gcc", "python", "engine_sha256"):
        assert run.attrs[name]
    assert run.case.values.tolist() == [case.name for case in CASES]
    for case in CASES:
        for side in ("engine", "gcc", *case.limits):
            assert np.isfinite(run.kernel_seconds.sel(case=case.name, side=side)).sum() >= 2 * bars.LEAST_SAMPLES
    for name, values in run.data_vars.items():
        assert np.isfinite(values).any(), name


# -- running it --------------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """A quick run on 4 GiB of device, whatever it takes; its four windows hold one compound of order 18 each."""
    monkeypatch.setattr(bench, "SMALL", 4 * GIB)
    monkeypatch.setattr(bench, "SECONDS_OF_QUICK", 300.0)


def test_every_side_begins_a_case_now_and_then():
    sides = ("engine", "gcc", "memset")
    orders = [rotated(sides, repetition, 2) for repetition in range(6)]
    assert all(sorted(order) == sorted(sides * 2) for order in orders)
    assert {order[0] for order in orders} == set(sides)
    before = [pair for order in orders for pair in pairwise(order)]
    assert {("engine", "gcc"), ("gcc", "engine"), ("memset", "engine"), ("engine", "memset")} <= set(before)


@needs_compiler
@needs_jit
@pytest.mark.slow
def test_a_run_has_every_sample_it_promises(checkout, small):
    run = bench.measure(checkout, quick=True, repetitions=2)
    assert run.attrs["interrupted"] == 0
    for case in CASES:
        for side in ("engine", "gcc", *case.limits):
            seconds = run.kernel_seconds.sel(case=case.name, side=side)
            assert np.isfinite(seconds).sum() == 2 * 2 * case.rounds
            assert (seconds.sel(clock="wall") > 0).any()
    for case in PIN_CASES:
        for side in ("engine", "gcc", *(("limit",) if case.limits else ())):
            assert np.isfinite(run.pin_seconds.sel(pin_case=case.name, pin_side=side)).sum() == 2 * 2 * 2
    for name in (
        "image_seconds",
        "reinit_seconds",
        "fault_seconds",
        "write_seconds",
        "probe_seconds",
        "counting_seconds",
    ):
        assert (run[name].sel(clock="wall") > 0).all()
    assert run.miscounts.shape == (len(COUNTED), 2) and not run.miscounts.any()
    assert run.reinit_seconds.shape == (1, 2, 2, 2)
    assert "--quick" in run.attrs["reason_scale"]
    check_json(bars.as_json(run))


@needs_compiler
@needs_jit
def test_an_interrupt_keeps_what_was_measured(checkout, small, monkeypatch):
    calls = defaultdict(int)
    limit = twins.Twins.limit

    def interrupted(self, name, address, nbytes):
        calls[name] += 1
        if calls["locked_2"] == 4:  # in the first repetition that counts: warming up, kernels run it twice, pins once
            raise KeyboardInterrupt
        limit(self, name, address, nbytes)

    monkeypatch.setattr(twins.Twins, "limit", interrupted)
    run = bench.measure(checkout, quick=True, repetitions=3)
    assert run.attrs["interrupted"] == 1
    assert np.isfinite(run.kernel_seconds.sel(case="memmap_init_zone_device 5.17 order 9", side="gcc")).sum() == 2
    assert np.isnan(run.kernel_seconds.sel(case="put_pages 5.17 order 9")).all()
    assert judged(run)["3"].holds is None
    check_json(bars.as_json(run))


@needs_compiler
def test_a_window_that_cuts_a_compound_is_refused(built):
    array = PageArray(kernel("5.17"), START_PFN, 1 << 18)
    with pytest.raises(WorkbenchError, match="no whole number of the largest compounds"):
        interleave(bench_kernels.measure_kernels(array, 4, built, Samples(), Pace(1)))


COUNT_COMPILATIONS = """
import json, sys
from numba.core import event

class Names(event.Listener):
    def __init__(self):
        self.names = []
    def on_start(self, e):
        self.names.append(e.data["dispatcher"].py_func.__name__)
    def on_end(self, e):
        pass

names = Names()
event.register("numba:compile", names)
from workbench.lab import first_result
first_result.main()
json.dump(names.names, sys.stderr)
"""


@needs_jit
@pytest.mark.slow
def test_a_first_result_compiles_little(checkout, tmp_path):
    """What a cold start takes, told without a clock: functions that numba compiles, its own among them.

    Copying a row as a whole, for example, compiles some forty more for the text of an error message.
    """
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", COUNT_COMPILATIONS]
    ran = subprocess.run(command, cwd=checkout.root, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    compiled = json.loads(ran.stderr)
    assert "memmap_init_zone_device_nt" in compiled
    assert len(compiled) <= 36, sorted(compiled)


@needs_compiler
@needs_jit
@pytest.mark.slow
def test_a_quick_run_ends_within_45_seconds(checkout):
    began = time.monotonic()
    run = bench.measure(checkout, quick=True, started=began)
    said = check_json(bars.as_json(run))
    assert time.monotonic() - began < 45
    assert said["quick"] and said["device_bytes"] == 64 * GIB
