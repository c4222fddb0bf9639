"""The authors' PyTorch code, number by number: small KWS networks, one training iteration each.

Their graph has a gate on every node (input, each block, the sum of the branches); ours has them on
edges. A gated input or sum is an identity edge with a gate, so the same model is a user's net here.
Their objective has habits that the library does not share (a ReLU on the logits, clipped
probabilities, padding in the mean reward, a mean over nodes): this file writes them out with the
library's primitives.

Tolerances, relative to the largest entry of each array: 1e-9 in double, 2e-5 in single precision.
Arrays of the double cases that are single precision there (costs, log-probabilities of constants,
and what is computed from the latter) agree to 1e-6.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sanas_jax import costs
from sanas_jax.blocks import Conv2D, Dense, Identity
from sanas_jax.controller import Controller, advance, gamma_of
from sanas_jax.estimators import surrogate
from sanas_jax.forward import forward
from sanas_jax.gates import Gamma, edge_log_prob, mode
from sanas_jax.graph import Edge, Layer, Net, prune
from sanas_jax.training.optimizer import make_optimizer
from sanas_jax.training.terms import cross_entropy, masked_mean, returns_to_go
from tests.helpers.places import GOLDEN as GOLDEN_FOLDER

EXTRACT = GOLDEN_FOLDER / "kws_tiny.npz"
VARIANTS = ("plain", "strided", "noshort")
TOLERANCE = {"f32": 2e-5, "f64": 1e-9}
DTYPE = {"f32": np.float32, "f64": np.float64}
Golden = dict[str, np.ndarray]


class Branch(nn.Module):
    """A linear layer with its own ReLU: their shortcuts. A user's module, known to nobody else."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.relu(nn.Dense(self.features)(x.reshape(x.shape[0], -1)))


def build_net(golden: Golden, variant: str) -> Net:
    """Their network with our edges in the order of their gate columns."""
    strided = variant == "strided"
    time, freq = golden[f"{variant}/x"].shape[3:]
    conv_0 = Conv2D(6, (5, 4), (2, 2) if strided else (1, 1), (1, 3))
    conv_1 = Conv2D(5, (3, 2), pool=(2, 1))
    ends: dict[str, tuple[str, str, nn.Module]] = {
        "In": ("x", "in", Identity()),
        "conv_0": ("in", "h0", conv_0),
        "conv_1": ("h0", "h1", conv_1),
        "lin_0": ("h1", "h2", Dense(8)),
        "lin_1": ("h2", "sum", Branch(10)),
        "out_feat": ("sum", "features", Identity()),
        "lin_2": ("features", "logits", Dense(4)),
    } | {f"shorcut_{i}": (s, "sum", Branch(10)) for i, s in enumerate(("in", "h0", "h1", "h2"))}
    columns = [str(name) for name in golden[f"{variant}/graph/gamma_columns"]]
    relu_after = {"h0", "h1", "h2", "features", "logits"}
    layers = tuple(
        Layer(name, nn.relu if name in relu_after else None)
        for name in ("x", "in", "h0", "h1", "h2", "sum", "features", "logits")
    )
    edges = tuple(Edge(name, *ends[name]) for name in columns)
    return Net((time, freq, 1), layers, edges, output="logits", features="features")


def to_ours(net: Net, torch: Golden) -> dict[str, Any]:
    """Their weights {name: array} in our layout, in double precision."""
    torch = {name: np.asarray(value, np.float64) for name, value in torch.items()}
    weights: dict[str, Any] = {"net": {}, "init_state": torch["init_state"]}
    for edge in net.edges:
        if f"{edge.name}/conv.weight" in torch:
            kernel = torch[f"{edge.name}/conv.weight"].transpose(2, 3, 1, 0)
            inner = {"Conv_0": {"kernel": kernel, "bias": torch[f"{edge.name}/conv.bias"]}}
        elif f"{edge.name}/fc.weight" in torch:
            kernel = torch[f"{edge.name}/fc.weight"]
            shape = net.shapes[edge.source]
            if len(shape) == 3:  # maps are flattened as (channel, time, frequency) there
                time, freq, maps = shape
                kernel = kernel.reshape(-1, maps, time, freq).transpose(0, 2, 3, 1)
            kernel = kernel.reshape(kernel.shape[0], -1).T
            inner = {"Dense_0": {"kernel": kernel, "bias": torch[f"{edge.name}/fc.bias"]}}
        else:
            inner = {}
        weights["net"][edge.name] = inner
    weights["controller"] = controller_to_ours(torch)
    return weights


