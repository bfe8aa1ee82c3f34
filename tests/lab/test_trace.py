# SPDX-License-Identifier: GPL-2.0-only
"""Traces as Datasets: every store in order, the words before and after, the counts beside them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import naive
from tests.mm.support import KERNELS, few
from workbench.errors import WorkbenchError
from workbench.lab.trace import PGMAP, START_PFN, compound_page, trace_init, trace_prep_compound_page
from workbench.series import kernel

COUNTS = ("loads", "stores", "locked_operations", "lines_read", "lines_written", "cond_resched", "migratetype_writes")


def rows(trace):
    return list(
        zip(*(trace[name].values.tolist() for name in ("pfn", "word", "old", "new")), strict=True),
    )


def fresh(start, nr_pages):
    return naive.populate({}, start, nr_pages)


@pytest.mark.parametrize("name", ["5.10", "5.16+3", "5.16+4", "5.17", "6.1", "6.1-nodedup", "6.12"])
@given(nr=st.integers(1, 600), shift=st.integers(0, 9), at=st.integers(0, 3))
@few
def test_a_device_traced(name, nr, shift, at):
    """Stores as the naive model makes them, also where the last compound runs over the device's end."""
    k, L = KERNELS[name]
    start = START_PFN + 512 * at
    mem, writes = fresh(start, 2048), []
    if naive.compound_nr_pages(shift, None, k.tree.dedup, False) < 1 << shift:
        for head in range(start, start + nr, 1 << shift):
            naive.share_tails(mem, L, head, shift, start + nr)
    naive.memmap_init_zone_device(
        mem, L, start, nr, 0, PGMAP, shift, compound=k.tree.has(4), dedup=k.tree.dedup, writes=writes
    )
    trace = trace_init(k, nr, shift, start)
    assert rows(trace) == writes
    assert trace.attrs["not_logged"] == 0
    assert trace.after.values.tolist() == [mem[start + i] for i in range(nr)]
    assert not trace.before.values.any()
    assert trace.page.values.tolist() == list(range(start, start + nr))
    assert trace.stores.item() == len(writes)
    assert trace.lines_written.item() == len({pfn for pfn, *_ in writes})


def test_what_a_trace_holds():
    trace = trace_init(kernel("5.17"), 512, 9)
    assert trace.pfn.dims == trace.locked.dims == ("store",)
    assert trace.before.dims == trace.after.dims == ("page", "column")
    assert trace.before.shape == (512, 8)
    assert {trace[name].dtype for name in ("old", "new", "before", "after")} == {np.dtype(np.uint64)}
    assert trace.word.dtype == np.int8
    assert all(trace[name].shape == () for name in COUNTS)
    assert trace.attrs["kernel"] == "5.17"
    assert trace.attrs["provenance"] == "derived" and trace.attrs["kernel_origin"] == "captured"
    assert trace.attrs["struct_page_bytes"] == 64
    assert not trace.locked.any()
    head_part = trace.site == "prep_compound_head"
    assert int(head_part.sum()) == 5
    assert trace.site[~head_part].values[-3:].tolist() == ["prep_compound_tail", "prep_compound_tail", "set_page_count"]
    assert (trace.locked_operations, trace.migratetype_writes, trace.cond_resched) == (1, 1, 1)


@pytest.mark.parametrize("base", ["5.16", "6.1-nodedup", "6.12"])
@pytest.mark.parametrize("order", [1, 2, 5, 9])
def test_a_compound_page_traced(base, order):
    """Zone NORMAL, one reference a page; patch 2 changes neither stores nor bytes."""
    names = ("5.16+1", "5.16+2") if base == "5.16" else (base,)
    traces = [trace_prep_compound_page(kernel(name), order) for name in names]
    _, L = KERNELS[names[0]]
    mem, writes = fresh(START_PFN, 1 << order), []
    for pfn in mem:
        naive.init_single_page(mem, L, pfn, 2, 0)
    before = [list(mem[pfn]) for pfn in sorted(mem)]
    naive.prep_compound_page(mem, L, START_PFN, order, writes)
    for name, trace in zip(names, traces, strict=True):
        assert rows(trace) == writes
        assert trace.before.values.tolist() == before
        assert trace.after.values.tolist() == [mem[pfn] for pfn in sorted(mem)]
        assert trace.attrs["not_logged"] == 0
        left_behind = compound_page(kernel(name), order)
        assert (left_behind == trace.after.values).all()
        assert not left_behind.flags.writeable


def test_sites_tell_the_two_forms_of_patch_2_apart():
    before, after = (trace_prep_compound_page(kernel(name), 3) for name in ("5.16+1", "5.16+2"))
    assert set(before.site.values) == {"__SetPageHead", "prep_compound_page"}
    assert set(after.site.values) == {"__SetPageHead", "prep_compound_tail", "prep_compound_head"}


def test_traces_too_long_are_refused_with_the_limit():
    with pytest.raises(WorkbenchError, match="262,144 pages would hold up to 6,291,456 stores; .* 4,000,000"):
        trace_init(kernel("5.17"), 262_144)
    with pytest.raises(WorkbenchError, match="262,144 pages"):
        trace_init(kernel("5.17"), 1, 18)
    assert trace_init(kernel("5.16+3"), 1, 18).stores == 17, "without patch 4 a shift means nothing"
    for order in (0, -1, 19):
        with pytest.raises(WorkbenchError, match=f"order 1 to 18 .*; got order {order}"):
            trace_prep_compound_page(kernel("5.17"), order)
        with pytest.raises(WorkbenchError, match=f"got order {order}"):
            compound_page(kernel("5.17"), order)
    with pytest.raises(WorkbenchError, match="18 pages|262,144 pages"):
        trace_prep_compound_page(kernel("5.17"), 18)


@pytest.mark.parametrize("start, nr_pages", [(START_PFN + 1, 512), (START_PFN, 0), (START_PFN, -512)])
def test_ranges_that_cannot_be(start, nr_pages):
    with pytest.raises(WorkbenchError):
        trace_init(kernel("5.17"), nr_pages, 0, start)
