# SPDX-License-Identifier: GPL-2.0-only
"""What the series made possible: one grab a compound page, tails that share their memory, counts that start at zero.

The three follow-ups of the cover letter's split (19 October 2021): GUP batching, which never arrived;
the sharing of vmemmap pages ("dedup"), merged for 5.19; and, beside the split, the clean-up of ZONE_DEVICE
reference counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.lab.cost import seed_fit
from workbench.lab.gup_timing import time_pins
from workbench.lab.huge_page import NR_PAGES, huge_page
from workbench.lab.pin_events import PinEvents, pin_events
from workbench.lab.pinning import mapped_device, pin_and_release
from workbench.lab.published import Number, published
from workbench.mm.sparse_vmemmap import STRUCT_PAGES_PER_PAGE
from workbench.text import parse_size

GRAB_ONCE = "grab-once-"
"""Ids of the published numbers begin so."""


@dataclass(frozen=True)
class GrabOnce:
    """One published comparison of version 4's patch 8, and what is counted and modelled for it.

    Attributes
    ----------
    number : Number
        Base pages before, one grab a compound page after.
    before, between, after : PinEvents
        Base pages; compound pages and the loop over single pages, as merged; one grab.
    modelled_ms : tuple of float
        Milliseconds, for each of these three.
    """

    number: Number
    before: PinEvents
    between: PinEvents
    after: PinEvents
    modelled_ms: tuple[float, float, float]


def grab_once() -> list[GrabOnce]:
    """Every published comparison of patch 8 of version 4, in the mail's order."""
    media = seed_fit().media
    found = []
    for number in published().starting(GRAB_ONCE):
        size, path = int(number.config["size_mib"]) << 20, str(number.config["path"])
        align = int(number.config["align_mib"]) << 20
        base = pin_events(path, size, align, release="5.16")
        each, once = (pin_events(path, size, align, compound=True, grab_once=one) for one in (False, True))
        prices = media["pmem" if number.config["altmap"] else "dram"]
        found.append(GrabOnce(number, base, each, once, (prices.ms(base), prices.ms(each), prices.ms(once))))
    return found


def measured_grab(length: str = "256M", samples: int = 5) -> dict[str, list[float]]:
    """Nanoseconds to pin a page with the engine on this machine, each sample: base pages, as merged, one grab.

    Parameters
    ----------
    length : str
        Memory pinned.
    samples : int
    """
    nbytes = parse_size(length)
    cases = {"base pages": ("5.16", False), "as merged": ("5.17", False), "one grab": ("5.17", True)}
    found = {}
    for name, (kernel, once) in cases.items():
        seconds = time_pins(mapped_device(kernel, "2M", nbytes, head_once=once), samples)["get"]
        found[name] = [each * 1e9 / (nbytes >> 12) for each in seconds]
    return found


@dataclass(frozen=True)
class SharedLines:
    """Lines that one pin of 2 MiB touches, by virtual and by physical address.

    Attributes
    ----------
    kernel : str
    virtual, physical : int
    vmemmap_pages : int
        4 KiB pages of memory behind the 512 struct pages.
    """

    kernel: str
    virtual: int
    physical: int
    vmemmap_pages: int


def shared_lines(kernel: str) -> SharedLines:
    """Pin 2 MiB of a device, struct pages in DRAM, and see which lines of memory are touched.

    Parameters
    ----------
    kernel : str
        See :func:`workbench.series.kernel`.
    """
    first = huge_page(kernel)["first"].values
    pages = np.flatnonzero(pin_and_release(mapped_device(kernel)).read.values[0])
    lines = set(
        zip(first[pages // STRUCT_PAGES_PER_PAGE].tolist(), (pages % STRUCT_PAGES_PER_PAGE).tolist(), strict=True)
    )
    return SharedLines(kernel, len(pages), len(lines), len(np.unique(first[: NR_PAGES // STRUCT_PAGES_PER_PAGE])))
