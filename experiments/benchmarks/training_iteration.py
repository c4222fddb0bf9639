"""A training iteration of kws_paper beside the same network in plain PyTorch, on the CPU.

    python -m experiments.benchmarks.training_iteration [--batch 64] [--repeats 5] [--json out.json]

One iteration is a whole one: forward, objective with λ·cost, score function, backward, Adam, on
streams of 3 s (11 steps) of random features. Both run in turn in one process on as many threads;
first they are held to be the same network: logits, objective and gradients agree in the same
architectures. Needs PyTorch: pip install torch.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from tqdm import tqdm

from experiments.platform import prepare_platform

prepare_platform()  # before jax is imported

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402

from data_prep import cli as command  # noqa: E402
from sanas_jax import costs, spaces  # noqa: E402
from sanas_jax.controller import Controller  # noqa: E402
from sanas_jax.optimizer import make_optimizer  # noqa: E402
from sanas_jax.rollout import Sanas, init_carry, unroll  # noqa: E402
from sanas_jax.training import (  # noqa: E402
    Batch,
    Budget,
    Objective,
    init_state,
    make_update,
)

FRAMES = 301  # 3 s
COST_WEIGHT, LEARNING_RATE, WEIGHT_DECAY = 0.1, 1e-3, 1e-5
TOLERANCE = 1e-4
PAPER_MAPS, SMALL_MAPS = (64, 64), (8, 8)


class Problem(NamedTuple):
    """What both sides train: model, its objective, and a batch as NumPy arrays."""

    model: Sanas
    objective: Objective
    maps: tuple[int, int]
    stream: np.ndarray
    labels: np.ndarray

    @property
    def batch(self) -> Batch:
        """The batch for `update`; every step counts."""
        return Batch(
            jnp.asarray(self.stream), jnp.asarray(self.labels), jnp.ones(self.labels.shape, bool)
        )

    @property
    def edge_costs(self) -> np.ndarray:
        """Cost of each edge [E] as a share of the whole network."""
        macs = np.array([*costs.edge_macs(self.model.net).values()], np.float32)
        return macs / macs.sum()


def make_problem(maps: tuple[int, int], batch: int, *, gate_bias: float = 3.0) -> Problem:
    """The network of kws_paper, or one with fewer maps, on random features and labels."""
    net = spaces.kws_cnn(maps=maps)
    model = Sanas(net, Controller(bias=gate_bias))
    rng = np.random.default_rng(0)
    stream = rng.standard_normal((batch, FRAMES, *net.input_shape[1:])).astype(np.float32)
    labels = rng.integers(0, net.shapes[net.output][0], (model.num_steps(FRAMES), batch))
    return Problem(model, Objective(costs.relative(net, costs.macs(net))), maps, stream, labels)


def verify(maps: tuple[int, int], batch: int = 8) -> dict[str, float]:
    """Largest relative errors between both sides with the same weights and architectures.

    The gradient is that of the `update` that is timed, taken from an optimiser that keeps it. Gates
    start at probability 0.73, so that all kinds of architectures occur, dead ones too.

    Returns:
      {"logits", "objective", "gradients"}: the last over all parameters, each relative to its own
      largest entry.
    """
    torch, torch_kws = _import_torch()
    problem = make_problem(maps, batch, gate_bias=1.0)
    keep = optax.trace(decay=0.0)
    state = init_state(problem.model, keep, problem.objective, jax.random.key(1))
    key = jax.random.key(2)
    _, outs = jax.jit(unroll, static_argnums=0)(
        problem.model,
        state.params,
        init_carry(problem.model, batch),
        jnp.asarray(problem.stream),
        jax.random.split(key, 1)[0],  # as `update` gives its only sample
    )
    update = jax.jit(make_update(problem.model, keep, problem.objective))
    after, metrics = update(state, problem.batch, key, _budget())

    theirs = torch_kws.TorchSanas(maps)
    torch_kws.load(theirs, torch_kws.from_ours(jax.device_get(state.params), maps))
    gates = torch.from_numpy(np.array(outs.gates[..., :-1]))
    torch_outs = theirs(torch.from_numpy(problem.stream[..., 0]), gates)
    total, objective = torch_kws.loss(
        torch_outs,
        torch.from_numpy(problem.labels),
        torch.from_numpy(problem.edge_costs),
        COST_WEIGHT,
    )
    total.backward()
    expected = torch_kws.gradients(theirs)
    got = torch_kws.from_ours(jax.device_get(after.opt_state.trace), maps)
    return {
        "logits": _relative_error(np.asarray(outs.logits), torch_outs.logits.detach().numpy()),
        "objective": _relative_error(np.asarray(metrics["objective"]), objective.detach().numpy()),
        "gradients": max(_relative_error(got[name], expected[name]) for name in expected),
    }


def count(problem: Problem) -> dict[str, int]:
    """Multiply-accumulates: of a step, of all steps window by window, of ours, of its iteration."""
    model, batch = problem.model, problem.batch
    optimizer = _optimizer()
    key = jax.random.key(0)
    state = jax.eval_shape(lambda key: init_state(model, optimizer, problem.objective, key), key)
    carry = init_carry(model, len(problem.stream))
    step = sum(costs.edge_macs(model.net).values())
    update = make_update(model, optimizer, problem.objective)
    return {
        "step": step,
        "forward_window_by_window": step * problem.labels.size,
        "forward_ours": costs.count_macs(
            lambda p, x: unroll(model, p, carry, x, key), state.params, batch.features
        ),
        "iteration_ours": costs.count_macs(update, state, batch, key, _budget()),
    }


def our_iteration(problem: Problem) -> Callable[[], None]:
    """One iteration of ours per call, the state carried along; compiled by the first."""
    optimizer = _optimizer()
    update = jax.jit(make_update(problem.model, optimizer, problem.objective), donate_argnums=0)
    state = init_state(problem.model, optimizer, problem.objective, jax.random.key(0))
    batch, budget, key = problem.batch, _budget(), jax.random.key(1)

    def run() -> None:
        nonlocal state
        state, metrics = update(state, batch, jax.random.fold_in(key, state.step), budget)
        jax.block_until_ready((state, metrics))

    return run


def torch_iteration(problem: Problem) -> Callable[[], None]:
    """One iteration of the PyTorch network per call."""
    torch, torch_kws = _import_torch()
    model = torch_kws.TorchSanas(problem.maps)
    torch.nn.init.constant_(model.head.bias, problem.model.controller.bias)
    optimizer = torch_kws.make_adam(model, LEARNING_RATE, WEIGHT_DECAY)
    stream, labels = torch.from_numpy(problem.stream[..., 0]), torch.from_numpy(problem.labels)
    edge_costs = torch.from_numpy(problem.edge_costs)

    def run() -> None:
        torch_kws.train_step(model, optimizer, stream, labels, edge_costs, COST_WEIGHT)

    return run


def time_in_turn(
    iterations: dict[str, Callable[[], None]], repeats: int
) -> dict[str, dict[str, list[float]]]:
    """Wall and CPU seconds of each iteration, A B A B …, after an untimed round.

    In turn, load from elsewhere hits all alike; CPU time, summed over threads, hardly sees it.
    """
    wall: dict[str, list[float]] = {name: [] for name in iterations}
    cpu: dict[str, list[float]] = {name: [] for name in iterations}
    for repeat in tqdm(range(repeats + 1), desc="rounds", disable=None):
        for name, run in iterations.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            run()
            if repeat:
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - start_cpu)
    return {"wall": wall, "cpu": cpu}


def benchmark(maps: tuple[int, int], batch: int, repeats: int, threads: int) -> dict[str, Any]:
    """Verify, time and count; what goes into the JSON file."""
    torch, _ = _import_torch()
    _use_threads(threads)
    torch.set_num_threads(threads)
    errors = verify(maps)
    worst = max(errors, key=lambda name: errors[name])
    if not errors[worst] <= TOLERANCE:
        raise ValueError(
            f"the two networks differ: expected {worst} within {TOLERANCE:g} relative, "
            f"got {errors[worst]:.2g}"
        )
    problem = make_problem(maps, batch)
    seconds = time_in_turn(
        {"ours": our_iteration(problem), "pytorch": torch_iteration(problem)}, repeats
    )
    macs = count(problem)
    median = {
        clock: {name: statistics.median(values) for name, values in by_name.items()}
        for clock, by_name in seconds.items()
    }
    wall = seconds["wall"]
    pairs = [theirs / ours for ours, theirs in zip(wall["ours"], wall["pytorch"], strict=True)]
    return {
        "maps": maps,
        "batch": batch,
        "steps": len(problem.labels),
        "threads": threads,
        "errors": errors,
        "seconds": seconds,
        "median_seconds": median,
        "ratio": {clock: each["pytorch"] / each["ours"] for clock, each in median.items()},
        "ratio_range": [min(pairs), max(pairs)],
        "macs": macs,
        "macs_per_second_ours": macs["iteration_ours"] / median["wall"]["ours"],
        "machine": describe_machine(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("jax", "jaxlib", "torch")},
        },
    }


def describe_machine() -> dict[str, Any]:
    """Processor, CPUs that this process may use, load before us, system."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cpus": _num_cpus(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
    }


