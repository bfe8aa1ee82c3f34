# SPDX-License-Identifier: GPL-2.0-only
"""Namespaces and the memory behind their struct pages, as recorded on real kernels and as derived."""

import copy
import os
from pathlib import Path

import numpy as np
import pytest

from workbench.errors import WorkbenchError
from workbench.lab.difference import read_json
from workbench.lab.vmemmap_check import (
    MAX_NAMESPACE_BYTES,
    compare_namespace,
    compare_vmemmap,
    compare_vmemmap_backing,
    recorded_namespace,
    recorded_sharing,
    sharing,
)
from workbench.nvdimm import Namespace
from workbench.series import kernel

CAPTURES = Path(os.environ.get("WORKBENCH_CAPTURES", Path(__file__).parents[2] / "data" / "captures"))
STATIC = sorted(path.parent.name for path in CAPTURES.glob("*/vmemmap.json") if (path.parent / "capture.json").exists())
BACKED = sorted(
    path.parent.name for path in CAPTURES.glob("*/capture.json") if b'"vmemmap_backing"' in path.read_bytes()
)
MIB, GIB = 1 << 20, 1 << 30
VMEMMAP = 0xFFFFEA0000000000


def capture(name):
    return read_json(CAPTURES / name / "capture.json")


def vmemmap(name):
    return read_json(CAPTURES / name / "vmemmap.json")


def run(capture_kernel="6.1", size=GIB, align=2 * MIB, map="mem", start=5 * GIB):
    """The parts of a static run that are looked at."""
    return {
        "kernel": {"family": capture_kernel},
        "states": [
            {
                "state": "online",
                "actions": [
                    {"op": "boot", "persistent_memory": [{"start": hex(start), "end": hex(start + 4 * size)}]},
                    {"op": "create_namespace", "size": size, "align": align, "map": map},
                ],
            }
        ],
    }


def entries(page_bytes, count, pa, pa_step, page=0):
    va = VMEMMAP + 64 * (5 * GIB >> 12) + page * 4096
    return {"va": hex(va), "pa": hex(pa), "page_bytes": page_bytes, "count": count, "pa_step": pa_step}


WHOLE = {"runs": [entries(2 * MIB, 8, 0x102E00000, 2 * MIB)]}
"""1 GiB without sharing."""


def test_there_are_recorded_runs_of_each_kind():
    assert {name.split("-static-")[1] for name in STATIC} >= {"2M-mem", "2M-dev", "1G-mem"}


@pytest.mark.parametrize("name", STATIC)
def test_sharing_of_every_recorded_vmemmap(name):
    assert compare_vmemmap(vmemmap(name), capture(name)) == []


@pytest.mark.parametrize("name", STATIC)
def test_recorded_namespace(name):
    assert compare_namespace(capture(name)) == []


@pytest.mark.parametrize("name", BACKED)
def test_every_recorded_backing(name):
    assert compare_vmemmap_backing(capture(name)) == []


@pytest.mark.parametrize("name", STATIC)
def test_every_single_changed_entry_is_found(name):
    """Moving one physical page, where sharing or an altmap fixes it, or splitting one entry, is a difference."""
    recorded, made = vmemmap(name), capture(name)
    shared = next((run for run in recorded["runs"] if run["pa_step"] == 0), None)
    changed = copy.deepcopy(recorded)
    target = changed["runs"][recorded["runs"].index(shared) if shared else 0]
    if shared or recorded_namespace(made).map == "dev":
        target["pa"] = hex(int(target["pa"], 16) + (1 << 40))
    else:
        target.update(page_bytes=4096, count=target["count"] * 512, pa_step=4096)
    assert compare_vmemmap(changed, made)
    del changed["runs"][0]
    assert compare_vmemmap(changed, made)[0].field.startswith("leaf_bytes")


