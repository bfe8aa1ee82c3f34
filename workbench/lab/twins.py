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

import numpy as np

from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout
from workbench.mm.memmap import Memmap
from workbench.mm.memremap import PgmapArray
from workbench.mm.page_ref import PageRefs, RefSwitch
from workbench.mm.pgtable import PageTables
from workbench.series import Switch

FLAGS = ("-O3", "-march=native", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
SOURCES = ("twins.c", "pin.c", "limits.c")
LIMITS = ("memset", "nt_fill", "read", "locked_1", "locked_2", "locked_3", "read_hot_3")
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


class _Refs(ctypes.Structure):
    _fields_ = (("head", _u64), ("referenced", _u64), ("switches", _i64))


class _Pgmaps(ctypes.Structure):
    _fields_ = (*((name, _pointer) for name in PgmapArray._fields), ("ranges", _i64))


_MEMMAP, _REFS, _PGMAPS = (ctypes.POINTER(kind) for kind in (_Memmap, _Refs, _Pgmaps))
_ZONE_DEVICE = (_i64, (_MEMMAP, _i64, _i64, _u64, _u64, _u64, ctypes.c_int))
_SIGNATURES: dict[str, tuple] = {
    "twin_init_zone_device": _ZONE_DEVICE,
    "twin_init_zone_device_nt": _ZONE_DEVICE,
    "twin_prep_compound_pages": (None, (_MEMMAP, _i64, _i64, ctypes.c_int)),
    "twin_init_range": (None, (_MEMMAP, _i64, _i64, _u64, _u64)),
    "twin_put_pages": (_i64, (_MEMMAP, _i64, _i64, ctypes.c_int)),
    "twin_pin_fast_calls": (_i64, (_MEMMAP, _REFS, _PGMAPS, _pointer, _pointer, _i64, _i64, _i64, _i64, _pointer)),
    "twin_unpin_user_pages": (_i64, (_MEMMAP, _REFS, _pointer, _i64)),
    "twin_unpin_user_page_range": (_i64, (_MEMMAP, _REFS, _i64, _i64)),
    **{f"limit_{name}": (_u64 if name.startswith("read") else None, (_pointer, _u64)) for name in LIMITS},
    "limit_random_writes": (None, (_pointer, _u64, _u64)),
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


def _refs_as_c(refs: PageRefs) -> _Refs:
    """``refs`` for C.

    Raises
    ------
    WorkbenchError
        The twins do not count references as this release does.
    """
    if refs.switches & ~RefSwitch.HEAD_ONCE:
        raise WorkbenchError("the C twins count references as 5.15 to 5.17 do. Use kernel 5.16+0 or 5.17.")
    return _Refs(int(refs.head), int(refs.referenced), refs.switches)


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

    def pin_fast_calls(
        self,
        vm: Memmap,
        refs: PageRefs,
        pgmaps: PgmapArray,
        pt: PageTables,
        seq: np.ndarray,
        addr: int,
        nr_pages: int,
        per_call: int,
        flags: int,
        pages: np.ndarray,
    ) -> int:
        """Twin of :func:`workbench.mm.gup_fast.gup_fast_calls`: pins device memory in huge entries; pages pinned."""
        arrays = {name: array.ctypes.data for name, array in pgmaps._asdict().items()}
        return self._library.twin_pin_fast_calls(
            ctypes.byref(_as_c(vm)),
            ctypes.byref(_refs_as_c(refs)),
            ctypes.byref(_Pgmaps(**arrays, ranges=len(pgmaps.first_pfn))),
            *(pt.entries.ctypes.data, seq.ctypes.data, addr, nr_pages, per_call, flags, pages.ctypes.data),
        )

    def unpin_user_pages(self, vm: Memmap, refs: PageRefs, pages: np.ndarray) -> int:
        """Twin of :func:`workbench.mm.gup_fast.unpin_user_pages` with nothing to make dirty."""
        return self._library.twin_unpin_user_pages(
            ctypes.byref(_as_c(vm)), ctypes.byref(_refs_as_c(refs)), pages.ctypes.data, len(pages)
        )

    def unpin_user_page_range(self, vm: Memmap, refs: PageRefs, pfn: int, nr_pages: int) -> int:
        """Twin of :func:`workbench.mm.gup_fast.unpin_user_page_range` with nothing to make dirty."""
        return self._library.twin_unpin_user_page_range(
            ctypes.byref(_as_c(vm)), ctypes.byref(_refs_as_c(refs)), pfn, nr_pages
        )

    def random_writes(self, address: int, nbytes: int, writes: int) -> None:
        """Store 8 bytes to a line chosen at random, again and again."""
        self._library.limit_random_writes(address, nbytes, writes)

    def limit(self, name: str, address: int, nbytes: int) -> None:
        """Run one of :data:`LIMITS` over a buffer; all but ``read`` change it; of ``read_hot_3`` at least 3 lines."""
        getattr(self._library, f"limit_{name}")(address, nbytes)

    def spin(self, rounds: int) -> None:
        """Keep one core at work without touching memory."""
        self._library.limit_spin(rounds)
