# SPDX-License-Identifier: GPL-2.0-only
"""``workbench dax``: the scenarios of ndctl's own tests, the state between commands, and refusals.

Scenarios and their expected results are those of daxctl-create.sh and daxctl-devices.sh (ndctl v81).
"""

import json
import sys
from pathlib import Path

import pytest
import typer

from workbench import cli
from workbench.errors import Signalled, WorkbenchError
from workbench.lab.daxctl_session import Session, default_state
from workbench.machine import Machine
from workbench.mm.mmap import Map
from workbench.series import Tree

ROOT = Path(__file__).resolve().parents[1]
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
A = 8 * GIB
"""All of the region that boots unless told otherwise."""


COMMAND = typer.main.get_command(cli.app)
"""What ``cli.app()`` builds anew each time, built once."""


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command in this process: exit status, standard output, standard error."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(cli, "app", COMMAND)

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["workbench", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err

    return command


@pytest.fixture
def dax(run):
    """``workbench dax ...``, which is to succeed; the JSON it printed."""

    def command(*words):
        status, out, err = run("dax", *words)
        assert status == 0, err
        return json.loads(out) if out.startswith(("[", "{")) else out

    return command


@pytest.fixture
def region(dax):
    """A region that was emptied: the set-up of daxctl-create.sh."""
    dax("boot")
    dax("disable-device", "dax0.0")
    dax("reconfigure-device", "-s", 0, "dax0.0")
    return dax


def available(dax):
    (row,) = dax("list", "-R")
    return row.get("available_size", 0)


def nr_mappings(dax, name):
    """The number of mappings, where their sizes are the device's; else 0, as the script's helper does it."""
    (row,) = dax("list", "-d", name, "-D", "-M", "-i")
    mappings = row.get("mappings", [])
    return len(mappings) if sum(each["size"] for each in mappings) == row["size"] else 0


def create(dax, *words):
    (row,) = dax("create-device", "-r", 0, *words)
    return row["chardev"]


def clean_up(dax):
    """Every test of the script ends so: everything is destroyed, dax0.0 empty, all of it available."""
    for row in dax("list", "-D", "-i"):
        if row["chardev"] == "dax0.0":
            dax("disable-device", "dax0.0")
            dax("reconfigure-device", "-s", 0, "dax0.0")
        else:
            dax("destroy-device", "-f", row["chardev"])
    assert available(dax) == A


def resize(dax, name, size):
    dax("disable-device", name)
    dax("reconfigure-device", "-s", size, name)
    dax("enable-device", name)


def test_daxctl_create_0(region):
    assert available(region) == A


def test_daxctl_create_1(region):
    name = create(region)
    assert nr_mappings(region, name) == 1
    assert available(region) == 0
    region("disable-device", name)
    region("destroy-device", name)
    clean_up(region)


def test_daxctl_create_2(region):
    """
    |dev0|.1  |.2  |    |    destroy .1    |dev0|new |.2  |new |
    """
    resize(region, "dax0.0", A // 4)
    first = create(region, "-s", A // 4)
    create(region, "-s", A // 4)
    region("disable-device", first)
    region("destroy-device", first)
    name = create(region, "-s", A // 2)
    assert nr_mappings(region, name) == 2
    assert available(region) == 0
    clean_up(region)


def test_daxctl_create_3(region):
    """
    |.1  |.2  |.3  |    |    destroy .1    |new |.2  |.3  |new |
    """
    names = [create(region, "-s", A // 4) for _ in range(3)]
    assert names == ["dax0.1", "dax0.2", "dax0.3"]
    region("destroy-device", "-f", "dax0.1")
    name = create(region, "-s", A // 2)
    assert nr_mappings(region, name) == 2
    assert available(region) == 0
    clean_up(region)


def interleave(dax):
    """dev0 and .1 of A/8 each, then each grows by A/8 in turn until it has A/2."""
    resize(dax, "dax0.0", A // 8)
    name = create(dax, "-s", A // 8)
    for size in (2 * A // 8, 3 * A // 8, 4 * A // 8):
        resize(dax, "dax0.0", size)
        resize(dax, name, size)
    return name


def test_daxctl_create_4(region):
    name = interleave(region)
    assert nr_mappings(region, "dax0.0") == 4
    assert nr_mappings(region, name) == 4
    assert available(region) == 0
    clean_up(region)


def test_daxctl_create_5(region):
    """
    |.1  |.2  |.3  |.4  |    destroy .1 and .4    |    |.2  |.3  |    |
    .2 grows to A/2: the hole before it is a new range, at the end of its file
    .3 grows to A/2: extended in place
    """
    for _ in range(4):
        create(region, "-s", A // 4)
    for name in ("dax0.1", "dax0.4"):
        region("destroy-device", "-f", name)
    resize(region, "dax0.2", A // 2)
    assert nr_mappings(region, "dax0.2") == 2
    (row,) = region("list", "-d", "dax0.2", "-M")
    assert [(each["page_offset"], each["start"]) for each in row["mappings"]] == [
        (0, 4 * GIB + A // 4),
        (A // 4 >> 12, 4 * GIB),
    ]
    resize(region, "dax0.3", A // 2)
    assert nr_mappings(region, "dax0.3") == 1
    assert available(region) == 0
    clean_up(region)


@pytest.mark.parametrize(("align", "size"), [("2M", "2M"), ("1G", "1G")])
def test_daxctl_create_6(region, align, size):
    name = create(region, "-s", size, "-a", align)
    (row,) = region("list", "-d", name)
    assert row["align"] == row["size"] == {"2M": 2 * MIB, "1G": GIB}[align]
    clean_up(region)


@pytest.mark.parametrize("human", [[], ["-u"]])
def test_daxctl_create_7(region, tmp_path, human):
    """The mappings of test 4, listed to a file; the device made again from it has them all."""
    name = interleave(region)
    listed = region("list", "-d", name, "-M", *human)
    dump = tmp_path / "mappings.json"
    dump.write_text(json.dumps(listed))
    (before,) = region("list", "-d", name, "-M")
    region("destroy-device", "-f", name)
    made = create(region, "--input", dump)
    assert nr_mappings(region, made) == 4
    (after,) = region("list", "-d", made, "-M")
    assert after == before
    clean_up(region)


# daxctl-devices.sh: a static device between devdax and system-ram


def mode(dax):
    (row,) = dax("list", "-d", "dax0.0")
    return row["mode"]


def test_daxctl_devices(dax, run):
    dax("boot", "--pmem", "4G@5G", "--namespace", "4G,2M,mem")
    dax("reconfigure-device", "-N", "-m", "system-ram", "dax0.0")
    assert mode(dax) == "system-ram"
    session = Session.load(default_state())
    assert session.do({"op": "disable_namespace"})["errno"] == "EBUSY"
    assert session.machine.bus.device("dax0.0").driver == "kmem"
    dax("online-memory", "dax0.0")
    assert run("dax", "reconfigure-device", "-m", "devdax", "dax0.0")[0] == 1
    assert mode(dax) == "system-ram"
    dax("offline-memory", "dax0.0")
    dax("reconfigure-device", "-m", "devdax", "dax0.0")
    assert mode(dax) == "devdax"
    dax("reconfigure-device", "-m", "system-ram", "dax0.0")
    (row,) = dax("list", "-d", "dax0.0")
    # 4 GiB less the first 2 MiB: the first block of 128 MiB is not whole
    assert (row["online_memblocks"], row["total_memblocks"]) == (31, 31)
    dax("reconfigure-device", "-f", "-m", "devdax", "dax0.0")
    assert mode(dax) == "devdax"
    assert "state" not in dax("list")[0]


def test_daxctl_devices_with_auto_online(dax, run):
    dax("boot", "--pmem", "4G@5G", "--namespace", "4G", "--auto-online")
    status, _, err = run("dax", "reconfigure-device", "-N", "-m", "system-ram", "dax0.0")
    assert status == 1
    assert "auto-online" in err
    assert mode(dax) == "devdax"
    dax("reconfigure-device", "-m", "system-ram", "dax0.0")
    assert dax("list")[0]["online_memblocks"] == 31


@pytest.mark.parametrize("verb", ["online-memory", "offline-memory"])
def test_memory_of_a_devdax_device_is_not_put_online(verb, dax, run):
    dax("boot")
    status, _, err = run("dax", verb, "dax0.0")
    assert (status, "not applicable in devdax mode" in err) == (1, True)


@pytest.mark.parametrize("verb", ["enable-device", "disable-device"])
def test_a_system_ram_device_is_not_enabled_or_disabled(verb, dax, run):
    dax("boot")
    dax("reconfigure-device", "-m", "system-ram", "dax0.0")
    status, _, err = run("dax", verb, "dax0.0")
    assert (status, "only applicable in devdax mode" in err) == (1, True)
    assert mode(dax) == "system-ram"


# Refusals: what is printed, and what is left


def test_a_whole_region_has_nothing_for_a_second_device(dax, run):
    dax("boot")
    before = dax("list", "-RDMi")
    status, out, err = run("dax", "create-device", "-s", "1G")
    assert (status, out) == (1, "")
    assert "No space left on device (ENOSPC)" in err
    assert err.endswith("created 0 devices\n")
    assert dax("list", "-RDMi") == before


def test_a_refused_size_leaves_an_empty_device_that_the_next_one_uses(region, run):
    """As recorded in k6.1-dynamic: the device stays, empty, and is set up next."""
    status, _, err = run("dax", "create-device", "-s", "512M", "-a", "1G")
    assert status == 1
    assert "Invalid argument (EINVAL)" in err
    assert "dax0.1 stays" in err
    assert [(d["chardev"], d["size"], d["align"]) for d in region("list", "-i")] == [
        ("dax0.0", 0, 2 * MIB),
        ("dax0.1", 0, GIB),
    ]
    assert create(region, "-s", "1G") == "dax0.1"


def test_an_active_device_is_destroyed_with_force_only(dax, run, region):
    name = create(region, "-s", "1G")
    status, _, err = run("dax", "destroy-device", name)
    assert (status, f"{name} is active, specify --force for deletion" in err) == (1, True)
    assert run("dax", "destroy-device", "-f", name) == (0, "", "destroyed 1 device\n")


def test_the_first_device_is_emptied_and_stays(dax, run):
    dax("boot")
    status, _, err = run("dax", "destroy-device", "-f", "dax0.0")
    assert (status, "EBUSY" in err) == (1, True)
    assert [(d["chardev"], d["size"]) for d in dax("list", "-i")] == [("dax0.0", 0)]


def test_all_means_every_device(region, run):
    for _ in range(3):
        create(region, "-s", "1G")
    assert run("dax", "disable-device", "all") == (0, "", "disabled 4 devices\n")
    # dax0.0 is empty: no driver takes it
    status, _, err = run("dax", "enable-device", "all")
    assert (status, err.splitlines()[-1]) == (1, "enabled 3 devices")
    assert "No such device or address (ENXIO)" in err


@pytest.mark.parametrize(
    "words",
    [
        ["reconfigure-device", "dax0.0"],
        ["reconfigure-device", "-m", "ram", "dax0.0"],
        ["reconfigure-device", "-m", "devdax", "-N", "dax0.0"],
        ["reconfigure-device", "-m", "devdax", "-s", "1G", "dax0.0"],
        ["reconfigure-device", "-s", "lots", "dax0.0"],
        ["destroy-device", "dax0.7"],
        ["destroy-device", "-r", "1", "dax0.0"],
        ["create-device", "--input", "nowhere.json"],
        ["boot", "--kernel", "4.4"],
        ["boot", "--kernel", "5.16+11", "--patches", "11"],
        ["boot", "--pmem", "4G"],
        ["boot", "--pmem", "4G@4G", "--soft-reserved", "1G@5G"],
        ["boot", "--pmem", "4G@4G", "--namespace", "1G,3M"],
        ["boot", "--pmem", "4G@4G", "--namespace", "8G"],
    ],
)
def test_what_the_workbench_refuses_changes_nothing(words, dax, run):
    dax("boot")
    before = default_state().read_bytes()
    status, out, err = run("dax", *words)
    assert (status, out) == (2, "")
    assert err.startswith("workbench: ")
    assert default_state().read_bytes() == before


def test_a_region_of_align_2m_refuses_a_bound_device_another_size(dax, run):
    dax("boot")
    status, _, err = run("dax", "reconfigure-device", "-s", "4G", "dax0.0")
    assert (status, "Device or resource busy (EBUSY)" in err) == (1, True)


def test_hazards_are_told_where_they_begin(region, run):
    """A 1 GiB device that starts off a 1 GiB boundary, as in the recorded frag-1G runs."""
    create(region, "-s", "512M")
    status, _, err = run("dax", "create-device", "-s", "1G", "-a", "1G")
    assert status == 0
    assert err.count("hazard: ") == 1


def test_a_kernel_that_dies_leaves_the_machine_as_it_was(dax, run):
    """k5.17-overrun-1G: a 1 GiB device of two ranges of 512 MiB; binding it oopses."""
    dax("boot", "--kernel", "5.17")
    dax("disable-device", "dax0.0")
    dax("reconfigure-device", "-s", 0, "dax0.0")
    create(dax, "-s", "512M")
    create(dax, "-s", "1G")
    dax("destroy-device", "-f", "dax0.1")
    before = default_state().read_bytes()
    status, out, err = run("dax", "create-device", "-s", "1G", "-a", "1G")
    assert (status, out) == (2, "")
    assert "The kernel died" in err
    assert default_state().read_bytes() == before


# The state


def test_there_is_no_machine_before_boot(run):
    status, out, err = run("dax", "list")
    assert (status, out) == (2, "")
    assert "workbench dax boot" in err


def test_the_state_is_a_list_of_actions(region):
    create(region, "-s", "1G", "-a", "1G")
    actions = json.loads(default_state().read_text())
    assert [action["op"] for action in actions] == ["boot", "unbind", "resize_device", "create_device"]
    assert actions[-1]["result"]["device"] == "dax0.1"
    assert actions[-1]["result"]["ranges"][0]["first_pfn"] == "0x100000"


@pytest.mark.parametrize(
    "state",
    [
        "",
        "{}",
        "[]",
        "[1]",
        '[{"op": "bind"}]',
        '[{"op": "boot"}]',
        '[{"op": "boot", "soft_reserved": [{"start": "x", "end": "0x10"}]}]',
        '[{"op": "boot", "soft_reserved": [{"start": "0x100000000", "end": "0x200000000"}]}, {"op": "fly"}]',
        '[{"op": "boot", "soft_reserved": [{"start": "0x100000000", "end": "0x200000000"}]}, {"op": "set_size"}]',
        '[{"op": "boot", "soft_reserved": [{"start": "0x100000000", "end": "0x200000000"}]}, '
        '{"op": "set_size", "device": "dax0.0", "size": 0, "result": {"ok": true}}]',
    ],
)
def test_a_state_that_cannot_be_is_refused(state, run, tmp_path):
    path = tmp_path / "state.json"
    path.write_text(state)
    status, out, err = run("dax", "list", "--state", path)
    assert (status, out) == (2, "")
    assert str(path) in err


def test_a_state_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").touch()
    status, out, err = run("dax", "boot", "--state", tmp_path / "file" / "dax.json")
    assert (status, out) == (2, "")
    assert "--state" in err


def test_two_machines_side_by_side(dax, tmp_path):
    dax("boot", "--state", tmp_path / "a.json")
    dax("boot", "--kernel", "6.12", "--state", tmp_path / "b.json")
    assert "state" not in dax("list", "--state", tmp_path / "a.json")[0]
    assert dax("list", "--state", tmp_path / "b.json")[0]["state"] == "disabled"  # as recorded: 6.12 binds no driver


def test_patches_choose_the_kernel(dax):
    dax("boot", "--patches", "2,3,4")
    assert Session.load(default_state()).machine.kernel.tree == Tree("5.16", frozenset((2, 3, 4)))


def test_firmware_makes_the_region(dax, run):
    """efi_fake_mem makes the region; with 8aa83e6395 there is none."""
    words = ["boot", "--ram", "9G@4G", "--cmdline", "efi_fake_mem=4G@4G:0x40000"]
    dax(*words)
    assert "100000000-1ffffffff : hmem.0" in dax("iomem")
    (row,) = dax("list", "-R")
    assert row["size"] == 4 * GIB
    status, _, err = run("dax", *words, "--early-reserve-memory-first")
    assert (status, "no memory that devices can be made of" in err) == (2, True)


# import-daxctl


@pytest.mark.parametrize("path", sorted((ROOT / "data" / "daxctl").glob("k6.1-*.json")), ids=lambda path: path.name)
def test_import_builds_the_listed_machine(path, run, dax, tmp_path):
    state = tmp_path / "real.json"
    status, out, err = run("import-daxctl", path, "--state", state, "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    (row,) = dax("list", "--state", state)
    (device,) = report["devices"]
    assert (row["size"], row["align"]) == (device["size"], device["align"])
    if "daxctl" in path.name:
        assert dax("list", "-RDM", "--state", state) == json.loads(path.read_text())


@pytest.mark.parametrize("kernel", ["5.10", "5.17", "6.12"])
def test_import_of_cut_soft_reserved_memory(kernel, region, run, tmp_path):
    create(region, "-s", "1G")
    create(region, "-s", "1G", "-a", "1G")
    region("destroy-device", "-f", "dax0.1")
    create(region, "-s", "3G")
    listed = region("list", "-RDM")
    real, state = tmp_path / "real.json", tmp_path / "state.json"
    real.write_text(json.dumps(listed))
    status, _, err = run("import-daxctl", real, "--state", state, "--kernel", kernel)
    assert (status, err) == (0, "")
    assert region("list", "-RDM", "--state", state) == listed


def test_import_says_what_the_series_saves(run):
    status, out, _ = run("import-daxctl", ROOT / "data" / "daxctl" / "k6.1-static-2M-mem.daxctl-list.json")
    assert status == 0
    lines = {line.strip().split("  ")[0]: line.split() for line in out.splitlines()}
    assert lines["references of the pgmap"][-3:] == ["262,144", "512", "512"]
    assert lines["struct pages written, all faulted"][-3:] == ["261,632", "511", "511"]


# remap: one page of a mapping moved elsewhere


@pytest.mark.parametrize(("release", "moves"), [("5.10", True), ("5.17", False), ("6.1", False)])
def test_remap_of_a_2m_device(release, moves):
    """A move of the first 4 KiB is refused, or the store to it is SIGBUS: the device has no smaller pages."""
    machine = Machine(release, soft_reserved=[(4 * GIB, 5 * GIB)])
    process = machine.process()
    addr = process.mmap(process.open("dax0.0"), 4 * MIB, flags=Map.SHARED)
    process.touch(addr, write=True)
    if moves:
        moved = process.mremap(addr, 4 * KIB, 8 * KIB)
        with pytest.raises(Signalled) as signalled:
            process.touch(moved, write=True)
        assert signalled.value.signal.name == "SIGBUS"
    else:
        with pytest.raises(WorkbenchError) as refused:
            process.mremap(addr, 4 * KIB, 8 * KIB)
        assert refused.value.errno_name == "EINVAL"


@pytest.mark.parametrize("release", ["5.10", "5.17", "6.1"])
def test_remap_of_a_4k_device(release):
    machine = Machine(release, soft_reserved=[(4 * GIB, 5 * GIB)])
    machine.unbind("dax0.0")
    machine.set_align("dax0.0", 4 * KIB)
    machine.bind("dax0.0")
    process = machine.process()
    addr = process.mmap(process.open("dax0.0"), 4 * MIB, flags=Map.SHARED)
    process.touch(addr, write=True)
    moved = process.mremap(addr, 4 * KIB, 8 * KIB)
    assert moved != addr
    assert process.touch(moved, write=True) == 1
