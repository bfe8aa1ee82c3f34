# SPDX-License-Identifier: GPL-2.0-only
"""Recorded namespaces and the physical memory behind their struct pages, compared with what is derived.

A recorded run gives page-table entries with physical addresses.  Those are the allocator's choice,
except inside an altmap; what the rules fix is which pages exist, how large their entries are and
which share their memory.  So both sides are brought to one form
(:class:`workbench.mm.sparse_vmemmap.Sharing`): for each 4 KiB of vmemmap the first page with the same
backing, and the entry's size.

Taken from a run: kernel, where its persistent memory starts, and the arguments of its actions.  The
ranges of devices in soft-reserved memory come from the recorded results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench import text
from workbench.abi import STRUCT_PAGE_BYTES
from workbench.abi.constants import PAGE_SHIFT, PAGE_SIZE, PMD_SIZE
from workbench.errors import WorkbenchError
from workbench.lab.difference import Difference, differences
from workbench.lab.overhead import kernel_of
from workbench.mm.sparse_vmemmap import (
    NOTHING_MAPPED,
    STRUCT_PAGES_PER_PAGE,
    Backing,
    Populated,
    Sharing,
    pgmap_vmemmap_nr,
    populate,
)
from workbench.nvdimm import Namespace, NdPfn, nvdimm_setup_pfn
from workbench.series import Kernel

MAX_NAMESPACE_BYTES = 4 << 40
"""Largest namespace compared page by page: 400 MiB of arrays."""

NOT_MAPPED = 0
"""Entry size where no entry is."""


def _number(value: Any, what: str) -> int:
    """A recorded number: an integer, or an address or pfn as a hex string."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        return int(value, 16)
    except (TypeError, ValueError):
        raise WorkbenchError(f"a recorded run gives {what} as a number; got {value!r}. Record it anew.") from None


def _field(record: Any, name: str, where: str) -> Any:
    if not isinstance(record, dict) or name not in record:
        raise WorkbenchError(f"{where} lacks {name!r}. Use a whole run in the recorded form.")
    return record[name]


def _list(record: Any, name: str, where: str) -> list[Any]:
    value = _field(record, name, where)
    if not isinstance(value, list):
        raise WorkbenchError(f"{where}: {name} is a list; got {value!r}. Use a whole run in the recorded form.")
    return value


def _record(record: Any, name: str) -> dict[str, Any]:
    """An optional part of a record; empty where it is missing."""
    value = record.get(name) or {}
    if not isinstance(value, dict):
        raise WorkbenchError(f"{name} is an object; got {value!r}. Use a whole run in the recorded form.")
    return value


def _actions(capture: Any) -> Iterator[dict[str, Any]]:
    for state in _list(capture, "states", "the run"):
        for action in _list(state, "actions", "a state"):
            _field(action, "op", "an action")
            yield action


def _action(capture: Any, op: str) -> dict[str, Any]:
    for action in _actions(capture):
        if action["op"] == op:
            return action
    raise WorkbenchError(f"the run has no action {op!r}: it makes no namespace. Use a static run.")


def recorded_kernel(capture: Any) -> Kernel:
    """The kernel a run was recorded on.

    Raises
    ------
    WorkbenchError
        The run does not name it, or it is unknown.
    """
    return kernel_of(str(_field(_field(capture, "kernel", "the run"), "family", "the run's kernel")))


def recorded_namespace(capture: Any) -> Namespace:
    """The namespace a static run makes: at the start of its persistent memory.

    Parameters
    ----------
    capture : dict
        Content of a ``capture.json``.

    Raises
    ------
    WorkbenchError
        The run makes no namespace, or is not of the recorded form.
    """
    memory = _list(_action(capture, "boot"), "persistent_memory", "the boot action")
    created = _action(capture, "create_namespace")
    if not memory:
        raise WorkbenchError("the run boots without persistent memory, so it has no namespace. Use a static run.")
    return Namespace(
        start=_number(_field(memory[0], "start", "persistent_memory"), "the start of persistent memory"),
        size=_number(_field(created, "size", "create_namespace"), "the size of the namespace"),
        align=_number(_field(created, "align", "create_namespace"), "the align of the namespace"),
        map=str(_field(created, "map", "create_namespace")),
    )


def _populate(nd_pfn: NdPfn, kernel: Kernel) -> Populated:
    return populate(
        [(nd_pfn.start_pfn, nd_pfn.nr_pages)],
        vmemmap_shift=kernel.tree.vmemmap_shift(nd_pfn.namespace.align),
        dedup=kernel.tree.dedup,
        altmap=nd_pfn.altmap,
    )


