# SPDX-License-Identifier: GPL-2.0-only
"""A slow and obvious model of the struct page initialisation, in plain Python integers.

Every fast kernel of the engine is tested against this module, so it shares nothing with the engine: no
import, no table, no numpy.  It was written from the written specification and from recorded struct pages
only.

* Memory is a ``dict`` from pfn to a list of the eight 64-bit words of that struct page.  A pfn that is
  absent has no vmemmap: a store to it raises `VmemmapFault`, as the real store faults.
* Two pfns whose vmemmap pages are the same physical page (deduplication) map to the *same list object*:
  a store through one is seen through the other without further rules.  `share_tails` makes such aliases.
* Each store of the C code is one call of `_store`; partial stores (a byte, half a word) keep the rest of the
  word.  Functions take ``writes``, a list that receives ``(pfn, word, old, new)`` for each of those stores in
  program order, with the whole word before and after, also where the value does not change.
* ``pageblocks``, a list, receives each pfn for which the migratetype of its pageblock is set.

Words: 0 flags; 1 pgmap, lru.next or compound_head; 2 zone_device_data, lru.prev or order data; 3 mapping;
4 index; 5 private; 6 _mapcount (low half) and _refcount (high half); 7 memcg_data.

The eight zeroing stores go from the last word to the first, as in mm_zero_struct_page() of 4.19 and later.

>>> mem = populate({}, 0x100000, 512)
>>> memmap_init_zone_device(mem, LAYOUTS["5.17"], 0x100000, 512, 0, 0xffff888100a01000, 9)
512
>>> [hex(word) for word in mem[0x100001][:4]]
['0x27ffffc0001000', '0xffffea0004000001', '0xffffffff00000901', '0xdead000000000200']
"""

from dataclasses import dataclass

PAGE_SIZE = 4096
STRUCT_PAGE_SIZE = 64
STRUCT_PAGES_PER_VMEMMAP_PAGE = PAGE_SIZE // STRUCT_PAGE_SIZE
PAGEBLOCK_NR_PAGES = 512
UNIQUE_VMEMMAP_PAGES = 2
TAIL_MAPPING = 0xDEAD000000000400
COMPOUND_PAGE_DTOR = 1
MINUS_ONE_32 = 0xFFFFFFFF

RELEASES = ("5.10", "5.15", "5.16", "5.17", "6.1", "6.12")


class VmemmapFault(Exception):
    """A load or store of a struct page whose vmemmap is not populated.

    Attributes
    ----------
    pfn, word : int
        The struct page and the word of the first access.
    """

    def __init__(self, pfn, word):
        super().__init__(f"no vmemmap for the struct page of pfn {pfn:#x} (word {word})")
        self.pfn = pfn
        self.word = word


_FLAGS_UP_TO_6_1 = (
    "locked referenced uptodate dirty lru active workingset waiters error slab owner_priv_1 arch_1 reserved "
    "private private_2 writeback head mappedtodisk reclaim swapbacked unevictable mlocked uncached hwpoison "
    "arch_2"
)
_FLAGS_6_12 = (
    "locked writeback referenced uptodate dirty lru head waiters active workingset owner_priv_1 owner_2 "
    "arch_1 reserved private private_2 reclaim swapbacked unevictable mlocked hwpoison young idle arch_2"
)


@dataclass(frozen=True)
class Layout:
    """Where one release and configuration keeps things in struct page.

    ``last_cpupid_shift`` is None where the field does not exist (no NUMA balancing).
    """

    name: str
    release: str
    flags: dict
    node_shift: int = 54
    node_bits: int = 10
    zone_shift: int = 51
    zone_bits: int = 3
    last_cpupid_shift: int | None = 30
    last_cpupid_bits: int = 21
    zone_device: int = 4
    vmemmap_base: int = 0xFFFFEA0000000000

    def address(self, pfn):
        """Virtual address of the struct page of `pfn`."""
        return self.vmemmap_base + STRUCT_PAGE_SIZE * pfn

    def bit(self, flag):
        """Mask of one page flag."""
        return 1 << self.flags[flag]

    def since(self, release):
        """Whether this layout's release is `release` or a later one."""
        return RELEASES.index(self.release) >= RELEASES.index(release)


def _numbered(names):
    return {name: number for number, name in enumerate(names.split())}


