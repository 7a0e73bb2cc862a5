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

from foclip.core.detecting import predict
from foclip.data import images
from foclip.data.images import Source
from foclip.detection.detector import Detector, shipped
from foclip.detection.probes import measure
from foclip.errors import UsageError
from foclip.models import Encoder, load_encoder
from foclip.models.scores import CLIPScore as Score
from foclip.models.scores.clip import SCALE
from foclip.outcome import Failure

#: B pictures: PIL, pixels (3, H, W) or files; or a tensor (B, 3, H, W), uint8 or float in [0, 1] (rounded to 8 bits).
Pictures = Sequence[Source] | Tensor


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
        UsageError: Pictures and captions differ in number, or a picture has another shape, type or range.
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
    """CLIPScore, the share of pictures called tampered, and the score with what is left of theirs.

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
        self.score = Score(load_encoder(encoder) if isinstance(encoder, str) else encoder, scale)
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, pictures: Pictures, captions: Sequence[str]) -> None:
        """Add pictures with their captions, one each."""
        for found in measure(self.score, *_pairs(pictures, captions), ()):
            self.total += found.score or 0.0
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
        twin: The encoder's hardened twin, or its name: it scores beside, and what it does not find is reported as gap.
        **options: Those of `torchmetrics.Metric`.

    Raises:
        UsageError: The detector belongs to another encoder, or none comes with this one.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    robust_total: Tensor
    twin_total: Tensor
    tampered: Tensor
    count: Tensor

    def __init__(
        self,
        encoder: Encoder | str = "mini",
        detector: Detector | None = None,
        scale: float = SCALE,
        twin: Encoder | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.score = Score(load_encoder(encoder) if isinstance(encoder, str) else encoder, scale)
        self.detector = shipped(self.score.encoder) if detector is None else detector
        self.detector.check(self.score.encoder)
        self.twin = None if twin is None else self.score.over(load_encoder(twin) if isinstance(twin, str) else twin)
        for name in ("total", "robust_total", "twin_total"):
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("tampered", "count"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, pictures: Pictures, captions: Sequence[str]) -> None:
        """Add pictures with their captions, one each."""
        pairs = _pairs(pictures, captions)
        for found, verdict in predict(self.detector, self.score, *pairs):
            tampered = verdict.verdict == "tampered"
            score = found.score or 0.0
            self.total += score
            self.robust_total += min(found.scores.values(), default=score) if tampered else score
            self.tampered += int(tampered)
            self.count += 1
        if self.twin:
            self.twin_total += sum(found.score or 0.0 for found in measure(self.twin, *pairs, ()))

    def compute(self) -> dict[str, Tensor]:
        """Means over all pictures; NaN if nothing was added.

        Returns:
            `clip_score`: as it is; `tampered`: share of pictures called tampered;
            `robust_clip_score`: with the lowest score that a probe found in place of theirs; with a twin, `twin_score`
            and `gap`, the score minus that.
        """
        means = {
            "clip_score": (self.total / self.count).float(),
            "tampered": self.tampered / self.count,
            "robust_clip_score": (self.robust_total / self.count).float(),
        }
        if self.twin is None:
            return means
        twin_score = (self.twin_total / self.count).float()
        return means | {"twin_score": twin_score, "gap": means["clip_score"] - twin_score}


def _pairs(pictures: Pictures, captions: Sequence[str]) -> tuple[list[Image.Image], list[tuple[str, ...]]]:
    if isinstance(pictures, Tensor) and pictures.ndim != 4:
        raise UsageError(f"pictures: shape {tuple(pictures.shape)} is not (B, 3, H, W)")
    if isinstance(captions, str) or len(captions) != len(pictures):
        raise UsageError(f"captions: give one for each of the {len(pictures)} pictures, as a list")
    failures: list[Failure] = []
    read = [picture for _, picture in images.readable(list(pictures), failures)]
    if failures:
        raise UsageError(f"pictures: {failures[0].source}: {failures[0].reason}")
    return read, [(caption,) for caption in captions]
