"""A close look at an iterate, as a file: is it within every budget?

FLIP or SSIM of every iterate would cost more than the iterates. So they are measured at a few steps, more often the
nearer the end, before those steps' pictures are scored: a picture that is beyond a budget is pulled back towards its
original until its 8-bit file keeps to all of them, and only such pictures can be kept. What a look tells about the
scarcest budget sets how far the iterates after it may go.
"""

import math

from foclip.attacks.state import MOST_REACH, AttackState
from foclip.perceptual import budget
from foclip.perceptual.fidelity import Comparison

#: Looks at most at one iterate; one that is beyond a budget even then gives way to the original.
LOOKS = 12
#: What a picture is pulled back to, as a share of the scarcest budget, and by how much at least.
AIM, LEAST_PULL = 0.99, 0.98
#: Below which share a budget is unused, and by how much a picture is pushed outwards at most.
SPARE, MOST_PUSH = 0.97, 1.3


def is_due(lane: AttackState) -> bool:
    """Whether this step's iterate is looked at: after and before 4, 16, 64 … steps, at the end, and when asked for."""
    if lane.step == 0 or not lane.measured:
        return False
    return lane.look or _is_power_of_4(lane.step) or lane.step == lane.last or _is_power_of_4(lane.last - lane.step)


def fit(lane: AttackState) -> None:
    """Pull an iterate into every budget; near the end, push one that leaves some of it unused outwards first."""
    lane.look = False
    for look in range(LOOKS):
        used = budget.used(lane.measured, Comparison(lane.as_file(), lane.job.picture), lane.seen)
        change = lane.moved()
        if used > 0 and change > 0:  # the next ones may go as far as this one, over what it used
            assert lane.budget is not None
            lane.reach = min(MOST_REACH, AIM * change / (used * math.sqrt(lane.budget)))
        if not look and 0 < used < SPARE and lane.last - lane.step <= lane.last / 4:
            lane.scale(min(AIM / used, MOST_PUSH))
            lane.project()
        elif used <= 1:
            break
        else:
            lane.scale(min(LEAST_PULL, AIM / used))
    else:
        lane.scale(0)
        lane.as_file()
    lane.fitted = True


def _is_power_of_4(count: int) -> bool:
    return count > 0 and count & (count - 1) == 0 and count.bit_length() % 2 == 1
