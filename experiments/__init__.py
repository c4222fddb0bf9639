"""Commands: everything with flags, files and clocks. The library is `sanas_jax`."""

from experiments.machine.jax_setup import prepare_platform

prepare_platform()  # XLA reads its flags when jax is first imported, so before any command does
