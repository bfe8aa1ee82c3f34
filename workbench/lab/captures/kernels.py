# SPDX-License-Identifier: GPL-2.0-only
"""The layout and tree of the kernel a capture was taken from."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from workbench.abi import Abi, Config
from workbench.abi.config import LAST_PID_SHIFT
from workbench.abi.pageflags import page_flags
from workbench.errors import WorkbenchError
from workbench.lab.captures.reading import Capture, refused
from workbench.series import Kernel, kernel, pair

_FAMILIES = {
    "5.10": "5.10",
    "5.15": "5.15",
    "5.17": "5.17",
    "6.1": "6.1",
    "6.1nodedup": "6.1-nodedup",
    "6.12": "6.12",
}
_SMALL = ("5.15", "5.17", "6.1nodedup")
"""Families built with a small configuration."""
_FLAG_OPTIONS = ("page_idle_flag", "memory_failure", "pg_uncached", "arch_2")
_MAX_CPU_BITS = 16


def kernel_of(capture: Capture) -> Kernel:
    """The kernel of a capture, with the configuration its recorded flag layout asks for.

    The places of NODE, LAST_CPUPID and the page flags are taken from the record.  The width of ZONE is
    not: a record tells it from two zone numbers only, and those (2 and 4 of five zones) leave its
    lowest bit open.

    Raises
    ------
    WorkbenchError
        A family, places in the flags word, or page flags that no known layout has.
    """
    if capture.family not in _FAMILIES:
        raise WorkbenchError(
            f"{capture.name}: no layout for kernel family {capture.family!r}. Known: {', '.join(_FAMILIES)}."
        )
    preset = kernel(_FAMILIES[capture.family])
    config = _config(capture, preset.abi)
    release = preset.abi.release
    for switched in product((False, True), repeat=len(_FLAG_OPTIONS)):
        recorded = replace(config, **dict(zip(_FLAG_OPTIONS, switched, strict=True)))
        if page_flags(release, recorded) == capture.page_flags:
            return pair(Abi(release, recorded), preset.tree)
    differ = sorted({flag for flag, _ in capture.page_flags.items() ^ preset.abi.page_flags.items()})
    raise WorkbenchError(
        f"{capture.name}: its page flags are those of no known configuration of {release}; "
        f"they differ from the usual ones in {', '.join(differ)}. Describe the configuration in workbench/abi."
    )


def _config(capture: Capture, usual: Abi) -> Config:
    """The usual configuration of the release with the recorded nodes, cpus and page-table levels."""
    layout, where = capture.flags_layout, f"{capture.name} page_flag_layout"
    levels = {replace(usual.config, pgtable_levels=n).vmemmap_base: n for n in (4, 5)}
    if layout.vmemmap_base not in levels:
        raise refused(
            where,
            f"has the vmemmap at {layout.vmemmap_base:#x}, neither the four- nor the five-level base: "
            "was the kernel's address randomised?",
        )
    zone_bits = usual.bits("ZONE").width
    zone_shift = layout.node_shift - zone_bits
    if (
        layout.node_shift + layout.node_bits != 64
        or layout.zone_shift + layout.zone_bits != layout.node_shift
        or layout.zone_bits > zone_bits
    ):
        raise refused(where, "has NODE and ZONE at places that no kernel here has: NODE on top, ZONE next to it")
    config = replace(usual.config, nodes_shift=layout.node_bits, pgtable_levels=levels[layout.vmemmap_base])
    if layout.last_cpupid_shift is None:
        return replace(config, numa_balancing=False)
    cpu_bits = zone_shift - layout.last_cpupid_shift - LAST_PID_SHIFT
    if not 0 <= cpu_bits <= _MAX_CPU_BITS:
        raise refused(where, f"has a LAST_CPUPID with {cpu_bits} bits for the cpu")
    return replace(config, numa_balancing=True, nr_cpus=1 << cpu_bits)


def options_of(capture: Capture) -> dict[str, bool]:
    """Options of the recorded kernel that user space can tell, where it is not a distribution's.

    The small builds of 5.15 and 5.17 have neither KSM nor soft-dirty tracking.
    """
    return dict.fromkeys(("KSM", "MEM_SOFT_DIRTY"), False) if capture.family in _SMALL else {}
