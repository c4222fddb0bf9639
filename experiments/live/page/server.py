"""The live page's server: requests, what is refused, and who is connected."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from aiohttp import web
from aiohttp.typedefs import Handler

from experiments.live.engine import Engine
from experiments.live.page.client import Client
from experiments.live.page.connections import Connection, serving
from experiments.live.page.content import TYPES, describe, read_files
from experiments.live.page.demo import Demo
from experiments.live.sources import Wav
from experiments.machine.host import without_pauses
from sanas_jax.data.clips import FIRST_WORD

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
KEY = "key"  # of the address, and the cookie
MOST_CLIENTS = 8
MESSAGE_BYTES = 1 << 18
UPLOAD_BYTES = 128 << 20
PIECE_SECONDS = 20.0  # that may pass between two pieces of an upload
MOST_SECONDS = 2 * 3600.0  # of a file
MOST_CHANNELS = 16
AUDIO_TYPES = re.compile(r"audio/[\w.+-]+|application/(ogg|octet-stream)", re.ASCII)
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; media-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

_TOO_LARGE = f"file: expected at most {UPLOAD_BYTES >> 20} MB"


def listening_socket(host: str, port: int) -> socket.socket:
    """Bound before a model is loaded; ValueError where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(
            f"--host, --port: expected an address that is free, got {host}:{port}: {error.strerror}"
        ) from error


def serve(host: str, port: int, make: Callable[[], Engine]) -> None:
    """Serve the page until Ctrl-C; `make` loads the model once the address is ours."""
    with listening_socket(host, port) as address:
        engine = make()
        key = "" if host in LOOPBACK else secrets.token_urlsafe(16)
        app = make_app(engine, is_local=host in LOOPBACK, key=key)
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{address.getsockname()[1]}/" + (f"?{KEY}={key}" if key else "")
        said = [f"{url}  {engine.model.workdir.name}"]
        if key:
            said.append("whoever has this address, and can reach this machine, can use it")
        with without_pauses():
            asyncio.run(_until_stopped(app, address, said))
        engine.runtime.close()
    # Another Ctrl-C would only meet the interpreter as it cleans up, and be told as its errors are.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("stopped", file=sys.stderr)


