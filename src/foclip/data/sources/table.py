"""Parquet tables: a column of picture bytes, Hugging Face's {bytes, path} or paths, and of captions and keys."""

import os
import re
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import unquote

import numpy as np

from foclip.data import captions
from foclip.data.captions import word
from foclip.data.sources.item import MAX_PICTURE, Columns, Item, raise_lost_file, text, told_apart
from foclip.errors import UsageError

#: Usual names of the columns of pictures and of keys, in any case of letters. The first that a table has is taken.
BYTES = ("image", "jpg", "png", "webp", "img", "bytes", "image_bytes", "content")
KEYS = ("key", "__key__", "uid", "id", "image_id")
#: How the text of a picture in Base64 begins: as a URI, or as a JPEG, PNG, WebP or GIF does.
BASE64 = ("data:image/", "/9j/", "iVBORw0KGgo", "UklGR", "R0lGOD")
#: Column in which img2dataset says why it could not download a picture.
REASON = "error_message"
#: Rows in memory at a time.
ROWS = 64


def open_table(stream: BinaryIO) -> Any:
    """An open table, which is read page by page instead of a whole row group at once; a `ValueError` if it is none."""
    import pyarrow.parquet as parquet

    try:
        return parquet.ParquetFile(stream, buffer_size=2**16, pre_buffer=False)
    except Exception as error:  # pyarrow raises its own types, and OSError
        raise_lost_file(error)
        raise ValueError(f"cannot be read as Parquet ({text(error, 200)})") from error


def columns_of(schema: Any, columns: Columns, url: str) -> dict[str, str]:
    """Which columns hold the `image` and, where there are any, the `caption`, the `key`, the `uid` and the `reason`."""
    import pyarrow as pa

    names = schema.names
    for role, name in vars(columns).items():
        if name is not None and name not in names:
            raise UsageError(f"{role}: {url} has no column {name} (it has {', '.join(names)})")
    words = [each.name for each in schema if pa.types.is_string(each.type) or pa.types.is_large_string(each.type)]
    bytes_first = captions.usual([name for name in names if name not in words], BYTES)
    found = {
        "image": columns.image or bytes_first or captions.usual(names, (*BYTES[:-1], *captions.IMAGES)),
        "caption": columns.caption or captions.usual(names, captions.CAPTIONS) or _json_captions(schema),
        "key": columns.key or captions.usual(names, KEYS),
        "uid": captions.usual(names, ("uid",)),
        "reason": captions.usual(names, (REASON,)),
    }
    if not found["image"]:
        usual = dict.fromkeys((*BYTES, *captions.IMAGES))
        raise UsageError(
            f"image: none of the columns of {url} ({', '.join(names)}) is called {' or '.join(usual)}; name it"
        )
    return {role: name for role, name in found.items() if name}


def _json_captions(schema: Any) -> str | None:
    """The column of what a tar's `.json` held, as `datasets` writes it, if it has a field of captions."""
    import pyarrow as pa

    place = schema.get_field_index("json")
    held = schema.field(place).type if place >= 0 else None
    fields = [field.name for field in held] if held is not None and pa.types.is_struct(held) else []
    return "json" if captions.usual(fields, captions.CAPTIONS) else None


def items(stream: BinaryIO, group: int, first: int, columns: Columns, url: str) -> Iterator[Item]:
    """The rows of one row group, in one pass that holds few of them at a time.

    If the rest of the group cannot be decoded, each row of that rest becomes an item with an error. Errors call the
    table `url`; `first` is the number of the group's first row in it.
    """
    table = open_table(stream)
    end = first + table.metadata.row_group(group).num_rows
    roles = columns_of(table.schema_arrow, columns, url)
    again, mark = _again(table, roles["key"], url) if "key" in roles else (None, "")
    folder, problem = url.rpartition("/")[0], "the table ends"
    try:
        for row in _rows(table, group, roles):
            key = str(first) if again is None else told_apart(_id(row.pop("key")), first, bool(again[first]), mark)
            yield _item(key, folder, **row)
            first += 1
    except Exception as error:  # pyarrow raises its own types
        raise_lost_file(error)
        problem = text(error, 200)
    for number in range(first, end):
        yield Item(str(number), error=f"the table is damaged here ({problem})")


