"""Attacks on scores: `attack` says what an attack is, `run` drives every one of them."""

from foclip.attacks.adam import Adam
from foclip.attacks.autopgd import AutoPGD
from foclip.attacks.base import Attack, View
from foclip.attacks.cmaes import CMAES
from foclip.attacks.foclip import FoCLIP, SinglePrompt, objective
from foclip.attacks.loop import AttackResult, check, copies, key, lanes, run, workers
from foclip.attacks.precision import fastest
from foclip.attacks.restart import Restart
from foclip.attacks.sign import MIFGSM, PGD
from foclip.attacks.state import AttackState, AttackTask

#: Every attack by the name that the command line gives it.
ATTACKS: dict[str, type[Attack]] = {
    attack.name: attack for attack in (FoCLIP, PGD, AutoPGD, Adam, MIFGSM, SinglePrompt, CMAES)
}

__all__ = [
    "ATTACKS",
    "CMAES",
    "MIFGSM",
    "PGD",
    "Adam",
    "Attack",
    "AttackResult",
    "AttackState",
    "AttackTask",
    "AutoPGD",
    "FoCLIP",
    "Restart",
    "SinglePrompt",
    "View",
    "check",
    "copies",
    "fastest",
    "key",
    "lanes",
    "objective",
    "run",
    "workers",
]
