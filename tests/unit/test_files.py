"""What a file may hold is what its dataclass says, and nothing else."""

import errno
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import pytest

from foclip import files
from foclip.errors import OutputError, UsageError
from foclip.files import Range, Share, from_json

T = TypeVar("T")


@dataclass
class Inner:
    share: Share
    name: str

    def __post_init__(self) -> None:
        if not self.name:
            raise UsageError("no name")


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class Outer:
    count: int
    small: Annotated[float, Range(-1, 1)]
    boxes: list[Box[Inner]]
    table: dict[str, list[float]]
    right: bool
    note: Any = None
    default: list[int] = field(default_factory=list)


GOOD: dict[str, Any] = {
    "count": 3,
    "small": 1,
    "boxes": [{"content": {"share": 0.5, "name": "a"}}],
    "table": {"x": [1, 2.5]},
    "right": True,
    "note": {"any": ["thing"]},
    "default": [],
}


def test_what_fits_is_restored() -> None:
    found = from_json(Outer, json.loads(json.dumps(GOOD)))
    assert found == Outer(3, 1.0, [Box(Inner(0.5, "a"))], {"x": [1.0, 2.5]}, True, {"any": ["thing"]})
    assert isinstance(found.small, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 3.0}, "count: 3.0 is not a whole number"),
        ({"count": True}, "count: True is not a whole number"),
        ({"small": 1.5}, r"small: 1.5 is not a number in \[-1, 1\]"),
        ({"small": True}, "small: True is not a number"),
        ({"small": float("nan")}, "small: nan is not a number"),
        ({"small": "1"}, "small: '1' is not a number"),
        ({"boxes": {}}, "boxes: {} is not a list"),
        ({"boxes": [3]}, r"boxes\[0\]: 3 is not an object"),
        ({"boxes": [{"content": {"share": 2, "name": "a"}}]}, r"boxes\[0\].content.share: 2 is not a number"),
        ({"boxes": [{"content": {"share": 1, "name": ""}}]}, r"boxes\[0\].content: no name"),
        ({"table": {"x": [1e300]}}, r"table\['x'\]\[0\]: 1e\+300 is not a number"),
        ({"table": []}, r"table: \[\] is not an object"),
        ({"right": 1}, "right: 1 is not true or false"),
        ({"more": 1}, "'more' is unknown"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        from_json(Outer, GOOD | change)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", GOOD)
def test_nothing_may_be_missing(name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' is missing"):
        from_json(Outer, {key: value for key, value in GOOD.items() if key != name})
    with pytest.raises(UsageError, match="the file: None is not an object"):
        from_json(Outer, None)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_that_does_not_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "fsync", failing(number))
    with files.replacing(tmp_path / "a", sync=True) as partial:
        partial.write_text("new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(os, "fsync", failing(number))
    named = pytest.raises(OutputError, match=f"a: cannot be written .{os.strerror(number)}")
    with named, files.replacing(tmp_path / "a", sync=True) as partial:
        partial.write_text("new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EEXIST, errno.EACCES])
def test_a_file_system_that_renames_to_free_names_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    free_only(monkeypatch, number)
    for text in ("old", "new"):
        files.write_text(tmp_path / "a", text)
        assert [path.read_text() for path in tmp_path.iterdir()] == [text]


def test_a_file_system_that_renames_nothing_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(Path, "replace", failing(errno.EPERM))
    for name in "ab":
        with pytest.raises(OutputError, match=f"{name}: cannot be written .Operation not permitted"):
            files.write_text(tmp_path / name, "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_file_of_another_machine_may_be_shown_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not files.await_file(tmp_path / "a", seconds=0)
    monkeypatch.setattr(time, "sleep", lambda seconds: (tmp_path / "a").touch())
    assert files.await_file(tmp_path / "a", seconds=9)


def failing(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def free_only(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Names that are taken are not renamed to."""
    replace = Path.replace

    def replaced(self: Path, target: Path) -> Path:
        if Path(target).exists():
            raise OSError(number, os.strerror(number))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replaced)
