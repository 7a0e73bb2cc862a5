"""What a file may hold is what its dataclass says, and nothing else."""

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar

import pytest

from foclip.errors import UsageError
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
