# SPDX-License-Identifier: GPL-2.0-only
"""Rules of the house that no single module can keep: licence lines, import arrows, notebooks, paths.

Each rule is a function from a text to the offences in it, tried on an offender first.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def tracked() -> list[Path]:
    """Every file that git holds, relative to the root, but what git holds and the work tree has deleted."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for path in map(Path, listed.split("\0")) if path.name and (ROOT / path).is_file()]


def read(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


TRACKED = tracked()
MODULES = [path for path in TRACKED if path.parts[0] == "workbench" and path.suffix == ".py"]
NOTEBOOKS = [path for path in TRACKED if path.suffix == ".ipynb"]


# Licence lines

SOURCE_SUFFIXES = {".c", ".cff", ".css", ".h", ".html", ".j2", ".js", ".py", ".sh", ".tex", ".toml", ".yaml", ".yml"}
SOURCE_NAMES = {".gitignore", "Makefile"}
SPDX = re.compile(r"(#|//|/\*|<!--|\{#-?|%)\s*SPDX-License-Identifier: GPL-2\.0-only(\s*(\*/|-->|#\}))?")


def is_source(path: Path) -> bool:
    if path.parts[0] in {"data", "docs"}:
        return False
    return path.suffix in SOURCE_SUFFIXES or path.name in SOURCE_NAMES or path.parts[0] in {".ci", "scripts"}


def lacks_spdx(text: str) -> bool:
    """Whether the first line, or the one after ``#!``, is not the licence."""
    lines = [*text.splitlines()[:2], "", ""]
    return not SPDX.fullmatch(lines[1] if lines[0].startswith("#!") else lines[0])


def test_spdx_rule_sees_offenders():
    assert lacks_spdx("")
    assert lacks_spdx("import os\n# SPDX-License-Identifier: GPL-2.0-only\n")
    assert lacks_spdx("# SPDX-License-Identifier: GPL-2.0-or-later\n")
    assert not lacks_spdx("#!/bin/sh\n# SPDX-License-Identifier: GPL-2.0-only\n")
    assert not lacks_spdx("/* SPDX-License-Identifier: GPL-2.0-only */\n")


def test_each_source_file_begins_with_its_licence():
    sources = [path for path in TRACKED if is_source(path)]
    assert Path("workbench/__init__.py") in sources and Path("scripts/setup") in sources
    assert [str(path) for path in sources if lacks_spdx(read(path))] == []


# No print in the package


def prints(text: str) -> list[int]:
    """The lines on which ``print`` is called."""
    calls = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def test_print_rule_sees_offenders():
    assert prints("def f():\n    print(1)\n") == [2]
    assert prints('"""print(1)"""\nprint_size(1)\n') == []


def test_the_package_does_not_print():
    assert {str(path): lines for path in MODULES if (lines := prints(read(path)))} == {}


# Imports go one way

LAYERS = (
    {"errors"},
    {"text"},
    {"abi"},
    {"series"},
    {"mm"},
    {"dax", "firmware", "nvdimm", "rdma"},
    {"machine"},
    {"lab"},
    {"view"},
    {"cli_cost", "cli_gup"},
    {"cli_dax"},
    {"cli", "__main__"},
)
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
ONLY_IN_VIEW = {"anywidget", "ipywidgets", "kaleido", "plotly"}
COMPILERS = {
    "CPUDispatcher",
    "cfunc",
    "generated_jit",
    "guvectorize",
    "jit",
    "jit_module",
    "njit",
    "stencil",
    "vectorize",
}


def imported(text: str, path: Path) -> Iterator[str]:
    """Each dotted name that a module imports, wherever in it; of ``from a import b`` it is ``a.b``."""
    package = list(path.parent.parts)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base += node.module.split(".") if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def part_of(path: Path) -> str:
    """The part of the package a module belongs to: a sub-package or a top module; ``""`` for the package itself."""
    part = path.parts[1].removesuffix(".py")
    return "" if part == "__init__" else part


def against_the_arrows(text: str, path: Path) -> list[str]:
    """The imports of a module from its own height or above, itself excepted, and of libraries kept for another."""
    part = part_of(path)
    offences = []
    for name in imported(text, path):
        top, *rest = name.split(".")
        if top == "workbench":
            other = rest[0] if rest and not rest[0].startswith("__version__") else ""
            if other and other != part and RANK[other] >= RANK.get(part, -1):
                offences.append(f"{part or 'workbench'} imports {other}")
        elif top in ONLY_IN_VIEW and part != "view":
            offences.append(f"{part} imports {top}")
    return offences


def compiles(text: str) -> list[str]:
    """The compiling decorators of numba that a module takes hold of."""
    from_numba = [
        name.rpartition(".")[2] for name in imported(text, Path("workbench/x.py")) if name.split(".")[0] == "numba"
    ]
    attributes = [
        node.attr
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"numba", "nb"}
    ]
    return [name for name in from_numba + attributes if name in COMPILERS]


