"""What the command line and the library promise: nothing false, nothing lost, and words that say what is wrong."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest
import torch
import zoo
from calling import PROGRESS, call, started
from PIL import Image, ImageCms
from scipy.stats import binom

from foclip.attacks import FoCLIP
from foclip.attacks.refine import Refinement
from foclip.data import images
from foclip.demo import photos
from foclip.errors import FoclipError, UsageError
from foclip.metrics import CLIPScore

pytestmark = pytest.mark.usefixtures("_embedded_once", "_passes_once")

CAT = ("--prompt", "a cat")
QUICK = (*CAT, "--steps", 2, "--json", "--out")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with three small pictures in it."""
    for name, tile in zip("abc", zoo.tiles(3), strict=True):
        tile.save(tmp_path / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def results(out: Path) -> list[dict[str, Any]]:
    rows = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert isinstance(rows, list)
    return rows


@contextmanager
def counted(interrupt: int = 0) -> Iterator[list[int]]:
    """Counts the steps of FoCLIP, retouching too, and with a number presses Ctrl-C in the place of that one."""
    calls = [0]

    def counting(step: Callable[..., None]) -> Callable[..., None]:
        def counted_step(*arguments: Any) -> None:
            calls[0] += 1
            if calls[0] == interrupt:
                raise KeyboardInterrupt
            step(*arguments)

        return counted_step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FoCLIP, "update", counting(FoCLIP.update))
        patch.setattr(Refinement, "update", counting(Refinement.update))
        yield calls


# No false results.


@pytest.mark.parametrize("model", ["mini", "mini-vit"])
@pytest.mark.parametrize("fpr", [None, 0.01, 0.05])
def test_the_rule_without_prompts_keeps_its_bound_on_false_alarms(folder: Path, model: str, fpr: float | None) -> None:
    clean = folder / "clean"
    clean.mkdir()
    for number, tile in enumerate(zoo.tiles(40, side=100)):
        tile.save(clean / f"{number}.png")
    chosen = () if fpr is None else ("--fpr", fpr)
    outcome = call("detect", clean, "--model", model, "--method", "rule", *chosen, "--json")
    assert outcome.code == 0, outcome.err
    verdicts = [row["tampered"] for row in outcome.rows if row["verdict"] != "undecidable"]
    assert len(verdicts) > 20
    assert sum(verdicts) <= binom.ppf(0.999, len(verdicts), fpr or 0.05)


@pytest.mark.parametrize("kind", ["copies", "encoded anew", "resized", "given thrice"])
def test_duplicates_do_not_count_in_a_calibration(folder: Path, kind: str) -> None:
    clean = folder / "clean"
    clean.mkdir()
    photo = images.read(photos()[0]).resize((256, 256))
    # 38 pictures are needed for this bound, and 24 would be 72.
    tiles = zoo.tiles(24)
    for number in range(24 if kind == "given thrice" else 40):
        if kind == "copies":
            photo.save(clean / f"{number}.png")
        elif kind == "encoded anew":
            photo.save(clean / f"{number}.jpg", quality=50 + number)
        elif kind == "resized":
            photo.resize((200 + number, 200 + number)).save(clean / f"{number}.png")
        else:
            tiles[number].save(clean / f"{number}.png")
    given = ("--clean", clean) * (3 if kind == "given thrice" else 1)
    outcome = call("calibrate", *given, "--fpr", 0.05, "--fooled", 4, "--steps", 1, "--out", folder / "d.json")
    assert "duplicate" in outcome.error
    assert not (folder / "d.json").exists()


def odd_pictures(folder: Path) -> dict[str, Path]:
    """Pictures that become RGB in more than one step."""
    photo = images.read(photos()[1]).crop((100, 20, 260, 180))
    paths = {kind: folder / f"{kind}.png" for kind in ("16 bit", "transparent", "rotated", "palette")}
    Image.fromarray(np.asarray(photo.convert("L"), dtype=np.uint16) * 257).save(paths["16 bit"])
    clear = photo.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(photo.size))
    clear.save(paths["transparent"])
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(paths["rotated"], exif=exif)
    photo.convert("P").save(paths["palette"], transparency=7)
    return paths


