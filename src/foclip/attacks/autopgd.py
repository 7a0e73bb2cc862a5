"""Auto-PGD (Croce and Hein 2020, arXiv 2003.01690) for the mean squared error: steps whose size nobody has to choose.

A step starts at twice the budget's radius, and is halved whenever it stops paying; the search then goes on from the
best picture so far.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from foclip.attacks.base import Attack
from foclip.attacks.state import AttackState

#: First step, in radii of the budget; α of equation 4, the weight of the new step beside that of the move before; and
#: ρ of condition 1, the share of steps that must improve, or their size is halved.
FIRST, ALPHA, RHO = 2.0, 0.75, 0.75
#: The first checkpoint, how much each period is shorter than the one before, and the shortest: shares of all steps.
PERIOD, SHORTER, SHORTEST = 0.22, 0.03, 0.06


@dataclass(frozen=True, kw_only=True)
class AutoPGD(Attack):
    r"""Projected gradient descent with momentum in the mean squared error (algorithm 1 with its L2 step).

    .. math:: z = \Pi \left(x_k - \eta \, g / \|g\|\right), \qquad
        x_{k+1} = \Pi \left(x_k + \alpha (z - x_k) + (1 - \alpha) (x_k - x_{k-1})\right)

    The norm is the root mean square over what the model sees, as a budget's is, and Π is the nearest picture within the
    budget, then within [0, 1]. Without a budget the step is that of 35 dB, and nothing holds the picture back.
    """

    name: ClassVar[str] = "apgd"

    def update(self, state: AttackState, gradient: Tensor) -> None:
        space, memory = state.space, state.memory
        pixels = space.pixels
        if state.losses[-1] == state.best_loss:
            memory["best"], memory["best gradient"] = pixels.clone(), gradient.clone()
        checkpoint = state.step in checkpoints(state.steps)
        if checkpoint or state.search is None:
            state.search = halvings(state.losses, state.steps)
        if checkpoint and state.search[-1]:
            pixels.copy_(memory["best"])
            gradient.copy_(memory["best gradient"])

        here = pixels.clone()
        seen = gradient[:, space.region[0], space.region[1]]
        inverse_rms = math.sqrt(seen.numel()) / torch.linalg.vector_norm(seen).clamp(min=1e-30)
        size = FIRST * state.constraint.radius / 2 ** sum(state.search)
        pixels.addcmul_(gradient, inverse_rms, value=-size)
        state.project()
        pixels.clamp_(0, 1)
        if state.step:
            move = torch.sub(here, memory["before"], out=space.scratch)
            pixels.lerp_(here, 1 - ALPHA).add_(move, alpha=1 - ALPHA)
            state.project()
            pixels.clamp_(0, 1)
        memory["before"] = here


@lru_cache(maxsize=64)
def checkpoints(steps: int) -> tuple[int, ...]:
    """The steps after which the step size is judged: ⌈p_j · steps⌉ of section 3.2, without 0."""
    period, at, marks = PERIOD, PERIOD, []
    while at < 1:
        marks.append(math.ceil(round(at * steps, 6)))  # the sums of float64 are a little off
        period = max(period - SHORTER, SHORTEST)
        at += period
    return tuple(marks)


def halvings(losses: list[float], steps: int) -> list[bool]:
    """Whether the step size is halved at each checkpoint that `losses` have reached.

    It is, where fewer than ρ of the steps since the last checkpoint improved the loss (condition 1), or where it was
    not halved last time and the best loss has not improved since (condition 2).
    """
    halved: list[bool] = []
    last = 0
    for mark in (mark for mark in checkpoints(steps) if mark < len(losses)):
        period = losses[last : mark + 1]
        rarely = sum(after < before for before, after in pairwise(period)) < RHO * (mark - last)
        stuck = not any(halved[-1:]) and min(period) >= min(losses[: last + 1])
        halved.append(rarely or stuck)
        last = mark
    return halved
