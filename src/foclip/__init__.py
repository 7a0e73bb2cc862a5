"""FoCLIP: can a CLIP-based score be trusted? Fool it, measure it, catch what fooled it."""

from foclip.errors import FoclipError

__version__ = "0.1.0"
__all__ = ["FoclipError", "__version__"]
