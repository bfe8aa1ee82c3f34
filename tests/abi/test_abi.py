# SPDX-License-Identifier: GPL-2.0-only
"""A struct page read and written by name: the specification's examples, and random bytes there and back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.abi.compiled import ABIS, HEAD, PFN, PGMAP
from workbench.abi import DISTRIBUTION, RELEASES, SMALL_6_1, Abi, Config, Role
from workbench.errors import WorkbenchError

UP_TO_6_1 = ("5.10", "5.15", "5.16", "5.17", "6.1")
UP_TO_5_17 = ("5.10", "5.15", "5.16", "5.17")
TAIL_MAPPING = 0xDEAD000000000400


def page(*words):
    """Eight words: those given, then refcount 0 and no mapcount where they are not."""
    return [*words, *(0, 0, 0, 0, 0, 0xFFFFFFFF, 0)[len(words) - 1 :]]


# -- the specification's pages, pfn 0x100000 and on --------------------------------------------------------

OLD, NEW = 0x0027FFFFC0001000, 0x0027FFFFC0002000
REFERENCED_ONCE = (0, 0, 0, 0x1FFFFFFFF, 0)


def examples():
    """(release, role, pfn, words, members by name) of each row of the specification's section on page states."""
    for release in RELEASES:
        base, head = (NEW, NEW | 1 << 6) if release == "6.12" else (OLD, OLD | 1 << 16)
        ones = 0x1FFFFFFFF
        yield release, Role.ZONE_DEVICE, PFN, [base, PGMAP, 0, 0, 0, 0, ones, 0], {"pgmap": PGMAP, "_refcount": 1}
        yield release, Role.HEAD, PFN, [head, PGMAP, 0, 0, 0, 0, ones, 0], {"pgmap": PGMAP, "_mapcount": -1}
        further = page(base, HEAD + 1, 0, TAIL_MAPPING)
        yield release, Role.SECOND_TAIL, PFN + 2, further, {"compound_head": HEAD + 1, "_refcount": 0}
        yield release, Role.TAIL, PFN + 3, further, {"mapping": TAIL_MAPPING, "_mapcount": -1}
        yield release, Role.TAIL, PFN + 511, further, {"compound_head": HEAD + 1}
        yield release, Role.UNINITIALISED, PFN, [0] * 8, {"flags": 0, "_refcount": 0}
        ram = base & ~(7 << 51 | 0xFFFF) | 2 << 51
        list_head = 0xFFFFEA0004000008
        yield release, Role.BASE, PFN, [ram, list_head, list_head, 0, 0, 0, ones, 0], {"lru.next": list_head}
        # The pages that hold an altmap's struct pages: device zone, reserved, on no list, in no pgmap.
        yield release, Role.BASE, PFN, [base, list_head, list_head, 0, 0, 0, ones, 0], {"lru.prev": list_head}
        free = 0xF0000000 if release == "6.12" else 0xFFFFFF7F
        buddy = [ram, 0xFFFF88813FFFA8C0, 0xFFFFEA0004008008, 0, 0, 10, free, 0]
        yield release, Role.BUDDY, PFN, buddy, {"private.order": 10, "page_type": free, "_refcount": 0}
    for release in UP_TO_5_17:
        for order, nr in ((9, 0x200), (18, 0x40000)):
            yield (
                release,
                Role.FIRST_TAIL,
                PFN + 1,
                page(OLD, HEAD + 1, 0xFFFFFFFF00000001 | order << 8, 0xDEAD000000000000 | nr),
                {"compound_dtor": 1, "compound_order": order, "compound_mapcount": -1, "compound_nr": nr},
            )
        pinned = page(OLD, HEAD + 1, 512, TAIL_MAPPING)
        yield release, Role.SECOND_TAIL, PFN + 2, pinned, {"hpage_pinned_refcount": 512}
    for order, nr in ((9, 0x200), (18, 0x40000)):
        yield (
            "6.1",
            Role.FIRST_TAIL,
            PFN + 1,
            page(OLD, HEAD + 1, 0xFFFFFFFF00000001 | order << 8, nr << 32),
            {"compound_order": order, "compound_mapcount": -1, "compound_pincount": 0, "compound_nr": nr},
        )
        yield (
            "6.12",
            Role.FIRST_TAIL,
            PFN + 1,
            page(NEW | order, HEAD + 1, 0xFFFFFFFFFFFFFFFF, 0, nr),
            {"_folio_nr_pages": nr, "_entire_mapcount": -1, "_large_mapcount": -1, "_pincount": 0},
        )


