# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel says reaches the browser at once: an extension of the Jupyter server.

A kernel answers a widget by three messages: busy, the answer, idle.  The server sends them through a socket that holds
a small message back until the one before was acknowledged (Nagle's algorithm), and a browser that has nothing to say
acknowledges late, on Linux after 40 ms: every click would take that much longer.  Here nothing is held back.
"""

from __future__ import annotations

from typing import Any

from jupyter_server.serverapp import ServerApp
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

_CHOICE = "kernel_websocket_connection_class"


class PromptConnection(ZMQChannelsWebsocketConnection):
    """A kernel's channels to one browser, sent without delay (TCP_NODELAY)."""

    def connect(self) -> Any:
        """Connect, as the class above does."""
        self.websocket_handler.set_nodelay(True)
        return super().connect()


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(app: ServerApp) -> None:
    """Use it, unless another connection than the server's own was chosen."""
    settings = app.web_app.settings
    if settings.get(_CHOICE) is ZMQChannelsWebsocketConnection:
        settings[_CHOICE] = PromptConnection
