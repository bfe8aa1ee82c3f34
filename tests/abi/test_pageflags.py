# SPDX-License-Identifier: GPL-2.0-only
"""Page flag numbers, second names and bit fields of the flags word."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.abi.compiled import ABIS, COMPILED, read
from workbench.abi import DISTRIBUTION, DISTRIBUTION_6_12, RELEASES, SMALL_6_1, Abi, Config
from workbench.abi.pageflags import ALIASES
from workbench.errors import WorkbenchError

NO_NUMA = {"numa": False, "numa_balancing": False}


def compiled_flags(release):
    flags = dict(read(release, "pageflags")["flags"])
    count = flags.pop("__NR_PAGEFLAGS")
    return count, {name.removeprefix("PG_"): bit for name, bit in flags.items()}


@pytest.mark.parametrize("release", COMPILED)
def test_numbers_and_second_names_as_compiled(release):
    abi = ABIS[release]
    count, flags = compiled_flags(release)
    assert len(abi.page_flags) == count
    assert sorted(abi.page_flags.values()) == list(range(count))
    assert {name: abi.bit(name) for name in [*abi.page_flags, *ALIASES[release]]} == flags


def test_5_16_numbers_are_those_of_5_15_and_5_17():
    assert ABIS["5.15"].page_flags == ABIS["5.16"].page_flags == ABIS["5.17"].page_flags
    for name in ALIASES["5.16"]:
        assert ABIS["5.15"].bit(name) == ABIS["5.16"].bit(name) == ABIS["5.17"].bit(name)


@pytest.mark.parametrize(
    "release, change, expected",
    [
        ("5.15", {"page_idle_flag": True}, {"hwpoison": 23, "young": 24, "idle": 25, "arch_2": 26}),
        ("5.15", {"memory_failure": False}, {"uncached": 22, "arch_2": 23}),
        ("5.15", {"pg_uncached": False}, {"mlocked": 21, "hwpoison": 22, "arch_2": 23}),
        ("5.15", {"arch_2": False}, {"hwpoison": 23}),
        ("6.12", {"page_idle_flag": False}, {"hwpoison": 20, "arch_2": 21}),
    ],
)
def test_options_move_the_flags_above_them(release, change, expected):
    config = replace(ABIS[release].config, **change)
    if release == "5.15" and change.get("page_idle_flag"):
        config = replace(config, nr_cpus=512)  # room for two flags more
    flags = Abi(release, config).page_flags
    assert {name: flags[name] for name in expected} == expected
    assert max(flags.values()) == max(expected.values())


@pytest.mark.parametrize("release", RELEASES)
def test_fields_above_the_flags(release):
    """NODE 10 bits at 54, ZONE 3 at 51, LAST_CPUPID 21 at 30; since 6.1 LRU_GEN 3 at 27 and LRU_REFS 2 at 25."""
    gen, refs = (3, 2) if release in ("6.1", "6.12") else (0, 0)
    fields = {f.name: (f.shift, f.width) for f in ABIS[release].flags_fields}
    assert fields["NODE"] == (54, 10)
    assert fields["ZONE"] == (51, 3)
    assert fields["LAST_CPUPID"] == (30, 21)
    assert (fields["LRU_GEN"][1], fields["LRU_REFS"][1]) == (gen, refs)
    if gen:
        assert (fields["LRU_GEN"], fields["LRU_REFS"]) == ((27, 3), (25, 2))


def test_zone_numbers():
    assert ABIS["5.17"].zone_device == 4
    assert [ABIS["5.17"].zone(name) for name in ("DMA", "DMA32", "NORMAL", "MOVABLE")] == [0, 1, 2, 3]
    assert Abi("5.17", Config(zone_dma=False)).zone_device == 3
    with pytest.raises(WorkbenchError, match="no zone 'DEVICE'.*DMA, DMA32, NORMAL, MOVABLE"):
        _ = Abi("5.17", Config(zone_device=False)).zone_device


def word(release, names, config=None, **fields):
    abi = Abi(release, config) if config else ABIS[release]
    last_cpupid = (1 << abi.bits("LAST_CPUPID").width) - 1
    return abi.flags_word(names, zone=abi.zone_device, last_cpupid=last_cpupid, **fields)


@pytest.mark.parametrize("release", ["5.10", "5.15", "5.16", "5.17", "6.1"])
def test_constant_words_up_to_6_1(release):
    assert word(release, ["reserved"]) == 0x0027_FFFF_C000_1000
    assert word(release, ["reserved", "head"]) == 0x0027_FFFF_C001_1000
    assert word(release, ["reserved", "head", "referenced"]) == 0x0027_FFFF_C001_1002
    assert word(release, ["reserved", "head", "hwpoison"]) == 0x0027_FFFF_C081_1000
    assert word(release, ["reserved"], node=3) == 0x0027_FFFF_C000_1000 + (3 << 54)


def test_constant_words_of_6_12():
    assert word("6.12", ["reserved"]) == 0x0027_FFFF_C000_2000
    assert word("6.12", ["reserved", "head"]) == 0x0027_FFFF_C000_2040


def test_constant_words_of_other_configurations():
    # The small builds: no LAST_CPUPID; the recorded words of their device pages.
    assert word("6.1", ["reserved"], SMALL_6_1) == 0x0020_0000_0000_1000
    assert word("6.1", ["reserved", "head"], SMALL_6_1) == 0x0020_0000_0001_1000
    # NUMA off: ZONE moves to the top.
    assert word("5.17", ["reserved"], Config(**NO_NUMA)) == 4 << 61 | 1 << 12
    # Two bits of zone are enough for four zones, and the node field stays where it is.
    four_zones = Config(zone_dma=False, nr_cpus=8, numa_balancing=False)
    assert word("5.17", ["reserved"], four_zones) == 3 << 52 | 1 << 12


def test_fields_that_do_not_exist_have_no_bits():
    abi = Abi("5.17", Config(**NO_NUMA))
    assert (abi.bits("NODE").width, abi.bits("NODE").mask) == (0, 0)
    assert (abi.bits("LAST_CPUPID").width, abi.bits("LAST_CPUPID").mask) == (0, 0)
    assert abi.bits("ZONE").shift == 61


def test_more_bits_than_the_flags_word_has_are_refused():
    with pytest.raises(WorkbenchError, match=r"39 bits of .* and 27 page flags do not fit in 64 bits"):
        Abi("6.1", Config(page_idle_flag=True))
    with pytest.raises(WorkbenchError, match="do not fit in 64 bits"):
        Abi("5.17", Config(nr_cpus=1 << 14, nodes_shift=16))


@pytest.mark.parametrize("release", RELEASES)
@given(data=st.data())
def test_names_to_flags_and_back(release, data):
    abi = ABIS[release]
    names = data.draw(st.sets(st.sampled_from(sorted(abi.page_flags))))
    assert set(abi.flag_names(abi.flags_word(names))) == names
    bits = data.draw(st.integers(0, (1 << len(abi.page_flags)) - 1))
    assert abi.flags_word(abi.flag_names(bits)) == bits
    names_in_order = abi.flag_names(bits)
    assert list(names_in_order) == sorted(names_in_order, key=abi.bit)


@pytest.mark.parametrize("abi", [*ABIS.values(), Abi("6.1", SMALL_6_1), Abi("5.17", Config(**NO_NUMA))], ids=str)
@given(flags=st.integers(0, 2**64 - 1))
def test_a_flags_word_taken_apart_and_put_together(abi, flags):
    parts = abi.decode_flags(flags)
    names, unnamed = parts.pop("flags"), parts.pop("unnamed")
    assert abi.flags_word(names, **parts) | unnamed == flags
    assert abi.flags_word(names, **parts) & unnamed == 0


def test_unknown_names_and_values_that_do_not_fit():
    abi = ABIS["5.17"]
    with pytest.raises(WorkbenchError, match=r"no page flag 'young'"):
        abi.bit("young")
    with pytest.raises(WorkbenchError, match=r"no page flag 'error'"):
        ABIS["6.12"].bit("error")
    with pytest.raises(WorkbenchError, match=r"node=1024 does not fit 10 bits"):
        abi.flags_word(node=1024)
    with pytest.raises(WorkbenchError, match=r"zone=-1 does not fit 3 bits"):
        abi.flags_word(zone=-1)
    with pytest.raises(WorkbenchError, match=r"last_cpupid=1 does not fit 0 bits"):
        Abi("6.1", SMALL_6_1).flags_word(last_cpupid=1)
    with pytest.raises(WorkbenchError, match="no field 'SECTION'"):
        abi.flags_word(section=1)


def test_the_presets_differ_from_the_default_only_in_what_they_say():
    assert Config() == DISTRIBUTION
    assert replace(DISTRIBUTION, page_idle_flag=True) == DISTRIBUTION_6_12
    options = read("6.1custom", "config")["options"]
    assert SMALL_6_1.nr_cpus == int(options["CONFIG_NR_CPUS"])
    assert SMALL_6_1.nodes_shift == int(options["CONFIG_NODES_SHIFT"])


@pytest.mark.parametrize("release", COMPILED)
def test_options_are_those_of_the_compiled_kernel(release):
    config, options = ABIS[release].config, read(release, "config")["options"]
    assert config.nr_cpus == int(options["CONFIG_NR_CPUS"])
    assert config.nodes_shift == int(options["CONFIG_NODES_SHIFT"])
    switches = {
        "numa_balancing": "CONFIG_NUMA_BALANCING",
        "memcg": "CONFIG_MEMCG",
        "zone_dma": "CONFIG_ZONE_DMA",
        "zone_dma32": "CONFIG_ZONE_DMA32",
        "zone_device": "CONFIG_ZONE_DEVICE",
        "memory_failure": "CONFIG_MEMORY_FAILURE",
    }
    for name, option in switches.items():
        assert getattr(config, name) == (options[option] == "y"), name
