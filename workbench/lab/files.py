# SPDX-License-Identifier: GPL-2.0-only
"""Files by content: their hashes, and writing one so that nobody ever sees half of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

_SKIPPED = ("__pycache__", ".ipynb_checkpoints")


def files_below(folder: Path) -> list[Path]:
    """Every regular file below ``folder`` but caches, sorted by name."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not any(part in _SKIPPED for part in path.parts)
    )


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree_hash(root: Path, files: Iterable[Path]) -> str:
    """SHA-256 of the names (relative to ``root``) and contents of ``files``, in hex."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(root).as_posix()}\0{file_hash(path)}\n".encode())
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write ``content`` to ``path`` as a whole, or not at all.

    It is written beside ``path`` under a hidden name and renamed, so an interrupt leaves what was
    there before.

    Parameters
    ----------
    path : pathlib.Path
        Where to; missing folders are made.
    content : bytes or str
        What; text is encoded as UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
