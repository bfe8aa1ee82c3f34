# SPDX-License-Identifier: GPL-2.0-only
"""mm/debug.c: what the kernel writes to its log of a struct page of ZONE_DEVICE.

Kernel addresses stand in the log as hashes under a key of each boot; here, and on a kernel whose key is not drawn yet,
:data:`HASHED` stands for them.  Words of the raw dump are not hashed.

Left out is one line on who owns the mapping: operations, inode number and name of a file are not simulated.

A tail of a compound page of 1 GiB, 1024 pages or more behind its head, is told as if it were corrupt, which it is not:
by its own counts, flags and mapping, without its head.  These releases hold no compound page to be that large.
"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.abi import Abi, Role
from workbench.errors import WorkbenchError
from workbench.mm.page_array import PageArray

HASHED = "(____ptrval____)"
"""For an address that is not zero; as long as one."""
NULL = f"{0:016x}"

MAX_ORDER_NR_PAGES = 1 << 10
"""Pages of the largest block of the buddy allocator: behind that many no page is believed to be a tail."""

RELEASES = ("5.15", "5.16", "5.17", "6.1")
"""Whose lines have this form: 5.10 does not name the fields of the flags word, 6.12 speaks of folios."""


def dump_page(array: PageArray, pfn: int, reason: str) -> list[str]:
    """Lines of the kernel log that tell one struct page, and its head if it is a tail.

    Kernel: mm/debug.c, ``dump_page()``, 5.15 to 6.1.

    Parameters
    ----------
    array : PageArray
    pfn : int
        A page of a device.
    reason : str
        Stands in the last line.

    Returns
    -------
    list of str

    Raises
    ------
    WorkbenchError
        A release whose lines have another form.
    """
    abi = array.kernel.abi
    if abi.release not in RELEASES:
        raise WorkbenchError(
            f"lines of {abi.release} that tell a struct page are not simulated. Those of {', '.join(RELEASES)} are."
        )
    words = array.words(pfn)
    role = abi.role(words, pfn)
    page = abi.decode(words, pfn)
    head_pfn = abi.pfn_of(page["compound_head"] - 1) if role.is_tail else pfn
    index = array.decode(head_pfn)["index"] + pfn - head_pfn
    is_compound = role.is_tail or role is Role.HEAD
    if pfn - head_pfn >= MAX_ORDER_NR_PAGES:
        head_pfn, is_compound = pfn, False
    head_words = array.words(head_pfn)
    head = abi.decode(head_words, head_pfn)
    # A page of a device counts no mappings.
    lines = [
        f"page:{HASHED} refcount:{head['_refcount']} mapcount:{page['_mapcount'] + 1} "
        f"mapping:{HASHED if head['mapping'] else NULL} index:{index:#x} pfn:{pfn:#x}"
    ]
    if is_compound:
        first, second = (array.decode(head_pfn + number) for number in (1, 2))
        pincount = first.get("compound_pincount", second.get("hpage_pinned_refcount"))
        lines.append(
            f"head:{HASHED} order:{first['compound_order']} compound_mapcount:{first['compound_mapcount'] + 1} "
            f"compound_pincount:{pincount}"
        )
    lines.append(f"flags: {flags_text(abi, head['flags'])}")
    lines += _raw("raw", words)
    if head_pfn != pfn:
        lines += _raw("head", head_words)
    return [*lines, f"page dumped because: {reason}"]


def flags_text(abi: Abi, flags: int) -> str:
    """The flags word as the log has it: ``0x27ffffc0011000(reserved|head|node=0|zone=4|lastcpupid=0x1fffff)``.

    Kernel: lib/vsprintf.c, the format ``%pGp``, 5.13 and later.
    """
    names = [*abi.flag_names(flags)]
    parts = abi.decode_flags(flags)
    for field, form in (("node", "node={}"), ("zone", "zone={}"), ("last_cpupid", "lastcpupid={:#x}")):
        if field in parts:
            names.append(form.format(parts[field]))
    return f"{flags:#x}({'|'.join(names)})"


def _raw(name: str, words: Sequence[int]) -> list[str]:
    """The eight words, four a line."""
    return [f"{name}: {' '.join(f'{int(word):016x}' for word in words[at : at + 4])}" for at in (0, 4)]
