# SPDX-License-Identifier: GPL-2.0-only
"""The command ``workbench``: what it prints where, and its exit status."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import workbench
from tests.lab.captures.recorder import GIB, MIB, Run
from workbench import cli

ROOT = Path(__file__).resolve().parents[1]
CAPTURES = ROOT / "data" / "captures"
COMMAND = [sys.executable, "-c", "from workbench.cli import main; main()"]


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in this process: exit status, standard output, standard error."""

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["workbench", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err

    return command


def small_run(name="k-small", passes=True):
    run = Run("6.1", name)
    run.boot_persistent((5 * GIB, 9 * GIB))
    data, _ = run.create_namespace(GIB, 2 * MIB, "mem")
    run.state("online", [(data, 8)])
    if not passes:
        run.arrays["00.online.span0"][3, 5] = 77
    return run


def test_version(run):
    assert run("--version") == (0, f"{workbench.__version__}\n", "")


@pytest.mark.parametrize(
    "words", [["--help"], ["captures", "--help"], ["captures", "verify", "--help"], ["figures", "--help"]]
)
def test_help(words, run):
    status, out, err = run(*words)
    assert (status, err) == (0, "")
    assert "Usage:" in out


def test_every_command_is_in_the_help(run):
    _, out, _ = run("--help")
    for command in ("captures", "overhead", "figures"):
        assert f" {command} " in out


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["--nonsense"],
        ["captures", "nonsense"],
        ["captures", "verify"],
        ["captures", "verify", "nowhere"],
        ["captures", "verify", str(ROOT / "tests")],
        ["overhead", "--size", "3x"],
        ["overhead", "--size", "64K"],
        ["overhead", "--size", "-1G"],
        ["overhead", "--size", "999999999999T"],
        ["overhead", "--size", "2M", "--align", "1G"],
        ["overhead", "--align", "8K"],
        ["overhead", "--map", "disk"],
        ["overhead", "--kernel", "4.19"],
        ["overhead", "--start", "4097"],
        ["overhead", "--check", "nowhere"],
        ["overhead", "--check", str(ROOT / "README.md")],
        ["figures", "--only", "no-such-figure"],
    ],
    ids=" ".join,
)
def test_a_request_that_is_refused_is_one_message_and_status_2(words, run):
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert err
    assert "Traceback" not in err


def test_a_refusal_says_who_speaks_and_what_to_do(run):
    status, out, err = run("captures", "verify", "nowhere")
    assert (status, out) == (2, "")
    assert err == ("workbench: no capture.json in nowhere or one folder below it. Name the folder of a recorded run.\n")


# captures verify


def test_verify_passes_with_status_0(run, tmp_path):
    status, out, err = run("captures", "verify", small_run().write(tmp_path))
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "k-small: kernel 6.1"
    assert lines[1].split()[:2] == ["equal", "online"]
    assert lines[2] == "1 runs, states and cases: 1 equal, 0 different, 0 not-yet, 0 not-replayable; 0 results assumed."
    assert lines[3] == (
        "Not compared: milliseconds in log lines; nr_foll_pin_*; page-table frames; "
        "user addresses beyond their residue; memory_kB."
    )


def test_verify_of_a_difference_is_status_1_and_names_it(run, tmp_path):
    status, out, err = run("captures", "verify", small_run(passes=False).write(tmp_path))
    assert (status, err) == (1, "")
    assert out.splitlines()[2].strip().startswith("pfn 0x140203 word 5: recorded 000000000000004d (tail: private 77)")


def test_verify_of_what_is_out_of_reach_is_status_1(run, tmp_path):
    unknown = small_run()
    unknown.do("an_op_of_tomorrow", {"ok": True})
    unknown.state("after it", [(0x140200, 8)])
    status, out, err = run("captures", "verify", unknown.write(tmp_path))
    assert (status, err) == (1, "")
    assert "equal          online" in out
    assert "not-yet        after it" in out


def test_a_recorded_run_passes_with_status_0(run):
    status, out, _ = run("captures", "verify", CAPTURES / "k6.1-static-2M-mem")
    assert status == 0
    assert "0 different, 0 not-yet" in out
    assert "equal          hwpoison_madvise_tail" in out


def test_verify_of_a_malformed_run_is_status_2(run, tmp_path):
    folder = small_run().write(tmp_path)
    (folder / "pages.npz").write_bytes(b"PK nonsense")
    status, out, err = run("captures", "verify", folder)
    assert (status, out) == (2, "")
    assert err.startswith(f"workbench: {folder}: k-small/pages.npz is no sound zip archive")
    assert err.count("\n") == 1


