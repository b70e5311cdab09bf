"""Households and a government that taxes them for a public good.

After Klein, Krusell and Rios-Rull (2008).
"""

from rl_markets.envs.fiscal.parameters import FiscalParameters
from rl_markets.envs.spec import AgentSpaces, MarketSpec

SPEC = MarketSpec(
    name="fiscal",
    summary="a government taxes households for a public good while they save and work "
    "(time-consistent taxation)",
    parameters=FiscalParameters,
    market="rl_markets.envs.fiscal.market:Fiscal",
    answer="rl_markets.envs.fiscal.answer.key:answer_key",
    groups=lambda parameters: {"households": parameters.households, "government": 1},
    spaces=lambda parameters: {
        "households": AgentSpaces(5, "box", numbers=2),
        "government": AgentSpaces(3, "box"),
    },
    discount="beta",
    transparent={"episode_length": 10**6},
    calm={"sigma": 0.0},
    global_state=True,
)
