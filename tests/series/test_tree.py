# SPDX-License-Identifier: GPL-2.0-only
"""Which sets of patches make a tree, what a tree tells the kernels, and the names it goes by."""

from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.series import ALL, BASES, Switch, Tree, kernel

EVERY_SET = [
    frozenset(numbers)
    for numbers in chain.from_iterable(combinations(range(1, 12), n) for n in range(12))
]  # fmt: skip


def stands(patches):
    """The rule of the series: 11 builds on 4; 9 and 10 on 8."""
    return not (11 in patches and 4 not in patches) and not (patches & {9, 10} and 8 not in patches)


def test_every_set_stands_or_is_refused_as_the_series_says():
    """3 of the 4 ways to choose from {4, 11}, 5 of the 8 from {8, 9, 10}, all 64 of the other six."""
    accepted = 0
    for patches in EVERY_SET:
        if stands(patches):
            assert Tree("5.16", patches).patches == patches
            accepted += 1
        else:
            with pytest.raises(WorkbenchError, match="builds on patch"):
                Tree("5.16", patches)
    assert len(EVERY_SET) == 2048
    assert accepted == 3 * 5 * 64


@pytest.mark.parametrize(
    "patches, reason",
    [
        (
            {11},
            r"patch 11 \(device-dax: compound devmap support\) builds on patch 4 \(mm/mem.*Add 4 or leave 11",
        ),
        ({1, 2, 3, 11}, r"patch 11 .* builds on patch 4"),
        ({9}, r"patch 9 .* builds on patch 8"),
        ({4, 10}, r"patch 10 .* builds on patch 8"),
        ({0}, r"patches 1 to 11; got \[0\]"),
        ({12, 99}, r"patches 1 to 11; got \[12, 99\]"),
    ],
)
def test_refusals_say_why(patches, reason):
    with pytest.raises(WorkbenchError, match=reason):
        Tree("5.16", patches)


def test_other_refusals():
    with pytest.raises(
        WorkbenchError, match=r"no kernel '5\.9': its base is one of 5\.10, 5\.15, 5\.16, 5\.17, 6\.1, 6\.12"
    ):
        Tree("5.9")
    with pytest.raises(WorkbenchError, match="deduplication .* needs patch 4"):
        Tree("6.1", ALL - {4, 11}, dedup=True)
    for last in (-1, 12):
        with pytest.raises(WorkbenchError, match=f"patch 0 to 11; got {last}"):
            Tree.prefix("5.16", last)


def test_patch_1_may_be_missing_under_11():
    """The crash that the hwpoison chapter shows."""
    tree = Tree("5.16", ALL - {1})
    assert tree.has(11)
    assert not tree.has(1)


@pytest.mark.parametrize("base", BASES)
def test_every_prefix_runs_like_a_bisect(base):
    for last in range(12):
        tree = Tree.prefix(base, last)
        assert tree.patches == frozenset(range(1, last + 1))
        assert [tree.has(n) for n in range(1, 12)] == [n <= last for n in range(1, 12)]


def test_without_checks_again():
    tree = Tree.prefix("5.16", 11)
    assert tree.without(1).patches == ALL - {1}
    assert tree.without([4, 11]).patches == ALL - {4, 11}
    with pytest.raises(WorkbenchError, match="builds on patch 4"):
        tree.without(4)
    with pytest.raises(WorkbenchError, match="needs patch 4"):
        Tree("6.1", ALL, dedup=True).without({4, 11})


@pytest.mark.parametrize("base", BASES)
def test_names_read_back(base):
    for patches in EVERY_SET:
        if stands(patches):
            for dedup in (False, True) if 4 in patches else (False,):
                tree = Tree(base, patches, dedup)
                assert kernel(tree.name).tree == tree, tree.name


@pytest.mark.parametrize(
    "tree, name",
    [
        (Tree("5.10"), "5.10"),
        (Tree("5.10", ALL), "5.10+11"),
        (Tree("5.15"), "5.15"),
        (Tree("5.16"), "5.16+0"),
        (Tree.prefix("5.16", 4), "5.16+4"),
        (Tree("5.16", {2, 4, 11}), "5.16+=2,4,11"),
        (Tree("5.16", ALL - {1}), "5.16+=2,3,4,5,6,7,8,9,10,11"),
        (Tree("5.17", ALL), "5.17"),
        (Tree("5.17"), "5.17+0"),
        (Tree("6.1", ALL, dedup=True), "6.1"),
        (Tree("6.1", ALL), "6.1-nodedup"),
        (Tree("5.17", ALL, dedup=True), "5.17-dedup"),
        (Tree("6.12", ALL, dedup=True), "6.12"),
    ],
)
def test_names(tree, name):
    assert str(tree) == tree.name == name


def test_trees_are_told_apart_in_text():
    assert repr(Tree("5.16", {2, 4})) == "Tree 5.16+=2,4: 5.16 code, patches 2, 4"
    assert repr(Tree("5.16")) == "Tree 5.16+0: 5.16 code, patches none"
    assert "vmemmap dedup" in repr(Tree("6.1", ALL, dedup=True))


# -- what the kernels are told -----------------------------------------------------------------------------


@given(base=st.sampled_from(BASES), patches=st.sampled_from([p for p in EVERY_SET if stands(p)]), dedup=st.booleans())
def test_one_bit_for_each_difference(base, patches, dedup):
    tree = Tree(base, patches, dedup and 4 in patches)
    bits = tree.switches
    for number, switch in ((2, Switch.P2), (3, Switch.P3), (4, Switch.P4)):
        assert bool(bits & switch) == (number in patches)
    assert bool(bits & Switch.TAIL_CLEARS_PRIVATE) == (base in ("6.1", "6.12"))
    assert bool(bits & Switch.HEAD_AFTER_FIRST_TAIL) == (base == "6.12")
    assert bool(bits & Switch.ZEROES_TAIL_REFCOUNT) == (base == "5.10")
    assert bool(bits & Switch.COMPOUND_NR_PAGES) == tree.dedup
    assert bits & ~sum(Switch) == 0


def test_switches_are_single_bits():
    assert all(int(s).bit_count() == 1 for s in Switch)
    assert len({int(s) for s in Switch}) == len(Switch)


@pytest.mark.parametrize("align, shift", [(4096, 0), (2 << 20, 9), (1 << 30, 18)])
def test_shift_of_a_device(align, shift):
    assert Tree("5.17", ALL).vmemmap_shift(align) == shift
    assert Tree("5.16", ALL - {11}).vmemmap_shift(align) == 0
    assert Tree("5.10").vmemmap_shift(align) == 0


def test_pages_are_put_one_by_one_at_teardown_up_to_5_17():
    assert {base: Tree(base).puts_pages_at_teardown for base in BASES} == {
        "5.10": True,
        "5.15": True,
        "5.16": True,
        "5.17": True,
        "6.1": False,
        "6.12": False,
    }
