"""A data set consists of shards, and a shard of items, each with one picture; `Columns` names what holds what."""

from dataclasses import dataclass

#: Largest picture file that is read, in bytes. A larger one becomes a row with an error.
MAX_PICTURE = 256 * 2**20
#: Largest caption or JSON beside a picture, in bytes.
MAX_TEXT = 10 * 2**20


@dataclass(frozen=True)
class Item:
    """One row of a data set: the bytes of a picture file, or why there are none."""

    key: str  # what the data set calls it
    content: bytes = b""  # the picture file; empty if there is an error, if it has a path, or if only counting
    path: str | None = None  # where the picture is, if it is a file of its own that `sources.load_bytes` still reads
    folder: str = (
        ""  # of such a file, the folder that was listed, or that of the table; if it is gone, so is the source
    )
    caption: str | None = None  # one caption per line
    uid: str | None = None  # its identifier; DataComp's has 32 hexadecimal digits
    error: str | None = None  # why it cannot be read


@dataclass(frozen=True)
class Columns:
    """Names of columns of a table, or of fields of the JSON beside a picture in a tar; None: found by usual names."""

    image: str | None = None  # picture bytes, Hugging Face's {bytes, path}, or paths below the table's folder
    caption: str | None = None
    key: str | None = None  # what identifies a row


@dataclass(frozen=True)
class Shard:
    """The unit of work: a tar, a row group of a Parquet table, or a slice of a folder's pictures."""

    number: int  # its place in the data set
    kind: str  # "tar", "table" or "pictures"
    url: str  # the file, or the folder that the names are relative to
    size: int  # bytes to read, about
    rows: int = -1  # number of items; -1 for a tar, whose number is known only after it was read
    group: int = 0  # the row group; -1 for a file that is no Parquet table
    first: int = 0  # the number of the group's first row in the table
    prefix: str = ""  # path of the folder below the source, ending in a slash; empty for the source itself
    names: tuple[str, ...] = ()  # file names of the pictures


def raise_lost_file(error: Exception) -> None:
    """Raise an error of the operating system. Those of decoders, such as gzip's "CRC check failed", have no number."""
    if getattr(error, "errno", None) is not None:
        raise error


def told_apart(key: str, number: int, again: bool, mark: str = "#") -> str:
    """What a row is called: its id, and after a mark its number in its file if it has none, or had one before."""
    return f"{key}{mark}{number}" if again or not key else key


def text(value: object, limit: int | None = None) -> str:
    """One line that every file format can hold. Bytes of a name that are no UTF-8 are written as numbers."""
    return " ".join(str(value).encode(errors="backslashreplace").decode().split())[:limit]