def controller_to_ours(torch: Golden) -> dict[str, Any]:
    """Their GRU and gate head in our layout."""
    (wir, wiz, win), (whr, whz, whn) = (
        np.split(torch[f"rnn/weight_{side}"], 3) for side in ("ih", "hh")
    )
    (bir, biz, bin_), (bhr, bhz, bhn) = (
        np.split(torch[f"rnn/bias_{side}"], 3) for side in ("ih", "hh")
    )
    return {
        "cell": {
            "ir": {"kernel": wir.T, "bias": bir + bhr},
            "iz": {"kernel": wiz.T, "bias": biz + bhz},
            "in": {"kernel": win.T, "bias": bin_},
            "hr": {"kernel": whr.T},
            "hz": {"kernel": whz.T},
            "hn": {"kernel": whn.T, "bias": bhn},
        },
        "head": {"kernel": torch["probas_gen/lin.weight"].T, "bias": torch["probas_gen/lin.bias"]},
    }


def to_theirs(net: Net, ours: dict[str, Any]) -> Golden:
    """Gradients in our layout as theirs; a summed bias has the gradient of each of its terms."""
    ours = jax.tree.map(np.asarray, ours)
    out = {"init_state": ours["init_state"]}
    for edge in net.edges:
        inner = ours["net"][edge.name]
        if "Conv_0" in inner:
            out[f"{edge.name}/conv.weight"] = inner["Conv_0"]["kernel"].transpose(3, 2, 0, 1)
            out[f"{edge.name}/conv.bias"] = inner["Conv_0"]["bias"]
        elif "Dense_0" in inner:
            kernel = inner["Dense_0"]["kernel"].T
            shape = net.shapes[edge.source]
            if len(shape) == 3:
                kernel = kernel.reshape(-1, *shape).transpose(0, 3, 1, 2)
            out[f"{edge.name}/fc.weight"] = kernel.reshape(kernel.shape[0], -1)
            out[f"{edge.name}/fc.bias"] = inner["Dense_0"]["bias"]
    return out | controller_to_theirs(ours["controller"])


def controller_to_theirs(controller: dict[str, Any]) -> Golden:
    """Gradients of GRU and gate head in their layout."""
    out: Golden = {}
    cell, head = controller["cell"], controller["head"]
    for side, rows in (("ih", ("ir", "iz", "in")), ("hh", ("hr", "hz", "hn"))):
        out[f"rnn/weight_{side}"] = np.concatenate([cell[row]["kernel"].T for row in rows])
    first = [cell["ir"]["bias"], cell["iz"]["bias"]]
    out["rnn/bias_ih"] = np.concatenate([*first, cell["in"]["bias"]])
    out["rnn/bias_hh"] = np.concatenate([*first, cell["hn"]["bias"]])
    out["probas_gen/lin.weight"], out["probas_gen/lin.bias"] = head["kernel"].T, head["bias"]
    return out


def clipped_log_prob(masks: jax.Array, logits: jax.Array, epsilon: jax.Array) -> jax.Array:
    """Their log-probability: Γ clamped to [ε, 1 − ε], with no gradient beyond."""
    most = jnp.log1p(-epsilon) - jnp.log(epsilon)
    return edge_log_prob(masks, Gamma(jnp.clip(logits, -most, most)))