@pytest.mark.parametrize("kind", ["16 bit", "transparent", "rotated", "palette"])
def test_metrics_and_score_say_the_same_of_a_picture(folder: Path, kind: str) -> None:
    path = odd_pictures(folder)[kind]
    (row,) = call("score", path, *CAT, "--json").rows
    metric = CLIPScore("mini")
    with Image.open(path) as picture:
        metric.update([picture], ["a cat"])
    assert float(metric.compute()) == pytest.approx(row["score"], abs=1e-4)


@pytest.mark.parametrize("value", [255.0, math.nan, math.inf, -0.5])
def test_a_metric_refuses_floats_that_are_no_levels(value: float) -> None:
    pictures = torch.full((1, 3, 8, 8), 0.5)
    pictures[0, 0, 0, 0] = value
    with pytest.raises(UsageError, match="pictures"):
        CLIPScore("mini").update(pictures, ["a cat"])


@pytest.mark.parametrize("kind", ["list of tensors", "list of arrays", "array"])
def test_a_metric_takes_or_refuses_other_pictures_but_never_errs(kind: str) -> None:
    levels = np.asarray(zoo.tiles(1)[0])
    expected = CLIPScore("mini")
    expected.update([Image.fromarray(levels)], ["a cat"])
    channels_first = torch.from_numpy(levels.copy()).permute(2, 0, 1)
    pictures: dict[str, Any] = {
        "list of tensors": [channels_first],
        "list of arrays": [levels],
        "array": channels_first[None].numpy(),
    }
    metric = CLIPScore("mini")
    try:
        metric.update(pictures[kind], ["a cat"])
    except FoclipError:
        return
    assert float(metric.compute()) == pytest.approx(float(expected.compute()), abs=1e-5)


def profile_with_red_and_blue_exchanged() -> bytes:
    content = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return content.replace(b"rXYZ", b"tempXYZ"[:4]).replace(b"bXYZ", b"rXYZ").replace(b"tempXYZ"[:4], b"bXYZ")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_colour_profile_is_applied_on_reading(folder: Path, kind: str) -> None:
    picture = Image.new("RGB", (32, 32), (200, 40, 30))
    (folder / "profile").write_bytes(
        zoo.encoded(picture, kind, icc_profile=profile_with_red_and_blue_exchanged(), quality=100)
    )
    np.testing.assert_allclose(np.asarray(images.read(folder / "profile"))[16, 16], (30, 40, 200), atol=4)


def test_a_damaged_colour_profile_changes_nothing(folder: Path) -> None:
    picture = Image.new("RGB", (8, 8), (200, 40, 30))
    for profile in (b"no profile", profile_with_red_and_blue_exchanged()[:200]):
        (folder / "profile.png").write_bytes(zoo.encoded(picture, "PNG", icc_profile=profile))
        assert images.read(folder / "profile.png").getpixel((0, 0)) == (200, 40, 30)


@pytest.mark.slow
def test_the_budget_holds_on_what_the_model_sees(folder: Path) -> None:
    images.read(photos()[0]).resize((1600, 160)).save("wide.png")
    (row,) = call("fool", "wide.png", *CAT, "--steps", 12, "--min-psnr", 35, "--json", "--out", "out").rows
    seen = [np.asarray(images.read(path).crop((720, 0, 880, 160)), float) for path in ("wide.png", row["output"])]
    assert 10 * math.log10(255**2 / ((seen[0] - seen[1]) ** 2).mean()) >= 35 - 1e-3
    assert row["psnr"] >= 35
    assert len([key for key in row if "psnr" in key]) == 2, "of the whole picture and of the model's crop"


def test_integers_of_32_bits_that_hold_bytes_are_not_black(folder: Path) -> None:
    levels = np.full((8, 8), 200, dtype=np.int32)
    (folder / "deep.tif").write_bytes(zoo.encoded(Image.fromarray(levels), "TIFF"))
    with suppress(FoclipError):  # may be refused, since 32 bits have no agreed range
        assert images.read("deep.tif").getpixel((0, 0)) == (200, 200, 200)


# No lost work.


def test_an_unrelated_picture_is_never_replaced(folder: Path) -> None:
    zoo.tiles(1)[0].save("a.jpg")
    (folder / "dl").mkdir()
    Path("a.jpg").rename("dl/a.jpg")
    Path("b.png").rename("dl/a.png")
    before = Path("dl/a.png").read_bytes()
    (row,) = call("fool", "dl/a.jpg", *QUICK, "dl").rows
    assert Path("dl/a.png").read_bytes() == before
    assert Path(row["output"]) == Path("dl/a-2.png")
    assert Path("dl/a-2.png").is_file()


