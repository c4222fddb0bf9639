"""A network of one's own: data, block, graph and cost, trained for three prices at once.

Is a point of the plane outside of a ring? A line can't tell, waves can. First one architecture for
all points (BSN), then one for each step of a stream that begins with silence (SANAS).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import sanas_jax as sj


class Waves(nn.Module):
    """A block is a flax module: sines of random directions, [B, 1, 2] → [B, 2]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits."""
        return nn.Dense(2)(jnp.sin(nn.Dense(64)(3 * x[:, 0])))


LAYERS = (sj.Layer("point"), sj.Layer("logits"))
EDGES = (
    sj.Edge("waves", "point", "logits", Waves()),
    sj.Edge("line", "point", "logits", sj.blocks.Dense(2)),
)
NET = sj.Net((1, 2), LAYERS, EDGES, output="logits", features="logits")  # a window is one point
WATTS = [0.9, 0.1]  # by a meter; asked on the host, for the edges that run
COST = sj.costs.custom(NET, lambda live: live @ WATTS, black_box=True)


def points(key: jax.Array, *shape: int) -> tuple[jax.Array, jax.Array]:
    """Points [..., 2] and whether each is outside of the ring [...]."""
    x = jax.random.uniform(key, (*shape, 2), minval=-2.0, maxval=2.0)
    return x, (jnp.linalg.norm(x, axis=-1) > 1.5).astype(int)


def static(price: jax.Array, steps: int = 400) -> jax.Array:
    """Watts of the architecture that is found."""
    optimizer = optax.adam(2e-2)

    def step(carry, key):
        ((weights, gamma), state), (x, y) = carry, points(key, 128)

        def objective(params, gates):  # [S, E] → [S]; sample s answers for point s
            logits = sj.forward(NET, params, sj.prune(NET, gates), x[:, None]).logits
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return loss + price * COST(gates)

        grads, _ = sj.score_function_grad(objective, weights, gamma, key, num_samples=128)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates((weights, gamma), updates), state), COST(sj.gates.mode(gamma))

    trained = sj.init(NET, jax.random.key(0)), sj.init_gamma(NET, 0.9)
    start, keys = (trained, optimizer.init(trained)), jax.random.split(jax.random.key(1), steps)
    return jax.lax.scan(step, start, keys)[1][-1]


def stream(price: jax.Array, steps: int = 400) -> jax.Array:
    """Watts a step, on average over streams of 8 steps that are silent up to the fourth."""
    model = sj.Sanas(NET, sj.Controller(nn.GRUCell(8), bias=1.0), hop=1)
    objective = sj.Objective(sj.Price(COST), sj.Score(samples=4), measure_mode=True)
    optimizer = sj.make_optimizer(2e-2, controller_learning_rate=3e-2)
    update = sj.make_update(model, optimizer, objective)

    def step(state, key):
        (x, y), sound = points(key, 32, 8), (jnp.arange(8) >= 4)[:, None]
        batch = sj.Batch(x * sound, y.T * sound, jnp.ones((8, 32), bool))  # labels [T, B]
        return update(state, batch, key, sj.Budget(price, jnp.zeros(())))

    state = sj.init_state(model, optimizer, objective, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), steps)
    return jax.lax.scan(step, state, keys)[1]["mode_cost"][-1]


if __name__ == "__main__":
    for train in (static, stream):
        print(train.__name__, jax.jit(jax.vmap(train))(jnp.array([0.0, 0.4, 3.0])))  # nats a watt
