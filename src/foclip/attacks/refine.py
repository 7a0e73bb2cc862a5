r"""Retouching: the last steps of a run make what is there less visible, at the value that the objective has.

The attack's own steps move a picture along Rᵀ of gradients, weighted by a mask that the original alone decides. What is
seen of a change, though, depends on the change: FLIP's mean grows ever slower and so is less where few pixels take all
of it, its worst places are where many small changes meet, and SSIM does not mind what is the same all over a window. So
the last steps go down the gradient of visibility V (`foclip.perceptual.loss`), in all pixels, along the tangent of the
objective L (gradient projection, Rosen 1960), and back to where L was:

.. math:: v \leftarrow \mu v + P M^T \nabla V, \qquad d = M P v, \qquad
    x \leftarrow x - \eta \, \frac{d}{\operatorname{rms}(d)} - \frac{L - L_0}{\lvert g \rvert^2} \, M g

where M is the mask, g = Mᵀ∇L, P takes away what is along g, and μ is a momentum. What that leaves unused of the
budgets, the looks (`foclip.attacks.enforce`) turn into a larger change, and L₀ is what L was at the last look.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from foclip.attacks.base import Attack
from foclip.attacks.state import MOST_REACH, AttackState
from foclip.models.preprocess import round8
from foclip.perceptual.loss import PerceptualLoss
from foclip.perceptual.mask import Mask, visible

#: First and last step η, parts of the change that is there (root mean square); they fall along a cosine.
FIRST_STEP, LAST_STEP = 0.2, 0.02
#: Momentum, μ.
MOMENTUM = 0.5
#: How much larger the change is made before: about as much as retouching makes it less visible.
AHEAD = 1.15


@dataclass(frozen=True, eq=False)
class Retouch:
    """What the part of a picture that the model sees is retouched with.

    Attributes:
        part: All channels, and rows and columns of that part.
        mask: Its mask.
        sight: What tells how visible a change of it is.
    """

    part: tuple[slice, slice, slice]
    mask: Mask
    sight: PerceptualLoss

    def step(self, lane: AttackState, gradient: Tensor, steps: int) -> None:
        """Move a picture.

        Args:
            lane: The picture, its last value in `losses`.
            gradient: The objective's, (3, H, W).
            steps: Steps of retouching in all.
        """
        memory, loss = lane.memory, lane.losses[-1]
        pixels, rise = lane.pixels[self.part], gradient[self.part]
        picture = round8(pixels)
        if "seen at first" not in memory:
            memory["seen at first"] = self.sight.terms(picture)
        if lane.fitted or "held" not in memory:
            memory["held"] = torch.tensor(loss, dtype=torch.float64)
            lane.reach = MOST_REACH  # less visible, it may be larger; the next look tells how much
        uphill = self.mask.pull(rise)
        square = uphill.square().sum().clamp(min=1e-30)

        def level(direction: Tensor) -> Tensor:
            return direction - uphill * ((uphill * direction).sum() / square)

        seen = self.mask.pull(self.sight.gradient(picture, memory["seen at first"]))
        velocity = memory.setdefault("velocity", torch.zeros_like(seen))
        velocity.mul_(MOMENTUM).add_(level(seen))
        direction = self.mask.push(level(velocity))
        size = _rms(pixels - lane.original[self.part])
        fall = 0.5 * (1 + math.cos(math.pi * (1 - (lane.last - lane.step) / steps)))
        back = self.mask.push(uphill) * ((loss - float(memory["held"])) / square)
        # Where the objective is flat, the way back would be long, and it is no longer the tangent's.
        back *= (FIRST_STEP * size / _rms(back)).clamp(max=1)
        length = size * (LAST_STEP + (FIRST_STEP - LAST_STEP) * fall)
        pixels.sub_(direction * (length / _rms(direction))).sub_(back).clamp_(0, 1)


def is_due(attack: Attack, lane: AttackState) -> bool:
    """Whether a picture's retouching begins with this step."""
    return lane.retouch is None and 0 < lane.last - lane.step <= attack.retouches(lane.job.pixels)


@torch.inference_mode(False)  # as `run` begins a picture
def begun(lane: AttackState) -> AttackState:
    """The picture as it would be written now, with all its pixels, to be retouched from now on."""
    file = lane.as_file()
    original = lane.job.picture.to(file.device).float() / 255
    ahead = torch.lerp(original, file.float() / 255, AHEAD)
    state = lane.state() | {"pixels": ahead, "memory": {}, "retouched": True}
    return with_retouch(
        AttackState(
            job=lane.job,
            key=lane.key,
            seed=lane.seed,
            original=original,
            budget=lane.budget,
            seen=lane.seen,
            scratch=torch.empty_like(original),
            measured=lane.measured,
            **state,
        )
    )


def with_retouch(lane: AttackState) -> AttackState:
    """A lane of all pixels, with all that retouching takes."""
    part = (slice(None), *lane.seen)
    seen = lane.original[part].contiguous()
    lane.retouch = Retouch(part, visible(seen), PerceptualLoss(seen))
    return lane


def _rms(values: Tensor) -> Tensor:
    return torch.as_tensor(torch.linalg.vector_norm(values) / math.sqrt(values.numel())).clamp(min=1e-30)
