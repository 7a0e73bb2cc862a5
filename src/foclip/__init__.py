"""FoCLIP: can a CLIP-based score be trusted? Fool it, measure it, catch what fooled it.

>>> import foclip
>>> encoder = foclip.load("mini")
>>> foclip.score("cat.jpg", ["a photo of a cat."], model=encoder)  # doctest: +SKIP
>>> foclip.fool(["cat.jpg"], "artworks", out="fooled", model=encoder)  # doctest: +SKIP
>>> foclip.detect("fooled/cat.png", "artworks", model=encoder)  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

from foclip.errors import FoclipError

if TYPE_CHECKING:
    from foclip.core.detecting import detect
    from foclip.core.scoring import score
    from foclip.models.registry import load_encoder as load
    from foclip.runs.fooling import fool

__version__ = "0.1.0"
__all__ = ["FoclipError", "__version__", "detect", "fool", "load", "score"]

#: Where the face's functions live; each is imported when it is first asked for, since torch takes a second.
_HOMES = {
    "detect": "foclip.core.detecting",
    "fool": "foclip.runs.fooling",
    "load": "foclip.models.registry",
    "score": "foclip.core.scoring",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
