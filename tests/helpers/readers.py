"""Every reader of the project with a small file that it reads, for `fuzz`."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import soundfile

from data_prep.images.cache import open_image_cache, write_image_cache
from data_prep.images.cifar import read_cifar
from data_prep.images.idx import read_idx
from data_prep.images.image_set import ImageSet
from data_prep.speech.audio import Audio
from data_prep.speech.cache import CacheRow, open_cache, write_cache
from data_prep.speech.heard import read_heard
from data_prep.speech.negative_cache import NegativeRow, open_negatives, write_negatives
from experiments.config import ModelConfig
from experiments.datasets.streams import read_stream
from experiments.evaluation.clip_errors import read_groups
from experiments.runs import folder as run_folder
from experiments.runs import packed
from experiments.runs.detectors import read_detector
from experiments.runs.metrics import read_metrics
from experiments.runs.packed import PARAMS
from experiments.runs.stored_results import StreamResult, read_result
from experiments.runs.trained import model_of, read_model
from experiments.training.mining import Mined, fingerprint, read_mined, write_mined
from experiments.training.run_log import _read_points
from sanas_jax.data.tracks import Tracks
from sanas_jax.rollout import Sanas, abstract_model
from tests.helpers.exports import EXPORTS
from tests.helpers.fuzz import Reader
from tests.helpers.packed import write_packed
from tests.helpers.toy import mel_matrix

CLASSES = ("_silence_", "_unknown_", "yes", "no")
TONE = (0.3 * np.sin(np.arange(4000) / 9)).astype(np.float32)


def _text(name: str, value: Any) -> Callable[[Path], Path]:
    """Makes a file of a text, or of a value as JSON."""

    def make(folder: Path) -> Path:
        text = value if isinstance(value, str) else json.dumps(value, indent=1)
        (folder / name).write_text(text, encoding="utf-8")
        return folder / name

    return make


def _audio(**how: str) -> Reader:
    def make(folder: Path) -> Path:
        out = io.BytesIO()
        soundfile.write(out, TONE, 16_000, **how)
        (folder / "a").write_bytes(out.getvalue())
        return folder / "a"

    def read(folder: Path) -> object:
        with Audio(folder / "a") as file:
            file.check_numbers()
            return sum(map(len, file.blocks()))

    return Reader(make, read)


def _labels(folder: Path) -> Path:
    soundfile.write(folder / "a.wav", np.tile(TONE, 8), 16_000)  # two seconds
    return _text("a.txt", "yes, 12.5\n_unknown_, 900\nno, 1800.0000\n")(folder)


def _packed(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write_packed(folder / "model", ModelConfig(maps=(2, 2), state_size=4))
        return folder / "model" / name

    return make


def _cache(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        rows = [CacheRow(np.arange(9, dtype=np.int16), 2, 0, split) for split in (0, 1, 2)]
        write_cache(
            folder / "cache",
            rows,
            noise=[np.ones(20, np.int16)],
            mel=mel_matrix(),
            classes=CLASSES,
            all_words=("yes", "no"),
            provenance={"sha256": "ab"},
        )
        return folder / "cache" / name

    return make


def _negatives(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        rows = [
            NegativeRow(np.arange(200 * (i + 1), dtype=np.int16), f"{i}.wav", kind, i, i == 1)
            for i, kind in enumerate(("speech", "music", "speech"))
        ]
        write_negatives(folder, rows)
        return folder / "negatives" / name

    return make


def _negative_samples(folder: Path) -> object:
    """All that is used of negatives, so that an index that points at nothing is found."""
    found = open_negatives(folder)
    assert found is not None
    samples = [found.file(row).sum() for row in range(len(found.names))]
    return samples, found.table(), found.is_speech()


@cache
def _talk() -> Any:
    """A source with some running speech."""
    tracks = Tracks.create(np.arange(900, dtype=np.int16), [0, 400, 900], np.ones(900, bool))
    return SimpleNamespace(training=SimpleNamespace(negatives=SimpleNamespace(speech=tracks)))


def _mined(folder: Path) -> Path:
    stretches = np.array([[0, 100], [500, 600]], np.int32)
    write_mined(folder, Mined(stretches, fingerprint(_talk().training.negatives.speech)))
    return folder / "mined.npz"


def _image_cache(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        images = np.arange(96, dtype=np.uint8).reshape(6, 4, 4, 1)
        labels, splits = np.arange(6, dtype=np.int32) % 2, np.arange(6, dtype=np.int8) % 3
        data = ImageSet(images, labels, splits, ("a", "b"), "idx", "as published")
        write_image_cache(folder / "cache", data, {})
        return folder / "cache" / name

    return make


def _idx(folder: Path) -> Path:
    head = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (3, 4, 5))
    (folder / "a.gz").write_bytes(gzip.compress(head + bytes(range(60)), mtime=0))
    return folder / "a.gz"


def _cifar(folder: Path) -> Path:
    content = {b"labels": [0, 1], b"data": np.zeros((2, 3072), np.uint8)}
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps(content, 2))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"a", b"b"]}, 2))
    return folder / "data_batch_3"


@cache
def _network(folder: Path) -> tuple[Sanas, dict[str, Any]]:
    """Of a packed model whose description is not changed, with the shapes of its parameters."""
    model = model_of(run_folder.read(folder))
    return model, abstract_model(model)


def _params(folder: Path) -> object:
    model, shapes = _network(folder / "model")
    # Tracing the network anew takes most of the time, and has nothing to do with the file.
    with patch.object(packed, "abstract_model", lambda _: shapes):
        return packed.read_params(folder / "model", model, static=False)


_DETECTOR = {
    "step": 5,
    "detectors": [
        {"cost_weight": price, "settings": {"threshold": 0.5, "window_ms": 500, "min_count": 3}}
        for price in (0.1, 1.0)
    ],
}
_LINE = {"step": 5, "split": "validation", "calibration": [{"cost_weight": 1, "macs_per_frame": 9}]}
_RESULT = {
    **{"workdir": "a", "step": 5, "static": False, "stream": "s", "threshold": 0.5},
    **{"tolerance_ms": 750, "num_words": 3, "seconds": 1.5, "match_pct": 1.0, "correct_pct": 1.0},
    **{"wrong_pct": 0.0, "false_alarm_pct": 0.0, "false_alarms_per_hour": 0.0},
    **{"macs_per_frame": 1.0, "macs_per_frame_with_controller": 2.0, "full_macs_per_frame": 3.0},
    **{"frame_accuracy": 0.5, "gate_usage": {"a": 0.5}, "detections": []},
}

READERS: dict[str, Reader] = {
    "wav": _audio(format="WAV", subtype="PCM_16"),
    "wav, float": _audio(format="WAV", subtype="FLOAT"),
    "wav, gsm": _audio(format="WAV", subtype="GSM610"),
    "flac": _audio(format="FLAC"),
    "ogg": _audio(format="OGG", subtype="VORBIS"),
    "mp3": _audio(format="MP3", subtype="MPEG_LAYER_III"),
    "aiff": _audio(format="AIFF"),
    "labels": Reader(_labels, lambda at: read_stream(at / "a.wav", at / "a.txt", CLASSES, 16_000)),
    "config": Reader(_packed("config.json"), lambda at: read_model(at / "model")),
    "frontend": Reader(_packed("frontend.npz"), lambda at: run_folder.read(at / "model")),
    "params": Reader(_packed(PARAMS), _params),
    "metrics": Reader(
        _text("metrics.jsonl", f"{json.dumps(_LINE)}\n" * 3), lambda at: list(read_metrics(at))
    ),
    "detector": Reader(_text("detector.json", _DETECTOR), lambda at: read_detector(at, 5, 0.3)),
    "sweep": Reader(_text("sweep.json", {"members": ["a", "b"]}), run_folder.read_sweep),
    "result": Reader(
        _text("s.json", _RESULT), lambda at: read_result(at / "s.json", StreamResult.from_json)
    ),
    "front": Reader(
        _text("front.json", [{"step": 5, "macs_per_frame": 9.0, "frame_accuracy": 0.5}]),
        lambda at: _read_points(at / "front.json"),
    ),
    "cache": Reader(_cache("dataset.json"), lambda at: open_cache(at / "cache")),
    "cache, labels": Reader(_cache("labels.npy"), lambda at: open_cache(at / "cache")),
    "cache, noise": Reader(_cache("noise_bounds.npy"), lambda at: open_cache(at / "cache")),
    "cache, mel": Reader(_cache("mel.npy"), lambda at: open_cache(at / "cache")),
    **{
        f"negatives, {Path(name).stem}": Reader(_negatives(name), _negative_samples)
        for name in ("negatives.json", "bounds.npy", "splits.npy", "kinds.npy", "samples.npy")
    },
    "heard": Reader(
        _text("heard.tsv", "file\theard\na/1.wav\tyes no\nb/1.wav\t-\n2.wav\tno\n"),
        lambda at: read_heard(at / "heard.tsv"),
    ),
    "groups": Reader(
        _text("groups.tsv", "yes/a_nohash_0.wav\tmen\nno/b_nohash_0.wav\twomen\n"),
        lambda at: read_groups(at / "groups.tsv", ["yes/a_nohash_0.wav", "no/b_nohash_0.flac"]),
    ),
    "mined": Reader(_mined, lambda at: read_mined(at, _talk())),
    "images": Reader(_image_cache("dataset.json"), lambda at: open_image_cache(at / "cache")),
    "images, labels": Reader(_image_cache("labels.npy"), lambda at: open_image_cache(at / "cache")),
    "idx": Reader(_idx, lambda at: read_idx(at / "a.gz", 3)),
    "cifar": Reader(_cifar, lambda at: read_cifar(at, "cifar10")),
    **EXPORTS,
}
