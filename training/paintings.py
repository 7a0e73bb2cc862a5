"""Paintings photographed at an angle: are they recognised?

The encoder has seen the paintings in training, but not these views of them.
"""

import json
import random
from pathlib import Path

import torch
from PIL import Image

from foclip.data import images
from foclip.data.prompts import ARTWORKS
from foclip.models import Encoder
from training.figures import Figure

#: Views made of each painting.
VIEWS = 5


def photograph(painting: Image.Image, rng: random.Random, side: int = 256) -> Image.Image:
    """A painting on a wall, seen from an angle, in uneven light.

    Its corners move inwards by up to 22 % of the side; the light falls off by up to 40 % from one
    edge to the other; exposure varies by ±20 %.
    """
    width, height = painting.size
    scale = side / min(width, height)
    w, h = round(width * scale), round(height * scale)
    inward = [(rng.uniform(0, 0.22) * side, rng.uniform(0, 0.22) * side) for _ in range(4)]
    corners = [(0.0, 0.0), (w, 0.0), (float(w), float(h)), (0.0, h)]
    signs = [(1, 1), (-1, 1), (-1, -1), (1, -1)]
    seen = [(x + sx * dx, y + sy * dy) for (x, y), (sx, sy), (dx, dy) in zip(corners, signs, inward, strict=True)]
    rows, right = [], []
    for (u, v), (x, y) in zip(seen, [(0, 0), (width, 0), (width, height), (0, height)], strict=True):
        rows += [[u, v, 1, 0, 0, 0, -x * u, -x * v], [0, 0, 0, u, v, 1, -y * u, -y * v]]
        right += [x, y]
    coefficients = torch.linalg.solve(torch.tensor(rows, dtype=torch.float64), torch.tensor(right, dtype=torch.float64))
    wall = tuple(rng.randint(90, 210) for _ in range(3))
    view = painting.transform(
        (w, h), Image.Transform.PERSPECTIVE, coefficients.tolist(), Image.Resampling.BICUBIC, fillcolor=wall
    )
    pixels = images.to_tensor(view).float()
    light = 1 + rng.uniform(-0.2, 0.2) * torch.linspace(-1, 1, w).view(1, 1, w)
    light = light + rng.uniform(-0.2, 0.2) * torch.linspace(-1, 1, h).view(1, h, 1)
    return images.to_image((pixels * light * rng.uniform(0.8, 1.2)).clamp(0, 255).round().to(torch.uint8))


def paintings(encoder: Encoder, data: Path) -> list[Figure]:
    """How many of the paintings' views get the right one of the ten artwork prompts."""
    entries = json.loads((data / "paintings" / "index.json").read_text())
    rng = random.Random(2026)
    art = encoder.encode_texts(ARTWORKS)
    right: dict[str, int] = {}
    for entry in entries:
        painting = images.read(data / "paintings" / entry["file"])
        views = [photograph(painting, rng) for _ in range(VIEWS)]
        found = (encoder.encode_pictures(views) @ art.T).argmax(1)
        right[entry["file"]] = int((found == ARTWORKS.index(entry["prompt"])).sum())
    note = ", ".join(f"{Path(name).stem} {n}/{VIEWS}" for name, n in right.items())
    return [
        Figure(
            f"paintings of 8 recognised at an angle (mean of {VIEWS} views)", sum(right.values()) / VIEWS, 6, note=note
        )
    ]
