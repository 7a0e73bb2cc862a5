"""The page, served for all tests of a run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.visitor import Visitor, serving
from foclip.app.limits import Limits
from foclip.app.served import Served
from foclip.demo import photos
from foclip.models import load

#: Bounds that are soon reached.
LIMITS = Limits(pixels=1_000_000, file_bytes=4 * 2**20, pictures=4, climbs=1)


@pytest.fixture(scope="session")
def served() -> Served:
    return Served.of(load("clipscore", "mini"), LIMITS)


@pytest.fixture(scope="session")
def url(served: Served) -> Iterator[str]:
    with serving(served) as url:
        yield url


@pytest.fixture
def visitor(url: str) -> Iterator[Visitor]:
    visitor = Visitor(url)
    yield visitor
    visitor.client.close()


@pytest.fixture(scope="session")
def cat() -> Path:
    return photos()[1]
