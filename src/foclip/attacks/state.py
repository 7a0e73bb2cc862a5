"""One picture: what is asked of an attack, what it answers, and what is known in between."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from foclip.attacks.constraint import TYPICAL_CHANGE, Constraint, Stopping
from foclip.attacks.space import PixelSpace
from foclip.data.images import to_image
from foclip.data.prompts import Prompts
from foclip.errors import UsageError
from foclip.models.batching import figures, read_scores
from foclip.models.scorer import Scorer, Targets
from foclip.objective import QUANTUM
from foclip.perceptual.budget import utilisation

#: The budget's ball has its edge where the squared change is this part of the largest. Of the way to the edge, the
#: projection leaves at most this.
EDGE, MOST_RADIUS = 0.98, 0.999
#: Measurements of one iterate at most; one that is beyond a budget even then gives way to the original.
MOST_MEASUREMENTS = 12
#: What a picture is pulled back to, as a share of the scarcest budget, and by how much at least.
AIM, LEAST_PULL = 0.99, 0.98
#: A coarse look is at means of squares, of a change made of cells at least so many times as wide; their side is at most
#: that of the metric. It differs by up to a hundredth for FLIP, and by up to a fifteenth for contrast.
LARGER, COARSE = 4, {"flip": 2, "flip99": 2, "contrast": 4}
#: Below this share a budget counts as unused. By how much a picture is then pushed outwards at most; how often, where
#: looks are coarse and cost little.
UNUSED, MOST_PUSH, MOST_PUSHES = 0.97, 1.3, 4
#: What is saved of a state, besides its space, to go on later.
SAVED = (
    *("step", "last", "seconds", "stopped_by", "losses", "scores"),
    *("best", "best_loss", "memory", "radius_fraction", "measure_next"),
)


@dataclass(frozen=True, eq=False)
class AttackTask:
    """A picture to fool.

    Raises:
        UsageError: The picture is of another shape or type, or the prompts are no list of strings.
    """

    picture: Tensor  #: uint8 (3, H, W), RGB.
    prompts: Prompts  #: Its prompts; none for a score that needs none.
    tag: int = 0  #: A number by which the caller finds the task again in the result.

    def __post_init__(self) -> None:
        shape = tuple(self.picture.shape)
        if self.picture.dtype != torch.uint8 or len(shape) != 3 or shape[0] != 3 or not self.picture.numel():
            raise UsageError(f"picture: {self.picture.dtype} {shape} is not uint8 (3, H, W)")
        if not (isinstance(self.prompts, tuple | list) and all(isinstance(prompt, str) for prompt in self.prompts)):
            raise UsageError("prompts: give a list of strings")
        object.__setattr__(self, "prompts", tuple(self.prompts))

    @property
    def pixels(self) -> int:
        """Number of pixels of the picture."""
        return self.picture[0].numel()

    def digest(self, *before: object) -> "hashlib._Hash":
        """SHA-256 of what is given and of the picture."""
        digest = hashlib.sha256(repr((*before, tuple(self.picture.shape))).encode())
        digest.update(self.picture.cpu().contiguous().numpy().tobytes())
        return digest


@dataclass(frozen=True, eq=False)
class AttackResult:
    """The result for one picture."""

    task: AttackTask  #: What was asked.
    pixels: Tensor  #: uint8 (3, H, W), the best iterate within every budget.
    scores: list[float]  #: Mean figure of the 8-bit iterate over the prompts at steps 0, 1, …
    steps: int  #: Updates made.
    stopped_by: str  #: "target", "steps", "plateau" or "request"; "budget" where nothing within it beats the original.
    seconds: float  #: Time spent on this picture.


@dataclass(kw_only=True, eq=False)
class AttackState:
    """A picture under attack.

    Its method searches, in `space`; the last steps may refine (`foclip.attacks.refine`), in a space of all pixels.
    """

    task: AttackTask  #: What is asked.
    targets: Targets  #: Its prompts, encoded.
    key: str  #: Name of this work in a cache.
    seed: int  #: Made of the method's seed and the picture's content, so it differs from picture to picture.
    constraint: Constraint  #: What the picture must keep to.
    stopping: Stopping  #: When the attack ends.
    steps: int  #: Updates that are planned.
    refine_steps: int  #: How many of them, the last ones, refine.
    space: PixelSpace  #: Where the picture moves.
    #: What moves the picture in the refining steps, as `Attack.update` does before them; None until they begin.
    refine: Callable[["AttackState", Tensor], None] | None = None
    step: int = 0  #: Updates made so far.
    best: Tensor | None = None  #: Best 8-bit iterate within every budget, uint8 (3, H, W); None before step 0.
    best_loss: float = math.inf  #: Objective of `best`.
    losses: list[float] = field(default_factory=list)  #: Objective of the 8-bit iterate at every step.
    scores: list[float] = field(default_factory=list)  #: Its mean figure over the prompts, at every step.
    memory: dict[str, Tensor] = field(default_factory=dict)  #: What the method carries from step to step, by name.
    #: `Reference` of the original by the side of its cells, where a budget is measured; made when it first is.
    references: dict[int, Any] = field(default_factory=dict)
    search: Any = None  #: State of a method that cannot be saved; the method builds it again from `losses`.
    radius_fraction: float = MOST_RADIUS  #: How much of the way to the budget's edge the projection leaves, below 1.
    measure_next: bool = False  #: Whether the next iterate is measured against the budgets.
    enforced: bool = True  #: Whether this step's iterate is within every budget that must be measured.
    last: int = 0  #: The step at which the attack ends at the latest.
    seconds: float = 0.0  #: Time spent so far.
    halted: bool = False  #: Whether `stop` was called.
    stopped_by: Literal["target", "steps", "plateau", "request", ""] = ""  #: Why it ended; empty while it goes on.

    def __post_init__(self) -> None:
        self.last = self.steps
        if self.constraint.measured:
            self.radius_fraction = min(MOST_RADIUS, TYPICAL_CHANGE / self.constraint.radius)

    def preview(self) -> Tensor:
        """The next iterate as it would be written now, uint8 (3, H, W); unlike `best`, it may be beyond a budget."""
        return self.space.preview()

    def stop(self) -> None:
        """End the attack with its next step, whose iterate is measured, so that the best one so far is kept."""
        self.last, self.halted = min(self.last, self.step), True

    def saved(self) -> dict[str, Any]:
        """What is needed to go on later."""
        own = {"space": self.space.saved(), "refining": self.refine is not None}
        return own | {name: getattr(self, name) for name in SAVED}

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

    def tangent(self, direction: Tensor) -> Tensor:
        """The part of a direction that stays within the budget's ball; may change the direction in place.

        A step is against the direction. At the ball's edge what points straight out of it is taken away, since
        projection would undo it and, with it, much of the rest: the gradient there is nearly all of that kind.
        """
        if self.space.limit is None:
            return direction
        along, change, square = self.space.outward(direction)
        if square < EDGE * self._most(self.space.limit) or along >= 0:
            return direction
        return direction.sub_(change, alpha=along / square)

    def project(self) -> None:
        """Pull the picture back into the ball around its original that the budget allows."""
        if self.space.limit is None:
            return
        most, change = math.sqrt(self._most(self.space.limit) / self.space.values), self.space.change()
        if change > most:
            self.space.scale(most / change)

    def _most(self, limit: float) -> float:
        """Largest sum of squared changes that projection leaves: rounding adds QUANTUM² to their mean on average."""
        return self.radius_fraction**2 * max(limit - QUANTUM**2, limit / 4) * self.space.values

    def is_measured(self) -> bool:
        """Whether this step's iterate is measured: after 1, 4, 16, … steps, before 4, 16, …, at the end, when asked.

        Before refinement, there is no end that is near.
        """
        if self.step == 0 or not self.constraint.measured:
            return False
        left = self.last - self.step
        near = 1 < left <= (self.refine_steps or left) and _is_power_of_4(left)
        return self.measure_next or left == 0 or _is_power_of_4(self.step) or near

    def enforce_budgets(self) -> None:
        """Measure this step's iterate as a file, and pull it back towards its original until it keeps to every budget.

        Only such iterates can be kept. Near the end, one that leaves some of a budget unused is first pushed outwards.
        Where refinement is still to come, better iterates follow: but for the first, whose size is a guess, one look
        then only tells how far they may go. First looks may be coarse; only an exact one admits an iterate.
        """
        left, cell = self.last - self.step, self._coarse_cell()
        steers = self.step > 1 and left > self.refine_steps > 0 and not self.measure_next
        pushes = MOST_PUSHES if cell > 1 else 1
        self.measure_next, space = False, self.space
        for _ in range(MOST_MEASUREMENTS):
            used = self._used(cell)
            if steers:
                return
            if pushes and 0 < used < UNUSED and left <= self.last / 4:
                pushes -= 1
                space.scale(min(AIM / used, MOST_PUSH))
                self.project()
            elif used > 1:
                pushes = 0
                space.scale(min(LEAST_PULL, AIM / used))
            elif cell == 1:
                break
            else:
                pushes, cell = int(left == 0), 1
        else:
            space.scale(0)
            space.render()
        self.enforced = True

    def _coarse_cell(self) -> int:
        """Side of the squares whose means first looks are at; 1 where the change is made of too small cells."""
        side = min(COARSE.get(budget.metric, 1) for budget in self.constraint.measured)
        return side if self.space.grain >= side * LARGER else 1

    def _used(self, cell: int) -> float:
        """The share of the scarcest budget that the iterate takes, as a file. The next may go as far, over that."""
        from foclip.perceptual.fidelity import Comparison, Reference, means  # what they need takes seconds to import

        picture, space = self.space.render(), self.space
        rows, columns = region = space.region
        if cell > 1:
            picture, region = means(picture[:, rows, columns], cell), (slice(None), slice(None))
        if cell not in self.references:
            original = self.task.picture.to(picture.device)
            self.references[cell] = Reference(means(original[:, rows, columns], cell) if cell > 1 else original, cell)
        reference = self.references[cell]
        used = utilisation(self.constraint.measured, Comparison(picture, reference.original, reference), region)
        if used > 0 and (change := space.change()) > 0:
            self.radius_fraction = min(MOST_RADIUS, AIM * change / (used * self.constraint.radius))
        return used

    def _allowed(self, picture: Tensor) -> bool | None:
        """Whether the iterate, as a file, is within every budget; None if that is not known."""
        return (self.enforced or None) if (within := self.space.within(picture)) else within

    def record(self, picture: Tensor, loss: float, figure: float, scorer: Scorer) -> None:
        """Record this step's iterate, an 8-bit picture as float (3, h, w), with its objective and mean figure.

        Keep it if it is the best one allowed, and decide whether to stop; `scorer` reads the file of one at its target.
        """
        # An interrupted step may have recorded something already; it is replaced.
        self.losses[self.step :] = [loss]
        self.scores[self.step :] = [figure]
        allowed = self._allowed(picture)
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
                if self._allowed(picture) and self._reached(float(figures(scorer, raw).mean()), scorer):
                    self.best, self.best_loss, self.stopped_by = file, loss, "target"
        if self.step >= self.last and not self.stopped_by:
            self.stopped_by = "request" if self.halted else "plateau" if self.last < self.steps else "steps"
        elif self.stopping.stalled(self.losses):
            self.last = min(self.last, self.step + 1 + self.refine_steps)

    def _reached(self, figure: float, scorer: Scorer) -> bool:
        return self.stopping.reached(figure, self.scores[0], scorer.info.scale)


def _is_power_of_4(count: int) -> bool:
    return count > 0 and count & (count - 1) == 0 and count.bit_length() % 2 == 1
