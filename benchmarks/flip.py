"""FLIP with the original kept, against the authors' own program: the largest difference, and what each costs.

    python -m benchmarks.flip

30 pairs of photos and plain pictures with what attacks and accidents make of them, and one of 3000 × 2000 pixels.
Seconds are those of the processor, on one thread; the first call also makes what is kept of the original.
"""

import time
from collections.abc import Iterator

import numpy as np
import torch
from skimage import data
from torch import Tensor

from foclip.perceptual.fidelity import Comparison
from foclip.perceptual.flip import Flip

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket")
#: Rows and columns of the pairs, and of the large one.
SIZE, LARGE = (240, 320), (2000, 3000)
#: The most by which a pixel may differ.
TOLERANCE = 1e-4


def photo(name: str, size: tuple[int, int]) -> Tensor:
    """A photo of scikit-image, repeated to a size, uint8 (3, H, W)."""
    whole = np.array(getattr(data, name)())
    tiles = [-(-cells // have) for cells, have in zip(size, whole.shape, strict=False)]
    return torch.from_numpy(np.tile(whole, (*tiles, 1))[: size[0], : size[1]]).permute(2, 0, 1).contiguous()


def pairs(generator: torch.Generator) -> Iterator[tuple[str, Tensor, Tensor]]:
    """30 names, pictures and originals."""
    originals = {name: photo(name, SIZE) for name in PHOTOS}
    originals |= {f"plain {level}": torch.full((3, *SIZE), level, dtype=torch.uint8) for level in (0, 128, 226, 255)}
    noise = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8, generator=generator)
    for name, original in originals.items():
        yield f"{name}, ±1", changed(original, 1, generator), original
        yield f"{name}, ±4", changed(original, 4, generator), original
        yield f"{name}, a few levels", torch.where(noise == 0, original ^ 1, original), original
    for name in PHOTOS:
        yield f"{name}, negative", 255 - originals[name], originals[name]
    yield "noise", noise.flip(1), noise
    yield "noise for gray", noise, originals["plain 128"]


def changed(original: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Every level moved by `most` at most."""
    change = torch.randint(-most, most + 1, original.shape, generator=generator)
    return (original.int() + change).clamp(0, 255).to(torch.uint8)


def measured(name: str, picture: Tensor, original: Tensor) -> float:
    """Print a row and return the largest difference."""
    times = [time.process_time()]
    flip = Flip(original)
    times.append(time.process_time())
    found = flip.map(picture).numpy()
    times.append(time.process_time())
    expected = Comparison(picture, original).map("flip")
    times.append(time.process_time())
    made, again, program = np.diff(times) / original[0].numel() * 1e6
    worst, means = np.abs(found - expected).max(), np.abs(found.mean(dtype=float) - expected.mean(dtype=float))
    seconds = " | ".join(f"{each:.2f}" for each in (program, made + again, again))
    print(f"| {name} | {worst:.1e} | {means:.0e} | {seconds} |", flush=True)
    return float(worst)


def main() -> None:
    """Print the table.

    Raises:
        SystemExit: A pixel differs by more than it may.
    """
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    print(
        "| pair | largest difference | of means | program, s/MP | first call | later calls |\n|---|---|---|---|---|---|"
    )
    worst = max(measured(*pair) for pair in pairs(generator))
    original = photo("astronaut", LARGE)
    worst = max(worst, measured("{1} × {0}, ±4".format(*LARGE), changed(original, 4, generator), original))
    print(f"largest difference: {worst:.1e}")
    if worst > TOLERANCE:
        raise SystemExit(f"more than {TOLERANCE:g}")


if __name__ == "__main__":
    main()