@pytest.mark.parametrize("name", STATIC)
def test_another_release_is_found(name):
    """A recorded run attributed to a kernel with (or without) deduplication, where that makes a difference."""
    made = capture(name)
    had_dedup = made["kernel"]["family"] in ("6.1", "6.12")
    made["kernel"]["family"] = "6.1nodedup" if had_dedup else "6.1"
    namespace = recorded_namespace(made)
    differs = namespace.map == "mem" and namespace.align > 4096
    assert bool(compare_vmemmap(vmemmap(name), made)) == differs
    assert bool(compare_vmemmap_backing(made)) == differs


def test_a_backing_that_stays_after_the_namespace_is_gone_is_found():
    made = capture(STATIC[0])
    destroyed = next(state for state in made["states"] if state["state"] == "destroyed")
    destroyed["vmemmap_backing"]["pmds_2m"] = 1
    assert [d.field for d in compare_vmemmap_backing(made)] == ["destroyed.vmemmap_backing.pmds_2m"]


def test_a_backing_of_a_device_follows_its_actions():
    """
    boot: dax0.0 4 GiB bound .. unbound .. emptied .. dax0.1 of two ranges, 1G align
    """
    first = {"first_pfn": "0x100000", "nr_pages": 1 << 20}
    parts = [{"first_pfn": "0x100000", "nr_pages": 131072}, {"first_pfn": "0x140000", "nr_pages": 131072}]
    nothing = {
        "ptes_4k": 0,
        "pmds_2m": 0,
        "va_bytes": 0,
        "distinct_physical_bytes": 0,
        "distinct_4k": 0,
        "max_share": 0,
    }
    made = {
        "kernel": {"family": "6.1"},
        "states": [
            {
                "state": "booted",
                "device": "dax0.0",
                "vmemmap_backing": {
                    "ptes_4k": 16384, "pmds_2m": 0, "va_bytes": 64 * MIB, "distinct_physical_bytes": 16 * MIB,
                    "distinct_4k": 4096, "max_share": 7,
                },
                "actions": [
                    {"op": "boot", "result": {"device": "dax0.0", "align": 2 * MIB, "bound": True, "ranges": [first]}}
                ],
            },
            {
                "state": "unbound",
                "device": "dax0.0",
                "vmemmap_backing": nothing,
                "actions": [
                    {"op": "set_size", "device": "dax0.0", "size": 8 * GIB, "result": {"errno": None}},
                    {"op": "unbind", "device": "dax0.0", "result": {"ok": True}},
                ],
            },
            {
                "state": "two ranges",
                "device": "dax0.1",
                "vmemmap_backing": {
                    "ptes_4k": 4096, "pmds_2m": 0, "va_bytes": 16 * MIB, "distinct_physical_bytes": 16384,
                    "distinct_4k": 4, "max_share": 2047,
                },
                "actions": [
                    {"op": "set_size", "device": "dax0.0", "size": 0, "result": {"ok": True}},
                    {"op": "create_device", "size": GIB, "align": GIB,
                     "result": {"ok": True, "device": "dax0.1", "ranges": parts}},
                ],
            },
            {
                "state": "4K pages",
                "device": "dax0.1",
                "vmemmap_backing": {
                    "ptes_4k": 0, "pmds_2m": 8, "va_bytes": 16 * MIB, "distinct_physical_bytes": 16 * MIB,
                    "distinct_4k": 0, "max_share": 1,
                },
                "actions": [
                    {"op": "unbind", "device": "dax0.1", "result": {"ok": True}},
                    {"op": "set_align", "device": "dax0.1", "align": 4096, "result": {"ok": True}},
                    {"op": "bind", "device": "dax0.1", "result": {"ok": True}},
                ],
            },
            {
                "state": "gone",
                "device": "dax0.1",
                "vmemmap_backing": nothing,
                "actions": [{"op": "destroy_device", "device": "dax0.1", "result": {"ok": True}}],
            },
        ],
    }  # fmt: skip
    assert compare_vmemmap_backing(made) == []


# -- the common form -----------------------------------------------------------------------------------


