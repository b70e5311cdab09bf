"""Proximal policy optimisation (Schulman et al. 2017) on whole rollouts."""

from rl_markets.policies.ppo.parameters import PPOParameters
from rl_markets.policies.spec import LearnerSpec

SPEC = LearnerSpec(
    name="ppo",
    summary="proximal policy optimisation: clipped ratios, generalised advantages, "
    "normalised values",
    parameters=PPOParameters,
    learner="rl_markets.policies.ppo.learner:PPOLearner",
    module="rl_markets.policies.ppo.module:PPOModule",
    metrics={
        "policy_loss": "clipped surrogate loss",
        "value_loss": "half the mean squared error of the normalised value",
        "value_explained": "share of the value targets' variance "
        "that the critic explained beforehand",
        "entropy": "entropy of the raw action, nats",
        "kl": "divergence of the new policy from the one that sampled, nats",
        "clipped": "share of rows whose probability ratio was clipped",
    },
)
