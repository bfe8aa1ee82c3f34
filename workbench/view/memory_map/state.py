# SPDX-License-Identifier: GPL-2.0-only
"""What a memory map shows, as one line that can be copied: ``tree=5.16+11/pgmap=0/pfn=0x100201/word=1``.

The four parts above are always there; ``bit``, ``zoom``, ``layer``, ``op`` and ``step`` follow where they say
something.  What is left out has its default.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from workbench.abi import WORDS
from workbench.errors import WorkbenchError

_PARTS = ("tree", "pgmap", "pfn", "word", "bit", "zoom", "layer", "op", "step")
_NEEDED = _PARTS[:3]
_BETWEEN = re.compile(rf"/(?=(?:{'|'.join(_PARTS)})=)")
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+")
_ZOOM = re.compile(r"(?P<start>0x[0-9a-fA-F]+|\d+)-(?P<last>0x[0-9a-fA-F]+|\d+)")


@dataclass(frozen=True, slots=True)
class State:
    """What is shown.

    Attributes
    ----------
    tree : str
        Name of the kernel.
    pgmap : int
        Number of the range of the device's pgmap.
    pfn : int
        The struct page taken apart.
    word, bit : int
        The word of it (0 to 7) shown as bits, and the bit (0 to 63) that is spoken of.
    zoom : (int, int) or None
        First pfn, and the pfn after the last, of the strip below the device; None: the pfn's section.
    layer : str
        What the strips show.
    op, step : int
        Number of the operation played, and how many of its stores are made; step -1: none is played.

    Raises
    ------
    WorkbenchError
        A word or bit that does not exist, an empty zoom.
    """

    tree: str
    pgmap: int
    pfn: int
    word: int = 0
    bit: int = 0
    zoom: tuple[int, int] | None = None
    layer: str = "roles"
    op: int = 0
    step: int = -1

    def __post_init__(self) -> None:
        if not 0 <= self.word < WORDS or not 0 <= self.bit < 64:
            raise WorkbenchError(f"a struct page has words 0 to 7 of bits 0 to 63; got word {self.word}, {self.bit}.")
        if self.zoom is not None and self.zoom[0] >= self.zoom[1]:
            raise WorkbenchError(f"zoom {self.zoom[0]:#x}-{self.zoom[1] - 1:#x} is empty. Give its first and last pfn.")

    def __str__(self) -> str:
        text = f"tree={self.tree}/pgmap={self.pgmap}/pfn={self.pfn:#x}/word={self.word}"
        if self.bit:
            text += f"/bit={self.bit}"
        if self.zoom is not None:
            text += f"/zoom={self.zoom[0]:#x}-{self.zoom[1] - 1:#x}"
        if self.layer != "roles":
            text += f"/layer={self.layer}"
        if self.step >= 0:
            text += (f"/op={self.op}" if self.op else "") + f"/step={self.step}"
        return text

    @classmethod
    def parse(cls, text: str) -> State:
        """Read what ``str()`` writes; parts may come in any order.

        Parameters
        ----------
        text : str

        Raises
        ------
        WorkbenchError
            A part that is not known, given twice, missing or not a number.

        Examples
        --------
        >>> State.parse("tree=5.16+11/pgmap=0/pfn=0x100201/word=1")
        State(tree='5.16+11', pgmap=0, pfn=1049089, word=1, bit=0, zoom=None, layer='roles', op=0, step=-1)
        """
        parts: dict[str, str] = {}
        for part in _BETWEEN.split(text.strip()):
            name, equals, value = part.partition("=")
            if not equals or name not in _PARTS or name in parts or not value:
                raise WorkbenchError(
                    f"{part!r} is no part of a view, or comes twice. Write tree=5.16+11/pgmap=0/pfn=0x100201/word=1; "
                    f"known parts: {', '.join(_PARTS)}."
                )
            parts[name] = value
        if missing := [name for name in _NEEDED if name not in parts]:
            raise WorkbenchError(f"{text!r} does not say {', '.join(missing)}. Write for example {missing[0]}=0.")
        numbers = {name: _number(name, parts[name]) for name in parts if name not in ("tree", "zoom", "layer")}
        zoom = _zoom(parts["zoom"]) if "zoom" in parts else None
        return cls(tree=parts["tree"], zoom=zoom, layer=parts.get("layer", "roles"), **numbers)


def _number(name: str, text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise WorkbenchError(f"{name}={text}: write a number, such as 12 or 0x100200.")
    return int(text, 0)


def _zoom(text: str) -> tuple[int, int]:
    match = _ZOOM.fullmatch(text)
    if match is None:
        raise WorkbenchError(f"zoom={text}: write the first and the last pfn, such as 0x100000-0x107fff.")
    return int(match["start"], 0), int(match["last"], 0) + 1
