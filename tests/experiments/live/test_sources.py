"""Sources of audio: files of any rate, pipes in odd pieces, a microphone that is not there."""

import io

import numpy as np
import pytest
import soundfile

from experiments.live.sources import Microphone, Pipe, Wav


def heard(source):
    chunks = list(source.chunks())
    return np.concatenate(chunks) if chunks else np.zeros(0)


def tone(rate, seconds=2.5):
    return (0.4 * np.sin(2 * np.pi * 300 * np.arange(int(rate * seconds)) / rate)).astype("f4")


def test_wav_passes_through_bit_for_bit(tmp_path):
    samples = (tone(16000) * 32767).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    source = Wav(tmp_path / "a.wav", 16000)
    assert source.seconds == 2.5
    np.testing.assert_array_equal(heard(source) * 32768, samples)


def test_a_clip_has_a_second_of_silence_to_both_sides(tmp_path):
    samples = (tone(16000, 0.5) * 32767).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    got = heard(Wav(tmp_path / "a.wav", 16000))
    np.testing.assert_array_equal(got * 32768, np.pad(samples, 16000))


@pytest.mark.parametrize("rate", [8000, 44100])
def test_wav_of_another_rate_and_two_channels_has_no_seams(tmp_path, rate):
    both = np.stack([2 * tone(rate), 0 * tone(rate)], 1)
    soundfile.write(tmp_path / "a.flac", both, rate)
    got = heard(Wav(tmp_path / "a.flac", 16000))
    assert abs(len(got) - 40000) <= 1
    middle = slice(2000, 38000)  # the ends ring
    np.testing.assert_allclose(got[middle], tone(16000)[middle], atol=1e-3)


def test_wav_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--wav: expected a file"):
        Wav(tmp_path / "none.wav", 16000)
    (tmp_path / "text.wav").write_text("not audio")
    with pytest.raises(ValueError, match=r"text\.wav: expected audio, got Format"):
        Wav(tmp_path / "text.wav", 16000)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    assert not len(heard(Wav(tmp_path / "empty.wav", 16000)))


class Trickle(io.RawIOBase):
    """A pipe that gives what it likes."""

    def __init__(self, data, sizes):
        self.data, self.sizes = data, list(sizes)

    def read(self, size=-1):
        size = min(size, self.sizes.pop(0) if self.sizes else size)
        part, self.data = self.data[:size], self.data[size:]
        return part


def test_pipe_takes_samples_that_are_cut_in_two():
    samples = (tone(16000) * 32767).astype("<i2")
    pipe = Trickle(samples.tobytes() + b"x", [1, 1, 3, 7, 2, 501, 1])
    np.testing.assert_array_equal(heard(Pipe(pipe, 16000, 16000)) * 32768, samples)


def test_pipe_of_another_rate():
    got = heard(Pipe(io.BytesIO((tone(8000) * 32767).astype("<i2").tobytes()), 8000, 16000))
    assert abs(len(got) - 40000) <= 1


def test_a_microphone_that_is_not_there_is_one_clear_error():
    with pytest.raises(ValueError, match=r"--mic: expected"):
        Microphone("no such device", 16000)
