# SPDX-License-Identifier: GPL-2.0-only
"""What struct pages cost.  Expected numbers are those published with the series and its follow-up, or arithmetic."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.lab.device_cost import captured_per_gib, derived_per_gib, device_cost
from workbench.view.cost import Calculator, cost_figure, cost_table, headline, release_figure
from workbench.view.export import description

KIB, MIB, GIB, TIB = (1 << shift for shift in (10, 20, 30, 40))
CAPTURES = Path(__file__).resolve().parents[2] / "data" / "captures"
WALKS = sorted(CAPTURES.glob("k*/vmemmap.json"))


def stages(cost, name):
    """A column of the cost table: before, after, with the follow-up."""
    return cost[name].values.tolist()


# One device


@pytest.mark.parametrize(
    ("align", "follow_up"),
    [("4K", 16 * GIB), ("2M", 4 * GIB), ("1G", 8 * MIB)],
)
def test_a_tebibyte_costs_what_the_follow_up_published(align, follow_up):
    assert stages(device_cost("1T", align), "distinct_physical_bytes") == [16 * GIB, 16 * GIB, follow_up]


def test_with_its_page_tables_a_tebibyte_in_compounds_of_1_gib_costs_40_mib():
    assert stages(device_cost("1T", "1G"), "dram_bytes") == [16 * GIB, 16 * GIB, 40 * MIB]


@pytest.mark.parametrize(
    ("align", "initialised", "references"),
    [
        # per GiB: struct pages initialised and references that the device holds, before, after, follow-up
        ("4K", (262144, 262144, 262144), (262144, 262144, 262144)),
        ("2M", (262144, 262144, 65536), (262144, 512, 512)),
        ("1G", (262144, 262144, 128), (262144, 1, 1)),
    ],
)
def test_work_per_gib(align, initialised, references):
    cost = device_cost("64G", align)
    assert stages(cost, "struct_pages_written") == [64 * n for n in initialised]
    assert stages(cost, "pgmap_refs") == [64 * n for n in references]


@pytest.mark.parametrize("align", ["4K", "2M", "1G"])
def test_struct_pages_in_the_device_are_never_shared(align):
    cost = device_cost("1T", align, "dev")
    assert stages(cost, "distinct_physical_bytes") == [16 * GIB] * 3
    assert stages(cost, "dram_bytes") == [0, 0, 0]


@given(sections=st.integers(1, 1 << 19))
def test_whole_sections_cost_a_64th_and_the_follow_up_a_quarter_of_it(sections):
    size = sections * 128 * MIB
    assert stages(device_cost(size, "2M"), "distinct_physical_bytes") == [size // 64, size // 64, size // 256]


@pytest.mark.parametrize("size", ["0", "65T", "1E", "a lot", "0.3"])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(WorkbenchError):
        device_cost(size)


def test_the_kernel_refuses_a_device_whose_data_has_no_room():
    with pytest.raises(WorkbenchError) as refusal:
        device_cost("1G", "1G")
    assert refusal.value.errno_name == "ENXIO"


# By release


def test_per_gib_by_release_and_align():
    table = derived_per_gib(["5.15", "5.16", "5.17", "6.1", "6.12"])
    got = {
        (kernel, align): nbytes
        for kernel, align, nbytes in zip(
            table.kernel.values, table.align.values, table.bytes_per_gib.values.tolist(), strict=True
        )
    }
    for kernel in ("5.15", "5.16", "5.17"):
        assert [got[kernel, align] for align in (4 * KIB, 2 * MIB, GIB)] == [16 * MIB] * 3
    for kernel in ("6.1", "6.12"):
        assert [got[kernel, align] for align in (4 * KIB, 2 * MIB, GIB)] == [16 * MIB, 4 * MIB, 8 * KIB]
    assert set(table.provenance.values.tolist()) == {"derived"}


def test_captured_rows_are_the_recorded_walks():
    table = captured_per_gib(CAPTURES / "overhead.json", WALKS)
    assert set(table.provenance.values.tolist()) == {"captured"}
    got = {
        (kernel, align, map): nbytes
        for kernel, align, map, nbytes in zip(
            *(table[name].values.tolist() for name in ("kernel", "align", "map", "bytes_per_gib")), strict=True
        )
    }
    assert got["5.10", 2 * MIB, "mem"] == got["5.17", 2 * MIB, "mem"] == got["6.1", 4 * KIB, "mem"] == 16 * MIB
    assert got["6.1", 2 * MIB, "mem"] == got["6.12", 2 * MIB, "mem"] == 4 * MIB
    assert got["6.1", GIB, "mem"] == 8 * KIB
    assert got["6.1", GIB, "dev"] == got["6.1nodedup", 2 * MIB, "mem"] == 16 * MIB


def test_records_that_disagree_are_refused(tmp_path):
    record = json.loads((CAPTURES / "k6.1-static-2M-mem" / "vmemmap.json").read_text())
    for number, run in enumerate(record["runs"]):
        run.update(pa=hex((1 << 40) + (number << 21)), pa_step=4096)
    other = tmp_path / "vmemmap.json"
    other.write_text(json.dumps(record))
    with pytest.raises(WorkbenchError, match="two records"):
        captured_per_gib(CAPTURES / "overhead.json", [*WALKS, other])


@pytest.mark.parametrize(
    "record",
    [[], {"name": "k6.1-static-2M-mem"}, {"name": "../x", "runs": [{}]}, {"name": "k6.1-static-2M-mem", "runs": [{}]}],
)
def test_a_file_that_is_no_walk_is_refused(tmp_path, record):
    path = tmp_path / "vmemmap.json"
    path.write_text(json.dumps(record))
    with pytest.raises(WorkbenchError, match=r"vmemmap\.json"):
        captured_per_gib(CAPTURES / "overhead.json", [path])


def test_release_figure_marks_what_was_captured():
    derived = derived_per_gib(["5.16", "6.1"], [2 * MIB])
    fig = release_figure(derived, captured_per_gib(CAPTURES / "overhead.json"))
    (bars,) = (trace for trace in fig.data if trace.type == "bar")
    assert list(bars.x) == [16 * MIB, 4 * MIB]
    marks = {trace.marker.symbol: list(trace.y) for trace in fig.data if trace.type == "scatter"}
    assert [name.split(",")[0] for name in marks["triangle-up"]] == ["5.16"]
    assert [name.split(",")[0] for name in marks["square"]] == ["6.1"]


def test_release_figure_refuses_a_captured_number_that_differs():
    derived = derived_per_gib(["6.1"], [2 * MIB])
    derived["bytes_per_gib"] = derived.bytes_per_gib + 1
    with pytest.raises(WorkbenchError, match="captured"):
        release_figure(derived, captured_per_gib(CAPTURES / "overhead.json"))


# What people see


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (("1T", "2M"), "the series leaves it at 16 GiB, the follow-up brings it to 4 GiB"),
        (("1T", "1G"), "the series leaves it at 16 GiB, the follow-up brings it to 8 MiB"),
        (("1T", "4K"), "it stays at 16 GiB: with an align of 4 KiB there are no compound pages"),
        (("1T", "2M", "dev"), "it stays at 16 GiB: struct pages kept in the device (altmap) are never shared"),
    ],
)
def test_headline(device, words):
    assert headline(device_cost(*device)) == words


def test_cost_figure_draws_the_dataset_and_says_so():
    cost = device_cost("2T", "2M")
    fig = cost_figure(cost)
    assert [bar.x[0] for bar in fig.data] == [32 * GIB, 32 * GIB, 8 * GIB]
    assert fig.layout.xaxis.range[0] == 0
    caption, alt = description(fig)
    assert "Derived" in caption and "2 TiB" in caption
    assert alt.count("32 GiB") == 2 and "8 GiB" in alt
    assert fig.layout.meta["origin"] == "derived"


def test_cost_figure_hatches_struct_pages_in_the_device():
    fig = cost_figure(device_cost("1T", "2M", "dev"))
    assert {bar.marker.pattern.shape for bar in fig.data} == {"/"}
    assert "inside the device" in description(fig)[0]


def test_cost_table_has_the_numbers_in_text_and_html():
    table = cost_table(device_cost("1T", "1G"))
    for shown in (repr(table), table._repr_html_()):
        for number in ("16 GiB", "1.56 %", "8 MiB", "0.000763 %", "40 MiB", "268,435,456", "131,072", "1,024"):
            assert number in shown


def test_calculator_follows_its_controls():
    calculator = Calculator("1T", "2M")
    assert "4 GiB" in calculator.result.value
    calculator.align.value = GIB
    assert "8 MiB" in calculator.result.value and "4 GiB" not in calculator.result.value
    calculator.map.value = "dev"
    assert "inside the device" in calculator.result.value
    calculator.map.value = "mem"
    calculator.size.value = "2T"
    assert "16 MiB" in calculator.result.value


def test_calculator_answers_a_refused_device_with_the_reason():
    calculator = Calculator("1T", "1G")
    calculator.size.value = "1G"
    assert 'role="alert"' in calculator.result.value and "leave no data" in calculator.result.value
    calculator.size.value = "<script>"
    assert "<script>" not in calculator.result.value
    calculator.size.value = "2G"
    assert 'role="alert"' not in calculator.result.value


def test_calculator_reads_without_a_kernel():
    bundle = Calculator("1T", "2M")._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "16 GiB" in bundle["text/html"] and "16 GiB" in bundle["text/plain"]
