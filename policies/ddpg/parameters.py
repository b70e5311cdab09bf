"""DDPG's hyper-parameters: TD3's with other defaults. Imports neither torch nor ray."""

from __future__ import annotations

from rl_markets.policies.td3.parameters import Critics, PolicyDelay, SmoothingStd, TD3Parameters


class DDPGParameters(TD3Parameters):
    """Deep deterministic policy gradients (Lillicrap et al. 2016, arXiv 1509.02971)."""

    critics: Critics = 1
    policy_delay: PolicyDelay = 1
    smoothing_std: SmoothingStd = 0.0
