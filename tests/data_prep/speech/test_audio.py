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


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_integers_that_were_written_as_floats_are_what_they_were(bits, subtype):
    integers = 2.0 ** (bits - 1) * TONE.astype(np.float64)
    np.testing.assert_allclose(heard(packed(integers, subtype=subtype)), TONE, atol=1e-6)


def test_floats_somewhat_over_full_scale_stay_what_they_are():
    assert np.array_equal(heard(packed(20 * TONE, subtype="FLOAT")), 20 * TONE)


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


@pytest.mark.parametrize(
    "chunk",
    [
        b"LIST" + struct.pack("<I", 5) + b"INFOx",  # no byte makes it even
        b"LIST" + struct.pack("<I", 27) + b"INFOISFT\r\0\0\0Lavf58.29.100\0\0\0",  # nor within
        b"LIST" + struct.pack("<I", 5) + b"INFOx\0",
    ],
)
def test_a_chunk_that_breaks_the_rules_hides_no_samples(chunk):
    data = packed(TONE)
    at = data.index(b"data")
    assert np.array_equal(heard(data[:at] + chunk + data[at:]), heard(data))
    never_written = with_length(data[:at] + chunk + data[at:], 0)
    assert np.array_equal(heard(never_written), heard(data))


def test_is_container():
    formats = ("WAV", "FLAC", "AIFF", "CAF", "W64", "AU", "RF64", "OGG")
    assert all(is_container(packed(TONE, format=name, subtype=None)) for name in formats)
    for begin in (b"\0\0\0\x18ftypM4A ", b"\x1aE\xdf\xa3", b"#!AMR\n"):
        assert is_container(begin + bytes(99))
    assert not is_container(b"\x01\x00\x02\x00")
    assert not is_container(b"")


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_is_container_of_mpeg_without_a_name(rate):
    out = io.BytesIO()
    soundfile.write(out, TONE, rate, format="MP3")
    data = out.getvalue()
    assert data[0] == 0xFF
    assert is_container(data)
    assert not is_container(data[:4] + bytes(4092))  # samples that begin as a frame does
    aac = bytes([0xFF, 0xF1, 0x50, 0x80, 0x02, 0x1F, 0xFC]) + bytes(9)  # 16 bytes
    assert is_container(aac + aac)
    assert not is_container(aac + bytes(99))
