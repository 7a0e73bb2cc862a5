"""FoCLIP: can a CLIP-based score be trusted? Fool it, measure it, detect what fooled it.

>>> import foclip
>>> scorer = foclip.load("clipscore", "mini")
>>> foclip.score("cat.jpg", ["a photo of a cat."], model=scorer)  # doctest: +SKIP
>>> foclip.fool(["cat.jpg"], "artworks", out="fooled", model=scorer)  # doctest: +SKIP
>>> foclip.detect("fooled/cat.png", "artworks", model=scorer)  # doctest: +SKIP

`attack` does what `fool` does in memory, without a file.
"""

import importlib
from typing import TYPE_CHECKING, Any

from foclip.errors import FoclipError

if TYPE_CHECKING:
    from foclip.api import detect, score, score_by_several
    from foclip.attacks import Attack, AttackPlan, Constraint, Stopping
    from foclip.calibration.calibrating import calibrate
    from foclip.core.attacking import attack
    from foclip.data.samples import Sample
    from foclip.detection import Detector
    from foclip.hardening import harden
    from foclip.models.registry import load, load_encoder
    from foclip.models.scorer import Scorer
    from foclip.outcome import Failure, print_progress
    from foclip.perceptual.budget import Budget
    from foclip.runs.fooling import fool
    from foclip.scanning import scan

__version__ = "0.1.0"
__all__ = [
    "Attack",
    "AttackPlan",
    "Budget",
    "Constraint",
    "Detector",
    "Failure",
    "FoclipError",
    "Sample",
    "Scorer",
    "Stopping",
    "__version__",
    "attack",
    "calibrate",
    "detect",
    "fool",
    "harden",
    "load",
    "load_encoder",
    "print_progress",
    "scan",
    "score",
    "score_by_several",
]

#: Where public names live. They are imported when they are first asked for, since torch takes seconds.
_HOMES = {
    "foclip.api": ("detect", "score", "score_by_several"),
    "foclip.attacks": ("Attack", "AttackPlan", "Constraint", "Stopping"),
    "foclip.calibration.calibrating": ("calibrate",),
    "foclip.core.attacking": ("attack",),
    "foclip.data.samples": ("Sample",),
    "foclip.detection": ("Detector",),
    "foclip.hardening": ("harden",),
    "foclip.models.registry": ("load", "load_encoder"),
    "foclip.models.scorer": ("Scorer",),
    "foclip.outcome": ("Failure", "print_progress"),
    "foclip.perceptual.budget": ("Budget",),
    "foclip.runs.fooling": ("fool",),
    "foclip.scanning": ("scan",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
