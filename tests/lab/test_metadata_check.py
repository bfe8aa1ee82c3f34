# SPDX-License-Identifier: GPL-2.0-only
"""Everything recorded about metadata, compared in one go."""

import json
import os
import shutil
from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.lab.metadata_check import check_path, check_run

CAPTURES = Path(os.environ.get("WORKBENCH_CAPTURES", Path(__file__).parents[2] / "data" / "captures"))
RUN = "k6.1-static-2M-mem"


def test_all_recorded_metadata_is_derived_exactly():
    checked = check_path(CAPTURES)
    assert checked.rows
    assert not checked.differs, "\n".join(line for line in checked.lines if line.startswith("different"))
    assert {run.compared for run in checked.runs} >= {("namespace", "vmemmap_backing", "sharing"), ()}
    assert len(checked.lines) == len(checked.rows) + len(checked.runs) - checked.left_out + 1
    report = json.loads(json.dumps(checked.json))
    assert {entry["status"] for entry in report["rows"] + report["runs"]} == {"equal"}
    assert report["runs_left_out"] == checked.left_out


@pytest.fixture
def folder(tmp_path):
    """A folder with one static run and the cost table, both to be changed."""
    (tmp_path / RUN).mkdir()
    for name in (f"{RUN}/capture.json", f"{RUN}/vmemmap.json", "overhead.json"):
        shutil.copyfile(CAPTURES / name, tmp_path / name)
    return tmp_path


def change(path, how):
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("file", "how", "field"),
    [
        ("capture.json", lambda c: c["namespace"].update(device_size=1), "namespace.device_size"),
        ("capture.json", lambda c: c["namespace"].pop("end_pfn"), "namespace.end_pfn"),
        ("capture.json", lambda c: c["vmemmap_backing"].update(max_share=8), "vmemmap_backing.max_share"),
        ("vmemmap.json", lambda c: c["runs"].pop(), "leaf_bytes"),
    ],
)
def test_each_record_is_compared(folder, file, how, field):
    assert not check_path(folder).differs
    change(folder / RUN / file, how)
    checked = check_path(folder)
    assert checked.differs
    assert checked.runs[0].differences[0].field.startswith(field)
    assert [line.split()[0] for line in checked.lines][-1] == "different"
    assert checked.json["runs"][0]["status"] == "different"
    assert check_path(folder / RUN).runs == checked.runs == [check_run(folder / RUN)]


def test_a_changed_row_differs(folder):
    change(folder / "overhead.json", lambda c: c["rows"][0].update(dev_size=1))
    assert check_path(folder).differs
    assert check_path(folder / "overhead.json").differs
    assert not check_path(folder / RUN).differs


def test_nothing_to_compare(tmp_path):
    with pytest.raises(WorkbenchError, match="neither"):
        check_path(tmp_path)
    with pytest.raises(WorkbenchError, match="cannot read"):
        check_path(tmp_path / "overhead.json")
    (tmp_path / "capture.json").write_text("[]")
    with pytest.raises(WorkbenchError, match="no recorded run"):
        check_path(tmp_path)


def test_a_file_too_large_is_not_read(tmp_path):
    path = tmp_path / "overhead.json"
    with path.open("wb") as stream:
        stream.truncate((64 << 20) + 1)
    with pytest.raises(WorkbenchError, match="at most 64 MiB"):
        check_path(path)
