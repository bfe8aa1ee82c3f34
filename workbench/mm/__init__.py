# SPDX-License-Identifier: GPL-2.0-only
"""The page-array engine, one module per kernel file: page_alloc, memremap, sparse_vmemmap.

``page_array`` owns the memory, ``memmap`` is what kernels see of it, ``events`` tells what they did;
``arena``, ``atomics``, ``nontemporal`` and ``_jit`` carry them.
"""

from workbench.mm.memremap import DevPagemap
from workbench.mm.page_array import InitCall, PageArray
from workbench.mm.sparse_vmemmap import Altmap

__all__ = ["Altmap", "DevPagemap", "InitCall", "PageArray"]
