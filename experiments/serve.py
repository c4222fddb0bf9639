"""Watch a network listen: `python -m experiments.serve`, then open http://127.0.0.1:8765.

A local web page shows the sound, the edges of the network that run at each step, what they cost
beside the whole network, and the words. It hears the browser's microphone, a WAV that is dropped on
it, or a demo stream, and a slider tells the network its price. Everything stays on this machine.
`python -m experiments.listen --serve` is the same.

Ctrl-C ends it.
"""

from __future__ import annotations

import sys

from absl import flags

from data_prep.command.cli import run
from data_prep.command.interrupts import leave
from experiments.flags.one_model import (
    chosen_engine,
    define_address_flags,
    define_model_flags,
    define_runtime_flags,
)


def define_flags(values: flags.FlagValues) -> None:
    """The command's flags."""
    define_model_flags(values)
    define_runtime_flags(values)
    define_address_flags(values)


def main(values: flags.FlagValues) -> None:
    """Serve the page until Ctrl-C."""
    from experiments.live.page.server import serve
    from experiments.machine.jax_setup import prepare_streaming

    prepare_streaming()
    serve(values.host, values.port, lambda: chosen_engine(values))


def cli() -> None:
    """Console entry point."""
    leave(run(define_flags, main, __doc__, sys.argv, "nothing was served yet"))


if __name__ == "__main__":
    cli()
