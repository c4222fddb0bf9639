import builtins
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from data_prep.speech.index import find
from data_prep.speech.negatives import activity, find_negatives
from data_prep.synthesize import _run_all, main
from data_prep.voices import espeak, noises, recordings
from data_prep.voices.sentences import sentence

pytest.importorskip("espeakng_loader", reason="the voices are not installed")

WORDS = ("yes", "seven", "marvin")


def synthesize(*arguments: str | Path) -> int:
    return main(["synthesize", *map(str, arguments)])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "corpus"
    small = ("--words", ",".join(WORDS), "--voices", "8", "--noise_seconds", "2", "--jobs", "2")
    assert synthesize("--out", out, *small) == 0
    return out


def test_synthesize_writes_the_speech_commands_layout(corpus: Path) -> None:
    index = find(corpus)
    assert index.words == tuple(sorted(WORDS))
    assert len(index.clips) == 3 * 8 * 2
    speakers = {clip.speaker for clip in index.clips}
    assert len(speakers) == 8
    assert all(len(name) == 8 and int(name, 16) >= 0 for name in speakers)
    assert {clip.take for clip in index.clips} == {0, 1}
    assert len(index.noise) == 6
    manifest = json.loads((corpus / "synthesis.json").read_text())
    assert set(manifest["voices"]) == speakers
    for name in index.noise:
        info = soundfile.info(corpus / name)
        assert (info.samplerate, info.frames, info.subtype) == (16_000, 32_000, "PCM_16")


