# SPDX-License-Identifier: GPL-2.0-only
"""``make lab`` serves this machine only, and only who knows the token."""

import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = re.compile(
    r"http://(?P<host>[\w.]+):(?P<port>\d+)/lab\S*00_start_here\.ipynb\?token=(?P<token>[0-9a-f]{32,})"
)
LISTEN = "0A"


def listening(port: int) -> set[str]:
    """The addresses, as the kernel prints them, on which somebody listens at ``port``."""
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            _, local, _, state, *_ = line.split()
            address, _, hexport = local.partition(":")
            if state == LISTEN and int(hexport, 16) == port:
                found.add(address)
    return found


def free_port() -> int:
    """A port on which nobody listens, at any address."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


@pytest.fixture
def lab(tmp_path):
    """The address of a running lab: host, port, token."""
    said = tmp_path / "said"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    environment |= {"HOME": str(tmp_path), "BROWSER": "true", "JUPYTER_PORT": str(free_port())}
    with said.open("wb") as output:
        server = subprocess.Popen(
            ["make", "lab"], cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        address = None
        for _ in range(600):
            address = ADDRESS.search(said.read_text())
            if address or server.poll() is not None:
                break
            time.sleep(0.1)
        assert address, said.read_text()
        yield address["host"], int(address["port"]), address["token"]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code


@pytest.mark.slow
def test_lab_is_for_this_machine_and_asks_for_the_token(lab):
    host, port, token = lab
    assert host == "127.0.0.1"
    assert listening(port) == {"0100007F"}
    assert status(f"http://{host}:{port}/api/contents") == 403
    assert status(f"http://{host}:{port}/api/contents?token={'0' * len(token)}") == 403
    assert status(f"http://{host}:{port}/api/contents?token={token}") == 200