@functools.cache
def iteration(net: Net, costs_of_nodes: tuple[tuple[str, float], ...], *, train: bool = False):
    """One of their training iterations as a jitted function of everything else.

    `train`: blocks take statistics from the batch, and their running ones are carried along.
    """
    node_costs = dict(costs_of_nodes)
    nodes = [edge.name for edge in net.edges if edge.gated]
    controller = Controller(nn.GRUCell(7))
    cost = costs.table(net, {edge.name: node_costs.get(edge.name, 0) for edge in net.edges})
    per_node = np.array([node_costs.get(edge.name, 0) for edge in net.edges], np.float32)

    def loss(weights, x, y, masks, s):
        def step(carry, now):
            z, stats = carry
            x_t, gates = now
            gamma = gamma_of(controller, net, weights["controller"], z)
            gates = jnp.where(s["deterministic"], mode(gamma), gates)
            # Unpruned: a branch whose inputs are all off still adds its bias.
            out = forward(net, weights["net"], gates, x_t, stats=stats, train=train)
            new_z = advance(controller, weights["controller"], z, out.features)
            return (new_z, out.stats), (z, gamma.logits, gates, out.logits, out.features)

        start = jnp.broadcast_to(weights["init_state"], (x.shape[1], 7)), s.get("stats", {})
        (_, stats), (states, logits, gates, outputs, features) = jax.lax.scan(
            step, start, (x, masks)
        )
        logits = jnp.where(s["static"], jnp.inf, logits)
        valid = y >= 0
        ce = jnp.where(valid, cross_entropy(outputs, y, s["class_w"]), 0)
        edge_log_probs = clipped_log_prob(gates, logits, s["epsilon"])
        # Padding has loss 0 but pays its cost, and enters the mean and the returns.
        # The price is single precision there, whatever the network's.
        price = jnp.float32(s["lambda"]) * cost(gates).astype(jnp.float32)
        reward = jax.lax.stop_gradient(-(ce + price))
        blended = jnp.where(
            jnp.isnan(s["ema"]), reward.mean(), 0.9 * reward.mean() + 0.1 * s["ema"]
        )
        ema = jnp.where(s["train"], blended, s["ema"])
        advantage = returns_to_go(reward - ema, jnp.ones_like(valid), s["gamma"])
        classif = masked_mean(ce, valid)
        score = surrogate(edge_log_probs.sum(-1), -advantage, jnp.zeros_like(advantage), valid)
        arch = score / (valid.sum() * len(nodes))
        predictions = outputs.argmax(-1)
        aux = {
            "stats": stats,
            "states": states,
            "probas": jax.nn.sigmoid(logits),
            "logits": outputs,
            "features": features,
            "log_probas": edge_log_probs,
            "sampled": gates,
            "pruned": prune(net, gates),
            "costs_sampled": gates @ per_node,
            "costs_pruned": cost(gates),
            "per_sample_loss": ce,
            "y_hat": predictions,
            "reward_raw": reward,
            "mean_reward": reward.mean(),
            "ema_after": ema,
            "advantage_discounted": advantage,
            "classif_loss": classif,
            "arch_loss": arch,
            "total_loss": classif + arch,
            "accuracy": masked_mean((predictions == y).astype(reward.dtype), valid),
            "average_cost": masked_mean(cost(gates), valid),
        }
        return classif + arch, aux

    return jax.jit(jax.grad(loss, has_aux=True))


