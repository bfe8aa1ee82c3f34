# SPDX-License-Identifier: GPL-2.0-only
"""A simulated machine: boot a kernel, make devices, run processes, see what the kernel would do."""

from workbench.machine.machine import CreateRefused, Machine
from workbench.machine.process import Hazard, PlainFile, Process

__all__ = ["CreateRefused", "Hazard", "Machine", "PlainFile", "Process"]
