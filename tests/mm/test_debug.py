# SPDX-License-Identifier: GPL-2.0-only
"""Struct pages in the kernel's log, in the form of published logs, with the numbers of the array.

The lines of ``ANON`` are those that the mail "selftests/vm: gup_test: fix test flag" (P. Tatashin, 2021) prints of an
anonymous page; ``DAX_FLAGS`` is of a page of a device, in a log of 6.6 on the mailing list.
"""

import re

import pytest

from workbench.abi import Abi
from workbench.abi.config import Config
from workbench.errors import WorkbenchError
from workbench.lab.pinning import mapped_device
from workbench.mm.debug import dump_page, flags_text

ANON = """\
page:00000000baed3c7d refcount:1025 mapcount:1 mapping:0000000000000000 index:0x0 pfn:0x108008
raw: 0300000000080014 ffffd0e204200188 ffffd0e205e09088 ffff8ea04243ee71
raw: 0000000000000000 0000000000000000 0000040100000000 0000000000000000
page dumped because: gup_test: dump_pages() test""".splitlines()
DAX_FLAGS = "0x4ffff800004040(reserved|head|node=0|zone=4|lastcpupid=0x1ffff)"


def form(line):
    """A line with its numbers replaced: N, as wide as they are where the log pads them."""
    line = line.replace("(____ptrval____)", "0" * 16)
    line = re.sub(r"\b[0-9a-f]{16}\b", "WORD", line)
    return re.sub(r":(0x[0-9a-f]+|\d+)", ":N", line)


def dumped(kernel, align, page, pins=3):
    device = mapped_device(kernel, align)
    array, first = device.machine.array, device.first_pfn
    device.gup.pin_user_pages_fast(device.process.mm, device.addr, pins, 1)
    return array, first, dump_page(array, first + page, "gup_test: dump_pages() test")


@pytest.mark.parametrize("kernel", ["5.15", "5.16+=4", "5.17"])
def test_a_base_page_has_the_published_lines(kernel):
    align = "4K" if kernel == "5.17" else "2M"
    array, first, lines = dumped(kernel, align, 2)
    assert [form(line) for line in lines if not line.startswith("flags")] == [form(line) for line in ANON]
    # One reference is the device's, and a pin of a base page counts 1,024.
    assert lines[0].endswith(f" index:0x2 pfn:{first + 2:#x}") and "refcount:1025 mapcount:0 " in lines[0]
    assert lines[2].split()[1:] + lines[3].split()[1:] == [f"{word:016x}" for word in array.words(first + 2)]
    assert len(lines) == 5


@pytest.mark.parametrize("kernel", ["5.17", "6.1", "6.1-nodedup"])
def test_a_tail_is_told_with_its_head(kernel):
    array, first, lines = dumped(kernel, "2M", 5)
    # Counts, flags and mapping are the head's; the index counts on from the head's.
    assert "refcount:4 mapcount:0 mapping:(____ptrval____) index:0x5 " in lines[0]
    assert lines[1] == "head:(____ptrval____) order:9 compound_mapcount:0 compound_pincount:3"
    assert lines[2].startswith("flags: 0x") and "(referenced|reserved|head|node=0|zone=" in lines[2]
    for name, pfn in (("raw:", first + 5), ("head: ", first)):
        told = [word for line in lines if line.startswith(name) for word in line.split()[1:]]
        assert told == [f"{word:016x}" for word in array.words(pfn)]
    assert [line.split(":")[0] for line in lines] == [
        "page", "head", "flags", "raw", "raw", "head", "head", "page dumped because"
    ]  # fmt: skip


@pytest.mark.parametrize("kernel", ["5.17", "6.1"])
@pytest.mark.parametrize("page", [1023, 1024])
def test_a_tail_far_behind_its_head_is_taken_for_a_corrupt_page(kernel, page):
    """As of "mm/debug: adapt dump_page to PUD THP" (Z. Yan, 2020), never merged: MAX_ORDER_NR_PAGES is the limit."""
    _, first, lines = dumped(kernel, "1G", page)
    kinds = [line.split(":")[0] for line in lines]
    # The index counts on from the head's either way.
    assert f" index:{page:#x} pfn:{first + page:#x}" in lines[0]
    if page < 1024:
        assert "refcount:4 " in lines[0] and "order:18 " in lines[1] and kinds.count("head") == 3
    else:
        # Its own count is 0, and its mapping the value that no tail may be followed by.
        assert "refcount:0 mapcount:0 mapping:(____ptrval____) " in lines[0]
        assert kinds == ["page", "flags", "raw", "raw", "page dumped because"]
        assert "|head|" not in lines[1] and " dead000000000400" in lines[2]


def test_a_head_is_told_once():
    _, _, lines = dumped("5.17", "2M", 0)
    assert [line.split(":")[0] for line in lines] == ["page", "head", "flags", "raw", "raw", "page dumped because"]


def test_a_page_that_was_never_faulted_has_no_mapping():
    device = mapped_device("5.17", "2M")
    line = dump_page(device.machine.array, device.first_pfn + 512, "x")[0]
    assert "refcount:1 mapcount:0 mapping:0000000000000000 index:0x0 " in line


def test_the_flags_word_as_in_a_log_of_a_device():
    config = Config(nr_cpus=512)
    abi = Abi("5.17", config)
    flags = abi.flags_word(["reserved", "head"], node=0, zone=abi.zone_device, last_cpupid=(1 << 17) - 1)
    shown = flags_text(abi, flags)
    assert shown.split("(")[1] == DAX_FLAGS.split("(")[1] and shown.startswith(f"{flags:#x}(")


@pytest.mark.parametrize("kernel", ["5.10", "6.12"])
def test_other_forms_are_refused(kernel):
    device = mapped_device(kernel, "2M")
    with pytest.raises(WorkbenchError, match=f"lines of {kernel}"):
        dump_page(device.machine.array, device.first_pfn, "x")
