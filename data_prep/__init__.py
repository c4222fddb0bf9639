"""Data on disk: find, split, decode and cache clips or images; make corpora and streams.

Nothing here imports jax or `sanas_jax`. The caches need NumPy alone, so that training and
evaluation read them on machines where neither librosa nor soundfile is installed.
"""

from data_prep.command.starting import end_quietly_until_run

end_quietly_until_run()
