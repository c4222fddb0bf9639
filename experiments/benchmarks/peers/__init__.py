"""The same work in PyTorch and NumPy, to compare with."""
