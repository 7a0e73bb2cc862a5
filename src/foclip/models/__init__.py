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

#: Where each name lives; it is imported when it is first asked for, since torch takes seconds.
_HOMES = {
    "Encoder": "encoder",
    "OpenClipEncoder": "open_clip",
    "EmbeddingScorer": "scorer",
    "ScoreInfo": "scorer",
    "Scorer": "scorer",
    **dict.fromkeys(
        ("available", "clear_cache", "load", "load_encoder", "register", "register_encoder", "resolve"), "registry"
    ),
}
__all__ = [
    "EmbeddingScorer",
    "Encoder",
    "OpenClipEncoder",
    "ScoreInfo",
    "Scorer",
    "available",
    "clear_cache",
    "load",
    "load_encoder",
    "register",
    "register_encoder",
    "resolve",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
