# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.view.memory_map import State

NUMBER = st.integers(0, 1 << 40)
STATES = st.builds(
    State,
    tree=st.sampled_from(["5.16+11", "5.16+=2,4,11", "6.1-nodedup", "5.16+3/5.17"]),
    pgmap=st.integers(0, 9),
    pfn=NUMBER,
    word=st.integers(0, 7),
    bit=st.integers(0, 63),
    zoom=st.none() | st.tuples(NUMBER, st.integers(1, 1 << 30)).map(lambda z: (z[0], z[0] + z[1])),
    layer=st.sampled_from(["roles", "refcount"]),
    step=st.integers(0, 9999),
    op=st.integers(0, 3),
)


def test_the_four_parts():
    state = State.parse("tree=5.16+11/pgmap=0/pfn=0x100201/word=1")
    assert state == State("5.16+11", 0, 0x100201, 1)
    assert str(state) == "tree=5.16+11/pgmap=0/pfn=0x100201/word=1"


def test_all_parts_in_any_order():
    text = "word=2/tree=6.1/pfn=7/step=14/op=1/layer=flags/zoom=0x100000-0x107fff/bit=63/pgmap=1"
    assert State.parse(text) == State("6.1", 1, 7, 2, 63, (0x100000, 0x108000), "flags", 1, 14)


@given(STATES)
def test_text_and_back(state):
    assert State.parse(str(state)) == state


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no part"),
        ("tree=5.17/pgmap=0", "does not say pfn"),
        ("tree=5.17/pgmap=0/pfn=1/pfn=2", "twice"),
        ("tree=5.17/pgmap=0/pfn=1/colour=2", "write a number"),  # a tree's name may hold a slash, a number may not
        ("tree=5.17/pgmap=x/pfn=1", "pgmap=x"),
        ("tree=5.17/pgmap=0/pfn=-1", "pfn=-1"),
        ("tree=5.17/pgmap=0/pfn=1/word=8", "words 0 to 7"),
        ("tree=5.17/pgmap=0/pfn=1/bit=64", "bits 0 to 63"),
        ("tree=5.17/pgmap=0/pfn=1/zoom=5", "first and the last"),
        ("tree=5.17/pgmap=0/pfn=1/zoom=9-5", "is empty"),
    ],
)
def test_refusals(text, says):
    with pytest.raises(WorkbenchError, match=says):
        State.parse(text)
