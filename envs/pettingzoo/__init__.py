"""Any PettingZoo `ParallelEnv` as a market.

It is trained, checkpointed and examined as ours are, less the answer key.
"""

from rl_markets.envs.pettingzoo.parameters import ForeignParameters
from rl_markets.envs.spec import MarketSpec

SPEC = MarketSpec(
    name="pettingzoo",
    summary="any PettingZoo ParallelEnv, named by its import path",
    parameters=ForeignParameters,
    market="rl_markets.envs.pettingzoo.market:ForeignMarket",
    groups=lambda parameters: {
        group: len(kind.agents) for group, kind in parameters.layout().items()
    },
    spaces=lambda parameters: {
        group: kind.described for group, kind in parameters.layout().items()
    },
    discount="discount",
    foreign=("arguments",),
    code=lambda parameters: {"env": parameters.env},
    global_state=lambda parameters: parameters.tells_state(),
)
