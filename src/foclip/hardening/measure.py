"""What hardening cost and brought: figures of an encoder on pictures it was not hardened on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from foclip.attacks import AttackTask, FoCLIP, run
from foclip.data.images import to_image
from foclip.hardening.perturb import perturb, random_start
from foclip.models import Encoder
from foclip.models.scores import CLIPScore, Prompts
from foclip.outcome import mean

#: Steps of the inner attack when it measures.
ASCENT = 10
#: Pictures per pass.
BATCH = 32


@dataclass(frozen=True)
class Figures:
    """Means over held-out pictures.

    Attributes:
        clean_cosine: Of the encoder's and the original's embeddings of clean pictures.
        perturbed_cosine: Of the encoder's embedding of pictures pushed away from where they belong, within
            the budget (`ASCENT` steps), and the original's of clean ones.
        score: Mean CLIPScore (w = 2.5) with the prompts, clean.
        fooled: The same after FoCLIP, white-box, within the budget.
    """

    clean_cosine: float
    perturbed_cosine: float
    score: float
    fooled: float

    @property
    def rise(self) -> float:
        """How far FoCLIP raises the score."""
        return self.fooled - self.score

    def as_json(self) -> dict[str, float]:
        return asdict(self) | {"rise": self.rise}


def measure(
    encoder: Encoder,
    original: Encoder,
    levels: Tensor,
    prompts: Sequence[str],
    min_psnr: float,
    attacked: int,
    steps: int,
) -> Figures:
    """Measure an encoder against the original.

    Args:
        encoder: The encoder; may be the original itself.
        original: The encoder whose embeddings of clean pictures count as right.
        levels: uint8 (N, 3, H, W), held-out pictures of the model's input size.
        prompts: What the pictures are fooled for.
        min_psnr: The budget, dB.
        attacked: How many of the pictures FoCLIP fools.
        steps: FoCLIP's steps.
    """
    clean, perturbed = [], []
    for batch in torch.split(levels, BATCH):
        pictures = batch.to(encoder.device).float() / 255
        with torch.no_grad():
            targets = original.encode_pixels(pictures)
            clean.append((encoder.encode_pixels(pictures) * targets).sum(1))
        size = pictures[0].numel()
        radius = torch.full((len(pictures),), 10 ** (-min_psnr / 20) * size**0.5, device=encoder.device)
        start = random_start(pictures, radius, torch.Generator().manual_seed(0))
        changed = perturb(encoder.encode_pixels, pictures, -targets, radius, start, ASCENT)
        with torch.no_grad():
            perturbed.append((encoder.encode_pixels(changed) * targets).sum(1))
    score, chosen = CLIPScore(encoder), list(levels[:attacked])
    attack = FoCLIP(steps=steps, min_psnr=min_psnr)
    jobs = [AttackTask(picture, tuple(prompts)) for picture in chosen]
    fooled = [result.pixels for result in run(attack, score, jobs)]
    before, after = (_mean(score, pictures, tuple(prompts)) for pictures in (chosen, fooled))
    return Figures(float(torch.cat(clean).mean()), float(torch.cat(perturbed).mean()), before, after)


def _mean(score: CLIPScore, pictures: Sequence[Tensor], prompts: Prompts) -> float:
    return mean([mean(score.read(to_image(picture), prompts)) for picture in pictures])
