"""Deep deterministic policy gradients (Lillicrap et al. 2016): TD3 without its three additions."""

from dataclasses import replace

from rl_markets.policies import td3
from rl_markets.policies.ddpg.parameters import DDPGParameters

SPEC = replace(
    td3.SPEC,
    name="ddpg",
    summary="deep deterministic policy gradients: off-policy, one critic; "
    "`td3` without its additions",
    parameters=DDPGParameters,
)