@pytest.mark.parametrize("release, role, pfn, words, members", list(examples()))
def test_pages_of_the_specification(release, role, pfn, words, members):
    abi = ABIS[release]
    assert abi.role(words, pfn) is role
    decoded = abi.decode(words, pfn)
    assert {name: decoded[name] for name in members} == members
    assert abi.encode(role, decoded) == words


def test_role_of_the_small_builds_words():
    """The recorded device page of a build without LAST_CPUPID."""
    abi = Abi("6.1", SMALL_6_1)
    assert abi.role([0x0020000000001000, PGMAP, 0, 0, 0, 0, 0x1FFFFFFFF, 0], PFN) is Role.ZONE_DEVICE
    assert abi.role([0x0020000000011000, PGMAP, 0, 0, 0, 0, 0x1FFFFFFFF, 0], PFN) is Role.HEAD


def test_a_first_tail_of_6_12_is_no_head_though_its_order_sets_that_bit():
    """Order 64 and more would set bit 6, PG_head: tail-ness comes first."""
    words = page(NEW | 0x40, HEAD + 1, 0xFFFFFFFFFFFFFFFF, 0, 0)
    assert ABIS["6.12"].role(words, PFN + 1) is Role.FIRST_TAIL


def test_an_ordinary_huge_pages_head_has_list_pointers():
    ram = OLD & ~(7 << 51) | 2 << 51 | 1 << 16
    decoded = ABIS["5.17"].decode([ram, 1 << 40, 1 << 41, 0, 0, 0, 0x1FFFFFFFF, 0], PFN)
    assert decoded["lru.next"] == 1 << 40
    assert "pgmap" not in decoded


def test_memcg_off_makes_the_last_word_padding():
    words = [OLD, PGMAP, 0, 0, 0, 0, 0x1FFFFFFFF, 77]
    assert Abi("5.17", DISTRIBUTION).decode(words, PFN)["memcg_data"] == 77
    assert ABIS["5.10"].decode(words, PFN)["mem_cgroup"] == 77
    without = Abi("5.17", Config(memcg=False))
    decoded = without.decode(words, PFN)
    assert "memcg_data" not in decoded
    assert without.encode(Role.ZONE_DEVICE, decoded) == words
    for role in Role:
        assert sum(f.size for f in without.fields(role)) == 64


def test_addresses_of_struct_pages():
    four, five = Abi("5.17"), Abi("5.17", Config(pgtable_levels=5))
    assert four.struct_page(PFN) == HEAD
    assert five.struct_page(PFN) == 0xFFD4000004000000
    assert (four.pfn_of(HEAD), five.pfn_of(0xFFD4000004000000)) == (PFN, PFN)
    tail = page(OLD, five.struct_page(PFN) + 1, 0, TAIL_MAPPING)
    assert five.role(tail, PFN + 2) is Role.SECOND_TAIL


# -- random bytes there and back ---------------------------------------------------------------------------

WORD = st.integers(0, 2**64 - 1)
EIGHT = st.lists(WORD, min_size=8, max_size=8)
CONFIGURED = [
    *(pytest.param(abi, id=release) for release, abi in ABIS.items()),
    pytest.param(Abi("6.1", SMALL_6_1), id="6.1-small"),
    pytest.param(Abi("5.17", Config(memcg=False)), id="5.17-no-memcg"),
    pytest.param(Abi("5.17", Config(numa=False, numa_balancing=False)), id="5.17-no-numa"),
    pytest.param(Abi("6.12", Config(pgtable_levels=5, page_idle_flag=True)), id="6.12-5-levels"),
]


