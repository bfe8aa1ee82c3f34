# SPDX-License-Identifier: GPL-2.0-only
"""Measure what happens to whole devices of a machine: struct pages made anew, a bind, a fault of every huge page.

The machine is booted as everywhere else, with memory that the firmware keeps for one device: so a sample holds
what the workbench does around the compiled code.  What a program stores is no part of a fault.  Memory is touched
once, before; the rest are repetitions.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from workbench.abi import STRUCT_PAGE_BYTES
from workbench.abi.constants import PAGE_SIZE
from workbench.dax.region import DevDax
from workbench.lab.bench_kernels import NODE, START_PFN, ZONE
from workbench.lab.bench_samples import Pace, Samples, timed
from workbench.lab.twins import Twins
from workbench.machine import Machine
from workbench.mm import InitCall, PageArray
from workbench.mm.memremap import init_call
from workbench.mm.page_alloc import memmap_init_zone_device_nt

THREADS = (1, 2)
PROBES = ("probe", "init")
SPIN_ROUNDS = 60_000_000
RANDOM_WRITES = 1 << 20
_PMD = 2 << 20


@dataclass(eq=False)
class Booted:
    """A machine with one device, every struct page of it in memory.

    Attributes
    ----------
    machine : Machine
    device : DevDax
        Bound, its compounds of order 9.
    """

    machine: Machine
    device: DevDax

    @property
    def array(self) -> PageArray:
        """The device's struct pages."""
        return self.machine.array

    @property
    def nbytes(self) -> int:
        """Bytes of the device."""
        return self.array.nr_pages * PAGE_SIZE

    def call(self) -> InitCall:
        """The call that initialises its struct pages."""
        assert self.device.bound_pgmap is not None
        return init_call(self.device.bound_pgmap)


def boot(nbytes: int) -> Booted:
    """Boot a machine whose one device has ``nbytes`` bytes, and touch all of its struct pages.

    Raises
    ------
    WorkbenchError
        Not enough memory.
    """
    start = START_PFN * PAGE_SIZE
    machine = Machine("5.17", soft_reserved=[(start, start + nbytes)])
    machine.array.materialise(threads=2)
    return Booted(machine, next(iter(machine.bus.devices())))


def measure_devices(devices: list[Booted], twins: Twins, samples: Samples, pace: Pace) -> None:
    """Time everything here; a probe only of the first device.

    Parameters
    ----------
    devices : list of Booted
        Their struct pages are overwritten.
    twins : Twins
    samples : Samples
        ``reinit``, ``spin``, ``faults``, ``writes`` and ``probes`` grow.
    pace : Pace
        A step is all devices once.
    """
    for _, kept in pace.turns(samples):
        for device in devices:
            _reinit(device, twins, kept)
            if device is devices[0]:
                _probe(device, kept)
            _faults(device, twins, kept)
        pace.done()


def _reinit(device: Booted, twins: Twins, kept: Samples) -> None:
    """Initialise the whole array anew, by one thread and by two, with a spin test beside each."""
    for threads in THREADS:
        with timed(kept.spin[device.nbytes, threads]):
            _spin(twins, threads)
        with timed(kept.reinit[device.nbytes, threads]):
            device.array.init(device.call(), threads=threads)


def _spin(twins: Twins, threads: int) -> None:
    if threads == 1:
        twins.spin(SPIN_ROUNDS)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(twins.spin, [SPIN_ROUNDS] * threads))


def _probe(device: Booted, kept: Samples) -> None:
    """Bind the device and read all it made, then run its kernel alone over the same lines."""
    device.machine.unbind(device.device.name)
    with timed(kept.probes["probe"]):
        device.machine.bind(device.device.name)
        device.array.materialise()
    call, vm = device.call(), device.array.memmap
    pgmap = np.uint64(call.pgmap or 0)
    with timed(kept.probes["init"]):
        memmap_init_zone_device_nt(vm, 0, len(vm.pages), ZONE, NODE, pgmap, call.vmemmap_shift, False, 0, len(vm.pages))


def _faults(device: Booted, twins: Twins, kept: Samples) -> None:
    """Write to each 2 MiB of the device once, through a new mapping; then to lines of its array at random."""
    process = device.machine.process()
    addr = process.mmap(process.open(device.device.name), device.nbytes)
    with timed(kept.faults[device.nbytes]):
        process.mm.touch(addr, device.nbytes // _PMD, _PMD, write=True)
    process.munmap(addr, device.nbytes)
    rows = device.array.memmap.pages
    with timed(kept.writes[device.nbytes]):
        twins.random_writes(rows.ctypes.data, len(rows) * STRUCT_PAGE_BYTES, RANDOM_WRITES)
