# SPDX-License-Identifier: GPL-2.0-only
"""Namespace arithmetic against the specification's examples, its rules, and namespaces of real kernels."""

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.mm.sparse_vmemmap import populate
from workbench.nvdimm import MAPS, SUPPORTED_ALIGNS, Namespace, nvdimm_setup_pfn

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

namespaces = st.builds(
    Namespace,
    start=st.integers(0, 8 * TIB // (2 * MIB)).map(lambda n: n * 2 * MIB),
    size=st.one_of(st.integers(1, 4 * GIB // 4096), st.integers(1, 64 * TIB // 4096)).map(lambda n: n * 4096),
    align=st.sampled_from(SUPPORTED_ALIGNS),
    map=st.sampled_from(MAPS),
)


def set_up(namespace):
    """The info block, or None where the kernel refuses the namespace."""
    try:
        return nvdimm_setup_pfn(namespace)
    except WorkbenchError as refusal:
        assert refusal.errno == errno.ENXIO
        return None


#   size MiB   map   dataoff  data MiB  altmap.free    confirmed by
EXAMPLES = [
    (1024, "dev", 18, 1006, 4606),  #                  captured: k*-static-2M-dev (start 5 GiB)
    (1024, "mem", 2, 1022, None),  #                   captured: k*-static-2M-mem (start 5 GiB)
    (16384, "dev", 258, 16126, 66046),  #              captured: overhead.json
    (16384, "mem", 2, 16382, None),  #                 captured: overhead.json
    (129024, "mem", 2, 129022, None),  #               specification only
    (129024, "dev", 2018, 127006, 2018 * 256 - 2),  #  specification only
    (131072, "dev", 2050, 129022, 2050 * 256 - 2),  #  specification only
    (1 << 20, "dev", 16386, 1032190, 16386 * 256 - 2),  # specification only
]


@pytest.mark.parametrize("start", [4 * GIB, 5 * GIB])
@pytest.mark.parametrize(("size", "map", "dataoff", "data", "free"), EXAMPLES)
def test_examples_of_the_specification(start, size, map, dataoff, data, free):
    nd_pfn = nvdimm_setup_pfn(Namespace(start, size * MIB, 2 * MIB, map))
    assert nd_pfn.dataoff == dataoff * MIB
    assert nd_pfn.dev_size == data * MIB
    assert nd_pfn.end_trunc == 0
    if free is None:
        assert nd_pfn.altmap is None
    else:
        assert (nd_pfn.altmap.base_pfn, nd_pfn.altmap.reserve, nd_pfn.altmap.free) == (start >> 12, 2, free)


def test_memory_failure_example_of_the_series():
    """126 GiB with an altmap: reserve and free together are 516,608 pfns."""
    nd_pfn = nvdimm_setup_pfn(Namespace(4 * GIB, 126 * GIB, 2 * MIB, "dev"))
    assert nd_pfn.altmap.reserve + nd_pfn.altmap.free == 516608
    assert nd_pfn.pfn_first == nd_pfn.data_start_pfn


def test_4k_align_is_laid_out_as_2m():
    small, large = (nvdimm_setup_pfn(Namespace(4 * GIB, GIB, align, "dev")) for align in (4 * KIB, 2 * MIB))
    assert (small.dataoff, small.npfns, small.altmap) == (large.dataoff, large.npfns, large.altmap)


def test_1g_align_with_a_start_that_is_no_multiple_of_it():
    """
    start 4 GiB + 16 MiB          5 GiB                   8 GiB   end 8 GiB + 16 MiB
      |---- metadata, alignment ----|---- 3 GiB of data ----|- 16 MiB cut -|
    """
    nd_pfn = nvdimm_setup_pfn(Namespace(4 * GIB + 16 * MIB, 4 * GIB, GIB, "mem"))
    assert nd_pfn.dataoff == GIB - 16 * MIB
    assert nd_pfn.dev_size == 3 * GIB
    assert nd_pfn.end_trunc == 16 * MIB
    assert nd_pfn.pfn_first == nd_pfn.start_pfn == 0x101000, "compounds are counted from the namespace"
    assert nd_pfn.end_pfn == 0x200000


@pytest.mark.parametrize(
    ("namespace", "number"),
    [
        (Namespace(4 * GIB, GIB, GIB, "mem"), errno.ENXIO),
        (Namespace(4 * GIB, GIB, GIB, "dev"), errno.ENXIO),
        (Namespace(4 * GIB, 2 * MIB, 2 * MIB, "mem"), errno.ENXIO),
        (Namespace(4 * GIB, 4096, 4096, "dev"), errno.ENXIO),
        (Namespace(4 * GIB + 4096, GIB, 2 * MIB, "mem"), errno.EINVAL),
        (Namespace(4 * GIB + MIB, GIB, 4096, "mem"), errno.EINVAL),
        (Namespace(4 * GIB, GIB, MIB, "mem"), errno.EINVAL),
        (Namespace(4 * GIB, GIB, 2 * MIB, "ram"), errno.EINVAL),
        (Namespace(4 * GIB, 0, 2 * MIB, "mem"), errno.EINVAL),
        (Namespace(-2 * MIB, GIB, 2 * MIB, "mem"), errno.EINVAL),
    ],
)
def test_refused(namespace, number):
    with pytest.raises(WorkbenchError) as refusal:
        nvdimm_setup_pfn(namespace)
    assert refusal.value.errno == number


@given(namespaces)
def test_data_lies_aligned_inside_the_namespace(namespace):
    nd_pfn = set_up(namespace)
    if nd_pfn is None:
        return
    align = max(namespace.align, 2 * MIB)
    data_start = namespace.start + nd_pfn.dataoff
    data_end = data_start + nd_pfn.dev_size
    assert namespace.start + 8 * KIB <= data_start <= data_end <= namespace.start + namespace.size
    assert data_start % align == 0
    assert data_end % align == 0
    assert 0 <= nd_pfn.end_trunc < align
    assert nd_pfn.dataoff + nd_pfn.dev_size + nd_pfn.end_trunc == namespace.size
    assert nd_pfn.data_start_pfn == data_start >> 12
    assert nd_pfn.end_pfn == data_end >> 12
    assert nd_pfn.start_pfn + nd_pfn.nr_pages == nd_pfn.end_pfn


@pytest.mark.parametrize(("pages", "dataoff"), [(32768 - 126, 2 * MIB), (32768 - 125, 4 * MIB)])
def test_struct_pages_are_counted_for_what_follows_the_info_block(pages, dataoff):
    """8 KiB and 64 bytes for each page behind them: 126 pages short of 128 MiB that is 2 MiB exactly."""
    nd_pfn = nvdimm_setup_pfn(Namespace(4 * GIB, pages * 4096, 2 * MIB, "dev"))
    assert nd_pfn.dataoff == dataoff


@given(namespaces)
def test_the_next_smaller_dataoff_would_not_do(namespace):
    """The kernel takes the first aligned place behind info block and 64 bytes for each page."""
    nd_pfn = set_up(namespace)
    if nd_pfn is None:
        return
    metadata = 8 * KIB + (64 * ((namespace.size - 8 * KIB) // 4096) if namespace.map == "dev" else 0)
    assert metadata <= nd_pfn.dataoff < metadata + max(namespace.align, 2 * MIB)


@settings(deadline=None)
@given(namespaces)
def test_the_altmap_holds_the_struct_pages_of_its_namespace(namespace):
    nd_pfn = set_up(namespace)
    if nd_pfn is None or nd_pfn.altmap is None:
        return
    assert nd_pfn.altmap.reserve + nd_pfn.altmap.free == nd_pfn.dataoff >> 12
    populated = populate([(nd_pfn.start_pfn, nd_pfn.nr_pages)], altmap=nd_pfn.altmap)
    backing = populated.backing()
    assert backing.altmap_bytes == backing.pmds_2m * 2 * MIB
    if backing.pmds_2m:
        assert populated.altmap_pfn % 512 == 0
        assert nd_pfn.start_pfn + 2 <= populated.altmap_pfn
        assert populated.altmap_pfn + 512 * backing.pmds_2m <= nd_pfn.data_start_pfn
