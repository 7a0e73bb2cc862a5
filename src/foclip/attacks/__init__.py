"""Attacks on CLIP-based scores: one file each; `base` says what an attack is."""

from foclip.attacks.base import Attack, Fooled, Trajectory
from foclip.attacks.checkpoints import Checkpoints
from foclip.attacks.foclip import FoCLIP

__all__ = ["Attack", "Checkpoints", "FoCLIP", "Fooled", "Trajectory"]
