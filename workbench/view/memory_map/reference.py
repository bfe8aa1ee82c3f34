# SPDX-License-Identifier: GPL-2.0-only
"""Where in the kernel's sources a function or a structure is, by release: what an inspector refers to."""

from __future__ import annotations

STRUCT_PAGE = "include/linux/mm_types.h"
"""struct page, and struct folio from 5.16 on."""

_FILES = {
    "mm_zero_struct_page": "include/linux/mm.h",
    "set_page_links": "include/linux/mm.h",
    "init_page_count": "include/linux/page_ref.h",
    "set_page_count": "include/linux/page_ref.h",
    "page_mapcount_reset": "include/linux/mm.h",
    "page_cpupid_reset_last": "include/linux/mm.h",
    "INIT_LIST_HEAD": "include/linux/list.h",
    "__SetPageReserved": "include/linux/page-flags.h",
    "__SetPageHead": "include/linux/page-flags.h",
    "__init_zone_device_page": "mm/page_alloc.c",
    "memmap_init_zone_device": "mm/page_alloc.c",
    "prep_compound_page": "mm/page_alloc.c",
    "prep_compound_tail": "mm/page_alloc.c",
    "prep_compound_head": "mm/page_alloc.c",
    "put_page_testzero": "include/linux/mm.h",
    "dax_set_mapping": "drivers/dax/device.c",
    "SetPageReferenced": "include/linux/page-flags.h",
    "ClearPageReferenced": "include/linux/page-flags.h",
    "SetPageHWPoison": "include/linux/page-flags.h",
    "page_ref_add_unless": "include/linux/page_ref.h",
    "page_ref_add": "include/linux/page_ref.h",
    "page_ref_sub": "include/linux/page_ref.h",
    "pincount_add": "mm/gup.c",
    "pincount_sub": "mm/gup.c",
    "mark_page_accessed": "mm/swap.c",
    "lock_page": "include/linux/pagemap.h",
    "unlock_page": "mm/filemap.c",
    "set_page_dirty": "mm/page-writeback.c",
}
_MOVED_BY_6_12 = {
    "__init_zone_device_page": "mm/mm_init.c",
    "memmap_init_zone_device": "mm/mm_init.c",
    "prep_compound_tail": "mm/internal.h",
    "prep_compound_head": "mm/internal.h",
}


def source(function: str, release: str) -> str:
    """The file that holds a C function in a release; ``""`` where this project does not say.

    Examples
    --------
    >>> source("prep_compound_tail", "5.17"), source("prep_compound_tail", "6.12"), source("schedule", "5.17")
    ('mm/page_alloc.c', 'mm/internal.h', '')
    """
    files = _FILES | _MOVED_BY_6_12 if release == "6.12" else _FILES
    return files.get(function, "")
