# SPDX-License-Identifier: GPL-2.0-only
"""What the main job has made, and from what: a product is made anew only when it is stale.

A product is fresh when the hash of its inputs is the recorded one **and** every file it wrote is still
there with the recorded content.  So a changed input makes it stale, a deleted or edited output too, and a
changed time never.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.lab.files import file_hash, write_atomically

SCHEMA = 1


@dataclass(slots=True)
class State:
    """The record of one output folder, kept in its ``.state.json``.

    Parameters
    ----------
    out : pathlib.Path
        The output folder.
    """

    out: Path

    def is_fresh(self, product: str, inputs: str) -> bool:
        """Whether ``product`` was made from ``inputs`` and all it wrote is unchanged.

        Parameters
        ----------
        product : str
            A name, such as ``"figure struct-page-cost"``.
        inputs : str
            From :func:`digest`.
        """
        record = self._load().get(product)
        return (
            record is not None
            and record["inputs"] == inputs
            and all(
                (self.out / name).is_file() and file_hash(self.out / name) == content
                for name, content in record["outputs"].items()
            )
        )

    def record(self, product: str, inputs: str, outputs: Sequence[Path]) -> None:
        """Remember that ``product`` was made from ``inputs`` and wrote ``outputs``."""
        names = {path.relative_to(self.out).as_posix(): file_hash(path) for path in outputs}
        self._save({**self._load(), product: {"inputs": inputs, "outputs": names}})

    def forget_all_but(self, products: Sequence[str]) -> list[Path]:
        """Remove what products outside ``products`` wrote; returns the removed files."""
        records = self._load()
        kept = {name: record for name, record in records.items() if name in products}
        still = {output for record in kept.values() for output in record["outputs"]}
        gone = {output for record in records.values() for output in record["outputs"]} - still
        removed = []
        for output in sorted(gone):
            if (self.out / output).is_file():
                (self.out / output).unlink()
                removed.append(self.out / output)
        if kept != records:
            self._save(kept)
        return removed

    def _load(self) -> dict[str, Any]:
        """The records; none if the file is absent, damaged or of another schema."""
        try:
            state = json.loads((self.out / ".state.json").read_bytes())
            if state["schema"] == SCHEMA:
                return {
                    name: {"inputs": record["inputs"], "outputs": dict(record["outputs"])}
                    for name, record in state["products"].items()
                }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        return {}

    def _save(self, products: dict[str, Any]) -> None:
        text = json.dumps({"schema": SCHEMA, "products": products}, indent=1, sort_keys=True)
        write_atomically(self.out / ".state.json", text + "\n")


def digest(**inputs: Any) -> str:
    """SHA-256, in hex, of named inputs that are plain JSON values."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
