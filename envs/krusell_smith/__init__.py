"""Krusell and Smith (1998): households with uninsured unemployment risk, and a business cycle."""

from rl_markets.envs.krusell_smith.parameters import KrusellSmithParameters
from rl_markets.envs.spec import AgentSpaces, MarketSpec

SPEC = MarketSpec(
    name="krusell_smith",
    summary="households save against unemployment while productivity switches "
    "(Krusell and Smith 1998)",
    parameters=KrusellSmithParameters,
    market="rl_markets.envs.krusell_smith.market:KrusellSmith",
    answer="rl_markets.envs.krusell_smith.answer.key:answer_key",
    groups=lambda parameters: {"households": parameters.households},
    spaces=lambda parameters: {"households": AgentSpaces(5, "box")},
    discount="beta",
    global_state=True,
    differentiable=True,
)
