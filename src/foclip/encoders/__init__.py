"""Encoders: any CLIP that open_clip can load, and the small ones embedded here.

>>> from foclip.encoders import load
>>> encoder = load("mini")
>>> encoder.encode_texts(["a photo of a goldfish."]).norm().item()  # doctest: +ELLIPSIS
1.0...
"""

from foclip.encoders.encoder import Encoder
from foclip.encoders.names import available, load
from foclip.encoders.open_clip import OpenClipEncoder

__all__ = ["Encoder", "OpenClipEncoder", "available", "load"]
