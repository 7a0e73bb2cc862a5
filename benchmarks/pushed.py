"""How far scores are pushed by a change of 40 dB, in standard deviations of the score among clean photographs.

    python -m benchmarks.pushed PHOTOS… [--scores clipscore,clip-iqa] [--model mini] [--psnr 40] [--steps 100]

The first 16 photographs are fooled, each within the budget, and their written pixels are read again; the 200 after them
tell how far clean photographs differ. Scores with prompts are asked with the caption, all others with none.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.common import Table, fooled, mean_score
from benchmarks.record import save
from foclip.attacks import make_plan
from foclip.data import images
from foclip.models import load, load_encoder
from foclip.perceptual.budget import Budget

#: Photographs that are fooled, and clean ones that they are compared with.
FOOLED, CLEAN = 16, 200


def main() -> None:
    """Measure, and write docs/figures/pushed.json."""
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
    table = Table()
    for name in options.scores.split(","):
        scorer = load(name, encoder)
        needs = scorer.info.prompts
        prompts = (options.caption,) if needs == "required" else scorer.info.default_prompts
        clean = [mean_score(scorer, photo, prompts) for photo in photos[FOOLED:]]
        before = np.array([mean_score(scorer, photo, prompts) for photo in photos[:FOOLED]])
        pixels = fooled(plan, scorer, [images.to_tensor(photo) for photo in photos[:FOOLED]], [prompts] * FOOLED)
        after = np.array([mean_score(scorer, picture, prompts) for picture in pixels])
        rise = (after - before) / np.std(clean, ddof=1)
        row: dict[str, object] = {
            "score": name,
            "clean, mean": np.mean(clean),
            "clean, deviation": np.std(clean, ddof=1),
        }
        row |= {"before": before.mean(), "after": after.mean(), "rise / deviation": rise.mean(), "least": rise.min()}
        table.add(row)
    about = {"fooled": FOOLED, "clean": CLEAN, "model": options.model, "caption": options.caption}
    title = f"How far {options.psnr:g} dB push scores"
    print(save("pushed", title, {"scores": table}, models=[options.model], settings=about))


if __name__ == "__main__":
    main()
