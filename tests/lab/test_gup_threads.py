# SPDX-License-Identifier: GPL-2.0-only
"""Threads that pin and release overlapping ranges: locked operations lose nothing, plain ones do."""

import numpy as np
import pytest

from tests.mm.pinning import BASE, Pinning
from tests.mm.support import needs_jit
from workbench.lab.gup_threads import storm

MARKS = {"6.12": 1 << 2}


@needs_jit
@pytest.mark.parametrize("name, align", [("5.17", "2M"), ("5.16", "2M"), ("6.12", "4K")])
def test_ten_million_operations_of_eight_threads_lose_no_count(name, align):
    p = Pinning(name, align, 4)
    before = p.pages
    done = storm(p.gup, p.mm, BASE, p.nr_pages, threads=8, rounds=814)
    assert done.operations == 8 * 814 * 768 and done.operations * 2 >= 10**7
    assert done.lost == 0
    after = p.pages
    after[:, 0] &= ~np.uint64(MARKS.get(name, 1 << 1))
    np.testing.assert_array_equal(after, before)


@needs_jit
def test_plain_stores_lose_counts():
    """Whether two threads meet is chance: they get several tries."""
    for _ in range(20):
        p = Pinning("5.17", "2M", 4, plain=True)
        if storm(p.gup, p.mm, BASE, p.nr_pages, threads=8, rounds=200).lost:
            return
    pytest.fail("eight threads with plain stores lost no count in 20 tries")
