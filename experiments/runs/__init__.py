"""A run's folder at rest: description, checkpoints, results, the model in it."""
