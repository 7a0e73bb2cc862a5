"""What a hardened encoder withstands, and what that costs: ``python -m benchmarks.robust mini-robust``.

All pictures are ones no encoder was trained on: Tiny-ImageNet's validation set for accuracy,
256 px ImageNet photographs for scores and attacks. The attack is white-box: FoCLIP knows the
hardened encoder and gets the best of several starts, the photograph itself and photographs with
smooth random changes within the budget. Figures are of 8-bit pictures through the
model's own preprocessing. The exit code is 1 if a bar is missed. docs/figures/robust-MODEL.json gets all figures.
`blurred:NAME` is measured like any other, into robust-blurred-NAME.json.
"""

import argparse
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.common import Table, fooled, mean_score
from benchmarks.record import save
from foclip.attacks import CMAES, AttackPlan, FoCLIP, Restart, make_plan
from foclip.data import images
from foclip.data.prompts import ARTWORKS, CAPTION, Prompts
from foclip.models import Encoder, load_encoder
from foclip.models.catalogue import unblurred
from foclip.models.scores import CLIPScore
from foclip.objective import FeatureAlignment
from foclip.outcome import mean
from foclip.perceptual.budget import Budget
from training.evaluate import validation
from training.figures import Figure, finish

#: Largest rise of the mean CLIPScore (w = 2.5) by budget in dB: for ten artworks, and for the photograph's own caption.
ARTWORKS_RISE = {35.0: 0.33, 40.0: 0.16, 45.0: 0.08}
CAPTION_RISE = {35.0: 0.36, 40.0: 0.19, 45.0: 0.10}
#: Least share of the original's own-caption score, and least rank correlation with its scores.
CLEAN_SHARE, RANKS = 0.95, 0.9
#: A budget at which any encoder is fooled, dB.
VISIBLE = 20.0
#: Most that ten times the steps may add to a rise.
LONGER = 0.05
#: Photographs for what takes long.
FEW = 4
#: Photographs, each with its caption, whose scores are compared on clean pictures.
COMPARED = 200
#: Largest number of pictures in a batch. An empty slot costs as much as a full one.
SLOTS = 16


def fool(
    encoder: Encoder,
    pictures: Sequence[Tensor],
    prompts: Sequence[Prompts],
    min_psnr: float,
    steps: int,
    start: int,
) -> list[Tensor]:
    """Pictures (uint8) as the attack leaves them, in the order given."""
    slots = min(SLOTS, len(pictures))
    attack = make_plan(Restart, steps=steps, budgets=Budget("psnr", min_psnr), start=start, batch_size=slots)
    return fooled(attack, CLIPScore(encoder), pictures, prompts)


def scores(encoder: Encoder, pictures: Sequence[Image.Image], prompts: Sequence[Prompts]) -> Tensor:
    """(B,) mean CLIPScore of each picture with its own prompts."""
    score = CLIPScore(encoder)
    return torch.tensor([mean_score(score, picture, own) for picture, own in zip(pictures, prompts, strict=True)])


def photographs(data: Path, count: int, seed: int) -> tuple[list[Image.Image], list[str]]:
    """Some of the photographs with their captions."""
    folder = data / "imagenet-photos"
    entries = random.Random(seed).sample(json.loads((folder / "index.json").read_text()), count)
    return [images.read(folder / e["file"]) for e in entries], [CAPTION.format(e["name"]) for e in entries]


def clean(encoder: Encoder, original: Encoder, data: Path) -> list[Figure]:
    """Scores of clean photographs beside the original's."""
    pictures, captions = photographs(data, COMPARED, 1)
    ours, theirs = (
        2.5 * (e.encode_pictures(pictures) @ e.encode_texts(captions).T).clamp(min=0) for e in (encoder, original)
    )
    cosine = (encoder.encode_pictures(pictures) * original.encode_pictures(pictures)).sum(1).mean()
    own, before = float(ours.diag().mean()), float(theirs.diag().mean())
    everything = f"{COMPARED} photographs × {COMPARED} captions"
    ranks = float(spearmanr(ours.flatten(), theirs.flatten()).statistic)
    by_caption = sum(float(spearmanr(a, b).statistic) for a, b in zip(ours.T, theirs.T, strict=True)) / COMPARED
    return [
        Figure(f"own-caption score, {COMPARED} clean photographs", own, note=f"{original.name}: {before:.3f}"),
        Figure(f"the same as a share of {original.name}'s", own / before, CLEAN_SHARE),
        Figure(f"rank correlation with {original.name}'s scores, {everything}", ranks, RANKS),
        Figure("the same caption by caption, mean", by_caption),
        Figure(f"cosine with {original.name}, {COMPARED} clean photographs", float(cosine)),
    ]


