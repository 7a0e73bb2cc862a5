"""A folder of results: runs add up, nothing foreign is overwritten, what was begun goes on."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from calling import started
from conftest import Run, scores_of
from PIL import Image

from foclip.attacks import FoCLIP, loop, make_plan, objective
from foclip.attacks.refine import Refinement
from foclip.attacks.state import AttackState
from foclip.cache import locked
from foclip.data import images
from foclip.errors import ImageError, UsageError
from foclip.models.scores import CLIPScore
from foclip.outcome import Advance
from foclip.perceptual.fidelity import fidelity
from foclip.runs.folder import LONGEST_STEM, RESULTS, UNFINISHED, Result, read_results
from foclip.runs.fooling import fool

pytestmark = pytest.mark.usefixtures("_embedded_once", "_passes_once")

ATTACK = make_plan(FoCLIP, objective=objective(), steps=5, budgets="psnr:35")


@pytest.fixture
def sources(tmp_path: Path, small_photos: list[Image.Image]) -> list[Path]:
    """Three small files."""
    paths = [tmp_path / "in" / f"{name}.png" for name in "abc"]
    paths[0].parent.mkdir()
    for path, picture in zip(paths, small_photos, strict=False):
        picture.resize((90, 80)).save(path)
    return paths


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.png")}


def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, a picture that is attacked is an error."""

    def fail(*arguments: object) -> None:
        raise AssertionError("attacked")

    monkeypatch.setattr(FoCLIP, "update", fail)


@pytest.mark.slow
def test_every_figure_is_that_of_the_file(sources: list[Path], score: CLIPScore, out: Path) -> None:
    prompts = ("a cat", "a dog")
    for result in fool(sources, list(prompts), out, model=score, attack=ATTACK):
        original, written = (images.read(path) for path in (result.source, result.output))
        close = fidelity(images.to_tensor(written), images.to_tensor(original))
        assert (result.psnr, result.ssim, result.linf) == (close.psnr, close.ssim, close.linf)
        assert result.scores_before == scores_of(score, original, prompts)
        assert result.scores_after == scores_of(score, written, prompts)
        assert result.score_after == sum(result.scores_after) / 2
        assert result.gray_score_after == sum(scores_of(score, images.to_gray(written), prompts)) / 2
        assert result.gain == result.score_after / result.score_before - 1
        assert (result.steps, result.stopped_by, len(result.curve)) == (5, "steps", 6)
        assert (result.score, result.model, result.fingerprint) == ("clipscore", "mini", score.fingerprint)
        assert result.config == json.loads(json.dumps(ATTACK.config()))


@pytest.mark.slow
def test_prompts_that_differ_per_picture(sources: list[Path], score: CLIPScore, out: Path) -> None:
    prompts = [["a cat"], ["a dog", "a cup", "a spoon"], ["a dog", "a cat"]]
    attack = ATTACK.replace(steps=8, batch_size=3)
    together = fool(sources, prompts, out, model=score, attack=attack)
    assert [result.prompts for result in together] == prompts
    for source, own, result in zip(sources, prompts, together, strict=True):
        assert len(result.scores_after) == len(own)
        assert result.score_after > result.score_before + 0.05
        (alone,) = fool(source, own, out.with_name(f"alone-{source.stem}"), model=score, attack=attack)
        assert Path(alone.output).read_bytes() == Path(result.output).read_bytes()


