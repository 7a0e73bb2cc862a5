"""What a scan would read, before it reads it: kinds, columns, sample rows with their captions, and what is left out."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any

from foclip.data.sources import Columns, Listing, items, load_bytes, roles

#: Sample rows.
SAMPLES = 10


def preview(sources: Sequence[str], columns: Columns) -> dict[str, Any]:
    """Shards by kind, known rows (those of tars are not), columns by role, passed-over files and sample rows.

    The samples are the first rows of the first shard of each kind, and then of further shards, `SAMPLES` of each kind.
    An error is as in a scan, but pictures are not decoded.

    Raises:
        UsageError: As `Listing`.
        SourceError: A source is gone that was there a moment ago.
    """
    listing = Listing(sources, columns)
    shards, rows, sampled = Counter[str](), Counter[str](), Counter[str]()
    taken: dict[str, str] = {}
    samples: list[dict[str, str | None]] = []
    for shard in listing:
        shards[shard.kind] += 1
        rows[shard.kind] += max(shard.rows, 0)
        wanted = SAMPLES - sampled[shard.kind]
        if wanted and shard.kind == "table" and shard.group >= 0:
            taken |= roles(shard, columns)
        for item in map(load_bytes, islice(items(shard, columns), wanted)):
            sampled[shard.kind] += 1
            samples.append({"kind": shard.kind, "key": item.key, "caption": item.caption, "error": item.error})
    found = {"shards": dict(shards), "rows": {kind: count for kind, count in rows.items() if kind != "tar"}}
    return {**found, "columns": taken, "passed_over": dict(listing.passed_over), "samples": samples}
