# SPDX-License-Identifier: GPL-2.0-only
"""Device-dax beside THP and hugetlb: counts as the spec derives them, and as real kernels' instructions order them."""

import math

import numpy as np
import pytest

from tests.mm.support import needs_jit
from workbench.errors import WorkbenchError
from workbench.lab.comparators import (
    AFTER,
    BASE_PAGES,
    BEFORE,
    HUGETLB,
    KERNELS_6_1,
    THP,
    comparators,
    recorded_instructions,
)
from workbench.lab.pin_events import PIN_FAST, UNPIN, pin_events

MIB = 1 << 20


@pytest.fixture(scope="module")
def found():
    return comparators("4M", samples=2)


def of_2_mib(found, memory, phase):
    """Locked operations, lines written and lines touched of 512 pages."""
    one = found.sel(memory=memory, phase=phase)
    return tuple(
        int(one[name]) * 2 * MIB / found.attrs["size"] for name in ("locked", "lines_written", "lines_touched")
    )


@needs_jit
@pytest.mark.parametrize(
    "memory, get, put",
    [
        (BEFORE, (1536, 512, 512), (1024, 512, 512)),
        (AFTER, (1536, 2, 512), (3, 2, 512)),
        (THP, (3, 2, 3), (3, 2, 512)),
        (HUGETLB, (3, 2, 3), (3, 2, 512)),
        (BASE_PAGES, (1536, 512, 512), (1024, 512, 512)),
    ],
)
def test_put_is_as_cheap_as_elsewhere_and_get_is_not(found, memory, get, put):
    assert (of_2_mib(found, memory, "get"), of_2_mib(found, memory, "put")) == (get, put)


@needs_jit
def test_what_is_measured_and_recorded(found):
    assert found.ns.shape == (5, 2, 2) and (found.ns > 0).all()
    assert found.kernel.values.tolist() == ["5.15", "5.17", "5.17", "5.17", "5.17"]
    # NOTES of the recorded runs: instructions a base page.
    assert np.round(found.instructions.values, 1).tolist() == [
        [151.3, 107.4],
        [127.3, 11.2],
        [10.9, 11.6],
        [9.8, 11.2],
        [186.2, 107.4],
    ]


@needs_jit
def test_huge_pages_of_1_gib():
    found = comparators("1G", samples=1, align="1G", kernels=KERNELS_6_1)
    assert found.memory.values.tolist() == [BEFORE, AFTER, HUGETLB, BASE_PAGES]
    for phase, path in (("get", PIN_FAST), ("put", UNPIN)):
        for memory, compound in ((BEFORE, False), (AFTER, True), (HUGETLB, True)):
            one = found.sel(memory=memory, phase=phase)
            form = pin_events(path, 1 << 30, 1 << 30, compound, "6.1", grab_once=memory == HUGETLB)
            assert (int(one.locked), int(one.lines_written)) == (form.locked, form.lines_written), (memory, phase)
    recorded = found.instructions
    assert recorded.sel(memory=AFTER).values.tolist() == [121.2, 11.01]
    assert np.isnan(recorded.sel(memory=HUGETLB)).all()


def test_the_recorded_thp_lay_off_a_huge_page():
    """512 base pages at the ends and two compound pages a call explain what THP cost more than hugetlb."""
    recorded = recorded_instructions()
    pages, thp, hugetlb = (
        512 * MIB >> 12,
        *(recorded["5.17", f"{name}", None] for name in ("transparent huge pages", "hugetlb memory")),
    )
    small = recorded["5.17", "no transparent huge pages", None]
    ends = [512 * (small[k] - hugetlb[k]) / pages for k in (0, 1)]
    assert math.isclose(thp[1] - hugetlb[1], ends[1], abs_tol=0.02)
    assert thp[0] - hugetlb[0] > ends[0]  # a grab more for each call


@pytest.mark.parametrize("length, align", [("3M", "2M"), ("512M", "1G"), ("4M", "4K")])
def test_what_cannot_be_compared(length, align):
    with pytest.raises(WorkbenchError, match="cannot be pinned"):
        comparators(length, align=align)
