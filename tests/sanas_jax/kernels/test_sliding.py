"""Dense layers over the windows of a stream, and the windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import costs
from sanas_jax.blocks import Dense
from sanas_jax.kernels import sliding
from sanas_jax.kernels.sliding import Cut, windows

# (batch, rows, cut): windows that overlap, touch, lie apart, leave rows over; one alone.
CUTS = (
    (3, 29, Cut(9, 4, 6)),
    (2, 21, Cut(8, 4, 4)),
    (2, 24, Cut(3, 5, 5)),
    (4, 12, Cut(7, 2, 3)),
    (1, 6, Cut(6, 20, 1)),
)

pytestmark = pytest.mark.usefixtures("branch")


def laid_out(stream, kernel, cut):
    """Window by window, of slices."""
    parts = [stream[:, t * cut.hop : t * cut.hop + cut.size] for t in range(cut.steps)]
    return jnp.stack(parts, 1).reshape(len(stream) * cut.steps, -1) @ kernel


def make(batch, rows, cut, dtype):
    rng = np.random.default_rng(0)
    shapes = (batch, rows, 3, 2), (cut.size * 6, 5), (batch * cut.steps, 5)
    return [jnp.asarray(rng.standard_normal(shape).astype(dtype)) for shape in shapes]


def value_and_gradients(matmul, cut, stream, kernel, dy):
    y, back = jax.vjp(lambda stream, kernel: matmul(stream, kernel, cut), stream, kernel)
    return (y, *back(dy))


def assert_close(got, expected, tolerance):
    for a, b in zip(got, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert jnp.abs(a - b).max() <= tolerance * jnp.abs(b).max()


@pytest.mark.parametrize(("size", "hop"), [(5, 2), (4, 4), (3, 5), (6, 3), (1, 1)])
def test_windows_against_slices(size, hop):
    steps = 4
    rows = size + (steps - 1) * hop
    stream = np.random.default_rng(0).standard_normal((2, rows, 3)).astype(np.float32)
    expected = np.stack([stream[:, t * hop : t * hop + size] for t in range(steps)], 1)
    np.testing.assert_array_equal(windows(jnp.asarray(stream), Cut(size, hop, steps)), expected)
    # Rows beyond the last window change nothing.
    longer = np.concatenate([stream, np.full((2, hop, 3), np.nan, np.float32)], 1)
    np.testing.assert_array_equal(windows(jnp.asarray(longer), Cut(size, hop, steps)), expected)


@pytest.mark.parametrize("enough", [0, 2**62], ids=["by rows", "laid out"])
@pytest.mark.parametrize(("batch", "rows", "cut"), CUTS)
def test_matmul_is_that_of_the_windows(monkeypatch, batch, rows, cut, enough):
    monkeypatch.setattr(sliding, "ROW_MACS", enough)
    arrays = make(batch, rows, cut, np.float32)
    run = jax.jit(lambda *arrays: value_and_gradients(sliding.matmul, cut, *arrays))
    assert_close(run(*arrays), value_and_gradients(laid_out, cut, *arrays), 1e-5)


@pytest.mark.parametrize(("batch", "rows", "cut"), CUTS)
def test_matmul_is_exact_but_for_rounding(monkeypatch, x64, batch, rows, cut):
    monkeypatch.setattr(sliding, "ROW_MACS", 0)
    arrays = make(batch, rows, cut, np.float64)
    run = jax.jit(lambda *arrays: value_and_gradients(sliding.matmul, cut, *arrays))
    assert_close(run(*arrays), value_and_gradients(laid_out, cut, *arrays), 1e-14)


def test_matmul_under_vmap_is_a_loop(monkeypatch):
    monkeypatch.setattr(sliding, "ROW_MACS", 0)
    batch, rows, cut = CUTS[0]
    arrays = make(batch, rows, cut, np.float32)
    run = jax.jit(lambda *arrays: value_and_gradients(sliding.matmul, cut, *arrays))
    each = jax.vmap(run)(*(jnp.stack([a, 2 * a]) for a in arrays))
    for i, one in enumerate((run(*arrays), run(*(2 * a for a in arrays)))):
        assert_close([a[i] for a in each], one, 1e-6)


@pytest.mark.parametrize("enough", [0, 2**62], ids=["by rows", "laid out"])
def test_rows_that_no_window_has_change_nothing(monkeypatch, enough):
    monkeypatch.setattr(sliding, "ROW_MACS", enough)
    cut = Cut(5, 2, 4)
    stream, kernel, dy = make(2, 11, cut, np.float32)
    longer = jnp.pad(stream, [(0, 0), (0, 4), (0, 0), (0, 0)], constant_values=np.nan)
    expected = value_and_gradients(sliding.matmul, cut, stream, kernel, dy)
    y, dstream, dkernel = value_and_gradients(sliding.matmul, cut, longer, kernel, dy)
    assert_close((y, dstream[:, :11], dkernel), expected, 1e-6)
    assert not dstream[:, 11:].any()


@pytest.mark.parametrize("enough", [0, 2**62], ids=["by rows", "laid out"])
def test_dense_on_a_stream_is_dense_on_its_windows(monkeypatch, enough):
    monkeypatch.setattr(sliding, "ROW_MACS", enough)
    cut, block = Cut(9, 4, 6), Dense(5)
    stream = jax.random.normal(jax.random.key(0), (3, 29, 2, 3))
    laid_out = windows(stream, cut).reshape(-1, 9, 2, 3)
    params = block.init(jax.random.key(1), laid_out)
    again = block.init(jax.random.key(1), stream, cut=cut)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, params, again))
    params["params"]["Dense_0"]["bias"] += 1.0
    got, expected = block.apply(params, stream, cut=cut), block.apply(params, laid_out)
    assert_close([got], [expected], 1e-6)
    run = lambda params, x: block.apply(params, x, cut=cut)  # noqa: E731
    assert costs.count_macs(run, params, stream) == 18 * 54 * 5
