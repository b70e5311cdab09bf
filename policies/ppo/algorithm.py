"""PPO as an RLlib algorithm: RLlib's own training step over our runner and learner."""

from __future__ import annotations

from ray.rllib.algorithms.ppo import PPO, PPOConfig

from rl_markets.policies.algorithm import Housekept


class MarketPPO(Housekept, PPO):  # type: ignore[misc]
    """RLlib's PPO: sample, update, send weights back."""

    @classmethod
    def get_default_config(cls) -> PPOConfig:
        """RLlib's configuration, building this class."""
        return PPOConfig(algo_class=cls)
