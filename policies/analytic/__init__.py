"""Analytic policy gradients: short-horizon actor-critic through a differentiable market.

SHAC (Xu et al. 2022), with a critic of values or of co-states.
"""

from rl_markets.policies.analytic.parameters import AnalyticParameters
from rl_markets.policies.spec import LearnerSpec

SPEC = LearnerSpec(
    name="analytic",
    summary="analytic policy gradient through the market's known dynamics, "
    "with a value or a co-state critic",
    parameters=AnalyticParameters,
    learner="rl_markets.policies.analytic.learner:AnalyticLearner",
    module="rl_markets.policies.analytic.module:AnalyticModule",
    metrics={
        "objective": "discounted reward over the horizon and the critic's value of its end, "
        "a period",
        "critic_loss": "half the mean squared error of the normalised value, or co-state",
        "critic_explained": "share of the targets' variance that the critic explained beforehand",
        "gradient_norm": "norm of the actor's gradient before it is clipped",
        "saturated": "share of actions within 1 % of a bound of their box",
    },
    actions=("box",),
    differentiates=True,
)
