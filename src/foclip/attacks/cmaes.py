"""A black-box attack: CMA-ES (Hansen 2016, arXiv 1604.00772) over low frequencies, from scores alone.

CLIPMasterPrints (arXiv 2307.03798) searches the latent space of an image generator this way. Here no generator is
needed: the unknowns are the lowest coefficients of the change's discrete cosine transform, where a search with few
queries does best (Guo et al. 2019, arXiv 1809.08758).
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from foclip.attacks.base import Attack
from foclip.attacks.state import AttackState
from foclip.errors import UsageError
from foclip.objective import Lowest, Objective


@dataclass(frozen=True, kw_only=True)
class CMAES(Attack):
    """Covariance matrix adaptation over a block of DCT coefficients per channel.

    A step is one query: one candidate is scored. `steps` are the queries after that of the start. The transform is
    orthonormal, so a change of coefficients is a change of pixels of the same length, and the first candidates lie
    about at the edge of the budget (35 dB without one).

    Attributes:
        block: Frequencies per axis; block² coefficients in each of three channels.

    Raises:
        UsageError: `block` is less than 1, or the package `cma` is not installed.
    """

    name: ClassVar[str] = "cmaes"
    default_steps: ClassVar[int] = 10_000
    uses_gradient: ClassVar[bool] = False

    objective: Objective = field(default_factory=Lowest)
    block: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block < 1:
            raise UsageError(f"block: {self.block} is less than 1")
        _cma()

    def update(self, state: AttackState, gradient: Tensor) -> None:
        if state.step == 0:
            state.memory["start"] = state.space.pixels.clone()
        start = state.memory["start"]
        rows, columns = (_frequencies(size, self.block, start.device) for size in start.shape[1:])
        shape = (3, len(rows), len(columns))
        told = state.losses[-1:]
        if state.search is None:
            spread = state.constraint.radius * math.sqrt(start.numel() / math.prod(shape))
            state.search = _Search(math.prod(shape), spread, state.seed)
            told = state.losses[1:]  # the search of a resumed run is told all it knew
        for loss in told:
            state.search.tell(loss)
        coefficients = torch.from_numpy(state.search.candidate()).to(start).view(shape)
        torch.add(start, state.space.push(rows.T @ coefficients @ columns), out=state.space.pixels)


class _Search:
    """CMA-ES that is asked for one candidate at a time, with random numbers of its own."""

    def __init__(self, unknowns: int, spread: float, seed: int) -> None:
        generator = np.random.default_rng(seed)
        options = {"randn": lambda *shape: generator.standard_normal(shape), "seed": math.nan, "verbose": -9}
        self._strategy = _cma().CMAEvolutionStrategy(np.zeros(unknowns), spread, options)
        self._candidates: list[np.ndarray] = self._strategy.ask()
        self._values: list[float] = []

    def candidate(self) -> np.ndarray:
        """The candidate whose value is wanted next."""
        return self._candidates[len(self._values)]

    def tell(self, value: float) -> None:
        """Take the value of `candidate`; after the last one of a generation the distribution moves."""
        self._values.append(value)
        if len(self._values) == len(self._candidates):
            self._strategy.tell(self._candidates, self._values)
            self._candidates, self._values = self._strategy.ask(), []


@lru_cache(maxsize=64)
def _frequencies(size: int, count: int, device: torch.device) -> Tensor:
    """The lowest `count` rows of the orthonormal DCT-II of `size` cells, (min(count, size), size)."""
    frequency = torch.arange(min(count, size), dtype=torch.float64)[:, None]
    cell = torch.arange(size, dtype=torch.float64)
    rows = torch.cos(math.pi * (cell + 0.5) * frequency / size) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows.float().to(device)


def _cma() -> Any:
    try:
        import cma
    except ImportError:
        raise UsageError("cmaes: needs the package cma; install it with pip install cma") from None
    return cma
