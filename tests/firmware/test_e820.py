# SPDX-License-Identifier: GPL-2.0-only
"""The e820 table: overlaps, changes of type, and the forms of memmap=."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import KernelCrash, WorkbenchError
from workbench.firmware import E820Entry, E820Table, E820Type

MIB, GIB = 1 << 20, 1 << 30
RAM, RESERVED, SOFT, PRAM = E820Type.RAM, E820Type.RESERVED, E820Type.SOFT_RESERVED, E820Type.PRAM


def table(*rows):
    return E820Table(E820Entry(start, end - start, kind) for start, end, kind in rows)


def rows(of):
    of.update_table()
    return [(entry.start, entry.end, entry.type) for entry in of]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        #  RAM 0 ------------------------------ 16 GiB to begin with
        ("8G%4G-1+0xefffffff", [(0, 4, RAM), (4, 12, SOFT), (12, 16, RAM)]),  # as every recorded dynamic run booted
        ("2G@20G", [(0, 16, RAM), (20, 22, RAM)]),
        ("2G@16G", [(0, 18, RAM)]),
        ("1G#4G", [(0, 4, RAM), (4, 5, E820Type.ACPI), (5, 16, RAM)]),
        ("1G$4G", [(0, 4, RAM), (4, 5, RESERVED), (5, 16, RAM)]),
        ("4G!12G", [(0, 12, RAM), (12, 16, PRAM)]),
        ("4G!12G,2G%4G-1+2", [(0, 4, RAM), (4, 6, RESERVED), (6, 12, RAM), (12, 16, PRAM)]),
        ("1G%4G+12", [(0, 4, RAM), (4, 5, PRAM), (5, 16, RAM)]),
        ("1G%4G-1", [(0, 4, RAM), (5, 16, RAM)]),
        ("1G%4G-2", [(0, 16, RAM)]),  # nothing there is reserved
        ("1G%4G", [(0, 4, RAM), (5, 16, RAM)]),
        ("10G", [(0, 10, RAM)]),
        ("exactmap,1G@1G", [(1, 2, RAM)]),
        ("0x40000000%0x100000000-0x1+0xc", [(0, 4, RAM), (4, 5, PRAM), (5, 16, RAM)]),
    ],
)
def test_forms_of_memmap(option, expected):
    of = table((0, 16 * GIB, RAM))
    for part in option.split(","):
        of.parse_memmap_one(part)
    assert rows(of) == [(start * GIB, end * GIB, kind) for start, end, kind in expected]


def test_memmap_with_the_same_type_twice_is_a_bug_of_the_kernel():
    of = table((0, GIB, RAM))
    with pytest.raises(KernelCrash, match="e820__range_update"):
        of.parse_memmap_one("1M%0-1+1")
    assert rows(of) == [(0, GIB, RAM)]


@pytest.mark.parametrize("option", ["", "x", "@1G", "-1G"])
def test_memmap_without_a_number_changes_nothing(option):
    of = table((0, GIB, RAM))
    with pytest.raises(WorkbenchError) as refused:
        of.parse_memmap_one(option)
    assert refused.value.errno == errno.EINVAL
    assert rows(of) == [(0, GIB, RAM)]


def test_memmap_with_something_behind_it_is_refused_after_it_was_applied():
    of = table((0, GIB, RAM))
    with pytest.raises(WorkbenchError, match="'junk'"):
        of.parse_memmap_one("1G@1Gjunk")
    assert rows(of) == [(0, 2 * GIB, RAM)]


def test_the_higher_type_wins_where_ranges_overlap():
    #  RAM       |---------------|
    #  reserved      |---|
    #  ACPI                  |-------|
    of = table((0, 8, RAM), (2, 4, RESERVED), (6, 10, E820Type.ACPI))
    assert rows(of) == [(0, 2, RAM), (2, 4, RESERVED), (4, 6, RAM), (6, 10, E820Type.ACPI)]


def test_soft_reserved_memory_is_cut_at_every_border_under_it():
    #  RAM       |---------------|
    #  soft                  |-------|
    assert rows(table((0, 8, RAM), (6, 10, SOFT))) == [(0, 6, RAM), (6, 8, SOFT), (8, 10, SOFT)]


@pytest.mark.parametrize(("kind", "merged"), [(RAM, True), (RESERVED, True), (SOFT, False), (PRAM, False)])
def test_ranges_that_may_be_devices_keep_their_borders(kind, merged):
    assert rows(table((0, 4, kind), (4, 8, kind))) == ([(0, 8, kind)] if merged else [(0, 4, kind), (4, 8, kind)])


def test_log_lines_as_the_kernel_prints_them():
    of = table((0x100000, 0x7FFE0000, RAM), (0x100000000, 0x300000000, SOFT), (0x300000000, 0x300001000, 99))
    assert of.text() == [
        "BIOS-e820: [mem 0x0000000000100000-0x000000007ffdffff] usable",
        "BIOS-e820: [mem 0x0000000100000000-0x00000002ffffffff] soft reserved",
        "BIOS-e820: [mem 0x0000000300000000-0x0000000300000fff] type 99",
    ]


entries = st.lists(
    st.builds(E820Entry, st.integers(0, 40), st.integers(0, 12), st.sampled_from((1, 2, 3, 12, 0xEFFFFFFF))), max_size=7
)


def types(of):
    """The type of each byte, looked up one by one."""
    return [max((e.type for e in of if e.start <= byte < e.end), default=0) for byte in range(60)]


@given(entries)
def test_sanitising_changes_no_byte_and_leaves_no_overlap(given_entries):
    of = E820Table(given_entries)
    before = types(of)
    of.update_table()
    assert types(of) == before
    assert all(a.end <= b.start for a, b in zip(of.entries, of.entries[1:], strict=False))
    assert all(entry.size for entry in of)


@given(entries, st.integers(0, 40), st.integers(0, 20), st.sampled_from((1, 2, 3)))
def test_a_change_of_type_is_a_change_byte_by_byte(given_entries, start, size, old):
    of = E820Table(given_entries)
    of.update_table()
    before = types(of)
    changed = of.range_update(start, size, old, 12)
    hit = [start <= byte < start + size and kind == old for byte, kind in enumerate(before)]
    assert types(of) == [12 if inside else kind for inside, kind in zip(hit, before, strict=True)]
    assert changed == sum(hit)


@given(entries, st.integers(0, 40), st.integers(0, 20), st.sampled_from((1, 2, None)))
def test_a_removal_is_a_removal_byte_by_byte(given_entries, start, size, old):
    of = E820Table(given_entries)
    of.update_table()
    before = types(of)
    removed = of.range_remove(start, size, old)
    hit = [kind and start <= byte < start + size and old in (None, kind) for byte, kind in enumerate(before)]
    assert types(of) == [0 if inside else kind for inside, kind in zip(hit, before, strict=True)]
    assert removed == sum(map(bool, hit))
