"""Scores of another package, by their entry points alone: one with cross-attention, one without prompts."""

import json
from pathlib import Path

import pytest
import zoo
from calling import call

pytestmark = pytest.mark.usefixtures("toys", "_embedded_once")
PROMPTS = {"toy": ("--prompt", "a cat"), "toy-taste": ()}


@pytest.fixture(autouse=True)
def _picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo.tiles(1)[0].save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", PROMPTS)
def test_it_is_listed_fooled_resumed_and_read(name: str) -> None:
    assert name in call("scores").out
    command = ("fool", "a.png", "--score", name, *PROMPTS[name], "--steps", 8, "--out", "out", "--json")
    first = call(*command)
    assert first.code == 0, first.err
    (result,) = first.rows
    assert result["score"] == name
    assert result["score_after"] > result["score_before"]
    assert name in Path("out/report.html").read_text(encoding="utf-8")
    written = Path("out/a.png").stat().st_mtime_ns
    assert call(*command).rows == first.rows
    assert Path("out/a.png").stat().st_mtime_ns == written  # not done again
    (row,) = call("score", "out/a.png", "--score", name, *PROMPTS[name], "--json").rows
    assert row["score"] == result["score_after"]


@pytest.mark.parametrize("name", PROMPTS)
def test_what_takes_an_embedding_is_refused_in_one_line(name: str) -> None:
    prompts = PROMPTS[name]
    assert "embedding" in call("detect", "a.png", "--score", name, *prompts).error
    assert "encoder" in call("score", "a.png", "--score", name, *prompts, "--hardened", "mini-robust").error
    refused = json.loads(call("detect", "a.png", "--score", name, *prompts, "--json").out)
    assert "embedding" in refused["error"]


def test_prompts_of_a_score_that_takes_none() -> None:
    assert "takes none" in call("score", "a.png", "--score", "toy-taste", "--prompt", "a cat").error
