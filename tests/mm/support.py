# SPDX-License-Identifier: GPL-2.0-only
"""Struct pages for the kernels to work on, and the naive model beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import settings

from tests import naive
from workbench.abi import SMALL_6_1, Abi, Config
from workbench.mm._jit import JIT
from workbench.mm.events import Counter, Events
from workbench.mm.memmap import Memmap, memmap
from workbench.series import ALL, Kernel, Tree, kernel, pair

START = 0x100000
"""First pfn of the arrays here: a section boundary, as a Memmap wants it."""

PGMAP = 0xFFFF888100A01000

LARGEST = 1300 if JIT else 96
"""Pages of the largest example: without the JIT each store is a few microseconds."""

needs_jit = pytest.mark.skipif(not JIT, reason="too large without the JIT")


# The recorded small builds: no NUMA balancing.  Three bits of zone at 51 hold their five zones; the naive model's own
# entry puts two at 52, which gives the same words for the zones that occur.
_SMALL_6_1 = replace(naive.LAYOUTS["6.1"], last_cpupid_shift=None, last_cpupid_bits=0)

_NAMES = """5.10 5.10+4 5.15 5.16+0 5.16+1 5.16+2 5.16+3 5.16+4 5.16+11 5.16+=4 5.16+=2,4 5.16+=3,4
    5.17 5.17-dedup 6.1 6.1-nodedup 6.12 6.12-nodedup"""


def _of_release(name: str) -> tuple[Kernel, naive.Layout]:
    found = kernel(name)
    return found, _SMALL_6_1 if found.abi.config == SMALL_6_1 else naive.LAYOUTS[found.abi.release]


def _of_config(config: Config, **layout) -> tuple[Kernel, naive.Layout]:
    return pair(Abi("5.17", config), Tree("5.17", ALL)), replace(naive.LAYOUTS["5.17"], **layout)


KERNELS: dict[str, tuple[Kernel, naive.Layout]] = {name: _of_release(name) for name in _NAMES.split()} | {
    "5 levels": _of_config(Config(pgtable_levels=5), vmemmap_base=0xFFD4000000000000),
    "no NUMA": _of_config(
        Config(numa=False, numa_balancing=False), node_bits=0, zone_shift=61, last_cpupid_shift=None, last_cpupid_bits=0
    ),
    "no MEMCG": _of_config(Config(memcg=False)),
}
"""Trees and configurations by name, each with the layout the naive model needs."""

few = settings(max_examples=max(3, settings.default.max_examples // 3))
"""For tests that run over every kernel: together they draw enough."""

COMPOUND = [name for name, (k, _) in KERNELS.items() if k.tree.has(4)]
EVERY_KERNEL = pytest.mark.parametrize("name", KERNELS)


def struct_pages(nr_pages: int, word: int = 0) -> np.ndarray:
    """``nr_pages`` struct pages that hold ``word`` everywhere; 64-byte aligned as the vmemmap is."""
    raw = np.empty(8 * nr_pages + 8, np.uint64)
    skip = -raw.ctypes.data % 64 // 8
    pages = raw[skip : skip + 8 * nr_pages].reshape(nr_pages, 8)
    pages[:] = np.uint64(word)
    return pages


def over(k: Kernel, pages: np.ndarray, start_pfn: int = START, pageblock_word: int = 0) -> Memmap:
    """``pages`` as the kernels see them; every word of pageblock flags starts as ``pageblock_word``."""
    flags = np.full(len(pages) // 8192 + 1, pageblock_word, np.uint64)
    return memmap(k, pages, flags, start_pfn)


def memory(pages: np.ndarray, start_pfn: int = START) -> dict[int, list[int]]:
    """The same struct pages for the naive model."""
    return {start_pfn + i: words for i, words in enumerate(pages.tolist())}


def same(pages: np.ndarray, mem: dict[int, list[int]], start_pfn: int = START) -> None:
    """Fail with the first struct page that differs from the naive model's."""
    expected = np.array([mem[start_pfn + i] for i in range(len(pages))], np.uint64)
    different = np.flatnonzero((pages != expected).any(axis=1))
    if len(different):
        i = int(different[0])
        got, want = ([f"{int(word):016x}" for word in words] for words in (pages[i], expected[i]))
        raise AssertionError(f"{len(different)} pages differ, first pfn {start_pfn + i:#x}:\n  {got}\n  {want}")


def pageblock_words(pfns: list[int], like: np.ndarray, pageblock_word: int, start_pfn: int = START) -> list[int]:
    """Pageblock flags after MIGRATE_MOVABLE (1) was set for ``pfns``: three bits of the block's four."""
    words = [pageblock_word] * len(like)
    for pfn in pfns:
        at, block = divmod((pfn - start_pfn) // 512, 16)
        words[at] = words[at] & ~(7 << 4 * block) | 1 << 4 * block
    return words


def stores(ev: Events, start_pfn: int = START) -> list[tuple[int, int, int, int]]:
    """The log as the naive model writes it: (pfn, word, old, new)."""
    assert ev.counts[Counter.NOT_LOGGED] == 0
    log = ev.log[: ev.counts[Counter.LOGGED]]
    return [(start_pfn + page, word, old, new) for page, word, old, new, _, _ in log.tolist()]


def refcounts(pages: np.ndarray) -> np.ndarray:
    """int32[nr_pages]: _refcount."""
    return (pages[:, 6] >> np.uint64(32)).astype(np.int32)
