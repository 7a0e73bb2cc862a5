"""The library as `import foclip` gives it: pictures of any kind in, typed results out, failures collected."""

import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import scores_of
from PIL import Image

import foclip
from foclip.attacks import FoCLIP, make_plan, objective
from foclip.core.scoring import Scored
from foclip.data.images import Source, to_image, to_tensor
from foclip.data.prompts import ARTWORKS
from foclip.detection import Detection
from foclip.errors import FoclipError, PromptError, UsageError
from foclip.models.scores import CLIPScore
from foclip.outcome import Advance, Outcome
from foclip.runs.folder import RESULTS, Result

pytestmark = pytest.mark.usefixtures("_embedded_once", "_passes_once")

QUICK = make_plan(FoCLIP, objective=objective(), steps=4, budgets="psnr:35")


@pytest.fixture
def files(tmp_path: Path, small_photos: list[Image.Image]) -> list[Path]:
    paths = [tmp_path / f"{name}.png" for name in "ab"]
    for path, picture in zip(paths, small_photos, strict=False):
        picture.save(path)
    return paths


@pytest.fixture
def mixed(tmp_path: Path, files: list[Path], small_photos: list[Image.Image]) -> list[Source]:
    """One picture as file, name, PIL picture, levels, fractions and array; between them what is none."""
    (tmp_path / "text.jpg").write_text("no picture")
    pixels = to_tensor(small_photos[0])
    bad: list[Source] = [tmp_path / "text.jpg", torch.rand(3, 8, 8) * 255, Image.new("F", (4, 4))]
    return [files[0], bad[0], str(files[0]), small_photos[0], bad[1], pixels, pixels / 255, bad[2], pixels.numpy()]


NAMES = ["a.png", "a.png", "picture 4", "picture 6", "picture 7", "picture 9"]
FAILED = ["text.jpg", "picture 5", "picture 8"]


