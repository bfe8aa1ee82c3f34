# SPDX-License-Identifier: GPL-2.0-only
"""Memory for page arrays: anonymous, huge-page advised, reserved at once and backed on first touch.

First touch is what costs (the host must find the memory), so a mapping that nothing refers to any
more is kept and handed out again.  Its old content stays: whoever takes it initialises it anew.
"""

from __future__ import annotations

import mmap
import sys
import weakref
from contextlib import suppress
from pathlib import Path

import numpy as np

from workbench.errors import WorkbenchError
from workbench.text import size

HUGE_PAGE = 2 << 20
HEADROOM = 512 << 20
"""Bytes of available memory that a page array leaves to everything else."""

_MAP_NORESERVE = 0x4000  # the mmap module has no name for it on every Python supported here
_CGROUP = Path("/sys/fs/cgroup")
_KEEP = 4 << 30
_free: list[mmap.mmap] = []


def available() -> int:
    """Bytes of memory this process could get without swapping.

    MemAvailable of /proc/meminfo, or what the control group leaves where that is less.
    """
    return min(_system_has(), _group_leaves())


def _group_leaves() -> int:
    """Bytes below the limit of the (version 2) control group; no limit is as much as can be."""
    try:
        limit, used = ((_CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return sys.maxsize
    return sys.maxsize if limit == "max" else max(int(limit) - int(used), 0)


def _system_has() -> int:
    with open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    raise WorkbenchError("no MemAvailable in /proc/meminfo; the workbench runs on Linux 3.14 or newer.")


def take(nbytes: int) -> np.ndarray:
    """An array over ``nbytes`` of address space, 2 MiB aligned; backed page by page on first touch.

    The mapping lives as long as the array or any view of it, then returns to the arena.

    Returns
    -------
    uint64[nbytes / 8]
        Content undefined.

    Raises
    ------
    WorkbenchError
        The address space cannot be reserved.
    """
    mapping = _recycled(nbytes) or _reserve(nbytes + HUGE_PAGE)
    whole = np.frombuffer(mapping, np.uint8)
    skip = -whole.ctypes.data % HUGE_PAGE
    # The root of every view: numpy keeps it alive through .base, so its end is the end of them all.
    root = np.frombuffer(mapping, np.uint64, nbytes // 8, skip)
    weakref.finalize(root, _give_back, mapping).atexit = False
    return root


def _recycled(nbytes: int) -> mmap.mmap | None:
    fitting = [m for m in _free if nbytes + HUGE_PAGE <= len(m) <= 2 * (nbytes + HUGE_PAGE)]
    if not fitting:
        return None
    mapping = min(fitting, key=len)
    _free.remove(mapping)
    return mapping


def _reserve(nbytes: int) -> mmap.mmap:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    try:
        mapping = mmap.mmap(-1, nbytes, flags)
    except (OSError, ValueError, OverflowError) as refused:
        raise WorkbenchError(
            f"the system refused {size(nbytes)} of address space for the page array ({refused}). "
            "Use a smaller device, or raise the limit that 'ulimit -v' shows."
        ) from refused
    with suppress(OSError):  # a system without transparent huge pages is slower, not wrong
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping


def _give_back(mapping: mmap.mmap) -> None:
    _free.append(mapping)
    while sum(map(len, _free)) > _KEEP:
        # Dropping the last reference unmaps it; close() would refuse while numpy's buffer is going away.
        _free.remove(max(_free, key=len))


def require(nbytes: int, what: str) -> None:
    """Refuse to touch ``nbytes`` more than the system has available.

    Raises
    ------
    WorkbenchError
        With both sizes and what to do.
    """
    if nbytes == 0:
        return
    have = available()
    if nbytes + HEADROOM > have and _free:
        _free.clear()
        have = available()
    if nbytes + HEADROOM > have:
        raise WorkbenchError(
            f"{what} needs {size(nbytes)} of memory; {size(have)} are available and {size(HEADROOM)} of them stay "
            "free. Read a part of the array (sections are filled on first use), or describe a smaller device."
        )
