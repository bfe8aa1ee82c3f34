# SPDX-License-Identifier: GPL-2.0-only
"""Deliberate errors in a copy of the engine turn tests red: the short form of ``scripts/mutate``."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each break, and a test that was written to notice it.
NOTICED_BY = {
    "tail refcount not zeroed": "test_four_mib_at_4_gib",
    "head described one tail too early": "test_the_head_is_described_at_the_third_page",
    "head described before its tails are made": "test_words_of_the_specification",
    "wrong dtor": "test_words_of_the_specification",
    "altmap start off by its reserve": "test_first_page_end_and_references_of_a_range",
    "wrong flag bit": "test_numbers_and_second_names_as_compiled",
}


@pytest.mark.slow
def test_every_break_is_caught_by_the_test_that_is_there_for_it():
    result = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "mutate"), "--quick"], capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stdout + result.stderr
    reports = re.findall(r"^(.+): caught; .*\n((?:    .*\n)+)", result.stdout, re.MULTILINE)
    red = {name: {line.split("::")[-1] for line in tests.splitlines()} for name, tests in reports}
    assert set(red) == set(NOTICED_BY)
    for name, test in NOTICED_BY.items():
        assert test in red[name]


def test_the_list_of_breaks_is_kept():
    kept = (ROOT / "docs" / "mutations.md").read_text()
    for name, test in NOTICED_BY.items():
        assert name in kept
        assert test in kept
