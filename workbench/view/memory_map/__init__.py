# SPDX-License-Identifier: GPL-2.0-only
"""The interactive memory map: a device on every scale, from 1 TiB down to a bit.

* :func:`device` makes one to look at, :class:`Device` names one that exists;
* :class:`MemoryMap` shows it; ``.state`` is the view as one line, ``.figure()`` and ``.dataset()`` export it.
"""

from workbench.view.memory_map.devices import device
from workbench.view.memory_map.model import Device, Model
from workbench.view.memory_map.state import State
from workbench.view.memory_map.widget import MemoryMap

__all__ = ["Device", "MemoryMap", "Model", "State", "device"]
