"""The picture of the budgets in the docs: a detail of one photo, beside what each budget makes of it, enlarged.

    python -m benchmarks.budgets [--out docs/budgets.png]

The photo is the demo's cat, fooled with `mini` for ten artworks as `foclip fool --budget …` does it; the number is the
mean score of the whole picture.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from benchmarks.common import fooled, mean_score
from foclip import demo
from foclip.attacks import default_plan
from foclip.data import images
from foclip.data.prompts import ARTWORKS
from foclip.models import load_encoder
from foclip.models.scores import CLIPScore

#: The photo, the budgets, and the part that is shown: left, top, right, bottom.
PHOTO, BUDGETS, PART = "chelsea.png", ("invisible", "discreet", "psnr:35"), (170, 0, 270, 100)
#: How many times the part is enlarged; pixels above it for words, and between parts.
ENLARGED, WORDS, GAP = 3, 34, 4


def main() -> None:
    """Fool the photo within each budget, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/budgets.png"))
    out = parser.parse_args().out
    torch.set_num_threads(1)
    score = CLIPScore(load_encoder("mini"))
    original = images.to_tensor(images.read(next(path for path in demo.photos() if path.name == PHOTO)))
    pictures = {"original": original}
    for budget in BUDGETS:
        plan = default_plan(score, budgets=budget).replace(batch_size=1)
        (pictures[budget],) = fooled(plan, score, [original], [ARTWORKS])
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
