"""The output folder: one Parquet part per shard, written whole or not at all, and what names the run.

```
DIR/manifest.json          what was scanned with what; another run with the same folder must agree
DIR/shards.parquet         the pieces of work
DIR/parts/00000000.parquet …  rows of shard 0 …
```
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from foclip import files
from foclip.data.sources import Shard, text
from foclip.errors import OutputError, UsageError
from foclip.models.scores import EmbeddingScore
from foclip.models.scores.clip import SCALE
from foclip.scanning.rows import Row

#: Rows of a part, and shards of the list, that are in memory at a time.
ROWS, SHARDS = 8192, 1024
#: Raise it when parts mean something else.
FORMAT = 1
MANIFEST, LIST, PARTS = "manifest.json", "shards.parquet", "parts"
#: Cosines by the names that DataComp's metadata have for those of OpenAI's models.
KNOWN = {"ViT-B-32": "clip_b32_similarity_score", "ViT-L-14": "clip_l14_similarity_score"}

#: Columns of a part, in this order; docs/scan.md says what each holds.
COLUMNS = (
    ("key", pa.string()),
    ("source", pa.string()),
    ("uid", pa.string()),
    ("caption", pa.string()),
    ("score", pa.float32()),
    ("gray_score", pa.float32()),
    ("drop", pa.float32()),
    ("drift", pa.float32()),
    ("p_value", pa.float32()),
    ("tampered", pa.bool_()),
    ("decided_by", pa.dictionary(pa.int8(), pa.string())),
    ("error", pa.string()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("sha256", pa.string()),
)
#: Columns of the list of shards.
SHARD = pa.schema(
    [
        ("number", pa.int64()),
        ("kind", pa.string()),
        ("url", pa.binary()),
        ("size", pa.int64()),
        ("rows", pa.int64()),
        ("group", pa.int32()),
        ("first", pa.int64()),
        ("below", pa.binary()),
        ("names", pa.list_(pa.binary())),
    ]
)


def similarity(score: EmbeddingScore) -> str | None:
    """The name that DataComp's metadata have for the cosines of this model; None for any other."""
    architecture, _, tag = score.model.partition("/")
    known = KNOWN.get(architecture.removesuffix("-quickgelu")) if tag == "openai" else None
    return known if score.name == "clipscore" else None


def schema(cosine: str | None) -> pa.Schema:
    """Columns of a part; with a cosine's name, one more of that name."""
    return pa.schema([*COLUMNS, *([(cosine, pa.float32())] if cosine else [])])


class Part:
    """A part as it is written: `ROWS` rows at a time, to a file that takes its place when the block is left.

    Args:
        path: Its file.
        shard: Where its rows come from.
        cosine: Name of the column of cosines, if there is one.
    """

    def __init__(self, path: Path, shard: Shard, cosine: str | None) -> None:
        self._stack = ExitStack()
        self._path, self._shard, self._cosine = path, shard, cosine
        self._schema = schema(cosine)
        self._rows: list[Row] = []
        self._writer: Any = None

    def __enter__(self) -> "Part":
        partial = self._stack.enter_context(files.replacing(self._path, sync=True))
        # replacing() puts into one line what the operating system says of a full disk
        self._stack.push(self._close)
        self._writer = parquet.ParquetWriter(partial, self._schema, compression="zstd")
        return self

    def add(self, rows: Sequence[Row]) -> None:
        """Take rows; they are written as soon as there are enough."""
        for row in rows:
            row["source"] = self._source(row["key"])
            if self._cosine:
                row[self._cosine] = None if row.get("score") is None else row["score"] / SCALE
        self._rows.extend(rows)
        while len(self._rows) >= ROWS:
            self._write(ROWS)

    def _source(self, key: str) -> str:
        """The file that a row comes from."""
        file = f"/{key.rpartition('/')[2]}" if self._shard.kind == "pictures" else ""
        return text(self._shard.url + file)

    def _write(self, count: int) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows[:count], schema=self._schema))
        del self._rows[:count]

    def _close(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            if self._rows:
                self._write(len(self._rows))
            self._writer.close()
        elif self._writer is not None:
            with suppress(Exception):  # it is thrown away
                self._writer.close()

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)