LAYOUTS = {
    "5.10": Layout("5.10", "5.10", _numbered(_FLAGS_UP_TO_6_1)),
    "5.15": Layout("5.15", "5.15", _numbered(_FLAGS_UP_TO_6_1)),
    "5.16": Layout("5.16", "5.16", _numbered(_FLAGS_UP_TO_6_1)),
    "5.17": Layout("5.17", "5.17", _numbered(_FLAGS_UP_TO_6_1)),
    "6.1": Layout("6.1", "6.1", _numbered(_FLAGS_UP_TO_6_1)),
    "6.12": Layout("6.12", "6.12", _numbered(_FLAGS_6_12)),
    # The small build: fewer zones, no NUMA balancing.
    "6.1-nodedup": Layout(
        "6.1-nodedup",
        "6.1",
        _numbered(_FLAGS_UP_TO_6_1),
        zone_shift=52,
        zone_bits=2,
        last_cpupid_shift=None,
        last_cpupid_bits=0,
        zone_device=2,
    ),
}


# -- memory ------------------------------------------------------------------------------------------------


def populate(mem, start_pfn, nr_pages, word=0):
    """Give `nr_pages` struct pages from `start_pfn` on a vmemmap full of `word`; return `mem`."""
    for pfn in range(start_pfn, start_pfn + nr_pages):
        mem[pfn] = [word] * 8
    return mem


def share_tails(mem, L, head_pfn, order, end_pfn=None):
    """Map the compound's vmemmap pages from the third on to its second one.

    What deduplication does when it populates: the first vmemmap page holds the head and 63 tails, the second
    one 64 tails, and all others are the second one again.  The first 128 struct pages must be populated.

    Parameters
    ----------
    end_pfn : int, optional
        End of the device range (exclusive) where that is before the end of the compound: nothing is mapped
        behind it.
    """
    assert head_pfn % STRUCT_PAGES_PER_VMEMMAP_PAGE == 0
    end = head_pfn + (1 << order)
    if end_pfn is not None and end_pfn < end:
        end = end_pfn
    second = head_pfn + STRUCT_PAGES_PER_VMEMMAP_PAGE
    third = second + STRUCT_PAGES_PER_VMEMMAP_PAGE
    for pfn in range(third, end):
        twin = second + (pfn - head_pfn) % STRUCT_PAGES_PER_VMEMMAP_PAGE
        if twin not in mem:
            raise VmemmapFault(twin, 0)
        mem[pfn] = mem[twin]


def _load(mem, pfn, word):
    if pfn not in mem:
        raise VmemmapFault(pfn, word)
    return mem[pfn][word]


def _store(mem, pfn, word, value, writes, low_bit=0, bits=64):
    """Store `bits` bits of `value` at bit `low_bit` of a word; the rest of the word stays."""
    if pfn not in mem:
        raise VmemmapFault(pfn, word)
    page = mem[pfn]
    old = page[word]
    mask = ((1 << bits) - 1) << low_bit
    new = (old & ~mask) | ((value << low_bit) & mask)
    page[word] = new
    if writes is not None:
        writes.append((pfn, word, old, new))


# -- one page (A1, A2) -------------------------------------------------------------------------------------


def init_single_page(mem, L, pfn, zone, nid, writes=None):
    """__init_single_page: a page of its own, one reference, not mapped, list head empty."""
    for word in reversed(range(8)):
        _store(mem, pfn, word, 0, writes)
    _store(mem, pfn, 0, nid << L.node_shift | zone << L.zone_shift, writes)
    _store(mem, pfn, 6, 1, writes, low_bit=32, bits=32)
    _store(mem, pfn, 6, MINUS_ONE_32, writes, low_bit=0, bits=32)
    if L.last_cpupid_shift is not None:
        all_ones = (1 << L.last_cpupid_bits) - 1
        _store(mem, pfn, 0, all_ones, writes, low_bit=L.last_cpupid_shift, bits=L.last_cpupid_bits)
    list_head = L.address(pfn) + 8
    _store(mem, pfn, 1, list_head, writes)
    _store(mem, pfn, 2, list_head, writes)


def init_zone_device_page(mem, L, pfn, zone, nid, pgmap, writes=None, pageblocks=None):
    """__init_zone_device_page: a reserved page that points at its pagemap."""
    init_single_page(mem, L, pfn, zone, nid, writes)
    _store(mem, pfn, 0, _load(mem, pfn, 0) | L.bit("reserved"), writes)
    _store(mem, pfn, 1, pgmap, writes)
    _store(mem, pfn, 2, 0, writes)
    if pfn % PAGEBLOCK_NR_PAGES == 0 and pageblocks is not None:
        pageblocks.append(pfn)


# -- compound pages (patch 2) ------------------------------------------------------------------------------