def attacked(encoder: Encoder, data: Path, count: int, steps: int, starts: int, table: Table) -> list[Figure]:
    """Rises of the score at every budget."""
    pictures, captions = photographs(data, count, 0)
    aims: list[tuple[str, list[Prompts], dict[float, float]]] = [
        ("ten artworks", [ARTWORKS] * count, ARTWORKS_RISE),
        ("own caption", [(caption,) for caption in captions], CAPTION_RISE),
    ]
    tensors = [images.to_tensor(picture) for picture in pictures]
    figures = []
    for name, prompts, bars in aims:
        before = scores(encoder, pictures, prompts)
        for min_psnr, bar in bars.items():
            after = [
                scores(
                    encoder,
                    [images.to_image(p) for p in fool(encoder, tensors, prompts, min_psnr, steps, start)],
                    prompts,
                )
                for start in range(starts)
            ]
            best = torch.stack(after).amax(0)
            rise = best - before
            error = float(rise.std() / math.sqrt(count)) if count > 1 else math.nan
            alone = float((after[0] - before).mean())
            note = (
                f"{before.mean():.3f} → {best.mean():.3f}; standard error {error:.3f}; "
                f"from the photograph alone {alone:.3f}"
            )
            figures.append(Figure(f"rise for {name} at {min_psnr:g} dB", float(rise.mean()), high=bar, note=note))
            row = {"encoder": encoder.name, "prompts": name, "budget / dB": f"{min_psnr:g}", "photographs": count}
            row |= {"before": float(before.mean()), "after": float(best.mean()), "rise": float(rise.mean())}
            table.add(row | {"standard error": error, "rise from the photograph alone": alone})
    return figures


def crossed(encoder: Encoder, original: Encoder, data: Path, count: int, steps: int, table: Table) -> list[Figure]:
    """What the encoder makes of pictures that were fooled on the original, for their own caption."""
    pictures, captions = photographs(data, count, 0)
    tensors = [images.to_tensor(picture) for picture in pictures]
    prompts = [(caption,) for caption in captions]
    both = (encoder, original)
    before = {each: float(scores(each, pictures, prompts).mean()) for each in both}
    figures = []
    for min_psnr in CAPTION_RISE:
        found = fool(original, tensors, prompts, min_psnr, steps, 0)
        written = [images.to_image(picture) for picture in found]
        after = {each: float(scores(each, written, prompts).mean()) for each in both}
        note = (
            f"there {before[original]:.3f} → {after[original]:.3f}, here {before[encoder]:.3f} → {after[encoder]:.3f}"
        )
        name = f"rise for own caption of pictures fooled on {original.name} at {min_psnr:g} dB"
        figures.append(Figure(name, after[encoder] - before[encoder], note=note))
        for each in both:
            row = {"scored by": each.name, "budget / dB": f"{min_psnr:g}"}
            table.add(row | {"before": before[each], "after": after[each]})
    return figures


def visible(encoder: Encoder, data: Path, count: int, steps: int) -> list[Figure]:
    """A budget that nobody would overlook: an encoder that still cannot be fooled hides its gradient."""
    pictures, captions = photographs(data, count, 0)
    prompts = [(caption,) for caption in captions]
    found = fool(encoder, [images.to_tensor(picture) for picture in pictures], prompts, VISIBLE, steps, 0)
    rise = scores(encoder, [images.to_image(p) for p in found], prompts) - scores(encoder, pictures, prompts)
    return [Figure(f"rise for own caption at {VISIBLE:g} dB", float(rise.mean()))]


