# SPDX-License-Identifier: GPL-2.0-only
"""Tables of the follow-ups: one grab a compound page, shared lines, and who waits for whom at the end of a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from workbench.lab.followups import GrabOnce, SharedLines
from workbench.lab.pinning import Traffic, mapped_device
from workbench.lab.teardown import Held, unbind_while_held
from workbench.text import count
from workbench.view.summary import Table, mark


def grab_once_table(found: Sequence[GrabOnce]) -> Table:
    """Published times beside counts and modelled times: base pages, as merged, one grab.

    Parameters
    ----------
    found : sequence of GrabOnce
        From :func:`workbench.lab.followups.grab_once`.
    """
    rows = []
    for one in found:
        where = "altmap" if one.number.config["altmap"] else "DRAM"
        before, after = one.number.ms(False), one.number.ms(True)
        locked = [count(each.locked) for each in (one.before, one.between, one.after)]
        rows.append(
            [
                f"{one.number.config['size_mib']:,} MiB, {where}",
                str(one.number.config["path"]).removesuffix("_user_pages_fast"),
                *(f"{ms:,.4g}" for ms in (before, after)),
                f"{before / after:.0f}",
                *locked,
                *(f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}" for ms in one.modelled_ms),
            ]
        )
    states = ("base pages", "as merged", "one grab")
    return Table(
        f"{mark('published')} Published with patch 8 of version 4, ms; base pages before, one grab after. "
        f"{mark('derived')} Derived: locked operations. {mark('modelled')} Modelled, ms: fitted to version 7's letter, "
        "not to these.",
        [
            "memory, struct pages in",
            "",
            *(f"{mark('published')} {what}" for what in ("before", "after", "ratio")),
            *(f"{mark('derived')} locked, {state}" for state in states),
            *(f"{mark('modelled')} {state}" for state in states),
        ],
        rows,
        "ll" + "r" * 9,
    )


def measured_table(samples: Mapping[str, Sequence[float]]) -> Table:
    """Nanoseconds a page on this machine, from :func:`workbench.lab.followups.measured_grab`."""
    base = float(np.median(samples["base pages"]))
    rows = [
        [name, f"{np.median(each):.2f}", f"{min(each):.2f} – {max(each):.2f}", f"{base / float(np.median(each)):.1f}"]
        for name, each in samples.items()
    ]
    return Table(
        f"{mark('measured')} Measured: the engine pins on this machine, struct pages in DRAM; nanoseconds of processor "
        "time for each page.",
        ["", "median", "least – greatest", "times faster"],
        rows,
    )


def shared_table(
    lines: Sequence[SharedLines], recorded: Mapping[tuple[str, str, bool], tuple[Traffic, Traffic]]
) -> Table:
    """Lines that a pin of 2 MiB touches, beside recorded ones.

    Parameters
    ----------
    lines : sequence of SharedLines
        From :func:`workbench.lab.followups.shared_lines`.
    recorded : mapping
        From :func:`workbench.lab.pinning.recorded_traffic`.
    """
    rows = []
    for one in lines:
        real = recorded.get((one.kernel, "2M", False))
        seen = "–" if real is None else f"{real[0].lines_touched:.0f} and {real[0].physical_lines:.0f}"
        rows.append([one.kernel, count(one.vmemmap_pages), count(one.virtual), count(one.physical), seen])
    return Table(
        f"{mark('derived')} Derived by the engine, {mark('captured')} captured from real kernels: cache lines of "
        "struct pages that a pin of 2 MiB touches, struct pages in DRAM.",
        ["kernel", "pages of memory behind them", "lines by address", "lines of memory", f"{mark('captured')} both"],
        rows,
    )


def counts_of_idle_table(names: Sequence[str]) -> Table:
    """What an idle device's counts are, and what a held page does to the end of the device.

    Parameters
    ----------
    names : sequence of str
        Kernels.
    """
    rows = []
    for name in names:
        device = mapped_device(name)
        at, array = device.first_pfn, device.machine.array
        idle = [array.words(at + page)[6] >> 32 for page in (0, 3)]
        held = unbind_while_held(name)
        rows.append([name, *map(count, idle), *_end(held)])
    return Table(
        f"{mark('derived')} Derived: reference counts of an idle device with an align of 2 MiB, then a page of it is "
        "held by a pipe while the device is unbound.",
        ["kernel", "first struct page", "fourth", "unbind", "the pipe is closed"],
        rows,
        "lrrll",
    )


def _end(held: Held) -> tuple[str, str]:
    waits = f"waits in {held.blocked_in}()" if held.blocked_in else "returns: struct pages are gone"
    return waits, "the kernel dies: " + held.released.partition(":")[0] if held.released else "fine; the unbind ends"
