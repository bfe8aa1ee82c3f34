/* SPDX-License-Identifier: GPL-2.0-only */
/* A struct page of 5.15 to 5.17 on x86-64, and the array of them, as the twins take it. */
#ifndef PAGE_H
#define PAGE_H

#include <stdint.h>

typedef uint64_t u64;
typedef int64_t i64;

/* One struct page: 64 bytes.  What shares a word has a name for each use. */
struct page {
	u64 flags;
	union {
		u64 lru_next, pgmap, compound_head;
	};
	union {
		u64 lru_prev, zone_device_data;
		struct {
			uint8_t dtor, order;
			uint16_t unused;
			int32_t compound_mapcount;
		};
		int32_t pincount;
	};
	union {
		u64 mapping;
		uint32_t compound_nr;
	};
	u64 index, private_;
	int32_t mapcount, refcount;
	u64 memcg;
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct page) == 64, "a struct page is one cache line");

/*
 * What workbench.mm.memmap.Memmap says, as far as these trees need it.  Each entry copies it: stores
 * to struct pages then cannot change it, and the compiler keeps it in registers.
 */
struct memmap {
	struct page *pages;
	u64 *pageblock_flags;
	i64 start_pfn;
	u64 address, zone_shift, node_shift, last_cpupid, reserved, head;
	i64 switches;
};

#endif
