"""From JSON to dataclasses: names, types and ranges are checked, nothing is trusted, nothing is run.

A dataclass says with its annotations what a file may hold: `bool`, `int`, `str`, numbers in a `Range`, `list`, `dict`
with texts as keys, further dataclasses, and `Any` for what is only shown. Its `__post_init__` checks what types cannot
say.
"""

from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from foclip.errors import UsageError

T = TypeVar("T")

#: Characters of a wrong value that a message shows.
SHOWN = 60


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; NaN is in no range."""

    low: float
    high: float


#: Any number that a plain `float` may be.
ANY = Range(-1e6, 1e6)
#: A share or a probability.
Share = Annotated[float, Range(0, 1)]


def from_json(kind: type[T], content: Any, where: str = "") -> T:
    """A dataclass from what `json.loads` gave.

    Args:
        kind: The dataclass.
        content: An object with exactly its fields.
        where: What messages call the content.

    Raises:
        UsageError: A name is missing or unknown, or a value is of another type or out of its range.
    """
    return _restored(kind, content, where)  # type: ignore[no-any-return]


def _restored(kind: Any, content: Any, where: str) -> Any:
    if kind is Any:
        return content
    limits = ANY
    if get_origin(kind) is Annotated:
        kind, limits = get_args(kind)
    if kind is float:
        return _number(content, limits, where)
    outer = get_origin(kind) or kind
    if is_dataclass(outer):
        return _dataclass(
            outer, dict(zip(getattr(outer, "__parameters__", ()), get_args(kind), strict=True)), content, where
        )
    if type(content) is not outer:
        raise UsageError(f"{where or 'the file'}: {_short(content)} is not {_NAMES[outer]}")
    if outer is list:
        (inner,) = get_args(kind)
        return [_restored(inner, item, f"{where}[{place}]") for place, item in enumerate(content)]
    if outer is dict:
        _, inner = get_args(kind)
        return {key: _restored(inner, item, f"{where}[{_short(key)}]") for key, item in content.items()}
    return content


_NAMES = {list: "a list", dict: "an object", str: "a text", bool: "true or false", int: "a whole number"}


def _dataclass(kind: Any, types: dict[Any, Any], content: Any, where: str) -> Any:
    """A dataclass; `types` are those that stand for its type variables."""
    if not isinstance(content, dict):
        raise UsageError(f"{where or 'the file'}: {_short(content)} is not an object")
    hints, names = get_type_hints(kind, include_extras=True), [field.name for field in fields(kind)]
    missing, unknown = [name for name in names if name not in content], sorted(content.keys() - set(names))
    for problem, found in (("is missing", missing), ("is unknown", unknown)):
        if found:
            raise UsageError(f"{f'{where}.' if where else ''}{_short(found[0])} {problem}")
    values = {}
    for name in names:
        kind_of_value = types.get(hints[name], hints[name])
        values[name] = _restored(kind_of_value, content[name], f"{where}.{name}" if where else name)
    try:
        return kind(**values)
    except UsageError as error:
        raise UsageError(f"{where}: {error}" if where else str(error)) from error


def _number(content: Any, limits: Range, where: str) -> float:
    if type(content) not in (int, float) or not limits.low <= content <= limits.high:
        raise UsageError(f"{where}: {_short(content)} is not a number in [{limits.low:g}, {limits.high:g}]")
    return float(content)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
