"""With the learners in `rl_markets.policies`, the only code that knows RLlib's names."""
