"""Hardening: an encoder is fine-tuned so that its scores are hard to raise, without captions or labels."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foclip.hardening.harden_encoder import Hardened, harden
    from foclip.hardening.measuring import Figures
    from foclip.hardening.settings import HardenSettings
    from foclip.hardening.trainer import TrainingProgress

__all__ = ["Figures", "HardenSettings", "Hardened", "TrainingProgress", "harden"]

_HOMES = {
    "Figures": "measuring",
    "Hardened": "harden_encoder",
    "harden": "harden_encoder",
    "HardenSettings": "settings",
    "TrainingProgress": "trainer",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line's help must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
