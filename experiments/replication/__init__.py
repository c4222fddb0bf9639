"""The paper's table and figures again: what is run, how long it takes, what came of it."""
