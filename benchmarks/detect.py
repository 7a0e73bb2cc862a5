"""What detecting costs, against two forward passes per picture (colour and gray) of the same tower.

The floor is the image tower as open_clip loads it on ready inputs, 64 at a time, twice per picture. Detecting starts
from decoded pictures in memory: resizing, probes, passes, scores and verdicts.

    python -m benchmarks.detect [--model mini] [--threads 2] [--size 256] [--images DIR]

The paper's rule looks at gray only. The combined detector takes one look at a time, the next only where there is doubt,
so what it costs depends on the pictures and on what they are scored with: the ten artworks, which clean photographs
hardly fit; the caption in the text file beside each photograph of a folder, if all have one; or the caption that each
fits best of a thousand, the worst case.
"""

import argparse
import copy
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.common import Table
from benchmarks.record import save
from benchmarks.timing import seconds
from foclip.core.detecting import CHUNK, BatchDetector
from foclip.data.captions import SIDECAR, captions_of
from foclip.data.images import find, read
from foclip.data.prompts import ARTWORKS, Prompts
from foclip.demo import photos
from foclip.detection import Method, Sensitivity, Verdict, measure
from foclip.detection.detector import shipped
from foclip.models import OpenClipEncoder, load_encoder
from foclip.models.scores import CLIPScore

#: Pictures: as many as `foclip.detect` judges together. And those of a bare pass.
BATCH, PASS = CHUNK, 64


def chosen(folder: Path | None) -> list[Path]:
    """A batch of photos, repeated where there are fewer: of a folder, or those that ship with dependencies."""
    files = find([folder]) if folder else photos()
    return [files[i % len(files)] for i in range(BATCH)]


def crops(files: Sequence[Path], size: int) -> list[Image.Image]:
    """A crop of each photo, at most `size` pixels wide and high."""
    rng = np.random.default_rng(0)
    found = []
    for photo in map(read, files):
        left, top = (int(rng.integers(0, max(1, side - size + 1))) for side in photo.size)
        found.append(photo.crop((left, top, left + size, top + size)))
    return found


def main() -> None:
    """Measure, and write docs/figures/detect-MODEL.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--images", type=Path, help="folder of clean photographs")
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    encoder = load_encoder(arguments.model)
    assert isinstance(encoder, OpenClipEncoder)
    detector = shipped(encoder)
    score = CLIPScore(encoder)
    files = chosen(arguments.images)
    batch = crops(files, arguments.size)
    tower = copy.deepcopy(encoder.model).to(memory_format=torch.contiguous_format)
    inputs = encoder.preprocess.normalize(torch.stack([encoder.preprocess.image(picture) for picture in batch]))

    @torch.no_grad()
    def floor() -> None:
        for part in 2 * torch.split(inputs, PASS):
            tower.encode_image(part)

    guesses = measure(score, batch, [()] * BATCH, (), captions=True)
    best = [(str(found.zero_shot_caption),) for found in guesses]
    beside, _ = captions_of(files, SIDECAR)

    def detect(by: Method, prompts: Sequence[Prompts]) -> Callable[[], list[tuple[Sensitivity, Verdict]]]:
        judge = BatchDetector(detector, score, by)
        return lambda: judge([judge.preprocess(picture) for picture in batch], prompts)

    artworks = [ARTWORKS] * BATCH
    ways = {
        "paper's rule, artworks": detect("rule", artworks),
        "combined, artworks": detect("combined", artworks),
        "combined, best of a thousand captions": detect("combined", best),
        "combined, without prompts": detect("combined", [()] * BATCH),
    }
    if len(beside) == BATCH:
        ways["combined, captions beside the photos"] = detect("combined", [tuple(beside[i]) for i in range(BATCH)])
    for call in (floor, *ways.values()):
        call()
    rows = []
    for _ in range(arguments.repeats):
        bare = seconds(floor)
        rows.append([bare, *(seconds(call) / bare for call in ways.values())])
    bare, *ratios = (statistics.median(column) for column in zip(*rows, strict=True))
    table = Table()
    table.add({"what": "two forward passes", "ms a picture": 1e3 * bare / BATCH, "times the passes": 1.0})
    for (name, call), ratio in zip(ways.items(), ratios, strict=True):
        probes = sum(len(found.drifts) for found, _ in call()) / BATCH
        table.add({"what": name, "times the passes": ratio, "probes a picture": probes})
    about = {"size": arguments.size, "pictures": BATCH, "photos": "of a folder" if arguments.images else "shipped ones"}
    title, model = f"What detecting costs with {encoder.name}", encoder.name
    models = (model, *detector.hardened)
    print(
        save(
            f"detect-{model}", title, {"cost": table}, models=models, detectors=[model], attacked=False, settings=about
        )
    )


if __name__ == "__main__":
    main()
