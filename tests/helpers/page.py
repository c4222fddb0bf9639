"""The live page's server and pages that connect to it, by aiohttp's own client."""

import asyncio
import socket
from contextlib import asynccontextmanager

from aiohttp.test_utils import TestClient, TestServer, get_port_socket

from experiments.live.page.server import make_app

WAV = {"Content-Type": "audio/wav"}


@asynccontextmanager
async def server_of(engine):
    server = TestServer(make_app(engine), socket_factory=_small_socket)
    async with TestClient(server) as client:
        client.origin = {"Origin": f"http://{client.host}:{client.port}"}
        yield client


def _small_socket(host, port, family):
    """Whose connections hold little of what is not read."""
    listening = get_port_socket(host, port, family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    return listening


@asynccontextmanager
async def page_of(client):
    """A connection that has said hello."""
    async with client.ws_connect("/live", headers=client.origin) as page:
        page.hello = await page.receive_json()
        assert page.hello["type"] == "hello"
        yield page


def upload(client, page, body, headers=None, **query):
    query = {"client": page.hello["token"], "name": "a.wav", "fast": "1", **query}
    headers = client.origin | (WAV if headers is None else headers)
    return client.post("/audio", params=query, data=body, headers=headers)


async def until(page, kind, seconds=60):
    """All messages to the first of a kind, it included."""
    messages = []
    async with asyncio.timeout(seconds):
        while not messages or messages[-1]["type"] != kind:
            messages.append(await page.receive_json())
    return messages


def steps_of(messages):
    return [step for message in messages if message["type"] == "heard" for step in message["steps"]]