class Parity:
    """One variant in one precision: the compiled iteration and the golden numbers."""

    def __init__(self, golden: Golden, variant: str, precision: str) -> None:
        self.golden, self.variant, self.precision = golden, variant, precision
        self.dtype = DTYPE[precision]
        self.net = build_net(golden, variant)
        graph = {k: golden[f"{variant}/graph/{k}"] for k in ("nodes_traversal", "costs_traversal")}
        self.node_costs = {
            str(name): float(cost) for name, cost in zip(*graph.values(), strict=True)
        }
        self.columns = golden[f"{variant}/graph/gamma_col_of_traversal_node"]
        self.run = iteration(self.net, tuple(self.node_costs.items()))
        start = f"{variant}/weights/"
        self.weights = {k.removeprefix(start): v for k, v in golden.items() if k.startswith(start)}

    def case(self, name: str) -> Golden:
        start = f"{self.variant}/{self.precision}/{name}/"
        return {k.removeprefix(start): v for k, v in self.golden.items() if k.startswith(start)}

    def case_names(self) -> list[str]:
        start = f"{self.variant}/{self.precision}/"
        names = {"/".join(k.split("/")[2:4]) for k in self.golden if k.startswith(start)}
        return sorted(n for n in names if "gamma" in n.split("/")[1])

    def compute(self, name: str, weights: Golden, case: Golden) -> tuple[Golden, Golden]:
        """(side results, gradients in their layout)."""
        data = "_nopad" if name.startswith("nopad") else ""
        # [T, B, channel, time, freq] → [T, B, time, freq, channel]
        x = np.moveaxis(self.golden[f"{self.variant}/x{data}"], 2, -1).astype(self.dtype)
        y = self.golden[f"{self.variant}/y{data}"]
        masks = case.get("masks", np.zeros((*y.shape, len(self.net.edges))))
        static = name.startswith("static")
        # Constant probabilities are single precision there, whatever the network's.
        epsilon = np.finfo(np.float32 if static else self.dtype).eps
        settings = {
            "lambda": self.dtype(case["lambda_reward"]),
            "gamma": self.dtype(case["r_gamma"]),
            "ema": self.dtype(case["ema_before"]),
            "class_w": case["class_w"].astype(self.dtype),
            "train": bool(case["train_mode"]),
            "deterministic": "masks" not in case,
            "static": static,
            "epsilon": self.dtype(epsilon),
        }
        ours = jax.tree.map(lambda w: jnp.asarray(w, self.dtype), to_ours(self.net, weights))
        grads, aux = self.run(ours, x, y, masks.astype(self.dtype), settings)
        return jax.tree.map(np.asarray, aux), to_theirs(self.net, grads)

    def mismatches(self, name: str) -> tuple[list[str], int]:
        """What differs in one case, and how many arrays were compared."""
        case = self.case(name)
        weights = dict(self.weights)
        bias = f"{self.variant}/{self.precision}/{name.split('/')[0]}/probas_gen_bias"
        if bias in self.golden:
            weights["probas_gen/lin.bias"] = self.golden[bias]
        aux, grads = self.compute(name, weights, case)
        for key in ("sampled", "pruned"):
            aux[key] = aux[key][..., self.columns].transpose(0, 2, 1)
        bad, compared = [], 0
        for key, got in aux.items():
            if key not in case:
                continue
            compared += 1
            if key in ("sampled", "pruned", "y_hat"):
                if not np.array_equal(got, case[key]):
                    bad.append(f"{name}: {key}")
            else:
                single = key == "arch_loss" and case["log_probas"].dtype == np.float32
                bad += self.difference(f"{name}: {key}", got, case[key], single)
        for key, got in grads.items():
            if f"grad/{key}" in case:
                compared += 1
                bad += self.difference(f"{name}: grad/{key}", got, case[f"grad/{key}"])
        return bad, compared

    def difference(
        self, what: str, got: np.ndarray, expected: np.ndarray, single: bool = False
    ) -> list[str]:
        """Nothing, or one line that says how far apart two arrays are."""
        if got.shape != expected.shape and got.size != expected.size:
            return [f"{what}: shape {got.shape}, expected {expected.shape}"]
        expected = expected.reshape(got.shape)
        single = single or expected.dtype == np.float32
        tolerance = max(TOLERANCE[self.precision], 1e-6 if single else 0)
        scale = np.abs(expected).max()
        error = np.abs(got - expected).max()
        return [] if error <= tolerance * scale else [f"{what}: {error:.2e} of {scale:.2e}"]


