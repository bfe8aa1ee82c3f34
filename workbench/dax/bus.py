# SPDX-License-Identifier: GPL-2.0-only
"""The dax bus: regions, their devices, what user space can write to their attributes, and the drivers.

Each ``*_store`` is one write to a file in sysfs.  It takes what was written and raises the errno of the
write; where the kernel refuses, nothing changed unless the error lists it.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from html import escape

from workbench import text
from workbench.abi.constants import PAGE_SIZE, PMD_SIZE, PUD_SIZE
from workbench.dax import probe
from workbench.dax.kmem import KmemData, dev_dax_kmem_probe, dev_dax_kmem_remove
from workbench.dax.region import MEMREMAP_COMPAT_ALIGN, DaxRange, DaxRegion, DevDax, RegionFlags
from workbench.dax.resize import alloc_dev_dax_range, dev_dax_resize, register_dax_mapping
from workbench.errors import KernelCrash, WorkbenchError
from workbench.mm.memremap import DevPagemap, ZoneDevice
from workbench.mm.resource import release_region

__all__ = ["DaxBus", "DaxRange", "DaxRegion", "DevDax", "RegionFlags"]

DRIVERS = ("device_dax", "kmem")
_ALIGNS = (PAGE_SIZE, PMD_SIZE, PUD_SIZE)
_U64 = 1 << 64
_INT = 1 << 31
_DEVICE_NAME = re.compile(r"\s*dax[+-]?\d+\.[+-]?\d+")


class DaxBus:
    """The dax bus of a machine.

    Parameters
    ----------
    zone_device : ZoneDevice
        Where devices get their struct pages; it knows the release, and /proc/iomem.
    auto_online : bool
        Memory that the kmem driver adds goes online by itself.

    Attributes
    ----------
    regions : dict of int to DaxRegion
        By id; of several static ones with one id the first, see :meth:`all_regions`.
    ids : dict of str to set of str
        Drivers that are loaded, device_dax from the start; of each the names it was told to take (``new_id``).
    """

    def __init__(self, zone_device: ZoneDevice, *, auto_online: bool = True) -> None:
        self.zone_device = zone_device
        self.tree = zone_device.array.kernel.tree
        self.auto_online = auto_online
        self.regions: dict[int, DaxRegion] = {}
        self._further: list[DaxRegion] = []
        self.ids: dict[str, set[str]] = {"device_dax": set()}
        self._kmem: dict[DevDax, KmemData] = {}

    # regions and devices

    def add_region(self, region: DaxRegion) -> DaxRegion:
        """Register a region.

        Raises
        ------
        WorkbenchError
            Its id is taken.
        """
        first = self.regions.setdefault(region.region_id, region)
        if first is not region:
            if not (first.is_static and region.is_static):
                raise WorkbenchError(f"dax region {region.region_id} exists. Take another id.")
            self._further.append(region)
        return region

    def all_regions(self) -> Iterator[DaxRegion]:
        """Every region by id; namespaces of one region of persistent memory are regions with one id."""
        return iter(sorted((*self.regions.values(), *self._further), key=lambda region: region.region_id))

    def remove_region(self, region: DaxRegion) -> None:
        """The driver of the region goes, and its devices with it.

        Raises
        ------
        WorkbenchError
            A device's unbind waits for pages that are held; then nothing changes but that.
        """
        for device in list(region.devices.values()):
            if device.bound and not self.unbind(device.name):
                raise WorkbenchError(
                    f"the unbind of {device.name} waits in {probe.UNBIND_BLOCKED_IN[0]}() for pages that are held. "
                    "Drop them.",
                    changed=(f"{device.name} is dead and unmapped",),
                )
        for device in list(region.devices.values()):
            self._free(device)
        region.bound = False
        if region in self._further:
            self._further.remove(region)
            return
        del self.regions[region.region_id]
        for other in self._further:
            if other.region_id == region.region_id:
                self._further.remove(other)
                self.regions[other.region_id] = other
                return

    def create_dev_dax(self, region: DaxRegion, size: int, *, id: int = -1, pgmap: DevPagemap | None = None) -> DevDax:
        """Make a device at the start of its region; a driver that takes all devices takes it at once.

        A probe that fails leaves the device unbound and tells nobody, as in the kernel.

        Kernel: drivers/dax/bus.c, ``devm_create_dev_dax()``, 5.10 to 6.12.

        Parameters
        ----------
        region : DaxRegion
        size : int
            Bytes; 0 for an empty device.
        id : int
            For a static region; a dynamic one numbers its devices itself.
        pgmap : DevPagemap, optional
            For a static region: what its device is bound with.

        Raises
        ------
        WorkbenchError
            EINVAL: a static region without an id, or a dynamic one with one; ENOMEM: the memory is not free.
            Without errno: what the workbench refuses.  Nothing changes.
        KernelCrash
            Binding it dies; the device stays.
        """
        if region.is_static != (id >= 0):
            kind, word = ("static", "needs an") if region.is_static else ("dynamic", "takes no")
            raise WorkbenchError(f"a {kind} region {word} id for its device; got {id}.", errno.EINVAL)
        if pgmap is not None and not region.is_static:
            raise WorkbenchError("custom dev_pagemap requires a static dax_region. Leave the pgmap out.")
        device = DevDax(region, id if region.is_static else region.new_id(), region.align)
        device.target_node, device.pgmap = region.target_node, pgmap
        device.mapping_address = self.zone_device.new_address()
        alloc_dev_dax_range(device, region.start, size, registered=False)
        region.devices[device.name] = device
        try:
            for driver in self.ids:
                self._attach(driver, device)
        except KernelCrash:
            raise
        except WorkbenchError:
            self._free(device)
            raise
        for each in device.ranges:
            register_dax_mapping(device, each)
        return device

    def devices(self) -> Iterator[DevDax]:
        """Every device, region by region."""
        for region in self.all_regions():
            yield from region.devices.values()

    def device(self, name: str) -> DevDax:
        """The device called ``name``.

        Raises
        ------
        WorkbenchError
            ENOENT: there is none.
        """
        for device in self.devices():
            if device.name == name:
                return device
        raise WorkbenchError(f"no device {name}. /sys/bus/dax/devices lists them.", errno.ENOENT)

    def _free(self, device: DevDax) -> None:
        """Free a device's ranges and its name."""
        for each in device.ranges:
            release_region(device.region.res, each.start, each.size)
        device.ranges = []
        del device.region.devices[device.name]
        device.id = -1

    # attributes of a region

    def region(self, region_id: int) -> DaxRegion:
        """The region with that id.

        Raises
        ------
        WorkbenchError
            ENOENT: there is none.
        """
        if region_id not in self.regions:
            raise WorkbenchError(f"no dax region {region_id}.", errno.ENOENT)
        return self.regions[region_id]

    def available_size(self, region_id: int = 0) -> int:
        """Read ``available_size``: bytes that no device has.

        Raises
        ------
        WorkbenchError
            ENOENT: a static region has no such file.
        """
        return self._dynamic(region_id, "available_size").available_size

    def seed(self, region_id: int = 0) -> str:
        """Read ``seed``: the oldest device from ``create`` not bound since; empty where there is none.

        Raises
        ------
        WorkbenchError
            ENOENT: a static region has no such file.
        """
        seed = self._dynamic(region_id, "seed").seed
        return seed.name if seed else ""

    def create_store(self, value: str = "1", region_id: int = 0) -> DevDax:
        """Write ``create``: one more device, empty.

        Kernel: drivers/dax/bus.c, ``create_store()``.

        Raises
        ------
        WorkbenchError
            ENOENT: a static region has no such file; EINVAL: not 1; ERANGE: no int; ENOSPC: nothing is left.
        """
        region = self._dynamic(region_id, "create")
        if _kstrtoint(value, "create") != 1:
            raise WorkbenchError(f"create takes 1; got {value!r}.", errno.EINVAL)
        if not region.available_size:
            raise WorkbenchError(f"region {region_id} has nothing left. Shrink a device first.", errno.ENOSPC)
        device = self.create_dev_dax(region, 0)
        region.seed = region.seed or device
        return device

    def delete_store(self, name: str, region_id: int = 0) -> None:
        """Write ``delete``: a device goes.  The region's first, id 0, never does.

        Kernel: drivers/dax/bus.c, ``delete_store()``.

        Raises
        ------
        WorkbenchError
            ENOENT: a static region has no such file; ENXIO: no such device in this region; EBUSY: bound, not
            empty, or id 0.
        """
        region = self._dynamic(region_id, "delete")
        device = region.devices.get(name.strip())
        if device is None:
            raise WorkbenchError(f"region {region_id} has no device {name!r}.", errno.ENXIO)
        self._lock(device)
        if device.bound or device.size:
            state = f"bound to {device.driver}" if device.bound else f"{text.size(device.size)} large"
            raise WorkbenchError(f"{name} is {state}. Unbind it and set its size to 0.", errno.EBUSY)
        if device.id == 0:
            raise WorkbenchError(f"{name} is the first of its region, which stays. Leave it empty.", errno.EBUSY)
        self._free(device)
        if region.seed is device:
            region.seed = None

    def _dynamic(self, region_id: int, attribute: str) -> DaxRegion:
        region = self.region(region_id)
        if region.is_static:
            raise WorkbenchError(
                f"region {region_id} is static and has no {attribute}. Make a namespace instead.", errno.ENOENT
            )
        return region

    # attributes of a device

    def size_store(self, name: str, value: int | str) -> None:
        """Write ``size``, in bytes.

        Kernel: drivers/dax/bus.c, ``size_store()``.

        Raises
        ------
        WorkbenchError
            EACCES: a static device's is read-only; EINVAL: no number, or no multiple of align (at least 2 MiB);
            ERANGE: more than 64 bits; ENXIO: the region has no driver; EBUSY: bound; ENOSPC: too large.
        """
        device = self._writable(name, "size")
        size = _kstrtoull(value, "size")
        if size % device.allocation_unit:
            raise WorkbenchError(
                f"{name}: a size is a multiple of {text.size(device.allocation_unit)}; got {size} bytes. Round it.",
                errno.EINVAL,
            )
        self._require_region(device)
        self._lock(device)
        dev_dax_resize(device, size)

    def align_store(self, name: str, value: int | str) -> None:
        """Write ``align``, in bytes.

        Kernel: drivers/dax/bus.c, ``align_store()``.

        Raises
        ------
        WorkbenchError
            EACCES: a static device's is read-only; ENXIO: no number, or the region has no driver; EINVAL: not 4
            KiB, 2 MiB or 1 GiB, or a range is no multiple of it; EBUSY: bound.
        """
        device = self._writable(name, "align")
        try:
            align = _kstrtoull(value, "align")
        except WorkbenchError as refused:
            raise WorkbenchError(str(refused), errno.ENXIO) from None
        if align not in _ALIGNS:
            raise WorkbenchError(f"{name}: an align is 4 KiB, 2 MiB or 1 GiB; got {align} bytes.", errno.EINVAL)
        self._require_region(device)
        self._lock(device)
        if device.bound:
            raise WorkbenchError(f"{name} is bound to {device.driver}. Unbind it first.", errno.EBUSY)
        unit = max(align, MEMREMAP_COMPAT_ALIGN)
        for each in device.ranges:
            if each.size % unit:
                raise WorkbenchError(
                    f"{name}: its range {each} is {text.size(each.size)} long, no multiple of {text.size(unit)}. "
                    "Resize it first.",
                    errno.EINVAL,
                )
        device.align = align

    def mapping_store(self, name: str, value: str) -> None:
        """Write ``mapping``, "start-end" in hex, the last byte included: one more range, at that very place.

        Whether a driver has the device is not asked: its pages then lack the new range.

        Kernel: drivers/dax/bus.c, ``mapping_store()``.

        Raises
        ------
        WorkbenchError
            ENOENT: a static device has no such file; EINVAL: it cannot be read; ENXIO: the region has no
            driver, or the length is no multiple of align (at least 2 MiB); ENOMEM: not free; EBUSY: empty.
        """
        device = self.device(name)
        if device.region.is_static:
            raise WorkbenchError(f"{name} is static and has no mapping file.", errno.ENOENT)
        parts = value.split("-", 1)
        if len(parts) != 2:
            raise WorkbenchError(f"a mapping is start-end in hex; got {value!r}.", errno.EINVAL)
        start, end = (_kstrtoull(part, "mapping", 16) for part in parts)
        self._require_region(device)
        self._lock(device)
        size = (end - start + 1) % _U64
        if size % device.allocation_unit:
            raise WorkbenchError(
                f"{name}: the length of a mapping is a multiple of {text.size(device.allocation_unit)}; got "
                f"{size} bytes. Round it.",
                errno.ENXIO,
            )
        alloc_dev_dax_range(device, start, size)

    def _writable(self, name: str, attribute: str) -> DevDax:
        device = self.device(name)
        if device.region.is_static:
            raise WorkbenchError(
                f"{name} is static: its {attribute} is read-only. Make its namespace anew.", errno.EACCES
            )
        return device

    def _lock(self, device: DevDax) -> None:
        """Take the device's lock, which an unbind holds while it waits."""
        if self.blocked_in(device.name):
            raise WorkbenchError(
                f"an unbind of {device.name} waits for pages that are held, and this would wait for it. Drop the pages."
            )

    def _require_region(self, device: DevDax) -> None:
        if not device.region.bound:
            raise WorkbenchError(
                f"region {device.region.region_id} has no driver. Bind its platform device first.", errno.ENXIO
            )

    # drivers

    def load(self, driver: str) -> None:
        """Load a driver's module: it tries every device that it may take.  Once loaded, nothing happens.

        Raises
        ------
        WorkbenchError
            There is no such driver.
        """
        if driver not in DRIVERS:
            raise WorkbenchError(f"no driver {driver!r} for dax devices. Use {' or '.join(DRIVERS)}.")
        if driver not in self.ids:
            self.ids[driver] = set()
            self._attach_all(driver)

    def _attach_all(self, driver: str) -> None:
        for device in list(self.devices()):
            self._attach(driver, device)

    def new_id(self, driver: str, name: str) -> None:
        """Write a driver's ``new_id``: it is to take the device called ``name``, and tries all it may take.

        A probe that fails is not told.

        Kernel: drivers/dax/bus.c, ``do_id_store()``; drivers/base/dd.c, ``driver_attach()``.

        Raises
        ------
        WorkbenchError
            ENOENT: the driver is not loaded; EINVAL: no daxN.M.
        """
        self._change_ids(driver, name).add(name.strip())
        self._attach_all(driver)

    def remove_id(self, driver: str, name: str) -> None:
        """Write a driver's ``remove_id``: it does not take the device by name any more.

        Raises
        ------
        WorkbenchError
            ENOENT: the driver is not loaded; EINVAL: no daxN.M.
        """
        self._change_ids(driver, name).discard(name.strip())

    def _change_ids(self, driver: str, name: str) -> set[str]:
        self._require_loaded(driver)
        if not _DEVICE_NAME.match(name):
            raise WorkbenchError(f"an id is daxN.M; got {name!r}.", errno.EINVAL)
        return self.ids[driver]

    def _require_loaded(self, driver: str) -> None:
        if driver not in self.ids:
            raise WorkbenchError(f"no driver {driver!r} on the dax bus. Load its module.", errno.ENOENT)

    def _matches(self, driver: str, device: DevDax) -> bool:
        """dax_bus_match(): by name; device_dax takes all there are, from 6.3 on those not meant for kmem."""
        if device.name in self.ids[driver]:
            return True
        if self.tree.base != "6.12":
            return driver == "device_dax"
        return (driver == "kmem") == (RegionFlags.KMEM in device.region.flags)

    def _attach(self, driver: str, device: DevDax) -> None:
        """Let a driver try a device that is free; what it refuses with is for the kernel log."""
        if device.bound or not self._matches(driver, device):
            return
        try:
            self._probe(driver, device)
        except WorkbenchError as refused:
            if refused.errno is None:
                raise

    def bind(self, name: str, driver: str = "device_dax") -> None:
        """Write a driver's ``bind``.

        Kernel: drivers/base/bus.c, ``bind_store()``; drivers/dax/bus.c, ``dax_bus_probe()``.

        Raises
        ------
        WorkbenchError
            ENOENT: the driver is not loaded.  ENODEV: no such device, or the driver does not take it.
            EBUSY: bound already.  ENXIO: empty.  And those of the driver's probe.  5.10 says ENODEV for
            all but the first.
        KernelCrash
            See :func:`workbench.dax.probe.dev_dax_probe`.
        """
        self._require_loaded(driver)
        try:
            device = next((each for each in self.devices() if each.name == name), None)
            if device is None or not self._matches(driver, device):
                raise WorkbenchError(
                    f"{name}: {driver} takes no such device. Write its name to {driver}'s new_id.", errno.ENODEV
                )
            self._lock(device)
            if device.bound:
                raise WorkbenchError(f"{name} is bound to {device.driver} already.", errno.EBUSY)
            self._probe(driver, device)
        except WorkbenchError as refused:
            if refused.errno is not None and self.tree.base == "5.10":
                raise WorkbenchError(str(refused), errno.ENODEV, refused.changed) from refused
            raise

    def _probe(self, driver: str, device: DevDax) -> None:
        """dax_bus_probe() and the driver's own probe."""
        if not device.size or device.id < 0:
            raise WorkbenchError(f"{device.name} is empty. Set its size first.", errno.ENXIO)
        if driver == "kmem":
            iomem = self.zone_device.iomem
            self._kmem[device] = dev_dax_kmem_probe(device, iomem, self.tree.base, online=self.auto_online)
        else:
            probe.dev_dax_probe(device, self.zone_device)
        device.driver = driver
        if device.region.seed is device and not device.region.is_static:
            device.region.seed = None

    def unbind(self, name: str, driver: str | None = None) -> bool:
        """Write a driver's ``unbind``.

        The device is dead and unmapped at once.  Up to 5.17 the write then waits until no page is held.

        Parameters
        ----------
        name : str
        driver : str, optional
            The driver that is told to; default the one that has it.

        Returns
        -------
        bool
            True when it is over.  False where it waits, in :data:`workbench.dax.probe.UNBIND_BLOCKED_IN`: go on
            with :meth:`unbind_continue` when references were dropped.

        Raises
        ------
        WorkbenchError
            ENODEV: no such device, or no driver (or another one) has it.
        KernelCrash
            See :meth:`workbench.mm.memremap.ZoneDevice.memunmap_pages`.
        """
        device = next((each for each in self.devices() if each.name == name), None)
        if device is None or not device.bound or driver not in (None, device.driver):
            raise WorkbenchError(f"{name} is bound to no such driver.", errno.ENODEV)
        if device.driver == "kmem":
            dev_dax_kmem_remove(self._kmem.pop(device))
            device.driver = None
            return True
        self._lock(device)
        return self._unbound(device, probe.dev_dax_release(device, self.zone_device))

    def unbind_continue(self, name: str) -> bool:
        """Let an unbind that waits go on.

        Returns
        -------
        bool
            True when it is over, also where none waits.
        """
        device = self.device(name)
        if device.driver != "device_dax" or device.alive:
            return True
        return self._unbound(device, probe.dev_dax_release_continue(device, self.zone_device))

    def blocked_in(self, name: str) -> tuple[str, ...]:
        """The functions an unbind of the device waits in, innermost first; empty where none waits."""
        device = self.device(name)
        return probe.UNBIND_BLOCKED_IN if device.driver == "device_dax" and not device.alive else ()

    def _unbound(self, device: DevDax, over: bool) -> bool:
        if over:
            device.driver = None
        return over

    def online(self, name: str, online: bool = True) -> None:
        """Take a system-ram device's memory online or offline, all of its blocks.

        Raises
        ------
        WorkbenchError
            EINVAL: the kmem driver does not have the device.
        """
        data = self._kmem.get(self.device(name))
        if data is None:
            raise WorkbenchError(f"{name} is not in system-ram mode. Bind it to kmem first.", errno.EINVAL)
        data.online = online

    def is_online(self, name: str) -> bool:
        """Whether the device's memory is System RAM in use."""
        data = self._kmem.get(self.device(name))
        return data is not None and data.online

    def __repr__(self) -> str:
        return "\n".join(("DaxBus", *map(repr, self.all_regions())))

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"


def _kstrtoull(value: int | str, what: str, base: int = 0) -> int:
    """A number as the kernel reads it from a write: kstrtoull()."""
    written = str(value).removesuffix("\n").removeprefix("+")
    digits = {0: r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9]\d*", 16: r"(0[xX])?[0-9a-fA-F]+"}[base]
    if not re.fullmatch(digits, written, re.ASCII):
        raise WorkbenchError(f"{what} takes a number; got {value!r}.", errno.EINVAL)
    octal = base == 0 and re.fullmatch(r"0[0-7]+", written)
    number = int(written, 8 if octal else base)
    if number >= _U64:
        raise WorkbenchError(f"{what} takes a number of 64 bits; got {value!r}.", errno.ERANGE)
    return number


def _kstrtoint(value: str, what: str) -> int:
    """A number as the kernel reads it from a write: kstrtoint()."""
    sign = -1 if value.startswith("-") else 1
    number = sign * _kstrtoull(value.removeprefix("-"), what)
    if not -_INT <= number < _INT:
        raise WorkbenchError(f"{what} takes a number of 32 bits; got {value!r}.", errno.ERANGE)
    return number
