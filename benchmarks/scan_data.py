"""Data sets to scan: real ones as people have them, and the same with damage in one row of twenty."""

import io
import json
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

#: Pictures of a row group of a table, and of a tar.
GROUP, SHARD = 128, 1000


def _chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


#: A picture of ten thousand megapixels, of which only the header and a first line of pixels are there.
HEADER = _chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
BOMB = b"\x89PNG\r\n\x1a\n" + HEADER + _chunk(b"IDAT", zlib.compress(bytes(300_001)))
#: Ways to damage a sample of a tar, and what the scan has to say of each.
WAYS = {
    "truncated": "truncated",
    "zero bytes": "not a picture",
    "HTML named .jpg": "not a picture",
    "bomb header": "megapixels",
    "path traversal": "its path leads out of the tar",
    "symbolic link": "a link, which is not followed",
    "hard link": "a link, which is not followed",
}


#: A sample under the key of the one before it.
TWICE = "key that is there twice"


def write(pictures: Path, out: Path) -> None:
    """Write Tiny-ImageNet's 10,000 validation pictures and 700 photos as data sets.

    `val.parquet` (columns key, image, caption), `tars` (ten of the same), `photos` (a folder, a caption beside each)
    and `odd` (a folder of every other picture of the 10,000, on which no detector of ours was calibrated).

    Args:
        pictures: A folder with `tiny-imagenet` (val.parquet with the columns image and label, classes.json) and
            `imagenet-photos` (index.json with the file and name of each).
        out: Folder to write to.
    """
    table = parquet.read_table(pictures / "tiny-imagenet" / "val.parquet")
    classes = json.loads((pictures / "tiny-imagenet" / "classes.json").read_text())
    names = {each["label"]: each["names"][0] for each in classes}
    captions = [f"a photo of a {names[label]}" for label in table["label"].to_pylist()]
    contents = table["image"].to_pylist()
    for folder in ("tars", "photos", "odd"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    write_table(out / "val.parquet", contents, captions)
    for first in range(0, len(contents), SHARD):
        with tarfile.open(out / "tars" / f"{first // SHARD}.tar", "w") as tar:
            for place in range(first, min(first + SHARD, len(contents))):
                add(tar, place, contents[place], captions[place])
    for place in range(1, len(contents), 2):
        (out / "odd" / f"{place:05d}.webp").write_bytes(contents[place])
        (out / "odd" / f"{place:05d}.txt").write_text(captions[place])
    for each in json.loads((pictures / "imagenet-photos" / "index.json").read_text()):
        path = out / "photos" / each["file"]
        path.write_bytes((pictures / "imagenet-photos" / each["file"]).read_bytes())
        path.with_suffix(".txt").write_text(f"a photo of a {each['name']}")
    for name in ("val.parquet", "tars", "photos", "odd"):
        print(out / name)


def write_table(path: Path, contents: list[bytes], captions: list[str], prefix: str = "", times: int = 1) -> None:
    """Write pictures as a Parquet table, several times under other keys."""
    schema = pa.schema([("key", pa.string()), ("image", pa.binary()), ("caption", pa.string())])
    with parquet.ParquetWriter(path, schema) as writer:
        for number in range(times):
            before = f"{prefix}{number}-" if times > 1 else prefix
            keys = [f"{before}{place:05d}" for place in range(len(contents))]
            columns = {"key": keys, "image": contents, "caption": captions}
            writer.write_table(pa.table(columns, schema=schema), GROUP)


def add(tar: tarfile.TarFile, place: int, content: bytes, caption: str, way: str = "") -> str:
    """Add a sample to a tar, damaged in one of `WAYS`, or under the key before it; the key that it has there."""
    replaced = {
        "truncated": content[: len(content) // 2],
        "zero bytes": b"",
        "HTML named .jpg": b"<!doctype html><html><body>404</body></html>",
        "bomb header": BOMB,
    }
    links = {"symbolic link": (tarfile.SYMTYPE, "/etc/passwd"), "hard link": (tarfile.LNKTYPE, f"{place - 1:05d}.webp")}
    key = f"{place - 1 if way == TWICE else place:05d}"
    key = f"../{key}" if way == "path traversal" else key
    picture = tarfile.TarInfo(f"{key}.jpg" if way == "HTML named .jpg" else f"{key}.webp")
    text = tarfile.TarInfo(f"{key}.txt")
    if way in links:
        picture.type, picture.linkname = links[way]
    for member, held in ((picture, replaced.get(way, content)), (text, caption.encode())):
        member.size = 0 if member.type != tarfile.REGTYPE else len(held)
        tar.addfile(member, io.BytesIO(held))
    return key


def damaged(source: Path, out: Path) -> dict[tuple[str, str], str]:
    """Write the pictures of a table as tars and tables with damage in one row of twenty.

    Nine tars with `WAYS` in turn, and keys that are there twice, which is no damage; a tenth that is cut in the middle
    of a picture; two tables, of whose columns one has another type: pictures that are numbers, captions that are no
    text.

    Args:
        source: A table as `write_table` writes it.
        out: Folder to write to.

    Returns:
        What has to be said of each damaged row, by file and key; what is lost with the end of the tar is one row.
    """
    table = parquet.read_table(source)
    contents, captions = table["image"].to_pylist(), table["caption"].to_pylist()
    expected: dict[tuple[str, str], str] = {}
    ways = [*WAYS, TWICE]
    out.mkdir()
    for number in range(10):
        name = f"{number}.tar"
        with tarfile.open(out / name, "w") as tar:
            for place in range(number * SHARD, min(number * SHARD + SHARD, len(contents))):
                way = ways[place // 20 % len(ways)] if place % 20 == 7 and number < 9 else ""
                key = add(tar, place, contents[place], captions[place], way)
                if way in WAYS:
                    expected[name, key] = WAYS[way]
    whole = (out / "9.tar").read_bytes()
    cut = 9 * SHARD + SHARD // 2
    place = whole.index(f"{cut:05d}.webp".encode()) + 512 + len(contents[cut]) // 2
    (out / "9.tar").write_bytes(whole[:place])
    expected["9.tar", f"{cut:05d}"] = "cut off"
    other: dict[str, tuple[str, list[Any], str]] = {
        "a": ("image", list(range(50)), "its picture is int"),
        "b": ("caption", [b"\x80\x81"] * 50, "its caption is no UTF-8 text"),
    }
    for name, (column, values, said) in other.items():
        columns = {"key": [str(row) for row in range(50)], "image": contents[:50], "caption": captions[:50]}
        parquet.write_table(pa.table(columns | {column: values}), out / f"{name}.parquet")
        expected |= {(f"{name}.parquet", str(row)): said for row in range(50)}
    return expected
