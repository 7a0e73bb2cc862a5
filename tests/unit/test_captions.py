"""A caption per picture: files of pairs, and sidecars."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foclip.data import captions
from foclip.data.images import Source
from foclip.data.prompts import ARTWORKS
from foclip.data.samples import PromptsOf, collect_samples
from foclip.errors import PromptError, UsageError
from foclip.outcome import Failure

ROWS = [("a.png", "a cat"), ("sub/b.png", "a dog"), ("a.png", "a cat, asleep")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.png", "c.jpg"):
        Image.new("RGB", (4, 4), "red").save(tmp_path / name)
    return tmp_path


def written(folder: Path, suffix: str, encoding: str = "utf-8") -> Path:
    """A file of `ROWS`."""
    path = folder / f"pairs{suffix}"
    if suffix == ".jsonl":
        lines = [json.dumps({"image": image, "caption": caption, "id": 7}) for image, caption in ROWS]
    else:
        separator = "," if suffix == ".csv" else "\t"
        lines = [separator.join(cells) for cells in (("image", "caption"), *((i, f'"{c}"') for i, c in ROWS))]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def paired(
    pictures: list[Source], file: Path | str, failures: list[Failure] | None = None
) -> list[tuple[Source, tuple[str, ...]]]:
    found = collect_samples(pictures, captions=file)
    if failures is None:
        assert not found.failures
    else:
        failures += found.failures
    return [(sample.image, sample.prompts) for sample in found]  # type: ignore[misc]  # only files are given here


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_pairs_of_a_file(folder: Path, suffix: str, encoding: str) -> None:
    path = written(folder, suffix, encoding)
    pictures: list[Source] = [folder / "sub" / "b.png", str(folder / "a.png")]
    assert paired(pictures, path) == [
        (folder / "sub" / "b.png", ("a dog",)),
        (folder / "a.png", ("a cat", "a cat, asleep")),
    ]


EXCELS = "image;caption\r\na.png;a cat\r\nsub\\b.png;a dog\r\na.png;a cat, asleep\r\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", EXCELS),
        ("b.csv", "sep=;\r\n" + EXCELS),
        ("c.csv", EXCELS.replace(";", "\t")),  # "Unicode text"
        ("d.tsv", EXCELS.replace(";", "\t").replace("\r\n", "\r")),  # an old Mac's
        ("e.tsv", EXCELS),
        ("f.csv", '"sep=|"\n' + EXCELS.replace(";", "|")),
        ("g.csv", EXCELS.replace("image;caption", "file_name;text").replace("sub\\", "./sub//")),
        ("h.csv", EXCELS.replace("image", "Image", 1).replace("a cat, asleep", '"a cat, asleep"')),
    ],
)
def test_tables_as_excel_saves_them(folder: Path, name: str, content: str, encoding: str) -> None:
    start = "\ufeff".encode(encoding) if encoding.endswith("be") else b""
    (folder / name).write_bytes(start + content.encode(encoding))
    assert paired([folder / "a.png", folder / "sub" / "b.png"], folder / name) == [
        (folder / "a.png", ("a cat", "a cat, asleep")),
        (folder / "sub" / "b.png", ("a dog",)),
    ]


def test_lines_are_counted_as_in_an_editor(folder: Path) -> None:
    (folder / "a.csv").write_text("sep=;\nimage;caption\nz.png;a cat\n")
    failures: list[Failure] = []
    paired([folder / "a.png"], folder / "a.csv", failures)
    assert failures[0].reason.startswith(f"{folder / 'a.csv'}, line 3: a caption without a picture")


@pytest.mark.parametrize(
    ("name", "content", "caption"),
    [
        ("a.csv", "image, caption\na.png, a cat\n", "a cat"),  # written by hand
        ("b.csv", 'image, caption\na.png, "a cat, asleep"\n', "a cat, asleep"),
        ("c.csv", "image,caption\na.png,a cat, asleep,\n", "a cat, asleep,"),
        ("d.csv", "image, caption\na.png, a cat, asleep\n", "a cat, asleep"),
        ("e.csv", "image,caption,\r\na.png,a cat,\r\n", "a cat"),
        ("f.csv", ",image,caption\n0,a.png,a cat\n", "a cat"),  # pandas, with its index
        ("g.csv", 'image,caption\na.png,"a \\"big\\" cat, asleep"\n', 'a "big" cat, asleep'),  # Spark, MySQL
        ("h.csv", 'image,caption\na.png,a 5" disk\n', 'a 5" disk'),
        ("i.csv", "image|caption\na.png|a cat\n", "a cat"),
        ("j.tsv", 'image\tcaption\na.png\t"Mona" Lisa\n', '"Mona" Lisa'),  # Conceptual Captions quotes nothing
        ("k.tsv", 'image\tcaption\na.png\t"Mona Lisa\n', '"Mona Lisa'),
        ("l.tsv", 'image\tcaption\na.png\t"a ""big""\tcat"\n', 'a "big"\tcat'),
        ("m.csv", 'image,captions\na.png,"[\'a cat\', \'it\\\'s ""big""\']"\n', 'a cat\nit\'s "big"'),
        ("n.csv", "image,captions\na.png,\"['a cat', 'big']\"\n", "a cat\nbig"),  # pandas, of lists
        ("o.csv", 'image,captions\na.png,"[""a cat"", ""big""]"\n', "a cat\nbig"),  # JSON, as Flickr30k has it
        ("p.csv", "image,captions\na.png,['a' 'cat']\n", "['a' 'cat']"),  # numpy's lists are none
        ("q.csv", "image,caption\na.png,[1]\n", "[1]"),
    ],
)
def test_dialects_of_tables(folder: Path, name: str, content: str, caption: str) -> None:
    (folder / name).write_bytes(content.encode())
    assert paired([folder / "a.png"], folder / name) == [(folder / "a.png", tuple(caption.split("\n")))]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('a.png,"a cat\nc.jpg,a dog\n', "lines 2 to 3: a quote is not closed"),
        ('c.jpg,a dog\na.png,"Mona" Lisa\n', "line 3: ',' expected after"),
    ],
)
def test_a_quote_that_takes_rows_is_named(folder: Path, rows: str, message: str) -> None:
    (folder / "a.csv").write_text(f"image,caption\n{rows}")
    with pytest.raises(PromptError, match=message):
        collect_samples([folder / "a.png"], captions=folder / "a.csv")
    (folder / "a.csv").write_text("caption,image\na cat, asleep,a.png\n")
    with pytest.raises(PromptError, match="line 2 has more cells than the first line names"):
        collect_samples([folder / "a.png"], captions=folder / "a.csv")


@pytest.mark.parametrize("name", ["A.TXT", "A.JPG.txt", "A.text", "A.caption"])
def test_names_of_sidecars(folder: Path, name: str) -> None:
    Image.new("RGB", (4, 4)).save(folder / "A.JPG")
    (folder / name).write_text("a cat\r\n\r\na bed\r\n\r\n")
    assert paired([folder / "A.JPG"], "sidecar") == [(folder / "A.JPG", ("a cat", "a bed"))]


COMPOSED, PARTED = "caf\u00e9.png", "cafe\u0301.png"


@pytest.mark.parametrize("file", [COMPOSED, PARTED])
@pytest.mark.parametrize("told", [COMPOSED, PARTED])
def test_letters_and_their_accents(folder: Path, file: str, told: str) -> None:
    Image.new("RGB", (4, 4)).save(folder / "sub" / file)
    for image in (told, f"sub/{told}", f"sub\\{told}"):
        (folder / "a.csv").write_text(f"image,caption\n{image},a café\n", encoding="utf-8")
        assert paired([folder / "sub" / file], folder / "a.csv") == [(folder / "sub" / file, ("a café",))]


def test_two_files_that_differ_in_how_letters_are_written(folder: Path) -> None:
    for file in (COMPOSED, PARTED):
        Image.new("RGB", (4, 4)).save(folder / file)
    (folder / "a.csv").write_text(f"image,caption\n{PARTED},parted\n{COMPOSED},composed\n", encoding="utf-8")
    assert paired([folder / COMPOSED, folder / PARTED], folder / "a.csv") == [
        (folder / COMPOSED, ("composed",)),
        (folder / PARTED, ("parted",)),
    ]


def test_text_of_windows_beside_a_picture_and_as_prompts(folder: Path) -> None:
    (folder / "a.txt").write_text("a cat\na bed\n", encoding="utf-16")
    assert paired([folder / "a.png"], "sidecar") == [(folder / "a.png", ("a cat", "a bed"))]
    assert collect_samples([folder / "a.png"], str(folder / "a.txt")).results[0].prompts == ("a cat", "a bed")
    assert captions.of_text((folder / "a.txt").read_bytes(), ".txt") == "a cat\na bed"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["a cat\n", "Velázquez, “Las Meninas”\na bed\n", "x"])
def test_utf16_without_a_byte_order_mark(folder: Path, text: str, encoding: str) -> None:
    (folder / "a.txt").write_bytes(text.encode(encoding))
    assert paired([folder / "a.png"], "sidecar") == [(folder / "a.png", tuple(text.splitlines()))]
    (folder / "a.csv").write_bytes(f"image,caption\r\na.png,{text.splitlines()[0][:4]}\r\n".encode(encoding))
    assert paired([folder / "a.png"], folder / "a.csv") == [(folder / "a.png", (text[:4].strip(),))]
    (folder / "a.txt").write_bytes(b"a\x00cat\n")  # no UTF-16, if odd
    assert paired([folder / "a.png"], "sidecar") == [(folder / "a.png", ("a\x00cat",))]


def test_paths_are_the_files_own_or_bare_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "sub" / "pairs.csv"
    path.write_text(f"image,caption\nb.png,beside\n../c.jpg,above\n{folder / 'a.png'},absolute\na.png,by its name\n")
    monkeypatch.chdir(folder)
    assert paired([Path("a.png"), "sub/b.png", "./c.jpg"], path) == [
        (Path("a.png"), ("absolute", "by its name")),
        (Path("sub/b.png"), ("beside",)),
        (Path("c.jpg"), ("above",)),
    ]
    path.write_text("image,caption\nelsewhere/a.png,not this one\n")  # a path is no bare name
    failures: list[Failure] = []
    assert paired(["a.png"], path, failures) == []
    assert len(failures) == 2


def test_a_bare_name_beside_the_file_means_that_one(folder: Path) -> None:
    Image.new("RGB", (4, 4), "blue").save(folder / "sub" / "a.png")
    path = written(folder, ".csv")
    failures: list[Failure] = []
    assert paired([folder / "sub" / "a.png", folder / "a.png"], path, failures) == [
        (folder / "a.png", ("a cat", "a cat, asleep"))
    ]
    assert {Path(failure.source).name for failure in failures} == {"a.png", "b.png"}


def test_a_table_may_quote_lines_and_separators(folder: Path) -> None:
    path = folder / "pairs.csv"
    path.write_bytes('caption,note,image\r\n"a ""cat"",\nasleep",x,a.png\r\nÜ 🎉,,c.jpg\r\n,,\r\n'.encode())
    assert paired([folder / "a.png", folder / "c.jpg"], path) == [
        (folder / "a.png", ('a "cat", asleep',)),
        (folder / "c.jpg", ("Ü 🎉",)),
    ]


def test_what_has_no_partner_is_listed(folder: Path) -> None:
    path = folder / "pairs.tsv"
    path.write_text("image\tcaption\na.png\ta cat\nnone.png\ta dog\nc.jpg\t  \n")
    failures: list[Failure] = []
    pictures: list[Source] = [folder / "a.png", folder / "sub" / "b.png", torch.zeros(3, 4, 4), folder / "c.jpg"]
    assert paired(pictures, path, failures) == [(folder / "a.png", ("a cat",))]
    listed = {failure.source: failure.reason for failure in failures}
    assert "line 3: a caption without a picture" in listed["none.png"]
    assert "line 4: an empty caption" in listed["c.jpg"]
    for source in (str(folder / "sub" / "b.png"), "picture 3"):
        assert "has no row for it" in listed[source]
    assert "no caption (line 4 of" in listed[str(folder / "c.jpg")]


def test_sidecars(folder: Path) -> None:
    (folder / "a.txt").write_text("a cat\n\nasleep\n", encoding="utf-8-sig")
    (folder / "c.txt").write_text("\n")
    (folder / "alone.txt").write_text("a dog\n")
    (folder / "sub" / "other.txt").write_text("a dog\n")
    failures: list[Failure] = []
    pictures: list[Source] = [folder / "a.png", folder / "sub" / "b.png", folder / "c.jpg", Image.new("RGB", (4, 4))]
    assert paired(pictures, "sidecar", failures) == [(folder / "a.png", ("a cat", "asleep"))]
    listed = {failure.source: failure.reason for failure in failures}
    assert "holds no prompt" in listed[str(folder / "c.txt")]
    for text in (folder / "alone.txt", folder / "sub" / "other.txt"):
        assert "a caption without a picture" in listed[str(text)]
    for source in (str(folder / "sub" / "b.png"), "picture 4"):
        assert "no caption (no file of its name" in listed[source]
    assert f"no caption ({folder / 'c.txt'} cannot be used)" in listed[str(folder / "c.jpg")]
    assert not any(failure.source == str(folder / "a.txt") for failure in failures)


def test_a_folder_stands_for_its_pictures(folder: Path) -> None:
    samples = collect_samples(folder, ["a cat"])
    assert [sample.image for sample in samples] == [folder / "a.png", folder / "c.jpg", folder / "sub" / "b.png"]
    assert [sample.name for sample in samples] == [str(sample.image) for sample in samples]
    assert [sample.prompts for sample in samples] == [("a cat",)] * 3


def test_a_folder_of_results_is_left_out_of_a_folder_of_pictures(folder: Path) -> None:
    def names(pictures: list[Source]) -> list[str]:
        return [Path(sample.name).name for sample in collect_samples(pictures, ["a"], exclude=folder / "sub")]

    assert names([folder]) == ["a.png", "c.jpg"]
    assert names([folder / "sub"]) == ["b.png"]  # asked for by name, it counts
    assert names([folder / "sub" / "b.png"]) == ["b.png"]


def test_prompts_for_all_or_for_each(folder: Path) -> None:
    pictures: list[Source] = [folder / "a.png", folder / "c.jpg"]

    def own(given: PromptsOf, default: tuple[str, ...] = (), optional: bool = False) -> list[tuple[str, ...]]:
        return [s.prompts for s in collect_samples(pictures, given, default=default, optional=optional)]

    assert own("artworks") == [ARTWORKS] * 2
    assert own(["a cat", " a dog "]) == [("a cat", "a dog")] * 2
    assert own([["a cat"], ["a dog", "b"]]) == [("a cat",), ("a dog", "b")]
    assert own(None, ("photo.",)) == [("photo.",)] * 2
    assert own(None, (), optional=True) == [()] * 2


def test_pictures_in_memory(folder: Path) -> None:
    four = torch.zeros(4, 3, 5, 6)
    samples = collect_samples(four, ["a"])
    assert [sample.name for sample in samples] == ["picture 1", "picture 2", "picture 3", "picture 4"]
    for one in (torch.zeros(3, 5, 6), np.zeros((3, 5, 6)), Image.new("RGB", (6, 5)), str(folder / "a.png")):
        assert len(collect_samples(one, ["a"])) == 1


@pytest.mark.parametrize(
    ("prompts", "file", "error", "message"),
    [
        (["a"], "sidecar", UsageError, "captions: give either prompts or captions"),
        (None, None, PromptError, "prompts: no prompts given"),
        (
            "a photo of a cat.",
            None,
            PromptError,
            r"'a photo of a cat\.' is no prompt set.* a list, \['a photo of a cat",
        ),
        ([], None, UsageError, "prompts: give a list"),
        ([["a"]], None, UsageError, "prompts: 1 lists of prompts for 2 pictures"),
        ([["a"], []], None, UsageError, "prompts: give a list"),
        ([["a"], "b"], None, UsageError, "prompts: give a list"),
        ([["a"], [" "]], None, PromptError, "prompt 1 is empty"),
        (["a", ""], None, PromptError, "prompt 2 is empty"),
        ("no-such-set", None, PromptError, "no-such-set"),
        (None, "pairs.xlsx", PromptError, r"captions are a \.csv, \.tsv, \.jsonl file"),
        (None, "none.csv", PromptError, r"none\.csv: No such file"),
    ],
)
def test_refused(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    prompts: PromptsOf,
    file: str | None,
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(error, match=message):
        collect_samples(["a.png", "c.jpg"], prompts, file)


def test_no_pictures(folder: Path) -> None:
    (folder / "empty").mkdir()
    for pictures in ([], [folder / "empty"], folder / "empty"):
        with pytest.raises(UsageError, match="pictures: no pictures"):
            collect_samples(pictures, ["a cat"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "must name the columns"),
        ("b.csv", b"file,text\na.png,a cat\n", "must name the columns"),
        ("c.csv", b"a.png,a cat\n", "must name the columns"),
        ("d.csv", "image,caption\na.png,Velázquez\n".encode("latin-1"), "not UTF-8"),
        ("e.csv", b"image,caption\na.png," + b"x" * 200_000 + b"\n", "no table"),
        ("f.csv", b"image,caption\n\x00,a\n", None),
        ("g.tsv", b"image:caption\na.png:a cat\n", "must name the columns"),
        ("h.jsonl", b'{"image": "a.png", "caption": "a cat"\n', "line 1: no JSON"),
        ("i.jsonl", b'\n["a.png", "a cat"]\n', "line 2: needs image and caption"),
        ("j.jsonl", b'{"image": "a.png"}\n', "line 1: needs image and caption"),
        ("k.jsonl", b'{"image": "a.png", "caption": {}}\n', "line 1: its caption is dict, not text"),
        ("l.jsonl", b"[" * 100_000, "line 1: no JSON"),
        ("m.jsonl", b'{"image": "\\u0000", "caption": "a"}\n', None),
        ("n.csv", b"image,caption\na.png,a cat,another cell\nc.jpg\n", None),
    ],
)
def test_bad_files(folder: Path, name: str, content: bytes, message: str | None) -> None:
    """Each is one clear error, or a listed failure; never another exception."""
    path = folder / name
    path.write_bytes(content)
    if message is None:
        assert collect_samples([folder / "a.png"], captions=path).failures
        return
    with pytest.raises(PromptError, match=message) as caught:
        collect_samples([folder / "a.png"], captions=path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_file_of_captions(folder: Path) -> None:
    (folder / "pairs.csv").mkdir()
    with pytest.raises(PromptError, match=r"pairs\.csv"):
        collect_samples([folder / "a.png"], captions=folder / "pairs.csv")


def test_a_file_that_is_too_large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "MAX_BYTES", 10)
    with pytest.raises(PromptError, match="more than 10 bytes"):
        collect_samples([folder / "a.png"], captions=written(folder, ".csv"))
