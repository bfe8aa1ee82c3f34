# SPDX-License-Identifier: GPL-2.0-only
"""One 2 MiB page on three kernels: numbers of the specification, per compound of 512 pages."""

import numpy as np
import pytest

from workbench.lab.huge_page import huge_page


def test_before_every_struct_page_stands_alone():
    page = huge_page("5.16")
    assert set(page.role.values.tolist()) == {"zone_device"}
    assert page.refcount.values.tolist() == [1] * 512
    assert (int(page.pgmap_refs), int(page.struct_pages_initialised)) == (512, 512)


@pytest.mark.parametrize(("kernel", "initialised"), [("5.17", 512), ("6.1-nodedup", 512), ("6.1", 128), ("6.12", 128)])
def test_with_the_series_one_head_counts_for_all(kernel, initialised):
    page = huge_page(kernel)
    assert page.role.values[:4].tolist() == ["head", "first_tail", "second_tail", "tail"]
    assert set(page.role.values[3:].tolist()) == {"tail"}
    assert page.refcount.values.tolist() == [1] + [0] * 511
    assert (int(page.pgmap_refs), int(page.struct_pages_initialised)) == (1, initialised)


@pytest.mark.parametrize(
    ("kernel", "first"),
    [
        ("5.16", range(8)),
        ("5.17", range(8)),
        ("6.1-nodedup", range(8)),
        ("6.1", [0] + [1] * 7),
        ("6.12", [0] + [1] * 7),
    ],
)
def test_the_follow_up_keeps_two_of_eight_vmemmap_pages(kernel, first):
    np.testing.assert_array_equal(huge_page(kernel)["first"], list(first))
