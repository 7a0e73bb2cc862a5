"""From what a user names to shards: globs, folders, tars and tables, on this machine or at any URL fsspec knows."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import fsspec

from foclip.data import images
from foclip.data.sources import table
from foclip.data.sources.item import Columns, Shard, text
from foclip.errors import SourceError, UsageError

#: Pictures of a folder that make a shard.
SLICE = 1000
#: Bytes at either end of a file by which it is known again.
ENDS = 4096


@dataclass(frozen=True)
class Entry:
    """A file that a source consists of.

    Attributes:
        url: Where it is.
        name: Its name below the source.
        kind: "tar", "table" or "picture".
        info: What the file system says of it.
    """

    url: str
    name: str
    kind: str
    info: dict[str, Any]


def kind(name: str) -> str:
    """What a file is by its name: "picture", "tar", "table", or nothing of use (empty)."""
    name = name.lower()
    if PurePosixPath(name).suffix in images.SUFFIXES:
        return "picture"
    if name.endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")):
        return "tar"
    return "table" if name.endswith((".parquet", ".pq")) else ""


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path in it.

    Raises:
        UsageError: There is no such protocol, or a package for it is missing.
    """
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise UsageError(f"source: {text(url)}: {text(error)}") from error
    return fs, str(path)


def entries(source: str) -> Iterator[Entry]:
    """The files of one source, in an order that depends on nothing but their names.

    Of a folder, hidden files and those of no use are passed over, and so are the tables that img2dataset writes
    beside its tars.

    Raises:
        UsageError: There is nothing of that name, or nothing of use in it.
    """
    fs, path = file_system(source)
    try:
        pattern = any(mark in path for mark in "*?[") and not fs.exists(path)
        roots = sorted(fs.glob(path)) if pattern else [path] if fs.exists(path) else []
        if not roots:
            raise UsageError(f"source: {text(source)}: no such file or folder")
        found = False
        for root in roots:
            for entry in _below(fs, root):
                found = True
                yield entry
    except (OSError, ValueError) as error:
        raise UsageError(f"source: {text(source)}: {text(getattr(error, 'strerror', None) or error)}") from error
    if not found:
        raise UsageError(f"source: {text(source)}: no pictures, tars or Parquet tables in it")


def _below(fs: Any, root: str) -> Iterator[Entry]:
    info = fs.info(root)
    if info["type"] != "directory":
        name = root.rpartition("/")[2]
        if not kind(name):
            raise UsageError(f"source: {text(root)}: neither a picture, a tar nor a Parquet table by its name")
        yield Entry(fs.unstrip_protocol(root) if _remote(fs) else root, name, kind(name), info)
        return
    prefix = len(root.rstrip("/")) + 1
    for path, found in _walk(fs, root):
        yield Entry(fs.unstrip_protocol(path) if _remote(fs) else path, path[prefix:], kind(path), found)


def _walk(fs: Any, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Files of use below a folder, folder by folder, so that no more than one is in memory."""
    inside = sorted(fs.ls(folder, detail=True), key=lambda info: info["name"])
    named = {info["name"].rstrip("/").rpartition("/")[2]: info for info in inside}
    for name, info in named.items():
        path = info["name"].rstrip("/")
        if name.startswith("."):
            continue
        if info["type"] == "directory":
            if not info.get("islink"):  # links may go round in circles
                yield from _walk(fs, path)
        elif kind(name) and not (kind(name) == "table" and f"{name.rpartition('.')[0]}.tar" in named):
            yield path, info


def _remote(fs: Any) -> bool:
    return "file" not in ([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol)


class Digest:
    """What tells one source from another: the names of its files, and what they hold, without reading all of it.

    A picture of its own counts by name and size; a tar or table by both of its ends as well, or by what the store
    says of its content (an entity tag) where it is not on a disk.
    """

    def __init__(self) -> None:
        self.files, self.bytes = 0, 0
        self._names, self._content = hashlib.sha256(), hashlib.sha256()

    def add(self, entry: Entry) -> None:
        """Take a file into account."""
        size = int(entry.info.get("size") or 0)
        self.files, self.bytes = self.files + 1, self.bytes + size
        self._names.update(repr(entry.name).encode())
        tag = next((entry.info[key] for key in ("ETag", "etag", "md5Hash") if entry.info.get(key)), None)
        if tag is None and entry.kind != "picture":
            fs, path = file_system(entry.url)
            with fs.open(path, "rb") as stream:
                tag = stream.read(ENDS)
                stream.seek(max(0, size - ENDS))
                tag += stream.read(ENDS)
        self._content.update(repr((entry.name, size, tag)).encode())

    def as_dict(self) -> dict[str, Any]:
        """For the manifest."""
        counts = {"files": self.files, "bytes": self.bytes}
        return counts | {"names": self._names.hexdigest()[:32], "content": self._content.hexdigest()[:32]}


def shards(sources: Sequence[str], columns: Columns, digests: list[Digest]) -> Iterator[Shard]:
    """The shards of sources, one by one.

    Args:
        sources: What the user named.
        columns: Names of columns.
        digests: Filled with one for each source.

    Raises:
        UsageError: As `entries`, or a table has no column of pictures.
    """
    number = 0
    for source in sources:
        digests.append(Digest())
        for shard in _cut(entries(source), columns, digests[-1]):
            yield replace(shard, number=number)
            number += 1


def _cut(found: Iterable[Entry], columns: Columns, digest: Digest) -> Iterator[Shard]:
    """Shards of the files of one source; pictures that follow each other in one folder share some."""
    names: list[str] = []
    folder, below, size = "", "", 0

    def pictures() -> Shard:
        return Shard(0, "pictures", folder, size, len(names), below=below, names=tuple(names))

    for entry in found:
        digest.add(entry)
        parent, _, name = entry.url.rpartition("/")
        if names and (entry.kind != "picture" or parent != folder or len(names) == SLICE):
            yield pictures()
            names, size = [], 0
        if entry.kind == "picture":
            folder, below = parent, entry.name[: len(entry.name) - len(name)]
            names.append(name)
            size += int(entry.info.get("size") or 0)
        elif entry.kind == "tar":
            yield Shard(0, "tar", entry.url, int(entry.info.get("size") or 0))
        else:
            yield from _groups(entry, columns)
    if names:
        yield pictures()


def _groups(entry: Entry, columns: Columns) -> Iterator[Shard]:
    """A shard for each row group; one for all of a file that is no table, whose only row will say so."""
    fs, path = file_system(entry.url)
    with fs.open(path, "rb") as stream:
        try:
            found = table.open_table(stream)
        except ValueError:
            yield Shard(0, "table", entry.url, int(entry.info.get("size") or 0), rows=1, group=-1)
            return
        table.chosen(found.schema_arrow.names, columns, text(entry.url))
        first = 0
        for group in range(found.num_row_groups):
            held = found.metadata.row_group(group)
            if held.num_rows:
                yield Shard(0, "table", entry.url, held.total_byte_size, held.num_rows, group, first)
            first += held.num_rows


def gone(url: str, error: OSError) -> SourceError:
    """The error of a source that was there when the scan began."""
    return SourceError(
        f"{text(url)}: {text(error.strerror or error)}, although it was listed; what is finished is kept: "
        "bring it back and give the same command again"
    )