def compare_namespace(capture: Any) -> list[Difference]:
    """Compare the recorded ``namespace`` of a static run: pfns, sizes, ranges, pages of a compound.

    Parameters
    ----------
    capture : dict
        Content of a ``capture.json``.

    Returns
    -------
    list of Difference
        Empty where all is equal.

    Raises
    ------
    WorkbenchError
        The run makes no namespace, or is not of the recorded form.
    """
    namespace = recorded_namespace(capture)
    nd_pfn = nvdimm_setup_pfn(namespace)
    shift = recorded_kernel(capture).tree.vmemmap_shift(namespace.align)
    recorded = _record(capture, "namespace")
    derived = {
        "namespace_start_pfn": text.pfn(nd_pfn.start_pfn),
        "data_start_pfn": text.pfn(nd_pfn.data_start_pfn),
        "end_pfn": text.pfn(nd_pfn.end_pfn),
        "pages_per_compound": pgmap_vmemmap_nr(shift),
        "pages_per_align_unit": namespace.align >> PAGE_SHIFT,
        "device_size": nd_pfn.dev_size,
        "ranges": [
            {
                "start": hex(nd_pfn.data_start_pfn << PAGE_SHIFT),
                "end": hex(nd_pfn.end_pfn << PAGE_SHIFT),
                "first_pfn": text.pfn(nd_pfn.data_start_pfn),
                "nr_pages": nd_pfn.npfns,
                "page_offset": 0,
            }
        ],
    }
    return differences({name: recorded.get(name) for name in derived}, derived, "namespace.")


@dataclass(frozen=True)
class _Device:
    ranges: tuple[tuple[int, int], ...] = ()
    align: int = PAGE_SIZE
    bound: bool = False

    def seen(self, record: dict[str, Any]) -> _Device:
        """The device with what ``record`` says about it."""
        ranges, align = self.ranges, self.align
        if isinstance(record.get("ranges"), list):
            ranges = tuple(
                (
                    _number(_field(r, "first_pfn", "a range"), "the first pfn of a range"),
                    _number(_field(r, "nr_pages", "a range"), "the pages of a range"),
                )
                for r in record["ranges"]
            )
        if "align" in record:
            align = _number(record["align"], "the align of a device")
        return replace(self, ranges=ranges, align=align)


def _follow(devices: dict[str, _Device], action: dict[str, Any]) -> None:
    """Keep ``devices`` up to date: ranges, align and whether a driver has them."""
    op, result = action["op"], _record(action, "result")
    name = str(result.get("device", action.get("device")))
    device = devices.get(name, _Device())
    if op == "boot" and "device" in result:
        devices[name] = replace(device.seen(result), bound=bool(result.get("bound")))
    elif op == "observe" and action.get("what") == "devices":
        seen = _record(action, "devices")
        for other in seen:
            devices[other] = devices.get(other, _Device()).seen(_record(seen, other))
    elif not result.get("ok"):
        return
    elif op == "create_device":
        devices[name] = replace(device.seen(action).seen(result), bound=True)
    elif op in ("set_size", "resize_device"):
        devices[name] = device.seen(result if action.get("size") else {"ranges": []})
    elif op == "set_align":
        devices[name] = device.seen(action)
    elif op in ("bind", "unbind"):
        devices[name] = replace(device, bound=op == "bind")
    elif op in ("destroy_device", "delete_device"):
        devices.pop(name, None)


def compare_vmemmap_backing(capture: Any) -> list[Difference]:
    """Compare every ``vmemmap_backing`` of a run: entries, bytes, sharing.

    Parameters
    ----------
    capture : dict
        Content of a ``capture.json``, static or dynamic.  A run without the field has no difference.
        A state of a static run has it after the namespace is gone, when nothing may be mapped.

    Returns
    -------
    list of Difference
        Empty where all is equal.

    Raises
    ------
    WorkbenchError
        It is not of the recorded form.
    """
    kernel = recorded_kernel(capture)
    found: list[Difference] = []
    if recorded := _record(capture, "vmemmap_backing"):
        backing = _populate(nvdimm_setup_pfn(recorded_namespace(capture)), kernel).backing()
        found += differences(recorded, backing.walk, "vmemmap_backing.")
    devices: dict[str, _Device] = {}
    for state in _list(capture, "states", "the run"):
        for action in _list(state, "actions", "a state"):
            _field(action, "op", "an action")
            _follow(devices, action)
        if recorded := _record(state, "vmemmap_backing"):
            backing = _device_backing(devices.get(str(state.get("device"))), kernel)
            found += differences(recorded, backing.walk, f"{state.get('state')}.vmemmap_backing.")
    return found


def _device_backing(device: _Device | None, kernel: Kernel) -> Backing:
    """Backing of a device in soft-reserved memory; nothing without a driver or a device."""
    if device is None or not device.bound or not device.ranges:
        return NOTHING_MAPPED
    shift = kernel.tree.vmemmap_shift(device.align)
    return populate(device.ranges, vmemmap_shift=shift, dedup=kernel.tree.dedup).backing()


