"""Several scores as one, so that a picture is fooled for all of them at once."""

import hashlib
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from foclip.errors import UsageError
from foclip.scores.score import Prompts, Score


class Mean(Score):
    """The mean of the values of scores, each with its own model and preprocessing.

    Args:
        scores: M ≥ 1 scores with one scale, on one device.

    Raises:
        UsageError: There is none, or they differ in scale or device.
    """

    name = "mean"

    def __init__(self, scores: Sequence[Score]) -> None:
        if not scores:
            raise UsageError("scores: a mean needs at least one")
        if len({(score.scale, score.device) for score in scores}) > 1:
            found = ", ".join(f"{score.model}: {score.scale:g}, {score.device}" for score in scores)
            raise UsageError(f"scores: all must have one scale and be on one device ({found})")
        self.scores = tuple(scores)
        first = scores[0]
        self.scale, self.no_match, self.temperature = first.scale, first.no_match, first.temperature
        self.model = " + ".join(score.model for score in scores)
        self.device = first.device

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(" ".join(score.fingerprint for score in self.scores).encode()).hexdigest()

    def rows(self, many: int, few: int) -> int:
        return min(score.rows(many, few) for score in self.scores)

    def seen(self, height: int, width: int) -> tuple[slice, slice]:
        rows, columns = zip(*(score.seen(height, width) for score in self.scores), strict=True)
        return _around(rows), _around(columns)

    def values(self, pixels: Sequence[Tensor], prompts: Sequence[Prompts], rows: int) -> list[Tensor]:
        each = [score.values(pixels, prompts, rows) for score in self.scores]
        return [torch.stack(values).mean(dim=0) for values in zip(*each, strict=True)]

    def of_picture(self, picture: Image.Image, prompts: Prompts) -> Tensor:
        return torch.stack([score.of_picture(picture, prompts) for score in self.scores]).mean(dim=0)


def _around(ranges: Sequence[slice]) -> slice:
    return slice(min(each.start for each in ranges), max(each.stop for each in ranges))
