"""CLIPScore, any other score, and one that says how far it can be trusted, for anyone's evaluation loop.

They are functions, and metrics of torchmetrics, which is imported when a class is first asked for. Pictures are 8-bit,
as files are; each has one caption.

>>> from skimage.data import astronaut
>>> from PIL import Image
>>> from foclip.metrics import CLIPScore
>>> metric = CLIPScore("mini")
>>> metric.update([Image.fromarray(astronaut())], ["a photo of an astronaut."])
>>> 0 <= float(metric.compute()) <= 2.5
True
"""

from typing import TYPE_CHECKING, Any

from foclip.metrics.functional import clip_score, pairwise_clip_score, robust_clip_score

if TYPE_CHECKING:
    from foclip.metrics.classes import CLIPScore, MeanScore, RobustCLIPScore

__all__ = ["CLIPScore", "MeanScore", "RobustCLIPScore", "clip_score", "pairwise_clip_score", "robust_clip_score"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from foclip.metrics import classes

    return getattr(classes, name)
