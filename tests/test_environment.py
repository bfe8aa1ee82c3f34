# SPDX-License-Identifier: GPL-2.0-only
"""What pyproject.toml asks for, the lock pins, environment.yml repeats and CITATION.cff names."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import workbench

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
ENVIRONMENT = (ROOT / "environment.yml").read_text(encoding="utf-8")

DIRECT = [
    Requirement(line)
    for lines in (PYPROJECT["project"]["dependencies"], *PYPROJECT["dependency-groups"].values())
    for line in lines
]

# conda-forge's names, as its feedstocks give them
PYPI_NAMES = {"python-kaleido": "kaleido", "playwright-python": "playwright"}


def locked_blocks() -> list[str]:
    """One text per pinned package: the pin and its hashes."""
    return re.findall(r"^[a-z0-9][^\n]*==(?:[^\n]*\\\n)+[^\n]*", LOCK, flags=re.MULTILINE)


def test_every_locked_package_has_hashes():
    pins = re.findall(r"^[a-z0-9].*==.*", LOCK, flags=re.MULTILINE)
    blocks = locked_blocks()
    assert len(blocks) == len(pins) > 100
    assert [block for block in blocks if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_direct_requirements_are_locked_within_their_bounds(requirement):
    versions = re.findall(rf"^{re.escape(requirement.name)}==([^\s;]+)", LOCK, flags=re.MULTILINE)
    assert versions
    assert all(version in requirement.specifier for version in versions)
    assert requirement.specifier, "a direct requirement has a lower bound"


def test_lock_names_no_host():
    assert "://" not in LOCK
    assert "index" not in re.sub(r"#.*", "", LOCK)


def test_build_backend_is_locked():
    names = {requirement.name for requirement in DIRECT}
    assert set(PYPROJECT["build-system"]["requires"]) <= names


def test_environment_yml_is_what_the_script_writes():
    render = runpy.run_path(str(ROOT / "scripts" / "environment"))["render"]
    assert render(PYPROJECT) == ENVIRONMENT, "stale: make environment"


def test_environment_yml_has_the_direct_dependencies_and_bounds():
    entries = yaml.safe_load(ENVIRONMENT)["dependencies"]
    python, *packages = [entry for entry in entries if isinstance(entry, str) and entry != "pip"]
    got = {}
    for entry in map(Requirement, packages):
        got[PYPI_NAMES.get(entry.name, entry.name)] = entry.specifier
    assert got == {requirement.name: requirement.specifier for requirement in DIRECT}
    assert python == "python=3.11"
    assert "3.11" in SpecifierSet(PYPROJECT["project"]["requires-python"])
    assert "3.10" not in SpecifierSet(PYPROJECT["project"]["requires-python"])
    assert [entry for entry in entries if isinstance(entry, dict)] == [{"pip": ["-e ."]}]


def test_citation_names_this_version_and_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == workbench.__version__
    assert citation["license"] == PYPROJECT["project"]["license"] == "GPL-2.0-only"
    assert citation["title"] and citation["authors"] and citation["message"]


def test_licence_is_the_whole_text():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "GNU GENERAL PUBLIC LICENSE" in text and "Version 2, June 1991" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert (ROOT / "LICENSES" / "GPL-2.0-only.txt").read_text(encoding="utf-8") == text
