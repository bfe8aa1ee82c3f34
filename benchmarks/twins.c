// SPDX-License-Identifier: GPL-2.0-only
/*
 * The engine's kernels once more, in C: what a good compiler makes of the same algorithm.
 *
 * Written from the specification of the struct page initialisation, for the trees 5.16 (base) and
 * 5.17 (the series) on x86-64, layout of 5.16.  Same assignments in the same order as
 * workbench/mm/page_alloc.py and memremap.py; the tree is asked at run time there, and so it is here.
 * tests/lab/test_bench.py compares the bytes that twin and engine leave.
 */
#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "line.h"
#include "page.h"

enum { HAS_SPLIT = 1 << 2, HAS_HELPER = 1 << 3, HAS_COMPOUND = 1 << 4 }; /* patches 2, 3 and 4 */
enum { PAGEBLOCK = 512, BLOCK_BITS = 4, BLOCKS_PER_WORD = 16, MOVABLE = 1, MIGRATETYPE = 7 };
enum { COMPOUND_DTOR = 1 };
#define TAIL_MAPPING 0xdead000000000400ull

static inline u64 address_of(const struct memmap *vm, i64 i)
{
	return vm->address + (u64)i * sizeof(struct page);
}

static inline void init_single(const struct memmap *vm, struct page *page, i64 i, u64 zone, u64 nid)
{
	memset(page, 0, sizeof(*page));
	page->flags = zone << vm->zone_shift | nid << vm->node_shift;
	page->refcount = 1;
	page->mapcount = -1;
	if (vm->last_cpupid)
		page->flags |= vm->last_cpupid;
	page->lru_next = page->lru_prev = address_of(vm, i) + 8;
}

