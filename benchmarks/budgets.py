"""What budgets allow: scores of the demo's four photos, and a detail of one photo as each budget makes it, enlarged.

    python -m benchmarks.budgets [--out docs/budgets.png]

The photos are fooled with `mini` for ten artworks as `foclip fool --budget …` does it, and the paper's way
(`--min-psnr 35`). The picture shows the cat; the number in it is the mean score of the whole photo. The mean scores of
all four are written to docs/figures/budgets.json.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from benchmarks.common import Table, fooled, mean_score
from benchmarks.record import save
from foclip import demo
from foclip.attacks import default_plan
from foclip.data import images
from foclip.data.prompts import ARTWORKS
from foclip.models import load_encoder
from foclip.models.scorer import Scorer
from foclip.models.scores import CLIPScore
from foclip.outcome import mean

#: The photo, the budgets, and the part that is shown: left, top, right, bottom.
PHOTO, BUDGETS, PART = "chelsea.png", ("invisible", "discreet", "psnr:35"), (170, 0, 270, 100)
#: The paper's attack, which has no mask.
PAPER = "min-psnr 35"
#: How many times the part is enlarged; pixels above it for words, and between parts.
ENLARGED, WORDS, GAP = 3, 34, 4


def scored(score: Scorer, pictures: Mapping[str, Tensor]) -> dict[str, float]:
    """The mean score of pictures over the artworks, and that of each."""
    found = {name.partition(".")[0]: mean_score(score, picture, ARTWORKS) for name, picture in pictures.items()}
    return {"mean score": mean(list(found.values())), **found}


def main() -> None:
    """Fool the photos within each budget, and write record and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/budgets.png"))
    out = parser.parse_args().out
    torch.set_num_threads(1)
    score = CLIPScore(load_encoder("mini"))
    photos = {path.name: images.to_tensor(images.read(path)) for path in demo.photos()}
    pictures, table = {"original": photos[PHOTO]}, Table()
    table.add({"budget": "original", **scored(score, photos)})
    for budget in (*BUDGETS, PAPER):
        plan = default_plan(score, min_psnr=35) if budget == PAPER else default_plan(score, budgets=budget)
        done = {
            name: fooled(plan.replace(batch_size=1), score, [photo], [ARTWORKS])[0] for name, photo in photos.items()
        }
        table.add({"budget": budget, **scored(score, done)})
        if budget != PAPER:
            pictures[budget] = done[PHOTO]
    print(
        save("budgets", "What budgets allow: the demo's four photos, ten artworks", {"scores": table}, models=["mini"])
    )
    width, height = (ENLARGED * (PART[side + 2] - PART[side]) for side in (0, 1))
    sheet = Image.new("RGB", (len(pictures) * (width + GAP) - GAP, height + WORDS), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(20)
    for column, (name, picture) in enumerate(pictures.items()):
        left = column * (width + GAP)
        part = images.to_image(picture).crop(PART).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(part, (left, WORDS))
        draw.text((left + 2, 4), f"{name}: {mean_score(score, picture, ARTWORKS):.2f}", "black", font)
    sheet.save(out, optimize=True)


if __name__ == "__main__":
    main()
