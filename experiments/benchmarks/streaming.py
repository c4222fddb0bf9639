"""Milliseconds per decision on a stream, beside the same network in plain PyTorch.

    python -m experiments.benchmarks.streaming [--threads 1] [--stream s.wav] [--json out.json]

Batch of one, 200 ms of features per decision, network and controller (features of audio are the
same for both sides and are timed alone). Ours skips edges and keeps rows (`sanas_jax.streaming`),
with one program for all architectures and, "own", with programs of their own for those that occur
most (`sanas_jax.runtime`). PyTorch, run eagerly, computes each window whole and multiplies by
gates, as the method's own code does. Architectures are forced: everything, about a half and a tenth
of the MACs, the cheapest path; and trained networks (--model) decide for themselves on a stream
(--stream), told each price of --cost_weights, timed from its fourth minute on. All must give the
same posteriors, and run in turn, 500 decisions each. Needs PyTorch: pip install torch.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from tqdm import tqdm

from experiments.platform import prepare_platform, prepare_streaming

prepare_platform()  # before jax is imported

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import soundfile  # noqa: E402

from data_prep import cli as command  # noqa: E402
from experiments.benchmarks.training_iteration import (  # noqa: E402
    _import_torch,
    _num_cpus,
    _relative_error,
    _use_threads,
    describe_machine,
)
from experiments.models import parse_price, read_model  # noqa: E402
from sanas_jax import gates as gates_lib  # noqa: E402
from sanas_jax import spaces  # noqa: E402
from sanas_jax.controller import Controller  # noqa: E402
from sanas_jax.costs import edge_macs  # noqa: E402
from sanas_jax.features import Frontend, extract  # noqa: E402
from sanas_jax.graph import Net, prune  # noqa: E402
from sanas_jax.incremental import incremental_macs  # noqa: E402
from sanas_jax.rollout import Sanas, init_model  # noqa: E402
from sanas_jax.runtime import Answer, Runtime, Stream  # noqa: E402

TOLERANCE = 1e-3
BLOCK = 500  # decisions
WARM_UP = 100
LEARNING_SECONDS = 180.0  # of a stream, before it is timed: programs are compiled meanwhile
PROGRAMS = 16


Peer = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (window, live [E]) → logits


class Subject(NamedTuple):
    """A network to time: ours, and the PyTorch module that computes the same."""

    name: str
    model: Sanas
    params: dict[str, Any]
    peer: Peer
    frontend: Frontend | None


def paper(maps: tuple[int, int] = (64, 64)) -> Subject:
    """cnn-trad-fpool3 with shortcuts, 137M MACs, as it begins."""
    torch, torch_kws = _import_torch()
    model = Sanas(spaces.kws_cnn(maps=maps), Controller())
    params = init_model(model, jax.random.key(0))
    theirs = torch_kws.TorchSanas(maps).eval()
    torch_kws.load(theirs, torch_kws.from_ours(jax.device_get(params), maps))
    z = torch.zeros(1, theirs.cell.hidden_size)

    def peer(window: np.ndarray, live: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            theirs.head(z)
            x = torch.tensor(window[None, None, :, :, 0])
            logits, features = theirs.network(x, torch.tensor(live[None]))
            theirs.cell(features, z)
        return logits.numpy()

    return Subject("kws_paper", model, params, peer, None)


def trained(reference: str) -> Subject:
    """A run, or a model of the package, of the separable space."""
    torch, _ = _import_torch()
    from experiments.benchmarks.torch_separable import TorchSeparable

    found = read_model(reference)
    about = found.info.config.model
    if about.family != "separable" or not about.conditioned:
        raise ValueError(
            "--model: expected a separable network that is told its price, got "
            f"{about.family}{'' if about.conditioned else ', not told one'}: {reference}"
        )
    model, params = found.built.model, found.params
    theirs = TorchSeparable(model.net, jax.device_get(params)).eval()
    size = model.controller.cell.features
    width = model.net.shapes[model.net.features][0]
    cell = torch.nn.GRUCell(width + 1, size)
    head = torch.nn.Linear(size + 1, len(model.net.gated))
    z, told = torch.zeros(1, size), torch.zeros(1, 1)
    last: dict[str, Any] = {}

    def peer(window: np.ndarray, live: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            head(torch.cat([z, told], 1))
            x = torch.tensor(window[None, :, :, 0]).transpose(1, 2)
            logits, features = theirs(x, torch.tensor(live), last)
            cell(torch.cat([features, told], 1), z)
        return logits.numpy()

    return Subject(found.workdir.name, model, params, peer, found.info.frontend)


def architectures(net: Net) -> dict[str, np.ndarray]:
    """Gates [E] by name: everything, and those nearest to shares of its MACs; the cheapest path."""
    macs = np.array([*edge_macs(net).values()], np.float64)
    every = np.array(list(itertools.product((0.0, 1.0), repeat=len(net.gated))), np.float32)
    gates = np.ones((len(every), len(net.edges)), np.float32)
    gates[:, list(net.gated)] = every
    gates[:, [net.index[edge.name] for edge in net.reuse.values()]] = 0  # nothing to reuse here
    live = np.asarray(prune(net, jnp.asarray(gates)))
    into = [net.index[edge.name] for edge in net.incoming[net.output]]
    answers = live[:, into].max(1) > 0
    live, spent = live[answers], (live @ macs)[answers]
    full = spent.max()
    named = {"everything": full, "half": full / 2, "a tenth": full / 10, "cheapest": 0.0}
    return {name: live[np.abs(spent - near).argmin()] for name, near in named.items()}


Side = Callable[[np.ndarray], tuple[Any, float]]  # window → answer and its ms


class Turns(NamedTuple):
    """What a side answered, and in how many ms each time."""

    answers: list[Any]
    ms: list[float]


def our_side(
    subject: Subject, policy: Any, programs: int, first: np.ndarray, price: float = 1.0
) -> Side:
    """`window → Answer` of ours on a stream that begins with these frames."""
    runtime = Runtime(subject.model, subject.params, None, policy=policy, programs=programs)
    stream = Stream(runtime, price)
    stream.begin(first)

    def decide(window: np.ndarray) -> tuple[Answer, float]:
        runtime.settle()  # on a stream as fast as speech there is time to compile
        begin = time.perf_counter()
        answer = stream.step(window[-runtime.model.hop :])
        return answer, 1000 * (time.perf_counter() - begin)

    return decide


def their_side(subject: Subject, live: np.ndarray) -> Side:
    """`window → logits` of PyTorch with these edges."""

    def decide(window: np.ndarray) -> tuple[np.ndarray, float]:
        begin = time.perf_counter()
        logits = subject.peer(window, live)[0]
        return logits, 1000 * (time.perf_counter() - begin)

    return decide


def in_turn(sides: dict[str, Side], windows: Sequence[np.ndarray]) -> dict[str, Turns]:
    """A block of decisions by each side after the other.

    In blocks, since one that has just waited for the other begins with cold caches, each
    of many programs anew.
    """
    turns = {name: Turns([], []) for name in sides}
    for at in range(0, len(windows), BLOCK):
        for name, side in sides.items():
            for window in windows[at : at + BLOCK]:
                answer, ms = side(window)
                turns[name].answers.append(answer)
                turns[name].ms.append(ms)
    return turns


def time_architecture(subject: Subject, live: np.ndarray, steps: int) -> dict[str, Any]:
    """Ours and theirs in turn on random frames, in one architecture for all steps."""
    model = subject.model
    rng = np.random.default_rng(0)
    shape = (model.window - model.hop + (steps + WARM_UP) * model.hop, *model.net.input_shape[1:])
    stream = rng.standard_normal(shape).astype(np.float32)
    gates = jnp.asarray(live)[None]
    first = stream[: model.window - model.hop]
    windows = [stream[t * model.hop :][: model.window] for t in range(steps + WARM_UP)]
    sides = {
        "ms": our_side(subject, lambda gamma, key: gates, 0, first),
        "ms_own": our_side(subject, lambda gamma, key: gates, 1, first),
        "ms_pytorch": their_side(subject, live),
    }
    in_turn(sides, windows[:WARM_UP])
    turns = in_turn(sides, windows[WARM_UP:])
    expected = [log_softmax(logits) for logits in turns["ms_pytorch"].answers]
    worst = max(
        _relative_error(np.log(answer.posterior), logs)
        for name in ("ms", "ms_own")
        for answer, logs in zip(turns[name].answers, expected, strict=True)
    )
    if not worst <= TOLERANCE:
        raise ValueError(
            f"the two networks differ: expected log p within {TOLERANCE:g}, got {worst:.2g}"
        )
    macs = np.array([*edge_macs(model.net).values()], np.float64)
    many = jnp.asarray(np.stack([live] * 8))
    return {
        "macs": float(live @ macs),
        "macs_incremental": float(incremental_macs(model.net, model.hop)(many)[-1]),
        "error": worst,
    } | {name: statistics.fmean(turn.ms) for name, turn in turns.items()}


def time_stream(subject: Subject, wav: Path, steps: int, price: float) -> dict[str, Any]:
    """The network decides by itself on a real stream; PyTorch computes everything beside it."""
    model, frontend = subject.model, subject.frontend
    assert frontend is not None
    learn = round(LEARNING_SECONDS * frontend.sample_rate / frontend.hop / model.hop)
    samples, rate = soundfile.read(wav, dtype="float32", always_2d=True)
    if rate != frontend.sample_rate:
        raise ValueError(f"--stream: expected {frontend.sample_rate} Hz, got {rate} Hz: {wav}")
    count = model.window - model.hop + (learn + steps) * model.hop
    frames = np.asarray(extract(frontend, jnp.asarray(samples[: count * frontend.hop].mean(1))))
    stream = frames[..., None]
    first = stream[: model.window - model.hop]
    sides = {
        "ms": our_side(subject, gates_lib.mode, 0, first, price),
        "ms_own": our_side(subject, gates_lib.mode, PROGRAMS, first, price),
        "ms_pytorch": their_side(subject, np.ones(len(model.net.edges), np.float32)),
    }
    windows = [
        stream[t * model.hop :][: model.window]
        for t in range(min(learn + steps, model.num_steps(len(stream))))
    ]
    if len(windows) <= learn:
        raise ValueError(
            f"--stream: expected more than {LEARNING_SECONDS + 2:g} s of audio, "
            f"got {len(samples) / rate:.1f} s"
        )
    in_turn({name: sides[name] for name in ("ms", "ms_own")}, windows[:learn])
    turns = in_turn(sides, windows[learn:])
    macs = np.array([*edge_macs(model.net).values()], np.float64)
    live = np.stack([answer.live for answer in turns["ms"].answers])
    return {
        "macs": float((live @ macs).mean()),
        "macs_incremental": float(incremental_macs(model.net, model.hop)(jnp.asarray(live)).mean()),
    } | {name: statistics.fmean(turn.ms) for name, turn in turns.items()}


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """log p."""
    return np.asarray(jax.nn.log_softmax(logits))


def time_features(frontend: Frontend, hop: int, steps: int) -> float:
    """Median ms of the features of one decision's frames."""
    samples = np.zeros(frontend.span(hop), np.float32)
    run = jax.jit(lambda samples: extract(frontend, samples, centred=False))
    took = []
    for _ in range(steps):
        begin = time.perf_counter()
        jax.block_until_ready(run(samples))
        took.append(1000 * (time.perf_counter() - begin))
    return statistics.median(took)


