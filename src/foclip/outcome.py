"""What becomes of many inputs: results and failures, and progress on the way."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Result = TypeVar("Result")

#: Seconds between two lines of `print_progress`.
EVERY = 5.0


@dataclass(frozen=True)
class Failure:
    """An input that was not done: what it is called, and why, in one line that names it."""

    source: str
    reason: str


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """Results, one per input that was done, in the order of the inputs; and the inputs that failed."""

    results: list[Result]
    failures: list[Failure]

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    @classmethod
    def of(
        cls,
        stream: Iterable[Result | Failure],
        failures: Sequence[Failure] = (),
        advance: Callable[[float], None] = lambda done: None,
    ) -> "Outcome[Result]":
        """The outcome of a stream, and of failures known before; `advance` gets the number done, after each."""
        outcome: Outcome[Result] = cls([], list(failures))
        for number, found in enumerate(stream, start=1):
            if isinstance(found, Failure):
                outcome.failures.append(found)
            else:
                outcome.results.append(found)
            advance(number)
        return outcome


class Advance(Protocol):
    """Called with the number done so far, and what there is to say about it."""

    def __call__(self, done: float, note: str = "") -> None: ...


#: Called with a text and a total, returns what to call with the number done so far.
Progress = Callable[[str, int], Advance]


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def no_progress(text: str, total: int) -> Advance:
    """A `Progress` that shows nothing."""
    return lambda done, note="": None


def print_progress(text: str, total: int) -> Advance:
    """A `Progress` that prints a line on stderr now and then: ``foclip.fool(…, progress=foclip.print_progress)``."""
    start = shown = time.monotonic()
    ended = 0.0
    print(f"{text}: 0 of {total}", file=sys.stderr, flush=True)

    def advance(done: float, note: str = "") -> None:
        nonlocal shown, ended
        if (now := time.monotonic()) - shown >= EVERY or done >= total > ended:
            shown, ended = now, done
            tail = f", {note}" if note else ""
            print(f"{text}: {done:g} of {total}, {now - start:.0f} s{tail}", file=sys.stderr, flush=True)

    return advance
