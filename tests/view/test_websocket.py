# SPDX-License-Identifier: GPL-2.0-only
"""The Jupyter server holds no message of a kernel back."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest
from jupyter_server.extension.utils import validate_extension
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler

from workbench.view import websocket

CHOICE = "kernel_websocket_connection_class"


def test_it_sends_without_delay_before_it_connects(monkeypatch):
    done = []
    monkeypatch.setattr(ZMQChannelsWebsocketConnection, "connect", lambda self: done.append("connected") or "future")
    handler = KernelWebsocketHandler.__new__(KernelWebsocketHandler)
    monkeypatch.setattr(handler, "set_nodelay", done.append, raising=False)
    one = websocket.PromptConnection.__new__(websocket.PromptConnection)
    one.set_trait("websocket_handler", handler)
    assert one.connect() == "future" and done == [True, "connected"]


class Other(ZMQChannelsWebsocketConnection):
    """One that somebody chose."""


@pytest.mark.parametrize(
    ("chosen", "used"), [(ZMQChannelsWebsocketConnection, websocket.PromptConnection), (Other, Other)]
)
def test_only_the_servers_own_connection_is_replaced(chosen, used):
    settings = {CHOICE: chosen}
    websocket._load_jupyter_server_extension(SimpleNamespace(web_app=SimpleNamespace(settings=settings)))
    assert settings[CHOICE] is used


def test_a_server_that_offers_no_choice_is_left_alone():
    settings = {}
    websocket._load_jupyter_server_extension(SimpleNamespace(web_app=SimpleNamespace(settings=settings)))
    assert settings == {}


def test_a_server_of_this_environment_has_it():
    """The environment says so in a file that came with the package, and the server finds the extension."""
    installed = Path(sysconfig.get_path("data"), "etc/jupyter/jupyter_server_config.d/devmap_workbench.json")
    written = json.loads(installed.read_text())
    assert written == json.loads(Path(websocket.__file__).with_suffix(".json").read_text())
    (name,) = [name for name, on in written["ServerApp"]["jpserver_extensions"].items() if on]
    assert name == websocket.__name__ and validate_extension(name)
