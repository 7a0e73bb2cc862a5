"""Attacks on scores, in pieces: a method moves pictures, a plan says all the rest, and `run` drives every plan."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foclip.attacks.base import Attack, View
    from foclip.attacks.baselines import MIFGSM, PGD, Adam, AutoPGD
    from foclip.attacks.cmaes import CMAES
    from foclip.attacks.constraint import Constraint, Stopping
    from foclip.attacks.foclip import FoCLIP, Restart, SinglePrompt, objective
    from foclip.attacks.loop import bytes_needed, run
    from foclip.attacks.plan import UNNOTICED, AttackPlan, Execution, default_plan, fastest_precision, make_plan
    from foclip.attacks.state import AttackResult, AttackState, AttackTask

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

#: Which attacks these are, for figures that rest on fooled pictures (`foclip.runs.provenance`): one more whenever a
#: change of attacks, objectives or budgets makes other pictures than before. A test notices that (decision 0045).
REVISION = 1
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


def __getattr__(name: str) -> Any:
    """Import on first use: the command line's help must not wait for torch."""
    if name == "ATTACKS":
        return {method: __getattr__(kind) for method, kind in _METHODS.items()}
    if name in __all__:
        for module in ("state", "base", "foclip", "plan", "baselines", "cmaes", "loop"):  # from light to heavy
            if found := getattr(import_module(f"{__name__}.{module}"), name, None):
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