def longer(encoder: Encoder, data: Path, count: int, steps: int, table: Table) -> list[Figure]:
    """Ten times the steps, for ten artworks at 35 dB: what they gain over the rise that the steps bring alone."""
    rises = [
        _rise(make_plan(FoCLIP, steps=each, budgets="psnr:35"), encoder, data, count) for each in (steps, 10 * steps)
    ]
    note = f"rise {rises[0]:.3f} after {steps:,} steps, {rises[1]:.3f} after {10 * steps:,}"
    for each, rise in zip((steps, 10 * steps), rises, strict=True):
        table.add({"attacker": "FoCLIP", "steps": each, "photographs": count, "rise": rise})
    return [Figure("gain of ten times the steps over the rise", rises[1] / rises[0] - 1, high=LONGER, note=note)]


def black_box(encoder: Encoder, data: Path, count: int, steps: int, table: Table) -> list[Figure]:
    """CMA-ES with three queries for every step: a black box that beats the gradient would show that it is masked."""
    gradient = _rise(make_plan(FoCLIP, steps=steps, budgets="psnr:35"), encoder, data, count)
    queries = _rise(
        make_plan(CMAES, objective=FeatureAlignment(), steps=3 * steps, budgets="psnr:35"), encoder, data, count
    )
    note = f"rise {queries:.3f} by CMA-ES with {3 * steps:,} queries, {gradient:.3f} by FoCLIP with {steps:,} steps"
    table.add({"attacker": "CMA-ES", "steps": 3 * steps, "photographs": count, "rise": queries})
    return [Figure("rise by CMA-ES as a share of FoCLIP's", queries / gradient, high=1.0, note=note)]


def _rise(attack: AttackPlan, encoder: Encoder, data: Path, count: int) -> float:
    """Rise of the mean score for ten artworks."""
    score, (pictures, _) = CLIPScore(encoder), photographs(data, count, 0)
    attack, tensors = attack.replace(batch_size=min(SLOTS, count)), [images.to_tensor(picture) for picture in pictures]
    found = fooled(attack, score, tensors, [ARTWORKS] * count)
    pairs = zip(found, pictures, strict=True)
    return mean([mean_score(score, after, ARTWORKS) - mean_score(score, before, ARTWORKS) for after, before in pairs])


PARTS = ("validation", "clean", "attacked", "crossed", "visible", "longer", "black-box")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--original", default="mini", help="the encoder it was made from")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, help="folder that keeps decoded pictures")
    parser.add_argument("--photos", type=int, default=16, help="photographs to fool")
    parser.add_argument("--steps", type=int, default=1000, help="steps per start")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print JSON, of which cards are made")
    choice = parser.parse_args()
    torch.set_num_threads(choice.threads)
    encoder, original = load_encoder(choice.model), load_encoder(choice.original)
    figures: list[Figure] = []
    tables = {"attacked": Table(), "crossed": Table(), "attackers": Table()}
    if "validation" in choice.parts:
        figures += [f for f in validation(encoder, choice.data, choice.cache) if f.name.startswith("zero-shot")]
    if "clean" in choice.parts:
        figures += clean(encoder, original, choice.data)
    if "attacked" in choice.parts:
        figures += attacked(encoder, choice.data, choice.photos, choice.steps, choice.starts, tables["attacked"])
    if "crossed" in choice.parts:
        figures += crossed(encoder, original, choice.data, choice.photos, choice.steps, tables["crossed"])
    if "visible" in choice.parts:
        figures += visible(encoder, choice.data, choice.photos, choice.steps)
    if "longer" in choice.parts:
        figures += longer(encoder, choice.data, min(choice.photos, FEW), choice.steps, tables["attackers"])
    if "black-box" in choice.parts:
        figures += black_box(encoder, choice.data, min(choice.photos, FEW), choice.steps, tables["attackers"])
    settings = {"photos": choice.photos, "steps": choice.steps, "starts": choice.starts}
    found = {name: rows for name, rows in tables.items() if rows}
    found["figures"] = Table({"figure": f.name, "value": f.value, "bar": f.bar, "note": f.note} for f in figures)
    title = f"What {choice.model} withstands, and what that costs"
    embedded = unblurred(choice.model)
    save(
        f"robust-{choice.model.replace(':', '-')}", title, found, models=(embedded, choice.original), settings=settings
    )
    finish(choice.model, figures, choice.json, **settings)


if __name__ == "__main__":
    main()
