"""The reader: shards to chunks of a few items, which are handed to workers."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from foclip.data.sources import Columns, Item, Shard, items

#: Items of a chunk at most.
CHUNK = 32
#: Bytes of their files at most, unless one file alone is larger.
CHUNK_BYTES = 32 * 2**20

#: Given a shard, says which of its places are asked for.
Wanted = Callable[[Shard], Callable[[int], bool]]


@dataclass(frozen=True)
class Chunk:
    """Items of a shard that follow each other.

    Attributes:
        shard: Their shard.
        items: The items. The last chunk of every shard has none, so that a shard without items has a chunk, too.
        share: The share of the shard that is done with this chunk: 1 for the last one, less for the others.
    """

    shard: Shard
    items: list[Item]
    share: float


def read(shards: Iterable[Shard], columns: Columns, size: int = CHUNK, wanted: Wanted | None = None) -> Iterator[Chunk]:
    """The chunks of shards, in order.

    Args:
        shards: The shards.
        columns: Names of columns.
        size: Items in a chunk at most.
        wanted: Which items are asked for; None for all.

    Raises:
        SourceError: A source is gone.
    """
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
