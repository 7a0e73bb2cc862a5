"""Data sets as people have them, row by row: folders of pictures, WebDataset tars, Parquet tables.

`shards` lists what there is, in pieces of work; `items` reads one of them, in one pass and bounded memory, and
accounts for every row: what cannot be read is an `Item` with an error.
"""

from collections.abc import Iterator
from dataclasses import replace

from foclip.data.sources import archive, table
from foclip.data.sources.item import MAX_PICTURE, MAX_TEXT, Columns, Item, Shard, text
from foclip.data.sources.listing import Digest, entries, file_system, gone, kind, shards

__all__ = ["Columns", "Digest", "Item", "Shard", "entries", "fetched", "file_system", "items", "kind", "shards", "text"]


def items(shard: Shard, columns: Columns, read: bool = True) -> Iterator[Item]:
    """The rows of a shard, in its order; pictures that are files of their own are left to `fetched`.

    Args:
        shard: The shard.
        columns: Names of columns.
        read: Read what tars hold; else only count.

    Raises:
        SourceError: It is not there any more.
    """
    if shard.kind == "pictures":
        for name in shard.names:
            yield Item(text(f"{shard.below}{name}"), path=f"{shard.url}/{name}")
        return
    fs, path = file_system(shard.url)
    try:
        with fs.open(path, "rb") as stream:
            if shard.kind == "tar":
                yield from archive.items(stream, text(shard.url.rpartition("/")[2]), columns, read)
            elif shard.group < 0:
                yield Item(text(shard.url.rpartition("/")[2]), error=_why(stream))
            else:
                folder = shard.url.rpartition("/")[0]
                for item in table.items(stream, shard.group, shard.first, columns, text(shard.url)):
                    yield replace(item, path=f"{folder}/{item.path}") if item.path else item
    except OSError as error:
        raise gone(shard.url, error) from error


def _why(stream: object) -> str:
    try:
        table.open_table(stream)  # type: ignore[arg-type]
    except ValueError as error:
        return str(error)
    return "could not be read when the scan began"


def fetched(item: Item) -> Item:
    """A row with the content of its picture's file, if it is one of its own, and the caption beside it.

    Raises:
        SourceError: The file is not there any more, and neither is its folder, or anything in it.
    """
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
            raise gone(item.path, error) from error
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


def _empty(fs: object, folder: str) -> bool:
    try:
        return not fs.ls(folder, detail=False)  # type: ignore[attr-defined]
    except OSError:
        return True
