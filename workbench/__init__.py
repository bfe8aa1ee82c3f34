# SPDX-License-Identifier: GPL-2.0-only
"""A research workbench for the compound devmap series of the Linux kernel."""

__version__ = "0.1.0"
