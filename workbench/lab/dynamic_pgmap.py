# SPDX-License-Identifier: GPL-2.0-only
"""The pgmap of a device through its life: where dev_dax->pgmap points, step by step.

A static device is a namespace of persistent memory, a dynamic one is cut out of soft-reserved memory.
Both are bound, let go and bound again.  A dynamic device also gets more memory in between, and then meets
another driver that has a part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial

from workbench.errors import WorkbenchError
from workbench.machine import Machine
from workbench.mm.resource import release_region, request_region

G = 1 << 30
_START, _SIZE = 4 * G, 8 * G
_PAGE = 4096


class Pgmap(Enum):
    """What dev_dax->pgmap points to."""

    NULL = "NULL"
    OWN = "a pgmap that came with the device"
    IN_USE = "the pgmap it is bound with"
    STALE = "memory that was freed"


@dataclass(frozen=True)
class Moment:
    """A step, and how the device stands after it.

    Attributes
    ----------
    step : str
        What was done.
    errno : str or None
        What it was refused with.
    pgmap : Pgmap
    bound : bool
        It has its driver.
    ranges : int
        Of the device.
    mapped_ranges : int
        Of the pgmap that its struct pages belong to; 0 while it is not bound.
    """

    step: str
    errno: str | None
    pgmap: Pgmap
    bound: bool
    ranges: int
    mapped_ranges: int


def static_life(kernel: str) -> tuple[Moment, ...]:
    """A namespace's device: made, let go, bound again.

    Parameters
    ----------
    kernel : str
        See :func:`workbench.series.kernel`.
    """
    machine = Machine(kernel, persistent_memory=[(_START, _START + G)])
    steps: list[tuple[str, Callable[[], object]]] = [
        ("make", machine.create_namespace),
        ("unbind", partial(machine.unbind, "dax0.0")),
        ("bind", partial(machine.bind, "dax0.0")),
    ]
    return tuple(_moment(machine, "dax0.0", step, do) for step, do in steps)


def dynamic_life(kernel: str) -> tuple[Moment, ...]:
    """A device of soft-reserved memory: bound, resized between two binds, refused once, made anew.

    Parameters
    ----------
    kernel : str
        See :func:`workbench.series.kernel`.

    Examples
    --------
    >>> [moment.errno for moment in dynamic_life("5.17")][-5:-2]
    ['EBUSY', 'EINVAL', 'EINVAL']
    """
    machine = Machine(kernel, soft_reserved=[(_START, _START + _SIZE)])
    machine.disable_device("dax0.0")
    machine.set_size("dax0.0", 0)  # the first device of a region cannot be deleted: the second one is ours
    name = "dax0.1"
    steps: list[tuple[str, Callable[[], object]]] = [
        ("make", partial(_make, machine, name)),
        ("bind", partial(machine.bind, name)),
        ("unbind", partial(machine.unbind, name)),
        ("add a range", partial(machine.add_range, name, _START + 2 * G, _START + 3 * G - 1)),
        ("bind", partial(machine.bind, name)),
        ("unbind", partial(machine.unbind, name)),
        ("bind, memory taken", partial(_bind_in_conflict, machine, name)),
        ("bind", partial(machine.bind, name)),
        ("bind once more", partial(_again, machine, name)),
        ("delete, make", partial(_anew, machine, name)),
        ("bind", partial(machine.bind, name)),
    ]
    return tuple(_moment(machine, name, step, do) for step, do in steps)


def _moment(machine: Machine, name: str, step: str, do: Callable[[], object]) -> Moment:
    errno = None
    try:
        do()
    except WorkbenchError as refused:
        if refused.errno is None:
            raise
        errno = refused.errno_name
    device = machine.bus.device(name)
    mapped = device.bound_pgmap
    if device.pgmap is None:
        points = Pgmap.NULL
    elif device.pgmap is mapped:
        points = Pgmap.IN_USE
    else:
        points = Pgmap.OWN if device.region.is_static else Pgmap.STALE
    return Moment(step, errno, points, device.bound, len(device.ranges), 0 if mapped is None else len(mapped.ranges))


def _make(machine: Machine, name: str) -> None:
    """A device with one range that is not bound yet."""
    machine.region_create()
    machine.add_range(name, _START, _START + G - 1)


def _bind_in_conflict(machine: Machine, name: str) -> None:
    """Bind while another driver has the first page; it gives that page back afterwards."""
    request_region(machine.iomem, _START, _PAGE, "a driver")
    try:
        machine.bind(name)
    finally:
        release_region(machine.iomem, _START, _PAGE)


def _again(machine: Machine, name: str) -> None:
    """Once more, whether it is bound or not."""
    machine.disable_device(name)
    machine.bind(name)


def _anew(machine: Machine, name: str) -> None:
    """Delete the device and make one of the same name."""
    machine.disable_device(name)
    machine.set_size(name, 0)
    machine.delete_device(name)
    _make(machine, name)
