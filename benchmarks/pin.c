// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pinning and releasing user pages once more, in C: 5.15 to 5.17, device memory mapped by huge entries.
 *
 * Written from the specification, like twins.c: same walk, same order of locked operations and the same
 * early reads as workbench/mm/gup_fast.py and page_ref.py.
 */
#include <stdbool.h>

#include "page.h"

enum { PIN_BIAS = 1024, ENTRIES = 512, PUD = 2, PGD = 3, HEAD_ONCE = 1 << 10 };
enum { FOLL_WRITE = 1 };
#define PRESENT_USER 5ull
#define RW 2ull
#define PSE 0x80ull
#define DEVMAP (1ull << 58)
#define FRAME 0x000ffffffffff000ull

/* What workbench.mm.page_ref.PageRefs says, as far as these releases need it. */
struct refs {
	u64 head, referenced;
	i64 switches;
};

/* workbench.mm.memremap.PgmapArray: ranges in ascending order, the last pfn included. */
struct pgmaps {
	const i64 *first_pfn, *last_pfn, *slot, *range0_first, *range0_last;
	i64 *refs;
	const uint8_t *live;
	i64 ranges;
};

static inline struct page *page_of(const struct memmap *vm, i64 pfn)
{
	return &vm->pages[pfn - vm->start_pfn];
}

static inline u64 head_word(const struct page *page)
{
	return __atomic_load_n(&page->compound_head, __ATOMIC_RELAXED);
}

static inline struct page *head_of(const struct memmap *vm, struct page *page, u64 word)
{
	return word & 1 ? &vm->pages[(word - 1 - vm->address) / sizeof(struct page)] : page;
}

static inline struct page *compound_head(const struct memmap *vm, i64 pfn)
{
	struct page *page = page_of(vm, pfn);

	return head_of(vm, page, head_word(page));
}

/* The word that every tail of a compound page has. */
static inline u64 tail_word(const struct memmap *vm, const struct page *head)
{
	return (vm->address + (head - vm->pages) * sizeof(struct page)) | 1;
}

static inline int order_of(const struct refs *refs, const struct page *head)
{
	return __atomic_load_n(&head->flags, __ATOMIC_RELAXED) & refs->head ? head[1].order : 0;
}

static inline i64 pages_of_compound(const struct memmap *vm, const struct refs *refs, i64 pfn, struct page *head,
				    i64 at_most)
{
	int order = order_of(refs, head);
	i64 left = (head - vm->pages) + ((i64)1 << order) - (pfn - vm->start_pfn);

	return order == 0 ? 1 : left < at_most ? left : at_most;
}

static inline bool grab(struct page *head, i64 nr, int32_t seen, bool apart)
{
	if (seen < 0)
		return false;
	while (seen) {
		if (!__atomic_compare_exchange_n(&head->refcount, &seen, seen + (int32_t)nr, false, __ATOMIC_SEQ_CST,
						 __ATOMIC_RELAXED))
			continue;
		if (apart)
			__atomic_add_fetch(&head[2].pincount, (int32_t)nr, __ATOMIC_SEQ_CST);
		else
			__atomic_add_fetch(&head->refcount, (int32_t)nr * (PIN_BIAS - 1), __ATOMIC_SEQ_CST);
		return true;
	}
	return false;
}

/* Give nr pins back; whether the count reached zero. */
static inline bool put(const struct refs *refs, struct page *head, i64 nr)
{
	if (order_of(refs, head) > 1)
		__atomic_sub_fetch(&head[2].pincount, (int32_t)nr, __ATOMIC_SEQ_CST);
	else
		nr *= PIN_BIAS;
	if (nr > 1)
		__atomic_sub_fetch(&head->refcount, (int32_t)(nr - 1), __ATOMIC_SEQ_CST);
	return __atomic_sub_fetch(&head->refcount, 1, __ATOMIC_SEQ_CST) == 0;
}

static i64 get_dev_pagemap(const struct pgmaps *pgmaps, i64 pfn, i64 cached)
{
	i64 low = 0, high = pgmaps->ranges;

	if (cached >= 0) {
		if (pgmaps->range0_first[cached] <= pfn && pfn <= pgmaps->range0_last[cached])
			return cached;
		pgmaps->refs[cached]--;
	}
	while (low < high) {
		i64 middle = (low + high) / 2;
		if (pgmaps->first_pfn[middle] <= pfn)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low || pfn > pgmaps->last_pfn[low - 1] || !pgmaps->live[pgmaps->slot[low - 1]])
		return -1;
	pgmaps->refs[pgmaps->slot[low - 1]]++;
	return pgmaps->slot[low - 1];
}

static i64 undo(const struct memmap *vm, const struct refs *refs, const i64 *pages, i64 nr, i64 nr_start)
{
	while (nr > nr_start) {
		struct page *head = compound_head(vm, pages[--nr]);
		__atomic_fetch_and(&head->flags, ~refs->referenced, __ATOMIC_SEQ_CST);
		put(refs, head, 1);
	}
	return nr;
}

