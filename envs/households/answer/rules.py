"""The known answer of identical households as a policy of their observations, to be played.

At symmetric states it is the planner's solution. Elsewhere a household has the wealth of k instead
of K. To price takers the one shock and the one asset complete the market, so that with log utility
consumption is linear in wealth:

    c_i = c*(K, z) + (1 - beta) / (1 + b) R (k_i - K),     b c_i = w (1 - l_i),

with R, w and c* those of the symmetric state. The mean over households is c*, so that K moves as
if all had the same (Gorman). It is exact at full depreciation, else up to the shocks' variance.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl_markets.envs.households.market import (
    ACTION_HIGH,
    ACTION_LOW,
    LOG_LOADINGS,
    LOG_PRODUCTIVITY_SCALE,
)
from rl_markets.envs.households.solution import Economy

Array = NDArray[np.float64]


def linear_in_wealth(
    economy: Economy,
    share: Array,
    hours: Array,
    k: Array,
    K: Array,
    z: Array,
    kept: Array | float = 1.0,
) -> Tensor:
    """Consumption shares and labours of households with `k` among others with K.

    Args:
        economy: of all.
        share, hours: of consumption in wealth, and labour, at the symmetric states.
        k, K, z: own and mean capital, log productivity; all of one shape `[...]`.
        kept: what a flat tax leaves of incomes, `[...]`.

    Returns:
        actions `[..., 2]`.
    """
    y = np.exp(z) * (K / hours) ** economy.alpha
    R = kept * economy.alpha * y * hours / K + 1 - economy.delta
    w = kept * (1 - economy.alpha) * y
    slope = (1 - economy.beta) / (1 + economy.b) * R
    c = share * (w * hours + R * K)
    own_c = np.maximum(c + slope * (k - K), 1e-9)
    labour = np.clip(1 - economy.b * own_c / w, ACTION_LOW, ACTION_HIGH)
    own_share = np.clip(own_c / (w * labour + R * k), ACTION_LOW, ACTION_HIGH)
    return torch.from_numpy(np.stack([own_share, labour], -1)).float()


def told(observations: Tensor, features: str) -> tuple[Array, Array, Array]:
    """Own capital, mean capital and log productivity that observations tell, `[...]` each.

    The reverse of `Households.features`, and of `Fiscal.household_features`, whose columns are the
    first of these.

    Args:
        observations: `[..., 7]`, or more or fewer from the fifth column on.
        features: the market's, `log` or `raw`.
    """
    columns = observations.double().cpu().numpy()
    if features == "raw":
        return columns[..., 0], columns[..., 1], np.log(columns[..., 4])
    K = np.exp(columns[..., 1] / LOG_LOADINGS[1])
    return K * np.exp(columns[..., 0]), K, columns[..., 4] / LOG_PRODUCTIVITY_SCALE
