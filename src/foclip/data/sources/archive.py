"""WebDataset tars: consecutive members of one name make a sample, and every sample is one row.

tarfile stops without an error at anything that is not a header, and readers built on it lose what follows.
Here a tar that ends without its end mark gets a row that says so. Nothing is unpacked to disk; no link is followed.
"""

import json
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from foclip.data import images
from foclip.data.sources.item import MAX_PICTURE, MAX_TEXT, Columns, Item, first_of_each_key, text

#: Suffixes of members that hold a caption.
CAPTIONS = ("txt", "caption", "text")
#: Fields of the JSON beside a picture that hold it.
FIELDS = ("caption", "text", "TEXT")
#: Errors of a damaged or truncated tar, compressed or not. A lost disk or network raises others.
DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError)


@dataclass
class _Sample:
    """Members of one name as they come."""

    key: str
    pictures: dict[str, bytes] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)
    suffixes: set[str] = field(default_factory=set)
    error: str | None = None


class _Header(tarfile.TarInfo):
    """A member of a tar. The tar keeps the error because of which no further member was found."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "_Header":
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            tar.ended_by = error  # type: ignore[attr-defined]
            raise


def items(stream: BinaryIO, name: str, columns: Columns, read: bool = True) -> Iterator[Item]:
    """The rows of a tar, compressed or not, in one pass. In memory are one sample, and a number for each key.

    The row about a damaged tar is called after its `name`. Without `read` the tar's pictures are counted only. An
    `OSError` means that the file cannot be read any more; damage is no exception, but an item with an error.
    """
    samples = _samples(stream, name, read)
    return first_of_each_key(item for sample in samples for item in _rows(sample, columns, read))


def _samples(stream: BinaryIO, name: str, read: bool) -> Iterator[_Sample]:
    """Samples; the last says why the tar ended, if it has no end mark."""
    sample: _Sample | None = None
    try:
        with tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Header) as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # else it keeps every header
                key, suffix = _split(member.name)
                if not key or member.isdir():
                    continue
                if sample and (sample.key != key or suffix in sample.suffixes):
                    yield sample
                    sample = None
                sample = sample or _Sample(key)
                sample.suffixes.add(suffix)
                try:
                    _add(sample, tar, member, suffix, read)
                except DAMAGE as error:
                    sample.error = f"cut off: the tar ends, or is damaged, within it ({text(error)})"
                    yield sample
                    return
            ended_by = getattr(tar, "ended_by", None)
    except (*DAMAGE, OSError) as error:
        # The errors of a lost disk have a number; not gzip's "CRC check failed" or bz2's "Invalid data stream".
        if getattr(error, "errno", None) is not None:
            raise
        ended_by = error
    if sample:
        yield sample
    if not isinstance(ended_by, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
        last = sample.key if sample else "its beginning"
        yield _Sample(f"{name}#end", error=f"tar cut off or damaged after {last} ({text(ended_by)})")


def _split(name: str) -> tuple[str, str]:
    """Key and suffixes of a member, up to and from the first dot of the file's name; no key for hidden files."""
    folder, _, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    if not stem or not suffix or "__MACOSX" in folder:
        return "", ""
    return f"{folder}/{stem}" if folder else stem, suffix.lower()


def _add(sample: _Sample, tar: tarfile.TarFile, member: tarfile.TarInfo, suffix: str, read: bool) -> None:
    """Put a member into its sample, reading it if it is of use."""
    path = PurePosixPath(member.name)
    picture = f".{suffix.rpartition('.')[2]}" in images.SUFFIXES
    if path.is_absolute() or ".." in path.parts or "\x00" in member.name:
        sample.error = "its path leads out of the tar"
    elif member.issym() or member.islnk():
        sample.error = "a link, which is not followed"
    elif not member.isfile():
        sample.error = "no regular file"
    elif picture or suffix in (*CAPTIONS, "json"):
        if member.size > (MAX_PICTURE if picture else MAX_TEXT):
            sample.error = f"a file of {member.size:,} bytes is more than is read"
            return
        stream = tar.extractfile(member) if read else None
        (sample.pictures if picture else sample.texts)[suffix] = stream.read() if stream else b""


def _rows(sample: _Sample, columns: Columns, read: bool) -> Iterator[Item]:
    """A row per picture of a sample: one, but for those where two share a name (a.jpg and a.png)."""
    key, uid, caption, error = text(sample.key), None, None, sample.error
    if read and error is None:
        try:
            fields = _fields(sample)
            caption = _caption(sample, fields, columns)
            uid = _string(fields, "uid")
            key = _string(fields, columns.key) or key if columns.key else key
        except ValueError as problem:
            error = str(problem)
    pictures = {suffix: content for suffix, content in sample.pictures.items() if "." not in suffix}
    pictures = pictures or dict(list(sample.pictures.items())[:1])
    if error or not pictures:
        held = ", ".join(sorted(sample.suffixes))
        yield Item(key, caption=caption, uid=uid, error=error or f"no picture in the sample (it holds {text(held)})")
        return
    for number, (suffix, content) in enumerate(pictures.items()):
        yield Item(f"{key}.{suffix}" if number else key, content, caption=caption, uid=uid)


def _fields(sample: _Sample) -> dict[str, Any]:
    try:
        fields = json.loads(sample.texts.get("json", "{}"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its .json is no JSON ({text(error)})") from error
    return fields if isinstance(fields, dict) else {}


def _caption(sample: _Sample, fields: dict[str, Any], columns: Columns) -> str | None:
    if columns.caption:
        return _string(fields, columns.caption)
    for suffix in CAPTIONS:
        if suffix in sample.texts:
            try:
                return sample.texts[suffix].decode("utf-8-sig").strip() or None
            except UnicodeDecodeError:
                raise ValueError(f"its .{suffix} is no UTF-8 text") from None
    return next((found for name in FIELDS if (found := _string(fields, name))), None)


def _string(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is {type(value).__name__}, not text")
    return value.strip() or None if value else None