def table(result: dict[str, Any]) -> str:
    """The result as a few lines."""
    wall, cpu = result["median_seconds"]["wall"], result["median_seconds"]["cpu"]
    macs, errors = result["macs"], result["errors"]
    low, high = result["ratio_range"]
    repeats = len(result["seconds"]["wall"]["ours"])
    machine = result["machine"]
    return "\n".join(
        [
            f"same network: relative error of logits {errors['logits']:.1e}, objective "
            f"{errors['objective']:.1e}, gradients {errors['gradients']:.1e}",
            f"maps {result['maps']}, batch {result['batch']} × {result['steps']} steps, "
            f"{result['threads']} threads, median of {repeats} in turn",
            f"  ours     {wall['ours']:8.3f} s per iteration, {cpu['ours']:.3f} s of CPU",
            f"  PyTorch  {wall['pytorch']:8.3f} s per iteration, {cpu['pytorch']:.3f} s of CPU",
            f"  ratio    {result['ratio']['wall']:8.2f} (pairs {low:.2f} to {high:.2f}), "
            f"{result['ratio']['cpu']:.2f} of CPU",
            f"MACs: step {macs['step']:,}; forward {macs['forward_window_by_window']:,} window by "
            f"window, {macs['forward_ours']:,} ours; iteration {macs['iteration_ours']:,} ours, "
            f"{result['macs_per_second_ours'] / 1e9:.1f} G/s",
            f"machine: {machine['processor']}, {machine['cpus']} CPUs, load "
            f"{machine['load_average']}, {machine['system']}",
            "versions: " + ", ".join(f"{k} {v}" for k, v in result["versions"].items()),
        ]
    )


