# SPDX-License-Identifier: GPL-2.0-only
"""The order of the stores that make a compound page.

::

    pages    0      1      2            3 ...
    stores   init   init   init         init
             head   tail   tail  HEAD   tail          the kernel, 5.17
             head  HEAD  tail   tail    tail          the ablation: what HEAD stored is cleared
"""

import numpy as np
import pytest

from workbench.errors import WorkbenchError
from workbench.lab.head_order import HEAD_PART, trace_compound, trace_head_first, wiped, words_lost

TAIL_MAPPING = 0xDEAD000000000400


def head_stores(trace):
    at = np.flatnonzero(trace.site.values == HEAD_PART)
    return at, (trace.pfn.values - int(trace.page[0]))[at], trace.word.values[at]


@pytest.mark.parametrize("kernel_name", ["5.16+4", "5.17", "6.1", "6.1-nodedup"])
def test_the_head_is_prepared_between_tail_2_and_tail_3(kernel_name):
    trace = trace_compound(kernel_name, 9)
    page = trace.pfn.values - int(trace.page[0])
    at, pages, words = head_stores(trace)
    assert len(at) == 5  # destructor, order, number of pages, mapcount, pin count
    assert at[0] > np.flatnonzero((page == 2) & (trace.site.values != HEAD_PART))[-1]
    assert at[-1] < np.flatnonzero(page == 3)[0]
    # 5.17 keeps the pin count in tail 2 (+16); 6.1 in tail 1 (+24)
    places = set(zip(pages.tolist(), words.tolist(), strict=True))
    assert places == ({(1, 2), (1, 3), (2, 2)} if kernel_name in ("5.16+4", "5.17") else {(1, 2), (1, 3)})
    assert wiped(trace) == []


def test_6_12_prepares_it_one_page_earlier_and_loses_a_list():
    trace = trace_compound("6.12", 9)
    page = trace.pfn.values - int(trace.page[0])
    at, pages, _ = head_stores(trace)
    assert at[-1] < np.flatnonzero((page == 2) & (trace.site.values != HEAD_PART))[0]
    # the deferred list in tail 2: its two words are cleared when tail 2 is initialised
    assert [(one.page, one.word) for one in wiped(trace)] == [(2, 2), (2, 3)]
    assert set(pages.tolist()) == {1, 2}


@pytest.mark.parametrize("kernel_name", ["5.16+4", "5.17"])
def test_head_first_loses_order_and_number_of_pages(kernel_name):
    right, wrong = trace_compound(kernel_name, 9), trace_head_first(kernel_name, 9)
    assert words_lost(right, wrong) == [
        (1, 2, 0xFFFFFFFF00000901, 0),
        (1, 3, 0xDEAD000000000200, TAIL_MAPPING),
    ]
    lost = wiped(wrong)
    assert [(one.page, one.word) for one in lost] == [(1, 2), (1, 2), (1, 3), (1, 2)]
    # all by the clearing of tail 1; the pin count of 0 survives, being 0
    assert {str(wrong.site.values[one.by]) for one in lost} == {"mm_zero_struct_page"}
    assert wrong.attrs["provenance"] == "modelled" and right.attrs["provenance"] == "derived"


@pytest.mark.parametrize("kernel_name", ["5.17", "6.1", "6.12"])
def test_the_ablation_makes_the_same_stores_in_another_order(kernel_name):
    def multiset(trace):
        return sorted(zip(trace.site.values, trace.pfn.values, trace.word.values, strict=True))

    right, wrong = trace_compound(kernel_name, 9), trace_head_first(kernel_name, 9)
    assert multiset(right) == multiset(wrong)
    assert right.site.values.tolist() != wrong.site.values.tolist()


def test_what_cannot_be_traced_is_refused():
    with pytest.raises(WorkbenchError, match="order of 2"):
        trace_compound("5.17", 1)
    with pytest.raises(WorkbenchError, match="order of 2 to 12"):
        trace_head_first("5.17", 18)
    with pytest.raises(WorkbenchError, match="same pages"):
        words_lost(trace_compound("5.17", 2), trace_compound("5.17", 3))
