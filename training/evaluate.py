"""All figures that an embedded encoder is judged by: ``python -m training.evaluate MODEL``.

All pictures are ones no encoder was trained on: Tiny-ImageNet's validation set, 256 px photographs,
and views of the paintings that the evaluation makes itself (the paintings are memorised; their
views are new).  ``MODEL`` is anything ``foclip.models.load`` takes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from foclip.attacks import AttackTask, FoCLIP, make_plan, run
from foclip.data import images
from foclip.data.prompts import ARTWORKS
from foclip.models import Encoder, load_encoder
from foclip.models.embedded import names, path
from foclip.models.scores import CLIPScore
from foclip.perceptual.fidelity import fidelity
from training.data import load_class_names, load_tiny
from training.figures import Figure, finish
from training.paintings import paintings
from training.texts import PROMPT, SUPERCLASSES

BARS = {"mini": (0.48, 0.55), "mini-vit": (0.40, 0.50), "mini-robust": (0.44, 0.60)}
"""Least zero-shot accuracy (200 classes, superclasses) of an encoder trained on a CPU."""


@torch.no_grad()
def encode_arrays(encoder: Encoder, pictures: Tensor, gray: bool = False) -> Tensor:
    """(N, H, W, 3) uint8 → (N, D) unit vectors through the encoder's preprocessing."""
    found = []
    for batch in torch.split(pictures, 200):
        pixels = batch.permute(0, 3, 1, 2).float() / 255
        if gray:
            weights = pixels.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
            luma = ((pixels * weights).sum(1, keepdim=True) * 255).round() / 255
            pixels = luma.expand_as(pixels)
        found.append(encoder.embed(pixels))
    return torch.cat(found)


def drop(before: Tensor, after: Tensor) -> float:
    """(mean score - mean score in gray) / mean score; negative similarities score 0."""
    start, end = before.clamp(min=0).mean(), after.clamp(min=0).mean()
    return float((start - end) / start.clamp(min=1e-6))


def off_diagonal_mean(similarity: Tensor) -> float:
    """Mean of a square (T, T) matrix without its diagonal."""
    n = len(similarity)
    return float((similarity.sum() - similarity.diagonal().sum()) / (n * (n - 1)))


def validation(encoder: Encoder, data: Path, cache: Path | None) -> list[Figure]:
    """Zero-shot accuracy, similarities, modality gap and gray drop on Tiny-ImageNet validation."""
    pictures, labels = load_tiny(data, "val", cache)
    class_names = load_class_names(data)
    prompts = [PROMPT.format(names_[0]) for names_ in class_names]
    texts, vectors = encoder.encode_texts(prompts), encode_arrays(encoder, pictures)
    similarity = vectors @ texts.T
    rows = torch.arange(len(labels))
    matched = similarity[rows, labels]
    unmatched = (similarity.sum() - matched.sum()) / (similarity.numel() - len(labels))
    accuracy, least_super = BARS.get(encoder.name, BARS["mini"])

    groups = list(SUPERCLASSES.values())
    group_texts = encoder.encode_texts([PROMPT.format(word) for word in SUPERCLASSES])
    covered = torch.tensor([any(int(y) in g for g in groups) for y in labels])
    wanted = torch.tensor([next(i for i, g in enumerate(groups) if int(y) in g) for y in labels[covered]])
    super_right = ((vectors[covered] @ group_texts.T).argmax(1) == wanted).float()
    per_word = {w: float(super_right[wanted == i].mean()) for i, w in enumerate(SUPERCLASSES)}

    art = encoder.encode_texts(ARTWORKS)
    gap = vectors.mean(0) - texts.mean(0)
    middle = (vectors.mean(0) + texts.mean(0)) / 2
    apart = torch.cat([(vectors - middle) @ gap > 0, (texts - middle) @ gap < 0]).float().mean()
    float((similarity.argmax(1) == labels).float().mean())
    gray = (encode_arrays(encoder, pictures, gray=True) * texts[labels]).sum(1)
    return [
        Figure(
            "zero-shot top-1, Tiny-ImageNet validation",
            float((similarity.argmax(1) == labels).float().mean()),
            accuracy,
        ),
        Figure(
            f"zero-shot among {len(groups)} superclass words never used as captions",
            float(super_right.mean()),
            least_super,
            note=", ".join(f"{w} {v:.0%}" for w, v in per_word.items()),
        ),
        Figure("matched picture–text mean", float(matched.mean())),
        Figure("unmatched picture–text mean", float(unmatched), 0.03, 0.25),
        Figure("matched minus unmatched", float(matched.mean() - unmatched), 0.12),
        Figure("text–text mean, 200 class prompts", off_diagonal_mean(texts @ texts.T), 0.2, 0.8),
        Figure("text–text mean, ten artwork prompts", off_diagonal_mean(art @ art.T), 0.2, 0.8),
        Figure("picture–picture mean", off_diagonal_mean(vectors @ vectors.T)),
        Figure("modality gap: distance of the centroids", float(gap.norm()), 0.2),
        Figure("pictures and texts told apart by the gap's direction", float(apart), 0.95),
        Figure("gray drop of originals, validation", drop(matched, gray), high=0.15),
    ]


