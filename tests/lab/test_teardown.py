# SPDX-License-Identifier: GPL-2.0-only
"""The walk of memunmap_pages() (algorithms.md B4, series.md patch 4) and a page that is held meanwhile."""

import pytest

from workbench.abi import Role
from workbench.lab.teardown import teardown, unbind_while_held


@pytest.mark.parametrize(
    ("kernel", "order", "puts", "put_at"),
    [
        ("5.16+3", 9, 1024, None),  # patch 4 is not there: base pages whatever is asked for
        ("5.16+4", 0, 1024, None),
        ("5.16+4", 9, 2, [0, 512]),
    ],
)
def test_every_reference_is_given_back(kernel, order, puts, put_at):
    walk = teardown(kernel, "4M", order)
    assert (walk.references, walk.puts, walk.crash) == (puts, puts, "")
    shown = [page.offset for page in walk.pages]
    assert [page.offset for page in walk.pages if page.put] == (put_at or shown)
    assert all(page.after == page.before - page.put for page in walk.pages)
    assert {page.after for page in walk.pages} == {0}


def test_pages_shown():
    assert [page.offset for page in teardown("5.16+4").pages] == [0, 1, 2, 3, 511, 512, 513, 514, 515, 1023]
    roles = [page.role for page in teardown("5.16+4").pages][:4]
    assert roles == [Role.HEAD, Role.FIRST_TAIL, Role.SECOND_TAIL, Role.TAIL]


def test_version_3_dies_at_the_first_tail():
    """reviewers.md 7: teardown put every pfn."""
    walk = teardown("5.16+4", by_one=True)
    assert (walk.puts, walk.references, walk.offers) == (1, 2, None) and "VM_BUG_ON_PAGE" in walk.crash
    assert [page.offset for page in walk.pages if page.put] == [0]
    assert [page.offset for page in walk.pages if page.died] == [1]
    heads = {page.offset: (page.before, page.after) for page in walk.pages if page.role == Role.HEAD}
    assert heads == {0: (1, 0), 512: (1, 1)}


@pytest.mark.parametrize(("kernel", "order", "offers"), [("5.16+3", 9, 256), ("5.16+4", 0, 261888), ("5.16+4", 9, 511)])
def test_the_walk_offers_to_reschedule(kernel, order, offers):
    """series.md, patch 4: 1 GiB from 4 GiB on; the test got inverted."""
    assert teardown(kernel, "1G", order).offers == offers


@pytest.mark.parametrize(
    ("kernel", "waits"), [("5.10", True), ("5.15", True), ("5.17", True), ("6.1", False), ("6.12", False)]
)
def test_a_held_page(kernel, waits):
    """The lifecycle runs: up to 5.17 the unbind waits in memunmap_pages(); later the put kills the kernel."""
    held = unbind_while_held(kernel)
    assert (held.held, held.finished, held.mapped, held.finished_after) == (2, not waits, False, True)
    assert held.blocked_in == ("memunmap_pages" if waits else "")
    assert held.struct_pages == (16384 if waits else 0)
    assert held.released.startswith("BUG: unable to handle page fault") == (not waits)
