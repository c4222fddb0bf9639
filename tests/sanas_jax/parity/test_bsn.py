"""BSN's steps in the authors' PyTorch code, number by number: a B-CNF and a ResNet, static Γ.

Habits of theirs that the library does not share are written out here: statistics of all rows, the
cost of the sampled and not of the live nodes, a score summed over the batch beside a mean loss, and
a penalty that falls on the consistent architectures instead of the others.

Tolerances, relative to the largest entry of each array: 2e-5, as of single precision throughout.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax import costs
from sanas_jax.blocks import ConvBn, Dense, GlobalMean, Identity, Residual
from sanas_jax.estimators import surrogate
from sanas_jax.forward import forward
from sanas_jax.gates import Gamma, edge_log_prob
from sanas_jax.graph import prune
from sanas_jax.training.terms import abs_penalty, cross_entropy, max_penalty
from tests.helpers.node_graph import AllRows, converted, node_net

TOLERANCE = 2e-5
FILES = ("golden_bsn_bcnf_8x8_l3c4.npz", "golden_bsn_resnet_32x32_w1_maps3_6_12.npz")


class PooledDense(nn.Module):
    """Their last node of a ResNet."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(self.classes)(GlobalMean()(x))


def fabric_block(name: str, size: int) -> nn.Module:
    if name.startswith("Lin"):
        return Dense(10)
    if name == "A-0_0":
        return AllRows(ConvBn(4))
    if name.startswith("A-"):
        return Identity()
    scales = [int(place.split("_")[1]) for place in name.split("-")[1:]]
    if scales[1] < scales[0]:
        side = size // 2 ** scales[1]
        return AllRows(ConvBn(4, upsample=(side, side)))
    return AllRows(ConvBn(4, stride=1 + scales[1] - scales[0]))


def resnet_block(name: str, golden) -> nn.Module:
    kind, *place = name.split("_")
    if name == "Output":
        return PooledDense(10)
    if name == "Input":
        return AllRows(ConvBn(3))
    group = int(place[-2][1]) if kind in ("CLASSIC", "SKIP") else 0
    stride, maps = 1 + (group > 0), 3 * 2**group
    if kind == "CLASSIC":
        return AllRows(Residual(maps, stride))
    if f"weights/{name}/projection.conv.weight" in golden:
        return AllRows(ConvBn(maps, 1, stride))
    return Identity()


