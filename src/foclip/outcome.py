"""What becomes of many inputs: results, failures that are listed, and progress on the way."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """An input that was not done, and why, in one line."""

    source: str
    reason: str


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """Results in the order of the inputs, and the inputs that failed.

    Attributes:
        results: One per input that was done.
        failures: The others.
    """

    results: list[Result]
    failures: list[Failure]

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)


class Advance(Protocol):
    """Called with the number done so far, and what there is to say about it."""

    def __call__(self, done: float, note: str = "") -> None:
        """Show it."""


#: Called with a text and a total, gives what to call with the number done so far.
Progress = Callable[[str, int], Advance]


def no_progress(text: str, total: int) -> Advance:
    """A `Progress` that shows nothing."""
    return lambda done, note="": None
