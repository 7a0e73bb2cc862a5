"""Pictures to train on, from folders, tars and Parquet tables, decoded once to the model's input size.

Nothing but the pictures is read: no captions and no labels. A picture that
cannot be decoded is left out and listed.
"""

import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from foclip import images
from foclip.errors import ImageError, UsageError

#: Up to so many bytes decoded pictures are held in memory; beyond, in a file that is mapped into it.
IN_MEMORY = 6 * 2**30
#: Columns of a Parquet table that may hold pictures, the first that is there counts.
COLUMNS = ("image", "jpg", "png", "webp", "img", "bytes")
#: Pictures decoded between two reports.
REPORT = 5000
#: Rows of a Parquet table that are in memory at a time.
ROWS = 256

#: Called with the number of pictures seen so far.
Report = Callable[[int], None]


@dataclass
class Pictures:
    """Decoded pictures.

    Attributes:
        levels: uint8 (N, 3, H, W).
        enlarged: float (N,): by what factor each was enlarged to get there, at least 1.
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
        UsageError: A source does not exist, or cannot be read as what its name says it is.
    """
    return sum(_count(path) for path in _files(sources))


def decode(
    sources: Sequence[Path],
    size: tuple[int, int],
    resize: Callable[[Image.Image], Image.Image],
    chosen: Iterable[int],
    kept: Path | None = None,
    report: Report = lambda done: None,
) -> Pictures:
    """Decode some of the pictures that `count` counted.

    Args:
        sources: Folders, picture files, tars and Parquet tables.
        size: (height, width) of the model's input.
        resize: The model's own resize and crop.
        chosen: Places of the pictures wanted, in the order of `count`.
        kept: A file for decoded pictures, should they be too many for the memory; it is overwritten.
        report: Called now and then with the number of pictures decoded.

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
    done = 0
    for place, (name, content) in enumerate(_contents(sources)):
        if place not in wanted:
            continue
        try:
            picture = images.read(content) if isinstance(content, Path) else images.decode(content, name)
        except ImageError as error:
            skipped.append(str(error))
            continue
        store[done] = np.asarray(resize(picture)).transpose(2, 0, 1)
        enlarged.append(max(1.0, min(size) / min(picture.size)))
        done += 1
        if done % REPORT == 0:
            report(done)
    report(done)
    return Pictures(torch.from_numpy(store[:done]), torch.tensor(enlarged, dtype=torch.float32), skipped)


def _files(sources: Sequence[Path]) -> Iterator[Path]:
    """Files of pictures, tars and tables, in an order that depends on nothing but their names."""
    for source in sources:
        if source.is_dir():
            inside = (p for p in source.rglob("*") if _kind(p) and p.is_file())
            yield from sorted(inside, key=lambda p: p.relative_to(source).as_posix())
        elif source.is_file():
            yield source
        else:
            raise UsageError(f"images: {source}: no such file or folder")


def _kind(path: Path) -> str:
    """What a file is by its name: a picture, a tar, a table, or nothing of use (empty)."""
    name = path.name.lower()
    if path.suffix.lower() in images.SUFFIXES:
        return "picture"
    if name.endswith((".tar", ".tar.gz", ".tgz")):
        return "tar"
    return "table" if name.endswith((".parquet", ".pq")) else ""


def _count(path: Path) -> int:
    if _kind(path) == "table":
        return int(_table(path).metadata.num_rows)
    return sum(1 for _ in _members(path)) if _kind(path) == "tar" else 1


def _contents(sources: Sequence[Path]) -> Iterator[tuple[str, Path | bytes]]:
    """Name and content of every picture, in the order of `count`."""
    for path in _files(sources):
        if _kind(path) == "table":
            yield from _rows(path)
        elif _kind(path) == "tar":
            yield from _members(path, read=True)
        else:
            yield str(path), path


def _members(path: Path, read: bool = False) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile() and Path(member.name).suffix.lower() in images.SUFFIXES:
                    stream = tar.extractfile(member) if read else None
                    yield f"{path}/{member.name}", stream.read() if stream else b""
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UsageError(f"--images {path}: cannot be read as a tar ({error})") from error


def _table(path: Path) -> Any:
    import pyarrow.parquet as parquet

    try:
        return parquet.ParquetFile(path)
    except Exception as error:  # pyarrow raises its own types, and OSError
        raise UsageError(f"--images {path}: cannot be read as Parquet ({' '.join(str(error).split())})") from error


def _rows(path: Path) -> Iterator[tuple[str, bytes]]:
    """Pictures of a table: a column of bytes, or of Hugging Face's {bytes, path}."""
    table = _table(path)
    names = table.schema_arrow.names
    column = next((name for name in COLUMNS if name in names), None)
    if column is None:
        raise UsageError(f"--images {path}: none of its columns ({', '.join(names)}) is called {' or '.join(COLUMNS)}")
    row = 0
    for batch in table.iter_batches(batch_size=ROWS, columns=[column]):
        for value in batch.column(0).to_pylist():
            content = value.get("bytes") if isinstance(value, dict) else value
            yield f"{path}, row {row}", content if isinstance(content, bytes) else b""
            row += 1
