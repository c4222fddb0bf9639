"""Commands: everything with flags, files and clocks. The library is `sanas_jax`."""
