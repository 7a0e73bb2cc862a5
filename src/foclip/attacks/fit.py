"""A close look at an iterate, as a file: is it within every budget, and where is it seen most?

FLIP or SSIM of every iterate would cost more than the iterates. So they are measured at a few steps, more often the
nearer the end, before those steps' pictures are scored: a picture that is beyond a budget is pulled back towards its
original until its 8-bit file keeps to all of them, and only such pictures can be kept. What a look tells about the
scarcest budget sets how far the iterates after it may go.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from foclip import budget
from foclip.attacks.trajectory import MOST_REACH, Trajectory
from foclip.fidelity import Comparison, Floats

#: Looks at most at one iterate; one that is beyond a budget even then gives way to the original.
LOOKS = 12
#: What a picture is pulled back to, as a share of the scarcest budget, and by how much at least.
AIM, LEAST_PULL = 0.99, 0.98
#: The mask is refined until so much of the way is left.
REFINED_UNTIL = 0.2
#: A pixel is seen too much above so many times the picture's mean FLIP.
WORST = 3.8
#: FLIP takes colour differences to the power of 0.7.
FLIP_POWER = 0.7


def is_due(lane: Trajectory) -> bool:
    """Whether this step's iterate is looked at: after and before 4, 16, 64 … steps, at the end, and when asked for."""
    if lane.step == 0 or not (lane.measured or lane.mask):
        return False
    return lane.look or _is_power_of_4(lane.step) or lane.step == lane.last or _is_power_of_4(lane.last - lane.step)


def fit(lane: Trajectory) -> None:
    """Pull an iterate into every budget; and lower the mask where it is seen most, in the first part of the way."""
    lane.look = False
    comparison = Comparison(lane.as_file(), lane.job.picture)
    left = 1 - lane.step / lane.last
    if lane.mask and left >= REFINED_UNTIL:
        if lane.measured:
            _reach(lane, budget.used(lane.measured, comparison, lane.seen))
        lane.refine(_gain(lane, comparison.map("flip")))
        if not lane.measured:
            lane.fitted = True
        return
    for _ in range(LOOKS if lane.measured else 0):
        used = budget.used(lane.measured, comparison, lane.seen)
        _reach(lane, used)
        if used <= 1:
            break
        lane.shrink(min(LEAST_PULL, AIM / used))
        comparison = Comparison(lane.as_file(), lane.job.picture)
    else:
        lane.shrink(0)
    lane.fitted = True


def _reach(lane: Trajectory, used: float) -> None:
    """How far the next iterates may go: as far as this one, over what it used of the scarcest budget."""
    assert lane.budget is not None
    change = lane.moved()
    if used > 0 and change > 0:
        lane.reach = min(MOST_REACH, AIM * change / (used * math.sqrt(lane.budget)))


def _gain(lane: Trajectory, seen: Floats) -> Tensor:
    """How much less far pixels may move from now on, (H, W): those that are seen much more than the others."""
    part = torch.from_numpy(np.ascontiguousarray(seen[lane.window]))[None, None]
    most = F.adaptive_max_pool2d(F.max_pool2d(part, 3, 1, 1), lane.original.shape[1:])[0, 0]
    return (WORST * part.mean() / most.clamp(min=1e-6)).clamp(max=1).pow(1 / FLIP_POWER).to(lane.original)


def _is_power_of_4(count: int) -> bool:
    return count > 0 and count & (count - 1) == 0 and count.bit_length() % 2 == 1
