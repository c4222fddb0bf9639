"""How large a day's parts are: in earnest, and to see on a CPU that they run."""

from __future__ import annotations

from typing import NamedTuple


class Scale(NamedTuple):
    """Sizes of all parts, on the network of kws_paper.

    Fields:
      changes: of its config, as `--set` takes them.
      precisions: names of `training.PRECISIONS`, the one that matters most first.
      batches: of the update, likewise.
      parity_batch: of the update that is compared with a CPU's.
      budgets: of one program.
      budgets_batch: of each of them.
      dispatches: steps of one program.
      steps: timed with each of these.
      streams, stream_seconds: of the evaluation.
      clips: to be made a word, where no cache is given.
      repeats: timed rounds.
    """

    changes: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("bfloat16", "tf32", "float32")
    batches: tuple[int, ...] = (2048, 64, 512)
    parity_batch: int = 8
    budgets: int = 8
    budgets_batch: int = 64
    dispatches: tuple[int, ...] = (1, 10, 100)
    steps: int = 200
    streams: int = 3
    stream_seconds: float = 3600.0
    clips: int = 300
    repeats: int = 5


FULL = Scale()
TOY = Scale(
    changes=(
        *("model.family=cnn-one-fpool3", "model.maps=1", "model.state_size=3", "train.samples=2"),
        *("train.steps=4", "train.eval_every=2", "train.log_every=2", "train.eval_batches=1"),
        "train.batch_size=4",
    ),
    precisions=("bfloat16",),
    batches=(4,),
    parity_batch=2,
    budgets=2,
    budgets_batch=4,
    dispatches=(1, 2),
    steps=4,
    streams=2,
    stream_seconds=10.0,
    clips=10,
    repeats=1,
)