@pytest.mark.parametrize("passes", [True, False])
def test_a_run_that_is_refused_leaves_the_others_their_reports(passes, run, tmp_path):
    """The middle one contradicts itself in its actions, so it is refused as late as can be."""
    small_run("a").write(tmp_path)
    twice = small_run("b")
    twice.capture["states"][0]["actions"] *= 2
    refused = twice.write(tmp_path)
    small_run("c", passes=passes).write(tmp_path)
    status, out, err = run("captures", "verify", tmp_path)
    assert status == 2
    assert [line.split(":")[0] for line in out.splitlines() if ": kernel" in line] == ["a", "c"]
    assert err.startswith(f"workbench: {refused}: boot comes a second time")
    status, out, err = run("captures", "verify", "--json", tmp_path)
    assert status == 2
    assert [capture["name"] for capture in json.loads(out)["captures"]] == ["a", "c"]
    assert f"workbench: {refused}: boot comes a second time" in err


def test_json_of_nothing_but_refused_runs_is_empty(run, tmp_path):
    folder = small_run().write(tmp_path)
    (folder / "pages.npz").unlink()
    status, out, err = run("captures", "verify", "--json", folder)
    assert (status, json.loads(out)) == (2, {"captures": []})
    assert "pages.npz is missing" in err


def test_verify_takes_runs_and_folders_of_runs(run, tmp_path):
    small_run("b").write(tmp_path / "several")
    small_run("a").write(tmp_path / "several")
    alone = small_run("alone").write(tmp_path)
    status, out, _ = run("captures", "verify", alone, tmp_path / "several", "--json")
    assert status == 0
    assert [capture["name"] for capture in json.loads(out)["captures"]] == ["alone", "a", "b"]
    small_run("a", passes=False).write(tmp_path / "several")
    assert run("captures", "verify", alone, tmp_path / "several")[0] == 1


def test_json_stands_alone_on_standard_output(run):
    """The whole recorded set; what is never compared is told on standard error."""
    status, out, err = run("captures", "verify", "--json", CAPTURES)
    assert status == 0
    content = json.loads(out)
    recorded = sorted(path.parent.name for path in CAPTURES.glob("*/capture.json"))
    assert [capture["name"] for capture in content["captures"]] == recorded
    states = [s for c in content["captures"] for s in c["states"] if s["status"] != "not-replayable"]
    assert len(states) > 200
    assert all((s["status"], s["bytes_different"]) == ("equal", 0) and s["pages"] > 0 for s in states)
    assert err.splitlines()[-1].startswith("Not compared: ")


def test_a_progress_bar_never_reaches_standard_output(run, tmp_path, monkeypatch):
    """It appears after two seconds: on this clock, at once."""
    clock = iter(range(0, 10**6, 10))
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock))
    status, out, err = run("captures", "verify", "--json", small_run().write(tmp_path))
    assert (status, len(json.loads(out)["captures"])) == (0, 1)
    assert "replaying: 100%" in err


# in a process of its own


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT)}


def test_a_reader_that_goes_away_is_no_traceback(tmp_path):
    words = [*COMMAND, "captures", "verify", small_run().write(tmp_path)]
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        _, err = process.communicate(timeout=300)
    assert b"Traceback" not in err


def test_ctrl_c_is_status_130_and_no_traceback(tmp_path):
    """The run hangs reading a pipe that nobody writes to: the moment at which the interrupt comes is certain."""
    folder = small_run().write(tmp_path)
    script = (
        "import sys, time\n"
        "from workbench.lab import captures\n"
        "def wait(folder):\n"
        "    sys.stderr.write('waiting\\n'); sys.stderr.flush(); time.sleep(120)\n"
        "captures.read = wait\n"
        "from workbench.cli import main\n"
        "main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, "captures", "verify", folder],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr.readline() == "waiting\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err


# overhead


def test_overhead_prints_the_cost_before_after_and_with_deduplication(run):
    status, out, err = run("overhead", "--size", "16G", "--align", "2M", "--map", "mem")
    assert (status, err) == (0, "")
    assert "256 MiB" in out  # 16 GiB of struct pages at 64 bytes a page


def test_overhead_as_json(run):
    """A 1 GiB namespace of 2 MiB align in DRAM on 6.1, as data/captures/k6.1-static-2M-mem recorded it."""
    status, out, _ = run("overhead", "--size", "1G", "--align", "2M", "--map", "mem", "--kernel", "6.1", "--json")
    assert status == 0
    content = json.loads(out)
    capture = json.loads((CAPTURES / "k6.1-static-2M-mem" / "capture.json").read_text())
    assert content["dev_size"] == capture["namespace"]["device_size"]
    assert content["lost_to_metadata_in_namespace"] == GIB - capture["namespace"]["device_size"]


def test_overhead_equals_everything_recorded(run):
    assert run("overhead", "--check", CAPTURES / "overhead.json")[0] == 0
    assert run("overhead", "--check", CAPTURES)[0] == 0


def test_overhead_check_finds_a_changed_number(run, tmp_path):
    rows = json.loads((CAPTURES / "overhead.json").read_text())
    first = rows["rows"][0] if isinstance(rows, dict) else rows[0]
    first["dev_size"] += 4096
    (tmp_path / "overhead.json").write_text(json.dumps(rows))
    assert run("overhead", "--check", tmp_path / "overhead.json")[0] == 1
