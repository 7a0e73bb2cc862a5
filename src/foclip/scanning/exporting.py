"""Export what passes a scan, in the form that training code wants.

- `.npy`: DataComp's subset file: the sorted uids of 32 hexadecimal digits, each as two unsigned 64-bit numbers;
- `.txt`: a key per line;
- `.parquet`: the rows themselves.
"""

import math
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet

from foclip import files
from foclip.data.sources import Columns, Listing, items
from foclip.errors import UsageError
from foclip.scanning.output import Folder

#: DataComp's type of a subset file.
UID = np.dtype("u8,u8")
#: Rows of the first shard that are checked for uids before a scan begins.
CHECKED = 8


def check(path: Path, sources: Sequence[str], columns: Columns) -> None:
    """Refuse a file that could not be written after the scan of sources, as far as the first rows tell.

    Raises:
        UsageError: It ends in neither .npy, .txt nor .parquet, is a folder, or should hold uids, which the first rows
            do not have; or as `Listing`.
    """
    if path.suffix not in (".npy", ".txt", ".parquet"):
        raise UsageError(f"keep: {path}: give a file name that ends in .npy, .txt or .parquet")
    files.output_folder(path.parent)
    files.output_files(path)
    if path.suffix == ".npy":
        for shard in islice(Listing(sources, columns), 1):
            for item in islice(items(shard, columns), CHECKED):
                if not item.error:
                    _uid(path, item.uid, item.key)


def export(folder: Folder, path: Path, min_score: float | None = None, only_clean: bool = False) -> int:
    """Write what passes, every row that has no error and was not called tampered, and return their number.

    With a `min_score`, rows of a lower score and those without one do not pass; with `only_clean`, rows that are
    undecidable or have no verdict.

    Raises:
        UsageError: A row has no uid, and the file is one of uids; or the lowest score is NaN.
        OutputError: The file cannot be written.
    """
    if min_score is not None and math.isnan(min_score):
        raise UsageError("min_score: nan is no score")
    count = 0
    with files.replacing(path) as partial:
        if path.suffix == ".npy":
            kept = np.fromiter(_uids(path, _passed(folder, min_score, only_clean)), UID)
            with partial.open("wb") as stream:
                np.save(stream, np.sort(kept))
            return len(kept)
        if path.suffix == ".txt":
            with partial.open("w", encoding="utf-8") as lines:
                for batch in _passed(folder, min_score, only_clean):
                    lines.writelines(f"{key}\n" for key in batch.column("key").to_pylist())
                    count += batch.num_rows
            return count
        with parquet.ParquetWriter(partial, parquet.read_schema(folder.part(0)), compression="zstd") as writer:
            for batch in _passed(folder, min_score, only_clean):
                writer.write_batch(batch)
                count += batch.num_rows
    return count


def _passed(folder: Folder, min_score: float | None, only_clean: bool) -> Iterator[pa.RecordBatch]:
    for *_, batch in folder.rows():
        passes = pc.and_(
            pc.is_null(batch.column("error")), pc.invert(pc.fill_null(batch.column("tampered"), only_clean))
        )
        if min_score is not None:
            passes = pc.and_(passes, pc.fill_null(pc.greater_equal(batch.column("score"), min_score), False))
        yield batch.filter(passes)


def _uids(path: Path, batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, int]]:
    try:
        for batch in batches:
            for uid, key in zip(batch.column("uid").to_pylist(), batch.column("key").to_pylist(), strict=True):
                yield _uid(path, uid, key)
    except UsageError as error:
        raise UsageError(f"{error}; the scan is done: the same command with that name takes seconds") from None


def _uid(path: Path, uid: str | None, key: str) -> tuple[int, int]:
    """A row's uid, or its key where that is one, as a pair of numbers."""
    digits = uid or key
    if not re.fullmatch(r"[0-9a-fA-F]{32}", digits):
        raise UsageError(
            f"keep: {path}: row {key[:60]} has no uid of 32 hexadecimal digits, which a .npy file consists of; "
            f"give {path.with_suffix('.txt').name} for keys or {path.with_suffix('.parquet').name} for rows"
        )
    return int(digits[:16], 16), int(digits[16:], 16)
