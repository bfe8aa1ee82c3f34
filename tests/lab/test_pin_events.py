# SPDX-License-Identifier: GPL-2.0-only
"""The closed forms, against the specification's table and what real kernels were seen to store and touch."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.lab.pin_events import (
    GET_FAST,
    PATHS,
    PIN_FAST,
    PIN_SLOW,
    PUT_PAGE,
    RELEASES,
    UNPIN,
    UNPIN_RANGE,
    pin_events,
)
from workbench.text import parse_size

CAPTURES = Path(__file__).resolve().parents[2] / "data" / "captures"
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# locked operations, lines written, lines read, for 2 MiB: base pages, a compound page, a compound page grabbed once
E3 = {
    PIN_FAST: ((1536, 512, 512), (1536, 2, 512), (3, 2, 3)),
    GET_FAST: ((1024, 512, 512), (1024, 1, 512), (2, 1, 1)),
    PIN_SLOW: ((1024, 512, 512), (1024, 2, 512), (2, 2, 3)),  # as the fast pin, without PG_referenced
    UNPIN: ((1024, 512, 512), (3, 2, 512), (3, 2, 512)),
    UNPIN_RANGE: ((1024, 512, 512), (3, 2, 3), (3, 2, 3)),
    PUT_PAGE: ((512, 512, 512), (512, 1, 512), (512, 1, 512)),
}


@pytest.mark.parametrize("release", ["5.16", "5.17"])
@pytest.mark.parametrize("path", PATHS)
def test_the_table_of_two_mib(path, release):
    states = ({}, {"compound": True}, {"compound": True, "grab_once": True})
    counted = [pin_events(path, 2 * MIB, release=release, **state) for state in states]
    assert [(events.locked, events.lines_written, events.lines_read) for events in counted] == list(E3[path])


def traffic():
    """Recorded rows whose struct pages are not shared by deduplication, one for each phase and repeat."""
    states = {"5.15": ("5.15", False), "5.17": ("5.17", True)}
    states |= {"before": ("6.1", False), "nodedup": ("6.1", True), "stock": ("6.1", True)}
    for file in ("gup_test_5.15_5.17.json", "gup_test.json"):
        for row in json.loads((CAPTURES / file).read_text())["struct_page_traffic"]["rows"]:
            release, compound = states[row["variant"]]
            for number, repeat in enumerate(row["repeats"]):
                for phase, path in (("get", PIN_FAST), ("put", UNPIN)):
                    name = f"{row['variant']}-{row['align']}-{row['map']}-{phase}-{number}"
                    yield pytest.param(release, compound, row, path, repeat[phase], id=name)


@pytest.mark.parametrize(("release", "compound", "row", "path", "seen"), list(traffic()))
def test_real_kernels_store_and_touch_as_much(release, compound, row, path, seen):
    assert "-a" in row["options"] and "-n 512" in row["options"]
    events = pin_events(path, row["MiB"] * MIB, parse_size(row["align"]), compound, release)
    assert events.pages == row["base_pages"]
    assert events.locked == seen["stores"]
    assert events.lines_written == seen["va_lines_written"]
    assert events.lines_read == seen["va_lines"]


def test_there_are_captured_rows_of_every_release_and_align():
    rows = [param.values for param in traffic()]
    assert {release for release, *_ in rows} == {"5.15", "5.17", "6.1"}
    assert {row["align"] for _, _, row, *_ in rows} == {"4K", "2M", "1G"}


def naive_grab_once(pages, per_call, per_compound):
    """Walk the calls page by page; a grab begins where a call or a compound page does."""
    return sum(1 for page in range(pages) if page % per_call == 0 or page % per_compound == 0)


@given(st.integers(1, 6), st.integers(1, 2000))
def test_a_grab_is_a_call_and_a_compound_page_that_meet(compounds, per_call):
    events = pin_events(PIN_FAST, compounds * 2 * MIB, compound=True, pages_per_call=per_call, grab_once=True)
    assert events.locked == 3 * naive_grab_once(compounds * 512, per_call, 512)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("release", RELEASES)
def test_an_align_of_4_kib_has_no_compound_pages(path, release):
    counts = [pin_events(path, MIB, 4 * KIB, compound, release) for compound in (False, True)]
    assert counts[0] == counts[1] and counts[0].lines_written == counts[0].pages == 256


def test_counts_grow_with_the_device():
    for path in PATHS:
        small, large = (pin_events(path, size, compound=True) for size in (2 * MIB, 16 * GIB))
        assert large.locked == 8192 * small.locked
        assert large.lines_written == 8192 * small.lines_written


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("pin", MIB), "no counts for the path 'pin'"),
        ((PIN_FAST, 3 * MIB), "multiple of its align of 2 MiB; got 3 MiB"),
        ((PIN_FAST, 0), "multiple of its align"),
        ((PIN_FAST, MIB, MIB), "an align is 4 KiB, 2 MiB or 1 GiB; got 1 MiB"),
        ((PIN_FAST, 2 * MIB, 2 * MIB, True, "6.12"), "no counts for release '6.12'"),
        ((PIN_FAST, 2 * MIB, 2 * MIB, True, "6.1", 0), "at least one page"),
    ],
)
def test_what_is_not_known_is_refused(arguments, complaint):
    with pytest.raises(WorkbenchError, match=complaint):
        pin_events(*arguments)
