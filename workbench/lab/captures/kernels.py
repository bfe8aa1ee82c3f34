# SPDX-License-Identifier: GPL-2.0-only
"""The layout and tree of the kernel a capture was taken from."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from workbench.abi import Abi, Config
from workbench.abi.config import LAST_PID_SHIFT
from workbench.errors import WorkbenchError
from workbench.lab.captures.reading import Capture
from workbench.series import Kernel, kernel, pair

_FAMILIES = {
    "5.10": "5.10",
    "5.15": "5.15",
    "5.17": "5.17",
    "6.1": "6.1",
    "6.1nodedup": "6.1-nodedup",
    "6.12": "6.12",
}
_FLAG_OPTIONS = ("page_idle_flag", "memory_failure", "pg_uncached", "arch_2")


def kernel_of(capture: Capture) -> Kernel:
    """The kernel of a capture, with the configuration its recorded flag layout asks for.

    The places of LAST_CPUPID and of the page flags are taken from the record.  The width of ZONE is
    not: a record tells it from two zone numbers only, and those (2 and 4 of five zones) leave its
    lowest bit open.

    Raises
    ------
    WorkbenchError
        A family, or page flags, that no known layout has.
    """
    if capture.family not in _FAMILIES:
        raise WorkbenchError(
            f"{capture.name}: no layout for kernel family {capture.family!r}. Known: {', '.join(_FAMILIES)}."
        )
    preset = kernel(_FAMILIES[capture.family])
    for switched in product((False, True), repeat=len(_FLAG_OPTIONS)):
        options = dict(zip(_FLAG_OPTIONS, switched, strict=True))
        abi = Abi(preset.abi.release, replace(_flags_layout(capture, preset.abi.config), **options))
        if abi.page_flags == capture.page_flags:
            return pair(preset.abi if abi.config == preset.abi.config else abi, preset.tree)
    known = preset.abi.page_flags
    differ = sorted({f for f, _ in capture.page_flags.items() ^ known.items()})
    raise WorkbenchError(
        f"{capture.name}: its page flags are those of no known configuration of {preset.abi.release}; "
        f"they differ from the usual ones in {', '.join(differ)}. Describe the configuration in workbench/abi."
    )


def _flags_layout(capture: Capture, config: Config) -> Config:
    layout = capture.flags_layout
    vmemmap_base = int(layout.get("vmemmap_base", "0"), 16)
    levels = {replace(config, pgtable_levels=n).vmemmap_base: n for n in (4, 5)}
    if vmemmap_base not in levels:
        raise WorkbenchError(
            f"{capture.name}: vmemmap at {vmemmap_base:#x} is neither the four- nor the five-level base. "
            "Record without address randomisation."
        )
    config = replace(config, nodes_shift=int(layout["node_bits"]), pgtable_levels=levels[vmemmap_base])
    if layout["last_cpupid_shift"] is None:
        return replace(config, numa_balancing=False)
    cpu_bits = int(layout["zone_shift"]) - int(layout["last_cpupid_shift"]) - LAST_PID_SHIFT
    if not 0 <= cpu_bits <= 16:
        raise WorkbenchError(
            f"{capture.name}: a LAST_CPUPID with {cpu_bits} bits for the cpu. Correct page_flag_layout."
        )
    return replace(config, numa_balancing=True, nr_cpus=1 << cpu_bits)
