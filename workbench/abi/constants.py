# SPDX-License-Identifier: GPL-2.0-only
"""Constants of x86-64 memory management that the series meets, under their kernel names."""

from __future__ import annotations

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
PMD_ORDER = 9
PUD_ORDER = 18
PMD_SIZE = PAGE_SIZE << PMD_ORDER
PUD_SIZE = PAGE_SIZE << PUD_ORDER

# include/linux/mmzone.h, arch/x86/include/asm/sparsemem.h
SECTION_SIZE_BITS = 27
PAGES_PER_SECTION = 1 << (SECTION_SIZE_BITS - PAGE_SHIFT)
SUBSECTION_SHIFT = 21
PAGES_PER_SUBSECTION = 1 << (SUBSECTION_SHIFT - PAGE_SHIFT)
SUBSECTIONS_PER_SECTION = PAGES_PER_SECTION // PAGES_PER_SUBSECTION

# include/linux/pageblock-flags.h: four bits a pageblock, sixteen pageblocks a word
PAGEBLOCK_ORDER = 9
PAGEBLOCK_NR_PAGES = 1 << PAGEBLOCK_ORDER
NR_PAGEBLOCK_BITS = 4
MIGRATE_MOVABLE = 1

# include/linux/poison.h with CONFIG_ILLEGAL_POINTER_VALUE of x86-64
POISON_POINTER_DELTA = 0xDEAD_0000_0000_0000
LIST_POISON1 = POISON_POINTER_DELTA + 0x100
LIST_POISON2 = POISON_POINTER_DELTA + 0x122
TAIL_MAPPING = POISON_POINTER_DELTA + 0x400

# include/linux/mm.h
COMPOUND_PAGE_DTOR = 1
GUP_PIN_COUNTING_BIAS = 1024

# struct page type of a free page (5.10 to 6.1: bits cleared from 0xf0000000; 6.12: top byte 0xf0)
PAGE_TYPE_BASE = 0xF000_0000
PG_BUDDY = 0x80
PGTY_BUDDY = 0xF0

# drivers/nvdimm/pfn.h, drivers/nvdimm/pfn_devs.c
MAX_STRUCT_PAGE_SIZE = 64
INFO_BLOCK_RESERVE = 8192

# include/linux/memremap.h
PGMAP_ALTMAP_VALID = 1
