"""What hardening costs and gains: figures of an encoder on pictures that it was not trained on, and the model card."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foclip.attacks import AttackState, AttackTask, FoCLIP, make_plan, run
from foclip.data.prompts import ARTWORKS
from foclip.hardening.pictures import perturb, random_start
from foclip.models import Encoder
from foclip.models.batching import read_figures
from foclip.models.scores import CLIPScore
from foclip.outcome import Progress, mean
from foclip.perceptual.budget import Budget

#: Steps of the inner attack when it is used to measure.
ASCENT = 10
#: Pictures per pass.
BATCH = 32
#: Pictures that FoCLIP fools.
FOOLED = 8

CARD = """# {name}

`{original}`, hardened: its image tower was fine-tuned so that a slightly changed picture keeps the
embedding that `{original}` gives the clean one (after FARE, Schlarmann et al. 2024, arXiv 2402.12336).
Captions and labels were not used. The text tower, and so the vector of every prompt, is that of
`{original}`. open_clip loads this folder with `local-dir:PATH`.

## Figures

Means over {held_out} pictures held out from training. FoCLIP fooled {fooled} of them, white-box, with
{fooled_steps} steps within {min_psnr:g} dB, for the titles of ten artworks.

| figure | `{original}` | hardened |
|---|---:|---:|
| cosine with `{original}`, clean pictures | {before[clean_cosine]:.3f} | {after[clean_cosine]:.3f} |
| cosine with `{original}` on the clean picture, after a change of {min_psnr:g} dB away from it | \
{before[perturbed_cosine]:.3f} | {after[perturbed_cosine]:.3f} |
| CLIPScore, clean | {before[score]:.3f} | {after[score]:.3f} |
| CLIPScore, fooled | {before[fooled]:.3f} | {after[fooled]:.3f} |
| **score gain** | {before[rise]:.3f} | {after[rise]:.3f} |

These figures compare the two under one moderate attack. They prove nothing about a longer attack, a
larger change, or an attack of another kind.

## How it was made

{pictures:,} pictures ({sources}), {steps:,} steps of {batch_size} ({epochs:.1f} epochs), changes up to {min_psnr:g} dB
(each picture's own radius between {least:.0%} and 100 % of it), {ascent} step(s) of projected gradient ascent from a
random start, {aimed:.0%} of the pictures pushed towards a text (the captions of ImageNet's classes), the others away
from their own embedding; AdamW, peak rate {lr:g}, falling along a cosine; {precision}. Batch normalisation kept the
original's running statistics; dropout was off. `training.json` has every setting, version and figure.
"""


@dataclass(frozen=True)
class Figures:
    """Means over held-out pictures; cosines are those with the original's embedding of the clean picture."""

    clean_cosine: float  # of the encoder's embedding of that picture
    perturbed_cosine: float  # of its embedding of the picture perturbed within the budget, in `ASCENT` steps
    score: float  # CLIPScore (w = 2.5) of clean pictures with the prompts
    fooled: float  # CLIPScore after FoCLIP fooled the encoder within the budget

    @property
    def rise(self) -> float:
        """The score gain of FoCLIP."""
        return self.fooled - self.score

    def as_json(self) -> dict[str, float]:
        return vars(self) | {"rise": self.rise}


def compare(
    original: Encoder, hardened: Encoder, levels: Tensor, min_psnr: float, steps: int, progress: Progress
) -> tuple[Figures, Figures]:
    """Figures of an encoder and of what hardening made of it, on held-out pictures, uint8 (N, 3, H, W).

    FoCLIP takes `steps` within `min_psnr` dB.
    """
    units = -(-len(levels) // BATCH) + steps
    advance = progress("measuring", 2 * units)
    before = _measure(original, original, levels, min_psnr, steps, advance)
    after = _measure(hardened, original, levels, min_psnr, steps, lambda done: advance(units + done))
    advance(2 * units)
    return before, after


def _measure(
    encoder: Encoder, original: Encoder, levels: Tensor, min_psnr: float, steps: int, advance: Callable[[float], None]
) -> Figures:
    clean, perturbed = [], []
    batches = torch.split(levels, BATCH)
    for number, batch in enumerate(batches, start=1):
        pictures = batch.to(encoder.device).float() / 255
        with torch.no_grad():
            targets = original.embed(pictures)
            clean.append((encoder.embed(pictures) * targets).sum(1))
        radius = torch.full((len(batch),), 10 ** (-min_psnr / 20) * batch[0].numel() ** 0.5, device=encoder.device)
        start = random_start(pictures, radius, torch.Generator().manual_seed(0))
        changed = perturb(encoder.embed, pictures, -targets, radius, start, ASCENT)
        with torch.no_grad():
            perturbed.append((encoder.embed(changed) * targets).sum(1))
        advance(number)
    score, chosen = CLIPScore(encoder), list(levels[:FOOLED])
    fooled: list[Tensor] = []

    def on_step(states: Sequence[AttackState]) -> None:
        done = len(fooled) * steps + sum(state.step for state in states)
        advance(len(batches) + done / len(chosen))

    plan = make_plan(FoCLIP, steps=steps, budgets=Budget("psnr", min_psnr))
    for result in run([AttackTask(picture, ARTWORKS) for picture in chosen], score, plan, on_step=on_step):
        fooled.append(result.pixels)
    targets = score.encode_prompts(ARTWORKS)
    before, after = (
        mean([mean(one) for one in read_figures(score, pictures, [targets] * len(pictures))])
        for pictures in (chosen, fooled)
    )
    return Figures(float(torch.cat(clean).mean()), float(torch.cat(perturbed).mean()), before, after)


def card(name: str, facts: dict[str, Any]) -> str:
    """The model card of a hardened encoder of this name, from the content of `training.json`."""
    settings = facts["settings"]
    epochs = settings["steps"] * settings["batch_size"] / facts["pictures"]
    return CARD.format(**settings, **facts, name=name, sources=", ".join(facts["images"]), epochs=epochs)
