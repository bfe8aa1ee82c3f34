# SPDX-License-Identifier: GPL-2.0-only
"""The one place that knows numba's options.

* ``nogil``: kernels run on Python threads side by side.
* The compiled code is cached in a folder named by a hash of the engine's sources: numba notices a
  change in the module it compiles, but not in the modules that one imports.
* No ``fastmath``, no ``parallel``: the threading layers abort after fork.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numba
from numba import config, njit
from numba.extending import intrinsic

__all__ = ["JIT", "intrinsic", "jit"]

JIT = not config.DISABLE_JIT
"""False under ``NUMBA_DISABLE_JIT=1``: kernels then run as plain Python."""


@cache
def _cache_dir() -> str | None:
    """A folder for compiled kernels, or None where none can be written."""
    if "NUMBA_CACHE_DIR" in os.environ:
        return os.environ["NUMBA_CACHE_DIR"]
    digest = hashlib.sha256(f"{numba.__version__} boundscheck={config.BOUNDSCHECK}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "devmap-workbench" / f"numba-{digest.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return str(folder) if os.access(folder, os.W_OK) else None


def jit(function: Callable) -> Callable:
    """Compile ``function`` for nopython mode on first call, once for each set of argument types."""
    folder = _cache_dir()
    before, config.CACHE_DIR = config.CACHE_DIR, folder or config.CACHE_DIR
    try:
        return njit(nogil=True, cache=folder is not None)(function)
    finally:
        config.CACHE_DIR = before
