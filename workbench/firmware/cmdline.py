# SPDX-License-Identifier: GPL-2.0-only
"""Words of a kernel command line: options, and numbers with a unit."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

_NUMBER = re.compile(r"0[xX](?P<hex>[0-9a-fA-F]+)|0(?P<oct>[0-7]*)|(?P<dec>\d+)")
_BASES = {"hex": 16, "oct": 8, "dec": 10}
_UNITS = "kmgtpe"


def options(cmdline: str) -> Iterator[tuple[str, str]]:
    """Each word of a command line as name and value; the value is empty where there is none.

    Examples
    --------
    >>> list(options('quiet efi=nosoftreserve dyndbg="func f +p"'))
    [('quiet', ''), ('efi', 'nosoftreserve'), ('dyndbg', 'func f +p')]
    """
    for word in shlex.split(cmdline):
        name, _, value = word.partition("=")
        yield name, value


def simple_strtoull(text: str) -> tuple[int, str]:
    """The number ``text`` begins with, and the rest; 0 where there is none (lib/vsprintf.c, base 0).

    Examples
    --------
    >>> simple_strtoull("0x40000,4G@8G"), simple_strtoull("010"), simple_strtoull("x")
    ((262144, ',4G@8G'), (8, ''), (0, 'x'))
    """
    match = _NUMBER.match(text)
    if match is None or match.lastgroup is None:
        return 0, text
    return int(match[match.lastgroup] or "0", _BASES[match.lastgroup]), text[match.end() :]


def memparse(text: str) -> tuple[int, str]:
    """The size ``text`` begins with, bytes, and the rest (lib/cmdline.c).

    Examples
    --------
    >>> memparse("4G@4G:0x40000"), memparse("0x100000")
    ((4294967296, '@4G:0x40000'), (1048576, ''))
    """
    number, rest = simple_strtoull(text)
    if rest == text or not rest or rest[0].lower() not in _UNITS:
        return number, rest
    return number << 10 * (_UNITS.index(rest[0].lower()) + 1), rest[1:]
