# SPDX-License-Identifier: GPL-2.0-only
"""An executed notebook as one HTML file that opens offline and needs no kernel.

The page is JupyterLab's look with every script left out: no require.js, no MathJax (write formulas as
text), no plotly.js, no widget manager.  Each interactive thing is replaced by its static twin:

* a plotly figure by an SVG, with its caption below and its alt text;
* a widget by the image, HTML or text of its own mime bundle; one that has none but its ``repr`` (a slider)
  by a line saying that it is interactive in JupyterLab;
* links to other notebooks by links to their pages; those of the glossary keep what they say on hover, see
  :mod:`workbench.lab.glossary`.

A committed figure (``../docs/figures/...``) in the text is left out: it is there for those who see a notebook
without its outputs, and the page has the outputs.

:func:`external_loads` finds whatever a page would still load.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from nbconvert import HTMLExporter
from nbformat import NotebookNode
from traitlets.config import Config

from workbench.errors import WorkbenchError
from workbench.lab.notebooks import code_cells, title

StaticImage = Callable[[Mapping[str, Any]], tuple[str, str, str]]
"""Takes a figure as plotly's JSON, returns SVG, caption and alt text."""

PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"

_SHOWN = ("text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain")
_LINK = re.compile(r"(\]\(|href=\"|^\[[^\]\n]+\]: )((?:\./)?[\w.-]+)\.ipynb(?=[)#\" ])", re.MULTILINE)
_KEY_FIGURE = re.compile(
    r"\n*(?:<details><summary>[^<]*</summary>\n\n)?!\[[^\]]*\]\(\.\./docs/figures/[\w.-]+\)(?:\n\n</details>)?"
)
_CSS_LOAD = re.compile(r"""@import\s+(?:url\()?\s*["']?([^"')\s;]+)|url\(\s*["']?([^"')\s]+)""")
_SCRIPT_LOAD = re.compile(r"""(?:https?:)?//[\w.-]+\.\w+[^\s"'`<>)]*""")

# Attributes through which a browser loads something; <a href> only leads somewhere.
_LOADING = ("src", "srcset", "poster", "data", "background", "xlink:href")
_LOADING_HREF = ("link", "image", "use", "feimage", "base")


def attach_static(notebook: NotebookNode, static_image: StaticImage) -> NotebookNode:
    """Add to every plotly output its SVG, its caption and its alt text.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        An executed notebook; changed in place and returned.
    static_image : callable
        ``Exporter.static_image`` of ``workbench.view.export``.

    Raises
    ------
    WorkbenchError
        A figure has no caption or alt text, or cannot be drawn; the message names the cell.
    """
    for index, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if PLOTLY in output.get("data", {}):
                try:
                    svg, caption, alt = static_image(output.data[PLOTLY])
                except WorkbenchError as error:
                    raise WorkbenchError(f"cell {index + 1} (id {cell.get('id', 'none')}): {error}") from error
                output.data["image/svg+xml"] = svg
                output.metadata.update(caption=caption, alt=alt)
    return notebook


def page(notebook: NotebookNode, name: str, pages: Sequence[tuple[str, str]] = ()) -> str:
    """The HTML of an executed notebook.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        Executed, with static images attached; not changed.
    name : str
        The notebook's file name without suffix.
    pages : sequence of (str, str)
        File name and title of every page, for the line of links at the top.

    Returns
    -------
    str
        One HTML document.

    Raises
    ------
    WorkbenchError
        It would load something; the message lists what.
    """
    still = copy.deepcopy(notebook)
    still.metadata.pop("widgets", None)
    for cell in still.cells:
        if cell.cell_type == "markdown":
            cell.source = _LINK.sub(r"\1\2.html", _KEY_FIGURE.sub("", cell.source))
    for cell in code_cells(still):
        cell.outputs = [_still(output) for output in cell.outputs]
    exporter = HTMLExporter(
        template_name="offline",
        extra_template_basedirs=[str(Path(__file__).parent / "templates")],
        embed_images=True,
        config=Config({"NbConvertBase": {"display_data_priority": list(_SHOWN)}}),
    )
    resources = {"metadata": {"name": title(still, name)}, "pages": list(pages), "page": f"{name}.html"}
    html, _ = exporter.from_notebook_node(still, resources)
    if loads := external_loads(html):
        listed = ", ".join(loads[:5]) + (" ..." if len(loads) > 5 else "")
        raise WorkbenchError(
            f"the page of {name}.ipynb would load {listed}, so it would not open offline. "
            "Embed it as a data: URI, or leave it out."
        )
    return html


def _still(output: NotebookNode) -> NotebookNode:
    """``output`` without what needs a kernel or a script."""
    data = output.get("data")
    if data is None:
        return output
    for mime in ("image/svg+xml", "image/png"):
        if mime in data:
            # a picture is shown before any HTML that would need a script to draw the same
            output.data = NotebookNode({mime: data[mime]})
            own = output.metadata.get(mime) or {}
            plain = data.get("text/plain", "")
            output.metadata = NotebookNode(
                {
                    "alt": output.metadata.get("alt") or own.get("alt") or plain,
                    "caption": output.metadata.get("caption") or own.get("caption") or "",
                }
            )
            return output
    if data.pop(WIDGET, None) is not None and not set(data) & {"text/html", "text/markdown", "image/jpeg"}:
        data["text/html"] = '<p class="static">Interactive in JupyterLab: a control stands here.</p>'
    return output


class _Loads(HTMLParser):
    """Collects what a document would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag if tag in ("script", "style") else ""
        for name, value in attrs:
            text = (value or "").strip()
            if name in _LOADING or (name == "href" and tag in _LOADING_HREF):
                # a comma separates candidates of srcset, and is part of a data: URI
                parts = [part.split()[0] for part in text.split(",") if part.strip()] if name == "srcset" else [text]
                self._keep(parts)
            elif name == "style":
                self._keep(_css_loads(text))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self._keep(_css_loads(data))
        elif self._inside == "script":
            self._keep(_SCRIPT_LOAD.findall(data))

    def _keep(self, addresses: Sequence[str]) -> None:
        self.found += [
            address for address in addresses if address and not address.startswith(("data:", "#", "about:", "blob:"))
        ]


def _css_loads(text: str) -> list[str]:
    return [imported or url for imported, url in _CSS_LOAD.findall(text)]


def external_loads(html: str) -> list[str]:
    """What a browser would load for ``html`` besides the document itself.

    Links (``<a href>``) are not loads.  Every address in a script counts, since a script can load it.

    Parameters
    ----------
    html : str
        An HTML document.

    Returns
    -------
    list of str
        Addresses, in order; empty if the document opens offline.

    Examples
    --------
    >>> external_loads('<a href="https://lwn.net">x</a><img src="data:image/png;base64,AA==">')
    []
    >>> external_loads('<script src="https://cdn.plot.ly/plotly.js"></script><style>@import "a.css"</style>')
    ['https://cdn.plot.ly/plotly.js', 'a.css']
    """
    parser = _Loads()
    parser.feed(html)
    parser.close()
    return parser.found
