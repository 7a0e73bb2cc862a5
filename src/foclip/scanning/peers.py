"""Verdicts of a scan without a detector: its rows are each other's reference.

The first pass, that of every scan, writes parts with features and no verdicts. Here follows the second, over the parts
alone: the reference is made, and every part is written again with verdicts. The reference is of all rows, or of the
20,000 whose content has the lowest hashes. So it depends neither on chunks nor on workers, and a second pass that was
stopped is done again from the same features.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from foclip import files
from foclip.detection.features import Sensitivity, feature_names, feature_values
from foclip.detection.peers import LEAST, Peers, q_values
from foclip.detection.universal import Floats, Universal, universal
from foclip.scanning.output import ROWS, Folder, Row

#: Rows that are the reference at most.
REFERENCE = 20_000
#: Key of what a part was judged by, in its metadata.
JUDGED = b"judged by"


@cache
def columns() -> list[str]:
    """Names of the numbers in the column `features`: what is told of a verdict, and what it is made from."""
    weights = universal()
    shown = feature_names(weights.probes, ("drift", "relative_drop"))
    return [*shown, *weights.without_prompts.inputs, *weights.with_prompts.inputs]


def row_features(measured: Sensitivity) -> list[float] | None:
    """The numbers of a row, NaN for those with prompts if it has none; None for a picture without colour.

    Such a picture is neither a reference nor judged.
    """
    if measured.gray_already:
        return None
    values = (feature_values(measured, [name])[0] for name in columns())
    return [float("nan") if value is None else value for value in values]


def judge(folder: Folder, fdr: float) -> int:
    """Write the parts of a scan again with verdicts; the number of rows that were the reference.

    A part that was judged by the same reference stays as it is.

    Raises:
        OutputError: A part cannot be read or written.
    """
    table = _reference(folder)
    groups = [
        Group(statistic, name, Peers.of(statistic, own))
        for name, statistic in (
            ("peers", universal().with_prompts),
            ("peers without prompts", universal().without_prompts),
        )
        if len(own := _known(table[:, _places(statistic)])) >= LEAST
    ]
    values = [_ranks(_features(batch), groups).p_value for *_, batch in folder.rows(["features"])]
    p_values = np.concatenate(values) if values else np.empty(0)
    judged = ~np.isnan(p_values)
    q = np.full(len(p_values), np.nan)
    q[judged] = q_values(p_values[judged])
    digest = hashlib.sha256(b"%r %r" % (fdr, len(q)) + q.tobytes() + table.tobytes()).hexdigest().encode()
    first = 0
    for shard in folder.shards():
        path = folder.part(shard.number)
        count = parquet.read_metadata(path).num_rows
        if (parquet.read_schema(path).metadata or {}).get(JUDGED) != digest:
            _write(path, groups, q[first : first + count], fdr, digest)
        first += count
    return len(table)


class Group(NamedTuple):
    """Rows that are judged alike: by the statistic with prompts or without, among a reference."""

    statistic: Universal
    name: str
    peers: Peers


class Ranks(NamedTuple):
    """What a reference makes of N rows: p-values (N,), NaN for none; what decided; the probe that told most."""

    p_value: Floats
    decided_by: list[str | None]
    probe: list[str | None]


def _reference(folder: Folder) -> Floats:
    """Features (M, F) of the rows that are the reference, in the order of their hashes."""
    hashes, tables = np.empty(0, dtype="U64"), np.empty((0, len(columns())))
    for *_, batch in folder.rows(["sha256", "features"]):
        has = np.flatnonzero(batch.column("features").is_valid())
        some = batch.take(pa.array(has))
        hashes = np.concatenate([hashes, np.array(some.column("sha256").to_pylist(), dtype="U64")])
        tables = np.concatenate([tables, _features(some)])
        order = np.argsort(hashes, kind="stable")[:REFERENCE]
        hashes, tables = hashes[order], tables[order]
    return tables


def _features(batch: pa.RecordBatch) -> Floats:
    """The features (N, F) of rows, NaN where a row has none."""
    width = len(columns())
    rows = [[np.nan] * width if row is None else row for row in batch.column("features").to_pylist()]
    return np.array(rows, dtype=np.float64).reshape(-1, width)


def _known(table: Floats) -> Floats:
    found: Floats = table[~np.isnan(table).any(axis=1)]
    return found


def _places(statistic: Universal) -> list[int]:
    return [columns().index(name) for name in statistic.inputs]


def _ranks(table: Floats, groups: Sequence[Group]) -> Ranks:
    """With prompts where the row has some and enough others have; else without."""
    found = Ranks(np.full(len(table), np.nan), [None] * len(table), [None] * len(table))
    for group in groups:
        own = table[:, _places(group.statistic)]
        rows = np.flatnonzero(~np.isnan(own).any(axis=1) & np.isnan(found.p_value))
        found.p_value[rows] = group.peers.p_values(own[rows])
        for row, probe in zip(rows.tolist(), group.peers.leading(own[rows]), strict=True):
            found.decided_by[row], found.probe[row] = group.name, probe
    return found


def _write(path: Path, groups: Sequence[Group], q: Floats, fdr: float, digest: bytes) -> None:
    """A part with verdicts: tampered where q is at most `fdr`, undecidable where there is no colour."""
    names = columns()
    with parquet.ParquetFile(path) as part, files.replacing(path, sync=True) as partial:
        schema = part.schema_arrow.with_metadata((part.schema_arrow.metadata or {}) | {JUDGED: digest})
        with parquet.ParquetWriter(partial, schema, compression="zstd") as writer:
            first = 0
            for batch in part.iter_batches(batch_size=ROWS):
                table, rows = _features(batch), batch.to_pylist()
                ranks = _ranks(table, groups)
                for place, row in enumerate(rows):
                    own = dict(zip(names, table[place].tolist(), strict=True))
                    row |= _verdict(row, own, ranks, place, float(q[first + place]), fdr)
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                first += len(rows)


def _verdict(row: Row, own: dict[str, float], ranks: Ranks, place: int, q: float, fdr: float) -> Row:
    """The columns of a row's verdict."""
    probe, drop = ranks.probe[place], None
    if probe is None:
        undecidable = row["error"] is None and row["features"] is None
        return {"verdict": "undecidable" if undecidable else None, "decided_by": "peers" if undecidable else None}
    if ranks.decided_by[place] == "peers":
        drop = own[f"relative_drop_{probe}"]
    return {
        "verdict": "tampered" if q <= fdr else "clean",
        "tampered": q <= fdr,
        "p_value": float(ranks.p_value[place]),
        "q_value": q,
        "decided_by": ranks.decided_by[place],
        "probe": probe,
        "drop": drop,
        "drift": own[f"drift_{probe}"],
    }
