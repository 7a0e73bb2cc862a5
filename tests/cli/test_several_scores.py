"""Scores by name: what they need, options of one of them, and several in one call."""

import json
from pathlib import Path

import pytest
import torch
import zoo
from calling import call
from conftest import Made

import foclip
from foclip.attacks import make_plan
from foclip.models import Encoder, OpenClipEncoder, load
from foclip.models.scores import CLIPScore

pytestmark = pytest.mark.usefixtures("toys", "_embedded_once", "_passes_once")


@pytest.fixture(autouse=True)
def _pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, picture in zip("abc", zoo.tiles(3), strict=True):
        picture.save(tmp_path / f"{name}.png")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def _head(mini: Encoder) -> None:
    torch.manual_seed(0)
    torch.save(torch.nn.Linear(mini.encode_texts(["a"]).shape[1], 1).state_dict(), "head.pth")


def test_what_each_needs_is_listed() -> None:
    rows = {row["name"]: row for row in json.loads(call("scores", "--json").out)}
    assert rows["clipscore"]["needs"] == ""
    for name, word in {"pickscore": "yuvalkirstain/PickScore_v1", "aesthetic": "HEAD_FILE", "hpsv2.1": "v2.1"}.items():
        assert word in rows[name]["needs"]
    for name in ("siglip", "blip-itm", "imagereward", "hpsv2"):
        assert rows[name]["needs"]
    assert "needs --model yuvalkirstain/PickScore_v1" in call("scores").out


@pytest.mark.slow
@pytest.mark.usefixtures("_head")
def test_several_scores_have_the_figures_of_each_alone() -> None:
    called = "clipscore,clip-iqa,aesthetic:head.pth,clipscore=mini-vit"
    (first, *others) = call("score", "a.png", "b.png", "--score", called, "--prompt", "a cat", "--json").rows
    assert len(others) == 1
    assert list(first["scores"]) == called.split(",")
    assert first["models"]["clipscore=mini-vit"] == "mini-vit"
    for name, words in {
        "clipscore": ("--prompt", "a cat"),
        "clip-iqa": ("--prompt", "a cat"),
        "aesthetic:head.pth": (),
    }.items():
        (alone,) = call("score", "a.png", "--score", name, *words, "--json").rows
        assert first["scores"][name] == alone["score"]
    (alone,) = call("score", "a.png", "--model", "mini-vit", "--prompt", "a cat", "--json").rows
    assert first["scores"]["clipscore=mini-vit"] == alone["score"]


def test_a_score_with_pictures_of_its_own_shares_none() -> None:
    """HPSv2 pads pictures; whatever comes after it in one call must not see them so."""
    words = ("--prompt", "a cat", "--json")
    together = call("score", "a.png", "--score", "hpsv2,clipscore,clip-iqa", *words).rows[0]["scores"]
    for name, figure in together.items():
        assert call("score", "a.png", "--score", name, *words).rows[0]["score"] == figure, name


def test_scores_of_one_encoder_share_its_passes(mini: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    compute = OpenClipEncoder.features

    def features(encoder: OpenClipEncoder, inputs: torch.Tensor) -> torch.Tensor:
        passes.append(len(inputs))
        return compute(encoder, inputs)

    monkeypatch.setattr(OpenClipEncoder, "features", features)
    five = {
        "a": CLIPScore(mini),
        "b": CLIPScore(mini, 100),
        "c": CLIPScore(mini, prefix="A photo depicts"),
        "d": load("clip-iqa", mini),
        "e": load("clip-iqa", mini),
    }
    foclip.score_by_several(["a.png", "b.png", "c.png"] * 6, ["a cat"], scorers=five)
    assert passes == [8, 8, 8]  # 18 pictures, whatever the number of scores


def test_a_picture_without_prompts_fails_where_one_score_needs_some() -> None:
    Path("captions.csv").write_text("image,caption\na.png,a cat\n")
    outcome = call("score", "a.png", "b.png", "--score", "clipscore,clip-iqa", "--captions", "captions.csv", "--json")
    assert outcome.code == 1
    assert list(outcome.rows[0]["scores"]) == ["clipscore", "clip-iqa"]
    assert "b.png" in json.loads(outcome.out)[-1]["error"]
    found = foclip.score_by_several(["a.png"], scorers={"clipscore": load("clipscore"), "clip-iqa": load("clip-iqa")})
    assert "no prompts, and clipscore needs some" in found.failures[0].reason
    (alone,) = foclip.score_by_several(["a.png"], scorers={"clip-iqa": load("clip-iqa")})
    assert alone.scores["clip-iqa"] == foclip.score("a.png", score="clip-iqa").results[0].score


def test_a_prefix_comes_before_each_prompt() -> None:
    (found,) = call("score", "a.png", "--prompt", "a cat", "--prefix", "A photo depicts", "--json").rows
    (wanted,) = call("score", "a.png", "--prompt", "A photo depicts a cat", "--json").rows
    assert found["score"] == wanted["score"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--score", "clipscore,nosuch"), "'nosuch' is none of clipscore"),
        (("--score", "clipscore,"), "'' is none of"),
        (("--score", "clip-iqa", "--scale", "100"), "--scale: clip-iqa has none; clipscore has"),
        (("--score", "clip-iqa", "--prefix", "A photo"), "--prefix: clip-iqa has none"),
        (("--score", "clipscore,clip-iqa", "--hardened", "mini-robust"), "--hardened: goes with one score"),
        (("--score", "siglip"), "has no bias"),
        (("--score", "blip-itm"), "cannot match; pass --model"),
        (("--score", "imagereward"), "pass --model FOLDER"),
        (("--score", "aesthetic:missing.pth"), "missing.pth: no weights-only checkpoint"),
    ],
)
def test_wrong_calls_are_one_line(words: tuple[str, ...], told: str) -> None:
    prompts = () if words[1].startswith("aesthetic") else ("--prompt", "a cat")
    outcome = call("score", "a.png", *words, *prompts)
    assert outcome.code == 2
    assert told in outcome.error


@pytest.mark.slow
@pytest.mark.usefixtures("_head")
def test_it_is_fooled_as_any_other(made: Made) -> None:
    command = ("--score", "aesthetic:head.pth", "--steps", 8, "--min-psnr", 35, "--out", "out", "--json")
    (result,) = call("fool", "a.png", *command).rows
    assert result["score_after"] > result["score_before"]
    for name, family in {"siglip": "siglip", "blip-itm": "blip"}.items():
        found = foclip.fool(["a.png"], ["a cat"], name, model=load(name, made(family)), attack=make_plan(steps=8))
        assert found.results[0].score_after > found.results[0].score_before
