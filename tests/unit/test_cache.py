import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from calling import executed

from foclip.cache import Cache, locked
from foclip.errors import UsageError

CPU = torch.device("cpu")


def test_finished_work_is_found_again(tmp_path: Path) -> None:
    store = Cache(tmp_path / "new" / "store")
    assert store.get("a") is None
    store.put("a", {"text": "Velázquez", "values": [1, 2.5, None]})
    assert store.get("a") == {"text": "Velázquez", "values": [1, 2.5, None]}
    assert Cache(store.folder).get("a") == store.get("a")
    assert [path.name for path in store.folder.iterdir()] == ["a.json"]


def test_a_key_is_made_of_all_parts() -> None:
    keys = [Cache.key(*parts) for parts in ((), ("a",), ("a", "b"), ("ab",), ("b", "a"), (1,), ("1",), (1.0,))]
    assert len(set(keys)) == len(keys)
    assert Cache.key("a", 1) == Cache.key("a", 1)


def test_each_piece_is_computed_once(tmp_path: Path) -> None:
    store, asked = Cache(tmp_path), list[list[int]]()

    def compute(places: list[int]) -> Iterator[tuple[int, str]]:
        asked.append(places)
        yield from ((place, f"content {place}") for place in reversed(places))

    assert store.fill(["a", "b", "a"], compute) == ["content 0", "content 1", "content 0"]
    assert asked == [[0, 1]]
    assert store.fill(["b", "c", "a"], compute) == ["content 1", "content 1", "content 0"]
    assert asked[1:] == [[1]]
    assert store.fill(["a", "b", "c"], compute) == ["content 0", "content 1", "content 1"]
    assert store.fill([], compute) == []
    assert len(asked) == 2  # where nothing is missing, nothing is asked for


def test_what_was_computed_before_an_error_is_kept(tmp_path: Path) -> None:
    store = Cache(tmp_path)

    def broken(places: list[int]) -> Iterator[tuple[int, int]]:
        yield 1, 11
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.fill(["a", "b"], broken)
    assert store.fill(["a", "b"], lambda places: [(place, 7) for place in places]) == [7, 11]


def test_unfinished_work_ends_with_finished_work(tmp_path: Path) -> None:
    store = Cache(tmp_path)
    assert store.load("a", CPU) is None
    store.save("a", {"step": 3, "pixels": torch.arange(4.0), "scores": [0.5], "stopped_by": ""})
    state = store.load("a", CPU)
    assert state is not None
    assert (state["step"], state["scores"], state["stopped_by"]) == (3, [0.5], "")
    assert torch.equal(state["pixels"], torch.arange(4.0))
    assert store.get("a") is None
    store.put("a", [1])
    assert store.load("a", CPU) is None
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"null", b"PK\x03\x04 cut off"])
def test_broken_files_start_over(tmp_path: Path, content: bytes) -> None:
    store = Cache(tmp_path)
    for suffix in (".json", ".pt"):
        store.path("a", suffix).write_bytes(content)
    assert store.get("a") is None
    assert store.load("a", CPU) is None
    assert store.fill(["a"], lambda places: [(0, "again")]) == ["again"]


def test_a_state_that_would_run_code_is_none(tmp_path: Path) -> None:
    store = Cache(tmp_path)
    torch.save({"step": Path("of a class that is no number")}, store.path("a", ".pt"))
    assert store.load("a", CPU) is None


def test_the_folder_goes_with_the_last_piece(tmp_path: Path) -> None:
    store = Cache(tmp_path / "store")
    store.put("a", 1)
    store.save("b", {"step": 1})
    store.drop("a")
    assert store.load("b", CPU) is not None
    store.drop("b")
    assert not store.folder.exists()
    store.drop("b")  # nothing there: nothing to do


@pytest.mark.slow
def test_a_folder_of_ones_own(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("fcntl")
    code = (
        "import sys, time; from pathlib import Path; from foclip.cache import locked\n"
        "with locked(Path(sys.argv[1])): Path(sys.argv[2]).touch(); time.sleep(60)"
    )
    inside = tmp_path_factory.mktemp("other") / "in"
    other = executed(code, tmp_path, inside)
    while not inside.exists() and other.is_alive():
        time.sleep(0.01)
    with pytest.raises(UsageError, match="another run is at work"), locked(tmp_path):
        pass
    other.kill()  # a lock ends with its process, however that ends
    other.join()
    with locked(tmp_path):
        with pytest.raises(UsageError, match="another run is at work"), locked(tmp_path):
            pass
        with pytest.raises(UsageError, match="another run is at work"), locked(tmp_path):
            pass
    with locked(tmp_path):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF])
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with locked(tmp_path), locked(tmp_path):
        pass
    monkeypatch.undo()
    with locked(tmp_path), pytest.raises(UsageError, match="another run is at work"), locked(tmp_path):
        pass
