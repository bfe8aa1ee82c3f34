# SPDX-License-Identifier: GPL-2.0-only
"""Figures as SVG, PDF and PNG whose bytes depend on the figure alone.

An :class:`Exporter` is one browser for any number of figures (2 s to start, 0.2 s a file)::

    with Exporter() as exporter:
        files = exporter.files("overhead", fig, 900, 520, title, description, digest)
        # {"overhead.svg": bytes, "overhead.pdf": bytes, "overhead.png": bytes}

How the bytes are pinned:

* the page that draws has a seeded ``Math.random`` and no MathJax, and is loaded anew for every file, so
  neither the order of figures nor what was drawn before shows;
* ids in the SVG, dates and the program's name in the PDF are replaced (``workbench.view.stamp``);
* width, height, scale, template and font family are the figure's own, never a default.

What is left are the browser's major version and the fonts it finds: ``Exporter.browser`` names both, the
sidecar keeps them, and only under the same two are bytes compared.  Fonts are told apart by the face that
the browser really used and by a hash of the widths that it measures, so that another version of the same
font, or other hinting, is seen.

**Every figure has a caption and an alt text**: ``describe(fig, caption=..., alt=...)`` keeps both in the
figure itself (``fig.layout.meta``).  In a notebook::

    describe(fig, caption="...", alt="...")      # last line of the cell shows the figure

JupyterLab shows the interactive figure.  The main job adds the static image, its alt text and its caption
to the executed notebook, so a kernel needs no browser.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import kaleido
import plotly.graph_objects as go
import plotly.io as pio
from choreographer.browsers.chromium import Chromium
from kaleido.errors import KaleidoError

from workbench.errors import WorkbenchError
from workbench.lab.loop import LoopThread
from workbench.view.palette import FONTS
from workbench.view.stamp import stamp_pdf, stamp_svg

FORMATS = ("svg", "pdf", "png")
PNG_SCALE = 2
START_S = 60
"""Seconds in which a browser must have started."""

INSTALL = "apt-get install -y chromium fonts-dejavu-core"

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

# A xorshift generator instead of the browser's; the page is loaded anew for each file, so it starts anew.
_SEEDED = """<script>
(function () {
    let state = 0x2545F491;
    Math.random = function () {
        state ^= state << 13; state ^= state >>> 17; state ^= state << 5;
        return (state >>> 0) / 4294967296;
    };
})();
</script>
"""

# Puts one line of text a face into the page, measures it, and takes it out again in _UNPROBE.
_PROBE = """(() => {
    const text = Array.from({length: 95}, (_, k) => String.fromCharCode(32 + k)).join("") + "×·–—→←≥≤µ…±²";
    const canvas = document.createElement("canvas").getContext("2d");
    return %s.map(([family, weight], k) => {
        const line = document.createElement("span");
        line.id = "probe-" + k;
        line.textContent = text;
        line.style.cssText = `font: ${weight} 13px "${family}", sans-serif`;
        document.body.append(line);
        canvas.font = line.style.font;
        return [...text].map(c => canvas.measureText(c).width).concat(line.getBoundingClientRect().width).join();
    });
})()"""
_UNPROBE = """document.querySelectorAll("[id^=probe-]").forEach(line => line.remove())"""


class _SeededPage(kaleido.PageGenerator):
    """kaleido's page with a random generator that always starts alike."""

    header = kaleido.PageGenerator.header + _SEEDED


def find_browser() -> Path:
    """The Chrome or Chromium that draws figures.

    ``BROWSER_PATH`` names it; else it is the first of chromium, chromium-browser, google-chrome,
    google-chrome-stable and chrome on PATH; else one that choreographer knows (its own download, Edge,
    Brave and the usual folders).

    Returns
    -------
    pathlib.Path
        An executable.

    Raises
    ------
    WorkbenchError
        There is none; the message has the command that installs one.
    """
    if named := os.environ.get("BROWSER_PATH"):
        if not (path := shutil.which(named)):
            raise WorkbenchError(
                f"BROWSER_PATH={named} is no program. Correct it, or look on PATH:   unset BROWSER_PATH"
            )
        return Path(path)
    found = next(filter(None, map(shutil.which, _NAMES)), None) or Chromium.find_browser(skip_local=False)
    if not found:
        raise WorkbenchError(
            f"no Chrome or Chromium on PATH, and figures are drawn by one. Install it:   {INSTALL}\n"
            "or name one:   export BROWSER_PATH=/path/to/chrome"
        )
    return Path(found)


