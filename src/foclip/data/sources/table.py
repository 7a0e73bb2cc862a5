"""Parquet tables: a column of picture bytes, Hugging Face's {bytes, path} or paths, and of captions and keys."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from foclip.data.sources.item import MAX_PICTURE, Columns, Item, first_of_each_key, text
from foclip.errors import UsageError

#: Usual names of the columns of pictures, captions and keys. The first that a table has is taken.
IMAGES = ("image", "jpg", "png", "webp", "img", "bytes", "image_bytes", "image_path", "path", "file_name", "filename")
CAPTIONS = ("caption", "text", "TEXT", "alt_text", "title")
KEYS = ("key", "__key__", "uid", "id", "image_id")
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
        _raise_lost_file(error)
        raise ValueError(f"cannot be read as Parquet ({text(error, 200)})") from error


def columns_of(names: list[str], columns: Columns, url: str) -> dict[str, str]:
    """Which columns hold the `image` and, where there are any, the `caption`, the `key`, the `uid` and the `reason`."""
    for role, name in vars(columns).items():
        if name is not None and name not in names:
            raise UsageError(f"{role}: {url} has no column {name} (it has {', '.join(names)})")
    usual = {"image": IMAGES, "caption": CAPTIONS, "key": KEYS, "uid": ("uid",), "reason": (REASON,)}
    asked = {role: (name,) for role, name in vars(columns).items() if name}
    candidates = (usual | asked).items()
    found = {role: name for role, those in candidates if (name := next((n for n in those if n in names), None))}
    if "image" not in found:
        raise UsageError(
            f"image: none of the columns of {url} ({', '.join(names)}) is called {' or '.join(IMAGES)}; name it"
        )
    return found


def items(stream: BinaryIO, group: int, first: int, columns: Columns, url: str) -> Iterator[Item]:
    """The rows of one row group, in one pass that holds few of them at a time.

    If the rest of the group cannot be decoded, each row of that rest becomes an item with an error. Errors call the
    table `url`; `first` is the number of the group's first row in it.
    """
    table = open_table(stream)
    end = first + table.metadata.row_group(group).num_rows
    roles = columns_of(table.schema_arrow.names, columns, url)
    problem = "the table ends"
    try:
        for item in first_of_each_key(_rows(table, group, first, roles)):
            first += 1
            yield item
    except Exception as error:  # pyarrow raises its own types
        _raise_lost_file(error)
        problem = text(error, 200)
    for number in range(first, end):
        yield Item(str(number), error=f"the table is damaged here ({problem})")


def _raise_lost_file(error: Exception) -> None:
    """Raise an error of the operating system. Errors of the Parquet reader have no number, and are not raised."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def _rows(table: Any, group: int, number: int, roles: dict[str, str]) -> Iterator[Item]:
    names = list(dict.fromkeys(roles.values()))
    for batch in table.iter_batches(batch_size=ROWS, row_groups=[group], columns=names):
        values = [batch.column(name).to_pylist() for name in roles.values()]
        for row in zip(*values, strict=True):
            yield _item(number, **dict(zip(roles, row, strict=True)))
            number += 1


def _item(number: int, image: Any, caption: Any = None, key: Any = None, uid: Any = None, reason: Any = None) -> Item:
    key = text(number if key is None or isinstance(key, float | dict | list) else key)
    uid = uid if isinstance(uid, str) else None
    if caption is not None and not isinstance(caption, str):
        return Item(key, uid=uid, error=f"its caption is {type(caption).__name__}, not text")
    caption = caption.strip() or None if caption else None
    value: Any = (image.get("bytes") or image.get("path")) if isinstance(image, dict) else image
    if value is None:
        error: str | None = f"no picture ({text(reason, 200)})" if reason else "no picture"
    elif isinstance(value, str):
        error = _outside(value)
    elif not isinstance(value, bytes):
        error = f"its picture is {type(value).__name__}, neither bytes nor a path"
    else:
        error = f"a file of {len(value):,} bytes is more than is read" if len(value) > MAX_PICTURE else None
    if error:
        return Item(key, caption=caption, uid=uid, error=error)
    return Item(key, b"", value, caption, uid) if isinstance(value, str) else Item(key, value, None, caption, uid)


def _outside(path: str) -> str | None:
    """Why a path in a table is not followed; None if it stays below the table's folder."""
    if "://" in path:
        return "its picture is a URL, which is not fetched"
    parts = PurePosixPath(path.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or "\x00" in path:
        return "its path leads out of the table's folder"
    return None