def test_synthesize_clips_are_words_in_a_second(corpus: Path) -> None:
    peaks, durations, ratios = [], [], []
    for clip in find(corpus).clips:
        samples, rate = soundfile.read(corpus / clip.name)
        assert (rate, samples.shape) == (16_000, (16_000,))
        frames = np.sqrt(np.mean(samples.reshape(100, 160) ** 2, axis=1))
        loud = np.flatnonzero(frames > 0.1 * frames.max())
        peaks.append(np.abs(samples).max())
        durations.append((loud[-1] - loud[0] + 1) / 100)
        ratios.append(frames.max() / np.quantile(frames, 0.05))
    print(
        f"peak {min(peaks):.3f}-{max(peaks):.3f}, duration {min(durations):.2f}-"
        f"{max(durations):.2f} s, loudest to quietest frame {min(ratios):.0f}-{max(ratios):.0f}"
    )
    assert min(peaks) > 0.09  # -20 dB and noise
    assert max(peaks) < 0.95  # nothing clips
    assert min(durations) > 0.1
    assert 0.25 < np.median(durations) < 0.75
    assert np.median(ratios) > 20
    assert np.median(durations[: len(durations) // 3]) > 0.2


def test_synthesize_takes_and_voices_differ(corpus: Path) -> None:
    contents = [(corpus / clip.name).read_bytes() for clip in find(corpus).clips]
    assert len(set(contents)) == len(contents)


def test_synthesize_is_the_same_for_any_number_of_jobs(corpus: Path, tmp_path: Path) -> None:
    small = ("--words", ",".join(WORDS), "--voices", "8", "--noise_seconds", "2", "--jobs", "1")
    assert synthesize("--out", tmp_path / "one", *small) == 0
    names = sorted(path.relative_to(corpus) for path in corpus.rglob("*.*"))
    assert len(names) == 48 + 6 + 1
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (corpus / name).read_bytes(), name
    other = (*small[:-2], "--seed", "1", "--takes", "1")
    assert synthesize("--out", tmp_path / "two", *other) == 0
    assert not {p.name for p in (tmp_path / "two/yes").iterdir()} & {
        p.name for p in (corpus / "yes").iterdir()
    }


def test_draw_voices_are_many_and_all_known_to_the_library() -> None:
    voices = recordings.draw_voices(200, seed=0)
    assert len(voices) == 200
    assert len(set(voices.values())) == 200
    assert {voice.accent for voice in voices.values()} == set(espeak.ACCENTS)
    assert len({voice.variant for voice in voices.values()}) > 75
    assert recordings.draw_voices(200, seed=0) == voices
    speaker = espeak.Speaker()
    durations = [len(speaker.say("yes", voice)) / speaker.rate for voice in voices.values()]
    assert min(durations) > 0.1
    assert np.median(durations) < 0.7
    with pytest.raises(ValueError, match=r"got 'xx\+f1'"):
        speaker.say("yes", espeak.Voice("f1", "xx", 50, 50, 150))


def test_say_is_the_same_in_every_process_for_every_variant() -> None:
    code = (
        "import hashlib; from data_prep.voices import espeak; speaker = espeak.Speaker()\n"
        "for v in espeak.variants():\n"
        "    spoken = speaker.say('seven', espeak.Voice(v, 'en-us', 50, 50, 150))\n"
        "    print(v, hashlib.sha1(spoken.tobytes()).hexdigest())"
    )
    command = [sys.executable, "-c", code]
    one, two = (subprocess.run(command, capture_output=True, check=True).stdout for _ in "ab")
    assert one.splitlines() == two.splitlines()
    assert len(one.splitlines()) == len(espeak.variants())


def test_variants_sound_different() -> None:
    # The library takes an unknown variant in silence, and speaks with its default voice.
    speaker = espeak.Speaker()
    names = ["nobody", *espeak.variants()]
    spoken = {speaker.say("seven", espeak.Voice(v, "en", 50, 50, 150)).tobytes() for v in names}
    assert len(spoken) == len(names) > 75


def test_make_clip_cuts_what_is_longer_than_a_second() -> None:
    rng = np.random.default_rng(0)
    spoken = (9_000 * rng.standard_normal(40_000)).clip(-32768, 32767).astype(np.int16)
    clip = recordings.make_clip(spoken, 22_050, rng)
    assert clip.shape == (16_000,)
    assert np.abs(clip.astype(float)).max() < 0.95 * 32768
    with pytest.raises(ValueError, match="got silence"):
        recordings.make_clip(np.zeros(100, np.int16), 22_050, rng)


@pytest.mark.parametrize(
    ("kind", "slope"), [("white_noise", 0), ("pink_noise", -1), ("brown_noise", -2)]
)
def test_noise_tracks_have_their_colour(kind: str, slope: float) -> None:
    track = noises.TRACKS[kind](np.random.default_rng(0), 160_000)
    power = np.abs(np.fft.rfft(track)) ** 2
    hertz = np.fft.rfftfreq(160_000, 1 / 16_000)
    bands = [(100 * 2**i, 200 * 2**i) for i in range(6)]
    levels = [np.mean(power[(hertz >= a) & (hertz < b)]) for a, b in bands]
    got = np.polyfit(np.log([a for a, _ in bands]), np.log(levels), 1)[0]
    assert got == pytest.approx(slope, abs=0.1)
    assert np.sqrt(np.mean(track**2)) == pytest.approx(noises.RMS)


def test_noise_tracks_do_not_clip_and_follow_the_seed() -> None:
    for kind, make in noises.TRACKS.items():
        track = make(np.random.default_rng(1), 32_000)
        assert np.abs(track).max() < 1, kind
        np.testing.assert_array_equal(track, make(np.random.default_rng(1), 32_000))
    hum = noises.hum(np.random.default_rng(0), 160_000)
    power = np.abs(np.fft.rfft(hum)) ** 2  # bins of 0.1 Hz
    assert power[498:503].max() > 100 * power[700:800].max()


def test_synthesize_refuses_bad_input_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").touch()
    out = ("--out", tmp_path / "new")
    cases: dict[str, tuple[str | Path, ...]] = {
        "expected --out to be new": ("--out", tmp_path / "taken"),
        "words, each once": (*out, "--words", "yes,no,yes"),
        "can name a folder, got '../up'": (*out, "--words", "yes,../up"),
        "voices": (*out, "--voices", "0"),
    }
    for message, arguments in cases.items():
        assert synthesize(*arguments) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    real = builtins.__import__

    def without_voices(name: str, *rest: Any) -> Any:
        if name == "espeakng_loader":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_voices)
    assert synthesize(*out) == 1
    assert "pip install sanas-jax[synth]" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def deaf() -> int:
    return int(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))


