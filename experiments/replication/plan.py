"""What is run, in order: commands, what they leave, and what each stands on. Nothing runs here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from experiments.replication.scales import PRICES, SCALES, Scale
from experiments.runs.stored_results import DETECTORS, at_price, result_path

TEST_STREAMS = 3
# False alarms per hour that detectors are calibrated to: the first, or the next that can be kept.
ALARM_RATES = "10,100,1000"
CONFIGS = Path(__file__).resolve().parents[1] / "configs"


class Network(NamedTuple):
    """A row of the table, or several, one for each price.

    Fields:
      shown: its name.
      settings: of the config.
      begins_from: the network whose weights it starts from; None: random ones.
      at_prices: "trained": a network for each price; "told": one for all; "": prices mean nothing.
    """

    shown: str
    settings: tuple[str, ...]
    begins_from: str | None = None
    at_prices: str = ""


NETWORKS = {
    "chain": Network("cnn-trad-fpool3", ("model.static=true", "model.shortcuts=false")),
    "static": Network("+ shortcuts", ("model.static=true",)),
    "longer": Network("+ shortcuts, as many steps as SANAS", ("model.static=true",), "static"),
    "sanas": Network("SANAS", (), "static", "trained"),
    "told": Network("SANAS, one network told", ("model.conditioned=true",), "static", "told"),
}


@dataclass(frozen=True)
class Setup:
    """What is asked for.

    Fields:
      scale: one of `SCALES`.
      seeds: of training, from 0 on.
      out: folder of all that is made.
      cache: prepared clips; made in `out` unless they are there already.
      prepare: the command that makes them, and what it needs; empty for clips that are there.
    """

    scale: str
    seeds: int
    out: Path
    cache: Path
    prepare: tuple[tuple[str, ...], ...] = ()

    @property
    def size(self) -> Scale:
        """The scale's numbers."""
        return SCALES[self.scale]


class Cell(NamedTuple):
    """What has a row: a network, and its price if it has one."""

    network: str
    price: float | None

    @property
    def told(self) -> float | None:
        """The price that the network is told, if it is."""
        return self.price if NETWORKS[self.network].at_prices == "told" else None


class Training(NamedTuple):
    """A network of a seed: its config file, what is overridden, and its folder."""

    network: str
    seed: int
    config: Path
    settings: tuple[str, ...]
    workdir: Path


class Step(NamedTuple):
    """A command.

    Fields:
      name: of its own in the plan.
      words: a module and its arguments.
      leaves: files and folders that are there when it is done.
      after: names of the steps that it stands on.
      training: what it trains; None if it trains nothing.
      hears: "streams" or "clips", what networks are run on; "search" also chooses detectors.
    """

    name: str
    words: tuple[str, ...]
    leaves: tuple[Path, ...]
    after: tuple[str, ...] = ()
    training: Training | None = None
    hears: str = ""


def plan(setup: Setup) -> list[Step]:
    """All steps; each stands on earlier ones."""
    return [
        *_data(setup),
        *(step for seed in range(setup.seeds) for step in _seed(setup, seed)),
        _report(setup),
    ]


def cells() -> list[Cell]:
    """The rows of the table, in the plan's order."""
    return [
        Cell(name, price)
        for name, network in NETWORKS.items()
        for price in (PRICES if network.at_prices else (None,))
    ]


def folder_of(out: Path, seed: int, cell: Cell) -> Path:
    """The run of a cell."""
    folder = _workdir(out, seed, cell.network)
    trained = NETWORKS[cell.network].at_prices == "trained"
    return folder / f"lambda_{cell.price:g}" if trained else folder


def test_streams(setup: Setup) -> list[Path]:
    """WAVs of the testing streams."""
    return [setup.out / "streams" / f"test_{number}.wav" for number in range(TEST_STREAMS)]


def validation_streams(setup: Setup) -> list[Path]:
    """WAVs of the streams that detectors are chosen on."""
    count = len(setup.size.validation_minutes)
    return [setup.out / "streams" / f"validation_{number}.wav" for number in range(count)]


def clips_file(setup: Setup, seed: int, cell: Cell) -> Path:
    """Where `evaluate_clips` leaves its result."""
    name = at_price(f"{setup.cache.resolve().name}_testing", cell.told)
    return folder_of(setup.out, seed, cell) / "evaluations" / "clips" / f"{name}.json"


def digests(steps: Sequence[Step], out: Path) -> dict[str, str]:
    """Step → SHA-256 of its command and of those that it stands on, wherever `out` lies."""
    found: dict[str, str] = {}
    for step in steps:
        words = [
            word.replace(str(out), "{out}").replace(str(CONFIGS), "{configs}")
            for word in step.words
        ]
        stands_on = [found[name] for name in step.after]
        found[step.name] = hashlib.sha256(json.dumps([words, stands_on]).encode()).hexdigest()
    return found


def _workdir(out: Path, seed: int, network: str) -> Path:
    return out / f"seed_{seed}" / network


