# SPDX-License-Identifier: GPL-2.0-only
"""The cost table against the specification's numbers and the recorded rows of real kernels."""

import copy
import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.lab.difference import Difference, differences, read_json
from workbench.lab.overhead import (
    NAMESPACE_START,
    STAGES,
    cost_table,
    kernel_of,
    overhead,
    report_json,
    report_lines,
    side_by_side,
    stage_of,
)
from workbench.lab.overhead_check import CONTEXT, check, check_json, check_lines, recorded_table
from workbench.nvdimm import MAPS, SUPPORTED_ALIGNS, Namespace

CAPTURES = Path(os.environ.get("WORKBENCH_CAPTURES", Path(__file__).parents[2] / "data" / "captures"))
KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
KERNELS = ("5.10", "5.15", "5.16+0", "5.16+4", "5.16+11", "5.17", "6.1", "6.1-nodedup", "6.12")


@pytest.fixture(scope="module")
def recorded():
    return read_json(CAPTURES / "overhead.json")


# -- recorded rows -------------------------------------------------------------------------------------


def test_every_recorded_row_is_derived_exactly(recorded):
    checked = check(recorded)
    assert len(checked) == len(recorded["rows"]) >= 12
    assert [(row.name, found) for row, found in checked if found] == []


@pytest.mark.parametrize("start", [0, GIB, 4 * GIB, 63 * GIB])
def test_recorded_rows_do_not_depend_on_the_gib_they_start_at(recorded, start):
    assert not any(found for _, found in check(recorded, start))


@pytest.mark.parametrize(
    "field",
    ["dev_size", "lost_to_metadata_in_namespace", "memmap_init_message"]
    + [
        f"vmemmap.{n}"
        for n in ("ptes_4k", "pmds_2m", "va_bytes", "distinct_physical_bytes", "distinct_4k", "max_share")
    ],
)
def test_a_changed_number_is_found(recorded, field):
    changed = copy.deepcopy(recorded)
    row = changed["rows"][2]
    if field.startswith("vmemmap."):
        row["vmemmap"][field.removeprefix("vmemmap.")] += 1
    elif field == "memmap_init_message":
        row[field] = row[field].replace("4194304", "4194303")
    else:
        row[field] += 1
    checked = check(changed)
    assert [len(found) for _, found in checked] == [0, 0, 1] + [0] * (len(checked) - 3)
    assert checked[2][1][0].field == field.replace("memmap_init_message", "pages initialised")
    assert sum(line.startswith("different") for line in check_lines(checked)) == 1
    assert [row["status"] for row in check_json(checked)["rows"]].count("different") == 1


def test_free_memory_is_context_only(recorded):
    changed = copy.deepcopy(recorded)
    for row in changed["rows"]:
        row["memfree_after_kB"] = 0
    checked = check(changed)
    assert not any(found for _, found in checked)
    assert check_json(checked)["rows"][0]["context"]["memfree_after_kB"] == 0


def test_another_kernel_for_a_row_is_a_difference(recorded):
    """The 6.1 row with shared vmemmap pages is not what a kernel without sharing costs."""
    changed = copy.deepcopy(recorded)
    changed["rows"][2]["kernel"] = "6.1nodedup"
    fields = {difference.field for difference in check(changed)[2][1]}
    assert {"vmemmap.ptes_4k", "vmemmap.distinct_physical_bytes", "vmemmap.max_share"} <= fields


def test_a_row_no_kernel_would_make_is_a_difference(recorded):
    changed = copy.deepcopy(recorded)
    changed["rows"][4]["namespace_GiB"] = 1  # align 1G
    found = check(changed)[4][1]
    assert [difference.field for difference in found] == ["namespace"]


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.clear(),
        lambda rows: rows.append(7),
        lambda rows: rows[0].pop("vmemmap"),
        lambda rows: rows[0].update(vmemmap=[]),
        lambda rows: rows[0].update(dev_size="1"),
        lambda rows: rows[0].update(dev_size=True),
        lambda rows: rows[0].update(namespace_GiB=float("nan")),
        lambda rows: rows[0].update(namespace_GiB=float("inf")),
        lambda rows: rows[0].update(namespace_GiB=-1),
        lambda rows: rows[0].update(namespace_GiB=0.1),
        lambda rows: rows[0].update(align="2X"),
        lambda rows: rows[0].update(kernel="7.0"),
    ],
)
def test_malformed_rows_are_refused(recorded, change):
    changed = copy.deepcopy(recorded)
    change(changed["rows"])
    with pytest.raises(WorkbenchError):
        check(changed)