def test_canonical_form_of_recorded_entries():
    """
    vmemmap page   0   1   2   3   4   5   6   7
    physical page  A   B   B   B   -   A   C   -
    """
    runs = [
        entries(4096, 2, 0x9000, -0x2000),
        entries(4096, 2, 0x7000, 0, page=2),
        entries(4096, 1, 0x9000, 4096, page=5),
        entries(4096, 1, 0x1000, 4096, page=6),
    ]
    form = recorded_sharing({"runs": runs}, VMEMMAP + 64 * (5 * GIB >> 12), 8)
    assert form.first.tolist() == [0, 1, 1, 1, 4, 0, 6, 7]
    assert form.leaf_bytes.tolist() == [4096] * 4 + [0] + [4096] * 2 + [0]
    assert form.phys_addr.tolist() == [0x9000, 0x7000, 0x7000, 0x7000, -1, 0x9000, 0x1000, -1]


def test_large_entries_in_the_common_form():
    form = recorded_sharing(WHOLE, VMEMMAP + 64 * (5 * GIB >> 12), 4096)
    assert (form.first == np.arange(4096)).all()
    assert set(form.leaf_bytes) == {2 * MIB}
    assert (form.phys_addr == 0x102E00000 + 4096 * np.arange(4096)).all()


def test_derived_form():
    form = sharing(Namespace(5 * GIB, GIB, 2 * MIB, "mem"), kernel("6.1"))
    assert form.first[:10].tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 8, 9]
    whole = sharing(Namespace(5 * GIB, GIB, 2 * MIB, "dev"), kernel("6.1"))
    assert whole.phys_addr[0] == 0x140200000, "the first aligned block behind the info block"


def test_two_blocks_on_the_same_memory_are_found():
    doubled = {"runs": [entries(2 * MIB, 8, 0x102E00000, 0)]}
    assert compare_vmemmap(WHOLE, run("5.17")) == []
    assert [d.field.split(",")[0] for d in compare_vmemmap(doubled, run("5.17"))] == ["shares with vmemmap page"]


# -- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "runs",
    [
        None,
        7,
        [7],
        [{}],
        [entries(2 * MIB, 9, 0, 2 * MIB)],
        [entries(4096, 1, 0, 4096, page=-1)],
        [entries(4096, 1 << 60, 0, 0)],
        [entries(4096, 0, 0, 0)],
        [entries(4096, -1, 0, 0)],
        [entries(8192, 1, 0, 0)],
        [entries(4096, 2, 0, -4096)],
        [entries(4096, 1, 7, 0)],
        [entries(2 * MIB, 1, 4096, 0)],
        [entries(4096, 2, 0, 1 << 62)],
        [entries(4096, 2, 0, 4096), entries(4096, 1, 0, 0, page=1)],
        [entries(4096, 1, 0, 0) | {"va": "zz"}],
        [entries(4096, 1, 0, 0) | {"pa": None}],
        [entries(4096, 1, 0, 0) | {"count": 1.5}],
        [entries(4096, 1, 0, 0) | {"count": True}],
    ],
)
def test_malformed_entries_are_refused(runs):
    with pytest.raises(WorkbenchError):
        compare_vmemmap({"runs": runs}, run("5.17"))


@pytest.mark.parametrize(
    "made",
    [
        None,
        {},
        {"kernel": {"family": "6.1"}},
        {"kernel": {"family": "6.1"}, "states": [{}]},
        {"kernel": {"family": "6.1"}, "states": [{"actions": [{}]}]},
        {"kernel": {"family": "6.1"}, "states": [{"actions": [{"op": "boot"}]}]},
        {"kernel": {"family": "7.0"}, "states": run()["states"]},
        run(size=MAX_NAMESPACE_BYTES + 2 * MIB),
        run(size=1 << 80),
        run(align=8192),
        run(map="ram"),
        run(start=4096),
    ],
)
def test_malformed_runs_are_refused(made):
    with pytest.raises(WorkbenchError):
        compare_vmemmap(WHOLE, made)


@pytest.mark.parametrize(
    ("field", "value"), [("vmemmap_backing", [1]), ("actions", 5), ("actions", [{"op": "boot", "result": [1]}])]
)
def test_malformed_states_are_refused(field, value):
    made = run()
    made["states"][0][field] = value
    with pytest.raises(WorkbenchError):
        compare_vmemmap_backing(made)
