# SPDX-License-Identifier: GPL-2.0-only
"""workbench gup-test: options, output and exit status of the kernel's tool of 6.1."""

import json
import re
from pathlib import Path

import pytest

from tests.mm.support import needs_jit
from workbench import cli
from workbench.errors import WorkbenchError
from workbench.lab import gup_test
from workbench.lab.gup_test import Command, Options, UsageError, atoi, main, parse, strtol

CAPTURES = Path(__file__).parents[2] / "data" / "captures"
DAX = "-f /dev/dax0.0 -S"


def tool(words):
    out, err = [], []
    status = main(words.split(), out.append, err.append)
    return status, out, err


def shape(line):
    """A line with its times replaced by N."""
    return re.sub(r"(get|put):\d+", r"\1:N", line)


RECORDED = {
    (run["options"][3], shape(line)) for run in json.loads((CAPTURES / "gup_test.json").read_text())["runs"]
    for line in run["lines"] if len(run["options"]) == 6 and run["align"] == "2M"
}  # fmt: skip


# -- the command line -------------------------------------------------------------------------------------------


def test_the_seeds_command():
    options = parse(["-f", "/dev/dax1.0", "-m", "16384", "-r", "10", "-S", "-a", "-n", "512", "-w"])
    assert options == Options(
        cmd=Command.PIN_FAST, file="/dev/dax1.0", size=16384 << 20, repeats=10, shared=True, nr_pages=512, write=True
    )


def test_what_is_not_said():
    options = parse([])
    assert (options.cmd, options.size, options.repeats, options.nr_pages) == (Command.GUP_FAST, 128 << 20, 1, 1)
    assert (options.file, options.shared, options.write, options.nthreads) == ("/dev/zero", False, True, 1)


@pytest.mark.parametrize(
    "words, changed",
    [
        ("-L", {"cmd": Command.PIN_LONGTERM}),
        ("-U", {"cmd": Command.GUP_BASIC}),
        ("-b", {"cmd": Command.PIN_BASIC}),
        ("-a -u", {"cmd": Command.GUP_FAST}),
        ("-Wt", {"write": False, "thp": True}),
        ("-HT", {"hugetlb": True, "thp": False}),
        ("-z", {"touch": True}),
        ("-F 0x10000", {"gup_flags": 0x10000}),
        ("-F 010", {"gup_flags": 8}),
        ("-j4", {"nthreads": 4}),
        ("-c", {"cmd": Command.DUMP, "which_pages": (1,)}),
        ("-c -p 0 1 0x1001", {"cmd": Command.DUMP, "dump_by_pin": True, "which_pages": (1, 2, 4098)}),
        ("1 2 3 4 5 6 7 8 9 -c", {"cmd": Command.DUMP, "which_pages": (2, 3, 4, 5, 6, 7, 8, 9)}),
        # A page's number plus one, 32 bits of it; 0 is no page.
        ("-c -- -1 -2", {"cmd": Command.DUMP, "which_pages": (0, 0xFFFF_FFFF)}),
        ("-m 12abc", {"size": 12 << 20}),
        ("-m abc", {"size": 0}),
        ("-m -1", {"size": (1 << 64) - (1 << 20)}),
        ("--kernel 6.1 --align 1G --altmap", {"kernel": "6.1", "align": 1 << 30, "altmap": True}),
        ("--patches 4", {"kernel": "5.16+=4"}),
        ("--size 1G --model cxl --log", {"device_size": 1 << 30, "model": "cxl", "log": True}),
    ],
)
def test_options(words, changed):
    options, usual = parse(words.split()), parse([])
    assert {name: getattr(options, name) for name in changed} == changed
    rest = set(Options.__dataclass_fields__) - set(changed)
    assert all(getattr(options, name) == getattr(usual, name) for name in rest)


def test_flags_of_the_ioctl():
    assert parse([]).flags == 1
    assert parse(["-W"]).flags == 0
    assert parse(["-z", "-F", "0x10000"]).flags == 0x10003


