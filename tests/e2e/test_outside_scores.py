"""A score of another package, found by its entry point alone, works everywhere; what it cannot do is one line."""

import json
import threading
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import Run
from PIL import Image

import foclip
from foclip.attacks import FoCLIP
from foclip.outcome import Failure

pytestmark = pytest.mark.usefixtures("_embedded_once", "_passes_once")

TOYS = ("toy", "toy-taste")


@pytest.fixture(autouse=True)
def _found(toys: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pictures(tmp_path: Path, small_photos: list[Image.Image]) -> list[Path]:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, photo in enumerate(small_photos):
        photo.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("a photo of a cat.\n")
    return sorted(folder.glob("*.png"))


def asked(score: str) -> tuple[str, ...]:
    return ("--score", score) if score == "toy-taste" else ("--score", score, "--prompt", "a photo of a cat.")


@pytest.mark.slow
@pytest.mark.parametrize("score", TOYS)
def test_score_and_fool(run: Run, pictures: list[Path], score: str) -> None:
    code, out, _ = run("score", *pictures, *asked(score), "--json")
    before = [row["score"] for row in json.loads(out)]
    assert (code, len(before)) == (0, 4)
    fool = ("fool", *pictures, *asked(score), "--steps", 8, "--min-psnr", 30, "--out", "fooled", "--json")
    code, out, _ = run(*fool)
    results = json.loads(out)
    assert code == 0
    assert [row["score_before"] for row in results] == before
    assert all(row["score_after"] > row["score_before"] for row in results)
    assert all(row["psnr"] >= 30 for row in results)
    assert Path("fooled/report.html").stat().st_size > 1000
    _, out, _ = run("score", *(row["output"] for row in results), *asked(score), "--json")
    assert [row["score"] for row in json.loads(out)] == [row["score_after"] for row in results]
    written = Path("fooled/results.json").read_bytes()
    code, _, _ = run(*fool)  # nothing is left to do
    assert code == 0
    assert Path("fooled/results.json").read_bytes() == written


@pytest.mark.parametrize("score", TOYS)
def test_what_a_score_without_embedding_has_not_is_one_line(run: Run, pictures: list[Path], score: str) -> None:
    code, out, err = run("detect", *pictures, *asked(score))
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert score in err
    code, _, err = run("calibrate", "--clean", "photos", *asked(score), "--out", "detector.json")
    assert code == 2
    assert score in err


@pytest.mark.parametrize("score", TOYS)
def test_a_scan_writes_scores_and_says_that_there_are_no_verdicts(run: Run, pictures: list[Path], score: str) -> None:
    code, _, err = run("scan", "photos", "--score", score, "--out", "scanned")
    assert code == 0
    assert "scores only, no verdicts" in err
    rows = pd.read_parquet(next(Path("scanned/parts").glob("*.parquet")))
    _, out, _ = run("score", *pictures, *asked(score), "--json")
    assert rows.score.tolist() == pytest.approx([row["score"] for row in json.loads(out)], abs=1e-5)
    assert rows.tampered.isna().all()
    assert rows.p_value.isna().all()


@pytest.mark.slow
@pytest.mark.parametrize("score", TOYS)
def test_attack_in_memory(pictures: list[Path], tmp_path: Path, score: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    scorer = foclip.load(score)
    prompts = () if score == "toy-taste" else ("a photo of a cat.",)
    samples = [foclip.Sample(path.name, path, prompts) for path in pictures]
    found = list(foclip.attack(samples, scorer, FoCLIP(), stop=foclip.Stopping(steps=8)))
    assert sorted(tmp_path.rglob("*")) == before
    assert not any(isinstance(each, Failure) for each in found)
    assert len(found) == 4


@pytest.mark.slow
def test_two_in_two_threads_are_what_each_is_alone(pictures: list[Path]) -> None:
    samples = [foclip.Sample(path.name, path, ("a photo of a cat.",)) for path in pictures]

    def made(name: str) -> list[torch.Tensor]:
        scorer = foclip.load(name)
        own = samples if name != "toy-taste" else [foclip.Sample(s.name, s.image) for s in samples]
        found = foclip.attack(own, scorer, FoCLIP(), stop=foclip.Stopping(steps=6))
        return [each.pixels for each in found if not isinstance(each, Failure)]

    alone = {name: made(name) for name in TOYS}
    together: dict[str, list[torch.Tensor]] = {}
    threads = [threading.Thread(target=lambda name=name: together.update({name: made(name)})) for name in TOYS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in TOYS:
        assert all(torch.equal(a, b) for a, b in zip(alone[name], together[name], strict=True))


def test_closing_the_stream_stops_the_attack(pictures: list[Path]) -> None:
    threads = threading.active_count()
    steps: list[object] = []
    samples = [foclip.Sample(path.name, path, ("a photo of a cat.",)) for path in pictures * 4]
    stream = foclip.attack(samples, foclip.load("toy"), FoCLIP(), stop=foclip.Stopping(steps=3), on_step=steps.append)
    next(stream)
    before = len(steps)
    stream.close()
    assert before == len(steps) == 4  # four steps of at most four slots; 16 pictures need 16
    assert threading.active_count() == threads
