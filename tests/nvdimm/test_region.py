# SPDX-License-Identifier: GPL-2.0-only
"""Regions of persistent memory and their namespaces."""

import json
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from workbench.errors import WorkbenchError
from workbench.nvdimm.region import NdRegion

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
CAPTURES = Path(__file__).resolve().parents[2] / "data" / "captures"
STATIC = sorted(path.parent.name for path in CAPTURES.glob("*-static-*/capture.json"))


def region(size=16 * GIB, start=4 * GIB, labels=True):
    return NdRegion(0, start, size, labels)


def refused(code, call, *args, **kwargs):
    """The call refuses with ``code``; the region's state before and after is the caller's to compare."""
    with pytest.raises(WorkbenchError) as refusal:
        call(*args, **kwargs)
    assert refusal.value.errno_name == code


def state(of):
    return [(n.name, n.start, n.size, n.mode, n.nd_pfn, n.enabled) for n in of.namespaces]


@pytest.mark.parametrize("name", STATIC)
def test_recorded_namespaces(name):
    """Each recorded static run: where the namespace, its data and its end are."""
    capture = json.loads((CAPTURES / name / "capture.json").read_text())
    actions = capture["states"][0]["actions"]
    (pmem,) = next(a for a in actions if a["op"] == "boot")["persistent_memory"]
    start, end = int(pmem["start"], 16), int(pmem["end"], 16)
    of = NdRegion(0, start, end - start)
    of.init_labels()
    create = next(a for a in actions if a["op"] == "create_namespace")
    made = of.create_namespace(create["size"], create["align"], create["map"])
    result = create["result"]
    assert made.name == "namespace0.0"
    assert hex(made.nd_pfn.start_pfn) == result["namespace_start_pfn"]
    assert hex(made.nd_pfn.data_start_pfn) == result["data_start_pfn"]
    assert hex(made.nd_pfn.end_pfn) == result["end_pfn"]
    assert made.nd_pfn.dev_size == result["device_size"]


# The table of the specification: namespace size, map -> MiB of metadata and padding, MiB of data
@pytest.mark.parametrize(
    ("size", "map", "dataoff", "data"),
    [
        (GIB, "dev", 18, 1006),
        (16 * GIB, "dev", 258, 16126),
        (129024 * MIB, "mem", 2, 129022),
        (129024 * MIB, "dev", 2018, 127006),
        (128 * GIB, "dev", 2050, 129022),
        (1024 * GIB, "dev", 16386, 1032190),
    ],
)
def test_examples_of_the_specification(size, map, dataoff, data):
    made = region(2048 * GIB).create_namespace(size, 2 * MIB, map)
    assert (made.nd_pfn.dataoff, made.nd_pfn.dev_size) == (dataoff * MIB, data * MIB)


def test_a_region_without_labels_is_one_namespace():
    of = region(labels=False)
    assert [(n.name, n.size, n.mode) for n in of.namespaces] == [("namespace0.0", 16 * GIB, "raw")]
    assert (of.available_size, of.max_available_extent) == (0, 0)
    before = state(of)
    refused("EINVAL", of.create_namespace, GIB)
    assert state(of) == before
    of.create_namespace()
    refused("ENOSPC", of.create_namespace)
    refused("EBUSY", of.init_labels)
    of.disable_namespace("namespace0.0")
    of.destroy_namespace("namespace0.0")
    assert state(of) == before


def test_labels_free_the_region():
    of = region(labels=False)
    of.init_labels()
    assert of.namespaces == []
    assert of.available_size == 16 * GIB


def test_free_space_ends_at_multiples_of_16_mib():
    """As ndctl listed the recorded 4 GiB region, which ends 2 MiB short: 2.98 GiB (3.20 GB) are free."""
    of = region(4 * GIB - 2 * MIB, 5 * GIB)
    of.create_namespace(GIB)
    assert of.available_size == of.max_available_extent == 3 * GIB - 16 * MIB


def test_a_small_region_aligns_to_pages():
    assert region(8 * MIB).align == 4 * KIB
    assert region(16 * MIB).align == 16 * MIB


