"""A market and a learner outside rl-markets, found by entry points."""
