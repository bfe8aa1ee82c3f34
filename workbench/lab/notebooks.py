# SPDX-License-Identifier: GPL-2.0-only
"""Run a notebook headless, from its first cell to its last, in a kernel of its own.

The kernel is this interpreter's ipykernel, reached over sockets in a private folder (``ipc``: no port is
opened), started in ``notebooks/`` and ended with the notebook.  No IPython profile and no kernel of the
user is read.  Figures leave the kernel as plotly's JSON; ``workbench.lab.pages`` adds static images and
writes the page.

A notebook of this project is ``.ipynb`` with no outputs in git.  A cell that fails ends the run; the error
shows the cell.  A cell that must fail carries the tag ``raises-exception``.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm

from workbench.errors import WorkbenchError
from workbench.lab.loop import LoopThread

TIMEOUT_S = 600
"""Seconds a cell may take."""

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def read(path: Path) -> NotebookNode:
    """A notebook from disk, its outputs dropped.

    Parameters
    ----------
    path : pathlib.Path
        A notebook of format 4.

    Raises
    ------
    WorkbenchError
        It cannot be read, or is no notebook.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, nbformat.ValidationError) as error:
        raise WorkbenchError(f"{path} is no notebook: {error}. Open it in JupyterLab, or take it from git.") from error
    for cell in code_cells(notebook):
        cell.outputs = []
        cell.execution_count = None
    notebook.metadata.pop("widgets", None)
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def title(notebook: NotebookNode, default: str) -> str:
    """The text of the first heading, else ``default``."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (heading := re.search(r"^#+\s+(.+?)\s*#*$", cell.source, re.MULTILINE)):
            return re.sub(r"[*_`]", "", heading[1])
    return default


def execute(path: Path, *, timeout_s: int = TIMEOUT_S, progress: bool = True, prefix: str = "") -> NotebookNode:
    """Run the notebook at ``path``; the file is not changed.

    Parameters
    ----------
    path : pathlib.Path
        The notebook; its folder is the kernel's working folder.
    timeout_s : int
        Seconds a cell may take.
    progress : bool
        Show a bar on stderr, a step for each cell.
    prefix : str
        Put before the notebook's name in the bar, such as ``"2/4 "``.

    Returns
    -------
    nbformat.NotebookNode
        A copy with outputs, without widget state and without timings.

    Raises
    ------
    WorkbenchError
        A cell fails, takes too long, or the kernel dies; the message shows the cell.
    KeyboardInterrupt
        Ctrl-C; the kernel is gone when this is raised.
    """
    notebook = read(path)
    with (
        tempfile.TemporaryDirectory(prefix="workbench-") as folder,
        tqdm(total=len(notebook.cells), desc=prefix + path.stem, unit="cell", disable=not progress) as bar,
        LoopThread() as loop,
    ):
        at = _Position()
        client = NotebookClient(
            notebook,
            km=_kernel_manager(Path(folder)),
            timeout=timeout_s,
            resources={"metadata": {"path": str(path.parent)}},
            store_widget_state=False,
            record_timing=False,
            coalesce_streams=True,
            on_cell_start=at.set,
            on_cell_complete=lambda **_: bar.update(),
        )
        client.owns_km = True  # the client ends the kernel, also when it is cancelled
        try:
            loop.run(client.async_execute(env=_environment(Path(folder))))
        except CellExecutionError as error:
            last = _ANSI.sub("", error.traceback).rstrip().splitlines()[-12:]
            raise WorkbenchError(_stopped(path, notebook, at.index, f"{error.ename}: {error.evalue}", last)) from error
        except CellTimeoutError as error:
            what = f"it took more than {timeout_s} s"
            raise WorkbenchError(_stopped(path, notebook, at.index, what, [])) from error
        except DeadKernelError as error:
            what = "the kernel died (out of memory? a crash in compiled code?)"
            raise WorkbenchError(_stopped(path, notebook, at.index, what, [])) from error
        bar.update(bar.total - bar.n)
    return notebook


class _Position:
    """Remembers the cell that runs."""

    index = 0

    def set(self, cell_index: int, **_: Any) -> None:
        self.index = cell_index


def _kernel_manager(folder: Path) -> AsyncKernelManager:
    """A manager of this interpreter's kernel; its sockets and connection file lie in ``folder``."""
    return AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
        transport="ipc",
        ip=str(folder / "k"),
        connection_file=str(folder / "kernel.json"),
    )


def _environment(folder: Path) -> Mapping[str, str]:
    """What the kernel finds in its environment."""
    return {
        **os.environ,
        "IPYTHONDIR": str(folder / "ipython"),
        "PLOTLY_RENDERER": "plotly_mimetype",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def _stopped(path: Path, notebook: NotebookNode, index: int, what: str, trace: list[str]) -> str:
    """The message for a notebook that stopped at cell ``index``, the cell shown."""
    cell = notebook.cells[index]
    lines = [f"{number:4}  {line}" for number, line in enumerate(cell.source.splitlines(), 1)]
    streams = [
        line
        for output in cell.get("outputs", [])
        if output.output_type == "stream"
        for line in output.text.splitlines()
    ]
    return "\n".join(
        [
            f"{path.name} stopped at cell {index + 1} of {len(notebook.cells)} (id {cell.get('id', 'none')}): {what}",
            "",
            *lines,
            "",
            *(["It had written:", *streams[-12:], ""] if streams else []),
            *([*trace, ""] if trace else []),
            "Run it cell by cell in JupyterLab:   make lab",
        ]
    )
