"""A picture under attack: where it is, what it must keep to, and what is known of it so far."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from foclip.attacks.constraint import TYPICAL_CHANGE, Constraint
from foclip.attacks.space import Space
from foclip.attacks.stopping import Stopping
from foclip.attacks.task import AttackTask
from foclip.data.images import to_image
from foclip.models.batching import figures, read_scores
from foclip.models.scorer import Scorer, Targets
from foclip.objective import QUANTUM

#: The budget's ball has its edge where the squared change is this part of the largest.
EDGE = 0.98
#: Of the way to the budget's edge, the projection leaves at most this.
MOST_RADIUS = 0.999
#: What is saved of a state, besides its space, to go on later.
SAVED = (
    "step",
    "best",
    "best_loss",
    "losses",
    "scores",
    "memory",
    "radius_fraction",
    "measure_next",
    "last",
    "phase",
    "seconds",
    "stopped_by",
)


class Mover(Protocol):
    """What moves a picture in a step: the attack's method, or a refinement."""

    def update(self, state: "AttackState", gradient: Tensor) -> None:
        """Move `state.space.pixels` in place, given the objective's gradient, (3, h, w)."""


@dataclass(kw_only=True, eq=False)
class AttackState:
    """A picture under attack.

    An attack searches first: its method moves the picture in `space`. The last steps may refine: they make the change
    less visible (`foclip.attacks.refine`), in a space of all pixels.

    Attributes:
        task: What is asked.
        targets: Its prompts, encoded.
        key: Name of this work in a cache.
        seed: Made of the method's seed and the picture's content, so it differs from picture to picture.
        constraint: What the picture must keep to.
        stopping: When the attack ends.
        steps: Updates that are planned.
        refine_steps: How many of them, the last ones, refine.
        space: Where the picture moves.
        refinement: What moves the picture in the refining steps; None before them.
        step: Updates made so far.
        phase: What this step does.
        best: Best 8-bit iterate so far that keeps to every budget, uint8 (3, H, W); None before step 0.
        best_loss: Objective of `best`.
        losses: Objective of the 8-bit iterate at every step.
        scores: Mean figure of the 8-bit iterate over the prompts, at every step.
        memory: What the method carries from step to step, by name.
        search: State of a method that cannot be saved; the method builds it again from `losses`.
        radius_fraction: How much of the way to the budget's edge the projection leaves, below 1.
        measure_next: Whether the next iterate is measured against the budgets (`foclip.attacks.enforce`).
        enforced: Whether this step's iterate is within every budget that must be measured.
        last: The step at which the attack ends at the latest.
        seconds: Time spent so far.
        stopped_by: Why it ended; empty while it goes on.
    """

    task: AttackTask
    targets: Targets
    key: str
    seed: int
    constraint: Constraint
    stopping: Stopping
    steps: int
    refine_steps: int
    space: Space
    refinement: Mover | None = None
    step: int = 0
    phase: Literal["search", "refine"] = "search"
    best: Tensor | None = None
    best_loss: float = math.inf
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    memory: dict[str, Tensor] = field(default_factory=dict)
    search: Any = None
    radius_fraction: float = MOST_RADIUS
    measure_next: bool = False
    enforced: bool = True
    last: int = 0
    seconds: float = 0.0
    stopped_by: Literal["target", "steps", "plateau", ""] = ""

    def __post_init__(self) -> None:
        self.last = self.steps
        if self.constraint.measured:
            self.radius_fraction = min(MOST_RADIUS, TYPICAL_CHANGE / self.constraint.radius)

    def preview(self) -> Tensor:
        """The picture as it would be written now, uint8 (3, H, W).

        It is the iterate of the next step: within PSNR's budgets but for rounding, and not yet measured against the
        others. `best` is the best iterate known to keep to all of them.
        """
        return self.space.preview()

    def saved(self) -> dict[str, Any]:
        """What is needed to go on later."""
        return {name: getattr(self, name) for name in SAVED} | {"space": self.space.saved()}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from what `saved` gave."""
        self.space.restore(saved["space"])
        for name in SAVED:
            setattr(self, name, saved[name])

    def buffer(self, name: str) -> Tensor:
        """The tensor of this name in `memory`; zeros of the picture's shape when first asked for."""
        if name not in self.memory:
            self.memory[name] = torch.zeros_like(self.space.original)
        return self.memory[name]

    @property
    def step_scale(self) -> float:
        """What an automatic step is multiplied by: steps are parts of the way that is left to go."""
        return self.radius_fraction if self.constraint.measured else 1.0

    def parameters(self) -> Tensor:
        """What the gradient of this step is taken with respect to: the picture, float (3, h, w)."""
        if self.step and not (self.enforced and self.constraint.measured):
            self.space.begin_step(self.step, self.last - self.step)
        return self.space.pixels

    def tangent(self, direction: Tensor) -> Tensor:
        """The part of a direction that stays within the budget's ball; may change the direction in place.

        A step is against the direction. At the ball's edge what points straight out of it is taken away, since
        projection would undo it and, with it, much of the rest: the gradient there is nearly all of that kind.
        """
        if self.space.limit is None:
            return direction
        along, change, square = self.space.outward(direction)
        return remove_outward_component(direction, along, change, square, self._most())

    def project(self) -> None:
        """Pull the picture back into the ball around its original that the budget allows."""
        if self.space.limit is None:
            return
        most, change = math.sqrt(self._most() / self.space.values), self.space.change()
        if change > most:
            self.space.scale(most / change)

    def _most(self) -> float:
        """Largest sum of squared changes that projection leaves."""
        limit = self.space.limit
        assert limit is not None
        # Rounding adds QUANTUM² to the mean squared change on average; leave room for it.
        return self.radius_fraction**2 * max(limit - QUANTUM**2, limit / 4) * self.space.values

    def allowed(self, picture: Tensor) -> bool | None:
        """Whether the iterate, as a file, is within every budget; None if that is not known."""
        return (self.enforced or None) if (within := self.space.within(picture)) else within

    def record(self, picture: Tensor, loss: float, figure: float, scorer: Scorer) -> None:
        """Record this step's iterate, keep it if it is the best one allowed, and decide whether to stop.

        Args:
            picture: The 8-bit picture that was scored, float (3, h, w).
            loss: Its objective.
            figure: Its mean figure over the prompts.
            scorer: Reads the file of a picture that has reached its target.
        """
        # An interrupted step may have recorded something already; it is replaced.
        self.losses[self.step :] = [loss]
        self.scores[self.step :] = [figure]
        allowed = self.allowed(picture)
        if allowed and loss < self.best_loss:
            self.best, self.best_loss = self.space.file(picture), loss
        if allowed is False:  # changes of nearly one size, as sign steps make, may all round up: stay further inside
            self.radius_fraction *= 0.995
        if self._reached(figure, scorer):
            if not self.enforced:
                self.measure_next = True
            elif allowed is not False:
                file = self.space.file(picture)
                (raw,) = read_scores(scorer, [scorer.preprocess.image(to_image(file))], [self.targets])
                if self.allowed(picture) and self._reached(float(figures(scorer, raw).mean()), scorer):
                    self.best, self.best_loss, self.stopped_by = file, loss, "target"
        if self.step >= self.last and not self.stopped_by:
            self.stopped_by = "plateau" if self.last < self.steps else "steps"
        elif self.stopping.stalled(self.losses):
            self.last = min(self.last, self.step + 1 + self.refine_steps)

    def _reached(self, figure: float, scorer: Scorer) -> bool:
        return self.stopping.reached(figure, self.scores[0], scorer.info.scale)


def remove_outward_component(direction: Tensor, along: float, change: Tensor, square: float, most: float) -> Tensor:
    """A direction less its part against `change`, if the square of the change is at its most.

    Args:
        direction: Any shape; changed in place.
        along: Inner product of direction and change.
        change: The change, in the direction's coordinates.
        square: Its inner product with itself.
        most: The largest that may be.
    """
    if square < EDGE * most or along >= 0:
        return direction
    return direction.sub_(change, alpha=along / square)