class Progress:
    """A `Progress` that keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, list[float]]] = []

    def __call__(self, text: str, total: int) -> Advance:
        done: list[float] = []
        self.seen.append((text, total, done))
        return lambda count, note="": done.append(count)


def test_importing_is_quick_and_brings_no_torch() -> None:
    code = "import foclip, sys; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    bare = [cpu_seconds("pass") for _ in range(3)]
    used = [cpu_seconds(code) for _ in range(3)]
    assert min(used) - min(bare) < 0.1


def cpu_seconds(code: str) -> float:
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_public_names_are_there_and_lazy() -> None:
    for name in foclip.__all__:
        assert getattr(foclip, name), name
    assert dir(foclip) == sorted(foclip.__all__)
    with pytest.raises(AttributeError, match="no attribute 'tool'"):
        foclip.tool  # noqa: B018


def test_no_function_has_the_name_of_a_module_of_its_package() -> None:
    for module in pkgutil.iter_modules(foclip.__path__):
        assert module.name not in foclip.__all__


def test_score(mixed: list[Source], score: CLIPScore, small_photos: list[Image.Image]) -> None:
    progress = Progress()
    outcome = foclip.score(mixed, "artworks", model=score, progress=progress)
    expected = scores_of(score, small_photos[0], ARTWORKS)
    assert [Path(scored.image).name for scored in outcome] == NAMES
    for scored in outcome:
        assert isinstance(scored, Scored)
        assert scored.scores == expected
        assert scored.score == sum(expected) / 10
        assert (scored.prompts, scored.model) == (list(ARTWORKS), "mini")
    assert_failed(outcome)
    assert progress.seen == [("scoring", 9, [1, 2, 3, 4, 5, 6, 7, 8, 9])]


def assert_failed(outcome: Outcome[Any]) -> None:
    assert [Path(failure.source).name for failure in outcome.failures] == FAILED
    assert "not a picture" in outcome.failures[0].reason
    assert "[0, 1]" in outcome.failures[1].reason
    assert "floating-point samples" in outcome.failures[2].reason
    assert len(outcome) == len(outcome.results) == len(NAMES)


@pytest.mark.slow
def test_detect(mixed: list[Source], score: CLIPScore) -> None:
    progress = Progress()
    outcome = foclip.detect(mixed, "artworks", model=score, progress=progress)
    assert [Path(found.image).name for found in outcome] == NAMES
    for found in outcome:
        assert isinstance(found, Detection)
        assert (found.verdict, found.tampered, found.decided_by) == ("clean", False, "combined")
        assert found.p_value is not None
        assert 0 < found.p_value <= 1
        assert found.p_value == outcome.results[0].p_value
    assert_failed(outcome)
    assert [(text, total) for text, total, _ in progress.seen] == [("detecting", 9)]
    assert progress.seen[0][2][-1] == 9
    (bare,) = foclip.detect(mixed[0], model=score)  # no prompts are needed
    assert (bare.score, bare.drop, bare.prompts) == (None, None, [])


@pytest.mark.slow
def test_detect_calls_what_was_fooled_tampered(files: list[Path], score: CLIPScore, tmp_path: Path) -> None:
    attack = make_plan(FoCLIP, objective=objective(), steps=50, budgets="psnr:35")
    (fooled,) = foclip.fool(files[1], "artworks", tmp_path / "out", model=score, attack=attack)
    found = foclip.detect([fooled.output, files[1], Image.new("RGB", (50, 50), "gray")], "artworks", model=score)
    assert [f.verdict for f in found] == ["tampered", "clean", "undecidable"]
    by_rule = foclip.detect([fooled.output, files[1]], "artworks", model=score, method="rule")
    assert [f.decided_by for f in by_rule] == ["rule"] * 2


@pytest.mark.slow
def test_fool(mixed: list[Source], score: CLIPScore, tmp_path: Path) -> None:
    progress, out = Progress(), tmp_path / "out"
    outcome = foclip.fool(mixed, ["a cat"], out, model=score, attack=QUICK, progress=progress)
    assert [Path(result.source).name for result in outcome] == NAMES
    assert_failed(outcome)
    outputs = [Path(result.output) for result in outcome]
    assert outputs == [
        out / name for name in ("a.png", "a.png", "picture 4.png", "picture 6.png", "picture 7.png", "picture 9.png")
    ]
    assert {path.name for path in out.iterdir()} == {RESULTS, *(path.name for path in outputs)}
    for result in outcome:
        assert isinstance(result, Result)
        assert Path(result.output).read_bytes() == outputs[0].read_bytes()  # one picture, however it is given
        assert result.score_after == scores_of(score, foclip_read(result.output), ("a cat",))[0]
        assert result.psnr is None or result.psnr >= 35
    assert [(text, total) for text, total, _ in progress.seen] == [("fooling, in steps", 4 * 9)]
    steps = progress.seen[0][2]
    assert steps == sorted(steps)
    assert steps.index(4 * 9) == len(steps) - 1  # not before the last picture is written


def foclip_read(path: str) -> Image.Image:
    return to_image(to_tensor(Image.open(path)))


def test_a_batch_of_pixels(score: CLIPScore, small_photos: list[Image.Image]) -> None:
    batch = torch.stack([to_tensor(picture.resize((80, 70))) for picture in small_photos])
    together = foclip.score(batch, ["a cat"], model=score)
    assert [scored.image for scored in together] == ["picture 1", "picture 2", "picture 3", "picture 4"]
    assert [foclip.score(one, ["a cat"], model=score).results[0].scores for one in batch] == [
        s.scores for s in together
    ]


def test_prompts_of_each_picture(files: list[Path], score: CLIPScore) -> None:
    prompts = [["a cat"], ["a dog", "a cup"]]
    for outcome in (foclip.score(files, prompts, model=score), foclip.detect(files, prompts, model=score)):
        assert [result.prompts for result in outcome] == prompts


def test_captions(files: list[Path], score: CLIPScore, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("image,caption\nb.png,a cup\nb.png,a plate\nnone.png,a ghost\n")
    out = tmp_path / "out"
    for outcome in (
        foclip.score(files, captions=str(pairs), model=score),
        foclip.detect(files, captions=pairs, model=score),
        foclip.fool(files, captions=pairs, out=out, attack=QUICK, model=score),
    ):
        (result,) = outcome.results
        assert result.prompts == ["a cup", "a plate"]
        assert {failure.source for failure in outcome.failures} == {"none.png", str(files[0])}
    with pytest.raises(UsageError, match="either prompts or captions"):
        foclip.score(files, ["a"], captions="sidecar", model=score)


@pytest.mark.slow
def test_a_score_by_name(files: list[Path]) -> None:
    (scored,) = foclip.score(files[0], score="clip-iqa")
    assert scored.prompts == ["photo."]
    assert 0 <= scored.score <= 1
    (found,) = foclip.detect(files[0], score="clip-iqa")
    assert found.decided_by == "combined without prompts"
    assert found.score == pytest.approx(scored.score, abs=1e-4)


def test_wrong_calls_are_one_kind_of_error(files: list[Path], tmp_path: Path) -> None:
    wrong: list[tuple[type[FoclipError], str, dict[str, Any]]] = [
        (UsageError, "score: 'x' is none of clipscore, clip-iqa", {"score": "x"}),
        (PromptError, "no-such-set", {"prompts": "no-such-set"}),
        (UsageError, "prompts: 1 lists of prompts for 2 pictures", {"prompts": [["a"]]}),
        (FoclipError, "unknown encoder 'x'", {"model": "x"}),
        (UsageError, "pictures: no pictures", {"pictures": []}),
    ]
    for error, message, options in wrong:
        arguments: dict[str, Any] = {"pictures": files, "prompts": ["a"]} | options
        calls: list[Callable[..., object]] = [foclip.score, foclip.detect, partial(foclip.fool, out=tmp_path / "out")]
        for call in calls:
            with pytest.raises(error, match=message) as caught:
                call(**arguments)
            assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(PromptError, match="no prompts given"):
        foclip.score(files)
    with pytest.raises(UsageError, match="out: "):
        foclip.fool(files, ["a"], out=files[0], attack=QUICK)
