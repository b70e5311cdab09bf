"""Whether a market keeps its contract: what `check --market` and the start of every run look at."""
