# SPDX-License-Identifier: GPL-2.0-only
"""A Jupyter server of one's own, and what a test must know of a page: what it asked for and what went wrong."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Page, TimeoutError

ROOT = Path(__file__).resolve().parents[3]

ALLOWED = (
    "Failed to load resource: the server responded with a status of 404",  # a workspace that is not there yet
    "was preloaded using link preload but not used",
)
"""Console messages of JupyterLab's own, on a page without any of our widgets too."""


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server(folder: Path, *command: str) -> Iterator[str]:
    """Run a Jupyter application over ``folder``; gives its address.  ``{port}`` in the command is filled in."""
    port = free_port()
    home = folder / "home"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    environment = kept | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_PATH": str(ROOT / "workbench" / "view" / "explorer"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    said = folder / "said"
    with said.open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", *(part.format(port=port) for part in command)],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(600):
                if running.poll() is not None:
                    break
                try:
                    with urllib.request.urlopen(f"{address}/api", timeout=5):
                        break
                except urllib.error.HTTPError:
                    break  # somebody answers
                except OSError:
                    time.sleep(0.1)
            assert running.poll() is None, said.read_text()
            yield address
        finally:
            running.terminate()
            running.wait(30)


def write_notebook(folder: Path, *code: str) -> None:
    cells = [new_code_cell(source, id=f"c{k}") for k, source in enumerate(code)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), folder / "map.ipynb")


def run_first_cell(page: Page, address: str, timeout_s: float = 90) -> None:
    """Open the notebook in JupyterLab and run its first cell; the next one is selected then.

    JupyterLab takes keys before its kernel does, and forgets them or asks for a kernel: the key is pressed, and the
    kernel of the notebook accepted, until the cell has begun.
    """
    page.goto(f"{address}/lab/tree/map.ipynb", wait_until="commit")
    first = page.locator(".jp-Notebook .jp-Cell").first
    first.wait_for(timeout=1000 * timeout_s)
    end = time.monotonic() + timeout_s
    accept = page.locator(".jp-Dialog .jp-mod-accept")
    while time.monotonic() < end:
        if accept.count():
            accept.first.click()
        try:
            first.click(timeout=5000)
        except TimeoutError:  # a dialog came in between
            continue
        page.keyboard.press("Shift+Enter")
        for _ in range(20):
            if first.locator(".jp-InputPrompt").first.inner_text().strip() != "[ ]:":
                return
            page.wait_for_timeout(250)
    raise AssertionError(f"the first cell did not begin within {timeout_s} s")


def watch(page: Page) -> None:
    """Let ``page`` keep what it asks for and what goes wrong."""
    page.asked, page.wrong = [], []  # type: ignore[attr-defined]
    page.on("request", lambda request: page.asked.append(request.url))  # type: ignore[attr-defined]
    page.on("console", lambda said: page.wrong.append(said.text) if said.type == "error" else None)  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: page.wrong.append(str(error)))  # type: ignore[attr-defined]


def complaints(page: Page) -> list[str]:
    """What went wrong, but for what the server's own pages say."""
    return [text for text in page.wrong if not any(known in text for known in ALLOWED)]  # type: ignore[attr-defined]


def left_the_machine(page: Page) -> list[str]:
    """Addresses that the page asked for and that are not this machine's."""
    home = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")
    return [url for url in page.asked if not url.startswith(home)]  # type: ignore[attr-defined]
