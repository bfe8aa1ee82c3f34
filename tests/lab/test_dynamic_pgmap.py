# SPDX-License-Identifier: GPL-2.0-only
"""dev_dax->pgmap through a device's life: series.md, patch 7."""

import pytest

from workbench.lab.dynamic_pgmap import Pgmap, dynamic_life, static_life

N, U, S = Pgmap.NULL, Pgmap.IN_USE, Pgmap.STALE
STEPS = ["make", "bind", "unbind", "add", "bind", "unbind", "bind,", "bind", "bind", "delete,", "bind"]


@pytest.mark.parametrize("kernel", ["5.15", "5.16+6", "5.16+7", "5.17", "6.1"])
def test_a_static_device_keeps_its_own(kernel):
    assert [(moment.pgmap, moment.bound) for moment in static_life(kernel)] == [
        (U, True),
        (Pgmap.OWN, False),
        (U, True),
    ]


@pytest.mark.parametrize("kernel", ["5.15", "5.16+6"])
def test_before_patch_7_the_pointer_of_a_dynamic_device_is_null(kernel):
    life = dynamic_life(kernel)
    assert [moment.step.split()[0] for moment in life] == STEPS
    assert {moment.pgmap for moment in life} == {N}
    assert [moment.errno for moment in life] == [None] * 6 + ["EBUSY"] + [None] * 4
    assert [moment.mapped_ranges for moment in life] == [0, 1, 0, 0, 2, 0, 0, 2, 2, 0, 1]


@pytest.mark.parametrize("kernel", ["5.16+7", "5.17", "6.1"])
def test_with_patch_7_it_is_right_while_bound_and_stale_after_a_failure(kernel):
    life = dynamic_life(kernel)
    assert [moment.pgmap for moment in life] == [N, U, N, N, U, N, S, S, S, N, U]
    assert [moment.errno for moment in life] == [None] * 6 + ["EBUSY", "EINVAL", "EINVAL", None, None]
    assert [moment.ranges for moment in life] == [1, 1, 1, 2, 2, 2, 2, 2, 2, 1, 1]
    assert [moment.bound for moment in life] == [moment.pgmap is U for moment in life]
