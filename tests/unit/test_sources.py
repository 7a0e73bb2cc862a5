"""Rows, names and captions of data sets as real writers leave them; no model is needed."""

import base64
import bz2
import datetime
import decimal
import gzip
import io
import json
import lzma
import os
import shutil
import tarfile
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from zoo import encoded, tiles

from foclip.data.samples import collect_samples
from foclip.data.sources import Columns, Item, Listing, archive, items, load_bytes
from foclip.errors import UsageError
from foclip.scanning.preview import preview

A, B = (encoded(tile, "JPEG") for tile in tiles(2, 8))
#: Key, caption and error of a row.
Row = tuple[str, str | None, str | None]


def read(source: Path, columns: Columns | None = None) -> list[Item]:
    """All rows of a source, with their pictures."""
    return [
        load_bytes(item) for shard in Listing([str(source)], columns) for item in items(shard, columns or Columns())
    ]


def captioned(source: Path, columns: Columns | None = None) -> list[tuple[str, str | None]]:
    """Keys and captions of rows, all of which have a picture."""
    found = read(source, columns)
    assert [item.error for item in found] == [None] * len(found)
    assert all(item.content in (A, B) for item in found)
    return [(item.key, item.caption) for item in found]


def tar(path: Path, members: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of members, written to `path`; its bytes."""
    with tarfile.open(path, "w", format=form) as written:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            written.addfile(member, io.BytesIO(content))
    return path.read_bytes()


def table(path: Path, count: int, group: int = 4, **columns: Any) -> Path:
    """A table of pictures."""
    parquet.write_table(pa.table({"image": [A] * count, **columns}), path, row_group_size=group)
    return path


def folder(path: Path, contents: dict[str, bytes]) -> Path:
    """A folder of files."""
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


# Names in tars


def test_pictures_that_share_what_stands_before_the_first_dot_are_rows(tmp_path: Path) -> None:
    days = {"2021.05.01.jpg": A, "2021.05.01.txt": b"one", "2021.05.02.jpg": B, "2021.05.02.txt": b"two"}
    tar(tmp_path / "a.tar", days)
    assert captioned(tmp_path / "a.tar") == [("2021.05.01", "one"), ("2021.05.02", "two")]
    tar(tmp_path / "a.tar", {"img0.v1.jpg": A, "img0.v1.txt": b"one"})
    assert captioned(tmp_path / "a.tar") == [("img0.v1", "one")]
    tar(tmp_path / "a.tar", {"x.left.jpg": A, "x.right.jpg": B, "x.txt": b"both"})
    assert captioned(tmp_path / "a.tar") == [("x.left", "both"), ("x.right", "both")]


@pytest.mark.parametrize(
    ("members", "rows"),
    [
        ({"0.image.jpg": A, "0.caption.txt": b"one"}, [("0.image", "one")]),  # fields as webdataset names them
        ({"0.in.jpg": A, "0.out.jpg": B, "0.prompt.txt": b"one"}, [("0.in", "one"), ("0.out", "one")]),
        ({"0.jpg": A, "0.captions.json": b'["one", "two"]'}, [("0", "one\ntwo")]),
        ({"0.jpg": A, "0.0.txt": b"one", "0.1.txt": b"two"}, [("0", "one\ntwo")]),  # COCO's five
        ({"0.jpg": A, "0.caption_0.txt": b"one", "0.caption_1.txt": b"two"}, [("0", "one\ntwo")]),
        ({"0.jpg": A, "0.1.jpg": B, "0.1.txt": b"one"}, [("0", None), ("0.1", "one")]),
        ({"0.jpg": A, "0.json": b'[{"caption": "one", "id": 7}, {"caption": "two"}]'}, [("0", "one\ntwo")]),
        ({"0.jpg": A, "0.json": b'"one"'}, [("0", "one")]),
        ({"0.jpg": A, "0.json": b'[{"bbox": [1, 2]}]', "0.cls": b"3"}, [("0", None)]),
        ({"0.jpg": A, "0.json": b"[0.5, 1]", "0.npy": b"", "0.txt": b"one"}, [("0", "one")]),
        ({"0.jpg": A, "0.json": b'\xef\xbb\xbf{"caption": "one"}\r\n'}, [("0", "one")]),
        ({"./a b.JPG": A, "./a b.TXT": b"\xef\xbb\xbfone\r\n\r\n"}, [("./a b", "one")]),
        ({"v1.0/a.jpg": A, "v1.0/a.txt": b"one", "v1.0/._a.jpg": b"", "__MACOSX/a.jpg": b""}, [("v1.0/a", "one")]),
    ],
)
def test_samples_as_people_name_their_members(
    tmp_path: Path, members: dict[str, bytes], rows: list[tuple[str, str | None]]
) -> None:
    tar(tmp_path / "a.tar", members)
    assert captioned(tmp_path / "a.tar") == rows


def test_brothers_of_dotted_names(tmp_path: Path) -> None:
    each = {"1.0.jpg": A, "1.0.json": b'{"text": "a", "id": 4}', "1.1.jpg": B, "1.1.json": b'{"text": "b", "id": 5}'}
    tar(tmp_path / "a.tar", each)
    assert captioned(tmp_path / "a.tar", Columns(key="id")) == [("4", "a"), ("5", "b")]
    tar(tmp_path / "a.tar", {"a.jpg": A, "a.jpg.txt": b"one", "b.png": B, "b.png.json": b'{"caption": "two"}'})
    assert captioned(tmp_path / "a.tar") == [("a", "one"), ("b", "two")]
    tar(tmp_path / "a.tar", {"a.jpg": A, "a.mask.png": B, "a.cls": b"3", "a.txt": b"one", "a.meta.json": b"{}"})
    assert captioned(tmp_path / "a.tar") == [("a", "one"), ("a.mask", "one")]
    tar(tmp_path / "a.tar", {"2021.1.jpg": A, "2021.1.txt": b"one", "2021.2.txt": b"two"})
    assert [(item.key, item.error) for item in read(tmp_path / "a.tar")] == [
        ("2021.1", None),
        ("2021.2", "no picture in the sample (it holds 2.txt)"),
    ]


def test_pictures_without_a_suffix_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    texts = {"README": b"P6 of 7 pages, and more", "LICENSE": b"", "CITATION": b"BibTeX to come"}
    members = texts | {"d/0001": A, "d/0001.txt": b"one", "0002": B, "0002.json": b"{}"}
    tar(tmp_path / "a.tar", members)
    assert captioned(tmp_path / "a.tar") == [("d/0001", "one"), ("0002", None)]
    with (tmp_path / "a.tar").open("rb") as stream:
        assert len(list(archive.items(stream, "a.tar", Columns(), read=False))) == 2
    suffixes = {"JPEG2000": "jp2", "WEBP": "webp", "TIFF": "tiff", "GIF": "gif", "BMP": "bmp"}
    heads = {kind: encoded(tiles(1, 8)[0], kind)[: archive.HEAD] for kind in suffixes}
    assert {kind: archive.suffix_of(head) for kind, head in heads.items()} == suffixes


def test_many_pictures_of_one_name_are_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foclip.data.sources.archive.MAX_PICTURE", 2 * len(A))
    tar(tmp_path / "a.tar", {f"2021.{number}.jpg": A for number in range(9)})
    assert captioned(tmp_path / "a.tar") == [(f"2021.{number}", None) for number in range(9)]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_joined_tars_are_read_to_their_end(tmp_path: Path, form: int) -> None:
    first = tar(tmp_path / "a.tar", {"a.jpg": A, "a.txt": b"one"}, form)
    second = tar(tmp_path / "b.tar", {"b.jpg": B, "b.txt": b"two", "a.jpg": B}, form)
    rows = [("a", "one"), ("b", "two"), ("a#2", None)]
    (tmp_path / "ab.tar").write_bytes(first + second)
    assert captioned(tmp_path / "ab.tar") == rows
    (tmp_path / "ab.tar").write_bytes(first + bytes(512) + second + bytes(512 * 7))
    assert captioned(tmp_path / "ab.tar") == rows
    (tmp_path / "ab.tar").write_bytes(first + b"no tar" * 500)
    *whole, last = read(tmp_path / "ab.tar")
    assert [item.key for item in whole] == ["a"]
    assert "damaged after a" in str(last.error)
    (tmp_path / "empty.tar").write_bytes(bytes(10240))
    assert read(tmp_path / "empty.tar") == []


def frame(kind: str, content: bytes) -> bytes:
    """A frame of Zstandard or LZ4."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, kind) as stream:
        stream.write(content)
    return bytes(sink.getvalue())


#: By suffix.
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": partial(lzma.compress, format=lzma.FORMAT_ALONE),
    "zst": partial(frame, "zstd"),
    "tar.zst": lambda content: b"\x50\x2a\x4d\x18\4\0\0\0size" + frame("zstd", content),  # as pzstd does
    "lz4": partial(frame, "lz4"),
}


