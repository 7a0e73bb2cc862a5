r"""Refinement: the last steps of an attack make the change less visible, at the value that the objective has.

A mask that is computed from the original alone is not enough, because visibility also depends on the change itself. So
the last steps go down the gradient of visibility V (`foclip.perceptual.loss`) in all pixels, along the tangent of the
objective L (gradient projection, Rosen 1960), and back to where L was:

.. math:: v \leftarrow \mu v + P M^T \nabla V, \qquad d = M P v, \qquad
    x \leftarrow x - \eta \, \frac{d}{\operatorname{rms}(d)} - \frac{L - L_0}{\lvert g \rvert^2} \, M g

where M is the mask, g = Mᵀ∇L, P takes away the part along g, μ is a momentum, and L₀ is what L was at the last
measurement. The budgets then have room left; when they are measured, the change is made larger until it is used.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from foclip.attacks.plan import AttackPlan
from foclip.attacks.space import PixelSpace
from foclip.attacks.state import MOST_RADIUS, AttackState
from foclip.models.resize import round8
from foclip.models.surroundings import undisturbed
from foclip.perceptual.loss import PerceptualLoss
from foclip.perceptual.mask import coarse_mask

#: Most refining steps, and most cells of a picture, which are single pixels unless it is larger.
MOST_STEPS, MOST_CELLS = 20, 400_000
#: Bytes of memory that a cell takes at most.
CELL_BYTES = 700
#: First and last step η, as parts of the change that is there (root mean square); they fall along a cosine.
FIRST_STEP, LAST_STEP = 0.2, 0.02
#: Momentum, μ.
MOMENTUM = 0.5
#: How much larger the change is made before: about as much as refinement makes it less visible.
AHEAD = 1.15


def planned_steps(plan: AttackPlan) -> int:
    """Steps, the last of an attack, that refine; they need a mask and measured budgets."""
    possible = plan.constraint.mask == "visible" and plan.constraint.measured and plan.method.uses_gradient
    return min(MOST_STEPS, plan.steps // 4) if possible else 0


def is_due(state: AttackState) -> bool:
    """Whether a picture's refinement begins with this step."""
    return state.refine is None and 0 < state.last - state.step <= state.refine_steps


@undisturbed()
def begin(state: AttackState) -> None:
    """From now on, refine the picture as it would be written now, in all its pixels."""
    file = state.space.render()
    original = state.task.picture.to(file.device).float() / 255
    state.space, state.memory = PixelSpace(original, state.space.region, state.space.limit), {}
    state.space.pixels = torch.lerp(original, file.float() / 255, AHEAD)
    state.refine = Refinement(state.space).update


class Refinement:
    """What refines the part of a picture that the model sees, by cells: a large picture's are squares of its pixels.

    So a step costs the same at any size. The attack's own changes, made at the model's resolution, are no finer.
    """

    def __init__(self, space: PixelSpace) -> None:
        self._part = (slice(None), *space.region)
        original = space.original[self._part]
        height, width = original.shape[1:]
        cell = math.sqrt(max(1, height * width / MOST_CELLS))
        self._size = max(1, round(height / cell)), max(1, round(width / cell))
        self._area = height * width / (self._size[0] * self._size[1])
        self._original = self._cells(original)
        self._mask, self._texture = coarse_mask(original, self._size, finest=2)
        self._visibility = PerceptualLoss(self._original, cell)

    def _cells(self, values: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(values, self._size)

    def update(self, state: AttackState, gradient: Tensor) -> None:
        """Move a picture; arguments as for `Attack.update`."""
        memory, loss, mask = state.memory, state.losses[-1], self._mask
        pixels = state.space.pixels[self._part]
        picture = self._cells(round8(pixels))  # what rounding adds is seen too
        if "terms at first" not in memory:
            memory["terms at first"] = self._visibility.terms(picture)
        if state.enforced or "held" not in memory:
            memory["held"] = torch.tensor(loss, dtype=torch.float64)
            # Being less visible, the change may be larger; the next measurement tells how much.
            state.radius_fraction = MOST_RADIUS
        uphill = mask.pull(self._cells(gradient[self._part]) * self._area)
        square = uphill.square().sum().clamp(min=1e-30)

        def level(direction: Tensor) -> Tensor:
            return direction - uphill * ((uphill * direction).sum() / square)

        visible = mask.pull(self._visibility.gradient(picture, memory["terms at first"]))
        velocity = memory.setdefault("velocity", torch.zeros_like(visible))
        velocity.mul_(MOMENTUM).add_(level(visible))
        direction = mask.push(level(velocity))
        size = _rms(self._cells(pixels) - self._original)
        fall = 0.5 * (1 + math.cos(math.pi * (1 - (state.last - state.step) / state.refine_steps)))
        back = mask.push(uphill) * ((loss - float(memory["held"])) / square)
        # Where the objective is flat, the way back would be long, and no longer that of the tangent.
        back *= (FIRST_STEP * size / _rms(back)).clamp(max=1)
        length = size * (LAST_STEP + (FIRST_STEP - LAST_STEP) * fall)
        step = F.interpolate((direction * (length / _rms(direction)) + back)[None], pixels.shape[1:], mode="bilinear")
        pixels.sub_(step[0].mul_(self._texture)).clamp_(0, 1)


def _rms(values: Tensor) -> Tensor:
    return torch.as_tensor(torch.linalg.vector_norm(values) / math.sqrt(values.numel())).clamp(min=1e-30)
