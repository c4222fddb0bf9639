"""Streams: `unroll` with the shared trunk is the loop over `step`, values and gradients."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import gates as gates_lib
from sanas_jax.blocks import Dense
from sanas_jax.blocks.separable import Separable
from sanas_jax.controller import Controller
from sanas_jax.gates import Gamma
from sanas_jax.graph import Edge, Layer, Net, prune
from sanas_jax.rollout import Sanas, abstract_model, init_carry, init_model, step, unroll
from sanas_jax.spaces import kws_cnn
from sanas_jax.spaces.kws import FAMILIES
from tests.helpers.nets import early_join_net, random_like, stream_net

pytestmark = pytest.mark.usefixtures("strict")

POLICIES = (gates_lib.sample, gates_lib.mode, gates_lib.all_on)


def policy_number(number):
    """One of the policies, chosen by an array, so that one compilation serves all."""

    def policy(gamma: Gamma, key: jax.Array) -> jax.Array:
        gates = jnp.stack([choice(gamma, key) for choice in POLICIES])
        return gates[number]

    return policy


def loop(model):
    """The windows one after the other (SANAS, Algorithm 1), each step a call of one function."""

    @jax.jit
    def one(params, carry, x_t, key, number):
        return step(model, params, carry, x_t, key, policy=policy_number(number))

    def run(params, carry, stream, key, number):
        outs = []
        for t in range(model.num_steps(stream.shape[1])):
            x_t = stream[:, t * model.hop : t * model.hop + model.window]
            carry, out = one(params, carry, x_t, key, number)
            outs.append(out)
        return carry, jax.tree.map(lambda *rows: jnp.stack(rows), *outs)

    return run


def shared(model):
    """The function under test."""

    @jax.jit
    def run(params, carry, stream, key, number):
        return unroll(model, params, carry, stream, key, policy=policy_number(number))

    return run


def compared(run, model):
    """(gradients, everything) of a loss that reads all outputs at the valid steps."""

    @jax.jit
    def total(carry, outs, mask):
        per_step = (
            jax.nn.logsumexp(outs.logits, -1)
            + jnp.square(outs.features).reshape(*outs.features.shape[:2], -1).mean(-1)
            + 0.1 * outs.log_prob
        )
        return jnp.sum(jnp.where(mask, per_step, 0)) + carry.z.sum()

    def loss(params, stream, key, mask, number):
        carry = init_carry(model, stream.shape[0])
        carry, outs = run(params, carry, stream, key, number)
        return total(carry, outs, mask), (carry, outs)

    return jax.grad(loss, has_aux=True)


def assert_close(got, expected, tolerance):
    """Every array, relative to its largest finite entry; infinities in the same places."""
    paths = jax.tree_util.tree_leaves_with_path(expected)
    for (path, b), a in zip(paths, jax.tree.leaves(got), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        finite = np.isfinite(b)
        np.testing.assert_array_equal(a[~finite], b[~finite])
        scale = np.abs(b[finite]).max(initial=0)
        np.testing.assert_allclose(
            a[finite], b[finite], atol=tolerance * scale, rtol=0, err_msg=str(path)
        )


def check_unroll_equals_loop(model, frames, seed=0):
    """In double precision: where a cell saturates, its gradient in single is rounding alone."""
    params = random_like(init_model(model, jax.random.key(0)), seed, scale=0.3)
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
    rng = np.random.default_rng(seed)
    stream = rng.standard_normal((2, frames, *model.net.input_shape[1:]))
    steps = model.num_steps(frames)
    at_once, one_by_one = compared(shared(model), model), compared(loop(model), model)
    mask = np.ones((steps, 2), bool)
    padded = mask.copy()
    padded[-1, 1] = False  # the second stream is one step shorter
    seen = []
    for number, valid in ((0, mask), (0, padded), (1, mask), (2, padded)):
        arguments = (params, stream, jax.random.key(number + 5), valid, number)
        got, expected = at_once(*arguments), one_by_one(*arguments)
        grads, (_, outs) = expected
        np.testing.assert_array_equal(got[1][1].gates, outs.gates)
        np.testing.assert_array_equal(got[1][1].live, prune(model.net, outs.gates))
        assert_close(got, expected, 1e-9)
        assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(grads))
        seen.append(np.asarray(outs.gates))
    # The policies did what they are for.
    gated = list(model.net.gated)
    assert 0 < seen[0][..., gated].mean() < 1
    assert (seen[3] == 1).all()
    return params


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shortcuts", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_unroll_equals_loop_kws(family, shortcuts):
    """Real strides in time (8 of cnn-tstride8 does not divide the hop of 20), few maps."""
    maps = tuple(3 + i for i in range(len(FAMILIES[family].convs)))
    freq = 24
    net = kws_cnn(family, shortcuts=shortcuts, maps=maps, num_classes=4, input_shape=(101, freq, 1))
    model = Sanas(net, Controller(nn.GRUCell(6), bias=0.5), hop=20)
    check_unroll_equals_loop(model, frames=101 + 2 * 20 + 7)


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
@pytest.mark.parametrize("hop", [1, 2, 3, 9])
def test_unroll_equals_loop_early_join(hop):
    model = Sanas(early_join_net(), Controller(nn.GRUCell(4), bias=0.3), hop=hop)
    check_unroll_equals_loop(model, frames=8 + 4 * hop)


@pytest.mark.usefixtures("x64")
def test_unroll_equals_loop_always_on_inside_the_trunk():
    net = stream_net(shortcut_gates=False)
    check_unroll_equals_loop(Sanas(net, Controller(nn.SimpleCell(4), bias=0.0), hop=2), frames=14)


MODEL = Sanas(stream_net(), Controller(nn.GRUCell(4), bias=0.5), hop=2)
PARAMS = random_like(init_model(MODEL, jax.random.key(0)), 7)


def stream_of(frames, batch=3, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_normal((batch, frames, 1, 1)), jnp.float32)


def test_num_steps_by_hand():
    # Window 6, hop 2: steps start at 0, 2, 4, …
    assert [MODEL.num_steps(f) for f in (0, 5, 6, 7, 8, 9, 10)] == [0, 0, 1, 1, 2, 2, 3]
    assert MODEL.window == 6


def test_a_stream_of_one_window_is_one_step():
    carry, key = init_carry(MODEL, 3), jax.random.key(0)
    for frames, steps in ((6, 1), (7, 1), (8, 2)):
        _, outs = jax.eval_shape(partial(unroll, MODEL), PARAMS, carry, stream_of(frames), key)
        assert outs.logits.shape == (steps, 3, 3)


def test_a_conditioned_carry_knows_its_price():
    model = Sanas(MODEL.net, Controller(nn.GRUCell(4), conditioned=True), hop=2)
    np.testing.assert_allclose(init_carry(model, 2, 0.5).condition, np.log([[0.5], [0.5]]))
    each = init_carry(model, 2, jnp.array([0.5, 2.0]))
    np.testing.assert_allclose(each.condition, np.log([[0.5], [2.0]]))
    for bad in (0.0, -1.0, jnp.array([1.0, 0.0])):
        with pytest.raises(ValueError, match="cost_weight: expected prices above 0"):
            init_carry(model, 2, bad)
    with pytest.raises(ValueError, match=r"cost_weight: expected a price .* got None"):
        init_carry(model, 2)
    assert init_carry(MODEL, 2, 0.0).condition is None


def test_prices_may_change_along_a_stream():
    model = Sanas(MODEL.net, Controller(nn.GRUCell(4), bias=0.5, conditioned=True), hop=2)
    params = random_like(init_model(model, jax.random.key(0)), 7)
    stream, key = stream_of(12), jax.random.key(3)
    prices = jnp.exp(jnp.asarray(np.random.default_rng(1).standard_normal((4, 3))))
    carry = init_carry(model, 3, prices[0])
    _, outs = unroll(model, params, carry, stream, key, cost_weight=prices)
    for t in range(4):
        carry = carry._replace(condition=jnp.log(prices[t])[:, None])
        window = stream[:, 2 * t : 2 * t + model.window]
        carry, out = step(model, params, carry, window, key)
        for name in ("logits", "gates", "z"):
            np.testing.assert_allclose(getattr(outs, name)[t], getattr(out, name), atol=1e-5)
        np.testing.assert_allclose(outs.gamma.logits[t], out.gamma.logits, atol=1e-5)
    # Prices that stay are those of the carry.
    stay = jnp.broadcast_to(prices[0], prices.shape)
    _, same = unroll(model, params, init_carry(model, 3, 5.0), stream, key, cost_weight=stay)
    _, told = unroll(model, params, init_carry(model, 3, prices[0]), stream, key)
    np.testing.assert_array_equal(same.gamma.logits, told.gamma.logits)
    assert np.abs(outs.gamma.probs - told.gamma.probs)[1:].max() > 0.01


@pytest.mark.parametrize("norm", [False, True])
def test_an_abstract_model_has_the_shapes_of_a_model(norm):
    layers = (Layer("x"), Layer("f"), Layer("y"))
    first = Separable(2, 3) if norm else Dense(2)
    edges = (Edge("a", "x", "f", first), Edge("b", "f", "y", Dense(3), gated=False))
    model = Sanas(Net((6, 1, 1), layers, edges, "y", "f"), Controller(nn.GRUCell(4)), hop=2)
    shapes = abstract_model(model)
    assert ("stats" in shapes) == norm
    expected = jax.eval_shape(partial(init_model, model), jax.random.key(0))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), shapes) == jax.tree.map(
        lambda x: (x.shape, x.dtype), expected
    )


def test_unroll_by_hand():
    """Two steps of a net and a controller that can be followed on paper."""
    z = init_carry(MODEL, 3)
    assert z.z.shape == (3, 4)
    carry, outs = unroll(MODEL, PARAMS, z, stream_of(8), jax.random.key(0))
    p, head = jax.tree.map(np.asarray, PARAMS)["net"], PARAMS["controller"]["head"]
    x = np.asarray(stream_of(8))[:, 2:8, 0, 0]  # the second window
    live = np.asarray(outs.live[1])
    conv = p["conv"]["Conv_0"]
    h = np.stack([x[:, i : i + 3] @ conv["kernel"][:, 0, 0] for i in range(4)], 1) + conv["bias"]
    h = np.maximum(h, 0) * live[:, :1, None]
    short, deep, out = (p[name]["Dense_0"] for name in ("short", "deep", "out"))
    f = live[:, 1:2] * (x @ short["kernel"] + short["bias"])
    f = f + live[:, 2:3] * (h.reshape(3, 8) @ deep["kernel"] + deep["bias"])
    f = np.maximum(f, 0)
    np.testing.assert_allclose(outs.features[1], f, rtol=1e-4, atol=1e-5)
    # The classifier has no gate: it answers even if nothing reaches it.
    np.testing.assert_allclose(
        outs.logits[1], f @ out["kernel"] + out["bias"], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        outs.gamma.logits[0, :, :3], np.tile(np.asarray(head["bias"]), (3, 1)), rtol=1e-6
    )
    chosen = np.where(outs.gates > 0, outs.gamma.probs, 1 - outs.gamma.probs)
    np.testing.assert_allclose(outs.log_prob, np.log(chosen.prod(-1)), rtol=1e-4, atol=1e-6)
    assert int(carry.t) == 2


def test_all_off_answers_with_the_classifiers_bias():
    gates = jnp.zeros((2, 3, 4))
    _, outs = unroll(
        MODEL, PARAMS, init_carry(MODEL, 3), stream_of(8), jax.random.key(0), gates=gates
    )
    bias = PARAMS["net"]["out"]["Dense_0"]["bias"]
    np.testing.assert_array_equal(outs.features, np.zeros((2, 3, 2)))
    np.testing.assert_allclose(outs.logits, np.tile(np.asarray(bias), (2, 3, 1)), rtol=1e-6)


@pytest.mark.parametrize("cut", [1, 3])
@pytest.mark.parametrize("policy", [gates_lib.sample, gates_lib.mode])
def test_stream_cut_in_two_continues(cut, policy):
    """The second part starts window − hop frames before the first part's end."""
    stream, key = stream_of(6 + 4 * 2), jax.random.key(1)
    whole_carry, whole = unroll(MODEL, PARAMS, init_carry(MODEL, 3), stream, key, policy=policy)
    end = 6 + (cut - 1) * 2
    carry, first = unroll(MODEL, PARAMS, init_carry(MODEL, 3), stream[:, :end], key, policy=policy)
    overlap = MODEL.window - MODEL.hop
    carry, second = unroll(MODEL, PARAMS, carry, stream[:, end - overlap :], key, policy=policy)
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
    np.testing.assert_array_equal(both.gates, whole.gates)
    assert_close((carry, both), (whole_carry, whole), 1e-6)


