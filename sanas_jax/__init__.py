"""Budgeted stochastic super-networks (BSN) and SANAS in JAX.

Pure functions over a static graph: a distribution Γ over the edges of a super-network is sampled,
the sampled architecture H is run, and a score-function gradient trades accuracy against cost.
"""
