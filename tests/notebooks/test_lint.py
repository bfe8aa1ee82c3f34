# SPDX-License-Identifier: GPL-2.0-only
"""How a notebook of this project is written: order, small cells, no logic, no results, links that lead somewhere.

Each rule is a function from a notebook to the offences in it, tried on an offender first.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from workbench.lab.checkout import Checkout
from workbench.series import PATCHES, SERIES_URL
from workbench.view.series_map import mail_url

FOLDER = Checkout.find().notebooks
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))

MOST_LINES, MOST_WIDE, LONGEST_DEF = 12, 120, 5
HOSTS = ("lore.kernel.org", "git.kernel.org", "lwn.net", "docs.kernel.org", "www.kernel.org")
ORDER = (
    ("title", r"\A# "),
    ("goals", r"\*\*Afterwards you know\*\*"),
    ("predict", r"^## Predict|\*\*Predict:\*\*"),
    ("exercise", r"^## Try|\*\*Try:\*\*"),
    ("further reading", r"^## Further reading|^Further reading:"),
)
"""Sections that a notebook may have, in the order in which they come; the first three are never missing."""

LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
KEY_FIGURE = re.compile(r"!\[[^\]]{20,}\]\((\.\./docs/figures/[\w-]+\.svg)\)")
MACHINE_PATH = re.compile(r"(?:/|~|[A-Za-z]:[\\/])\S")


def notebook(name: str) -> NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code(nb: NotebookNode) -> Iterator[tuple[str, str]]:
    """Id and source of each code cell."""
    return ((cell.id, cell.source) for cell in nb.cells if cell.cell_type == "code")


def prose(nb: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")


def sample(*cells: NotebookNode) -> NotebookNode:
    """A notebook that breaks no rule, with ``cells`` after it."""
    start = new_markdown_cell(
        f"# A title\n\n[The series]({SERIES_URL}).\nAs of: 5.17. Three minutes to read, one to run.\n\n"
        f"Next: [Another]({NAMES[0]}.ipynb)\n\n**Afterwards you know** this."
    )
    parameters = new_code_cell("SIZE = '1G'", metadata={"tags": ["parameters"]})
    return new_notebook(cells=[start, parameters, new_markdown_cell("## Predict"), new_code_cell("f(SIZE)"), *cells])


# the rules


def title_lacks(nb: NotebookNode, name: str) -> list[str]:
    """What the first cell does not say: heading, patch, release, time to read, where to go on."""
    first = nb.cells[0].source
    wanted = {
        "a heading": r"\A# \S",
        "the release": r"^As of: .*\d\.\d+",
        "the time to read": r"(?i)minutes to read",
        "a way on or back": r"\b(?:Previous|Next): \[",
    }
    lacks = [what for what, pattern in wanted.items() if not re.search(pattern, first, re.MULTILINE)]
    number = int(name[:2]) if name[:2].isdigit() else 0
    if 1 <= number <= len(PATCHES):
        patch = PATCHES[number - 1]
        if mail_url(number) not in first:
            lacks.append(f"the mail of patch {number}")
        if f"git.kernel.org/torvalds/c/{patch.commit[:12]}" not in first:
            lacks.append(f"the commit of patch {number}")
        lacks += [f"the file {file}" for file in patch.files if file not in first]
    elif SERIES_URL not in first:
        lacks.append("the series")
    return lacks


def key_figure_wrong(nb: NotebookNode) -> list[str]:
    """The first cell embeds one committed figure, for those who see no outputs, and tells what it shows."""
    found = KEY_FIGURE.findall(nb.cells[0].source)
    if len(found) != 1:
        return [f"{len(found)} key figures in the first cell"]
    return [] if (FOLDER / found[0]).is_file() else [f"{found[0]}: there is no such file"]


def out_of_order(nb: NotebookNode) -> list[str]:
    """Sections that are missing, or stand before one that must come first."""
    text = prose(nb)
    places = [(name, re.search(pattern, text, re.MULTILINE)) for name, pattern in ORDER]
    offences = [f"{name} is missing" for name, found in places[:3] if found is None]
    there = [(name, found.start()) for name, found in places if found]
    for (name, at), (after, later) in pairwise(there):
        if later < at:
            offences.append(f"{after} stands before {name}")
    return offences


def parameters_wrong(nb: NotebookNode) -> list[str]:
    """The first code cell is tagged ``parameters``, alone, and assigns plain values."""
    cells = [cell for cell in nb.cells if cell.cell_type == "code"]
    tagged = [at for at, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    if tagged != [0]:
        return [f"the tag parameters is on code cells {tagged}, not on the first alone"]
    offences = []
    for node in ast.parse(cells[0].source).body:
        try:
            plain = isinstance(node, ast.Assign) and ast.literal_eval(node.value) is not None
        except ValueError:
            plain = False
        if not plain:
            offences.append(f"line {node.lineno} assigns no plain value")
    return offences


def predicts_too_late(nb: NotebookNode) -> list[str]:
    """The question comes before the answer: a code cell follows it at once."""
    for at, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown" and re.search(ORDER[2][1], cell.source, re.MULTILINE):
            after = nb.cells[at + 1] if at + 1 < len(nb.cells) else None
            return [] if after is not None and after.cell_type == "code" else ["no answer follows the question"]
    return []


def too_much_code(nb: NotebookNode) -> list[str]:
    """Cells over the limits, loops, classes, long functions: logic belongs into the package."""
    offences = []
    for name, source in code(nb):
        lines = source.splitlines()
        if len(lines) > MOST_LINES:
            offences.append(f"{name}: {len(lines)} lines")
        offences += [f"{name}: a line of {len(line)} characters" for line in lines if len(line) > MOST_WIDE]
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.For | ast.While | ast.AsyncFor):
                offences.append(f"{name}: a loop on line {node.lineno}")
            elif isinstance(node, ast.ClassDef):
                offences.append(f"{name}: a class on line {node.lineno}")
            elif isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= LONGEST_DEF:
                offences.append(f"{name}: a function of {node.end_lineno - node.lineno + 1} lines")
            elif isinstance(node, ast.Import | ast.ImportFrom) and _private(node):
                offences.append(f"{name}: a private import on line {node.lineno}")
    return offences


def _private(node: ast.Import | ast.ImportFrom) -> bool:
    names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
    return any(part.startswith("_") for name in names for part in name.split("."))


def results(nb: NotebookNode) -> list[str]:
    """Outputs, counts and widget state."""
    found = ["widget state"] if "widgets" in nb.metadata else []
    for cell in nb.cells:
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count):
            found.append(f"{cell.id}: outputs or a count")
    return found


def broken_links(nb: NotebookNode) -> list[str]:
    """Links to notebooks that are not there, to unknown hosts, to mails and commits of no patch."""
    offences = []
    mails, commits = {mail_url(n) for n in range(1, len(PATCHES) + 1)}, [patch.commit for patch in PATCHES]
    for target in LINK.findall(prose(nb)):
        if target.startswith("https://"):
            host, _, path = target.removeprefix("https://").partition("/")
            if host not in HOSTS:
                offences.append(f"{target}: a host that is not known")
            elif "20211202204422.26777" in target and target not in {*mails, SERIES_URL}:
                offences.append(f"{target}: no mail of version 7")
            elif host == "git.kernel.org" and not _commit_of(path, commits):
                offences.append(f"{target}: no commit of the series")
        elif not (FOLDER / target.partition("#")[0]).is_file():
            offences.append(f"{target}: there is no such file")
    return offences


def _commit_of(path: str, commits: list[str]) -> bool:
    match = re.fullmatch(r"torvalds/c/([0-9a-f]{12,40})", path)
    return bool(match) and any(commit.startswith(match[1]) for commit in commits)


def images_without_alt(nb: NotebookNode) -> list[str]:
    """Images in the text that a blind reader is told nothing of."""
    text = prose(nb)
    bare = re.findall(r"!\[\s*\]\([^)]*\)", text)
    tags = [tag for tag in re.findall(r"<img\b[^>]*>", text) if not re.search(r"""\balt=["'][^"']+["']""", tag)]
    return bare + tags


def machine_paths(nb: NotebookNode) -> list[str]:
    """Texts in code that begin like an absolute path."""
    return [
        f"{name}: {node.value}"
        for name, source in code(nb)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and MACHINE_PATH.match(node.value)
    ]


def odd_form(nb: NotebookNode) -> list[str]:
    """Kernel, format, or ids that are missing or not unique."""
    offences = []
    if nb.metadata.get("kernelspec", {}).get("name") != "python3":
        offences.append("the kernel is not python3")
    if (nb.nbformat, nb.nbformat_minor) < (4, 5):
        offences.append("format below 4.5: cells have no ids")
    ids = [cell.get("id") for cell in nb.cells]
    if len(set(ids)) < len(ids):
        offences.append("two cells share an id")
    return offences + ["an empty cell" for cell in nb.cells if not cell.source.strip()]


# the rules on offenders


def test_the_sample_breaks_no_rule():
    nb = sample()
    rules = (out_of_order, parameters_wrong, predicts_too_late, too_much_code, results, broken_links)
    assert title_lacks(nb, "00_x") == []
    assert [rule(nb) for rule in (*rules, images_without_alt, machine_paths)] == [[]] * 8


@pytest.mark.parametrize(
    ("gone", "missing"),
    [
        ("# A", "a heading"),
        ("As of:", "the release"),
        ("minutes to read", "the time to read"),
        ("Next:", "a way on or back"),
        (SERIES_URL, "the series"),
    ],
)
def test_title_rule_sees_offenders(gone, missing):
    nb = sample()
    nb.cells[0].source = nb.cells[0].source.replace(gone, "")
    assert missing in title_lacks(nb, "00_x")


def test_a_patch_notebook_names_its_patch():
    lacks = title_lacks(sample(), "04_x")
    assert lacks[:2] == ["the mail of patch 4", "the commit of patch 4"] and "the file mm/memremap.c" in lacks


def test_key_figure_rule_sees_offenders():
    nb = sample()
    assert key_figure_wrong(nb) == ["0 key figures in the first cell"]
    nb.cells[0].source += "\n\n![What stands in a struct page](../docs/figures/not-there.svg)"
    assert key_figure_wrong(nb) == ["../docs/figures/not-there.svg: there is no such file"]
    nb.cells[0].source = nb.cells[0].source.replace("not-there", "memory-map")
    assert key_figure_wrong(nb) == []


def test_order_rule_sees_offenders():
    assert out_of_order(sample(new_markdown_cell("Further reading: x"), new_markdown_cell("## Try\n\nthis"))) == [
        "further reading stands before exercise"
    ]
    nb = sample()
    del nb.cells[2]
    assert out_of_order(nb) == ["predict is missing"]


def test_parameters_rule_sees_offenders():
    nb = sample()
    nb.cells[1].source = "SIZE = '1G'\nOTHER = size(3)\nimport os"
    assert parameters_wrong(nb) == ["line 2 assigns no plain value", "line 3 assigns no plain value"]
    nb.cells[1].metadata = {}
    assert "not on the first alone" in parameters_wrong(nb)[0]


def test_predict_rule_sees_offenders():
    nb = sample()
    nb.cells.insert(3, new_markdown_cell("The answer is 512."))
    assert predicts_too_late(nb) == ["no answer follows the question"]


@pytest.mark.parametrize(
    ("source", "offence"),
    [
        ("x = 1\n" * 13, "13 lines"),
        ("x = " + "1" * 120, "a line of 124 characters"),
        ("for page in pages:\n    f(page)", "a loop on line 1"),
        ("class A:\n    x = 1", "a class on line 1"),
        ("def f():\n" + "    x = 1\n" * 5, "a function of 6 lines"),
        ("from workbench.mm._jit import jit", "a private import on line 1"),
        ("from workbench.view.layout import _bits", "a private import on line 1"),
    ],
)
def test_code_rule_sees_offenders(source, offence):
    assert [found.partition(": ")[2] for found in too_much_code(sample(new_code_cell(source)))] == [offence]
    assert too_much_code(sample(new_code_cell("def f():\n" + "    x = 1\n" * 4))) == []


def test_result_rule_sees_offenders():
    nb = sample(new_code_cell("1", outputs=[new_output("stream", text="1")]), new_code_cell("2", execution_count=3))
    nb.metadata.widgets = {}
    assert len(results(nb)) == 3


@pytest.mark.parametrize(
    "target",
    [
        "09_not_there.ipynb",
        "https://example.org/x",
        "https://lore.kernel.org/r/20211202204422.26777-99-joao.m.martins@oracle.com",
        "https://git.kernel.org/torvalds/c/0123456789ab",
    ],
)
def test_link_rule_sees_offenders(target):
    assert broken_links(sample(new_markdown_cell(f"[x]({target})")))[0].startswith(target)
    good = f"[x]({NAMES[0]}.ipynb#a) [y](https://git.kernel.org/torvalds/c/{PATCHES[3].commit[:12]})"
    assert broken_links(sample(new_markdown_cell(good))) == []


def test_alt_rule_sees_offenders():
    nb = sample(new_markdown_cell("![](a.png) ![told](b.png) <img src='c.png'> <img src='d.png' alt='told'>"))
    assert images_without_alt(nb) == ["![](a.png)", "<img src='c.png'>"]


def test_path_rule_sees_offenders():
    for path in ("/data/x", "~/x", "C:\\\\x"):
        assert machine_paths(sample(new_code_cell(f'open("{path}")'))) != []
    assert machine_paths(sample(new_code_cell('a = b / c\nopen("data/x")  # /dev/daxN.M'))) == []


def test_form_rule_sees_offenders():
    nb = sample(new_markdown_cell(" "))
    nb.cells[0].id = nb.cells[1].id
    assert odd_form(nb) == ["the kernel is not python3", "two cells share an id", "an empty cell"]


# the rules on the notebooks


def test_there_are_notebooks():
    assert {"00_start_here", "02_head_tail_split", "03_refactor", "04_compound_devmap"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "rule",
    [
        key_figure_wrong,
        out_of_order,
        parameters_wrong,
        predicts_too_late,
        too_much_code,
        results,
        broken_links,
        images_without_alt,
        machine_paths,
        odd_form,
    ],
    ids=lambda rule: rule.__name__,
)
def test_notebook(rule, name):
    assert rule(notebook(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_title(name):
    assert title_lacks(notebook(name), name) == []


def test_previous_and_next_lead_there_and_back():
    """Each ``Next`` is answered by the ``Previous`` of the page it leads to."""
    first = {name: notebook(name).cells[0].source for name in NAMES}
    found = {
        which: {
            name: match[1]
            for name, text in first.items()
            if (match := re.search(rf"{which}: \[[^\]]+\]\(([\w]+)\.ipynb\)", text))
        }
        for which in ("Next", "Previous")
    }
    assert found["Next"] and {target: name for name, target in found["Next"].items()} == found["Previous"]
