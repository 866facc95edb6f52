"""A deadline for a whole answer.

The time-outs of requests are for a single read: a server that sends a byte a second never meets
one. Here the connections of the request under way are known, and cut when its time is up.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter


class OpenConnections:
    """The connections that were opened since the deadline was set."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.are_cut = False

    @contextmanager
    def deadline(self, seconds: float) -> Iterator[None]:
        """Cut every connection that is open ``seconds`` after the start of the block."""
        self.are_cut = False
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            while self._sockets:
                self._sockets.pop().close()

    def add(self, connected: socket.socket) -> None:
        """Watch a connection (through a duplicate: its owner may close the original)."""
        with self._lock:
            self._sockets.append(socket.socket(fileno=os.dup(connected.fileno())))
            if self.are_cut:
                self._shut_down()

    def _cut(self) -> None:
        with self._lock:
            self.are_cut = True
            self._shut_down()

    def _shut_down(self) -> None:
        for connection in self._sockets:
            with suppress(OSError):  # closed by the other side
                connection.shutdown(socket.SHUT_RDWR)


class WatchedAdapter(HTTPAdapter):
    """Sends requests over connections that an ``OpenConnections`` knows."""

    def __init__(self, connections: OpenConnections) -> None:
        self._connections = connections
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """The pool for a request, of watched connections."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if not issubclass(pool.ConnectionCls, _Watched):
            pool.ConnectionCls = type(
                "Watched", (_Watched, pool.ConnectionCls), {"connections": self._connections}
            )
        return pool


class _Watched:
    connections: OpenConnections
    sock: socket.socket

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.connections.add(self.sock)


def watched_session(connections: OpenConnections) -> requests.Session:
    """A session all of whose connections ``connections`` knows."""
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, WatchedAdapter(connections))
    return session
