"""uvicorn on an address, in one process or several, until a signal."""

from __future__ import annotations

import signal
import socket

from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.supervisors import Multiprocess

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.signals import Interrupted

GRACE = 30
"""Seconds in which requests under way are answered after a signal; a client that sends its body slowly has no more."""
SIGN_OF_LIFE = 15
"""Seconds without an answer after which a worker is replaced; uvicorn's 5 are few while libraries are loaded."""


def bind(host: str, port: int) -> socket.socket:
    """Take an address, before a run is loaded for it; nobody can connect until `serve`.

    Args:
        host: name or number.
        port: 0: any free one.

    Raises:
        ConfigError: the address does not exist or is in use.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"host: got {host!r}, which is no address of this machine ({error})") from None
    # A name such as localhost may have an address of each family: the older one is reached by every client.
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"port: {host} port {port} cannot be used ({error.strerror}): choose another --port"
        ) from None
    listener.set_inheritable(True)
    return listener


def url_of(listener: socket.socket) -> str:
    """Return where a bound socket is asked.

    Args:
        listener: of `bind`.
    """
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: ASGIApp | str, listener: socket.socket, workers: int = 1) -> None:
    """Serve until a signal; requests under way are answered first.

    Args:
        app: the application, or for several workers `module:function` that builds it in each.
        listener: of `bind`.
        workers: processes.

    Raises:
        ConfigError: a worker could not start.
        Interrupted: SIGTERM or Ctrl-C.
    """
    config = Config(
        app,
        factory=isinstance(app, str),
        workers=workers,
        log_level="warning",
        timeout_graceful_shutdown=GRACE,
        timeout_worker_healthcheck=SIGN_OF_LIFE,
    )
    if workers == 1:
        Server(config).run(sockets=[listener])  # sends the signal again when it has ended
        return
    supervisor = _Workers(config, sockets=[listener])
    supervisor.run()
    if supervisor.ended_by is None:
        raise ConfigError("serve: a worker could not start; its own message says why")
    raise Interrupted(supervisor.ended_by)


class _Workers(Multiprocess):
    """uvicorn's workers, and the signal that ended them."""

    ended_by: int | None = None

    def handle_int(self) -> None:
        """End by Ctrl-C."""
        self.ended_by = signal.SIGINT
        super().handle_int()

    def handle_term(self) -> None:
        """End by SIGTERM."""
        self.ended_by = signal.SIGTERM
        super().handle_term()
