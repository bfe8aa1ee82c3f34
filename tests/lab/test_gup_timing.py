# SPDX-License-Identifier: GPL-2.0-only
"""What a sweep measures: the whole range is pinned and released, every sample a time; Ctrl-C comes where told."""

import numpy as np
import pytest

from workbench.errors import WorkbenchError
from workbench.lab.gup_timing import interrupted, this_machine, time_pins, time_point
from workbench.lab.pinning import mapped_device
from workbench.lab.sweep import MEASURED, sweep

MIB = 1 << 20


def test_each_sample_is_a_time_and_nothing_stays_pinned():
    device = mapped_device("5.17", "2M", 4 * MIB)
    array, at = device.machine.array, device.first_pfn
    counts = [array.decode(pfn).get("_refcount") for pfn in range(at, at + 1024)]
    seconds = time_pins(device, 3)
    assert {phase: len(times) for phase, times in seconds.items()} == {"get": 3, "put": 3}
    assert all(0 < time < 1 for times in seconds.values() for time in times)
    assert [array.decode(pfn).get("_refcount") for pfn in range(at, at + 1024)] == counts


def test_what_is_not_mapped_cannot_be_timed():
    device = mapped_device("5.17", "2M", 4 * MIB)
    device.process.munmap(device.addr + 2 * MIB, 2 * MIB)
    with pytest.raises(WorkbenchError, match="512 of 1,024 pages were pinned"):
        time_pins(device, 1)


def test_a_sweep_that_was_stopped_goes_on(tmp_path):
    path, asked = tmp_path / "s.nc", []

    def measure(point, samples):
        asked.append(point)
        return time_point(point, samples)

    run = {"sizes": (2 * MIB, 4 * MIB), "aligns": (4096, 2 * MIB), "about": this_machine(), "samples": 2}
    with pytest.raises(KeyboardInterrupt):
        sweep(path, interrupted(measure, 3), **run, progress=False)
    assert len(asked) == 3
    done = sweep(path, measure, **run, progress=False)
    assert len(asked) == 8 and len(set(asked)) == 8
    assert not np.isnan(done[MEASURED]).any()


def test_the_file_says_where_it_ran():
    about = this_machine()
    assert len(about["engine_sha256"]) == 64 and about["cpu"]
