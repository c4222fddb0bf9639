"""The live page's server, by aiohttp's own client: sources, refusals, pages beside one another."""

import asyncio
import base64
import configparser
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from aiohttp import ClientSession, WSMsgType
from aiohttp.test_utils import TestClient, TestServer, get_port_socket

import experiments
from data_prep.command.atomic import write_json
from experiments import listen, serve
from experiments.live.engine import Engine
from experiments.live.page import client as live_client
from experiments.live.page import content as live_page
from experiments.live.page import demo as live_demo
from experiments.live.page import server as page_server
from experiments.live.page.client import Microphone
from experiments.live.page.server import MESSAGE_BYTES, make_app
from sanas_jax.data.clips import FIRST_WORD
from sanas_jax.streaming.detector import Detector
from sanas_jax.streaming.session import Session
from tests.helpers.live import RATE, noise, small_engine, wav_bytes
from tests.helpers.places import ROOT

WAV = {"Content-Type": "audio/wav"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return small_engine(tmp_path_factory.mktemp("serve"))


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


def expected_steps(engine, samples, told=()):
    """By a session alone; told: (sample, λ)."""
    session = Session(engine.runtime, cost_weight=engine.price, detector=Detector(threshold=0.0))
    heard, at = [], 0
    for end, price in (*told, (len(samples), None)):
        heard += session.push(samples[at:end])
        at = end
        if price is not None:
            session.tell(price)
    return heard + session.finish()


def assert_same(steps, expected, classes):
    assert len(steps) == len(expected)
    for step, heard in zip(steps, expected, strict=True):
        found = heard.detection
        assert step["time_ms"] == heard.time_ms
        assert step["live"] == np.flatnonzero(heard.live).tolist()
        assert step["fired"] == (found is not None and found.label >= FIRST_WORD)
        label = heard.posterior.argmax() if not step["fired"] else found.label
        score = heard.posterior[label] if not step["fired"] else found.score
        assert step["word"] == classes[label]
        assert step["score"] == pytest.approx(score, abs=2e-4)


def test_an_uploaded_file_is_heard_as_a_session_hears_it(engine):
    samples = noise(12)

    async def body():
        async with server_of(engine) as client, page_of(client) as page:
            response = await upload(client, page, wav_bytes(samples))
            assert response.status == 200
            return page.hello, await until(page, "end")

    hello, messages = asyncio.run(body())
    assert hello["price"]["value"] == engine.price
    net = engine.model.sanas.net
    assert [edge["name"] for edge in hello["network"]["edges"]] == [e.name for e in net.edges]
    assert messages[0] == {
        **{"type": "start", "source": "file", "name": "a.wav"},
        **{"seconds": 12.0, "said": [], "fast": True},
    }
    steps = steps_of(messages)
    assert_same(steps, expected_steps(engine, samples), engine.model.info.classes)
    words = [step for step in steps if step["fired"]]
    assert words
    totals = messages[-2]["totals"]
    assert totals["words"] == len(words)
    assert totals["seconds"] == 12
    whole = np.mean([step["whole_macs"] for step in steps])
    front = totals["frontend_macs"]
    assert totals["macs_per_frame"] == pytest.approx(whole + front, rel=1e-3)
    saved = 1 - (whole + front) / (hello["full_macs"] + front)
    assert totals["macs_saved"] == pytest.approx(saved, rel=1e-3)
    heard = [message for message in messages if message["type"] == "heard"]
    wave = np.concatenate([np.frombuffer(base64.b64decode(m["wave"]), np.int8) for m in heard])
    ends = samples[: 1600 * (len(wave) // 20)].reshape(-1, 160)[: len(wave) // 2]
    assert np.abs(wave.reshape(-1, 2)[:, 1] - 127 * ends.max(1)).max() <= 0.51
    assert len(wave) / 2 >= 100 * 12 - 20
    mel = b"".join(base64.b64decode(message["mel"]) for message in heard)
    assert len(mel) == len(wave) / 2 * hello["bands"]


def test_a_microphone_is_heard_and_told_its_price(engine, monkeypatch):
    monkeypatch.setattr(live_client, "QUEUE_SECONDS", 60.0)  # it speaks faster than people do
    samples = noise(8, seed=1)
    pcm = (32768 * samples).astype("<i2")

    async def body():
        async with server_of(engine) as client, page_of(client) as page:
            await page.send_json({"type": "mic", "rate": RATE})
            await page.send_bytes(pcm[: 3 * RATE // 2].tobytes())
            messages = []
            while not messages or messages[-1].get("totals", {}).get("seconds") != 1.5:
                messages.append(await page.receive_json())
            await page.send_json({"type": "tell", "cost_weight": 5.0})
            for at in range(3 * RATE // 2, len(pcm), 4000):
                await page.send_bytes(pcm[at : at + 4000].tobytes())
                await asyncio.sleep(0.01)
            await page.send_json({"type": "stop"})
            return messages + await until(page, "end")

    messages = asyncio.run(body())
    assert messages[-1]["reason"] == "stopped"
    assert not [message for message in messages if message["type"] in ("note", "error")]
    expected = expected_steps(engine, samples, [(3 * RATE // 2, 5.0)])
    assert_same(steps_of(messages), expected, engine.model.info.classes)
    # The price matters: otherwise equality with the session would say nothing of it.
    dear, cheap = expected, expected_steps(engine, samples)
    assert any(not np.allclose(a.gamma, b.gamma) for a, b in zip(dear, cheap, strict=True))


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


def test_a_microphone_that_comes_too_fast_or_no_more():
    async def body():
        microphone = Microphone(48_000, 16_000)
        for _ in range(5):
            microphone.put(bytes(2 * 48_000))
        assert microphone.dropped_seconds == 2
        taken = await microphone.take()
        assert 2.9 * 16_000 < len(taken) <= 3 * 16_000
        microphone.put(bytes(960))
        microphone.end()
        microphone.put(bytes(960))  # on its way when it was ended
        assert len(await microphone.take()) > 0
        assert await microphone.take() is None

    asyncio.run(body())


def test_a_microphone_that_was_unplugged_ends_the_stream(engine, monkeypatch):
    monkeypatch.setattr(live_client, "UNPLUGGED_SECONDS", 0.2)

    async def body():
        async with server_of(engine) as client, page_of(client) as page:
            await page.send_json({"type": "mic", "rate": RATE})
            return (await until(page, "end"))[-1]["reason"]

    assert asyncio.run(body()).startswith("no audio from the microphone")


def test_a_file_is_paced_as_it_was_spoken_and_stopped_or_replaced(engine):
    async def body():
        async with server_of(engine) as client, page_of(client) as page:
            begin = time.monotonic()
            assert (await upload(client, page, wav_bytes(noise(2)), fast="0")).status == 200
            messages = await until(page, "end")
            assert time.monotonic() - begin >= 1.8
            assert len([m for m in messages if m["type"] == "heard"]) >= 10
            for _ in range(2):
                assert (await upload(client, page, wav_bytes(noise(9)), fast="0")).status == 200
                assert (await until(page, "heard"))[0]["type"] == "start"
            await page.send_json({"type": "stop"})
            assert (await until(page, "end"))[-1]["reason"] == "stopped"

    asyncio.run(body())


def test_the_demo_stream_is_made_and_heard(engine, tmp_path, monkeypatch):
    pytest.importorskip("espeakng_loader")
    monkeypatch.setattr(live_demo, "MINUTES", 0.2)
    monkeypatch.setattr(live_demo, "VOICES", 4)

    async def body():
        async with server_of(engine) as client, page_of(client) as page:
            assert not page.hello["demo"]["missing"]
            await page.send_json({"type": "demo", "fast": True})
            wait, start, *rest = await until(page, "end")
            assert (wait["type"], start["source"], start["seconds"]) == ("wait", "demo", 12)
            known = {*engine.model.info.classes[FIRST_WORD:], "_unknown_"}
            assert {word for _, word in start["said"]} <= known
            assert len(start["said"]) == 5
            assert len(steps_of(rest)) > 50
            response = await client.get("/demo.wav")
            assert len(await response.read()) == 44 + 2 * 12 * RATE

    asyncio.run(body())


def test_a_demo_stream_that_cannot_be_made_says_why(engine, monkeypatch):
    monkeypatch.setattr(live_demo.importlib.util, "find_spec", lambda name: None)

    async def body():
        async with server_of(engine) as client, page_of(client) as page:
            assert "pip install 'sanas-jax[synth]'" in page.hello["demo"]["missing"]
            await page.send_json({"type": "demo"})
            assert "demo stream: needs voices" in (await until(page, "error"))[-1]["message"]

    asyncio.run(body())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--serve", "--wav", "a.wav"], "--serve: expected no other source"),
        (["--serve", "--json", "a"], "--serve: expected neither --every_step nor --json"),
        (["--serve", "--port", "70000"], "port"),
        (["--serve", "--host", "nowhere.invalid"], "--host, --port: expected an address"),
    ],
)
def test_bad_flags_are_one_line(monkeypatch, capsys, argv, message):
    monkeypatch.setattr(sys, "argv", ["listen", *argv])
    with pytest.raises(SystemExit) as stopped:
        listen.cli()
    _, err = capsys.readouterr()
    assert stopped.value.code == 1
    assert err.count("\n") == 1
    assert message in err


def test_a_port_in_use_is_one_line(monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(sys, "argv", ["serve", "--port", str(taken.getsockname()[1])])
        with pytest.raises(SystemExit) as stopped:
            serve.cli()
    assert stopped.value.code == 1
    err = capsys.readouterr().err
    assert "expected an address that is free" in err
    assert err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_cleanly(sent):
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        text=True,
    )
    line = process.stdout.readline()
    assert line.startswith("http://127.0.0.1:")
    assert line.rstrip().endswith("kws")

    url = line.split()[0]

    async def body():
        async with (
            ClientSession() as client,
            client.ws_connect(f"{url}live", headers={"Origin": url.rstrip("/")}) as page,
        ):
            await page.send_json({"type": "mic", "rate": RATE})
            await page.send_bytes(bytes(2 * RATE))
            await until(page, "heard")
            process.send_signal(sent)
            while (message := await page.receive()).type == WSMsgType.TEXT:
                pass
            return message

    message = asyncio.run(body())
    assert (message.data, message.extra) == (1001, "the server stops")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "stopped\n")


def test_the_package_ships_the_page():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = setup["options.package_data"]["experiments"].split()
    package = Path(experiments.__file__).parent
    assert f"{live_page.FOLDER.relative_to(package)}/*" in patterns
    assert {path.name for path in live_page.FOLDER.iterdir()} == set(live_page.TYPES)


def test_detectors_are_those_of_the_start_and_a_page_is_told_of_others(engine, tmp_path):
    """`calibrate` may write them anew, or somebody take the run away, while pages listen."""
    folder = shutil.copytree(engine.model.workdir, tmp_path / "run")
    path = folder / "detector.json"

    def write(thresholds):
        entries = [
            {"cost_weight": price, "settings": {"threshold": threshold}}
            for price, threshold in zip((0.1, 1.0), thresholds, strict=True)
        ]
        write_json(path, {"step": engine.model.step, "detectors": entries})

    write((0.25, 0.5))
    own = Engine(dataclasses.replace(engine.model, workdir=folder), engine.runtime, 0.1)
    assert own.detectors.at(0.1) == Detector(threshold=0.25)

    async def first_messages():
        async with server_of(own) as client, page_of(client) as page:
            await page.send_json({"type": "mic", "rate": RATE})
            await page.send_bytes(bytes(2 * RATE * 2))
            await page.send_json({"type": "tell", "cost_weight": 1.0})
            await page.send_bytes(bytes(2 * RATE))
            await page.send_json({"type": "stop"})
            return await until(page, "end")

    def notes():
        found = asyncio.run(first_messages())
        assert "error" not in {message["type"] for message in found}
        assert len(steps_of(found)) > 5
        return [message["message"] for message in found if message["type"] == "note"]

    assert notes() == []
    write((0.75, 0.75))
    assert notes() == [
        "detector.json has changed: until the server is started again, it is as it was"
    ]
    path.write_text("{")
    assert len(notes()) == 1
    shutil.rmtree(folder)
    assert len(notes()) == 1
    assert own.detectors.at(1.0) == Detector(threshold=0.5)