def _data(setup: Setup) -> Iterator[Step]:
    """Clips, how long all will take, streams."""
    before: tuple[str, ...] = ()
    for words in setup.prepare:
        name = words[0].rpartition(".")[2]
        yield Step(name, words, (Path(words[words.index("--out") + 1]),), before)
        before = (name,)
    out = str(setup.out)
    asked = ("--scale", setup.scale, "--data", str(setup.cache), "--out", out)
    measuring = ("experiments.paper", *asked, "--estimate")
    yield Step("estimate", measuring, (setup.out / "estimate.json",), before)
    tests = [(wav, "testing", setup.size.test_minutes, 0) for wav in test_streams(setup)]
    minutes = setup.size.validation_minutes
    others = [
        (wav, "validation", length, 100)
        for wav, length in zip(validation_streams(setup), minutes, strict=True)
    ]
    for part in (tests, others):
        for number, (wav, split, length, first) in enumerate(part):
            words = ("data_prep.make_stream", "--data", str(setup.cache), "--split", split)
            words += ("--minutes", f"{length:g}", "--seed", str(first + number), "--out", str(wav))
            yield Step(f"stream {wav.stem}", words, (wav,), before)


def _seed(setup: Setup, seed: int) -> Iterator[Step]:
    """Networks of a seed, their detectors and what they say."""
    trainings = [_training(setup, seed, name) for name in NETWORKS]
    yield from trainings
    trained = [each.name for each in trainings]
    models = [w for name in NETWORKS for w in ("--workdir", str(_workdir(setup.out, seed, name)))]
    prices = f"--cost_weights={','.join(f'{price:g}' for price in PRICES)}"
    tests = [w for wav in test_streams(setup) for w in ("--stream", str(wav))]
    validation = [w for wav in validation_streams(setup) for w in ("--stream", str(wav))]
    own = [(cell, folder_of(setup.out, seed, cell)) for cell in cells()]
    heard = [f"stream {wav.stem}" for wav in test_streams(setup)]
    chosen_on = [f"stream {wav.stem}" for wav in validation_streams(setup)]

    def step(name: str, words: Sequence[str], leaves: Sequence[Path], after: Sequence[str]) -> Step:
        hears = {"detectors": "search", "clips": "clips"}.get(name, "streams")
        named = f"{name}, seed {seed}"
        return Step(named, (*words, *models), tuple(leaves), tuple(after), hears=hears)

    def results(detector: str) -> list[Path]:
        return [
            result_path(folder, wav.stem, cell.told, detector)
            for cell, folder in own
            for wav in test_streams(setup)
        ]

    detectors = list(dict.fromkeys(folder / "detector.json" for _, folder in own))
    rates = f"--false_alarms_per_hour={ALARM_RATES}"
    evaluating = ("experiments.evaluate", prices, *tests)
    calibrating = ("experiments.calibrate", rates, *validation)
    clips = ("experiments.evaluate_clips", prices, "--data", str(setup.cache))
    protocol, calibrated = map(results, DETECTORS)
    yield step("protocol", evaluating, protocol, [*trained, *heard])
    yield step("detectors", calibrating, detectors, [*trained, *chosen_on])
    after = [*trained, *heard, f"detectors, seed {seed}"]
    yield step("calibrated", (*evaluating, "--detector=calibrated"), calibrated, after)
    yield step("clips", clips, [clips_file(setup, seed, cell) for cell, _ in own], trained)


def _training(setup: Setup, seed: int, name: str) -> Step:
    """A network, or one for each price."""
    network, size = NETWORKS[name], setup.size
    steps = size.adaptive_steps if network.begins_from else size.static_steps
    settings = (f"train.steps={steps}", f"train.seed={seed}", *size.settings, *network.settings)
    settings += size.adaptive if network.begins_from else ()
    workdir = _workdir(setup.out, seed, name)
    training = Training(name, seed, CONFIGS / f"{size.config}.py", settings, workdir)
    swept = network.at_prices == "trained"
    words = ["experiments.sweep" if swept else "experiments.launch"]
    words += ["--config", str(training.config), "--data", str(setup.cache)]
    words += ["--workdir", str(workdir)]
    if swept:
        words.append(f"--cost_weights={','.join(f'{price:g}' for price in PRICES)}")
    after = [setup.prepare[-1][0].rpartition(".")[2]] if setup.prepare else []
    if network.begins_from:
        words += ["--init_from", str(_workdir(setup.out, seed, network.begins_from))]
        after.append(f"{network.begins_from}, seed {seed}")
    words += [word for setting in settings for word in ("--set", setting)]
    own = [cell for cell in cells() if cell.network == name]
    folders = dict.fromkeys(folder_of(setup.out, seed, cell) for cell in own)
    leaves = tuple(folder / "checkpoints" / str(steps) for folder in folders)
    return Step(f"{name}, seed {seed}", tuple(words), leaves, tuple(after), training)


def _report(setup: Setup) -> Step:
    """The page of the first seed's networks."""
    models = [w for name in NETWORKS for w in ("--workdir", str(_workdir(setup.out, 0, name)))]
    words = ("experiments.report", *models, "--out", str(setup.out))
    after = tuple(f"{name}, seed 0" for name in ("protocol", "calibrated"))
    return Step("report", words, (setup.out / "report.html",), after)