def test_workers_leave_ctrl_c_to_the_parent() -> None:
    assert _run_all([deaf, deaf], 2) == 2
    assert not deaf()


@pytest.mark.slow
def test_synthesize_interrupted_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    process = subprocess.Popen(
        [sys.executable, "-m", "data_prep.synthesize", "--out", str(out), "--voices", "2000"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not list(tmp_path.rglob("*.wav")) and time.monotonic() < deadline:
        time.sleep(0.05)
    # As Ctrl-C does, to the workers too.
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "interrupted: nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def test_synthesize_says_sentences_without_the_words(tmp_path: Path) -> None:
    small = ("--words", "yes,water", "--voices", "3", "--noise_seconds", "1", "--jobs", "2")
    for name, sentences in (("plain", "0"), ("with", "2")):
        assert synthesize("--out", tmp_path / name, *small, "--sentences", sentences) == 0
    found = find_negatives([str(tmp_path / "with" / "_speech_")], "(.*)_")
    assert len(found) == 6
    assert {each.kind for each in found} == {"speech"}
    assert {each.split for each in found} == {0, 1, 2}, "one of three voices each"
    for each in found:
        samples, rate = soundfile.read(each.root / each.name, dtype="int16")
        assert rate == 16_000
        assert 1 < len(samples) / rate < 15
        assert activity(samples).mean() > 0.5
    assert not find(tmp_path / "with").ignored
    clips = [clip.name for clip in find(tmp_path / "plain").clips]
    assert [clip.name for clip in find(tmp_path / "with").clips] == clips
    for name in clips:
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "with" / name).read_bytes()


def test_sentences_differ_and_hold_no_word_to_be_heard() -> None:
    rng = np.random.default_rng(0)
    avoid = ("water", "Brother", "on")
    said = [sentence(rng, avoid) for _ in range(500)]
    assert len(set(said)) > 450
    assert not any({"water", "brother", "on"} & set(text.split()) for text in said)
    with pytest.raises(ValueError, match="leave sentences to say"):
        sentence(rng, [word for text in said for word in text.split()])


def test_sentences_hold_no_phrase_to_be_heard() -> None:
    rng = np.random.default_rng(0)
    # The last lies across two parts of a sentence.
    avoid = ("glass of water", "Garden_Gate", "box before")
    said = [sentence(rng, avoid) for _ in range(3000)]
    for phrase in ("glass of water", "garden gate", "box before"):
        assert not any(phrase in text for text in said)
    assert any("box" in text for text in said)
    plain = [sentence(np.random.default_rng(seed), ("water",)) for seed in range(20)]
    assert plain == [sentence(np.random.default_rng(s), ("water", "sofa")) for s in range(20)]


def test_babble_holds_no_word_to_be_heard() -> None:
    rng = np.random.default_rng(0)
    words = ("weather", "window", "lunch", "fresh bread")
    said = {recordings.babble(rng, words) for _ in range(200)}
    assert len(said) == 4
    assert not any(word in text for word in words for text in said)
    # Nothing of it is left: sentences are said.
    every = (*words, "river", "glass", "brother", "winter")
    assert "a" in {word for _ in range(50) for word in recordings.babble(rng, every).split()}
    # With the words that it was written for it is what it was.
    one, two = np.random.default_rng(1), np.random.default_rng(1)
    for _ in range(20):
        want = recordings.BABBLE[two.integers(len(recordings.BABBLE))]
        assert recordings.babble(one, recordings.WORDS) == want


def test_the_babble_of_a_corpus_holds_none_of_its_words(tmp_path: Path, monkeypatch) -> None:
    said: list[str] = []

    def say(speaker: espeak.Speaker, text: str, voice: espeak.Voice) -> np.ndarray:
        said.append(text)
        return np.ones(9000, np.int16)

    monkeypatch.setattr(espeak.Speaker, "say", say)
    (tmp_path / "_background_noise_").mkdir()
    options = recordings.Options(words=("weather", "lunch"), noise_seconds=20)
    recordings.write_track(tmp_path, "babble", 0, options)
    assert len(said) > 100
    assert not any(word in text for word in options.words for text in said)
