# SPDX-License-Identifier: GPL-2.0-only
"""The README does what it says: its code runs, its commands are there, its links lead somewhere."""

import re
import shlex
import sys
from contextlib import redirect_stdout
from io import StringIO

import pytest

from tests.mm.support import needs_jit
from workbench import cli
from workbench.lab.checkout import Checkout

ROOT = Checkout.find().root
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\.venv/bin/(workbench .*?)(?: +#.*)?$", README, re.MULTILINE)


@needs_jit
def test_sixty_seconds_of_code():
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    out = StringIO()
    with redirect_stdout(out):
        exec(code, {})
    explained, last = out.getvalue().strip().rsplit("\n", 1)
    # As its comments say: a head with mapping and index 512, and 513 references once 2 MiB are pinned.
    assert last == "513" and "513" in code
    assert re.search(r"pfn 0x100200: head\n", explained) and re.search(r"index +512\n", explained)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[10:40])
def test_each_command_is_one(command, monkeypatch, capsys):
    words = shlex.split(command)
    verbs = [word for word in words[1:3] if re.fullmatch("[a-z-]+", word) and not word.startswith("-")]
    monkeypatch.setattr(sys, "argv", ["workbench", *verbs, "--help"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = capsys.readouterr().out
    assert not end.value.code and "Usage: " in told
    # The tool's own options are told as text, those of the others in a table.
    for option in (word for word in words if word.startswith("--")):
        assert option in told


def test_links_lead_to_files():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("https://")]
    assert len(links) > 20 and [link for link in links if not (ROOT / link).exists()] == []


def test_all_notebooks_are_listed_and_counted():
    names = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert sorted(set(re.findall(r"\(notebooks/(\w+\.ipynb)\)", README))) == names
    words = {16: "sixteen", 17: "seventeen", 18: "eighteen", 19: "nineteen"}
    assert f"{words[len(names)]} notebooks" in README
