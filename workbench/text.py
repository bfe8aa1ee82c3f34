# SPDX-License-Identifier: GPL-2.0-only
"""Sizes, pfns and 64-bit words as text: one formatter, with an exact and a human mode."""

from __future__ import annotations

import re
from decimal import Decimal

from workbench.errors import WorkbenchError

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:ib?)?b?", re.IGNORECASE)


def size(nbytes: int, exact: bool = False) -> str:
    """``nbytes`` as text.

    Human mode picks the largest unit and keeps at most three decimals, marking a rounded value with
    ``~``.  Exact mode picks the largest unit that divides ``nbytes``.

    Examples
    --------
    >>> size(16 << 30), size(1054867456), size(1054867456, exact=True)
    ('16 GiB', '1006 MiB', '1006 MiB')
    >>> size(10001), size(10001, exact=True)
    ('~9.767 KiB', '10001 B')
    """
    if nbytes < 0:
        return "-" + size(-nbytes, exact)
    power = 0
    while power < len(_UNITS) - 1 and nbytes >= 1024 << (10 * power):
        power += 1
    if power and nbytes % (1 << (10 * power)) and nbytes % (1 << (10 * (power - 1))) == 0:
        lower = nbytes >> (10 * (power - 1))
        if exact or lower < 10000:
            return f"{lower} {_UNITS[power - 1]}"
    if exact:
        while nbytes % (1 << (10 * power)):
            power -= 1
        return f"{nbytes >> (10 * power)} {_UNITS[power]}"
    value = nbytes / (1 << (10 * power))
    short = f"{value:.3f}".rstrip("0").rstrip(".")
    return f"{short if float(short) == value else '~' + short} {_UNITS[power]}"


def parse_size(text: str | int) -> int:
    """Bytes in ``text``: a number with an optional binary unit (``16G``, ``2MiB``, ``4096``).

    Raises
    ------
    WorkbenchError
        ``text`` is not a size, or not a whole number of bytes.

    Examples
    --------
    >>> parse_size("16G"), parse_size("2 MiB"), parse_size("0x1000"), parse_size(4096)
    (17179869184, 2097152, 4096, 4096)
    """
    if isinstance(text, int):
        return text
    plain = text.strip()
    if plain.lower().startswith("0x"):
        try:
            return int(plain, 16)
        except ValueError:
            pass
    match = _SIZE.fullmatch(plain)
    if match is None:
        raise WorkbenchError(
            f"a size is a number with an optional unit K, M, G, T or P; got {text!r}. Write 16G, 2M or 4096."
        )
    number, unit = match.groups()
    nbytes = Decimal(number) * (1 << (10 * " kmgtp".index(unit.lower() or " ")))
    if nbytes != int(nbytes):
        raise WorkbenchError(f"{text!r} is {nbytes} bytes; a size is a whole number of bytes. Use a smaller unit.")
    return int(nbytes)


def pfn(number: int) -> str:
    """A page frame number in hex.

    Examples
    --------
    >>> pfn(0x140000)
    '0x140000'
    """
    return f"{number:#x}"


def pfn_range(start_pfn: int, nr_pages: int) -> str:
    """``nr_pages`` pages from ``start_pfn``, the last pfn included.

    Examples
    --------
    >>> pfn_range(0x100000, 1000)
    'pfn 0x100000-0x1003e7'
    """
    if nr_pages < 1:
        return f"pfn {start_pfn:#x}, no pages"
    return f"pfn {start_pfn:#x}-{start_pfn + nr_pages - 1:#x}"


def word(value: int) -> str:
    """A 64-bit word as sixteen hex digits.

    Examples
    --------
    >>> word(0x27ffffc0001000)
    '0027ffffc0001000'
    """
    return f"{value:016x}"


def count(number: int) -> str:
    """A count with thousands separated.

    Examples
    --------
    >>> count(262144)
    '262,144'
    """
    return f"{number:,}"
