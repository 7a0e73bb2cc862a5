"""A black-box attack: CMA-ES (Hansen 2016, arXiv 1604.00772) over low frequencies, from scores alone.

CLIPMasterPrints (arXiv 2307.03798) searches the latent space of an image generator this way. Here no generator is
needed: the unknowns are the lowest coefficients of the change's discrete cosine transform, where a search with few
queries does best (Guo et al. 2019, arXiv 1809.08758).
"""

import math
from collections.abc import Generator
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
    orthonormal: a change of coefficients is a change of pixels of the same length, and the first candidates lie about
    at the edge of the budget (35 dB without one).

    Attributes:
        block: Frequencies per axis, at least 1; block² coefficients in each of three channels.

    Raises:
        UsageError: A value is out of its range, or the package `cma` is not installed.
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
        told: list[float | None] = [*state.losses[-1:]]
        if state.search is None:
            spread = state.constraint.radius * math.sqrt(start.numel() / math.prod(shape))
            state.search = _search(math.prod(shape), spread, state.seed)
            told = [None, *state.losses[1:]]  # None begins; the search of a resumed run is told all it knew
        for loss in told:
            candidate = state.search.send(loss)
        coefficients = torch.from_numpy(candidate).to(start).view(shape)
        torch.add(start, state.space.push(rows.T @ coefficients @ columns), out=state.space.pixels)


def _search(unknowns: int, spread: float, seed: int) -> Generator[np.ndarray, float | None, None]:
    """CMA-ES one candidate at a time: it is sent the value of each; after a generation the distribution moves."""
    generator = np.random.default_rng(seed)
    options = {"randn": lambda *shape: generator.standard_normal(shape), "seed": math.nan, "verbose": -9}
    strategy = _cma().CMAEvolutionStrategy(np.zeros(unknowns), spread, options)
    while True:
        candidates = strategy.ask()
        values = []
        for candidate in candidates:
            values.append((yield candidate))
        strategy.tell(candidates, values)


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
