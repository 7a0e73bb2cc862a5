"""What detecting costs, against two forward passes per picture (colour and gray) of the same tower.

The floor is the image tower as open_clip loads it on ready inputs, twice per picture. Detecting starts from decoded
pictures in memory: gray versions, resizing, both passes, scores and verdicts.

    python benchmarks/detect.py [--model mini] [--threads 2] [--size 256]

The paper's rule looks at gray only; the combined detector also looks at other
transformations, a pass each, and stands against the floor of two passes all the same.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from foclip.demo import photos
from foclip.detection import By, measure
from foclip.detection.detector import shipped
from foclip.encoders import OpenClipEncoder, load
from foclip.images import read
from foclip.prompts import ARTWORKS
from foclip.scores import CLIPScore

BOUND = 1.15
BATCH = 32


def seconds(call: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def pictures(size: int) -> list[Image.Image]:
    """A batch of crops of real photos."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(BATCH):
        photo = read(photos()[i % len(photos())])
        left, top = (int(rng.integers(0, max(1, side - size + 1))) for side in photo.size)
        found.append(photo.crop((left, top, left + size, top + size)))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    encoder = load(arguments.model)
    assert isinstance(encoder, OpenClipEncoder)
    detector = shipped(encoder)
    score = CLIPScore(encoder)
    batch = pictures(arguments.size)
    tower = copy.deepcopy(encoder.model).to(memory_format=torch.contiguous_format)
    inputs = torch.stack([encoder.prepare(picture) for picture in batch])

    @torch.no_grad()
    def floor() -> None:
        for _ in range(2):
            tower.encode_image(inputs)

    def detect(by: By) -> Callable[[], object]:
        return lambda: [
            detector.judge(found, by) for found in measure(score, batch, [ARTWORKS] * BATCH, detector.looks(by))
        ]

    ways = {"paper's rule": detect("rule"), "combined": detect("combined")}
    for call in (floor, *ways.values()):
        call()
    rows = []
    for _ in range(arguments.repeats):
        bare = seconds(floor)
        rows.append([bare, *(seconds(call) / bare for call in ways.values())])
    bare, *ratios = (statistics.median(column) for column in zip(*rows, strict=True))
    print(
        f"torch {torch.__version__}, {arguments.threads} threads, {encoder.name}, {BATCH} pictures of "
        f"{arguments.size}×{arguments.size}, wall time, median of {arguments.repeats}"
    )
    print(f"two forward passes: {1e3 * bare / BATCH:.3f} ms a picture")
    for name, ratio in zip(ways, ratios, strict=True):
        print(f"{name:<14} {ratio:.3f} times that   ≤ {BOUND}: {'yes' if ratio <= BOUND else 'no'}")
    print(f"transformations of the combined detector: {', '.join(detector.transformations)}")


if __name__ == "__main__":
    main()