@pytest.mark.parametrize("content", [None, [], {}, {"kind": "overhead"}, {"kind": "pages", "rows": [{}]}])
def test_other_files_are_refused(content):
    with pytest.raises(WorkbenchError, match="overhead"):
        check(content)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100000])
def test_files_that_are_not_json_are_refused(tmp_path, content):
    path = tmp_path / "overhead.json"
    path.write_bytes(content)
    with pytest.raises(WorkbenchError, match="not a JSON file"):
        read_json(path)
    with pytest.raises(WorkbenchError, match="cannot read"):
        read_json(tmp_path / "missing.json")


def test_recorded_table(recorded):
    table = recorded_table(recorded)
    assert set(table["provenance"].values) == {"captured"}
    assert table.sizes == {"row": len(recorded["rows"])}
    assert table["ram_cost_kB"].attrs["units"] == "KiB"
    assert table["dev_size"].values.tolist() == [row["dev_size"] for row in recorded["rows"]]
    short = copy.deepcopy(recorded)
    del short["rows"][1][CONTEXT[0]]
    with pytest.raises(WorkbenchError, match=CONTEXT[0]):
        recorded_table(short)


# -- the specification's numbers -------------------------------------------------------------------------


#                 kernel    align   struct pages written, compounds, references   (algorithms.md A6, per GiB)
@pytest.mark.parametrize(
    ("kernel", "align", "written", "compounds", "refs"),
    [
        ("5.16", 2 * MIB, 262144, 0, 262144),
        ("5.17", 4 * KIB, 262144, 0, 262144),
        ("5.17", 2 * MIB, 262144, 512, 512),
        ("5.17", GIB, 262144, 1, 1),
        ("6.1", 2 * MIB, 65536, 512, 512),
        ("6.1", GIB, 128, 1, 1),
        ("6.1-nodedup", GIB, 262144, 1, 1),
    ],
)
def test_work_per_gib(kernel, align, written, compounds, refs):
    cost = overhead(Namespace(4 * GIB, 1024 * GIB, align, "mem"), kernel)
    assert cost.struct_pages_written == 1024 * written
    assert cost.compounds == 1024 * compounds
    assert cost.pgmap_refs == 1024 * refs


def test_the_storage_of_an_altmap_is_initialised_too():
    """1 GiB, map dev: 4606 pages of storage, then 1006 MiB of data, 503 compounds."""
    cost = overhead(Namespace(4 * GIB, GIB, 2 * MIB, "dev"), "6.1")
    assert cost.pages_initialised == 1006 * 256
    assert cost.struct_pages_written == 4606 + 1006 * 256
    assert cost.pgmap_refs == 503
    assert cost.backing.dram_bytes == 0


@pytest.mark.parametrize(
    ("kernel", "align", "physical"),
    [("5.17", 2 * MIB, 16 * GIB), ("6.1", 2 * MIB, 4 * GIB), ("6.12", GIB, 8 * MIB), ("6.1", 4 * KIB, 16 * GIB)],
)
def test_struct_page_memory_per_tib(kernel, align, physical):
    assert overhead(Namespace(0, TIB, align, "mem"), kernel).backing.distinct_physical_bytes == physical


@pytest.mark.parametrize("align", SUPPORTED_ALIGNS)
@pytest.mark.parametrize("map", MAPS)
def test_the_series_alone_saves_no_memory(align, map):
    """5.15, 5.17 and 6.1 without deduplication cost the same, whatever the align."""
    namespace = Namespace(NAMESPACE_START, 16 * GIB, align, map)
    walks = [overhead(namespace, kernel).backing for kernel in ("5.10", "5.15", "5.16+11", "5.17", "6.1-nodedup")]
    assert walks.count(walks[0]) == len(walks)
    assert walks[0].pmds_2m == 128


def test_an_altmap_is_never_shared():
    namespace = Namespace(NAMESPACE_START, 16 * GIB, GIB, "dev")
    assert overhead(namespace, "6.12").backing == overhead(namespace, "5.17").backing