def test_equal_stems_are_numbered(sources: list[Path], score: CLIPScore, out: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    same = [sources[0], tmp_path / "other" / "a.png", tmp_path / "other" / "a.webp", tmp_path / "other" / "a-2.png"]
    for path, source in zip(same[1:], sources, strict=True):
        images.read(source).save(path)
    results = fool(same, ["a cat"], out, model=score, attack=ATTACK).results
    assert [Path(result.source) for result in results] == same
    assert [Path(result.output).name for result in results] == ["a.png", "a-2.png", "a-3.png", "a-2-2.png"]
    for result in results:
        original, written = (images.to_tensor(images.read(path)) for path in (result.source, result.output))
        assert fidelity(written, original).psnr >= 35


def test_a_picture_that_is_given_twice_is_fooled_once(sources: list[Path], score: CLIPScore, out: Path) -> None:
    first, other, again = fool([*sources[:2], sources[0]], ["a cat"], out, model=score, attack=ATTACK)
    assert first == again != other
    assert sorted(path.name for path in out.glob("*.png")) == ["a.png", "b.png"]
    assert read_results(out) == [first, other]
    assert list(fool([*sources[:2], sources[0]], ["a cat"], out, model=score, attack=ATTACK)) == [first, other, first]


def test_what_others_wrote_is_never_overwritten(sources: list[Path], score: CLIPScore, out: Path) -> None:
    out.mkdir()
    (out / "a.png").write_bytes(b"foreign")
    (out / "a-2.png").write_bytes(b"foreign too")
    (out / "notes.txt").write_bytes(b"mine")
    before = state(out)
    (result,) = fool(sources[0], ["a cat"], out, model=score, attack=ATTACK)
    assert Path(result.output).name == "a-3.png"
    assert state(out).items() >= before.items()
    # A result that was changed since is not ours any more either.
    Path(result.output).write_bytes(b"painted over")
    (again,) = fool(sources[0], ["a cat"], out, model=score, attack=ATTACK)
    assert Path(again.output).name == "a-4.png"
    assert (out / "a-3.png").read_bytes() == b"painted over"
    assert again.sha256 == result.sha256


def test_originals_are_never_overwritten(sources: list[Path], score: CLIPScore) -> None:
    before = state(sources[0].parent)
    results = fool(sources, ["a cat"], sources[0].parent, model=score, attack=ATTACK)
    assert [Path(result.output).name for result in results] == ["a-2.png", "b-2.png", "c-2.png"]
    assert state(sources[0].parent).items() >= before.items()


def test_names_as_long_as_names_get(sources: list[Path], score: CLIPScore, out: Path) -> None:
    long = sources[0].with_name("ü" * 125 + ".png")
    sources[0].rename(long)
    (result,) = fool(long, ["a cat"], out, model=score, attack=ATTACK)
    assert len(Path(result.output).stem.encode(errors="surrogateescape")) <= LONGEST_STEM
    assert Path(result.output).exists()
    assert json.loads((out / RESULTS).read_text())[0]["output"] == result.output


def test_runs_add_up(sources: list[Path], score: CLIPScore, out: Path) -> None:
    (first,) = fool(sources[0], ["a cat"], out, model=score, attack=ATTACK)
    (second,) = fool(sources[0], ["a cat"], out, model=score, attack=ATTACK.replace(budgets="psnr:38"))
    (third,) = fool(sources[0], ["a dog"], out, model=score, attack=ATTACK)
    (fourth,) = fool(sources[1], ["a cat"], out, model=score, attack=ATTACK)
    listed = [first, second, third, fourth]
    assert [Path(result.output).name for result in listed] == ["a.png", "a-2.png", "a-3.png", "b.png"]
    assert read_results(out) == listed
    assert list(fool(sources[:2], ["a cat"], out, model=score, attack=ATTACK)) == [first, fourth]
    assert read_results(out) == listed


def test_the_same_again_fools_nothing(
    sources: list[Path], score: CLIPScore, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fool(sources, ["a cat"], out, model=score, attack=ATTACK)
    before, written = state(out), times(out)
    no_work(monkeypatch)
    seen: list[float] = []

    def progress(text: str, total: int) -> Advance:
        return lambda done, note="": seen.append(done)

    again = fool(sources, ["a cat"], out, model=score, attack=ATTACK, progress=progress)
    assert again == first
    assert (state(out), times(out)) == (before, written)
    assert not (out / UNFINISHED).exists()
    assert seen == [5, 10, 15]
    moved = out.rename(out.with_name("moved"))
    for result in fool(sources, ["a cat"], moved, model=score, attack=ATTACK):
        assert Path(result.output).parent == moved
        assert Path(result.output).exists()


def test_a_run_whose_inputs_all_fail_leaves_the_list_alone(
    sources: list[Path], score: CLIPScore, out: Path, tmp_path: Path
) -> None:
    fool(sources[:1], ["a cat"], out, model=score, attack=ATTACK)
    before = state(out)
    (tmp_path / "text.jpg").write_text("no picture")
    outcome = fool([tmp_path / "text.jpg", tmp_path / "none.png"], ["a cat"], out, model=score, attack=ATTACK)
    assert (outcome.results, len(outcome.failures)) == ([], 2)
    assert state(out) == before


@pytest.mark.parametrize("content", ["{}", "[1]", "[{}]", "no JSON", "\x00"])
def test_a_list_that_is_not_ours_is_refused(content: str, sources: list[Path], score: CLIPScore, out: Path) -> None:
    out.mkdir()
    (out / RESULTS).write_text(content)
    with pytest.raises(UsageError, match=r"^out: .*results\.json is .*; choose another folder$"):
        fool(sources, ["a cat"], out, model=score, attack=ATTACK)
    assert state(out) == {RESULTS: content.encode()}


def test_two_runs_do_not_share_a_folder(sources: list[Path], score: CLIPScore, out: Path) -> None:
    pytest.importorskip("fcntl")
    out.mkdir()
    with locked(out), pytest.raises(UsageError, match="another run is at work"):
        fool(sources, ["a cat"], out, model=score, attack=ATTACK)
    assert state(out) == {}


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [1, 2, None])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    lanes: int | None, sources: list[Path], score: CLIPScore, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = ATTACK.replace(batch_size=lanes)
    whole = fool(sources, ["a cat"], out.with_name("whole"), model=score, attack=attack)
    update, steps = FoCLIP.update, list[int]()

    def interrupted(self: FoCLIP, *arguments: object) -> None:
        steps.append(1)
        if len(steps) == 9:
            raise KeyboardInterrupt
        update(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(FoCLIP, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fool(sources, ["a cat"], out, model=score, attack=attack)
    assert list((out / UNFINISHED).glob("*.pt"))
    finished, kept = read_results(out), times(out)
    assert len(finished) == len(kept) == (1 if lanes == 1 else 0)

    counted = list[int]()

    def count(self: FoCLIP, *arguments: object) -> None:
        counted.append(1)
        update(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(FoCLIP, "update", count)
    resumed = fool(sources, ["a cat"], out, model=score, attack=attack)
    assert 5 * 3 - 9 <= len(counted) <= 5 * 3 - 5  # it went on where it was
    assert times(out).items() >= kept.items()  # and did nothing twice
    assert not (out / UNFINISHED).exists()
    for a, b in zip(whole, resumed, strict=True):
        assert Path(a.output).read_bytes() == Path(b.output).read_bytes()
        assert replace(a, output=b.output, seconds=b.seconds) == b
    assert read_results(out) == resumed.results


def wait_in_step_7() -> None:
    """Every step is saved, and the eighth never ends."""
    loop.SAVE_EVERY = 0.0
    step = FoCLIP.automatic_step

    def slow(self: FoCLIP, state: AttackState, *ends: Any) -> Any:
        time.sleep(60 if state.step == 7 else 0)
        return step(self, state, *ends)

    FoCLIP.automatic_step = slow  # type: ignore[assignment, method-assign]


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_where_it_was_saved(
    run: Run, sources: list[Path], score: CLIPScore, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed without a word, as by the system: what was last saved goes on, and ends in the bytes of a whole run."""
    call = ["fool", str(sources[0]), "--prompt", "a cat", "--steps", "12", "--budget", "discreet", "--out"]
    process = started(*call, out, prepare=wait_in_step_7)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.is_alive() and saved_steps(out) < [7]:
        time.sleep(0.1)
    process.kill()
    process.join()
    assert saved_steps(out) == [7]
    assert read_results(out) == []
    counted: list[int] = []

    def counting(step: Callable[..., None]) -> Callable[..., None]:
        def count(*arguments: object) -> None:
            counted.append(1)
            step(*arguments)

        return count

    with monkeypatch.context() as patch:
        patch.setattr(FoCLIP, "update", counting(FoCLIP.update))
        patch.setattr(Refinement, "update", counting(Refinement.update))
        assert run(*call, out)[0] == 0
    assert len(counted) == 12 - 7
    assert run(*call, out.with_name("whole"))[0] == 0
    assert (out / "a.png").read_bytes() == (out.with_name("whole") / "a.png").read_bytes()
    assert not (out / UNFINISHED).exists()


def saved_steps(out: Path) -> list[int]:
    """The steps at which pictures in flight were last saved."""
    return [int(torch.load(path, weights_only=True)["step"]) for path in (out / UNFINISHED).glob("*.pt")]


@pytest.mark.slow
def test_a_picture_that_cannot_be_written_stops_the_run_but_not_the_list(
    sources: list[Path], score: CLIPScore, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = images.write

    def full(image: Image.Image, path: Path) -> None:
        if path.stem == "b":
            raise ImageError(f"{path}: cannot be written (No space left on device)")
        write(image, path)

    attack = ATTACK.replace(batch_size=1)
    with monkeypatch.context() as patch:
        patch.setattr(images, "write", full)
        with pytest.raises(ImageError, match="No space left"):
            fool(sources, ["a cat"], out, model=score, attack=attack)
    assert [Path(result.output).name for result in read_results(out)] == ["a.png"]
    assert len(fool(sources, ["a cat"], out, model=score, attack=attack)) == 3


def test_results_are_plain_json(sources: Sequence[Path], score: CLIPScore, out: Path) -> None:
    (result,) = fool(sources[0], ["a cat"], out, model=score, attack=ATTACK.replace(steps=0))
    (row,) = json.loads((out / RESULTS).read_text())
    assert result == Result(**row)
    assert (result.psnr, result.linf, result.steps) == (None, 0, 0)  # equal pictures: infinite, which JSON has not
