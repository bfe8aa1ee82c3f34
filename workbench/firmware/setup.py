# SPDX-License-Identifier: GPL-2.0-only
"""arch/x86/kernel/setup.c: in which order the kernel reads its memory map and its command line.

::

    as it was, and is again                    with 8aa83e6395ce (5.15-rc3)
    ----------------------------------         ----------------------------------
    e820 table from the boot loader            EFI reservation  <- no option read yet
    early options: memmap=, efi=, ...          e820 table from the boot loader
    EFI reservation  <- options known          early options: memmap=, efi=, ...
    the table as the options left it           the table as the options left it
    EFI descriptors get fake attributes        EFI descriptors get fake attributes

The EFI reservation is where soft reserved memory is made.  Done before the options are read it sees no
``efi_fake_mem=`` (no range was parsed) and no ``efi=nosoftreserve``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from workbench.errors import WorkbenchError
from workbench.firmware.cmdline import options
from workbench.firmware.e820 import E820Entry, E820Table, E820Type
from workbench.firmware.efi import EfiMemoryDescriptor, EfiMemoryType, do_add_efi_memmap, setup_e820
from workbench.firmware.efi_fake_mem import FakeMem, efi_fake_memmap, efi_fake_memmap_early, parse_efi_fake_mem

HAS_EFI_FAKE_MEM = ("5.10", "5.15", "5.16", "5.17", "6.1")
"""Releases with the option; 6.12 has lost it."""


@dataclass(frozen=True)
class Firmware:
    """What a machine tells the kernel about its memory.

    Attributes
    ----------
    efi : tuple of EfiMemoryDescriptor
        The EFI memory map; empty on a machine with a BIOS.
    bios : tuple of E820Entry
        The BIOS table; with EFI the boot stub makes one from the descriptors.
    """

    efi: tuple[EfiMemoryDescriptor, ...] = ()
    bios: tuple[E820Entry, ...] = ()

    @classmethod
    def from_e820(cls, entries: Iterable[E820Entry]) -> Firmware:
        """A machine with a BIOS."""
        return cls(bios=tuple(entries))

    @classmethod
    def from_efi(cls, descriptors: Iterable[EfiMemoryDescriptor]) -> Firmware:
        """A machine with UEFI."""
        return cls(efi=tuple(descriptors))

    @classmethod
    def plain(cls, ram: Iterable[tuple[int, int]], pmem: Iterable[tuple[int, int]] = (), efi: bool = False) -> Firmware:
        """RAM and persistent memory at ``(start, end)``, end exclusive, and nothing else."""
        if efi:
            kinds = ((ram, EfiMemoryType.CONVENTIONAL_MEMORY), (pmem, EfiMemoryType.PERSISTENT_MEMORY))
            return cls.from_efi(
                EfiMemoryDescriptor(kind, start, (end - start) >> 12) for ranges, kind in kinds for start, end in ranges
            )
        types = ((ram, E820Type.RAM), (pmem, E820Type.PMEM))
        return cls.from_e820(E820Entry(start, end - start, kind) for ranges, kind in types for start, end in ranges)


@dataclass
class BootMemory:
    """Memory as the kernel knows it after setup_arch().

    Attributes
    ----------
    e820 : E820Table
        Sanitised.
    efi : list of EfiMemoryDescriptor
        With fake attributes.
    log : list of str
        What the kernel's log says about it.
    """

    e820: E820Table
    efi: list[EfiMemoryDescriptor] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def ranges(self, type: E820Type) -> list[tuple[int, int]]:
        """Start and end (exclusive), bytes, of each entry of a type."""
        return [(entry.start, entry.end) for entry in self.e820 if entry.type == type]


class _Setup:
    """The state of one setup_arch()."""

    def __init__(self, firmware: Firmware, cmdline: str, release: str) -> None:
        self.cmdline, self.release = cmdline, release
        self.efi = list(firmware.efi)
        # The boot stub reads efi= itself, before any kernel code runs.
        stub_soft_reserve = "nosoftreserve" not in _efi_words(cmdline)
        self.handed = [*firmware.bios, *setup_e820(self.efi, stub_soft_reserve)]
        self.table = E820Table()
        self.fakes: list[FakeMem] = []
        self.soft_reserve = True
        self.userdef = False
        self.log: list[str] = []

    def e820_memory_setup(self) -> None:
        self.table.entries += self.handed
        self.table.update_table()
        self.log += ["BIOS-provided physical RAM map:", *self.table.text()]

    def parse_early_param(self) -> None:
        for name, value in options(self.cmdline):
            if name == "memmap":
                self.parse_memmap_opt(value)
            elif name == "efi_fake_mem" and self.release in HAS_EFI_FAKE_MEM:
                self.fakes = parse_efi_fake_mem(value)
                self.log += [f"efi_fake_mem: {fake}" for fake in self.fakes]
        self.soft_reserve = "nosoftreserve" not in _efi_words(self.cmdline)

    def parse_memmap_opt(self, value: str) -> None:
        self.userdef = True
        for part in value.split(","):
            try:
                self.table.parse_memmap_one(part)
            except WorkbenchError as refusal:
                if refusal.errno is None:
                    raise
                self.log.append(f"Malformed early option 'memmap': {refusal}")

    def efi_memblock_x86_reserve_range(self) -> None:
        if not self.efi:
            return
        if self.soft_reserve and any(descriptor.is_soft_reserved for descriptor in self.efi):
            do_add_efi_memmap(self.table, self.efi, soft_reserve=True)
        if self.soft_reserve and self.fakes:
            efi_fake_memmap_early(self.table, self.efi, self.fakes)

    def finish_early_params(self) -> None:
        if self.userdef:
            self.table.update_table()
            self.log += ["user-defined physical RAM map:", *self.table.text("user")]

    def efi_fake_memmap(self) -> None:
        self.efi = efi_fake_memmap(self.efi, self.fakes)


def _efi_words(cmdline: str) -> set[str]:
    """The words of every ``efi=`` on a command line."""
    return {word for name, value in options(cmdline) if name == "efi" for word in value.split(",")}


def setup_arch(
    firmware: Firmware, cmdline: str = "", release: str = "6.1", early_reserve_memory_first: bool = False
) -> BootMemory:
    """The memory a kernel boots with.

    Parameters
    ----------
    firmware : Firmware
    cmdline : str
        ``memmap=``, ``efi_fake_mem=`` and ``efi=nosoftreserve`` are heeded.
    release : str
        The kernel's base: 6.12 has no ``efi_fake_mem=``.
    early_reserve_memory_first : bool
        Commit 8aa83e6395ce as it stood in 5.15-rc3 to -rc6: the EFI reservation runs before options are
        read.  False: before that commit, and after its repair (8d48bf8206f7 read the command line
        first; later trees move only the EFI reservation back behind it).

    Returns
    -------
    BootMemory

    Raises
    ------
    KernelCrash
        ``memmap=`` changes a type into itself.

    Kernel
    ------
    arch/x86/kernel/setup.c, setup_arch() and early_reserve_memory(); arch/x86/platform/efi/efi.c,
    efi_memblock_x86_reserve_range(); arch/x86/kernel/e820.c.

    Examples
    --------
    >>> firmware = Firmware.plain([(0x100000, 9 << 30)], efi=True)
    >>> for first in (False, True):
    ...     boot = setup_arch(firmware, "efi_fake_mem=4G@4G:0x40000", early_reserve_memory_first=first)
    ...     [f"{start:#x}-{end:#x}" for start, end in boot.ranges(E820Type.SOFT_RESERVED)]
    ['0x100000000-0x200000000']
    []
    """
    setup = _Setup(firmware, cmdline, release)
    early = [setup.e820_memory_setup, setup.parse_early_param]
    reserve = [setup.efi_memblock_x86_reserve_range]
    for step in reserve + early if early_reserve_memory_first else early + reserve:
        step()
    setup.finish_early_params()
    setup.efi_fake_memmap()
    return BootMemory(setup.table, setup.efi, setup.log)
