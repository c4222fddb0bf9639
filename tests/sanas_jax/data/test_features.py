"""MFCC against the authors' numbers (librosa) and a NumPy loop in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.costs import count_macs
from sanas_jax.data.features import (
    Frontend,
    by_fft,
    extract,
    fit_normaliser,
    mel_power,
    num_frames,
)
from sanas_jax.data.frontend_cost import frontend_cost
from tests.helpers.places import GOLDEN as GOLDEN_FOLDER

GOLDEN = GOLDEN_FOLDER / "features.npz"
SIGNALS = [
    "chirp_lin_50_7900",
    "chirp_log_100_4000",
    "noise_burst",
    "silence",
    "tones_dc",
    "noise_1p3s",
    "fsdd_0_jackson_0",
    "fsdd_3_nicolas_10",
    "fsdd_6_george_7",
]


@pytest.fixture(scope="module")
def golden():
    """A few signals, every fifth frame of their features (every file: the reference folder)."""
    return np.load(GOLDEN)


@pytest.fixture(scope="module")
def frontend(golden):
    return Frontend.create(golden["mel"])


def frame_spectrum(signal, padding, n_fft=480, hop=160):
    """Power spectrum [frames, bins] in float64, one frame at a time."""
    padded = np.pad(signal.astype(np.float64), n_fft // 2, mode=padding)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    starts = range(0, len(signal) // hop * hop + 1, hop)
    return np.stack([np.abs(np.fft.rfft(window * padded[s : s + n_fft])) ** 2 for s in starts])


def assert_matches(frontend, signal, power, features, stride=1):
    """Features within float32 rounding, which is relative to the power of the whole frame."""
    total = frame_spectrum(signal, frontend.padding)[::stride].sum(1, keepdims=True)
    total = total * np.max(frontend.mel)
    got = np.array(mel_power(frontend, jnp.array(signal)))[::stride]
    assert got.shape == power.shape
    assert (np.abs(got - power) <= 1e-6 * total).all()
    # Below 1e-10 of the frame's power the log of a band is rounding (see extract): 2e-3 is worst
    # relative error above it.
    audible = power > 1e-10 * total
    np.testing.assert_allclose(got[audible], power[audible], rtol=5e-3)
    clean = (audible | (total == 0)).all(1)
    coefficients = np.array(extract(frontend, jnp.array(signal)))[::stride][clean]
    largest = np.abs(features[clean]).max(1, keepdims=True)
    assert (np.abs(coefficients - features[clean]) <= 1e-5 * largest).all()
    return clean.mean()


@pytest.mark.parametrize("padding", ["constant", "reflect"])
@pytest.mark.parametrize("signal", ["fsdd_0_jackson_0", "tones_dc", "noise_burst"])
def test_mfcc_golden(golden, signal, padding):
    frontend = Frontend.create(golden["mel"], padding=padding)
    power, features = (golden[f"{signal}/{padding}/{k}"] for k in ("mel_power", "features"))
    clean = assert_matches(frontend, golden[f"{signal}/signal"], power.T, features, stride=5)
    assert clean == 1 or signal == "tones_dc"


@pytest.mark.parametrize("padding", ["constant", "reflect"])
@pytest.mark.parametrize("signal", SIGNALS)
def test_mfcc_reference(reference, signal, padding):
    file = np.load(reference / "golden_features.npz")
    frontend = Frontend.create(file["mel_basis_f32"], padding=padding)
    power, features = (file[f"{signal}/{padding}_f64/{k}"] for k in ("mel_power", "features"))
    clean = assert_matches(frontend, file[f"{signal}/signal"], power.T, features[0])
    # Speech, noise and silence are exact in every frame; pure tones leave bands below rounding.
    assert clean == 1 or signal.startswith(("chirp", "tones"))


@pytest.mark.slow
def test_mfcc_librosa():
    librosa = pytest.importorskip("librosa")
    signal = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    settings = dict(sr=16000, n_fft=512, hop_length=128, n_mels=26, fmin=60, fmax=7000)
    mel = librosa.filters.mel(sr=16000, n_fft=512, n_mels=26, fmin=60, fmax=7000)
    power = librosa.feature.melspectrogram(y=signal, **settings).T
    frontend = Frontend.create(mel, num_coefficients=13, n_fft=512, hop=128)
    np.testing.assert_allclose(mel_power(frontend, jnp.array(signal)), power, rtol=1e-4)
    expected = librosa.feature.mfcc(S=np.log(power).T, n_mfcc=13).T
    np.testing.assert_allclose(extract(frontend, jnp.array(signal)), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("n_fft", "hop", "samples"),
    [(64, 16, 64), (64, 24, 200), (64, 64, 321), (66, 25, 199), (30, 7, 101)],
)
def test_mel_power_any_frames(n_fft, hop, samples):
    rng = np.random.default_rng(0)
    mel = rng.uniform(0, 1, (5, n_fft // 2 + 1)).astype(np.float32)
    signal = rng.normal(size=samples).astype(np.float32)
    for padding in ("constant", "reflect"):
        frontend = Frontend.create(mel, n_fft=n_fft, hop=hop, padding=padding)
        expected = frame_spectrum(signal, padding, n_fft, hop) @ mel.T
        assert expected.shape[0] == num_frames(samples, hop)
        np.testing.assert_allclose(mel_power(frontend, jnp.array(signal)), expected, rtol=1e-4)


def test_mel_power_only_bins_in_use():
    mel = np.zeros((3, 241), np.float32)
    mel[0, 5] = mel[1, 40] = mel[2, 120] = 2.0
    frontend = Frontend.create(mel)
    assert frontend.num_bins == 121
    # 40 periods per frame: a unit sine has amplitude n_fft / 4 in bin 40, and its power counts 2.
    signal = np.sin(2 * np.pi * 40 * np.arange(4800) / 480).astype(np.float32)
    power = np.array(mel_power(frontend, jnp.array(signal)))[5:-5]
    np.testing.assert_allclose(power[:, 1], 2 * 120.0**2, rtol=1e-5)
    np.testing.assert_allclose(power[:, [0, 2]], 0, atol=1e-4)


def test_num_frames_by_hand():
    assert [num_frames(n) for n in (0, 159, 160, 16000, 41472, 48000)] == [1, 1, 2, 101, 260, 301]


def test_mfcc_silence_is_zero(frontend):
    assert not np.any(extract(frontend, jnp.zeros(16000)))
    gradient = jax.grad(lambda s: extract(frontend, s).sum())(jnp.zeros(3200))
    assert np.isfinite(gradient).all()


def test_mfcc_flat_bands_by_hand():
    # One band of power e: its log is 1, and the orthonormal DCT of [1, 1, 1, 1] is [2, 0, 0, 0].
    impulse = jnp.zeros(481).at[240].set(jnp.sqrt(jnp.e))
    mel = np.zeros((4, 241), np.float32)
    mel[np.arange(4), [3, 50, 100, 240]] = 1
    frontend = Frontend.create(mel, hop=240)
    np.testing.assert_allclose(extract(frontend, impulse)[1], [2, 0, 0, 0], atol=1e-5)


def test_mfcc_normalises(golden):
    signal = jnp.array(golden["noise_burst/signal"])
    mean, std = np.linspace(-3, 3, 13), np.linspace(1, 9, 13)
    plain = extract(Frontend.create(golden["mel"], num_coefficients=13), signal)
    full = extract(Frontend.create(golden["mel"]), signal)
    scaled = extract(Frontend.create(golden["mel"], mean=mean, std=std), signal)
    np.testing.assert_allclose(plain, full[:, :13], atol=1e-5)
    np.testing.assert_allclose(scaled, (np.array(plain) - mean) / std, rtol=1e-5, atol=1e-5)


def test_mfcc_jit_vmap_and_batch_agree(frontend):
    rng = np.random.default_rng(0)
    signals = jnp.array(rng.normal(0, 0.1, (2, 3, 4000)).astype(np.float32))
    loop = np.array([[extract(frontend, s) for s in row] for row in signals])
    assert loop.shape == (2, 3, 26, 40)
    np.testing.assert_allclose(extract(frontend, signals), loop, rtol=1e-5, atol=1e-4)
    compiled = jax.jit(extract)
    np.testing.assert_allclose(compiled(frontend, signals), loop, rtol=1e-5, atol=1e-4)
    compiled(frontend, signals + 1)
    assert compiled._cache_size() == 1
    mapped = jax.vmap(extract, (None, 1), 1)(frontend, signals)
    np.testing.assert_allclose(mapped, loop, rtol=1e-5, atol=1e-4)


def test_mfcc_rows_are_independent(frontend):
    rng = np.random.default_rng(0)
    signals = rng.normal(0, 0.1, (3, 3200)).astype(np.float32)
    before = np.array(extract(frontend, jnp.array(signals)))
    signals[1] = np.nan
    after = np.array(extract(frontend, jnp.array(signals)))
    np.testing.assert_array_equal(before[[0, 2]], after[[0, 2]])


def test_mfcc_zeros_after_the_signal_change_nothing(frontend):
    signal = jnp.array(np.random.default_rng(0).normal(0, 0.1, 3333).astype(np.float32))
    alone = extract(frontend, signal)
    padded = extract(frontend, jnp.pad(signal, (0, 5000)))
    np.testing.assert_allclose(padded[: len(alone)], alone, rtol=1e-5, atol=1e-4)


def test_mfcc_bad_signal_raises(golden, frontend):
    with pytest.raises(ValueError, match="expected float32, got int16"):
        extract(frontend, jnp.zeros(16000, jnp.int16))
    with pytest.raises(ValueError, match="expected float32, got float64"):
        extract(frontend, np.zeros(16000))
    with pytest.raises(ValueError, match=r"samples >= 1\], got \(2, 0\)"):
        extract(frontend, jnp.zeros((2, 0)))
    with pytest.raises(ValueError, match=r"samples >= 241\], got \(240,\)"):
        extract(Frontend.create(golden["mel"], padding="reflect"), jnp.zeros(240))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_fft": 481}, "n_fft: expected an even"),
        ({"hop": 0}, "hop: expected 1 to"),
        ({"hop": 481}, "hop: expected 1 to"),
        ({"n_fft": 512}, r"mel: expected \[num_mels, 257\]"),
        ({"mel": -np.ones((4, 241))}, "mel: expected weights"),
        ({"mel": np.zeros((4, 241))}, "mel: expected weights"),
        ({"sample_rate": 0}, "sample_rate: expected a positive"),
        ({"padding": "edge"}, "padding: expected one of"),
        ({"num_coefficients": 5}, "num_coefficients: expected 1 to 4"),
        ({"mean": np.zeros(3), "num_coefficients": 4}, r"mean: expected \[4\]"),
        ({"std": np.ones(3)}, r"std: expected \[4\]"),
        ({"std": np.zeros(4)}, "std: expected positive"),
    ],
)
def test_create_bad_settings_raise(change, message):
    with pytest.raises(ValueError, match=message):
        Frontend.create(**{"mel": np.ones((4, 241)), **change})


def test_fit_normaliser_against_numpy():
    rng = np.random.default_rng(0)
    features = rng.normal(5, 3, (7, 11, 4)).astype(np.float32)
    features[..., 2] = 8.0
    mask = rng.random((7, 11)) < 0.6
    features[~mask] = np.nan
    mean, std = jax.jit(fit_normaliser)(jnp.array(features), jnp.array(mask))
    kept = features[mask].astype(np.float64)
    np.testing.assert_allclose(mean, kept.mean(0), rtol=1e-5)
    np.testing.assert_allclose(std, [*kept.std(0)[:2], 1, kept.std(0)[3]], rtol=1e-5)


def test_fit_normaliser_makes_unit_variance(golden):
    signal = jnp.array(golden["fsdd_0_jackson_0/signal"])
    plain = extract(Frontend.create(golden["mel"]), signal)
    mean, std = fit_normaliser(plain, jnp.ones(len(plain), bool))
    scaled = np.array(extract(Frontend.create(golden["mel"], mean=mean, std=std), signal))
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(0), 1, atol=1e-4)


def test_fit_normaliser_without_frames():
    mean, std = fit_normaliser(jnp.full((3, 2), 4.0), jnp.zeros(3, bool))
    np.testing.assert_array_equal(mean, [0, 0])
    np.testing.assert_array_equal(std, [1, 1])
    with pytest.raises(ValueError, match="mask: expected the shape"):
        fit_normaliser(jnp.ones((3, 2)), jnp.ones(2, bool))


def test_log_mel_is_the_log_of_the_power_above_a_floor(golden):
    frontend = Frontend.create(golden["mel"], cepstral=False)
    noise = np.random.default_rng(0).normal(size=16000).astype(np.float32)
    signal = jnp.concatenate([0.1 * noise, jnp.zeros(16000)])
    power = np.array(mel_power(frontend, signal), np.float64)
    np.testing.assert_allclose(extract(frontend, signal), np.log(power + 1e-6), atol=1e-5)
    assert np.all(np.array(extract(frontend, jnp.zeros(16000))) == np.float32(np.log(1e-6)))
    with pytest.raises(ValueError, match="expected all 40 bands of log-mel features, got 13"):
        Frontend.create(golden["mel"], num_coefficients=13, cepstral=False)


def test_few_frames_by_fft_are_those_of_the_convolution(golden):
    """A step's log-mel, and how they are chosen: by shape, on a CPU."""
    rng = np.random.default_rng(1)
    for n_fft, hop in ((480, 160), (512, 160), (60, 20), (40, 40), (30, 13)):
        mel = np.abs(rng.standard_normal((7, n_fft // 2 + 1)))
        mel[:, -3:] = 0
        front = Frontend.create(mel, n_fft=n_fft, hop=hop, cepstral=False)
        signal = jnp.array(0.1 * rng.standard_normal(front.span(20)), jnp.float32)
        step = extract(front, signal, centred=False)
        pair = extract(front, jnp.stack([signal, -signal]), centred=False)
        assert step.shape == (20, 7)
        np.testing.assert_allclose(step, pair[0], atol=1e-5)
        assert not np.array_equal(step, pair[0])  # by another way
    assert by_fft(20)
    assert not by_fft(20, signals=2)
    assert not by_fft(100_000)


def test_the_cost_of_features_is_that_of_the_forms(golden):
    frontend = Frontend.create(golden["mel"], cepstral=False)
    bins, frames = frontend.num_bins, 20

    def matrices(x):
        return extract(frontend, x, centred=False)

    samples = jnp.zeros((2, frontend.span(frames)))  # two: no FFT
    written = frontend_cost(frontend, 2 * frames, "convolution")
    power = 2 * frames * 2 * bins
    assert count_macs(matrices, samples) == written.transform - power + written.mel
    # By hand: window 480, 240 points · log2(240) · 5/2, 6 + 2 for each bin.
    native = frontend_cost(frontend, 1)
    assert native.transform == 480 + 4744 + 8 * bins
    assert native.mel == np.count_nonzero(golden["mel"])
    assert native.log == 40 * 14 + 40
    assert frontend_cost(frontend, 1, "fft") == native._replace(mel=40 * bins)
    assert frontend_cost(frontend, 7).total == 7 * sum(native)
    cepstral = Frontend.create(golden["mel"], num_coefficients=13)
    assert frontend_cost(cepstral, 1).log == 40 * 14 + 40 * 13 + 13
    with pytest.raises(ValueError, match="form: expected one of"):
        frontend_cost(frontend, 1, "wavelet")
