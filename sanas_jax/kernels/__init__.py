"""Platform choices: convolutions and windows, each by the way that is fastest there."""
