"""Speech: clips found, split, decoded and cached; streams with labels."""
