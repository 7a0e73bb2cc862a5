"""Encoders that a study hardens itself, and whether gradients vanish on the way to a fooled picture.

The encoders are trained for a few steps, on crops of every other photo: too briefly to be useful, but long enough to
show what a radius costs and what it gains. `foclip harden` does the same with any pictures and any number of steps.
"""

from collections.abc import Iterator, Sequence

import torch

from foclip import files
from foclip.cache import Cache
from foclip.data import images
from foclip.data.prompts import Prompts
from foclip.hardening import HardenSettings, harden
from foclip.models import load_encoder
from foclip.models.batching import figures, raw_scores
from foclip.models.scorer import EmbeddingScorer, Scorer
from foclip.studies.harness.context import StudyContext
from foclip.studies.harness.pictures import Picture
from foclip.studies.harness.statistics import Rows

#: Training steps of a quick run and of a full run, and pictures per step.
QUICK, FULL, BATCH = 40, 200, 16


def held_out(context: StudyContext) -> list[Picture]:
    """Pictures that are not used for training."""
    return context.pictures[1::2]


def hardened_score(context: StudyContext, min_psnr: float) -> EmbeddingScorer:
    """The score over its own encoder, hardened against changes of `min_psnr` dB, once; an `EncoderError` if it cannot.

    A run that was killed continues from its checkpoint.
    """
    apart = {picture.photo for picture in held_out(context)}
    crops = [crop for crop in context.examples if crop.photo not in apart]
    settings = HardenSettings(
        min_psnr=min_psnr,
        steps=QUICK if context.settings.quick else FULL,
        batch_size=min(BATCH, max(1, len(crops) * 3 // 4)),  # some crops are held out as well
        seed=context.settings.seed,
        precision="float32",
        keep=-1,  # the study measures how much is lost, so nothing is refused
    )
    score, device = context.score, str(context.score.device)
    name = Cache.key("hardened", score.fingerprint, [crop.digest for crop in crops], settings, score.device.type)
    folder = context.cache.path(name, "")
    if not (folder / "training.json").is_file():  # the file that is written last
        files.output_folder(folder / "pictures")
        for number, crop in enumerate(crops):
            images.write(crop.image, folder / "pictures" / f"{number:02d}.png")
        harden(score.encoder.name, [folder / "pictures"], folder, settings, device=device, attack_steps=1)
    return score.with_encoder(load_encoder(f"local-dir:{folder}", device))


def gradients_along(
    context: StudyContext,
    score: Scorer,
    wanted: Prompts,
    originals: Sequence[Picture],
    fooled: Sequence[Picture],
    along: Sequence[float],
) -> Rows:
    """Scores and gradients at some points of the straight lines from photos (0) to fooled pictures (1).

    A defence that hides its gradient shows gradients that vanish there. Each row has `picture`, `photo`, `along`,
    `score` (mean over the prompts) and `gradient` (root mean square over the pixels of the derivative of the mean raw
    score with respect to a pixel in [0, 1]).
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