@pytest.mark.parametrize(
    "words, message",
    [
        ("-x", "gup_test: invalid option -- 'x'"),
        ("-S -m", "gup_test: option requires an argument -- 'm'"),
        ("-aqS", "gup_test: invalid option -- 'q'"),
    ],
)
def test_refused_options(words, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        parse(words.split())
    assert tool(words) == (255, [], [message])


@pytest.mark.parametrize(
    "text, number", [("12", 12), (" -7x", -7), ("", 0), ("x1", 0), ("4294967297", 1), ("2147483648", -(2**31))]
)
def test_atoi(text, number):
    assert atoi(text) == number


@pytest.mark.parametrize(
    "text, number", [("12", 12), ("0x1001", 4097), ("010", 8), ("-0x10", -16), ("zz", 0), ("0", 0)]
)
def test_strtol(text, number):
    assert strtol(text) == number


# -- what it prints ---------------------------------------------------------------------------------------------


@needs_jit
@pytest.mark.parametrize("mode", ["-a", "-u", "-L", "-b"])
def test_lines_have_the_recorded_form(mode):
    status, out, err = tool(f"{DAX} -m 4 -r 2 {mode} -n 512")
    assert status == 0 and not err
    wanted = {line for said, line in RECORDED if said == mode}
    assert wanted and {shape(line) for line in out} == wanted
    assert len(out) == (1 if mode == "-b" else 2)


def recorded_on_devices():
    """Each command that was recorded on a device, as it can be run here in a moment, and what it printed."""
    found = {}
    for name, kernel in (("gup_test.json", "6.1"), ("gup_test_5.15_5.17.json", "5.17")):
        for run in json.loads((CAPTURES / name).read_text())["runs"]:
            mib = {"4K": 4, "2M": 4, "1G": 1024}.get(run["align"])
            if run["memory"] == "device-dax" and run["variant"] in ("stock", kernel) and "mmap" not in run["lines"][0]:
                options = [f"-m {mib}" if each.startswith("-m") else each for each in run["options"]]
                words = f"{' '.join(options)} -f /dev/dax0.0 --align {run['align']} --kernel {kernel}"
                found[words + " --altmap" * (run["map"] == "dev")] = [shape(line) for line in run["lines"]]
    return found


@needs_jit
@pytest.mark.parametrize("words, lines", recorded_on_devices().items(), ids=lambda value: str(value)[:70])
def test_every_recorded_command_on_a_device(words, lines):
    status, out, err = tool(words)
    assert (status, [shape(line) for line in out], err) == (0, lines, [])


@needs_jit
@pytest.mark.parametrize(
    "words, status, out, err",
    [
        # A private mapping is refused by the device's mmap().
        ("-f /dev/dax0.0 -m 4", 1, [], ["mmap: Invalid argument"]),
        (f"{DAX} -m 0", 1, [], ["mmap: Invalid argument"]),
        # As recorded of 1 GiB devices: half a unit cannot be mapped.
        (f"{DAX} -m 512 -b -n 512 --align 1G", 1, [], ["mmap: Invalid argument"]),
        # Without huge pages a 2 MiB device answers the touch with SIGBUS.
        (f"{DAX} -m 4 -T", 135, [], ["Bus error"]),
        (f"{DAX} -m 4 -r 0", 0, [], []),
        # FOLL_TOUCH is no flag for the fast calls: EINVAL, the loop ends before its first page.
        (f"{DAX} -m 4 -a -z", 0, ["PIN_FAST_BENCHMARK: Time: get:N put:N us, truncated (size: 0)"], []),
        (f"{DAX} -m 4 -b -z", 0, ["PIN_BASIC_TEST: done"], []),
        # Without FOLL_TOUCH from user space, the slow path faults the pages in.
        (f"{DAX} -m 4 -U -z", 0, ["GUP_BASIC_TEST: done"], []),
        (f"{DAX} -m 4 -L -z -n 512", 0, ["PIN_LONGTERM_BENCHMARK: Time: get:N put:N us"], []),
        # Without huge pages it cannot: EFAULT, and nobody gets a signal.
        (f"{DAX} -m 4 -b -z -T", 0, ["PIN_BASIC_TEST: done", "Truncated (size: 0)"], []),
        # FOLL_GET is no flag for a pin, FOLL_PIN and FOLL_LONGTERM none for a get: EINVAL.
        (f"{DAX} -m 4 -a -F 0x4", 0, ["PIN_FAST_BENCHMARK: Time: get:N put:N us, truncated (size: 0)"], []),
        (f"{DAX} -m 4 -u -F 0x40000", 0, ["GUP_FAST_BENCHMARK: Time: get:N put:N us, truncated (size: 0)"], []),
        (f"{DAX} -m 4 -U -F 0x10000", 0, ["GUP_BASIC_TEST: done", "Truncated (size: 0)"], []),
        (f"{DAX} -m 4 -a -F 0x10000 -n 512", 0, ["PIN_FAST_BENCHMARK: Time: get:N put:N us"], []),
        (f"{DAX} -m 4 -a -W -t", 0, ["PIN_FAST_BENCHMARK: Time: get:N put:N us"], []),
        (f"{DAX} -m 4 -j 0", 0, [], []),
        (f"{DAX} -m 4 -n 0", 0, ["GUP_FAST_BENCHMARK: Time: get:N put:N us, truncated (size: 0)"], []),
        (f"{DAX} -m 4 -a -j 3", 0, ["PIN_FAST_BENCHMARK: Time: get:N put:N us"] * 3, []),
        (f"{DAX} -m 4 -c -p 0", 0, ["DUMP_USER_PAGES_TEST: done"], []),
        (f"{DAX} -m 4 -a -n 300 --kernel 6.12 --altmap", 0, ["PIN_FAST_BENCHMARK: Time: get:N put:N us"], []),
        (f"{DAX} -m 4 -u -n 7 --align 4K --kernel 5.10", 0, ["GUP_FAST_BENCHMARK: Time: get:N put:N us"], []),
    ],
)
def test_runs(words, status, out, err):
    got = tool(words)
    assert (got[0], [shape(line) for line in got[1]], got[2]) == (status, out, err)


@pytest.fixture
def areas(monkeypatch):
    """Machine and area of each run on ordinary memory."""
    found, mmap = [], gup_test.mmap_zero

    def noted(process, memory, length, flags):
        addr = mmap(process, memory, length, flags)
        found.append((process.machine, process.mm.find_vma(addr)))
        return addr

    monkeypatch.setattr(gup_test, "mmap_zero", noted)
    return found


ORDINARY = {
    run["memory"]: ([word for each in run["options"] for word in each.split()], {shape(line) for line in run["lines"]})
    for run in json.loads((CAPTURES / "gup_test.json").read_text())["runs"]
    if run["memory"] != "device-dax" and run["variant"] == "stock"
}


@needs_jit
@pytest.mark.parametrize("memory", ["hugetlb memory", "transparent huge pages", "no transparent huge pages"])
@pytest.mark.parametrize("base", ["5.15", "6.1"])
def test_the_recorded_runs_on_ordinary_memory(memory, base, areas):
    words, lines = ORDINARY[memory]
    words[words.index("512")] = "8"
    status, out, err = tool(" ".join(words) + f" --kernel {base}")
    assert (status, err, {shape(line) for line in out}, len(out)) == (0, [], lines, 10)
    [(machine, vma)] = areas
    # A private mapping of /dev/zero begins where there is room, off a huge page: what is left at both ends is base
    # pages. Recorded instructions say so too: those of 512 base pages more than hugetlb's.
    by_level = {
        "hugetlb memory": [0, 4, 0],
        "transparent huge pages": [512, 3, 0],
        "no transparent huge pages": [2048, 0, 0],
    }
    assert machine.processes["p0"].mm.leaves(vma).tolist() == by_level[memory]


@needs_jit
@pytest.mark.parametrize(
    "words, status, out, err, leaves",
    [
        # Transparent huge pages are on unless the area says no; shared memory has none.
        ("-m 4", 0, ["GUP_FAST_BENCHMARK: Time: get:N put:N us"], [], [512, 1, 0]),
        ("-m 4 -S -t -a -n 512", 0, ["PIN_FAST_BENCHMARK: Time: get:N put:N us"], [], [1024, 0, 0]),
        # hugetlb needs no file: which one is open does not matter. It rounds up to its page.
        ("-m 3 -H -f /dev/dax0.0 -u", 0, ["GUP_FAST_BENCHMARK: Time: get:N put:N us"], [], [0, 2, 0]),
        ("-m 4 -H -b -z -n 300", 0, ["PIN_BASIC_TEST: done"], [], [0, 2, 0]),
        ("-m 4 -t -L -n 512 -j 2", 0, ["PIN_LONGTERM_BENCHMARK: Time: get:N put:N us"] * 2, [], [512, 1, 0]),
        ("-m 4 -c -p 0", 0, ["DUMP_USER_PAGES_TEST: done"], [], [512, 1, 0]),
        ("-m 4 -H -T -c -p 0 --kernel 6.12", 0, ["DUMP_USER_PAGES_TEST: done"], [], [0, 2, 0]),
    ],
)
def test_runs_on_ordinary_memory(words, status, out, err, leaves, areas):
    got = tool(words)
    assert (got[0], [shape(line) for line in got[1]], got[2]) == (status, out, err)
    [(machine, vma)] = areas
    assert machine.processes["p0"].mm.leaves(vma).tolist() == leaves


@pytest.mark.parametrize(
    "words, error",
    [("-m 0", "Invalid argument"), ("-m 0 -H", "Invalid argument"), ("-m -1", "Cannot allocate memory")],
)
def test_what_cannot_be_mapped(words, error):
    assert tool(words) == (1, [], [f"mmap: {error}"])


@needs_jit
def test_everything_is_given_back(monkeypatch):
    machines = []
    boot = gup_test._boot
    monkeypatch.setattr(gup_test, "_boot", lambda options: machines.append(boot(options)) or machines[-1])
    assert tool(f"{DAX} -m 4 -r 3 -a -n 100 -j 2")[0] == 0
    machine, name = machines[0]
    first = machine.bus.device(name).ranges[0].start >> 12
    counts = machine.array.view(first, 1024)[:, 6] >> 32
    assert counts[0] == counts[512] == 1 and counts.sum() == 2


@needs_jit
def test_the_pages_that_are_dumped_stand_in_the_log():
    status, out, err = tool(f"{DAX} -m 4 -n 512 -c -p 0 1023 1024 --log --kernel 6.1")
    assert (status, out) == (0, ["DUMP_USER_PAGES_TEST: done"])
    # Pages are counted from 1 behind the options; what lies beyond is named first, and left out.
    told = err[err.index("ZEROING due to out of range: .which_pages[2]: 1025") :]
    starts = [line for line in told if line.startswith("----")]
    assert [line.split(", ")[0] for line in starts] == ["---- page #0", "---- page #1023"]
    assert len({line.split("addr: ")[1] for line in starts}) == 1 and starts[0].endswith("00000")
    # All 512 pages of a huge page are pinned while they are dumped: 512 and the device's own reference.
    assert [line.split()[1] for line in told if line.startswith("page:")] == ["refcount:513"] * 2
    assert [line.split()[3] for line in told if line.startswith("head:(")] == ["compound_pincount:512"] * 2
    assert told[-1] == "page dumped because: gup_test: dump_pages() test"


@needs_jit
def test_the_log_without_a_pin_and_without_a_dump():
    assert "compound_pincount:0" in "\n".join(tool(f"{DAX} -m 4 -c --log")[2])
    status, out, err = tool(f"{DAX} -m 4 -b --log")
    assert status == 0 and not [line for line in err if "page" in line and "initialised" not in line]
    assert err and tool(f"{DAX} -m 4 -b") == (0, out, [])


def test_pages_of_ordinary_memory_are_not_told_in_the_log():
    with pytest.raises(WorkbenchError, match=r"-f /dev/dax0\.0 -S, without -H"):
        tool("-m 4 -c --log")


def test_a_model_says_what_it_is():
    status, out, _ = tool(f"{DAX} -m 16384 -a -n 512 -r 2 --kernel 5.16 --altmap --model pmem")
    assert status == 0 and len(out) == 3 and out[0] == out[1] and out[2].startswith("modelled (pmem)")
    # The seed's figures for the altmap before the series: about 524 and 525 ms; the model keeps within 8 %.
    get, put = (int(n) / 1000 for n in re.findall(r":(\d+)", out[0]))
    assert abs(get / 524 - 1) < 0.08 and abs(put / 525 - 1) < 0.08
    with pytest.raises(WorkbenchError, match="prints no times"):
        tool(f"{DAX} -b --model dram")


def test_only_device_dax_and_dev_zero_are_simulated():
    with pytest.raises(WorkbenchError, match="/dev/null is not simulated"):
        tool("-m 4 -f /dev/null")
    with pytest.raises(WorkbenchError, match="device-dax memory"):
        tool("-m 4 -a --model dram")


def test_the_verb_hands_its_words_on(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["workbench", "gup-test", "-S", "-q", "-m", "4"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 255
    assert capsys.readouterr().err == "gup_test: invalid option -- 'q'\n"
