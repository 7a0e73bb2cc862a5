"""Hardening: an encoder's twin that is hard to fool, trained without captions or labels."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foclip.harden.measure import Figures
    from foclip.harden.run import Hardened, harden
    from foclip.harden.settings import Settings
    from foclip.harden.trainer import Progress

__all__ = ["Figures", "Hardened", "Progress", "Settings", "harden"]

_HOMES = {"Figures": "measure", "Hardened": "run", "harden": "run", "Settings": "settings", "Progress": "trainer"}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line's help must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
