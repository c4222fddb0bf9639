"""Audio data on disk: find, split, decode and cache clips; make corpora and streams.

Nothing here imports jax or `sanas_jax`. `data_prep.cache` needs NumPy alone, so that training and
evaluation read a cache on machines where neither librosa nor soundfile is installed.
"""