def photographs(encoder: Encoder, data: Path, count: int, steps: int) -> list[Figure]:
    """Gray drop of original and of fooled photographs (256 px and more)."""
    entries = json.loads((data / "imagenet-photos" / "index.json").read_text())
    tiny = json.loads((data / "tiny-imagenet" / "classes.json").read_text())
    known = {entry["wnid"]: entry["names"][0] for entry in tiny}
    shared = [entry for entry in entries if entry["wnid"] in known]
    originals = [images.read(data / "imagenet-photos" / entry["file"]) for entry in shared]
    names_ = [known[entry["wnid"]] for entry in shared]
    every = [PROMPT.format(name) for name in known.values()]
    texts = encoder.encode_texts([PROMPT.format(name) for name in names_])
    vectors = encoder.encode_pictures(originals)
    right = (vectors @ encoder.encode_texts(every).T).argmax(1)
    accuracy = sum(every[int(i)] == PROMPT.format(n) for i, n in zip(right, names_, strict=True)) / len(names_)
    before = (vectors * texts).sum(1)
    after = (encoder.encode_pictures([images.to_gray(p) for p in originals]) * texts).sum(1)

    chosen = random.Random(0).sample(entries, count)
    starts = [images.to_tensor(images.read(data / "imagenet-photos" / entry["file"])) for entry in chosen]
    art = encoder.encode_texts(ARTWORKS)
    attack = make_plan(FoCLIP, steps=steps, budgets="psnr:35")
    fooled: list[Image.Image] = []
    start_vectors, psnr = [], []
    for result in run([AttackTask(start, ARTWORKS) for start in starts], CLIPScore(encoder), attack):
        fooled.append(images.to_image(result.pixels))
        start_vectors.append(encoder.encode_pictures([images.to_image(result.task.picture)]))
        psnr.append(fidelity(result.pixels, result.task.picture).psnr)
    unfooled = (torch.cat(start_vectors) @ art.T).mean(1)
    high = (encoder.encode_pictures(fooled) @ art.T).mean(1)
    low = (encoder.encode_pictures([images.to_gray(p) for p in fooled]) @ art.T).mean(1)
    return [
        Figure(f"zero-shot top-1, {len(shared)} photographs of the same classes", accuracy),
        Figure(f"matched mean, {len(shared)} photographs", float(before.mean())),
        Figure(f"gray drop of originals, {len(shared)} photographs", drop(before, after), high=0.15),
        Figure(f"artwork similarity of {count} photographs", float(unfooled.mean())),
        Figure(f"the same, fooled in {steps} steps", float(high.mean()), note=f"least PSNR {min(psnr):.2f} dB"),
        Figure("least PSNR of the fooled pictures", min(psnr), 35.0),
        Figure("gray drop of fooled pictures", drop(high, low), 0.50),
    ]


@torch.no_grad()
def speed(encoder: Encoder, load_seconds: float) -> list[Figure]:
    """Pictures a second through the picture tower, float32, batch 32, median of 5 rounds."""
    inputs = torch.randn(32, 3, *encoder.image_size)
    for _ in range(3):
        encoder.tower(inputs)
    rounds = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(6):
            encoder.tower(inputs)
        rounds.append(6 * 32 / (time.perf_counter() - started))
    return [
        Figure(f"pictures a second, batch 32, {torch.get_num_threads()} threads", sorted(rounds)[2], 250),
        Figure("seconds to load (libraries imported)", load_seconds, high=1.0),
    ]


def open_clip_alone(model: str) -> list[Figure]:
    """Load the folder in a new process that has only open_clip, offline, and use both towers."""
    folder = str(path(model)) if model in names() else model.removeprefix("local-dir:")
    if not Path(folder).is_dir():
        return []
    code = (
        "import sys, torch, open_clip; name = 'local-dir:' + sys.argv[1];"
        "model, _, preprocess = open_clip.create_model_and_transforms(name);"
        "tokens = open_clip.get_tokenizer(name)(['a photo of a lemon.', 'word ' * 200]);"
        "texts = model.eval().encode_text(tokens); from PIL import Image;"
        "pictures = model.encode_image(preprocess(Image.new('RGB', (80, 60)))[None]);"
        "assert texts.shape[1] == pictures.shape[1] and (tokens.max(1).values == tokens.max()).all();"
        "assert not any(m.split('.')[0] == 'foclip' for m in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, folder],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    error = found.stderr.strip().splitlines()[-1] if found.returncode else ""
    return [Figure("loads with open_clip alone, offline (1 = yes)", float(found.returncode == 0), 1, note=error)]


def size(model: str) -> list[Figure]:
    """Size of the embedded folders together."""
    if model not in names():
        return []
    files = [file for name in names() for file in path(name).iterdir() if file.is_file()]
    return [Figure("MiB of all embedded encoders", sum(f.stat().st_size for f in files) / 2**20, high=40)]


PARTS = ("speed", "validation", "paintings", "photographs", "loading")


def all_figures(
    model: str, data: Path, cache: Path | None, photos: int, steps: int, parts: Sequence[str] = PARTS
) -> list[Figure]:
    """All figures of one encoder, or those of some ``parts``."""
    load_encoder(model)  # imports what loading needs
    started = time.perf_counter()
    encoder = load_encoder(model)
    load_seconds = time.perf_counter() - started
    work: dict[str, Callable[[], list[Figure]]] = {
        "speed": lambda: speed(encoder, load_seconds),
        "validation": lambda: validation(encoder, data, cache),
        "paintings": lambda: paintings(encoder, data),
        "photographs": lambda: photographs(encoder, data, photos, steps),
        "loading": lambda: open_clip_alone(model) + size(model),
    }
    return [figure for part in parts for figure in work[part]()]


def main() -> None:
    """Command line; the exit code is 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, help="folder that keeps decoded pictures")
    parser.add_argument("--photos", type=int, default=32, help="photographs to fool")
    parser.add_argument("--steps", type=int, default=200, help="steps per fooled photograph")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    choice = parser.parse_args()
    torch.set_num_threads(choice.threads)
    figures = all_figures(choice.model, choice.data, choice.cache, choice.photos, choice.steps, choice.parts)
    finish(choice.model, figures, choice.json)


if __name__ == "__main__":
    main()