def prep_compound_tail(mem, L, head_pfn, i, writes=None):
    """Make page `i` of the compound a tail of `head_pfn`; since 6.1 its private word is cleared too."""
    pfn = head_pfn + i
    _store(mem, pfn, 3, TAIL_MAPPING, writes)
    _store(mem, pfn, 1, L.address(head_pfn) + 1, writes)
    if L.since("6.1"):
        _store(mem, pfn, 5, 0, writes)


def prep_compound_head(mem, L, head_pfn, order, writes=None):
    """Write what describes the whole compound; it all lives in the first tails, none of it in the head.

    PG_head is not set here.
    """
    tail1 = head_pfn + 1
    tail2 = head_pfn + 2
    nr_pages = 1 << order
    if L.since("6.12"):
        _store(mem, tail1, 0, order, writes, low_bit=0, bits=8)  # order
        _store(mem, tail1, 4, nr_pages, writes, low_bit=0, bits=32)  # number of pages
        _store(mem, tail1, 2, MINUS_ONE_32, writes, low_bit=0, bits=32)  # large mapcount
        _store(mem, tail1, 2, MINUS_ONE_32, writes, low_bit=32, bits=32)  # entire mapcount
        _store(mem, tail1, 3, 0, writes, low_bit=0, bits=32)  # number of pages mapped
        _store(mem, tail1, 3, 0, writes, low_bit=32, bits=32)  # pincount
        if order > 1:
            deferred_list = L.address(tail2) + 16
            _store(mem, tail2, 2, deferred_list, writes)
            _store(mem, tail2, 3, deferred_list, writes)
        return
    _store(mem, tail1, 2, COMPOUND_PAGE_DTOR, writes, low_bit=0, bits=8)
    _store(mem, tail1, 2, order, writes, low_bit=8, bits=8)
    if L.since("6.1"):
        _store(mem, tail1, 3, nr_pages, writes, low_bit=32, bits=32)
        _store(mem, tail1, 2, MINUS_ONE_32, writes, low_bit=32, bits=32)  # mapcount
        _store(mem, tail1, 3, 0, writes, low_bit=0, bits=32)  # pincount
        return
    _store(mem, tail1, 3, nr_pages, writes, low_bit=0, bits=32)  # over the low half of TAIL_MAPPING
    _store(mem, tail1, 2, MINUS_ONE_32, writes, low_bit=32, bits=32)  # mapcount
    if order > 1:
        _store(mem, tail2, 2, 0, writes, low_bit=0, bits=32)  # pincount


def _set_page_head(mem, L, pfn, writes):
    _store(mem, pfn, 0, _load(mem, pfn, 0) | L.bit("head"), writes)


def prep_compound_page(mem, L, head_pfn, order, writes=None):
    """prep_compound_page: PG_head, all tails ascending, then the head part.  Reference counts stay."""
    _set_page_head(mem, L, head_pfn, writes)
    for i in range(1, 1 << order):
        prep_compound_tail(mem, L, head_pfn, i, writes)
    prep_compound_head(mem, L, head_pfn, order, writes)


# -- device memory (A3, A4, A5) ----------------------------------------------------------------------------


def memmap_init_compound(mem, L, head_pfn, zone, nid, pgmap, shift, nr_pages, writes=None, pageblocks=None):
    """Initialise tails 1 .. `nr_pages` - 1 of the compound whose head page is initialised already.

    The head part is written right after the last tail it writes to was made: tail 2, or tail 1 since 6.12.
    A compound that is too short to have that tail never gets its head part.
    """
    last_tail_before_head_part = 1 if L.since("6.12") else 2
    _set_page_head(mem, L, head_pfn, writes)
    for i in range(1, nr_pages):
        init_zone_device_page(mem, L, head_pfn + i, zone, nid, pgmap, writes, pageblocks)
        prep_compound_tail(mem, L, head_pfn, i, writes)
        _store(mem, head_pfn + i, 6, 0, writes, low_bit=32, bits=32)
        if i == last_tail_before_head_part:
            prep_compound_head(mem, L, head_pfn, shift, writes)


def compound_nr_pages(shift, altmap, dedup, early):
    """How many struct pages of a compound are initialised.

    All of them; with deduplication (`dedup`) those in the two vmemmap pages that exist, unless the vmemmap
    comes from an altmap, is no larger than two pages, or was there since boot (`early`).
    """
    whole = 1 << shift
    vmemmap_pages = whole * STRUCT_PAGE_SIZE // PAGE_SIZE
    if dedup and altmap is None and vmemmap_pages > UNIQUE_VMEMMAP_PAGES and not early:
        return UNIQUE_VMEMMAP_PAGES * STRUCT_PAGES_PER_VMEMMAP_PAGE
    return whole


