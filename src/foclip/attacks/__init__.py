"""Attacks on scores, in pieces: a method moves pictures, a plan says all the rest, and `run` drives every plan."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foclip.attacks.adam import Adam
    from foclip.attacks.autopgd import AutoPGD
    from foclip.attacks.base import Attack, View
    from foclip.attacks.cmaes import CMAES
    from foclip.attacks.constraint import Constraint
    from foclip.attacks.execution import Execution, fastest_precision
    from foclip.attacks.foclip import FoCLIP, SinglePrompt, objective
    from foclip.attacks.loop import bytes_needed, run
    from foclip.attacks.plan import UNNOTICED, AttackPlan, default_plan, make_plan
    from foclip.attacks.restart import Restart
    from foclip.attacks.sign import MIFGSM, PGD
    from foclip.attacks.state import AttackState
    from foclip.attacks.stopping import Stopping
    from foclip.attacks.task import AttackResult, AttackTask

    ATTACKS: dict[str, type[Attack]]

__all__ = [
    "ATTACKS",
    "CMAES",
    "MIFGSM",
    "NAMES",
    "PGD",
    "UNNOTICED",
    "Adam",
    "Attack",
    "AttackPlan",
    "AttackResult",
    "AttackState",
    "AttackTask",
    "AutoPGD",
    "Constraint",
    "Execution",
    "FoCLIP",
    "Restart",
    "SinglePrompt",
    "Stopping",
    "View",
    "bytes_needed",
    "default_plan",
    "fastest_precision",
    "make_plan",
    "objective",
    "run",
]

#: Every method by the name that the command line gives it, and its class.
_METHODS = {
    "foclip": "FoCLIP",
    "pgd": "PGD",
    "apgd": "AutoPGD",
    "adam": "Adam",
    "mifgsm": "MIFGSM",
    "single-prompt": "SinglePrompt",
    "cmaes": "CMAES",
}
#: Names of the methods, known without loading torch.
NAMES = tuple(_METHODS)

_HOMES = {
    "adam": ("Adam",),
    "autopgd": ("AutoPGD",),
    "base": ("Attack", "View"),
    "cmaes": ("CMAES",),
    "constraint": ("Constraint",),
    "execution": ("Execution", "fastest_precision"),
    "foclip": ("FoCLIP", "SinglePrompt", "objective"),
    "loop": ("bytes_needed", "run"),
    "plan": ("UNNOTICED", "AttackPlan", "default_plan", "make_plan"),
    "restart": ("Restart",),
    "sign": ("MIFGSM", "PGD"),
    "state": ("AttackState",),
    "stopping": ("Stopping",),
    "task": ("AttackResult", "AttackTask"),
}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line's help must not wait for torch."""
    if name == "ATTACKS":
        return {method: __getattr__(kind) for method, kind in _METHODS.items()}
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
