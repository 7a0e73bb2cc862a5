"""What passes a scan, as what trains on it wants to be told.

- `.npy`: the sorted array of DataComp's subsets, each uid of 32 hexadecimal digits as two unsigned 64-bit numbers
  (its resharder reads it);
- `.txt`: a key per line;
- `.parquet`: the rows themselves.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet

from foclip import files
from foclip.errors import UsageError
from foclip.scanning.parts import Folder, schema

#: DataComp's type of a subset.
UID = np.dtype("u8,u8")


def check(path: Path) -> None:
    """Refuse a file of another kind, before any work is done.

    Raises:
        UsageError: It is neither .npy, .txt nor .parquet, or a folder.
    """
    if path.suffix not in (".npy", ".txt", ".parquet"):
        raise UsageError(f"keep: {path}: give a file name that ends in .npy, .txt or .parquet")
    files.output_folder(path.parent)
    files.output_files(path)


def keep(folder: Folder, path: Path, cosine: str | None, min_score: float | None = None) -> int:
    """Write what passes: every row that has no error and was not called tampered.

    Args:
        folder: Of the scan.
        path: The file to write.
        cosine: Name of the column of cosines, if there is one.
        min_score: Least score; None for any, also for pictures without a caption.

    Returns:
        How many rows passed.

    Raises:
        UsageError: A row has no uid, where the file is one of uids.
        OutputError: The file cannot be written.
    """
    passed = _passed(folder, min_score)
    if path.suffix == ".npy":
        numbers = [_numbers(batch, path) for batch in passed]
        kept = np.sort(np.concatenate(numbers or [np.empty(0, UID)]))
        with files.replacing(path) as partial, partial.open("wb") as file:
            np.save(file, kept)
        return len(kept)
    count = 0
    with files.replacing(path) as partial, ExitStack() as stack:
        if path.suffix == ".txt":
            lines = stack.enter_context(partial.open("w", encoding="utf-8"))
            for batch in passed:
                lines.writelines(f"{key}\n" for key in batch.column("key").to_pylist())
                count += batch.num_rows
        else:
            writer = stack.enter_context(parquet.ParquetWriter(partial, schema(cosine), compression="zstd"))
            for batch in passed:
                writer.write_batch(batch)
                count += batch.num_rows
    return count


def _passed(folder: Folder, min_score: float | None) -> Iterator[pa.RecordBatch]:
    for _, batch in folder.rows():
        passes = pc.and_(pc.is_null(batch.column("error")), pc.invert(pc.fill_null(batch.column("tampered"), False)))
        if min_score is not None:
            passes = pc.and_(passes, pc.fill_null(pc.greater_equal(batch.column("score"), min_score), False))
        yield batch.filter(passes)


def _numbers(batch: pa.RecordBatch, path: Path) -> np.ndarray:
    """The uids of rows, or their keys where those are uids, as pairs of numbers."""
    found = np.empty(batch.num_rows, UID)
    for place, (uid, key) in enumerate(
        zip(batch.column("uid").to_pylist(), batch.column("key").to_pylist(), strict=True)
    ):
        digits = uid or key
        if not re.fullmatch(r"[0-9a-fA-F]{32}", digits):
            raise UsageError(
                f"keep: {path}: {key[:60]} has no uid of 32 hexadecimal digits; the scan is done, "
                "so give the same command with a file name that ends in .txt or .parquet"
            )
        found[place] = int(digits[:16], 16), int(digits[16:], 16)
    return found
