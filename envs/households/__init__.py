"""Heterogeneous households and one firm: the real-business-cycle economy of MARL-BC.

Source: Gabriele, Glielmo and Taboga (2025), arXiv 2510.12272.
"""

from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.spec import AgentSpaces, MarketSpec

SPEC = MarketSpec(
    name="households",
    summary="heterogeneous households consume, save and work; "
    "one firm pays them (real business cycle)",
    parameters=HouseholdsParameters,
    market="rl_markets.envs.households.market:Households",
    answer="rl_markets.envs.households.answer.choose:answer_key",
    groups=lambda parameters: parameters.group_sizes,
    spaces=lambda parameters: {
        group: AgentSpaces(7, "box", numbers=2) for group in parameters.group_sizes
    },
    discount="beta",
    transparent={"conduct": "cooperative", "episode_length": 10**6},
    calm={"sigma": 0.0},
    global_state=True,
    differentiable=True,
)
