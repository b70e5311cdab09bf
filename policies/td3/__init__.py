"""Twin delayed deep deterministic policy gradients on replayed transitions.

Fujimoto, van Hoof and Meger (2018).
"""

from rl_markets.policies.spec import LearnerSpec
from rl_markets.policies.td3.parameters import TD3Parameters

SPEC = LearnerSpec(
    name="td3",
    summary="twin delayed deterministic policy gradients: off-policy, twin critics, "
    "smoothed and delayed targets",
    parameters=TD3Parameters,
    learner="rl_markets.policies.td3.learner:TD3Learner",
    module="rl_markets.policies.td3.module:TD3Module",
    metrics={
        "critic_loss": "half the mean squared error of the normalised action values, "
        "summed over critics",
        "policy_loss": "minus the first critic's value of the actor's own action, normalised",
        "exploration_std": "standard deviation of the exploration noise on raw actions",
        "value_mean": "mean action value, in discounted reward",
    },
    actions=("box",),
)
