"""Arithmetic in bfloat16: where it is used, what stays in float32, and how far results move."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sanas_jax import costs, spaces
from sanas_jax.controller import Controller
from sanas_jax.rollout import Sanas
from sanas_jax.training import Batch, Budget, Objective, Price, Teach, init_state, make_update

STREAMS, FRAMES = 4, 141
NETS = {
    "paper": lambda: spaces.kws_cnn(maps=(3, 4), num_classes=5),
    # BatchNorm, depthwise convolutions and a layer that is reused from step to step.
    "separable": lambda: spaces.separable(num_classes=5, features=8),
}


def model_of(name):
    return Sanas(NETS[name](), Controller(bias=1.0))


def batch_of(model):
    rng = np.random.default_rng(0)
    shape = (STREAMS, FRAMES, *model.net.input_shape[1:])
    labels = rng.integers(0, 5, (model.num_steps(FRAMES), STREAMS))
    return Batch(
        jnp.asarray(rng.standard_normal(shape), jnp.float32),
        jnp.asarray(labels),
        jnp.ones(labels.shape, bool),
    )


def update_of(model, precision):
    objective = Objective(
        Price(costs.relative(model.net, costs.macs(model.net))),
        teach=Teach(full_weight=0.5, distill_weight=0.5),
        precision=precision,
    )
    keep = optax.trace(decay=0.0)
    state = init_state(model, keep, objective, jax.random.key(1))
    return make_update(model, keep, objective), state


def arguments(model, state):
    return state, batch_of(model), jax.random.key(2), Budget(jnp.float32(0.1), jnp.float32(0))


def operands(update, *args):
    """(dtype, precision) of all convolutions and matrix products."""
    found = []

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name in ("dot_general", "conv_general_dilated"):
                dtypes = {str(v.aval.dtype) for v in equation.invars}
                found.append((equation.primitive.name, dtypes, equation.params["precision"]))
            for value in jax.tree.leaves(
                list(equation.params.values()),
                is_leaf=lambda v: isinstance(
                    v, jax.extend.core.ClosedJaxpr | jax.extend.core.Jaxpr
                ),
            ):
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    visit(inner)

    visit(jax.make_jaxpr(update)(*args).jaxpr)
    return found


@pytest.mark.parametrize("name", ["paper", pytest.param("separable", marks=pytest.mark.slow)])
def test_bfloat16_computes_in_it_and_keeps_float32(name):
    model = model_of(name)
    update, state = update_of(model, "bfloat16")
    exact, same = update_of(model, "float32")
    args = arguments(model, state)
    used = operands(update, *args)
    assert any(kind == "conv_general_dilated" and d == {"bfloat16"} for kind, d, _ in used)
    assert not any(len(dtypes) > 1 for _, dtypes, _ in used)

    after, metrics = jax.jit(update)(*args)
    reference, exact_metrics = jax.jit(exact)(*arguments(model, same))
    types = {leaf.dtype for leaf in jax.tree.leaves((after.params, after.opt_state.trace, metrics))}
    assert types <= {jnp.dtype("float32"), jnp.dtype("int32")}
    # Eight bits of mantissa, random labels, BatchNorm over four streams: the gradient turns by some
    # degrees, but it does turn.
    ours, theirs = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(result.opt_state.trace["net"])])
        for result in (after, reference)
    )
    cosine = ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs))
    assert 0.98 < cosine < 0.999999
    assert metrics["loss"] != exact_metrics["loss"]
    np.testing.assert_allclose(metrics["loss"], exact_metrics["loss"], rtol=0.02)


@pytest.mark.parametrize(
    ("precision", "expected"), [("float32", "HIGHEST"), ("tf32", "HIGH"), ("default", None)]
)
def test_float32_products_say_how_exact_they_are(precision, expected):
    model = model_of("paper")
    update, state = update_of(model, precision)
    used = operands(update, *arguments(model, state))
    assert all(dtypes == {"float32"} for _, dtypes, _ in used)
    # Costs are counted exactly in any case, by products of their own.
    convolutions = [p for kind, _, p in used if kind == "conv_general_dilated"]
    assert {str(p and p[0]) for p in convolutions} == {str(expected)}


def test_unknown_words_are_refused():
    net = NETS["paper"]()
    with pytest.raises(ValueError, match="precision: expected one of"):
        Objective(Price(costs.macs(net)), precision="float16")
