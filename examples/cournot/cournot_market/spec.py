"""What is known before anything is built: names, parameters, sizes. Imports neither torch nor
ray."""

from pydantic import BaseModel, ConfigDict, Field

from rl_markets.envs.spec import AgentSpaces, MarketSpec
from rl_markets.policies.spec import GradientParameters, LearnerSpec


class CournotParameters(BaseModel):
    """Each line is the validator, the error message and the documentation of its field."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    incumbents: int = Field(2, ge=1, le=1000, description="firms with the old technology")
    entrants: int = Field(2, ge=1, le=1000, description="firms with the new technology")
    incumbent_cost: float = Field(
        2.0, ge=0, description="marginal cost of an incumbent, money per unit"
    )
    entrant_cost: float = Field(
        1.0, ge=0, description="marginal cost of an entrant, money per unit"
    )
    demand: tuple[float, float] = Field(
        (9.0, 11.0), description="interval of the demand intercept, money per unit"
    )
    episode_length: int = Field(16, ge=1, description="market days in an episode")


MARKET = MarketSpec(
    name="cournot",
    summary="firms choose quantities every day; the price clears the market",
    parameters=CournotParameters,
    market="cournot_market.market:Cournot",
    answer="cournot_market.answer:answer_key",
    groups=lambda p: {"incumbents": p.incumbents, "entrants": p.entrants},
    spaces=lambda p: dict.fromkeys(("incumbents", "entrants"), AgentSpaces(1, "box")),
    scripts=("nash",),
    global_state=True,
)


class ReinforceParameters(GradientParameters):
    """REINFORCE (Williams 1992) adds nothing to what every learner has, but the noise of its
    actions."""

    log_std: float = Field(-1.5, ge=-10, le=3, description="log standard deviation of raw actions")


LEARNER = LearnerSpec(
    name="reinforce",
    summary="REINFORCE with the batch mean as its baseline",
    parameters=ReinforceParameters,
    learner="cournot_market.learner:ReinforceLearner",
    module="cournot_market.learner:ReinforceModule",
    metrics={"policy_loss": "minus the log density of actions, weighted by what they brought"},
)
