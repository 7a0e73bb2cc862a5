"""Hardening: an encoder is fine-tuned so that its scores are hard to raise, without captions or labels."""

from foclip.hardening.harden_encoder import Hardened, harden
from foclip.hardening.measuring import Figures
from foclip.hardening.trainer import HardenSettings, TrainingProgress

__all__ = ["Figures", "HardenSettings", "Hardened", "TrainingProgress", "harden"]
