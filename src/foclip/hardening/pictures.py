"""Pictures to train on: decoded once to the model's input size, then varied and perturbed in every step."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from foclip.data import images
from foclip.data.sources import Columns, Listing, items, load_bytes
from foclip.errors import ImageError

#: Decoded pictures of more bytes than this are kept in a memory-mapped file.
IN_MEMORY = 6 * 2**30
#: Smallest share of the side that a crop keeps.
LEAST_SIDE = 0.65
#: Pictures that were enlarged are also shown smaller, with up to this multiple of the side in view.
MOST_SIDE = 2.0
#: Largest change of the aspect ratio by a crop (natural logarithm).
ASPECT = 0.3
#: Largest amount of unsharp masking. Half of the pictures are sharpened.
SHARPEN = 1.0

Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures."""

    levels: Tensor  # uint8 (N, 3, H, W)
    enlarged: Tensor  # float (N,), factor by which each was enlarged to the input size, at least 1
    skipped: list[str]  # one line for each picture that could not be decoded

    def __len__(self) -> int:
        return len(self.levels)


def count(sources: Sequence[Path]) -> int:
    """Number of pictures in folders (recursively), picture files, tars and Parquet tables, decodable or not.

    Captions and labels are not read. A source that does not exist, or holds no pictures, is a `UsageError`.
    """
    return sum(
        shard.rows if shard.rows >= 0 else sum(1 for _ in items(shard, Columns(), read=False))
        for shard in Listing(list(map(str, sources)))
    )


def decode(
    sources: Sequence[Path],
    size: tuple[int, int],
    see: Callable[[Image.Image], Tensor],
    chosen: Iterable[int],
    kept: Path | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> Pictures:
    """Decode some of the pictures that `count` counted, in the order of the sources.

    Args:
        sources: As for `count`.
        size: (height, width) of the model's input.
        see: The model's own resize and crop (`foclip.models.preprocess.Preprocess.image`).
        chosen: Places of the pictures wanted, in the order of `count`.
        kept: A file for decoded pictures that do not fit into memory. It is overwritten.
        report: Called after each picture with the number decoded so far.
    """
    wanted = set(chosen)
    shape = (len(wanted), 3, *size)
    if kept is not None and int(np.prod(shape)) > IN_MEMORY:
        store: np.ndarray = np.memmap(kept, dtype=np.uint8, mode="w+", shape=shape)
    else:
        store = np.empty(shape, dtype=np.uint8)
    enlarged: list[float] = []
    skipped: list[str] = []
    listed = ((shard, item) for shard in Listing(list(map(str, sources))) for item in items(shard, Columns()))
    for place, (shard, item) in enumerate(listed):
        if place not in wanted:
            continue
        name = item.path or f"{shard.url}, {item.key if shard.kind == 'tar' else f'row {item.key}'}"
        if (item := load_bytes(item)).error:
            skipped.append(f"{name}: {item.error}")
            continue
        try:
            picture = images.decode(item.content, name)
        except ImageError as error:
            skipped.append(str(error))
            continue
        store[len(enlarged)] = see(picture).numpy()
        enlarged.append(max(1.0, min(size) / min(picture.size)))
        report(len(enlarged))
    levels = torch.from_numpy(store[: len(enlarged)])
    return Pictures(levels, torch.tensor(enlarged, dtype=torch.float32), skipped)


def augment(levels: Tensor, enlarged: Tensor, generator: torch.Generator) -> Tensor:
    """Random views, float32 (B, 3, H, W) in [0, 1], of uint8 pictures (B, 3, H, W), enlarged by factors (B,) before.

    The original and the trained encoder see the same view, so it may change what the picture shows. It only has to
    resemble the pictures that will be scored. A picture that was enlarged to the model's size has no fine detail, and a
    tower that is hardened on such pictures alone is easy to fool on photographs. So it is also shown at its original
    size with a mirrored border, where all of its detail is at the finest scale. Random choices are made on the CPU.
    """
    pixels = levels.float() / 255
    n = len(pixels)

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    largest = enlarged.clamp(1, MOST_SIDE).log()
    zoom = torch.exp(math.log(LEAST_SIDE) + draw(0, 1) * (largest - math.log(LEAST_SIDE)))
    stretch = draw(-ASPECT / 2, ASPECT / 2).exp()
    width, height = zoom * stretch, zoom / stretch
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = width * torch.where(draw(0, 1) < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = draw(-1, 1) * (1 - width).abs()
    theta[:, 1, 2] = draw(-1, 1) * (1 - height).abs()
    amount = draw(-SHARPEN, SHARPEN).clamp(min=0).view(n, 1, 1, 1)
    grid = F.affine_grid(theta.to(pixels.device), list(pixels.shape), align_corners=False)
    pixels = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    blurred = F.avg_pool2d(pixels, 3, 1, 1, count_include_pad=False)
    return torch.lerp(blurred, pixels, 1 + amount.to(pixels.device)).clamp(0, 1)


def random_start(pictures: Tensor, radius: Tensor, generator: torch.Generator) -> Tensor:
    """A change in a random direction, of random size within the radius (B,) of each picture."""
    noise = torch.randn(pictures.shape, generator=generator, device=generator.device).to(pictures.device)
    share = torch.rand(len(pictures), generator=generator, device=generator.device).to(pictures.device)
    return noise * (share * radius / _norms(noise)).view(-1, 1, 1, 1)


def perturb(encode: Encode, pictures: Tensor, directions: Tensor, radius: Tensor, start: Tensor, steps: int) -> Tensor:
    r"""Push pictures towards directions, by projected gradient ascent within a Euclidean ball (Madry et al. 2018).

    .. math:: \max_{\lVert\delta\rVert \le r} \cos(E(x + \delta), d)

    If :math:`d` is a text, this is what attackers of a score do. If :math:`d = -E_0(x)`, it is FARE's largest distance
    from the original embedding.

    `encode` makes unit vectors (B, D) of pictures (B, 3, H, W) in [0, 1], differentiably. `start` (B, 3, H, W) is the
    first change, and `radius` (B,) the largest Euclidean norm of each. What is returned has no gradient.
    """
    change = start
    length = radius * min(1.0, 1.5 / steps)  # a single step may cross the ball, several steps are shorter
    for _ in range(steps):
        change = change.detach().requires_grad_(True)
        value = (encode((pictures + change).clamp(0, 1)) * directions).sum()
        (gradient,) = torch.autograd.grad(value, change)
        with torch.no_grad():
            change = change + gradient * (length / _norms(gradient)).view(-1, 1, 1, 1)
            change = change * (radius / _norms(change)).clamp(max=1).view(-1, 1, 1, 1)
    return (pictures + change.detach()).clamp(0, 1)


def _norms(values: Tensor) -> Tensor:
    return torch.as_tensor(torch.linalg.vector_norm(values.flatten(1), dim=1).clamp(min=1e-20))
