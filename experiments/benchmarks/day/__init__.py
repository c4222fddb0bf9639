"""What `benchmarks.accelerator` is made of: its plan, its parts, what they write."""
