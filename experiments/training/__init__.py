"""Runs begun or resumed, the loop, what it writes."""
