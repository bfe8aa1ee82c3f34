# SPDX-License-Identifier: GPL-2.0-only
"""Kernels: which layout goes with which tree, and where each pairing comes from."""

import pytest

from workbench.abi import DISTRIBUTION, DISTRIBUTION_6_12, SMALL_6_1, Abi, Config
from workbench.errors import WorkbenchError
from workbench.series import ALL, NOT_RELEASED, PRESETS, Tree, kernel, pair

NONE = frozenset()


def test_presets():
    prefixes = [f"5.16+{n}" for n in range(12)]
    assert sorted(PRESETS) == sorted(["5.10", "5.15", "5.17", "6.1", "6.1-nodedup", "6.12", *prefixes])


@pytest.mark.parametrize(
    "name, config, patches, dedup",
    [
        ("5.10", DISTRIBUTION, NONE, False),
        ("5.15", DISTRIBUTION, NONE, False),
        ("5.17", DISTRIBUTION, ALL, False),
        ("6.1", DISTRIBUTION, ALL, True),
        ("6.1-nodedup", SMALL_6_1, ALL, False),
        ("6.12", DISTRIBUTION_6_12, ALL, True),
    ],
)
def test_captured_kernels(name, config, patches, dedup):
    found = kernel(name)
    release = name.removesuffix("-nodedup")
    assert found.abi == Abi(release, config)
    assert found.tree == Tree(release, patches, dedup)
    assert found.origin == "captured"
    assert found.note
    assert found.name == name


@pytest.mark.parametrize("n", range(12))
def test_prefixes_on_5_16_are_derived(n):
    found = kernel(f"5.16+{n}")
    assert found.abi == Abi("5.16", DISTRIBUTION)
    assert found.tree == Tree("5.16", frozenset(range(1, n + 1)))
    assert found.origin == "derived"
    assert "5.15 and 5.17" in found.note


def test_5_16_alone_is_the_prefix_of_none():
    assert kernel("5.16") == kernel("5.16+0")


@pytest.mark.parametrize(
    "name",
    ["5.10+11", "5.15+4", "5.16+=4", "5.16+=2,4,11", "5.17+0", "5.17-dedup", "6.1+0", "6.12-nodedup", "5.16+11-dedup"],
)
def test_other_pairings_run_and_say_so(name):
    found = kernel(name)
    assert found.origin == NOT_RELEASED == "no such kernel was released"
    assert found.name == name
    assert NOT_RELEASED in repr(found)


def test_any_layout_with_any_tree():
    found = pair(Abi("6.1"), Tree("5.16", ALL))
    assert found.origin == NOT_RELEASED
    assert found.name == "5.16+11/6.1"
    assert pair(Abi("5.17", Config(pgtable_levels=5)), Tree("5.17", ALL)).origin == NOT_RELEASED
    # The small build's layout is that preset; another configuration of 6.1 without dedup is not.
    assert pair(Abi("6.1", SMALL_6_1), Tree("6.1", ALL)).origin == "captured"
    assert pair(Abi("6.1", DISTRIBUTION), Tree("6.1", ALL)).origin == NOT_RELEASED
    assert pair(Abi("5.16", Config(memcg=False)), Tree("5.16", ALL)).origin == NOT_RELEASED
    for name in PRESETS:
        assert pair(kernel(name).abi, kernel(name).tree) == kernel(name)


@pytest.mark.parametrize(
    "name, reason",
    [
        ("", "no kernel ''"),
        ("linux", "no kernel 'linux'"),
        ("5.16+", r"write 5\.16\+N"),
        ("5.16+2,4", r"write 5\.16\+N for patches 1 to N, or 5\.16\+=2,4,11"),
        ("5.16+12", "patch 0 to 11; got 12"),
        ("5.16+=11", "builds on patch 4"),
        ("5.16+=0", r"patches 1 to 11; got \[0\]"),
        ("5.11", r"no kernel '5\.11'"),
        ("5.16-dedup", "needs patch 4"),
        ("5.17 ", "no kernel '5.17 '"),
    ],
)
def test_names_that_cannot_be_read(name, reason):
    with pytest.raises(WorkbenchError, match=reason):
        kernel(name)