/* __gup_device_huge(): all of the pages or none; nr moves on. */
static bool gup_device_huge(const struct memmap *vm, const struct refs *refs, const struct pgmaps *pgmaps, i64 pfn,
			    i64 nr_pages, i64 *pages, i64 *nr)
{
	i64 nr_start = *nr, slot = -1, first = 0, last = -1;

	for (i64 done = 0, together; done < nr_pages; done += together) {
		if (pfn + done < first || pfn + done > last) {
			slot = get_dev_pagemap(pgmaps, pfn + done, slot);
			if (slot < 0) {
				*nr = undo(vm, refs, pages, *nr, nr_start);
				return false;
			}
			first = pgmaps->range0_first[slot];
			last = pgmaps->range0_last[slot];
		}
		struct page *head = compound_head(vm, pfn + done);
		int32_t seen = __atomic_load_n(&head->refcount, __ATOMIC_RELAXED);
		bool apart = seen > 0 && order_of(refs, head) > 1;
		together = 1;
		if (refs->switches & HEAD_ONCE)
			together = pages_of_compound(vm, refs, pfn + done, head, nr_pages - done);
		__atomic_fetch_or(&head->flags, refs->referenced, __ATOMIC_SEQ_CST);
		if (!grab(head, together, seen, apart)) {
			*nr = undo(vm, refs, pages, *nr, nr_start);
			pgmaps->refs[slot]--;
			return false;
		}
		for (i64 k = 0; k < together; k++)
			pages[(*nr)++] = pfn + done + k;
	}
	if (slot >= 0)
		pgmaps->refs[slot]--;
	return true;
}

/* gup_pgd_range(), as far as huge entries of device memory go. */
static i64 gup_pgd_range(const struct memmap *vm, const struct refs *refs, const struct pgmaps *pgmaps,
			 const u64 (*tables)[ENTRIES], i64 addr, i64 nr_pages, i64 flags, i64 *pages, i64 nr)
{
	u64 needed = PRESENT_USER | (flags & FOLL_WRITE ? RW : 0);

	for (i64 end = addr + (nr_pages << 12), count; addr < end; addr += count << 12) {
		i64 table = 0, level = PGD, nr_start = nr;
		const u64 *at;

		for (;; level--) {
			at = &tables[table][addr >> (12 + 9 * level) & (ENTRIES - 1)];
			if (!*at || !level || *at & PSE)
				break;
			table = (*at & FRAME) >> 12;
		}
		u64 entry = __atomic_load_n(at, __ATOMIC_RELAXED);
		if (!(entry & PSE) || !(entry & DEVMAP) || level == 0 || level > PUD || (entry & needed) != needed)
			return nr;
		i64 size = (i64)1 << (9 * level), skip = addr >> 12 & (size - 1);
		count = size - skip < (end - addr) >> 12 ? size - skip : (end - addr) >> 12;
		if (!gup_device_huge(vm, refs, pgmaps, ((entry & FRAME) >> 12) + skip, count, pages, &nr))
			return nr;
		if (__atomic_load_n(at, __ATOMIC_RELAXED) != entry)
			return undo(vm, refs, pages, nr, nr_start);
	}
	return nr;
}

/* unpin_user_pages(): neighbours with one head by one release; returns how many counts reached zero. */
i64 twin_unpin_user_pages(const struct memmap *of, const struct refs *of_refs, const i64 *pages, i64 n)
{
	const struct memmap local = *of, *vm = &local;
	const struct refs local_refs = *of_refs, *refs = &local_refs;
	struct page *page = n ? page_of(vm, pages[0]) : 0;
	u64 word = n ? head_word(page) : 0;
	i64 freed = 0;

	for (i64 at = 0, run; at < n; at += run) {
		struct page *head = head_of(vm, page, word);
		u64 of_tails = tail_word(vm, head);
		for (run = 1; at + run < n; run++) {
			page = page_of(vm, pages[at + run]);
			word = head_word(page);
			if (word != of_tails && page != head)
				break;
		}
		freed += put(refs, head, run);
	}
	return freed;
}

/* unpin_user_page_range_dirty_lock() with nothing to make dirty. */
i64 twin_unpin_user_page_range(const struct memmap *of, const struct refs *of_refs, i64 pfn, i64 nr_pages)
{
	const struct memmap local = *of, *vm = &local;
	const struct refs local_refs = *of_refs, *refs = &local_refs;
	i64 freed = 0;

	for (i64 at = 0, run; at < nr_pages; at += run) {
		struct page *head = compound_head(vm, pfn + at);
		run = pages_of_compound(vm, refs, pfn + at, head, nr_pages - at);
		freed += put(refs, head, run);
	}
	return freed;
}

/* pin_user_pages_fast() again and again, per_call pages each, until one call gives fewer; the pages pinned. */
i64 twin_pin_fast_calls(const struct memmap *of, const struct refs *of_refs, const struct pgmaps *of_pgmaps,
			const u64 (*tables)[ENTRIES], const i64 *seq, i64 addr, i64 nr_pages, i64 per_call, i64 flags,
			i64 *pages)
{
	const struct memmap local = *of, *vm = &local;
	const struct refs local_refs = *of_refs, *refs = &local_refs;
	const struct pgmaps local_pgmaps = *of_pgmaps, *pgmaps = &local_pgmaps;
	i64 nr = 0;

	for (i64 asked = 0, now; asked < nr_pages && nr == asked && per_call > 0; asked += now) {
		i64 before = __atomic_load_n(seq, __ATOMIC_ACQUIRE), grabbed;

		now = per_call < nr_pages - asked ? per_call : nr_pages - asked;
		if (before & 1)
			break;
		grabbed = gup_pgd_range(vm, refs, pgmaps, tables, addr + (asked << 12), now, flags, pages, nr);
		if (__atomic_load_n(seq, __ATOMIC_ACQUIRE) != before) {
			twin_unpin_user_pages(of, of_refs, pages + nr, grabbed - nr);
			break;
		}
		nr = grabbed;
	}
	return nr;
}