@pytest.mark.parametrize(
    ("path", "text", "offences"),
    [
        ("workbench/abi/layout.py", "from workbench.mm import page_alloc", ["abi imports mm"]),
        ("workbench/abi/layout.py", "def f():\n    import workbench.cli", ["abi imports cli"]),
        ("workbench/abi/layout.py", "from .. import lab", ["abi imports lab"]),
        ("workbench/abi/layout.py", "from ..mm.memmap import f", ["abi imports mm"]),
        ("workbench/rdma/umem.py", "from workbench import dax", ["rdma imports dax"]),
        ("workbench/errors.py", "import workbench.text", ["errors imports text"]),
        ("workbench/__init__.py", "from workbench.machine import Machine", ["workbench imports machine"]),
        ("workbench/mm/tiles.py", "import plotly.graph_objects as go", ["mm imports plotly"]),
        ("workbench/cli.py", "import anywidget", ["cli imports anywidget"]),
        ("workbench/mm/memmap.py", "from . import page_alloc\nfrom workbench.abi import Abi\nimport numpy", []),
        ("workbench/view/figures.py", "import plotly, workbench.lab\nfrom workbench import __version__", []),
        ("workbench/cli.py", "from workbench.view.figures import f", []),
    ],
)
def test_arrow_rule_sees_offenders(path, text, offences):
    assert against_the_arrows(text, Path(path)) == offences


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_one_way(path):
    assert part_of(path) in {*RANK, ""}, "a new part of the package: give it its place in LAYERS"
    assert against_the_arrows(read(path), path) == []


def test_compiler_rule_sees_offenders():
    assert compiles("from numba import njit") == ["njit"]
    assert compiles("import numba\n@numba.vectorize\ndef f(): ...") == ["vectorize"]
    assert compiles("import numba\nfrom numba.extending import intrinsic\nnumba.__version__") == []


def test_only_one_module_compiles():
    assert [str(path) for path in MODULES if compiles(read(path))] == ["workbench/mm/_jit.py"]


# Notebooks carry no results


def results_in(notebook: dict) -> list[str]:
    """What a notebook holds that only running it can give."""
    found = ["widget state"] if "widgets" in notebook["metadata"] else []
    for index, cell in enumerate(notebook["cells"]):
        if cell.get("outputs"):
            found.append(f"cell {index}: outputs")
        if cell.get("execution_count"):
            found.append(f"cell {index}: execution count")
    return found


def test_notebook_rule_sees_offenders():
    cell = {"cell_type": "code", "outputs": [{"text": "1"}], "execution_count": 3}
    assert results_in({"metadata": {"widgets": {}}, "cells": [cell]}) == [
        "widget state",
        "cell 0: outputs",
        "cell 0: execution count",
    ]


def test_notebooks_carry_no_results():
    assert {str(path): found for path in NOTEBOOKS if (found := results_in(json.loads(read(path))))} == {}


# No paths of one machine

MACHINE_PATH = re.compile(r"(?<![\w.~$}*-])/(?:work|root|tmp|var/tmp|opt/\w+|home/\w+|Users/\w+)(?=[/\s\"'`),.:;]|$)")


def machine_paths(text: str) -> list[str]:
    return [match.group() for match in MACHINE_PATH.finditer(text)]


def test_path_rule_sees_offenders():
    for folder in ("work", "root", "tmp", "home/someone", "Users/someone"):
        assert machine_paths(f"open('/{folder}/x')") == [f"/{folder}"]
        assert machine_paths(f"see /{folder}.") == [f"/{folder}"]
    assert machine_paths("bin/workbench, data/root/x, https://host/work/x, /dev/shm, /path/to/python3") == []


def test_no_file_names_a_path_of_one_machine():
    found = {}
    for path in TRACKED:
        if path.parts[0] == "data" or path.name == "LICENSE":
            continue
        try:
            text = read(path)
        except UnicodeDecodeError:
            continue  # a picture
        if paths := machine_paths(text):
            found[str(path)] = paths
    assert found == {}


# Lint


@pytest.mark.parametrize("arguments", [("check",), ("format", "--check")], ids=" ".join)
def test_ruff_has_nothing_to_say(arguments):
    ruff = Path(sys.executable).parent / "ruff"
    done = subprocess.run([ruff, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
