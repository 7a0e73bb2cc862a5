"""Scores and gradients on the straight line from a photo to a fooled picture.

A defence that hides its gradient shows gradients that vanish on this line.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from foclip.cache import Cache
from foclip.data import images
from foclip.data.prompts import Prompts
from foclip.models.batching import figures, raw_scores
from foclip.models.scorer import Scorer
from foclip.studies.harness.context import StudyContext
from foclip.studies.harness.pictures import Picture


def gradients_along(
    context: StudyContext,
    score: Scorer,
    wanted: Prompts,
    originals: Sequence[Picture],
    fooled: Sequence[Picture],
    along: Sequence[float],
) -> list[dict[str, Any]]:
    """One row for each picture and each point of its line.

    Args:
        context: Caches the results.
        score: The score.
        wanted: The prompts. The mean over them is differentiated.
        originals: Start of each line (0).
        fooled: End of each line (1).
        along: The points, from 0 to 1.

    Returns:
        `picture`, `photo`, `along`, `score` (mean over the prompts), `gradient` (root mean square over the pixels of
        the derivative of the mean raw score with respect to a pixel in [0, 1]).
    """

    def compute(places: list[int]) -> Iterator[tuple[int, list[list[float]]]]:
        targets = score.encode_prompts(wanted)
        for place in places:
            start, end = (
                images.to_tensor(each[place].image).to(score.device).float() / 255 for each in (originals, fooled)
            )
            points = []
            for share in along:
                here = torch.lerp(start, end, share).requires_grad_(True)
                (raw,) = raw_scores(score, [score.preprocess.pixels(here[None])], [targets], 1)
                (gradient,) = torch.autograd.grad(raw.mean(), here)
                points.append([float(figures(score, raw.detach()).mean()), float(gradient.square().mean().sqrt())])
            yield place, points

    keys = [
        Cache.key("gradients", tuple(along), wanted, a.digest, b.digest, score.fingerprint, score.device.type)
        for a, b in zip(originals, fooled, strict=True)
    ]
    return [
        {"picture": picture.name, "photo": picture.photo, "along": share, "score": value, "gradient": gradient}
        for picture, points in zip(originals, context.cache.fill(keys, compute), strict=True)
        for share, (value, gradient) in zip(along, points, strict=True)
    ]
