"""A picture on its way in the model's small space: a step costs the same at any picture size.

Where every move is a sum of gradients, the picture is x₀ + Rᵀu with u of the model's size (`Resampler`), and what the
model sees, how far the picture has moved and how it is pulled back into its budget are sums over u. What that leaves
out is clamping to [0, 1] and rounding to 8 bits. So the picture itself is painted at some steps, more often the
smaller it is and the nearer the end: what the model sees of it, and how far it has moved, then replace what had
been reckoned, and the iterate is the 8-bit picture itself. Only such iterates can be kept.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from foclip.attacks.trajectory import Job, Trajectory
from foclip.encoders.preprocessing import round8
from foclip.encoders.resampler import Painted, Resampler
from foclip.objective import QUANTUM
from foclip.scores import Score

if TYPE_CHECKING:
    from foclip.attacks.attack import Attack

#: A picture of so many times the model's values is painted at every step, one of n times that at every nth.
PAINTED = 4


@dataclass(kw_only=True, eq=False)
class SmallTrajectory(Trajectory):
    """A picture on its way, as the model sees it.

    With the change c of the picture when it was last painted, its change now is a · c + Rᵀw; `memory` has a, w, and
    of c what the model sees of it, its square, and the u that made it.

    Attributes:
        pixels: What the model sees, float (3, h, w); may lie outside [0, 1].
        original: What the model sees of the original, float (3, h, w) in [0, 1].
        levels: The original, uint8 (3, H, W).
        resampler: R.
        painted: The picture itself, if this step's iterate is one.
    """

    levels: Tensor
    resampler: Resampler
    painted: Painted | None

    def __post_init__(self) -> None:
        self._remember(torch.zeros_like(self.original), 0.0)

    def _remember(self, u: Tensor, square: float) -> None:
        """The picture is painted with u now."""
        self.memory |= {
            "u": u,
            "w": torch.zeros_like(u),
            "a": torch.ones((), dtype=torch.float64),
            "change": self.pixels - self.original,
            "square": torch.tensor(square, dtype=torch.float64),
        }

    def leaf(self) -> Tensor:
        if self.step and not (self.fitted and self.measured):
            self.painted = None
            every = max(1, self.levels.numel() // (PAINTED * self.original.numel()))
            if self.step % every == 0 or _is_power_of_4(self.last - self.step):
                self.paint()
        return self.pixels

    def paint(self) -> Painted:
        """Paint the picture, within its budget."""
        memory = self.memory
        u = memory["u"] * float(memory["a"]) + memory["w"]
        painted = self.resampler.paint(self.levels, u)
        while not self._within(painted):
            u = u * (0.995 * math.sqrt(self._most() / painted.changed))
            painted = self.resampler.paint(self.levels, u)
        self.painted, self.pixels = painted, painted.seen
        self._remember(u, painted.moved)
        return painted

    def _most(self) -> float:
        """Largest sum of squared changes."""
        assert self.budget is not None
        return self.budget * (1 - 1e-5) * self.seen_values

    def _within(self, painted: Painted) -> bool:
        # Changes lie where the model looks, or a few cells beyond; all count as if they were seen.
        return self.budget is None or painted.changed <= self._most()

    def seen_by_model(self, leaf: Tensor) -> Tensor:
        return self.resampler.pad(round8(leaf))

    def rms(self, move: Tensor) -> Tensor:
        return ((move * self.resampler.gram(move)).sum().clamp(min=0) / self.seen_values).sqrt()

    def move(self, direction: Tensor, length: float) -> None:
        self.memory["w"].add_(self.masked(direction), alpha=length)

    @property
    def window(self) -> tuple[slice, slice]:
        return self.seen

    def as_file(self) -> Tensor:
        return self.paint().levels

    def moved(self) -> float:
        return math.sqrt(float(self.memory["square"]) / self.seen_values)

    def shrink(self, factor: float) -> None:
        for name in ("a", "w"):
            self.memory[name] *= factor

    def _pull_back(self, gain: Tensor) -> None:
        self._remember((self.memory["u"] * float(self.memory["a"]) + self.memory["w"]) * gain, 0.0)
        self.paint()

    def project(self) -> None:
        memory = self.memory
        w, a, change = memory["w"], memory["a"], memory["change"]
        seen = self.resampler.gram(w)
        if self.budget is not None:
            radius = self.reach * math.sqrt(max(self.budget - QUANTUM**2, self.budget / 4))
            scale = float(a)
            square = scale**2 * float(memory["square"]) + float((w * (seen + 2 * scale * change)).sum())
            shrink = min(1.0, radius / math.sqrt(max(square, 1e-30) / self.seen_values))
            a *= shrink
            w *= shrink
            seen *= shrink
        self.pixels = torch.add(self.original, change, alpha=float(a)).add_(seen)

    def allowed(self, picture: Tensor) -> bool | None:
        if self.painted is None:
            return None
        return False if not self._within(self.painted) else self.fitted or None

    def file(self, picture: Tensor) -> Tensor:
        return (self.painted or self.paint()).levels


def _is_power_of_4(left: int) -> bool:
    """Whether 0, 1, 4, 16 … steps are left."""
    return left == 0 or (left & (left - 1) == 0 and left.bit_length() % 2 == 1)


def small(attack: "Attack", score: Score, job: Job, common: dict[str, Any]) -> SmallTrajectory | None:
    """The picture in the model's small space; None if this attack must go through all of its pixels."""
    resampler = score.resampler(*job.picture.shape[1:]) if attack.sums_gradients and not attack.views else None
    if resampler is None:
        return None
    levels = job.picture.to(score.device)
    blank = torch.zeros(resampler.shape, device=score.device)
    painted = replace(resampler.paint(levels, blank), levels=levels)
    seen = painted.seen
    return SmallTrajectory(
        pixels=seen.clone(), original=seen, scratch=blank, levels=levels, resampler=resampler, painted=painted, **common
    )