static inline void mark_movable(const struct memmap *vm, i64 i)
{
	if ((vm->start_pfn + i) % PAGEBLOCK)
		return;
	i64 block = i / PAGEBLOCK;
	u64 *word = &vm->pageblock_flags[block / BLOCKS_PER_WORD];
	int shift = (int)(block % BLOCKS_PER_WORD) * BLOCK_BITS;
	u64 old = *word, wanted;
	do
		wanted = (old & ~((u64)MIGRATETYPE << shift)) | (u64)MOVABLE << shift;
	while (!__atomic_compare_exchange_n(word, &old, wanted, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
}

static inline void init_zone_device(const struct memmap *vm, struct page *page, i64 i, u64 zone, u64 nid, u64 pgmap)
{
	init_single(vm, page, i, zone, nid);
	page->flags |= vm->reserved;
	page->pgmap = pgmap;
	page->zone_device_data = 0;
	mark_movable(vm, i);
}

static inline void make_tail(struct page *tail, u64 head_address)
{
	tail->mapping = TAIL_MAPPING;
	tail->compound_head = head_address | 1;
}

static inline void describe(struct page *head, int order)
{
	head[1].dtor = COMPOUND_DTOR;
	head[1].order = (uint8_t)order;
	head[1].compound_nr = 1u << order;
	head[1].compound_mapcount = -1;
	if (order > 1)
		head[2].pincount = 0;
}

static inline void init_compound(const struct memmap *vm, struct page *pages, i64 head, u64 zone, u64 nid, u64 pgmap,
			  int order, i64 rows)
{
	pages[0].flags |= vm->head;
	for (i64 j = 1; j < rows; j++) {
		init_zone_device(vm, &pages[j], head + j, zone, nid, pgmap);
		make_tail(&pages[j], address_of(vm, head));
		pages[j].refcount = 0;
		if (j == 2)
			describe(pages, order);
	}
}

static i64 step_of(const struct memmap *vm, int shift)
{
	return vm->switches & HAS_COMPOUND ? (i64)1 << shift : 1;
}

/* memmap_init_zone_device(), before and after patches 3 and 4. */
i64 twin_init_zone_device(const struct memmap *of, i64 start, i64 end, u64 zone, u64 nid, u64 pgmap, int shift)
{
	const struct memmap local = *of, *vm = &local;
	i64 step = step_of(vm, shift);

	for (i64 i = start; i < end; i += step) {
		struct page *page = &vm->pages[i];
		if (vm->switches & HAS_HELPER) {
			init_zone_device(vm, page, i, zone, nid, pgmap);
		} else {
			init_single(vm, page, i, zone, nid);
			page->flags |= vm->reserved;
			page->pgmap = pgmap;
			page->zone_device_data = 0;
			mark_movable(vm, i);
		}
		if (step > 1)
			init_compound(vm, page, i, zone, nid, pgmap, shift, step);
	}
	return end - start;
}

/*
 * The same bytes by streaming stores: four rows are made as above and copied to where they belong.
 * Locked operations wait for streaming stores, so the pageblocks come last.
 */
i64 twin_init_zone_device_nt(const struct memmap *of, i64 start, i64 end, u64 zone, u64 nid, u64 pgmap, int shift)
{
	const struct memmap local = *of, *vm = &local;
	i64 step = step_of(vm, shift);
	struct page row[4];
	struct memmap model = *vm;

	model.start_pfn = 1; /* none of the four rows begins a pageblock */
	for (i64 i = start; i < end; i += step) {
		i64 rows = step < 4 ? step : 4;
		i64 last = step == 1 ? end : i + step;

		model.address = address_of(vm, i);
		init_zone_device(&model, &row[0], 0, zone, nid, pgmap);
		if (step == 1) {
			for (i64 j = i; j < end; j++)
				stream_line(&vm->pages[j], load_line(&row[0]));
		} else {
			init_compound(&model, row, 0, zone, nid, pgmap, shift, rows);
			for (i64 j = 0; j < rows - 1; j++)
				stream_line(&vm->pages[i + j], load_line(&row[j]));
			line_t tail = load_line(&row[rows - 1]);
			for (i64 j = i + rows - 1; j < last; j++)
				stream_line(&vm->pages[j], tail);
		}
		if (step == 1)
			break;
	}
	_mm_sfence();
	i64 last = start + (end - start + step - 1) / step * step;
	for (i64 i = start + (PAGEBLOCK - (vm->start_pfn + start) % PAGEBLOCK) % PAGEBLOCK; i < last; i += PAGEBLOCK)
		mark_movable(vm, i);
	return end - start;
}

/* prep_compound_page() on each compound of a range, before and after the split of patch 2. */
void twin_prep_compound_pages(const struct memmap *of, i64 start, i64 end, int order)
{
	const struct memmap local = *of, *vm = &local;

	for (i64 i = start; i < end; i += (i64)1 << order) {
		struct page *head = &vm->pages[i];
		u64 address = address_of(vm, i);

		head->flags |= vm->head;
		if (vm->switches & HAS_SPLIT) {
			for (i64 j = 1; j < (i64)1 << order; j++)
				make_tail(head + j, address);
		} else {
			for (struct page *tail = head + 1; tail < head + ((i64)1 << order); tail++) {
				tail->mapping = TAIL_MAPPING;
				tail->compound_head = address | 1;
			}
		}
		describe(head, order);
	}
}

/* memmap_init_range() for an altmap's storage. */
void twin_init_range(const struct memmap *of, i64 start, i64 end, u64 zone, u64 nid)
{
	const struct memmap local = *of, *vm = &local;

	for (i64 i = start; i < end; i++) {
		init_single(vm, &vm->pages[i], i, zone, nid);
		vm->pages[i].flags |= vm->reserved;
		mark_movable(vm, i);
	}
}

/* The put_page() walk of memunmap_pages(); returns how many counts reached zero. */
i64 twin_put_pages(const struct memmap *of, i64 first, i64 end, int shift)
{
	const struct memmap local = *of, *vm = &local;
	i64 step = step_of(vm, shift), freed = 0;

	for (i64 i = first; i < end; i += step) {
		u64 head = __atomic_load_n(&vm->pages[i].compound_head, __ATOMIC_RELAXED);
		struct page *page = &vm->pages[i];
		if (head & 1)
			page = &vm->pages[(head - 1 - vm->address) / sizeof(struct page)];
		freed += __atomic_sub_fetch(&page->refcount, 1, __ATOMIC_SEQ_CST) == 0;
	}
	return freed;
}