@pytest.mark.parametrize(("suffix", "compress"), COMPRESSIONS.items())
def test_compressed_tars_also_in_several_members(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    first = tar(tmp_path / "a.tar", {"a.jpg": A, "a.txt": b"one"})
    second = tar(tmp_path / "b.tar", {"b.jpg": B, "b.txt": b"two"})
    path = tmp_path / f"c.tar.{suffix}"
    rows = [("a", "one"), ("b", "two")]
    for content in (compress(first + second), compress(first) + compress(second)):
        path.write_bytes(content)
        assert captioned(path) == rows
    half = 700
    path.write_bytes(compress(first[:half]) + compress(first[half:] + second))
    assert captioned(path) == rows
    path.write_bytes(path.read_bytes()[:-40])
    assert any(item.error for item in read(path))


# Keys


@pytest.mark.parametrize(
    ("ids", "keys"),
    [
        (pa.array([7, None, 1], pa.int64()), ["7", "#1", "1"]),
        (pa.array([7.0, float("nan"), 0.5]), ["7", "#1", "0.5"]),
        (pa.array([decimal.Decimal("7.10"), None, decimal.Decimal("0.20")]), ["7.10", "#1", "0.20"]),
        (pa.array([datetime.date(2021, 5, 1), None, datetime.date(1, 1, 1)]), ["2021-05-01", "#1", "0001-01-01"]),
        (pa.array([b"ab", None, b"\xff\x01"]), ["ab", "#1", "ff01"]),
        (pa.array([uuid.UUID(int=7).bytes, None, uuid.UUID(int=8).bytes], pa.uuid()), None),
        (pa.array(["x", "  ", None]), ["x", "#1", "#2"]),
        (pa.array(["1", None, "#1"]), ["1", "##1", "#1"]),
        (pa.array(["#2", "9", None]), ["#2", "9", "##2"]),
        (pa.array(["9", "9", "9#1"]), ["9", "9##1", "9#1"]),
        (pa.array(["9", "9", "9##1"]), ["9", "9###1", "9##1"]),
        (pa.array(["9#1#1", "9#1", "9#1"]), ["9#1#1", "9#1", "9#1##2"]),
        (pa.array(["x", None, "y"]).dictionary_encode(), ["x", "#1", "y"]),
        (pa.array([True, None, False]), ["True", "#1", "False"]),
        (pa.array([[1, 2], None, [3]]), ["[1, 2]", "#1", "[3]"]),
        (pa.array([2**60, 2**60 + 1, None], pa.uint64()), [str(2**60), str(2**60 + 1), "#2"]),
        (pa.array([0, None, 1], pa.duration("s")), ["0:00:00", "#1", "0:00:01"]),
        (
            pa.array([0, None, 86_400_000_001], pa.timestamp("us")),
            ["1970-01-01 00:00:00", "#1", "1970-01-02 00:00:00.000001"],
        ),
        (pa.array([7, None, 8], pa.decimal256(50, 0)), ["7", "#1", "8"]),
        (pa.array([{"a": 1}, None, {"a": 2}]), ["{'a': 1}", "#1", "{'a': 2}"]),
    ],
)
def test_keys_of_every_type(tmp_path: Path, ids: pa.Array, keys: list[str] | None) -> None:
    expected = keys or [str(uuid.UUID(int=7)), "#1", str(uuid.UUID(int=8))]
    for group in (1, 3):
        path = table(tmp_path / f"{group}.parquet", 3, group, id=ids)
        assert [key for key, _ in captioned(path)] == expected


@pytest.mark.parametrize("group", [1, 4, 15])
def test_the_same_id_several_times_is_scored_each_time(tmp_path: Path, group: int) -> None:
    """COCO and Flickr30k have a row per caption."""
    words = [f"caption {number}" for number in range(15)]
    path = table(tmp_path / f"{group}.parquet", 15, group, image_id=[139 + n // 5 for n in range(15)], caption=words)
    keys = [f"{139 + n // 5}" + (f"#{n}" if n % 5 else "") for n in range(15)]
    assert captioned(path) == [*zip(keys, words, strict=True)]


def test_the_same_id_in_the_json_of_a_tar(tmp_path: Path) -> None:
    members = {"a.jpg": A, "a.json": b'{"id": 5}', "b.jpg": B, "b.json": b'{"id": 5.0}', "c.jpg": A, "c.json": b"{}"}
    tar(tmp_path / "a.tar", members)
    assert [key for key, _ in captioned(tmp_path / "a.tar", Columns(key="id"))] == ["5", "5#1", "#c"]
    ids = {"a": '"5#2"', "b": "5", "c": "5", "d": '"#e"', "e": "null"}
    members = {}
    for name, told in ids.items():
        members |= {f"{name}.jpg": A, f"{name}.json": f'{{"id": {told}}}'.encode()}
    tar(tmp_path / "a.tar", members)
    assert [key for key, _ in captioned(tmp_path / "a.tar", Columns(key="id"))] == ["5#2", "5", "5#2#2", "#e", "#e#4"]


# Captions


@pytest.mark.parametrize(
    "two",
    [
        "\ufeffa cat\r\n\r\nasleep \n".encode(),
        b"a cat\rasleep\r",
        "a cat\r\nasleep\r\n\r\n".encode("utf-16"),
        "a cat\u2028asleep".encode(),
        b"\n\ta cat\n  \nasleep\n\n\n",
    ],
)
def test_lines_of_a_text_are_captions_from_every_source(tmp_path: Path, two: bytes) -> None:
    source = folder(tmp_path / "folder", {"a.jpg": A, "a.txt": two})
    tar(tmp_path / "a.tar", {"a.jpg": A, "a.txt": two})
    table(tmp_path / "a.parquet", 1, captions=[["a cat", "asleep"]])
    for each in (source, tmp_path / "a.tar", tmp_path / "a.parquet"):
        ((_, caption),) = captioned(each)
        assert caption == "a cat\nasleep"
    (sample,) = collect_samples(source, captions="sidecar")
    assert sample.prompts == ("a cat", "asleep")


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("caption", [b"a cat", None, "Ü".encode()], ["a cat", None, "Ü"]),
        ("captions", [["a cat", " a dog"], [], None], ["a cat\na dog", None, None]),
        ("sentences", [["a", None], [None], ["b"]], ["a", None, "b"]),
        ("text", [1984, None, 7], ["1984", None, "7"]),
        ("title", [1984.0, float("nan"), 0.5], ["1984", None, "0.5"]),
        ("txt", ["a", "", " "], ["a", None, None]),
        ("sentence", ["a\nb", "c", None], ["a b", "c", None]),
        ("TEXT", ["a", "b", None], ["a", "b", None]),
        ("Caption", pa.array(["a", "b", None]).dictionary_encode(), ["a", "b", None]),
        ("caption", pa.array([[b"a", b"b"], None, []], pa.large_list(pa.large_binary())), ["a\nb", None, None]),
        ("sentences", [[{"raw": "a man", "tokens": ["a", "man"]}, {"raw": "b", "tokens": ["b"]}], [], None], None),
        (
            "captions",
            pa.array([[("en", "a"), ("de", "b")], [], None], pa.map_(pa.string(), pa.string())),
            ["a\nb", None, None],
        ),
        ("captions", pa.array([["a", "b"], None, ["c", None]], pa.list_(pa.string(), 2)), ["a\nb", None, "c"]),
        ("caption", pa.array(["a", None, ""], pa.string_view()), ["a", None, None]),
        ("json", [{"caption": "a", "width": 1}, {"caption": None, "width": 2}, None], ["a", None, None]),
        ("json", [{"width": 1}, {"width": 2}, None], [None, None, None]),
        ("json", [["a"], [], None], [None, None, None]),
        ("sentences", [{"raw": "a", "sentid": 1}, {"raw": None, "sentid": 2}, None], ["a", None, None]),
        (
            "captions",
            [[{"text": "a", "id": 1}, {"text": "b", "id": 2}], None, [{"text": "c", "id": 3}]],
            ["a\nb", None, "c"],
        ),
    ],
)
def test_captions_of_every_type(tmp_path: Path, column: str, values: Any, expected: list[str | None]) -> None:
    path = table(tmp_path / "a.parquet", 3, **{column: values})
    assert [caption for _, caption in captioned(path)] == (expected or ["a man\nb", None, None])


def test_captions_that_are_no_text_are_told(tmp_path: Path) -> None:
    for values, said in (([b"caf\xe9"], "no UTF-8 text"), ([{"a": 1}], "dict, not text")):
        (item,) = read(table(tmp_path / "a.parquet", 1, caption=values))
        assert said in str(item.error)


def test_captions_and_ids_of_every_type_in_the_json_of_a_tar(tmp_path: Path) -> None:
    told: list[Any] = [["a cat", "asleep"], 1984, None, "a\nb"]
    fields = [{"caption": caption, "uid": number} for number, caption in enumerate(told)]
    members = {
        f"{n}.{kind}": content
        for n, row in enumerate(fields)
        for kind, content in (("jpg", A), ("json", json.dumps(row).encode()))
    }
    tar(tmp_path / "a.tar", members)
    assert [caption for _, caption in captioned(tmp_path / "a.tar")] == ["a cat\nasleep", "1984", None, "a b"]
    assert [item.uid for item in read(tmp_path / "a.tar")] == ["0", "1", "2", "3"]
    tar(tmp_path / "a.tar", {"0.jpg": A, "0.json": b'{"caption": null, "TEXT": "a"}'})
    assert captioned(tmp_path / "a.tar") == [("0", "a")]


METADATA = {
    "metadata.jsonl": b'{"file_name": "a.jpg", "text": "a cat"}\n{"file_name": "sub/b.jpg", "text": "a dog"}\n',
    "metadata.csv": b"file_name,text\na.jpg,a cat\nsub/b.jpg,a dog\n",
    "metadata.parquet": b"",
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_of_hugging_face_beside_pictures(tmp_path: Path, name: str) -> None:
    source = folder(
        tmp_path / "train", {"a.jpg": A, "sub/b.jpg": B, "c.jpg": A, "c.txt": b"its own", name: METADATA[name]}
    )
    if name.endswith("parquet"):
        parquet.write_table(pa.table({"file_name": ["a.jpg", "sub/b.jpg"], "text": ["a cat", "a dog"]}), source / name)
    rows = [("a.jpg", "a cat"), ("c.jpg", "its own"), ("sub/b.jpg", "a dog")]
    assert captioned(source) == rows
    assert captioned(tmp_path) == [(f"train/{key}", caption) for key, caption in rows]
    if not name.endswith("parquet"):
        found = collect_samples(source, captions=source / name)
        assert [sample.prompts for sample in found] == [("a cat",), ("a dog",)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", ",;\t")
def test_metadata_as_excel_saves_it(tmp_path: Path, separator: str, encoding: str) -> None:
    lines = (["file_name", "text"], ["cafe\u0301.jpg", "a café"], ["sub\\b.jpg", "a dog"])
    content = "\r\n".join(map(separator.join, lines)).encode(encoding)
    source = folder(tmp_path / "a", {"caf\u00e9.jpg": A, "sub/b.jpg": B, "metadata.csv": content})
    assert captioned(source) == [("caf\u00e9.jpg", "a café"), ("sub/b.jpg", "a dog")]


def test_metadata_that_names_no_pictures_or_is_broken(tmp_path: Path) -> None:
    source = folder(tmp_path / "a", {"a.jpg": A, "a.txt": b"a cat", "metadata.csv": b"license,MIT\n"})
    assert captioned(source) == [("a.jpg", "a cat")]
    source = folder(tmp_path / "b", {"a.jpg": A, "metadata.jsonl": b"{"})
    (item,) = read(source)
    assert "metadata.jsonl, line 1: no JSON" in str(item.error)


# Folders


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    folder(tmp_path / "elsewhere", {"b.jpg": B, "deep/c.jpg": A})
    source = folder(tmp_path / "source", {"a.jpg": A})
    (source / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "deep" / "round").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(source)
    names = ["a.jpg", "linked/b.jpg", "linked/deep/c.jpg"]
    assert [key for key, _ in captioned(source)] == names
    assert [sample.name for sample in collect_samples(source, ["a cat"])] == [str(source / name) for name in names]


def test_nothing_is_passed_over_without_a_word(tmp_path: Path) -> None:
    contents = {"IMG_1.HEIC": b"ftypheic", "a.jpg": A, "a.jpg.txt": b"one", "b.jpg": B, "b.caption": b"two"}
    source = folder(tmp_path / "source", contents | {"c.zip": b"", "d.ZIP": b"", "README": b"", ".x": b""})
    listing = Listing([str(source)])
    heic, a, b = (load_bytes(item) for shard in listing for item in items(shard, Columns()))
    assert (heic.key, a.caption, b.caption) == ("IMG_1.HEIC", "one", "two")
    assert listing.passed_over == {"*.zip": 2, "README": 1}
    assert len(collect_samples(source, captions="sidecar")) == 2
    with pytest.raises(UsageError, match=r"no pictures.*passed over: 1 \*\.csv"):
        list(Listing([str(folder(tmp_path / "none", {"a.csv": b""}))]))


def test_what_is_no_data_does_not_count(tmp_path: Path) -> None:
    source = folder(tmp_path / "_source", {"_DSC0001.JPG": A, "_SUCCESS": b"", "_temporary/0/x": b""})
    for name in ("part-0.parquet", "_temporary/0/part-0.parquet", "_old.parquet", ".part-0.parquet"):
        table(source / name, 1)
    tar(source / "_temporary" / "a.tar", {"a.jpg": A})
    assert captioned(source) == [("_DSC0001.JPG", None), ("0", None)]


def test_tables_without_pictures_in_a_folder_are_passed_over(tmp_path: Path) -> None:
    source = folder(tmp_path / "pool", {"00000/000000000.jpg": A, "00000/000000000.txt": b"a cat"})
    parquet.write_table(pa.table({"url": ["x"], "jpg": [None]}), source / "00000.parquet")  # img2dataset's own
    parquet.write_table(pa.table({"uid": ["x"], "text": ["a"]}), source / "metadata-0.parquet")
    listing = Listing([str(source)])
    assert [shard.kind for shard in listing] == ["pictures"]
    assert listing.passed_over == {"tables without a column of pictures": 1}
    with pytest.raises(UsageError, match="none of the columns"):
        list(Listing([str(source / "metadata-0.parquet")]))


def test_parts_of_a_scan_are_no_source(tmp_path: Path) -> None:
    source = folder(tmp_path / "source", {"a.jpg": A, "out/shards.jsonl": b"", "out/parts/b.jpg": B})
    table(source / "out" / "parts" / "00000000.parquet", 1)
    listing = Listing([str(source)])
    assert [shard.names for shard in listing] == [("a.jpg",)]


def test_a_preview_tells_what_would_be_read(tmp_path: Path) -> None:
    source = folder(tmp_path / "source", {"a.jpg": A, "a.txt": b"a cat", "b.jpg": B, "c.zip": b""})
    table(source / "t.parquet", 12, captions=[["a", "b"]] * 12, id=[*range(12)])
    tar(source / "u.tar", {"x.jpg": A, "x.txt": b"in a tar"})
    found = preview([str(source)], Columns())
    assert found["shards"] == {"pictures": 1, "table": 3, "tar": 1}
    assert found["rows"] == {"pictures": 2, "table": 12}
    assert found["columns"] == {"image": "image", "caption": "captions", "key": "id"}
    assert found["passed_over"] == {"*.zip": 1}
    assert [row["caption"] for row in found["samples"]] == ["a cat", None, *["a\nb"] * 10, "in a tar"]


def test_what_is_found_does_not_depend_on_how_it_is_named(tmp_path: Path) -> None:
    """A folder, a glob, and what a shell makes of it, in the order of its language."""
    source = folder(tmp_path / "a", {"B.jpg": A, "a.jpg": B, "c.png": A})
    names = [f"{source}/{name}" for name in ("a.jpg", "B.jpg", "c.png")]
    found = []
    for named in ([str(source)], [f"{source}/*"], names, [names[2], *names[:2]]):
        listing = Listing(named)
        (shard,) = listing
        assert (shard.names, shard.rows, shard.prefix) == (("B.jpg", "a.jpg", "c.png"), 3, "")
        found.append(listing.as_dict())
    assert found == [found[0]] * 4
    folder(source, {"a.txt": b"a cat", "metadata.csv": b"", ".DS_Store": b"", ".old.jpg": A, "Thumbs.db": b""})
    for named in ([str(source)], [f"{source}/"], [f"file://{source}"], [f"{source}/../a"], [f"{source}/*"]):
        listing = Listing(named)
        assert [shard.names for shard in listing] == [("B.jpg", "a.jpg", "c.png")]
        assert (listing.as_dict(), listing.passed_over) == (found[0], {"*.db": 1})
    (source / "Thumbs.db").unlink()
    listing = Listing(sorted(str(path) for path in source.glob("[!.]*")))
    assert [shard.rows for shard in listing] == [3]
    assert (listing.as_dict(), listing.passed_over) == (found[0], {})
    tar(tmp_path / "1.tar", {"a.jpg": A})
    tar(tmp_path / "b.tar", {"a.jpg": A})
    tars = [f"{tmp_path}/{name}.tar" for name in ("1", "b")]
    assert [shard.url for shard in Listing([tars[1], tars[0], str(source), tars[1]])] == [*tars, str(source), tars[1]]


def test_what_is_found_does_not_depend_on_place_and_time(tmp_path: Path) -> None:
    """Data that were copied, touched, or looked at by a file manager."""
    source = folder(tmp_path / "a", {"a.jpg": A, "sub/b.jpg": B, "sub/b.txt": b"b"})
    table(source / "t.parquet", 2)
    found = []
    for place in (source, Path(shutil.copytree(source, tmp_path / "elsewhere" / "b")), source):
        listing = Listing([str(place)])
        assert len([*listing]) == 3
        found.append(listing.as_dict())
        os.utime(source / "a.jpg", (1, 1))
        folder(source, {".DS_Store": b"x", "Thumbs.db": b"x", "sub/._b.jpg": b"x"})
    assert found == [found[0]] * 3


@pytest.mark.parametrize("pattern", ["**", "**/*", "**/*.*", "*"])
def test_a_pattern_of_folders_and_what_is_in_them_gives_each_picture_once(tmp_path: Path, pattern: str) -> None:
    source = folder(tmp_path / "a", {"a.jpg": A, "sub/b.jpg": A, "sub/deep/c.jpg": B, "sub-2/d.jpg": B, ".e.jpg": A})
    assert sum(shard.rows for shard in Listing([f"{source}/{pattern}"])) == 4


# Tables


def test_a_path_whose_folder_is_missing_is_one_row(tmp_path: Path) -> None:
    folder(tmp_path, {"there/a.jpg": A})
    parquet.write_table(pa.table({"path": ["there/a.jpg", "gone/b.jpg", "there/c.jpg"]}), tmp_path / "a.parquet")
    assert [item.error for item in read(tmp_path / "a.parquet")] == [None, "no such file or directory"] * 1 + [
        "no such file or directory"
    ]


def test_sparks_binary_files(tmp_path: Path) -> None:
    columns = {"path": ["file:/data/a.jpg"], "modificationTime": [0], "length": [len(B)], "content": [B]}
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    (item,) = read(tmp_path / "a.parquet")
    assert (item.content, item.error) == (B, None)
    parquet.write_table(pa.table({"image_path": ["a.jpg"], "content": ["a text"]}), tmp_path / "b.parquet")
    folder(tmp_path, {"a.jpg": A})
    assert captioned(tmp_path / "b.parquet") == [("0", None)]


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (base64.b64encode(B).decode(), None),
        ("data:image/jpeg;base64," + base64.b64encode(B).decode(), None),
        (base64.encodebytes(B).decode(), None),  # in lines
        ("/9j/ü.jpg", "its picture is text that is no Base64"),
        ("file:{folder}/a%20b.jpg", None),  # Spark's
        ("file://{folder}/a%20b.jpg", None),
        ("{folder}/a b.jpg", None),
        ("./a b.jpg", None),
        ("file:/etc/passwd", "its path leads out of the table's folder"),
        ("http://x/a.jpg", "its picture is a URL, which is not fetched"),
    ],
)
def test_pictures_that_are_text(tmp_path: Path, image: str, error: str | None) -> None:
    folder(tmp_path, {"a b.jpg": B})
    parquet.write_table(pa.table({"image": [image.replace("{folder}", str(tmp_path))]}), tmp_path / "a.parquet")
    (item,) = read(tmp_path / "a.parquet")
    assert (item.content, item.error) == (b"" if error else B, error)


@pytest.mark.parametrize(
    "file", ["cafe\u0301/re\u0301sume\u0301.jpg", "caf\u00e9/r\u00e9sum\u00e9.jpg", "caf\u00e9/re\u0301sume\u0301.jpg"]
)
@pytest.mark.parametrize("told", ["cafe\u0301/re\u0301sume\u0301.jpg", "caf\u00e9/r\u00e9sum\u00e9.jpg"])
def test_paths_whose_accents_are_parted_from_their_letters(tmp_path: Path, file: str, told: str) -> None:
    """Names of files that come from macOS; tables are often written elsewhere."""
    root = folder(tmp_path / "u\u0308ber", {file: A, "\u5199\u771f/\u96ea.jpg": B})
    names = [told, "\u5199\u771f/\u96ea.jpg", told.replace("r", "p")]
    parquet.write_table(pa.table({"image_path": names, "caption": ["a", "b", "c"]}), root / "a.parquet")
    first, second, last = read(root / "a.parquet")
    assert [(first.content, first.error), (second.content, second.error)] == [(A, None), (B, None)]
    assert last.error == "no such file or directory"


def test_absolute_paths_below_the_tables_folder(tmp_path: Path) -> None:
    """As `datasets` exports a folder of pictures."""
    folder(tmp_path, {"source/a.jpg": A, "b.jpg": B})
    inside, outside = tmp_path / "source" / "a.jpg", tmp_path / "b.jpg"
    rows = [{"bytes": None, "path": str(path)} for path in (inside, outside, f"{tmp_path}/source/../b.jpg")]
    parquet.write_table(pa.table({"image": rows}), tmp_path / "source" / "a.parquet")
    (tmp_path / "link").symlink_to(tmp_path / "source")
    for name in ("source", "link"):
        first, *others = read(tmp_path / name / "a.parquet")
        assert (first.content, first.error) == (A, None)
        assert ["out of the table's folder" in str(item.error) for item in others] == [True, True]