def test_the_first_hole_that_is_large_enough():
    """
    1G  2G      1G  2G      rest            destroy .1 and .3
    |0 |1      |2 |3      |                 1 GiB fits into the first hole, 3 GiB only behind all
    """
    of = region()
    for size in (1, 2, 1, 2):
        of.create_namespace(size * GIB)
    for name in ("namespace0.1", "namespace0.3"):
        of.disable_namespace(name)
        of.destroy_namespace(name)
    of.create_namespace(GIB)
    of.create_namespace(3 * GIB)
    assert [(n.name, n.start // GIB - 4, n.size // GIB) for n in of.namespaces] == [
        ("namespace0.0", 0, 1),
        ("namespace0.1", 1, 1),
        ("namespace0.2", 3, 1),
        ("namespace0.3", 4, 3),
    ]
    assert of.available_size == 10 * GIB
    assert of.max_available_extent == 9 * GIB


@pytest.mark.parametrize(
    ("code", "size", "align", "map", "mode"),
    [
        ("EINVAL", GIB + 4 * KIB, 2 * MIB, "mem", "devdax"),  # no multiple of the align
        ("EINVAL", GIB + 2 * MIB, 2 * MIB, "mem", "devdax"),  # of the region's, which is 16 MiB
        ("EINVAL", 3 * GIB // 2, GIB, "mem", "devdax"),
        ("EINVAL", 0, 2 * MIB, "mem", "devdax"),
        ("EINVAL", GIB, MIB, "mem", "devdax"),
        ("EINVAL", GIB, 2 * MIB, "ram", "devdax"),
        ("EINVAL", GIB, 2 * MIB, "mem", "sector"),
        ("ENOSPC", 32 * GIB, 2 * MIB, "mem", "devdax"),
        ("ENXIO", GIB, GIB, "mem", "devdax"),  # the info block pushes the data behind the end
        ("ENXIO", GIB, GIB, "dev", "devdax"),
        ("ENXIO", GIB, GIB, "dev", "fsdax"),
    ],
)
def test_refusals_change_nothing(code, size, align, map, mode):
    of = region()
    of.create_namespace(GIB)
    before = state(of)
    refused(code, of.create_namespace, size, align, map, mode)
    assert state(of) == before


def test_a_region_off_2_mib_cannot_hold_an_info_block():
    of = region(8 * MIB, 4 * GIB + 64 * KIB)
    refused("EINVAL", of.create_namespace, 4 * MIB, 4 * KIB)
    assert of.namespaces == []


def test_without_a_size_the_largest_hole_is_taken():
    of = region()
    of.create_namespace(GIB)
    of.create_namespace(2 * GIB)
    of.disable_namespace("namespace0.0")
    of.destroy_namespace("namespace0.0")
    assert of.create_namespace(align=GIB).size == 13 * GIB
    assert of.create_namespace().size == GIB
    refused("ENOSPC", of.create_namespace)


def test_disabled_and_enabled_it_is_as_before():
    of = region()
    made = of.create_namespace(GIB, 2 * MIB, "dev")
    block = made.nd_pfn
    refused("EBUSY", of.destroy_namespace, made.name)
    refused("EBUSY", of.reconfigure_namespace, made.name)
    of.disable_namespace(made.name)
    assert not made.enabled
    assert of.enable_namespace(made.name).nd_pfn is block
    refused("ENODEV", of.disable_namespace, "namespace0.7")


def test_reconfigured_in_place():
    """4 GiB at 4 GiB: 2M mem -> 2M dev -> 1G mem; the namespace stays, its data move."""
    of = region()
    made = of.create_namespace(4 * GIB, 2 * MIB, "mem")
    sizes = [made.nd_pfn.dev_size]
    for align, map in ((2 * MIB, "dev"), (GIB, "mem"), (GIB, "dev")):
        of.disable_namespace(made.name)
        sizes.append(of.reconfigure_namespace(made.name, align, map).nd_pfn.dev_size)
        assert (made.start, made.size, made.enabled) == (4 * GIB, 4 * GIB, True)
    # 4 GiB of struct pages at 64 bytes are 64 MiB; with the info block rounded up to 2 MiB: 66 MiB
    assert sizes == [4 * GIB - 2 * MIB, 4 * GIB - 66 * MIB, 3 * GIB, 3 * GIB]


def test_a_refused_reconfiguration_leaves_the_info_block():
    of = region()
    made = of.create_namespace(GIB)
    of.disable_namespace(made.name)
    before = state(of)
    refused("ENXIO", of.reconfigure_namespace, made.name, GIB, "mem")
    assert state(of) == before


class Namespaces(RuleBasedStateMachine):
    """Create, destroy, reconfigure: against a set of taken 16 MiB units."""

    def __init__(self):
        super().__init__()
        self.region = region(512 * MIB - 2 * MIB, 4 * GIB)
        self.taken = {}

    def units(self):
        """Free runs of whole 16 MiB units, as (first, count)."""
        used = {unit for first, count in self.taken.values() for unit in range(first, first + count)}
        runs, run = [], []
        for unit in range(31):  # the last one lacks 2 MiB
            if unit in used:
                runs, run = [*runs, run], []
            else:
                run.append(unit)
        return [(r[0], len(r)) for r in [*runs, run] if r]

    @rule(count=st.integers(1, 12), map=st.sampled_from(("mem", "dev")))
    def create(self, count, map):
        fit = [first for first, length in self.units() if length >= count]
        if not fit:
            refused("ENOSPC", self.region.create_namespace, count * 16 * MIB, 2 * MIB, map)
            return
        made = self.region.create_namespace(count * 16 * MIB, 2 * MIB, map)
        assert made.start == 4 * GIB + fit[0] * 16 * MIB
        assert made.name not in self.taken
        self.taken[made.name] = (fit[0], count)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def destroy(self, data):
        name = data.draw(st.sampled_from(sorted(self.taken)))
        self.region.disable_namespace(name)
        self.region.destroy_namespace(name)
        del self.taken[name]

    @invariant()
    def free_space_is_that_of_the_units(self):
        runs = [length for _, length in self.units()]
        assert self.region.available_size == sum(runs) * 16 * MIB
        assert self.region.max_available_extent == max(runs, default=0) * 16 * MIB


TestNamespaces = Namespaces.TestCase
TestNamespaces.settings = settings(max_examples=15, stateful_step_count=20)
