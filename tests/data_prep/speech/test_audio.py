"""Audio in the shapes in which people have it."""

import io
import struct

import numpy as np
import pytest
import soundfile

from data_prep.speech.audio import Audio, is_container

RATE = 16_000
TONE = (0.5 * np.sin(np.arange(RATE) / 20)).astype(np.float32)


def packed(samples, **how):
    out = io.BytesIO()
    soundfile.write(out, samples, RATE, **({"format": "WAV", "subtype": "PCM_16"} | how))
    return out.getvalue()


def heard(data, size=1000):
    with Audio(data) as file:
        return np.concatenate([np.zeros(0, np.float32), *file.blocks(size)])


def with_length(data, length):
    at = data.index(b"data") + 4
    return data[:at] + struct.pack("<I", length) + data[at + 4 :]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"subtype": "FLOAT"},
        {"subtype": "GSM610"},
        {"subtype": "IMA_ADPCM"},
        {"format": "FLAC"},
        {"format": "AIFF"},
        {"format": "MP3", "subtype": "MPEG_LAYER_III"},
        {"format": "OGG", "subtype": "OPUS"},
        {"format": "CAF"},
        {"format": "W64"},
    ],
)
def test_what_the_library_reads_is_read(how):
    found = heard(packed(TONE, **how))
    assert len(TONE) <= len(found) < 1.3 * len(TONE)
    assert np.square(found).sum() == pytest.approx(np.square(TONE).sum(), rel=0.1)


def test_blocks_do_not_change_what_is_heard():
    whole = heard(packed(TONE), 10**6)
    for size in (1, 7, 160):
        assert np.array_equal(heard(packed(TONE[:1000]), size), whole[:1000])


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_a_length_that_was_never_written_is_that_of_the_file(length):
    data = packed(TONE)
    assert np.array_equal(heard(with_length(data, length)), heard(data))


def test_no_samples_are_none_though_a_chunk_follows():
    data = with_length(packed(TONE[:0]), 0) + b"LIST" + struct.pack("<I", 4) + b"INFO"
    assert len(heard(data)) == 0


def test_a_flac_that_is_cut_says_where(tmp_path):
    path = tmp_path / "a.flac"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 5 * RATE)
    path.write_bytes(packed(noise, format="FLAC")[: 5 * RATE])
    parts = []
    with Audio(path) as file, pytest.raises(ValueError, match=r"a\.flac: damaged after 2\.\d\d s"):
        parts.extend(file.blocks(1600))
    assert sum(map(len, parts)) > 2 * RATE


def test_a_flac_that_claims_too_much_takes_no_memory():
    data = bytearray(packed(TONE, format="FLAC"))
    data[21] |= 0x0F  # of STREAMINFO: the top bits of the number of samples
    data[22:26] = b"\xff" * 4
    with pytest.raises(ValueError, match="damaged"):
        heard(bytes(data))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 8000, RATE - 1])
def test_numbers_that_are_none_are_named_by_file_and_second(tmp_path, value, at):
    samples = TONE.copy()
    samples[at] = value
    path = tmp_path / "a.wav"
    path.write_bytes(packed(samples, subtype="FLOAT"))
    with Audio(path) as file, pytest.raises(ValueError, match=rf"a\.wav: .* at {at / RATE:.3f} s"):
        file.check_numbers()


def test_checking_numbers_changes_nothing():
    with Audio(packed(TONE, subtype="FLOAT")) as file:
        file.check_numbers()
        assert np.array_equal(np.concatenate(list(file.blocks())), TONE)


def test_channels_are_averaged_unless_they_cancel():
    silence = np.zeros(2000, np.float32)
    left = np.concatenate([silence, TONE])
    for right, expected in ((left / 2, 0.75 * left), (-left, left), (0 * left, left / 2)):
        data = packed(np.stack([left, right], 1), subtype="FLOAT")
        np.testing.assert_allclose(heard(data), expected, atol=1e-6)


@pytest.mark.parametrize("data", [b"", b"RIFF", b"<!doctype html>", packed(TONE)[:40], b"ID3" * 9])
def test_what_is_no_audio_is_refused(data):
    with pytest.raises(ValueError, match=r"expected audio, got [^0-9<]*$"):
        heard(data)


def test_a_rate_that_no_recorder_has_is_refused():
    data = bytearray(packed(TONE))
    data[24:28] = struct.pack("<I", 1)
    with pytest.raises(ValueError, match="expected 1,000 to 384,000 Hz, got 1"):
        heard(bytes(data))


def test_a_pipe_is_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(ValueError, match="expected a file, got a folder, a pipe or a device"):
        Audio(tmp_path / "pipe.wav")


def test_is_container():
    for how in ({}, {"format": "FLAC"}, {"format": "OGG", "subtype": "VORBIS"}, {"format": "AIFF"}):
        assert is_container(packed(TONE, **how))
    assert not is_container(b"\x01\x00\x02\x00")