def device_pages(start_pfn, nr_pages, altmap):
    """First pfn and end of the pages of a range that get a pagemap: those behind the altmap."""
    end = start_pfn + nr_pages
    if altmap is not None:
        base_pfn, reserve, free = altmap
        start_pfn = base_pfn + reserve + free
    return start_pfn, end


def memmap_init_zone_device(
    mem,
    L,
    start_pfn,
    nr_pages,
    nid,
    pgmap,
    shift,
    altmap=None,
    compound=True,
    dedup=False,
    early_section=lambda pfn: False,
    writes=None,
    pageblocks=None,
):
    """memmap_init_zone_device: initialise a device's pages; return the number of pages that the log reports.

    The number is in 4 KiB pages, without those of the altmap, whatever the compound size and however many
    struct pages were really written.  The last compound is not clipped to the range.

    Parameters
    ----------
    altmap : (base_pfn, reserve, free) or None
    compound : bool
        Patch 4 is applied; without it `shift` is not known.
    dedup : bool
        The vmemmap of compounds is deduplicated.
    early_section : callable
        Tells of a pfn whether its section was present at boot; asked for the head of each compound.
    """
    start, end = device_pages(start_pfn, nr_pages, altmap)
    step = 1 << shift if compound else 1
    pfn = start
    while pfn < end:
        init_zone_device_page(mem, L, pfn, L.zone_device, nid, pgmap, writes, pageblocks)
        if step > 1:
            count = compound_nr_pages(shift, altmap, dedup, early_section(pfn))
            memmap_init_compound(mem, L, pfn, L.zone_device, nid, pgmap, shift, count, writes, pageblocks)
        pfn += step
    return end - start


def memmap_init_range_altmap(mem, L, altmap, nid, writes=None, pageblocks=None):
    """ZONE_DEVICE part of memmap_init_range: the pages that store the device's own vmemmap.

    They are reserved and have no pagemap; the reserve in front of them is not written at all.  Without altmap
    there is nothing to do.
    """
    if altmap is None:
        return
    base_pfn, reserve, free = altmap
    for pfn in range(base_pfn + reserve, base_pfn + reserve + free):
        init_single_page(mem, L, pfn, L.zone_device, nid, writes)
        _store(mem, pfn, 0, _load(mem, pfn, 0) | L.bit("reserved"), writes)
        if pfn % PAGEBLOCK_NR_PAGES == 0 and pageblocks is not None:
            pageblocks.append(pfn)


# -- counts ------------------------------------------------------------------------------------------------


def _multiples(of, start, count):
    """How many multiples of `of` lie in [start, start + count)."""
    return (start + count - 1) // of - (start - 1) // of if count > 0 else 0


def expected_counts(nr_pages, shift, start_pfn=0, altmap=None, compound=True, dedup=False, early=False):
    """What memmap_init_zone_device and the reference taking after it amount to, in closed form.

    Returns
    -------
    dict
        heads : pages with PG_head.
        tails : pages initialised as tails (with deduplication only those in memory of their own).
        percpu_refs : references that the pagemap takes; divides and drops the rest.
        migratetype_writes : pageblocks whose migratetype is set.
        page_inits : struct pages initialised.
    """
    start, end = device_pages(start_pfn, nr_pages, altmap)
    nr_pages = end - start
    step = 1 << shift if compound else 1
    steps = -(-nr_pages // step)
    count = compound_nr_pages(shift, altmap, dedup, early) if step > 1 else 1
    if count == step:
        migratetype_writes = _multiples(PAGEBLOCK_NR_PAGES, start, steps * step)
    else:
        # step is at least 256: every second head lies alike in its pageblock
        migratetype_writes = sum(
            _multiples(PAGEBLOCK_NR_PAGES, start + k * step, count) * len(range(k, steps, 2)) for k in (0, 1)
        )
    return {
        "heads": steps if step > 1 else 0,
        "tails": steps * (count - 1),
        "percpu_refs": nr_pages // step,
        "migratetype_writes": migratetype_writes,
        "page_inits": steps * count,
    }


def pfn_next_yields(start, nr, shift, inverted):
    """Times that the teardown walk over [start, start + nr) offers to reschedule.

    Parameters
    ----------
    inverted : bool
        False: before patch 4, page by page, at multiples of 1024.  True: since patch 4, compound by compound,
        everywhere except at multiples of 1024 compounds' pages.
    """
    yields = 0
    pfn = start
    while pfn < start + nr:
        if inverted:
            yields += pfn % (1024 << shift) != 0
            pfn += 1 << shift
        else:
            yields += pfn % 1024 == 0
            pfn += 1
    return yields
