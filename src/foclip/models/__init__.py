"""Models: any CLIP, the small ones embedded here, and the scores over them.

>>> from foclip.models import load_encoder
>>> encoder = load_encoder("mini")
>>> encoder.encode_texts(["a photo of a goldfish."]).norm().item()  # doctest: +ELLIPSIS
1.0...
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foclip.models.encoder import Encoder
    from foclip.models.open_clip import OpenClipEncoder
    from foclip.models.registry import available, clear_cache, load, load_encoder, register, register_encoder, resolve
    from foclip.models.scorer import EmbeddingScorer, ScoreInfo, Scorer

__all__ = ["EmbeddingScorer", "Encoder", "OpenClipEncoder", "ScoreInfo", "Scorer"]
__all__ += ["available", "clear_cache", "load", "load_encoder", "register", "register_encoder", "resolve"]
#: Where names live that are not in the registry.
_HOMES = {"Encoder": "encoder", "OpenClipEncoder": "open_clip"}
_HOMES |= {"EmbeddingScorer": "scorer", "ScoreInfo": "scorer", "Scorer": "scorer"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imported when it is first asked for, since torch takes seconds.
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'registry')}"), name)
