"""What a run begins with: parameters of another run or of a packed model.

With the same classes everything goes on as it was. With other classes the edges that lead into the
output layer begin anew, since what they learnt were the other classes; all else is taken over.

A network on log-mel features may go on as one that makes these bands itself and has more edges
(`separable-gated`): the bands and their normalisation are those features.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments.config import Config, features_of
from experiments.config.build import Training
from experiments.runs import folder as run_folder
from experiments.runs.folder import RunInfo
from experiments.runs.packed import resolve, stored_parts
from experiments.runs.trained import Params, model_of, restore_params
from sanas_jax.blocks.audio import normalised
from sanas_jax.graph import Net
from sanas_jax.sharding import place
from sanas_jax.training import init_state
from sanas_jax.training.budgets import Member, init_member


class InitialWeights(NamedTuple):
    """What runs begin with.

    Fields:
      info: of the run started from. Its features go with its network.
      params: by part ("net", "stats", "controller"), what is taken over.
      same_classes: whether class weights go along as well.
      summary: what was taken and what begins anew, for the user.
    """

    info: RunInfo
    params: Params
    same_classes: bool
    summary: str


def fresh_member(built: Training, key: jax.Array) -> Member:
    """The state of a run that has not begun."""
    return init_member(init_state(built.model, built.optimizer, built.objective, key))


def with_features(member: Member, net: Net, frontend: Any) -> Member:
    """The member, whose network normalises bands that it makes as the data's front end does."""
    return _with_params(member, normalised(net, member.train.params, frontend))


def read_initial_weights(
    reference: str,
    classes: tuple[str, ...],
    input_shape: tuple[int, ...] | None,
    config: Config,
    net: Net,
    like: Params,
    *,
    trust: bool = False,
) -> InitialWeights:
    """Read what runs of `net` take over; ValueError if it is of another network.

    Args:
      reference: folder of a run, or `pretrained:NAME`.
      classes, input_shape: of the new run's data.
      config: of the new run; it must name the features that the network learnt on.
      net: its network.
      like: its parameters, of which only the shapes are looked at.
      trust: run what the config.py of that run brings.
    """
    folder = resolve(reference)
    info = run_folder.read(folder, trust=trust)
    _check_features(info, input_shape, config)
    source = model_of(info)
    _, params = restore_params(folder, info, source)
    params = stored_parts(params, info.config.model.static)
    expected = like
    if features_of(config.data)["raw"] and not features_of(info.config.data)["raw"]:
        expected = _without_more(like, source.net, net)
    same = info.classes == classes
    if same:
        for part in params:
            if not _alike(expected.get(part), params[part]):
                raise ValueError(
                    f"train.init_from: expected the same network and controller, got {reference} "
                    f"with another {part}"
                )
    else:
        params = _for_other_classes(reference, net, expected, params)
    anew = [name for name in like["net"] if name not in params["net"] and like["net"][name]]
    if "controller" not in params and not config.model.static:
        anew.append("the controller")
    count = sum(np.size(leaf) for leaf in jax.tree.leaves(params))
    summary = (
        f"from {reference}: took over {len(params['net'])} of {len(like['net'])} edges"
        f"{' and the controller' if 'controller' in params else ''} ({count:,} numbers); "
        f"begins anew: {', '.join(anew) or 'nothing'}"
    )
    return InitialWeights(info, params, same, summary)


def with_initial_weights(initial: InitialWeights, member: Member, mesh: Mesh | None) -> Member:
    """The member with what is taken over in place of its own."""
    fresh = member.train.params
    taken = {part: fresh[part] | initial.params[part] for part in initial.params}
    return _with_params(member, place(fresh | taken, mesh))


def _with_params(member: Member, params: Params) -> Member:
    train = member.train._replace(params=params)
    if train.average is not None:
        # A copy: the update donates both.
        train = train._replace(average=jax.tree.map(jnp.copy, params))
    return member._replace(train=train)


def _without_more(like: Params, source: Net, net: Net) -> Params:
    """The part of a network's parameters that a smaller one may have."""
    more = {edge.name for edge in net.edges} - {edge.name for edge in source.edges}
    edges = {
        part: {name: edge for name, edge in like.get(part, {}).items() if name not in more}
        for part in ("net", "stats")
    }
    return like | edges


def _for_other_classes(reference: str, net: Net, like: Params, params: Params) -> Params:
    """Edges that do not lead into the output, and the controller if it has the same form."""
    into_output = {edge.name for edge in net.edges if edge.target == net.output}
    for part in ("net", "stats"):
        ours, theirs = (
            {name: edge for name, edge in p.get(part, {}).items() if name not in into_output}
            for p in (like, params)
        )
        for name in [*ours, *theirs]:
            if name not in ours or name not in theirs or not _alike(ours[name], theirs[name]):
                raise ValueError(
                    "train.init_from: expected the same network but for the edges into its output "
                    f"({', '.join(sorted(into_output))}), got {reference} with another {name}"
                )
        if part in params:
            params = params | {part: theirs}
    if "controller" in params and not _alike(like["controller"], params["controller"]):
        params = {part: params[part] for part in params if part != "controller"}
    return params


def _check_features(info: RunInfo, input_shape: tuple[int, ...] | None, config: Config) -> None:
    """Features go with the network, so the config must ask for those; ValueError if not."""
    if info.input_shape != input_shape:
        raise ValueError(
            f"train.init_from: expected a run on inputs of shape {input_shape or 'audio'}, "
            f"got one on {info.input_shape or 'audio'}"
        )
    for field in ("features", "padding"):
        ours, theirs = getattr(config.data, field), getattr(info.config.data, field)
        if (ours, theirs) == ("samples", "log-mel"):
            continue
        if input_shape is None and ours != theirs:
            raise ValueError(
                f"config field 'data.{field}': expected {theirs!r} as in train.init_from, "
                f"got {ours!r}"
            )


def _alike(ours: Any, theirs: Any) -> bool:
    """Whether two trees have the same leaves of the same shapes."""
    ours, theirs = (jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (ours, theirs))
    return ours == theirs
