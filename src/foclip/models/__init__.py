"""Encoders: any CLIP that open_clip can load, and the small ones embedded here.

>>> from foclip.models import load
>>> encoder = load("mini")
>>> encoder.encode_texts(["a photo of a goldfish."]).norm().item()  # doctest: +ELLIPSIS
1.0...
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foclip.models.encoder import Encoder
    from foclip.models.open_clip import OpenClipEncoder
    from foclip.models.registry import available, load

__all__ = ["Encoder", "OpenClipEncoder", "available", "load"]
_HOMES = {"Encoder": "encoder", "OpenClipEncoder": "open_clip", "available": "registry", "load": "registry"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
