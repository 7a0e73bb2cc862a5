"""Scores of another package, by their entry points alone: one with cross-attention, one without prompts."""

import json
from pathlib import Path

import pytest
import zoo
from calling import call

pytestmark = pytest.mark.usefixtures("toys", "_embedded_once", "_passes_once")
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


@pytest.mark.slow
def test_a_detector_of_another_score_says_that_it_judges_without_prompts() -> None:
    outcome = call("detect", "a.png", "--score", "clip-iqa", "--json")
    assert outcome.code == 0
    (line,) = outcome.lines
    assert "was calibrated on clipscore, so it judges without prompts" in line
    (row,) = outcome.rows
    assert row["decided_by"] == "combined without prompts"
    assert row["score"] is not None  # shown all the same
    assert call("detect", "a.png", "--prompt", "a cat", "--json").lines == []
    scanned = call("scan", "a.png", "--score", "clip-iqa", "--out", "out", "--workers", 1)
    assert scanned.code == 0
    assert "was calibrated on clipscore, so it judges without prompts" in scanned.err


@pytest.mark.parametrize("name", ["data.parquet", "data.tar", "data.tar.gz", "data.PQ", "data.tbz2", "v1.0.tar.lz4"])
def test_a_table_or_an_archive_is_pointed_to_scan(name: str) -> None:
    Path(name).write_bytes(b"PAR1")
    outcome = call("score", name, "--prompt", "a cat")
    assert outcome.code == 1
    assert outcome.failed == [f"failed: {name}: no picture; foclip scan reads tables and archives"]
