"""Hardening: an encoder's twin that is hard to fool, trained without captions or labels."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foclip.hardening.harden_encoder import Hardened, harden
    from foclip.hardening.measure import Figures
    from foclip.hardening.settings import Settings
    from foclip.hardening.trainer import TrainingProgress

__all__ = ["Figures", "Hardened", "Settings", "TrainingProgress", "harden"]

_HOMES = {
    "Figures": "measure",
    "Hardened": "harden_encoder",
    "harden": "harden_encoder",
    "Settings": "settings",
    "TrainingProgress": "trainer",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line's help must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
