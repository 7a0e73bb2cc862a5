r"""Refinement: the last steps of an attack make the change less visible, at the value that the objective has.

A mask that is computed from the original alone is not enough, because visibility also depends on the change itself. So
the last steps go down the gradient of visibility V, along the tangent of the objective L (gradient projection, Rosen
1960), and back to where L was:

.. math:: v \leftarrow \mu v + P M^T \nabla V, \qquad d = M P v, \qquad
    x \leftarrow x - \eta \, \frac{d}{\operatorname{rms}(K d)} - \frac{L - L_0}{\langle g, h \rangle} \, M g

where M is the mask, K d is how the pixels change along d, g = Mᵀ∇L, h = Mᵀ K ∇L, P takes away the part along g that
changes L, μ is a momentum, and L₀ is what L was at the last measurement. The budgets then have room left; when they are
measured, the change is made larger until it is used.

What is bounded decides which V is taken. With a budget of `contrast` it is `foclip.perceptual.contrast.ContrastLoss`,
which costs little, so that two steps of three refine, where the attack moves the picture anyway. Other figures go with
`foclip.perceptual.loss.PerceptualLoss`, in all pixels of the picture, or cells of a large one.
"""

import math

import torch
from torch import Tensor

from foclip.attacks.cells import CellSpace
from foclip.attacks.plan import AttackPlan
from foclip.attacks.space import ModelSpace, PixelSpace
from foclip.attacks.state import MOST_RADIUS, AttackState
from foclip.models.surroundings import undisturbed
from foclip.perceptual.contrast import ContrastLoss
from foclip.perceptual.loss import PerceptualLoss

#: Most refining steps, and their share of all steps: down V of contrast, and down that of SSIM and FLIP.
CONTRAST_STEPS, MOST_STEPS = (100, 2 / 3), (20, 1 / 4)
#: Most pixels of a picture that are cells of their own where all its pixels are refined.
MOST_CELLS = 400_000
#: Bytes of memory that a cell takes at most.
CELL_BYTES = 700
#: First and last step η, as parts of the change that is there (root mean square); they fall along a cosine.
FIRST_STEP, LAST_STEP = 0.2, 0.02
#: Momentum, μ.
MOMENTUM = 0.5
#: How much larger the change is made before: about as much as refinement makes it less visible.
AHEAD = 1.15


def bounds_contrast(plan: AttackPlan) -> bool:
    """Whether a budget of contrast decides what is refined."""
    return any(budget.metric == "contrast" for budget in plan.constraint.budgets)


def planned_steps(plan: AttackPlan) -> int:
    """Steps, the last of an attack, that refine; they need a mask and measured budgets."""
    if not (plan.constraint.mask == "visible" and plan.constraint.measured and plan.method.uses_gradient):
        return 0
    most, share = CONTRAST_STEPS if bounds_contrast(plan) else MOST_STEPS
    return min(most, int(plan.steps * share))


def stays(plan: AttackPlan, space: PixelSpace) -> bool:
    """Whether a picture is refined where the attack moves it, at the model's resolution."""
    return bounds_contrast(plan) and isinstance(space, ModelSpace)


def is_due(state: AttackState) -> bool:
    """Whether a picture's refinement begins with this step."""
    return state.refine is None and 0 < state.last - state.step <= state.refine_steps


@undisturbed()
def begin(state: AttackState, plan: AttackPlan) -> None:
    """From now on, refine the picture as it would be written now."""
    state.memory, file = {}, state.space.render()
    if not stays(plan, state.space):
        state.space = CellSpace(state.task.picture.to(file.device), file, state.space, MOST_CELLS)
    state.space.scale(AHEAD)
    state.refine = Refinement(state.space, plan).update


class Refinement:
    """What refines a picture in its space."""

    def __init__(self, space: PixelSpace, plan: AttackPlan) -> None:
        loss = ContrastLoss if bounds_contrast(plan) else PerceptualLoss
        self._original = space.coarse_original()
        self._visibility = loss(self._original, space.cell)

    def update(self, state: AttackState, gradient: Tensor) -> None:
        """Move a picture by the gradient of the objective with respect to its pixels."""
        space, memory, loss = state.space, state.memory, state.losses[-1]
        mask = space.mask
        assert mask is not None
        if state.enforced or "held" not in memory:
            memory["held"] = torch.tensor(loss, dtype=torch.float64)
            # Being less visible, the change may be larger; the next measurement tells how much.
            state.radius_fraction = MOST_RADIUS
        by_cells = space.coarse_gradient(gradient)
        uphill, rise = mask.pull(by_cells), mask.pull(space.gram(by_cells))
        slope = (rise * uphill).sum().clamp(min=1e-30)

        def level(direction: Tensor) -> Tensor:
            return direction - uphill * ((rise * direction).sum() / slope)

        picture = space.coarse_picture()  # what rounding adds is seen too
        visible = mask.pull(self._visibility.gradient(picture, memory))
        velocity = memory.setdefault("velocity", torch.zeros_like(visible))
        velocity.mul_(MOMENTUM).add_(level(visible))
        direction = mask.push(level(velocity))
        size = _rms(picture - self._original)
        fall = 0.5 * (1 + math.cos(math.pi * (1 - (state.last - state.step) / state.refine_steps)))
        back = mask.push(uphill) * ((loss - float(memory["held"])) / slope)
        # Where the objective is flat, the way back would be long, and no longer that of the tangent.
        back *= (FIRST_STEP * size / _rms(space.gram(back))).clamp(max=1)
        length = size * (LAST_STEP + (FIRST_STEP - LAST_STEP) * fall)
        space.move(direction * (length / _rms(space.gram(direction))) + back, -1)


def _rms(values: Tensor) -> Tensor:
    return torch.as_tensor(torch.linalg.vector_norm(values) / math.sqrt(values.numel())).clamp(min=1e-30)
