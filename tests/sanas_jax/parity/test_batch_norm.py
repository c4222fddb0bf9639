"""The authors' PyTorch code, number by number: networks with BatchNorm along a stream.

A fabric and a dense ResNet as SANAS super-networks, in training and in evaluation. Their BatchNorm
takes statistics of all rows, also of those gated off, and their running variance is the unbiased
one, n/(n − 1) of ours: both are written out here. The rest is as in `test_parity_kws`.

Where a block's input is constant, because all before it is off, BatchNorm divides rounding by
rounding: gradients of nodes that some step does not use are not compared, and an array counts as at
least 0.1 large. There the library also keeps the running statistics that theirs go on averaging, so
these are compared with all gates on.

Tolerance, relative to the largest entry of each array: 1e-9 in double precision, 1e-6 for what is
single precision there.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sanas_jax.blocks import ConvBn, Dense, GlobalMean, Identity, PooledConv, Residual
from sanas_jax.graph import Edge, Layer, Net
from tests.helpers.node_graph import AllRows, converted, node_net
from tests.sanas_jax.parity.test_kws import controller_to_ours, controller_to_theirs, iteration

FILES = ("golden_cnf_tiny.npz", "golden_dresnet_tiny.npz")
MOMENTUM = 0.1  # share of the batch in a running mean


class PooledDense(nn.Module):
    """Their last node of a ResNet."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(self.classes)(GlobalMean()(x))


def fabric_block(name: str, sizes: list[tuple[int, int]]) -> nn.Module:
    if name == "Out":
        return Dense(4)
    if not name.startswith("(("):
        return Identity()
    (_, source, _), (_, target, _) = eval(name)
    if target < source:
        return AllRows(ConvBn(3, upsample=sizes[target], method="bilinear"))
    return AllRows(ConvBn(3, stride=1 + target - source))


def resnet_block(name: str) -> nn.Module:
    if name.startswith("CLASSIC"):
        return AllRows(Residual(4))
    blocks = {"Input": PooledConv(4, (4, 3)), "Output": PooledDense(4)}
    return blocks.get(name, Identity())


def build(golden) -> Net:
    """Their network with gates on nodes, and the features that they read."""
    order, columns = (
        [str(name) for name in golden[f"graph/{key}"]]
        for key in ("nodes_traversal", "gamma_columns")
    )
    links = [(str(a), str(b)) for a, b in golden["graph/edges"]]
    height, width = golden["x"].shape[-2:]
    output, last = (str(name) for name in golden["graph/out_nodes"])
    if output == "Out":
        sizes = [(height, width)]
        while len(sizes) < 3:
            sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
        blocks = {name: fabric_block(name, sizes) for name in order}
        # Every sum has a ReLU, that of the input too; the logits have none.
        relu = {name for name in order if name.startswith("(") and not name.startswith("((")}
    else:
        blocks = {name: resnet_block(name) for name in order}
        relu = {name for name in order if name.startswith("ADD")}
    shape = (height, width, 1)
    net = node_net(columns, order, links, blocks, relu, shape, output, last)
    if output == "Out":
        return net  # maps as features, flattened as (H, W, channel)
    layers = [layer for layer in net.layers if layer.name != output]
    layers += [Layer("features"), Layer(output)]
    mean = Edge("mean", last, "features", GlobalMean(), gated=False)
    return Net(shape, tuple(layers), (*net.edges, mean), output, "features")


