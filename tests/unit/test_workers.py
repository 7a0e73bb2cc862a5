"""Executors: what a function returns for each item, whoever computes it, and what becomes of workers that die."""

import os
from collections.abc import Iterator

import pytest

from foclip.errors import UsageError
from foclip.runs.workers import LocalWorkers, WorkerDied


def square(number: int) -> int:
    if number < 0:
        raise UsageError("number: below 0")
    return number * number


@pytest.mark.parametrize("processes", [False, True])
def test_results_come_in_order_and_items_are_read_as_they_are_needed(processes: bool) -> None:
    executor = LocalWorkers(2, processes)
    read = []

    def items() -> Iterator[int]:
        for number in range(50):
            read.append(number)
            yield number

    found = executor.map(square, items())
    assert next(found) == (0, 0)
    assert len(read) < 20
    assert list(found) == [(number, number * number) for number in range(1, 50)]
    with pytest.raises(UsageError, match="below 0"):
        list(executor.map(square, [1, -1]))


def test_an_item_whose_process_dies_is_told() -> None:
    parent = os.getpid()

    def deadly(number: int) -> int:
        if number == 3 and os.getpid() != parent:
            os._exit(11)
        return number

    found = dict(LocalWorkers(1).map(deadly, range(40)))
    assert isinstance(found[3], WorkerDied)
    assert list(found) == list(range(40))
    assert sum(isinstance(result, WorkerDied) for result in found.values()) < 10  # those that were begun
