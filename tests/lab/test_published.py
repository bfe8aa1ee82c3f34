# SPDX-License-Identifier: GPL-2.0-only
"""Published numbers, held against the printed texts they stand for."""

import json
import re

import pytest

from workbench.errors import WorkbenchError
from workbench.lab.published import SCHEMA, as_json, as_text, published, read

DATA = published()
AMOUNTS = [(number, amount) for number in DATA.numbers.values() for amount in (number.before, number.after) if amount]


def test_the_table_of_the_cover_letter():
    # as the letter prints it; get of struct pages in DRAM is not printed
    printed = {
        (16384, False, "put"): (71, 22),
        (16384, True, "get"): (524, 127),
        (16384, True, "put"): (525, 71),
        (129022, False, "put"): (513, 188),
        (127004, True, "get"): (4100, 1000),
        (127004, True, "put"): (4120, 563),
    }
    found = {
        tuple(number.config[name] for name in ("size_mib", "altmap", "phase")): (number.ms(False), number.ms(True))
        for number in DATA.seed()
    }
    assert found == printed


@pytest.mark.parametrize(("number", "amount"), AMOUNTS, ids=lambda part: getattr(part, "id", ""))
def test_an_amount_is_what_is_printed(number, amount):
    """The digits of the text, brought to the unit of the number, are its value; half of the last digit its interval."""
    if amount.value is None:
        assert amount.low is not None or amount.high is not None
        assert re.search(r"[<≤–+]", amount.printed)
        return
    digits, thousand = re.search(r"([\d,]+(?:\.\d+)?)(k?)", amount.printed).groups()
    decimals = len(digits.partition(".")[2])
    # where the two sides of one number are printed in different units, both are kept in the smaller one
    word = re.search(r"(?<![mu])(secs|s|G)$", amount.printed)
    scale = {("secs", "ms"): 1000, ("s", "ms"): 1000, ("G", "MiB"): 1024}.get((word and word[1], number.unit), 1)
    scale *= 1000 if thousand else 1
    assert amount.value == pytest.approx(float(digits.replace(",", "")) * scale)
    half = 0.5 * 10**-decimals * scale
    assert (amount.low, amount.high) == pytest.approx((amount.value - half, amount.value + half))


def test_times_in_milliseconds():
    assert DATA["seed-127004-altmap-get"].ms(False) == pytest.approx(4100)
    assert DATA["seed-127004-altmap-get"].interval_ms(True) == (500, 1500)
    assert DATA["rfc-slow-get"].ms(True) == pytest.approx(8.9)


def test_a_range_is_not_a_time_and_a_size_has_none():
    with pytest.raises(WorkbenchError, match="is not one time"):
        DATA["v1-init-2m"].ms(False)
    with pytest.raises(WorkbenchError, match="is not one time"):
        DATA["dedup-2m"].ms(False)
    with pytest.raises(WorkbenchError, match="no interval of times"):
        DATA["dedup-2m"].interval_ms(False)
    with pytest.raises(WorkbenchError, match="prints no number before"):
        DATA["unpin-mr"].ms(False)
    with pytest.raises(WorkbenchError, match="no published number 'x'"):
        DATA["x"]


def test_what_each_source_published_is_there():
    """One number of each kind that the mails print: RFC, versions 1, 4 and 7, unpinning, deduplication, HugeTLB."""
    assert {name for number in DATA.numbers.values() for name in (number.source, *number.also_in)} == set(DATA.sources)
    assert DATA["rfc-mr-device-dax-rounds"].amount(True).value == 305
    assert DATA["grab-once-127004-altmap-get"].ms(False) == 3910
    assert "version 1 prints" in DATA["grab-once-127004-altmap-get"].note
    assert DATA["v4-init-2m"].amount(True).high == 110
    assert DATA["unpin-mr"].amount(True).value == 4.5
    assert DATA["hugetlb-unpin-batched"].ms(True) == pytest.approx(3.8)


def test_the_rounds_of_the_rfc_agree_with_their_own_durations():
    """Printed: rounds, seconds and the time of a round; the third is the quotient, to the rounding of the second."""
    for memory in ("device-dax", "hugetlbfs"):
        rounds, seconds, one = (DATA[f"rfc-mr-{memory}-{part}"] for part in ("rounds", "seconds", "round"))
        for after in (False, True):
            low, high = (1000 * ms / rounds.amount(after).value for ms in seconds.interval_ms(after))
            assert low <= one.amount(after).value <= high


def test_a_part_of_the_numbers_keeps_their_mails():
    part = DATA.only("grab-once-16384-altmap")
    assert list(part.numbers) == ["grab-once-16384-altmap-get", "grab-once-16384-altmap-pin"]
    assert list(part.sources) == ["v4-8"]
    with pytest.raises(WorkbenchError, match="no published number begins with 'x'"):
        DATA.only("x")


def test_mails_have_addresses():
    assert DATA.sources["v7"].url.endswith("20211202204422.26777-1-joao.m.martins@oracle.com")
    assert DATA.sources["rfc"].url is None


def test_json_is_the_file_again(tmp_path):
    copy = tmp_path / "numbers.json"
    copy.write_text(json.dumps(as_json(DATA)))
    assert read(copy) == DATA


def test_each_number_says_what_it_is_not():
    assert [
        number.id for number in DATA.numbers.values() if not number.is_ or not number.is_not.startswith("not ")
    ] == []


def test_text_says_what_a_number_is_not():
    lines = "\n".join(as_text(DATA.only("seed-")))
    assert "~524 ms -> ~127 ms" in lines and "is not the gain" in lines and "'~1sec' is printed" in lines
    assert len(as_text(DATA)) > 4 * len(DATA.numbers)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema": "x"}, f"{SCHEMA!r} is read here"),
        ({"numbers": [{}]}, "no file of published numbers"),
        ({"sources": {}}, "Declare it below sources"),
        ({"numbers": as_json(DATA)["numbers"][:1] * 2}, "two numbers have one id"),
    ],
)
def test_malformed_files_are_refused(tmp_path, change, complaint):
    path = tmp_path / "numbers.json"
    path.write_text(json.dumps(as_json(DATA) | change))
    with pytest.raises(WorkbenchError, match=re.escape(complaint)):
        read(path)
    with pytest.raises(WorkbenchError, match="no file of published numbers"):
        read(tmp_path / "absent.json")