class Bsn:
    """One golden file: the net, the weights, and a step as a jitted function."""

    def __init__(self, golden) -> None:
        self.golden = golden
        order = [str(name) for name in golden["graph/nodes_traversal"]]
        self.to_column = golden["graph/gamma_col_of_traversal_node"]
        columns = [""] * len(order)
        for name, column in zip(order, self.to_column, strict=True):
            columns[column] = name
        links = [(str(a), str(b)) for a, b in golden["graph/edges"]]
        fabric = order[0].startswith("A-")
        size = golden["x"].shape[-1]
        blocks = {
            name: fabric_block(name, size) if fabric else resnet_block(name, golden)
            for name in order
        }
        relu = {name for name in order if name.startswith(("A", "Input"))}
        before_last = next(a for a, b in links if b == order[-1])
        shape = (size, size, 3)
        self.net = node_net(columns, order, links, blocks, relu, shape, order[-1], before_last)
        start = "weights/"
        torch = {k.removeprefix(start): v for k, v in golden.items() if k.startswith(start)}
        self.params, self.stats = converted(self.net, torch, np.float32)
        self.gamma = golden["weights/gamma"]
        self.node_costs = {
            what: self.by_column(golden[f"graph/{what}_traversal"]) for what in ("costs", "params")
        }
        self.step = jax.jit(jax.value_and_grad(self.loss, (0, 1), has_aux=True))

    def by_column(self, values):
        out = np.zeros(len(values), np.float32)
        out[self.to_column] = values
        return out

    def loss(self, params, gamma, masks, settings):
        x = jnp.moveaxis(self.golden["x"], 1, -1)
        gates = jnp.concatenate([masks, jnp.ones((len(x), len(self.net.edges) - len(gamma)))], 1)
        out = forward(self.net, params, gates, x, stats=self.stats, train=True)
        ce = cross_entropy(out.logits, self.golden["y"])
        live = prune(self.net, gates)[:, : len(gamma)]
        sampled = masks @ self.node_costs["costs"]
        penalty = jnp.where(
            settings["abs"],
            abs_penalty(sampled, settings["objective"]),
            max_penalty(sampled, settings["objective"]),
        )
        consistent = 1 - costs.inconsistent(self.net)(gates)
        penalty = penalty + settings["penalty"] * consistent
        reward = jax.lax.stop_gradient(-(ce + settings["lambda"] * penalty))
        log_probs = edge_log_prob(masks, Gamma(jnp.broadcast_to(gamma, masks.shape)))
        rows = jnp.ones(len(x), bool)
        score = surrogate(log_probs.sum(-1), -reward, -reward.mean(), rows)
        aux = {
            "logits": out.logits,
            "indiv_loss": ce,
            "log_probas": log_probs,
            "sampled": masks.T[self.to_column],
            "pruned": live.T[self.to_column],
            "costs_sampled_comp": sampled,
            "costs_pruned_comp": live @ self.node_costs["costs"],
            "costs_sampled_param": masks @ self.node_costs["params"],
            "costs_pruned_param": live @ self.node_costs["params"],
            "consistence": consistent,
            "cost_term": penalty,
            "mean_reward": reward.mean(),
            "rewards": reward - reward.mean(),
            "sampling_loss": score,
            "loss": ce.mean() + score,
        }
        return aux["loss"], aux

    def mismatches(self, name):
        case = {
            key.removeprefix(f"{name}/"): value
            for key, value in self.golden.items()
            if key.startswith(f"{name}/")
        }
        settings = {
            "abs": str(case["arg_objective_method"]) == "abs",
            "objective": float(case["arg_objective_cost"]),
            "lambda": float(case["arg_lambda"]),
            "penalty": float(case["arg_arch_penalty"]),
        }
        (_, aux), (grads, gamma) = self.step(self.params, self.gamma, case["masks"], settings)
        bad = []

        def compare(key, got, expected, scale=None):
            got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
            assert got.shape == expected.shape, key
            scale = max(np.abs(expected).max(), scale or 0)
            error = np.abs(got - expected).max()
            if error > TOLERANCE * scale:
                bad.append(f"{name}: {key}: {error:.2e} of {scale:.2e}")

        # The score is a sum of terms of the size of reward × log-probability.
        terms = np.abs(case["rewards"][:, None] * case["log_probas"]).sum()
        for key, got in aux.items():
            compare(key, got, case[key], terms if key in ("sampling_loss", "loss") else None)
        stochastic = self.golden["graph/stochastic_cols"]
        # Rewards have mean 0: where all masks are alike, their sum is rounding.
        weights = np.abs(case["rewards"]).sum()
        compare("grad/gamma", gamma[stochastic], case["grad/gamma"][stochastic], weights)
        theirs = {
            key.removeprefix("grad/"): value
            for key, value in case.items()
            if key.startswith("grad/") and key != "grad/gamma"
        }
        expected, _ = converted(self.net, theirs, np.float32)
        compared = 0
        for node, tree in expected.items():
            scale = max((float(np.abs(g).max()) for g in jax.tree.leaves(tree)), default=0)
            for path, value in jax.tree_util.tree_leaves_with_path(tree):
                own = grads[node]
                for key in path:
                    own = own[key.key]
                compare(f"grad {node}{jax.tree_util.keystr(path)}", own, value, scale)
                compared += 1
        assert compared > 10
        return bad


@pytest.mark.parametrize("file", FILES)
def test_bsn_steps(reference, file):
    with np.load(reference / file) as arrays:
        bsn = Bsn(dict(arrays))
    names = sorted({"/".join(k.split("/")[:2]) for k in bsn.golden if k.endswith("/masks")})
    assert len(names) >= 12
    bad = [line for name in names for line in bsn.mismatches(name)]
    assert not bad, "\n".join(bad)
