"""WebDataset tars: consecutive members of one name make a sample, and every picture of it is a row.

The name ends at the first dot, as in webdataset. Pictures of a sample that have more dots are called after their own
names, so `2021.05.01.jpg` and `2021.05.02.jpg` are two rows, each with the text of its own name if there is one. Texts
that are called captions (`a.caption.txt`), or numbered beside one picture (`a.0.txt`, …), are those of all others. A
member without a dot in its name is a picture if its first bytes are a picture's.

tarfile stops without an error at anything that is not a header, and at the end mark of the first of joined tars;
readers built on it lose what follows. Here tars are read to the end of the file, and one that ends without its end mark
gets a row that says so. Nothing is unpacked to disk; no link is followed.
"""

import bz2
import gzip
import json
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO

from PIL import Image

from foclip.data import captions, images
from foclip.data.captions import word
from foclip.data.sources.item import MAX_PICTURE, MAX_TEXT, Columns, Item, raise_lost_file, text, told_apart

#: Suffixes of members that hold a caption.
CAPTIONS = ("txt", "caption", "text")
#: Suffixes of tars.
COMPRESSED = (".gz", ".bz2", ".xz", ".lzma", ".zst", ".lz4")
SUFFIXES = (".tar", ".tgz", ".tbz2", ".txz", ".tzst", *(f".tar{kind}" for kind in COMPRESSED))
#: First bytes of what pyarrow decompresses; pzstd begins with a frame that is skipped.
_FRAMES = {b"\x28\xb5\x2f\xfd": "zstd", b"\x50\x2a\x4d\x18": "zstd", b"\x04\x22\x4d\x18": "lz4"}
#: First bytes of a file that tell its format.
HEAD = 16
#: Names of texts that are those of a sample, before their last suffix.
_CAPTION = re.compile(rf"({'|'.join(captions.CAPTIONS)})[._-]?\d*")
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
    size: int = 0


class _Header(tarfile.TarInfo):
    """A member of a tar. The tar keeps the error because of which no further member was found.

    After an end mark there may be padding, or another tar.
    """

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "_Header":
        mark: tarfile.HeaderError | None = None
        while True:
            try:
                return super().fromtarfile(tar)
            except tarfile.EOFHeaderError as error:  # type: ignore[attr-defined]
                mark = error
            except tarfile.HeaderError as error:
                ended = mark is not None and isinstance(error, tarfile.EmptyHeaderError)  # type: ignore[attr-defined]
                tar.ended_by = mark if ended else error  # type: ignore[attr-defined]
                raise tar.ended_by from None  # type: ignore[attr-defined]


def _plain(stream: BinaryIO, stack: ExitStack) -> Any:
    """The bytes of a tar that may be compressed, also in several parts that were joined."""
    start = stream.read(6)
    stream.seek(0)
    if start[:2] == b"\x1f\x8b":
        return stack.enter_context(gzip.GzipFile(fileobj=stream))
    if start[:3] == b"BZh":
        return stack.enter_context(bz2.BZ2File(stream))
    if start == b"\xfd7zXZ\x00" or start[:3] == b"\x5d\x00\x00":
        return stack.enter_context(lzma.LZMAFile(stream))
    if kind := _FRAMES.get(start[:4]):
        import pyarrow as pa

        return stack.enter_context(pa.CompressedInputStream(stream, kind))
    return stream


def items(stream: BinaryIO, name: str, columns: Columns, read: bool = True) -> Iterator[Item]:
    """The rows of a tar, compressed or not, in one pass. In memory are one sample, and a number for each key.

    The row about a damaged tar is called after its `name`. Without `read` the tar's pictures are counted only. An
    `OSError` means that the file cannot be read any more; damage is no exception, but an item with an error.
    """
    seen = set[int]()
    number = 0
    for sample in _samples(stream, name, read):
        for item in _rows(sample, columns, read):
            while hash(item.key) in seen:
                item = replace(item, key=told_apart(item.key, number, again=True))
            seen.add(hash(item.key))
            yield item
            number += 1


def _samples(stream: BinaryIO, name: str, read: bool) -> Iterator[_Sample]:
    """Samples; the last says why the tar ended, if it has no end mark."""
    sample: _Sample | None = None
    try:
        with ExitStack() as stack:
            plain = _plain(stream, stack)
            tar = stack.enter_context(tarfile.open(fileobj=plain, mode="r|", tarinfo=_Header))
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # else it keeps every header
                key, suffix = _split(member.name)
                content = tar.extractfile(member) if key and member.isfile() else None
                if not suffix and isinstance(content, BufferedReader):
                    suffix = suffix_of(content.peek(HEAD)[:HEAD])
                if not key or not suffix or member.isdir():
                    continue
                if sample and (sample.key != key or suffix in sample.suffixes or sample.size > MAX_PICTURE):
                    yield sample
                    sample = None
                sample = sample or _Sample(key)
                sample.suffixes.add(suffix)
                try:
                    _add(sample, member, suffix, content if read else None)
                except (*DAMAGE, OSError) as error:
                    raise_lost_file(error)
                    sample.error = f"cut off: the tar ends, or is damaged, within it ({text(error)})"
                    yield sample
                    return
            ended_by = getattr(tar, "ended_by", None)
    except (*DAMAGE, OSError) as error:
        raise_lost_file(error)
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
    if not stem or "__MACOSX" in folder:
        return "", ""
    return f"{folder}/{stem}" if folder else stem, suffix.lower()


