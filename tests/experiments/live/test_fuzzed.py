"""Messages of any bytes to the live page: answered or dropped, and it goes on; from a seed."""

import asyncio
import json
import struct
import time
from contextlib import suppress

import numpy as np
import pytest

from tests.experiments.live.test_hostile import frame, open_socket, server_of, still_works
from tests.helpers.fuzz import changed
from tests.helpers.live import small_engine

COUNT = 300
COMMANDS = (
    {"type": "mic", "rate": 48000},
    {"type": "mic", "rate": 16000.0, "fast": [1, {"a": None}]},
    {"type": "demo", "fast": True},
    {"type": "stop"},
    {"type": "tell", "cost_weight": 0.5},
)
# No demo is made here: what is asked for is what is looked at.
VALUES = (None, True, -1, 0, 1e308, 1e999, 2**70, "", "mic", "\ud800", [], {}, [[]] * 9, {"a": 1})


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return small_engine(tmp_path_factory.mktemp("fuzzed"))


def of_bytes(rng):
    """No frames at all."""
    return rng.bytes(int(rng.integers(1, 400)))


def of_frames(rng):
    """A frame with its head or its content changed."""
    data = rng.bytes(int(rng.integers(0, 300)))
    return changed(frame(int(rng.integers(16)), data), rng)


def of_text(rng):
    """JSON with changed bytes."""
    text = json.dumps(COMMANDS[int(rng.integers(len(COMMANDS)))]).encode()
    return frame(1, changed(text, rng)[:60_000])


def of_json(rng):
    """JSON with other values, or other keys."""
    command = dict(COMMANDS[int(rng.integers(len(COMMANDS)))])
    for _ in range(rng.integers(1, 3)):
        key = str(rng.choice([*command, "rate", "cost_weight", "type", "x"]))
        command[key] = VALUES[int(rng.integers(len(VALUES)))]
    if rng.random() < 0.3:
        del command[str(rng.choice(list(command)))]
    return frame(1, json.dumps(command).encode())


def of_samples(rng):
    """A microphone, and binary frames of any lengths, halves of samples too."""
    sent = frame(1, json.dumps({"type": "mic", "rate": int(rng.integers(7_000, 200_000))}).encode())
    for _ in range(rng.integers(1, 4)):
        sent += frame(2, rng.bytes(int(rng.integers(0, 4000))))
    if rng.random() < 0.5:
        sent += frame(8, struct.pack(">H", int(rng.integers(65536))))
    return sent


@pytest.mark.slow
@pytest.mark.parametrize("make", [of_bytes, of_frames, of_text, of_json, of_samples])
def test_any_messages_leave_the_page_working(engine, capfd, monkeypatch, make):
    """Several in a connection, until it is closed; the next one is served."""
    monkeypatch.setattr("experiments.live.page.demo.Demo.stream", _no_demo)

    async def body():
        slowest, connections = 0.0, 0
        async with server_of(engine) as port:
            number = 0
            while number < COUNT:
                connections += 1
                reader, writer = await open_socket(port)
                reading = asyncio.create_task(_read_all(reader))
                for _ in range(20):
                    rng = np.random.default_rng([len(make.__name__), ord(make.__name__[3]), number])
                    number += 1
                    writer.write(make(rng))
                    with suppress(ConnectionError):
                        await writer.drain()
                    await asyncio.sleep(0)
                    if reading.done() or number == COUNT:
                        break
                begin = time.monotonic()
                writer.close()
                async with asyncio.timeout(30):
                    await reading
                slowest = max(slowest, time.monotonic() - begin)
            await still_works(port)
        return slowest, connections

    slowest, connections = asyncio.run(body())
    assert capfd.readouterr().err == ""
    print(f"{make.__name__}: {COUNT} messages, {connections} connections, {slowest:.2f} s to end")


async def _read_all(reader):
    with suppress(ConnectionError):
        while await reader.read(1 << 16):
            pass


async def _no_demo(self):
    raise ValueError("no demo here")


def test_messages_follow_from_the_seed():
    for make in (of_bytes, of_frames, of_text, of_json, of_samples):
        first, again, other = (make(np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert first == again != other