def describe(fig: go.Figure, *, caption: str, alt: str) -> go.Figure:
    """``fig`` with its caption and alt text.

    Parameters
    ----------
    fig : plotly.graph_objects.Figure
        Changed in place.
    caption : str
        One or two sentences below the figure: what to see, and where the numbers come from.
    alt : str
        What a person who does not see the figure is told: its kind, its axes, its message.

    Returns
    -------
    plotly.graph_objects.Figure
        ``fig``, so that a notebook cell can end with the call.

    Raises
    ------
    WorkbenchError
        One of the two is empty.
    """
    for name, text in (("caption", caption), ("alt text", alt)):
        if not text.strip():
            raise WorkbenchError(f"the figure's {name} is empty. Write one or two sentences.")
    fig.layout.meta = {**(fig.layout.meta or {}), "caption": caption, "alt": alt}
    return fig


def description(fig: go.Figure | Mapping[str, Any]) -> tuple[str, str]:
    """Caption and alt text of a figure, or of one as JSON.

    Raises
    ------
    WorkbenchError
        It was not passed through :func:`describe`.
    """
    layout = (fig.to_dict() if isinstance(fig, go.Figure) else fig).get("layout", {})
    meta = layout.get("meta") or {}
    if not (meta.get("caption") and meta.get("alt")):
        text = (layout.get("title") or {}).get("text", "without a title")
        raise WorkbenchError(f"the figure {text!r} has no caption or alt text. Pass it through view.export.describe().")
    return meta["caption"], meta["alt"]


