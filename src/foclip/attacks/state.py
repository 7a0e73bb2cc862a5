"""One picture on its way: what is asked, how far it may go, where it is."""

import hashlib
import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from foclip.data.images import to_image
from foclip.errors import UsageError
from foclip.models.preprocess import round8
from foclip.models.scores import Prompts, Score, as_prompts
from foclip.objective import QUANTUM
from foclip.perceptual.budget import Budget
from foclip.perceptual.mask import Mask, visible

if TYPE_CHECKING:
    from foclip.attacks.base import Attack
    from foclip.attacks.refine import Retouch

#: The budget's ball has its edge where the squared change is this part of the largest.
EDGE = 0.98
#: What the objective must fall by within an attack's `patience`.
LEAST = 1e-4


@dataclass(frozen=True, eq=False)
class AttackTask:
    """A picture to fool.

    Attributes:
        picture: uint8 (3, H, W), RGB.
        prompts: Its prompts, at least one.
        tag: Whatever the caller wants to find again in the result.

    Raises:
        UsageError: The picture is of another shape or type, or there are no prompts.
    """

    picture: Tensor
    prompts: Prompts
    tag: Any = None

    def __post_init__(self) -> None:
        shaped = self.picture.ndim == 3 and self.picture.shape[0] == 3 and self.picture.numel()
        if self.picture.dtype != torch.uint8 or not shaped:
            raise UsageError(f"picture: {self.picture.dtype} {tuple(self.picture.shape)} is not uint8 (3, H, W)")
        object.__setattr__(self, "prompts", as_prompts(self.prompts))

    @property
    def pixels(self) -> int:
        """Number of pixels of the picture."""
        return self.picture[0].numel()

    def digest(self, *before: object) -> "hashlib._Hash":
        """SHA-256 of what is given and of the picture."""
        digest = hashlib.sha256(repr((*before, tuple(self.picture.shape))).encode())
        digest.update(self.picture.cpu().contiguous().numpy().tobytes())
        return digest


#: Of the way to the budget's edge, what the projection leaves at most.
MOST_REACH = 0.999


@dataclass(kw_only=True, eq=False)
class State:
    """What a picture on its way must keep to go on later.

    Attributes:
        pixels: The picture as optimised, float (3, H, W); may lie outside [0, 1].
        step: Updates made so far.
        best: Best 8-bit iterate so far, uint8 (3, H, W), or None.
        best_loss: Objective of `best`.
        losses: Objective of the 8-bit iterate at every step.
        scores: Mean figure of the 8-bit iterate over the prompts, at every step.
        memory: What the attack carries from step to step, by name.
        reach: How much of the way to the budget's edge the projection leaves, below 1.
        look: Whether the next iterate is looked at closely (`foclip.attacks.enforce`).
        last: The step at which it ends at the latest.
        retouched: Whether its retouching has begun.
        seconds: Time spent so far.
        stopped_by: Why it ended; empty while it goes on.
    """

    pixels: Tensor
    step: int = 0
    best: Tensor | None = None
    best_loss: float = math.inf
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    memory: dict[str, Tensor] = field(default_factory=dict)
    reach: float = MOST_REACH
    look: bool = False
    last: int = 0
    retouched: bool = False
    seconds: float = 0.0
    stopped_by: Literal["target", "steps", "plateau", ""] = ""


