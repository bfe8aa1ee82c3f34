# SPDX-License-Identifier: GPL-2.0-only
"""The words of the trade, explained where a notebook first says them: ``data/glossary.json``.

A notebook links the first mention of a term to the notebook that shows it; the title of the link is what the term
means, and is shown on hover.  So it works wherever Markdown is shown: in JupyterLab, in Voilà, on GitHub and in the
exported pages, without a script.  In the source it is a word in brackets and a line at the end of the cell::

    With an [altmap] the struct pages lie on the device.

    [altmap]: 12_altmap.ipynb "Struct pages kept on the device they describe ..."

:func:`marked` writes both, ``make glossary`` does it for all notebooks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

from nbformat import NotebookNode

from workbench.errors import WorkbenchError
from workbench.lab.checkout import Checkout

FILE = "data/glossary.json"
SCHEMA = "devmap-workbench/glossary/2"

TERMS_CSS = (
    "<style>abbr.term{text-decoration:underline dotted;text-underline-offset:3px;cursor:help;position:relative}"
    "abbr.term:focus::after{content:attr(title);position:absolute;left:0;top:1.6em;z-index:2;width:320px;"
    "padding:6px 10px;background:#fff;color:#222;border:1px solid #777;border-radius:4px}</style>"
)
"""How a page that shows :func:`explained` text draws its terms; what hovering shows, the keyboard's focus shows too."""

_DEFINED = re.compile(r'\n+^\[([^\]\n]+)\]: [\w.-]+\.ipynb "(?:[^"\\\n]|\\.)*"$', re.MULTILINE)
_LEFT_ALONE = re.compile(
    r"""
      ^(?:```|~~~).*?^(?:```|~~~)[^\n]*$     # code
    | ^\ {0,3}<.*?(?:\n[ \t]*\n|\Z)          # HTML, up to an empty line
    | ^\ {0,3}\#[^\n]*$                      # a heading
    | ^\ {0,3}\|[^\n]*$                      # a row of a table
    | (?P<ticks>`+).+?(?P=ticks)
    | !?\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])   # a link, an image
    | <[^>]+>
    """,
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Term:
    """What a word means, and the notebook, without suffix, that shows it."""

    means: str
    shown_in: str


def read(path: Path) -> dict[str, Term]:
    """Every name of every term.

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
        terms = [(term["names"], Term(str(term["means"]), str(term["shown_in"]))) for term in raw["terms"]]
        pairs = [(str(name), term) for names, term in terms for name in names]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WorkbenchError(f"{path} is no glossary: {error!r}. Take it from git.") from error
    found = dict(pairs)
    if len(found) < len(pairs):
        raise WorkbenchError(f"{path}: a name has two meanings. Keep one.")
    return found


@cache
def glossary() -> dict[str, Term]:
    """The committed file, read once."""
    return read(Checkout.find().root / FILE)


def marked(notebook: NotebookNode, terms: Mapping[str, Term] | None = None) -> NotebookNode:
    """``notebook`` with the first mention of each term in its text explained, and no other.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        Changed in place and returned.  Code, headings, tables, links and HTML are left alone; marks that are there
        are written anew.
    terms : mapping of str to Term, optional
        By name; names of one meaning are one term.  :func:`glossary` if not given.
    """
    terms = glossary() if terms is None else terms
    mention = _mention(terms)
    told: set[str] = set()
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        source = unmarked(cell.source)
        here: list[str] = []

        def explain(match: re.Match[str], here: list[str] = here) -> str:
            means = terms[match[0]].means
            if means in told:
                return match[0]
            told.add(means)
            here.append(match[0])
            return f"[{match[0]}]"

        out, at = [], 0
        for alone in _LEFT_ALONE.finditer(source):
            out += [mention.sub(explain, source[at : alone.start()]), alone[0]]
            at = alone.end()
        out.append(mention.sub(explain, source[at:]))
        definitions = [f'[{name}]: {terms[name].shown_in}.ipynb "{_quoted(terms[name].means)}"' for name in here]
        cell.source = "\n\n".join(["".join(out), *(["\n".join(definitions)] if definitions else [])])
    return notebook


def unmarked(source: str) -> str:
    """The text of a cell without what :func:`marked` wrote."""
    names = _DEFINED.findall(source)
    source = _DEFINED.sub("", source)
    for name in names:
        source = re.sub(rf"(?<!!)\[({re.escape(name)})\](?![(\[])", r"\1", source)
    return source


def explained(text: str) -> str:
    """Plain text as HTML for a widget, with the first mention of each term explained on hover.

    Examples
    --------
    >>> explained("an altmap & so on")  # doctest: +ELLIPSIS
    'an <abbr class="term" tabindex="0" title="Struct pages kept ...">altmap</abbr> &amp; so on'
    """
    terms, told = glossary(), set()
    out, at = [], 0
    for match in _mention(terms).finditer(text):
        means = terms[match[0]].means
        if means not in told:
            told.add(means)
            out += [escape(text[at : match.start()]), f'<abbr class="term" tabindex="0" title="{escape(means)}">']
            out += [escape(match[0]), "</abbr>"]
            at = match.end()
    return "".join([*out, escape(text[at:])])


def _mention(terms: Mapping[str, Term]) -> re.Pattern[str]:
    """What matches a name that is no part of a path, of another name or of a call, and begins no definition."""
    names = "|".join(re.escape(name) for name in sorted(terms, key=len, reverse=True))
    return re.compile(rf"(?<![\w/.\[-])(?:{names})(?![\w/\]:-]|\.\w|\()")


def _quoted(means: str) -> str:
    return means.replace("\\", r"\\").replace('"', r"\"")
