"""Whatever the bytes: a result, a failure or a wrong call in one line, never a traceback.

The examples are drawn anew by nobody: the same ones come in every run.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zoo
from calling import Outcome, call
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import foclip
from foclip.data import images
from foclip.errors import ImageError

settings.register_profile("foclip", deadline=None, derandomize=True, database=None, max_examples=40)
settings.load_profile("foclip")

pytestmark = pytest.mark.usefixtures("_embedded_once", "_passes_once")

SHIPPED = Path(foclip.__file__).parent / "detection" / "shipped" / "mini.json"
#: Text that can stand in a file; half a surrogate pair cannot. (`codec="utf-8"` says so too, in twelve seconds.)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """All examples are written into one folder, one after the other."""
    before, folder = Path.cwd(), tmp_path_factory.mktemp("properties")
    zoo.tiles(1, side=32)[0].save(folder / "good.png")
    os.chdir(folder)
    yield
    os.chdir(before)


def scored(*arguments: str) -> Outcome:
    """Score the good picture; the rules that hold whatever else is given."""
    outcome = call("score", "good.png", *arguments, "--json")
    assert outcome.code in (0, 1, 2)
    if outcome.code == 2:
        assert outcome.error
    else:
        assert all(row["scores"] for row in outcome.rows)
    assert len(outcome.failed) == int(outcome.code == 1)
    return outcome


@pytest.mark.slow
@given(st.binary(max_size=200) | TEXT.map(str.encode))
def test_prompts_files(content: bytes) -> None:
    Path("prompts.txt").write_bytes(content)
    outcome = scored("--prompts", "prompts.txt")
    if outcome.code == 0:
        text = content.decode("utf-8-sig")  # a byte order mark is no part of a prompt
        assert len(outcome.rows[0]["scores"]) == len([line for line in text.splitlines() if line.strip()])


def predict(content: bytes) -> None:
    Path("detector.json").write_bytes(content)
    outcome = call("detect", "good.png", "--detector", "detector.json", "--json")
    if outcome.code == 2:
        assert "detector" in outcome.error
    else:
        assert outcome.code == 0
        assert [row["verdict"] for row in outcome.rows] in (["tampered"], ["clean"], ["undecidable"])


@pytest.mark.slow
@given(st.binary(max_size=100) | JSON.map(lambda value: json.dumps(value).encode()))
def test_detector_files_of_anything(content: bytes) -> None:
    predict(content)


@pytest.mark.slow
@given(st.data())
def test_detector_files_with_one_value_replaced(data: st.DataObject) -> None:
    content: Any = json.loads(SHIPPED.read_text(encoding="utf-8"))
    place = content
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(min(3, len(place)))))
        if not (isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans(), label="deeper")):
            break
        place = place[key]
    if data.draw(st.booleans(), label="replaced, not removed"):
        place[key] = data.draw(JSON)
    else:
        del place[key]
    predict(json.dumps(content).encode())


@pytest.mark.slow
@given(st.integers(0, 20_000), st.binary(max_size=4), st.booleans())
def test_detector_files_with_bytes_replaced(place: int, new: bytes, cut: bool) -> None:
    content = SHIPPED.read_bytes()
    predict(content[:place] + new + (b"" if cut else content[place + len(new) :]))


#: Cells as they stand in captions files, names of the picture among them.
CELL = TEXT | st.sampled_from(["good.png", "./good.png", "image", "caption", "a cat", "", '"', "a\tb", "a,b"])
TABLE = st.tuples(
    st.sampled_from(["image,caption", "image\tcaption", "caption,image,image", "image", "\ufeffimage,caption"]),
    st.lists(st.lists(CELL, max_size=4), max_size=5),
    st.sampled_from([",", "\t", ";"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
).map(lambda table: table[3].join([table[0], *(table[2].join(row) for row in table[1])]).encode())
LINES = st.lists(
    JSON | st.fixed_dictionaries({"image": CELL | JSON, "caption": CELL | JSON | st.lists(CELL, max_size=2)}),
    max_size=4,
).map(lambda rows: "\n".join(map(json.dumps, rows)).encode())


@pytest.mark.slow
@given(st.binary(max_size=100) | TABLE | LINES, st.sampled_from(["csv", "tsv", "jsonl", "txt"]))
def test_captions_files(content: bytes, suffix: str) -> None:
    Path(f"captions.{suffix}").write_bytes(content)
    scored("--captions", f"captions.{suffix}")


@pytest.mark.slow
@given(st.lists(TEXT.filter(str.strip), min_size=1, max_size=4))
def test_captions_come_back_as_they_were_written(captions: list[str]) -> None:
    rows = [{"image": "good.png", "caption": caption} for caption in captions]
    Path("captions.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    outcome = scored("--captions", "captions.jsonl")
    assert outcome.code == 0
    (row,) = outcome.rows
    # a caption is one line: where a cell has several, they are joined by spaces
    assert row["prompts"] == [" ".join(filter(None, map(str.strip, caption.splitlines()))) for caption in captions]
    assert len(row["scores"]) == len(captions)


def whole() -> dict[str, bytes]:
    """Small pictures as files, by format."""
    picture = zoo.tiles(1, side=24)[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "PNG": zoo.encoded(picture, "PNG", exif=exif),
        "palette": zoo.encoded(picture.convert("P"), "PNG", transparency=3),
        "JPEG": zoo.encoded(picture, "JPEG", exif=exif, progressive=True),
        "WEBP": zoo.encoded(picture, "WEBP"),
        "TIFF": zoo.encoded(picture, "TIFF", compression="tiff_lzw"),
        "GIF": zoo.encoded(picture, "GIF", save_all=True, append_images=[picture.rotate(90)]),
        "BMP": zoo.encoded(picture, "BMP"),
    }


WHOLE = whole()


def read(content: bytes) -> None:
    """Read a picture file of these bytes: it is one, or the error names it in one line."""
    Path("any.png").write_bytes(content)
    try:
        picture = images.read("any.png")
    except ImageError as error:
        message = str(error)
    else:
        message = "any.png: a picture"
        assert picture.mode == "RGB"
        assert 0 < picture.width * picture.height <= images.MAX_PIXELS
    assert re.fullmatch(r"any\.png: .+", message), message


@pytest.mark.slow
@settings(max_examples=400)
@given(
    st.sampled_from(sorted(WHOLE)),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6),
    st.none() | st.integers(0, 1000),
)
def test_pictures_with_bytes_replaced(kind: str, changes: list[tuple[int, int]], end: int | None) -> None:
    content = bytearray(WHOLE[kind])
    for place, value in changes:
        content[place % len(content)] = value
    read(bytes(content[:end]))


@given(st.binary(max_size=300))
def test_pictures_of_any_bytes(content: bytes) -> None:
    read(content)
