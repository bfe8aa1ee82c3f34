# SPDX-License-Identifier: GPL-2.0-only
"""``workbench gup-test``: the kernel's pinning benchmark on a simulated machine."""

from __future__ import annotations

import typer

_HELP = """The kernel's gup_test of 6.1 on a simulated machine; times are this machine's.

Its own options: -m MiB, -r repeats, -n pages a call, -f /dev/daxN.M, -F gup flags, -a pin_user_pages_fast,
-u get_user_pages_fast, -L long-term, -U and -b basic tests, -c dump, -p, -j threads, -t, -T, -w, -W, -S, -H, -z.
The file is a device-dax one (mapped shared, -S) or, unless named, /dev/zero: anonymous memory, with transparent huge
pages unless -T; shared memory with -S; hugetlb pages of 2 MiB with -H.
The machine: --kernel NAME, --patches 2,4,11 (on 5.16); its device: --align 4K|2M|1G, --altmap, --size BYTES.
With --model dram, pmem, cxl or FILE.json it prints what the cost model gives for that medium instead.
With -c the kernel writes pages of the device to its log, as it does for the tool: --log shows it.

As the seed has it: workbench gup-test -f /dev/dax1.0 -m 16384 -r 10 -S -a -n 512 -w
"""


def register(app: typer.Typer) -> None:
    """Give ``app`` the verb of this module."""
    app.command(
        "gup-test",
        help=_HELP,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
    )(gup_test)


def gup_test(context: typer.Context) -> None:
    """Hand the words to the tool as they are: its getopt() reads them."""
    from workbench.lab.gup_test import main

    raise typer.Exit(main(context.args, typer.echo, lambda line: typer.echo(line, err=True)))
