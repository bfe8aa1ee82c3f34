# SPDX-License-Identifier: GPL-2.0-only
"""The cover letter's table in its three forms, and a registration with RDMA."""

import csv
import io

import pytest

from workbench.errors import WorkbenchError
from workbench.lab.cost import seed_fit, seed_samples
from workbench.lab.media import medium
from workbench.lab.registration import published_rounds, registration
from workbench.lab.seed_table import (
    Key,
    as_csv,
    as_latex,
    as_rows,
    as_text,
    keys,
    ratio_text,
    seed_table,
    what_if_text,
)

GIB, MIB = 1 << 30, 1 << 20

# memory, place, phase: before, after, as the letter prints them
PRINTED = {
    ("16384", "DRAM", "get"): ("", ""),
    ("16384", "DRAM", "put"): ("71", "22"),
    ("129022", "DRAM", "get"): ("", ""),
    ("129022", "DRAM", "put"): ("513", "188"),
    ("16384", "altmap", "get"): ("524", "127"),
    ("16384", "altmap", "put"): ("525", "71"),
    ("127004", "altmap", "get"): ("4100", "1000"),
    ("127004", "altmap", "put"): ("4120", "563"),
}


def test_rows_hold_what_is_published():
    assert {tuple(row[:3]): tuple(row[3:5]) for row in as_rows(seed_table())} == PRINTED


def test_modelled_times_are_those_of_the_fit():
    modelled = {time.key: time.ms for time in seed_table() if time.kind == "modelled"}
    assert len(modelled) == 16
    for sample in seed_samples():
        key = Key(sample.size_mib, sample.altmap, *sample.family.split("-")[1:])
        assert modelled[key] == pytest.approx(seed_fit().ms(sample))


def test_get_in_dram_does_not_gain():
    modelled = {time.key: time.ms for time in seed_table() if time.kind == "modelled"}
    before, after = (modelled[Key(16384, False, "get", state)] for state in ("before", "after"))
    assert before == pytest.approx(after, rel=0.01)


MEASURED = {
    Key(129022, False, "put", "before"): [660.0, 640, 610],
    Key(129022, False, "put", "after"): [160.0, 158, 171],
}


def test_measured_times_stand_in_their_own_columns_with_their_spread():
    rows = as_rows(seed_table(measured=MEASURED))
    assert {tuple(row[:3]): row[9:] for row in rows if any(row[9:])} == {
        ("129022", "DRAM", "put"): ["640 [610-660]", "160 [158-171]", "4.0"]
    }
    with pytest.raises(WorkbenchError, match="no row of the cover letter's table"):
        seed_table(measured={Key(1, False, "put", "before"): [1.0]})


@pytest.mark.parametrize(
    "before, after, told", [(100, 25, "4.0"), (100, 97, "1.03"), (100, 100, "1.00"), (84, 100, "0.84")]
)
def test_a_ratio_tells_a_loss(before, after, told):
    assert ratio_text(before, after) == told


def test_csv_has_each_time_once_and_says_whose_it_is():
    rows = list(csv.DictReader(io.StringIO(as_csv(seed_table(measured={next(keys()): [80.0, 81, 79]}), "a, b"))))
    assert [row["kind"] for row in rows].count("published") == 12
    assert [row["kind"] for row in rows].count("modelled") == 16
    (measured,) = [row for row in rows if row["kind"] == "measured"]
    assert list(measured.values()) == ["16384", "DRAM", "get", "before", "measured", "80", "79", "81", "a, b"]
    published = {row["ms"] for row in rows if row["kind"] == "published"}
    assert published == {"71", "22", "524", "127", "525", "513", "188", "4100", "1000", "4120", "563"}
    assert {row["kind"]: row["source"] for row in rows} == {
        "published": "cover letter of version 7", "modelled": "workbench cost", "measured": "a, b"
    }  # fmt: skip
    assert {row["least_ms"] for row in rows if row["kind"] != "measured"} == {""}


def test_latex_is_one_well_formed_table():
    lines = as_latex(seed_table()).splitlines()
    rows = [line for line in lines if line.endswith(r"\\")]
    assert len(rows) == 2 + 8 and {row.count("&") for row in rows[1:]} == {11}
    assert r"127004 & altmap & get & 4100 & 1000 & 4.1 &" in "\n".join(rows)
    columns = next(line for line in lines if line.startswith(r"\begin{tabular}"))
    assert len(columns.removeprefix(r"\begin{tabular}{").rstrip("}")) == 12
    assert lines[-1] == r"\end{tabular}" and not [line for line in lines if "measured:" in line]
    told = as_latex(seed_table(measured=MEASURED), "a processor")
    assert "% measured: a processor; median" in told and "640 [610--660] & 160 [158--171] & 4.0" in told


def test_text_is_aligned_and_says_its_units():
    *rows, last = as_text(seed_table())
    assert len(rows) == 10 and "times in ms" in last
    assert len({row.index("before") for row in rows[1:2]}) == 1
    assert rows[3].split()[:5] == ["16384", "DRAM", "put", "71", "22"]
    last = as_text(seed_table(measured=MEASURED), "a processor")[-1]
    assert last.startswith("measured: a processor; median [least-greatest].") and "altmap have no measured" in last


def test_a_what_if_says_so_in_its_first_line():
    lines = what_if_text(medium("cxl", seed_fit().media))
    assert lines[0].startswith("EXTRAPOLATED (cxl)") and len(lines) == 3 + 4
    assert what_if_text(medium("pmem", seed_fit().media))[0].startswith("modelled (pmem)")


# registration


def test_rounds_a_second():
    rates = {(rounds.memory, rounds.state): rounds.per_second for rounds in published_rounds()}
    assert rates["device-dax", "before"] == pytest.approx(31.63, abs=0.01)
    assert rates["device-dax", "after"] / rates["device-dax", "before"] == pytest.approx(1.925, abs=0.001)
    assert rates["hugetlbfs", "after"] / rates["hugetlbfs", "before"] == pytest.approx(2.305, abs=0.001)
    for rounds in published_rounds():
        assert rounds.per_second * rounds.us_per_round == pytest.approx(1e6, rel=1e-4)


def test_what_a_registration_of_16_gib_does():
    # 4,194,304 pages by 512; the slow path leaves PG_referenced alone; a release takes 3 operations a compound page
    before, after = (registration(16 * GIB, 2 * MIB, compound, False, seed_fit()) for compound in (False, True))
    assert before.calls == after.calls == 8192
    assert before.pin.locked == after.pin.locked == 2 * 4194304
    assert before.release.locked == 2 * 4194304
    assert (after.release.locked, after.release.lines_read, after.release.lines_written) == (24576, 24576, 16384)
    assert before.release_ms / after.release_ms > 100
    # struct pages in DRAM: pinning is no faster; in the device it is
    assert after.pin_ms == pytest.approx(before.pin_ms)
    slow = [registration(16 * GIB, 2 * MIB, compound, True, seed_fit()).pin_ms for compound in (False, True)]
    assert slow[0] > 4 * slow[1]


def test_a_registration_of_less_than_a_call():
    assert registration(4096, 4096, False, False, seed_fit()).calls == 1
