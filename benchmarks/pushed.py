"""How far scores are pushed by a change of 40 dB, in standard deviations of the score among clean photographs.

    python -m benchmarks.pushed PHOTOS… [--scores clipscore,clip-iqa] [--model mini] [--psnr 40] [--steps 100]

The first 16 photographs are fooled, each within the budget, and their written pixels are read again; the 200 after them
tell how far clean photographs differ. Scores with prompts are asked with the caption, all others with none.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.common import fooled, mean_score
from foclip.attacks import make_plan
from foclip.data import images
from foclip.models import load, load_encoder
from foclip.perceptual.budget import Budget

#: Photographs that are fooled, and clean ones that they are compared with.
FOOLED, CLEAN = 16, 200


def main() -> None:
    """Print a row for each score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--scores", default="clipscore,clip-iqa,aesthetic")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--psnr", type=float, default=40)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--caption", default="a photo of a cat.")
    options = parser.parse_args()
    photos = [images.read(path) for path in images.find(options.photos)[: FOOLED + CLEAN]]
    plan = make_plan(budgets=(Budget("psnr", options.psnr),), init="image", steps=options.steps)
    encoder = load_encoder(options.model)
    print(f"{'score':<12} {'clean':>8} {'sd':>8} {'before':>8} {'after':>8} {'rise / sd':>10}  least")
    for name in options.scores.split(","):
        scorer = load(name, encoder)
        needs = scorer.info.prompts
        prompts = (options.caption,) if needs == "required" else scorer.info.default_prompts
        clean = [mean_score(scorer, photo, prompts) for photo in photos[FOOLED:]]
        before = np.array([mean_score(scorer, photo, prompts) for photo in photos[:FOOLED]])
        pixels = fooled(plan, scorer, [images.to_tensor(photo) for photo in photos[:FOOLED]], [prompts] * FOOLED)
        after = np.array([mean_score(scorer, picture, prompts) for picture in pixels])
        rise = (after - before) / np.std(clean, ddof=1)
        figures = (np.mean(clean), np.std(clean, ddof=1), before.mean(), after.mean())
        print(
            f"{name:<12}" + "".join(f" {value:8.4f}" for value in figures) + f" {rise.mean():10.1f} {rise.min():6.1f}"
        )


if __name__ == "__main__":
    main()
