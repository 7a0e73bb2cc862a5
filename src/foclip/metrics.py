"""CLIPScore, and a hardened one, as torchmetrics metrics for anyone's evaluation loop.

Each has a functional form beside it. Pictures are 8-bit, as files are; captions are one per picture.

>>> from skimage.data import astronaut
>>> from foclip.metrics import CLIPScore
>>> metric = CLIPScore("mini")
>>> metric.update([Image.fromarray(astronaut())], ["a photo of an astronaut."])
>>> 0 <= float(metric.compute()) <= 2.5
True
"""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchmetrics import Metric

from foclip.detection.detector import Detector, shipped
from foclip.detection.sensitivity import Sensitivity, measure
from foclip.encoders import Encoder, load
from foclip.errors import UsageError
from foclip.images import to_image
from foclip.score import SCALE

#: PIL pictures, or a tensor (B, 3, H, W): uint8, or float in [0, 1], which is rounded to 8 bits.
Pictures = Sequence[Image.Image] | Tensor


def clip_score(pictures: Pictures, captions: Sequence[str], encoder: Encoder, scale: float = SCALE) -> Tensor:
    """Mean CLIPScore w · max(cos, 0) of pictures with their captions (Hessel et al. 2021).

    Args:
        pictures: B pictures.
        captions: B captions; one that is longer than the model reads is cut, with a warning.
        encoder: The encoder.
        scale: The weight w.

    Returns:
        A scalar in [0, w].

    Raises:
        UsageError: Pictures and captions differ in number, or the tensor has another shape or type.
    """
    metric = CLIPScore(encoder, scale)
    metric.update(pictures, captions)
    return torch.as_tensor(metric.compute())


def robust_clip_score(
    pictures: Pictures,
    captions: Sequence[str],
    encoder: Encoder,
    detector: Detector | None = None,
    scale: float = SCALE,
) -> dict[str, Tensor]:
    """CLIPScore, the share of pictures flagged as fooled, and the score with those in gray.

    Args:
        pictures: B pictures.
        captions: B captions.
        encoder: The encoder.
        detector: Calibrated on that encoder; None for the one that comes with it.
        scale: The weight w.

    Returns:
        What `RobustCLIPScore.compute` returns.

    Raises:
        UsageError: As `clip_score`, or the detector belongs to another encoder.
    """
    metric = RobustCLIPScore(encoder, detector, scale)
    metric.update(pictures, captions)
    result: dict[str, Tensor] = metric.compute()
    return result


class CLIPScore(Metric):  # type: ignore[misc]  # torchmetrics is not checked here
    """Mean CLIPScore over all pictures seen.

    Args:
        encoder: An encoder or its name.
        scale: The weight w: 2.5 (Hessel et al. 2021), 100 in torchmetrics.
        **options: Those of `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, encoder: Encoder | str = "mini", scale: float = SCALE, **options: Any) -> None:
        super().__init__(**options)
        self.encoder = load(encoder) if isinstance(encoder, str) else encoder
        self.scale = scale
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, pictures: Pictures, captions: Sequence[str]) -> None:
        """Add pictures with their captions, one each."""
        for found in _measure(self.encoder, pictures, captions, ()):
            self.total += (found.score or 0.0) * self.scale / SCALE
            self.count += 1

    def compute(self) -> Tensor:
        """The mean; NaN if nothing was added."""
        return (self.total / self.count).float()


class RobustCLIPScore(Metric):  # type: ignore[misc]  # torchmetrics is not checked here
    """CLIPScore that says how far it can be trusted.

    Args:
        encoder: An encoder or its name.
        detector: Calibrated on that encoder; None for the one that comes with it.
        scale: The weight w.
        **options: Those of `torchmetrics.Metric`.

    Raises:
        UsageError: The detector belongs to another encoder, or none comes with this one.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    robust_total: Tensor
    flagged: Tensor
    count: Tensor

    def __init__(
        self,
        encoder: Encoder | str = "mini",
        detector: Detector | None = None,
        scale: float = SCALE,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.encoder = load(encoder) if isinstance(encoder, str) else encoder
        self.detector = shipped(self.encoder) if detector is None else detector
        self.detector.check(self.encoder)
        self.scale = scale
        for name in ("total", "robust_total"):
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("flagged", "count"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, pictures: Pictures, captions: Sequence[str]) -> None:
        """Add pictures with their captions, one each."""
        for found in _measure(self.encoder, pictures, captions, self.detector.transformations):
            tampered = self.detector.judge(found).verdict == "tampered"
            score = found.score or 0.0
            self.total += score * self.scale / SCALE
            self.robust_total += (found.scores["gray"] if tampered else score) * self.scale / SCALE
            self.flagged += int(tampered)
            self.count += 1

    def compute(self) -> dict[str, Tensor]:
        """Means over all pictures; NaN if nothing was added.

        Returns:
            `clip_score`: as it is; `flagged`: share of pictures called tampered;
            `robust_clip_score`: with the gray score of those in place of their score.
        """
        return {
            "clip_score": (self.total / self.count).float(),
            "flagged": self.flagged / self.count,
            "robust_clip_score": (self.robust_total / self.count).float(),
        }


def _measure(
    encoder: Encoder, pictures: Pictures, captions: Sequence[str], transformations: Sequence[str]
) -> list[Sensitivity]:
    images = _images(pictures)
    if isinstance(captions, str) or len(captions) != len(images):
        raise UsageError(f"captions: give one for each of the {len(images)} pictures, as a list")
    if not images:
        return []
    texts = encoder.encode_texts(captions)
    return measure(encoder, images, [text[None] for text in texts], transformations)


def _images(pictures: Pictures) -> list[Image.Image]:
    if not isinstance(pictures, Tensor):
        return [picture.convert("RGB") for picture in pictures]
    if pictures.ndim != 4 or pictures.shape[1] != 3:
        raise UsageError(f"pictures: shape {tuple(pictures.shape)} is not (B, 3, H, W)")
    if pictures.is_floating_point():
        pictures = (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
    if pictures.dtype != torch.uint8:
        raise UsageError(f"pictures: {pictures.dtype} is neither uint8 nor floating point")
    return [to_image(picture) for picture in pictures]