class Exporter:
    """One browser that draws figures; a context manager.

    Parameters
    ----------
    path : pathlib.Path, optional
        The browser; :func:`find_browser` looks for one if not given.

    Raises
    ------
    WorkbenchError
        On entry: there is no browser, or it does not start.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or find_browser()

    def __enter__(self) -> Self:
        self._loop = LoopThread().__enter__()
        try:
            self._browser = self._loop.run(asyncio.wait_for(self._open(), START_S))
        except BaseException as error:
            self._loop.__exit__()
            if not isinstance(error, Exception):
                raise
            raise WorkbenchError(
                f"the browser {self._path} did not start within {START_S} s: {' '.join(map(str, error.args))} "
                f"Try it:   {self._path} --headless --no-sandbox --dump-dom about:blank"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._loop.run(self._kaleido.close())
        finally:
            self._loop.__exit__()

    @property
    def browser(self) -> dict[str, Any]:
        """``version`` (str), ``major`` (int) and ``fonts`` (list of dict) of the running browser.

        A font is ``asked`` (family), ``weight``, ``used`` (PostScript names of the faces used) and ``widths``
        (SHA-256 of the measured text widths).
        """
        return self._browser

    def render(self, fig: go.Figure | Mapping[str, Any], form: str, width_px: int, height_px: int) -> bytes:
        """``fig`` as the browser gives it, before anything is stamped.

        Parameters
        ----------
        fig : plotly.graph_objects.Figure or mapping
            A figure, or one as plotly's JSON.
        form : {"svg", "pdf", "png"}
            PNG has :data:`PNG_SCALE` times as many pixels.
        width_px, height_px : int
            Size in CSS pixels.

        Raises
        ------
        WorkbenchError
            plotly refuses the figure, or the browser stops.
        """
        scale = PNG_SCALE if form == "png" else 1
        options = {"format": form, "width": width_px, "height": height_px, "scale": scale}
        spec = json.loads(fig.to_json()) if isinstance(fig, go.Figure) else fig
        try:
            content: bytes = self._loop.run(self._kaleido.calc_fig(spec, options))
        except (KaleidoError, RuntimeError, TimeoutError, ValueError) as error:
            raise WorkbenchError(
                f"the browser did not draw the figure as {form}, {width_px} x {height_px} px: {error}. "
                "Look at it in a notebook: fig.show()."
            ) from error
        return content

    def svg(
        self, fig: go.Figure | Mapping[str, Any], width_px: int, height_px: int, title: str, text: str, digest: str
    ) -> bytes:
        """``fig`` as a stamped SVG; arguments as in :meth:`files`."""
        return stamp_svg(self.render(fig, "svg", width_px, height_px), title, text, digest)

    def files(
        self, name: str, fig: go.Figure, width_px: int, height_px: int, title: str, text: str, digest: str
    ) -> dict[str, bytes]:
        """``fig`` in every format, stamped.

        Parameters
        ----------
        name : str
            Stem of the file names.
        fig : plotly.graph_objects.Figure
            The figure.
        width_px, height_px : int
            Size in CSS pixels.
        title, text : str
            Embedded in SVG and PDF.
        digest : str
            SHA-256 of the inputs in hex, embedded in SVG and PDF.

        Returns
        -------
        dict of str to bytes
            File name to content, for every one of :data:`FORMATS`.
        """
        stamps: dict[str, Callable[..., bytes]] = {"svg": stamp_svg, "pdf": stamp_pdf}
        content = {form: self.render(fig, form, width_px, height_px) for form in FORMATS}
        return {
            f"{name}.{form}": stamps[form](raw, title, text, digest) if form in stamps else raw
            for form, raw in content.items()
        }

    def static_image(self, spec: Mapping[str, Any]) -> tuple[str, str, str]:
        """The static twin of an interactive figure in a notebook.

        Parameters
        ----------
        spec : mapping
            The figure as plotly's JSON, with ``layout.meta`` from :func:`describe`.

        Returns
        -------
        tuple of (str, str, str)
            SVG, caption, alt text.

        Raises
        ------
        WorkbenchError
            It has no caption or alt text, or cannot be drawn.
        """
        caption, alt = description(spec)
        layout = spec["layout"]
        digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()
        title = (layout.get("title") or {}).get("text") or caption
        size = int(layout.get("width") or 900), int(layout.get("height") or 480)
        return self.svg(spec, *size, title, alt, digest).decode(), caption, alt

    async def _open(self) -> dict[str, Any]:
        self._kaleido = kaleido.Kaleido(path=self._path, page_generator=_SeededPage(mathjax=False))
        await self._kaleido.open()
        product = (await self._kaleido.send_command("Browser.getVersion"))["result"]["product"]
        number = product.partition("/")[2]
        return {"version": product, "major": int(number.split(".")[0]), "fonts": await self._fonts()}

    async def _fonts(self) -> list[dict[str, Any]]:
        """What the browser makes of each family and weight that figures ask for."""
        tab = next(iter(self._kaleido.tabs.values()))
        faces = [(family, weight) for family in FONTS for weight in (400, 700)]

        async def ask(command: str, **params: Any) -> dict[str, Any]:
            result: dict[str, Any] = (await tab.send_command(command, params=params))["result"]
            return result

        async def evaluate(script: str) -> Any:
            return (await ask("Runtime.evaluate", expression=script, returnByValue=True))["result"].get("value")

        widths = await evaluate(_PROBE % json.dumps(faces))
        await ask("DOM.enable")
        await ask("CSS.enable")
        root = (await ask("DOM.getDocument"))["root"]["nodeId"]
        fonts = []
        for number, (family, weight) in enumerate(faces):
            node = (await ask("DOM.querySelector", nodeId=root, selector=f"#probe-{number}"))["nodeId"]
            used = (await ask("CSS.getPlatformFontsForNode", nodeId=node))["fonts"]
            fonts.append(
                {
                    "asked": family,
                    "weight": weight,
                    "used": sorted(face["postScriptName"] for face in used),
                    "widths": hashlib.sha256(widths[number].encode()).hexdigest(),
                }
            )
        await ask("CSS.disable")
        await ask("DOM.disable")
        await evaluate(_UNPROBE)
        return fonts


def figure_json(fig: go.Figure) -> str:
    """``fig`` as plotly's JSON with its template, the same text for the same figure."""
    text: str = pio.to_json(fig, validate=True, pretty=False, remove_uids=True)
    return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
