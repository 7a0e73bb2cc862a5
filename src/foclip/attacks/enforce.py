"""Measuring an iterate, as a file, against every budget, and pulling it back until it keeps to all of them.

FLIP or SSIM of every iterate would cost more than the iterates, so they are measured at a few steps, before the
pictures of those steps are scored. Only such pictures can be kept. The scarcest budget also tells how far the next
iterates may go.
"""

from foclip.attacks.state import MOST_RADIUS, AttackState
from foclip.perceptual.budget import utilisation
from foclip.perceptual.fidelity import Comparison

#: Measurements of one iterate at most; one that is beyond a budget even then gives way to the original.
MOST_MEASUREMENTS = 12
#: What a picture is pulled back to, as a share of the scarcest budget, and by how much at least.
AIM, LEAST_PULL = 0.99, 0.98
#: Below this share a budget counts as unused, and by how much a picture is then pushed outwards at most.
UNUSED, MOST_PUSH = 0.97, 1.3


def is_due(state: AttackState) -> bool:
    """Whether this step's iterate is measured: after and before 4, 16, 64 … steps, at the end, and when asked for."""
    if state.step == 0 or not state.constraint.measured:
        return False
    left = state.last - state.step
    return state.measure_next or left == 0 or _is_power_of_4(state.step) or _is_power_of_4(left)


def enforce_budgets(state: AttackState) -> None:
    """Pull an iterate into every budget; near the end, first push one that leaves some of it unused outwards."""
    state.measure_next = False
    constraint, space = state.constraint, state.space
    for measurement in range(MOST_MEASUREMENTS):
        comparison = Comparison(space.render(), state.task.picture)
        used, change = utilisation(constraint.measured, comparison, space.region), space.change()
        if used > 0 and change > 0:  # the next iterates may go as far as this one, over what it used
            state.radius_fraction = min(MOST_RADIUS, AIM * change / (used * constraint.radius))
        if not measurement and 0 < used < UNUSED and state.last - state.step <= state.last / 4:
            space.scale(min(AIM / used, MOST_PUSH))
            state.project()
        elif used <= 1:
            break
        else:
            space.scale(min(LEAST_PULL, AIM / used))
    else:
        space.scale(0)
        space.render()
    state.enforced = True


def _is_power_of_4(count: int) -> bool:
    return count > 0 and count & (count - 1) == 0 and count.bit_length() % 2 == 1
