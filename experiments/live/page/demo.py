"""The demo stream of the live page: a minute of the model's words in synthetic voices.

Made by the commands of data_prep when somebody first asks for it, in processes of their own: the
synthesiser's state is global to one.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import data_prep

MINUTES, GAP_MS = 1.0, 1200
VOICES = 12
OTHER_WORDS = ("cat", "house", "seven", "happy")  # that a model does not listen for
NOISE_SECONDS = 20


class DemoStream(NamedTuple):
    """A WAV file, and what is said in it: (seconds at which the clip begins, word)."""

    path: Path
    said: list[tuple[float, str]]


class Demo:
    """Makes the stream once, for whoever asks."""

    def __init__(self, folder: Path, words: Sequence[str]) -> None:
        """`folder`: where it may write; `words`: that the model listens for."""
        self._folder, self._words = folder, list(words)
        self._making: asyncio.Task[DemoStream] | None = None
        found = importlib.util.find_spec("espeakng_loader")
        self.missing = "" if found else "needs voices: pip install 'sanas-jax[synth]'"

    async def stream(self) -> DemoStream:
        """The stream; ValueError where it cannot be made."""
        if self.missing:
            raise ValueError(f"demo stream: {self.missing}")
        if self._making is None:
            self._making = asyncio.create_task(self._make())
        try:
            # Somebody else may wait for it when this client leaves.
            return await asyncio.shield(self._making)
        except ValueError:
            self._making = None
            raise

    @property
    def made(self) -> DemoStream | None:
        """The stream, if there is one."""
        task = self._making
        done = task is not None and task.done() and not task.cancelled() and not task.exception()
        return task.result() if task is not None and done else None

    async def close(self) -> None:
        """Stop what is being made."""
        if self._making is not None:
            self._making.cancel()
            await asyncio.wait([self._making])

    async def _make(self) -> DemoStream:
        others = [word for word in OTHER_WORDS if word not in self._words]
        corpus, out = self._folder / "corpus", self._folder / "demo.wav"
        if not corpus.exists():
            await _command(
                *("data_prep.synthesize", "--out", corpus, "--voices", VOICES, "--takes", 1),
                *("--noise_seconds", NOISE_SECONDS, f"--words={','.join(self._words + others)}"),
            )
        await _command(
            *("data_prep.make_stream", "--data", corpus, "--out", out, "--split", "training"),
            *("--minutes", MINUTES, "--word_gap_ms", GAP_MS, f"--words={','.join(self._words)}"),
        )
        said = []
        for line in out.with_name("demo_labels.txt").read_text(encoding="utf-8").splitlines():
            word, ms = line.rsplit(", ", 1)
            said.append((float(ms) / 1000, word))
        return DemoStream(out, said)


async def _command(*words: object) -> None:
    """Run a module of this installation; ValueError with its last line where it fails."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *map(str, words)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(data_prep.__file__).parents[1],  # where one stands may be another data_prep
    )
    try:
        _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if process.returncode:
        last = (errors.decode(errors="replace").splitlines() or ["no reason given"])[-1]
        raise ValueError(f"demo stream: {last}")
