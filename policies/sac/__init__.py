"""Soft actor-critic (Haarnoja et al. 2018) on replayed transitions."""

from rl_markets.policies.sac.parameters import SACParameters
from rl_markets.policies.spec import LearnerSpec

SPEC = LearnerSpec(
    name="sac",
    summary="soft actor-critic: off-policy, twin critics, entropy temperature tuned to a target",
    parameters=SACParameters,
    learner="rl_markets.policies.sac.learner:SACLearner",
    module="rl_markets.policies.sac.module:SACModule",
    metrics={
        "critic_loss": "half the mean squared error of the normalised action values, both critics",
        "policy_loss": "minus temperature times entropy and smaller action value, normalised",
        "entropy": "entropy of the raw action, nats",
        "alpha": "temperature, in units of the action values' standard deviation",
        "value_mean": "mean action value, in discounted reward",
    },
    actions=("box",),
)
