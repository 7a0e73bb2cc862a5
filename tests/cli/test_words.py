"""Words that say what is wrong, on the command line and in the library."""

import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest
import torch
import zoo
from calling import call

import foclip
from foclip.attacks import FoCLIP, make_plan
from foclip.data import images
from foclip.errors import FoclipError, UsageError
from foclip.models import load_encoder

pytestmark = pytest.mark.usefixtures("_embedded_once", "_passes_once")

CAT = ("--prompt", "a cat")
QUICK = (*CAT, "--steps", 2, "--json", "--out")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two small pictures in it."""
    for name, tile in zip("ab", zoo.tiles(2), strict=True):
        tile.save(tmp_path / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# The right words.


@pytest.mark.parametrize(("options", "count", "needed"), [(["--full"], 40, 198), (["--full"], 99, 198), ([], 40, 99)])
def test_how_many_pictures_a_calibration_needs_in_all(
    folder: Path, options: list[str], count: int, needed: int
) -> None:
    clean = folder / "clean"
    clean.mkdir()
    for number, tile in enumerate(zoo.tiles(count, side=16)):
        tile.save(clean / f"{number}.png")
    assert f"{needed}." in call("calibrate", "--clean", clean, "--fpr", 0.01, *options, "--out", "d.json").error


def test_a_folder_of_clean_pictures_that_is_not_there(folder: Path) -> None:
    assert "no such file or folder" in call("calibrate", "--clean", "nosuch", "--out", "d.json").error


def test_an_unforeseen_error_is_one_line_and_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(*_: object, **__: object) -> str:
        raise RuntimeError("a fault\nof ours")

    monkeypatch.setattr(jinja2.Template, "render", fault)
    outcome = call("fool", "a.png", *QUICK, "out")
    assert outcome.code == 70
    (line,) = [line for line in outcome.lines if not line.startswith("fooling")]  # what shows progress
    named = [Path(word.strip("'\":;,.()")) for word in line.split()]
    (file,) = [path for path in named if path.is_file()]
    assert "RuntimeError: a fault" in file.read_text(encoding="utf-8")


def test_a_byte_order_mark_is_no_part_of_a_prompt(folder: Path) -> None:
    Path("prompts.txt").write_bytes(b"\xef\xbb\xbfa cat\r\na dog\r\n")
    (row,) = call("fool", "a.png", "--prompts", "prompts.txt", "--steps", 1, "--json", "--out", "out").rows
    assert row["prompts"] == ["a cat", "a dog"]


def test_a_picture_from_a_pipe(folder: Path) -> None:
    content, (end, start), before = Path("a.png").read_bytes(), os.pipe(), os.dup(0)
    os.write(start, content[:60_000])
    os.close(start)
    os.dup2(end, 0)
    try:
        outcome = call("fool", "/dev/stdin", *QUICK, "out")
    finally:
        os.dup2(before, 0)
        os.close(end)
    assert outcome.code == 0, outcome.err
    assert len(outcome.rows) == 1


def test_a_folder_is_searched_for_what_can_be_read(folder: Path) -> None:
    (folder / "many").mkdir()
    for kind, suffix in (("PNG", "png"), ("DIB", "dib"), ("BMP", "bmp")):
        (folder / "many" / f"a.{suffix}").write_bytes(zoo.encoded(zoo.tiles(1)[0], kind))
    assert call("score", "many", *CAT).code == 0


# The library.


def test_one_string_is_not_a_list_of_prompts() -> None:
    with pytest.raises(UsageError, match="list"):
        load_encoder("mini").encode_texts("a dog")


@pytest.mark.parametrize("setting", [{"init": "zero"}, {"target": -1.0}, {"budgets": "psnr:200"}, {"target": math.nan}])
def test_settings_of_an_attack_that_mean_nothing(setting: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(setting)).removesuffix("s")):
        make_plan(FoCLIP, **setting)


def refused(work: Callable[[], Any]) -> bool:
    """Whether the library refused, by an error of its own or by listing the picture among the failures."""
    try:
        outcome = work()
    except FoclipError:
        return True
    failures = outcome.failures if hasattr(outcome, "failures") else outcome[1]
    return bool(failures)


NO_PICTURES = {
    "one channel": torch.zeros(1, 8, 8, dtype=torch.uint8),
    "two dimensions": torch.zeros(8, 8, dtype=torch.uint8),
    "a batch": torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
    "channels last": torch.zeros(8, 8, 3, dtype=torch.uint8),
    "no pixels": torch.zeros(3, 0, 8, dtype=torch.uint8),
    "int64": torch.zeros(3, 8, 8, dtype=torch.int64),
    "bool": torch.zeros(3, 8, 8, dtype=torch.bool),
    "floats to 255": torch.full((3, 8, 8), 200.0),
    "nan": torch.full((3, 8, 8), math.nan),
    "number": 3,
    "none": None,
    "bytes": b"\x89PNG",
}


@pytest.mark.parametrize("kind", NO_PICTURES)
@pytest.mark.parametrize("verb", ["score", "fool", "detect"])
def test_the_library_refuses_what_is_no_picture(folder: Path, verb: str, kind: str) -> None:
    options: dict[str, Any] = {"out": folder / "out"} if verb == "fool" else {}
    assert refused(lambda: getattr(foclip, verb)([NO_PICTURES[kind]], ["a cat"], **options))


@pytest.mark.parametrize("prompts", ["a cat", [["a cat"]], [], [""], [3], None], ids=str)
@pytest.mark.parametrize("verb", ["score", "fool"])
def test_the_library_refuses_prompts_that_do_not_fit(folder: Path, verb: str, prompts: Any) -> None:
    options: dict[str, Any] = {"out": folder / "out"} if verb == "fool" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refused(lambda: getattr(foclip, verb)(["a.png", "b.png"], prompts, **options))


def test_floats_bytes_and_files_of_one_picture_score_the_same(folder: Path) -> None:
    picture = images.read("a.png")
    levels = images.to_tensor(picture)
    face: Any = foclip
    scores = [
        float(result.score)
        for given in ("a.png", Path("a.png"), picture, levels, levels / 255)
        for result in face.score([given], ["a cat"]).results
    ]
    assert scores == pytest.approx([scores[0]] * 5, abs=1e-6)
