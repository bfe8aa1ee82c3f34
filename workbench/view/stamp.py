# SPDX-License-Identifier: GPL-2.0-only
"""Make an SVG or PDF from the browser say what it is, and nothing that changes from run to run.

Both get the title, the description and the hash of the inputs.  The SVG's ids, random in the browser,
become a function of that hash, so that two figures can stand in one page.  The PDF loses the two dates
and the name of the browser: those are in the sidecar.
"""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

from workbench.errors import WorkbenchError

CREATOR = "Devmap Workbench"

_UID = re.compile(r'id="defs-([0-9a-f]{6})"')
_INFO = re.compile(rb"(?<=\n)1 0 obj\n<<.*?>>\nendobj\n", re.DOTALL)
_XREF = re.compile(rb"xref\n0 (\d+)\n((?:\d{10} \d{5} [fn] \n)+)trailer\n")
_START = re.compile(rb"startxref\n(\d+)\n%%EOF\s*\Z")


def stamp_svg(svg: bytes, title: str, description: str, digest: str) -> bytes:
    """``svg`` with title, description, hash and ids that follow from the hash.

    Parameters
    ----------
    svg : bytes
        As plotly exports it.
    title, description : str
        For screen readers and search.
    digest : str
        SHA-256 of the inputs, in hex.

    Raises
    ------
    WorkbenchError
        ``svg`` has not the form that plotly writes.

    Examples
    --------
    >>> stamp_svg(b'<svg class="main-svg"><defs id="defs-0a1b2c"></defs></svg>', "T", "D", "f" * 64)[:51]
    b'<svg role="img" aria-labelledby="title-ffffffffffff'
    """
    text = svg.decode()
    uid = _UID.search(text)
    if not text.startswith("<svg ") or uid is None:
        raise WorkbenchError("the browser returned no SVG of plotly's form. Run with the locked plotly and kaleido.")
    new = digest[:12]
    text = re.sub(rf'((?:id="|#)[A-Za-z-]*){uid[1]}', rf"\g<1>{new}", text)
    head, tail = text.split(">", 1)
    head = head.replace("<svg ", f'<svg role="img" aria-labelledby="title-{new} desc-{new}" ', 1)
    return (
        f'{head}><title id="title-{new}">{escape(title)}</title><desc id="desc-{new}">{escape(description)}</desc>'
        f"<metadata>inputs sha256:{digest}</metadata>{tail}\n"
    ).encode()


def stamp_pdf(pdf: bytes, title: str, description: str, digest: str) -> bytes:
    """``pdf`` with its information dictionary replaced; offsets of what follows are moved.

    Parameters
    ----------
    pdf : bytes
        As the browser prints it: object 1 is the information dictionary, one classic
        cross-reference table at the end.
    title, description : str
        Become ``/Title`` and ``/Subject``.
    digest : str
        SHA-256 of the inputs, in hex; becomes ``/Keywords``.

    Raises
    ------
    WorkbenchError
        ``pdf`` has another form.
    """
    info, table, start = _INFO.search(pdf), _XREF.search(pdf), _START.search(pdf)
    if info is None or table is None or start is None or b"/Info 1 0 R" not in pdf[table.end() :]:
        raise WorkbenchError(
            "the browser printed a PDF of a form that is not known here, so dates and title cannot be set. "
            "Use a Chrome or Chromium whose major version a sidecar in docs/figures names."
        )
    entries = [
        f"/{name} {_text_string(value)}"
        for name, value in (
            ("Title", title),
            ("Subject", description),
            ("Keywords", f"inputs sha256:{digest}"),
            ("Creator", CREATOR),
        )
    ]
    written = ("1 0 obj\n<<" + "\n".join(entries) + ">>\nendobj\n").encode()
    moved = len(written) - (info.end() - info.start())

    def shift(offset: int) -> int:
        return offset + moved if offset >= info.end() else offset

    rows = re.sub(rb"(\d{10})(?= \d{5} n )", lambda row: b"%010d" % shift(int(row[1])), table[2])
    return b"".join(
        (
            pdf[: info.start()],
            written,
            pdf[info.end() : table.start()],
            b"xref\n0 %s\n%strailer\n" % (table[1], rows),
            pdf[table.end() : start.start()],
            b"startxref\n%d\n%%%%EOF\n" % shift(int(start[1])),
        )
    )


def _text_string(text: str) -> str:
    """A PDF text string: readable where it is ASCII, else hexadecimal UTF-16."""
    if text.isascii():
        return "(" + re.sub(r"([()\\\\])", r"\\\1", text) + ")"
    return f"<FEFF{text.encode('utf-16-be').hex().upper()}>"