class Folder:
    """The output folder of a scan.

    Args:
        out: The folder, which is there.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.parts = out / PARTS

    def part(self, number: int) -> Path:
        """The file of a shard's part."""
        return self.parts / f"{number:08d}.parquet"

    def manifest(self) -> dict[str, Any] | None:
        """What an earlier run wrote there; None if there was none.

        Raises:
            UsageError: The file is there, and is something else.
        """
        path = self.out / MANIFEST
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["format"] != FORMAT:
                raise ValueError(f"format {found['format']!r}, this version reads {FORMAT}")
            dict(found["judge"])
            list(found["sources"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise UsageError(f"out: {path} is no manifest of a scan ({error}); choose another folder") from error
        return dict(found)

    def list_shards(self, listed: Iterator[Shard]) -> int:
        """Write the list of shards, and count them."""
        files.output_folder(self.parts)
        count = 0
        with files.replacing(self.out / LIST, sync=True) as partial, parquet.ParquetWriter(partial, SHARD) as writer:
            while some := [_as_row(shard) for shard in islice(listed, SHARDS)]:
                writer.write_table(pa.Table.from_pylist(some, schema=SHARD))
                count += len(some)
        return count

    def begin(self, manifest: dict[str, Any]) -> None:
        """Write the manifest of a new scan."""
        files.write_text(self.out / MANIFEST, files.to_json(manifest))

    def shards(self) -> Iterator[Shard]:
        """The shards, in their order."""
        with parquet.ParquetFile(self.out / LIST) as listed:
            for batch in listed.iter_batches(batch_size=SHARDS):
                yield from map(as_shard, batch.to_pylist())

    def shard(self, number: int) -> Shard:
        """One of the shards."""
        with parquet.ParquetFile(self.out / LIST) as listed:
            group, place = divmod(number, SHARDS)
            return as_shard(listed.read_row_group(group).slice(place, 1).to_pylist()[0])

    def pending(self) -> Iterator[Shard]:
        """The shards without a part."""
        return (shard for shard in self.shards() if not self.part(shard.number).exists())

    def tidy(self) -> None:
        """Remove what a run that was killed had not finished."""
        for path in self.parts.glob(".*.part"):
            path.unlink(missing_ok=True)

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.RecordBatch]]:
        """All rows, some at a time, with the number of their shard.

        Raises:
            OutputError: A part cannot be read.
        """
        for shard in self.shards():
            path = self.part(shard.number)
            try:
                with parquet.ParquetFile(path) as part:
                    for batch in part.iter_batches(batch_size=ROWS, columns=columns):
                        yield shard.number, batch
            except (OSError, ValueError) as error:
                raise OutputError(f"{path}: cannot be read ({error}); remove it and give the command again") from error


def _as_row(shard: Shard) -> dict[str, Any]:
    content = asdict(shard)
    content["names"] = [name.encode(errors="surrogateescape") for name in shard.names]
    return content | {key: content[key].encode(errors="surrogateescape") for key in ("url", "below")}


def as_shard(content: dict[str, Any]) -> Shard:
    """A row of the list of shards."""
    names = tuple(name.decode(errors="surrogateescape") for name in content["names"])
    paths = {key: content[key].decode(errors="surrogateescape") for key in ("url", "below")}
    return Shard(**content | paths | {"names": names})


def write(
    folder: Folder,
    results: Iterable[tuple[Shard, list[Row], float]],
    cosine: str | None,
    report: Callable[[int, float], None] = lambda rows, share: None,
) -> None:
    """Write the part of each shard as soon as its rows are there.

    Args:
        folder: The folder of the scan.
        results: Some rows of a shard, and the share of it that is done with them; 1 with the last, and none before it.
        cosine: Name of the column of cosines, if there is one.
        report: Called with the number of rows, and that share.

    Raises:
        OutputError: A part cannot be written.
    """
    for shard, some in groupby(results, key=itemgetter(0)):
        with Part(folder.part(shard.number), shard, cosine) as part:
            for _, rows, share in some:
                part.add(rows)
                report(len(rows), share)
