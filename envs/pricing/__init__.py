"""Sellers that price catalogues: substitution, stock, seasons, deadlines, rivals.

The season of one product with a deadline is Gallego and van Ryzin's (1994).
"""

from rl_markets.envs.pricing import features
from rl_markets.envs.pricing.parameters import PricingParameters
from rl_markets.envs.spec import AgentSpaces, MarketSpec

SPEC = MarketSpec(
    name="pricing",
    summary="sellers price catalogues of products: substitution, stock, seasons, deadlines, "
    "scripted or learning rivals",
    parameters=PricingParameters,
    market="rl_markets.envs.pricing.market:Pricing",
    answer="rl_markets.envs.pricing.answer.choose:answer_key",
    groups=lambda parameters: dict(parameters.sellers),
    spaces=lambda parameters: dict.fromkeys(
        parameters.sellers,
        AgentSpaces(
            features.width(parameters),
            "multidiscrete",
            numbers=parameters.products,
            choices=len(parameters.levels),
        ),
    ),
    discount="gamma",
    training_only={"exploring_starts": 0.0},
)
