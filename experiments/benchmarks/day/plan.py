"""What an accelerator's day consists of, in order of worth, and what of it fits."""

from __future__ import annotations

from typing import NamedTuple

# A part that takes so many times what was expected is ended.
LATE = 1.5
TRAINING = "training"
# Packages that the train loop and what reads streams import beside those that any jax comes with.
TRAIN_LOOP = ("tqdm", "tensorboardX", "soundfile")


class Part(NamedTuple):
    """A part of the day; it runs in a process of its own.

    Fields:
      name: as `--only` and the results have it.
      seconds: that it is expected to take at full size on a recent GPU, start and compilation with
        it. None has been measured: what is begun too late is cut, and taken up by `--resume`.
      command: module and arguments of a command that leaves results as `--json`; none for a part of
        this package, for the tests and for the training.
      needs: packages beyond jax, flax, optax, orbax, numpy and absl.
      clips: whether it draws from a cache.
    """

    name: str
    seconds: float
    command: tuple[str, ...] = ()
    needs: tuple[str, ...] = TRAIN_LOOP
    clips: bool = False


_BENCHMARK = "experiments.benchmarks"
PARTS = (
    Part("machine", 25, needs=("tqdm",)),
    Part("tests", 100, needs=(*TRAIN_LOOP, "pytest")),
    Part("parity", 50),
    Part("update", 150),
    Part("budgets", 60),
    Part("dispatch", 50, clips=True),
    Part("evaluation", 40),
    Part("mixing", 20, (f"{_BENCHMARK}.augmentation",), ("tqdm",)),
    Part("features", 20, (f"{_BENCHMARK}.features", "--nolibrosa"), ("tqdm",)),
    Part(TRAINING, 30, clips=True),
)
NAMES = tuple(part.name for part in PARTS)
# Parts of this package: the command runs itself with their names.
HERE = ("machine", "parity", "update", "budgets", "dispatch", "evaluation")

# Of the default suite: what computes, in few programs.
TESTS = (
    "tests/sanas_jax/test_gates.py",
    "tests/sanas_jax/test_forward.py",
    "tests/sanas_jax/test_controller.py",
    "tests/sanas_jax/test_rollout.py",
    "tests/sanas_jax/test_masks.py",
    "tests/sanas_jax/test_estimators.py",
    "tests/sanas_jax/kernels/test_convolution.py",
    "tests/sanas_jax/kernels/test_depthwise.py",
    "tests/sanas_jax/training/test_update.py",
    "tests/sanas_jax/training/test_budgets.py",
    "tests/sanas_jax/training/test_precision.py",
    "tests/sanas_jax/data/test_variation.py",
)
TOY_TESTS = ("tests/sanas_jax/training/test_terms.py",)


def chosen(only: tuple[str, ...]) -> list[Part]:
    """The parts of these names, or all, in order of worth; ValueError for another name."""
    unknown = [name for name in only if name not in NAMES]
    if unknown:
        raise ValueError(f"--only: expected some of {', '.join(NAMES)}, got {', '.join(unknown)}")
    return [part for part in PARTS if not only or part.name in only]


def time_for(part: Part, left: float) -> float | None:
    """Seconds after which a part is ended, of those that are left; None if it does not fit."""
    if part.seconds > left:
        return None
    return left if part.name == TRAINING else min(left, LATE * part.seconds)
