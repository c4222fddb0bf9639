"""What a page hears: files, a microphone, the demo stream."""

import asyncio
import base64
import time

import numpy as np
import pytest

from experiments.live.page import client as live_client
from experiments.live.page import demo as live_demo
from experiments.live.page.client import Microphone
from sanas_jax.data.clips import FIRST_WORD
from sanas_jax.streaming.detector import Detector
from sanas_jax.streaming.session import Session
from tests.helpers.live import RATE, noise, wav_bytes
from tests.helpers.page import page_of, server_of, steps_of, until, upload


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