def recorded_sharing(recorded: Any, vmemmap_addr: int, nr_vmemmap_pages: int) -> Sharing:
    """Recorded entries in the form of :class:`workbench.mm.sparse_vmemmap.Sharing`.

    Parameters
    ----------
    recorded : dict
        Content of a ``vmemmap.json``: ``runs`` of ``va``, ``pa``, ``page_bytes``, ``count``,
        ``pa_step``.
    vmemmap_addr : int
        Virtual address of the first vmemmap page.
    nr_vmemmap_pages : int
        Pages of 4 KiB from there on.

    Returns
    -------
    Sharing
        ``leaf_bytes`` is 0 and ``phys_addr`` -1 where nothing is mapped.

    Raises
    ------
    WorkbenchError
        A run is malformed, overlaps another or lies outside.
    """
    leaf_bytes = np.full(nr_vmemmap_pages, NOT_MAPPED, np.int64)
    phys_addr = np.full(nr_vmemmap_pages, -1, np.int64)
    for run in _list(recorded, "runs", "the vmemmap record"):
        where = f"run {run!r} of the vmemmap record"
        va, pa, page_bytes, count, pa_step = (
            _number(_field(run, name, where), name) for name in ("va", "pa", "page_bytes", "count", "pa_step")
        )
        last_pa = pa + (count - 1) * pa_step
        start, end = va - vmemmap_addr, va - vmemmap_addr + count * page_bytes
        if page_bytes not in (PAGE_SIZE, PMD_SIZE) or count < 1:
            raise WorkbenchError(f"{where}: an entry maps 4096 or 2097152 bytes and a run has at least one.")
        if start < 0 or end > nr_vmemmap_pages * PAGE_SIZE:
            raise WorkbenchError(
                f"{where} lies outside the struct pages of the device: {vmemmap_addr:#x} to "
                f"{vmemmap_addr + nr_vmemmap_pages * PAGE_SIZE:#x}."
            )
        if (va | pa | pa_step) % page_bytes or min(pa, last_pa) < 0 or max(pa, last_pa) >= 1 << 52:
            raise WorkbenchError(f"{where}: addresses are multiples of the page size, physical ones below 2^52.")
        pages = slice(start >> PAGE_SHIFT, end >> PAGE_SHIFT)
        if leaf_bytes[pages].any():
            raise WorkbenchError(f"{where} maps addresses that another run maps already.")
        leaf_bytes[pages] = page_bytes
        entries = pa + np.arange(count, dtype=np.int64) * pa_step
        phys_addr[pages] = (entries[:, None] + np.arange(0, page_bytes, PAGE_SIZE)).ravel()
    unshared = -1 - np.arange(nr_vmemmap_pages)  # what is not mapped shares nothing
    _, index, inverse = np.unique(np.where(leaf_bytes, phys_addr, unshared), return_index=True, return_inverse=True)
    return Sharing(index[inverse], leaf_bytes, phys_addr)


def sharing(namespace: Namespace, kernel: Kernel) -> Sharing:
    """For each 4 KiB of a namespace's vmemmap, which page it shares its memory with.

    Parameters
    ----------
    namespace : Namespace
        At most 4 TiB.
    kernel : Kernel

    Returns
    -------
    Sharing
        From the struct page of the namespace's first pfn on, to that of the last that is used.

    Raises
    ------
    WorkbenchError
        The kernel refuses the namespace, or it is too large to be listed page by page.
    """
    if namespace.size > MAX_NAMESPACE_BYTES:
        raise WorkbenchError(
            f"namespace {namespace} is too large to list its vmemmap page by page; the limit is "
            f"{text.size(MAX_NAMESPACE_BYTES)}. Count it instead: workbench overhead."
        )
    return _populate(nvdimm_setup_pfn(namespace), kernel).sharing()


def compare_vmemmap(recorded: Any, capture: Any) -> list[Difference]:
    """Compare a recorded ``vmemmap.json`` with the sharing derived for its run.

    Parameters
    ----------
    recorded : dict
        Content of the ``vmemmap.json``.
    capture : dict
        Content of the ``capture.json`` beside it.

    Returns
    -------
    list of Difference
        At most one for each of entry size, sharing, and physical address (in an altmap only): the
        first page that differs and how many do.

    Raises
    ------
    WorkbenchError
        One of them is not of the recorded form.
    """
    kernel, namespace = recorded_kernel(capture), recorded_namespace(capture)
    derived = sharing(namespace, kernel)
    vmemmap_addr = kernel.abi.vmemmap_base + (namespace.start >> PAGE_SHIFT) * STRUCT_PAGE_BYTES
    seen = recorded_sharing(recorded, vmemmap_addr, derived.first.size)
    unknown = derived.phys_addr < 0
    pairs = {
        "leaf_bytes": (seen.leaf_bytes, derived.leaf_bytes),
        "shares with vmemmap page": (seen.first, derived.first),
        "phys_addr": (np.where(unknown, -1, seen.phys_addr), derived.phys_addr),
    }
    found = []
    for name, (theirs, ours) in pairs.items():
        differing = np.flatnonzero(theirs != ours)
        if differing.size:
            page = int(differing[0])
            pfn = (namespace.start >> PAGE_SHIFT) + page * STRUCT_PAGES_PER_PAGE
            where = f"{name}, {differing.size} vmemmap pages, first {page} (struct page of pfn {text.pfn(pfn)})"
            found.append(Difference(where, int(theirs[page]), int(ours[page])))
    return found
