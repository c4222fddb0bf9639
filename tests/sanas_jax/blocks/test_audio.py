"""Blocks on samples: bands as the data's features have them, energies, what both cost."""

import dataclasses

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from sanas_jax.blocks.audio import ENERGY_FLOOR, Energies, LogMel, normalised
from sanas_jax.costs import edge_macs
from sanas_jax.data.features import PADDINGS, Frontend, extract
from sanas_jax.data.frontend_cost import LOG, frontend_cost
from sanas_jax.data.mel import mel_matrix
from sanas_jax.graph import check_block
from sanas_jax.rollout import Sanas, init_model
from sanas_jax.spaces import separable

BLOCK = LogMel(max_hz=7600)
NET = separable(log_mel=BLOCK)
SIGNAL = 0.1 * jax.random.normal(jax.random.key(0), (2, 16_200))


def frontend(padding="constant", max_hz=7600):
    mel = librosa.filters.mel(sr=16_000, n_fft=480, n_mels=40, fmin=20, fmax=max_hz)
    mean, std = np.linspace(-8, -3, 40), np.linspace(3, 5, 40)
    return Frontend.create(mel, mean=mean, std=std, padding=padding, cepstral=False)


@pytest.mark.parametrize(
    ("bands", "n_fft", "top"), [(40, 480, 7600), (40, 512, 4000), (9, 60, 900)]
)
def test_mel_matrix_is_librosas(bands, n_fft, top):
    rate = 16_000 if top > 1000 else 2000
    expected = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=bands, fmin=20, fmax=top)
    np.testing.assert_allclose(mel_matrix(bands, n_fft, rate, 20, top), expected, atol=1e-8)


@pytest.mark.parametrize("edges", [(20, 8001), (300, 200), (-1, 4000)])
def test_mel_edges_that_cannot_be_are_refused(edges):
    with pytest.raises(ValueError, match=r"min_hz, max_hz: expected 0 ≤ min < max ≤ 8000, got"):
        mel_matrix(40, 480, 16_000, *edges)


@pytest.mark.parametrize("padding", PADDINGS)
def test_bands_of_rows_are_those_of_the_signal(padding):
    """As many frames as the front end finds, whatever is left over at the end."""
    front = frontend(padding)
    rows = extract(dataclasses.replace(front, raw=True), SIGNAL)
    expected = extract(front, SIGNAL)
    assert rows.shape == (2, expected.shape[1] + 2, 160)
    stats = normalised(NET, {}, front)["stats"]["mel"]
    got = BLOCK.apply({"batch_stats": stats}, rows[..., None])
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_row_is_as_many_samples_as_a_hop():
    raw = dataclasses.replace(frontend(), raw=True)
    assert (raw.span(7), raw.overlap, frontend().overlap) == (7 * 160, 2, 0)
    rows = extract(raw, SIGNAL[0, :480], centred=False)
    np.testing.assert_array_equal(rows, SIGNAL[0, :480].reshape(3, 160))
    with pytest.raises(ValueError, match="n_fft: expected a multiple of hop = 150"):
        Frontend.create(raw.mel, hop=150, raw=True, cepstral=False)
    with pytest.raises(ValueError, match="n_fft: expected a multiple of the 150 samples of a row"):
        separable(log_mel=BLOCK, input_shape=(103, 150, 1))


@pytest.mark.parametrize("block", [BLOCK, Energies()], ids=["bands", "energies"])
def test_they_commute_with_shifts(block):
    check_block(block, (9, 160, 1))


def test_statistics_stay_as_they_are_in_training():
    stats = normalised(NET, {}, frontend())["stats"]["mel"]
    rows = SIGNAL[:, :1600].reshape(2, 10, 160, 1)
    variables = {"batch_stats": stats}
    trained, after = BLOCK.apply(variables, rows, train=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(trained, BLOCK.apply(variables, rows))
    jax.tree.map(np.testing.assert_array_equal, after["batch_stats"], stats)


def test_energies_by_hand():
    rows = np.asarray(SIGNAL[0, :480]).reshape(3, 160)
    parts = [rows, np.diff(rows), np.diff(rows, n=2)]
    expected = [np.log((part**2).mean(1) / ENERGY_FLOOR + 1) for part in parts]
    got = Energies().apply({}, rows[None, ..., None])
    np.testing.assert_allclose(got[0], np.stack(expected, 1), rtol=1e-5)
    np.testing.assert_array_equal(Energies().apply({}, jnp.zeros((1, 2, 160, 1))), 0)


def test_macs_are_those_of_the_front_end():
    macs = edge_macs(NET)
    assert macs["mel"] == frontend_cost(frontend(), 101).total
    assert macs["energy"] == 103 * ((160 + 159 + 158) + (159 + 158) + 3 * LOG)
    assert macs["energy"] < macs["mel"] / 9
    assert frontend_cost(dataclasses.replace(frontend(), raw=True), 101).total == 0


def test_a_front_end_of_other_bands_is_refused():
    params = init_model(Sanas(NET), jax.random.key(0))
    assert normalised(NET, params, frontend())["net"] is params["net"]
    with pytest.raises(ValueError, match="edge 'mel': expected the mel bands of the data's"):
        normalised(NET, params, frontend(max_hz=8000))
