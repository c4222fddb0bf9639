import io
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from data_prep.speech.decode import decode, loudest_second, mel_matrix, read, resample, to_int16


def encode(samples: np.ndarray, rate: int, form: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def tone(rate: int, seconds: float = 0.5, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


@pytest.mark.parametrize("form", ["FLAC", "WAV"])
def test_decode_16_bit_16_khz_is_exact(form: str) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 4_000).astype(np.int16)
    got = decode(encode(samples, 16_000, form, "PCM_16"))
    assert got.dtype == np.int16
    np.testing.assert_array_equal(got, samples)


def test_decode_of_real_flac_is_what_soundfile_reads(speech_commands: Path) -> None:
    paths = sorted((speech_commands / "yes").glob("*.flac"))[:20]
    assert paths
    for path in paths:
        np.testing.assert_array_equal(read(path), soundfile.read(path, dtype="int16")[0])


@pytest.mark.parametrize(("rate", "form"), [(8_000, "WAV"), (44_100, "FLAC"), (48_000, "OGG")])
def test_decode_resamples_to_16_khz(rate: int, form: str) -> None:
    got = decode(encode(tone(rate), rate, form)) / 32768
    assert len(got) == 8_000
    # Away from the ends, where the filter and the ogg coder are not at their best.
    np.testing.assert_allclose(got[1_000:7_000], tone(16_000)[1_000:7_000], atol=0.02)


def test_decode_averages_channels() -> None:
    stereo = np.stack([tone(16_000), -0.5 * tone(16_000)], axis=1)
    got = decode(encode(stereo, 16_000, "WAV", "FLOAT"))
    np.testing.assert_array_equal(got, to_int16(0.25 * tone(16_000)))


def test_decode_clips_what_is_too_loud() -> None:
    got = decode(encode(np.array([2.0, -2.0, 1.0]), 16_000, "WAV", "FLOAT"))
    assert got.tolist() == [32767, -32768, 32767]


def test_decode_rejects_what_is_no_audio() -> None:
    with pytest.raises(ValueError, match=r"[Ff]ormat"):
        decode(b"not audio at all")
    with pytest.raises(ValueError, match="no samples"):
        decode(encode(np.zeros(0), 16_000, "WAV"))
    with pytest.raises(ValueError, match="NaN or infinity at 0"):
        decode(encode(np.array([0.0, np.nan]), 16_000, "WAV", "FLOAT"))


def test_read_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"bad\.wav"):
        read(tmp_path / "bad.wav")


def test_resample_is_librosas() -> None:
    samples = np.random.default_rng(0).standard_normal(5_000).astype(np.float32)
    for rate in (8_000, 22_050):
        want = librosa.resample(samples, orig_sr=rate, target_sr=16_000, res_type="soxr_hq")
        got = resample(samples, rate)
        assert abs(len(want) - len(got)) <= 1  # librosa rounds the length up
        n = min(len(want), len(got))
        np.testing.assert_array_equal(got[:n], want[:n])


def test_loudest_second_holds_the_energy() -> None:
    samples = np.zeros(40_000, np.int16)
    samples[20_000:30_000] = -32768
    got = loudest_second(samples)
    assert got.shape == (16_000,)
    assert np.count_nonzero(got) == 10_000
    np.testing.assert_array_equal(loudest_second(samples[:16_000]), samples[:16_000])


def test_mel_matrix_is_the_reference(reference: Path) -> None:
    want = np.load(reference / "golden_features.npz")["mel_basis_f32"]
    np.testing.assert_array_equal(mel_matrix(), want)
