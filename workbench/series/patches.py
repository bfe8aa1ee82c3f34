# SPDX-License-Identifier: GPL-2.0-only
"""The eleven patches of the series, each declared once.

``needs`` names the patches whose *behaviour* a patch builds on.  Patches 2, 3 and 8 only move code
into helpers; a set that leaves one out stands for the same change written without the helper.
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.errors import WorkbenchError

SERIES_URL = "https://lore.kernel.org/r/20211202204422.26777-1-joao.m.martins@oracle.com"


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch: its number in the series, title, mainline commit, files and what it claims.

    ``same_bytes`` is True where the patch must not change a byte of memory.
    """

    number: int
    title: str
    commit: str
    files: tuple[str, ...]
    claim: str
    same_bytes: bool
    needs: tuple[int, ...] = ()


PATCHES: tuple[Patch, ...] = (
    Patch(
        1,
        "memory-failure: fetch compound_head after pgmap_pfn_valid()",
        "61e28cf0543c7d8e6ef88c3c305f727c5a21ba5b",
        ("mm/memory-failure.c",),
        "Memory failure works on the head page, so that it can handle compound dax pages.",
        same_bytes=True,
    ),
    Patch(
        2,
        "mm/page_alloc: split prep_compound_page into head and tail subparts",
        "5b24eeef06701cca6852f1bf768248ccc912819b",
        ("mm/page_alloc.c",),
        "prep_compound_page() becomes two helpers, for the head and for a tail, that can run at different times.",
        same_bytes=True,
    ),
    Patch(
        3,
        "mm/page_alloc: refactor memmap_init_zone_device() page init",
        "46487e0095f895c25da9feae27dc06d2aa76793d",
        ("mm/page_alloc.c",),
        "The per-page part of memmap_init_zone_device() becomes __init_zone_device_page(), to be called for tails too.",
        same_bytes=True,
    ),
    Patch(
        4,
        "mm/memremap: add ZONE_DEVICE support for compound pages",
        "c4386bd8ee3a921c3c799b7197dc898ade76a453",
        ("include/linux/memremap.h", "mm/memremap.c", "mm/page_alloc.c"),
        "A pgmap with vmemmap_shift set gets its struct pages initialised as compound pages, one reference a head.",
        same_bytes=False,
    ),
    Patch(
        5,
        "device-dax: use ALIGN() for determining pgoff",
        "b9b5777f09be84d0de472ded2253d2f5101427f2",
        ("drivers/dax/device.c",),
        "The offset stored in page->index is computed with ALIGN(), which rounds up: a refactor that was not one.",
        same_bytes=False,
    ),
    Patch(
        6,
        "device-dax: use struct_size()",
        "09b80137033dbc5f1d197e99116527c0f8d253f2",
        ("drivers/dax/device.c",),
        "The size of a dynamic pgmap is computed by the overflow-safe helper.",
        same_bytes=True,
    ),
    Patch(
        7,
        "device-dax: ensure dev_dax->pgmap is valid for dynamic devices",
        "fc65c4eb0b2a27c30d35636650e3f4ddb07506cd",
        ("drivers/dax/bus.c", "drivers/dax/bus.h", "drivers/dax/device.c"),
        "A dynamic device keeps its pgmap in dev_dax->pgmap while it is bound, as a static one does.",
        same_bytes=True,
    ),
    Patch(
        8,
        "device-dax: factor out page mapping initialization",
        "a0fb038e50d72f8e60731dc48fb83a3a141b822e",
        ("drivers/dax/device.c",),
        "The loop that sets mapping and index at a fault becomes dax_set_mapping().",
        same_bytes=True,
    ),
    Patch(
        9,
        "device-dax: set mapping prior to vmf_insert_pfn{,_pmd,pud}()",
        "0e7325f03f09802d1667b8860e10fe39c25bf14c",
        ("drivers/dax/device.c",),
        "Mapping and index are set before the page-table entry is inserted, whatever the insertion returns.",
        same_bytes=False,
        needs=(8,),
    ),
    Patch(
        10,
        "device-dax: remove pfn from __dev_dax_{pte,pmd,pud}_fault()",
        "6ec228b6fef5ad3a1f19e76c29640a9161415240",
        ("drivers/dax/device.c",),
        "The pfn that the fault handlers passed back is no longer needed and becomes a local.",
        same_bytes=True,
        needs=(8,),
    ),
    Patch(
        11,
        "device-dax: compound devmap support",
        "14606001efb48a17be31a5bec626c13ca49d783a",
        ("drivers/dax/device.c",),
        "A device with align above 4 KiB sets vmemmap_shift from it, and a fault writes the head alone.",
        same_bytes=False,
        needs=(4,),
    ),
)
"""Patch 1 first."""


def patch(number: int) -> Patch:
    """Patch ``number``.

    Raises
    ------
    WorkbenchError
        ``number`` is not 1 to 11.
    """
    if not 1 <= number <= len(PATCHES):
        raise WorkbenchError(f"the series has patches 1 to {len(PATCHES)}; got {number}.")
    return PATCHES[number - 1]
