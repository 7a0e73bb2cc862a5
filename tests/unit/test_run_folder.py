"""The folder that a run works in: locked, resumed, described."""

import json
from pathlib import Path

import pytest

from foclip.errors import UsageError
from foclip.runs.folder import RECORD, UNFINISHED, Run


def test_a_folder_is_made_and_locked_while_a_run_works(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    out = tmp_path / "new" / "out"
    with Run(out) as run:
        assert run.out == out
        with pytest.raises(UsageError, match="another run is at work"), Run(out):
            pass
    with Run(out):
        pass
    assert list(out.iterdir()) == []


def test_pieces_of_work_are_found_by_the_next_run(tmp_path: Path) -> None:
    def compute(places: list[int]) -> list[tuple[int, int]]:
        asked.extend(places)
        return [(place, 10 * place) for place in places]

    asked: list[int] = []
    for _ in range(2):
        with Run(tmp_path) as run:
            assert run.cache.fill(["a", "b"], compute) == [0, 10]
    assert asked == [0, 1]
    assert (tmp_path / UNFINISHED).is_dir()
    assert Run(tmp_path, "cache").cache.folder == tmp_path / "cache"


def test_a_file_in_the_place_of_the_cache_is_refused(tmp_path: Path) -> None:
    (tmp_path / UNFINISHED).write_text("mine")
    with pytest.raises(UsageError, match="is a file; choose another folder"), Run(tmp_path):
        pass
    with pytest.raises(UsageError, match="is a file"), Run(tmp_path):  # and the lock is free again
        pass


@pytest.mark.parametrize("content", [None, "no JSON", "[]", "\x00"])
def test_runs_of_a_folder_are_recorded_one_after_another(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / RECORD).write_text(content)
    run = Run(tmp_path)
    first = run.record(["score", "a.png"], {"model": "mini"}, ["typer"])
    assert (first["command"], first["model"], set(first["versions"]) > {"foclip", "torch", "python", "typer"}) == (
        ["score", "a.png"],
        "mini",
        True,
    )
    assert json.loads((tmp_path / RECORD).read_text()) == first | {"earlier": []}
    second = run.record(["score", "b.png"], {"model": "mini"})
    assert json.loads((tmp_path / RECORD).read_text()) == second | {"earlier": [first]}
    run.record(["score", "b.png"], {"model": "mini"})  # the same again is recorded once
    assert json.loads((tmp_path / RECORD).read_text()) == second | {"earlier": [first]}
