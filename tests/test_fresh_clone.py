# SPDX-License-Identifier: GPL-2.0-only
"""A newcomer: HEAD cloned into an empty folder, with an empty home, set up from nothing, one notebook executed."""

import os
import re
import subprocess
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = "notebooks/02_head_tail_split.ipynb"

# Settings without which some machines reach no package index
KEPT = re.compile(r"PATH|LANG|(PIP|UV|SSL)_.*|.*_proxy|.*_PROXY")


@pytest.mark.slow
def test_a_fresh_clone_sets_itself_up_and_runs_a_notebook(tmp_path):
    clone = tmp_path / "clone"
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if KEPT.fullmatch(name)} | {"HOME": str(home)}
    users_pip_conf = Path.home() / ".config" / "pip" / "pip.conf"
    if users_pip_conf.exists():
        environment.setdefault("PIP_CONFIG_FILE", str(users_pip_conf))

    def run(*command):
        done = subprocess.run(
            command,
            cwd=clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)
    assert "Set up: .venv/bin/workbench" in run("make", "setup")
    assert run("make", "setup") == "", "a second set-up has nothing to do"
    assert str(clone) in run(".venv/bin/python", "-c", "import workbench; print(workbench.__file__)")

    executed = tmp_path / "executed.ipynb"
    run(".venv/bin/jupyter", "nbconvert", "--to", "notebook", "--execute", "--output", str(executed), NOTEBOOK)
    cells = [cell for cell in nbformat.read(executed, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.execution_count for cell in cells if cell.source.strip())
    assert any(cell.outputs for cell in cells)
    assert run("git", "status", "--porcelain") == "", "set-up and notebook leave no file that git would see"