async def _until_stopped(app: web.Application, address: socket.socket, said: list[str]) -> None:
    """Serve, say so once Ctrl-C means to stop, and stop."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, stopped.set)
    async with serving(app, address):
        with suppress(OSError):  # nobody reads it
            print(*said, sep="\n", flush=True)
        await stopped.wait()


def make_app(engine: Engine, *, is_local: bool = True, key: str = "") -> web.Application:
    """The server.

    Args:
      engine: what listens.
      is_local: requests must name this machine as such.
      key: that the page's address must bring, if it is not empty.
    """
    server = Server(engine, is_local, key)
    app = web.Application(middlewares=[server.guard], client_max_size=MESSAGE_BYTES)
    app.cleanup_ctx.append(server.resources)
    app.on_shutdown.append(server.say_goodbye)
    app.on_response_prepare.append(_add_headers)
    app.router.add_get("/live", server.live)
    app.router.add_post("/audio", server.audio)
    app.router.add_get("/demo.wav", server.demo_audio)
    app.router.add_get("/{name:[a-z.]*}", server.page)
    return app


class Server:
    """The handlers, and what they share."""

    def __init__(self, engine: Engine, is_local: bool, key: str) -> None:
        self._engine, self._is_local, self._key = engine, is_local, key
        self._hello, self._files = describe(engine), read_files()
        self._clients: dict[str, Client] = {}
        self._sockets: set[web.WebSocketResponse] = set()
        self._uploading: set[str] = set()

    async def resources(self, app: web.Application) -> AsyncIterator[None]:
        """Threads and a folder for files, while the server runs."""
        threads = ThreadPoolExecutor(os.cpu_count(), "step")
        with tempfile.TemporaryDirectory(prefix="sanas-serve-") as folder, threads:
            self._folder, self._threads = Path(folder), threads
            self._demo = Demo(self._folder, self._engine.model.info.classes[FIRST_WORD:])
            yield
            await self._demo.close()

    async def say_goodbye(self, app: web.Application) -> None:
        """Tell the pages, whose connections would otherwise last."""
        closing = [socket.close(code=1001, message=b"the server stops") for socket in self._sockets]
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.gather(*closing, return_exceptions=True)

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what another site's page may have sent.

        A name that was made to point here (DNS rebinding) shows in Host, another site in Origin.
        Where any name may be meant, the key of the page's address is asked for; a browser keeps it
        for what the page asks for, and gives it to no other name.
        """
        if isinstance(request.protocol, Connection):
            request.protocol.has_asked()
        name = re.sub(r":\d+$", "", request.host)
        if self._is_local and name not in LOOPBACK:
            return _refuse(421, f"host: expected this machine's own name, got {name[:100]!r}")
        if request.path in ("/live", "/audio"):
            origin = request.headers.get("Origin", "none")
            if origin not in (f"http://{request.host}", f"https://{request.host}"):
                return _refuse(403, f"origin: expected this server's own, got {origin[:100]!r}")
        given = request.query.get(KEY) or request.cookies.get(KEY, "")
        if self._key and not secrets.compare_digest(given.encode(), self._key.encode()):
            return _refuse(403, "address: expected the whole one that the server printed")
        response = await handler(request)
        if self._key and KEY in request.query:
            response.set_cookie(KEY, self._key, httponly=True, samesite="Strict")
        return response

    async def page(self, request: web.Request) -> web.Response:
        """The page's files."""
        name = request.match_info["name"] or "index.html"
        if name not in self._files:
            return _refuse(404, f"file: expected one of {', '.join(TYPES)}, got {name[:100]!r}")
        return web.Response(body=self._files[name], content_type=TYPES[name], charset="utf-8")

    async def demo_audio(self, request: web.Request) -> web.StreamResponse:
        """The demo stream, to be heard, once it was asked for."""
        made = self._demo.made
        return web.FileResponse(made.path) if made else _refuse(404, "demo stream: not made yet")

    async def live(self, request: web.Request) -> web.WebSocketResponse:
        """A page's connection."""
        channel = web.WebSocketResponse(
            heartbeat=20.0, max_msg_size=MESSAGE_BYTES, compress=False, timeout=1.0
        )
        await channel.prepare(request)
        # Where the handshake is refused, a page is not told why: so it is accepted first.
        if len(self._sockets) >= MOST_CLIENTS:
            await channel.close(code=1013, message=f"{MOST_CLIENTS} pages are open".encode())
            return channel
        transport = request.transport
        assert transport is not None
        client = Client(self._engine, self._demo, self._threads, channel, transport.abort)
        self._clients[client.token] = client
        self._sockets.add(channel)
        demo = {"missing": self._demo.missing}
        limits = {"bytes": UPLOAD_BYTES, "seconds": MOST_SECONDS}
        try:
            with suppress(ConnectionError):
                await client.serve({**self._hello, "demo": demo, "limits": limits})
        finally:
            self._sockets.discard(channel)
            del self._clients[client.token]
        return channel

    async def audio(self, request: web.Request) -> web.Response:
        """A file for a page: its bytes are the body."""
        token = request.query.get("client", "")
        client = self._clients.get(token)
        if client is None:
            return _refuse(404, "client: expected the token of an open page")
        if token in self._uploading:
            return _refuse(409, "file: expected one at a time")
        if not AUDIO_TYPES.fullmatch(request.content_type):
            return _refuse(415, f"file: expected audio, got {request.content_type[:100]}")
        if (request.content_length or 0) > UPLOAD_BYTES:
            return _refuse(413, _TOO_LARGE)
        self._uploading.add(token)
        try:
            # Who uses the file closes it, and it is gone.
            with ExitStack() as kept:
                file = kept.enter_context(tempfile.NamedTemporaryFile(dir=self._folder))
                if not await _receive(request, file):
                    return _refuse(413, _TOO_LARGE)
                wav = await asyncio.get_running_loop().run_in_executor(
                    self._threads, open_audio, Path(file.name), self._engine.rate
                )
                name = request.query.get("name", "")[:100] or "file"
                fast = request.query.get("fast") == "1"
                await client.play_file(wav, name, fast=fast, kept=kept.pop_all())
        except ValueError as error:
            return _refuse(415, str(error))
        except TimeoutError:
            return _refuse(408, f"file: nothing came for {PIECE_SECONDS:.0f} s")
        finally:
            self._uploading.discard(token)
        return web.json_response({})


def open_audio(path: Path, rate: int) -> Wav:
    """A file that somebody sent; ValueError unless it is audio of a sensible size."""
    try:
        wav = Wav(path, rate)
    except ValueError as error:  # the path is none that the sender knows
        raise ValueError(str(error).replace(f"{path}: ", "file: ")) from None
    channels, seconds = wav.audio.channels, wav.seconds
    if channels > MOST_CHANNELS or seconds is None or not 0 < seconds <= MOST_SECONDS:
        wav.audio.close()
        length = "an unknown length" if seconds is None else f"{seconds:.0f} s"
        raise ValueError(
            f"file: expected at most {MOST_CHANNELS} channels, more than nothing and at most "
            f"{MOST_SECONDS / 3600:g} h, got {channels} and {length}"
        )
    return wav


async def _receive(request: web.Request, file: IO[bytes]) -> bool:
    """Write the body to a file; whether it was small enough."""
    size = 0
    pieces = request.content.iter_chunked(1 << 16)
    while True:
        async with asyncio.timeout(PIECE_SECONDS):
            piece = await anext(pieces, None)
        if piece is None:
            file.flush()
            return True
        size += len(piece)
        if size > UPLOAD_BYTES:
            return False
        file.write(piece)


def _refuse(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