@pytest.fixture(scope="module")
def golden(reference) -> Golden:
    with np.load(reference / "golden_kws_tiny.npz") as file:
        return dict(file)


def check_all(parity: Parity, names: list[str]) -> None:
    bad: list[str] = []
    for name in names:
        mismatches, compared = parity.mismatches(name)
        assert compared >= 15, f"{name}: only {compared} arrays to compare"
        bad += mismatches
    assert not bad, "\n".join(bad)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_f32(golden, variant):
    parity = Parity(golden, variant, "f32")
    names = parity.case_names()
    assert len(names) >= 10
    check_all(parity, names)


@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_f64(golden, variant, x64):
    parity = Parity(golden, variant, "f64")
    names = parity.case_names()
    # 12 masks, two discounts, two baselines; the same without padding, weighted, saturated, ...
    assert len(names) >= 12 * 4 + 5
    check_all(parity, names)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_adam(golden, variant, x64):
    """Three iterations with our optimiser, each from its own weights of the one before.

    The trees are in their layout: a bias that is a sum of two there takes two of our steps.
    `init_state` is a parameter of no group there, so it stays.
    """
    parity = Parity(golden, variant, "f64")
    optimizer = make_optimizer(1e-3, weight_decay=1e-5)
    weights = {k: w.astype(np.float64) for k, w in parity.weights.items()}

    def grouped(flat: Golden) -> dict[str, Golden]:
        groups: dict[str, Golden] = {"net": {}, "controller": {}}
        for key, value in flat.items():
            if key != "init_state":
                group = "controller" if key.startswith(("rnn/", "probas_gen/")) else "net"
                groups[group][key] = value
        return groups

    state = optimizer.init(grouped(weights))
    bad: list[str] = []
    for number in range(3):
        case = parity.case(f"adam/step{number}") | {
            "lambda_reward": np.float64(3e-5),
            "r_gamma": np.float64(0.9),
            "class_w": np.ones(4),
            "train_mode": np.array(True),
        }
        aux, grads = parity.compute("adam", weights, case)
        for key in ("logits", "probas", "total_loss", "ema_after"):
            bad += parity.difference(f"step {number}: {key}", aux[key], case[key])
        for key in weights:
            bad += parity.difference(f"step {number}: {key}", grads[key], case[f"grad/{key}"])
        updates, state = optimizer.update(grouped(grads), state, grouped(weights))
        moved = optax.apply_updates(grouped(weights), updates)
        weights = {
            "init_state": weights["init_state"],
            **{k: np.asarray(w) for group in moved.values() for k, w in group.items()},
        }
        after = {k: case[f"weights_after/{k}"] for k in weights}
        for key in weights:
            # 1e-9 of a weight is 1e-6 of a step of 1e-3: no stray step is hidden.
            bad += parity.difference(f"after step {number}: {key}", weights[key], after[key])
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("variant", VARIANTS)
def test_node_costs_reference(golden, variant):
    """Their node costs are our counts, but for the additions and strides (charged twice there)."""
    parity = Parity(golden, variant, "f32")
    counted = costs.edge_macs(parity.net)
    counted["out_feat"] = 0 if variant == "noshort" else 4 * 10
    if variant == "strided":
        assert counted["conv_0"] == 4 * parity.node_costs["conv_0"]
        counted["conv_0"] //= 4
    assert counted == parity.node_costs


def test_parity_extract(x64):
    """A few cases that travel with the project, the bias leak among them."""
    with np.load(EXTRACT) as file:
        golden = dict(file)
    for variant in ("plain", "noshort"):
        parity = Parity(golden, variant, "f64")
        names = parity.case_names()
        assert any("leak" in name for name in names)
        check_all(parity, names)