@pytest.mark.slow
def test_runs_in_one_folder_add_up(folder: Path) -> None:
    assert call("fool", "a.png", *QUICK, "out").code == 0
    (first,) = results(folder / "out")
    content = Path(first["output"]).read_bytes()
    assert call("fool", "b.png", *QUICK, "out").code == 0
    assert call("fool", "a.png", "--prompt", "a dog", "--steps", 2, "--out", "out").code == 0
    rows = results(folder / "out")
    assert [(row["source"], row["prompts"]) for row in rows] == [
        ("a.png", ["a cat"]),
        ("b.png", ["a cat"]),
        ("a.png", ["a dog"]),
    ]
    assert rows[0] == first
    assert Path(first["output"]).read_bytes() == content
    assert len({row["output"] for row in rows}) == 3
    assert all(Path(row["output"]).is_file() for row in rows)
    report = (folder / "out" / "report.html").read_text(encoding="utf-8")
    assert all(name in report for name in ("a.png", "b.png"))
    assert call("fool", "b.png", *QUICK, "out").code == 0  # the same again is the same row
    assert len(results(folder / "out")) == 3


def test_a_mistyped_input_leaves_results_as_they_were(folder: Path) -> None:
    assert call("fool", "a.png", *QUICK, "out").code == 0
    before = (folder / "out" / "results.json").read_bytes()
    assert call("fool", "mistyped.png", *QUICK, "out").code == 1
    assert (folder / "out" / "results.json").read_bytes() == before


def test_two_runs_at_once_in_one_folder(folder: Path) -> None:
    update = FoCLIP.update
    second: list[BaseProcess] = []

    def step(self: FoCLIP, *arguments: Any) -> None:
        if not second:
            second.append(started("fool", "b.png", *QUICK, "out", err=folder / "err.txt"))
            second[0].join()
        update(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FoCLIP, "update", step)
        assert call("fool", "a.png", *QUICK, "out").code == 0
    assert second[0].exitcode == 2
    (line,) = PROGRESS.sub("", (folder / "err.txt").read_text()).splitlines()
    assert "out" in line
    assert [row["source"] for row in results(folder / "out")] == ["a.png"]
    assert call("fool", "b.png", *QUICK, "out").code == 0  # nothing locks it any more


def test_an_interrupt_while_the_report_is_written_loses_no_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(jinja2.Template, "render", interrupt)
        assert call("fool", "a.png", "b.png", *QUICK, "out").code == 130
    with counted() as steps:
        assert call("fool", "a.png", "b.png", *QUICK, "out").code == 0
    assert steps == [0]
    assert len(results(folder / "out")) == 2
    assert (folder / "out" / "report.html").is_file()


def test_another_run_does_not_lose_an_interrupted_one(folder: Path) -> None:
    command = ("fool", "a.png", "b.png", "--batch-size", 1, *QUICK, "out")
    with counted(interrupt=4):  # the second of the second picture
        assert call(*command).code == 130
    assert call("fool", "c.png", *QUICK, "out").code == 0
    with counted() as steps:
        assert call(*command).code == 0
    assert steps == [1]
    assert {row["source"] for row in results(folder / "out")} == {"a.png", "b.png", "c.png"}


def test_work_goes_on_with_the_same_batch_size_only(folder: Path) -> None:
    command = ("fool", "a.png", *CAT, "--steps", 6, "--out", "out", "--batch-size")
    with counted(interrupt=5):
        assert call(*command, 1).code == 130
    with counted() as steps:
        assert call(*command, 2).code == 0
    assert steps == [6]
    assert results(folder / "out")[0]["config"]["batch_size"] == 2


def test_what_does_not_fit_in_memory_is_a_failure_and_the_others_are_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (3000, 3000), "red").save("large.png")
    monkeypatch.setattr(
        "foclip.core.attacking.available_memory", lambda *_: 100_000_000
    )  # 9 megapixels × 3 × 4 bytes: 108 MB
    outcome = call("fool", "large.png", "a.png", *QUICK, "out")
    assert outcome.code == 1
    (line,) = outcome.failed
    assert "large.png" in line
    assert "memory" in line
    assert [row["source"] for row in outcome.rows] == ["a.png"]
