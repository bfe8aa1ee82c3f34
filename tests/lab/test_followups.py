# SPDX-License-Identifier: GPL-2.0-only
"""The follow-ups' numbers: published beside counted, shared lines beside recorded ones, and their tables."""

import pytest

from workbench.lab.followups import grab_once, measured_grab, shared_lines
from workbench.lab.pinning import recorded_traffic
from workbench.view.followups import counts_of_idle_table, grab_once_table, measured_table, shared_table


def test_one_grab_counts_three_operations_for_2_mib():
    found = {one.number.id: one for one in grab_once()}
    pin = found["grab-once-16384-pin"]
    assert (pin.before.locked, pin.between.locked, pin.after.locked) == (1536 * 8192, 1536 * 8192, 3 * 8192)
    assert (pin.number.ms(False), pin.number.ms(True)) == (87, 6.2)
    get = found["grab-once-127004-altmap-get"]
    assert get.after.locked == 2 * 127004 // 2 and get.number.ms(True) == 70
    assert get.modelled_ms[2] < 0.2 * get.number.ms(True)  # what the model cannot tell: instructions


def test_the_engine_gains_by_one_grab_and_not_by_the_series():
    samples = measured_grab("64M", 5)
    least = {name: min(each) for name, each in samples.items()}
    assert least["one grab"] < least["base pages"] / 3
    assert least["as merged"] > least["base pages"] / 3


@pytest.mark.parametrize(("name", "pages", "lines"), [("5.17", 8, 512), ("6.1", 2, 128)])
def test_shared_struct_pages_are_fewer_lines_of_memory(name, pages, lines):
    one = shared_lines(name)
    assert (one.vmemmap_pages, one.virtual, one.physical) == (pages, 512, lines)
    real, _ = recorded_traffic()[name, "2M", False]
    assert (real.lines_touched, real.physical_lines) == (one.virtual, one.physical)


def test_a_device_waits_for_a_held_page_up_to_5_17():
    rows = {row[0]: row[1:] for row in counts_of_idle_table(["5.16", "5.17", "6.1"]).rows}
    assert rows["5.16"][:2] == ["1", "1"] and rows["5.17"][:2] == rows["6.1"][:2] == ["1", "0"]
    assert rows["5.16"][2].startswith("waits") and rows["5.17"][2:] == rows["5.16"][2:]
    assert rows["6.1"][3].startswith("the kernel dies")


def test_tables():
    assert grab_once_table(grab_once()).rows[1][:5] == ["16,384 MiB, DRAM", "pin", "87", "6.2", "14"]
    assert not any("e+" in cell for row in grab_once_table(grab_once()).rows for cell in row)
    rows = measured_table({"base pages": [20, 10, 30], "one grab": [1.0, 2.0, 4.0]}).rows
    assert rows[1] == ["one grab", "2.00", "1.00 – 4.00", "10.0"]
    assert shared_table([shared_lines("6.1")], recorded_traffic()).rows[0][-1] == "512 and 128"
