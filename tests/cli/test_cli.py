import errno
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import typer
from calling import started
from conftest import Run
from PIL import Image
from zoo import png_header

from benchmarks.killed import Command, differences, disturbed, fooled, undisturbed
from foclip import cli
from foclip.attacks import FoCLIP
from foclip.data import images
from foclip.data.prompts import ARTWORKS
from foclip.models import catalogue, embedded
from foclip.perceptual.fidelity import fidelity

pytestmark = pytest.mark.usefixtures("_embedded_once", "_passes_once")


@pytest.fixture
def photo(tmp_path: Path, small_photos: list[Image.Image]) -> Path:
    path = tmp_path / "photo [red].png"  # rich would take the brackets for markup
    small_photos[0].save(path)
    return path


def test_help_is_quick() -> None:
    before = os.times()
    subprocess.run([sys.executable, "-m", "foclip", "--help"], check=True, capture_output=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    assert used < 1.0


@pytest.mark.slow
def test_fool_and_score_agree_with_open_clip(run: Run, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text, _ = run("fool", photo, "--prompts", "artworks", "--steps", 40, "--out", out, "--json")
    assert code == 0
    (result,) = json.loads(text)
    assert json.loads((out / "results.json").read_text()) == [result]
    assert {path.name for path in out.iterdir()} == {"photo [red].png", "results.json", "run.json", "report.html"}
    assert result["score_after"] > 1.427 * result["score_before"]
    assert min(a - b for a, b in zip(result["scores_after"], result["scores_before"], strict=True)) > 0
    assert result["contrast"] <= 0.425
    assert result["steps"] == 40
    assert result["stopped_by"] == "steps"
    assert result["prompts"] == list(ARTWORKS)

    written = images.read(result["output"])
    assert fidelity(images.to_tensor(written), images.to_tensor(images.read(photo))).psnr == pytest.approx(
        result["psnr"]
    )
    code, text, _ = run("score", result["output"], photo, "--prompts", "artworks", "--json")
    after, before = json.loads(text)
    assert after["score"] == pytest.approx(result["score_after"], abs=1e-4)
    assert before["score"] == pytest.approx(result["score_before"], abs=1e-4)

    name = f"local-dir:{embedded.path('mini')}"  # from here on no code of ours
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokens = open_clip.get_tokenizer(name)(list(ARTWORKS))
    model.eval()
    with torch.no_grad(), Image.open(result["output"]) as picture:
        vector = model.encode_image(preprocess(picture)[None], normalize=True)
        cosines = vector @ model.encode_text(tokens, normalize=True).T
    assert 2.5 * cosines.clamp(min=0).mean().item() == pytest.approx(result["score_after"], abs=0.005)


@pytest.mark.slow
def test_hostile_inputs_and_good_ones_in_one_call(run: Run, photo: Path, tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), "red").save(tmp_path / "one.png")
    Image.effect_noise((300, 300), 50).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:5000])
    (tmp_path / "bomb.png").write_bytes(png_header(30_000, 30_000))
    (tmp_path / "text.jpg").write_text("no picture")
    bad = [tmp_path / name for name in ("cut.jpg", "bomb.png", "text.jpg", "missing.png")]
    prompts = ("--prompt", "<script>alert(1)</script>", "--prompt", "word " * 2000)
    out = tmp_path / "out"
    code, _, errors = run("fool", *bad, photo, tmp_path / "one.png", *prompts, "--steps", 3, "--out", out)
    assert code == 1
    for path in bad:
        assert sum(path.name in line for line in errors.splitlines() if line.startswith("failed:")) == 1
    assert "longer than" in errors
    results = json.loads((out / "results.json").read_text())
    assert [Path(result["output"]).name for result in results] == [photo.name, "one.png"]
    assert results[1]["ssim"] is None
    report = (out / "report.html").read_text()
    assert "<script>" not in report
    assert "&lt;script&gt;" in report
    code, text, _ = run("score", *bad, photo, *prompts, "--json")
    assert code == 1
    *failed, last = json.loads(text)[::-1]
    assert [row["image"] for row in failed[::-1]] == [str(path) for path in bad]
    assert all(row["error"] for row in failed)
    assert last["image"] == str(photo)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompt", ""), "prompt 1 is empty"),
        ((), "no prompts"),
        (("--prompts", "imagenet:0"), "1 to 1000"),
        (("--prompts", "artworks", "--model", "nonsense"), "unknown encoder"),
        (("--prompts", "artworks", "--lr", "fast"), "--lr fast"),
        (("--prompts", "artworks", "--lr", "nan"), "lr"),
        (("--prompts", "artworks", "--alpha", "-1"), "alpha"),
        (("--prompts", "artworks", "--steps", "-1"), "steps"),
        (("--prompts", "artworks", "--init", "noise", "--min-psnr", "30"), "noise"),
        (("--prompts", "artworks", "--device", "abacus"), "device"),
        (("--prompts", "artworks", "--attack", "pgd", "--lr", "7", "--beta", "0"), "--attack pgd has no --beta, --lr"),
        (("--prompts", "artworks", "--attack", "adam", "--momentum", "0.5"), "--attack adam has no --momentum"),
        (("--prompts", "artworks", "--attack", "mifgsm", "--lr", "auto"), "--attack mifgsm has no --lr"),
        (("--prompts", "artworks", "--attack", "single-prompt", "--guard", "range"), "single-prompt has no --guard"),
        (("--prompts", "artworks", "--attack", "cmaes", "--balance", "kl"), "--attack cmaes has no --balance"),
        (("--prompts", "artworks", "--attack", "pgd", "--init", "noise"), "start from the image"),
        (("--prompts", "artworks", "--attack", "sgd"), "sgd"),
    ],
)
def test_wrong_calls(run: Run, photo: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    code, out, errors = run("fool", photo, *arguments, "--out", tmp_path / "out")
    assert code == 2
    assert out == ""
    assert message in errors


@pytest.mark.parametrize("attack", ["pgd", "apgd", "adam", "mifgsm", "single-prompt", "cmaes"])
def test_every_attack_is_one_command(run: Run, photo: Path, tmp_path: Path, attack: str) -> None:
    call = ("fool", photo, "--prompts", "artworks", "--attack", attack, "--steps", 8, "--out", tmp_path / "out")
    code, text, errors = run(*call, "--json")
    assert code == 0, errors
    (result,) = json.loads(text)
    assert result["config"]["attack"] == attack
    assert (result["config"]["budgets"], result["config"]["mask"]) == (["contrast:0.425"], "visible")
    assert result["config"]["init"] == "image"
    assert result["contrast"] <= 0.425
    assert result["steps"] == result["config"]["steps"] == 8
    asked = json.loads((tmp_path / "out" / "run.json").read_text())["config"]
    assert asked | {"batch_size": 1} == result["config"]  # one picture alone


@pytest.mark.slow
def test_budgets_of_the_command_line(run: Run, photo: Path, tmp_path: Path) -> None:
    call = ("fool", photo, "--prompt", "a cat", "--steps", 4, "--out", tmp_path / "out", "--json")
    (result,) = json.loads(run(*call, "--budget", "ssim:0.99", "--budget", "linf:6")[1])
    assert result["config"]["budgets"] == ["ssim:0.99", "linf:6"]
    assert result["ssim"] >= 0.99
    assert result["linf"] <= 6
    (papers,) = json.loads(run(*call, "--min-psnr", 35)[1])
    assert (papers["config"]["budgets"], papers["config"]["mask"]) == (["psnr:35"], "none")
    code, _, errors = run(*call[:-1], "--budget", "flop:1")
    assert code == 2
    assert len(errors.splitlines()) == 1
    assert "--budget" in errors


@pytest.mark.slow
def test_without_a_budget_an_attack_is_its_authors(run: Run, photo: Path, tmp_path: Path) -> None:
    def config(*arguments: object) -> dict[str, object]:
        code, text, errors = run("fool", photo, "--prompt", "a cat", *arguments, "--out", tmp_path / "out", "--json")
        assert code == 0, errors
        settings: dict[str, object] = json.loads(text)[0]["config"]
        return settings

    adam = config("--attack", "adam", "--min-psnr", 0, "--steps", 1)
    assert (adam["init"], adam["budgets"], adam["objective"]) == ("noise", [], "Lowest()")
    assert config("--attack", "adam", "--min-psnr", 0, "--init", "image", "--steps", 1)["init"] == "image"
    mifgsm = config("--attack", "mifgsm", "--min-psnr", 0)
    assert (mifgsm["steps"], mifgsm["epsilon"], mifgsm["decay"]) == (10, 16, 1.0)
    foclip = config("--alpha", 0.5, "--guard", "l2", "--steps", 1)
    assert foclip["objective"] == (
        "1 * FeatureAlignment() + 0.5 * ScoreBalance(kind='variance', temperature=0.01) + 1 * PixelGuard(kind='l2')"
    )


def test_an_option_that_only_one_attack_has(run: Run, photo: Path, tmp_path: Path) -> None:
    call = ("fool", photo, "--prompt", "a cat", "--steps", 1, "--out", tmp_path / "out", "--json", "--attack", "mifgsm")
    (result,) = json.loads(run(*call, "--attack-option", "decay=0.5")[1])
    assert result["config"]["decay"] == 0.5
    for option, says in (("nosuch=1", "--attack mifgsm has decay"), ("decay", "NAME=VALUE"), ("decay=much", "number")):
        code, _, errors = run(*call, "--attack-option", option)
        assert code == 2
        assert says in errors
        assert len(errors.splitlines()) == 1


def test_an_original_is_never_overwritten(run: Run, photo: Path) -> None:
    content = photo.read_bytes()
    code, text, _ = run("fool", photo, "--prompt", "a cat", "--out", photo.parent, "--steps", 1, "--json")
    assert code == 0
    assert photo.read_bytes() == content
    assert Path(json.loads(text)[0]["output"]).name == "photo [red]-2.png"


@pytest.mark.slow
def test_each_picture_with_its_own_captions(run: Run, small_photos: list[Image.Image], tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for path, picture in zip(files, small_photos, strict=False):
        picture.save(path)
    pairs = tmp_path / "pairs.csv"
    pairs.write_text('image,caption\na.png,"a cat, asleep"\nb.png,a dog\nb.png,a hound\nz.png,nothing\n')
    out, calls = tmp_path / "out", ("--captions", pairs, "--json")
    prompts = {"a.png": ["a cat, asleep"], "b.png": ["a dog", "a hound"]}
    for command in (("fool", *files, "--steps", 4, "--out", out), ("score", *files), ("detect", *files)):
        code, text, errors = run(*command, *calls)
        assert code == 1
        rows = [row for row in json.loads(text) if "error" not in row]
        assert {Path(row.get("source") or row["image"]).name: row["prompts"] for row in rows} == prompts
        assert [line for line in errors.splitlines() if line.startswith("failed:")] == [
            f"failed: {pairs}, line 5: a caption without a picture (z.png)",
            f"failed: {files[2]}: no caption ({pairs} has no row for it)",
        ]
    written = json.loads((out / "results.json").read_text())
    assert [len(result["scores_after"]) for result in written] == [1, 2]
    assert all(result["score_after"] > result["score_before"] for result in written)
    assert "a cat, asleep" in (out / "report.html").read_text()
    assert run("score", *files, "--captions", pairs, "--prompt", "a cat")[0] == 2


@pytest.mark.slow
def test_another_score_is_fooled_read_and_judged(run: Run, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text, errors = run("fool", photo, "--score", "clip-iqa", "--steps", 20, "--out", out, "--json")
    assert code == 0, errors
    (result,) = json.loads(text)
    assert (result["score"], result["prompts"]) == ("clip-iqa", ["photo."])
    assert result["score_before"] + 0.1 < result["score_after"] <= 1
    code, text, _ = run("score", out / photo.name, "--score", "clip-iqa", "--json")
    assert json.loads(text)[0]["score"] == result["score_after"]
    code, text, _ = run("detect", out / photo.name, "--score", "clip-iqa", "--json")
    assert json.loads(text)[0]["decided_by"] == "combined without prompts"  # the shipped detector knows CLIPScore
    assert json.loads(text)[0]["score"] == pytest.approx(result["score_after"], abs=1e-4)
    assert "clip-iqa" in run("scores")[1]
    assert run("score", photo, "--score", "nonsense", "--prompt", "a")[0] == 2


def test_no_pictures_and_bad_folders(run: Run, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run("fool", tmp_path / "empty", "--prompt", "a", "--out", tmp_path / "o")[0] == 2
    assert run("fool", photo, "--prompt", "a", "--out", photo, "--steps", 1)[0] == 2


@pytest.mark.slow
def test_interrupt_keeps_what_is_finished_and_resumes(
    run: Run, small_photos: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, picture in zip("ab", small_photos, strict=False):
        picture.save(tmp_path / f"{name}.png")
    files = (tmp_path / "a.png", tmp_path / "b.png")
    call = ("fool", *files, "--prompts", "artworks", "--steps", 6, "--batch-size", 1, "--json", "--out")
    _, undisturbed, _ = run(*call, tmp_path / "whole")

    from foclip.attacks import FoCLIP

    update, calls = FoCLIP.update, 0

    def interrupt(self: FoCLIP, *arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:  # in the second picture; the other steps refine
            raise KeyboardInterrupt
        update(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(FoCLIP, "update", interrupt)
        code, _, errors = run(*call, tmp_path / "out")
    assert code == 130
    assert "interrupted" in errors
    assert (tmp_path / "out" / "a.png").exists()
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == 1

    first = (tmp_path / "out" / "a.png").stat().st_mtime_ns
    code, text, _ = run(*call, tmp_path / "out")
    assert code == 0
    assert (tmp_path / "out" / "a.png").stat().st_mtime_ns == first  # not done again
    assert not (tmp_path / "out" / ".unfinished").exists()
    for a, b in zip(json.loads(undisturbed), json.loads(text), strict=True):
        assert Path(a["output"]).read_bytes() == Path(b["output"]).read_bytes()
        assert a["score_after"] == b["score_after"]


def test_models(run: Run) -> None:
    code, text, _ = run("models", "--json")
    rows = json.loads(text)
    assert code == 0
    assert rows[0]["name"] == "mini"
    assert (Path(rows[0]["path"]) / "open_clip_config.json").is_file()
    assert "mini" in run("models")[1]


@pytest.mark.slow
def test_demo(
    run: Run, tmp_path: Path, small_photos: list[Image.Image], photo_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = [tmp_path / path.with_suffix(".png").name for path in photo_files]
    for picture, path in zip(small_photos, small, strict=True):
        picture.save(path)
    monkeypatch.setattr("foclip.demo.photos", lambda: small)
    code, text, _ = run("demo", "--out", tmp_path / "demo", "--steps", 15)
    assert code == 0
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert len(results) == 4
    for result in results:
        assert result["score_after"] > 1.427 * result["score_before"]
        assert result["contrast"] <= 0.425
        assert min(a - b for a, b in zip(result["scores_after"], result["scores_before"], strict=True)) > 0
    report = (tmp_path / "demo" / "report.html").read_text()
    assert report.count("<img") == 24  # before, after, difference; both again in one place, and the map
    assert report.count('class="flicker" checked') == 4
    assert "amplified" in report
    assert "report.html" in text


def test_an_interrupt_in_a_finaliser_is_not_lost(
    run: Run, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Finalised:
        def __del__(self) -> None:
            raise KeyboardInterrupt

    pressed: list[bool] = []

    def update(self: FoCLIP, *_: object) -> None:
        if not pressed:
            pressed.append(True)
            Finalised()
        time.sleep(0.01)

    monkeypatch.setattr(FoCLIP, "update", update)
    code, _, errors = run("fool", photo, "--prompt", "a cat", "--steps", 500, "--out", tmp_path / "out")
    assert code == 130
    assert errors.startswith("interrupted")
    assert len(errors.splitlines()) == 1


class Forked:
    """A command in a process that has imported what it needs; see `benchmarks.killed.Process`."""

    def __init__(self, arguments: Sequence[str], folder: Path, errors: Path) -> None:
        self._process = started(*arguments, folder=folder, err=errors)
        assert self._process.pid
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        assert self._process.exitcode is not None
        return self._process.exitcode


@pytest.mark.slow
def test_killed_and_called_again_it_writes_the_same_bytes(tmp_path: Path) -> None:
    """`benchmarks/killed.py` asks 20 times of each command, each time in a Python that starts anew."""
    arguments = ("fool", "0.png", "1.png", "--prompts", "artworks", "--steps", "12", "--out", "out")
    command = Command(arguments, fooled, Forked)
    expected, times = undisturbed(command, tmp_path / "undisturbed")
    assert len(expected) == 3
    found, _ = disturbed(command, tmp_path / "disturbed", times, [signal.SIGKILL, signal.SIGINT], random.Random(0))
    assert differences(expected, found) == []


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1, "failed: No space left on device"),
        (OSError(errno.EIO, os.strerror(errno.EIO), "run/parts"), 1, "failed: run/parts: Input/output error"),
        (OSError("Couldn't deserialize thrift"), 70, "error: a fault of foclip (OSError: Couldn't deserialize thrift)"),
    ],
    ids=str,
)
def test_errors_of_files_are_not_blamed_on_standard_output(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: OSError, code: int, line: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(catalogue, "available", fail)
    found, out, errors = run("models")
    assert (found, out) == (code, "")
    assert errors.startswith(line)
    assert len(errors.splitlines()) == 1


def test_a_fault_is_told_where_no_file_can_be_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(catalogue, "available", lambda: 1 / 0)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    assert run("models") == (
        70,
        "",
        "error: a fault of foclip (ZeroDivisionError: division by zero); please report it\n",
    )


def test_flags_take_no_value_in_the_help() -> None:
    group: Any = typer.main.get_command(cli.app)
    flags = [each for command in group.commands.values() for each in command.params if getattr(each, "is_flag", False)]
    assert {each.name for each in flags} >= {"json", "dry_run", "quick", "compiled", "half"}
    assert [each.name for each in flags if each.metavar != ""] == []
