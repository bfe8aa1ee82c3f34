# SPDX-License-Identifier: GPL-2.0-only
"""The tables beside the memory map say what the specification says."""

import pytest

from workbench.errors import WorkbenchError
from workbench.lab.captures import read, verify
from workbench.lab.checkout import Checkout
from workbench.lab.device_layout import changes, numbers
from workbench.view.numbers import captures_table, changes_table, numbers_table


def test_heads_tails_and_references_of_a_gib():
    table = numbers_table(numbers(["5.16+3", "5.16+4"], "1G", ["2M", "1G"]))
    assert table.rows == [
        ["2 MiB", "5.16+3", "262,144", "262,144", "0", "0", "262,144", "262,144", "16 MiB"],
        ["2 MiB", "5.16+4", "262,144", "0", "512", "261,632", "512", "512", "16 MiB"],
        ["1 GiB", "5.16+3", "262,144", "262,144", "0", "0", "262,144", "262,144", "16 MiB"],
        ["1 GiB", "5.16+4", "262,144", "0", "1", "262,143", "1", "1", "16 MiB"],
    ]
    assert table.caption.startswith("▲ Derived")


def test_changed_words_by_role():
    table = changes_table(changes("5.16+3", "5.16+4", "1G", 9))
    rows = {row[0]: row[1:] for row in table.rows}
    yes, no = "all", "–"
    assert rows["head"] == ["512", yes, no, no, no, no, no, no, no, "512"]
    assert rows["first tail"] == ["512", no, yes, yes, yes, no, no, yes, no, "2,048"]
    assert rows["second tail"] == ["512", no, yes, no, yes, no, no, yes, no, "1,536"]
    assert rows["further tail"] == ["260,608", no, yes, no, yes, no, no, yes, no, "781,824"]
    assert rows["all"][-1] == "785,920"


def test_a_recorded_kernel_stands_with_its_bytes():
    report = verify(read(Checkout.find().data / "captures" / "k5.17-static-2M-mem"))
    table = captures_table([report])
    (row,) = table.rows
    assert row[:3] == ["k5.17-static-2M-mem", "5.17", "online"]
    assert int(row[4].replace(",", "")) > 100_000 and row[5] == "0" and row[-1] == "equal"
    assert table.caption.startswith("■ Captured")
    with pytest.raises(WorkbenchError, match="no recorded state"):
        captures_table([report], ["never"])
