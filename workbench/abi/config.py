# SPDX-License-Identifier: GPL-2.0-only
"""The kernel options that move bits of ``struct page``.

Kernel: include/linux/page-flags-layout.h, include/linux/mmzone.h, arch/x86/include/asm/sparsemem.h.
The default is what the Debian amd64 kernels of 5.10, 6.1 and 6.12 use; the small builds of 5.15 and
5.17 the captures were taken from place every bit the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.errors import WorkbenchError

BITS_PER_LONG = 64
LAST_PID_SHIFT = 8


@dataclass(frozen=True, slots=True)
class Config:
    """A kernel configuration, as far as struct page depends on it.

    Attributes
    ----------
    numa : bool
        CONFIG_NUMA; off, NODES_WIDTH is 0.
    nodes_shift : int
        CONFIG_NODES_SHIFT, log2 of the number of nodes.
    nr_cpus : int
        CONFIG_NR_CPUS; its log2, rounded up, is the width of the cpu in LAST_CPUPID.
    numa_balancing : bool
        CONFIG_NUMA_BALANCING: LAST_CPUPID exists and is initialised to all ones.
    memcg : bool
        CONFIG_MEMCG: word 7 holds ``memcg_data`` (5.10: ``mem_cgroup``).  Off, word 7 is padding.
    zone_dma, zone_dma32, zone_device : bool
        Which zones exist beside NORMAL and MOVABLE; they number ZONE_DEVICE.
    lru_gen : bool
        CONFIG_LRU_GEN: LRU_GEN and LRU_REFS below LAST_CPUPID (6.1 and later).
    page_idle_flag, memory_failure, pg_uncached, arch_2 : bool
        Options that add page flags and move those above them.
    pgtable_levels : int
        4 or 5: the vmemmap base address.
    """

    numa: bool = True
    nodes_shift: int = 10
    nr_cpus: int = 8192
    numa_balancing: bool = True
    memcg: bool = True
    zone_dma: bool = True
    zone_dma32: bool = True
    zone_device: bool = True
    lru_gen: bool = True
    page_idle_flag: bool = False
    memory_failure: bool = True
    pg_uncached: bool = True
    arch_2: bool = True
    pgtable_levels: int = 4

    def __post_init__(self) -> None:
        if self.pgtable_levels not in (4, 5):
            raise WorkbenchError(f"x86-64 has 4 or 5 page-table levels; got {self.pgtable_levels}.")

    @property
    def zones(self) -> tuple[str, ...]:
        """Zone names by number."""
        optional = {"DMA": self.zone_dma, "DMA32": self.zone_dma32, "DEVICE": self.zone_device}
        return tuple(z for z in ("DMA", "DMA32", "NORMAL", "MOVABLE", "DEVICE") if optional.get(z, True))

    @property
    def vmemmap_base(self) -> int:
        """Address of the struct page of pfn 0, without RANDOMIZE_MEMORY."""
        return 0xFFFF_EA00_0000_0000 if self.pgtable_levels == 4 else 0xFFD4_0000_0000_0000


@dataclass(frozen=True, slots=True)
class BitField:
    """``width`` bits at ``shift`` of word 0."""

    name: str
    shift: int
    width: int

    @property
    def mask(self) -> int:
        """The field's bits, in place."""
        return ((1 << self.width) - 1) << self.shift


def flags_layout(config: Config, release: str) -> tuple[BitField, ...]:
    """The fields above the page flags, highest first: NODE, ZONE, LAST_CPUPID, LRU_GEN, LRU_REFS.

    SECTIONS_WIDTH is 0 with SPARSEMEM_VMEMMAP and the KASAN tag has no bits on x86.  A field the
    configuration leaves out has width 0.

    Kernel: include/linux/page-flags-layout.h.
    """
    has_lru_gen = config.lru_gen and release in ("6.1", "6.12")
    cpu_bits = (config.nr_cpus - 1).bit_length()
    widths = {
        "NODE": config.nodes_shift if config.numa else 0,
        "ZONE": (len(config.zones) - 1).bit_length(),
        "LAST_CPUPID": LAST_PID_SHIFT + cpu_bits if config.numa_balancing else 0,
        "LRU_GEN": 3 if has_lru_gen else 0,
        "LRU_REFS": 2 if has_lru_gen else 0,
    }
    fields, top = [], BITS_PER_LONG
    for name, width in widths.items():
        top -= width
        fields.append(BitField(name, top, width))
    return tuple(fields)


DISTRIBUTION = Config()
"""The options of the Debian amd64 kernels 5.10 and 6.1, and of the recorded small builds of 5.15 and 5.17."""

DISTRIBUTION_6_12 = Config(page_idle_flag=True)
"""As 6.12 is built: DAMON brings the young and idle flags."""

SMALL_6_1 = Config(nr_cpus=8, numa_balancing=False, lru_gen=False)
"""The recorded small builds of 6.1 (``nodedup``): no NUMA balancing, so no LAST_CPUPID."""