def _id(value: Any) -> str:
    return text(word(value) or "")


#: The last answer of `_again`, since the row groups of a table follow each other: table, metadata, column, answer.
_last: list[Any] = []


def _again(table: Any, key: str, url: str) -> tuple[np.ndarray, str]:
    """For each row of a whole table, whether its id was there before; and a mark that no id has.

    So row groups tell nothing, and no row takes the id of another.
    """
    asked = [url, table.metadata, key]
    if _last[:-1] != asked:
        digests = np.arange(table.metadata.num_rows)  # of rows that cannot be read: all different
        first, mark = 0, "#"
        for group in range(table.num_row_groups):
            end = first + table.metadata.row_group(group).num_rows
            try:
                ids = [*map(_id, table.read_row_group(group, columns=[key]).column(0).to_pylist())]
                digests[first:end] = [hash(found or place) for place, found in enumerate(ids, start=first)]
                mark = max([mark, *(f"{run}#" for found in ids for run in re.findall("#+", found))], key=len)
            except Exception as error:  # pyarrow raises its own types
                raise_lost_file(error)
            first = end
        answer = np.ones(len(digests), dtype=bool)
        answer[np.unique(digests, return_index=True)[1]] = False
        _last[:] = [*asked, (answer, mark)]
    answer, mark = _last[-1]
    return answer, mark


def _rows(table: Any, group: int, roles: dict[str, str]) -> Iterator[dict[str, Any]]:
    names = list(dict.fromkeys(roles.values()))
    for batch in table.iter_batches(batch_size=ROWS, row_groups=[group], columns=names):
        values = [batch.column(name).to_pylist() for name in roles.values()]
        for row in zip(*values, strict=True):
            yield dict(zip(roles, row, strict=True))


def _item(key: str, folder: str, image: Any, caption: Any = None, uid: Any = None, reason: Any = None) -> Item:
    item = Item(key, uid=word(uid))
    try:
        item = replace(item, caption=captions.one_per_line(caption))
    except ValueError as problem:
        return replace(item, error=str(problem))
    value: Any = (image.get("bytes") or image.get("path")) if isinstance(image, dict) else image
    if value is None:
        return replace(item, error=f"no picture ({text(reason, 200)})" if reason else "no picture")
    if isinstance(value, str):
        if not value.startswith(BASE64):
            return _located(item, value, folder)
        try:
            value = b64decode(re.sub(r"\s", "", value.rpartition(",")[2]), validate=True)
        except ValueError:
            return replace(item, error="its picture is text that is no Base64")
    if not isinstance(value, bytes):
        return replace(item, error=f"its picture is {type(value).__name__}, neither bytes nor a path")
    if len(value) > MAX_PICTURE:
        return replace(item, error=f"a file of {len(value):,} bytes is more than is read")
    return replace(item, content=value)


def _located(item: Item, path: str, folder: str) -> Item:
    """The item with the path of its picture, or an error if it does not stay below the table's folder."""
    if re.match("file:(//)?/", path):  # as Spark calls files
        path = unquote(path.removeprefix("file:").removeprefix("//"))
    if "://" in path:
        return replace(item, error="its picture is a URL, which is not fetched")
    parts = PurePosixPath(path.replace("\\", "/"))
    for own in (folder, os.path.realpath(folder)):  # absolute paths are what `datasets` writes for a folder of pictures
        parts = parts.relative_to(own) if parts.is_relative_to(own) else parts
    if parts.is_absolute() or ".." in parts.parts or "\x00" in path:
        return replace(item, error="its path leads out of the table's folder")
    return replace(item, path=f"{folder}/{parts}", folder=folder)
