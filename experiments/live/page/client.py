"""A client of the live page: what it asks for, one source at a time, and what it is sent.

Commands are JSON, a microphone's samples binary: 16-bit mono PCM, little endian.

    {"type": "mic", "rate": 48000}      samples follow
    {"type": "demo", "fast": false}     the demo stream; fast: not at the pace of speech
    {"type": "stop"}                    the source ends
    {"type": "tell", "cost_weight": 1}  another price λ

Files come by POST. Each client has a task of its own, and the model's steps run in threads. What it
is sent waits for it to read, so that one that does not read holds up only itself, keeps no more
than its connection's buffer, and is disconnected after a while.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, suppress
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from aiohttp import WSMessage, WSMsgType, web

from experiments.live.engine import Engine
from experiments.live.page.demo import Demo
from experiments.live.page.stream import LiveStream, Message
from experiments.live.sources import UNPLUGGED_SECONDS, Resampler, Wav

RATES = (8_000, 192_000)  # Hz, of a microphone
QUEUE_SECONDS = 3.0  # of a microphone; what comes when it is full is dropped
SLOW_SECONDS = 10.0  # after which a client that does not read is disconnected
MOST_WAITING = 10_000  # pieces of a microphone's samples; they have any lengths
# In that time, from one client: a microphone at 192 kHz sends a tenth of it.
RATE_SECONDS, MOST_MESSAGES, MOST_BYTES = 10.0, 20_000, 40 << 20
FAST_BLOCKS = 5  # blocks of a file in one message when nobody waits for their time
Result = TypeVar("Result")


class Client:
    """One page: its connection, its price, and the source that it listens to."""

    def __init__(
        self,
        engine: Engine,
        demo: Demo,
        threads: Executor,
        socket: web.WebSocketResponse,
        disconnect: Callable[[], object],
    ) -> None:
        """`disconnect`: at once, whatever still waits to be sent."""
        self._engine, self._demo, self._threads, self._socket = engine, demo, threads, socket
        self._disconnect = disconnect
        self.token = secrets.token_urlsafe(16)
        self._price = engine.price
        self._player: asyncio.Task[None] | None = None
        self._switching = asyncio.Lock()
        self._microphone: Microphone | None = None
        self._rate = _Rate()

    async def serve(self, hello: Message) -> None:
        """Until the connection ends."""
        await self.send({"type": "hello", "token": self.token, **hello})
        try:
            async for message in self._socket:
                # What has come already is handed over without waiting: others have their turn.
                await asyncio.sleep(0)
                if message.type == WSMsgType.ERROR:  # no frame of a WebSocket: it is closed by now
                    break
                self._rate.count(message)
                try:
                    await self._take(message)
                except ValueError as error:
                    await self.send({"type": "error", "message": str(error)})
        except ConnectionError:
            self._disconnect()
            raise
        finally:
            await self.stop()

    async def send(self, message: Message) -> None:
        """Send JSON once the client has read what came before; ConnectionError if it does not."""
        text = json.dumps(message, allow_nan=False, separators=(",", ":"))
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                await self._socket.send_str(text)
        except TimeoutError:
            self._disconnect()
            raise ConnectionResetError("the client does not read") from None

    async def play_file(self, wav: Wav, name: str, *, fast: bool, kept: ExitStack) -> None:
        """Listen to a file from now on; `kept`, what it needs, is closed when that is over."""
        await self._play(partial(self._play_wav, wav, "file", name, [], fast), kept=kept)

    async def stop(self) -> None:
        """End the source, if there is one."""
        async with self._switching:
            await self._cancel()

    async def _take(self, message: WSMessage) -> None:
        """Do what a message asks for; ValueError for one that is not understood."""
        if message.type == WSMsgType.BINARY:
            if self._microphone is not None:  # what was on its way when it was stopped is nothing
                self._microphone.put(message.data)
            return
        command = _parse(message.data)
        match command.get("type"):
            case "mic":
                microphone = Microphone(
                    round(_number("rate", command.get("rate"), *RATES)), self._engine.rate
                )
                await self._play(partial(self._play_microphone, microphone), microphone=microphone)
            case "demo":
                await self._play(partial(self._play_demo, fast=command.get("fast") is True))
            case "stop":
                # A microphone's last words are still to be heard.
                if self._microphone is not None:
                    self._microphone.end()
                else:
                    await self.stop()
                    await self.send({"type": "end", "reason": "stopped"})
            case "tell":
                self._price = self._checked_price(command.get("cost_weight"))
            case other:
                raise ValueError(f"type: expected mic, demo, stop or tell, got {other!r}"[:200])

    def _checked_price(self, price: Any) -> float:
        if self._engine.price is None:
            raise ValueError("cost_weight: expected a network that is told its price")
        low, high = self._engine.model.info.config.train.cost_weight_range
        if (
            isinstance(price, bool)
            or not isinstance(price, int | float)
            or not low <= price <= high
        ):
            raise ValueError(f"cost_weight: expected from {low:g} to {high:g}, got {price!r}"[:200])
        return float(price)

    async def _play(
        self,
        source: Callable[[], Coroutine[Any, Any, None]],
        *,
        kept: ExitStack | None = None,
        microphone: Microphone | None = None,
    ) -> None:
        """In place of the present source."""
        async with self._switching:
            await self._cancel()
            self._microphone = microphone
            self._player = asyncio.create_task(self._guard(source))
            if kept is not None:  # also of one that is cancelled before it begins
                self._player.add_done_callback(lambda _: kept.close())

    async def _cancel(self) -> None:
        if self._player is not None:
            self._player.cancel()
            await asyncio.wait([self._player])
        self._player, self._microphone = None, None

    async def _guard(self, source: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A source to its end; what is wrong with it is told to the client."""
        with suppress(ConnectionError):
            try:
                await source()
            except (ValueError, OSError) as error:
                await self.send({"type": "error", "message": str(error)})
                await self.send({"type": "end", "reason": "stopped"})

    async def _play_demo(self, *, fast: bool) -> None:
        await self.send({"type": "wait", "message": "Making the demo stream …"})
        demo = await self._demo.stream()
        wav = Wav(demo.path, self._engine.rate)
        await self._play_wav(wav, "demo", "demo stream", demo.said, fast)

    async def _play_wav(
        self, wav: Wav, source: str, name: str, said: list[tuple[float, str]], fast: bool
    ) -> None:
        stream = await self._begin(source, name, seconds=wav.seconds, said=said, fast=fast)
        clock, chunks = asyncio.get_running_loop(), wav.chunks()
        begin = clock.time()
        while True:
            samples = await self._run(_take_blocks, chunks, FAST_BLOCKS if fast else 1)
            if samples is None:
                break
            if not fast:
                due = begin + stream.seconds + len(samples) / self._engine.rate
                await asyncio.sleep(max(0.0, due - clock.time()))
            await self.send(await self._run(stream.advance, samples, self._price))
        await self._end(stream)

    async def _play_microphone(self, microphone: Microphone) -> None:
        stream = await self._begin("mic", "microphone")
        told = 0.0
        while True:
            samples = await microphone.take()
            if samples is None:
                break
            await self.send(await self._run(stream.advance, samples, self._price))
            if microphone.dropped_seconds > told:
                told = microphone.dropped_seconds
                note = f"{told:.1f} s of audio dropped so far: this machine does not keep up"
                await self.send({"type": "note", "message": note})
        await self._end(stream, microphone.ended or "stopped")

    async def _begin(self, source: str, name: str, **more: Any) -> LiveStream:
        stream = await self._run(LiveStream, self._engine, self._price)
        await self.send({"type": "start", "source": source, "name": name, **more})
        if self._engine.threshold is None and self._engine.detectors.is_another_now():
            note = "detector.json has changed: until the server is started again, it is as it was"
            await self.send({"type": "note", "message": note})
        return stream

    async def _end(self, stream: LiveStream, reason: str = "the end") -> None:
        await self.send(await self._run(stream.finish))
        await self.send({"type": "end", "reason": reason})

    async def _run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """In a thread. Cancelled, it waits: the next source must not meet it in the session."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise


class Microphone:
    """Samples on their way from a page, at most `QUEUE_SECONDS` of them."""

    def __init__(self, given: int, rate: int) -> None:
        """`given`: their rate in Hz; `rate`: that which is wanted."""
        self.dropped_seconds, self.ended = 0.0, ""
        self._given, self._resample = given, Resampler(given, rate)
        self._waiting: list[np.ndarray] = []
        self._count = 0  # of the samples that wait
        self._has_news, self._is_over = asyncio.Event(), False

    def put(self, data: bytes) -> None:
        """PCM as it comes; ValueError for half a sample."""
        if len(data) % 2:
            raise ValueError(f"samples: expected 16-bit PCM, got {len(data)} bytes")
        if self._is_over or not data:
            return
        count = len(data) // 2
        full = self._count + count > QUEUE_SECONDS * self._given
        if full or len(self._waiting) >= MOST_WAITING:
            self.dropped_seconds += count / self._given
            return
        self._waiting.append(np.frombuffer(data, "<i2").astype(np.float32) / 32768)
        self._count += count
        self._has_news.set()

    def end(self) -> None:
        """Nothing will come any more."""
        self._is_over = True
        self._has_news.set()

    async def take(self) -> np.ndarray | None:
        """All that waits, at the rate wanted; None when it is over."""
        try:
            async with asyncio.timeout(UNPLUGGED_SECONDS):
                await self._has_news.wait()
        except TimeoutError:
            self._is_over = True
            self.ended = f"no audio from the microphone for {UNPLUGGED_SECONDS:.0f} s"
        self._has_news.clear()
        if self._waiting:
            samples = np.concatenate(self._waiting)
            self._waiting.clear()
            self._count = 0
            if self._is_over:
                self._has_news.set()
            return self._resample(samples, False)
        return None if self._is_over else np.zeros(0, np.float32)


class _Rate:
    """How much a client sends: more than a microphone ever does is refused."""

    def __init__(self) -> None:
        self._begin, self._messages, self._bytes = time.monotonic(), 0, 0

    def count(self, message: WSMessage) -> None:
        """Another message; ConnectionError if there are too many, or too large ones."""
        now = time.monotonic()
        if now - self._begin > RATE_SECONDS:
            self._begin, self._messages, self._bytes = now, 0, 0
        self._messages += 1
        self._bytes += len(message.data) if isinstance(message.data, str | bytes) else 0
        if self._messages > MOST_MESSAGES or self._bytes > MOST_BYTES:
            raise ConnectionResetError("the client sends too much")


def _take_blocks(chunks: Iterator[np.ndarray], count: int) -> np.ndarray | None:
    """The next blocks of a file as one; None at its end."""
    blocks = list(islice(chunks, count))
    return np.concatenate(blocks) if blocks else None


def _parse(text: Any) -> dict[str, Any]:
    try:
        command = json.loads(text)
    except (ValueError, RecursionError):
        command = None
    if not isinstance(command, dict):
        raise ValueError(f"message: expected a JSON object, got {str(text)[:40]!r}")
    return command


def _number(name: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name}: expected from {low:g} to {high:g}, got {value!r}"[:200])
    return value
