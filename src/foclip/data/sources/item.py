"""What a data set consists of: items, shards of them, and the columns that hold what."""

from dataclasses import dataclass

#: Largest picture file that is read, in bytes; beyond it is one row with an error.
MAX_PICTURE = 256 * 2**20
#: Largest caption or JSON beside a picture, in bytes.
MAX_TEXT = 10 * 2**20


@dataclass(frozen=True)
class Item:
    """One row of a data set: the bytes of a picture file, or why there are none.

    Attributes:
        key: What the data set calls it.
        content: The picture file; empty if there is an error, if it has a path, or if only counting.
        path: Where the picture is, if it is a file of its own that is still to be read (`foclip.data.sources.fetched`).
        caption: Its caption; None for none.
        uid: Its identifier of 32 hexadecimal digits, where the data set has one as DataComp's do.
        error: Why it cannot be read; None if it can.
    """

    key: str
    content: bytes = b""
    path: str | None = None
    caption: str | None = None
    uid: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Columns:
    """Columns of a table, or fields of the JSON beside a picture in a tar; None for those that are recognised.

    Attributes:
        image: Picture bytes, Hugging Face's {bytes, path}, or paths below the table's folder.
        caption: The caption.
        key: What identifies a row.
    """

    image: str | None = None
    caption: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Shard:
    """The unit of work: a tar, a row group of a Parquet table, or a slice of a folder's pictures.

    Attributes:
        number: Its place in the data set.
        kind: "tar", "table" or "pictures".
        url: The file, or the folder that the names are relative to.
        size: Bytes to read, about.
        rows: Number of items; -1 where only reading tells, as for a tar.
        group: The row group.
        first: Row of the table that is the group's first.
        below: Path of the folder below the source, ending in a slash; empty for the source itself.
        names: Names of the pictures.
    """

    number: int
    kind: str
    url: str
    size: int
    rows: int = -1
    group: int = 0
    first: int = 0
    below: str = ""
    names: tuple[str, ...] = ()


def text(value: object, limit: int | None = None) -> str:
    """One line of text that any file format holds; half surrogates of names that are no UTF-8 stand as numbers."""
    line = " ".join(str(value).encode(errors="backslashreplace").decode().split())
    return line if limit is None else line[:limit]