def test_a_device_of_size_zero_is_refused():
    """1.5 GiB, align 1 GiB: 1 GiB of metadata, half a GiB cut off."""
    with pytest.raises(WorkbenchError, match="size 0") as refusal:
        overhead(Namespace(4 * GIB, 3 * GIB // 2, GIB, "mem"), "6.1")
    assert refusal.value.errno == errno.ENXIO


# -- properties --------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 4 * TIB // (2 * MIB)).map(lambda n: n * 2 * MIB),
    st.one_of(st.integers(1, 4096), st.integers(1, 32 * TIB // MIB)).map(lambda n: n * MIB),
    st.sampled_from(SUPPORTED_ALIGNS),
    st.sampled_from(MAPS),
    st.sampled_from(KERNELS),
)
def test_totals(start, size, align, map, kernel):
    try:
        cost = overhead(Namespace(start, size, align, map), kernel)
    except WorkbenchError as refusal:
        assert refusal.errno == errno.ENXIO
        return
    backing = cost.backing
    assert cost.dev_size + cost.lost_to_metadata_in_namespace == size
    assert backing.va_bytes == 64 * cost.nd_pfn.nr_pages
    assert backing.distinct_physical_bytes <= backing.va_bytes
    assert backing.altmap_bytes <= cost.lost_to_metadata_in_namespace
    assert cost.pages_initialised >= cost.dev_size // 4096
    assert cost.pgmap_refs <= cost.heads
    if map == "mem":
        assert backing.altmap_bytes == 0
        assert cost.pages_initialised == cost.nd_pfn.nr_pages
    else:
        assert cost.pages_initialised == cost.nd_pfn.npfns


# -- tables and reports --------------------------------------------------------------------------------------


def test_kernels_by_their_recorded_names():
    assert kernel_of("6.1nodedup") == kernel_of("6.1-nodedup")
    assert [stage_of(kernel_of(name).tree) for name in KERNELS] == [
        "before", "before", "before", "before", "after", "after", "dedup", "after", "dedup"
    ]  # fmt: skip
    assert {stage: stage_of(kernel_of(name).tree) for stage, name in STAGES.items()} == {s: s for s in STAGES}


def test_side_by_side_puts_the_kernel_into_its_column():
    namespace = Namespace(NAMESPACE_START, 16 * GIB, 2 * MIB, "mem")
    assert {stage: cost.kernel for stage, cost in side_by_side(namespace, "5.15").items()} == {
        "before": "5.15",
        "after": "5.17",
        "dedup": "6.1",
    }
    costs = side_by_side(namespace, "6.12")
    assert list(costs) == ["before", "after", "dedup"]
    assert costs["dedup"].kernel == "6.12"
    lines = report_lines(costs, "6.12")
    assert sum("dedup*" in line for line in lines) == 1
    assert any("17177772032" in line for line in lines)
    report = json.loads(json.dumps(report_json(costs)))
    assert report["lost_to_metadata_in_namespace"] == 2 * MIB
    assert report["costs"]["dedup"]["vmemmap"]["max_share"] == 7
    assert report["costs"]["before"]["vmemmap"]["distinct_physical_bytes"] == 256 * MIB


def test_report_of_an_altmap():
    report = report_json(side_by_side(Namespace(4 * GIB, GIB, 2 * MIB, "dev")))
    assert report["namespace"]["altmap"] == {"base_pfn": 0x100000, "reserve": 2, "free": 4606}
    assert report["costs"]["dedup"]["dram_bytes"] == 0


def test_cost_table():
    table = cost_table(side_by_side(Namespace(NAMESPACE_START, 16 * GIB, 2 * MIB, "mem")).values())
    assert set(table["provenance"].values) == {"derived"}
    assert table["stage"].values.tolist() == ["before", "after", "dedup"]
    assert table["dram_bytes"].attrs["units"] == "bytes"
    assert table["distinct_physical_bytes"].values.tolist() == [256 * MIB, 256 * MIB, 64 * MIB]
    assert {name for name in table if table[name].dtype.kind not in "iU"} == set()


def test_differences():
    assert differences({"a": 1, "b": 2}, {"a": 1, "b": 2}) == []
    assert differences({"a": 1}, {"a": True}) == [Difference("a", 1, True)]
    assert differences({"a": 1}, {"b": 2}, "x.") == [Difference("x.a", 1, None), Difference("x.b", None, 2)]
    assert str(Difference("a", 1, 2)) == "a: recorded 1, derived 2"