def table(result: dict[str, Any]) -> str:
    """One line per architecture."""
    lines = [
        f"{'':34} MACs (new rows)      ms      own  PyTorch    ratio     own   saved: MACs, ms, own"
    ]
    for name, rows in result["networks"].items():
        full = rows["everything"]
        for label, row in rows.items():
            # Of what everything costs with rows kept: what is saved in arithmetic, and in time.
            saved = [1 - row[key] / full[key] for key in ("macs_incremental", "ms", "ms_own")]
            share = "  ".join(f"{part:6.1%}" for part in saved) if label != "everything" else ""
            lines.append(
                f"{name + ', ' + label:34} {row['macs'] / 1e6:7.3f}M "
                f"({row['macs_incremental'] / 1e6:6.3f}M) {row['ms']:7.3f} {row['ms_own']:8.3f} "
                f"{row['ms_pytorch']:8.3f} {row['ms_pytorch'] / row['ms']:7.1f}x "
                f"{row['ms_pytorch'] / row['ms_own']:6.1f}x   {share}"
            )
    machine = result["machine"]
    lines.append(f"features of 200 ms: {result['features_ms']:.3f} ms")
    lines.append(
        f"{result['threads']} threads, {result['steps']} decisions in turn; "
        f"{machine['processor']}, {machine['cpus']} CPUs, load {machine['load_average']}"
    )
    return "\n".join(lines)


