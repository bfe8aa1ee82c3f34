# SPDX-License-Identifier: GPL-2.0-only
"""The explorer without a browser: what its controls lead to, and what it says where a kernel refuses."""

from __future__ import annotations

import gc
import weakref

import pytest

from workbench.lab.operations import OPERATIONS
from workbench.view.explorer import Explorer


@pytest.fixture
def explorer() -> Explorer:
    return Explorer("64M", "2M", "mem", "5.16+11", "5.16+0")


def names(explorer: Explorer) -> list[str]:
    assert explorer.shown is not None
    return [one.name.split(":")[0] for one in explorer.shown.model.operations(explorer.shown.shown.pfn)]


def test_other_operations_are_played_where_asked_for(explorer):
    assert names(explorer) == ["memmap_init_zone_device"]
    explorer.play.value = True
    assert names(explorer) == ["memmap_init_zone_device", *OPERATIONS]
    explorer.kernel.value = "6.12"
    explorer.before.value = "nothing"
    assert names(explorer) == ["memmap_init_zone_device", *OPERATIONS[:-1]]


@pytest.mark.parametrize("align", ["4K", "1G"], ids=["another", "refused"])
def test_a_map_that_is_shown_no_more_is_freed(explorer, align):
    gone = weakref.ref(explorer.shown)
    explorer.align.value = align
    assert (explorer.shown is None) == (align == "1G")
    explorer.align.value = "2M"
    gc.collect()
    assert explorer.shown is not None and gone() is None


def test_a_refusal_is_said_and_nothing_is_shown(explorer):
    explorer.size.value = "1M"
    assert explorer.shown is None and explorer.map_box.children == ()
    assert "Refused" in explorer.said.value and explorer.save.disabled
    explorer.size.value = "64M"
    assert explorer.shown is not None and explorer.said.value == ""
