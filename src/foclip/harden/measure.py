"""What hardening cost and brought: figures of an encoder on pictures it was not hardened on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from foclip.encoders import Encoder
from foclip.harden.perturb import perturb, random_start

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
            targets = original.encode_images(pictures)
            clean.append((encoder.encode_images(pictures) * targets).sum(1))
        size = pictures[0].numel()
        radius = torch.full((len(pictures),), 10 ** (-min_psnr / 20) * size**0.5, device=encoder.device)
        start = random_start(pictures, radius, torch.Generator().manual_seed(0))
        changed = perturb(encoder.encode_images, pictures, -targets, radius, start, ASCENT)
        with torch.no_grad():
            perturbed.append((encoder.encode_images(changed) * targets).sum(1))
    texts = encoder.encode_texts(prompts)
    chosen = list(levels[:attacked])
    before = _score(encoder, chosen, texts)
    after = _score(encoder, fool(encoder, chosen, texts, min_psnr, steps), texts)
    return Figures(float(torch.cat(clean).mean()), float(torch.cat(perturbed).mean()), before, after)


def fool(encoder: Encoder, pictures: Sequence[Tensor], texts: Tensor, min_psnr: float, steps: int) -> list[Tensor]:
    """Pictures (uint8) as FoCLIP fools them, in the order given."""
    from foclip.attacks import FoCLIP

    found = {
        result.index: result.pixels for result in FoCLIP(steps=steps, min_psnr=min_psnr).run(encoder, pictures, texts)
    }
    return [found[index] for index in range(len(pictures))]


@torch.no_grad()
def _score(encoder: Encoder, pictures: Sequence[Tensor], texts: Tensor) -> float:
    values = []
    for picture in pictures:
        vector = encoder.encode_images(picture[None].to(encoder.device).float() / 255)
        values.append(2.5 * (vector @ texts.T).clamp(min=0).mean())
    return float(torch.stack(values).mean())
