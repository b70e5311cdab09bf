"""Double DQN on replayed transitions, with a branch for each choice.

Van Hasselt, Guez and Silver (2016); the branches are those of Tavakoli et al. (2018).
"""

from rl_markets.policies.dqn.parameters import DQNParameters
from rl_markets.policies.spec import LearnerSpec

SPEC = LearnerSpec(
    name="dqn",
    summary="double DQN: off-policy, discrete choices, normalised values, "
    "exploration without a currency",
    parameters=DQNParameters,
    learner="rl_markets.policies.dqn.learner:DQNLearner",
    module="rl_markets.policies.dqn.module:DQNModule",
    metrics={
        "loss": "mean Huber loss of the normalised action values",
        "td_error": "running root mean square of the temporal-difference errors, normalised",
        "value_mean": "mean value of the actions taken, in discounted reward",
        "exploration": "the parameter of the exploration rule now",
        "explored": "share of choices that are not the greedy ones",
    },
    actions=("discrete", "multidiscrete"),
)