def define_flags(values: flags.FlagValues) -> None:
    """Flags of the command."""
    flags.DEFINE_integer("batch", None, "Streams; 64, or 8 with --small.", 2, flag_values=values)
    flags.DEFINE_integer("repeats", 5, "Timed iterations of each side.", 1, flag_values=values)
    flags.DEFINE_integer("threads", 2, "Threads of each side.", 1, flag_values=values)
    flags.DEFINE_bool("small", False, "8 maps per convolution: a quick check.", flag_values=values)
    flags.DEFINE_string("json", None, "File for the result.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Body of the command."""
    out = Path(values.json) if values.json else None
    if out and not out.parent.is_dir():
        raise ValueError(f"--json: expected a file in a folder that exists, got {out}")
    if values.threads > _num_cpus():
        raise ValueError(
            f"--threads: expected at most {_num_cpus()}, the CPUs here; got {values.threads}"
        )
    maps = SMALL_MAPS if values.small else PAPER_MAPS
    result = benchmark(
        maps, values.batch or (8 if values.small else 64), values.repeats, values.threads
    )
    print(table(result))
    if out:
        out.write_text(json.dumps(result, indent=2) + "\n")


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv)


def _import_torch() -> tuple[Any, Any]:
    """PyTorch and our network in it; ValueError where it is not installed."""
    # Its idle threads spin by default: beside any other load on the CPUs that slows it 50-fold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import torch

        from experiments.benchmarks import torch_kws
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ValueError(
            "this benchmark compares with PyTorch, which is not installed: pip install torch"
        ) from error
    return torch, torch_kws


def _use_threads(threads: int) -> None:
    """Run XLA on the CPU with `threads` threads; it looks when its first array is made."""
    jax.config.update("jax_platforms", "cpu")
    os.environ["NPROC"] = str(threads)


def _num_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _optimizer() -> optax.GradientTransformation:
    return make_optimizer(LEARNING_RATE, weight_decay=WEIGHT_DECAY)


def _budget() -> Budget:
    return Budget(jnp.float32(COST_WEIGHT), jnp.float32(0))


def _relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference relative to the largest entry; the difference itself beside zeros."""
    difference, scale = np.abs(got - expected).max(), np.abs(expected).max()
    return float(difference / scale) if scale else float(difference)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
