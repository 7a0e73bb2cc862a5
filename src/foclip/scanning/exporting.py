"""Export what passes a scan, in the form that training code wants.

- `.npy`: DataComp's subset file: the sorted uids of 32 hexadecimal digits, each as two unsigned 64-bit numbers;
- `.txt`: a key per line;
- `.parquet`: the rows themselves.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
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
    """Refuse a file that could not be written after the scan, as far as the first rows tell.

    Args:
        path: The file to export to.
        sources: What will be scanned.
        columns: Names of columns.

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


def export(folder: Folder, path: Path, min_score: float | None = None) -> int:
    """Write what passes: every row that has no error and was not called tampered.

    Args:
        folder: Of the scan.
        path: The file to write.
        min_score: Least score; None for any, also for pictures without a score.

    Returns:
        How many rows passed.

    Raises:
        UsageError: A row has no uid, and the file is one of uids.
        OutputError: The file cannot be written.
    """
    count = 0
    passed = _passed(folder, min_score)
    with files.replacing(path) as partial, ExitStack() as stack:
        if path.suffix == ".npy":
            try:
                numbers = [_uids(path, batch) for batch in passed]
            except UsageError as error:
                raise UsageError(f"{error}; the scan is done: the same command with that name takes seconds") from None
            kept = np.sort(np.concatenate(numbers or [np.empty(0, UID)]))
            np.save(stack.enter_context(partial.open("wb")), kept)
            return len(kept)
        if path.suffix == ".txt":
            lines = stack.enter_context(partial.open("w", encoding="utf-8"))
            for batch in passed:
                lines.writelines(f"{key}\n" for key in batch.column("key").to_pylist())
                count += batch.num_rows
        else:
            writer = stack.enter_context(parquet.ParquetWriter(partial, folder.schema(), compression="zstd"))
            for batch in passed:
                writer.write_batch(batch)
                count += batch.num_rows
    return count


def _passed(folder: Folder, min_score: float | None) -> Iterator[pa.RecordBatch]:
    for *_, batch in folder.rows():
        passes = pc.and_(pc.is_null(batch.column("error")), pc.invert(pc.fill_null(batch.column("tampered"), False)))
        if min_score is not None:
            passes = pc.and_(passes, pc.fill_null(pc.greater_equal(batch.column("score"), min_score), False))
        yield batch.filter(passes)


def _uids(path: Path, batch: pa.RecordBatch) -> np.ndarray:
    """The uids of rows as pairs of numbers."""
    rows = zip(batch.column("uid").to_pylist(), batch.column("key").to_pylist(), strict=True)
    return np.array([_uid(path, uid, key) for uid, key in rows], UID)


def _uid(path: Path, uid: str | None, key: str) -> tuple[int, int]:
    """A row's uid, or its key where that is one, as a pair of numbers."""
    digits = uid or key
    if not re.fullmatch(r"[0-9a-fA-F]{32}", digits):
        raise UsageError(
            f"keep: {path}: row {key[:60]} has no uid of 32 hexadecimal digits, which a .npy file consists of; "
            f"give {path.with_suffix('.txt').name} for keys or {path.with_suffix('.parquet').name} for rows"
        )
    return int(digits[:16], 16), int(digits[16:], 16)
