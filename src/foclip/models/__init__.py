"""Encoders: any CLIP that open_clip can load, and the small ones embedded here.

>>> from foclip.models import load
>>> encoder = load("mini")
>>> encoder.encode_texts(["a photo of a goldfish."]).norm().item()  # doctest: +ELLIPSIS
1.0...
"""

from foclip.models.encoder import Encoder
from foclip.models.open_clip import OpenClipEncoder
from foclip.models.registry import available, load

__all__ = ["Encoder", "OpenClipEncoder", "available", "load"]
