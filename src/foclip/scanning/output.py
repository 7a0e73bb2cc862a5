"""Shards in, parts out: one Parquet part per shard, written whole or not at all, and what names the scan.

```
DIR/manifest.json             what was scanned with what; another scan into the same folder must agree
DIR/shards.jsonl              the shards, one per line
DIR/parts/00000000.parquet …  the rows of shard 0 …
```
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from foclip import files
from foclip.data.sources import Columns, Item, Shard, items, text
from foclip.errors import OutputError, UsageError

#: Items of a chunk at most.
CHUNK = 32
#: Bytes of their files at most, unless one file alone is larger.
CHUNK_BYTES = 32 * 2**20
#: Rows of a part that are in memory at a time.
ROWS = 8192
#: Version of the folder's format.
FORMAT = 1
MANIFEST, LIST, PARTS = "manifest.json", "shards.jsonl", "parts"

#: A row of the output by the names of its columns.
Row = dict[str, Any]
#: Given a shard, says which of its places are asked for.
Wanted = Callable[[Shard], Callable[[int], bool]]


@dataclass(frozen=True)
class Chunk:
    """Items of a shard that follow each other, and the share of the shard that is done with them.

    The last chunk of every shard has no items and a share of 1, so that a shard without items has a chunk, too.
    """

    shard: Shard
    items: list[Item]
    share: float


def read(shards: Iterable[Shard], columns: Columns, size: int = CHUNK, wanted: Wanted | None = None) -> Iterator[Chunk]:
    """The chunks of shards, in order, of at most `size` of the items that are wanted (None: all)."""
    for shard in shards:
        chosen = wanted(shard) if wanted else lambda place: True
        chunk: list[Item] = []
        rows = done = held = 0
        for place, item in enumerate(items(shard, columns)):
            if not chosen(place):
                continue
            chunk.append(item)
            rows, done, held = rows + 1, done + len(item.content), held + len(item.content)
            if len(chunk) == size or held >= CHUNK_BYTES:
                share = rows / shard.rows if shard.rows > 0 else done / max(shard.size, 1)
                yield Chunk(shard, chunk, min(share, 0.999))
                chunk, held = [], 0
        if chunk:
            yield Chunk(shard, chunk, 0.999)
        yield Chunk(shard, [], 1.0)


class Folder:
    """The output folder of a scan, `out`, which exists."""

    def __init__(self, out: Path) -> None:
        self.out, self.parts = out, out / PARTS

    def part(self, number: int) -> Path:
        """The file of a shard's part."""
        return self.parts / f"{number:08d}.parquet"

    def misses(self, shard: Shard) -> bool:
        """Whether a shard has no part yet."""
        return not self.part(shard.number).exists()

    def manifest(self) -> dict[str, Any] | None:
        """The manifest of an earlier run; None if there was none, and a `UsageError` if it is something else."""
        path = self.out / MANIFEST
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["format"] != FORMAT:
                raise ValueError(f"format {found['format']!r}, this version reads {FORMAT}")
            dict(found["judge"])
            list(found["sources"])
            dict(found["found"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise UsageError(f"out: {path} is no manifest of a scan ({error}); choose another folder") from error
        return dict(found)

    def begin(self, listed: Iterable[Shard], manifest: Callable[[int], dict[str, Any] | None]) -> int:
        """Write the list of shards, then the manifest, which is made once their number is known; give that number.

        If there is a manifest already, `manifest` gives None, or raises an error so that nothing is written.
        """
        files.output_folder(self.parts)
        count = 0
        with files.replacing(self.out / LIST, sync=True) as partial:
            with partial.open("w") as lines:
                for count, shard in enumerate(listed, start=1):  # noqa: B007 (counts them)
                    lines.write(json.dumps(asdict(shard)) + "\n")
            content = manifest(count)
        if content is not None:
            files.write_text(self.out / MANIFEST, files.to_json(content))
        return count

    def shards(self) -> Iterator[Shard]:
        """The shards, in their order."""
        with (self.out / LIST).open() as lines:
            for line in lines:
                content = json.loads(line)
                yield Shard(**content | {"names": tuple(content["names"])})

    def rows_of(self, shard: Shard) -> list[Row]:
        """The rows of a shard whose part is written."""
        return list(parquet.read_table(self.part(shard.number)).to_pylist())

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[tuple[int, int, pa.RecordBatch]]:
        """All rows, some at a time, after the number of their shard and the place of the first of them in it.

        Raises:
            OutputError: A part cannot be read.
        """
        for shard in self.shards():
            path, first = self.part(shard.number), 0
            if not files.await_file(path):  # a node of a cluster may have written it
                raise OutputError(f"{path}: is gone; give the command again")
            try:
                with parquet.ParquetFile(path) as part:
                    for batch in part.iter_batches(batch_size=ROWS, columns=columns):
                        yield shard.number, first, batch
                        first += batch.num_rows
            except (OSError, ValueError) as error:
                raise OutputError(f"{path}: cannot be read ({error}); remove it and give the command again") from error


def write(
    folder: Folder,
    results: Iterable[tuple[Chunk, list[Row]]],
    schema: pa.Schema,
    report: Callable[[int, float], None] = lambda rows, share: None,
) -> None:
    """Write the part of each shard as its rows come; `report` gets their number and the share of the shard done."""
    for shard, some in groupby(results, key=lambda result: result[0].shard):
        with (
            files.replacing(folder.part(shard.number), sync=True) as partial,
            parquet.ParquetWriter(partial, schema, compression="zstd") as writer,
        ):
            rows: list[Row] = []
            for chunk, new in some:
                for row in new:
                    file = f"/{row['key'].rpartition('/')[2]}" if shard.kind == "pictures" else ""
                    rows.append(row | {"source": text(f"{shard.url}{file}")})
                while len(rows) >= ROWS or (rows and chunk.share == 1):
                    writer.write_table(pa.Table.from_pylist(rows[:ROWS], schema=schema))
                    del rows[:ROWS]
                report(len(new), chunk.share)
