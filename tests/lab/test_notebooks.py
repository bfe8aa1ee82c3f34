# SPDX-License-Identifier: GPL-2.0-only
"""Notebooks are run by a real kernel, one small notebook a property."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from workbench.errors import WorkbenchError
from workbench.lab import notebooks


def write(folder: Path, *cells: str, name: str = "00_it.ipynb") -> Path:
    """A notebook of code cells (a cell that starts with # and a space is Markdown)."""
    made = [
        (new_markdown_cell if source.startswith("# ") else new_code_cell)(source, id=f"c{number}")
        for number, source in enumerate(cells)
    ]
    path = folder / name
    path.write_text(nbformat.writes(new_notebook(cells=made)))
    return path


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """The text of every output."""
    return [
        output.get("text") or output.data["text/plain"]
        for cell in notebooks.code_cells(notebook)
        for output in cell.outputs
    ]


def test_cells_run_in_order_in_their_folder_and_the_file_is_unchanged(tmp_path: Path) -> None:
    path = write(tmp_path, "# Title", "import os, sys\nx = 1", "x += 1\nx", "os.getcwd()", "sys.executable")
    before = path.read_bytes()
    done = notebooks.execute(path, progress=False)
    assert texts(done) == ["2", repr(str(tmp_path)), repr(sys.executable)]
    assert [cell.execution_count for cell in notebooks.code_cells(done)] == [1, 2, 3, 4]
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    assert all("execution" not in cell.metadata for cell in done.cells), "no timings"


def test_kernel_listens_on_no_port_and_reads_no_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = tmp_path / "home" / ".ipython" / "profile_default" / "startup"
    kernel = tmp_path / "home" / ".local" / "share" / "jupyter" / "kernels" / "python3"
    for folder in (profile, kernel):
        folder.mkdir(parents=True)
    (profile / "mine.py").write_text("mine = 1")
    (kernel / "kernel.json").write_text('{"argv": ["/bin/false"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = write(
        tmp_path,
        "import ipykernel, json\njson.load(open(ipykernel.get_connection_file()))['transport']",
        "'mine' in globals()",
    )
    assert texts(notebooks.execute(path, progress=False)) == ["'ipc'", "False"]


def test_figures_leave_the_kernel_as_plotly_json_without_a_browser(tmp_path: Path) -> None:
    path = write(tmp_path, "import plotly.graph_objects as go", "go.Figure(go.Bar(y=[1]))")
    output = notebooks.code_cells(notebooks.execute(path, progress=False))[1].outputs[0]
    assert set(output.data) == {"application/vnd.plotly.v1+json"}


def test_widgets_leave_no_state(tmp_path: Path) -> None:
    done = notebooks.execute(write(tmp_path, "import ipywidgets\nipywidgets.IntSlider()"), progress=False)
    assert "widgets" not in done.metadata


def test_first_failing_cell_ends_the_run_and_is_shown(tmp_path: Path) -> None:
    path = write(
        tmp_path, "# Title", "print('before')\nx = 0", "y = 5\ny / x", "open('reached', 'w')", name="02_x.ipynb"
    )
    with pytest.raises(WorkbenchError) as caught:
        notebooks.execute(path, progress=False)
    message = str(caught.value)
    assert message.startswith("02_x.ipynb stopped at cell 3 of 4 (id c2): ZeroDivisionError: division by zero")
    assert "   1  y = 5\n   2  y / x\n" in message
    assert "before" not in message and "\x1b" not in message
    assert not (tmp_path / "reached").exists()


def test_output_of_the_failing_cell_is_shown(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match=r"(?s)It had written:\nhint.*ValueError: bad"):
        notebooks.execute(write(tmp_path, "print('hint')\nraise ValueError('bad')"), progress=False)


def test_a_cell_that_must_fail_may(tmp_path: Path) -> None:
    path = write(tmp_path, "1 / 0", "'after'")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].metadata["tags"] = ["raises-exception"]
    nbformat.write(notebook, path)
    done = notebooks.execute(path, progress=False)
    assert (
        done.cells[0].outputs[0].ename == "ZeroDivisionError"
        and done.cells[1].outputs[0].data["text/plain"] == "'after'"
    )


def test_a_cell_that_takes_too_long_is_shown(tmp_path: Path) -> None:
    path = write(tmp_path, "import time", "time.sleep(60)")
    start = time.monotonic()
    with pytest.raises(WorkbenchError, match=r"(?s)cell 2 of 2 .*more than 2 s.*time\.sleep\(60\)"):
        notebooks.execute(path, progress=False, timeout_s=2)
    assert time.monotonic() - start < 40


def test_a_dead_kernel_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match=r"(?s)cell 1 of 1 .*the kernel died.*os\._exit"):
        notebooks.execute(write(tmp_path, "import os\nos._exit(1)"), progress=False)


def test_ctrl_c_ends_the_kernel_and_is_not_swallowed(tmp_path: Path) -> None:
    path = write(tmp_path, "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(300)")
    script = f"from pathlib import Path; from workbench.lab.notebooks import execute; execute(Path({str(path)!r}))"
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) as process:
        pid = tmp_path / "pid"
        wait_for(lambda: pid.exists() and pid.read_text())
        process.send_signal(signal.SIGINT)
        stderr = process.communicate(timeout=60)[1]
    assert process.returncode in (1, -signal.SIGINT, 130) and "KeyboardInterrupt" in stderr
    wait_for(lambda: not Path(f"/proc/{pid.read_text()}").exists())


def test_the_bar_counts_cells(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    notebooks.execute(write(tmp_path, "# Title", "1", "2"), prefix="1/2 ")
    assert "1/2 00_it: 100%" in (shown := capfd.readouterr().err) and "3/3" in shown


def test_outputs_in_the_file_are_dropped(tmp_path: Path) -> None:
    path = write(tmp_path, "1")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", text="stale")]
    notebook.cells[0].execution_count = 9
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {}}
    nbformat.write(notebook, path)
    cell = notebooks.code_cells(notebooks.read(path))[0]
    assert cell.outputs == [] and cell.execution_count is None and "widgets" not in notebooks.read(path).metadata


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"nbformat": 4, "cells": 3}', "\udcff"])
def test_what_is_no_notebook_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.ipynb"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(WorkbenchError, match="is no notebook"):
        notebooks.read(path)
    with pytest.raises(WorkbenchError, match="is no notebook"):
        notebooks.read(tmp_path / "absent.ipynb")


@pytest.mark.parametrize(
    ("source", "expected"),
    [("# The *map* of `it` #", "The map of it"), ("text\n\n## Second\n# Third", "Second"), ("no heading", "name")],
)
def test_title_is_the_first_heading(source: str, expected: str) -> None:
    notebook = new_notebook(cells=[new_code_cell("# not this"), new_markdown_cell(source)])
    assert notebooks.title(notebook, "name") == expected


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
