"""What the service must know of a market before it is built. Imports neither torch nor ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from rl_markets.envs.registry import import_object
from rl_markets.envs.spaces import AgentSpaces as AgentSpaces  # beside the spec that holds it

if TYPE_CHECKING:
    from rl_markets.envs.answer_key import AnswerKey
    from rl_markets.envs.market import Market, TensorMarket


@dataclass(frozen=True)
class MarketSpec:
    """What the service must know of a market before it is built.

    Attributes:
        name: the name in experiment files.
        summary: one sentence for `rl-markets markets`.
        parameters: the pydantic model of `market.parameters` in the experiment file.
        market: import path `module:Class` of the `Market`; imported only when it is built.
        groups: the parameters -> group -> how many agents it has in each world, in order.
        spaces: the parameters -> group -> what its agents observe and do, so that an experiment
            whose learner cannot act there, or that no memory holds, is refused before anything is
            built; None where only the built market tells.
        discount: the parameter that holds the agents' discount factor, or None where the learner
            chooses.
        scripts: the names of the market's own rules (`Market.scripts`) that groups may follow.
        global_state: whether the market gives one, for central critics; or parameters -> whether.
        training_only: parameters that shape training and not what is judged -> their value where
            policies are judged.
        transparent: parameters -> their value where all gradients pass and episodes never end, so
            that a certificate may look for what an agent could do better (`envs.paths`,
            `envs.reactions`); None where there is no such market. It is then built in double
            precision (`dtype`).
        calm: parameters -> their value where nothing happens by chance, beside those.
        differentiable: whether learners may take gradients through it (`Market.differentiable`).
        foreign: parameters whose content is somebody else's, which no rule of ours looks into.
        code: parameters -> name of a parameter -> the import path that it holds. Whoever builds the
            market runs that code; `rl-markets check` only looks it up.
        answer: import path `module:function` of the market's judge: parameters -> `AnswerKey`, or
            None where no answer is known. A market names its judge and never imports it.
    """

    name: str
    summary: str
    parameters: type[BaseModel]
    market: str
    groups: Callable[[Any], dict[str, int]]
    discount: str | None = None
    scripts: tuple[str, ...] = ()
    training_only: Mapping[str, Any] = field(default_factory=dict)
    transparent: Mapping[str, Any] | None = None
    calm: Mapping[str, Any] = field(default_factory=dict)
    global_state: bool | Callable[[Any], bool] = False
    differentiable: bool = False
    foreign: tuple[str, ...] = ()
    code: Callable[[Any], dict[str, str]] = lambda parameters: {}
    answer: str | None = None
    spaces: Callable[[Any], dict[str, AgentSpaces]] | None = None

    def build(self, parameters: BaseModel, *, worlds: int, device: str = "cpu") -> Market:
        """Builds `worlds` parallel worlds of this market on `device`."""
        market: Market = import_object(self.market)(parameters, worlds=worlds, device=device)
        return market

    def build_transparent(
        self, parameters: BaseModel, *, worlds: int, calm: bool = False
    ) -> TensorMarket:
        """The market in double precision, all gradients passing; see `transparent` and `calm`.

        Raises:
            ValueError: where there is none.
        """
        if self.transparent is None:
            raise ValueError(f"market {self.name} names no parameters that let gradients pass")
        import torch  # only here: a spec is read without it

        changes = dict(self.transparent) | (dict(self.calm) if calm else {})
        market: TensorMarket = import_object(self.market)(
            parameters.model_copy(update=changes),
            worlds=worlds,
            dtype=torch.float64,
            stagger=False,
        )
        return market

    def gives_global_state(self, parameters: BaseModel) -> bool:
        """Whether there is one for central critics."""
        given = self.global_state
        return given(parameters) if callable(given) else given

    def answer_key(self, parameters: BaseModel) -> AnswerKey | None:
        """The known answer of this parameterisation, or None where none is known."""
        if self.answer is None:
            return None
        key: AnswerKey | None = import_object(self.answer)(parameters)
        return key
