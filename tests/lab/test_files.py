# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.lab import checkout
from workbench.lab.checkout import Checkout
from workbench.lab.files import file_hash, files_below, tree_hash, write_atomically
from workbench.lab.loop import LoopThread


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.svg"
    write_atomically(path, "old")

    def half(self: Path, content: bytes) -> None:
        with self.open("wb") as stream:
            stream.write(content[:2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(path, "new content")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_folders_are_made_and_text_is_utf8(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b.txt", "×")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"\xc3\x97"


def test_hashes_are_of_names_and_contents(tmp_path: Path) -> None:
    for name, content in (("a/x", "1"), ("b/x", "2"), ("a/__pycache__/y.pyc", "3"), ("b/.ipynb_checkpoints/z", "4")):
        write_atomically(tmp_path / name, content)
    files = files_below(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in files] == ["a/x", "b/x"]
    assert file_hash(files[0]) == hashlib.sha256(b"1").hexdigest()
    first = tree_hash(tmp_path, files)
    (tmp_path / "b" / "x").rename(tmp_path / "b" / "w")
    renamed = tree_hash(tmp_path, files_below(tmp_path))
    write_atomically(tmp_path / "b" / "w", "5")
    assert len({first, renamed, tree_hash(tmp_path, files_below(tmp_path))}) == 3


def test_the_checkout_is_found_and_its_absence_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (Checkout.find().root / "workbench" / "lab" / "files.py").is_file()
    monkeypatch.setattr(checkout.workbench, "__file__", str(tmp_path / "site" / "workbench" / "__init__.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WorkbenchError, match="no checkout of the workbench"):
        Checkout.find()


def test_a_loop_cleans_up_what_was_under_way() -> None:
    told = []

    async def forever() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0)
            told.append("cleaned up")

    async def start() -> asyncio.Task[None]:
        task = asyncio.create_task(forever())
        await asyncio.sleep(0.01)
        return task

    with LoopThread() as loop:
        task = loop.run(start())
    assert task.cancelled() and told == ["cleaned up"]


def test_a_loop_hands_errors_on_inside_a_running_loop() -> None:
    async def fail() -> None:
        raise WorkbenchError("inner")

    async def outer() -> None:
        with LoopThread() as loop, pytest.raises(WorkbenchError, match="inner"):
            loop.run(fail())

    asyncio.run(outer())
