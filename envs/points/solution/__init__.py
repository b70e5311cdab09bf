"""Known answers of points: the best rate of a visit, and the programme as a decision process.

One visit      best_points, points_profit, best_price_and_points, segment_profits;
               PriceAndPoints, Segment, TWO_SEGMENTS
A programme    PointsProgramme, PointsSolution
"""

from rl_markets.envs.points.solution.points import (
    TWO_SEGMENTS,
    PriceAndPoints,
    Segment,
    best_points,
    best_price_and_points,
    points_profit,
    segment_profits,
)
from rl_markets.envs.points.solution.points_programme import PointsProgramme, PointsSolution

__all__ = [
    "TWO_SEGMENTS",
    "PointsProgramme",
    "PointsSolution",
    "PriceAndPoints",
    "Segment",
    "best_points",
    "best_price_and_points",
    "points_profit",
    "segment_profits",
]
