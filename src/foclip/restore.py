"""From JSON to dataclasses: names, types and ranges are checked, nothing is trusted, nothing is run.

Annotations say what a file may hold: `bool`, `int`, `str`, numbers in a `Range`, `list`, `dict` with texts as keys,
further dataclasses, and `Any` for what is only shown. `__post_init__` checks what types cannot say.
"""

from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from foclip.errors import UsageError

T = TypeVar("T")

#: Characters of a wrong value that a message shows.
SHOWN = 60
#: What messages call the types of JSON.
_NAMES = {list: "a list", dict: "an object", str: "a text", bool: "true or false", int: "a whole number"}


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; NaN is in no range."""

    low: float
    high: float


#: Any number that a plain `float` may be.
ANY = Range(-1e6, 1e6)
#: A share or a probability.
Share = Annotated[float, Range(0, 1)]


def from_json(kind: type[T], content: Any) -> T:
    """A dataclass of what `json.loads` gave; a `UsageError` if a field is missing, unknown or of a wrong value."""
    return _restored(kind, content, "")  # type: ignore[no-any-return]


def _restored(kind: Any, content: Any, where: str) -> Any:
    if kind is Any:
        return content
    kind, limits = get_args(kind) if get_origin(kind) is Annotated else (kind, ANY)
    if kind is float:
        if type(content) not in (int, float) or not limits.low <= content <= limits.high:
            raise UsageError(f"{where}: {_short(content)} is not a number in [{limits.low:g}, {limits.high:g}]")
        return float(content)
    outer, inner = get_origin(kind) or kind, get_args(kind)
    expected = dict if is_dataclass(outer) else outer
    if type(content) is not expected:
        raise UsageError(f"{where or 'the file'}: {_short(content)} is not {_NAMES[expected]}")
    if is_dataclass(outer):
        return _dataclass(outer, dict(zip(getattr(outer, "__parameters__", ()), inner, strict=True)), content, where)
    if outer is list:
        return [_restored(inner[0], item, f"{where}[{place}]") for place, item in enumerate(content)]
    if outer is dict:
        return {key: _restored(inner[1], item, f"{where}[{_short(key)}]") for key, item in content.items()}
    return content


def _dataclass(kind: Any, types: dict[Any, Any], content: dict[str, Any], where: str) -> Any:
    """A dataclass; `types` are those that stand for its type variables."""
    hints, names = get_type_hints(kind, include_extras=True), [field.name for field in fields(kind)]
    start = f"{where}." if where else ""
    missing, unknown = [name for name in names if name not in content], sorted(content.keys() - set(names))
    if missing or unknown:
        problem = f"{_short(missing[0])} is missing" if missing else f"{_short(unknown[0])} is unknown"
        raise UsageError(f"{start}{problem}")
    values = {name: _restored(types.get(hints[name], hints[name]), content[name], f"{start}{name}") for name in names}
    try:
        return kind(**values)
    except UsageError as error:
        raise UsageError(f"{where}: {error}" if where else str(error)) from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
