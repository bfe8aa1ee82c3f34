# SPDX-License-Identifier: GPL-2.0-only
"""Page flags in bit order, per release, as data.

Kernel: include/linux/page-flags.h, ``enum pageflags``.  Checked bit for bit against the numbers
compiled from the kernels of ``data/captures/layouts``.
"""

from __future__ import annotations

from workbench.abi.config import Config

# An entry "name?option" exists only where Config.option is on.
_UP_TO_6_1 = (
    "locked referenced uptodate dirty lru active workingset waiters error slab owner_priv_1 arch_1 reserved "
    "private private_2 writeback head mappedtodisk reclaim swapbacked unevictable mlocked uncached?pg_uncached "
    "hwpoison?memory_failure young?page_idle_flag idle?page_idle_flag arch_2?arch_2"
)
_6_12 = (
    "locked writeback referenced uptodate dirty lru head waiters active workingset owner_priv_1 owner_2 arch_1 "
    "reserved private private_2 reclaim swapbacked unevictable mlocked hwpoison?memory_failure "
    "young?page_idle_flag idle?page_idle_flag arch_2?arch_2"
)

_ORDER = {
    "5.10": _UP_TO_6_1,
    "5.15": _UP_TO_6_1,
    "5.16": _UP_TO_6_1,
    "5.17": _UP_TO_6_1,
    "6.1": _UP_TO_6_1,
    "6.12": _6_12,
}

# Second names of a bit, by the flag they share it with.
_ALIASES_ALL = {
    "checked": "owner_priv_1",
    "swapcache": "owner_priv_1",
    "pinned": "owner_priv_1",
    "foreign": "owner_priv_1",
    "xen_remapped": "owner_priv_1",
    "savepinned": "dirty",
    "fscache": "private_2",
    "isolated": "reclaim",
    "reported": "uptodate",
}
_SLOB = {"slob_free": "private"}
ALIASES = {
    "5.10": _ALIASES_ALL | _SLOB | {"double_map": "workingset"},
    "5.15": _ALIASES_ALL | _SLOB | {"double_map": "workingset", "has_hwpoisoned": "mappedtodisk"},
    "5.16": _ALIASES_ALL | _SLOB | {"double_map": "workingset", "has_hwpoisoned": "mappedtodisk"},
    "5.17": _ALIASES_ALL
    | _SLOB
    | {"double_map": "workingset", "has_hwpoisoned": "mappedtodisk", "readahead": "reclaim"},
    "6.1": _ALIASES_ALL
    | _SLOB
    | {
        "double_map": "workingset",
        "has_hwpoisoned": "error",
        "readahead": "reclaim",
        "anon_exclusive": "mappedtodisk",
        "vmemmap_self_hosted": "owner_priv_1",
    },
    "6.12": _ALIASES_ALL
    | {
        "has_hwpoisoned": "active",
        "large_rmappable": "workingset",
        "partially_mapped": "reclaim",
        "readahead": "reclaim",
        "anon_exclusive": "owner_2",
        "mappedtodisk": "owner_2",
        "vmemmap_self_hosted": "owner_priv_1",
    },
}


def page_flags(release: str, config: Config) -> dict[str, int]:
    """Flag name (without ``PG_``) to bit number, in bit order."""
    names = []
    for entry in _ORDER[release].split():
        name, _, option = entry.partition("?")
        if not option or getattr(config, option):
            names.append(name)
    return {name: bit for bit, name in enumerate(names)}
