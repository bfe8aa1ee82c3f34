# SPDX-License-Identifier: GPL-2.0-only
"""Tables beside the memory map: what a device counts, which words changed, what captured kernels say."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from workbench.abi import WORDS
from workbench.errors import WorkbenchError
from workbench.lab.captures import CaptureReport
from workbench.text import count, size
from workbench.view import palette
from workbench.view.summary import Table, mark


def numbers_table(numbers: xr.Dataset) -> Table:
    """Heads, tails and references of one device, a row for each align and kernel.

    Parameters
    ----------
    numbers : xarray.Dataset
        From :func:`workbench.lab.device_layout.numbers`.

    Returns
    -------
    Table
    """
    columns = ("struct_pages", "base_pages", "heads", "tails", "refcounts", "references")
    rows = []
    for align in numbers.align.values.tolist():
        for name in numbers.kernel.values.tolist():
            one = numbers.sel(align=align, kernel=name)
            cells = [count(int(one[column])) for column in columns]
            rows.append([size(align), name, *cells, size(int(one.vmemmap_bytes))])
    return Table(
        f"{mark('derived')} Derived: a device of {size(numbers.attrs['size'])}, counted in the struct pages that the "
        "engine made. Refcounts: their sum over all struct pages, the device idle. References: what the pgmap takes on "
        "itself when the device is bound.",
        [
            "compound pages asked for",
            "kernel",
            "struct pages",
            "base pages",
            "heads",
            "tails",
            "refcounts",
            "references",
            "bytes of struct pages",
        ],
        rows,
        "llrrrrrrr",
    )


def changes_table(changes: xr.Dataset) -> Table:
    """Which words differ, a row for each role that the pages have afterwards.

    Parameters
    ----------
    changes : xarray.Dataset
        From :func:`workbench.lab.device_layout.changes`.

    Returns
    -------
    Table
    """
    rows = []
    for role in changes.role.values.tolist():
        one = changes.sel(role=role)
        pages = int(one.pages)
        if pages:
            words = one.words_different.values.tolist()
            rows.append(
                [palette.ROLES[role].label, count(pages), *(_share(n, pages) for n in words), count(sum(words))]
            )
    total = int(changes.words_different.sum())
    rows.append(["all", count(int(changes.pages.sum())), *[""] * WORDS, count(total)])
    return Table(
        f"{mark('derived')} Derived: words that differ between {changes.attrs['before']} and {changes.attrs['after']}; "
        "all: in every struct page of the row. In sum "
        f"{count(total)} of {count(int(changes.words))} words, in {count(int(changes.pages_different))} struct pages.",
        ["becomes", "pages", *(f"+{8 * word}" for word in range(WORDS)), "words"],
        rows,
    )


def captures_table(reports: Sequence[CaptureReport], states: Sequence[str] = ("online",)) -> Table:
    """How recorded kernels compare with the engine, a row for each run and state.

    Parameters
    ----------
    reports : sequence of CaptureReport
        From :func:`workbench.lab.captures.verify`.
    states : sequence of str
        Recorded states to show.

    Returns
    -------
    Table

    Raises
    ------
    WorkbenchError
        No run has one of these states.
    """
    rows = []
    for report in reports:
        for state in report.states:
            if state.name in states:
                pages = state.pages
                numbers = (pages.pages, pages.bytes_compared, pages.bytes_different, pages.pages_left_out)
                rows.append([report.name, report.kernel.name, state.name, *map(count, numbers), state.status])
    if not rows:
        raise WorkbenchError(f"no recorded state is called {', '.join(states)}. A static run has online.")
    return Table(
        f"{mark('captured')} Captured: struct pages read out of the memory of real kernels, held against the engine's "
        "after the recorded actions; that a page has no struct page is compared too. Pages left out are ordinary RAM "
        "beside the device, which the actions do not determine. The one pointer that cannot be known, to the pgmap, is "
        "learnt at first sight and must then be the same everywhere.",
        ["run", "kernel", "state", "pages compared", "bytes compared", "bytes that differ", "pages left out", ""],
        rows,
        "lllrrrrl",
    )


def _share(number: int, pages: int) -> str:
    if number in (0, pages):
        return "all" if number else "–"
    return f"{count(number)} of them"
