# SPDX-License-Identifier: GPL-2.0-only
"""A machine driven by actions in the form of the captures: what management commands do, nothing of processes."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterable
from typing import Any

from workbench.abi.constants import PAGE_SHIFT
from workbench.dax.region import DevDax
from workbench.errors import KernelCrash, WorkbenchError
from workbench.firmware import EFI_MEMORY_SP, EFI_MEMORY_WB, EfiMemoryDescriptor, EfiMemoryType, Firmware
from workbench.machine import CreateRefused, Machine
from workbench.series import kernel
from workbench.text import size

Action = dict[str, Any]
Result = dict[str, Any]

DEFAULT_RAM = ({"start": "0x100000", "end": "0x80000000"},)
"""Where ordinary memory lies unless told: 2 GiB less the first MiB."""


def span(each: dict[str, str]) -> tuple[int, int]:
    """Start and end (exclusive), bytes, of a recorded range."""
    return int(each["start"], 16), int(each["end"], 16)


def boot(action: Action) -> Machine:
    """The machine of an action ``boot``.

    Parameters
    ----------
    action : dict
        ``kernel`` is its name; ``persistent_memory``, ``soft_reserved`` and ``ram`` are lists of ranges;
        ``cmdline`` is text; ``auto_online`` whether memory of the kmem driver goes online by itself;
        ``early_reserve_memory_first`` the switch of commit 8aa83e6395ce.

    Raises
    ------
    WorkbenchError
        An unknown kernel, ranges that overlap, or no memory that devices can be made of.
    """
    try:
        firmware = _firmware(action)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WorkbenchError(f"boot: memory is told as lists of start and end in hex; {error!r}.") from error
    machine = Machine(
        kernel(str(action.get("kernel", "6.1"))),
        firmware=firmware,
        cmdline=str(action.get("cmdline", "")),
        early_reserve_memory_first=bool(action.get("early_reserve_memory_first")),
    )
    machine.bus.auto_online = bool(action.get("auto_online"))
    return machine


def do(machine: Machine, action: Action) -> Result:
    """Do an action.

    Returns
    -------
    dict
        ``ok`` True with what it made, or ``errno`` (the name) with ``message`` and ``changed``.

    Raises
    ------
    WorkbenchError
        The action is unknown or lacks something: nothing was done.
    KernelCrash
        The kernel died of it.
    """
    handler = _HANDLERS.get(str(action.get("op")))
    if handler is None:
        raise WorkbenchError(f"no action {action.get('op')!r} here. There are {', '.join(_HANDLERS)}.")
    try:
        return {"ok": True, **(handler(machine, action) or {})}
    except KernelCrash:
        raise
    except (KeyError, TypeError, ValueError) as wrong:
        raise WorkbenchError(f"the action {action['op']} lacks or misspells something: {wrong!r}.") from wrong
    except WorkbenchError as refused:
        if refused.errno is None:
            raise
        result: Result = {"errno": refused.errno_name, "message": str(refused), "changed": list(refused.changed)}
        if isinstance(refused, CreateRefused):
            result |= {"ok": False, "failed_step": refused.failed.step, "device": refused.failed.device}
        return result


def _create_namespace(machine: Machine, action: Action) -> Result:
    device = machine.create_namespace(action.get("size"), action["align"], action["map"])
    namespace = next(each for each in machine.namespaces() if _device_of(each.name) == device.name)
    nd_pfn = namespace.nd_pfn
    assert nd_pfn is not None
    return {
        "namespace": namespace.name,
        "device": device.name,
        "namespace_start_pfn": hex(nd_pfn.start_pfn),
        "data_start_pfn": hex(nd_pfn.data_start_pfn),
        "end_pfn": hex(nd_pfn.end_pfn),
        "device_size": nd_pfn.dev_size,
        "ranges": _ranges(device),
    }


def _device_of(namespace: str) -> str:
    return namespace.replace("namespace", "dax")


def _disable_namespace(machine: Machine, action: Action) -> None:
    name = _namespace(action)
    if any(each.name == _device_of(name) and each.driver == "kmem" for each in machine.bus.devices()):
        raise WorkbenchError(f"{name}: its memory is System RAM. Reconfigure the device to devdax first.", errno.EBUSY)
    machine.disable_namespace(name)


def _namespace(action: Action) -> str:
    return str(action.get("namespace", "namespace0.0"))


def _create_device(machine: Machine, action: Action) -> Result:
    region = machine.bus.region(action.get("region", 0))
    if region.is_static:
        raise WorkbenchError(f"region {region.region_id} is static: its one device is there.", errno.ENOSPC)
    nbytes = action.get("size", region.available_size)
    device = machine.create_device(nbytes, action.get("align", region.align), region.region_id)
    return {"device": device.name, "ranges": _ranges(device)}


def _resize_device(machine: Machine, action: Action) -> Result:
    machine.resize_device(action["device"], action["size"])
    return {"ranges": _ranges(machine.bus.device(action["device"]))}


def _bind(machine: Machine, action: Action) -> None:
    """As daxctl does: load the driver, the other one forgets the device, this one is told to take it."""
    name, driver = action["device"], action.get("driver", "device_dax")
    bus, device = machine.bus, machine.bus.device(action["device"])
    bus.load(driver)
    for other in set(bus.ids) - {driver}:
        bus.remove_id(other, name)
    if driver == "device_dax":
        machine.bind(name)
        return
    bus.new_id(driver, name)
    if device.driver != driver:
        bus.bind(name, driver)


def _ranges(device: DevDax) -> list[dict[str, Any]]:
    return [
        {
            "start": hex(each.start),
            "end": hex(each.end + 1),
            "first_pfn": hex(each.start_pfn),
            "nr_pages": each.nr_pages,
            "page_offset": each.pgoff,
        }
        for each in device.ranges
    ]


def _firmware(boot: Action) -> Firmware:
    """A UEFI machine with the memory an action names."""
    kinds = (
        (boot.get("ram", DEFAULT_RAM), EfiMemoryType.CONVENTIONAL_MEMORY, EFI_MEMORY_WB),
        (boot.get("soft_reserved", ()), EfiMemoryType.CONVENTIONAL_MEMORY, EFI_MEMORY_WB | EFI_MEMORY_SP),
        (boot.get("persistent_memory", ()), EfiMemoryType.PERSISTENT_MEMORY, EFI_MEMORY_WB),
    )
    spans = [(*span(each), type, attribute) for ranges, type, attribute in kinds for each in ranges]
    _require_apart((start, end) for start, end, _, _ in spans)
    return Firmware.from_efi(
        EfiMemoryDescriptor(type, start, (end - start) >> PAGE_SHIFT, attribute)
        for start, end, type, attribute in sorted(spans)
    )


def _require_apart(spans: Iterable[tuple[int, int]]) -> None:
    for (start, end), (after, _) in itertools.pairwise(sorted([*spans, (1 << 46, 1 << 46)])):
        if not start < end <= after:
            raise WorkbenchError(
                f"memory at {start:#x}-{end - 1:#x} ({size(abs(end - start))}) is empty, beyond 64 TiB or overlaps "
                f"other memory, at {after:#x}. Give each range its own place."
            )


_HANDLERS: dict[str, Callable[[Machine, Action], Result | None]] = {
    "init_labels": lambda machine, action: machine.init_labels(),
    "create_namespace": _create_namespace,
    "disable_namespace": _disable_namespace,
    "enable_namespace": lambda machine, action: {"device": machine.enable_namespace(_namespace(action)).name},
    "destroy_namespace": lambda machine, action: machine.destroy_namespace(_namespace(action)),
    "create_device": _create_device,
    "region_create": lambda machine, action: {"device": machine.region_create("1", action.get("region", 0)).name},
    "set_size": lambda machine, action: machine.set_size(action["device"], action["size"]),
    "resize_device": _resize_device,
    "set_align": lambda machine, action: machine.set_align(action["device"], action["align"]),
    "add_range": lambda machine, action: machine.add_range(
        action["device"], int(action["start"], 16), int(action["last"], 16)
    ),
    "delete_device": lambda machine, action: machine.delete_device(action["device"]),
    "destroy_device": lambda machine, action: machine.destroy_device(action["device"]),
    "bind": _bind,
    "unbind": lambda machine, action: {"finished": machine.unbind(action["device"])},
    "online": lambda machine, action: machine.bus.online(action["device"]),
    "offline": lambda machine, action: machine.bus.online(action["device"], online=False),
}
