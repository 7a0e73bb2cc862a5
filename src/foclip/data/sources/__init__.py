"""Data sets as people have them, row by row: folders of pictures, WebDataset tars, Parquet tables.

`Listing` cuts data sets into shards, the units of work. `items` reads one shard in one pass and bounded memory.
Every row becomes an `Item`; one that cannot be read becomes an item with an error.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from foclip.data.sources import archive, table
from foclip.data.sources.item import MAX_PICTURE, MAX_TEXT, Columns, Item, Shard, text
from foclip.data.sources.listing import Listing, file_system, source_missing

__all__ = ["Columns", "Item", "Listing", "Shard", "items", "load_bytes", "text"]


def items(shard: Shard, columns: Columns, read: bool = True) -> Iterator[Item]:
    """The rows of a shard, in order; picture files are left to `load_bytes`, and without `read` tars give keys only."""
    if shard.kind == "pictures":
        for name in shard.names:
            yield Item(text(f"{shard.prefix}{name}"), path=f"{shard.url}/{name}")
        return
    folder, _, name = shard.url.rpartition("/")
    fs, path = file_system(shard.url)
    try:
        with fs.open(path, "rb") as stream:
            if shard.kind == "tar":
                yield from archive.items(stream, text(name), columns, read)
            elif shard.group < 0:
                error = "could not be read when the scan began"
                try:
                    table.open_table(stream)
                except ValueError as problem:
                    error = str(problem)
                yield Item(text(name), error=error)
            else:
                for item in table.items(stream, shard.group, shard.first, columns, text(shard.url)):
                    yield replace(item, path=f"{folder}/{item.path}") if item.path else item
    except OSError as error:
        raise source_missing(shard.url, error) from error


def load_bytes(item: Item) -> Item:
    """The item with what its picture file and the `.txt` beside it hold; a `SourceError` if its folder is gone."""
    if item.path is None or item.error:
        return item
    fs, path = file_system(item.path)
    try:
        if int(fs.size(path) or 0) > MAX_PICTURE:
            return replace(item, error=f"a file of {fs.size(path):,} bytes is more than is read")
        with fs.open(path, "rb") as stream:
            content = stream.read(MAX_PICTURE)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and _empty(fs, path.rpartition("/")[0]):
            raise source_missing(item.path, error) from error
        return replace(item, error=text(error.strerror or error).lower())
    if item.caption is not None:
        return replace(item, content=content)
    try:
        with fs.open(f"{path.rpartition('.')[0]}.txt", "rb") as stream:
            caption = stream.read(MAX_TEXT).decode("utf-8-sig").strip()
    except FileNotFoundError:
        return replace(item, content=content)
    except (OSError, UnicodeDecodeError) as error:
        return replace(item, error=f"its .txt: {text(getattr(error, 'strerror', None) or 'no UTF-8 text')}")
    return replace(item, content=content, caption=caption or None)


def _empty(fs: Any, folder: str) -> bool:
    try:
        return not fs.ls(folder, detail=False)
    except OSError:
        return True
