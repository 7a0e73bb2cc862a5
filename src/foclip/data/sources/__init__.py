"""Data sets as people have them, row by row: folders of pictures, WebDataset tars, Parquet tables.

`Listing` cuts data sets into shards, the units of work. `items` reads one shard in one pass and bounded memory.
Every row becomes an `Item`; one that cannot be read becomes an item with an error.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from foclip.data import captions
from foclip.data.sources import archive, captioned, table
from foclip.data.sources.item import MAX_PICTURE, MAX_TEXT, Columns, Item, Shard, text
from foclip.data.sources.listing import Listing, file_system, source_missing
from foclip.errors import PromptError

__all__ = ["Columns", "Item", "Listing", "Shard", "items", "load_bytes", "roles", "text"]


def items(shard: Shard, columns: Columns, read: bool = True) -> Iterator[Item]:
    """The rows of a shard, in order; picture files are left to `load_bytes`, and without `read` tars give keys only."""
    if shard.kind == "pictures":
        yield from _pictures(shard, columns)
        return
    name = shard.url.rpartition("/")[2]
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
                yield from table.items(stream, shard.group, shard.first, columns, shard.url)
    except OSError as error:
        raise source_missing(shard.url, error) from error


def _pictures(shard: Shard, columns: Columns) -> Iterator[Item]:
    error, told = None, dict[str, str]()
    try:
        fs, path = file_system(shard.url)
        told = captioned.captions_of(fs, path, shard, columns)
    except (PromptError, ValueError, OSError) as problem:
        error = text(problem, 200)
    for name in shard.names:
        key, path = text(f"{shard.prefix}{name}"), f"{shard.url}/{name}"
        yield Item(key, path=path, folder=shard.url, caption=told.get(name), error=error)


def roles(shard: Shard, columns: Columns) -> dict[str, str]:
    """The columns of a table's shard by what they hold: `image` and, where there are any, `caption` and others."""
    fs, path = file_system(shard.url)
    with fs.open(path, "rb") as stream:
        return table.columns_of(table.open_table(stream).schema_arrow, columns, shard.url)


def load_bytes(item: Item) -> Item:
    """The item with what its picture file and the text beside it hold; a `SourceError` if its source is gone."""
    if item.path is None or item.error:
        return item
    fs, path = file_system(item.path)
    if not path.isascii():
        path = _spelled(fs, path, file_system(item.folder)[1])
    try:
        if int(fs.size(path) or 0) > MAX_PICTURE:
            return replace(item, error=f"a file of {fs.size(path):,} bytes is more than is read")
        with fs.open(path, "rb") as stream:
            content = stream.read(MAX_PICTURE)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and _empty(fs, file_system(item.folder)[1]):
            raise source_missing(item.path, error) from error
        return replace(item, error=text(error.strerror or error).lower())
    if item.caption is not None:
        return replace(item, content=content)
    for beside in captions.beside(path):
        try:
            with fs.open(beside, "rb") as stream:
                caption = captions.of_text(stream.read(MAX_TEXT), f".{beside.rpartition('.')[2]}")
            return replace(item, content=content, caption=caption)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            return replace(item, error=text(getattr(error, "strerror", None) or error))
    return replace(item, content=content)


def _spelled(fs: Any, path: str, folder: str) -> str:
    """A path below a folder as it is there: accents may be parted from their letters (macOS does), or not."""
    found = folder
    for part in path.removeprefix(f"{folder}/").split("/"):
        forms = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
        found = next((at for form in forms if fs.exists(at := f"{found}/{form}")), f"{found}/{part}")
    return found


def _empty(fs: Any, folder: str) -> bool:
    try:
        return not fs.ls(folder, detail=False)
    except OSError:
        return True
