# SPDX-License-Identifier: GPL-2.0-only
"""A slow and obvious model of memory failure on a device, in plain numbers, from the specification alone.

One device of ``units`` pieces of ``pages`` pages each; processes map parts of it at addresses of their own.
An entry maps one whole piece.  A page's index is set by the first touch of its piece and never again.
"""

from __future__ import annotations

PAGE = 4096


class NaiveMachine:
    """``compound``: one index a piece, and its head is marked.  ``rounds_up``: the bug of patch 5."""

    def __init__(self, units: int, pages: int, *, compound: bool, rounds_up: bool) -> None:
        self.units, self.pages, self.compound, self.rounds_up = units, pages, compound, rounds_up
        self.index: dict[int, int] = {}
        self.poisoned: set[int] = set()
        self.areas: list[tuple[str, int, int, int]] = []  # process, address, first piece, pieces
        self.entries: set[tuple[str, int]] = set()  # process, address of the mapped piece

    def map(self, process: str, address: int, piece: int, pieces: int) -> None:
        self.areas.append((process, address, piece, pieces))

    def touch(self, process: str, address: int) -> None:
        size = self.pages * PAGE
        for owner, start, piece, pieces in self.areas:
            if owner == process and start <= address < start + pieces * size:
                base = address - address % size
                which = piece + (base - start) // size
                first = which * self.pages
                offset = address // PAGE * PAGE - base
                stored = first + (self.pages if self.rounds_up and offset else 0)
                self.entries.add((process, base))
                for page in range(1 if self.compound else self.pages):
                    self.index.setdefault(first + page, stored + page)
                return
        raise AssertionError(f"{process} maps nothing at {address:#x}")

    def poison(self, page: int, current: str, early: set[str]) -> tuple[bool, dict[str, tuple[str, int]]]:
        """Whether the page can be handled, and code and address of the signal each process gets."""
        looked_at = page - page % self.pages if self.compound else page
        if looked_at not in self.index:
            return False, {}
        self.poisoned.add(looked_at)
        index = self.index[looked_at]
        size = self.pages * PAGE
        told: dict[str, tuple[str, int]] = {}
        for process in sorted({owner for owner, *_ in self.areas}):
            if process != current and process not in early:
                continue
            mine = [area for area in self.areas if area[0] == process]
            mine.sort(key=lambda area: area[2])  # by the first piece; sort() keeps the order of mapping among equals
            for _, start, piece, pieces in mine:
                if not piece * self.pages <= index < (piece + pieces) * self.pages:
                    continue
                address = start + (index - piece * self.pages) * PAGE
                if (process, address - address % size) in self.entries and process not in told:
                    told[process] = ("BUS_MCEERR_AR" if process == current else "BUS_MCEERR_AO", address)
        if told:
            hit = index // self.pages
            for process, start, piece, pieces in self.areas:
                if piece <= hit < piece + pieces:
                    self.entries.discard((process, start + (hit - piece) * size))
        return True, told
