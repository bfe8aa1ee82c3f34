# SPDX-License-Identifier: GPL-2.0-only
"""Bytes of a dynamic device's pgmap, by the multiplication before patch 6 and by struct_size() since."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.dax.probe import SIZE_MAX, pgmap_bytes, sizeof_dev_pagemap
from workbench.errors import WorkbenchError
from workbench.machine import Machine
from workbench.series import kernel as kernel_named

RANGE_BYTES = 16
"""struct range: two u64 (include/linux/range.h)."""
_START, _RANGE, _STRIDE = 4 << 30, 2 << 20, 4 << 20


@dataclass(frozen=True)
class PgmapSize:
    """The allocation of a pgmap on one kernel.

    Attributes
    ----------
    kernel : str
    nr_range : int
    structure : int
        sizeof(struct dev_pagemap), which has room for one range.
    asked : int
        Bytes asked for; :data:`workbench.dax.probe.SIZE_MAX` where the computation saturates.
    """

    kernel: str
    nr_range: int
    structure: int
    asked: int

    @property
    def saturated(self) -> bool:
        """No allocator can have that many bytes: the probe gets ENOMEM."""
        return self.asked == SIZE_MAX

    @property
    def missing(self) -> int:
        """Bytes of the structure itself for which there is no room."""
        return max(self.structure - self.asked, 0)


def pgmap_size(kernel: str, nr_range: int) -> PgmapSize:
    """What dev_dax_probe() asks for.

    Parameters
    ----------
    kernel : str
        See :func:`workbench.series.kernel`.
    nr_range : int
        Ranges of the device.

    Examples
    --------
    >>> pgmap_size("5.16+5", 4).asked, pgmap_size("5.16+6", 4).asked
    (208, 208)
    """
    tree = kernel_named(kernel).tree
    return PgmapSize(kernel, nr_range, sizeof_dev_pagemap(tree), pgmap_bytes(tree, nr_range))


@dataclass(frozen=True)
class Bound:
    """A dynamic device of some ranges, bound.

    Attributes
    ----------
    nr_range : int
    errno : str or None
        What the bind was refused with.
    ranges : tuple of (int, int)
        First pfn and pages of each range of its pgmap; empty where it was refused.
    pages : uint64[n, 8]
        Its struct pages.
    """

    nr_range: int
    errno: str | None
    ranges: tuple[tuple[int, int], ...]
    pages: np.ndarray


def bind_ranges(kernel: str, nr_range: int) -> Bound:
    """Bind a device of ``nr_range`` ranges of 2 MiB with gaps between them.

    Parameters
    ----------
    kernel : str
        See :func:`workbench.series.kernel`.
    nr_range : int
        0 to 16.
    """
    machine = Machine(kernel, soft_reserved=[(_START, _START + 16 * _STRIDE)])
    machine.disable_device("dax0.0")
    machine.set_size("dax0.0", 0)
    for number in range(nr_range):
        start = _START + number * _STRIDE
        machine.add_range("dax0.0", start, start + _RANGE - 1)
    try:
        machine.bind("dax0.0")
    except WorkbenchError as refused:
        if refused.errno is None:
            raise
        return Bound(nr_range, refused.errno_name, (), np.empty((0, 8), np.uint64))
    pgmap = machine.bus.device("dax0.0").bound_pgmap
    assert pgmap is not None
    pages = [machine.array.view(*each).copy() for each in pgmap.ranges]
    return Bound(nr_range, None, pgmap.ranges, np.concatenate(pages))


def bytes_different(before: Bound, after: Bound) -> int:
    """Bytes of struct pages that differ between two devices of the same ranges."""
    if before.ranges != after.ranges:
        raise WorkbenchError(f"the pgmaps have {before.ranges} and {after.ranges}. Bind the same ranges on both.")
    return int((before.pages.view(np.uint8) != after.pages.view(np.uint8)).sum())
