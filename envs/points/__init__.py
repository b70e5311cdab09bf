"""A points programme: a seller grants points, a full balance is a reward (the goal gradient)."""

from rl_markets.envs.points.parameters import PointsParameters
from rl_markets.envs.spec import AgentSpaces, MarketSpec

SPEC = MarketSpec(
    name="points",
    summary="a seller grants points visit by visit; a full balance is redeemed, balances expire, a "
    "ledger counts each point",
    parameters=PointsParameters,
    market="rl_markets.envs.points.market:Points",
    answer="rl_markets.envs.points.answer.key:answer_key",
    groups=lambda parameters: {"seller": parameters.customers},
    spaces=lambda parameters: {
        "seller": AgentSpaces(
            2,
            "multidiscrete",
            numbers=2 if len(parameters.prices) > 1 else 1,
            choices=len(parameters.rates),
        )
    },
    discount="gamma",
    training_only={"exploring_starts": 0.0},
)
