"""Connections of the live page: how many there may be, how long one may say nothing, what is told.

Whoever is at the other end may send anything and vanish at any time: that is no error of ours, and
nothing is said of it. What is ours is a line, and no more than one in a while.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from data_prep.command.cli import our_fault

MOST_CONNECTIONS = 64
HEADER_SECONDS = 10.0  # after which one that has not asked for anything is closed
KEEPALIVE_SECONDS = 15.0
SILENT_SECONDS = 60.0  # between two lines about faults


@asynccontextmanager
async def serving(app: web.Application, address: socket.socket) -> AsyncIterator[None]:
    """Serve an application on a socket that listens."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    loop, faults = asyncio.get_running_loop(), _Faults()
    loop.set_exception_handler(lambda _, context: faults.tell(context.get("exception")))
    open_: set[Connection] = set()

    def accept() -> Connection:
        assert runner.server is not None
        return Connection(runner.server, loop, open_, faults)

    accepting = await loop.create_server(accept, sock=address)
    try:
        yield
    finally:
        accepting.close()
        await runner.cleanup()


class _Faults:
    """Says now and then that something of ours went wrong."""

    def __init__(self) -> None:
        self._silent_until = 0.0

    def tell(self, error: BaseException | None) -> None:
        """A line, unless it is of the other end or there was one a moment ago."""
        if error is None or isinstance(error, ConnectionError | TimeoutError | web.HTTPException):
            return
        if time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + SILENT_SECONDS
            print(f"error: {our_fault(error)}", file=sys.stderr, flush=True)


class Connection(web.RequestHandler):
    """One connection, closed at once where there are too many, or soon if it asks for nothing."""

    __slots__ = ("_faults", "_late", "_open")

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        open_: set[Connection],
        faults: _Faults,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=KEEPALIVE_SECONDS,
            access_log=None,  # type: ignore[arg-type]  # which is how there is none
        )
        self._open, self._faults = open_, faults
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take it up."""
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        if len(self._open) >= MOST_CONNECTIONS:
            transport.abort()
            return
        self._open.add(self)
        self._late = self._loop.call_later(HEADER_SECONDS, transport.abort)

    def has_asked(self) -> None:
        """Its first request is whole: from now on it may stay."""
        if self._late is not None:
            self._late.cancel()

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is gone."""
        self._open.discard(self)
        self.has_asked()
        super().connection_lost(exc)

    def log_exception(self, *args: Any, **more: Any) -> None:
        """Of a request: what was sent is not to be read, or something is wrong here."""
        error = more.get("exc_info")
        if isinstance(error, BaseException) and type(error).__module__.startswith("aiohttp.http"):
            return
        self._faults.tell(error if isinstance(error, BaseException) else sys.exception())
