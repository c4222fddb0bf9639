"""What the page's server does not take, and pages that others must not suffer from."""

import asyncio
import base64
import json
import socket
import time

import numpy as np
import pytest
from aiohttp import WSMsgType

from experiments.live.page import client as live_client
from experiments.live.page import server as page_server
from experiments.live.page.server import MESSAGE_BYTES
from tests.helpers.live import RATE, noise, wav_bytes
from tests.helpers.page import WAV, page_of, server_of, steps_of, until, upload


def test_other_sites_and_names_are_refused(engine):
    async def body():
        async with server_of(engine) as client:
            for origin in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
                response = await client.get("/live", headers=origin)
                assert response.status == 403
                assert "origin: expected this server's own" in (await response.json())["error"]
                assert (await client.post("/audio", headers=origin, data=b"")).status == 403
            rebound = {"Host": "evil.example:80", "Origin": "http://evil.example:80"}
            for path in ("/", "/live", "/demo.wav"):
                assert (await client.get(path, headers=rebound)).status == 421
            for path in ("/", "/style.css", "/page.js", "/icon.svg"):
                response = await client.get(path)
                assert response.status == 200
                assert response.headers["Content-Security-Policy"].startswith("default-src 'self'")
                assert response.headers["X-Content-Type-Options"] == "nosniff"
            for path in ("/none.js", "/demo.wav"):
                assert (await client.get(path)).status == 404

    asyncio.run(body())


def test_files_that_are_too_large_or_no_audio_are_refused(engine, monkeypatch):
    monkeypatch.setattr(page_server, "UPLOAD_BYTES", 100_000)
    monkeypatch.setattr(page_server, "MOST_SECONDS", 5.0)

    async def pieces():
        for _ in range(5):
            yield bytes(30_000)

    async def body():
        async with server_of(engine) as client, page_of(client) as page:
            cases = [
                (413, "at most", bytes(100_001), WAV),
                (413, "at most", pieces(), WAV),
                (415, "got text/plain", b"RIFF", {"Content-Type": "text/plain"}),
                (415, "got image/png", b"RIFF", {"Content-Type": "image/png"}),
                (415, "file: expected audio, got", b"RIFF but no audio at all", WAV),
                (415, "file: expected audio, got", b"", WAV),
                (415, "at most", wav_bytes(np.zeros(6 * 1000), 1000), WAV),
                (415, "Hz, got 500", wav_bytes(np.zeros(600), 500), WAV),
                (415, "and 0 s", wav_bytes(np.zeros(0)), WAV),
                (415, "got 17 and", wav_bytes(np.zeros((100, 17))), WAV),
            ]
            for status, message, data, headers in cases:
                response = await upload(client, page, data, headers)
                assert (response.status, message in (await response.json())["error"]) == (
                    status,
                    True,
                )
            response = await client.post("/audio?client=x", headers=client.origin | WAV, data=b"")
            assert response.status == 404
            # It still works.
            assert (await upload(client, page, wav_bytes(noise(2)))).status == 200
            assert steps_of(await until(page, "end"))

    asyncio.run(body())


def test_samples_that_are_no_audio_are_refused_with_their_second(engine):
    broken = noise(3)
    broken[RATE] = np.nan

    async def body():
        async with server_of(engine) as client, page_of(client) as page:
            answer = await upload(client, page, wav_bytes(broken, subtype="FLOAT"))
            return answer.status, (await answer.json())["error"]

    said = "file: expected numbers, got NaN or infinity at 1.000 s"
    assert asyncio.run(body()) == (415, said)


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ("x", "message: expected a JSON object, got 'x'"),
        ("[1]", "message: expected a JSON object"),
        ("[" * 100_000, "message: expected a JSON object"),
        ({"type": "run"}, "type: expected mic, demo, stop or tell, got 'run'"),
        ({"type": "mic"}, "rate: expected from 8000 to 192000, got None"),
        ({"type": "mic", "rate": 1e9}, "rate: expected from 8000"),
        ({"type": "tell", "cost_weight": 1e9}, "cost_weight: expected from"),
        ({"type": "tell", "cost_weight": True}, "cost_weight: expected from"),
        ('{"type": "tell", "cost_weight": NaN}', "cost_weight: expected from"),
        (b"abc", "samples: expected 16-bit PCM, got 3 bytes"),
    ],
)
def test_malformed_messages_are_answered(engine, message, answer):
    async def body():
        async with server_of(engine) as client, page_of(client) as page:
            if isinstance(message, bytes):
                await page.send_json({"type": "mic", "rate": RATE})
                await page.send_bytes(message)
            else:
                text = message if isinstance(message, str) else json.dumps(message)
                await page.send_str(text)
            error = (await until(page, "error"))[-1]["message"]
            assert answer in error
            assert len(error) <= 200
            await page.send_json({"type": "stop"})
            await until(page, "end")

    asyncio.run(body())


def test_a_message_that_is_too_large_ends_the_connection(engine):
    async def body():
        async with server_of(engine) as client, page_of(client) as page:
            await page.send_bytes(bytes(MESSAGE_BYTES + 2))
            message = await page.receive()
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1009)

    asyncio.run(body())


def test_there_is_a_limit_to_pages_and_one_that_leaves_makes_room(engine, monkeypatch):
    monkeypatch.setattr(page_server, "MOST_CLIENTS", 1)

    async def body():
        async with server_of(engine) as client:
            async with page_of(client), client.ws_connect("/live", headers=client.origin) as other:
                message = await other.receive()
                assert (message.data, message.extra) == (1013, "1 pages are open")
            async with page_of(client) as page:
                assert page.hello["token"]

    asyncio.run(body())


def test_a_page_that_does_not_read_stalls_no_other_and_is_disconnected(engine, monkeypatch):
    monkeypatch.setattr(live_client, "SLOW_SECONDS", 1.0)
    long = wav_bytes(np.zeros(1000 * 1000, np.int16), 1000)
    short = wav_bytes(noise(3))

    async def body():
        async with server_of(engine) as client, page_of(client) as page:
            begin = time.monotonic()
            reader, writer = await _deaf_page(client)
            hello = await _read_frame(reader)
            # From here on it reads nothing of what is many times its connection's buffers.
            writer.transport.pause_reading()
            token = {"client": hello["token"], "fast": "1"}
            headers = client.origin | WAV
            assert (
                await client.post("/audio", params=token, data=long, headers=headers)
            ).status == 200
            lasted = []
            while (await client.post("/audio", params=token, headers=headers)).status != 404:
                begin = time.monotonic()
                assert (await upload(client, page, short)).status == 200
                assert len(steps_of(await until(page, "end"))) == 11
                lasted.append(time.monotonic() - begin)
                assert sum(lasted) < 60
            writer.transport.abort()
            return lasted

    lasted = asyncio.run(body())
    assert len(lasted) > 1
    assert max(lasted) < 5


async def _deaf_page(client):
    """A connection made by hand, with small buffers: aiohttp's client reads on its own."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((client.host, client.port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=4096)
    head = [
        "GET /live HTTP/1.1",
        f"Host: {client.host}:{client.port}",
        f"Origin: {client.origin['Origin']}",
        *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}",
    ]
    writer.write("\r\n".join([*head, "", ""]).encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in answer.splitlines()[0]
    return reader, writer


async def _read_frame(reader):
    """JSON of one frame of the server's, of 126 to 65535 bytes."""
    _, length = await reader.readexactly(2)
    assert length == 126
    return json.loads(await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")))
