"""From the times of single steps to those of a plan's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from data_prep.command.atomic import write_json
from data_prep.command.reading import naming, read_json
from experiments.replication.plan import TEST_STREAMS, Setup, Step, cells

# Seconds that a process takes to import what it needs, and those to draw a report or a stream.
_PROCESS, _DRAWING = 6.0, 30.0
# To choose a detector on an hour: nine prices took 3 min 3 s on two hours (docs/measurements.md).
_SEARCH_PER_HOUR = 10.0
_CLIP_HOURS = 1.4  # 5,000 testing clips of a second; Speech Commands has as many


@dataclass(frozen=True)
class Rate:
    """Seconds that a kind of training takes.

    Fields:
      start: until the first step has been made: clips are read, programs compiled.
      step, validation: of all networks that are trained together.
      hour: in which one network hears an hour of stream at one price, from `validation`.
      steps, validations: how many there are.
    """

    start: float
    step: float
    validation: float
    hour: float
    steps: int
    validations: int

    @property
    def seconds(self) -> float:
        """Of the whole training."""
        return self.start + self.steps * self.step + self.validations * self.validation


Rates = Mapping[str, Rate]


def seconds_of(step: Step, setup: Setup, rates: Rates) -> float:
    """About how long a step takes that comes after the measurement."""
    size = setup.size
    if step.training:
        return _PROCESS + rates[step.training.network].seconds
    if not step.hears:
        return _PROCESS + _DRAWING
    hours = {
        "streams": TEST_STREAMS * size.test_minutes / 60,
        "search": sum(size.validation_minutes) / 60,
        "clips": _CLIP_HOURS if setup.scale != "toy" else 0.0,
    }[step.hears]
    heard = sum(rates[cell.network].hour for cell in cells())
    searched = _SEARCH_PER_HOUR * len(cells()) if step.hears == "search" else 0.0
    return _PROCESS + hours * (heard + searched)


def total(steps: Iterable[Step], setup: Setup, rates: Rates) -> float:
    """Seconds of steps that come after the measurement."""
    return sum(seconds_of(step, setup, rates) for step in steps)


def estimate_lines(steps: Iterable[Step], setup: Setup, device: str, rates: Rates) -> list[str]:
    """How long it will take, by parts, in a few lines."""
    parts: dict[str, float] = {}
    for step in steps:
        if step.training:
            part = f"training {step.training.network}"
        else:
            part = "streams, detectors, clips, report"
        parts[part] = parts.get(part, 0.0) + seconds_of(step, setup, rates)
    lines = [f"about {spoken(sum(parts.values()))} on {device}, as fast as it was just now:"]
    for part, seconds in parts.items():
        rate = rates.get(part.removeprefix("training "))
        each = f", {rate.step:.3g} s a step" if rate else ""
        lines.append(f"  {part}: {spoken(seconds)}{each}")
    return lines


def write_estimate(path: Path, device: str, rates: Rates) -> None:
    """Keep what was measured."""
    write_json(path, {"device": device, "rates": {name: asdict(r) for name, r in rates.items()}})


def read_estimate(path: Path) -> tuple[str, dict[str, Rate]]:
    """The device, and the rate of each network."""
    found = read_json(path, "what --estimate measured")
    with naming(path, "what --estimate measured"):
        rates = {name: Rate(**values) for name, values in found["rates"].items()}
        for rate in rates.values():
            if not all(isinstance(value, float | int) for value in asdict(rate).values()):
                raise ValueError(f"{rate} where numbers stand")
        return str(found["device"]), rates


def spoken(seconds: float) -> str:
    """As hours and minutes, or seconds where there are few."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
