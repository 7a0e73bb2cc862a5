"""What hardening costs and gains: figures of an encoder on pictures that it was not trained on."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from foclip.attacks import AttackState, AttackTask, FoCLIP, make_plan, run
from foclip.hardening.perturbation import perturb, random_start
from foclip.models import Encoder
from foclip.models.batching import read_figures
from foclip.models.scores import CLIPScore
from foclip.outcome import mean
from foclip.perceptual.budget import Budget

#: Steps of the inner attack when it is used to measure.
ASCENT = 10
#: Pictures per pass.
BATCH = 32


@dataclass(frozen=True)
class Figures:
    """Means over held-out pictures.

    Attributes:
        clean_cosine: Cosine of the embeddings that the encoder and the original give clean pictures.
        perturbed_cosine: Cosine of the encoder's embedding of a picture that was perturbed within the budget (`ASCENT`
            steps) with the original's embedding of the clean picture.
        score: CLIPScore (w = 2.5) of clean pictures with the prompts.
        fooled: CLIPScore after FoCLIP fooled the encoder within the budget.
    """

    clean_cosine: float
    perturbed_cosine: float
    score: float
    fooled: float

    @property
    def rise(self) -> float:
        """The score gain of FoCLIP."""
        return self.fooled - self.score

    def as_json(self) -> dict[str, float]:
        return asdict(self) | {"rise": self.rise}


def passes(pictures: int, steps: int) -> int:
    """Units of work of `measure`, for its progress."""
    return -(-pictures // BATCH) + steps


def measure(
    encoder: Encoder,
    original: Encoder,
    levels: Tensor,
    prompts: Sequence[str],
    min_psnr: float,
    attacked: int,
    steps: int,
    advance: Callable[[float], None] = lambda done: None,
) -> Figures:
    """Measure an encoder against the original.

    Args:
        encoder: The encoder; may be the original itself.
        original: Its embeddings of clean pictures count as right.
        levels: uint8 (N, 3, H, W), held-out pictures of the model's input size.
        prompts: The prompts that pictures are fooled for.
        min_psnr: The budget, dB.
        attacked: Number of pictures that FoCLIP fools.
        steps: Steps of FoCLIP.
        advance: Called with the units done, of `passes`.
    """
    clean, perturbed = [], []
    batches = torch.split(levels, BATCH)
    for number, batch in enumerate(batches, start=1):
        pictures = batch.to(encoder.device).float() / 255
        with torch.no_grad():
            targets = original.embed(pictures)
            clean.append((encoder.embed(pictures) * targets).sum(1))
        size = pictures[0].numel()
        radius = torch.full((len(pictures),), 10 ** (-min_psnr / 20) * size**0.5, device=encoder.device)
        start = random_start(pictures, radius, torch.Generator().manual_seed(0))
        changed = perturb(encoder.embed, pictures, -targets, radius, start, ASCENT)
        with torch.no_grad():
            perturbed.append((encoder.embed(changed) * targets).sum(1))
        advance(number)
    score, chosen = CLIPScore(encoder), list(levels[:attacked])
    fooled: list[Tensor] = []

    def on_step(states: Sequence[AttackState]) -> None:
        done = len(fooled) * steps + sum(state.step for state in states)
        advance(len(batches) + done / len(chosen))

    tasks = [AttackTask(picture, tuple(prompts)) for picture in chosen]
    plan = make_plan(FoCLIP, steps=steps, budgets=Budget("psnr", min_psnr))
    for result in run(tasks, score, plan, on_step=on_step):
        fooled.append(result.pixels)
    targets = score.encode_prompts(prompts)
    before, after = (
        mean([mean(one) for one in read_figures(score, pictures, [targets] * len(pictures))])
        for pictures in (chosen, fooled)
    )
    return Figures(float(torch.cat(clean).mean()), float(torch.cat(perturbed).mean()), before, after)