def test_rows_are_independent():
    stream, key = stream_of(12), jax.random.key(2)
    _, outs = unroll(MODEL, PARAMS, init_carry(MODEL, 3), stream, key)
    _, other = unroll(MODEL, PARAMS, init_carry(MODEL, 3), stream.at[1].set(9.0), key)
    keep = np.array([0, 2])
    np.testing.assert_allclose(outs.logits[:, keep], other.logits[:, keep], rtol=1e-6)
    np.testing.assert_array_equal(outs.gates[:, keep], other.gates[:, keep])
    assert (outs.logits[:, 1] != other.logits[:, 1]).any()


def test_future_frames_change_nothing_before():
    stream, key = stream_of(12), jax.random.key(2)
    _, outs = unroll(MODEL, PARAMS, init_carry(MODEL, 3), stream, key)
    # Frames from 8 on are in the windows of steps 2 and 3 only (starts 0, 2, 4, 6).
    _, other = unroll(MODEL, PARAMS, init_carry(MODEL, 3), stream.at[:, 8:].set(5.0), key)
    np.testing.assert_allclose(outs.logits[:2], other.logits[:2], rtol=1e-6)
    assert (outs.logits[2:] != other.logits[2:]).any()


def test_steps_draw_different_gates_and_keys_matter():
    carry, stream = init_carry(MODEL, 40), stream_of(12, batch=40)
    flat = jax.tree.map(jnp.zeros_like, PARAMS["controller"])
    params = {"net": PARAMS["net"], "controller": flat}  # Γ = 1/2 at all steps
    runs = [unroll(MODEL, params, carry, stream, jax.random.key(k))[1].gates for k in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()
    assert (runs[0][0] != runs[0][1]).any()


def test_forced_gates_are_used():
    rng = np.random.default_rng(0)
    gates = jnp.asarray(rng.integers(0, 2, (4, 3, 4)), jnp.float32)
    _, outs = unroll(
        MODEL, PARAMS, init_carry(MODEL, 3), stream_of(12), jax.random.key(0), gates=gates
    )
    np.testing.assert_array_equal(outs.gates, gates)
    np.testing.assert_array_equal(outs.live, prune(MODEL.net, gates))


def test_gates_pass_no_gradient():
    """An architecture is a constant for the gradient, even if the policy is differentiable."""

    def soft(gamma, key):
        return gamma.probs

    def total(controller, policy):
        params = {"net": PARAMS["net"], "controller": controller}
        _, outs = unroll(
            MODEL, params, init_carry(MODEL, 3), stream_of(6), jax.random.key(0), policy=policy
        )
        return outs.logits.sum()

    grads = jax.grad(total)(PARAMS["controller"], soft)
    assert all((np.asarray(g) == 0).all() for g in jax.tree.leaves(grads))


def test_wrong_shapes_raise():
    carry, key = init_carry(MODEL, 3), jax.random.key(0)
    for bad in (stream_of(5), stream_of(12)[0], stream_of(12)[..., 0]):
        with pytest.raises(
            ValueError, match=r"stream: expected shape \[B, frames ≥ 6, 1, 1\], got"
        ):
            unroll(MODEL, PARAMS, carry, bad, key)
    with pytest.raises(
        ValueError, match=r"expected shape \[T, B, E\] with T = 4, B = 3; got \(3, 3"
    ):
        unroll(MODEL, PARAMS, carry, stream_of(12), key, gates=jnp.ones((3, 3, 4)))
    with pytest.raises(ValueError, match=r"gates: expected shape \[..., 4\]"):
        unroll(MODEL, PARAMS, carry, stream_of(12), key, gates=jnp.ones((4, 3, 3)))
    with pytest.raises(ValueError, match="x: expected shape"):
        step(MODEL, PARAMS, carry, stream_of(5), key)
    with pytest.raises(ValueError, match="hop: expected at least 1 frame, got 0"):
        Sanas(stream_net(), hop=0)


@pytest.mark.parametrize("written_out", [None, True, False])
def test_steps_are_a_loop_or_written_out(written_out):
    """By themselves written out: it trains convolutions behind a join, on a CPU."""
    model = Sanas(early_join_net(), Controller(nn.GRUCell(3)), hop=4)
    params = init_model(model, jax.random.key(0))

    def run(params, stream):
        carry, key = init_carry(model, 2, stats=params.get("stats")), jax.random.key(1)
        return unroll(model, params, carry, stream, key, train=True, written_out=written_out)[1]

    program = jax.make_jaxpr(run)(params, jnp.zeros((2, 8 + 3 * 4, 5, 1)))
    (scan,) = [eqn for eqn in program.eqns if eqn.primitive.name == "scan"]
    assert scan.params["unroll"] == (1 if written_out is False else 4)
