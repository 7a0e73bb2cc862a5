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
    from foclip.api import detect, score
    from foclip.attacks import Attack, AttackPlan, Constraint, Stopping
    from foclip.calibration.calibrating import calibrate
    from foclip.core.attacking import attack
    from foclip.data.samples import Sample
    from foclip.detection import Detector
    from foclip.hardening import harden
    from foclip.models.registry import load, load_encoder
    from foclip.models.scorer import Scorer
    from foclip.outcome import print_progress
    from foclip.perceptual.budget import Budget
    from foclip.runs.fooling import fool
    from foclip.scanning import scan

__version__ = "0.1.0"

#: Where each public name lives. It is imported when it is first asked for, since torch takes seconds.
_HOMES = {
    "Attack": "foclip.attacks",
    "AttackPlan": "foclip.attacks",
    "Budget": "foclip.perceptual.budget",
    "Constraint": "foclip.attacks",
    "Detector": "foclip.detection",
    "Sample": "foclip.data.samples",
    "Scorer": "foclip.models.scorer",
    "Stopping": "foclip.attacks",
    "attack": "foclip.core.attacking",
    "calibrate": "foclip.calibration.calibrating",
    "detect": "foclip.api",
    "fool": "foclip.runs.fooling",
    "harden": "foclip.hardening",
    "load": "foclip.models.registry",
    "load_encoder": "foclip.models.registry",
    "print_progress": "foclip.outcome",
    "scan": "foclip.scanning",
    "score": "foclip.api",
}
__all__ = [
    "Attack",
    "AttackPlan",
    "Budget",
    "Constraint",
    "Detector",
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
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