def define_flags(values: flags.FlagValues) -> None:
    """Flags of the command."""
    flags.DEFINE_integer("threads", 1, "Threads of each side.", 1, flag_values=values)
    flags.DEFINE_integer("steps", 300, "Timed decisions.", 1, flag_values=values)
    flags.DEFINE_list(
        "model", ["pretrained:kws_modern"], "Trained networks to time.", flag_values=values
    )
    flags.DEFINE_string("stream", None, "WAV on which they decide.", flag_values=values)
    flags.DEFINE_list("cost_weights", ["0.1"], "λ that they are told there.", flag_values=values)
    flags.DEFINE_bool("small", False, "8 maps in place of 64: a quick check.", flag_values=values)
    flags.DEFINE_string("json", None, "File for the result.", flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Body of the command."""
    if values.threads > _num_cpus():
        raise ValueError(
            f"--threads: expected at most {_num_cpus()}, the CPUs here; got {values.threads}"
        )
    if values.stream and not Path(values.stream).is_file():
        raise ValueError(f"--stream: expected a file, got {values.stream}")
    torch, _ = _import_torch()
    prepare_streaming()
    _use_threads(values.threads)
    torch.set_num_threads(values.threads)
    prices = [parse_price(word) for word in values.cost_weights]
    subjects = [paper((8, 8) if values.small else (64, 64)), *map(trained, values.model)]
    networks: dict[str, Any] = {}
    for subject in subjects:
        rows = {}
        for name, live in tqdm(architectures(subject.model.net).items(), desc=subject.name):
            rows[name] = time_architecture(subject, live, values.steps)
        if values.stream and subject.frontend is not None:
            for price in prices:
                rows[f"λ = {price:g} on a stream"] = time_stream(
                    subject, Path(values.stream), values.steps, price
                )
        networks[subject.name] = rows
    frontend = subjects[1].frontend
    assert frontend is not None
    result = {
        "networks": networks,
        "features_ms": time_features(frontend, subjects[1].model.hop, values.steps),
        "threads": values.threads,
        "steps": values.steps,
        "machine": describe_machine(),
    }
    print(table(result))
    if values.json:
        Path(values.json).write_text(json.dumps(result, indent=2) + "\n")


def main(argv: Sequence[str]) -> int:
    """Run the command (program name first) and return its exit status."""
    return command.run(define_flags, run, __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
