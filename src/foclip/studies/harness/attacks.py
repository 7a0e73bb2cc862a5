"""Two attacks of another kind: one perturbation for all pictures, and a crop of a picture that nobody changed.

The first is that of Moosavi-Dezfooli et al. (2017, arXiv 1610.08401), for scores. The second tells how much a score can
rise where no detector may raise an alarm: people crop pictures for honest reasons.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from foclip.data.images import to_image, to_tensor
from foclip.data.prompts import Prompts
from foclip.objective import QUANTUM
from foclip.perceptual.fidelity import fidelity
from foclip.studies.harness.context import StudyContext
from foclip.studies.harness.pictures import Picture

#: Crops of which the best is taken, and the least share of both sides that one keeps.
CROPS, LEAST_SHARE = 64, 0.9
#: Pictures of a step; length of a step in radii of the budget; and how much of the budget is used: clamping to 8 bits
#: may take a little away, and adds nothing.
BATCH, STEP, USED = 16, 0.1, 0.99


def universal_change(
    context: StudyContext, pictures: Sequence[Picture], prompts: Prompts, budget: float, steps: int
) -> Tensor:
    """The change (3, h, w) of what the encoder sees that raises the mean score of these pictures most.

    Its root mean square is that of the budget, in dB. Gradient ascent on a few pictures at a time.
    """
    score, radius = context.score, _radius(budget)

    def compute() -> Tensor:
        seen = torch.stack([score.encoder.preprocess.image(picture.image) for picture in pictures])
        seen, targets = seen.to(score.device).float() / 255, score.encode_prompts(prompts)
        draw = torch.Generator().manual_seed(context.settings.seed)
        change = torch.zeros_like(seen[0])
        for _ in range(steps):
            some = seen[torch.randperm(len(seen), generator=draw)[:BATCH].to(seen.device)]
            change.requires_grad_(True)
            raw = score.compare(score.embed((some + change).clamp(0, 1)), targets)
            (gradient,) = torch.autograd.grad(raw.mean(), change)
            change = change.detach() + gradient * (STEP * radius / _size(gradient))
            change *= min(1.0, radius / _size(change))
        return change.flatten()

    kind = f"universal {budget} {steps} {context.settings.seed} {BATCH} {STEP}"
    shape = 3, *score.encoder.preprocess.size
    return context.vector(kind, pictures, prompts, compute).view(shape)


def perturbed(context: StudyContext, picture: Picture, change: Tensor, budget: float) -> Picture:
    """A picture with the change in the part that the encoder sees, scaled to the budget there."""
    original = to_tensor(picture.image)
    rows, columns = context.score.encoder.preprocess.region(*original.shape[-2:])
    size = rows.stop - rows.start, columns.stop - columns.start
    added = functional.interpolate(change.cpu()[None], size, mode="bicubic")[0]
    pixels = original.float() / 255
    pixels[:, rows, columns] += added * (USED * _radius(budget) / _size(added))
    written = (pixels.clamp(0, 1) * 255).round().to(torch.uint8)
    return Picture(picture.name, picture.photo, to_image(written), vars(fidelity(written, original)))


def best_crop(context: StudyContext, picture: Picture, prompts: Prompts) -> Picture:
    """Of some random crops of a picture the one that scores highest, at its own size."""
    draw = random.Random(f"{context.settings.seed} {picture.name}")  # noqa: S311 (no secret)
    crops = []
    for number in range(CROPS):
        share = draw.uniform(LEAST_SHARE, 1)
        width, height = (round(share * side) for side in picture.image.size)
        left, top = draw.randint(0, picture.image.width - width), draw.randint(0, picture.image.height - height)
        image = picture.image.crop((left, top, left + width, top + height))
        crops.append(Picture(f"{picture.name} {number}", picture.photo, image))
    return replace(crops[int(context.scores(crops, prompts).mean(axis=1).argmax())], name=picture.name)


def _radius(budget: float) -> float:
    """Largest root mean squared change that rounding to 8 bits does not make larger than the budget."""
    return math.sqrt(max(10 ** (-budget / 10) - QUANTUM**2, 0.25 * 10 ** (-budget / 10)))


def _size(change: Tensor) -> float:
    return float(change.square().mean().sqrt().clamp(min=1e-30))
