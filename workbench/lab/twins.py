# SPDX-License-Identifier: GPL-2.0-only
"""The C twins of the engine's kernels and the machine's limits: built by gcc, called through ctypes.

Their source is ``benchmarks/`` of the checkout.  A build lasts as long as the process: it is made for
the machine at hand (``-march=native``) and kept nowhere.  ctypes lets go of the interpreter lock, so
that two threads run side by side.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout
from workbench.mm.memmap import Memmap
from workbench.series import Switch

FLAGS = ("-O3", "-march=native", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
SOURCES = ("twins.c", "limits.c")
LIMITS = ("memset", "nt_fill", "read", "locked_1", "locked_2")
"""What :meth:`Twins.limit` can do with a buffer."""

_i64, _u64, _pointer = ctypes.c_int64, ctypes.c_uint64, ctypes.c_void_p
_TWIN_SWITCHES = Switch.P2 | Switch.P3 | Switch.P4


class _Memmap(ctypes.Structure):
    _fields_ = (
        ("pages", _pointer),
        ("pageblock_flags", _pointer),
        ("start_pfn", _i64),
        ("address", _u64),
        ("zone_shift", _u64),
        ("node_shift", _u64),
        ("last_cpupid", _u64),
        ("reserved", _u64),
        ("head", _u64),
        ("switches", _i64),
    )


_MEMMAP = ctypes.POINTER(_Memmap)
_ZONE_DEVICE = (_i64, (_MEMMAP, _i64, _i64, _u64, _u64, _u64, ctypes.c_int))
_SIGNATURES: dict[str, tuple] = {
    "twin_init_zone_device": _ZONE_DEVICE,
    "twin_init_zone_device_nt": _ZONE_DEVICE,
    "twin_prep_compound_pages": (None, (_MEMMAP, _i64, _i64, ctypes.c_int)),
    "twin_init_range": (None, (_MEMMAP, _i64, _i64, _u64, _u64)),
    "twin_put_pages": (_i64, (_MEMMAP, _i64, _i64, ctypes.c_int)),
    "limit_memset": (None, (_pointer, _u64)),
    "limit_nt_fill": (None, (_pointer, _u64)),
    "limit_read": (_u64, (_pointer, _u64)),
    "limit_locked_1": (None, (_pointer, _u64)),
    "limit_locked_2": (None, (_pointer, _u64)),
    "limit_spin": (_u64, (_u64,)),
}


def _as_c(vm: Memmap) -> _Memmap:
    """``vm`` for C; it refers to the same memory and keeps none of it alive.

    Raises
    ------
    WorkbenchError
        The twins do not know this tree or layout.
    """
    if vm.switches & ~_TWIN_SWITCHES or vm.pincount_in_first_tail or vm.order_in_flags:
        raise WorkbenchError("the C twins know the trees 5.15 to 5.17 with their layout. Use kernel 5.16+0 or 5.17.")
    same = {name: getattr(vm, name) for name, kind in _Memmap._fields_ if kind is not _pointer}
    return _Memmap(
        pages=vm.pages.ctypes.data,
        pageblock_flags=vm.pageblock_flags.ctypes.data,
        **{name: int(value) for name, value in same.items()},
    )


class Twins:
    """The twins and limits, built and loaded.

    The methods named after kernels take rows like :mod:`workbench.mm.page_alloc` and store to
    ``vm.pages`` as the engine's kernels do, unbounded.

    Parameters
    ----------
    checkout : Checkout
        Holds ``benchmarks/``.

    Raises
    ------
    WorkbenchError
        No gcc, or it refuses the sources.
    """

    def __init__(self, checkout: Checkout) -> None:
        self._gcc = shutil.which("gcc")
        if self._gcc is None:
            raise WorkbenchError(
                "no gcc: it builds what the kernels are measured against. Install gcc and libc6-dev "
                "(Debian: apt-get install gcc libc6-dev)."
            )
        with TemporaryDirectory(prefix="workbench-twins-") as folder:
            library = Path(folder) / "twins.so"
            sources = [str(checkout.root / "benchmarks" / name) for name in SOURCES]
            built = subprocess.run([self._gcc, *FLAGS, "-o", str(library), *sources], capture_output=True, text=True)
            if built.returncode:
                raise WorkbenchError(
                    f"gcc refused benchmarks/{' and '.join(SOURCES)}:\n{built.stderr.strip()}\n"
                    "Use the sources as they are in git, and gcc 10 or newer."
                )
            self._library = ctypes.CDLL(str(library))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments

    @cached_property
    def compiler(self) -> str:
        """The compiler's version: ``12.2.0``."""
        asked = subprocess.run([str(self._gcc), "-dumpfullversion"], capture_output=True, text=True, check=True)
        return asked.stdout.strip()

    def memmap_init_zone_device(self, vm: Memmap, start, end, zone_idx, nid, pgmap, vmemmap_shift) -> int:
        """Twin of :func:`workbench.mm.page_alloc.memmap_init_zone_device`."""
        return self._library.twin_init_zone_device(
            ctypes.byref(_as_c(vm)), start, end, int(zone_idx), int(nid), int(pgmap), vmemmap_shift
        )

    def memmap_init_zone_device_nt(self, vm: Memmap, start, end, zone_idx, nid, pgmap, vmemmap_shift) -> int:
        """Twin of :func:`workbench.mm.page_alloc.memmap_init_zone_device_nt`."""
        return self._library.twin_init_zone_device_nt(
            ctypes.byref(_as_c(vm)), start, end, int(zone_idx), int(nid), int(pgmap), vmemmap_shift
        )

    def prep_compound_pages(self, vm: Memmap, start, end, order) -> None:
        """Twin of :func:`workbench.mm.page_alloc.prep_compound_page` on each compound of a range."""
        self._library.twin_prep_compound_pages(ctypes.byref(_as_c(vm)), start, end, order)

    def memmap_init_range(self, vm: Memmap, start, end, zone, nid) -> None:
        """Twin of :func:`workbench.mm.page_alloc.memmap_init_range`."""
        self._library.twin_init_range(ctypes.byref(_as_c(vm)), start, end, int(zone), int(nid))

    def put_pages(self, vm: Memmap, first, end, vmemmap_shift) -> int:
        """Twin of :func:`workbench.mm.memremap.put_pages`."""
        return self._library.twin_put_pages(ctypes.byref(_as_c(vm)), first, end, vmemmap_shift)

    def limit(self, name: str, address: int, nbytes: int) -> None:
        """Run one of :data:`LIMITS` over a buffer; all but ``read`` change it."""
        getattr(self._library, f"limit_{name}")(address, nbytes)

    def spin(self, rounds: int) -> None:
        """Keep one core at work without touching memory."""
        self._library.limit_spin(rounds)
