"""Attacks on CLIP-based scores: one file each; `base` says what an attack is."""

from foclip.attacks.adam import Adam
from foclip.attacks.base import Attack, Fooled, Trajectory, View
from foclip.attacks.checkpoints import Checkpoints
from foclip.attacks.cmaes import CMAES
from foclip.attacks.foclip import FoCLIP
from foclip.attacks.mifgsm import MIFGSM
from foclip.attacks.pgd import PGD
from foclip.attacks.single_prompt import SinglePrompt

#: Every attack by the name that the command line gives it.
ATTACKS: dict[str, type[Attack]] = {attack.name: attack for attack in (FoCLIP, PGD, Adam, MIFGSM, SinglePrompt, CMAES)}

__all__ = [
    "ATTACKS",
    "CMAES",
    "MIFGSM",
    "PGD",
    "Adam",
    "Attack",
    "Checkpoints",
    "FoCLIP",
    "Fooled",
    "SinglePrompt",
    "Trajectory",
    "View",
]
