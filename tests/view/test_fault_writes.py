# SPDX-License-Identifier: GPL-2.0-only
"""The timeline of a fault says what the stores say."""

from __future__ import annotations

import pytest

from workbench.lab.fault_writes import fault_writes, later_faults
from workbench.mm.mmap import VmFault
from workbench.view.export import description
from workbench.view.fault_writes import (
    explore_fault,
    failures_table,
    fault_timeline,
    later_table,
    writes_table,
)
from workbench.view.palette import BLACK, BLUE


def texts(fig):
    return [note.text for note in fig.layout.annotations]


def areas(fig, colour):
    return [trace for trace in fig.data if trace.fillcolor == colour and len(trace.x)]


def test_only_a_kernel_without_patch_9_has_a_black_area():
    fig = fault_timeline([fault_writes(kernel) for kernel in ("5.16+8", "5.16+9", "5.16+11")])
    (black,) = areas(fig, BLACK)
    entries = areas(fig, BLUE)
    assert len(entries) == 3
    left = [trace.x[0] for trace in entries]
    assert left[0] < left[2] < left[1]  # at once; after 2 stores; after 1,024
    assert min(black.x) == pytest.approx(left[0] + 1.5)
    assert max(black.x) == pytest.approx(left[1] + 1.5)  # the last page waits as long as 9 makes the entry wait
    said = texts(fig)
    assert (
        "✗ the entry, then 1,024 stores to 512 struct pages: 512 struct pages exposed, for up to 1,024 stores" in said
    )
    assert "✓ 1,024 stores to 512 struct pages, then the entry: none exposed" in said
    assert "✓ 2 stores, to the head alone, then the entry: none exposed" in said
    assert all(description(fig))


def test_without_an_entry_nothing_is_blue():
    fig = explore_fault("2M", 4096, "5.16+9", VmFault.OOM)
    assert not areas(fig, BLUE) and not areas(fig, BLACK)
    assert "no entry (ENOMEM); nothing is stored" in texts(fig)
    assert "no entry (ENOMEM); 1,024 stores to 512 struct pages stay" in texts(fig)


def test_a_large_page_is_drawn_with_few_points():
    fig = explore_fault("1G", 0, "5.16+9", VmFault(0))
    assert max(len(trace.x) for trace in fig.data) < 1100
    assert "page 262,143" in texts(fig)


def test_tables():
    faults = [fault_writes(f"5.16+{number}") for number in range(7, 12)]
    assert [row[-1] for row in writes_table(faults).rows] == ["", "same", "differs", "same", "differs"]
    failed = failures_table([fault_writes("5.16+8", fails=VmFault.OOM), fault_writes("5.16+9", fails=VmFault.SIGBUS)])
    assert [row[1:3] + row[4:] for row in failed.rows] == [["ENOMEM", "none", "0"], ["SIGBUS", "none", "512"]]
    assert failed.rows[0][3] == "0" and int(failed.rows[1][3], 16) >> 48 == 0xFFFF
    again = later_table({"5.17": later_faults("5.17", first_touch="20K")})
    assert [row[2:] for row in again.rows] == [["2", "512"], ["0", "512"], ["0", "512"]]
