"""Pictures to train on, from folders, tars and Parquet tables, decoded once to the model's input size.

Captions and labels are not read. A picture that cannot be decoded is left out and listed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from foclip.data import images
from foclip.data.sources import Columns, Item, Listing, items, load_bytes
from foclip.errors import ImageError

#: Decoded pictures of more bytes than this are kept in a memory-mapped file.
IN_MEMORY = 6 * 2**30


@dataclass
class Pictures:
    """Decoded pictures.

    Attributes:
        levels: uint8 (N, 3, H, W).
        enlarged: float (N,), factor by which each was enlarged to the input size, at least 1.
        skipped: One line for each picture that could not be decoded.
    """

    levels: Tensor
    enlarged: Tensor
    skipped: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.levels)


def count(sources: Sequence[Path]) -> int:
    """Number of pictures in folders (recursively), picture files, tars and Parquet tables, decodable or not.

    Raises:
        UsageError: A source does not exist, or holds no pictures.
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
    """Decode some of the pictures that `count` counted.

    Args:
        sources: Folders, picture files, tars and Parquet tables.
        size: (height, width) of the model's input.
        see: The model's own resize and crop (`foclip.models.preprocess.Preprocess.image`).
        chosen: Places of the pictures wanted, in the order of `count`.
        kept: A file for decoded pictures that do not fit into memory. It is overwritten.
        report: Called after each picture with the number decoded so far.

    Returns:
        The pictures that could be decoded, in the order of the sources.
    """
    wanted = set(chosen)
    shape = (len(wanted), 3, *size)
    if kept is not None and int(np.prod(shape)) > IN_MEMORY:
        store: np.ndarray = np.memmap(kept, dtype=np.uint8, mode="w+", shape=shape)
    else:
        store = np.empty(shape, dtype=np.uint8)
    enlarged: list[float] = []
    skipped: list[str] = []
    for place, (name, item) in enumerate(_items(sources)):
        if place not in wanted:
            continue
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


def _items(sources: Sequence[Path]) -> Iterator[tuple[str, Item]]:
    """Every picture with its name, in the order of `count`."""
    for shard in Listing(list(map(str, sources))):
        for item in items(shard, Columns()):
            row = item.key if shard.kind == "tar" else f"row {item.key}"
            yield item.path or f"{shard.url}, {row}", item
