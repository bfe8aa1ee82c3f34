# SPDX-License-Identifier: GPL-2.0-only
"""The one place that knows numba's options.

* ``nogil``: kernels run on Python threads side by side.
* The compiled code is cached in a folder named by a hash of the engine's sources: numba notices a
  change in the module it compiles, but not in the modules that one imports.
* ``error_model="numpy"``: kernels never raise, so no division looks for a zero.
* No ``fastmath``, no ``parallel``: the threading layers abort after fork.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numba
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.registry import CPUDispatcher
from numba.extending import intrinsic

__all__ = ["JIT", "borrowing", "inline", "intrinsic", "jit", "likely", "plain"]

JIT = not config.DISABLE_JIT
"""False under ``NUMBA_DISABLE_JIT=1``: kernels then run as plain Python."""


_PACKAGE = Path(__file__).parents[1]
_SOURCES = ("abi", "series", "mm")  # compiled code holds constants of all three


def _digest(package: Path) -> str:
    """A hash of all that compiled code depends on: sources, numba's version, bounds checks."""
    digest = hashlib.sha256(f"{numba.__version__} boundscheck={config.BOUNDSCHECK}".encode())
    for source in sorted(path for folder in _SOURCES for path in (package / folder).glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _cache_dir() -> str | None:
    """A folder for compiled kernels, or None where none can be written."""
    try:
        if "NUMBA_CACHE_DIR" in os.environ:
            base = Path(os.environ["NUMBA_CACHE_DIR"])
        else:
            base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "devmap-workbench"
        folder = base / f"numba-{_digest(_PACKAGE)}"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: no home is known for this user
        return None
    return str(folder) if os.access(folder, os.W_OK) else None


class _Dispatcher(CPUDispatcher):
    """A compiled function whose callers in compiled code get a version of its own, the bare one.

    Numba gives every version the wrappers by which Python and C call it, stores it in the cache, and
    makes another one for each literal among the arguments.  Kernels call kernels: most versions are
    only ever called from compiled code and linked into their callers.  Left out there, all this is two
    thirds of the time a fresh checkout needs to its first result.
    """

    def __init__(self, py_func, targetoptions):
        super().__init__(py_func, targetoptions=targetoptions | {"no_cfunc_wrapper": True})
        self._bare = CPUDispatcher(
            py_func, targetoptions=targetoptions | {"no_cfunc_wrapper": True, "no_cpython_wrapper": True}
        )

    def get_call_template(self, args, kws):
        return self._bare.get_call_template(
            [types.unliteral(a) for a in args], {k: types.unliteral(a) for k, a in kws.items()}
        )

    def get_overload(self, sig):
        return self._bare.get_overload(sig)


def jit(function: Callable) -> Callable:
    """Compile ``function`` for nopython mode on first call, once for each set of argument types."""
    return _compiled(function, {})


def borrowing(function: Callable) -> Callable:
    """As :func:`jit`, for what neither makes nor returns an array.

    Numba counts the references of arrays, by locked operations of its own: where a function with branches
    calls another those cost more than the kernel's.  Here none are counted.
    """
    return _compiled(function, {"_nrt": False})


def inline(function: Callable) -> Callable:
    """As :func:`borrowing`, for what is done once a page: the code goes into its callers.

    A memmap is some thirty words; handing it over costs as much as a locked operation.
    """
    return _compiled(function, {"_nrt": False, "forceinline": True})


def _compiled(function: Callable, options: dict[str, bool]) -> Callable:
    if not JIT:
        return function
    folder = _cache_dir()
    before, config.CACHE_DIR = config.CACHE_DIR, folder or config.CACHE_DIR
    try:
        dispatcher = _Dispatcher(function, {"nopython": True, "nogil": True, "error_model": "numpy"} | options)
        if folder is not None:
            dispatcher.enable_caching()
        return dispatcher
    finally:
        config.CACHE_DIR = before


def plain(kernel: Callable) -> Callable:
    """``kernel`` in plain Python, for a call on a few numbers: compiling it would take longer than it ever saves."""
    return getattr(kernel, "py_func", kernel)


@intrinsic
def _likely(typingctx, condition):
    def codegen(context, builder, signature, args):
        i1 = args[0].type
        expect = cgutils.get_or_insert_function(builder.module, ir.FunctionType(i1, [i1, i1]), "llvm.expect.i1")
        return builder.call(expect, [args[0], i1(1)])

    return types.boolean(types.boolean), codegen


likely = _likely if JIT else bool
"""``likely(condition) -> condition``: have the compiler make a branch of it, and no conditional move.

A processor guesses a branch and goes on; for the operands of a conditional move it waits, here for memory.
"""
