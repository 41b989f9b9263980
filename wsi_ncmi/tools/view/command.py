"""Command `view`: a server on this machine's loopback, and the browser on its page."""

import asyncio
import logging
import os
import secrets
import socket
import sys
import webbrowser
from collections.abc import Mapping
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from wsi_ncmi.address import VIEWER_PORT
from wsi_ncmi.errors import UserError
from wsi_ncmi.machine import cpu_budget
from wsi_ncmi.tools.view.app import Application, Settings
from wsi_ncmi.tools.view.guard import Guard
from wsi_ncmi.tools.view.opened import Threads
from wsi_ncmi.tools.view.shown import Shown
from wsi_ncmi.tools.view.source import Source

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
MOST_CONNECTIONS = 512
"""A browser has six. One more is told to come later, and closed: files can still be opened."""

REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"

READ_SECONDS = 30.0
FEWEST_THREADS, MOST_THREADS = 4, 8


def application(
    source: Source,
    page: Mapping[str, bytes],
    token: str,
    port: int,
    settings: Settings | None = None,
    seconds: float = READ_SECONDS,
    *,
    remote: bool = False,
) -> ASGIApp:
    """The whole of what answers.

    Args:
        seconds: that reading from a slide may take.
        remote: whether slides at addresses are read over the network.
    """
    threads = Threads(min(MOST_THREADS, max(FEWEST_THREADS, cpu_budget())), seconds)
    shown = Shown(source, threads, remote=remote)
    return Guard(Application(source, shown, page, settings or Settings()), token, port)


def listen(port: int | None) -> socket.socket:
    """A socket on the loopback.

    Args:
        port: None: the usual one, or any that is free; 0: any.

    Raises:
        UserError: the port that is asked for is taken.
    """
    try:
        return socket.create_server((HOST, VIEWER_PORT if port is None else port), backlog=2048)
    except OSError as error:
        if port is None:
            log.warning("port %d is taken, so another one is used", VIEWER_PORT)
            return socket.create_server((HOST, 0), backlog=2048)
        raise UserError(f"--port {port}: {os.strerror(error.errno or 0)}; 0 takes any") from None


class Protocol(HttpToolsProtocol):
    """HTTP over a bounded number of connections; those that are there go on to be answered.

    uvicorn's own `limit_concurrency` refuses all requests while there are too many connections.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        if len(self.connections) < MOST_CONNECTIONS:
            super().connection_made(transport)
            return
        self.transport = transport
        transport.write(REFUSAL)
        transport.close()


def server_config(app: ASGIApp) -> uvicorn.Config:
    """How uvicorn serves: no log of requests, no websockets, a bounded number of connections."""
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="error",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        http=Protocol,
        loop="uvloop",
        timeout_graceful_shutdown=1,
    )


class Server(uvicorn.Server):
    """Says the address, and opens the browser there, as soon as it is answered.

    Args:
        browse: whether the browser is opened.
    """

    def __init__(self, config: uvicorn.Config, address: str, *, browse: bool) -> None:
        super().__init__(config)
        self.address, self.browse = address, browse

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        await super().startup(sockets)
        print(f"{self.address}\nCtrl-C ends it.", flush=True)
        if self.browse and has_browser():
            webbrowser.open(self.address)


def has_browser() -> bool:
    """Whether there is a screen; without one, webbrowser would start a browser in the terminal."""
    if sys.platform != "linux":
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def serve(
    source: Source,
    page: Mapping[str, bytes],
    settings: Settings,
    port: int | None,
    *,
    browse: bool,
    remote: bool,
) -> None:
    """Answer until Ctrl-C."""
    listening = listen(port)
    token, found = secrets.token_urlsafe(24), listening.getsockname()[1]
    app = application(source, page, token, found, settings, remote=remote)
    server = Server(server_config(app), f"http://{HOST}:{found}/{token}/", browse=browse)
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listening])
