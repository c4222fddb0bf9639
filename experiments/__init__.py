"""Commands: everything with flags, files and clocks. The library is `sanas_jax`."""

from data_prep.command.starting import end_quietly_until_run
from experiments.machine.jax_setup import prepare_platform

end_quietly_until_run()
prepare_platform()  # XLA reads its flags when jax is first imported, so before any command does
