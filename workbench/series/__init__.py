# SPDX-License-Identifier: GPL-2.0-only
"""The series as switches: eleven patches, trees that carry some of them, kernels that pair a tree with a layout."""

from workbench.series.kernels import NOT_RELEASED, PRESETS, Kernel, kernel, pair
from workbench.series.patches import PATCHES, SERIES_URL, Patch, patch
from workbench.series.tree import ALL, BASES, Switch, Tree

__all__ = [
    "ALL",
    "BASES",
    "NOT_RELEASED",
    "PATCHES",
    "PRESETS",
    "SERIES_URL",
    "Kernel",
    "Patch",
    "Switch",
    "Tree",
    "kernel",
    "pair",
    "patch",
]
