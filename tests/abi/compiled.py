# SPDX-License-Identifier: GPL-2.0-only
"""The layouts compiled from the recorded kernels, as plain dictionaries."""

import json
from functools import cache
from pathlib import Path

from workbench.abi import DISTRIBUTION, DISTRIBUTION_6_12, RELEASES, Abi

LAYOUTS = Path(__file__).parents[2] / "data" / "captures" / "layouts"
COMPILED = ("5.10", "5.15", "5.17", "6.1", "6.12")
PFN = 0x100000
PGMAP = 0xFFFF888100A01000
HEAD = 0xFFFFEA0004000000


@cache
def read(release, what):
    """One file; None where the release has no such structure."""
    path = LAYOUTS / f"{release}.{what}.json"
    return json.loads(path.read_text()) if path.exists() else None


def members(release, what):
    """Member name to (offset, size) of a structure."""
    return {m["name"]: (m["offset"], m["size"]) for m in read(release, what)["members"]}


def abi_of(release):
    """The layout of a release as its distribution or recorded kernel has it."""
    return Abi(release, DISTRIBUTION_6_12 if release == "6.12" else DISTRIBUTION)


ABIS = {release: abi_of(release) for release in RELEASES}