def made_to_be(abi, role, words, pfn, further):
    """Random words with the bits of ``role`` put in."""
    words = list(words)
    zone = abi.bits("ZONE")
    if role is Role.UNINITIALISED:
        return [0] * 8
    if role.is_tail:
        number = {Role.FIRST_TAIL: 1, Role.SECOND_TAIL: 2}.get(role, further)
        words[1] = abi.struct_page(pfn - number) + 1
        return words
    words[1] &= ~1
    if role is Role.HEAD:
        words[0] |= abi.flag("head")
        return words
    words[0] = words[0] & ~abi.flag("head") | 1
    words[6] |= 0xFFFFFFFF
    if role is Role.BUDDY:
        words[6] = words[6] & ~0xFFFFFFFF | (0xF0000000 if abi.release == "6.12" else 0xFFFFFF7F)
    elif role is Role.ZONE_DEVICE:
        words[0] = words[0] & ~zone.mask | abi.zone_device << zone.shift
    else:
        words[0] = words[0] & ~zone.mask | abi.zone("NORMAL") << zone.shift
    return words


@pytest.mark.parametrize("abi", CONFIGURED)
@given(role=st.sampled_from(Role), words=EIGHT, pfn=st.integers(1 << 20, 1 << 34), further=st.integers(3, 1 << 18))
@settings(max_examples=60)
def test_decoding_loses_nothing(abi, role, words, pfn, further):
    words = made_to_be(abi, role, words, pfn, further)
    assert abi.role(words, pfn) is role
    assert abi.encode(role, abi.decode(words, pfn)) == words


@pytest.mark.parametrize("abi", CONFIGURED)
@given(words=EIGHT, pfn=st.integers(0, 1 << 34))
def test_decoding_loses_nothing_whatever_the_bytes_are(abi, words, pfn):
    assert abi.encode(abi.role(words, pfn), abi.decode(words, pfn)) == words


@pytest.mark.parametrize("abi", CONFIGURED)
@given(role=st.sampled_from(Role), words=EIGHT, data=st.data())
def test_a_member_stored_is_read_back_and_nothing_else_changes(abi, role, words, data):
    fields = abi.fields(role, words[0])
    field = data.draw(st.sampled_from(fields))
    low, high = (-(1 << 8 * field.size - 1), (1 << 8 * field.size - 1) - 1) if field.signed else (0, field.mask)
    value = data.draw(st.integers(low, high >> (0 if field.signed else field.shift)))
    before = {f.name: f.get(words) for f in fields}
    field.put(words, value)
    assert {f.name: f.get(words) for f in fields} == before | {field.name: value}


def test_names_that_are_no_members_and_releases_that_are_unknown():
    with pytest.raises(WorkbenchError, match=r"'compound_nr' is no member of a head page of 5\.17"):
        ABIS["5.17"].encode(Role.HEAD, {"flags": OLD | 1 << 51, "compound_nr": 1})
    with pytest.raises(WorkbenchError, match=r"no struct page layout for release '5\.11'"):
        Abi("5.11")


# -- for people --------------------------------------------------------------------------------------------


def test_a_page_as_text():
    text = ABIS["5.17"].explain([OLD | 1 << 16, PGMAP, 0, 0, 0, 0, 0x1FFFFFFFF, 0], PFN)
    assert text.splitlines()[0] == "pfn 0x100000: head"
    assert "0027ffffc0011000  (reserved head, node 0, zone DEVICE)" in text
    assert "ffff888100a01000" in text
    assert text.splitlines()[-2].split()[-1] == "1"


def test_the_order_in_a_first_tails_flags_word_is_not_shown_as_flags():
    """6.12, order 9: the low byte 0x09 is no PG_locked and no PG_uptodate."""
    text = ABIS["6.12"].explain(page(NEW | 9, HEAD + 1, 0xFFFFFFFFFFFFFFFF, 0, 0x200), PFN + 1)
    assert "0027ffffc0002009  (reserved, order 9, node 0, zone DEVICE)" in text
