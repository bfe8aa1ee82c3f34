# SPDX-License-Identifier: GPL-2.0-only
"""Set-up where something is missing: it says what, names the command that mends it, and leaves nothing half-made.

Each test runs make in a copy of the project, with a PATH of one folder that holds the programs it needs and no more.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
PROGRAMS = ("cat", "dirname", "env", "grep", "id", "make", "mkdir", "rm", "sed", "sh", "sha256sum")


class Room:
    """A copy of the project and the only programs that it will find."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.programs = folder / "programs"
        self.home = folder / "home"
        for path in (self.project, self.programs, self.home):
            path.mkdir()
        for name in ("Makefile", "pyproject.toml", "requirements.lock"):
            shutil.copy(ROOT / name, self.project)
        shutil.copytree(ROOT / "scripts", self.project / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        for name in PROGRAMS:
            found = shutil.which(name)
            assert found, f"these tests need {name}"
            (self.programs / name).symlink_to(found)
        self.script("python3", f'exec {PYTHON} "$@"')

    def script(self, name: str, body: str) -> None:
        """Put a program of one or a few shell lines on the PATH."""
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)

    def has_browser_and_font(self) -> None:
        self.script("chromium", "exit 0")
        self.script("fc-list", 'echo "DejaVu Sans"')

    def lacks_ensurepip(self) -> None:
        """As on Debian without python3-venv: the module is not there, and so venv stops half-way."""
        shadow = self.home / "shadow"
        shadow.mkdir()
        (shadow / "ensurepip.py").write_text("raise ModuleNotFoundError(\"No module named 'ensurepip'\")\n")
        self.script("python3", f'PYTHONPATH={shadow} exec {PYTHON} "$@"')

    def make(self, *words: str, **environment: str) -> tuple[int, str]:
        """Run make; return its exit status and all it said."""
        done = subprocess.run(
            ["make", *words],
            cwd=self.project,
            env={"PATH": str(self.programs), "HOME": str(self.home), "LANG": "C.UTF-8", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout

    def files(self) -> set[str]:
        return {str(path.relative_to(self.project)) for path in self.project.rglob("*")}


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path)


@pytest.fixture(params=["root", "someone"])
def user(room, request):
    """Who runs make, and what the named command begins with for them."""
    room.script("id", f"echo {0 if request.param == 'root' else 1000}")
    return "" if request.param == "root" else "sudo "


def assert_stopped(room, words, commands, **environment):
    """Check that make fails, says each of ``commands``, and leaves the project as it was."""
    before = room.files()
    status, said = room.make(*words, **environment)
    assert status != 0, said
    for command in commands:
        assert command in said, said
    assert room.files() == before
    return said


# The browser


def test_no_browser(room, user):
    room.script("fc-list", 'echo "DejaVu Sans"')
    install = f"{user}apt-get update && {user}apt-get install -y --no-install-recommends chromium\n"
    said = assert_stopped(room, ["figures"], ["Chrome or Chromium", install])
    assert "fonts" not in said


@pytest.mark.parametrize("fc_list", [None, "exit 0"], ids=["no fc-list", "font not listed"])
def test_no_font(room, user, fc_list):
    room.script("chromium", "exit 0")
    if fc_list is not None:
        room.script("fc-list", fc_list)
    install = f"{user}apt-get install -y --no-install-recommends fontconfig fonts-dejavu-core\n"
    assert_stopped(room, ["figures"], ["DejaVu Sans", install])


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"])
def test_any_chrome_will_do(room, name):
    room.has_browser_and_font()
    (room.programs / "chromium").rename(room.programs / name)
    assert room.make("browser") == (0, "")


def test_browser_path_is_taken(room):
    room.has_browser_and_font()
    elsewhere = room.home / "my-browser"
    (room.programs / "chromium").rename(elsewhere)
    assert room.make("browser", BROWSER_PATH=str(elsewhere)) == (0, "")


def test_wrong_browser_path_is_named(room):
    room.has_browser_and_font()
    said = assert_stopped(room, ["figures"], ["unset BROWSER_PATH"], BROWSER_PATH="/no/such/browser")
    assert "/no/such/browser" in said


def test_root_gets_debians_browser(room):
    room.script("id", "echo 0")
    called = room.home / "called"
    (room.programs / "chmod").symlink_to(shutil.which("chmod"))
    room.script(
        "apt-get",
        f"""echo "$DEBIAN_FRONTEND $*" >>{called}
case $* in *install*)
    for name in chromium fc-list; do
        printf '#!/bin/sh\\necho DejaVu Sans\\n' >{room.programs}/$name
        chmod +x {room.programs}/$name
    done ;;
esac""",
    )
    status, said = room.make("browser")
    assert status == 0, said
    assert called.read_text().splitlines() == [
        "noninteractive -qq update",
        "noninteractive install -y --no-install-recommends chromium fontconfig fonts-dejavu-core",
    ]
    assert room.make("browser") == (0, "")
    assert len(called.read_text().splitlines()) == 2


def test_root_hears_why_apt_failed(room):
    room.script("id", "echo 0")
    room.script("apt-get", 'echo "E: no way to the archive" >&2; exit 100')
    assert_stopped(room, ["figures"], ["E: no way to the archive", "apt-get update && apt-get install -y"])


def test_apt_is_not_asked_by_others_than_root(room):
    room.script("id", "echo 1000")
    room.script("apt-get", f"touch {room.home}/called")
    assert_stopped(room, ["figures"], ["sudo apt-get install"])
    assert not (room.home / "called").exists()


# The compiler


@pytest.mark.parametrize("gcc", [None, "exit 1"], ids=["no gcc", "gcc without headers"])
def test_no_compiler(room, user, gcc):
    room.has_browser_and_font()
    if gcc is not None:
        room.script("gcc", gcc)
    install = f"{user}apt-get update && {user}apt-get install -y --no-install-recommends gcc libc6-dev\n"
    assert_stopped(room, ["bench"], ["gcc", install])


@pytest.mark.compiler
def test_gcc_of_this_machine_will_do(room):
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not installed")
    room.script("gcc", f'PATH={os.environ["PATH"]} exec {gcc} "$@"')
    assert room.make("compiler") == (0, "")


# Python


@pytest.mark.parametrize("command", ["setup", "test", "lab", "lint", "figures", "environment"])
def test_no_ensurepip(room, command):
    room.script("id", "echo 1000")
    room.has_browser_and_font()
    room.lacks_ensurepip()
    assert_stopped(
        room, [command], ["ensurepip", "sudo apt-get update && sudo apt-get install -y python3 python3-venv\n"]
    )


def test_no_ensurepip_as_root(room):
    room.script("id", "echo 0")
    room.lacks_ensurepip()
    said = assert_stopped(room, ["setup"], ["apt-get install -y python3 python3-venv\n"])
    assert "sudo" not in said


def test_python_too_old_or_too_new(room):
    room.script("python3", "exit 1")
    assert_stopped(room, ["setup"], ["Python 3.11, 3.12 or 3.13", "apt-get install -y python3", "make setup PYTHON="])


def test_asked_for_python_is_not_there(room):
    assert_stopped(room, ["setup", "PYTHON=python2"], ["looked for: python2"])


def test_another_python_on_path_is_found(room):
    """The default is too old, python3.12 is not: the set-up gets as far as that one's missing ensurepip."""
    room.lacks_ensurepip()
    (room.programs / "python3").rename(room.programs / "python3.12")
    room.script("python3", "exit 1")
    assert_stopped(room, ["setup"], ["python3.12 has no ensurepip"])


def test_nothing_stays_of_an_environment_that_failed(room):
    room.script("python3", f'case "$*" in "-m venv"*) mkdir .venv; exit 1;; esac; exec {PYTHON} "$@"')
    assert_stopped(room, ["setup"], [])


def test_nothing_stays_where_the_packages_cannot_be_had(room):
    said = assert_stopped(
        room, ["setup"], ["could not be installed", "make setup"], PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull
    )
    assert "No matching distribution found for uv" in said


# The list


def test_make_alone_lists_the_commands(room):
    status, said = room.make()
    assert status == 0
    assert [line.split()[1] for line in said.splitlines()] == [
        "help",
        "figures",
        "test",
        "lab",
        "explorer",
        "bench",
        "lint",
        "setup",
        "environment",
        "glossary",
        "clean",
    ]
    assert room.make("help") == (0, said)