def suffix_of(head: bytes) -> str:
    """The suffix, without its dot, of a picture whose first `HEAD` bytes are these; "" of anything else.

    DIB and PPM are not told: texts may begin as they do.
    """
    Image.init()  # finds out what this build of Pillow knows
    told = [name for name in images.FORMATS if name in Image.OPEN and name not in ("DIB", "PPM")]
    accepted = (name for name in told if (accept := Image.OPEN[name][1]) and accept(head) is True)
    found = next(accepted, "") if len(head) == HEAD else ""
    return {"JPEG2000": "jp2"}.get(found, found.lower())


def _add(sample: _Sample, member: tarfile.TarInfo, suffix: str, content: IO[bytes] | None) -> None:
    """Put a member into its sample, with its content if it is of use."""
    path = PurePosixPath(member.name)
    picture = f".{suffix.rpartition('.')[2]}" in images.SUFFIXES
    if path.is_absolute() or ".." in path.parts or "\x00" in member.name:
        sample.error = "its path leads out of the tar"
    elif member.issym() or member.islnk():
        sample.error = "a link, which is not followed"
    elif not member.isfile():
        sample.error = "no regular file"
    elif picture or suffix.rpartition(".")[2] in (*CAPTIONS, "json"):
        if member.size > (MAX_PICTURE if picture else MAX_TEXT):
            sample.error = f"a file of {member.size:,} bytes is more than is read"
            return
        (sample.pictures if picture else sample.texts)[suffix] = content.read() if content else b""
        sample.size += member.size


def _rows(sample: _Sample, columns: Columns, read: bool) -> Iterator[Item]:
    """A row per picture of a sample, and one for each name that has a text of its own and no picture."""
    key, told, plain = text(sample.key), set[str](), 0
    for suffix, content in sample.pictures.items():
        own, _, ending = suffix.rpartition(".")
        texts = {kind: found for kind in (*CAPTIONS, "json") if (found := _beside(sample, suffix, kind))}
        told.update(*texts.values())
        name = f"{key}.{text(own)}" if own else f"{key}.{ending}" if plain else key
        plain += not own
        item = Item(name, error=sample.error)
        if read and not item.error:
            try:
                item = _described(item, sample, texts, columns)
                item = replace(item, content=content)
            except ValueError as problem:
                item = replace(item, error=str(problem))
        yield item
    if not sample.pictures:
        held = text(", ".join(sorted(sample.suffixes)))
        missing = f"no picture in the sample (it holds {held}); members of a sample must follow each other"
        yield Item(key, error=sample.error or missing)
    elif not plain:
        for suffix in sample.texts.keys() - told:
            own, _, ending = suffix.rpartition(".")
            if own and ending in CAPTIONS:
                yield Item(f"{key}.{text(own)}", error=f"no picture in the sample (it holds {text(suffix)})")


def _beside(sample: _Sample, suffix: str, kind: str) -> list[str]:
    """The members of a kind that belong to a picture: of its name without or with its suffix, or of the sample's."""
    stem = suffix.rpartition(".")[0]
    names = (f"{stem}.{kind}" if stem else kind, f"{suffix}.{kind}", kind)
    if own := next((name for name in names if name in sample.texts), None):
        return [own]
    others = {name for picture in sample.pictures for name in (picture, picture.rpartition(".")[0])}
    found = [(name, name.removesuffix(f".{kind}")) for name in sample.texts if name.endswith(f".{kind}")]
    alone = [each for each in found if each[1] not in others]
    return [name for name, start in alone if _CAPTION.fullmatch(start) or (not stem and start.isdecimal())]


def _fields(content: bytes) -> dict[str, Any]:
    """The fields of a `.json`; of one that is captions alone, a field of them. A `ValueError` if it is no JSON."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its .json is no JSON ({text(error)})") from error
    if isinstance(found, str) or (isinstance(found, list) and all(isinstance(each, str | dict) for each in found)):
        with suppress(ValueError):
            captions.one_per_line(found)
            return {"caption": found}
    return found if isinstance(found, dict) else {}


def _described(item: Item, sample: _Sample, texts: dict[str, list[str]], columns: Columns) -> Item:
    """The item with caption, uid and key; a `ValueError` if what holds them cannot be read."""
    fields = _fields(sample.texts[texts["json"][0]]) if "json" in texts else {}
    if columns.caption:
        caption = captions.one_per_line(fields.get(columns.caption))
    elif kind := next((kind for kind in CAPTIONS if kind in texts), None):
        found = (captions.of_text(sample.texts[name], f".{kind}") for name in texts[kind])
        caption = "\n".join(filter(None, found)) or None
    else:
        named = {name.lower(): value for name, value in reversed(fields.items())}
        caption = next(filter(None, (captions.one_per_line(named.get(name)) for name in captions.CAPTIONS)), None)
    key = text(word(fields.get(columns.key)) or f"#{item.key}") if columns.key else item.key
    return replace(item, key=key, caption=caption, uid=word(fields.get("uid")))
