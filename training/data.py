"""Pictures for training: Tiny-ImageNet, the eight paintings, and augmentation on whole batches."""

from __future__ import annotations

import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights of red, green and blue in gray."""


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def decode(blob: bytes) -> npt.NDArray[np.uint8]:
    """One encoded picture as (H, W, 3) RGB."""
    with Image.open(io.BytesIO(blob)) as picture:
        return np.asarray(picture.convert("RGB"))


def load_tiny(folder: Path, split: str, cache: Path | None = None) -> tuple[Tensor, Tensor]:
    """Tiny-ImageNet ``split`` ("train" or "val"): pictures (N, 64, 64, 3) uint8, labels (N,).

    Decoding takes about 40 s for the training set; ``cache`` names a folder that keeps the result.
    """
    kept = cache / f"tiny-{split}.npz" if cache else None
    if kept and kept.exists():
        with np.load(kept) as arrays:
            return torch.from_numpy(arrays["pictures"]), torch.from_numpy(arrays["labels"])
    pictures, labels = [], []
    for path in sorted((folder / "tiny-imagenet").glob(f"{split}*.parquet")):
        table = pd.read_parquet(path)
        with ThreadPoolExecutor() as pool:
            pictures.append(np.stack(list(pool.map(decode, table["image"]))))
        labels.append(table["label"].to_numpy(dtype=np.int64))
    if not pictures:
        raise FileNotFoundError(f"no {split} pictures under {folder / 'tiny-imagenet'}")
    x, y = np.concatenate(pictures), np.concatenate(labels)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, pictures=x, labels=y)
    return torch.from_numpy(x), torch.from_numpy(y)


def load_class_names(folder: Path) -> list[list[str]]:
    """Names (synonyms) of the 200 Tiny-ImageNet classes, by label."""
    entries = json.loads((folder / "tiny-imagenet" / "classes.json").read_text())
    return [entry["names"] for entry in sorted(entries, key=lambda entry: entry["label"])]


def load_paintings(folder: Path, side: int = 192) -> tuple[Tensor, list[str]]:
    """The paintings squeezed to (P, side, side, 3) uint8, and their prompts.

    Squeezing keeps whole paintings; ``augment_paintings`` undoes the aspect ratio at random.
    """
    entries = json.loads((folder / "paintings" / "index.json").read_text())
    pictures = []
    for entry in entries:
        with Image.open(folder / "paintings" / entry["file"]) as picture:
            small = picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
            pictures.append(np.asarray(small))
    return torch.from_numpy(np.stack(pictures)), [entry["prompt"] for entry in entries]


def to_gray(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) → the same shape with three equal channels (BT.601 luma)."""
    weights = pixels.new_tensor(LUMA).view(1, 3, 1, 1)
    return (pixels * weights).sum(1, keepdim=True).expand_as(pixels)


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """(n,) values drawn uniformly from [low, high)."""
    return low + (high - low) * torch.rand(n, generator=generator)


@dataclass(frozen=True)
class Augmentation:
    """Random crop, flip, gray and sharpness.

    Colours and saturation are left alone: an encoder that learns to ignore them has colour-blind
    gradients, and then fooled pictures keep their score in gray.
    """

    min_area: float = 0.35
    """Smallest share of the picture's area that a crop keeps."""
    gray_share: float = 0.15
    """Share of the pictures shown in gray."""
    sharpen: float = 1.0
    """Largest amount of unsharp masking; photographs are sharper than enlarged 64 px pictures."""

    def __call__(self, pictures: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """(B, H, W, 3) uint8 → (B, 3, size, size) float32 in [0, 1]."""
        pixels = pictures.permute(0, 3, 1, 2).float() / 255
        n = len(pixels)
        area = uniform(n, self.min_area, 1.0, generator)
        ratio = uniform(n, -0.25, 0.25, generator).exp()
        width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        flip = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
        theta = torch.zeros(n, 2, 3)
        theta[:, 0, 0], theta[:, 1, 1] = width * flip, height
        theta[:, 0, 2] = uniform(n, -1, 1, generator) * (1 - width)
        theta[:, 1, 2] = uniform(n, -1, 1, generator) * (1 - height)
        grid = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
        pixels = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
        return self.finish(pixels, generator)

    def finish(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Sharpen half of the pictures and turn a share of them gray; shapes stay."""
        n = len(pixels)
        if self.sharpen > 0:
            amount = uniform(n, -self.sharpen, self.sharpen, generator).clamp(min=0)
            blurred = F.avg_pool2d(pixels, 3, 1, 1, count_include_pad=False)
            pixels = (pixels + amount.view(n, 1, 1, 1) * (pixels - blurred)).clamp(0, 1)
        gray = torch.rand(n, generator=generator) < self.gray_share
        return torch.where(gray.view(n, 1, 1, 1), to_gray(pixels), pixels)


def perspective_grid(
    n: int, size: int, strength: float, turn: float, zoom: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Sampling grid (n, size, size, 2) of a camera that looks at a flat picture from an angle.

    The picture spans [-1, 1]².  ``turn``: largest rotation in radians.  ``strength``: largest
    tilt, as the relative change of scale from one edge to the other.  ``zoom``: range of the
    share of the picture's side that is seen (above 1: with surroundings).
    """
    axis = (torch.arange(size) + 0.5) * 2 / size - 1
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    u, v = u.expand(n, -1, -1), v.expand(n, -1, -1)

    def draw(low: float, high: float) -> Tensor:
        return uniform(n, low, high, generator).view(n, 1, 1)

    angle = draw(-turn, turn)
    depth = 1 + draw(-strength, strength) * u + draw(-strength, strength) * v
    scale_x, scale_y = draw(*zoom), draw(*zoom)
    x = (angle.cos() * u - angle.sin() * v) / depth * scale_x
    y = (angle.sin() * u + angle.cos() * v) / depth * scale_y
    room_x, room_y = (1 - scale_x).abs(), (1 - scale_y).abs()
    return torch.stack([x + draw(-1, 1) * room_x, y + draw(-1, 1) * room_y], dim=-1)


def relight(pixels: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Exposure, contrast and a light that falls off across the picture, equal in all channels."""
    n, _, height, width = pixels.shape

    def draw(low: float, high: float) -> Tensor:
        return uniform(n, low, high, generator).view(n, 1, 1, 1)

    x = torch.linspace(-1, 1, width).view(1, 1, 1, width)
    y = torch.linspace(-1, 1, height).view(1, 1, height, 1)
    light = 1 + draw(-strength, strength) * x + draw(-strength, strength) * y
    mean = pixels.mean((1, 2, 3), keepdim=True)
    pixels = mean + (pixels - mean) * draw(1 - strength, 1 + strength)
    return (pixels * light * draw(1 - strength, 1 + strength)).clamp(0, 1)


def augment_paintings(pictures: Tensor, size: int, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Paintings as a visitor photographs them: (B, H, W, 3) uint8 → (B, 3, size, size) in [0, 1]."""
    pixels = pictures.permute(0, 3, 1, 2).float() / 255
    grid = perspective_grid(len(pixels), size * 2, 0.3, 0.35, (0.5, 1.15), generator)
    pixels = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    pixels = F.avg_pool2d(pixels, 2)
    return augmentation.finish(relight(pixels, 0.35, generator), generator)
