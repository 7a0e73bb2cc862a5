"""Encoders: any CLIP that open_clip can load, the small ones embedded here, and ensembles of them.

>>> from foclip.encoders import load
>>> encoder = load("mini")
>>> encoder.encode_texts(["a photo of a goldfish."]).norm().item()  # doctest: +ELLIPSIS
1.0...
"""

from foclip.encoders.dual import DualEncoder
from foclip.encoders.encoder import Encoder
from foclip.encoders.ensemble import Ensemble
from foclip.encoders.names import available, load

__all__ = ["DualEncoder", "Encoder", "Ensemble", "available", "load"]