@dataclass(kw_only=True, eq=False)
class AttackState(State):
    """A picture on its way, within its budget.

    Attributes:
        job: What is asked.
        key: Name of this work in a store.
        seed: Differs from picture to picture; made of the attack's seed and the picture's content.
        original: float (3, H, W) in [0, 1].
        budget: Largest mean squared change, in [0, 1] units, of the picture as well as of what is seen of it; None for
            any.
        seen: Rows and columns that the score depends on.
        scratch: Room for one more picture; fresh memory at every step costs more than filling it.
        measured: Budgets that take a close look at the picture.
        mask: Coordinates in which the attack moves; None for the pixels' own.
        retouch: What moves it instead of the attack, in its last steps; None before.
        fitted: Whether this step's iterate is within every budget that is measured.
        search: State of an attack that cannot be saved, which it builds again from `losses`.
    """

    job: AttackTask
    key: str
    seed: int
    original: Tensor
    budget: float | None
    seen: tuple[slice, slice]
    scratch: Tensor
    measured: tuple[Budget, ...] = ()
    mask: Mask | None = None
    retouch: "Retouch | None" = None
    fitted: bool = True
    search: Any = None

    @property
    def seen_values(self) -> int:
        """Number of values (pixels times channels) of what is seen."""
        rows, columns = self.seen
        return 3 * int(rows.stop - rows.start) * int(columns.stop - columns.start)

    def state(self) -> dict[str, Any]:
        """The fields of `State`."""
        return {f.name: getattr(self, f.name) for f in fields(State)}

    def buffer(self, name: str) -> Tensor:
        """The tensor of this name in `memory`; zeros of the picture's shape when first asked for."""
        if name not in self.memory:
            self.memory[name] = torch.zeros_like(self.original)
        return self.memory[name]

    def leaf(self) -> Tensor:
        """What the gradient is taken with respect to: the picture, float (3, h, w)."""
        return self.pixels

    def seen_by_model(self, leaf: Tensor) -> Tensor:
        """The 8-bit picture that is scored, differentiably."""
        return round8(leaf)

    def move_by(self, direction: Tensor, length: float) -> None:
        """Move the picture along `direction`, as `move` does, until what is seen of it has moved by RMS `length`."""
        size = float(torch.linalg.vector_norm(direction)) / math.sqrt(self.seen_values)
        self.move(direction, length / max(size, 1e-30))

    def move(self, direction: Tensor, length: float) -> None:
        """Move the picture by `length` times `direction`, a sum of gradients with respect to the leaf."""
        self.pixels.add_(direction, alpha=length)

    def put_on_mask(self) -> None:
        """From now on move in coordinates in which every change is seen alike."""
        self.mask = visible(self.original)

    def masked(self, coordinates: Tensor) -> Tensor:
        """The change that coordinates stand for; `Attack.update` is given the gradient in such coordinates."""
        return coordinates if self.mask is None else self.mask.push(coordinates)

    @property
    def pace(self) -> float:
        """What the automatic step is multiplied by: steps are parts of the way that is left to go."""
        return self.reach if self.measured else 1.0

    def as_file(self) -> Tensor:
        """The 8-bit picture as it would be written, uint8 (3, H, W)."""
        return levels(round8(self.pixels))

    def moved(self) -> float:
        """Root mean squared change so far, as `project` counts it."""
        return float(self.change(self.pixels))

    def scale(self, factor: float) -> None:
        """Make the picture's change `factor` times as large."""
        torch.lerp(self.original, self.pixels, factor, out=self.pixels)

    def tangent(self, direction: Tensor) -> Tensor:
        """The part of a direction (of the leaf's shape) that stays within the budget's ball.

        A step is against the direction. At the ball's edge what points straight out of it is taken away (in place),
        since projection would undo it and, with it, much of the rest: the gradient there is nearly all of that kind.
        """
        if self.budget is None:
            return direction
        change = torch.sub(self.pixels, self.original, out=self.scratch)
        along, square = float((direction * change).sum()), float(torch.linalg.vector_norm(change)) ** 2
        return without(direction, along, change, square, self._most())

    def _most(self) -> float:
        """Largest sum of squared changes that projection leaves."""
        assert self.budget is not None
        # Rounding adds QUANTUM² to the mean squared change on average; leave room for it.
        return self.reach**2 * max(self.budget - QUANTUM**2, self.budget / 4) * self.seen_values

    def change(self, picture: Tensor) -> Tensor:
        """Root mean squared change of a picture (3, H, W), of the whole or of what is seen, whichever is larger.

        A model that crops sees a part only, and an attack changes nothing else: over the whole of a
        panorama, a change that mangles its middle would count for little. Uses `scratch`.
        """
        change = torch.sub(picture, self.original, out=self.scratch)
        whole = torch.linalg.vector_norm(change) / math.sqrt(change.numel())
        seen = change[:, self.seen[0], self.seen[1]]
        if seen.numel() == change.numel():
            return torch.as_tensor(whole)
        return torch.maximum(whole, torch.linalg.vector_norm(seen) / math.sqrt(seen.numel()))

    def project(self) -> None:
        """Pull the picture back into the ball around its original that the budget allows."""
        if self.budget is None:
            return
        most, change = math.sqrt(self._most() / self.seen_values), self.moved()
        if change > most:
            self.scale(most / change)

    def allowed(self, picture: Tensor) -> bool | None:
        """Whether the iterate, as a file, is within every budget; None if that is not known."""
        # A hair below the budget, so that float32 sums cannot let the file slip under min_psnr.
        if self.budget is not None and float(self.change(picture)) ** 2 > self.budget * (1 - 1e-5):
            return False
        return self.fitted or None

    def file(self, picture: Tensor) -> Tensor:
        """The iterate as a file, uint8 (3, H, W)."""
        return levels(picture)

    def judge(self, score: Score, picture: Tensor, loss: float, mean: float, attack: "Attack") -> None:
        """Record an iterate, keep it if it is the best one allowed, and decide whether to stop.

        Args:
            score: The score that is fooled.
            picture: The 8-bit picture that was scored, float (3, h, w) of whole levels / 255.
            loss: Its objective.
            mean: Its mean figure over the prompts.
            attack: What says when to stop.
        """
        # Whatever a step that was interrupted had recorded is replaced.
        self.losses[self.step :] = [loss]
        self.scores[self.step :] = [mean]
        allowed = self.allowed(picture)
        if allowed and loss < self.best_loss:
            self.best, self.best_loss = self.file(picture), loss
        if allowed is False:  # changes of nearly one size, as sign steps make, may all round up: stay further inside
            self.reach *= 0.995
        goal = attack.goal(self.scores[0])
        if goal is not None and mean >= goal and not self.fitted:
            self.look = True
        elif allowed is not False and goal is not None and mean >= goal:
            file = self.file(picture)
            read = score.of_picture(to_image(file), self.job.prompts)
            if self.allowed(picture) and score.figures(read).mean() >= goal:
                self.best, self.best_loss, self.stopped_by = file, loss, "target"
        if self.step >= self.last and not self.stopped_by:
            self.stopped_by = "plateau" if self.last < attack.steps else "steps"
        elif attack.patience and self._stalls(attack.patience):
            self.last = min(self.last, self.step + 1 + attack.retouches(self.job.pixels))

    def _stalls(self, patience: int) -> bool:
        """Whether the objective has not fallen by more than `LEAST` within the last steps."""
        before, since = self.losses[:-patience], self.losses[-patience:]
        return bool(before) and min(since) > min(before) - LEAST


def without(direction: Tensor, along: float, change: Tensor, square: float, most: float) -> Tensor:
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


def levels(picture: Tensor) -> Tensor:
    """An 8-bit picture, float in [0, 1], as uint8."""
    return (picture * 255).round().to(torch.uint8)
