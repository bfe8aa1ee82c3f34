# SPDX-License-Identifier: GPL-2.0-only
"""Where things lie in a checkout, and what they hash to.

The main job reads notebooks and data from the checkout and writes below ``out/``; the package itself
holds neither.  Hashes are of content, never of times, so that a fresh clone and an old one agree.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import workbench
from workbench.errors import WorkbenchError
from workbench.lab.files import files_below, tree_hash


@dataclass(frozen=True, slots=True)
class Checkout:
    """The folders of one checkout.

    Parameters
    ----------
    root : pathlib.Path
        The folder that holds ``pyproject.toml``.
    """

    root: Path

    @classmethod
    def find(cls) -> Checkout:
        """The checkout this package runs from, else the one around the current folder.

        Raises
        ------
        WorkbenchError
            Neither is a checkout of the workbench.
        """
        here = Path.cwd()
        for root in (Path(workbench.__file__).parents[1], here, *here.parents):
            if (root / "pyproject.toml").is_file() and (root / "workbench" / "errors.py").is_file():
                return cls(root)
        raise WorkbenchError(
            f"no checkout of the workbench at {here} or above it. Change into the clone and run again."
        )

    @property
    def notebooks(self) -> Path:
        """The notebooks, without outputs."""
        return self.root / "notebooks"

    @property
    def data(self) -> Path:
        """Captures, published numbers, goldens and benchmark Datasets."""
        return self.root / "data"

    @property
    def committed_figures(self) -> Path:
        """The paper figures that git holds."""
        return self.root / "docs" / "figures"

    @property
    def out(self) -> Path:
        """Everything the main job writes; git ignores it."""
        return self.root / "out"

    @property
    def lock(self) -> Path:
        """The locked environment."""
        return self.root / "requirements.lock"

    def relative(self, path: Path) -> str:
        """``path`` below the root, with forward slashes.

        Raises
        ------
        WorkbenchError
            ``path`` lies outside the checkout.
        """
        try:
            return path.resolve().relative_to(self.root.resolve()).as_posix()
        except ValueError:
            raise WorkbenchError(
                f"{path} lies outside the checkout {self.root}. Inputs of figures are files of the checkout."
            ) from None

    def source_hash(self) -> str:
        """SHA-256 of the sources of the package: names and contents."""
        return tree_hash(self.root, files_below(self.root / "workbench"))

    def data_hash(self) -> str:
        """SHA-256 of everything below ``data/``: names and contents."""
        return tree_hash(self.root, files_below(self.data))

    def commit(self) -> tuple[str | None, bool | None]:
        """The commit that is checked out, and whether tracked files differ from it.

        Returns
        -------
        tuple of (str or None, bool or None)
            Both None outside git, or where git is not installed.
        """
        head = self._git("rev-parse", "HEAD")
        if head is None:
            return None, None
        status = self._git("status", "--porcelain", "--untracked-files=no")
        return head.strip(), None if status is None else bool(status.strip())

    def _git(self, *arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(self.root), *arguments], capture_output=True, text=True)
        except OSError:
            return None
        return done.stdout if done.returncode == 0 else None
