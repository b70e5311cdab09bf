"""Known answers of the points programme: the customer's decision process."""

from rl_markets.envs.points.solution.points_programme import PointsProgramme, PointsSolution

__all__ = [
    "PointsProgramme",
    "PointsSolution",
]
