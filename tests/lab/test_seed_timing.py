# SPDX-License-Identifier: GPL-2.0-only
"""The cover letter's runs on this machine: each repetition is a time, states take turns, a run says what it is of."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.mm.support import needs_jit
from workbench.errors import WorkbenchError
from workbench.lab import seed_timing
from workbench.lab.bench_results import read
from workbench.lab.checkout import Checkout
from workbench.lab.seed_table import SIZES_MIB, Key, keys
from workbench.lab.seed_timing import COMMITTED, LAST, committed, keep, measure, times, where
from workbench.mm.memmap import COUNTS, REFCOUNT_SHIFT


@needs_jit
def test_a_small_run(monkeypatch):
    pinners = []
    turn = seed_timing._turn

    def seen(pinner, nr_pages, kept):
        turn(pinner, nr_pages, kept)
        counts = pinner.vm.pages[:nr_pages, COUNTS] >> REFCOUNT_SHIFT
        pinners.append((pinner.case.tree, nr_pages, counts))

    monkeypatch.setattr(seed_timing, "_turn", seen)
    run = measure(Checkout.find(), (2, 4), 2, progress=False)
    assert dict(run.seconds.sizes) == {"size_mib": 2, "state": 2, "phase": 2, "repetition": 2, "clock": 2}
    assert (run.seconds > 0).all() and (run.seconds < 1).all()
    # Before and with the series take turns, and begin in turn.
    assert [(tree, pages) for tree, pages, _ in pinners[:6]] == [
        ("5.16", 512), ("5.17", 512), ("5.16", 1024), ("5.17", 1024), ("5.16", 512), ("5.17", 512)
    ]  # fmt: skip
    # Every pin was released: one reference of each base page, one of each compound page.
    for tree, nr_pages, counts in pinners:
        assert counts.sum() == (nr_pages if tree == "5.16" else nr_pages // 512)
    assert list(times(run)) == [Key(size, False, phase, state) for size in (2, 4) for phase in ("get", "put")
                                for state in ("before", "after")]  # fmt: skip
    at = run.seconds.sel(size_mib=4, state="after", phase="put", clock="cpu")
    assert times(run)[Key(4, False, "put", "after")] == pytest.approx((at * 1e3).values)


@needs_jit
def test_the_first_turn_warms_up(monkeypatch):
    def numbered(pinner, nr_pages, kept):
        for times_ in kept:
            times_.append((float(len(times_)), 0.0))

    monkeypatch.setattr(seed_timing, "_turn", numbered)
    run = measure(Checkout.find(), (2,), 3, progress=False)
    assert (run.seconds.sel(clock="cpu") == [1.0, 2.0, 3.0]).all()


def test_pages_that_are_not_pinned_are_no_time():
    pinner = SimpleNamespace(prepare=lambda *_: None, get=lambda *_: 511)
    with pytest.raises(WorkbenchError, match="511 of 512 pages"):
        seed_timing._turn(pinner, 512, [[], []])


def test_without_the_jit_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(seed_timing, "JIT", False)
    with pytest.raises(WorkbenchError, match="JIT is off"):
        measure(Checkout.find())


def test_the_committed_run_says_what_it_is_of():
    run = committed(Checkout.find())
    assert (run.attrs["provenance"], run.attrs["struct_pages_in"]) == ("measured", "DRAM")
    assert tuple(run.size_mib.values) == SIZES_MIB[False] and run.sizes["repetition"] == 10
    assert run.kernel.values.tolist() == ["5.16", "5.17"]
    assert not np.isnan(run.seconds).any() and (run.seconds > 0).all()
    assert re.fullmatch(r"[0-9a-f]{64}", run.attrs["engine_sha256"])
    for name in ("date", "cpu", "cores", "memory_bytes", "linux", "python", "numba", "numpy", "workbench"):
        assert run.attrs[name], name
    assert run.attrs["date"][:10] in where(run) and "struct pages in DRAM" in where(run)
    # What the letter ran with an altmap has no measured time, everything else has.
    assert set(times(run)) == {key for key in keys() if not key.altmap}


def test_in_the_committed_run_releasing_gains_at_both_sizes_and_pinning_does_not():
    ms = {key: np.median(values) for key, values in times(committed(Checkout.find())).items()}
    for size in SIZES_MIB[False]:
        assert ms[Key(size, False, "put", "before")] > 1.5 * ms[Key(size, False, "put", "after")]
        # The figure's caption says so.
        assert ms[Key(size, False, "get", "before")] < 1.1 * ms[Key(size, False, "get", "after")]


def test_only_the_letters_sizes_become_the_committed_run(tmp_path):
    run, checkout = committed(Checkout.find()), replace(Checkout.find(), root=tmp_path)
    assert keep(checkout, run) == tmp_path / LAST and read(tmp_path / LAST).equals(run)
    with pytest.raises(WorkbenchError, match="Measure both sizes"):
        keep(checkout, run.isel(size_mib=[0]), update=True)
    assert not (tmp_path / COMMITTED).exists()
    assert keep(checkout, run, update=True) == tmp_path / COMMITTED