def close(what, got, expected, tolerance, scale=None):
    """Nothing, or one line that says how far apart two arrays are."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected)
    got = got.reshape(expected.shape)
    if expected.dtype == np.float32:
        tolerance = max(tolerance, 1e-6)
    scale = max(float(np.abs(expected).max()), scale or 0.0, 0.1)
    error = np.abs(got - expected).max()
    return [] if error <= tolerance * scale else [f"{what}: {error:.2e} of {scale:.2e}"]


@pytest.fixture(scope="module", params=FILES)
def golden(request, reference):
    with np.load(reference / request.param) as file:
        return dict(file)


@pytest.mark.parametrize("train", [True, False])
def test_steps(golden, train, x64):
    net = build(golden)
    names = [str(name) for name in golden["graph/gamma_columns"]]
    node_costs = dict(
        zip(
            map(str, golden["graph/nodes_traversal"]),
            map(float, golden["graph/costs_traversal"]),
            strict=True,
        )
    )
    start = "weights_after_init_costs/"
    torch = {k.removeprefix(start): v for k, v in golden.items() if k.startswith(start)}
    params, stats = converted(net, torch)
    shape = net.shapes[net.features]
    if len(shape) == 3:  # maps are flattened as (channel, H, W) there
        order = np.arange(np.prod(shape)).reshape(shape[2], *shape[:2]).transpose(1, 2, 0).ravel()
        torch["rnn/weight_ih"] = torch["rnn/weight_ih"][:, order]
    else:
        order = np.arange(shape[0])
    ours = {
        "net": params,
        "init_state": torch["init_state"].astype(np.float64),
        "controller": controller_to_ours({k: np.asarray(v, np.float64) for k, v in torch.items()}),
    }
    ours, stats = jax.tree.map(lambda w: jnp.asarray(w, np.float64), (ours, stats))
    run = iteration(net, tuple(node_costs.items()), train=train)
    kind = "train" if train else "eval"
    depth = 4 if train else 3
    cases = sorted(
        {
            "/".join(k.split("/")[:depth])
            for k in golden
            if k.startswith(f"f64/{kind}/") and k.endswith("/masks")
        }
    )
    assert len(cases) == (8 if train else 4)
    bad, compared, checked = [], 0, 0
    for name in cases:
        case = {
            k.removeprefix(f"{name}/"): v for k, v in golden.items() if k.startswith(f"{name}/")
        }
        x = np.moveaxis(golden["x"], 2, -1).astype(np.float64)
        rest = len(net.edges) - len(names)
        masks = np.concatenate([case["masks"], np.ones((*golden["y"].shape, rest))], -1)
        settings = {
            "lambda": case["lambda_reward"],
            "gamma": case["r_gamma"],
            "ema": case["ema_before"],
            "class_w": case["class_w"],
            "train": train,
            "deterministic": False,
            "static": False,
            "epsilon": np.finfo(np.float64).eps,
            "stats": stats,
        }
        grads, aux = run(ours, x, golden["y"], masks, settings)
        aux = jax.tree.map(np.asarray, aux)
        column = golden["graph/gamma_col_of_traversal_node"]
        for key in ("sampled", "pruned"):
            got = aux[key][..., column].transpose(0, 2, 1)
            bad += [] if np.array_equal(got, case[key]) else [f"{name}: {key}"]
        for key in ("probas", "log_probas"):
            aux[key] = aux[key][..., : len(names)]
        case["features"] = case["features"].reshape(*golden["y"].shape, -1)[..., order]
        keys = (
            *("probas", "states", "logits", "features", "log_probas", "costs_sampled"),
            *("costs_pruned", "per_sample_loss", "reward_raw", "mean_reward", "ema_after"),
            *("advantage_discounted", "classif_loss", "arch_loss", "total_loss"),
        )
        for key in (key for key in keys if key in case):
            bad += close(f"{name}: {key}", aux[key], case[key], 1e-9)
        if not train:
            continue
        theirs = {k.removeprefix("grad/"): v for k, v in case.items() if k.startswith("grad/")}
        expected, _ = converted(net, theirs)
        # A bias before BatchNorm has no gradient but rounding: scales are those of a node.
        live = {
            n
            for n, on in zip(names, case["pruned"][:, column.argsort()].any(2).all(0), strict=True)
            if on
        }
        for node, tree in ((n, t) for n, t in expected.items() if n in live):
            scale = max((float(np.abs(g).max()) for g in jax.tree.leaves(tree)), default=0.0)
            for path, value in jax.tree_util.tree_leaves_with_path(tree):
                own = grads["net"][node]
                for key in path:
                    own = own[key.key]
                where = f"{name}: grad {node}{jax.tree_util.keystr(path)}"
                bad += close(where, own, value, 1e-9, scale)
                compared += 1
        for key, value in controller_to_theirs(
            jax.tree.map(np.asarray, grads["controller"])
        ).items():
            if key in theirs:
                other = theirs[key][:, order] if key == "rnn/weight_ih" else theirs[key]
                bad += close(f"{name}: grad {key}", value, other, 1e-9)
                compared += 1
        if "/ones/" in name:
            bad += running_statistics(name, net, stats, aux["stats"], case, len(golden["x"]))
            checked += 1
    assert checked == 2 * train
    assert compared > 80 or not train
    assert not bad, "\n".join(bad)


def running_statistics(name, net, before, after, case, steps):
    """Ours after the case, as theirs would be: the variance of each step unbiased."""
    bad, compared = [], 0
    theirs = {k.removeprefix("bn_after/"): v for k, v in case.items() if k.startswith("bn_after/")}
    full = dict(theirs)
    for key in theirs:
        full[key.replace("running_mean", "weight").replace("running_var", "weight")] = np.ones(1)
        full[key.rsplit("bn.", 1)[0] + "bn.bias"] = np.ones(1)
        full[key.rsplit("bn.", 1)[0] + "conv.weight"] = np.ones((1, 1, 1, 1))
    _, expected = converted(net, full)
    for edge in net.edges:
        if edge.name not in expected:
            continue
        for norm, value in expected[edge.name]["block"].items():
            own, old = after[edge.name]["block"][norm], before[edge.name]["block"][norm]
            bad += close(f"{name}: {edge.name} mean", own["mean"], value["mean"], 1e-6)
            rows = case["masks"].shape[1] * np.prod(net.shapes[edge.target][:2])
            kept = (1 - MOMENTUM) ** steps * np.asarray(old["var"])
            unbiased = kept + (own["var"] - kept) * rows / (rows - 1)
            bad += close(f"{name}: {edge.name} var", unbiased, value["var"], 1e-6)
            compared += 1
    assert compared == len(jax.tree.leaves(before)) // 2
    return bad
