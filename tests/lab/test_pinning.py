# SPDX-License-Identifier: GPL-2.0-only
"""One pin and its release on a machine that was booted for it, against the series' own arithmetic and recorded runs."""

import numpy as np
import pytest

from workbench.errors import WorkbenchError
from workbench.lab.pin_events import PIN_FAST, UNPIN, pin_events
from workbench.lab.pinning import PHASES, counts_while_held, mapped_device, pin_and_release, recorded_traffic

ORDERED = {  # the words that a pin stores to, in the order of the kernel's source; page and byte
    "5.16": [(300, 0), (300, 52), (300, 52)],  # PG_referenced, +1, +1023 on the page's own reference count
    "5.17": [(0, 0), (0, 52), (2, 16)],  # PG_referenced and reference of the head, pin counter of the second tail
}


@pytest.fixture(scope="module")
def devices():
    return {name: mapped_device(name) for name in ORDERED}


@pytest.mark.parametrize("name", ORDERED)
def test_a_page_in_the_middle_is_counted_where_its_release_counts(devices, name):
    one = pin_and_release(devices[name], 1, 300)
    words = [(page, byte // 8 * 8) for page, byte in ORDERED[name]]
    assert list(zip(one.take_page.values.tolist(), (8 * one.take_word.values).tolist(), strict=True)) == words
    touched = {"5.16": {300}, "5.17": {0, 1, 2, 300}}[name]
    for phase in PHASES:
        assert set(np.flatnonzero(one.read.sel(phase=phase))) == touched
        assert set(np.flatnonzero(one.written.sel(phase=phase))) == {page for page, _ in ORDERED[name]}


@pytest.mark.parametrize("name", ORDERED)
def test_counts_of_a_whole_huge_page_are_the_closed_form(devices, name):
    both = pin_and_release(devices[name])
    for row, path in enumerate((PIN_FAST, UNPIN)):
        expected = pin_events(path, 2 << 20, compound=name == "5.17", release=name)
        one = both.isel(phase=row)
        counted = (int(one.locked), int(one.lines_written), int(one.lines_touched))
        assert counted == (expected.locked, expected.lines_written, expected.lines_read)


def test_a_release_leaves_nothing_but_referenced():
    device = mapped_device("5.17")
    first = pin_and_release(device)
    flag = device.machine.kernel.abi.flag("referenced")
    assert np.argwhere(first.before.values != first.after.values).tolist() == [[0, 0]]
    assert int(first.after[0, 0]) ^ int(first.before[0, 0]) == flag
    again = pin_and_release(device, 7, 100, "get")
    assert (again.before.values == again.after.values).all()


def test_a_pin_for_long_takes_the_slow_path(devices):
    slow = pin_and_release(devices["5.17"], 512, 0, "pin for long")
    assert slow.locked.values.tolist() == [2 * 512, 3]  # no PG_referenced; one batch
    assert slow.lines_touched.values.tolist() == [512, 3]  # the range release asks no tail for its head


def test_what_cannot_be_shown_is_refused(devices):
    with pytest.raises(WorkbenchError, match="first 512 struct pages"):
        pin_and_release(devices["5.17"], 300, 300)
    with pytest.raises(WorkbenchError, match="no call 'hold'"):
        pin_and_release(devices["5.17"], call="hold")


def test_recorded_kernels_stored_as_often():
    recorded = recorded_traffic()
    get, put = recorded["5.17", "2M", True]
    assert (get.stores, get.lines_written, put.stores, put.lines_written) == (1536, 2, 3, 2)
    get, put = recorded["5.15", "2M", False]
    assert (get.stores, get.lines_written, put.stores, put.lines_written) == (1536, 512, 1024, 512)
    shared, _ = recorded["6.1", "2M", False]
    assert (shared.lines_touched, shared.physical_lines) == (512, 128)


@pytest.mark.parametrize(
    ("name", "align", "held", "pins", "room"),
    [
        ("5.16", "2M", 1025, None, 2_097_151),
        ("5.17", "2M", 513, 512, 4_194_303),
        ("5.17", "1G", 262_145, 262_144, 8191),
    ],
)
def test_counts_while_held(name, align, held, pins, room):
    one = counts_while_held(name, align)
    assert (one.idle, one.held, one.pincount, one.room) == (1, held, pins, room)
