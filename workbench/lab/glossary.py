# SPDX-License-Identifier: GPL-2.0-only
"""The words of the trade, explained where a page first says them: ``data/glossary.json``."""

from __future__ import annotations

import json
import re
from functools import cache
from html import escape
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout

FILE = "data/glossary.json"
SCHEMA = "devmap-workbench/glossary/1"

_TAG = re.compile(r"(<!--.*?-->|<[^>]*>)", re.DOTALL)
_NAME = re.compile(r"<(/?)([a-zA-Z][\w-]*)")
_LEFT_ALONE = frozenset({"a", "abbr", "button", "code", "math", "pre", "script", "style", "svg"}) | {
    f"h{level}" for level in range(1, 7)
}
_TEXT_OF_A_CELL = "jp-RenderedMarkdown"


def read(path: Path) -> dict[str, str]:
    """Every name of every term, and what it means.

    Parameters
    ----------
    path : pathlib.Path
        JSON of schema :data:`SCHEMA`.

    Raises
    ------
    WorkbenchError
        The file is missing or not of that form, or a name comes twice.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] != SCHEMA:
            raise ValueError(f"schema {raw['schema']!r} instead of {SCHEMA!r}")
        pairs = [(str(name), str(term["means"])) for term in raw["terms"] for name in term["names"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WorkbenchError(f"{path} is no glossary: {error!r}. Take it from git.") from error
    found = dict(pairs)
    if len(found) < len(pairs):
        raise WorkbenchError(f"{path}: a name has two meanings. Keep one.")
    return found


@cache
def glossary() -> dict[str, str]:
    """The committed file, read once."""
    return read(Checkout.find().root / FILE)


def explained(html: str, terms: dict[str, str] | None = None) -> str:
    """``html`` with the first mention of each term in the text cells of a notebook's page explained on hover.

    Parameters
    ----------
    html : str
        A page of nbconvert.  Code, headings, links and figures are left alone.
    terms : dict of str to str, optional
        Name to meaning; names of one meaning are one term.  :func:`glossary` if not given.

    Returns
    -------
    str
        With ``<abbr class="term" title=...>`` around each, which the keyboard reaches too.
    """
    terms = glossary() if terms is None else terms
    names = "|".join(re.escape(name) for name in sorted(terms, key=len, reverse=True))
    mention = re.compile(rf"(?<![\w/.-])(?:{names})(?![\w/-]|\.\w|\()")
    told: set[str] = set()

    def explain(match: re.Match[str]) -> str:
        means = terms[match[0]]
        if means in told:
            return match[0]
        told.add(means)
        return f'<abbr class="term" tabindex="0" title="{escape(means)}">{match[0]}</abbr>'

    out: list[str] = []
    divs = alone = 0  # open <div> since the cell's text began; open tags whose text is left alone
    for part in _TAG.split(html):
        tag = _NAME.match(part)
        if tag is None:
            out.append(mention.sub(explain, part) if divs and not alone and not part.startswith("<") else part)
            continue
        step = -1 if tag[1] else 1
        if tag[2] == "div" and (divs or _TEXT_OF_A_CELL in part):
            divs += step
        elif divs and tag[2].lower() in _LEFT_ALONE and not part.endswith("/>"):
            alone += step
        out.append(part)
    return "".join(out)
