# SPDX-License-Identifier: GPL-2.0-only
"""``workbench cost`` and ``workbench published``: what they print where, and their exit status."""

import csv
import io
import json
import sys

import pytest

from workbench import cli
from workbench.lab.checkout import Checkout


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in this process: exit status, standard output, standard error."""

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["workbench", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err

    return command


def test_json_of_the_cost_model(run):
    status, out, err = run("cost", "--json")
    told = json.loads(out)
    assert (status, err, list(told)) == (0, "", ["parameters", "published"])
    assert len(told["parameters"]) <= 4 and len(told["published"]) == 12
    assert max(abs(row["residual"]) for row in told["published"]) <= 0.08
    assert sum(row["residual"] ** 2 for row in told["published"]) / 12 <= 0.04**2


def test_the_cost_model_as_text(run):
    status, out, _ = run("cost")
    assert status == 0 and "write_pmem" in out and "root mean square" in out and "left out" in out


def test_the_table(run):
    rows = list(csv.DictReader(io.StringIO(run("cost", "--table", "csv")[1])))
    assert len(rows) == 28 + 8 and [row["kind"] for row in rows].count("measured") == 8
    assert run("cost", "--table", "latex")[1].startswith("% SPDX-License-Identifier")
    assert "published" in run("cost", "--table", "text")[1].splitlines()[0]


def test_a_run_of_ones_own(run, monkeypatch, tmp_path):
    from workbench.lab import seed_timing

    taken = seed_timing.committed(Checkout.find())
    taken["seconds"] = taken.seconds * 0 + 0.25
    kept = []
    monkeypatch.setattr(seed_timing, "measure", lambda checkout: taken)
    monkeypatch.setattr(
        seed_timing, "keep", lambda checkout, run, update: kept.append(update) or checkout.root / seed_timing.LAST
    )
    status, out, err = run("cost", "--measure")
    assert (status, err, kept) == (0, f"written: {seed_timing.LAST}\n", [False])
    assert out.count("250 [250-250]") == 8 and "1.00" in out
    assert "250,250,250" in run("cost", "--table", "csv", "--measure", "--update")[1] and kept == [False, True]


def test_ctrl_c_leaves_the_run_that_there_is(run, monkeypatch):
    from workbench.lab import seed_timing

    def pressed(checkout):
        raise KeyboardInterrupt

    path = Checkout.find().root / seed_timing.COMMITTED
    before = path.read_bytes()
    monkeypatch.setattr(seed_timing, "measure", pressed)
    assert run("cost", "--measure", "--update")[:2] == (130, "") and path.read_bytes() == before


def test_a_run_is_taken_where_one_is_asked_for(run):
    status, out, err = run("cost", "--update")
    assert (status, out) == (2, "") and "Say --measure as well" in err
    status, out, err = run("cost", "--json", "--measure")
    assert (status, out) == (2, "") and "ask for one of them" in err


def test_another_medium_is_labelled(run, tmp_path):
    assert run("cost", "--medium", "hbm")[1].startswith("EXTRAPOLATED (hbm), no measurement behind it")
    status, out, err = run("cost", "--medium", "tape")
    assert (status, out) == (2, "") and "no medium 'tape'" in err
    path = tmp_path / "m.json"
    path.write_text('{"name": "m", "read_ns": 1, "write_ns": 2, "locked_ns": 3, "why": "a guess"}')
    assert "a guess (from m.json)" in run("cost", "--medium", str(path))[1]


def test_one_thing_at_a_time(run):
    status, out, err = run("cost", "--json", "--medium", "cxl")
    assert (status, out) == (2, "") and "ask for one of them" in err


def test_published_numbers(run):
    status, out, err = run("published", "--json")
    told = json.loads(out)
    assert (status, err) == (0, "") and len(told["numbers"]) > 50
    assert {number["source"] for number in told["numbers"]} <= set(told["sources"])
    text = run("published", "seed-16384-put")[1]
    assert "~71 ms -> ~22 ms" in text and "is not the gain" in text and "altmap" not in text
    status, out, err = run("published", "x")
    assert (status, out) == (2, "") and "begins with 'x'" in err
