"""The live page among those who send it anything, or nothing at all, over plain sockets."""

import asyncio
import base64
import gc
import os
import socket
import struct
import time
import warnings
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import ClientSession

from experiments.live.page import client as page_client
from experiments.live.page import connections
from experiments.live.page.client import Client
from experiments.live.page.connections import serving
from experiments.live.page.server import make_app
from tests.helpers.live import small_engine

KEY = base64.b64encode(bytes(16)).decode()


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return small_engine(tmp_path_factory.mktemp("hostile"))


@asynccontextmanager
async def server_of(engine, **how):
    """Its port."""
    with socket.create_server(("127.0.0.1", 0)) as address:
        async with serving(make_app(engine, **how), address):
            yield address.getsockname()[1]


def frame(opcode, data, *, first=0x80, masked=True):
    """A frame of a WebSocket as a client sends it."""
    mask = bytes(4) if masked else b""
    length = bytes([len(data) | 0x80 * masked]) if len(data) < 126 else None
    if length is None:
        length = bytes([126 | 0x80 * masked]) + struct.pack(">H", len(data))
    return bytes([first | opcode]) + length + mask + data


async def open_socket(port):
    """A connection after its handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [
        *("GET /live HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Origin: http://127.0.0.1:{port}"),
        *("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}"),
        *("Sec-WebSocket-Version: 13", "", ""),
    ]
    writer.write("\r\n".join(lines).encode())
    assert b" 101 " in await reader.readline()
    return reader, writer


async def still_works(port):
    """The seconds that a page takes."""
    begin = time.monotonic()
    async with asyncio.timeout(30), ClientSession() as session:
        answer = await session.get(f"http://127.0.0.1:{port}/")
        assert answer.status == 200
        await answer.read()
    return time.monotonic() - begin


async def flood(writer, data):
    async with asyncio.timeout(30):
        while True:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("data", [b"", b"\0\0", b"{}", b"x" * 20])
def test_many_small_messages_hold_up_nobody(engine, monkeypatch, capfd, data):
    monkeypatch.setattr(page_client, "MOST_MESSAGES", 5000)
    opcode = 1 if data[:1] in (b"{", b"x") else 2

    async def body():
        async with server_of(engine) as port:
            _, writer = await open_socket(port)
            writer.write(frame(1, b'{"type":"mic","rate":192000}'))
            writer.write(frame(opcode, data) * 50_000)
            took = [await still_works(port) for _ in range(5)]
            # Whoever sends so much is let go.
            with pytest.raises(ConnectionError):
                await flood(writer, frame(opcode, data) * 100)
            writer.close()
            return max(took)

    assert asyncio.run(body()) < 10
    assert capfd.readouterr().err == ""


BAD = {
    "opcode": frame(5, b"a"),
    "unmasked": frame(1, b"{}", masked=False),
    "reserved": frame(1, b"{}", first=0xF0),
    "ping": frame(9, b"x" * 126),
    "continuation": frame(0, b"a"),
    "text": frame(1, b"\xff\xfe"),
    "close": frame(8, b"\x03"),
    "code": frame(8, struct.pack(">H", 99)),
    "length": b"\x82\xff" + b"\xff" * 8,
    "cut": frame(2, b"abcd")[:4],
    "nothing": b"",
    "noise": bytes(range(256)) * 40,
    "object": frame(1, b'{"type":{"type":[]}}'),
    "nested": frame(1, b"[" * 60_000),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_frames_and_pages_that_vanish_end_quietly(engine, capfd, name):
    async def body():
        async with server_of(engine) as port:
            for leave in ("close", "reset"):
                reader, writer = await open_socket(port)
                writer.write(frame(1, b'{"type":"mic","rate":16000}') + frame(2, bytes(20_000)))
                await reader.read(100)
                writer.write(BAD[name])
                await asyncio.sleep(0.05)
                if leave == "reset":
                    own = writer.get_extra_info("socket")
                    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.close()
            await still_works(port)

    asyncio.run(body())
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 5000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /audio HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /%ff%00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET " + b"/" * 20_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_requests_that_are_none_are_refused_quietly(engine, capfd, sent):
    async def body():
        async with server_of(engine) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            async with asyncio.timeout(20):
                assert (await reader.read(12))[:9] in (b"", b"HTTP/1.1 ", b"HTTP/1.0 ")
            writer.close()
            await still_works(port)

    asyncio.run(body())
    assert capfd.readouterr().err == ""


def test_connections_that_ask_for_nothing_are_few_and_closed(engine, monkeypatch, capfd):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 1.0)
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 20)

    async def body():
        async with server_of(engine) as port:
            opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
            opened[0][1].write(b"GET / HTTP/1.1\r\nHost:")
            async with asyncio.timeout(20):
                for reader, writer in opened:
                    with suppress(ConnectionError):
                        assert await reader.read() == b""
                    writer.close()
            await still_works(port)

    asyncio.run(body())
    assert capfd.readouterr().err == ""


def test_a_key_is_asked_for_where_any_name_may_be_meant(engine):
    async def body():
        async with server_of(engine, is_local=False, key="secret") as port:
            url = f"http://127.0.0.1:{port}"
            headers = {"Origin": url}
            async with ClientSession() as session:
                for path in ("/", "/page.js", "/live", "/?key=wrong", "/?key=%ff"):
                    assert (await session.get(url + path, headers=headers)).status == 403
                assert (await session.get(f"{url}/?key=secret")).status == 200
            # A browser keeps the key, under the name at which it got it.
            async with ClientSession(cookies={"key": "secret"}) as session:
                assert (await session.get(f"{url}/page.js")).status == 200
                async with session.ws_connect(f"{url}/live", headers=headers) as page:
                    assert (await page.receive_json())["type"] == "hello"
                other = await session.get(f"{url}/live", headers={"Origin": "http://evil.example"})
                assert other.status == 403

    asyncio.run(body())


def test_a_fault_of_ours_is_one_line_however_often(engine, monkeypatch, capfd, tmp_path):
    async def broken(self, message):
        raise KeyError(os.path)

    monkeypatch.setattr(Client, "_take", broken)
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    async def body():
        async with server_of(engine) as port:
            for _ in range(5):
                reader, writer = await open_socket(port)
                writer.write(frame(1, b"{}"))
                await reader.read(10_000_000)
                writer.close()
            await still_works(port)

    asyncio.run(body())
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("error: a fault of sanas_jax, please report it: KeyError")


def test_a_source_that_is_cancelled_before_it_begins_leaves_no_warning(engine):
    async def body():
        async with server_of(engine) as port:
            reader, writer = await open_socket(port)
            for _ in range(3):
                writer.write(frame(1, b'{"type":"demo"}') + frame(1, b'{"type":"stop"}'))
            writer.write(frame(1, b'{"type":"mic","rate":16000}') * 3)
            await reader.read(1000)
            writer.close()

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        asyncio.run(body())
        gc.collect()
    assert [str(one.message) for one in said if "never awaited" in str(one.message)] == []
